//! Windows of time over a state: tumbling and sliding, by whatever time the module says a record has.

use std::fmt;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::state::{from_ordered, ordered};
use crate::{State, StateError};

/// Windows that one record closes at most; others follow with the next ones.
const CLOSED_MAX: usize = 1_000;
/// Windows that are looked at at a time, where some are to be closed.
const CLOSED_AT_ONCE: usize = 100;

/// Windows of time, each with a value for each key. The time is that of the records: it goes on with the latest of them, and
/// a window is closed once that is `lateness` past its end.
///
/// ```
/// use std::time::Duration;
/// use millstream_sdk::{prelude::*, Count, Windows};
///
/// const HOURS: Windows = Windows::tumbling("hours", Duration::from_secs(3600)).lateness(Duration::from_secs(60));
///
/// #[processor(reads = "headers")]
/// fn per_hour(record: &Record, state: &mut State) -> Result<Vec<Output>, WindowError> {
///     let carrier = record.header("carrier").unwrap_or("?");
///     HOURS.update(state, carrier, record.timestamp(), Count::add)?;
///     let closed = HOURS.close::<Count>(state)?;
///     Ok(closed.into_iter().map(|it| Output::json(&it.value).with_key(it.key)).collect())
/// }
/// # let hour = 3_600_000;
/// # let at = |time: i64| test::record().header("carrier", "UA").timestamp(time);
/// # assert_eq!(test::run::<per_hour>(json!({}), [at(0)]), [test::Verdict::Drop]);
/// # let closed = test::run_on::<per_hour>(json!({}), [at(hour + 60_000)]);
/// # assert_eq!(closed[0].emitted().text(), "1");
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Windows {
    name: &'static str,
    size_ms: i64,
    every_ms: i64,
    lateness_ms: i64,
}

/// What is known of all windows.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Times {
    /// The latest time of all records up to now.
    latest_ms: i64,
    /// No window that is open ends before.
    first_end_ms: i64,
    /// Of those that end then, all up to the one of this key are closed.
    closed: Option<Vec<u8>>,
}

/// One window of one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window<A> {
    /// Whose.
    pub key: Vec<u8>,
    /// Where it begins, ms since the Unix epoch.
    pub start_ms: i64,
    /// Where it ends; that time is the next one's.
    pub end_ms: i64,
    /// What the records made of it.
    pub value: A,
}

/// Why a record is not counted.
#[derive(Debug)]
pub enum WindowError {
    /// All windows that its time lies in are closed.
    Late {
        /// Time of the record, ms since the Unix epoch.
        time_ms: i64,
        /// The latest time of all records before.
        latest_ms: i64,
    },
    /// The value of a window is none of this type.
    State(StateError),
}

impl Windows {
    /// Windows of `size` that begin where others end. `name` tells them from what else the module remembers; a state keeps it.
    pub const fn tumbling(name: &'static str, size: Duration) -> Self {
        Self::sliding(name, size, size)
    }

    /// Windows of `size`, one of which begins `every` so often: a time lies in several.
    ///
    /// # Panics
    /// If one of them is below a millisecond, or windows would have times between them.
    pub const fn sliding(name: &'static str, size: Duration, every: Duration) -> Self {
        let (size_ms, every_ms) = (size.as_millis() as i64, every.as_millis() as i64);
        assert!(every_ms > 0 && every_ms <= size_ms, "windows begin at least once in their size");
        Self { name, size_ms, every_ms, lateness_ms: 0 }
    }

    /// The same, waiting so long for records that come late.
    #[must_use]
    pub const fn lateness(self, lateness: Duration) -> Self {
        Self { lateness_ms: lateness.as_millis() as i64, ..self }
    }

    /// Changes the value of `key` in each window that `time_ms` lies in and that is not closed, and returns those.
    ///
    /// # Errors
    /// [`WindowError::Late`] when there is none; [`WindowError::State`].
    pub fn update<A: Serialize + DeserializeOwned + Default>(
        &self,
        state: &mut State,
        key: impl AsRef<[u8]>,
        time_ms: i64,
        change: impl Fn(&mut A),
    ) -> Result<Vec<Window<A>>, WindowError> {
        let key = key.as_ref();
        let before = self.times(state);
        let mut times =
            before.clone().unwrap_or(Times { latest_ms: time_ms, first_end_ms: i64::MAX, closed: None });
        times.latest_ms = times.latest_ms.max(time_ms);
        let latest_ms = times.latest_ms;
        let mut updated = Vec::new();
        let mut start_ms = time_ms - time_ms.rem_euclid(self.every_ms);
        while start_ms + self.size_ms > time_ms {
            let end_ms = start_ms + self.size_ms;
            if self.is_open(end_ms, latest_ms) {
                let value = state.update::<A>(self.key(end_ms, key), &change)?;
                if end_ms < times.first_end_ms {
                    (times.first_end_ms, times.closed) = (end_ms, None);
                }
                updated.push(Window { key: key.to_vec(), start_ms, end_ms, value });
            }
            start_ms -= self.every_ms;
        }
        if before.as_ref() != Some(&times) {
            self.put_times(state, &times);
        }
        match updated.is_empty() {
            true => Err(WindowError::Late { time_ms, latest_ms }),
            false => {
                updated.reverse();
                Ok(updated)
            }
        }
    }

    /// The windows that are closed by now, oldest first, each once: they are forgotten.
    ///
    /// # Errors
    /// [`WindowError::State`].
    pub fn close<A: DeserializeOwned>(&self, state: &mut State) -> Result<Vec<Window<A>>, WindowError> {
        let Some(times) = self.times(state) else { return Ok(Vec::new()) };
        // Most records close nothing.
        if self.is_open(times.first_end_ms, times.latest_ms) {
            return Ok(Vec::new());
        }
        let prefix = self.prefix(b'w');
        let mut after = match &times.closed {
            Some(key) => self.key(times.first_end_ms, key),
            // Nothing ends so early.
            None => self.key(times.first_end_ms.saturating_sub(1), &[]),
        };
        let mut closed = Vec::new();
        loop {
            let entries = state.scan_after(&prefix, Some(after.clone()), CLOSED_AT_ONCE);
            let is_last = entries.len() < CLOSED_AT_ONCE;
            for (entry, value) in entries {
                let Some((end, key)) = entry.get(prefix.len()..).and_then(<[u8]>::split_first_chunk) else {
                    continue;
                };
                let end_ms = from_ordered(*end);
                if self.is_open(end_ms, times.latest_ms) || closed.len() >= CLOSED_MAX {
                    let last = closed.last().filter(|last: &&Window<A>| last.end_ms == end_ms);
                    let closed_key = last.map(|last| last.key.clone());
                    self.put_times(state, &Times { first_end_ms: end_ms, closed: closed_key, ..times });
                    return Ok(closed);
                }
                let value = serde_json::from_slice(&value).map_err(|cause| StateError::of(&entry, cause))?;
                let (key, start_ms) = (key.to_vec(), end_ms - self.size_ms);
                closed.push(Window { key, start_ms, end_ms, value });
                state.delete(entry.clone());
                after = entry;
            }
            if is_last {
                self.put_times(state, &Times { first_end_ms: i64::MAX, closed: None, ..times });
                return Ok(closed);
            }
        }
    }

    /// Whether records still count in a window.
    fn is_open(&self, end_ms: i64, latest_ms: i64) -> bool {
        end_ms.saturating_add(self.lateness_ms) > latest_ms
    }

    fn times(&self, state: &State) -> Option<Times> {
        let times = state.get(self.time_key())?;
        let (latest, rest) = times.split_first_chunk()?;
        let (first_end, closed) = rest.split_first_chunk()?;
        Some(Times {
            latest_ms: from_ordered(*latest),
            first_end_ms: from_ordered(*first_end),
            closed: closed.split_first().map(|(_, key)| key.to_vec()),
        })
    }

    fn put_times(&self, state: &mut State, times: &Times) {
        let mut written = [ordered(times.latest_ms), ordered(times.first_end_ms)].concat();
        if let Some(key) = &times.closed {
            written.push(b'k');
            written.extend_from_slice(key);
        }
        state.put(self.time_key(), written);
    }

    fn time_key(&self) -> Vec<u8> {
        self.prefix(b't')
    }

    /// By their ends, so that those to be closed come first.
    fn key(&self, end_ms: i64, key: &[u8]) -> Vec<u8> {
        [&self.prefix(b'w'), ordered(end_ms).as_slice(), key].concat()
    }

    fn prefix(&self, what: u8) -> Vec<u8> {
        [self.name.as_bytes(), &[0, what]].concat()
    }
}

impl fmt::Display for WindowError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Late { time_ms, latest_ms } => {
                let behind = latest_ms - time_ms;
                write!(
                    f,
                    "it is {behind} ms behind the latest record, and the windows that it lies in are closed"
                )
            }
            Self::State(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for WindowError {}

impl From<StateError> for WindowError {
    fn from(error: StateError) -> Self {
        Self::State(error)
    }
}
