//! Modules on a topic's ingest: validated, enriched, dropped, rejected at publish; each record gets its own answer.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use millstream_client::{
    BatchBuilder, Binding, Client, Compression, ConnectOptions, ErrorCode, IngestInfo, PublishError,
    PublishLimit, PublishOptions, Publisher, Receipt, Reconnect, Record, RecordReceipt, StartAt,
    SubscribeOptions, TopicConfig, TopicName, Unstored,
};
use millstream_quic::{FrameReader, FrameWriter};
use millstream_test_guests::guest;
use millstream_tests::{Damage, TestServer, publish, read_all, soak, soon};
use millstream_types::{ProducerId, ProducerStamp};
use millstream_wire::{Answer, PublishHead, PublishReady, Receipts, WireError};

use crate::{
    hostile_peers::{ANSWERS, greeted, open_publish},
    messages::code,
};

const SCHEMA: &str = r#"{"schema": {"type": "object", "required": ["carrier"]}}"#;
const ENRICH: &str =
    r#"{"by": {"pointer": "/carrier"}, "table": {"UA": {"airline": "United"}}, "into": {"pointer": ""}}"#;

fn binding(module: &str, config: &str) -> Binding {
    Binding { module: module.into(), config: config.into() }
}

/// The guest of this name, which only the topic that binds it has.
async fn private(client: &Client, name: &str, config: &str) -> Binding {
    let module = client.put_private_module(guest(name).into()).await.unwrap();
    binding(&format!("sha256:{}", module.sha256), config)
}

/// A topic with the guest `emitter` on its ingest, which emits nowhere else.
async fn emitting(server: &TestServer, partitions: u32) -> (Client, TopicName) {
    let (client, topic) = server.topic("t", partitions).await;
    let emitter = private(&client, "emitter", r#""here""#).await;
    client.set_ingest(topic.clone(), vec![emitter]).await.unwrap();
    (client, topic)
}

async fn ingest(client: &Client, topic: &TopicName) -> IngestInfo {
    *client.describe_topic(topic.clone()).await.unwrap().ingest.expect("modules on its ingest")
}

/// Waits until the ingest of `topic` is as wanted.
async fn until(client: &Client, topic: &TopicName, holds: impl Fn(&IngestInfo) -> bool) -> IngestInfo {
    soon("the ingest to be as wanted", async {
        loop {
            let found = ingest(client, topic).await;
            if holds(&found) {
                return found;
            }
            tokio::task::yield_now().await;
        }
    })
    .await
}

async fn publisher(client: &Client, topic: &TopicName) -> Publisher {
    client.publisher(topic.clone(), PublishOptions::default()).await.unwrap()
}

/// What each of `records` got, published as one batch to partition 0.
async fn results(
    publisher: &Publisher,
    records: impl IntoIterator<Item = Record>,
) -> Vec<Result<RecordReceipt, PublishError>> {
    let mut pending = Vec::new();
    for record in records {
        pending.push(publisher.publish_to(0, record).await.unwrap());
    }
    let mut results = Vec::new();
    for pending in pending {
        results.push(soon("a receipt", pending).await);
    }
    results
}

/// In a few words.
fn told(result: &Result<RecordReceipt, PublishError>) -> String {
    match result {
        Ok(receipt) if receipt.dropped => "dropped".into(),
        Ok(receipt) => format!("at {}", receipt.offset),
        Err(PublishError::Rejected { reason, .. }) => format!("rejected: {reason}"),
        Err(PublishError::Faulted { cause, .. }) => format!("faulted: {cause}"),
        Err(other) => format!("failed: {other}"),
    }
}

async fn stored(client: &Client, topic: &TopicName) -> Vec<String> {
    let options = SubscribeOptions::ephemeral(topic.clone()).from(StartAt::Earliest);
    read_all(client, options).await.into_iter().map(|record| record.2).collect()
}

fn records(payloads: &[&str]) -> Vec<Record> {
    payloads.iter().map(|payload| Record::new(payload.to_string())).collect()
}

#[tokio::test]
async fn records_are_validated_and_enriched_before_they_are_stored() {
    let server = TestServer::start().await;
    let client = server.client().await;
    let topic: TopicName = "flights".parse().unwrap();
    let modules = vec![binding("std/schema", SCHEMA), binding("std/enrich", ENRICH)];
    let created =
        client.create_judged_topic(topic.clone(), TopicConfig::default(), modules.clone()).await.unwrap();
    assert_eq!(created.ingest.as_ref().map(|ingest| (ingest.revision, ingest.pipeline.len())), Some((1, 2)));
    let publisher = publisher(&client, &topic).await;
    let payloads =
        [r#"{"carrier":"UA"}"#, r#"{"n":1}"#, r#"{"carrier":"AA"}"#, "no JSON", r#"{"carrier":"UA","n":2}"#];
    let results = results(&publisher, records(&payloads)).await;
    let reason = "rejected: the payload does not fit the schema: the whole: missing properties 'carrier'";
    assert_eq!(
        results.iter().map(told).collect::<Vec<_>>()[..3],
        ["at 0".to_owned(), reason.into(), "at 1".into()]
    );
    let Err(PublishError::Rejected { module, reason }) = &results[3] else { panic!("{results:?}") };
    assert!(module.starts_with("std/schema@") && reason.contains("not JSON"), "{module}: {reason}");
    assert_eq!(told(&results[4]), "at 2");
    assert_eq!(
        stored(&client, &topic).await,
        [
            r#"{"carrier":"UA","airline":"United"}"#,
            r#"{"carrier":"AA"}"#,
            r#"{"carrier":"UA","n":2,"airline":"United"}"#
        ]
    );
    let info = ingest(&client, &topic).await;
    let counts = (info.records_in, info.rejected, info.faulted, info.dropped, info.changed);
    assert_eq!(counts, (5, 2, 0, 0, 2), "{info:?}");
    assert!(info.bound_ms > 0 && info.sha256.len() == 2);
    let used =
        info.modules.iter().map(|used| (used.records, used.calls > 0 && used.module_ns > 0, used.faults));
    assert_eq!(used.collect::<Vec<_>>(), [(5, true, 0), (3, true, 0)]);
    let schema = client.describe_module("std/schema").await.unwrap();
    assert_eq!(schema.usage.as_deref(), info.modules.first(), "what an ingest uses counts");
    assert_eq!(schema.capabilities, ["log"]);
    let flushed = publisher.flush().await;
    assert!(matches!(flushed, Err(PublishError::Rejected { .. })), "{flushed:?}");
    let counts = publisher.counts();
    assert_eq!((counts.records, counts.rejected, counts.failed_batches), (3, 2, 0));

    // Created again: with the same, with nothing to say of it, and with others.
    let again = |modules| client.create_judged_topic(topic.clone(), TopicConfig::default(), modules);
    again(modules.clone()).await.unwrap();
    again(Vec::new()).await.unwrap();
    assert_eq!(code(again(vec![modules[0].clone()]).await), ErrorCode::TopicExists);
    let without = client.set_ingest(topic.clone(), Vec::new()).await.unwrap();
    assert_eq!(without.ingest, None);
    assert_eq!(told(&self::results(&publisher, records(&["no JSON"])).await[0]), "at 3");
}

#[tokio::test]
async fn one_record_may_become_none_or_several_however_it_is_compressed() {
    let server = TestServer::start().await;
    let (client, topic) = emitting(&server, 1).await;
    let payloads = ["ok", "drop", "reject", "nothing", "split", "emit", "ok too", "key"];
    let mut base = 0;
    for compression in [Compression::None, Compression::Lz4, Compression::Zstd] {
        let options = PublishOptions { compression, ..PublishOptions::default() };
        let publisher = client.publisher(topic.clone(), options).await.unwrap();
        let mut batch = BatchBuilder::new().with_compression(compression);
        records(&payloads).iter().for_each(|record| batch.push(record).unwrap());
        let pending = publisher.publish_batch(0, batch.build().unwrap()).await.unwrap();
        let receipt = soon("a receipt", pending).await.unwrap();
        assert_eq!((receipt.base_offset, receipt.records), (base, 8));
        let places: Vec<_> = [0, 4, 5, 6].map(|position| receipt.offset_of(position) - base).into();
        assert_eq!(places, [0, 1, 4, 5]);
        let unstored: Vec<_> = receipt.unstored.iter().map(|(at, why)| (at, why.clone())).collect();
        assert_eq!(unstored[0], (1, Unstored::Dropped));
        assert!(matches!(&unstored[1], (2, Unstored::Rejected { reason, .. }) if reason == "bad record"));
        assert_eq!(unstored[2], (3, Unstored::Dropped));
        assert!(
            matches!(&unstored[3], (7, Unstored::Faulted { cause, .. }) if cause.contains("output_too_large"))
        );
        assert_eq!(unstored.len(), 4);
        base += 6;
    }
    let found = stored(&client, &topic).await;
    assert_eq!(found.len(), 18);
    for batch in found.chunks(6) {
        assert_eq!((batch[0].as_str(), batch[4].as_str(), batch[5].as_str()), ("ok", "EMITTED", "ok too"));
    }
    let info = ingest(&client, &topic).await;
    assert_eq!((info.dropped, info.rejected, info.faulted, info.changed), (6, 3, 3, 6), "{info:?}");
}

#[tokio::test]
async fn what_a_module_fails_on_is_refused_and_its_neighbours_are_stored() {
    let server = TestServer::start().await;
    let (client, topic) = server.topic("t", 1).await;
    let hostile = private(&client, "hostile", r#""fine""#).await;
    client.set_ingest(topic.clone(), vec![hostile]).await.unwrap();
    let publisher = publisher(&client, &topic).await;
    let payloads = ["a", "Panic", "b", "Trap", "Undeclared", "c", "Later", "d", "Retry", "e", "Count", "f"];
    let found = results(&publisher, records(&payloads)).await;
    let found: Vec<_> = found.iter().map(told).collect();
    let is = |at: usize, text: &str| assert!(found[at].contains(text), "{at}: {found:?}");
    is(1, "faulted: module fault (panic): panicked at 'no such carrier', src/lib.rs:42:7");
    is(3, "faulted: module fault (trap)");
    is(4, "faulted: module fault (undeclared): verdict 0 is `drop`");
    is(6, "faulted: module fault (deadline)");
    is(8, "faulted: it asks to be tried again: later, please");
    is(10, "faulted: module fault (bad_verdicts)");
    assert_eq!(stored(&client, &topic).await, ["a", "b", "c", "d", "e", "f"]);
    assert_eq!(found[11], "at 5");
    let info = ingest(&client, &topic).await;
    assert_eq!((info.records_in, info.faulted, info.fault), (12, 6, None));
}

#[tokio::test]
async fn modules_that_fail_on_everything_are_let_alone_and_publishers_wait() {
    let server = TestServer::start().await;
    let (client, topic) = server.topic("t", 1).await;
    let (_, other) = server.topic("other", 1).await;
    let hostile = private(&client, "hostile", r#""fine""#).await;
    client.set_ingest(topic.clone(), vec![hostile.clone()]).await.unwrap();
    client.set_ingest(other.clone(), vec![hostile]).await.unwrap();
    let patient = PublishOptions { in_flight_batches: 1, ..PublishOptions::default() };
    let publisher = client.publisher(topic.clone(), patient).await.unwrap();
    for n in 0..10 {
        let found = results(&publisher, records(&["Trap"])).await;
        assert!(told(&found[0]).starts_with("faulted: module fault (trap)"), "{n}: {found:?}");
    }
    let info = ingest(&client, &topic).await;
    let fault = info.fault.unwrap_or_default();
    assert!(fault.contains("too many records in a row") && fault.contains("trap"), "{fault}");
    // A peer that is told so, unless its record is the one that is tried: nothing is run for it, and it may try again.
    let (mut raw, mut sequence) = (Raw::open(&server, &topic, None).await, 0);
    let error = loop {
        match raw.send(sequence, &["Trap"]).await {
            Ok(tried) => sequence += tried.unstored.len(),
            Err(error) => break error,
        }
    };
    assert!(error.retryable && error.retry_after_ms.is_some(), "{error:?}");
    assert_eq!((error.code, error.value.as_deref()), (ErrorCode::ModuleFault, Some("t")));
    assert!(error.message.contains("millstream topic ingest t"), "{error}");
    // Another topic, with modules from the same bytes, is none the worse.
    assert_eq!(told(&results(&self::publisher(&client, &other).await, records(&["good"])).await[0]), "at 0");
    // The first that is judged closes it again; until then the publisher waits.
    assert_eq!(told(&results(&publisher, records(&["good"])).await[0]), "at 0");
    assert_eq!(ingest(&client, &topic).await.fault, None);
    // Open again, and others are set: who waits is let in at once.
    for _ in 0..10 {
        assert!(told(&results(&publisher, records(&["Trap"])).await[0]).starts_with("faulted"));
    }
    assert!(ingest(&client, &topic).await.fault.is_some());
    let mut refused = publisher.refused();
    let waiting = loop {
        let mut waiting = publisher.publish(Record::new("Trap")).await.unwrap();
        tokio::select! {
            why = refused.wait_for(Option::is_some) => {
                assert_eq!(why.unwrap().as_ref().map(|why| why.code), Some(ErrorCode::ModuleFault));
                break waiting;
            }
            // It was the one that is tried.
            tried = &mut waiting => assert!(told(&tried).starts_with("faulted")),
        }
    };
    client.set_ingest(topic.clone(), Vec::new()).await.unwrap();
    assert_eq!(told(&soon("its turn", waiting).await), "at 1");
    assert!(refused.borrow().is_none());
}

/// Records that modules fail on at the head of a batch do not keep those behind them from their turn.
#[tokio::test]
async fn a_batch_that_begins_with_many_bad_records_comes_through() {
    let server = TestServer::start().await;
    let (client, topic) = server.topic("t", 1).await;
    let hostile = private(&client, "hostile", r#""fine""#).await;
    client.set_ingest(topic.clone(), vec![hostile]).await.unwrap();
    let publisher = publisher(&client, &topic).await;
    let mut batch = BatchBuilder::new();
    let bad = std::iter::repeat_n("Trap", 11).chain(["good"]);
    bad.for_each(|payload| batch.push(&Record::new(payload)).unwrap());
    let pending = publisher.publish_batch(0, batch.build().unwrap()).await.unwrap();
    let receipt = soon("a receipt", pending).await.unwrap();
    assert_eq!((receipt.unstored.len(), receipt.offset_of(11)), (11, 0));
    assert_eq!(stored(&client, &topic).await, ["good"]);
    assert_eq!(ingest(&client, &topic).await.fault, None);
}

#[tokio::test]
async fn what_cannot_be_there_is_refused_and_what_is_bound_is_kept() {
    let server = TestServer::start().await;
    let (client, topic) = server.topic("t", 1).await;
    let set = |modules| client.set_ingest(topic.clone(), modules);
    let route = binding("std/route", r#"{"by": {"header": "h"}, "table": {"a": "elsewhere"}}"#);
    let error = set(vec![binding("std/schema", SCHEMA), private(&client, "emitter", "{}").await]).await;
    let error = error.unwrap_err().to_string();
    assert!(error.contains("emits to other topics (out.*)") && error.contains("subscription"), "{error}");
    assert_eq!(code(set(vec![private(&client, "emitter", "{}").await]).await), ErrorCode::NotForIngest);
    assert!(set(vec![route]).await.is_err());
    assert_eq!(code(set(vec![binding("nobody/is@1", "{}")]).await), ErrorCode::UnknownModule);
    assert_eq!(code(set(vec![binding("std/schema", "{}")]).await), ErrorCode::ConfigRefused);
    let nowhere: TopicName = "nowhere".parse().unwrap();
    assert_eq!(code(client.set_ingest(nowhere, Vec::new()).await), ErrorCode::UnknownTopic);
    assert_eq!(client.describe_topic(topic.clone()).await.unwrap().ingest, None, "nothing was changed");

    let name: millstream_client::ModuleName = "check@1.0.0".parse().unwrap();
    client.put_module(name, guest("keep_all").into()).await.unwrap();
    set(vec![binding("check", "{}")]).await.unwrap();
    let described = client.describe_module("check@1.0.0").await.unwrap();
    assert_eq!((described.bound, described.ingest_of), (1, vec![topic.clone()]));
    let error = client.delete_module("check@1.0.0").await.unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::ModuleBound));
    assert!(error.to_string().contains("the ingest of topic t"), "{error}");
    set(Vec::new()).await.unwrap();
    client.delete_module("check@1.0.0").await.unwrap();
}

/// A publisher's stream without the client's care for it.
struct Raw {
    reader: FrameReader,
    writer: FrameWriter,
    producer: ProducerId,
    _connection: quinn::Connection,
}

impl Raw {
    async fn open(server: &TestServer, topic: &TopicName, resume: Option<ProducerId>) -> Self {
        let connection = greeted(server).await;
        let (send, receive) = connection.open_bi().await.unwrap();
        let (mut reader, mut writer) = (FrameReader::new(receive, ANSWERS), FrameWriter::new(send));
        writer.send(&open_publish(topic, resume), Bytes::new()).await.unwrap();
        let (ready, _) = reader.next::<Answer<PublishReady>>().await.unwrap().unwrap();
        let Answer::Ok(PublishReady { producer, .. }) = ready else { panic!("{ready:?}") };
        Self { reader, writer, producer, _connection: connection }
    }

    /// What a batch gets whose first record has the number `sequence`.
    async fn send(&mut self, sequence: u32, payloads: &[&str]) -> Result<Receipt, WireError> {
        let ProducerId { id, epoch } = self.producer;
        let mut builder = BatchBuilder::new().with_producer(ProducerStamp { id, epoch, sequence });
        payloads.iter().for_each(|payload| builder.push(&Record::new(payload.to_string())).unwrap());
        let body = builder.build().unwrap().into_bytes();
        self.writer.send(&PublishHead { partition: 0 }, body).await.unwrap();
        loop {
            let (Receipts { receipts, .. }, _) =
                soon("a receipt", self.reader.next()).await.unwrap().unwrap();
            if let Some(receipt) = receipts.into_iter().next() {
                return receipt.into();
            }
        }
    }
}

#[tokio::test]
async fn a_batch_that_comes_again_gets_the_same_answer_whatever_was_set_since() {
    let server = TestServer::start().await;
    let (client, topic) = emitting(&server, 1).await;
    let mut raw = Raw::open(&server, &topic, None).await;
    let first = raw.send(0, &["ok", "reject", "split", "drop"]).await.unwrap();
    assert_eq!((first.records, first.unstored.len()), (4, 2));
    let refused = raw.send(4, &["reject", "drop"]).await.unwrap();
    assert_eq!((refused.base_offset, refused.unstored.len()), (4, 2));
    let next = raw.send(6, &["ok"]).await.unwrap();
    assert_eq!((next.base_offset, next.unstored.is_empty()), (4, true), "the sequence goes on");
    let gap = raw.send(9, &["ok"]).await.unwrap_err();
    assert_eq!(gap.code, ErrorCode::OutOfSequence);

    let sent: [(u32, &[&str], &Receipt); 3] = [
        (0, &["ok", "reject", "split", "drop"], &first),
        (4, &["reject", "drop"], &refused),
        (6, &["ok"], &next),
    ];
    let again = async |server: &TestServer| {
        let mut raw = Raw::open(server, &topic, Some(raw.producer)).await;
        for (sequence, payloads, receipt) in sent {
            assert_eq!(raw.send(sequence, payloads).await.as_ref(), Ok(receipt));
        }
    };
    again(&server).await;
    // Others that reject everything, and none.
    client.set_ingest(topic.clone(), vec![binding("std/schema", SCHEMA)]).await.unwrap();
    again(&server).await;
    client.set_ingest(topic.clone(), Vec::new()).await.unwrap();
    again(&server).await;
    // And from the disk alone, behind more batches than are remembered.
    client.set_ingest(topic.clone(), vec![private(&client, "emitter", r#""here""#).await]).await.unwrap();
    let mut more = Raw::open(&server, &topic, Some(raw.producer)).await;
    for sequence in 7..60 {
        more.send(sequence, &["reject"]).await.unwrap();
    }
    again(&server).await;
    drop((more, client));
    let server = server.restart().await;
    again(&server).await;
    let client = server.client().await;
    assert_eq!(ingest(&client, &topic).await.revision, 4);
    assert_eq!(client.describe_topic(topic).await.unwrap().records, 5);
}

#[tokio::test]
async fn message_ids_mean_what_was_published() {
    let server = TestServer::start().await;
    let (client, topic) = emitting(&server, 1).await;
    let identified = || {
        let of = |payload: &str, id: &str| Record {
            message_id: Some(id.to_owned().into()),
            ..Record::new(payload.to_owned())
        };
        [of("split", "a"), of("reject", "b"), of("ok", "c")]
    };
    let one = publisher(&client, &topic).await;
    let first: Vec<_> = results(&one, identified()).await.iter().map(told).collect();
    assert_eq!(first, ["at 0", "rejected: bad record", "at 3"]);
    // By another producer, so that nothing but the ids tells.
    let another = publisher(&client, &topic).await;
    assert_eq!(results(&another, identified()).await.iter().map(told).collect::<Vec<_>>(), first);
    assert_eq!(client.describe_topic(topic.clone()).await.unwrap().records, 4);
    // What was rejected was not stored, and may come again; what is stored is not rejected any more.
    client.set_ingest(topic.clone(), vec![binding("std/schema", SCHEMA)]).await.unwrap();
    let third: Vec<_> = results(&another, identified()).await.iter().map(told).collect();
    assert_eq!((third[0].as_str(), third[2].as_str()), ("at 0", "at 3"));
    assert!(third[1].starts_with("rejected: the payload"), "{third:?}");
    client.set_ingest(topic.clone(), Vec::new()).await.unwrap();
    let fourth: Vec<_> = results(&another, identified()).await.iter().map(told).collect();
    assert_eq!(fourth, ["at 0", "at 4", "at 3"]);
}

#[tokio::test]
async fn order_is_kept_however_much_is_on_the_way() {
    let server = TestServer::start().await;
    let (client, topic) = emitting(&server, 2).await;
    let options = PublishOptions { batch_bytes: 200, ..PublishOptions::default() };
    let count = soak(1_500, 50_000);
    let mut publishing = Vec::new();
    for name in ["a", "b"] {
        let publisher = client.publisher(topic.clone(), options.clone()).await.unwrap();
        publishing.push(tokio::spawn(async move {
            let mut pending = Vec::new();
            for n in 0..count {
                // Every seventh is rejected, every ninth dropped.
                let first = if n % 7 == 0 {
                    "r"
                } else if n % 9 == 0 {
                    "d"
                } else {
                    "o"
                };
                let record = Record::new(format!("{first} {name} {n}"));
                pending.push(publisher.publish_to((n % 2) as u32, record).await.unwrap());
            }
            let mut rejected = 0;
            for (n, pending) in pending.into_iter().enumerate() {
                let told = told(&soon("a receipt", pending).await);
                rejected += usize::from(told == "rejected: bad record");
                let wanted = if n % 7 == 0 {
                    "rejected"
                } else if n % 9 == 0 {
                    "dropped"
                } else {
                    "at"
                };
                assert!(told.starts_with(wanted), "{n}: {told}");
            }
            rejected
        }));
    }
    let mut rejected = 0;
    for publishing in publishing {
        rejected += publishing.await.unwrap();
    }
    let options = SubscribeOptions::ephemeral(topic.clone()).from(StartAt::Earliest);
    let mut last: BTreeMap<(u32, String), usize> = BTreeMap::new();
    let found = read_all(&client, options).await;
    for (partition, _, payload) in &found {
        let mut parts = payload.split(' ').skip(1);
        let (name, n) = (parts.next().unwrap().to_owned(), parts.next().unwrap().parse().unwrap());
        let before = last.insert((*partition, name), n);
        assert!(before.is_none_or(|before| before < n), "{payload} behind {before:?}");
    }
    let info = ingest(&client, &topic).await;
    assert_eq!(found.len() + rejected, 2 * count - info.dropped as usize);
    assert_eq!((info.rejected as usize, info.records_in as usize), (rejected, 2 * count));
}

/// Whatever is lost on the way, each record is stored once or refused once.
#[tokio::test]
async fn receipts_that_are_lost_are_told_again() {
    let server = TestServer::start().await;
    let (direct, topic) = emitting(&server, 1).await;
    let damage = Damage { lost: 0.03, repeated: 0.02, ..Damage::default() };
    let network = server.network(damage, 7).await;
    let client = server.client_behind(&network).await;
    let options = PublishOptions { batch_bytes: 300, ..PublishOptions::default() };
    let publisher = client.publisher(topic.clone(), options).await.unwrap();
    let count = 600;
    let mut pending = Vec::new();
    for n in 0..count / 2 {
        let first = if n % 3 == 0 { "r" } else { "o" };
        pending.push(publisher.publish(Record::new(format!("{first}{n}"))).await.unwrap());
    }
    // What is on the way is, or its receipts are, when the broker goes.
    drop(direct);
    let server = server.restart_there().await;
    for n in count / 2..count {
        let first = if n % 3 == 0 { "r" } else { "o" };
        pending.push(publisher.publish(Record::new(format!("{first}{n}"))).await.unwrap());
    }
    let mut wanted = BTreeMap::new();
    for (n, pending) in pending.into_iter().enumerate() {
        match soon("a receipt", pending).await {
            Ok(receipt) => drop(wanted.insert(receipt.offset, format!("o{n}"))),
            Err(PublishError::Rejected { .. }) => assert_eq!(n % 3, 0, "{n}"),
            Err(other) => panic!("{n}: {other}"),
        }
    }
    let found = stored(&server.client().await, &topic).await;
    assert_eq!(found, wanted.into_values().collect::<Vec<_>>());
    assert_eq!(found.len(), count - count / 3);
}

#[tokio::test]
async fn a_refused_record_refuses_an_atomic_publish_whole() {
    let server = TestServer::start().await;
    let (client, topic) = emitting(&server, 2).await;
    let (_, plain) = server.topic("plain", 1).await;
    let publish = async |payloads: &[&str]| {
        let records = payloads.iter().enumerate().map(|(n, payload)| {
            let topic = if n % 2 == 0 { topic.clone() } else { plain.clone() };
            (topic, Record::new(payload.to_string()).with_key(n.to_string()))
        });
        soon("an answer", client.publish_atomically(records.collect())).await
    };
    for (bad, said) in [("reject", "bad record"), ("key", "output_too_large")] {
        let error = publish(&["ok", "plain", "ok", "plain", bad, "plain", "ok"]).await.unwrap_err();
        let PublishError::RefusedAt { index, refused } = &error else { panic!("{error}") };
        assert_eq!((*index, refused.code), (4, ErrorCode::RecordRefused));
        assert!(
            error.to_string().contains(said) && error.to_string().contains("nothing is stored"),
            "{error}"
        );
    }
    for topic in [&topic, &plain] {
        assert_eq!(client.describe_topic(topic.clone()).await.unwrap().records, 0);
    }
    let receipts = publish(&["split", "reject me, I am plain", "drop"]).await.unwrap();
    assert_eq!(receipts.iter().map(|receipt| receipt.dropped).collect::<Vec<_>>(), [false, false, true]);
    assert_eq!(client.describe_topic(topic.clone()).await.unwrap().records, 3);
    assert_eq!(stored(&client, &plain).await, ["reject me, I am plain"]);
}

/// Whichever modules judge a batch, it is the same ones to its end.
#[tokio::test]
async fn each_batch_is_judged_by_one_revision() {
    let server = TestServer::start().await;
    let (client, topic) = server.topic("t", 1).await;
    let publisher = publisher(&client, &topic).await;
    let (batches, each) = (soak(120, 2_000), 40);
    let publishing = tokio::spawn(async move {
        let mut pending = Vec::new();
        for n in 0..batches {
            let mut batch = BatchBuilder::new();
            (0..each)
                .for_each(|_| batch.push(&Record::new(format!(r#"{{"carrier":"UA","n":{n}}}"#))).unwrap());
            pending.push(publisher.publish_batch(0, batch.build().unwrap()).await.unwrap());
        }
        for pending in pending {
            assert!(soon("a receipt", pending).await.unwrap().unstored.is_empty());
        }
    });
    let mut revision = 0;
    while !publishing.is_finished() {
        let table = format!(r#"{{"UA": {{"revision": {revision}}}}}"#);
        let config =
            format!(r#"{{"by": {{"pointer": "/carrier"}}, "table": {table}, "into": {{"pointer": ""}}}}"#);
        let modules = if revision % 3 == 0 { Vec::new() } else { vec![binding("std/enrich", &config)] };
        let set = client.set_ingest(topic.clone(), modules).await.unwrap();
        assert_eq!(set.ingest.is_some(), revision % 3 != 0);
        revision += 1;
    }
    publishing.await.unwrap();
    let found = stored(&client, &topic).await;
    assert_eq!(found.len(), batches * each);
    for (n, batch) in found.chunks(each).enumerate() {
        assert!(batch[0].contains(&format!(r#""n":{n}"#)), "{n}: {}", batch[0]);
        assert!(batch.iter().all(|payload| *payload == batch[0]), "{batch:?}");
    }
}

/// What waits for slow modules is bounded, and the topics of others do not wait for it.
#[tokio::test]
async fn slow_modules_slow_down_their_own_publishers_alone() {
    let server = TestServer::start().await;
    let (client, topic) = server.topic("slow", 1).await;
    let (_, plain) = server.topic("plain", 1).await;
    // It asks for each record to be tried again, later: a second and more each.
    let hostile = private(&client, "hostile", r#""fine""#).await;
    client.set_ingest(topic.clone(), vec![hostile]).await.unwrap();
    let publisher = publisher(&client, &topic).await;
    let mut slowed = publisher.slowed();
    let publishing = tokio::spawn(async move {
        for n in 0..30 {
            let first = if n == 0 { "Retry" } else { "k" };
            drop(publisher.publish(Record::new(format!("{first}{}", "x".repeat(400_000)))).await.unwrap());
        }
        publisher.flush().await
    });
    let slow = soon("a word to slow down", slowed.wait_for(Option::is_some)).await.unwrap().unwrap();
    assert_eq!((slow.limit, slow.value), (PublishLimit::TopicBytes, 4 << 20));
    publish(&client, &plain, records(&["not held up"])).await;
    let flushed = publishing.await.unwrap();
    assert!(matches!(flushed, Err(PublishError::Faulted { .. })), "{flushed:?}");
    assert_eq!(client.describe_topic(topic.clone()).await.unwrap().records, 29);
    let done = until(&client, &topic, |info| info.records_in == 30).await;
    assert_eq!(done.faulted, 1);
}

/// A publisher that gives up waiting for modules is told why.
#[tokio::test]
async fn who_does_not_wait_is_told_why() {
    let server = TestServer::start().await;
    let (client, topic) = server.topic("t", 1).await;
    client.set_ingest(topic.clone(), vec![private(&client, "failing", "{}").await]).await.unwrap();
    let reconnect = Reconnect { give_up_after: Some(Duration::ZERO), ..Reconnect::default() };
    let options = ConnectOptions { reconnect, ..ConnectOptions::default() };
    let hasty = Client::connect(&server.url(), options).await.unwrap();
    let publisher = publisher(&hasty, &topic).await;
    for _ in 0..10 {
        assert!(told(&results(&publisher, records(&["x"])).await[0]).starts_with("faulted"));
    }
    let found = results(&publisher, records(&["x"])).await;
    assert!(told(&found[0]).contains("takes no records for now"), "{found:?}");
    assert!(ingest(&client, &topic).await.fault.is_some());
    assert_eq!(client.describe_topic(topic).await.unwrap().records, 0);
}
