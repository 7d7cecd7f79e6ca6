//! What is wrong with a configuration, in words: where, what was found, what belongs there.

use std::fmt;

use serde_json::Value;

/// Longest value and longest description in a fault, in characters.
const SHOWN_CHARS_MAX: usize = 60;
const DESCRIPTION_CHARS_MAX: usize = 200;
const PATH_CHARS_MAX: usize = 300;
/// Fields or values named as those that are known.
const KNOWN_MAX: usize = 20;

/// One fault of a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldFault {
    /// Where, as in `config.all[1].gt`.
    pub path: String,
    /// What was found, and what belongs there.
    pub fault: String,
}

impl fmt::Display for FieldFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.fault)
    }
}

/// A fault, and what it says of the form that was meant.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) fault: FieldFault,
    /// Steps of its path.
    pub(crate) depth: usize,
    /// The value has another name, or is not null: another form was meant.
    pub(crate) other_form: bool,
}

/// One step of a path.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Step<'a> {
    Name(&'a str),
    Index(usize),
}

/// The faults of the form that was meant, if that is clear: the only one that is not null and not of another name, or the
/// only one of those of which just inner parts are at fault. `here` is the depth of the value.
pub(crate) fn meant(forms: &mut Vec<Vec<Found>>, here: usize) -> Option<Vec<Found>> {
    forms.retain(|faults| !faults.iter().any(|found| found.other_form));
    if forms.len() > 1 {
        forms.retain(|faults| faults.iter().all(|found| found.depth > here));
    }
    if forms.len() == 1 { forms.pop() } else { None }
}

/// As in `config.all[1].gt`.
pub(crate) fn path(steps: &[Step<'_>]) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    let mut path = "config".to_owned();
    for step in steps {
        if path.len() > PATH_CHARS_MAX {
            path.push_str("...");
            break;
        }
        match step {
            Step::Index(index) => path.push_str(&format!("[{index}]")),
            Step::Name(name) if !name.is_empty() && name.bytes().all(plain) => {
                path.push('.');
                path.push_str(&cut(name, SHOWN_CHARS_MAX));
            }
            Step::Name(name) => path.push_str(&format!("[{:?}]", cut(name, SHOWN_CHARS_MAX))),
        }
    }
    path
}

/// The first few of what is known.
pub(crate) fn known(names: &[String]) -> String {
    let mut out =
        names.iter().take(KNOWN_MAX).map(|name| cut(name, SHOWN_CHARS_MAX)).collect::<Vec<_>>().join(", ");
    if names.len() > KNOWN_MAX {
        out.push_str(", ...");
    }
    out
}

/// `fault`, with what the schema says to people.
pub(crate) fn with_description(fault: String, description: Option<&str>) -> String {
    match description {
        Some(description) => {
            // No more than is shown is looked at, since this may be asked for often.
            let start = cut(description, 2 * DESCRIPTION_CHARS_MAX);
            let line = start.split_whitespace().collect::<Vec<_>>().join(" ");
            format!("{fault} ({})", cut(line.trim_end_matches('.'), DESCRIPTION_CHARS_MAX))
        }
        None => fault,
    }
}

/// A value on one line, cut where it is long.
pub(crate) fn shown(value: &Value) -> String {
    match value {
        Value::Array(items) if bytes_up_to(value, SHOWN_CHARS_MAX) >= SHOWN_CHARS_MAX => {
            format!("a list of {}", items.len())
        }
        Value::Object(fields) if bytes_up_to(value, SHOWN_CHARS_MAX) >= SHOWN_CHARS_MAX => {
            format!("an object of {} fields", fields.len())
        }
        Value::String(text) => format!("{:?}", cut(text, SHOWN_CHARS_MAX)),
        other => other.to_string(),
    }
}

fn cut(text: &str, chars: usize) -> String {
    match text.char_indices().nth(chars) {
        Some((end, _)) => format!("{}...", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

/// About how long `value` is as text; no more than is needed to see that it has `max` bytes is looked at.
pub(crate) fn bytes_up_to(value: &Value, max: usize) -> usize {
    let sum = |lengths: &mut dyn Iterator<Item = usize>| {
        let mut sum: usize = 2;
        for length in lengths {
            sum = sum.saturating_add(length + 1);
            if sum >= max {
                break;
            }
        }
        sum
    };
    match value {
        Value::String(text) => text.len() + 2,
        Value::Array(items) => sum(&mut items.iter().map(|item| bytes_up_to(item, max))),
        Value::Object(fields) => {
            sum(&mut fields.iter().map(|(name, field)| name.len() + 3 + bytes_up_to(field, max)))
        }
        _ => 5,
    }
}
