//! Publish and subscribe, over real QUIC.

use millstream_client::{
    BatchBuilder, CallError, Compression, Durability, ErrorCode, PublishOptions, Record, StartAt,
    SubscribeOptions, TopicConfig, TopicName,
};
use millstream_tests::{TestServer, publish, read_all, soon};

fn numbered(count: usize) -> impl Iterator<Item = Record> {
    (0..count).map(|n| Record::new(format!("payload-{n}")).with_key(format!("key-{}", n % 17)))
}

fn earliest(topic: &TopicName) -> SubscribeOptions {
    SubscribeOptions::ephemeral(topic.clone()).from(StartAt::Earliest)
}

#[tokio::test]
async fn what_is_published_is_read_in_order() {
    let server = TestServer::start().await;
    let (client, topic) = server.topic("orders", 3).await;
    publish(&client, &topic, numbered(5_000)).await;
    let records = read_all(&client, earliest(&topic)).await;
    assert_eq!(records.len(), 5_000);
    for partition in 0..3 {
        let offsets: Vec<_> =
            records.iter().filter(|record| record.0 == partition).map(|record| record.1).collect();
        assert_eq!(offsets, (0..offsets.len() as u64).collect::<Vec<_>>(), "partition {partition}");
    }
    // Per key in the producer's order, and always on one partition.
    for key in 0..17 {
        let of_key = |n: &usize| n % 17 == key;
        let numbers =
            records.iter().filter_map(|(_, _, payload)| payload.strip_prefix("payload-")?.parse().ok());
        let found: Vec<usize> = numbers.filter(of_key).collect();
        assert_eq!(found, (0..5_000).filter(of_key).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn every_part_of_a_record_arrives() {
    let server = TestServer::start().await;
    let (client, topic) = server.topic("parts", 1).await;
    let full = Record {
        message_id: Some("id-1".into()),
        deliver_at: None,
        expires_at: Some(i64::MAX),
        ..Record::new("body")
            .with_key("k")
            .with_header("a", "1")
            .with_header("b", vec![0, 255])
            .with_header("a", "2")
    };
    let tombstone = Record { payload: None, ..Record::new("").with_key("k") };
    publish(&client, &topic, [full.clone(), tombstone.clone()]).await;
    let mut consumer = client.subscribe(earliest(&topic)).await.unwrap();
    for (offset, wanted) in [full, tombstone].into_iter().enumerate() {
        let found = soon("a record", consumer.next_message()).await.unwrap().unwrap().to_record();
        assert!(found.timestamp > 1_600_000_000_000, "stamped by the broker");
        assert_eq!(found, Record { offset: offset as u64, timestamp: found.timestamp, ..wanted });
    }
}

#[tokio::test]
async fn the_tail_is_woken() {
    let server = TestServer::start().await;
    for (name, durability) in [("s", Durability::Sync), ("i", Durability::Interval)] {
        let client = server.client().await;
        let topic: TopicName = name.parse().unwrap();
        client
            .create_topic(topic.clone(), TopicConfig { partitions: 2, durability, ..TopicConfig::default() })
            .await
            .unwrap();
        let mut consumers = Vec::new();
        for _ in 0..3 {
            consumers.push(client.subscribe(SubscribeOptions::ephemeral(topic.clone())).await.unwrap());
        }
        for round in 0..20 {
            publish(&client, &topic, [Record::new(format!("{round}"))]).await;
            for consumer in &mut consumers {
                let message = soon("the record", consumer.next_message()).await.unwrap().unwrap();
                assert_eq!(message.payload(), Some(format!("{round}").as_bytes()));
            }
        }
    }
}

#[tokio::test]
async fn compressed_batches_are_kept_as_they_are() {
    let server = TestServer::start().await;
    let (client, topic) = server.topic("small", 1).await;
    for compression in [Compression::Lz4, Compression::Zstd] {
        let options = PublishOptions { compression, ..PublishOptions::default() };
        let publisher = client.publisher(topic.clone(), options).await.unwrap();
        for _ in 0..200 {
            drop(publisher.publish(Record::new("the same again and again ".repeat(20))).await.unwrap());
        }
        publisher.close().await.unwrap();
    }
    let records = read_all(&client, earliest(&topic)).await;
    assert_eq!(records.len(), 400);
    assert!(records.iter().all(|(_, _, payload)| payload.len() == 500));
    // A filter on headers reads them all the same.
    let options = earliest(&topic).with_module("std/headers", r#"{"header": "x", "exists": false}"#);
    assert_eq!(read_all(&client, options).await.len(), 400);
}

#[tokio::test]
async fn subscriptions_start_where_they_are_told() {
    let server = TestServer::start().await;
    let (client, topic) = server.topic("starts", 1).await;
    for n in 0..10 {
        publish(&client, &topic, [Record::new(format!("{n}"))]).await;
    }
    let first = |records: Vec<(u32, u64, String)>| records.first().map(|record| record.1);
    let from = |from| SubscribeOptions::ephemeral(topic.clone()).from(from);
    assert_eq!(first(read_all(&client, from(StartAt::Earliest)).await), Some(0));
    assert_eq!(first(read_all(&client, from(StartAt::Offset(7))).await), Some(7));
    assert_eq!(first(read_all(&client, from(StartAt::Latest)).await), None);
    assert_eq!(first(read_all(&client, from(StartAt::Time(0))).await), Some(0));
    assert_eq!(first(read_all(&client, from(StartAt::Time(i64::MAX))).await), None);
    // By the time of a record in the middle: that one or, within the same millisecond, an earlier one.
    let mut consumer = client.subscribe(from(StartAt::Offset(5))).await.unwrap();
    let fifth = consumer.next_message().await.unwrap().unwrap();
    let started = first(read_all(&client, from(StartAt::Time(fifth.timestamp()))).await).unwrap();
    let mut consumer = client.subscribe(from(StartAt::Offset(started))).await.unwrap();
    assert_eq!(consumer.next_message().await.unwrap().unwrap().timestamp(), fifth.timestamp());
    assert!(started <= 5);
    let error = client.subscribe(from(StartAt::Offset(11))).await.unwrap_err().to_string();
    assert!(error.contains("offset 11") && error.contains("10"), "{error}");
}

#[tokio::test]
async fn a_batch_with_a_middle_start_is_cut() {
    let server = TestServer::start().await;
    let (client, topic) = server.topic("cut", 1).await;
    let mut builder = BatchBuilder::new().with_compression(Compression::Zstd);
    for n in 0..100 {
        builder.push(&Record::new(format!("{n}"))).unwrap();
    }
    let publisher = client.publisher(topic.clone(), PublishOptions::default()).await.unwrap();
    let receipt = publisher.publish_batch(0, builder.build().unwrap()).await.unwrap().await.unwrap();
    assert_eq!((receipt.base_offset, receipt.records), (0, 100));
    let records = read_all(&client, SubscribeOptions::ephemeral(topic).from(StartAt::Offset(42))).await;
    assert_eq!(records.first(), Some(&(0, 42, "42".to_owned())));
    assert_eq!(records.len(), 58);
}

#[tokio::test]
async fn topics_are_administered() {
    let server = TestServer::start().await;
    let (client, topic) = server.topic("admin", 2).await;
    publish(&client, &topic, numbered(10)).await;
    let info = client.describe_topic(topic.clone()).await.unwrap();
    assert_eq!((info.records, info.offsets.len(), info.config.partitions), (10, 2, 2));
    let same = TopicConfig { partitions: 2, ..TopicConfig::default() };
    client.create_topic(topic.clone(), same).await.unwrap();
    let other = TopicConfig { partitions: 3, ..TopicConfig::default() };
    assert_eq!(code(client.create_topic(topic.clone(), other).await), ErrorCode::TopicExists);
    let none = TopicConfig { partitions: 0, ..TopicConfig::default() };
    assert_eq!(code(client.create_topic("none".parse().unwrap(), none).await), ErrorCode::BadRequest);

    let latest = SubscribeOptions::ephemeral(topic.clone()).from(StartAt::Latest);
    let mut reader = client.subscribe(latest).await.unwrap();
    client.delete_topic(topic.clone()).await.unwrap();
    let end = soon("the end", reader.next_message()).await.unwrap().unwrap_err().to_string();
    assert!(end.contains("topic admin was deleted"), "{end}");
    assert_eq!(code(client.describe_topic(topic.clone()).await), ErrorCode::UnknownTopic);
    assert_eq!(code(client.delete_topic(topic.clone()).await), ErrorCode::UnknownTopic);
    assert!(client.list_topics().await.unwrap().is_empty());
    // The name is free again, and starts anew.
    client.create_topic(topic.clone(), TopicConfig::default()).await.unwrap();
    assert_eq!(client.describe_topic(topic).await.unwrap().records, 0);
}

#[tokio::test]
async fn a_slow_reader_holds_nobody_up() {
    let server = TestServer::start().await;
    let (client, topic) = server.topic("slow", 1).await;
    let slow = server.client().await;
    let mut idle = slow.subscribe(earliest(&topic)).await.unwrap();
    // Far more than its credit and windows hold.
    publish(&client, &topic, (0..20_000).map(|_| Record::new(vec![7; 1_024]))).await;
    assert_eq!(read_all(&client, earliest(&topic)).await.len(), 20_000);
    for offset in 0..20_000 {
        let message = soon("a record", idle.next_message()).await.unwrap().unwrap();
        assert_eq!(message.offset(), offset);
    }
}

#[tokio::test]
async fn everything_is_there_after_a_restart() {
    let server = TestServer::start().await;
    let (client, topic) = server.topic("kept", 2).await;
    publish(&client, &topic, numbered(1_000)).await;
    let before = read_all(&client, earliest(&topic)).await;
    let node = client.info().await.unwrap().node;
    client.close().await;
    let server = server.restart().await;
    let client = server.client().await;
    assert_eq!(client.info().await.unwrap().node, node);
    let mut after = read_all(&client, earliest(&topic)).await;
    after.sort();
    let mut before = before;
    before.sort();
    assert_eq!(after, before);
    publish(&client, &topic, numbered(10)).await;
    assert_eq!(client.describe_topic(topic).await.unwrap().records, 1_010);
}

#[tokio::test]
async fn an_unknown_topic_is_named_with_its_remedy() {
    let server = TestServer::start().await;
    let client = server.client().await;
    let topic: TopicName = "nowhere".parse().unwrap();
    let error = client.publisher(topic.clone(), PublishOptions::default()).await.unwrap_err().to_string();
    assert!(error.contains("topic nowhere does not exist") && error.contains("topic create"), "{error}");
    let error = client.subscribe(earliest(&topic)).await.unwrap_err().to_string();
    assert!(error.contains("topic nowhere does not exist"), "{error}");
}

pub(crate) fn code<T: std::fmt::Debug>(result: Result<T, CallError>) -> ErrorCode {
    result.unwrap_err().code().expect("the broker refused")
}

#[tokio::test]
async fn a_named_producer_is_taken_over_by_the_next() {
    let server = TestServer::start().await;
    let (client, topic) = server.topic("t", 1).await;
    let options =
        || PublishOptions { producer: Some("orders".parse().unwrap()), ..PublishOptions::default() };
    let first = client.publisher(topic.clone(), options()).await.unwrap();
    first.publish(Record::new("1")).await.unwrap().await.unwrap();
    let second = client.publisher(topic.clone(), options()).await.unwrap();
    let fenced = first.publish(Record::new("2")).await.unwrap().await.unwrap_err().to_string();
    assert!(fenced.contains("was replaced") && fenced.contains("epoch 1"), "{fenced}");
    assert!(soon("the end", first.publish(Record::new("3"))).await.is_err(), "a fenced publisher has ended");
    second.publish(Record::new("4")).await.unwrap().await.unwrap();
    // The name survives a restart, with its epoch.
    second.close().await.unwrap();
    client.close().await;
    let server = server.restart().await;
    let client = server.client().await;
    let third = client.publisher(topic.clone(), options()).await.unwrap();
    third.publish(Record::new("5")).await.unwrap().await.unwrap();
    let records = read_all(&client, SubscribeOptions::ephemeral(topic).from(StartAt::Earliest)).await;
    assert_eq!(records.iter().map(|record| record.2.as_str()).collect::<Vec<_>>(), ["1", "4", "5"]);
}
