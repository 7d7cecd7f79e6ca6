//! How fast the store takes and gives batches on this machine, and how long it takes to open again.
//!
//! `cargo run --release -p millstream-store --example append -- [DIR] [MEGABYTES]`
#![expect(clippy::print_stdout, reason = "prints its figures")]

use std::{env, path::PathBuf, time::Instant};

use bytes::Bytes;
use millstream_store::{Options, PartitionId, Persist, Store};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = env::args().skip(1);
    let dir = args.next().map_or_else(|| env::temp_dir().join("millstream-append"), PathBuf::from);
    let megabytes: u64 = args.next().map_or(Ok(512), |text| text.parse())?;
    println!(
        "{:>10} {:>7} {:>8} {:>9} {:>12} {:>9} {:>8}",
        "value", "a batch", "persist", "MB/s", "us/commit", "read MB/s", "open s"
    );
    for (value_bytes, values, persist) in [
        (1 << 10, 1, Persist::Buffer),
        (1 << 10, 100, Persist::Buffer),
        (64 << 10, 1, Persist::Buffer),
        (256 << 10, 1, Persist::Buffer),
        (1 << 10, 100, Persist::Sync),
        (64 << 10, 1, Persist::Sync),
        (256 << 10, 1, Persist::Sync),
    ] {
        let _ = std::fs::remove_dir_all(&dir);
        let total = (megabytes << 20) / if values == 1 && value_bytes < 4096 { 4 } else { 1 };
        let commits = total / (value_bytes * values);
        let (store, _) = Store::open(&dir, &Options::default())?;
        let bytes = Bytes::from(vec![7; value_bytes as usize]);
        let started = Instant::now();
        for commit in 0..commits {
            let partition = PartitionId((commit % 16) as u32);
            let end = store.partition(partition).map_or(0, |row| row.next_offset);
            let mut batch = store.batch();
            for offset in end..end + values {
                batch.append(partition, offset, offset + 1, bytes.clone());
            }
            store.commit(batch, persist)?;
            store.maintain()?;
        }
        store.sync()?;
        let wrote = started.elapsed().as_secs_f64();
        let (mut read, started) = (0, Instant::now());
        for partition in 0..16 {
            let mut from = 0;
            loop {
                let batches = store.read(PartitionId(partition), from, u64::MAX, 1 << 20)?;
                let Some(last) = batches.last() else { break };
                from = last.base_offset + 1;
                read += batches.iter().map(|batch| batch.bytes.len()).sum::<usize>();
                std::hint::black_box(batches);
            }
        }
        let reading = started.elapsed().as_secs_f64();
        drop(store);
        let started = Instant::now();
        let (store, recovery) = Store::open(&dir, &Options::default())?;
        let opening = started.elapsed().as_secs_f64();
        let mb = (commits * values * value_bytes) as f64 / 1e6;
        println!(
            "{value_bytes:>10} {values:>7} {:>8} {:>9.0} {:>12.1} {:>9.0} {opening:>8.2}  ({} MB of journal)",
            format!("{persist:?}"),
            mb / wrote,
            wrote * 1e6 / commits as f64,
            read as f64 / 1e6 / reading,
            recovery.journal_bytes / 1_000_000,
        );
        drop(store);
    }
    std::fs::remove_dir_all(&dir)?;
    Ok(())
}
