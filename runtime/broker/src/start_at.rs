//! Where a new subscription starts.

use millstream_store::Store;
use millstream_types::{PartitionId, StartAt};

use crate::{Error, Topic, retention::offset_at_time, rows::CursorRow};

pub(crate) fn start_positions(store: &Store, topic: &Topic, from: &StartAt) -> Result<Vec<CursorRow>, Error> {
    let highest =
        (0..topic.config().partitions).map(|partition| topic.end(partition)).max().unwrap_or_default();
    let start = |(partition, id): (u32, &PartitionId)| {
        let end = topic.end(partition);
        let earliest = store.partition(*id).map_or(0, |row| row.low_watermark).min(end);
        let settled = match from {
            StartAt::Earliest => earliest,
            StartAt::Latest => end,
            StartAt::Offset(offset) if *offset > highest => {
                return Err(Error::OffsetOutOfRange {
                    topic: topic.name().clone(),
                    offset: *offset,
                    end: highest,
                });
            }
            StartAt::Offset(offset) => (*offset).clamp(earliest, end),
            // Of a reader that goes on: what it missed is told when it reads.
            StartAt::Offsets(offsets) => match offsets.get(partition as usize) {
                Some(offset) => (*offset).min(end),
                None => {
                    return Err(Error::StartOffsets {
                        found: offsets.len(),
                        partitions: topic.config().partitions,
                    });
                }
            },
            StartAt::Time(time) => offset_at_time(store, *id, earliest..end, *time)?,
        };
        Ok(CursorRow { settled, routed: settled })
    };
    (0..).zip(topic.partitions()).map(start).collect()
}
