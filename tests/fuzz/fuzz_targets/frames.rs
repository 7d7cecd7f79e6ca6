//! Any bytes as a stream of frames, cut anywhere: no panic, and no frame above the limits.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use millstream_wire::{Control, Decoder, FrameLimits, Open, PublishHead, decode_head};

const LIMITS: FrameLimits = FrameLimits { head_bytes_max: 512, body_bytes_max: 4_096 };

fuzz_target!(|input: (u8, &[u8])| {
    let chunk = usize::from(input.0).max(1);
    let mut decoder = Decoder::new(LIMITS);
    for part in input.1.chunks(chunk) {
        decoder.push(Bytes::copy_from_slice(part));
        loop {
            match decoder.next_frame() {
                Ok(Some(frame)) => {
                    assert!(frame.head.len() <= LIMITS.head_bytes_max && frame.body.len() <= LIMITS.body_bytes_max);
                    let _ = decode_head::<Open>(&frame.head);
                    let _ = decode_head::<Control>(&frame.head);
                    let _ = decode_head::<PublishHead>(&frame.head);
                }
                Ok(None) => break,
                Err(_) => return,
            }
        }
    }
    let _ = decoder.finish();
});
