//! fjall's journal, read by us before fjall opens it: fjall stops quietly at a damaged frame, we must not.

mod cut;
mod frame;
mod scan;

pub(crate) use cut::{cut, trim};
pub(crate) use scan::{Damage, Scan, scan};
