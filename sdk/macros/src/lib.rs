//! The attributes of `millstream-sdk`. Use them through that crate, which documents them by example.

mod args;
mod config;
mod field;
mod json;
mod kind;
mod module;
mod schema;
mod signature;

use proc_macro::TokenStream;

use kind::Kind;

/// Makes `fn(&Record) -> bool` or `fn(&Record, &Config) -> bool` a module that keeps or drops records; `Result<bool, E>`
/// rejects them, too.
///
/// `#[filter(reads = "headers")]` declares that it looks at keys and headers alone: payloads are then not copied in.
/// `#[filter(reads_from = Config::reads_payload)]`, a `fn(&Config) -> bool`, leaves that to the configuration.
/// `#[filter(name = "team/express")]` names the module; without it, its Cargo package does.
#[proc_macro_attribute]
pub fn filter(args: TokenStream, item: TokenStream) -> TokenStream {
    module::expand(Kind::Filter, args.into(), item.into()).into()
}

/// Makes a function that returns an output, or an `Option` of one, a module that replaces or drops records.
///
/// An output that sends a record to a topic needs `#[map(topics = "a.b")]`, `topics = ["a.*", "b.>"]`, or
/// `topics_from = path`, a `fn(&Config) -> Vec<String>`.
#[proc_macro_attribute]
pub fn map(args: TokenStream, item: TokenStream) -> TokenStream {
    module::expand(Kind::Map, args.into(), item.into()).into()
}

/// Makes a function that returns a `Vec` of outputs a module that replaces each record by any number of them.
///
/// Takes the arguments of [`macro@map`].
#[proc_macro_attribute]
pub fn flat_map(args: TokenStream, item: TokenStream) -> TokenStream {
    module::expand(Kind::FlatMap, args.into(), item.into()).into()
}

/// Makes a function that returns topic names a module that sends each record there.
///
/// `#[route(topics = "flights.>")]` announces where to, and lets the broker refuse the rest; without it, any topic may be
/// named. `topics_from = Config::topics` asks the configuration.
#[proc_macro_attribute]
pub fn route(args: TokenStream, item: TokenStream) -> TokenStream {
    module::expand(Kind::Route, args.into(), item.into()).into()
}

/// Makes `fn(&Record, &mut State)` or `fn(&Record, &mut State, &Config)` the module of a processor: it remembers, and returns
/// what it emits: nothing, an `Option` or a `Vec` of outputs, or a `Result` of those. What it wrote to its state for a record
/// counts unless it returns an `Err`, which rejects the record.
///
/// Takes the arguments of [`macro@map`]. An output without a topic goes to the processor's sink.
#[proc_macro_attribute]
pub fn processor(args: TokenStream, item: TokenStream) -> TokenStream {
    module::expand(Kind::Processor, args.into(), item.into()).into()
}

/// Makes a struct or enum a module's configuration, read from JSON as serde would, with unknown fields refused.
/// Serde's attributes hold; a method `validate(&self) -> Result<(), E>`, if there is one, has the last word.
///
/// The module's manifest says what the configuration looks like: a JSON Schema, made of the type, its serde attributes
/// and its doc comments, which the broker holds configurations to. A field whose type derives this, too, is described in
/// full; one of another type, or that serde reads `with` a function, may be anything.
/// `#[config(default = 60)]` gives a field a default that the schema tells; `#[config(any)]` leaves its values undescribed,
/// as is needed where two types contain each other.
#[proc_macro_derive(ModuleConfig, attributes(serde, config))]
pub fn module_config(item: TokenStream) -> TokenStream {
    config::expand(item.into()).into()
}

#[cfg(test)]
mod tests;
