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
pub(crate) use quic::{echo, quic_down, quic_up};
pub(crate) use skeleton::{Load, SkeletonRun, skeleton};
