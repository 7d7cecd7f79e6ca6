//! Peers that break the protocol: each is told, and nobody else notices.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use millstream_client::{BatchBuilder, Record, StartAt, SubscribeOptions, TopicName};
use millstream_quic::{FrameReader, FrameWriter};
use millstream_tests::{TestServer, publish, read_all, soon};
use millstream_types::{ProducerId, ProducerStamp};
use millstream_wire::{
    ALPN, Answer, ErrorCode, FrameLimits, Hello, Open, PROTOCOL_VERSION, PublishHead, PublishReady, Receipts,
    Request, Response, Welcome, WireError, encode_frame,
};
use quinn::{Connection, Endpoint};

pub(crate) const ANSWERS: FrameLimits = FrameLimits { head_bytes_max: 1 << 20, body_bytes_max: 1 << 20 };

/// Trusts everybody: this peer wants to be heard, not to be safe.
#[derive(Debug)]
struct Gullible(Arc<rustls::crypto::CryptoProvider>);

impl rustls::client::danger::ServerCertVerifier for Gullible {
    fn verify_server_cert(
        &self,
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &[rustls::pki_types::CertificateDer<'_>],
        _: &rustls::pki_types::ServerName<'_>,
        _: &[u8],
        _: rustls::pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// A bare QUIC connection, greeted by nobody yet.
async fn connect(server: &TestServer, alpn: &[u8]) -> Result<Connection, quinn::ConnectionError> {
    let provider = millstream_quic::crypto_provider();
    let mut tls = rustls::ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Gullible(provider)))
        .with_no_client_auth();
    tls.alpn_protocols = vec![alpn.to_vec()];
    let tls = quinn::crypto::rustls::QuicClientConfig::try_from(tls).unwrap();
    let mut endpoint = Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
    endpoint.set_default_client_config(quinn::ClientConfig::new(Arc::new(tls)));
    let address = server.url().authority().parse().unwrap();
    endpoint.connect(address, "localhost").unwrap().await
}

pub(crate) async fn greeted(server: &TestServer) -> Connection {
    let connection = connect(server, ALPN).await.unwrap();
    let answer: Answer<Welcome> = first_answer(&connection, &hello(PROTOCOL_VERSION)).await;
    assert!(matches!(answer, Answer::Ok(_)), "{answer:?}");
    connection
}

fn hello(protocol: u32) -> Bytes {
    frame(&Open::Hello(Hello { protocol, client: "hostile".into(), features: Vec::new() }))
}

fn frame(head: &impl serde::Serialize) -> Bytes {
    let mut bytes = BytesMut::new();
    encode_frame(&mut bytes, head, 0);
    bytes.freeze()
}

/// Sends `bytes` on a new stream and reads the first answer.
async fn first_answer<T: serde::de::DeserializeOwned>(connection: &Connection, bytes: &[u8]) -> T {
    let (mut send, receive) = connection.open_bi().await.unwrap();
    send.write_all(bytes).await.unwrap();
    let mut reader = FrameReader::new(receive, ANSWERS);
    soon("an answer", reader.next::<T>()).await.unwrap().expect("an answer").0
}

async fn refusal(connection: &Connection, bytes: &[u8]) -> WireError {
    match first_answer::<Answer<Response>>(connection, bytes).await {
        Answer::Err(error) => error,
        Answer::Ok(response) => panic!("accepted: {response:?}"),
    }
}

#[tokio::test]
async fn strangers_are_told_and_closed() {
    let server = TestServer::start().await;
    let error = connect(&server, b"h3").await.unwrap_err().to_string();
    assert!(error.contains("application protocol") || error.contains("120"), "{error}");

    let connection = connect(&server, ALPN).await.unwrap();
    let error = refusal(&connection, &hello(0)).await;
    assert_eq!((error.code, error.value.as_deref()), (ErrorCode::UnsupportedVersion, Some("0")));
    soon("the close", connection.closed()).await;

    let connection = connect(&server, ALPN).await.unwrap();
    let error = refusal(&connection, &frame(&Open::Request(Request::Ping))).await;
    assert!(error.message.contains("Hello"), "{error}");
    soon("the close", connection.closed()).await;

    let connection = connect(&server, ALPN).await.unwrap();
    let error = refusal(&connection, b"GET / HTTP/1.1\r\n\r\n").await;
    assert!(error.message.contains("exceeds the limit"), "{error}");
    soon("the close", connection.closed()).await;
    // Nobody else notices.
    server.client().await.ping().await.unwrap();
}

#[tokio::test]
async fn malformed_first_frames_end_their_stream_alone() {
    let server = TestServer::start().await;
    let connection = greeted(&server).await;
    let huge = refusal(&connection, &[0xff; 8]).await;
    assert_eq!(huge.code, ErrorCode::TooLarge);
    let nonsense = refusal(&connection, &[3, 0, 0, 0, 0, 0, 0, 0, 0xc1, 0xc1, 0xc1]).await;
    assert_eq!(nonsense.code, ErrorCode::BadRequest);
    let unknown = refusal(&connection, &frame(&std::collections::BTreeMap::from([("dance", 1)]))).await;
    assert!(unknown.message.contains("dance"), "{unknown}");
    let name = frame(&std::collections::BTreeMap::from([(
        "publish",
        std::collections::BTreeMap::from([("topic", "a..b")]),
    )]));
    assert!(refusal(&connection, &name).await.message.contains("a..b"));
    let second = refusal(&connection, &hello(PROTOCOL_VERSION)).await;
    assert!(second.message.contains("first stream"), "{second}");
    // The connection still serves.
    let pong: Answer<Response> = first_answer(&connection, &frame(&Open::Request(Request::Ping))).await;
    assert_eq!(pong, Answer::Ok(Response::Done));
}

#[tokio::test]
async fn a_cut_or_silent_stream_hurts_nobody() {
    let server = TestServer::start().await;
    let connection = greeted(&server).await;
    for bytes in [&b""[..], b"\x05", b"\x05\0\0\0\0\0\0\0ab"] {
        let (mut send, _receive) = connection.open_bi().await.unwrap();
        send.write_all(bytes).await.unwrap();
        send.finish().unwrap();
        let (mut send, _receive) = connection.open_bi().await.unwrap();
        send.write_all(bytes).await.unwrap();
        send.reset(7u32.into()).unwrap();
    }
    let pong: Answer<Response> = first_answer(&connection, &frame(&Open::Request(Request::Ping))).await;
    assert_eq!(pong, Answer::Ok(Response::Done));
}

pub(crate) fn open_publish(topic: &TopicName, resume: Option<ProducerId>) -> Open {
    Open::Publish { topic: topic.clone(), producer: None, resume, anew: false }
}

/// What came of `batches`, sent on a stream of their own: the offset of each, or why not.
async fn publish_marked(
    server: &TestServer,
    topic: &TopicName,
    resume: Option<ProducerId>,
    batches: impl Fn(ProducerId) -> Vec<ProducerStamp>,
) -> (ProducerId, Vec<Result<u64, ErrorCode>>) {
    let connection = greeted(server).await;
    let (send, receive) = connection.open_bi().await.unwrap();
    let (mut reader, mut writer) = (FrameReader::new(receive, ANSWERS), FrameWriter::new(send));
    writer.send(&open_publish(topic, resume), Bytes::new()).await.unwrap();
    let (ready, _) = reader.next::<Answer<PublishReady>>().await.unwrap().unwrap();
    let Answer::Ok(PublishReady { producer, .. }) = ready else { panic!("{ready:?}") };
    let stamps = batches(producer);
    for stamp in &stamps {
        let mut builder = BatchBuilder::new().with_producer(*stamp);
        builder.push(&Record::new(stamp.sequence.to_string())).unwrap();
        let body = builder.build().unwrap().into_bytes();
        writer.send(&PublishHead { partition: 0 }, body).await.unwrap();
    }
    let mut outcomes = Vec::new();
    while outcomes.len() < stamps.len() {
        let (Receipts { receipts, .. }, _) = soon("receipts", reader.next()).await.unwrap().unwrap();
        outcomes.extend(receipts.into_iter().map(|receipt| match receipt {
            Answer::Ok(receipt) => Ok(receipt.base_offset),
            Answer::Err(error) => Err(error.code),
        }));
    }
    (producer, outcomes)
}

#[tokio::test]
async fn a_batch_that_comes_again_is_told_where_it_stands() {
    let server = TestServer::start().await;
    let (client, topic) = server.topic("t", 1).await;
    publish(&client, &topic, [Record::new("before")]).await;
    let stamps = |sequences: &[u32], producer: ProducerId| {
        let stamp =
            |sequence: &u32| ProducerStamp { id: producer.id, epoch: producer.epoch, sequence: *sequence };
        sequences.iter().map(stamp).collect::<Vec<_>>()
    };
    let gap = Err(ErrorCode::OutOfSequence);
    let sent = |producer| stamps(&[1, 0, 1, 0, 5, 1, 2], producer);
    let (producer, outcomes) = publish_marked(&server, &topic, None, sent).await;
    assert_eq!(outcomes, [gap, Ok(1), Ok(2), Ok(1), gap, Ok(2), Ok(3)]);
    let another = |producer: ProducerId| stamps(&[0], ProducerId { id: producer.id ^ 1, ..producer });
    let (_, outcomes) = publish_marked(&server, &topic, None, another).await;
    assert_eq!(outcomes, [Err(ErrorCode::BadRequest)]);

    // After a restart places are known from the log alone; others may have published between.
    publish(&client, &topic, (0..50).map(|n| Record::new(format!("other {n}")))).await;
    client.close().await;
    let server = server.restart().await;
    let resumed = |producer| stamps(&[0, 2, 3, 3], producer);
    let (same, outcomes) = publish_marked(&server, &topic, Some(producer), resumed).await;
    assert_eq!(same, producer);
    assert!(
        matches!(outcomes[..], [Ok(1), Ok(3), Ok(new), Ok(again)] if new > 3 && new == again),
        "{outcomes:?}"
    );
    let client = server.client().await;
    let options = SubscribeOptions::ephemeral(topic).from(StartAt::Earliest);
    let payloads: Vec<_> = read_all(&client, options).await.into_iter().map(|record| record.2).collect();
    let others = payloads.iter().filter(|payload| payload.starts_with("other")).count();
    assert_eq!((payloads.len(), others), (55, 50), "{payloads:?}");
}

#[tokio::test]
async fn bad_batches_are_refused_in_order_and_good_ones_kept() {
    let server = TestServer::start().await;
    let (client, topic) = server.topic("t", 1).await;
    publish(&client, &topic, [Record::new("before")]).await;
    let connection = greeted(&server).await;
    let (send, receive) = connection.open_bi().await.unwrap();
    let (mut reader, mut writer) = (FrameReader::new(receive, ANSWERS), FrameWriter::new(send));
    writer.send(&open_publish(&topic, None), Bytes::new()).await.unwrap();
    let (ready, _) = reader.next::<Answer<PublishReady>>().await.unwrap().unwrap();
    assert!(matches!(ready, Answer::Ok(PublishReady { partitions: 1, .. })));

    let good = || {
        let mut builder = BatchBuilder::new();
        builder.push(&Record::new("good")).unwrap();
        builder.build().unwrap().into_bytes()
    };
    let mut flipped = good().to_vec();
    *flipped.last_mut().unwrap() ^= 1;
    let mut sparse = BatchBuilder::new();
    sparse.push_at(5, &Record::new("sparse")).unwrap();
    let sparse = sparse.build().unwrap().into_bytes();
    let bodies = [
        (0, good()),
        (0, flipped.into()),
        (9, good()),
        (0, sparse),
        (0, Bytes::from_static(b"MSRB")),
        (0, good()),
    ];
    for (partition, body) in bodies {
        writer.send(&PublishHead { partition }, body).await.unwrap();
    }
    let mut receipts = Vec::new();
    while receipts.len() < 6 {
        receipts.extend(soon("receipts", reader.next::<Receipts>()).await.unwrap().unwrap().0.receipts);
    }
    let codes = receipts.iter().map(|receipt| match receipt {
        Answer::Ok(receipt) => Ok(receipt.base_offset),
        Answer::Err(error) => Err(error.code),
    });
    let corrupt = Err(ErrorCode::CorruptBatch);
    assert_eq!(
        codes.collect::<Vec<_>>(),
        [Ok(1), corrupt, Err(ErrorCode::UnknownPartition), corrupt, corrupt, Ok(2)]
    );

    // A frame that is too large ends the stream, with the reason as its last receipt.
    let mut oversized = BytesMut::new();
    encode_frame(&mut oversized, &PublishHead { partition: 0 }, 64 << 20);
    let (mut send, receive) = connection.open_bi().await.unwrap();
    send.write_all(&frame(&open_publish(&topic, None))).await.unwrap();
    send.write_all(&oversized).await.unwrap();
    let mut reader = FrameReader::new(receive, ANSWERS);
    reader.next::<Answer<PublishReady>>().await.unwrap().unwrap();
    let last = soon("the reason", reader.next::<Receipts>()).await.unwrap().unwrap().0;
    assert!(
        matches!(&last.receipts[..], [Answer::Err(error)] if error.code == ErrorCode::TooLarge),
        "{last:?}"
    );

    let options = SubscribeOptions::ephemeral(topic).from(StartAt::Earliest);
    let payloads: Vec<_> = read_all(&client, options).await.into_iter().map(|record| record.2).collect();
    assert_eq!(payloads, ["before", "good", "good"]);
}
