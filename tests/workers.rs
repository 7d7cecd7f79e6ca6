//! Subscriptions shared by workers: delivery modes, leases, retries, dead letters.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use millstream_client::{
    Client, ConsumeError, DeadLetters, DeliveryConfig, DeliveryMode, ErrorCode, Leased, NewSubscription,
    OnFault, PublishOptions, Record, Settled, StartAt, SubscribeOptions, SubscriptionName, TopicName,
    WorkOptions, Worker,
};
use millstream_test_guests::guest;
use millstream_tests::{TestServer, publish, read_all, soon};
use tokio::task::JoinSet;

fn lines(from: usize, to: usize) -> impl Iterator<Item = Record> {
    (from..to).map(|n| Record::new(format!("{n}")))
}

fn keyed(from: usize, to: usize, keys: usize) -> impl Iterator<Item = Record> {
    (from..to).map(move |n| Record::new(format!("{n}")).with_key(format!("k{}", n % keys)))
}

fn jobs() -> SubscriptionName {
    "jobs".parse().unwrap()
}

/// Delivery by `mode` that tries again at once.
fn quick(mode: DeliveryMode) -> DeliveryConfig {
    DeliveryConfig { backoff_ms: vec![0], tries: 3, ..DeliveryConfig::of(mode) }
}

fn work(topic: &TopicName, delivery: DeliveryConfig) -> WorkOptions {
    WorkOptions::new(topic.clone(), jobs()).delivery(delivery)
}

async fn join(client: &Client, options: WorkOptions) -> Worker {
    soon("a worker", client.work(options)).await.unwrap()
}

async fn next(worker: &mut Worker) -> Leased {
    soon("a message", worker.next_message()).await.unwrap().unwrap()
}

fn text(message: &Leased) -> String {
    String::from_utf8_lossy(message.payload().unwrap()).into_owned()
}

fn refusal<T: std::fmt::Debug>(result: Result<T, ConsumeError>) -> ErrorCode {
    match result {
        Err(ConsumeError::Open(error)) => error.code().unwrap_or_else(|| panic!("{error}")),
        other => panic!("{other:?}"),
    }
}

/// Waits until everything is settled.
async fn all_settled(client: &Client, records: u64) {
    soon("everything to be settled", async {
        loop {
            let info = client.describe_subscription(jobs()).await.unwrap();
            if info.positions.iter().map(|at| at.settled).sum::<u64>() == records {
                return assert!(info.positions.iter().all(|at| (at.leased, at.waiting) == (0, 0)));
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_work_queue_gives_each_record_to_one_worker() {
    let server = TestServer::start().await;
    let (client, topic) = server.topic("t", 3).await;
    let mut tasks = JoinSet::new();
    let (took, mut taken) = tokio::sync::mpsc::unbounded_channel();
    for who in 0..3 {
        let client = server.client().await;
        let options = work(&topic, quick(DeliveryMode::Shared)).records(64);
        let mut worker = join(&client, options).await;
        let took = took.clone();
        tasks.spawn(async move {
            while let Some(Ok(message)) = worker.next_message().await {
                assert_eq!((message.deliveries(), message.failures()), (1, 0));
                worker.ack(&message);
                took.send((who, text(&message))).unwrap();
            }
        });
    }
    publish(&client, &topic, keyed(0, 3_000, 97)).await;
    let mut shares: BTreeMap<i32, BTreeSet<String>> = BTreeMap::new();
    for _ in 0..3_000 {
        let (who, text) = soon("a record", taken.recv()).await.unwrap();
        assert!(shares.entry(who).or_default().insert(text));
    }
    assert_eq!(shares.len(), 3, "each had some");
    assert_eq!(shares.values().flatten().collect::<BTreeSet<_>>().len(), 3_000, "none came twice");
    all_settled(&client, 3_000).await;
    assert!(taken.is_empty());
}

#[tokio::test]
async fn what_is_settled_stays_settled_over_a_restart() {
    let server = TestServer::start().await;
    let (client, topic) = server.topic("t", 1).await;
    publish(&client, &topic, lines(0, 100)).await;
    let options = || work(&topic, quick(DeliveryMode::Shared));
    let mut worker = join(&client, options()).await;
    for n in 0..100 {
        let message = next(&mut worker).await;
        match n % 10 {
            3 => {}
            7 => worker.nack_after(&message, Duration::from_secs(3_600), "not now"),
            _ => worker.ack(&message),
        }
    }
    worker.close().await.unwrap();
    client.close().await;
    let server = server.restart().await;
    let client = server.client().await;
    let mut worker = join(&client, options()).await;
    for n in (0..100).filter(|n| n % 10 == 3) {
        let message = next(&mut worker).await;
        assert_eq!(
            text(&message),
            n.to_string(),
            "what was done is not delivered again, what waits still waits"
        );
        worker.ack(&message);
    }
    worker.flush().await.unwrap();
    let at = &client.describe_subscription(jobs()).await.unwrap().positions[0];
    assert_eq!((at.settled, at.leased, at.waiting), (7, 0, 10));
    // One who reads as a stream gets what is left as well, were it exclusive.
    let refused = client.subscribe(SubscribeOptions::durable(topic.clone(), jobs())).await;
    assert_eq!(refusal(refused), ErrorCode::WrongMode);
}

#[tokio::test]
async fn failures_are_counted_and_end_as_dead_letters_that_can_be_sent_back() {
    let server = TestServer::start().await;
    let (client, topic) = server.topic("t", 1).await;
    let other = SubscribeOptions::durable(topic.clone(), "other".parse().unwrap());
    let record = Record::new("bad").with_key("k").with_header("colour", "red");
    publish(&client, &topic, lines(0, 2).chain([record]).chain(lines(3, 5))).await;
    let mut worker = join(&client, work(&topic, quick(DeliveryMode::Shared))).await;
    let mut done = BTreeSet::new();
    let mut tries = Vec::new();
    while done.len() < 4 || tries.len() < 3 {
        let message = next(&mut worker).await;
        if text(&message) == "bad" {
            tries.push((message.deliveries(), message.failures()));
            worker.nack(&message, format!("attempt {} failed", tries.len()));
        } else {
            assert!(done.insert(text(&message)));
            worker.ack(&message);
        }
    }
    assert_eq!(tries, [(1, 0), (2, 1), (3, 2)]);
    all_settled(&client, 5).await;

    let page = client.dead_letters(jobs(), 0, 0).await.unwrap();
    assert_eq!((page.topic.as_str(), page.partitions, page.next, page.end), ("dlq.jobs", 1, 1, 1));
    let letters = page.letters.unwrap();
    let letter = letters.view().record(0).unwrap().to_record();
    let said = |name: &str| letter.header(name).map(|value| String::from_utf8_lossy(value).into_owned());
    assert_eq!((letter.key.as_deref(), letter.payload.as_deref()), (Some(&b"k"[..]), Some(&b"bad"[..])));
    assert_eq!(said("colour").as_deref(), Some("red"));
    for (name, value) in [
        ("dlq-topic", "t"),
        ("dlq-partition", "0"),
        ("dlq-offset", "2"),
        ("dlq-subscription", "jobs"),
        ("dlq-reason", "failures"),
        ("dlq-error", "attempt 3 failed"),
        ("dlq-deliveries", "3"),
        ("dlq-failures", "3"),
    ] {
        assert_eq!(said(name).as_deref(), Some(value), "{name}");
    }
    let at = |name| said(name).unwrap().parse::<i64>().unwrap();
    assert!(at("dlq-first-try") <= at("dlq-last-try") && at("dlq-first-try") > 0);

    // Sent back, it comes again to this subscription alone, and the letter is closed.
    assert_eq!(client.redrive(jobs(), vec![(0, 0), (0, 7)]).await.unwrap(), 1);
    assert_eq!(client.redrive(jobs(), vec![(0, 0)]).await.unwrap(), 0, "once");
    let message = next(&mut worker).await;
    assert_eq!((text(&message).as_str(), message.offset(), message.deliveries()), ("bad", 2, 1));
    assert!(message.header("dlq-topic").is_none());
    assert_eq!(worker.ack_confirmed(&message).await, Settled::Done);
    all_settled(&client, 5).await;
    assert!(client.dead_letters(jobs(), 0, 0).await.unwrap().letters.is_none());
    assert_eq!(read_all(&client, other).await.len(), 5, "others have nothing of this");
}

#[tokio::test]
async fn purged_letters_are_gone_and_the_account_survives_a_restart() {
    let server = TestServer::start().await;
    let (client, topic) = server.topic("t", 1).await;
    publish(&client, &topic, lines(0, 3)).await;
    let delivery = DeliveryConfig { tries: 1, ..quick(DeliveryMode::Shared) };
    let mut worker = join(&client, work(&topic, delivery)).await;
    for _ in 0..3 {
        let message = next(&mut worker).await;
        worker.nack(&message, "no");
    }
    all_settled(&client, 3).await;
    assert_eq!(client.purge(jobs(), vec![(0, 1)]).await.unwrap(), 1);
    drop(worker);
    client.close().await;
    let server = server.restart().await;
    let client = server.client().await;
    let letters = client.dead_letters(jobs(), 0, 0).await.unwrap().letters.unwrap();
    let left: Vec<_> = letters.view().records().map(|letter| letter.offset).collect();
    assert_eq!(left, [0, 2]);
    assert_eq!(client.redrive(jobs(), vec![(0, 0), (0, 2)]).await.unwrap(), 2);
    let mut worker = join(&client, WorkOptions::new(topic, jobs())).await;
    for expected in ["0", "2"] {
        let message = next(&mut worker).await;
        assert_eq!(text(&message), expected);
        worker.ack(&message);
    }
    all_settled(&client, 3).await;
}

#[tokio::test]
async fn key_shared_keeps_order_by_key_while_workers_come_go_and_fail() {
    let server = TestServer::start().await;
    let (client, topic) = server.topic("t", 2).await;
    let (keys, records) = (13, 2_600);
    let (took, mut taken) = tokio::sync::mpsc::unbounded_channel();
    let start = async |workers: &mut JoinSet<()>, seed: usize, quits_after: usize| {
        let (took, client) = (took.clone(), server.client().await);
        let mut worker = join(&client, work(&topic, quick(DeliveryMode::KeyShared)).records(40)).await;
        workers.spawn(async move {
            let mut seen = 0;
            while let Some(Ok(message)) = worker.next_message().await {
                seen += 1;
                if seen > quits_after {
                    worker.release(&message);
                    return worker.close().await.unwrap();
                }
                if message.failures() == 0 && (seen + seed).is_multiple_of(11) {
                    worker.nack(&message, "try again");
                    continue;
                }
                let key = String::from_utf8_lossy(message.key().unwrap()).into_owned();
                let n: usize = text(&message).parse().unwrap();
                // Before the ack: the next one of its key may come to another worker at once.
                took.send((key, n)).unwrap();
                worker.ack(&message);
            }
        });
    };
    let mut workers = JoinSet::new();
    start(&mut workers, 0, usize::MAX).await;
    publish(&client, &topic, keyed(0, records, keys)).await;
    let mut last: BTreeMap<String, usize> = BTreeMap::new();
    for count in 0..records {
        if count % 400 == 100 {
            start(&mut workers, count, 150).await;
        }
        let (key, n) = soon("a record", taken.recv()).await.unwrap();
        let before = last.insert(key.clone(), n);
        assert_eq!(before.map_or(n % keys, |before| before + keys), n, "{key} is out of order, or has a gap");
    }
    all_settled(&client, records as u64).await;
}

/// With leases that do not end: what is handed to a worker before it can take it would be lost for as long.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_flows_while_workers_join_reaches_them() {
    let server = TestServer::start().await;
    let (client, topic) = server.topic("t", 2).await;
    let delivery = DeliveryConfig { lease_ms: 3_600_000, ..quick(DeliveryMode::Shared) };
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let options = PublishOptions { batch_bytes: 500, ..PublishOptions::default() };
    let publisher = client.publisher(topic.clone(), options).await.unwrap();
    let publishing = tokio::spawn(async move {
        let mut records = 0;
        while !*stopped.borrow() {
            drop(publisher.publish(Record::new("x")).await.unwrap());
            records += 1;
        }
        publisher.close().await.unwrap();
        records
    });
    let mut tasks = JoinSet::new();
    for _ in 0..60 {
        let mut worker = join(&client, work(&topic, delivery.clone()).records(8)).await;
        tasks.spawn(async move {
            while let Some(Ok(message)) = worker.next_message().await {
                worker.ack(&message);
            }
        });
    }
    stop.send_replace(true);
    all_settled(&client, publishing.await.unwrap()).await;
}

#[tokio::test]
async fn failover_spreads_partitions_and_moves_them_when_a_worker_goes() {
    let server = TestServer::start().await;
    let (client, topic) = server.topic("t", 4).await;
    let options = || work(&topic, quick(DeliveryMode::Failover));
    let clients = [server.client().await, server.client().await];
    let (mut a, mut b) = (join(&clients[0], options()).await, join(&clients[1], options()).await);
    publish(&client, &topic, keyed(0, 400, 40)).await;
    let mut of_a = Vec::new();
    let mut of_b = Vec::new();
    while of_a.len() + of_b.len() < 400 {
        soon("a message", async {
            tokio::select! {
                message = a.next_message() => of_a.push(message.unwrap().unwrap()),
                message = b.next_message() => of_b.push(message.unwrap().unwrap()),
            }
        })
        .await;
    }
    let partitions = |of: &[Leased]| of.iter().map(|message| message.partition()).collect::<BTreeSet<_>>();
    assert_eq!((partitions(&of_a).len(), partitions(&of_b).len()), (2, 2));
    assert!(partitions(&of_a).is_disjoint(&partitions(&of_b)));
    for of in [&of_a, &of_b] {
        for partition in partitions(of) {
            assert!(
                of.iter()
                    .filter(|message| message.partition() == partition)
                    .map(|message| message.offset())
                    .is_sorted()
            );
        }
    }
    of_a.iter().for_each(|message| a.ack(message));
    a.close().await.unwrap();
    // It broke off without a word: what it held comes again, in order.
    let held = of_b.len();
    drop(of_b);
    clients[1].clone().close().await;
    let mut c = join(&clients[0], options()).await;
    let mut again: BTreeMap<u32, Vec<u64>> = BTreeMap::new();
    for _ in 0..held {
        let message = next(&mut c).await;
        again.entry(message.partition()).or_default().push(message.offset());
        c.ack(&message);
    }
    assert!(again.values().all(|offsets| offsets.is_sorted()));
    all_settled(&client, 400).await;
}

#[tokio::test]
async fn a_lease_that_ends_gives_the_record_to_others_and_only_the_newest_settles() {
    let server = TestServer::start().await;
    let (client, topic) = server.topic("t", 1).await;
    let delivery = DeliveryConfig { lease_ms: 300, ..quick(DeliveryMode::Shared) };
    publish(&client, &topic, lines(0, 1)).await;
    let mut slow = join(&client, work(&topic, delivery.clone()).records(1)).await;
    let first = next(&mut slow).await;
    let others = server.client().await;
    let mut quick = join(&others, work(&topic, delivery)).await;
    let mut second = None;
    while second.is_none() {
        // It may come to the first worker again; then that one lets it end once more, up to its tries.
        soon("a message", async {
            tokio::select! {
                message = quick.next_message() => second = message.map(Result::unwrap),
                message = slow.next_message() => drop(message.unwrap().unwrap()),
            }
        })
        .await;
    }
    let second = second.unwrap();
    assert!(second.deliveries() >= 2 && second.failures() >= 1);
    assert_eq!(slow.ack_confirmed(&first).await, Settled::Stale);
    assert_eq!(slow.stale(), 1);
    assert_eq!(quick.extend(&second, Duration::from_secs(60)).await, Settled::Done);
    assert_eq!(slow.extend(&first, Duration::from_secs(60)).await, Settled::Stale);
    assert_eq!(quick.ack_confirmed(&second).await, Settled::Done);
    assert_eq!(quick.ack_confirmed(&second).await, Settled::Stale, "done is done");
    all_settled(&client, 1).await;
}

#[tokio::test]
async fn a_worker_without_room_holds_nobody_up() {
    let server = TestServer::start().await;
    let (client, topic) = server.topic("t", 1).await;
    let options = || work(&topic, quick(DeliveryMode::Shared));
    // Takes some and never says a word.
    let idle_client = server.client().await;
    let idle = join(&idle_client, options().records(10)).await;
    let paused = join(&client, options().records(0)).await;
    let mut busy = join(&client, options().records(50)).await;
    publish(&client, &topic, lines(0, 1_000)).await;
    let mut seen = BTreeSet::new();
    while seen.len() < 990 {
        let message = next(&mut busy).await;
        assert!(seen.insert(text(&message)));
        busy.ack(&message);
    }
    busy.flush().await.unwrap();
    let info = client.describe_subscription(jobs()).await.unwrap();
    assert_eq!((info.positions[0].leased, info.positions[0].scanned), (10, 1_000));
    assert_eq!((info.pending, info.unscanned, info.consumers), (10, 0, 3));
    assert!(info.oldest_unsettled_ms.is_some_and(|oldest| oldest > 0));
    // Leaving in good order gives back what was not done, without a failure.
    idle.close().await.unwrap();
    for _ in 0..10 {
        let message = next(&mut busy).await;
        assert_eq!((message.deliveries(), message.failures()), (2, 0));
        assert!(seen.insert(text(&message)));
        busy.ack(&message);
    }
    all_settled(&client, 1_000).await;
    assert_eq!(client.describe_subscription(jobs()).await.unwrap().oldest_unsettled_ms, None);
    drop(paused);
}

#[tokio::test]
async fn workers_hear_that_their_subscription_is_deleted() {
    let server = TestServer::start().await;
    let (client, topic) = server.topic("t", 1).await;
    publish(&client, &topic, lines(0, 10)).await;
    // One has all it may hold, the other waits for records.
    let mut full = join(&client, work(&topic, quick(DeliveryMode::Shared)).records(10)).await;
    let message = next(&mut full).await;
    let mut waiting = join(&client, work(&topic, quick(DeliveryMode::Shared))).await;
    client.delete_subscription(jobs()).await.unwrap();
    let ended = soon("the end", waiting.next_message()).await.unwrap().unwrap_err();
    assert!(ended.to_string().contains("deleted"), "{ended}");
    while let Some(message) = soon("the end", full.next_message()).await {
        if let Err(ended) = message {
            assert!(ended.to_string().contains("deleted"), "{ended}");
        }
    }
    assert_eq!(full.ack_confirmed(&message).await, Settled::Stale);
    assert!(client.describe_subscription(jobs()).await.is_err());
}

#[tokio::test]
async fn what_a_module_rejects_is_a_dead_letter_and_what_it_drops_is_done() {
    let server = TestServer::start().await;
    let (client, topic) = server.topic("t", 1).await;
    let records = (0..100).map(|n| match (n % 10, n) {
        (0, _) => Record::new("r"),
        (_, 90..) => Record::new("Kept"),
        _ => Record::new("d"),
    });
    publish(&client, &topic, records).await;
    let options =
        work(&topic, quick(DeliveryMode::Shared)).with_private_module(guest("emitter").into(), "{}");
    let mut worker = join(&client, options).await;
    for _ in 0..9 {
        let message = next(&mut worker).await;
        assert_eq!(text(&message), "Kept");
        worker.ack(&message);
    }
    all_settled(&client, 100).await;
    let letters = client.dead_letters(jobs(), 0, 0).await.unwrap().letters.unwrap();
    let view = letters.view();
    assert_eq!(view.len(), 10);
    for letter in view.records() {
        assert_eq!(letter.header("dlq-reason"), Some(&b"rejected"[..]));
        assert!(letter.header("dlq-module").is_some_and(|module| module.starts_with(b"sha256:")));
        assert_eq!(letter.header("dlq-module-sha256").map(<[u8]>::len), Some(64));
    }
}

#[tokio::test]
async fn a_dead_letter_topic_of_ones_own_is_empty_before_the_first_letter() {
    let server = TestServer::start().await;
    let (client, topic) = server.topic("t", 1).await;
    let (_, letters) = server.topic("letters", 2).await;
    let dead_letters = DeadLetters::Topic(letters.clone());
    let delivery = DeliveryConfig { tries: 1, dead_letters, ..quick(DeliveryMode::Shared) };
    let mut worker = join(&client, work(&topic, delivery)).await;
    let page = client.dead_letters(jobs(), 1, 0).await.unwrap();
    assert_eq!((page.topic, page.partitions, page.next, page.end), (letters, 2, 0, 0));
    assert!(page.letters.is_none());
    assert_eq!(client.redrive(jobs(), vec![(0, 0)]).await.unwrap(), 0);
    publish(&client, &topic, lines(0, 1)).await;
    let message = next(&mut worker).await;
    worker.nack(&message, "no");
    all_settled(&client, 1).await;
    assert_eq!(client.dead_letters(jobs(), 0, 0).await.unwrap().letters.unwrap().view().len(), 1);
}

#[tokio::test]
async fn bad_settings_are_refused_by_name() {
    let server = TestServer::start().await;
    let (client, topic) = server.topic("t", 1).await;
    let shared = DeliveryConfig::of(DeliveryMode::Shared);
    let refused = |delivery: DeliveryConfig| {
        let (client, topic) = (client.clone(), topic.clone());
        async move { client.work(work(&topic, delivery)).await.unwrap_err().to_string() }
    };
    for (delivery, says) in [
        (DeliveryConfig { lease_ms: 5, ..shared.clone() }, "lease of 5 ms"),
        (DeliveryConfig { tries: 0, ..shared.clone() }, "0 tries"),
        (DeliveryConfig { backoff_ms: vec![u32::MAX], ..shared.clone() }, "4294967295 ms"),
        (
            DeliveryConfig { dead_letters: DeadLetters::Topic("nowhere".parse().unwrap()), ..shared.clone() },
            "nowhere",
        ),
        (DeliveryConfig { dead_letters: DeadLetters::Topic(topic.clone()), ..shared.clone() }, "own topic"),
    ] {
        let error = refused(delivery).await;
        assert!(error.contains(says), "{error}");
    }
    assert!(client.list_subscriptions().await.unwrap().is_empty(), "nothing was made");

    let worker = join(&client, work(&topic, shared.clone())).await;
    let conflicts = client.work(WorkOptions::new(topic.clone(), jobs()).mode(DeliveryMode::KeyShared)).await;
    assert!(conflicts.unwrap_err().to_string().contains("delivery mode"));
    drop(worker);
    let new = NewSubscription {
        name: "alone".parse().unwrap(),
        topic: topic.clone().into(),
        from: StartAt::Earliest,
        pipeline: Vec::new(),
        on_fault: OnFault::Halt,
        delivery: DeliveryConfig { dead_letters: DeadLetters::Off, ..DeliveryConfig::default() },
    };
    client.create_subscription(new).await.unwrap();
    let alone = || WorkOptions::new(topic.clone(), "alone".parse().unwrap());
    let _first = join(&client, alone()).await;
    assert_eq!(refusal(client.work(alone()).await), ErrorCode::SubscriptionBusy);
    assert_eq!(
        client.dead_letters("alone".parse().unwrap(), 0, 0).await.unwrap_err().code(),
        Some(ErrorCode::BadDelivery)
    );
    assert_eq!(
        client.dead_letters("nobody".parse().unwrap(), 0, 0).await.unwrap_err().code(),
        Some(ErrorCode::UnknownSubscription)
    );
}

#[tokio::test]
async fn delayed_records_come_when_it_is_time_and_expired_ones_end_as_dead_letters() {
    let server = TestServer::start().await;
    let (client, topic) = server.topic("t", 1).await;
    let now = || {
        i64::try_from(std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis())
            .unwrap()
    };
    let hour = 3_600_000;
    let due = now() + 1_500;
    publish(
        &client,
        &topic,
        [
            Record { deliver_at: Some(due), ..Record::new("soon") },
            Record { deliver_at: Some(now() + hour), ..Record::new("late") },
            Record { expires_at: Some(now() - 1), ..Record::new("over") },
            Record { expires_at: Some(now() + hour), ..Record::new("fresh") },
            Record::new("plain"),
        ],
    )
    .await;
    let mut worker = join(&client, work(&topic, quick(DeliveryMode::KeyShared))).await;
    for expected in ["fresh", "plain", "soon"] {
        let message = next(&mut worker).await;
        assert_eq!(text(&message), expected);
        assert!(expected != "soon" || now() >= due, "too early");
        worker.ack(&message);
    }
    let letters = soon("the letter", async {
        loop {
            match client.dead_letters(jobs(), 0, 0).await.map(|page| page.letters) {
                Ok(Some(letters)) => return letters,
                _ => tokio::task::yield_now().await,
            }
        }
    });
    let letters = letters.await;
    let letter = letters.view().record(0).unwrap();
    assert_eq!((letter.payload, letter.header("dlq-reason")), (Some(&b"over"[..]), Some(&b"expired"[..])));
    worker.flush().await.unwrap();
    let at = &client.describe_subscription(jobs()).await.unwrap().positions[0];
    assert_eq!((at.settled, at.waiting, at.leased), (1, 1, 0), "what is due in an hour waits");
    // A stream has no use for waiting, but none for what is over either.
    let read = read_all(&client, SubscribeOptions::ephemeral(topic.clone())).await;
    assert_eq!(
        read.iter().map(|(.., payload)| payload.as_str()).collect::<Vec<_>>(),
        ["soon", "late", "fresh", "plain"]
    );

    let publisher = client.publisher(topic, millstream_client::PublishOptions::default()).await.unwrap();
    let far = Record { deliver_at: Some(now() + 400 * 24 * hour), ..Record::new("x") };
    let refused = publisher.publish(far).await.unwrap().await.unwrap_err();
    assert!(refused.to_string().contains("a year from now"), "{refused}");
}

#[tokio::test]
async fn a_worker_that_breaks_off_counts_as_a_failure_and_one_that_leaves_does_not() {
    let server = TestServer::start().await;
    let (client, topic) = server.topic("t", 1).await;
    publish(&client, &topic, lines(0, 1)).await;
    let options = || work(&topic, quick(DeliveryMode::Shared));
    for failures in 0..2 {
        let gone = server.client().await;
        let mut worker = join(&gone, options()).await;
        assert_eq!(next(&mut worker).await.failures(), failures);
        // The connection ends, and nobody says a word about the record.
        gone.close().await;
        drop(worker);
    }
    let mut worker = join(&client, options()).await;
    let message = next(&mut worker).await;
    assert_eq!((message.deliveries(), message.failures()), (3, 2));
    worker.close().await.unwrap();
    let mut worker = join(&client, options()).await;
    let message = next(&mut worker).await;
    assert_eq!((message.deliveries(), message.failures()), (4, 2), "it left in good order");
    worker.ack(&message);
    worker.close().await.unwrap();
}
