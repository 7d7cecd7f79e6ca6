//! Lines that modules write: cut, rate-limited, handed to whoever bound the module.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

pub use millstream_types::ModuleLogLevel as LogLevel;

use crate::limits::{Limits, PANIC_AGAIN};

/// One line that a module wrote.
#[derive(Debug, Clone, Copy)]
pub struct LogLine<'a> {
    /// Its importance.
    pub level: LogLevel,
    /// Its text, at most [`Limits::log_line_bytes`] long. May hold any characters.
    pub text: &'a str,
    /// Lines left out before this one because there were too many.
    pub left_out: u64,
}

/// Where a module's lines go; called on the thread that runs the module, so it must be quick.
#[derive(Clone)]
pub struct LogSink(Arc<dyn Fn(LogLine<'_>) + Send + Sync>);

impl LogSink {
    /// Lines go to `write`.
    pub fn new(write: impl Fn(LogLine<'_>) + Send + Sync + 'static) -> Self {
        Self(Arc::new(write))
    }

    /// Lines go nowhere.
    pub fn none() -> Self {
        Self::new(|_| {})
    }
}

impl fmt::Debug for LogSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LogSink")
    }
}

/// Lets so many lines a second through, and twice as many at once.
#[derive(Debug)]
pub(crate) struct Log {
    sink: LogSink,
    line_bytes: u32,
    per_second: u32,
    left: f64,
    counted_at: Instant,
    left_out: u64,
    /// The last panic that was told, and when.
    panic: Option<Box<(String, Instant)>>,
}

impl Log {
    pub(crate) fn new(sink: LogSink, limits: &Limits) -> Self {
        let per_second = limits.log_lines_per_second;
        Self {
            sink,
            line_bytes: u32::try_from(limits.log_line_bytes).unwrap_or(u32::MAX),
            per_second,
            left: f64::from(per_second) * 2.0,
            counted_at: Instant::now(),
            left_out: 0,
            panic: None,
        }
    }

    /// Hands one line on, cut, or counts it as left out. Of panics one a second goes on, however many lines there were; the same
    /// one is not repeated: a batch is divided until its cause is found, and each part panics.
    pub(crate) fn write(&mut self, level: LogLevel, text: &str) {
        let now = Instant::now();
        let text = cut(text, self.line_bytes as usize);
        let recent = self.panic.as_deref().filter(|(_, at)| now - *at < PANIC_AGAIN);
        let is_panic = level == LogLevel::Panic;
        if is_panic && self.left_out == 0 && recent.is_some_and(|(told, _)| told == text) {
            return;
        }
        let per_second = f64::from(self.per_second);
        let gained = now.duration_since(self.counted_at).as_secs_f64() * per_second;
        self.left = (self.left + gained).min(per_second * 2.0);
        self.counted_at = now;
        if self.left < 1.0 && (!is_panic || recent.is_some()) {
            self.left_out += 1;
            return;
        }
        if is_panic {
            self.panic = Some(Box::new((text.to_owned(), now)));
        }
        self.left = (self.left - 1.0).max(0.0);
        let left_out = std::mem::take(&mut self.left_out);
        (self.sink.0)(LogLine { level, text, left_out });
    }
}

/// The start of `text` that fits `bytes`, ending between characters.
pub(crate) fn cut(text: &str, bytes: usize) -> &str {
    text.get(..text.floor_char_boundary(bytes)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[test]
    fn the_same_panic_is_told_once_and_others_do_not_flood() {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&lines);
        let sink = LogSink::new(move |line| {
            kept.lock().expect("nobody panics").push((line.level, line.text.to_owned(), line.left_out));
        });
        let mut log = Log::new(sink, &Limits { log_lines_per_second: 1, ..Limits::default() });
        for text in ["a", "a", "a", "b", "b"] {
            log.write(LogLevel::Panic, text);
        }
        // No lines are left but for a panic, and that was just now.
        (log.left, log.per_second) = (0.0, 0);
        for text in ["a", "b", "a"] {
            log.write(LogLevel::Panic, text);
            log.write(LogLevel::Info, text);
        }
        if let Some(panic) = &mut log.panic {
            panic.1 = panic.1.checked_sub(PANIC_AGAIN).expect("a clock");
        }
        log.write(LogLevel::Panic, "b");
        let line = |text: &str, left_out| (LogLevel::Panic, text.to_owned(), left_out);
        assert_eq!(*lines.lock().expect("nobody panics"), [line("a", 0), line("b", 0), line("b", 6)]);
    }
}
