//! What `millstream bench` runs: Millstream measured beside the limits that the machine, QUIC and fjall set.
//!
//! A figure alone says little on a shared machine, so subject and limit run in turns within one process run, and what
//! counts is the ratio of each pair; figures and ratios are medians over the rounds. Throughput is in MB/s with
//! 1 MB = 1,000,000 bytes, and counts records' payloads (of a limit: the bytes of its frames, headers aside).
//!
//! # The limits
//! Every server is a process of its own, as the broker is, started from this same binary, so that both sides of a
//! comparison have the same allocator, the same number of processes and the same runtime. Both use the endpoint, socket
//! and transport settings of `millstream_quic`.
//!
//! - **raw QUIC up**: one connection, one stream, chunks of `batch_bytes` written from memory; the server reads and
//!   drops them. Ends when the server has said how many bytes it read.
//! - **raw QUIC down**: the same the other way round; the client reads and drops.
//! - **QUIC echo**: one message of `record_bytes` at a time on one stream, there and back.
//! - **raw disk**: values of `batch_bytes` written to one file, with an fdatasync after each (`sync`) or one at the end
//!   that is counted (`buffered`).
//! - **raw fjall**: values of `batch_bytes` appended to a log as the skeleton's, in this process and without network:
//!   committed one by one, handed to the system (`buffered`) or with an fdatasync each (`sync`).
//! - **skeleton**: the least program that does a broker's I/O: frames over a QUIC stream, one committer thread that
//!   drains what waits (up to 4 MiB) into one atomic fjall batch, and a count of committed frames back. No protocol,
//!   no checks, no state beside the log. Journal, memtable, workers and rotation as `millstream-store` sets them;
//!   `sync` answers after an fdatasync of the group, `interval` once the group is with the system, with an fdatasync
//!   each `sync_interval_ms`.
//!
//! # The subject
//! A broker started from this same binary in an empty directory for each measurement (or the one that `--broker` names),
//! used through `millstream-client` as an application uses it: records are handed over one by one, and what is counted
//! has its receipt, or was delivered and checked to be as many as published.
//!
//! - **publish**: the same durability, size of frames and batches, number of connections and window as the skeleton;
//!   single records are batches of one record beside frames of one record.
//! - **consume**: whole passes over a stored topic by ephemeral subscriptions, subscribing included, beside raw QUIC
//!   down, which reads nothing from anywhere.
//! - **filter**: the same passes with `std/headers` in the broker, keeping one record in `keep_one_in` or all; the
//!   client's filter looks up the same header in each delivered record. Rates count the records passed over.
//! - **work**: `workers` consumers of one subscription acknowledge every record by itself, from joining to the last ack
//!   stored.
//! - **latency**: from `publish` of one record to its delivery on another connection, one at a time, topic `interval`,
//!   beside the echo; `loaded` with another connection that publishes batches without pause (beside the echo: raw QUIC
//!   up without pause).
//! - **engine**: the module engine in this process, without a broker: batches of 256 records through `std/headers` and
//!   `std/json` (whole pipelines, picks and all), beside closures over the same batch, the second with the same predicate
//!   compiled natively. Turns of 10 ms each, the best of 20 a round. Then the time from an instance's end to the next one
//!   configured (`instance_us`), resident memory of 1,000 bound modules that have judged a batch (`bound_kib`), and once their
//!   instances are given up (`bound_at_rest_kib`), compiling `std/headers` here and in a process of its own, and binding it when it
//!   is in the cache (`cached_bind_ms`).
//! - **fairness**: `latency` with `std/headers` in between, alone and beside a subscription whose module uses 40 of the 50 ms that
//!   a call may, on every record, without a pause. The goal holds where a core is left: on 2 cores client, broker and module
//!   share them, and there is none.
//! - **subscriptions**: `module_subscriptions` ephemeral subscriptions with `std/headers` on one topic, which keep only the last
//!   record: CPU time of the broker for each record and subscription, beside a tenth of them, and memory for each.
//! - **idle**: from starting the process to an answered greeting, and resident memory (VmRSS) two seconds later, on an
//!   empty directory (`start_ms`, `idle_rss_mib`) and again on the same one (`restart_ms`, `restarted_rss_mib`); then
//!   what each of many idle connections and durable subscriptions adds.

mod args;
mod benches;
mod child;
mod error;
mod limits;
mod payload;
mod progress;
mod quic;
mod report;
mod run;
mod scratch;
mod stats;
mod subject;

pub use args::{Args, Command, Settings};
pub use error::Error;
pub use report::{Format, Report};
pub use run::run;
