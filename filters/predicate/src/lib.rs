//! What the stock modules share: the conditions they are configured with, one grammar over headers and JSON fields, compiled
//! once; where a value is taken from; and a reader that picks the fields it needs out of a payload without building the rest.

mod condition;
mod document;
mod error;
mod level;
mod parse;
mod pick;
mod pointer;
mod schema;
mod source;
mod value;

pub use condition::Predicate;
pub use document::{Node, quoted, unquoted};
pub use error::ConfigError;
pub use level::{Entry, Level};
pub use parse::{Reach, list_of_fields, shown};
pub use pick::{Fields, PointerTree, Slot};
pub use pointer::Pointer;
pub use schema::{HEADER_CONDITION, LIST_OF_FIELDS, OPERATORS, POINTER};
pub use source::{By, Source};
pub use value::{Found, Number};
