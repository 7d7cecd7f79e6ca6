//! Results on standard output: JSON, tables, lines.

use std::io::{self, Write as _};

use comfy_table::{Table, presets};
use serde::Serialize;

use crate::failure::Failure;

/// One JSON value on a line of its own.
pub(crate) fn json(value: &impl Serialize) -> Result<(), Failure> {
    let text =
        serde_json::to_string(value).map_err(|error| Failure::new(format!("cannot encode: {error}")))?;
    line(text)
}

/// One line.
pub(crate) fn line(text: impl AsRef<str>) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    writeln!(out, "{}", text.as_ref()).and_then(|()| out.flush()).map_err(|error| Failure::output(&error))
}

/// Rows under a head, in columns.
pub(crate) fn table<const N: usize>(head: [&str; N], rows: impl IntoIterator<Item = [String; N]>) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(head);
    for row in rows {
        table.add_row(row);
    }
    table
}

/// `1234567` as `1,234,567`.
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// So many of `one`, which is in the plural unless it is one: `1 record`, `2,000 records`, `3 batches`, `0 entries`.
pub(crate) fn counted(number: u64, one: &str) -> String {
    let plural = match one {
        _ if number == 1 => one.to_owned(),
        _ if one.ends_with("ch") => format!("{one}es"),
        _ => match one.strip_suffix('y') {
            Some(stem) => format!("{stem}ies"),
            None => format!("{one}s"),
        },
    };
    format!("{} {plural}", count(number))
}

/// A text as it is, on one line: characters that a terminal would act on are written out, as in `\n`.
pub(crate) fn harmless(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut out, char| {
        match acts(char) {
            true => out.extend(char.escape_default()),
            false => out.push(char),
        }
        out
    })
}

/// The same of bytes: what is no UTF-8 is written out, as in `\xff`.
pub(crate) fn harmless_bytes(bytes: &[u8]) -> String {
    let chunks = bytes.utf8_chunks();
    chunks.map(|chunk| format!("{}{}", harmless(chunk.valid()), chunk.invalid().escape_ascii())).collect()
}

/// Whether a terminal acts on it, or shows what stands around it in another order.
fn acts(char: char) -> bool {
    char.is_control()
        || matches!(char, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Bytes with a unit that people read.
pub(crate) fn bytes(number: u64) -> String {
    indicatif::BinaryBytes(number).to_string()
}

/// Milliseconds since the Unix epoch as RFC 3339; the number itself when that has no such form.
pub(crate) fn time(ms: i64) -> String {
    let format = &time::format_description::well_known::Rfc3339;
    time::OffsetDateTime::from_unix_timestamp_nanos(i128::from(ms) * 1_000_000)
        .ok()
        .and_then(|time| time.format(format).ok())
        .unwrap_or_else(|| ms.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_for_people() {
        assert_eq!(
            [count(0), count(999), count(1_000), count(27_004_123)],
            ["0", "999", "1,000", "27,004,123"]
        );
        assert_eq!(
            [counted(1, "record"), counted(2_000, "record"), counted(3, "batch"), counted(0, "entry")],
            ["1 record", "2,000 records", "3 batches", "0 entries"]
        );
        assert_eq!(time(1_357_034_400_000), "2013-01-01T10:00:00Z");
        assert_eq!(time(i64::MAX), i64::MAX.to_string());
    }

    #[test]
    fn texts_are_shown_as_they_are_but_do_nothing() {
        assert_eq!(harmless(r#"{"a": "é\d"}"#), r#"{"a": "é\d"}"#);
        assert_eq!(harmless("a\nb\u{1b}[2J\u{202e}"), r"a\nb\u{1b}[2J\u{202e}");
        assert_eq!(harmless_bytes(b"\"k\"\0\xff"), r#""k"\u{0}\xff"#);
    }
}
