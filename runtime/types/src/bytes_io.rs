//! Little-endian reads that answer `None` past the end, and the matching writes.

/// A cursor over bytes whose every read is bounds-checked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    #[inline]
    pub(crate) fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(len)?;
        self.rest = rest;
        Some(taken)
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.rest.split_first_chunk::<N>()?;
        self.rest = rest;
        Some(*taken)
    }

    #[inline]
    pub(crate) fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    #[inline]
    pub(crate) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    #[inline]
    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    #[inline]
    pub(crate) fn i64(&mut self) -> Option<i64> {
        self.array().map(i64::from_le_bytes)
    }

    #[inline]
    pub(crate) fn i32(&mut self) -> Option<i32> {
        self.array().map(i32::from_le_bytes)
    }

    /// A `u32` length and as many bytes.
    #[inline]
    pub(crate) fn block(&mut self) -> Option<&'a [u8]> {
        let len = self.u32()?;
        self.take(len as usize)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.rest.len()
    }
}

/// Whether `a` and `b` are the same. Reads words, since the `memcmp` of a WebAssembly module goes byte by byte.
#[inline]
pub fn same_bytes(a: &[u8], b: &[u8]) -> bool {
    if a.len() != b.len() {
        return false;
    }
    let ((a_words, a_rest), (b_words, b_rest)) = (a.as_chunks::<8>(), b.as_chunks::<8>());
    let word = |chunk: &[u8; 8]| u64::from_le_bytes(*chunk);
    if a_words.iter().zip(b_words).any(|(a, b)| word(a) != word(b)) {
        return false;
    }
    let start = |rest: &[u8]| rest.first_chunk::<4>().map(|chunk| u32::from_le_bytes(*chunk));
    let end = |rest: &[u8]| rest.last_chunk::<4>().map(|chunk| u32::from_le_bytes(*chunk));
    match a_rest.len() {
        0 => true,
        // The two overlap.
        4.. => start(a_rest) == start(b_rest) && end(a_rest) == end(b_rest),
        _ => a_rest.iter().zip(b_rest).all(|(a, b)| a == b),
    }
}

/// The `u32` at `at`, or `None` past the end.
#[inline]
pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|chunk| u32::from_le_bytes(*chunk))
}

/// The `u64` at `at`, or `None` past the end.
#[inline]
pub(crate) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().map(|chunk| u64::from_le_bytes(*chunk))
}

/// A length that the limits keep below 4 GiB.
#[inline]
pub(crate) fn len_u32(len: usize) -> u32 {
    u32::try_from(len).expect("the limits keep every region below 4 GiB")
}

/// Appends a `u32` length and the bytes.
#[inline]
pub(crate) fn put_block(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&len_u32(bytes.len()).to_le_bytes());
    out.extend_from_slice(bytes);
}

/// Appends a list of headers: a `u16` count, then for each a `u16` name length, a `u32` value length, name, value.
pub(crate) fn put_headers<'a>(
    out: &mut Vec<u8>,
    headers: impl ExactSizeIterator<Item = (&'a str, &'a [u8])>,
) {
    let count = u16::try_from(headers.len()).expect("checked against HEADERS_MAX");
    out.extend_from_slice(&count.to_le_bytes());
    for (name, value) in headers {
        let name_len = u16::try_from(name.len()).expect("checked against HEADER_NAME_BYTES_MAX");
        out.extend_from_slice(&name_len.to_le_bytes());
        out.extend_from_slice(&len_u32(value.len()).to_le_bytes());
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(value);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn one_byte_makes_a_difference_wherever_it_is() {
        for len in 0..40 {
            let a: Vec<u8> = (0..len).collect();
            assert!(same_bytes(&a, &a.clone()));
            for at in 0..a.len() {
                let mut b = a.clone();
                b[at] ^= 0x80;
                assert!(!same_bytes(&a, &b), "{len} bytes, another one at {at}");
            }
            assert!(!same_bytes(&a, &[a.as_slice(), &[0]].concat()));
        }
    }

    proptest! {
        #[test]
        fn the_same_bytes_are_equal(a in prop::collection::vec(0..2u8, 0..20), b in prop::collection::vec(0..2u8, 0..20)) {
            prop_assert_eq!(same_bytes(&a, &b), a == b);
        }
    }
}
