//! "Slow down": who publishes too much is told, loses nothing, and holds nobody else up.

use std::{num::NonZeroU64, time::Duration};

use millstream_client::{
    CallError, Client, ConnectError, ConnectOptions, ErrorCode, PublishError, PublishLimit, PublishOptions,
    PublishRate, Publisher, Record, SlowDown, StartAt, SubscribeOptions, TopicChange, TopicConfig, TopicName,
};
use millstream_tests::{Damage, PATIENCE, TestServer, publish, read_all, soon};

/// So little that what is held back by it is held back for as long as a test may take.
const SLOWEST: NonZeroU64 = NonZeroU64::new(1_024).unwrap();
/// Costs a quarter of an hour at that rate.
const LARGE: usize = 900_000;
const QUIET: Damage =
    Damage { lost: 0.0, repeated: 0.0, delayed: 0.0, delay: Duration::ZERO, moves_after: None };

fn numbered(from: usize, to: usize) -> impl Iterator<Item = Record> {
    (from..to).map(|n| Record::new(n.to_string()))
}

fn large() -> Record {
    Record::new(vec![b'x'; LARGE])
}

async fn publisher(client: &Client, topic: &TopicName) -> Publisher {
    client.publisher(topic.clone(), PublishOptions::default()).await.unwrap()
}

async fn set_rate(client: &Client, topic: &TopicName, bytes_per_s: Option<NonZeroU64>) {
    let change = vec![TopicChange::RateBytesPerS(bytes_per_s)];
    client.update_topic(topic.clone(), change).await.unwrap();
}

/// A publisher that has sent a record which is paid for in a quarter of an hour, and then a few that wait for that.
async fn held_back(client: &Client, topic: &TopicName) -> (Publisher, SlowDown) {
    let publisher = publisher(client, topic).await;
    soon("the first receipt", publisher.publish(large()).await.unwrap()).await.unwrap();
    for record in numbered(0, 5) {
        drop(publisher.publish(record).await.unwrap());
    }
    let mut slowed = publisher.slowed();
    let slow = *soon("a word of the broker", slowed.wait_for(Option::is_some)).await.unwrap();
    (publisher, slow.unwrap())
}

/// Waits until no publisher is held back.
async fn all_go_on(client: &Client) {
    soon("the last publisher to go on", async {
        while client.info().await.unwrap().slowed > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_greedy_connection_is_told_and_others_go_on() {
    let rate = PublishRate { bytes_per_s: Some(SLOWEST), records_per_s: None };
    let server = TestServer::start_with(|config| config.broker.connection_rate = rate).await;
    let (greedy, topic) = server.topic("t", 1).await;
    let (publisher, slow) = held_back(&greedy, &topic).await;
    assert_eq!((slow.limit, slow.value), (PublishLimit::ConnectionBytesPerS, SLOWEST.get()));
    assert!(slow.after_ms.is_some_and(|ms| ms > 100_000), "{slow}");
    assert!(publisher.slowed_for() > Duration::ZERO);

    // To the same topic, over another connection.
    let other = server.client().await;
    publish(&other, &topic, numbered(100, 110)).await;
    let info = other.info().await.unwrap();
    assert_eq!((info.slowed, info.slow_downs), (1, 1), "{info:?}");
    // Requests are answered over the same one.
    greedy.ping().await.unwrap();
    assert_eq!(publisher.counts().records, 1, "nothing more was taken");
    assert_eq!(other.describe_topic(topic).await.unwrap().records, 11);
}

#[tokio::test]
async fn a_topic_s_rate_holds_up_that_topic_alone_and_nothing_is_lost_or_out_of_order() {
    let server = TestServer::start().await;
    let (client, topic) = server.topic("t", 1).await;
    set_rate(&client, &topic, Some(SLOWEST)).await;
    let (publisher, slow) = held_back(&client, &topic).await;
    assert_eq!((slow.limit, slow.value), (PublishLimit::TopicBytesPerS, SLOWEST.get()));

    let free: TopicName = "free".parse().unwrap();
    client.create_topic(free.clone(), TopicConfig::default()).await.unwrap();
    publish(&client, &free, numbered(0, 100)).await;
    assert_eq!(client.describe_topic(free).await.unwrap().records, 100);

    for record in numbered(5, 50) {
        drop(publisher.publish(record).await.unwrap());
    }
    assert_eq!(client.describe_topic(topic.clone()).await.unwrap().records, 1);
    let mut slowed = publisher.slowed();
    set_rate(&client, &topic, None).await;
    soon("the receipts", publisher.flush()).await.unwrap();
    soon("the word that it goes on", slowed.wait_for(Option::is_none)).await.unwrap();
    all_go_on(&client).await;
    let from = StartAt::Offset(1);
    let found = read_all(&client, SubscribeOptions::ephemeral(topic).from(from)).await;
    let expected: Vec<_> = (0..50).map(|n| (0, n + 1, n.to_string())).collect();
    assert_eq!(found, expected);
}

#[tokio::test]
async fn who_does_not_wait_is_told_by_the_error() {
    let server = TestServer::start().await;
    let (client, topic) = server.topic("t", 1).await;
    set_rate(&client, &topic, Some(SLOWEST)).await;
    let options = PublishOptions { in_flight_bytes: 1_000_000, ..PublishOptions::default() };
    let publisher = client.publisher(topic.clone(), options).await.unwrap();
    soon("a receipt", publisher.try_publish(large()).unwrap()).await.unwrap();
    drop(publisher.try_publish(large()).unwrap());
    let mut slowed = publisher.slowed();
    soon("a word of the broker", slowed.wait_for(Option::is_some)).await.unwrap();
    match publisher.try_publish(large()).unwrap_err() {
        error @ PublishError::Full { in_flight_bytes: 1_000_000, slow_down: Some(slow) } => {
            assert_eq!(slow.limit, PublishLimit::TopicBytesPerS);
            assert!(error.to_string().contains("1024 bytes a second"), "{error}");
        }
        other => panic!("{other}"),
    }
    // What is small finds room.
    drop(publisher.try_publish(Record::new("small")).unwrap());
    set_rate(&client, &topic, None).await;
    soon("the receipts", publisher.close()).await.unwrap();
    assert_eq!(client.describe_topic(topic).await.unwrap().records, 3);
}

#[tokio::test]
async fn who_leaves_while_held_back_leaves_nothing_behind() {
    let server = TestServer::start().await;
    let (direct, topic) = server.topic("t", 1).await;
    set_rate(&direct, &topic, Some(SLOWEST)).await;
    let client = server.client().await;
    let (publisher, _) = held_back(&client, &topic).await;
    client.close().await;
    all_go_on(&direct).await;
    drop(publisher);
    assert_eq!(direct.describe_topic(topic.clone()).await.unwrap().records, 1);
    // Nor does it hold up who comes after.
    set_rate(&direct, &topic, None).await;
    publish(&direct, &topic, numbered(0, 10)).await;
    assert_eq!(direct.describe_topic(topic).await.unwrap().records, 11);
}

#[tokio::test]
async fn what_was_held_back_when_the_connection_was_lost_is_stored_once() {
    let server = TestServer::start().await;
    let (direct, topic) = server.topic("t", 1).await;
    set_rate(&direct, &topic, Some(SLOWEST)).await;
    let network = server.network(QUIET, 0).await;
    let url = server.url();
    let url = millstream_client::Url::new(url.host(), network.address().port(), url.trust().clone());
    let idle_timeout = Duration::from_secs(1);
    let options = ConnectOptions { connect_timeout: PATIENCE, idle_timeout, ..ConnectOptions::default() };
    let client = Client::connect(&url, options).await.unwrap();
    let (publisher, _) = held_back(&client, &topic).await;
    let mut slowed = publisher.slowed();
    network.set_dark(true);
    // Its former connection ends at both ends, which is when the publisher is no longer held back by it.
    soon("the connection to be lost", slowed.wait_for(Option::is_none)).await.unwrap();
    all_go_on(&direct).await;
    network.set_dark(false);
    soon("the same word again", slowed.wait_for(Option::is_some)).await.unwrap();
    set_rate(&direct, &topic, None).await;
    soon("the receipts", publisher.close()).await.unwrap();
    assert_eq!(direct.describe_topic(topic).await.unwrap().records, 6);
}

#[tokio::test]
async fn too_many_streams_are_refused_and_requests_still_answered() {
    let server = TestServer::start_with(|config| config.streams_max = 3).await;
    let (client, topic) = server.topic("t", 1).await;
    let mut open = Vec::new();
    for _ in 0..3 {
        open.push(publisher(&client, &topic).await);
    }
    let refused = client.publisher(topic.clone(), PublishOptions::default()).await.unwrap_err();
    let PublishError::Open(refused) = refused else { panic!("{refused}") };
    assert_eq!((refused.code(), refused.is_retryable()), (Some(ErrorCode::SlowDown), true));
    assert!(refused.retry_after().is_some() && refused.to_string().contains("streams_max"), "{refused}");
    let refused = client.subscribe(SubscribeOptions::ephemeral(topic.clone())).await.unwrap_err();
    assert!(refused.to_string().contains("streams_max"), "{refused}");
    client.ping().await.unwrap();
    drop(open.pop());
    soon("a place", async {
        while client.publisher(topic.clone(), PublishOptions::default()).await.is_err() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn too_many_connections_are_told_and_wait_their_turn() {
    let server = TestServer::start_with(|config| config.connections_max = 1).await;
    let first = server.client().await;
    let options = |connect_timeout| ConnectOptions { connect_timeout, ..ConnectOptions::default() };
    let refused = Client::connect(&server.url(), options(Duration::from_secs(2))).await.unwrap_err();
    assert!(refused.is_retryable(), "{refused}");
    assert!(refused.to_string().contains("connections_max"), "{refused}");
    assert!(
        matches!(&refused, ConnectError::Refused(error) if error.code == ErrorCode::SlowDown),
        "{refused:?}"
    );
    let url = server.url();
    let second = tokio::spawn(async move { Client::connect(&url, options(PATIENCE)).await });
    first.ping().await.unwrap();
    first.close().await;
    soon("the second connection", second).await.unwrap().unwrap().ping().await.unwrap();
}

#[tokio::test]
async fn requests_are_tried_again_until_their_time_is_up() {
    let server = TestServer::start().await;
    let (direct, topic) = server.topic("t", 1).await;
    set_rate(&direct, &topic, Some(SLOWEST)).await;
    publish(&direct, &topic, [large()]).await;
    let options = ConnectOptions { request_timeout: Duration::from_secs(4), ..ConnectOptions::default() };
    let client = Client::connect(&server.url(), options).await.unwrap();
    let one = || vec![(topic.clone(), Record::new("one"))];
    let refused = client.publish_atomically(one()).await.unwrap_err();
    let PublishError::Open(error @ CallError::Refused(_)) = &refused else { panic!("{refused}") };
    assert_eq!(error.code(), Some(ErrorCode::SlowDown));
    assert!(refused.to_string().contains("1024 bytes a second"), "{refused}");
    assert_eq!(direct.describe_topic(topic.clone()).await.unwrap().records, 1);

    let patient = direct.clone();
    let records = one();
    let publishing = tokio::spawn(async move { patient.publish_atomically(records).await });
    set_rate(&direct, &topic, None).await;
    soon("the receipt", publishing).await.unwrap().unwrap();
    assert_eq!(direct.describe_topic(topic).await.unwrap().records, 2);
}

#[tokio::test]
async fn a_rate_at_which_nobody_can_work_is_refused() {
    let server = TestServer::start().await;
    let client = server.client().await;
    let rate = PublishRate { bytes_per_s: NonZeroU64::new(5), records_per_s: None };
    let config = TopicConfig { rate, ..TopicConfig::default() };
    let refused = client.create_topic("t".parse().unwrap(), config).await.unwrap_err();
    assert_eq!(refused.code(), Some(ErrorCode::BadRequest));
    assert!(refused.to_string().contains("1024 or more"), "{refused}");
}
