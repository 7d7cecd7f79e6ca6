//! What the modules on a topic's ingest made of a batch, as the shard appends it.

use std::ops::Range;

use millstream_engine::Delivery;
use millstream_types::{
    BatchBuilder, BatchError, BatchView, ProducerStamp, RecordBatch, RecordView, Unstored,
    limits::{BATCH_BYTES_MAX, BATCH_RECORDS_MAX},
};

use crate::message_ids::{self, Id};

/// See the module's head.
#[derive(Debug, Clone)]
pub(crate) struct Judged {
    /// As the batch was marked.
    pub(crate) stamp: ProducerStamp,
    /// As many as it had.
    pub(crate) records: u32,
    /// What is to be stored, in order; each with offsets that run from 0.
    pub(crate) batches: Vec<RecordBatch>,
    /// Of each record of `batches`, the position of the one that it was made of, ascending. `None` where that is the batch as it was.
    pub(crate) sources: Option<Vec<u32>>,
    /// Of which nothing is to be stored, ascending.
    pub(crate) unstored: Vec<Refused>,
}

/// A record of which nothing is to be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refused {
    /// In the batch, from 0.
    pub(crate) position: u32,
    /// Hashed.
    pub(crate) message_id: Option<Id>,
    pub(crate) why: Unstored,
}

impl Judged {
    /// All of `batch`, as it is.
    pub(crate) fn untouched(batch: RecordBatch) -> Self {
        let view = batch.view();
        let (stamp, records) = (view.producer(), count(view.len()));
        Self { stamp, records, batches: vec![batch], sources: None, unstored: Vec::new() }
    }

    /// What it counts on its way into the store, bytes.
    pub(crate) fn size_bytes(&self) -> usize {
        let batches: usize = self.batches.iter().map(|batch| batch.as_bytes().len()).sum();
        batches + self.sources.as_ref().map_or(0, Vec::len) * size_of::<u32>() + self.unstored.len() * 64
    }
}

/// Puts together what runs over `batch` brought. Of `plain`, the same batch with payloads that can be read, records go on that
/// were kept; `unstored` are those that were refused, ascending. And how many records are stored otherwise than they were.
pub(super) fn put_together(
    batch: &RecordBatch,
    plain: &RecordBatch,
    runs: Vec<(Range<usize>, Delivery)>,
    unstored: Vec<(u32, Unstored)>,
) -> Result<(Judged, u64), BatchError> {
    let view = batch.view();
    let mut out = Out::new(&view);
    let plain = plain.decompressed()?;
    let source = plain.view();
    for (done, delivery) in runs {
        match delivery {
            Delivery::Nothing => {}
            Delivery::Untouched => {
                for position in done {
                    let record = source.record(position);
                    record.iter().try_for_each(|record| out.push(count(position), record, true))?;
                }
            }
            Delivery::Batches(batches) => {
                for made in batches {
                    let made = made.decompressed()?;
                    let view = made.view();
                    for record in view.records() {
                        // Offsets are those of the sources.
                        let position = record.offset.saturating_sub(source.base_offset());
                        let position = u32::try_from(position).unwrap_or(u32::MAX);
                        let before = source.record(position as usize);
                        out.push(position, &record, before.is_some_and(|before| same(&before, &record)))?;
                    }
                }
            }
        }
    }
    out.finish()?;
    let Out { batches, sources, changed, .. } = out;
    let mut refused = Vec::new();
    let (mut known, mut stored) = (unstored.into_iter().peekable(), sources.iter().copied().peekable());
    for position in 0..count(source.len()) {
        let why = known.next_if(|(at, _)| *at == position).map(|(_, why)| why);
        let mut is_stored = false;
        while stored.next_if_eq(&position).is_some() {
            is_stored = true;
        }
        if !is_stored {
            let record = source.record(position as usize);
            let message_id = record.and_then(|record| record.message_id).map(message_ids::hash);
            refused.push(Refused { position, message_id, why: why.unwrap_or(Unstored::Dropped) });
        }
    }
    let (stamp, records) = (view.producer(), count(view.len()));
    Ok((Judged { stamp, records, batches, sources: Some(sources), unstored: refused }, changed))
}

/// What is to be stored, as it comes.
struct Out {
    builder: BatchBuilder,
    batches: Vec<RecordBatch>,
    sources: Vec<u32>,
    /// Records that are stored otherwise than they were.
    changed: u64,
    /// The source of the last record, and whether it counts among those.
    last: Option<(u32, bool)>,
}

impl Out {
    fn new(view: &BatchView<'_>) -> Self {
        let builder = BatchBuilder::new().with_compression(view.compression()).with_producer(view.producer());
        Self { builder, batches: Vec::new(), sources: Vec::new(), changed: 0, last: None }
    }

    /// Adds what was made of the record at position `source`, which is the `same` or not.
    fn push(&mut self, source: u32, record: &RecordView<'_>, same: bool) -> Result<(), BatchError> {
        let full = self.builder.bytes_len() + bytes_of(record) > BATCH_BYTES_MAX
            || self.builder.len() >= BATCH_RECORDS_MAX;
        if full && !self.builder.is_empty() {
            self.batches.push(self.builder.build()?);
        }
        self.builder.push(record)?;
        self.sources.push(source);
        let counted = self.last.filter(|(last, _)| *last == source).map(|(_, counted)| counted);
        // Several of one are a change, whatever the first is.
        let changes = counted.is_some() || !same;
        self.changed += u64::from(changes && counted != Some(true));
        self.last = Some((source, changes));
        Ok(())
    }

    /// Ends the last batch.
    fn finish(&mut self) -> Result<(), BatchError> {
        if !self.builder.is_empty() {
            self.batches.push(self.builder.build()?);
        }
        Ok(())
    }
}

/// Whether consumers see the same of both.
fn same(a: &RecordView<'_>, b: &RecordView<'_>) -> bool {
    (a.key, a.payload) == (b.key, b.payload) && a.headers.iter().eq(b.headers.iter())
}

/// About the bytes that `record` takes in a batch, never fewer.
fn bytes_of(record: &RecordView<'_>) -> usize {
    const FIXED: usize = 64;
    const PER_HEADER: usize = 6;
    let headers: usize =
        record.headers.iter().map(|(name, value)| PER_HEADER + name.len() + value.len()).sum();
    let len = |part: Option<&[u8]>| part.map_or(0, <[u8]>::len);
    FIXED + headers + len(record.key) + len(record.payload) + len(record.message_id)
}

fn count(records: usize) -> u32 {
    u32::try_from(records).expect("a batch has at most 65,536 records")
}

#[cfg(test)]
mod tests {
    use millstream_types::{Compression, Record};

    use super::*;

    fn batch(payloads: &[&str], compression: Compression) -> RecordBatch {
        let stamp = ProducerStamp { id: 7, epoch: 1, sequence: 9 };
        let mut builder = BatchBuilder::new().with_compression(compression).with_producer(stamp);
        for payload in payloads {
            builder.push(&Record::new(payload.to_string()).with_header("h", "1")).unwrap();
        }
        builder.build().unwrap()
    }

    /// Records at the offsets of their sources.
    fn made(records: &[(u32, &str)]) -> Delivery {
        let mut builder = BatchBuilder::new();
        for (source, payload) in records {
            builder.push_at(*source, &Record::new(payload.to_string()).with_header("h", "1")).unwrap();
        }
        Delivery::Batches(vec![builder.build().unwrap()])
    }

    fn rejected(position: u32) -> (u32, Unstored) {
        (position, Unstored::Rejected { module: "m@1".into(), reason: "no".into() })
    }

    #[test]
    fn what_is_left_is_dense_marked_and_compressed_as_it_was() {
        for compression in [Compression::None, Compression::Lz4, Compression::Zstd] {
            let batch = batch(&["a", "b", "c", "d", "e", "f"], compression);
            let plain = batch.decompressed().unwrap();
            let runs = vec![
                (0..1, Delivery::Untouched),
                (1..2, Delivery::Nothing),
                (2..5, made(&[(2, "c"), (3, "d"), (3, "d"), (4, "other")])),
            ];
            // The last was not judged: it is known to be at fault.
            let (judged, changed) =
                put_together(&batch, &plain, runs, vec![rejected(1), rejected(5)]).unwrap();
            assert_eq!((judged.records, changed), (6, 2), "several of one, and another payload");
            assert_eq!(judged.sources.as_deref(), Some([0, 2, 3, 3, 4].as_slice()));
            let unstored: Vec<_> = judged.unstored.iter().map(|it| (it.position, it.why.clone())).collect();
            assert_eq!(unstored, [rejected(1), rejected(5)]);
            let [left] = judged.batches.as_slice() else { panic!("one batch") };
            assert!(left.view().is_dense());
            assert_eq!(
                (left.view().producer(), left.view().compression()),
                (batch.view().producer(), compression)
            );
            let left = left.decompressed().unwrap();
            let payloads: Vec<_> = left.view().records().map(|record| record.payload.unwrap()).collect();
            assert_eq!(payloads, [&b"a"[..], b"c", b"d", b"d", b"other"]);
        }
    }

    #[test]
    fn nothing_left_is_no_batch_and_much_is_several() {
        let batch = batch(&["a", "b"], Compression::None);
        let dropped = vec![(0..2, Delivery::Nothing)];
        let (judged, _) = put_together(&batch, &batch, dropped, vec![rejected(1)]).unwrap();
        assert!(judged.batches.is_empty() && judged.sources == Some(Vec::new()));
        assert_eq!(judged.unstored[0].why, Unstored::Dropped);
        let large = "x".repeat(300_000);
        let (judged, _) =
            put_together(&batch, &batch, vec![(0..2, made(&[(0, large.as_str()); 9]))], Vec::new()).unwrap();
        assert_eq!(judged.batches.iter().map(|batch| batch.view().len()).collect::<Vec<_>>(), [3, 3, 3]);
        assert!(judged.batches.iter().all(|batch| batch.as_bytes().len() <= BATCH_BYTES_MAX));
        assert_eq!(judged.unstored.iter().map(|it| it.position).collect::<Vec<_>>(), [1]);
    }
}
