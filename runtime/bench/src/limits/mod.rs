//! The limits beside which Millstream is read: see the head of the crate for what each one is.

mod committer;
mod disk;
mod fjall_log;
mod quic;
pub(crate) mod quic_server;
mod skeleton;
pub(crate) mod skeleton_server;

pub(crate) use disk::{disk_buffered, disk_sync};
pub(crate) use fjall_log::{fjall_buffered, fjall_sync};
pub(crate) use quic::{Echo, echo, quic_down, quic_up};
pub(crate) use skeleton::{Load, skeleton};

/// When an append is answered, in Millstream's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Durability {
    /// Once it is synced.
    Sync,
    /// Once the operating system has it.
    Interval,
}

impl Durability {
    pub(crate) const ALL: [Self; 2] = [Self::Sync, Self::Interval];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Sync => "sync",
            Self::Interval => "interval",
        }
    }
}
