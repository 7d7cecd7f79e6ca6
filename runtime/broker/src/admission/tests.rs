//! Room is always given back; nobody is kept waiting by another's limit; who waits is told by which.

use std::num::NonZeroU64;

use futures_util::FutureExt as _;
use millstream_types::{BatchBuilder, Record, TopicConfig, TopicName};
use proptest::prelude::*;

use super::*;
use crate::Settings;

fn batch(bytes: usize) -> RecordBatch {
    let mut builder = BatchBuilder::new();
    builder.push(&Record { payload: Some(vec![b'x'; bytes].into()), ..Record::default() }).unwrap();
    builder.build().unwrap()
}

/// A broker with topics `a` and `b`.
async fn start(limits: Limits) -> (Broker, Arc<Topic>, Arc<Topic>, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::open(Settings {
        data_dir: dir.path().to_owned(),
        store: millstream_store::Options::default(),
        limits,
        module_limits: millstream_engine::Limits::default(),
        module_compiler: None,
        trust: millstream_engine::Trust::default(),
        stock: Vec::new(),
    })
    .unwrap();
    let create = async |name| {
        broker.create_topic(&TopicName::new(name).unwrap(), TopicConfig::default()).await.unwrap()
    };
    let (a, b) = (create("a").await, create("b").await);
    (broker, a, b, dir)
}

/// Waits for room that does not come, until the reason is told.
async fn why(broker: &Broker, connection: &Allowance, topic: &Topic, batch: &RecordBatch) -> SlowDown {
    let (tell, told) = tokio::sync::oneshot::channel();
    let mut tell = Some(tell);
    let waiting = broker.room_for(batch, connection, topic, |slow| {
        let _ = tell.take().map(|tell| tell.send(slow));
    });
    tokio::select! {
        _ = waiting => panic!("there was room"),
        slow = told => slow.unwrap(),
    }
}

#[tokio::test]
async fn one_connection_holds_up_neither_others_nor_is_it_stuck_with_what_is_larger_than_its_limit() {
    let (broker, a, b, _dir) = start(Limits { connection_bytes: 10_000, ..Limits::default() }).await;
    let (greedy, other) = (Allowance::new(&broker.shared.limits), Allowance::new(&broker.shared.limits));
    let large = batch(50_000);
    let held = broker.room_for(&large, &greedy, &a, |_| {}).now_or_never().unwrap().unwrap();
    let slow = why(&broker, &greedy, &b, &batch(1)).await;
    assert_eq!(slow, SlowDown { limit: PublishLimit::ConnectionBytes, value: 10_000, after_ms: None });
    // Held up is who is greedy.
    let room = broker.room_for(&batch(1), &other, &a, |_| {}).now_or_never().unwrap().unwrap();
    broker.append_in(room, &a, 0, batch(1)).unwrap().receipt().await.unwrap();
    let waiting = broker.room_for(&large, &greedy, &b, |_| {});
    tokio::pin!(waiting);
    assert!((&mut waiting).now_or_never().is_none());
    // Once it is committed, there is room again.
    broker.append_in(held, &a, 0, large.clone()).unwrap().receipt().await.unwrap();
    drop(waiting.await.unwrap());
    assert_eq!(greedy.quota.free.available_permits(), 10_000);
    assert_eq!(other.quota.free.available_permits(), 10_000);
}

#[tokio::test]
async fn one_topic_takes_only_its_share_of_the_backlog() {
    let limits = Limits { commit_backlog_bytes: 40_000, topic_bytes: 20_000, ..Limits::default() };
    let (broker, a, b, _dir) = start(limits).await;
    let connections: Vec<_> = (0..3).map(|_| Allowance::new(&broker.shared.limits)).collect();
    let batch = batch(10_000);
    let first = broker.room_for(&batch, &connections[0], &a, |_| {}).now_or_never().unwrap().unwrap();
    let slow = why(&broker, &connections[1], &a, &batch).await;
    assert_eq!((slow.limit, slow.value), (PublishLimit::TopicBytes, 20_000));
    let other = broker.room_for(&batch, &connections[2], &b, |_| {}).now_or_never().unwrap().unwrap();
    // What everybody has together is a limit, too.
    let (c, config) = (TopicName::new("c").unwrap(), TopicConfig::default());
    let c = broker.create_topic(&c, config).await.unwrap();
    let third = broker.room_for(&batch, &connections[2], &c, |_| {}).now_or_never().unwrap().unwrap();
    let slow = why(&broker, &connections[1], &b, &self::batch(8_000)).await;
    assert_eq!((slow.limit, slow.value), (PublishLimit::BrokerBytes, 40_000));
    drop((first, other, third));
    assert_eq!(broker.backlog().free.available_permits(), 40_000);
}

#[tokio::test]
async fn requests_are_refused_in_time_and_nothing_is_done() {
    let (broker, a, b, _dir) = start(Limits { topic_bytes: 1, ..Limits::default() }).await;
    let connection = Allowance::new(&broker.shared.limits);
    let held = broker.room_for(&batch(1), &connection, &b, |_| {}).await.unwrap();
    let both = || ["a", "b"].map(|name| (TopicName::new(name).unwrap(), 0, batch(1))).to_vec();
    let refused = broker.append_all(&connection, both()).await.unwrap_err();
    assert!(matches!(&refused, Error::SlowDown(slow) if slow.limit == PublishLimit::TopicBytes), "{refused}");
    assert_eq!((a.end(0), b.end(0)), (0, 0));
    drop(held);
    broker.append_all(&connection, both()).await.unwrap();
    assert_eq!((a.end(0), b.end(0)), (1, 1));

    let all = u64::from(broker.backlog().bytes);
    // What was answered is given back a moment later.
    let full = broker.backlog().take(all).await.unwrap();
    let name = TopicName::new("c").unwrap();
    let refused = broker.create_topic(&name, TopicConfig::default()).await.unwrap_err();
    assert!(
        matches!(&refused, Error::SlowDown(slow) if slow.limit == PublishLimit::BrokerBytes),
        "{refused}"
    );
    drop(full);
    broker.create_topic(&name, TopicConfig::default()).await.unwrap();
}

#[tokio::test]
async fn a_topic_s_rate_is_told_and_can_be_lifted_while_somebody_waits() {
    let (broker, a, b, _dir) = start(Limits::default()).await;
    let slowest = NonZeroU64::new(1_024);
    let change = |rate| vec![millstream_types::TopicChange::RateBytesPerS(rate)];
    broker.update_topic(a.name(), change(slowest)).await.unwrap();
    assert_eq!(broker.describe_topic(a.name()).unwrap().config.rate.bytes_per_s, slowest);
    let refused = broker.update_topic(a.name(), change(NonZeroU64::new(1))).await.unwrap_err();
    assert!(refused.to_string().contains("1024 or more"), "{refused}");

    let connection = Allowance::new(&broker.shared.limits);
    // It passes however large it is, and the next one waits.
    let first = broker.room_for(&batch(500_000), &connection, &a, |_| {}).now_or_never().unwrap().unwrap();
    broker.append_in(first, &a, 0, batch(500_000)).unwrap().receipt().await.unwrap();
    let slow = why(&broker, &connection, &a, &batch(1)).await;
    assert_eq!((slow.limit, slow.value), (PublishLimit::TopicBytesPerS, 1_024));
    assert!(slow.after_ms.is_some_and(|ms| ms > 400_000), "{slow}");
    // The same connection publishes to others meanwhile.
    drop(broker.room_for(&batch(1), &connection, &b, |_| {}).now_or_never().unwrap().unwrap());
    let small = batch(1);
    let waiting = broker.room_for(&small, &connection, &a, |_| {});
    tokio::pin!(waiting);
    assert!((&mut waiting).now_or_never().is_none());
    broker.update_topic(a.name(), change(None)).await.unwrap();
    drop(waiting.await.unwrap());
}

#[tokio::test]
async fn whoever_waits_for_a_topic_that_is_deleted_learns_it() {
    let (broker, a, _b, _dir) = start(Limits::default()).await;
    let change = vec![millstream_types::TopicChange::RateRecordsPerS(NonZeroU64::new(1))];
    broker.update_topic(a.name(), change).await.unwrap();
    let connection = Allowance::new(&broker.shared.limits);
    a.share().rate.try_pass(Weight { bytes: 0, records: 1_000_000 }).unwrap().keep();
    let small = batch(1);
    let waiting = broker.room_for(&small, &connection, &a, |_| {});
    tokio::pin!(waiting);
    assert!((&mut waiting).now_or_never().is_none());
    broker.delete_topic(a.name()).await.unwrap();
    let room = waiting.await.unwrap();
    let refused = broker.append_in(room, &a, 0, batch(1)).unwrap().receipt().await.unwrap_err();
    assert!(matches!(refused, Error::Gone), "{refused}");
}

proptest! {
    /// Whoever takes, gives up waiting, or gives back, and in whichever order: what is out never exceeds the limit, and in the
    /// end everything is there again.
    #[test]
    fn everything_is_given_back(
        limit in 1..100_usize,
        acts in prop::collection::vec((0..200_u64, any::<bool>(), any::<prop::sample::Index>()), 0..60),
    ) {
        let quota = Quota::new(limit);
        let mut held = Vec::new();
        for (bytes, give_back, which) in acts {
            // One that gives up waiting leaves nothing behind.
            if let Some(share) = quota.take(bytes).now_or_never() {
                held.push(share.unwrap());
            }
            if give_back && !held.is_empty() {
                drop(held.swap_remove(which.index(held.len())));
            }
            let out: usize = held.iter().map(Share::num_permits).sum();
            prop_assert_eq!(out + quota.free.available_permits(), limit);
            // Alone, anything passes.
            prop_assert!(out > 0 || quota.try_take(bytes).is_some());
        }
        drop(held);
        prop_assert_eq!(quota.free.available_permits(), limit);
    }
}
