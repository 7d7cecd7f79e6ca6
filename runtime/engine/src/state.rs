//! What the module of a processor remembers from record to record: keys and values over what is stored, until what it
//! wrote is committed or given up.
//!
//! What is written lies in layers, from the call that goes on to what only waits for its commit. A call that fails, a
//! chunk that is done again and a run that nothing is made of take their own layer with them and nothing else.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound::{Excluded, Included, Unbounded};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use crate::limits::{
    STATE_CALL_BYTES_MAX, STATE_ENTRY_OVERHEAD, STATE_KEY_BYTES_MAX, STATE_KNOWN_BYTES, STATE_SCAN_BYTES,
    STATE_SCAN_ENTRIES, STATE_VALUE_BYTES_MAX,
};

/// A key and its value.
pub type StateEntry = (Bytes, Bytes);

/// Keys that were written, and their values: `None` for those that were deleted.
pub type StateChanges = BTreeMap<Bytes, Option<Bytes>>;

/// What is committed. Read by module threads, so it may block.
pub trait StateStore: Send + Sync {
    /// The value of `key`.
    ///
    /// # Errors
    /// Why it cannot be read, in words.
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, String>;

    /// The entries whose keys start with `prefix` and come after `after`, ascending.
    fn scan<'a>(
        &'a self,
        prefix: &[u8],
        after: Option<&[u8]>,
    ) -> Box<dyn Iterator<Item = Result<StateEntry, String>> + 'a>;
}

/// How much a state holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StateSize {
    /// Keys.
    pub entries: u64,
    /// Bytes of keys and values, and 32 for each entry.
    pub bytes: u64,
}

/// The state of a processor. Cheap to clone; all clones are one state. Its module, and nobody else, writes to it.
#[derive(Clone)]
pub struct State {
    inner: Arc<Mutex<Inner>>,
}

/// Whose the records are that a module is given.
#[derive(Debug, Clone, Default)]
struct Source {
    topic: String,
    partition: u32,
}

struct Inner {
    store: Arc<dyn StateStore>,
    bytes_max: Arc<AtomicU64>,
    source: Source,
    /// Of what is committed.
    size: StateSize,
    layers: [Written; 4],
    /// What is committed, as far as it was read or written lately.
    known: HashMap<Bytes, Option<Bytes>>,
    known_bytes: usize,
    /// Why the state is of no more use: what is stored cannot be read.
    broken: Option<String>,
}

/// Whose writes a layer has.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Layer {
    /// What waits for its commit.
    Kept,
    /// The run that goes on.
    Run,
    /// The chunk that goes on.
    Chunk,
    /// The call that goes on.
    Call,
}

#[derive(Debug, Default)]
struct Written {
    changes: StateChanges,
    /// What there is more by it.
    entries: i64,
    bytes: i64,
    /// Of all that was written, what was written over included.
    written_bytes: usize,
}

impl State {
    /// The state over what `store` has, of `size`. It may not grow beyond `bytes_max`, which may
    /// change meanwhile.
    pub fn new(store: Arc<dyn StateStore>, size: StateSize, bytes_max: Arc<AtomicU64>) -> Self {
        let inner = Inner {
            store,
            bytes_max,
            source: Source::default(),
            size,
            layers: Default::default(),
            known: HashMap::new(),
            known_bytes: 0,
            broken: None,
        };
        Self { inner: Arc::new(Mutex::new(inner)) }
    }

    /// An empty state in memory, for trying modules out: what is kept stays there.
    pub fn in_memory(bytes_max: u64) -> Self {
        Self::new(Arc::new(Nothing), StateSize::default(), Arc::new(bytes_max.into()))
    }

    /// Says whose the records are that the module will be given.
    pub fn set_source(&self, topic: &str, partition: u32) {
        let mut inner = self.lock();
        if inner.source.topic != topic {
            topic.clone_into(&mut inner.source.topic);
        }
        inner.source.partition = partition;
    }

    /// Keeps what the last run wrote, to be committed.
    pub fn keep(&self) {
        self.lock().merge(Layer::Run);
    }

    /// Gives up what the last run wrote.
    pub fn give_up(&self) {
        self.lock().discard(Layer::Run);
    }

    /// What is kept and not committed, and how much the state holds with it.
    pub fn changes(&self) -> (StateChanges, StateSize) {
        let inner = self.lock();
        let kept = &inner.layers[Layer::Kept as usize];
        (kept.changes.clone(), inner.size.with(kept))
    }

    /// What [`changes`](Self::changes) said is committed.
    pub fn committed(&self) {
        let mut inner = self.lock();
        let kept = std::mem::take(&mut inner.layers[Layer::Kept as usize]);
        inner.size = inner.size.with(&kept);
        for (key, value) in kept.changes {
            inner.know(key, value);
        }
    }

    /// Bytes that wait for a commit.
    pub fn kept_bytes(&self) -> usize {
        self.lock().layers[Layer::Kept as usize].written_bytes
    }

    /// How much is committed.
    pub fn size(&self) -> StateSize {
        self.lock().size
    }

    /// Why what is stored could not be read, if so.
    pub fn broken(&self) -> Option<String> {
        self.lock().broken.clone()
    }

    pub(crate) fn merge(&self, layer: Layer) {
        self.lock().merge(layer);
    }

    pub(crate) fn discard(&self, layer: Layer) {
        self.lock().discard(layer);
    }

    #[cfg(test)]
    fn discard_above(&self, layer: Layer) {
        for above in self.lock().layers.iter_mut().skip(layer as usize + 1) {
            *above = Written::default();
        }
    }

    pub(crate) fn topic(&self) -> String {
        self.lock().source.topic.clone()
    }

    pub(crate) fn partition(&self) -> u32 {
        self.lock().source.partition
    }

    pub(crate) fn get(&self, key: &[u8]) -> Result<Option<Bytes>, String> {
        check_key(key)?;
        self.lock().get(key)
    }

    pub(crate) fn put(&self, key: Vec<u8>, value: Vec<u8>) -> Result<(), String> {
        check_key(&key)?;
        if value.len() > STATE_VALUE_BYTES_MAX {
            let (found, max) = (value.len(), STATE_VALUE_BYTES_MAX);
            return Err(format!("a value of {found} bytes is put into the state; its limit is {max}"));
        }
        self.lock().put(key.into(), value.into())
    }

    pub(crate) fn delete(&self, key: Vec<u8>) -> Result<(), String> {
        check_key(&key)?;
        self.lock().delete(key.into())
    }

    pub(crate) fn scan(
        &self,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: u32,
    ) -> Result<Vec<StateEntry>, String> {
        self.lock().scan(prefix, after, limit as usize)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn get(&mut self, key: &[u8]) -> Result<Option<Bytes>, String> {
        if let Some(written) = self.layers.iter().rev().find_map(|layer| layer.changes.get(key)) {
            return Ok(written.clone());
        }
        if let Some(known) = self.known.get(key) {
            return Ok(known.clone());
        }
        let found = self.store.get(key).inspect_err(|cause| self.broken = Some(cause.clone()))?;
        self.know(Bytes::copy_from_slice(key), found.clone());
        Ok(found)
    }

    fn put(&mut self, key: Bytes, value: Bytes) -> Result<(), String> {
        let before = self.get(&key)?;
        let grown = signed(value.len()) - before.as_ref().map_or(0, |before| signed(before.len()));
        let new = i64::from(before.is_none());
        let grown = grown + new * (signed(key.len()) + STATE_ENTRY_OVERHEAD);
        let bytes = self.bytes().saturating_add_signed(grown);
        let max = self.bytes_max.load(Ordering::Relaxed);
        if grown > 0 && bytes > max {
            return Err(format!(
                "the state would grow to {bytes} bytes; its limit is {max}: have the module forget what it needs no more, or \
                 raise the limit with `millstream processor update NAME --state-limit SIZE`"
            ));
        }
        self.write(key, Some(value), new, grown)
    }

    fn delete(&mut self, key: Bytes) -> Result<(), String> {
        if let Some(before) = self.get(&key)? {
            let shrunk = signed(key.len()) + signed(before.len()) + STATE_ENTRY_OVERHEAD;
            self.write(key, None, -1, -shrunk)?;
        }
        Ok(())
    }

    fn write(&mut self, key: Bytes, value: Option<Bytes>, entries: i64, bytes: i64) -> Result<(), String> {
        let call = &mut self.layers[Layer::Call as usize];
        call.written_bytes += key.len() + value.as_ref().map_or(0, Bytes::len);
        if call.written_bytes > STATE_CALL_BYTES_MAX {
            let (found, max) = (call.written_bytes, STATE_CALL_BYTES_MAX);
            return Err(format!("{found} bytes are written to the state in one call; its limit is {max}"));
        }
        call.entries += entries;
        call.bytes += bytes;
        call.changes.insert(key, value);
        Ok(())
    }

    /// Of all that is committed and written.
    fn bytes(&self) -> u64 {
        let written: i64 = self.layers.iter().map(|layer| layer.bytes).sum();
        self.size.bytes.saturating_add_signed(written)
    }

    fn scan(&mut self, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Result<Vec<StateEntry>, String> {
        let from = match after {
            Some(after) if after >= prefix => Excluded(after),
            _ => Included(prefix),
        };
        let mut written = StateChanges::new();
        for layer in &self.layers {
            let changes = layer.changes.range::<[u8], _>((from, Unbounded));
            written.extend(
                changes
                    .take_while(|(key, _)| key.starts_with(prefix))
                    .map(|(key, value)| (key.clone(), value.clone())),
            );
        }
        let mut written = written.into_iter().peekable();
        let mut stored = self.store.scan(prefix, after).peekable();
        let (mut found, mut bytes) = (Vec::new(), 0);
        let limit = limit.min(STATE_SCAN_ENTRIES);
        while found.len() < limit && bytes < STATE_SCAN_BYTES {
            let of_store = match stored.peek() {
                Some(Ok((key, _))) => Some(key),
                Some(Err(cause)) => {
                    self.broken = Some(cause.clone());
                    return Err(cause.clone());
                }
                None => None,
            };
            let entry = match (of_store, written.peek()) {
                (None, None) => break,
                (Some(stored_key), Some((key, _))) if stored_key < key => stored.next(),
                (Some(_), None) => stored.next(),
                (stored_key, Some((key, _))) => {
                    if stored_key == Some(key) {
                        stored.next();
                    }
                    let Some((key, value)) = written.next() else { break };
                    value.map(|value| Ok((key, value)))
                }
            };
            // One that was deleted is passed over.
            if let Some(Ok((key, value))) = entry {
                bytes += key.len() + value.len();
                found.push((key, value));
            }
        }
        Ok(found)
    }

    fn merge(&mut self, layer: Layer) {
        if let Ok([below, above]) = self.layers.get_disjoint_mut([layer as usize - 1, layer as usize]) {
            let Written { changes, entries, bytes, written_bytes } = std::mem::take(above);
            below.entries += entries;
            below.bytes += bytes;
            below.written_bytes += written_bytes;
            below.changes.extend(changes);
        }
    }

    /// With all above it.
    fn discard(&mut self, layer: Layer) {
        for written in self.layers.iter_mut().skip(layer as usize) {
            *written = Written::default();
        }
    }

    fn know(&mut self, key: Bytes, value: Option<Bytes>) {
        let bytes = key.len() + value.as_ref().map_or(0, Bytes::len) + 64;
        if self.known_bytes + bytes > STATE_KNOWN_BYTES {
            self.known.clear();
            self.known_bytes = 0;
        }
        self.known_bytes += bytes;
        self.known.insert(key, value);
    }
}

impl StateSize {
    fn with(self, written: &Written) -> Self {
        Self {
            entries: self.entries.saturating_add_signed(written.entries),
            bytes: self.bytes.saturating_add_signed(written.bytes),
        }
    }
}

/// A store without entries.
struct Nothing;

impl StateStore for Nothing {
    fn get(&self, _: &[u8]) -> Result<Option<Bytes>, String> {
        Ok(None)
    }

    fn scan<'a>(
        &'a self,
        _: &[u8],
        _: Option<&[u8]>,
    ) -> Box<dyn Iterator<Item = Result<StateEntry, String>> + 'a> {
        Box::new(std::iter::empty())
    }
}

fn check_key(key: &[u8]) -> Result<(), String> {
    match key.len() {
        0 => Err("a key of the state has no bytes; it needs one at least".to_owned()),
        len if len > STATE_KEY_BYTES_MAX => {
            Err(format!("a key of the state has {len} bytes; its limit is {STATE_KEY_BYTES_MAX}"))
        }
        _ => Ok(()),
    }
}

fn signed(len: usize) -> i64 {
    i64::try_from(len).unwrap_or(i64::MAX)
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State").field("size", &self.size()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
