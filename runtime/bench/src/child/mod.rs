//! Processes that a bench starts: servers of the limits, from this same binary, and how they are told apart from what
//! a user types (`bench child ...`, hidden).

mod server;
mod spawn;

pub(crate) use server::{ChildCommand, serve};
pub(crate) use spawn::Child;
