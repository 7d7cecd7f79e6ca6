//! What can be asked for, one bench a file: which measurements take turns, and which ratios come out.

mod limits;
mod scratch;

pub(crate) use limits::limits;
