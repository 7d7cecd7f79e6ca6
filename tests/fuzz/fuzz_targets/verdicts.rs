//! Any bytes as a verdict buffer: refused, or as many verdicts as announced.
#![no_main]

use libfuzzer_sys::fuzz_target;
use millstream_types::{Verdict, VerdictsView};

fuzz_target!(|input: (u8, &[u8])| {
    let (records, bytes) = (usize::from(input.0), input.1);
    if let Ok(verdicts) = VerdictsView::new(bytes, records) {
        let mut seen = 0;
        for verdict in verdicts.iter() {
            seen += 1;
            if let Verdict::Emit(outputs) = verdict {
                assert_eq!(outputs.iter().count(), outputs.len());
            }
        }
        assert_eq!(seen, records);
    }
});
