//! What modules often remember, beside windows: what was seen lately, the latest value of each key, and sums.

use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::state::{from_ordered, ordered};
use crate::{PayloadError, Record, State, StateError};

/// Forgotten with each record, at most.
const FORGOTTEN_MAX: usize = 16;
/// Of the time that an entry begins with.
const TIME_BYTES: usize = 8;

/// What was seen lately, by whatever time the module says a record has.
#[derive(Debug, Clone, Copy)]
pub struct Dedup {
    name: &'static str,
    within_ms: i64,
}

impl Dedup {
    /// What was seen `within` this time. `name` tells it from what else the module remembers.
    pub const fn new(name: &'static str, within: Duration) -> Self {
        Self { name, within_ms: within.as_millis() as i64 }
    }

    /// Whether `key` was not seen within the time before `time_ms`; it is, from now on.
    pub fn is_first(&self, state: &mut State, key: impl AsRef<[u8]>, time_ms: i64) -> bool {
        let forgotten = self.forget(state, time_ms);
        let key = [self.name.as_bytes(), &[0, b'k'], key.as_ref()].concat();
        let seen_ms = state.get(&key).and_then(|seen| seen.try_into().ok()).map(i64::from_be_bytes);
        if seen_ms.is_some_and(|seen_ms| time_ms < seen_ms.saturating_add(self.within_ms)) {
            return false;
        }
        if let Some(seen_ms) = seen_ms {
            state.delete(self.index(seen_ms, &key));
        }
        let entry = self.index(time_ms, &key);
        if forgotten.is_none_or(|forgotten| entry <= forgotten) {
            state.put(self.forgotten_key(), self.index(time_ms, &[]));
        }
        state.put(entry, Vec::new());
        state.put(key, time_ms.to_be_bytes().to_vec());
        true
    }

    /// Forgets some of what was seen long ago. Up to the entry that it returns nothing is left, nor anywhere where it returns
    /// none.
    fn forget(&self, state: &mut State, time_ms: i64) -> Option<Vec<u8>> {
        let prefix = [self.name.as_bytes(), &[0, b'e']].concat();
        let seen_ms = |entry: &[u8]| {
            let seen = entry.get(prefix.len()..).and_then(<[u8]>::first_chunk);
            seen.map_or(i64::MAX, |seen| from_ordered(*seen))
        };
        let is_lately = |seen_ms: i64| time_ms < seen_ms.saturating_add(self.within_ms);
        let before = state.get(self.forgotten_key())?;
        if is_lately(seen_ms(&before)) {
            return Some(before);
        }
        let entries = state.scan_after(&prefix, Some(before.clone()), FORGOTTEN_MAX);
        let mut left = (entries.len() == FORGOTTEN_MAX).then_some(before);
        for (entry, _) in entries {
            let seen_ms = seen_ms(&entry);
            if is_lately(seen_ms) {
                left = Some(self.index(seen_ms, &[]));
                break;
            }
            state.delete(entry.get(prefix.len() + TIME_BYTES..).unwrap_or_default());
            state.delete(entry.clone());
            left = left.map(|_| entry);
        }
        match &left {
            Some(forgotten) => state.put(self.forgotten_key(), forgotten.clone()),
            None => state.delete(self.forgotten_key()),
        }
        left
    }

    fn forgotten_key(&self) -> Vec<u8> {
        [self.name.as_bytes(), &[0, b'f']].concat()
    }

    fn index(&self, seen_ms: i64, key: &[u8]) -> Vec<u8> {
        [self.name.as_bytes(), &[0, b'e'], &ordered(seen_ms), key].concat()
    }
}

/// The latest value of each key, as of a topic of customers that orders are joined with.
#[derive(Debug, Clone, Copy)]
pub struct Latest {
    name: &'static str,
}

impl Latest {
    /// `name` tells it from what else the module remembers.
    pub const fn new(name: &'static str) -> Self {
        Self { name }
    }

    /// Remembers the payload of `record` under its key; a tombstone is forgotten, and a record without a key passed over.
    pub fn note(&self, state: &mut State, record: &Record<'_>) {
        let Some(key) = record.key() else { return };
        match record.is_tombstone() {
            true => state.delete(self.key(key)),
            false => state.put(self.key(key), record.payload()),
        }
    }

    /// The latest payload of `key`.
    pub fn of(&self, state: &State, key: impl AsRef<[u8]>) -> Option<Vec<u8>> {
        state.get(self.key(key.as_ref()))
    }

    /// The same, read from JSON.
    ///
    /// # Errors
    /// [`PayloadError::NotJson`].
    pub fn json_of<T: DeserializeOwned>(
        &self,
        state: &State,
        key: impl AsRef<[u8]>,
    ) -> Result<Option<T>, PayloadError> {
        let Some(payload) = self.of(state, key) else { return Ok(None) };
        serde_json::from_slice(&payload).map(Some).map_err(PayloadError::NotJson)
    }

    fn key(&self, key: &[u8]) -> Vec<u8> {
        [self.name.as_bytes(), &[0, b'v'], key].concat()
    }
}

/// How many.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count(pub u64);

impl Count {
    /// One more.
    pub fn add(&mut self) {
        self.0 += 1;
    }
}

/// Count, sum, least and greatest of numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Stats {
    /// How many.
    pub count: u64,
    /// All together.
    pub sum: f64,
    /// The least; 0 for none.
    pub min: f64,
    /// The greatest; 0 for none.
    pub max: f64,
}

impl Stats {
    /// One more.
    pub fn add(&mut self, number: f64) {
        let first = self.count == 0;
        self.min = if first { number } else { self.min.min(number) };
        self.max = if first { number } else { self.max.max(number) };
        self.count += 1;
        self.sum += number;
    }

    /// The mean; `None` of none.
    pub fn mean(&self) -> Option<f64> {
        (self.count > 0).then(|| self.sum / self.count as f64)
    }
}

/// The `K` greatest of named numbers, greatest first; of equal ones the first name by alphabet.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TopK<const K: usize>(Vec<(String, f64)>);

impl<const K: usize> TopK<K> {
    /// The number of `name` is this from now on. One that fell out comes back only when it is put again: give totals that
    /// grow, or put all of them.
    pub fn put(&mut self, name: &str, number: f64) {
        self.0.retain(|(other, _)| other != name);
        let before = |(other, theirs): &(String, f64)| {
            theirs.total_cmp(&number).reverse().then_with(|| other.as_str().cmp(name)).is_lt()
        };
        let place = self.0.partition_point(before);
        if place < K {
            self.0.insert(place, (name.to_owned(), number));
            self.0.truncate(K);
        }
    }

    /// They, greatest first.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, f64)> {
        self.0.iter().map(|(name, number)| (name.as_str(), *number))
    }
}

/// A counter under `key`, one more; what it is then.
///
/// # Errors
/// [`StateError`] when something else is remembered there.
pub fn count(state: &mut State, key: impl AsRef<[u8]>) -> Result<u64, StateError> {
    state.update::<Count>(key, Count::add).map(|count| count.0)
}
