//! What the module of a processor remembers: keys and values that outlive it, committed with what it emits.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Bound;

use serde::Serialize;
use serde::de::DeserializeOwned;

#[cfg(target_arch = "wasm32")]
use crate::guest::host_state as host;
#[cfg(not(target_arch = "wasm32"))]
use crate::test::host_state as host;

/// Entries that a scan asks the broker for at a time.
const PAGE: u32 = 256;

/// What the module of a processor remembers, as it is for one record: what is written is seen at once, and counts unless the
/// record is rejected or its call fails. Keys have 1 to 1,024 bytes, values up to 256 KiB.
#[derive(Debug, Default)]
pub struct State {
    /// `None` for what was deleted.
    written: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
}

/// What is remembered is not what the module takes it for, or cannot be remembered.
#[derive(Debug)]
pub struct StateError {
    key: String,
    cause: serde_json::Error,
}

/// Eight bytes of a key that are in the order of the times.
pub(crate) fn ordered(time_ms: i64) -> [u8; 8] {
    (time_ms ^ i64::MIN).to_be_bytes()
}

pub(crate) fn from_ordered(bytes: [u8; 8]) -> i64 {
    i64::from_be_bytes(bytes) ^ i64::MIN
}

impl State {
    /// For what the attribute expands to.
    #[doc(hidden)]
    pub fn open() -> Self {
        Self::default()
    }

    /// What was written is the broker's from now on.
    pub(crate) fn keep(self) {
        for (key, value) in self.written {
            match value {
                Some(value) => host::put(&key, &value),
                None => host::delete(&key),
            }
        }
    }

    /// The value of `key`.
    pub fn get(&self, key: impl AsRef<[u8]>) -> Option<Vec<u8>> {
        match self.written.get(key.as_ref()) {
            Some(written) => written.clone(),
            None => host::get(key.as_ref()),
        }
    }

    /// Gives `key` a value.
    pub fn put(&mut self, key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) {
        self.written.insert(key.into(), Some(value.into()));
    }

    /// Forgets `key`.
    pub fn delete(&mut self, key: impl Into<Vec<u8>>) {
        self.written.insert(key.into(), None);
    }

    /// The entries whose keys start with `prefix`, in the order of their keys, `limit` at most.
    pub fn scan(&self, prefix: impl AsRef<[u8]>, limit: usize) -> Vec<(Vec<u8>, Vec<u8>)> {
        self.scan_after(prefix.as_ref(), None, limit)
    }

    /// The same behind the key `after`, so that nothing is looked at that is deleted before it.
    pub(crate) fn scan_after(
        &self,
        prefix: &[u8],
        after: Option<Vec<u8>>,
        limit: usize,
    ) -> Vec<(Vec<u8>, Vec<u8>)> {
        let start = match &after {
            Some(after) => Bound::Excluded(after.clone()),
            None => Bound::Included(prefix.to_vec()),
        };
        let written = self.written.range((start, Bound::Unbounded));
        let mut written = written.take_while(|(key, _)| key.starts_with(prefix));
        let mut next = written.next();
        let mut found = Vec::new();
        let mut after = after;
        // Each entry costs the broker something: no more are asked for than are wanted, at first.
        let mut page_len = u32::try_from(limit).unwrap_or(PAGE).clamp(1, PAGE);
        loop {
            let page = host::scan(prefix, after.as_deref(), page_len);
            page_len = PAGE;
            let last = page.last().map(|(key, _)| key.clone());
            for (key, value) in page {
                while let Some((written_key, written_value)) = next.filter(|(written, _)| **written <= key) {
                    found.extend(written_value.clone().map(|value| (written_key.clone(), value)));
                    next = written.next();
                }
                if !self.written.contains_key(&key) {
                    found.push((key, value));
                }
                if found.len() >= limit {
                    found.truncate(limit);
                    return found;
                }
            }
            if last.is_none() {
                break;
            }
            after = last;
        }
        while let Some((key, value)) = next {
            found.extend(value.clone().map(|value| (key.clone(), value)));
            next = written.next();
        }
        found.truncate(limit);
        found
    }

    /// The value of `key`, read from JSON.
    ///
    /// # Errors
    /// [`StateError`] when it is something else.
    pub fn json<T: DeserializeOwned>(&self, key: impl AsRef<[u8]>) -> Result<Option<T>, StateError> {
        let Some(value) = self.get(key.as_ref()) else { return Ok(None) };
        serde_json::from_slice(&value).map(Some).map_err(|cause| StateError::of(key.as_ref(), cause))
    }

    /// Gives `key` a value, written as JSON.
    ///
    /// # Errors
    /// [`StateError`] when JSON cannot express it.
    pub fn put_json<T: Serialize + ?Sized>(
        &mut self,
        key: impl Into<Vec<u8>>,
        value: &T,
    ) -> Result<(), StateError> {
        let key = key.into();
        let value = serde_json::to_vec(value).map_err(|cause| StateError::of(&key, cause))?;
        self.put(key, value);
        Ok(())
    }

    /// Changes the JSON value of `key`, the type's default where there is none, and returns what it is then.
    ///
    /// # Errors
    /// [`StateError`] when it is something else than a `T`.
    pub fn update<T: Serialize + DeserializeOwned + Default>(
        &mut self,
        key: impl AsRef<[u8]>,
        change: impl FnOnce(&mut T),
    ) -> Result<T, StateError> {
        let mut value = self.json::<T>(key.as_ref())?.unwrap_or_default();
        change(&mut value);
        self.put_json(key.as_ref(), &value)?;
        Ok(value)
    }
}

impl StateError {
    pub(crate) fn of(key: &[u8], cause: serde_json::Error) -> Self {
        Self { key: key.escape_ascii().to_string(), cause }
    }
}

impl fmt::Display for StateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "what is remembered under {} is another thing: {}", self.key, self.cause)
    }
}

impl std::error::Error for StateError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.cause)
    }
}
