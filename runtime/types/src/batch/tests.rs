//! Round trips, subsets, compression, and hostile bytes.

use bytes::Bytes;
use proptest::prelude::*;

use super::{BatchBuilder, BatchError, BatchView, Check, Compression, RecordBatch};
use crate::{Header, ProducerStamp, Record};

fn record() -> impl Strategy<Value = Record> {
    let bytes = |max| prop::collection::vec(any::<u8>(), 0..max).prop_map(Bytes::from);
    let header = ("[a-zA-Z-]{1,12}", bytes(30)).prop_map(|(name, value)| Header { name, value });
    (
        prop::option::of(bytes(20)),
        prop::collection::vec(header, 0..5),
        prop::option::weighted(0.9, bytes(200)),
        prop::option::of(bytes(20)),
        prop::option::of(any::<i64>()),
        prop::option::of(any::<i64>()),
    )
        .prop_map(|(key, headers, payload, message_id, deliver_at, expires_at)| Record {
            key,
            headers,
            payload,
            message_id,
            deliver_at,
            expires_at,
            ..Record::default()
        })
}

fn records() -> impl Strategy<Value = Vec<Record>> {
    prop::collection::vec(record(), 1..30)
}

fn build(records: &[Record], compression: Compression) -> RecordBatch {
    let producer = ProducerStamp { id: 7, epoch: 3, sequence: 11 };
    let mut builder = BatchBuilder::new().with_compression(compression).with_producer(producer);
    for record in records {
        builder.push(record).unwrap();
    }
    let plain_len = builder.bytes_len();
    let batch = builder.build().unwrap();
    if compression == Compression::None {
        assert_eq!(batch.as_bytes().len(), plain_len);
    }
    batch
}

fn stamped(records: &[Record], base: u64, timestamp: i64) -> Vec<Record> {
    let stamp = |(index, record): (usize, &Record)| Record {
        offset: base + index as u64,
        timestamp,
        ..record.clone()
    };
    records.iter().enumerate().map(stamp).collect()
}

proptest! {
    #[test]
    fn what_is_compressed_again_is_the_same(records in records(), codec in 1u8..3, keep in 0..30usize) {
        let codec = Compression::from_tag(codec).unwrap();
        let plain = build(&records, codec).decompressed().unwrap().stamped(5, 77);
        let keep = keep.min(records.len() - 1);
        let part = plain.view().subset(std::slice::from_ref(&(keep..records.len()))).unwrap();
        let again = part.compressed(codec).unwrap();
        prop_assert!(again.as_bytes().len() <= part.as_bytes().len());
        let again = RecordBatch::new(again.into_bytes(), Check::Full).unwrap();
        prop_assert_eq!(again.decompressed().unwrap(), part);
    }

    #[test]
    fn round_trip(records in records(), base in 0..u64::MAX / 2, timestamp: i64, codec in 0u8..3) {
        let batch = build(&records, Compression::from_tag(codec).unwrap()).stamped(base, timestamp);
        let batch = RecordBatch::new(batch.into_bytes(), Check::Full).unwrap();
        prop_assert!(batch.view().is_dense());
        prop_assert_eq!(batch.view().base_offset(), base);
        prop_assert_eq!(batch.view().next_offset(), base + records.len() as u64);
        prop_assert_eq!(batch.view().producer(), ProducerStamp { id: 7, epoch: 3, sequence: 11 });
        let plain = batch.decompressed().unwrap();
        let plain = RecordBatch::new(plain.into_bytes(), Check::Full).unwrap();
        let found: Vec<_> = plain.view().records().map(|record| record.to_record()).collect();
        prop_assert_eq!(found, stamped(&records, base, timestamp));
    }

    #[test]
    fn subsets_are_batches(records in records(), chosen in prop::collection::vec(any::<bool>(), 30)) {
        let batch = build(&records, Compression::None).stamped(1_000, 5);
        let ranges: Vec<_> = (0..records.len()).filter(|&index| chosen[index]).map(|index| index..index + 1).collect();
        let subset = batch.view().subset(&ranges).unwrap();
        let subset = RecordBatch::new(subset.into_bytes(), Check::Full).unwrap();
        let wanted: Vec<_> = stamped(&records, 1_000, 5).into_iter().enumerate()
            .filter(|(index, _)| chosen[*index]).map(|(_, record)| record).collect();
        let found: Vec<_> = subset.view().records().map(|record| record.to_record()).collect();
        prop_assert_eq!(&found, &wanted);
        for record in &wanted {
            let index = subset.view().index_of(record.offset);
            prop_assert_eq!(subset.view().record(index).unwrap().offset, record.offset);
        }
    }

    #[test]
    fn slices_leave_payloads_out(records in records(), from in 0usize..30, len in 0usize..30) {
        let batch = build(&records, Compression::None).stamped(1_000, 5);
        let from = from.min(records.len() - 1);
        let range = from..(from + len).min(records.len());
        for payloads in [false, true] {
            let mut out = Vec::new();
            batch.view().write_slice(range.clone(), payloads, &mut out).unwrap();
            let view = BatchView::new(&out, Check::Header).unwrap();
            prop_assert_eq!(view.payloads_omitted(), !payloads);
            let wanted = &stamped(&records, 1_000, 5)[range.clone()];
            prop_assert_eq!(view.len(), wanted.len());
            for (found, wanted) in view.records().zip(wanted) {
                prop_assert_eq!(found.key, wanted.key.as_deref());
                prop_assert_eq!(found.headers.to_headers(), wanted.headers.clone());
                prop_assert_eq!(found.payload_len, wanted.payload.as_ref().map_or(0, Bytes::len));
                if payloads {
                    prop_assert_eq!(found.payload, wanted.payload.as_deref());
                }
            }
        }
    }

    #[test]
    fn damage_is_found(records in records(), codec in 0u8..3, at in any::<prop::sample::Index>(), bit in 0u8..8) {
        let mut bytes = build(&records, Compression::from_tag(codec).unwrap()).into_bytes().to_vec();
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        let stamps = 32..48;
        prop_assert_eq!(RecordBatch::new(Bytes::from(bytes.clone()), Check::Full).is_ok(), stamps.contains(&at));
        // Unchecked reading gives nonsense, never a panic.
        if let Ok(view) = BatchView::new(&bytes, Check::Header) {
            view.records().for_each(|record| drop(record.to_record()));
            let first = 0..1;
            let _ = view.subset(std::slice::from_ref(&first));
            let _ = RecordBatch::trusted(Bytes::from(bytes.clone())).decompressed();
        }
        prop_assert!(RecordBatch::new(Bytes::from(bytes[..at].to_vec()), Check::Full).is_err());
    }

    #[test]
    fn sealed_nonsense_is_refused_or_readable(records in records(), changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4)) {
        let mut bytes = build(&records, Compression::None).into_bytes().to_vec();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        super::builder::seal(&mut bytes);
        if let Ok(view) = BatchView::new(&bytes, Check::Full) {
            prop_assert_eq!(view.records().count(), view.len());
            for index in 0..view.len() {
                prop_assert!(view.record(index).is_some());
            }
        }
    }
}

#[test]
fn limits_are_named() {
    let mut builder = BatchBuilder::new();
    let error = builder.push(&Record::new("x").with_key(vec![0; 40_000])).unwrap_err();
    assert_eq!(error.to_string(), "key is 40000, above the limit of 32768");
    assert!(builder.is_empty());
    assert_eq!(builder.build().unwrap_err(), BatchError::Empty);
    assert_eq!(
        BatchView::new(b"MSRB", Check::Full).unwrap_err(),
        BatchError::Truncated { wanted: 64, found: 4 }
    );
}

#[test]
fn a_small_file_does_not_become_a_large_allocation() {
    let mut bytes = build(&[Record::new("x")], Compression::Zstd).into_bytes().to_vec();
    bytes[20..24].copy_from_slice(&u32::MAX.to_le_bytes());
    super::builder::seal(&mut bytes);
    assert!(matches!(BatchView::new(&bytes, Check::Full), Err(BatchError::Limit { .. })));
}

/// Found by the fuzz target `batch`.
#[test]
fn a_part_of_a_malformed_batch_is_refused() {
    let batch = build(&[Record::new("x"), Record::new("y")], Compression::None);
    let parts = [0..1, 1..2];
    for row_field in [68, 72, 80, 84] {
        let mut bytes = batch.as_bytes().to_vec();
        bytes[row_field..row_field + 4].copy_from_slice(&u32::MAX.to_le_bytes());
        let view = BatchView::new(&bytes, Check::Header).unwrap();
        let all = 0..2;
        for payloads in [true, false] {
            let mut out = Vec::new();
            // Refused, or as small as it came; never a panic, nor memory that was only announced.
            let _ = view.write_ranges(&parts, payloads, &mut out);
            assert!(out.capacity() < 4_096);
        }
        if row_field >= 80 {
            assert!(view.subset(std::slice::from_ref(&all)).is_err());
        }
    }
}
