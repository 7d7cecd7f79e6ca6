//! What is being measured right now, on standard error and only for a person.

use std::io::{IsTerminal as _, Write as _};

/// Says on one line, overwritten by the next, what runs.
pub(crate) fn say(text: &str) {
    let stderr = std::io::stderr();
    if stderr.is_terminal() {
        // Nobody misses a progress line that cannot be written.
        let _ = write!(stderr.lock(), "\r\x1b[2K{text}");
    }
}

/// Removes the line.
pub(crate) fn clear() {
    say("");
}
