//! Any bytes as a record batch: read unchecked they give nonsense and no panic; checked in full, everything can be read.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use millstream_types::{BatchView, Check, RecordBatch};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(view) = BatchView::new(bytes, Check::Header) {
        for record in view.records() {
            drop(record.to_record());
        }
        let _ = view.subset(&[0..view.len()]);
        let _ = view.write_slice(0..view.len().min(3), false, &mut Vec::new());
    }
    if let Ok(batch) = RecordBatch::new(Bytes::copy_from_slice(bytes), Check::Full) {
        assert!((0..batch.view().len()).all(|index| batch.view().record(index).is_some()));
        if let Ok(plain) = batch.decompressed() {
            RecordBatch::new(plain.into_bytes(), Check::Full).expect("decompressed, it is a batch still");
        }
    }
});
