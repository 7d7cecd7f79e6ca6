//! What must come out: a file with a JSON line for each record that goes on, to a topic, or is refused, in input order.
//! Times are left out, since they are those of the run.

use std::{
    collections::HashMap,
    fmt, fs,
    path::{Path, PathBuf},
};

use millstream_types::{Offset, RecordView, TopicName};
use serde_json::{Value, json};
use similar::TextDiff;

use crate::{failure::Failure, output, render::RecordJson};

/// Lines of a difference that are shown.
const SHOWN_LINES_MAX: usize = 60;
/// Equal lines around what differs.
const CONTEXT_LINES: usize = 2;

/// The lines that come out, and the file that has those which must.
pub(super) struct Golden {
    file: PathBuf,
    /// `None` where the file is to be written.
    expected: Option<String>,
    /// By offset; of one record, what goes on comes before what goes to topics.
    lines: Vec<(Offset, u8, String)>,
}

impl Golden {
    /// Reads what is expected.
    pub(super) fn read(file: &Path) -> Result<Self, Failure> {
        let expected = fs::read_to_string(file).map_err(|error| {
            Failure::file("read", file, &error).and("--update writes what comes out to it")
        })?;
        for (index, line) in expected.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            if let Err(error) = serde_json::from_str::<serde::de::IgnoredAny>(line) {
                let place = format!("{}, line {}", file.display(), index + 1);
                return Err(Failure::new(format!(
                    "{place}: what is expected is one JSON value a line: {error}"
                )));
            }
        }
        Ok(Self { file: file.to_owned(), expected: Some(expected), lines: Vec::new() })
    }

    /// Will write what comes out to `file`.
    pub(super) fn to_be_written(file: &Path) -> Self {
        Self { file: file.to_owned(), expected: None, lines: Vec::new() }
    }

    pub(super) fn delivered(&mut self, record: &RecordView<'_>) {
        self.push(record.offset, 0, &RecordJson::timeless(None, record.offset, record));
    }

    pub(super) fn routed(&mut self, source: Offset, topic: &TopicName, record: &RecordView<'_>) {
        self.push(source, 1, &RecordJson::timeless(Some(topic.as_str()), source, record));
    }

    /// A record that was `how`, and why.
    pub(super) fn refused(&mut self, offset: Offset, how: &str, why: &str) {
        self.push(offset, 2, &json!({ "offset": offset, how: why }));
    }

    fn push(&mut self, offset: Offset, rank: u8, line: &impl serde::Serialize) {
        self.lines.push((offset, rank, serde_json::to_string(line).unwrap_or_default()));
    }

    /// Compares, or writes; what differs, if something does.
    pub(super) fn finish(mut self) -> Result<Option<Differs>, Failure> {
        self.lines.sort_by_key(|(offset, rank, _)| (*offset, *rank));
        let found: String = self.lines.iter().flat_map(|(_, _, line)| [line.as_str(), "\n"]).collect();
        let Some(expected) = self.expected else {
            fs::write(&self.file, found).map_err(|error| Failure::file("write", &self.file, &error))?;
            return Ok(None);
        };
        // A line that a person wrote counts as the one that means the same.
        let known: HashMap<String, &str> =
            self.lines.iter().map(|(_, _, line)| (meaning(line), line.as_str())).collect();
        let expected: String = expected
            .lines()
            .filter(|line| !line.trim().is_empty())
            .flat_map(|line| [known.get(&meaning(line)).copied().unwrap_or(line), "\n"])
            .collect();
        Ok((expected != found).then(|| Differs::new(self.file, &expected, &found)))
    }
}

/// A JSON text without the freedoms of writing.
fn meaning(line: &str) -> String {
    serde_json::from_str::<Value>(line).map_or_else(|_| line.to_owned(), |value| value.to_string())
}

/// How what came out differs from what was expected.
#[derive(Debug)]
pub(super) struct Differs {
    file: PathBuf,
    missing: Vec<String>,
    unexpected: Vec<String>,
    shown: String,
}

impl Differs {
    fn new(file: PathBuf, expected: &str, found: &str) -> Self {
        let diff = TextDiff::from_lines(expected, found);
        let of = |tag: similar::ChangeTag| {
            let changes = diff.iter_all_changes().filter(move |change| change.tag() == tag);
            changes.map(|change| change.value().trim_end().to_owned()).collect()
        };
        let (missing, unexpected) = (of(similar::ChangeTag::Delete), of(similar::ChangeTag::Insert));
        let name = file.display().to_string();
        let unified =
            diff.unified_diff().context_radius(CONTEXT_LINES).header(&name, "what came out").to_string();
        let mut shown = unified.lines().take(SHOWN_LINES_MAX).collect::<Vec<_>>().join("\n");
        let left_out = unified.lines().count().saturating_sub(SHOWN_LINES_MAX);
        if left_out > 0 {
            shown.push_str(&format!("\n... {left_out} more lines"));
        }
        Self { file, missing, unexpected, shown }
    }

    pub(super) fn to_json(&self) -> Value {
        json!({ "file": self.file, "missing": self.missing, "unexpected": self.unexpected })
    }

    pub(super) fn failure(&self) -> Failure {
        let (missing, unexpected) = (self.missing.len(), self.unexpected.len());
        Failure::new(format!(
            "what came out is not what {} expects: {} missing, {unexpected} not expected; \
             if that is right, --update writes them there",
            self.file.display(),
            output::counted(missing as u64, "line"),
        ))
    }
}

impl fmt::Display for Differs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn golden(expected: &str, found: &[(Offset, u8, &str)]) -> Option<Differs> {
        let lines = found.iter().map(|(offset, rank, line)| (*offset, *rank, (*line).to_owned())).collect();
        Golden { file: "out.ndjson".into(), expected: Some(expected.to_owned()), lines }.finish().unwrap()
    }

    #[test]
    fn lines_are_compared_by_what_they_mean_and_in_order() {
        let found = [(2, 0, r#"{"offset":2}"#), (0, 1, r#"{"b":1,"a":[]}"#), (0, 0, "1.50")];
        assert!(golden("1.5\n\n  { \"a\": [], \"b\": 1 }\n{\"offset\": 2}", &found).is_none());
        let differs = golden("1.5\n{\"offset\": 1}\n{\"offset\":2}\n", &found).unwrap();
        assert_eq!(differs.missing, [r#"{"offset": 1}"#]);
        assert_eq!(differs.unexpected, [r#"{"b":1,"a":[]}"#]);
        let shown = "--- out.ndjson\n+++ what came out\n@@ -1,3 +1,3 @@\n 1.50\n-{\"offset\": 1}\n+{\"b\":1,\"a\":[]}\n {\"offset\":2}";
        assert_eq!(differs.to_string(), shown);
    }

    #[test]
    fn a_long_difference_is_cut() {
        let found: Vec<_> = (0..500).map(|offset| (offset, 0, "1")).collect();
        let differs = golden("", &found).unwrap();
        assert_eq!(
            (differs.unexpected.len(), differs.to_string().lines().count()),
            (500, SHOWN_LINES_MAX + 1)
        );
    }
}
