//! Bytes to send: the same on every run, and not compressible.

use bytes::Bytes;

/// `len` bytes from a xorshift generator that starts at `seed`.
pub(crate) fn noise(len: usize, seed: u64) -> Bytes {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut out = Vec::with_capacity(len + 8);
    while out.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        out.extend_from_slice(&state.to_le_bytes());
    }
    out.truncate(len);
    out.into()
}

#[cfg(test)]
mod tests {
    use super::noise;

    #[test]
    fn noise_has_its_length_and_differs_by_seed() {
        assert_eq!(noise(0, 1).len(), 0);
        assert_eq!(noise(1_025, 1).len(), 1_025);
        assert_eq!(noise(64, 7), noise(64, 7));
        assert_ne!(noise(64, 7), noise(64, 9));
    }
}
