//! A consumer stream: deliveries down as credit allows, credit and acks up.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::FutureExt as _;
use millstream_broker::{Broker, NewSubscription, Next, Reading, Subscription};
use millstream_quic::{FrameReader, FrameWriter};
use millstream_wire::{
    Answer, Control, Delivery, FrameLimits, PartitionSpan, Subscribe, Subscribed, WireError,
};
use tokio::sync::watch;

use crate::{
    error::{of_frame, to_wire},
    session::Context,
    stream::{StreamError, refuse},
};

const CONTROL_LIMITS: FrameLimits = FrameLimits { head_bytes_max: 64 << 10, body_bytes_max: 0 };

/// Partitions told of in one frame: those of any one topic fit.
const SPANS_MAX: usize = 1_024;

/// What the consumer said so far.
#[derive(Debug, Clone, Default)]
struct Said {
    credit_bytes: u64,
    /// Newest ack that is stored.
    settled: u64,
    /// Why it must be given up.
    error: Option<WireError>,
}

/// Delivers until the consumer finishes the stream or the subscription cannot go on.
pub(crate) async fn serve(
    context: &Arc<Context>,
    wanted: Subscribe,
    mut reader: FrameReader,
    mut writer: FrameWriter,
) -> Result<(), StreamError> {
    let credit_bytes = wanted.credit_bytes;
    let wanted = NewSubscription {
        topic: wanted.topic,
        name: wanted.name,
        from: wanted.from,
        pipeline: wanted.pipeline,
        on_fault: wanted.on_fault,
        delivery: None,
    };
    let reading = match context.broker.subscribe(wanted).await {
        Ok(reading) => reading,
        Err(error) => return refuse(&mut writer, to_wire(&error)).await,
    };
    let subscription = Arc::clone(reading.subscription());
    greet(&subscription, &mut writer).await?;
    reader.set_limits(CONTROL_LIMITS);
    let (say, said) = watch::channel(Said { credit_bytes, ..Said::default() });
    let broker = context.broker.clone();
    // A task of its own: acks are taken even while a delivery waits for the consumer to read.
    let listening = tokio::spawn(async move { listen(&broker, &subscription, reader, &say).await });
    let delivered = deliver(reading, &mut writer, said).await;
    writer.end();
    if delivered.is_err() {
        listening.abort();
    }
    // The subscription is free by now; acks that are still on their way are taken.
    let _ = listening.await;
    delivered
}

/// Tells what is read, and where each partition stands.
async fn greet(subscription: &Subscription, writer: &mut FrameWriter) -> Result<(), StreamError> {
    let partitions = subscription.places().into_iter().map(|(place, next)| PartitionSpan {
        partition: place.number(),
        of: place.of(),
        next,
        end: place.end(),
    });
    let mut rest: Vec<_> = partitions.collect();
    let mut next = || {
        let behind = rest.split_off(rest.len().min(SPANS_MAX));
        (std::mem::replace(&mut rest, behind), !rest.is_empty())
    };
    let (partitions, mut more) = next();
    let (name, durable) = (subscription.name().clone(), subscription.is_durable());
    writer.push(&Answer::Ok(Subscribed { name, durable, partitions, more }), Bytes::new()).await?;
    while more {
        let (partitions, further) = next();
        more = further;
        writer.push(&Delivery::Partitions { partitions, more }, Bytes::new()).await?;
    }
    writer.flush().await.map_err(StreamError::from)
}

/// Takes what the consumer says until it finishes or breaks off; dropping `say` ends the delivery.
async fn listen(
    broker: &Broker,
    subscription: &Subscription,
    mut reader: FrameReader,
    say: &watch::Sender<Said>,
) {
    loop {
        match reader.next::<Control>().await {
            Ok(Some((Control::Credit { bytes }, _))) => {
                say.send_modify(|said| said.credit_bytes = said.credit_bytes.saturating_add(bytes));
            }
            Ok(Some((Control::Ack { ack, next }, _))) => match broker.ack(subscription, next).await {
                Ok(()) => say.send_modify(|said| said.settled = ack),
                Err(error) => return say.send_modify(|said| said.error = Some(to_wire(&error))),
            },
            Ok(None) => return,
            Err(error) => return say.send_modify(|said| said.error = Some(of_frame(&error))),
        }
    }
}

async fn deliver(
    mut reading: Reading,
    writer: &mut FrameWriter,
    mut said: watch::Receiver<Said>,
) -> Result<(), StreamError> {
    let (mut spent, mut settled) = (0u64, 0u64);
    let (mut faults, mut fault) = (reading.subscription().faults(), None);
    loop {
        if *faults.borrow_and_update() != fault {
            fault.clone_from(&faults.borrow());
            writer.push(&Delivery::Faulted { fault: fault.clone() }, Bytes::new()).await?;
        }
        let heard = said.borrow_and_update().clone();
        if let Some(error) = heard.error {
            drop(reading);
            writer.send(&Delivery::Ended(error), Bytes::new()).await?;
            return Ok(());
        }
        if heard.settled > settled {
            settled = heard.settled;
            writer.push(&Delivery::Settled { ack: settled }, Bytes::new()).await?;
        }
        let may_send = spent < heard.credit_bytes;
        // What is ready goes out together; before waiting, everything is sent.
        let ready = if may_send { reading.next().now_or_never() } else { None };
        let step = match ready {
            Some(step) => step,
            None => {
                writer.flush().await?;
                tokio::select! {
                    step = reading.next(), if may_send => step,
                    // Its sender is the subscription, which is there.
                    _ = faults.changed() => continue,
                    changed = said.changed() => match changed {
                        Ok(()) => continue,
                        // The consumer has finished, or its connection is gone.
                        Err(_) => return Ok(()),
                    },
                }
            }
        };
        match step {
            Ok(Next::Batch { place, next, batch }) => {
                let bytes = batch.into_bytes();
                spent += bytes.len() as u64;
                let delivery = Delivery::Batch { partition: place.number(), of: place.of(), next };
                writer.push(&delivery, bytes).await?;
            }
            Ok(Next::Progress { place, next }) => {
                let delivery = Delivery::Progress { partition: place.number(), of: place.of(), next };
                writer.push(&delivery, Bytes::new()).await?;
            }
            Ok(Next::Gone { number }) => {
                writer.push(&Delivery::Gone { partition: number }, Bytes::new()).await?;
            }
            Err(error) => {
                // Free for the next consumer before this one knows.
                drop(reading);
                writer.send(&Delivery::Ended(to_wire(&error)), Bytes::new()).await?;
                return Ok(());
            }
        }
        if said.has_changed().is_err() {
            return Ok(());
        }
    }
}
