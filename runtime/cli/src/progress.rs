//! Progress on standard error, when that is a terminal.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// A bar up to `bytes`, or a spinner when their number is unknown. Draws nothing unless standard error is a terminal.
pub(crate) fn bar(bytes: Option<u64>) -> ProgressBar {
    let (bar, style) = match bytes {
        Some(bytes) => (
            ProgressBar::new(bytes),
            "{wide_bar:.cyan/dim} {bytes}/{total_bytes} {bytes_per_sec} {msg} ETA {eta}",
        ),
        None => (ProgressBar::no_length(), "{spinner:.cyan} {msg} {elapsed}"),
    };
    bar.set_draw_target(ProgressDrawTarget::stderr_with_hz(10));
    bar.set_style(ProgressStyle::with_template(style).expect("the templates above are well formed"));
    bar
}

/// A spinner that turns by itself while `what` is done.
pub(crate) fn spinner(what: impl Into<String>) -> ProgressBar {
    let bar = bar(None);
    bar.set_message(what.into());
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}
