//! The registry over real QUIC: what is bound stays, what is not trusted does not run.

use bytes::Bytes;
use millstream_client::{
    CallError, Client, DeliveryConfig, ErrorCode, ModuleInfo, NewSubscription, OnFault, Record, StartAt,
    SubscribeOptions, TopicName,
};
use millstream_engine::{PrivateKey, PublicKey, Trust, signature::sign};
use millstream_test_guests::guest;
use millstream_tests::{TestServer, publish, read_all, soon};
use millstream_types::{Binding, SubscriptionState};

use crate::messages::code;

fn keep_all() -> Bytes {
    guest("keep_all").into()
}

async fn put(client: &Client, name: &str, wasm: impl Into<Bytes>) -> Result<ModuleInfo, CallError> {
    client.put_module(name.parse().unwrap(), wasm.into()).await
}

async fn bind(client: &Client, topic: &TopicName, name: &str, module: &str) -> Result<(), CallError> {
    let wanted = NewSubscription {
        name: name.parse().unwrap(),
        topic: topic.clone().into(),
        from: StartAt::Earliest,
        pipeline: vec![Binding { module: module.into(), config: "{}".into() }],
        on_fault: OnFault::Halt,
        delivery: DeliveryConfig::default(),
    };
    client.create_subscription(wanted).await.map(drop)
}

fn told<T: std::fmt::Debug>(refused: Result<T, CallError>) -> String {
    refused.unwrap_err().to_string()
}

#[tokio::test]
async fn what_is_bound_is_not_deleted() {
    let server = TestServer::start().await;
    let (client, topic) = server.topic("t", 1).await;
    publish(&client, &topic, [Record::new("x")]).await;
    for name in ["mine@1.0.0", "mine@2.0.0", "other@1.0.0"] {
        put(&client, name, keep_all()).await.unwrap();
    }
    for n in 0..7 {
        bind(&client, &topic, &format!("s{n}"), "mine@1.0.0").await.unwrap();
    }
    let refused = client.delete_module("mine@1.0.0").await;
    let text = told(refused);
    let binders = "bound by 7 subscriptions, s0, s1, s2, s3, s4, ...; bind another module there";
    assert!(text.contains(binders) && text.ends_with("or delete them first"), "{text}");
    assert_eq!(code(client.delete_module("mine@1.0.0").await), ErrorCode::ModuleBound);
    let ambiguous = told(client.delete_module("mine").await);
    assert!(ambiguous.contains("2 versions") && ambiguous.contains("mine@2.0.0"), "{ambiguous}");
    assert!(told(client.delete_module("std/headers").await).contains("comes with the broker"));
    assert_eq!(code(client.delete_module("nothing").await), ErrorCode::UnknownModule);
    let info = client.describe_module("mine@1.0.0").await.unwrap();
    let digest = format!("sha256:{}", info.sha256);
    assert!(told(client.delete_module(digest.clone()).await).contains("by its name"));
    assert_eq!((info.bound, info.bound_by[6].as_str()), (7, "s6"));
    let listed = client.list_modules().await.unwrap();
    let bound: Vec<_> = listed.iter().rev().take(3).map(|module| (&*module.name, module.bound)).collect();
    assert_eq!(bound, [("other@1.0.0", 0), ("mine@2.0.0", 0), ("mine@1.0.0", 7)]);

    // The same bytes under another name are free; whoever binds them keeps them.
    client.delete_module("mine@2.0.0").await.unwrap();
    client.delete_module("other").await.unwrap();
    assert_eq!(code(client.describe_module("other").await), ErrorCode::UnknownModule);
    let (_, wasm) = client.get_module(digest.clone()).await.unwrap();
    assert_eq!(wasm, keep_all());
    for n in 0..7 {
        client.delete_subscription(format!("s{n}").parse().unwrap()).await.unwrap();
    }
    client.delete_module("mine").await.unwrap();
    assert_eq!(code(client.get_module(digest).await), ErrorCode::UnknownModule);

    // A name means the same for ever, also over a restart.
    client.close().await;
    let server = server.restart().await;
    let client = server.client().await;
    let text = told(put(&client, "mine@1.0.0", guest("every_second")).await);
    assert!(text.contains("was deleted") && text.contains(&info.sha256), "{text}");
    assert_eq!(code(put(&client, "mine@1.0.0", guest("every_second")).await), ErrorCode::ModuleExists);
    put(&client, "mine@1.0.0", keep_all()).await.unwrap();
    bind(&client, &topic, "again", "mine").await.unwrap();
}

#[tokio::test]
async fn a_reader_without_a_name_holds_its_modules() {
    let server = TestServer::start().await;
    let (client, topic) = server.topic("t", 1).await;
    put(&client, "mine@1.0.0", keep_all()).await.unwrap();
    let options =
        SubscribeOptions::ephemeral(topic.clone()).from(StartAt::Earliest).with_module("mine", "{}");
    let consumer = client.subscribe(options.clone()).await.unwrap();
    let text = told(client.delete_module("mine").await);
    assert!(
        text.contains("bound by 1 subscription, ephemeral-") && text.contains("delete it first"),
        "{text}"
    );
    assert_eq!(client.describe_module("mine").await.unwrap().bound, 1);
    consumer.close().await.unwrap();
    soon("the module to be free", async { while client.delete_module("mine").await.is_err() {} }).await;
    assert!(client.subscribe(options).await.unwrap_err().to_string().contains("module mine does not exist"));
}

#[tokio::test]
async fn nothing_is_bound_that_was_deleted_meanwhile() {
    let server = TestServer::start().await;
    let (client, topic) = server.topic("t", 1).await;
    publish(&client, &topic, [Record::new("x")]).await;
    for round in 0..30 {
        put(&client, "mine@1.0.0", keep_all()).await.unwrap();
        let name = format!("s{round}");
        let (bound, deleted) =
            tokio::join!(bind(&client, &topic, &name, "mine@1.0.0"), client.delete_module("mine@1.0.0"));
        match (bound, deleted) {
            (Ok(()), Err(error)) => {
                assert!(error.to_string().contains(&name), "{error}");
                let options = SubscribeOptions::durable(topic.clone(), name.parse().unwrap());
                assert_eq!(read_all(&client, options).await.len(), 1);
                client.delete_subscription(name.parse().unwrap()).await.unwrap();
            }
            (Err(error), Ok(())) => assert!(error.to_string().contains("does not exist"), "{error}"),
            both => panic!("{both:?}"),
        }
    }
}

#[tokio::test]
async fn what_nobody_bound_goes_with_the_broker() {
    let server = TestServer::start().await;
    let client = server.client().await;
    let private = client.put_private_module(keep_all()).await.unwrap();
    put(&client, "other@1.0.0", guest("every_second")).await.unwrap();
    client.close().await;
    let server = server.restart().await;
    let client = server.client().await;
    assert_eq!(code(client.describe_module(private.name).await), ErrorCode::UnknownModule);
    assert_eq!(client.get_module("other").await.unwrap().1, guest("every_second"));
}

#[tokio::test]
async fn only_what_is_trusted_runs() {
    let (ours, theirs) = (PrivateKey::generate().unwrap().0, PrivateKey::generate().unwrap().0);
    let trust = |keys: &[PublicKey], required| Trust { keys: keys.to_vec(), required };
    let trusted = trust(&[ours.public()], true);
    let server = TestServer::start_with(|config| config.trust = trusted.clone()).await;
    let (client, topic) = server.topic("t", 1).await;
    publish(&client, &topic, [Record::new("x")]).await;
    let plain = guest("keep_all");
    let (by_us, by_them) = (sign(&plain, &ours).unwrap(), sign(&plain, &theirs).unwrap());
    let mut broken = by_us.clone();
    let last = broken.len() - 1;
    broken[last] ^= 1;
    for (wasm, wanted, text) in [
        (&plain, ErrorCode::ModuleUntrusted, "the module is refused: it is not signed".to_owned()),
        (&by_them, ErrorCode::ModuleUntrusted, theirs.public().id()),
        (&broken, ErrorCode::ModuleRefused, "was changed after it was signed".to_owned()),
    ] {
        assert_eq!(code(put(&client, "mine@1.0.0", wasm.clone()).await), wanted);
        let refused = told(put(&client, "mine@1.0.0", wasm.clone()).await);
        assert!(refused.contains(&text), "{refused}");
        assert_eq!(code(client.put_private_module(wasm.clone().into()).await), wanted);
    }
    let stored = put(&client, "mine@1.0.0", sign(&by_us, &theirs).unwrap()).await.unwrap();
    let signers: Vec<_> = stored.signers.iter().map(|signer| (signer.key.clone(), signer.trusted)).collect();
    assert_eq!(signers, [(ours.public().id(), true), (theirs.public().id(), false)]);
    bind(&client, &topic, "signed", "mine").await.unwrap();
    let read = |client: Client, name: &'static str| {
        let options = SubscribeOptions::durable(topic.clone(), name.parse().unwrap()).until_end();
        async move { client.subscribe(options).await.map(drop) }
    };
    read(client.clone(), "signed").await.unwrap();

    // Without the setting they are only shown; what does not hold is refused all the same.
    client.close().await;
    let server = server.restart_with(|config| config.trust = trust(&[theirs.public()], false)).await;
    let client = server.client().await;
    let shown = client.describe_module("mine").await.unwrap().signers;
    assert_eq!(shown.iter().map(|signer| signer.trusted).collect::<Vec<_>>(), [false, true]);
    put(&client, "plain@1.0.0", plain.clone()).await.unwrap();
    assert_eq!(code(put(&client, "broken@1.0.0", broken).await), ErrorCode::ModuleRefused);
    bind(&client, &topic, "plain", "plain").await.unwrap();

    // What was stored before, and what has lost its signer, is bound no more, and says why.
    client.close().await;
    let stranger = PrivateKey::generate().unwrap().0;
    let server = server.restart_with(|config| config.trust = trust(&[stranger.public()], true)).await;
    let client = server.client().await;
    for (name, text) in [
        ("plain", "module plain@1.0.0 is refused: it is not signed".to_owned()),
        ("signed", format!("module mine@1.0.0 is refused: it is signed by {}", ours.public().id())),
    ] {
        let refused = read(client.clone(), name).await.unwrap_err().to_string();
        assert!(refused.contains(&text), "{refused}");
        let info = client.describe_subscription(name.parse().unwrap()).await.unwrap();
        assert_eq!((info.state, info.fault), (SubscriptionState::Faulted, Some(refused)));
    }
    // Stock modules are the broker's own.
    let options = SubscribeOptions::ephemeral(topic.clone())
        .from(StartAt::Earliest)
        .with_module("std/headers", r#"{"header": "x", "exists": false}"#);
    read_all(&client, options).await;
    let server = server.restart_with(|config| config.trust = trusted).await;
    read(server.client().await, "signed").await.unwrap();
}
