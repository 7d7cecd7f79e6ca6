//! Compaction: of the records of a key only the newest in its partition stays.
//!
//! A partition is seen to in passes, once about half of it was appended since the last one: so what a pass costs is in
//! proportion to what was appended. A pass notes where the newest record of each key is, of what was appended since; then it
//! goes through the partition from its oldest record on, and leaves out what has a newer one behind it. What it leaves of
//! small batches it joins. The newest batch stays as it is: recovery looks for it.
//!
//! A pass is made of short steps, for the thread that does other things beside it (`upkeep.rs`). It notes no more keys than fit
//! its memory: what is behind those is left to the next pass.

use std::{
    collections::{HashMap, VecDeque},
    ops::Range,
    sync::Arc,
    time::Instant,
};

use millstream_store::{Batch, Compacted, IdentifiedBatch, PartitionRow, Rewrite, Store};
use millstream_types::{
    BatchView, Check, Compaction, Compression, Offset, PartitionId, RecordBatch, RecordView, Timestamp,
};
use twox_hash::XxHash3_128;

use crate::{
    Error, Topic,
    catalog::Catalog,
    command::{Command, Outcome},
    limits::{COMPACTED_BYTES, COMPACTED_KEYS_MAX, COMPACTION_REST, COMPACTION_STEP_BYTES, SMALL_BYTES},
    shard::Shard,
};

impl Shard {
    /// Whether that was done: not when something changed since it was decided.
    pub(crate) fn compact(
        &mut self,
        partition: PartitionId,
        compaction: Compaction,
        low: Offset,
        compacted: Compacted,
        identified: &[Offset],
        batch: &mut Batch,
    ) -> bool {
        let Some(state) = self.partitions.get_mut(&partition) else { return false };
        let newest_stays = compacted.below.is_none_or(|below| below <= state.next)
            && compacted.rewrites.iter().all(|rewrite| rewrite.base_offset < state.next);
        if state.compaction != compaction || state.low != low || !newest_stays {
            return false;
        }
        for &base_offset in identified {
            batch.remove(&IdentifiedBatch { partition, base_offset });
        }
        batch.compact(partition, compacted);
        true
    }
}

/// How far a clock may jump ahead without that message ids are forgotten early.
const CLOCK_JUMP_MS: u64 = 60 * 60 * 1_000;

/// Sees to the partitions of compacted topics, one after the other.
#[derive(Debug)]
pub(crate) struct Compactor {
    store: Store,
    due: VecDeque<Due>,
    pass: Option<Pass>,
    bounds: Bounds,
    /// When a partition is due whatever was appended: so that tombstones go, and what they delete.
    latest: HashMap<PartitionId, Timestamp>,
}

#[derive(Debug, Clone, Copy)]
struct Bounds {
    /// Keys that a pass notes.
    keys: usize,
    /// Bytes that a step reads.
    step_bytes: usize,
    /// About how large joined batches are.
    joined_bytes: usize,
    /// From how many bytes on a batch is joined with no other unless something is left out of it.
    large_bytes: usize,
}

const BOUNDS: Bounds = Bounds {
    keys: COMPACTED_KEYS_MAX,
    step_bytes: COMPACTION_STEP_BYTES,
    joined_bytes: COMPACTED_BYTES,
    large_bytes: SMALL_BYTES,
};

#[derive(Debug)]
struct Due {
    topic: Arc<Topic>,
    partition: PartitionId,
    /// Whether that is so whatever was appended.
    late: bool,
}

impl Compactor {
    pub(crate) fn new(store: Store) -> Self {
        Self { store, due: VecDeque::new(), pass: None, bounds: BOUNDS, latest: HashMap::new() }
    }

    /// Whether there is something to do.
    pub(crate) fn is_busy(&self) -> bool {
        self.pass.is_some() || !self.due.is_empty()
    }

    /// Looks which partitions are due, unless it still has some to see to.
    pub(crate) fn look(&mut self, catalog: &Catalog, now: Timestamp) {
        if self.is_busy() {
            return;
        }
        let mut before = std::mem::take(&mut self.latest);
        for topic in catalog.topics() {
            let compaction = topic.compaction();
            if !compaction.enabled {
                continue;
            }
            for partition in topic.partitions() {
                let Some(row) = self.store.partition(*partition) else { continue };
                let fresh = fresh(&row);
                if fresh == 0 && row.compacted == 0 {
                    continue;
                }
                // Only what is still there is remembered.
                let latest = before.remove(partition).unwrap_or_else(|| later(now, compaction.tombstones_ms));
                self.latest.insert(*partition, latest);
                let late = now >= latest;
                if late || is_worth(&row, fresh) {
                    self.due.push_back(Due { topic: Arc::clone(&topic), partition: *partition, late });
                }
            }
        }
    }

    /// Does a step, and has `execute` carry out what it decided. Blocks for the disk.
    ///
    /// # Errors
    /// Why the pass was given up: it is begun anew later.
    pub(crate) fn step(
        &mut self,
        now: Timestamp,
        execute: impl FnOnce(Command) -> Result<Outcome, Error>,
    ) -> Result<(), Error> {
        let mut pass = match self.pass.take() {
            Some(pass) => pass,
            None => {
                let Some(due) = self.due.pop_front() else { return Ok(()) };
                let Some(row) = self.store.partition(due.partition) else { return Ok(()) };
                Pass::begin(due, &row, self.bounds, now)?
            }
        };
        if pass.topic.is_deleted() || pass.topic.compaction() != pass.compaction {
            return Ok(());
        }
        let step = pass.step(&self.store)?;
        if let Some(command) = step.command
            && execute(command)? != Outcome::Count(1)
        {
            return Ok(());
        }
        match step.done {
            false => self.pass = Some(pass),
            true => drop(self.latest.insert(pass.partition, pass.latest_next(now))),
        }
        Ok(())
    }
}

/// Records that no pass has seen, without the newest batch.
fn fresh(row: &PartitionRow) -> u64 {
    row.newest.unwrap_or(0).saturating_sub(row.compacted.max(row.low_watermark))
}

/// Whether there are as many of them as others.
fn is_worth(row: &PartitionRow, fresh: u64) -> bool {
    let newest = row.next_offset - row.newest.unwrap_or(row.next_offset);
    fresh > 0 && fresh >= row.records().saturating_sub(fresh + newest)
}

fn later(now: Timestamp, ms: u64) -> Timestamp {
    now.saturating_add(Timestamp::try_from(ms).unwrap_or(Timestamp::MAX))
}

/// Going through one partition.
#[derive(Debug)]
struct Pass {
    topic: Arc<Topic>,
    partition: PartitionId,
    /// Whether it goes through the partition even if it has noted nothing.
    late: bool,
    compaction: Compaction,
    began: Instant,
    now: Timestamp,
    bounds: Bounds,
    keys: Keys,
    /// Whether keys are still being noted.
    noting: bool,
    /// Where it goes on.
    next: Offset,
    /// Base offset of the first batch that it does not see to.
    end: Offset,
    /// When the oldest tombstone was appended that it leaves.
    tombstone: Option<Timestamp>,
}

/// What a step came to.
#[derive(Debug, Default)]
struct Stepped {
    /// To be carried out before the next one.
    command: Option<Command>,
    done: bool,
}

impl Pass {
    fn begin(due: Due, row: &PartitionRow, bounds: Bounds, now: Timestamp) -> Result<Self, Error> {
        let Due { topic, partition, late } = due;
        let from = row.compacted.max(row.low_watermark);
        tracing::debug!(topic = %topic.name(), %partition, from, "compaction begins");
        Ok(Self {
            compaction: topic.compaction(),
            topic,
            partition,
            late,
            began: Instant::now(),
            now,
            bounds,
            keys: Keys::new(bounds.keys)?,
            noting: true,
            next: from,
            end: from,
            tombstone: None,
        })
    }

    fn step(&mut self, store: &Store) -> Result<Stepped, Error> {
        let Some(row) = store.partition(self.partition) else {
            return Ok(Stepped { command: None, done: true });
        };
        if self.noting {
            let any = self.note(store, &row)?;
            return Ok(Stepped { command: None, done: !self.noting && !any && !self.late });
        }
        self.leave_out(store, &row)
    }

    /// Notes some keys, unless that is done; whether there are any records that it sees to for the first time.
    fn note(&mut self, store: &Store, row: &PartitionRow) -> Result<bool, Error> {
        let newest = row.newest.unwrap_or(0);
        let from = self.next.max(row.low_watermark);
        let batches = self.read(store, from, newest)?;
        if batches.is_empty() {
            self.noting = false;
            for batch in self.read(store, newest, newest + 1)? {
                self.keys.note(&batch.view());
            }
        }
        let remembered_ms = match self.topic.dedup_window_ms() {
            0 => 0,
            window_ms => window_ms + CLOCK_JUMP_MS,
        };
        for batch in batches {
            let view = batch.view();
            // Message ids are looked up in the batches when the broker starts.
            let young = view.is_identified() && self.now < later(view.timestamp(), remembered_ms);
            if young || !self.keys.note(&view) {
                self.noting = false;
                break;
            }
            (self.next, self.end) = (view.next_offset(), view.next_offset());
        }
        let any = self.end > row.compacted.max(row.low_watermark);
        if !self.noting {
            self.next = row.low_watermark;
        }
        Ok(any)
    }

    fn leave_out(&mut self, store: &Store, row: &PartitionRow) -> Result<Stepped, Error> {
        let low = row.low_watermark;
        let from = self.next.max(low);
        let batches = self.read(store, from, self.end)?;
        let mut left = Left::new(self.bounds);
        for batch in &batches {
            self.next = batch.view().next_offset();
            let kept = self.kept(batch);
            left.take(batch, kept)?;
        }
        left.end_run()?;
        let done = batches.is_empty() || self.next >= self.end;
        let Left { mut compacted, identified, .. } = left;
        compacted.below = (done && self.end > row.compacted).then_some(self.end);
        if compacted.rewrites.is_empty() && compacted.below.is_none() {
            return Ok(Stepped { command: None, done });
        }
        let Self { partition, compaction, .. } = *self;
        let command = Command::Compact { partition, compaction, low, compacted, identified };
        Ok(Stepped { command: Some(command), done })
    }

    /// Which records of a batch stay.
    fn kept(&mut self, batch: &RecordBatch) -> Vec<Range<usize>> {
        let mut kept: Vec<Range<usize>> = Vec::new();
        for (index, record) in batch.view().records().enumerate() {
            if !self.stays(&record) {
                continue;
            }
            match kept.last_mut() {
                Some(run) if run.end == index => run.end += 1,
                _ => kept.push(index..index + 1),
            }
        }
        kept
    }

    fn stays(&mut self, record: &RecordView<'_>) -> bool {
        let Some(key) = record.key else { return true };
        if self.keys.newest(key).is_some_and(|newest| newest > record.offset) {
            return false;
        }
        if record.payload.is_some() {
            return true;
        }
        // Nothing older of its key is left: it went in this pass or in one before.
        let stays = self.now < later(record.timestamp, self.compaction.tombstones_ms);
        if stays {
            self.tombstone = Some(self.tombstone.map_or(record.timestamp, |at| at.min(record.timestamp)));
        }
        stays
    }

    fn read(&self, store: &Store, from: Offset, end: Offset) -> Result<Vec<RecordBatch>, Error> {
        let stored = store.read(self.partition, from, end, self.bounds.step_bytes)?;
        let checked = stored.into_iter().map(|stored| {
            RecordBatch::new(stored.bytes, Check::Crc).map_err(|cause| Error::CorruptBatch {
                topic: self.topic.name().clone(),
                partition: self.topic.index_of(self.partition),
                offset: stored.base_offset,
                cause,
            })
        });
        checked.collect()
    }

    /// When the next pass is due at the latest.
    fn latest_next(&self, now: Timestamp) -> Timestamp {
        let due = later(self.tombstone.unwrap_or(now), self.compaction.tombstones_ms);
        let rest = (self.began.elapsed() * COMPACTION_REST.1).max(COMPACTION_REST.0);
        due.max(later(now, u64::try_from(rest.as_millis()).unwrap_or(u64::MAX)))
    }
}

/// Where the newest record of each key is.
#[derive(Debug)]
struct Keys {
    /// By a hash of 128 bits: two keys share one by no chance that counts. Nobody knows the seed, and so can bring it about.
    seed: u64,
    newest: HashMap<[u64; 2], Offset>,
    max: usize,
}

impl Keys {
    fn new(max: usize) -> Result<Self, Error> {
        let seed =
            getrandom::u64().map_err(|error| Error::Internal(format!("no random numbers: {error}")))?;
        Ok(Self { seed, newest: HashMap::new(), max })
    }

    /// Notes the keys of a batch, behind all that were noted; false where there is no room for all of them.
    fn note(&mut self, view: &BatchView<'_>) -> bool {
        for record in view.records() {
            let Some(key) = record.key else { continue };
            let hash = self.hash(key);
            if self.newest.len() >= self.max && !self.newest.contains_key(&hash) {
                return false;
            }
            self.newest.insert(hash, record.offset);
        }
        true
    }

    fn newest(&self, key: &[u8]) -> Option<Offset> {
        self.newest.get(&self.hash(key)).copied()
    }

    fn hash(&self, key: &[u8]) -> [u64; 2] {
        let hash = XxHash3_128::oneshot_with_seed(self.seed, key);
        [hash as u64, (hash >> 64) as u64]
    }
}

/// What is left of batches, and what becomes of those by that.
#[derive(Debug)]
struct Left {
    bounds: Bounds,
    compacted: Compacted,
    /// Batches that go or are replaced, and whose message ids may be remembered.
    identified: Vec<Offset>,
    /// Small batches, one behind the other, that may be joined.
    run: Vec<Part>,
    run_bytes: usize,
}

/// What is left of one batch.
#[derive(Debug)]
struct Part {
    base_offset: Offset,
    stored_bytes: usize,
    identified: bool,
    /// Whether something was left out.
    changed: bool,
    /// With plain payloads.
    batch: RecordBatch,
    compression: Compression,
}

impl Left {
    fn new(bounds: Bounds) -> Self {
        let compacted = Compacted::default();
        Self { bounds, compacted, identified: Vec::new(), run: Vec::new(), run_bytes: 0 }
    }

    fn take(&mut self, batch: &RecordBatch, kept: Vec<Range<usize>>) -> Result<(), Error> {
        let view = batch.view();
        let (base_offset, stored_bytes) = (view.base_offset(), batch.as_bytes().len());
        let identified = view.is_identified();
        let records: usize = kept.iter().map(ExactSizeIterator::len).sum();
        let changed = records < view.len();
        self.compacted.records += (view.len() - records) as u64;
        if records == 0 {
            self.replace(base_offset, stored_bytes, identified, None);
            return Ok(());
        }
        if !changed && stored_bytes >= self.bounds.large_bytes {
            return self.end_run();
        }
        let compression = view.compression();
        if self.run.first().is_some_and(|first| first.compression != compression) {
            self.end_run()?;
        }
        let plain = batch.decompressed()?;
        let part = if changed { plain.view().subset(&kept)? } else { plain };
        self.run_bytes += part.as_bytes().len();
        self.run.push(Part { base_offset, stored_bytes, identified, changed, batch: part, compression });
        if self.run_bytes >= self.bounds.joined_bytes { self.end_run() } else { Ok(()) }
    }

    /// Joins what can be joined.
    fn end_run(&mut self) -> Result<(), Error> {
        let run = std::mem::take(&mut self.run);
        self.run_bytes = 0;
        let joined = match run.as_slice() {
            [] | [_] => None,
            parts => {
                let batches: Vec<_> = parts.iter().map(|part| part.batch.clone()).collect();
                RecordBatch::join(&batches)
            }
        };
        let (Some(joined), Some(first)) = (joined, run.first()) else {
            for part in run.into_iter().filter(|part| part.changed) {
                let batch = part.batch.compressed(part.compression)?;
                self.replace(part.base_offset, part.stored_bytes, part.identified, Some(batch));
            }
            return Ok(());
        };
        let joined = joined.compressed(first.compression)?;
        // It begins with the first record that is left.
        let begin = joined.view().base_offset();
        for part in &run {
            let batch = (part.base_offset == begin).then(|| joined.clone());
            self.replace(part.base_offset, part.stored_bytes, part.identified, batch);
        }
        if run.iter().all(|part| part.base_offset != begin) {
            self.replace(begin, 0, false, Some(joined));
        }
        Ok(())
    }

    fn replace(&mut self, base_offset: Offset, bytes: usize, identified: bool, by: Option<RecordBatch>) {
        self.compacted.freed_bytes += bytes as u64;
        self.identified.extend(identified.then_some(base_offset));
        let bytes = by.map(RecordBatch::into_bytes);
        self.compacted.rewrites.push(Rewrite { base_offset, bytes });
    }
}

#[cfg(test)]
mod tests;
