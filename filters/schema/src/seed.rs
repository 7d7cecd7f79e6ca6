//! Where the hash tables of the validator get their seed from: there is no randomness in a module, and none is wanted. The
//! order of a table does not show in a verdict, and a call's CPU time is bounded whatever collides.

use getrandom_03::Error;

#[expect(unsafe_code, reason = "the interface that getrandom has for targets without randomness")]
#[unsafe(no_mangle)]
unsafe extern "Rust" fn __getrandom_v03_custom(dest: *mut u8, len: usize) -> Result<(), Error> {
    // SAFETY: the caller hands over `len` bytes to be written.
    unsafe { std::ptr::write_bytes(dest, 0x5a, len) };
    Ok(())
}
