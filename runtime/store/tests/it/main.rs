//! The store from outside: what goes in comes out, in one piece, also after the worst.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod damage;
mod directory;
mod disk_full;
mod failed_io;
mod flush;
mod harness;
mod kill;
mod log;
mod power_loss;
mod reopen;
mod retention;
mod rows;
mod shadow;
mod sweep;
mod traps;
mod workload;
