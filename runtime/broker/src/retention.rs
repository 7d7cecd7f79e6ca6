//! Retention: which batches of a partition its topic's limits let go.
//!
//! A thread looks at the log (`upkeep.rs`), since only that knows where batches begin; the shard raises the low watermark. So
//! nothing is kept in memory for it, the committer reads nothing, and the thread may take its time.

use std::{collections::HashMap, ops::Range};

use millstream_store::{Batch, PartitionRow, Store, Topic as TopicKey};
use millstream_types::{
    BatchView, Check, Offset, PartitionId, RecordBatch, Retention, Timestamp, TopicChange, TopicName,
};

use crate::{
    Error, Place,
    command::Outcome,
    fetch::{Fetched, Source},
    limits::{CUT_BATCHES_MAX, CUT_BYTES_MAX},
    rows,
    shard::{Effect, Shard},
};

impl Shard {
    pub(crate) fn update_topic(
        &mut self,
        name: &TopicName,
        changes: &[TopicChange],
        batch: &mut Batch,
        effects: &mut Vec<Effect>,
    ) -> Result<Outcome, Error> {
        let row = self.topics.get_mut(name).ok_or_else(|| Error::UnknownTopic(name.clone()))?;
        let mut config = row.config.clone();
        changes.iter().for_each(|change| config.apply(*change));
        config.rate.check()?;
        if row.config == config {
            return Ok(Outcome::Done);
        }
        row.config = config;
        batch.put(&TopicKey(name.clone()), rows::encode(row));
        for partition in &row.partitions {
            if let Some(state) = self.partitions.get_mut(partition) {
                state.retention = row.config.retention;
                state.compaction = row.config.compaction;
            }
        }
        effects.push(Effect::TopicUpdated { name: name.clone(), config: row.config.clone() });
        Ok(Outcome::Done)
    }

    pub(crate) fn raise_low_watermark(
        &mut self,
        partition: PartitionId,
        retention: Retention,
        gone: Range<Offset>,
        (freed_bytes, freed_holes): (u64, u64),
        batch: &mut Batch,
    ) -> Outcome {
        let Some(state) = self.partitions.get_mut(&partition) else { return Outcome::Done };
        // Decided before something changed: it is decided anew.
        let holds = state.retention == retention && state.low == gone.start;
        if holds && gone.start < gone.end && gone.end < state.next {
            state.low = gone.end;
            batch.raise_low_watermark(partition, gone.end, freed_bytes, freed_holes);
        }
        Outcome::Done
    }
}

/// Batches of a partition that go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cut {
    /// The low watermark, from which on they go.
    pub(crate) from: Offset,
    /// Base offset of the first batch that stays.
    pub(crate) to: Offset,
    pub(crate) freed_bytes: u64,
    /// Records that compaction had deleted there.
    pub(crate) freed_holes: u64,
    /// Whether more may go: a step is bounded.
    pub(crate) more: bool,
}

/// When the oldest batch kept of each partition was appended, with its offset: so that what is not due costs no read.
pub(crate) type Oldest = HashMap<PartitionId, (Offset, Timestamp)>;

/// The oldest batches of `partition` that `retention` lets go at `now`: each of them is too old, or has enough bytes or
/// records behind it. The newest batch stays.
pub(crate) fn cut(
    store: &Store,
    partition: PartitionId,
    retention: Retention,
    now: Timestamp,
    oldest: &mut Oldest,
) -> Result<Option<Cut>, Error> {
    let Some(row) = store.partition(partition) else { return Ok(None) };
    let from = row.low_watermark;
    let Some(newest) = row.newest.filter(|newest| *newest > from) else { return Ok(None) };
    let by_age = match retention.age_ms {
        Some(age_ms) => {
            let age_ms = Timestamp::try_from(age_ms.get()).unwrap_or(Timestamp::MAX);
            too_old(store, partition, &row, from..newest, now.saturating_sub(age_ms), oldest)?
        }
        None => from,
    };
    let spare_bytes = retention.bytes.map_or(0, |keep| row.bytes.saturating_sub(keep.get()));
    let spare_records = retention.records.map_or(0, |keep| row.records().saturating_sub(keep.get()));
    if by_age <= from && spare_bytes == 0 && spare_records == 0 {
        return Ok(None);
    }
    let mut cut = Cut { from, to: from, freed_bytes: 0, freed_holes: 0, more: false };
    let mut freed_records = 0;
    let mut sizes = store.sizes(partition, from, newest + 1).enumerate().peekable();
    while let Some((step, size)) = sizes.next() {
        let (base_offset, bytes) = size?;
        cut.to = base_offset;
        if base_offset >= newest {
            break;
        }
        // Where compaction has deleted nothing, a batch goes on to the next one.
        let records = match sizes.peek() {
            Some((_, Ok((next, _)))) if row.holes == 0 => next - base_offset,
            _ => records_in(store, partition, base_offset)?,
        };
        let goes = base_offset < by_age
            || cut.freed_bytes + bytes <= spare_bytes
            || freed_records + records <= spare_records;
        cut.more = goes && (step >= CUT_BATCHES_MAX || (row.holes > 0 && cut.freed_bytes >= CUT_BYTES_MAX));
        if !goes || cut.more {
            break;
        }
        cut.freed_bytes += bytes;
        freed_records += records;
    }
    cut.freed_holes = if row.holes == 0 { 0 } else { (cut.to - from).saturating_sub(freed_records) };
    Ok((cut.freed_bytes > 0).then_some(cut))
}

fn records_in(store: &Store, partition: PartitionId, base_offset: Offset) -> Result<u64, Error> {
    let batch = store.batch_at(partition, base_offset)?;
    let batch = batch.map(|batch| RecordBatch::new(batch.bytes, Check::Header)).transpose()?;
    Ok(batch.map_or(0, |batch| batch.view().len() as u64))
}

/// Base offset of the first batch in `within` that was appended at `before` or later.
fn too_old(
    store: &Store,
    partition: PartitionId,
    row: &PartitionRow,
    within: Range<Offset>,
    before: Timestamp,
    oldest: &mut Oldest,
) -> Result<Offset, Error> {
    let oldest_ms = match oldest.get(&partition) {
        Some((offset, appended_ms)) if *offset == within.start => *appended_ms,
        _ => match store.read(partition, within.start, Offset::MAX, 0)?.first() {
            Some(batch) => BatchView::new(&batch.bytes, Check::Header)?.timestamp(),
            None => return Ok(within.start),
        },
    };
    oldest.insert(partition, (within.start, oldest_ms));
    if oldest_ms >= before {
        Ok(within.start)
    } else if row.newest_ms < before {
        Ok(within.end)
    } else {
        offset_at_time(store, partition, within, before)
    }
}

/// The first batch in `within` appended at or after `time`, by bisection: timestamps do not run backwards within a
/// partition. Of joined batches that is the one whose newest record was.
pub(crate) fn offset_at_time(
    store: &Store,
    partition: PartitionId,
    within: Range<Offset>,
    time: Timestamp,
) -> Result<Offset, Error> {
    let (mut low, mut high) = (within.start, within.end);
    while low < high {
        let middle = low + (high - low) / 2;
        let Some(stored) = store.batch_at(partition, middle)? else {
            // Compaction may have deleted everything up to there.
            low = middle + 1;
            continue;
        };
        let batch = RecordBatch::new(stored.bytes, Check::Header)?;
        if batch.view().timestamp() < time {
            low = batch.view().next_offset().max(middle + 1);
        } else {
            high = stored.base_offset.max(low);
        }
    }
    Ok(high)
}

/// Tells a reader, and the log, that records were deleted before they were read. `found` is where there are records.
pub(crate) fn note_missed(fetched: &mut Fetched, store: &Store, source: &Source, found: Offset) {
    let (Place { topic, partition, index, id, .. }, from) = (&source.place, source.from);
    // Looked up after the read: so that all that it left out for this reason is counted.
    let to = store.partition(*id).map_or(0, |row| row.low_watermark).min(found);
    if to <= from {
        return;
    }
    tracing::warn!(topic = %topic.name(), partition, from, to, "retention deleted records before they were read");
    fetched.counted.missed += to - from;
    fetched.progress(*index, to);
}

#[cfg(test)]
mod tests;
