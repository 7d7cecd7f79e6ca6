//! Which records of an accepted batch are not stored, and why: small also where many are, and bounded.

use std::{collections::HashMap, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::limits::{UNSTORED_TEXT_BYTES_MAX, UNSTORED_TEXTS_BYTES_MAX};

/// Why a record is not stored.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unstored {
    /// A module dropped it: it is accepted all the same.
    Dropped,
    /// A module rejected it.
    Rejected {
        /// As it is bound: `NAME@VERSION` or `sha256:HEX`.
        module: String,
        /// In the module's words, cut to 1 KiB.
        reason: String,
    },
    /// A module failed on it.
    Faulted {
        /// As it is bound: `NAME@VERSION` or `sha256:HEX`.
        module: String,
        /// The kind of fault, and of a panic its message, file and line; cut to 1 KiB.
        cause: String,
    },
}

/// The records of a batch that are not stored, by position. Cheap to clone.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Table", into = "Table")]
pub struct UnstoredRecords(Option<Arc<Inner>>);

#[derive(Debug, PartialEq, Eq)]
struct Inner {
    why: Vec<Unstored>,
    runs: Vec<Run>,
}

/// Records one after the other, for the same reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Run {
    first: u32,
    count: u32,
    /// Which of the reasons.
    why: u32,
    /// Records of the runs before.
    before: u32,
}

/// As it crosses the wire and is stored.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Table {
    /// Each reason once.
    #[serde(rename = "w")]
    why: Vec<Unstored>,
    /// Position of the first record, number of records, which reason; ascending.
    #[serde(rename = "r")]
    runs: Vec<(u32, u32, u32)>,
}

impl UnstoredRecords {
    /// The records at these positions, which ascend. Words are cut to 1 KiB each; beyond 32 KiB of them further ones are left out.
    pub fn collect(records: impl IntoIterator<Item = (u32, Unstored)>) -> Self {
        let (mut known, mut why, mut bytes) = (HashMap::<Unstored, u32>::new(), Vec::new(), 0);
        let mut runs: Vec<(u32, u32, u32)> = Vec::new();
        for (position, unstored) in records {
            let mut unstored = unstored.cut();
            if !known.contains_key(&unstored) && bytes + unstored.text_bytes() > UNSTORED_TEXTS_BYTES_MAX {
                unstored = unstored.without_text();
            }
            let number = *known.entry(unstored).or_insert_with_key(|unstored| {
                bytes += unstored.text_bytes();
                why.push(unstored.clone());
                u32::try_from(why.len() - 1).unwrap_or(u32::MAX)
            });
            match runs.last_mut() {
                Some((first, count, same)) if *same == number && *first + *count == position => *count += 1,
                _ => runs.push((position, 1, number)),
            }
        }
        Table { why, runs }.into()
    }

    /// Whether all records are stored.
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// How many there are.
    pub fn len(&self) -> u32 {
        self.runs().last().map_or(0, |run| run.before.saturating_add(run.count))
    }

    /// Why the record at `position` is not stored; `None` if it is.
    pub fn get(&self, position: u32) -> Option<&Unstored> {
        let inner = self.0.as_ref()?;
        let run = inner.runs.get(self.runs_through(position).checked_sub(1)?)?;
        let within = position.checked_sub(run.first).is_some_and(|at| at < run.count);
        within.then(|| inner.why.get(run.why as usize)).flatten()
    }

    /// How many there are before `position`.
    pub fn before(&self, position: u32) -> u32 {
        let last = self.runs_through(position).checked_sub(1).and_then(|last| self.runs().get(last));
        last.map_or(0, |run| run.before.saturating_add(position.saturating_sub(run.first).min(run.count)))
    }

    /// Each with its position, ascending.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &Unstored)> {
        let why = |run: &Run| self.0.as_ref().and_then(|inner| inner.why.get(run.why as usize));
        let records = self.runs().iter().filter_map(move |run| Some((run, why(run)?)));
        records
            .flat_map(|(run, why)| (run.first..run.first.saturating_add(run.count)).map(move |at| (at, why)))
    }

    /// About how many bytes they take in a message, never fewer.
    pub fn size_bytes(&self) -> usize {
        const RUN: usize = 16;
        const WHY: usize = 64;
        let texts = |inner: &Arc<Inner>| inner.why.iter().map(|why| why.text_bytes() + WHY).sum::<usize>();
        self.0.as_ref().map_or(0, |inner| texts(inner) + inner.runs.len() * RUN)
    }

    fn runs(&self) -> &[Run] {
        self.0.as_ref().map_or(&[], |inner| &inner.runs)
    }

    /// Runs that begin at or before `position`.
    fn runs_through(&self, position: u32) -> usize {
        self.runs().partition_point(|run| run.first <= position)
    }
}

impl Unstored {
    fn cut(self) -> Self {
        let cut = |mut text: String| {
            text.truncate(text.floor_char_boundary(UNSTORED_TEXT_BYTES_MAX));
            text
        };
        match self {
            Self::Dropped => Self::Dropped,
            Self::Rejected { module, reason } => Self::Rejected { module, reason: cut(reason) },
            Self::Faulted { module, cause } => Self::Faulted { module, cause: cut(cause) },
        }
    }

    fn without_text(self) -> Self {
        let text = "(left out: the batch has too many different reasons)";
        match self {
            Self::Dropped => Self::Dropped,
            Self::Rejected { module, .. } => Self::Rejected { module, reason: text.into() },
            Self::Faulted { module, .. } => Self::Faulted { module, cause: text.into() },
        }
    }

    fn text_bytes(&self) -> usize {
        match self {
            Self::Dropped => 0,
            Self::Rejected { module, reason: text } | Self::Faulted { module, cause: text } => {
                module.len() + text.len()
            }
        }
    }
}

impl From<Table> for UnstoredRecords {
    fn from(Table { why, runs }: Table) -> Self {
        if runs.is_empty() {
            return Self::default();
        }
        let mut before = 0u32;
        let runs = runs.into_iter().map(|(first, count, why)| {
            let run = Run { first, count, why, before };
            before = before.saturating_add(count);
            run
        });
        Self(Some(Arc::new(Inner { runs: runs.collect(), why })))
    }
}

impl From<UnstoredRecords> for Table {
    fn from(records: UnstoredRecords) -> Self {
        let runs = records.runs().iter().map(|run| (run.first, run.count, run.why)).collect();
        Self { why: records.0.as_ref().map(|inner| inner.why.clone()).unwrap_or_default(), runs }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rejected(reason: impl Into<String>) -> Unstored {
        Unstored::Rejected { module: "m@1".into(), reason: reason.into() }
    }

    proptest! {
        #[test]
        fn each_record_is_told_as_it_was_given(given in prop::collection::vec(prop::option::of(0..4u8), 0..200)) {
            let why = |number: u8| match number {
                0 => Unstored::Dropped,
                1 => Unstored::Faulted { module: "m@1".into(), cause: "it traps".into() },
                other => rejected(other.to_string()),
            };
            let listed: Vec<_> = (0u32..).zip(&given).filter_map(|(at, it)| Some((at, why((*it)?)))).collect();
            let records = UnstoredRecords::collect(listed.clone());
            prop_assert_eq!(records.is_empty(), listed.is_empty());
            prop_assert_eq!(records.len() as usize, listed.len());
            prop_assert_eq!(records.iter().map(|(at, it)| (at, it.clone())).collect::<Vec<_>>(), listed.clone());
            for (at, it) in (0u32..).zip(&given) {
                let wanted = it.map(why);
                prop_assert_eq!(records.get(at), wanted.as_ref());
                let before = listed.iter().filter(|(other, _)| *other < at).count();
                prop_assert_eq!(records.before(at) as usize, before);
            }
            let table = Table::from(records.clone());
            prop_assert_eq!(UnstoredRecords::from(table), records);
        }

        #[test]
        fn nonsense_from_a_peer_does_no_harm(runs in prop::collection::vec(any::<(u32, u32, u32)>(), 0..20), at: u32) {
            let records = UnstoredRecords::from(Table { why: vec![Unstored::Dropped], runs });
            let _ = (records.get(at), records.before(at), records.len(), records.size_bytes());
        }
    }

    #[test]
    fn words_are_bounded() {
        let records = UnstoredRecords::collect(
            (0..1_000).map(|at| (at, rejected(format!("{at} ä{}", "ä".repeat(900))))),
        );
        assert_eq!(records.len(), 1_000);
        assert!(records.size_bytes() < 2 * UNSTORED_TEXTS_BYTES_MAX, "{}", records.size_bytes());
        let Some(Unstored::Rejected { reason, .. }) = records.get(0) else { panic!("it was rejected") };
        assert!((1_000..=UNSTORED_TEXT_BYTES_MAX).contains(&reason.len()));
        let Some(Unstored::Rejected { reason, .. }) = records.get(999) else { panic!("it was rejected") };
        assert!(reason.contains("left out"));
    }
}
