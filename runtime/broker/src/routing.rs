//! What modules emit to topics: appended once for each source record, topics created as needed.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use millstream_engine::Outcome;
use millstream_types::{
    BatchBuilder, Durability, Offset, PartitionId, RecordBatch, RecordParts, RecordView, TopicConfig,
    TopicName, partition_for_key,
};

use crate::{
    Error, Place, Subscription, Topic,
    broker::{Shared, now},
    command::Command,
};

/// Bytes from which on a further batch is begun for the same partition.
const BATCH_BYTES: usize = 256 << 10;
/// A sink may be deleted while its records are on their way; it is then made again, but not for ever.
const TRIES: usize = 3;

/// Appends the records of `outcome` that go to topics, but for those whose source was routed before, or is settled: it is a
/// dead letter.
pub(crate) async fn append(
    shared: &Arc<Shared>,
    subscription: &Subscription,
    source: &Place,
    outcome: &Outcome,
) -> Result<(), Error> {
    let mut tries = TRIES;
    loop {
        // Told by the commit: who gave up in the middle has routed all the same.
        let wanted = Wanted::of(subscription, source, outcome);
        if wanted.sources.is_empty() {
            return Ok(());
        }
        let sinks = sinks(shared, &source.topic, outcome, &wanted).await?;
        let outputs = build(outcome, &wanted, &sinks)?;
        let span = wanted.span();
        let command = Command::Route {
            subscription: subscription.id(),
            partition: source.id,
            from: span.start,
            to: span.end,
            again: wanted.again,
            outputs,
            now: now(),
        };
        tries -= 1;
        match shared.submitter.execute(command).await {
            Ok(_) => {
                subscription.set_routed(source.index, span.end);
                return Ok(());
            }
            Err(Error::Overtaken) if tries > 0 => {}
            Err(Error::Gone) if tries > 0 && !subscription.is_deleted() => {}
            Err(error) => return Err(error),
        }
    }
}

/// The source records of which something is to be appended.
struct Wanted {
    routed: Offset,
    sources: BTreeSet<Offset>,
    /// Of those, records that were dead letters and are judged again.
    again: Vec<Offset>,
}

impl Wanted {
    fn of(subscription: &Subscription, place: &Place, outcome: &Outcome) -> Self {
        let routed = subscription.routed(place.index);
        let mut sources = outcome.routed().map(|record| record.source);
        let Some(first) = sources.next() else {
            return Self { routed, sources: BTreeSet::new(), again: Vec::new() };
        };
        let sources: BTreeSet<_> = std::iter::once(first).chain(sources).collect();
        let unrouted = subscription.unrouted(place.id, first..=sources.last().copied().unwrap_or(first));
        let fresh = sources.into_iter().filter(|source| *source >= routed || unrouted.contains(source));
        let group = subscription.group();
        let sources: BTreeSet<_> = fresh.filter(|source| !group.is_settled(place.index, *source)).collect();
        let again = sources.intersection(&unrouted).copied().collect();
        Self { routed, sources, again }
    }

    /// From the first to past the last of those that were never routed past; empty where there are none.
    fn span(&self) -> std::ops::Range<Offset> {
        let mut fresh = self.sources.range(self.routed..);
        match (fresh.next(), fresh.next_back()) {
            (Some(first), last) => *first..last.unwrap_or(first) + 1,
            (None, _) => self.routed..self.routed,
        }
    }
}

async fn sinks(
    shared: &Arc<Shared>,
    source: &Topic,
    outcome: &Outcome,
    wanted: &Wanted,
) -> Result<BTreeMap<TopicName, Arc<Topic>>, Error> {
    let mut sinks = BTreeMap::new();
    for record in outcome.routed().filter(|record| wanted.sources.contains(&record.source)) {
        if sinks.contains_key(record.topic) {
            continue;
        }
        let name = record.topic.clone();
        let topic = match shared.catalog.topic(&name) {
            Ok(topic) => topic,
            Err(_) => create(shared, source, &name).await?,
        };
        sinks.insert(name, topic);
    }
    Ok(sinks)
}

/// A sink that is not there yet has one partition, so that order is kept, and is as durable as its source.
pub(crate) async fn create(
    shared: &Arc<Shared>,
    source: &Topic,
    name: &TopicName,
) -> Result<Arc<Topic>, Error> {
    let durability = if source.is_sync() { Durability::Sync } else { Durability::Interval };
    let config = TopicConfig { durability, ..TopicConfig::default() };
    let command = Command::CreateTopic { name: name.clone(), config, now: now() };
    match shared.submitter.execute(command).await {
        // Somebody else was first, with other settings: that one is it.
        Ok(_) | Err(Error::TopicExists(_)) => shared.catalog.topic(name),
        Err(error) => Err(error),
    }
}

fn build(
    outcome: &Outcome,
    wanted: &Wanted,
    sinks: &BTreeMap<TopicName, Arc<Topic>>,
) -> Result<Vec<(PartitionId, RecordBatch)>, Error> {
    let mut outputs = Outputs::default();
    for routed in outcome.routed().filter(|record| wanted.sources.contains(&record.source)) {
        let Some(topic) = sinks.get(routed.topic) else { continue };
        outputs.push(topic, routed.source, &routed.record)?;
    }
    outputs.finish()
}

/// Records for topics, in the order that they come.
#[derive(Debug, Default)]
pub(crate) struct Outputs {
    builders: BTreeMap<PartitionId, BatchBuilder>,
    built: Vec<(PartitionId, RecordBatch)>,
}

impl Outputs {
    /// Adds a record that was made of the one at offset `source`.
    pub(crate) fn push(
        &mut self,
        topic: &Topic,
        source: Offset,
        record: &RecordView<'_>,
    ) -> Result<(), Error> {
        let partitions = topic.config().partitions;
        let index = match record.key {
            Some(key) => partition_for_key(key, partitions),
            // Spread, and the same again after a crash.
            None => u32::try_from(source % u64::from(partitions)).unwrap_or_default(),
        };
        let partition = topic.partition(index)?;
        let builder = self.builders.entry(partition).or_default();
        // It is appended now, whenever its source was, and is another record than that.
        let parts = RecordParts::from(record);
        builder.push(RecordParts { timestamp_delta: 0, message_id: None, deliver_at: None, ..parts })?;
        if builder.bytes_len() >= BATCH_BYTES {
            self.built.push((partition, builder.build()?));
        }
        Ok(())
    }

    /// All of them, in batches.
    pub(crate) fn finish(mut self) -> Result<Vec<(PartitionId, RecordBatch)>, Error> {
        for (partition, mut builder) in self.builders {
            if !builder.is_empty() {
                self.built.push((partition, builder.build()?));
            }
        }
        Ok(self.built)
    }
}
