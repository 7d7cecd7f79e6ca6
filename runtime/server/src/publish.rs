//! A publisher stream: batches up, receipts down, pipelined and in order.

use std::sync::Arc;

use bytes::Bytes;
use millstream_broker::{Appended, Broker, Error, PendingAppend, Topic};
use millstream_quic::{FrameReader, FrameWriter};
use millstream_types::{
    BatchError, Check, Compression, ProducerId, ProducerName, RecordBatch, TopicName, limits::BATCH_BYTES_MAX,
};
use millstream_wire::{
    Answer, CloseCode, Frame, FrameLimits, PublishHead, PublishReady, Receipt, Receipts, WireError,
    decode_head,
};
use tokio::{sync::mpsc, time::timeout};

use crate::{
    error::{of_frame, to_wire},
    limits::QUIET,
    pace::{Brake, Notices, pace},
    peer::Peer,
    session::Context,
    stream::{StreamError, refuse},
};

/// Batches of one stream that may be without a receipt.
const IN_FLIGHT_MAX: u32 = 4_096;
const HEAD_BYTES_MAX: usize = 256;
/// Receipts in one frame.
const RECEIPTS_MAX: usize = 512;
/// Bytes of them beyond which no more are added.
const RECEIPTS_BYTES: usize = 256 << 10;

/// A batch whose receipt is owed: on its way, or refused at once.
type Owed = (u32, Result<PendingAppend, WireError>);

/// As the client opened the stream.
pub(crate) struct Wanted {
    pub(crate) topic: TopicName,
    pub(crate) producer: Option<ProducerName>,
    pub(crate) resume: Option<ProducerId>,
    pub(crate) anew: bool,
}

/// Takes batches until the client finishes the stream; then owes nothing.
pub(crate) async fn serve(
    context: &Arc<Context>,
    peer: &Peer,
    wanted: Wanted,
    mut reader: FrameReader,
    mut writer: FrameWriter,
) -> Result<(), StreamError> {
    let broker = &context.broker;
    let opened = match broker.topic(&wanted.topic) {
        Ok(topic) => {
            let Wanted { producer, resume, anew, .. } = wanted;
            broker.open_producer(producer, resume, anew).await.map(|producer| (topic, producer))
        }
        Err(error) => Err(error),
    };
    let (topic, producer) = match opened {
        Ok(opened) => opened,
        Err(error) => return refuse(&mut writer, to_wire(&error)).await,
    };
    let ready = PublishReady {
        partitions: topic.config().partitions,
        batch_bytes_max: BATCH_BYTES_MAX as u64,
        in_flight_max: IN_FLIGHT_MAX,
        producer,
    };
    writer.send(&Answer::Ok(ready), Bytes::new()).await?;
    reader.set_limits(FrameLimits { head_bytes_max: HEAD_BYTES_MAX, body_bytes_max: BATCH_BYTES_MAX });
    let (owe, owed) = mpsc::channel(IN_FLIGHT_MAX as usize);
    let (brake, notices) = pace(context);
    let receipts = tokio::spawn(send_receipts(writer, owed, notices));
    let entrance = Entrance { broker, peer, topic: &topic, producer, brake };
    let taken = entrance.take_batches(&mut reader, owe).await;
    // Whatever ended the stream, what was handed in is answered.
    let sent = receipts.await.unwrap_or(Ok(()));
    taken.and(sent)
}

/// Where the batches of a stream come in.
struct Entrance<'a> {
    broker: &'a Broker,
    peer: &'a Peer,
    topic: &'a Topic,
    producer: ProducerId,
    brake: Brake,
}

impl Entrance<'_> {
    async fn take_batches(
        self,
        reader: &mut FrameReader,
        owe: mpsc::Sender<Owed>,
    ) -> Result<(), StreamError> {
        loop {
            let next = if self.brake.is_on() {
                match timeout(QUIET, reader.next_frame()).await {
                    Ok(next) => next,
                    Err(_) => {
                        self.brake.go_on();
                        continue;
                    }
                }
            } else {
                reader.next_frame().await
            };
            let frame = match next {
                Ok(Some(frame)) => frame,
                Ok(None) => return Ok(()),
                Err(error) => {
                    // After a broken frame nothing can be found again: the last receipt says why.
                    let _ = owe.send((0, Err(of_frame(&error)))).await;
                    reader.stop(CloseCode::Protocol.code());
                    return Err(error.into());
                }
            };
            // Receipts cannot be sent any more: the connection is gone, also while a batch waits for room.
            let (partition, handed_in) = tokio::select! {
                biased;
                done = self.hand_in(frame) => done,
                () = owe.closed() => return Ok(()),
            };
            if owe.send((partition, handed_in.map_err(|error| to_wire(&error)))).await.is_err() {
                return Ok(());
            }
        }
    }

    /// Cancel-safe: the batch is handed in wholly or not at all.
    async fn hand_in(&self, frame: Frame) -> (u32, Result<PendingAppend, Error>) {
        let head: PublishHead = match decode_head(&frame.head) {
            Ok(head) => head,
            Err(error) => return (0, Err(Error::BadFrame(error.to_string()))),
        };
        (head.partition, self.append(head.partition, frame.body).await)
    }

    async fn append(&self, partition: u32, body: Bytes) -> Result<PendingAppend, Error> {
        let batch = checked(body)?;
        let (found, expected) = (batch.view().producer().id, self.producer.id);
        if found != 0 && found != expected {
            return Err(Error::WrongProducer { found, expected });
        }
        let mut held = false;
        let room = self.broker.room_for(&batch, &self.peer.allowance, self.topic, |slow| {
            held = true;
            self.brake.slow_down(slow);
        });
        let room = room.await?;
        if !held {
            self.brake.go_on();
        }
        self.broker.append_in(room, self.topic, partition, batch)
    }
}

/// A batch that everybody can read.
pub(crate) fn checked(bytes: Bytes) -> Result<RecordBatch, BatchError> {
    let batch = RecordBatch::new(bytes, Check::Full)?;
    if batch.view().compression() != Compression::None {
        batch.decompressed()?;
    }
    Ok(batch)
}

async fn send_receipts(
    mut writer: FrameWriter,
    mut owed: mpsc::Receiver<Owed>,
    mut notices: Notices,
) -> Result<(), StreamError> {
    let mut next = None;
    loop {
        let first = match next.take() {
            Some(first) => Some(first),
            None => notices.until(owed.recv(), &mut writer).await?.flatten(),
        };
        let Some((partition, pending)) = first else { break };
        let Some(first) = notices.until(receipt(partition, pending), &mut writer).await? else { break };
        let (mut receipts, mut bytes) = (Vec::new(), size_bytes(&first));
        receipts.push(first);
        // What is ready by now goes into the same frame.
        while receipts.len() < RECEIPTS_MAX && bytes < RECEIPTS_BYTES {
            match owed.try_recv() {
                Ok((partition, Ok(mut pending))) => match pending.try_receipt() {
                    Some(done) => {
                        let done = answer(partition, done);
                        bytes += size_bytes(&done);
                        receipts.push(done);
                    }
                    None => {
                        next = Some((partition, Ok(pending)));
                        break;
                    }
                },
                Ok((_, Err(error))) => receipts.push(Answer::Err(error)),
                Err(_) => break,
            }
        }
        writer.send(&Receipts { receipts, pace: None }, Bytes::new()).await?;
    }
    writer.end();
    Ok(())
}

async fn receipt(partition: u32, pending: Result<PendingAppend, WireError>) -> Answer<Receipt> {
    match pending {
        Ok(pending) => answer(partition, pending.receipt().await),
        Err(error) => Answer::Err(error),
    }
}

/// About how many bytes `answer` takes.
fn size_bytes(answer: &Answer<Receipt>) -> usize {
    const OFFSET: usize = 9;
    match answer {
        Answer::Ok(receipt) => receipt.offsets.len() * OFFSET + receipt.unstored.size_bytes(),
        Answer::Err(error) => error.message.len(),
    }
}

fn answer(partition: u32, done: Result<Appended, Error>) -> Answer<Receipt> {
    match done {
        Ok(done) => Answer::Ok(receipt_of(partition, done)),
        Err(error) => Answer::Err(to_wire(&error)),
    }
}

/// Where a batch stands, as the wire has it.
pub(crate) fn receipt_of(partition: u32, done: Appended) -> Receipt {
    let Appended { base_offset, records, timestamp, offsets, unstored } = done;
    Receipt { partition, base_offset, records, timestamp, offsets, unstored }
}
