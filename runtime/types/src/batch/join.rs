//! Several small batches as one.

use super::{BatchBuilder, Compression, RecordBatch};
use crate::RecordParts;

impl RecordBatch {
    /// The records of `batches`, whose offsets ascend, as one batch, with the time of the last one; `None` where one batch
    /// cannot hold them: they are too many, too far apart, or compressed. It is no producer's.
    pub fn join(batches: &[Self]) -> Option<Self> {
        let base_offset = batches.first()?.view().record(0)?.offset;
        // Whoever goes by the batch's time takes none of its records for older than it is.
        let timestamp = batches.last()?.view().timestamp();
        let mut joined = BatchBuilder::new().with_stamp(base_offset, timestamp);
        for batch in batches {
            let view = batch.view();
            if view.compression() != Compression::None || view.payloads_omitted() {
                return None;
            }
            for record in view.records() {
                let delta = u32::try_from(record.offset.checked_sub(base_offset)?).ok()?;
                let timestamp_delta = i32::try_from(record.timestamp.checked_sub(timestamp)?).ok()?;
                let parts = RecordParts { timestamp_delta, ..RecordParts::from(&record) };
                joined.push_at(delta, parts).ok()?;
            }
        }
        joined.build().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Record;

    fn batch(base: u64, timestamp: i64, payloads: &[&str]) -> RecordBatch {
        let mut builder = BatchBuilder::new().with_stamp(base, timestamp);
        for payload in payloads {
            let record = Record::new(payload.to_string()).with_key("k").with_header("h", payload.to_string());
            builder.push(&record).unwrap();
        }
        builder.build().unwrap()
    }

    #[test]
    fn records_come_out_as_they_went_in() {
        let all = batch(10, 1_000, &["a", "b", "c"]);
        let parts = [
            all.view().subset(std::slice::from_ref(&(1..3))).unwrap(),
            batch(20, 900, &["d"]),
            batch(25, 1_500, &["e", "f"]),
        ];
        let joined = RecordBatch::join(&parts).unwrap();
        let records =
            |batch: &RecordBatch| batch.view().records().map(|it| it.to_record()).collect::<Vec<_>>();
        assert_eq!(records(&joined), parts.iter().flat_map(records).collect::<Vec<_>>());
        assert_eq!(joined.view().next_offset(), 27);
        assert!(RecordBatch::new(joined.into_bytes(), crate::Check::Full).is_ok());
    }

    #[test]
    fn what_one_batch_cannot_hold_is_left_apart() {
        let first = batch(0, 0, &["a"]);
        assert_eq!(RecordBatch::join(&[first.clone(), batch(1, 77, &["b"])]).unwrap().view().timestamp(), 77);
        for other in [batch(1 << 33, 0, &["b"]), batch(1, 1 << 40, &["b"])] {
            assert_eq!(RecordBatch::join(&[first.clone(), other]), None);
        }
        assert_eq!(RecordBatch::join(&[]), None);
    }
}
