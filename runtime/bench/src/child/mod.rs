//! Processes that a bench starts: servers of the limits, from this same binary (`bench child ...`, hidden from users),
//! and the broker.

mod process;
mod server;
mod spawn;

pub(crate) use process::{Process, own_resident_bytes};
pub(crate) use server::{ChildCommand, serve};
pub(crate) use spawn::{Child, this_binary};
