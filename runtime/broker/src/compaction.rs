//! Compaction: of the records of a key only the newest in its partition stays.
//!
//! A partition is seen to in passes, once about half of it was appended since the last one: so what a pass costs is in
//! proportion to what was appended. A pass notes where the newest record of each key is, of what was appended since; then it
//! goes through the partition from its oldest record on, and leaves out what has a newer one behind it. What it leaves of
//! small batches it joins. The newest batch stays as it is: recovery looks for it.
//!
//! A pass is made of short steps, for the thread that does other things beside it (`upkeep.rs`). It notes no more keys than fit
//! its memory: what is behind those is left to the next pass. Small partitions need not wait for a large one: there is a
//! pass for either.

mod left;
mod pass;

use std::{
    collections::{HashMap, VecDeque},
    time::{Duration, Instant},
};

use millstream_store::{Batch, Compacted, IdentifiedBatch, PartitionRow, Store};
use millstream_types::{Compaction, Offset, PartitionId, Timestamp};

use crate::{
    Error, Place,
    catalog::Catalog,
    command::{Command, Outcome},
    limits::{
        COMPACTED_BYTES, COMPACTED_KEYS_MAX, COMPACTION_LARGE_BYTES, COMPACTION_REST, COMPACTION_STEP_BYTES,
        SMALL_BYTES,
    },
    shard::Shard,
};
use pass::{Pass, Stepped};

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
        let newest_stays = compacted.below.is_none_or(|(below, _)| below <= state.next)
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

/// Sees to the partitions of compacted topics.
#[derive(Debug)]
pub(crate) struct Compactor {
    store: Store,
    small: Line,
    large: Line,
    /// Whether it was the turn of the large ones.
    turn: bool,
    bounds: Bounds,
    seen: HashMap<PartitionId, Seen>,
}

/// Partitions that are seen to one after the other.
#[derive(Debug, Default)]
struct Line {
    due: VecDeque<Due>,
    pass: Option<Pass>,
}

#[derive(Debug)]
struct Due {
    place: Place,
    /// Whether that is so whatever was appended.
    late: bool,
}

/// What is known of a partition.
#[derive(Debug, Clone, Copy)]
struct Seen {
    /// When it is due whatever was appended, so that tombstones go, and what they delete.
    latest: Timestamp,
    /// Whether there may be tombstones.
    tombstones: bool,
    /// It is not due for that reason before this.
    late_from: Instant,
    /// Nor for any before this.
    from: Instant,
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
    /// How long at least a partition is let alone when a pass was in vain, and how many times as long as it took.
    rest: (Duration, u32),
}

const BOUNDS: Bounds = Bounds {
    keys: COMPACTED_KEYS_MAX,
    step_bytes: COMPACTION_STEP_BYTES,
    joined_bytes: COMPACTED_BYTES,
    large_bytes: SMALL_BYTES,
    rest: COMPACTION_REST,
};

impl Compactor {
    pub(crate) fn new(store: Store) -> Self {
        let (small, large, seen) = (Line::default(), Line::default(), HashMap::new());
        Self { store, small, large, turn: false, bounds: BOUNDS, seen }
    }

    /// Whether there is something to do.
    pub(crate) fn is_busy(&self) -> bool {
        self.small.is_busy() || self.large.is_busy()
    }

    /// Looks which partitions are due: the small ones unless there are still some to see to, and the large ones as well.
    pub(crate) fn look(&mut self, catalog: &Catalog, now: Timestamp) {
        let (small, large) = (self.small.is_busy(), self.large.is_busy());
        let moment = Instant::now();
        let mut before = std::mem::take(&mut self.seen);
        for topic in catalog.topics() {
            let compaction = topic.compaction();
            if !compaction.enabled {
                continue;
            }
            for (index, &partition) in (0..).zip(topic.partitions()) {
                let Some(row) = self.store.partition(partition) else { continue };
                let fresh = fresh(&row);
                if fresh == 0 && row.compacted == 0 {
                    continue;
                }
                // Only what is still there is remembered.
                let latest = later(now.min(row.compacted_ms), compaction.tombstones_ms);
                let new = Seen { latest, tombstones: true, late_from: moment, from: moment };
                let mut seen = before.remove(&partition).unwrap_or(new);
                seen.latest = seen.latest.min(later(now, compaction.tombstones_ms));
                self.seen.insert(partition, seen);
                let late = now >= seen.latest && moment >= seen.late_from && (fresh > 0 || seen.tombstones);
                let (line, busy) = match row.bytes >= COMPACTION_LARGE_BYTES {
                    true => (&mut self.large, large),
                    false => (&mut self.small, small),
                };
                if !busy && moment >= seen.from && (late || is_worth(&row, fresh)) {
                    let Ok(place) = Place::of_one(&topic, index) else { continue };
                    line.due.push_back(Due { place, late });
                }
            }
        }
    }

    /// Does a step, and has `execute` carry out what it decided. Blocks for the disk.
    ///
    /// # Errors
    /// Why a pass was given up: it is begun anew later.
    pub(crate) fn step(
        &mut self,
        now: Timestamp,
        execute: impl FnOnce(Command) -> Result<Outcome, Error>,
    ) -> Result<(), Error> {
        self.turn = if self.turn { !self.small.is_busy() } else { self.large.is_busy() };
        let line = if self.turn { &mut self.large } else { &mut self.small };
        let Some(mut pass) = line.next_pass(&self.store, self.bounds, now)? else { return Ok(()) };
        let partition = pass.partition();
        if pass.is_outdated() {
            return Ok(());
        }
        let rest = |pass: &Pass| {
            Instant::now() + pass.took().saturating_mul(self.bounds.rest.1).max(self.bounds.rest.0)
        };
        let step = pass.step(&self.store).and_then(|step| {
            let done = match step.command {
                Some(command) => execute(command)? == Outcome::Count(1),
                None => true,
            };
            Ok((step.then, done))
        });
        let let_alone = |seen: &mut Seen| seen.from = rest(&pass);
        match step {
            // Something has changed meanwhile.
            Ok((_, false)) => {}
            Ok((Stepped::More, true)) => line.pass = Some(pass),
            Ok((Stepped::Done, true)) => {
                let (latest, tombstones) = pass.latest_next(now);
                let late_from = rest(&pass);
                self.seen.insert(partition, Seen { latest, tombstones, late_from, from: Instant::now() });
            }
            Ok((Stepped::TooYoung, true)) => self.seen.get_mut(&partition).into_iter().for_each(let_alone),
            Err(error) => {
                self.seen.get_mut(&partition).into_iter().for_each(let_alone);
                return Err(error);
            }
        }
        Ok(())
    }
}

impl Line {
    fn is_busy(&self) -> bool {
        self.pass.is_some() || !self.due.is_empty()
    }

    fn next_pass(&mut self, store: &Store, bounds: Bounds, now: Timestamp) -> Result<Option<Pass>, Error> {
        if let Some(pass) = self.pass.take() {
            return Ok(Some(pass));
        }
        let due = self.due.pop_front().and_then(|due| Some((store.partition(due.place.id)?, due)));
        due.map(|(row, due)| Pass::begin(due, &row, bounds, now)).transpose()
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

#[cfg(test)]
mod tests;
