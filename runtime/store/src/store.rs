//! The store: an open database, and the one way to write to it.

use std::{
    collections::{BTreeMap, HashMap},
    io,
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use fjall::{AbstractTree as _, Database, Keyspace, OwnedWriteBatch, PersistMode};
use millstream_types::{BatchView, Check, Offset, PartitionId};

use crate::{
    batch::{Batch, CompactedSums, Rewrite},
    error::{DatabaseError, OpenError, WriteError},
    flush::FlushWatch,
    keys::{COMMIT_KEY, CommitRow, Encoding as _, Family, LogKey, PartitionKey, PartitionRow},
    layout::Layout,
    options::Options,
    progress::{Advance, Progress},
    reclaim::Reclaiming,
    recovery::{self, Opened, Recovery},
};

/// A handle on an open store; cheap to clone. The store closes, and syncs what is not yet synced, with the last handle.
#[derive(Clone)]
pub struct Store {
    pub(crate) inner: Arc<Inner>,
}

/// How durable a commit is when it returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Persist {
    /// Handed to the operating system: survives the end of the process, not that of the machine.
    Buffer,
    /// Synced to disk, with everything committed before it. Readers see the batch only once it is.
    Sync,
}

pub(crate) struct Inner {
    pub(crate) db: Database,
    pub(crate) keyspaces: Keyspaces,
    /// The rows of all partitions, as committed.
    pub(crate) partitions: RwLock<HashMap<PartitionId, PartitionRow>>,
    /// From which offset on partitions lie in the log's active memtable.
    in_memory_from: RwLock<HashMap<PartitionId, Offset>>,
    /// Whether that memtable also holds what the journals held at open, of which `in_memory_from` knows nothing.
    holds_recovered: AtomicBool,
    pub(crate) options: Options,
    pub(crate) reclaiming: Reclaiming,
    writer: Mutex<Writer>,
    /// Newest commit, and newest durable one: for `stats`, which must not wait for a sync.
    pub(crate) committed: AtomicU64,
    pub(crate) synced: AtomicU64,
    // Dropped after the database: nobody else may open the directory before it is closed.
    _layout: Layout,
}

/// The keyspaces of the database: few, since each costs to open and to flush.
#[derive(Clone)]
pub(crate) struct Keyspaces {
    pub(crate) log: Keyspace,
    pub(crate) state: Keyspace,
    pub(crate) modules: Keyspace,
}

impl Keyspaces {
    pub(crate) fn of(&self, family: Family) -> &Keyspace {
        match family {
            Family::State => &self.state,
            Family::Modules => &self.modules,
        }
    }
}

/// What the one who commits must know, behind a lock that is never contended in a broker with one committer.
pub(crate) struct Writer {
    /// Newest commit.
    sequence: u64,
    /// The commit that precedes the next one in the journal: `sequence`, except after a repair.
    previous: u64,
    /// Newest commit known durable.
    synced: u64,
    /// What partitions did since then.
    unsynced: BTreeMap<PartitionId, Advance>,
    progress: Progress,
    pub(crate) watch: FlushWatch,
    /// Set by the first failure; then nothing is written any more.
    failure: Option<WriteError>,
}

/// Where the sequence of commits stands when a store opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) sequence: u64,
    pub(crate) previous: u64,
}

impl Store {
    /// Opens the store in `dir`, creating it if there is none, and checks that all acknowledged data is there.
    ///
    /// # Errors
    /// [`OpenError`] says what is in the way and what to do; [`OpenError::DataLoss`] if acknowledged data is missing
    /// and [`Options::accept_data_loss`] is not set.
    pub fn open(dir: &Path, options: &Options) -> Result<(Self, Recovery), OpenError> {
        recovery::open(dir, options)
    }

    pub(crate) fn assemble(opened: Opened, options: &Options) -> Self {
        let Opened { layout, db, keyspaces, floors, partitions, position, journal_bytes, progress } = opened;
        let writer = Writer {
            sequence: position.sequence,
            previous: position.previous,
            synced: position.sequence,
            unsynced: BTreeMap::new(),
            progress,
            watch: FlushWatch::new(&keyspaces, journal_bytes),
            failure: None,
        };
        Self {
            inner: Arc::new(Inner {
                db,
                reclaiming: Reclaiming::new(floors, &partitions, keyspaces.log.tree.disk_space()),
                keyspaces,
                partitions: RwLock::new(partitions),
                in_memory_from: RwLock::default(),
                holds_recovered: AtomicBool::new(journal_bytes > 0),
                options: options.clone(),
                writer: Mutex::new(writer),
                committed: AtomicU64::new(position.sequence),
                synced: AtomicU64::new(position.sequence),
                _layout: layout,
            }),
        }
    }

    /// A new, empty change.
    pub fn batch(&self) -> Batch {
        Batch::default()
    }

    /// Applies `batch` as a whole. An empty batch writes nothing, but [`Persist::Sync`] still syncs.
    ///
    /// # Errors
    /// [`WriteError::OutOfOrder`] if nothing was written because an append does not follow its partition's end; any
    /// other error if the outcome is unknown, after which every write is refused.
    pub fn commit(&self, batch: Batch, persist: Persist) -> Result<(), WriteError> {
        let mut writer = self.inner.writer();
        if batch.is_empty() {
            return match persist {
                Persist::Buffer => writer.check(),
                Persist::Sync => writer.sync(&self.inner),
            };
        }
        writer.commit(&self.inner, batch, persist)
    }

    /// Commits nothing but the number of the commit.
    pub(crate) fn commit_nothing(&self) -> Result<(), WriteError> {
        self.inner.writer().commit(&self.inner, Batch::default(), Persist::Buffer)
    }

    /// Makes everything committed so far durable; does nothing if it is.
    ///
    /// # Errors
    /// Any error means that what was not yet synced may or may not be there after the next open.
    pub fn sync(&self) -> Result<(), WriteError> {
        self.inner.writer().sync(&self.inner)
    }

    /// Rotates memtables that are due, and watches that they reach the disk. To be called by the committer after its
    /// commits; costs next to nothing when nothing is due. Waits up to a second when too much is waiting for the disk.
    ///
    /// # Errors
    /// [`WriteError::FlushStalled`] when the disk makes no progress; otherwise as [`Store::commit`].
    pub fn maintain(&self) -> Result<(), WriteError> {
        let mut writer = self.inner.writer();
        writer.check()?;
        let result = writer.watch.maintain(&self.inner);
        writer.note(result)
    }

    /// The row of a partition; `None` if there is no such partition.
    pub fn partition(&self, partition: PartitionId) -> Option<PartitionRow> {
        self.inner.partitions.read().unwrap_or_else(PoisonError::into_inner).get(&partition).copied()
    }

    /// Whether the log's active memtable may hold something of `partition` below `offset`.
    pub(crate) fn may_be_in_memory_below(&self, partition: PartitionId, offset: Offset) -> bool {
        let in_memory_from = self.inner.in_memory_from.read().unwrap_or_else(PoisonError::into_inner);
        self.inner.holds_recovered.load(Ordering::Relaxed)
            || in_memory_from.get(&partition).is_some_and(|from| *from < offset)
    }

    /// Whether what `partition` holds from `offset` on is in memory, so that reading it waits for no disk.
    pub fn is_in_memory(&self, partition: PartitionId, offset: Offset) -> bool {
        let in_memory_from = self.inner.in_memory_from.read().unwrap_or_else(PoisonError::into_inner);
        in_memory_from.get(&partition).is_some_and(|from| offset >= *from)
    }

    /// All partitions, by id.
    pub fn partitions(&self) -> BTreeMap<PartitionId, PartitionRow> {
        let partitions = self.inner.partitions.read().unwrap_or_else(PoisonError::into_inner);
        partitions.iter().map(|(partition, row)| (*partition, *row)).collect()
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("stats", &self.stats()).finish()
    }
}

impl Inner {
    /// The log's active memtable became a sealed one, which goes to the disk.
    pub(crate) fn log_rotated(&self) {
        self.in_memory_from.write().unwrap_or_else(PoisonError::into_inner).clear();
        self.holds_recovered.store(false, Ordering::Relaxed);
    }

    pub(crate) fn writer(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(|poisoned| {
            // A panic cut a write short: what it left in the journal is unknown.
            let mut writer = poisoned.into_inner();
            let cause = DatabaseError::from(io::Error::other("a panic interrupted a write"));
            writer.failure.get_or_insert(WriteError::Unknown { cause });
            writer
        })
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let mut writer = self.writer();
        if writer.check().is_err() {
            return;
        }
        let synced = writer.sync(self).map_err(|error| error.to_string());
        let synced = synced.and_then(|()| writer.progress.sync().map_err(|error| error.to_string()));
        if let Err(error) = synced {
            tracing::error!(%error, "the last sync of the store failed on closing; unsynced records may be lost");
        }
    }
}

impl Writer {
    fn commit(&mut self, inner: &Inner, batch: Batch, persist: Persist) -> Result<(), WriteError> {
        self.check()?;
        let planned = plan(inner, &batch)?;
        let row = CommitRow {
            sequence: self.sequence + 1,
            previous: self.previous,
            synced: self.synced,
            seqno_floor: inner.db.seqno(),
        };
        let bytes = batch.size_bytes() as u64;
        let change = translate(inner, batch, &planned, row, persist);
        let result = change.commit().map_err(|error| WriteError::Unknown { cause: error.into() });
        self.note(result)?;

        self.sequence = row.sequence;
        self.previous = row.sequence;
        inner.committed.store(row.sequence, Ordering::Relaxed);
        self.watch.wrote(bytes);
        self.apply(inner, planned);
        match persist {
            Persist::Buffer => Ok(()),
            Persist::Sync => self.synced(inner),
        }
    }

    fn sync(&mut self, inner: &Inner) -> Result<(), WriteError> {
        self.check()?;
        if self.synced == self.sequence {
            return Ok(());
        }
        let result = inner.db.persist(PersistMode::SyncData);
        self.note(result.map_err(|error| WriteError::Unknown { cause: error.into() }))?;
        self.synced(inner)
    }

    /// Notes that everything committed so far is durable.
    fn synced(&mut self, inner: &Inner) -> Result<(), WriteError> {
        // A worker may just have failed to sync the same journal. Linux tells that once and gives the data up, so our
        // sync succeeds; and fjall lets go of the journal before it says that a worker failed. Asking once more is cheap.
        self.ask(inner)?;
        self.synced = self.sequence;
        inner.synced.store(self.sequence, Ordering::Relaxed);
        let result = self.progress.append(self.sequence, &self.unsynced);
        self.unsynced.clear();
        // The data is durable, but a later loss of it would go unnoticed: that is not a store to go on with.
        self.note(result.map_err(|error| WriteError::Unknown { cause: DatabaseError::from(error) }))
    }

    /// Asks the database whether one of its workers has failed.
    fn ask(&mut self, inner: &Inner) -> Result<(), WriteError> {
        let answer = inner.db.persist(PersistMode::Buffer);
        self.note(answer.map_err(|error| WriteError::Unknown { cause: error.into() }))
    }

    fn apply(&mut self, inner: &Inner, planned: BTreeMap<PartitionId, Planned>) {
        let mut partitions = inner.partitions.write().unwrap_or_else(PoisonError::into_inner);
        let mut in_memory_from = inner.in_memory_from.write().unwrap_or_else(PoisonError::into_inner);
        for (partition, Planned { row, from, freed_bytes, stale_bytes }) in planned {
            inner.reclaiming.freed(freed_bytes, stale_bytes);
            let advance = match row {
                Some(row) => {
                    partitions.insert(partition, row);
                    in_memory_from.entry(partition).or_insert(from);
                    Advance { from, to: row.next_offset }
                }
                None => {
                    partitions.remove(&partition);
                    in_memory_from.remove(&partition);
                    Advance::DELETED
                }
            };
            self.unsynced
                .entry(partition)
                .and_modify(|before| *before = before.then(advance))
                .or_insert(advance);
        }
    }

    pub(crate) fn check(&self) -> Result<(), WriteError> {
        self.failure.clone().map_or(Ok(()), Err)
    }

    /// Remembers a failure, after which nothing is written any more.
    pub(crate) fn note<T>(&mut self, result: Result<T, WriteError>) -> Result<T, WriteError> {
        if let Err(error) = &result {
            self.failure.get_or_insert_with(|| error.clone());
        }
        result
    }
}

/// What a batch makes of a partition's row: `None` deletes it.
struct Planned {
    row: Option<PartitionRow>,
    /// The partition's end before the batch.
    from: Offset,
    /// Bytes that fell below its low watermark.
    freed_bytes: u64,
    /// Bytes that were replaced or deleted.
    stale_bytes: u64,
}

impl Planned {
    fn of(row: PartitionRow) -> Self {
        Self { row: Some(row), from: row.next_offset, freed_bytes: 0, stale_bytes: 0 }
    }
}

fn plan(inner: &Inner, batch: &Batch) -> Result<BTreeMap<PartitionId, Planned>, WriteError> {
    let partitions = inner.partitions.read().unwrap_or_else(PoisonError::into_inner);
    let mut planned: BTreeMap<PartitionId, Planned> = BTreeMap::new();
    let now = |partition: &PartitionId| partitions.get(partition).copied().unwrap_or_default();
    for append in &batch.appends {
        let plan = planned.entry(append.partition).or_insert_with(|| Planned::of(now(&append.partition)));
        let row = plan.row.get_or_insert_default();
        if append.base_offset < row.next_offset || append.next_offset <= append.base_offset {
            return Err(WriteError::OutOfOrder {
                partition: append.partition,
                base_offset: append.base_offset,
                next_offset: append.next_offset,
                end: row.next_offset,
            });
        }
        row.next_offset = append.next_offset;
        row.newest = Some(append.base_offset);
        row.bytes += append.bytes.len() as u64;
        // What cannot be read is for its reader to report.
        if let Ok(view) = BatchView::new(&append.bytes, Check::Header) {
            row.newest_ms = view.timestamp();
        }
    }
    for (partition, change) in &batch.partitions {
        let plan = planned.entry(*partition).or_insert_with(|| Planned::of(now(partition)));
        if change.delete {
            plan.row = None;
        }
        let Some(row) = &mut plan.row else { continue };
        if let Some(compacted) = change.compacted {
            let CompactedSums { freed_bytes, added_bytes, records, below } = compacted;
            row.bytes = (row.bytes + added_bytes).saturating_sub(freed_bytes);
            row.holes += records;
            if let Some((below, when)) = below {
                row.compacted = row.compacted.max(below);
                row.compacted_ms = when;
            }
            plan.stale_bytes = freed_bytes;
        }
        if let Some(low_watermark) = change.low_watermark {
            let low_watermark = low_watermark.min(row.next_offset);
            if low_watermark > row.low_watermark {
                row.low_watermark = low_watermark;
                row.bytes = row.bytes.saturating_sub(change.freed_bytes);
                row.holes = row.holes.saturating_sub(change.freed_holes);
                plan.freed_bytes = change.freed_bytes;
            }
        }
    }
    Ok(planned)
}

fn translate(
    inner: &Inner,
    batch: Batch,
    planned: &BTreeMap<PartitionId, Planned>,
    commit: CommitRow,
    persist: Persist,
) -> OwnedWriteBatch {
    let Keyspaces { log, state, .. } = &inner.keyspaces;
    let log_items = batch.appends.len() + batch.rewrites.len() + batch.log_removals.len();
    let items = log_items + batch.rows.len() + planned.len() + 1;
    let mut change =
        OwnedWriteBatch::with_capacity(inner.db.clone(), items).durability(Some(match persist {
            Persist::Buffer => PersistMode::Buffer,
            Persist::Sync => PersistMode::SyncData,
        }));
    for append in batch.appends {
        let key = LogKey { partition: append.partition, base_offset: append.base_offset };
        change.insert(log, key.encode(), append.bytes);
    }
    for (partition, Rewrite { base_offset, bytes }) in batch.rewrites {
        let key = LogKey { partition, base_offset }.encode();
        match bytes {
            Some(bytes) => change.insert(log, key, bytes),
            None => change.remove(log, key),
        }
    }
    for key in batch.log_removals {
        change.remove(log, key);
    }
    for ((family, key), value) in batch.rows {
        let keyspace = inner.keyspaces.of(family);
        match value {
            Some(value) => change.insert(keyspace, key, value),
            None => change.remove(keyspace, key),
        }
    }
    for (partition, Planned { row, .. }) in planned {
        let key = crate::keys::encode(&PartitionKey(*partition));
        debug_assert_eq!(key.first(), Some(&PartitionKey::TAG));
        match row {
            Some(row) => change.insert(state, key, row.encode()),
            None => change.remove(state, key),
        }
    }
    change.insert(state, COMMIT_KEY, commit.encode());
    change
}
