//! The conformance suite of modules: what the order desk answers, whatever language it is written in; and how the examples
//! are built.

mod cases;
mod component;
mod suite;

pub use component::{Language, cache, contract_of_c, file};
pub use suite::conforms;
