//! The real binary, as a user and a power switch meet it. Its own test target of the `millstream` package, so that cargo
//! builds the binary for it.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails right there")]

#[path = "binary/cli.rs"]
mod cli; // commands, exit codes, bad input
#[path = "binary/compaction.rs"]
mod compaction; // the newest record of each key, to the disk and over kills
#[path = "binary/compiling.rs"]
mod compiling; // modules that cost a compiler much, and memory after hostile ones
#[path = "binary/crash.rs"]
mod crash; // SIGKILL under load
#[path = "binary/flights.rs"]
mod flights; // real data
#[path = "binary/ingest.rs"]
mod ingest; // modules that records go through before they are stored
#[path = "binary/many.rs"]
mod many;
#[path = "binary/modules.rs"]
mod modules; // from `module new` to a module in the broker
#[path = "binary/peak.rs"]
mod peak; // a burst, and who is slow
#[path = "binary/pressure.rs"]
mod pressure; // too much at once
#[path = "binary/processors.rs"]
mod processors; // on the command line, and over kills
#[path = "binary/rebinding.rs"]
mod rebinding; // other modules for a subscription in use
#[path = "binary/registry.rs"]
mod registry; // the registry, signatures, OCI artifacts
#[path = "binary/retention.rs"]
mod retention; // what is kept, to the disk
#[path = "binary/start.rs"]
mod start; // what keeps a broker from starting
#[path = "binary/vanished.rs"]
mod vanished; // killed clients
#[path = "binary/workers.rs"]
mod workers; // workers on the command line, and over kills // thousands of connections and subscriptions
