//! Where a new subscription starts.

use millstream_store::Store;
use millstream_types::{PartitionId, StartAt};

use crate::{Error, Place, retention::offset_at_time, rows::CursorRow, sources::Sources};

/// One cursor for each partition that is read.
pub(crate) fn start_positions(
    store: &Store,
    sources: &Sources,
    from: &StartAt,
) -> Result<Vec<(PartitionId, CursorRow)>, Error> {
    let highest = sources.places().map(|place| place.end()).max().unwrap_or_default();
    let partitions = sources.len();
    let one = matches!(sources, Sources::One(_));
    let start = |place: Place| {
        let (id, end) = (place.id, place.end());
        let earliest = store.partition(id).map_or(0, |row| row.low_watermark).min(end);
        let settled = match from {
            StartAt::Earliest => earliest,
            StartAt::Latest => end,
            StartAt::Offset(offset) if *offset > highest => {
                return Err(Error::OffsetOutOfRange {
                    topic: place.topic.name().clone(),
                    offset: *offset,
                    end: highest,
                });
            }
            StartAt::Offset(offset) => (*offset).clamp(earliest, end),
            // Of a reader that goes on: what it missed is told when it reads.
            StartAt::Offsets(offsets) => match offsets.get(place.index as usize) {
                Some(offset) => (*offset).min(end),
                None => return Err(Error::StartOffsets { found: offsets.len(), partitions }),
            },
            StartAt::Places(places) => {
                let named = places.iter().find(|(number, _)| *number == place.number());
                named.map_or(0, |(_, offset)| (*offset).min(end))
            }
            StartAt::Time(time) => offset_at_time(store, id, earliest..end, *time)?,
        };
        Ok((id, CursorRow { settled, routed: settled }))
    };
    if !one && matches!(from, StartAt::Offset(_) | StartAt::Offsets(_)) {
        return Err(Error::StartByOffset);
    }
    sources.places().map(start).collect()
}
