//! What retention lets go, against a plain model; and a broker whose thread does it.

use std::{
    num::NonZeroU64,
    path::Path,
    time::{Duration, Instant},
};

use millstream_store::{Options, Persist};
use millstream_types::{
    BatchBuilder, Durability, Header, ProducerStamp, Record, StartAt, SubscriptionName, TopicConfig,
    TopicInfo,
};
use proptest::prelude::*;

use super::*;
use crate::{
    Broker, Limits, NewSubscription, Next, Reading, Settings, Subscription, command::Command,
    recover::recover,
};

/// Patience with what another thread does.
const PATIENCE: Duration = Duration::from_secs(30);

fn records(count: usize, bytes: usize) -> RecordBatch {
    let mut builder = BatchBuilder::new();
    for _ in 0..count {
        let payload = vec![b'x'; bytes].into();
        builder.push(&Record { payload: Some(payload), ..Record::default() }).unwrap();
    }
    builder.build().unwrap()
}

fn topic_name() -> TopicName {
    TopicName::new("t").unwrap()
}

/// A batch as the model knows it.
#[derive(Debug, Clone, Copy)]
struct Known {
    base: Offset,
    next: Offset,
    bytes: u64,
    appended: Timestamp,
}

/// How many of the oldest of `kept` may go: each for itself is past a limit, and the newest is not among them.
fn may_go(kept: &[Known], retention: Retention, now: Timestamp) -> usize {
    let end = kept.last().map_or(0, |batch| batch.next);
    let past = |(index, batch): (usize, &Known)| {
        let behind: u64 = kept[index + 1..].iter().map(|batch| batch.bytes).sum();
        let age = (now - batch.appended) as u64;
        retention.age_ms.is_some_and(|limit| age > limit.get())
            || retention.bytes.is_some_and(|limit| behind >= limit.get())
            || retention.records.is_some_and(|limit| end - batch.next >= limit.get())
    };
    let old = kept.iter().enumerate().take_while(|batch| past(*batch)).count();
    old.min(kept.len().saturating_sub(1))
}

fn limit(max: u64) -> impl Strategy<Value = Option<NonZeroU64>> {
    prop::option::weighted(0.4, (1..max).prop_map(|limit| NonZeroU64::new(limit).unwrap()))
}

fn retention() -> impl Strategy<Value = Retention> {
    (limit(300), limit(12_000), limit(40)).prop_map(|(age_ms, bytes, records)| Retention {
        age_ms,
        bytes,
        records,
    })
}

#[derive(Debug, Clone)]
enum Act {
    Append { records: usize, bytes: usize, later: Timestamp },
    Sweep { later: Timestamp },
    Update(Retention),
    Restart,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        6 => (1..12usize, 1..300usize, 0..60i64).prop_map(|(records, bytes, later)| Act::Append { records, bytes, later }),
        4 => (0..60i64).prop_map(|later| Act::Sweep { later }),
        1 => retention().prop_map(Act::Update),
        1 => Just(Act::Restart),
    ]
}

fn apply(shard: &mut Shard, store: &Store, command: Command) {
    let mut batch = store.batch();
    shard.apply(command, &mut batch, &mut Vec::new()).result.unwrap();
    store.commit(batch, Persist::Buffer).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 60, ..ProptestConfig::default() })]
    /// Nothing within the limits goes, all that is past one does, and what is kept is whole.
    #[test]
    fn only_what_is_past_a_limit_goes(mut config in retention(), acts in prop::collection::vec(act(), 1..80)) {
        let dir = tempfile::tempdir().unwrap();
        let (store, _) = Store::open(dir.path(), &Options { reclaim_bytes_min: 1, ..Options::default() }).unwrap();
        let mut shard = recover(&store, Limits::default()).unwrap();
        let topic = TopicConfig { retention: config, ..TopicConfig::default() };
        apply(&mut shard, &store, Command::CreateTopic { name: topic_name(), config: topic, now: 1 });
        let (partition, mut oldest, mut now) = (PartitionId(0), Oldest::new(), 1_000);
        let (mut kept, mut end) = (Vec::<Known>::new(), 0);
        for act in acts {
            match act {
                Act::Append { records: count, bytes, later } => {
                    now += later;
                    let batch = records(count, bytes);
                    let (base, bytes) = (end, batch.as_bytes().len() as u64);
                    end += count as u64;
                    kept.push(Known { base, next: end, bytes, appended: now });
                    apply(&mut shard, &store, Command::Append { partition, batch, now });
                }
                Act::Sweep { later } => {
                    now += later;
                    let gone = may_go(&kept, config, now);
                    let cut = cut(&store, partition, config, now, &mut oldest).unwrap();
                    prop_assert_eq!(cut.is_some(), gone > 0, "{:?} of {:?} at {}", cut, kept, now);
                    kept.drain(..gone);
                    if let Some(Cut { from, to, freed_bytes, freed_holes, .. }) = cut {
                        prop_assert_eq!(to, kept[0].base, "{:?} at {}", kept, now);
                        let raise = Command::RaiseLowWatermark { partition, retention: config, from, to, freed_bytes, freed_holes };
                        apply(&mut shard, &store, raise);
                    }
                }
                Act::Update(retention) => {
                    config = retention;
                    let changes = vec![
                        TopicChange::RetentionAgeMs(retention.age_ms),
                        TopicChange::RetentionBytes(retention.bytes),
                        TopicChange::RetentionRecords(retention.records),
                    ];
                    apply(&mut shard, &store, Command::UpdateTopic { name: topic_name(), changes });
                }
                Act::Restart => {
                    store.reclaim().unwrap();
                    shard = recover(&store, Limits::default()).unwrap();
                }
            }
            let row = store.partition(partition).unwrap();
            prop_assert_eq!(row.bytes, kept.iter().map(|batch| batch.bytes).sum::<u64>());
            let bases: Vec<_> = store.read(partition, 0, Offset::MAX, usize::MAX).unwrap()
                .iter().map(|batch| batch.base_offset).collect();
            prop_assert_eq!(bases, kept.iter().map(|batch| batch.base).collect::<Vec<_>>());
        }
    }
}

fn open(dir: &Path) -> Broker {
    let limits = Limits { retention_interval: Duration::from_millis(5), ..Limits::default() };
    Broker::open(Settings {
        data_dir: dir.to_owned(),
        store: Options { reclaim_bytes_min: 1, ..Options::default() },
        limits,
        module_limits: millstream_engine::Limits::default(),
        module_compiler: None,
        trust: millstream_engine::Trust::default(),
        stock: Vec::new(),
    })
    .unwrap()
}

async fn create(broker: &Broker, records: Option<u64>) {
    let retention = Retention { records: records.and_then(NonZeroU64::new), ..Retention::default() };
    let config = TopicConfig { retention, durability: Durability::Interval, ..TopicConfig::default() };
    broker.create_topic(&topic_name(), config).await.unwrap();
}

async fn keep(broker: &Broker, records: u64) {
    let changes = vec![TopicChange::RetentionRecords(NonZeroU64::new(records))];
    broker.update_topic(&topic_name(), changes).await.unwrap();
}

/// Appends ten batches of ten records.
async fn publish(broker: &Broker) {
    let topic = broker.topic(&topic_name()).unwrap();
    for _ in 0..10 {
        let pending = broker.append(&topic, 0, records(10, 200)).await.unwrap();
        pending.receipt().await.unwrap();
    }
}

/// The topic once it begins with `earliest`.
fn wait_for(broker: &Broker, earliest: Offset) -> TopicInfo {
    let since = Instant::now();
    loop {
        let info = broker.describe_topic(&topic_name()).unwrap();
        if info.offsets[0].earliest == earliest {
            return info;
        }
        assert!(since.elapsed() < PATIENCE, "{info:?}");
        std::thread::yield_now();
    }
}

fn from(from: StartAt, name: Option<&str>) -> NewSubscription {
    let name = name.map(|name| SubscriptionName::new(name).unwrap());
    NewSubscription {
        topic: topic_name().into(),
        name,
        from,
        pipeline: None,
        on_fault: Default::default(),
        delivery: None,
    }
}

/// Where the first batch comes from, and the progress told before it.
async fn first(reading: &mut Reading) -> (Option<Offset>, Offset) {
    let mut progress = None;
    loop {
        match tokio::time::timeout(PATIENCE, reading.next()).await.unwrap().unwrap() {
            Next::Gone { .. } => panic!("there is one topic"),
            Next::Progress { next, .. } => progress = Some(next),
            Next::Batch { batch, .. } => return (progress, batch.view().record(0).unwrap().offset),
        }
    }
}

fn missed(subscription: &Subscription) -> u64 {
    subscription.info().counters.missed
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn starts_are_clamped_and_a_late_reader_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let broker = open(dir.path());
    create(&broker, None).await;
    publish(&broker).await;
    broker
        .create_subscription(SubscriptionName::new("late").unwrap(), from(StartAt::Earliest, None))
        .await
        .unwrap();
    // One that has read something, and reads on after the records were deleted.
    let mut reading = broker.subscribe(from(StartAt::Earliest, Some("slow"))).await.unwrap();
    assert_eq!(first(&mut reading).await, (None, 0));
    broker.ack(reading.subscription(), vec![(0, 10)]).await.unwrap();
    drop(reading);

    keep(&broker, 25).await;
    let info = wait_for(&broker, 70);
    assert_eq!((info.records, info.offsets[0].latest), (30, 100));
    assert_eq!(info.bytes, 3 * records(10, 200).as_bytes().len() as u64);
    assert_eq!(info.config.retention.records, NonZeroU64::new(25));

    for start in [StartAt::Earliest, StartAt::Offset(3), StartAt::Time(0)] {
        let mut reading = broker.subscribe(from(start, None)).await.unwrap();
        assert_eq!(first(&mut reading).await, (None, 70));
        assert_eq!(missed(reading.subscription()), 0, "it never asked for what is gone");
    }
    for (name, position) in [("late", 0), ("slow", 10)] {
        let mut reading = broker.subscribe(from(StartAt::Earliest, Some(name))).await.unwrap();
        assert_eq!(first(&mut reading).await, (Some(70), 70), "{name}");
        assert_eq!(missed(reading.subscription()), 70 - position, "{name}");
    }
    // A reader without a durable position that goes on after a reconnect.
    let mut reading = broker.subscribe(from(StartAt::Offsets(vec![40]), None)).await.unwrap();
    assert_eq!(first(&mut reading).await, (Some(70), 70));
    assert_eq!(missed(reading.subscription()), 30);
    drop(reading);

    broker.close();
    drop(broker);
    let broker = open(dir.path());
    assert_eq!(broker.describe_topic(&topic_name()).unwrap(), info, "a restart changes nothing");
    broker.close();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_that_waits_may_go_while_it_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let broker = open(dir.path());
    create(&broker, Some(1)).await;
    let mut reading = broker.subscribe(from(StartAt::Earliest, None)).await.unwrap();
    for round in 1..=20 {
        publish(&broker).await;
        wait_for(&broker, round * 100 - 10);
    }
    // Whatever was deleted before it was read: each offset is scanned, or counted as missed, once.
    let (mut scanned, mut delivered) = (0, 0);
    while scanned < 2_000 {
        match tokio::time::timeout(PATIENCE, reading.next()).await.unwrap().unwrap() {
            Next::Gone { .. } => panic!("there is one topic"),
            Next::Progress { next, .. } => scanned = next,
            Next::Batch { next, batch, .. } => {
                assert!(batch.view().base_offset() >= scanned);
                delivered += batch.view().len() as u64;
                scanned = next;
            }
        }
    }
    assert_eq!(delivered + missed(reading.subscription()), 2_000);
    broker.close();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_duplicate_below_the_low_watermark_is_told_so() {
    let dir = tempfile::tempdir().unwrap();
    let broker = open(dir.path());
    create(&broker, None).await;
    let topic = broker.topic(&topic_name()).unwrap();
    let batch = |sequence: u32| {
        let mut builder = BatchBuilder::new();
        let headers = vec![Header { name: "n".into(), value: sequence.to_string().into() }];
        builder.push(&Record { headers, ..Record::new("x") }).unwrap();
        builder.build().unwrap().with_producer(ProducerStamp { id: 9, epoch: 0, sequence })
    };
    // More than the partition remembers the places of.
    for sequence in 0..100 {
        broker.append(&topic, 0, batch(sequence)).await.unwrap().receipt().await.unwrap();
    }
    let again = |sequence| broker.append(&topic, 0, batch(sequence));
    assert_eq!(again(3).await.unwrap().receipt().await.unwrap().base_offset, 3);
    keep(&broker, 50).await;
    wait_for(&broker, 50);
    let gone = again(3).await.unwrap().receipt().await;
    assert!(matches!(gone, Err(Error::DuplicateGone { id: 9, sequence: 3 })), "{gone:?}");
    assert_eq!(again(60).await.unwrap().receipt().await.unwrap().base_offset, 60);
    assert_eq!(topic.end(0), 100, "nothing was appended again");
    broker.close();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_without_limits_keeps_everything() {
    let dir = tempfile::tempdir().unwrap();
    let broker = open(dir.path());
    create(&broker, Some(1)).await;
    // Another topic shows that sweeps have taken place.
    let kept = TopicName::new("kept").unwrap();
    broker.create_topic(&kept, TopicConfig::default()).await.unwrap();
    let topic = broker.topic(&kept).unwrap();
    for _ in 0..5 {
        broker.append(&topic, 0, records(10, 10)).await.unwrap().receipt().await.unwrap();
    }
    publish(&broker).await;
    wait_for(&broker, 90);
    // Lifted, nothing more goes; the other limits are as they were.
    let changes = vec![TopicChange::RetentionRecords(None)];
    broker.update_topic(&topic_name(), changes).await.unwrap();
    publish(&broker).await;
    broker.update_topic(&kept, vec![TopicChange::RetentionRecords(NonZeroU64::new(1))]).await.unwrap();
    let since = Instant::now();
    while broker.describe_topic(&kept).unwrap().offsets[0].earliest < 40 {
        assert!(since.elapsed() < PATIENCE);
        std::thread::yield_now();
    }
    let info = broker.describe_topic(&topic_name()).unwrap();
    assert_eq!((info.offsets[0].earliest, info.records), (90, 110));
    assert!(matches!(
        broker.update_topic(&TopicName::new("nowhere").unwrap(), Vec::new()).await,
        Err(Error::UnknownTopic(_))
    ));
    broker.close();
}
