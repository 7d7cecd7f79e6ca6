//! Working: records leased down one stream, what became of them up, and all of it again after a reconnect.

mod leased;
mod options;
mod state;
mod task;
mod worker;

pub use leased::Leased;
pub use options::WorkOptions;
pub use state::Settled;
pub use worker::{Settler, Worker};
