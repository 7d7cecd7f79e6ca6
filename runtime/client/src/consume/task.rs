//! The task behind a consumer: takes deliveries, sends acks and credit, and opens the stream anew when it is lost.

use std::sync::Arc;

use bytes::Bytes;
use millstream_quic::{FrameReader, FrameWriter};
use millstream_types::{Check, Offset, RecordBatch, StartAt};
use millstream_wire::{
    Control, Delivery as Frame, ErrorCode, Open, Request, Subscribe, Subscribed, WireError,
};

use super::{
    consumer::{Shared, cut},
    inbox::Delivery,
    options::SubscribeOptions,
};
use crate::{
    CallError, ConsumeError, Lost, Place,
    client::request_on,
    connect::Link,
    keep::{Kept, keep},
    limits,
    stream::{self, Opened},
};

/// Where a consumer goes on.
pub(super) struct Resume {
    /// Next offset wanted, each partition, where the broker keeps no place for us.
    from: Vec<(u32, Offset)>,
    /// What the application has not taken yet: so much less may be sent.
    waiting_bytes: u64,
}

/// Opens the stream, by one attempt: as `options` say, or where it was left. Cancel-safe.
pub(super) async fn open_stream(
    link: &Link,
    options: &SubscribeOptions,
    resume: Option<Resume>,
) -> Result<Opened<Subscribed>, CallError> {
    for wasm in &options.uploads {
        request_on(link, Request::PutModule { name: None }, wasm.clone()).await?;
    }
    let connection = link.session().await?.connection;
    let waiting_bytes = resume.as_ref().map_or(0, |resume| resume.waiting_bytes);
    let from = match resume {
        Some(resume) if options.name.is_none() && options.topic.as_topic().is_some() => {
            StartAt::Offsets(resume.from.into_iter().map(|(_, offset)| offset).collect())
        }
        Some(resume) if options.name.is_none() => StartAt::Places(resume.from),
        _ => options.from.clone(),
    };
    let open = Open::Subscribe(Subscribe {
        topic: options.topic.clone(),
        name: options.name.clone(),
        from,
        pipeline: options.pipeline.clone(),
        on_fault: options.on_fault,
        credit_bytes: options.credit_bytes.saturating_sub(waiting_bytes).max(1),
    });
    let after = link.options().request_timeout;
    let opened = async {
        let mut opened = stream::open::<Subscribed>(&connection, &open, limits::DELIVERIES).await?;
        while opened.answer.more {
            match opened.reader.next::<Frame>().await? {
                Some((Frame::Partitions { partitions, more }, _)) => {
                    opened.answer.partitions.extend(partitions);
                    opened.answer.more = more;
                }
                _ => return Err(CallError::Protocol("the list of partitions was cut short".into())),
            }
        }
        Ok(opened)
    };
    tokio::time::timeout(after, opened).await.unwrap_or(Err(CallError::TimedOut { after }))
}

/// What the task keeps going.
struct Consuming {
    link: Arc<Link>,
    options: SubscribeOptions,
    shared: Arc<Shared>,
}

impl Kept for Consuming {
    type Answer = Subscribed;

    async fn open(&self) -> Result<Opened<Subscribed>, CallError> {
        let from = self.shared.acks().all_received();
        let waiting_bytes = self.shared.inbox().reconnecting();
        open_stream(&self.link, &self.options, Some(Resume { from, waiting_bytes })).await
    }

    fn reopened(&self, subscribed: &Subscribed) -> Result<(), CallError> {
        let gone = self.shared.acks().reconnected(&subscribed.partitions);
        if let Some(gone) = gone {
            for place in gone.into_iter().filter_map(|number| self.shared.place(number, None).ok()) {
                self.shared.inbox().gone(place);
            }
            return Ok(());
        }
        let text = "the topic has another number of partitions than before: subscribe anew";
        Err(CallError::Protocol(text.into()))
    }

    fn lost(&self, error: &CallError) {
        tracing::debug!(topic = %self.options.topic, %error, "consumer stream lost");
    }

    fn is_closed(&self) -> bool {
        self.shared.is_closed()
    }

    async fn send(&self, writer: &mut FrameWriter, _: &Subscribed) -> Result<(), ConsumeError> {
        send(&self.shared, writer).await
    }

    async fn receive(&self, reader: &mut FrameReader) -> Result<(), ConsumeError> {
        receive(&self.shared, reader).await
    }

    fn end(&self, error: ConsumeError) {
        self.shared.inbox().end(error);
        self.shared.settled.notify_waiters();
    }
}

/// Runs until the consumer is dropped, the broker ends the subscription, or the broker is given up.
pub(super) async fn run(
    link: Arc<Link>,
    options: SubscribeOptions,
    shared: Arc<Shared>,
    first: Opened<Subscribed>,
) {
    let spell = link.spell();
    keep(Consuming { link, options, shared }, spell, first).await;
}

/// Sends acks and credit; returns when the consumer is dropped and its acks are sent.
async fn send(shared: &Shared, writer: &mut FrameWriter) -> Result<(), ConsumeError> {
    loop {
        let closing = shared.is_closed();
        let credit = shared.inbox().give_back(shared.credit_step);
        if let Some(bytes) = credit {
            push(writer, &Control::Credit { bytes }).await?;
        }
        let acks = shared.acks().next_messages(closing);
        for (ack, next) in acks {
            push(writer, &Control::Ack { ack, next }).await?;
        }
        writer.flush().await.map_err(|error| CallError::from(Lost::from(error)))?;
        if closing {
            return Ok(());
        }
        shared.wake.notified().await;
    }
}

async fn push(writer: &mut FrameWriter, control: &Control) -> Result<(), CallError> {
    writer.push(control, Bytes::new()).await.map_err(|error| Lost::from(error).into())
}

/// Takes deliveries until the stream ends.
async fn receive(shared: &Shared, reader: &mut FrameReader) -> Result<(), ConsumeError> {
    while let Some((frame, body)) = reader.next::<Frame>().await.map_err(CallError::from)? {
        match frame {
            Frame::Batch { partition, of, next } => {
                take_batch(shared, shared.place(partition, of)?, next, body)?;
            }
            Frame::Progress { partition, of, next } => {
                let place = shared.place(partition, of)?;
                known(shared, &place)?;
                shared.acks().progress(partition, next);
                shared.inbox().progress(place, next);
                shared.wake.notify_one();
            }
            Frame::Faulted { fault: Some(fault) } if shared.until_end => {
                return Err(ConsumeError::Ended(WireError::refused(ErrorCode::ModuleFault, fault)));
            }
            Frame::Faulted { fault } => drop(shared.faults.send_replace(fault)),
            // They come before anything else.
            Frame::Partitions { .. } => {}
            Frame::Gone { partition } => {
                shared.acks().gone(partition);
                // What never brought anything is of no interest.
                if let Ok(place) = shared.place(partition, None) {
                    shared.inbox().gone(place);
                }
                shared.settled.notify_waiters();
            }
            Frame::Settled { ack } => {
                shared.acks().settled(ack);
                shared.settled.notify_waiters();
                shared.wake.notify_one();
            }
            Frame::Ended(error) if error.retryable => return Err(CallError::Refused(error).into()),
            Frame::Ended(error) => return Err(ConsumeError::Ended(error)),
        }
    }
    Err(CallError::from(Lost::new("the broker ended the stream")).into())
}

fn take_batch(shared: &Shared, place: Place, next: Offset, body: Bytes) -> Result<(), ConsumeError> {
    let received = known(shared, &place)?;
    let number = place.number();
    let bytes = body.len() as u64;
    // The last batch may exceed what was left, also that of a stream before.
    if shared.inbox().bytes()
        > shared.credit_bytes.saturating_add(2 * limits::DELIVERIES.body_bytes_max as u64)
    {
        return Err(CallError::Protocol("more was delivered than credit was given for".into()).into());
    }
    let corrupt = |error| ConsumeError::Corrupt { place: place.clone(), error };
    let batch =
        RecordBatch::new(body, Check::Full).and_then(|batch| batch.decompressed()).map_err(corrupt)?;
    let delivery = Delivery { place, next, batch };
    // After a reconnect a durable subscription starts at its last ack: what is here already is passed over.
    match cut(&delivery, received, Offset::MAX) {
        Some(batch) => {
            shared.acks().delivered(number, delivery.next);
            shared.inbox().put(Delivery { batch, ..delivery }, bytes);
        }
        None => {
            shared.acks().progress(number, delivery.next);
            let mut inbox = shared.inbox();
            inbox.discard(bytes);
            inbox.progress(delivery.place, delivery.next.max(received));
            shared.wake.notify_one();
        }
    }
    Ok(())
}

fn known(shared: &Shared, place: &Place) -> Result<Offset, CallError> {
    let received = shared.acks().received(place.number());
    received.ok_or_else(|| CallError::Protocol(format!("a delivery came for {place}, unknown here")))
}
