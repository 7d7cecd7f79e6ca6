//! Puts the chunks of a run together.

use std::ops::Range;

use millstream_types::{
    BatchBuilder, BatchError, BatchView, Compression, Offset, RecordBatch, RecordParts, TopicName,
    limits::{BATCH_BYTES_MAX, BATCH_RECORDS_MAX},
};

use super::chunk::Chunk;
use super::flow::{Flow, bytes_of, delta};
use super::outcome::Routed;
use super::picks::Picks;
use super::{Counters, Delivery, Outcome, RecordFault, Reject, Stop};

/// Puts the chunks of a run together.
#[derive(Debug, Default)]
pub(crate) struct Gather {
    flows: Vec<Flow>,
    routed: Vec<Routed>,
    rejects: Vec<Reject>,
    faults: Vec<RecordFault>,
    stop: Option<Stop>,
    emitted_bytes: usize,
}

impl Gather {
    pub(crate) fn stop(&self) -> Option<&Stop> {
        self.stop.as_ref()
    }

    pub(crate) fn emitted_bytes(&self) -> usize {
        self.emitted_bytes
    }

    /// Adds a chunk, without what is at fault or not done. The index of the first record that is not done.
    pub(crate) fn add(&mut self, mut chunk: Chunk<'_, '_>) -> Result<usize, BatchError> {
        let source = chunk.source;
        let cut = chunk.cut.unwrap_or(Offset::MAX);
        let end = chunk.done().end;
        chunk.bad.retain(|offset| *offset < cut);
        let bad = &chunk.bad;
        let good = |offset: Offset| offset < cut && !bad.contains(&offset);

        let mut flow = chunk.flow;
        if chunk.cut.is_some() || !bad.is_empty() {
            let view = flow.view(source);
            let picks = flow.picks().filtered(|index| view.record(index).is_some_and(|it| good(it.offset)));
            flow = flow.with_picks(picks);
        }
        let routed = route(chunk.routed, chunk.topics, good)?;

        let counters = chunk.counters;
        counters.records_in += (end - chunk.range.start) as u64;
        counters.delivered += flow.picks().len() as u64;
        counters.routed += routed.as_ref().map_or(0, |routed| routed.entries.len()) as u64;
        let left = left(&flow, source, routed.as_ref()) + bad.len();
        counters.dropped += (end - chunk.range.start).saturating_sub(left) as u64;

        self.routed.extend(routed);
        self.rejects.extend(chunk.rejects.into_iter().filter(|reject| reject.offset < cut));
        self.faults.extend(chunk.faults.into_iter().filter(|fault| fault.offset < cut));
        self.stop = chunk.stop;
        self.emitted_bytes += chunk.emitted_bytes;
        match (self.flows.last_mut(), flow) {
            (Some(Flow::Source(last)), Flow::Source(picks)) => last.extend(&picks),
            (_, flow) => self.flows.push(flow),
        }
        Ok(end)
    }

    /// The outcome for the records `done` of `batch`, of which `source` may be the decompressed form.
    pub(crate) fn finish(
        mut self,
        batch: &RecordBatch,
        source: &RecordBatch,
        done: Range<usize>,
        mut counters: Counters,
    ) -> Result<Outcome, BatchError> {
        let delivery = deliver(&self.flows, batch, source, done.len())?;
        self.rejects.sort_by_key(|reject| reject.offset);
        self.faults.sort_by_key(|fault| fault.offset);
        counters.rejected = self.rejects.len() as u64;
        counters.faulted = self.faults.len() as u64;
        Ok(Outcome {
            done,
            delivery,
            rejects: self.rejects,
            faults: self.faults,
            stop: self.stop,
            counters,
            routed: self.routed,
        })
    }
}

/// The outputs to topics that are good, by source offset.
fn route(
    mut routed: BatchBuilder,
    topics: Vec<TopicName>,
    good: impl Fn(Offset) -> bool,
) -> Result<Option<Routed>, BatchError> {
    if routed.is_empty() {
        return Ok(None);
    }
    let batch = routed.build()?;
    let view = batch.view();
    let offset = |index: usize| view.record(index).map_or(Offset::MAX, |record| record.offset);
    let mut entries: Vec<_> =
        topics.into_iter().enumerate().filter(|(index, _)| good(offset(*index))).collect();
    entries.sort_by_key(|(index, _)| offset(*index));
    Ok(Some(Routed { batch, entries }))
}

/// How many source records have something left.
fn left(flow: &Flow, source: BatchView<'_>, routed: Option<&Routed>) -> usize {
    if let (Flow::Source(picks), None) = (flow, routed) {
        return picks.len();
    }
    let view = flow.view(source);
    let offset = |view: &BatchView<'_>, index| view.record(index).map(|record| record.offset);
    let mut offsets: Vec<_> = flow.picks().indices().filter_map(|index| offset(&view, index)).collect();
    if let Some(routed) = routed {
        let view = routed.batch.view();
        offsets.extend(routed.entries.iter().filter_map(|(index, _)| offset(&view, *index)));
    }
    offsets.sort_unstable();
    offsets.dedup();
    offsets.len()
}

fn deliver(
    flows: &[Flow],
    batch: &RecordBatch,
    source: &RecordBatch,
    done: usize,
) -> Result<Delivery, BatchError> {
    match flows {
        [] => Ok(Delivery::Nothing),
        _ if flows.iter().all(|flow| flow.picks().is_empty()) => Ok(Delivery::Nothing),
        [Flow::Source(picks)] if picks.len() == done => Ok(Delivery::Untouched),
        [Flow::Source(picks)] => {
            let plain = source.decompressed()?;
            subsets(&plain.view(), picks.clone(), batch.view().compression()).map(Delivery::Batches)
        }
        flows => rebuild(flows, &source.decompressed()?).map(Delivery::Batches),
    }
}

/// The picks of `plain` as batches. A record that is too large for one stays compressed, as it came.
fn subsets(
    plain: &BatchView<'_>,
    mut picks: Picks,
    compression: Compression,
) -> Result<Vec<RecordBatch>, BatchError> {
    let mut batches = Vec::new();
    while !picks.is_empty() {
        let portion = picks.take_portion(plain, BATCH_RECORDS_MAX, BATCH_BYTES_MAX, true);
        let subset = plain.subset(portion.ranges())?;
        if subset.as_bytes().len() > BATCH_BYTES_MAX {
            let mut built = builder(plain).with_compression(compression);
            for record in subset.view().records() {
                built.push_at(delta(plain, &record), &record)?;
            }
            batches.push(built.build()?);
        } else {
            batches.push(subset);
        }
    }
    Ok(batches)
}

/// The records of all flows as batches.
fn rebuild(flows: &[Flow], plain: &RecordBatch) -> Result<Vec<RecordBatch>, BatchError> {
    let mut batches = Vec::new();
    let mut built = builder(&plain.view());
    for flow in flows {
        let view = flow.view(plain.view());
        for record in flow.picks().indices().filter_map(|index| view.record(index)) {
            let parts = RecordParts::from(&record);
            let full =
                built.bytes_len() + bytes_of(&parts) > BATCH_BYTES_MAX || built.len() == BATCH_RECORDS_MAX;
            if full && !built.is_empty() {
                batches.push(built.build()?);
            }
            built.push_at(delta(&view, &record), parts)?;
        }
    }
    if !built.is_empty() {
        batches.push(built.build()?);
    }
    Ok(batches)
}

/// A builder for records of `view`: same producer, same stamps.
fn builder(view: &BatchView<'_>) -> BatchBuilder {
    BatchBuilder::new().with_producer(view.producer()).with_stamp(view.base_offset(), view.timestamp())
}
