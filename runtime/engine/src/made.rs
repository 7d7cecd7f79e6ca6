//! What a pipeline made of each record, so that two pipelines can be compared.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::Range;

use millstream_types::{BatchError, BatchView, RecordBatch, RecordView};

use crate::{Delivery, Outcome};

/// What a pipeline made of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Made {
    /// It goes on as it is.
    Keep,
    /// Nothing is left of it.
    Drop,
    /// Others take its place; a hash of them.
    Change(u64),
    /// Something of it goes to topics; a hash of all that is left.
    Route(u64),
    /// A module rejected it.
    Reject,
    /// No module could judge it.
    Fault,
}

impl Made {
    /// In one lower-case word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Keep => "keep",
            Self::Drop => "drop",
            Self::Change(_) => "change",
            Self::Route(_) => "route",
            Self::Reject => "reject",
            Self::Fault => "fault",
        }
    }
}

/// What was made of one record so far.
#[derive(Debug, Clone, Default)]
struct Left {
    outputs: u32,
    routed: bool,
    same: bool,
    hash: DefaultHasher,
    end: Option<Made>,
}

impl Left {
    fn add(&mut self, topic: Option<&str>, record: &RecordView<'_>, source: Option<RecordView<'_>>) {
        self.outputs += 1;
        self.routed |= topic.is_some();
        self.same = self.outputs == 1 && topic.is_none() && source.is_some_and(|it| same(&it, record));
        topic.hash(&mut self.hash);
        record.key.hash(&mut self.hash);
        record.headers.iter().for_each(|header| header.hash(&mut self.hash));
        record.payload.hash(&mut self.hash);
    }

    fn made(self) -> Made {
        match self {
            Self { end: Some(end), .. } => end,
            Self { outputs: 0, .. } => Made::Drop,
            Self { same: true, .. } => Made::Keep,
            Self { routed: true, hash, .. } => Made::Route(hash.finish()),
            Self { hash, .. } => Made::Change(hash.finish()),
        }
    }
}

impl Outcome {
    /// What was made of each of the records at indices `records` of `batch`, all of which must be done.
    ///
    /// # Errors
    /// [`BatchError`] when a batch cannot be decompressed.
    pub fn made(&self, batch: &RecordBatch, records: Range<usize>) -> Result<Vec<Made>, BatchError> {
        let Delivery::Batches(batches) = &self.delivery else {
            return self.made_of(&batch.view(), records, &[]);
        };
        let plain = batches.iter().map(RecordBatch::decompressed).collect::<Result<Vec<_>, _>>()?;
        self.made_of(&batch.decompressed()?.view(), records, &plain)
    }

    fn made_of(
        &self,
        source: &BatchView<'_>,
        records: Range<usize>,
        delivered: &[RecordBatch],
    ) -> Result<Vec<Made>, BatchError> {
        let untouched = self.delivery == Delivery::Untouched;
        let start = Left { end: untouched.then_some(Made::Keep), ..Left::default() };
        let mut left = vec![start; records.len()];
        let mut of = |offset, then: &mut dyn FnMut(&mut Left, usize)| {
            let index = source.index_of(offset);
            if let Some(left) = index.checked_sub(records.start).and_then(|at| left.get_mut(at)) {
                then(left, index);
            }
        };
        for record in delivered.iter().flat_map(|batch| batch.view().records()) {
            of(record.offset, &mut |left, index| left.add(None, &record, source.record(index)));
        }
        for routed in self.routed() {
            of(routed.source, &mut |left, _| left.add(Some(routed.topic.as_str()), &routed.record, None));
        }
        for reject in &self.rejects {
            of(reject.offset, &mut |left, _| left.end = Some(Made::Reject));
        }
        for fault in &self.faults {
            of(fault.offset, &mut |left, _| left.end = Some(Made::Fault));
        }
        Ok(left.into_iter().map(Left::made).collect())
    }

    /// What was made of the record at `index` of `batch`, in words of about `bytes_max` bytes at most.
    pub fn made_in_words(&self, made: Made, batch: &RecordBatch, index: usize, bytes_max: usize) -> String {
        let Some(source) = batch.view().record(index) else { return made.as_str().to_owned() };
        let mut words = made.as_str().to_owned();
        match made {
            Made::Keep | Made::Drop => {}
            Made::Reject => {
                let reject = self.rejects.iter().find(|reject| reject.offset == source.offset);
                reject.iter().for_each(|reject| say(&mut words, ": ", &reject.reason, bytes_max));
            }
            Made::Fault => {
                let fault = self.faults.iter().find(|fault| fault.offset == source.offset);
                fault.iter().for_each(|fault| say(&mut words, ": ", &fault.fault.to_string(), bytes_max));
            }
            Made::Change(_) | Made::Route(_) => {
                if let Delivery::Batches(batches) = &self.delivery {
                    for batch in batches.iter().filter_map(|batch| batch.decompressed().ok()) {
                        let view = batch.view();
                        view.records()
                            .filter(|record| record.offset == source.offset)
                            .for_each(|record| say_record(&mut words, " to ", &record, bytes_max));
                    }
                }
                for routed in self.routed().filter(|routed| routed.source == source.offset) {
                    let separator = format!(" to topic {}: ", routed.topic);
                    say_record(&mut words, &separator, &routed.record, bytes_max);
                }
            }
        }
        words
    }
}

/// Whether what readers see of both is the same.
fn same(a: &RecordView<'_>, b: &RecordView<'_>) -> bool {
    a.key == b.key && a.payload == b.payload && a.headers.iter().eq(b.headers.iter())
}

fn say(words: &mut String, separator: &str, text: &str, bytes_max: usize) {
    let room = bytes_max.saturating_sub(words.len() + separator.len());
    if room == 0 {
        return;
    }
    words.push_str(separator);
    words.push_str(crate::log::cut(text, room));
    if text.len() > room {
        words.push_str("...");
    }
}

fn say_record(words: &mut String, separator: &str, record: &RecordView<'_>, bytes_max: usize) {
    let mut text = String::new();
    for (name, value) in record.headers.iter() {
        let _ = write!(text, "{}={} ", String::from_utf8_lossy(name), value.escape_ascii());
        if text.len() > bytes_max {
            break;
        }
    }
    match record.payload {
        Some(payload) => {
            let start = payload.get(..bytes_max).unwrap_or(payload);
            text.push_str(&String::from_utf8_lossy(start));
        }
        None => text.push_str("a tombstone"),
    }
    say(words, separator, &text, bytes_max);
}

/// How two pipelines differ over the same records.
#[derive(Debug, Clone, Default)]
pub struct Differences {
    /// Records that both judged.
    pub compared: u64,
    /// Of those, records of which both made the same.
    pub same: u64,
    /// Records of which they made different things: from what to what, and how many.
    pub changes: BTreeMap<(&'static str, &'static str), u64>,
}

impl Differences {
    /// Takes in what two pipelines made of the same records; the positions of those that differ.
    pub fn add<'a>(&'a mut self, one: &'a [Made], other: &'a [Made]) -> impl Iterator<Item = usize> + 'a {
        one.iter().zip(other).enumerate().filter_map(|(index, (from, to))| {
            self.compared += 1;
            if from == to {
                self.same += 1;
                return None;
            }
            *self.changes.entry((from.as_str(), to.as_str())).or_default() += 1;
            Some(index)
        })
    }
}
