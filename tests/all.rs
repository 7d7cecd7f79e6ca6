//! The tests that see Millstream from outside.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails right there")]

mod compaction; // topics of which the newest record of each key is kept
mod durable; // subscriptions that keep their place
mod hostile_beside; // all of them at once, beside those that are honest
mod hostile_modules; // a bad module hurts its own subscription alone
mod hostile_peers; // frames and batches that break the protocol
mod ingest; // modules that records go through before they are stored
mod messages; // publish and subscribe, over real QUIC
mod metrics; // what operators watch, and what modules are granted
mod modules; // filter, transform, route
mod network; // lost, repeated, delayed datagrams, and clients whose address changes
mod patterns; // subscriptions to all topics that a pattern means
mod pressure; // too much at once
mod processors; // modules that remember, from topics to topics
mod rebinding; // other modules for a subscription in use
mod registry; // modules by name: stored, fetched, deleted, trusted
mod tidy;
mod workers; // delivery modes, leases, retries, dead letters
// our own rules about the tree
