//! Dead letters: records that failed too often, came too late, or that a module rejected, written to another topic in the commit that
//! settles them.
//!
//! A subscription named `letters.TOPIC` keeps account of each dead-letter topic: what is settled there was sent back or
//! purged.

use std::{collections::BTreeMap, sync::Arc};

use millstream_engine::{RecordFault, Reject};
use millstream_store::Store;
use millstream_types::{
    BatchBuilder, Check, DeadLetters, DeliveryConfig, DeliveryMode, Header, Offset, OnFault, PartitionId,
    Record, RecordBatch, SubscriptionName, Timestamp, TopicName, partition_for_key,
};

use crate::{
    Broker, Error, Place, Subscription, Topic,
    bindings::{Bindings, Revision},
    broker::{Shared, blocking, now},
    command::{Command, Letter, Outcome, Settlement},
    fetch::{self, Source},
    group::Dead,
    reading::Step,
    routing,
    rows::{SubscriptionRow, TriedRow},
};

/// Bytes from which on a further batch of letters is begun.
const BATCH_BYTES: usize = 256 << 10;
/// A dead-letter topic may be deleted while letters are on their way; it is then made again, but not for ever.
const TRIES: usize = 3;

/// Why a record is a dead letter, as its header says.
#[derive(Debug, Clone, Copy)]
enum Reason {
    Rejected,
    ModuleFault,
    Expired,
    Failures,
}

impl Reason {
    fn as_str(self) -> &'static str {
        match self {
            Self::Rejected => "rejected",
            Self::ModuleFault => "module_fault",
            Self::Expired => "expired",
            Self::Failures => "failures",
        }
    }
}

/// A record that modules do not let through.
#[derive(Debug, Clone)]
pub(crate) struct Refused {
    pub(crate) offset: Offset,
    /// Which module of the pipeline.
    pub(crate) stage: usize,
    pub(crate) text: String,
    reason: Reason,
}

impl Refused {
    pub(crate) fn rejected(reject: &Reject) -> Self {
        let Reject { offset, stage, reason } = reject;
        Self { offset: *offset, stage: *stage, text: reason.clone(), reason: Reason::Rejected }
    }

    /// One that modules fail on, though not by a fault of their own.
    pub(crate) fn given_up(offset: Offset, stage: usize, text: String) -> Self {
        Self { offset, stage, text, reason: Reason::ModuleFault }
    }

    pub(crate) fn fault(found: &RecordFault) -> Self {
        let RecordFault { offset, stage, fault } = found;
        Self { offset: *offset, stage: *stage, text: fault.to_string(), reason: Reason::ModuleFault }
    }
}

/// What a letter says beside its record.
struct Why<'a> {
    reason: Reason,
    error: Option<&'a str>,
    deliveries: u32,
    failures: u32,
    first_ms: Timestamp,
    last_ms: Timestamp,
    module: Option<(&'a str, &'a [u8; 32])>,
}

/// The topic that `config` has letters go to, for the subscription `name`; `None` for none.
///
/// # Errors
/// [`Error::Internal`] when the name that is made up would be too long.
pub(crate) fn topic_of(name: &SubscriptionName, config: &DeliveryConfig) -> Result<Option<TopicName>, Error> {
    match &config.dead_letters {
        DeadLetters::Off => Ok(None),
        DeadLetters::Topic(topic) => Ok(Some(topic.clone())),
        DeadLetters::Auto => {
            let topic = TopicName::new(format!("{}.{name}", TopicName::DEAD_LETTERS));
            let topic = topic.map_err(|_| Error::NameTooLong { name: name.clone() })?;
            account_of(&topic).map_err(|_| Error::NameTooLong { name: name.clone() })?;
            Ok(Some(topic))
        }
    }
}

/// The subscription that keeps account of a dead-letter topic.
pub(crate) fn account_of(topic: &TopicName) -> Result<SubscriptionName, Error> {
    SubscriptionName::new(format!("{ACCOUNT_PREFIX}{topic}"))
        .map_err(|error| Error::Internal(error.to_string()))
}

/// Writes dead letters for records that failed too often, and tells the subscription's group what became of them.
pub(crate) async fn bury(shared: Arc<Shared>, subscription: Arc<Subscription>, dead: Vec<Dead>) {
    for dead in dead {
        // Once it is written and settled, the commit's effects tell the group.
        let Err(error) = bury_one(&shared, &subscription, &dead).await else { continue };
        let (name, Dead { partition, offset, .. }) = (subscription.name(), dead);
        let Some(place) = subscription.sources().place(partition) else { continue };
        tracing::error!(topic = %place.topic.name(), partition = place.partition, offset, subscription = %name, %error, "no dead letter could be written; the record is tried again");
        let moment = shared.moment();
        subscription.group().not_buried(partition, offset, moment);
        subscription.pump.wake();
    }
}

async fn bury_one(shared: &Arc<Shared>, subscription: &Arc<Subscription>, dead: &Dead) -> Result<(), Error> {
    let Dead { partition, offset, expired, row } = dead;
    let TriedRow { deliveries, failures, first_ms, error, .. } = row;
    // Where its topic is gone, so is the record.
    let Some(place) = subscription.sources().place(*partition) else { return Ok(()) };
    let (source, at) = (place.id, *offset);
    let store = shared.store.clone();
    let Some(record) = blocking(move || record_at(&store, source, at)).await?? else {
        tracing::warn!(topic = %place.topic.name(), partition = place.partition, offset, "a record that failed too often is no longer in the log");
        let done = Settlement::done(at..at + 1);
        let subscription_id = subscription.id().ok_or(Error::Gone)?;
        let command = Command::Settle { subscription: subscription_id, settlements: vec![(source, done)] };
        shared.submitter.execute(command).await?;
        subscription.moved(&[(source, at)], &[], &[]);
        return Ok(());
    };
    let why = Why {
        reason: if *expired { Reason::Expired } else { Reason::Failures },
        error: error.as_deref(),
        deliveries: *deliveries,
        failures: *failures,
        first_ms: *first_ms,
        last_ms: now(),
        module: None,
    };
    let letter = letter(record, subscription, &place, &why);
    write(shared, subscription, &place, vec![letter]).await
}

/// Writes dead letters for what the modules of `revision` do not let through. Where the subscription has no dead letters,
/// it is passed over.
pub(crate) async fn refuse(
    shared: &Arc<Shared>,
    subscription: &Arc<Subscription>,
    revision: &Revision,
    place: &Place,
    refused: &[(RecordBatch, Vec<Refused>)],
) -> Result<(), Error> {
    let mut all = Vec::new();
    for (batch, refused) in refused {
        all.extend(letters(subscription, revision, place, batch, refused)?);
    }
    write(shared, subscription, place, all).await
}

/// The same as batches for the dead-letter topic, which is there then: for a processor, whose step appends them.
pub(crate) async fn for_step(
    shared: &Arc<Shared>,
    subscription: &Arc<Subscription>,
    revision: &Revision,
    place: &Place,
    batch: &RecordBatch,
    refused: &[Refused],
) -> Result<Vec<(PartitionId, RecordBatch)>, Error> {
    let letters = letters(subscription, revision, place, batch, refused)?;
    let Some(name) = topic_of(subscription.name(), subscription.delivery())?.filter(|_| !letters.is_empty())
    else {
        return Ok(Vec::new());
    };
    let topic = open_topic(shared, &place.topic, &name).await?;
    let mut builders: BTreeMap<PartitionId, BatchBuilder> = BTreeMap::new();
    for letter in &letters {
        let sink = sink(&topic, letter.key.as_deref(), place.partition)?;
        builders.entry(sink).or_default().push(letter)?;
    }
    let batches = builders.into_iter().map(|(sink, mut builder)| Ok((sink, builder.build()?)));
    batches.collect()
}

fn letters(
    subscription: &Subscription,
    revision: &Revision,
    place: &Place,
    batch: &RecordBatch,
    refused: &[Refused],
) -> Result<Vec<Record>, Error> {
    if !subscription.has_dead_letters() {
        return Ok(Vec::new());
    }
    let batch = batch.decompressed()?;
    let view = batch.view();
    let letters = refused.iter().filter_map(|refused| {
        let record = view.record(view.index_of(refused.offset))?.to_record();
        let module = revision.pipeline.get(refused.stage);
        let why = Why {
            reason: refused.reason,
            error: Some(&refused.text),
            deliveries: 0,
            failures: 0,
            first_ms: now(),
            last_ms: now(),
            module: module.map(|binding| (binding.module.as_str(), &binding.sha256)),
        };
        Some(letter(record, subscription, place, &why))
    });
    Ok(letters.collect())
}

/// Appends `letters`, whose offsets are still those of their sources, but for those whose source is settled: they were
/// written when it was judged before, or by another one that judges it.
async fn write(
    shared: &Arc<Shared>,
    subscription: &Arc<Subscription>,
    place: &Place,
    letters: Vec<Record>,
) -> Result<(), Error> {
    let Some(id) = subscription.id().filter(|_| !letters.is_empty()) else { return Ok(()) };
    let Some(name) = topic_of(subscription.name(), subscription.delivery())? else { return Ok(()) };
    let (mut left, mut tries) = (letters, TRIES);
    loop {
        {
            let group = subscription.group();
            left.retain(|letter| !group.is_settled(place.index, letter.offset));
        }
        let Some(first) = left.first() else { break };
        let topic = open_topic(shared, &place.topic, &name).await?;
        let sink_of = |letter: &Record| sink(&topic, letter.key.as_deref(), place.partition);
        let (to, mut bytes) = (sink_of(first)?, 0);
        // All that go there are one commit.
        let (mut together, mut others) = (Vec::new(), Vec::new());
        for letter in left {
            if bytes < BATCH_BYTES && sink_of(&letter)? == to {
                bytes += size(&letter);
                together.push(letter);
            } else {
                others.push(letter);
            }
        }
        let mut builder = BatchBuilder::new();
        together.iter().try_for_each(|letter| builder.push(letter))?;
        let command = Command::DeadLetter {
            subscription: id,
            sources: together.iter().map(|letter| (place.id, letter.offset)).collect(),
            sink: to,
            letters: builder.build()?,
            now: now(),
        };
        tries -= 1;
        match shared.submitter.execute(command).await {
            Ok(_) => (left, tries) = (others, TRIES),
            Err(error) => {
                let passes = match error {
                    Error::Overtaken => true,
                    Error::Gone => !subscription.is_deleted(),
                    _ => false,
                };
                if tries == 0 || !passes {
                    return Err(error);
                }
                left = together;
                left.extend(others);
            }
        }
    }
    Ok(())
}

/// About how many bytes a letter takes.
fn size(letter: &Record) -> usize {
    let headers = letter.headers.iter().map(|header| header.name.len() + header.value.len());
    letter.payload.as_ref().map_or(0, bytes::Bytes::len) + headers.sum::<usize>()
}

fn sink(topic: &Topic, key: Option<&[u8]>, partition: u32) -> Result<PartitionId, Error> {
    let partitions = topic.config().partitions;
    topic.partition(key.map_or(partition % partitions, |key| partition_for_key(key, partitions)))
}

/// The dead-letter topic with the subscription that keeps account of it, both made if they are not there.
async fn open_topic(shared: &Arc<Shared>, source: &Topic, name: &TopicName) -> Result<Arc<Topic>, Error> {
    let topic = match shared.catalog.topic(name) {
        Ok(topic) => topic,
        Err(_) => routing::create(shared, source, name).await?,
    };
    let account = account_of(name)?;
    if shared.catalog.subscription(&account).is_err() {
        let row = SubscriptionRow {
            processor: None,
            name: account,
            topic: name.clone().into(),
            bindings: Bindings::new(Vec::new(), OnFault::default(), now()),
            delivery: DeliveryConfig {
                dead_letters: DeadLetters::Off,
                ..DeliveryConfig::of(DeliveryMode::Shared)
            },
            created_ms: now(),
        };
        shared
            .submitter
            .execute(Command::CreateSubscription { row: Box::new(row), cursors: Vec::new() })
            .await?;
    }
    Ok(topic)
}

fn letter(record: Record, subscription: &Subscription, place: &Place, why: &Why<'_>) -> Record {
    let offset: Offset = record.offset;
    let mut letter = Record { deliver_at: None, expires_at: None, ..record };
    // What it says of an earlier life as a dead letter is over.
    letter.headers.retain(|header| !header.name.starts_with(HEADER_PREFIX));
    let mut say = |name: &str, value: String| {
        letter.headers.push(Header { name: format!("{HEADER_PREFIX}{name}"), value: value.into() });
    };
    say("topic", place.topic.name().to_string());
    say("partition", place.partition.to_string());
    say("offset", offset.to_string());
    say("subscription", subscription.name().to_string());
    say("reason", why.reason.as_str().into());
    if let Some(error) = why.error {
        say("error", error.into());
    }
    say("deliveries", why.deliveries.to_string());
    say("failures", why.failures.to_string());
    say("first-try", why.first_ms.to_string());
    say("last-try", why.last_ms.to_string());
    if let Some((module, sha256)) = why.module {
        say("module", module.into());
        say("module-sha256", hex::encode(sha256));
    }
    letter
}

/// With which the names of subscriptions begin that keep account of dead-letter topics: they are the broker's alone.
pub(crate) const ACCOUNT_PREFIX: &str = "letters.";
/// Names of the headers that a dead letter has beside those of its record.
pub(crate) const HEADER_PREFIX: &str = "dlq-";

/// Dead letters of one partition.
#[derive(Debug)]
pub struct FoundLetters {
    /// Where they are.
    pub topic: Arc<Topic>,
    /// Those that are neither sent back nor purged; `None` when there are none.
    pub letters: Option<RecordBatch>,
    /// Where to look on.
    pub next: Offset,
}

impl Broker {
    /// Dead letters of a subscription, from `from` on in a partition of its dead-letter topic. Cancel-safe.
    ///
    /// # Errors
    /// [`Error::UnknownSubscription`], [`Error::NoDeadLetters`], [`Error::UnknownPartition`]; [`Error::UnknownTopic`]
    /// where no letter was written yet.
    pub async fn dead_letters(
        &self,
        subscription: &SubscriptionName,
        partition: u32,
        from: Offset,
    ) -> Result<FoundLetters, Error> {
        let source_subscription = self.subscription(subscription)?;
        let (topic, account) = self.letters_of(subscription)?;
        let place = Place::of_one(&topic, partition)?;
        let end = place.end();
        let Some(account) = account else { return Ok(FoundLetters { topic, letters: None, next: end }) };
        let store = self.shared.store.clone();
        let source = Source { place, from, end, judged_bytes: 0 };
        let fetched = blocking(move || fetch::plain(&store, &source, BATCH_BYTES)).await??;
        let (mut next, mut found) = (from.max(end), Vec::new());
        for step in fetched.steps {
            let Step::Batch { next: to, batch, .. } = step else { continue };
            let batch = batch.decompressed()?;
            let view = batch.view();
            let open = account.unsettled(partition, view.base_offset()..view.next_offset());
            let open = open.into_iter().map(|gap| view.index_of(gap.start)..view.index_of(gap.end));
            // Another subscription may have its letters here as well, or had one of the same name.
            let own = |index: &usize| {
                view.record(*index).is_some_and(|letter| {
                    is_of(&source_subscription, |name| letter.header(name), letter.timestamp)
                })
            };
            let open: Vec<_> = open.flatten().filter(own).map(|index| index..index + 1).collect();
            if !open.is_empty() {
                found.push(view.subset(&open)?);
            }
            next = to;
        }
        let letters = match found.as_slice() {
            [] => None,
            [one] => Some(one.clone()),
            several => RecordBatch::join(several),
        };
        let letters = letters.or_else(|| {
            // Too many for one: the others come with the next call.
            let first = found.first()?;
            next = first.view().next_offset();
            Some(first.clone())
        });
        Ok(FoundLetters { topic, letters, next })
    }

    /// Closes dead letters of a subscription, by partition of the dead-letter topic and offset; with `redrive` the
    /// records that they were made of are delivered to the subscription again. Those closed already, of another
    /// subscription, or whose record is gone, are passed over. How many were closed. Not cancel-safe: they may be all
    /// the same.
    ///
    /// # Errors
    /// As [`dead_letters`](Self::dead_letters).
    pub async fn close_dead_letters(
        &self,
        subscription: &SubscriptionName,
        letters: &[(u32, Offset)],
        redrive: bool,
    ) -> Result<u64, Error> {
        let (topic, account) = self.letters_of(subscription)?;
        let Some(account) = account else { return Ok(0) };
        let source = self.subscription(subscription)?;
        let id = account.id().ok_or(Error::Gone)?;
        let (store, letters, name) = (self.shared.store.clone(), letters.to_vec(), subscription.clone());
        let read = move || -> Result<Vec<_>, Error> {
            let mut found = Vec::new();
            for (partition, offset) in letters {
                let partition = topic.partition(partition)?;
                let Some(letter) = record_at(&store, partition, offset)? else { continue };
                if !is_of(&source, |name| letter.header(name), letter.timestamp) {
                    continue;
                }
                if !redrive {
                    found.push(Letter { partition, offset, reopen: None, unrouted: false });
                    continue;
                }
                let Some((of, at)) = made_of(&letter, &source) else { continue };
                // One that is gone, or whose time is over, would not be delivered.
                let use_of = |record: &Record| record.expires_at.is_none_or(|at| at > now());
                if record_at(&store, of, at)?.as_ref().is_some_and(use_of) {
                    let reason = said(|name| letter.header(name), "reason");
                    let by_modules = [Reason::Rejected, Reason::ModuleFault].map(Reason::as_str);
                    let unrouted = reason.is_some_and(|reason| by_modules.contains(&reason));
                    found.push(Letter { partition, offset, reopen: Some((name.clone(), of, at)), unrouted });
                }
            }
            Ok(found)
        };
        let letters = blocking(read).await??;
        match self.execute(Command::CloseLetters { subscription: id, letters }).await? {
            Outcome::Count(count) => Ok(count),
            other => Err(Error::Internal(format!("closing dead letters was answered by {other:?}"))),
        }
    }

    /// The dead-letter topic of a subscription, and the subscription that keeps account of it: none before the first
    /// letter is written.
    fn letters_of(&self, name: &SubscriptionName) -> Result<(Arc<Topic>, Option<Arc<Subscription>>), Error> {
        let subscription = self.subscription(name)?;
        let topic = topic_of(name, subscription.delivery())?;
        let topic = topic.filter(|_| subscription.is_durable());
        let topic = self.topic(&topic.ok_or_else(|| Error::NoDeadLetters(name.clone()))?)?;
        match self.subscription(&account_of(topic.name())?) {
            Ok(account) => Ok((topic, Some(account))),
            Err(Error::UnknownSubscription(_)) => Ok((topic, None)),
            Err(error) => Err(error),
        }
    }
}

/// Whether a letter with these headers is the subscription's, and not of one that had its name before.
fn is_of<'a>(
    subscription: &Subscription,
    header: impl Fn(&str) -> Option<&'a [u8]>,
    written_ms: Timestamp,
) -> bool {
    said(header, "subscription") == Some(subscription.name().as_str())
        && written_ms >= subscription.created_ms()
}

/// Which record of what `source` reads a letter was made of; `None` where its topic is gone.
fn made_of(letter: &Record, source: &Subscription) -> Option<(PartitionId, Offset)> {
    let said = |what| said(|name| letter.header(name), what);
    let place = source.sources().find(said("topic")?, said("partition")?.parse().ok()?)?;
    // A topic of the same name may have been made since.
    (letter.timestamp >= place.topic.created_ms()).then_some(())?;
    Some((place.id, said("offset")?.parse().ok()?))
}

/// What a letter says of its record.
fn said<'a>(header: impl Fn(&str) -> Option<&'a [u8]>, what: &str) -> Option<&'a str> {
    std::str::from_utf8(header(&format!("{HEADER_PREFIX}{what}"))?).ok()
}

/// The record at `offset`, read from the disk; `None` if it is gone.
fn record_at(store: &Store, partition: PartitionId, offset: Offset) -> Result<Option<Record>, Error> {
    // What retention has deleted may still be on the disk.
    if store.partition(partition).is_none_or(|row| offset < row.low_watermark) {
        return Ok(None);
    }
    let Some(stored) = store.batch_at(partition, offset)? else { return Ok(None) };
    let batch = RecordBatch::new(stored.bytes, Check::Crc)?.decompressed()?;
    let view = batch.view();
    let record = view.record(view.index_of(offset)).filter(|record| record.offset == offset);
    Ok(record.map(|record| record.to_record()))
}
