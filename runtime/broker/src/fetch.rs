//! One fetch: records of one partition, from the store, as steps for the consumer; through modules in `judging.rs`.

use std::ops::Range;

use millstream_engine::Pipeline;
use millstream_store::Store;
use millstream_types::{Check, Counters, Offset, RecordBatch};

use crate::{
    Error, Place,
    limits::{JOINED_BYTES, SMALL_BYTES},
    reading::Step,
    retention,
};

/// What to fetch.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    pub(crate) place: Place,
    pub(crate) from: Offset,
    /// Records from here on are not fetched.
    pub(crate) end: Offset,
    /// Fetches through modules read about so many bytes at most.
    pub(crate) judged_bytes: usize,
}

/// What came of a fetch.
#[derive(Debug, Default)]
pub(crate) struct Fetched {
    pub(crate) steps: Vec<Step>,
    /// Where the next fetch goes on.
    pub(crate) next: Offset,
    pub(crate) counted: Counters,
    /// Given back.
    pub(crate) pipeline: Option<Pipeline>,
    /// Whether it ended since other modules were bound while these failed.
    pub(crate) given_up: bool,
    /// Why nothing more can be fetched, once the steps are handed out.
    pub(crate) failure: Option<Error>,
}

/// Fetches up to about `bytes_max` without modules. Blocks while the disk reads.
pub(crate) fn plain(store: &Store, source: &Source, bytes_max: usize) -> Result<Fetched, Error> {
    let mut fetched = Fetched { next: source.from, ..Fetched::default() };
    let batches = fetched.read(store, source, bytes_max)?;
    for batch in batches {
        let view = batch.view();
        // Compaction may have joined batches across the end.
        let next = view.next_offset().min(source.end);
        let within = view.index_of(source.from)..view.index_of(source.end);
        if within.is_empty() {
            fetched.progress(source.place.index, next);
            continue;
        }
        let batch = if within.len() == view.len() { batch.clone() } else { slice(&batch, within)? };
        let (records, bytes) = (batch.view().len() as u64, batch.as_bytes().len() as u64);
        fetched.counted.records_in += records;
        fetched.counted.records_out += records;
        fetched.counted.bytes_in += bytes;
        fetched.counted.bytes_out += bytes;
        fetched.deliver(source.place.index, next, batch);
    }
    Ok(fetched)
}

impl Fetched {
    /// The batches that hold the first records of `source`, each checked. Where there are none any more, that is passed over.
    pub(crate) fn read(
        &mut self,
        store: &Store,
        source: &Source,
        bytes_max: usize,
    ) -> Result<Vec<RecordBatch>, Error> {
        let batches = read(store, source, bytes_max)?;
        let found = batches.first().map_or(source.end, |batch| batch.view().base_offset());
        retention::note_missed(self, store, source, found);
        if batches.is_empty() {
            self.pass_over(source);
        }
        Ok(batches)
    }

    pub(crate) fn deliver(&mut self, partition: u32, next: Offset, batch: RecordBatch) {
        self.next = next;
        self.steps.push(Step::Batch { partition, next, batch });
    }

    /// Nothing is stored in all of `source`: a gap, left by an accepted data loss.
    fn pass_over(&mut self, source: &Source) {
        self.progress(source.place.index, source.end);
    }

    /// Everything below `next` is scanned: told with the last batch, or by itself when there is none.
    pub(crate) fn progress(&mut self, partition: u32, next: Offset) {
        self.next = next;
        match self.steps.last_mut() {
            Some(Step::Batch { next: told, .. } | Step::Progress { next: told, .. }) => *told = next,
            Some(Step::Gone { .. }) | None => self.steps.push(Step::Progress { partition, next }),
        }
    }
}

/// The steps, with the small batches of one run as one: each costs its reader as much as a large one.
pub(crate) fn joined(steps: Vec<Step>) -> Vec<Step> {
    let mut out = Vec::with_capacity(steps.len());
    let mut run = Run::default();
    for step in steps {
        match step {
            Step::Batch { partition, next, batch } if batch.as_bytes().len() < SMALL_BYTES => {
                run.add(partition, next, batch);
                if run.bytes >= JOINED_BYTES {
                    run.end(&mut out);
                }
            }
            step => {
                run.end(&mut out);
                out.push(step);
            }
        }
    }
    run.end(&mut out);
    out
}

/// Small batches of one partition, one behind the other.
#[derive(Default)]
struct Run {
    partition: u32,
    batches: Vec<RecordBatch>,
    /// Of each, what is scanned with it.
    nexts: Vec<Offset>,
    bytes: usize,
}

impl Run {
    fn add(&mut self, partition: u32, next: Offset, batch: RecordBatch) {
        self.partition = partition;
        self.bytes += batch.as_bytes().len();
        self.batches.push(batch);
        self.nexts.push(next);
    }

    fn end(&mut self, out: &mut Vec<Step>) {
        let Self { partition, batches, nexts, .. } = std::mem::take(self);
        let joined = if batches.len() > 1 { RecordBatch::join(&batches) } else { None };
        match (joined, nexts.last()) {
            (Some(batch), Some(&next)) => out.push(Step::Batch { partition, next, batch }),
            _ => out.extend(nexts.into_iter().zip(batches).map(|(next, batch)| Step::Batch {
                partition,
                next,
                batch,
            })),
        }
    }
}

/// The batches that hold the source's first records, each checked.
pub(crate) fn read(store: &Store, source: &Source, bytes_max: usize) -> Result<Vec<RecordBatch>, Error> {
    let stored = store.read(source.place.id, source.from, source.end, bytes_max)?;
    let checked = stored.into_iter().map(|stored| {
        RecordBatch::new(stored.bytes, Check::Crc).map_err(|cause| Error::CorruptBatch {
            topic: source.place.topic.name().clone(),
            partition: source.place.partition,
            offset: stored.base_offset,
            cause,
        })
    });
    checked.collect()
}

pub(crate) fn slice(batch: &RecordBatch, records: Range<usize>) -> Result<RecordBatch, Error> {
    Ok(batch.decompressed()?.view().subset(&[records])?)
}

pub(crate) fn first_offset(batch: &RecordBatch) -> Option<Offset> {
    batch.view().record(0).map(|record| record.offset)
}
