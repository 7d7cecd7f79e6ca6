//! Counters and gauges that operators see beside the broker's own: in `millstream subscription describe`, and at the
//! broker's metrics endpoint.
//!
//! ```
//! use millstream_sdk::prelude::*;
//!
//! #[filter]
//! fn late(record: &Record) -> Result<bool, PayloadError> {
//!     let flight: Value = record.json()?;
//!     let late = flight["delay"].as_i64() > Some(60);
//!     metrics::add("late_flights", late.into());
//!     Ok(late)
//! }
//!
//! test::run::<late>(json!({}), [test::record().json(&json!({"delay": 75}))]);
//! assert_eq!(test::metrics().counters["late_flights"], 1);
//! ```
//!
//! Names are a letter or `_`, then those and digits, 64 bytes at most. A module keeps at most 64; what is beyond, or has no such
//! name, is counted as left out. What was counted in a call that fails does not count; records that are judged again count
//! again. The broker is told once a batch, so a change costs some nanoseconds.

use std::cell::{Cell, RefCell};

use millstream_types::ModuleMetrics;

#[cfg(target_arch = "wasm32")]
use crate::guest::host_metrics as host;
#[cfg(not(target_arch = "wasm32"))]
use crate::test::host_metrics as host;

thread_local! {
    /// Of the batch in progress.
    static CHANGED: RefCell<ModuleMetrics> = RefCell::default();
    /// Set by whoever counts, so that a module that counts nothing does not import the interface.
    static AT_END: Cell<Option<fn()>> = const { Cell::new(None) };
}

/// Adds to the counter called `name`.
pub fn add(name: &str, by: u64) {
    if !change(|changed| changed.add(name, by)) {
        host::add(name, by);
    }
}

/// Sets the gauge called `name`.
pub fn set(name: &str, to: f64) {
    if !change(|changed| changed.set(name, to)) {
        host::set(name, to);
    }
}

/// What was counted so far does not count: it was not in a batch.
pub(crate) fn forget() {
    CHANGED.take();
}

/// Tells the broker what was counted in a batch.
pub(crate) fn end_batch() {
    if let Some(tell) = AT_END.get() {
        tell();
    }
}

/// Whether it took; what does not is the broker's to count.
fn change(change: impl FnOnce(&mut ModuleMetrics)) -> bool {
    AT_END.set(Some(tell));
    CHANGED.with_borrow_mut(|changed| {
        let before = changed.left_out;
        change(changed);
        changed.left_out == before
    })
}

fn tell() {
    let changed = CHANGED.take();
    changed.counters.iter().for_each(|(name, by)| host::add(name, *by));
    changed.gauges.iter().for_each(|(name, to)| host::set(name, *to));
}
