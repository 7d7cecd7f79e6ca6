//! Where a new subscription starts.

use millstream_store::Store;
use millstream_types::{Check, Offset, PartitionId, RecordBatch, StartAt, Timestamp};

use crate::{Error, Topic, rows::CursorRow};

pub(crate) fn start_positions(store: &Store, topic: &Topic, from: &StartAt) -> Result<Vec<CursorRow>, Error> {
    let highest =
        (0..topic.config().partitions).map(|partition| topic.end(partition)).max().unwrap_or_default();
    let start = |(partition, id): (u32, &PartitionId)| {
        let end = topic.end(partition);
        let settled = match from {
            StartAt::Earliest => 0,
            StartAt::Latest => end,
            StartAt::Offset(offset) if *offset > highest => {
                return Err(Error::OffsetOutOfRange {
                    topic: topic.name().clone(),
                    offset: *offset,
                    end: highest,
                });
            }
            StartAt::Offset(offset) => (*offset).min(end),
            StartAt::Offsets(offsets) => match offsets.get(partition as usize) {
                Some(offset) => (*offset).min(end),
                None => {
                    return Err(Error::StartOffsets {
                        found: offsets.len(),
                        partitions: topic.config().partitions,
                    });
                }
            },
            StartAt::Time(time) => offset_at_time(store, *id, end, *time)?,
        };
        Ok(CursorRow { settled, routed: settled })
    };
    (0..).zip(topic.partitions()).map(start).collect()
}

/// The first batch appended at or after `time`, by bisection: timestamps do not run backwards within a partition.
fn offset_at_time(
    store: &Store,
    partition: PartitionId,
    end: Offset,
    time: Timestamp,
) -> Result<Offset, Error> {
    let (mut low, mut high) = (0, end);
    while low < high {
        let middle = low + (high - low) / 2;
        let Some(stored) = store.batch_at(partition, middle)? else { return Ok(high) };
        let batch = RecordBatch::new(stored.bytes, Check::Header)?;
        if batch.view().timestamp() < time {
            low = batch.view().next_offset().max(middle + 1);
        } else {
            high = stored.base_offset.max(low);
        }
    }
    Ok(high)
}
