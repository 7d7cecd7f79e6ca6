//! Going through one partition: noting keys, then leaving out what has a newer record of its key behind it.

use std::{
    collections::HashMap,
    ops::Range,
    time::{Duration, Instant},
};

use millstream_store::{PartitionRow, Store};
use millstream_types::{BatchView, Compaction, Offset, PartitionId, RecordBatch, RecordView, Timestamp};
use twox_hash::XxHash3_128;

use super::{Bounds, Due, is_worth, later, left::Left};
use crate::{
    Error, Place,
    command::Command,
    fetch::{self, Source},
};

/// How far a clock may jump ahead without that message ids are forgotten early.
pub(super) const CLOCK_JUMP_MS: u64 = 60 * 60 * 1_000;

/// See the module's head.
#[derive(Debug)]
pub(super) struct Pass {
    place: Place,
    /// Whether it goes through the partition even if it has noted nothing.
    late: bool,
    compaction: Compaction,
    began: Instant,
    now: Timestamp,
    bounds: Bounds,
    keys: Keys,
    /// Whether keys are still being noted.
    noting: bool,
    /// Up to here, where the newest batch was when it began.
    until: Offset,
    /// Where it goes on.
    next: Offset,
    /// Base offset of the first batch that it does not see to.
    end: Offset,
    /// When the oldest tombstone was appended that it leaves.
    tombstone: Option<Timestamp>,
}

/// What a step came to.
#[derive(Debug)]
pub(super) struct Step {
    /// To be carried out before anything else.
    pub(super) command: Option<Command>,
    pub(super) then: Stepped,
}

/// How it goes on after a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stepped {
    More,
    Done,
    /// What came since the last pass must not be touched yet.
    TooYoung,
}

impl Pass {
    pub(super) fn begin(due: Due, row: &PartitionRow, bounds: Bounds, now: Timestamp) -> Result<Self, Error> {
        let Due { place, late } = due;
        let from = row.compacted.max(row.low_watermark);
        tracing::debug!(topic = %place.topic.name(), partition = place.partition, from, "compaction begins");
        Ok(Self {
            compaction: place.topic.compaction(),
            place,
            late,
            began: Instant::now(),
            now,
            bounds,
            keys: Keys::new(bounds.keys)?,
            noting: true,
            until: row.newest.unwrap_or(0),
            next: from,
            end: from,
            tombstone: None,
        })
    }

    pub(super) fn partition(&self) -> PartitionId {
        self.place.id
    }

    /// Whether the topic is not any more what it was.
    pub(super) fn is_outdated(&self) -> bool {
        self.place.topic.is_deleted() || self.place.topic.compaction() != self.compaction
    }

    pub(super) fn took(&self) -> Duration {
        self.began.elapsed()
    }

    pub(super) fn step(&mut self, store: &Store) -> Result<Step, Error> {
        let Some(row) = store.partition(self.place.id) else {
            return Ok(Step { command: None, then: Stepped::Done });
        };
        if !self.noting {
            return self.leave_out(store, &row);
        }
        let young = self.note(store, &row)?;
        let noted = self.end.saturating_sub(row.compacted.max(row.low_watermark));
        let in_vain = young && !self.late && !is_worth(&row, noted);
        Ok(Step { command: None, then: if in_vain { Stepped::TooYoung } else { Stepped::More } })
    }

    /// Notes some keys, unless that is done; whether it comes to an end since what follows is too young.
    fn note(&mut self, store: &Store, row: &PartitionRow) -> Result<bool, Error> {
        let from = self.next.max(row.low_watermark);
        let batches = self.read(store, from, self.until)?;
        if batches.is_empty() {
            self.noting = false;
            self.end = self.end.max(self.until);
            let newest = row.newest.unwrap_or(0);
            for batch in self.read(store, newest, newest + 1)? {
                self.keys.note(&batch.view());
            }
        }
        let window_ms = self.place.topic.dedup_window_ms();
        let mut young = false;
        for batch in batches {
            let view = batch.view();
            // Message ids are looked up in the batches when the broker starts.
            young = window_ms > 0
                && view.is_identified()
                && self.now < later(view.timestamp(), window_ms + CLOCK_JUMP_MS);
            if young || !self.keys.note(&view) {
                self.noting = false;
                break;
            }
            (self.next, self.end) = (view.next_offset(), view.next_offset());
        }
        if !self.noting {
            self.next = row.low_watermark;
        }
        Ok(young)
    }

    fn leave_out(&mut self, store: &Store, row: &PartitionRow) -> Result<Step, Error> {
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
        let then = if done { Stepped::Done } else { Stepped::More };
        let (mut compacted, identified) = left.into_parts();
        compacted.below = done.then_some((self.end, self.now));
        if compacted.rewrites.is_empty() && compacted.below.is_none() {
            return Ok(Step { command: None, then });
        }
        let (partition, compaction) = (self.place.id, self.compaction);
        let command = Command::Compact { partition, compaction, low, compacted, identified };
        Ok(Step { command: Some(command), then })
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
        let source = Source { place: self.place.clone(), from, end, judged_bytes: 0 };
        fetch::read(store, &source, self.bounds.step_bytes)
    }

    /// When the next pass is due at the latest, and whether there are tombstones that wait for it.
    pub(super) fn latest_next(&self, now: Timestamp) -> (Timestamp, bool) {
        let from = self.tombstone.unwrap_or(now);
        (later(from, self.compaction.tombstones_ms), self.tombstone.is_some())
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
