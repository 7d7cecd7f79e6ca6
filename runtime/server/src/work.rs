//! A worker stream: leased records down, what became of them up.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::FutureExt as _;
use millstream_broker::{Granted, Member, NewSubscription, Said, Verdict, Window};
use millstream_quic::{FrameReader, FrameWriter, ReadError};
use millstream_wire::{
    Answer, Assignment, ErrorCode, FrameLimits, Joined, SettleAs, Settlement, WireError, Work, WorkControl,
};
use tokio::{sync::mpsc, time::sleep};

use crate::{
    error::{of_frame, to_wire},
    limits::PROBE_EVERY,
    peer::Peer,
    session::Context,
    stream::{StreamError, refuse},
};

/// Most settlements in one message.
const SETTLEMENTS_MAX: usize = 1_000;
/// So many settlements with errors in words.
const CONTROL_LIMITS: FrameLimits = FrameLimits { head_bytes_max: 1 << 20, body_bytes_max: 0 };
/// Answers that wait for the consumer to read.
const ANSWERS_MAX: usize = 16;

/// Hands out records until the consumer finishes the stream or the subscription cannot go on.
pub(crate) async fn serve(
    context: &Arc<Context>,
    peer: Arc<Peer>,
    wanted: Work,
    mut reader: FrameReader,
    mut writer: FrameWriter,
) -> Result<(), StreamError> {
    let window = Window { records: wanted.records, bytes: wanted.bytes };
    let wanted = NewSubscription {
        topic: wanted.topic,
        name: Some(wanted.name),
        from: wanted.from,
        pipeline: wanted.pipeline,
        on_fault: wanted.on_fault,
        delivery: wanted.delivery,
    };
    let member = match context.broker.join(wanted, window).await {
        Ok(member) => Arc::new(member),
        Err(error) => return refuse(&mut writer, to_wire(&error)).await,
    };
    let (name, delivery) = (member.subscription().name().clone(), member.subscription().delivery());
    let joined = Joined { name, mode: delivery.mode, lease_ms: delivery.lease_ms };
    writer.send(&Answer::Ok(joined), Bytes::new()).await?;
    reader.set_limits(CONTROL_LIMITS);
    let (answer, answers) = mpsc::channel(ANSWERS_MAX);
    let (listener, own) = (Arc::clone(&member), Arc::clone(&peer));
    // A task of its own: settlements are taken even while records wait for the consumer to read.
    let listening = tokio::spawn(async move { listen(&listener, &own, reader, &answer).await });
    let delivered = deliver(&member, &peer, &mut writer, answers).await;
    writer.end();
    listening.abort();
    delivered
}

/// Takes what the consumer says until it finishes, and leaves with that, or breaks off.
async fn listen(member: &Member, peer: &Peer, mut reader: FrameReader, answer: &mpsc::Sender<Assignment>) {
    loop {
        let said = match reader.next::<WorkControl>().await {
            Ok(Some((said, _))) => said,
            Ok(None) => return member.leave(),
            // Our own end is no failure of the consumer.
            Err(ReadError::Stream(quinn::ReadError::ConnectionLost(
                quinn::ConnectionError::LocallyClosed,
            ))) if !peer.has_vanished() => {
                return member.leave();
            }
            // It broke off: that is told by dropping the member.
            Err(ReadError::Stream(_)) => return,
            Err(error) => {
                // Who is gone does not hear it.
                let _ = answer.send(Assignment::Ended(of_frame(&error))).await;
                return;
            }
        };
        let answered = match said {
            WorkControl::Window { records, bytes } => {
                member.set_window(Window { records, bytes });
                continue;
            }
            WorkControl::Settle { settlements, .. } if settlements.len() > SETTLEMENTS_MAX => {
                let found = settlements.len();
                let text =
                    format!("{found} settlements came in one message, {SETTLEMENTS_MAX} at most are taken");
                let error = WireError::refused(ErrorCode::TooLarge, text).with_value(found.to_string());
                Assignment::Ended(error)
            }
            WorkControl::Settle { number, settlements } => settle(member, number, settlements).await,
            WorkControl::Extend { number, lease, ms } => {
                let stale = if member.extend(lease, u64::from(ms)) { Vec::new() } else { vec![0] };
                Assignment::Settled { number, stale }
            }
        };
        let ended = matches!(answered, Assignment::Ended(_));
        if answer.send(answered).await.is_err() || ended {
            return;
        }
    }
}

async fn settle(member: &Member, number: u64, settlements: Vec<Settlement>) -> Assignment {
    match member.settle(number, settlements.into_iter().map(said).collect()).await {
        Ok(held) => {
            let stale = (0u32..).zip(held).filter(|(_, held)| !held).map(|(index, _)| index);
            Assignment::Settled { number, stale: stale.collect() }
        }
        Err(error) => Assignment::Ended(to_wire(&error)),
    }
}

fn said(settlement: Settlement) -> Said {
    let Settlement { partition, lease, from, to, verdict } = settlement;
    let verdict = match verdict {
        SettleAs::Ack => Verdict::Ack,
        SettleAs::Nack { delay_ms, error } => Verdict::Nack { delay_ms, error },
        SettleAs::Release => Verdict::Release,
    };
    Said { partition, lease, offsets: from..to, verdict }
}

async fn deliver(
    member: &Member,
    peer: &Peer,
    writer: &mut FrameWriter,
    mut answers: mpsc::Receiver<Assignment>,
) -> Result<(), StreamError> {
    let (mut faults, mut fault) = (member.subscription().faults(), None);
    loop {
        if *faults.borrow_and_update() != fault {
            fault.clone_from(&faults.borrow());
            writer.push(&Assignment::Faulted { fault: fault.clone() }, Bytes::new()).await?;
        }
        // What is ready goes out together; before waiting, everything is sent.
        let ready = match answers.try_recv() {
            Ok(answer) => Some(Next::Answer(Some(answer))),
            Err(mpsc::error::TryRecvError::Disconnected) => Some(Next::Answer(None)),
            Err(mpsc::error::TryRecvError::Empty) => member.next().now_or_never().map(Next::Granted),
        };
        let next = match ready {
            Some(next) => next,
            None => {
                writer.flush().await?;
                let holds = member.holds_records();
                tokio::select! {
                    answer = answers.recv() => Next::Answer(answer),
                    granted = member.next() => Next::Granted(granted),
                    // Its sender is the subscription, which is there.
                    _ = faults.changed() => continue,
                    // Without that, it would hold them until its connection times out, should it be gone.
                    () = sleep(PROBE_EVERY), if holds => {
                        peer.probe();
                        continue;
                    }
                }
            }
        };
        match next {
            Next::Granted(Ok(Granted { place, lease, heard, more_follows, tried, batch })) => {
                let (partition, of) = (place.number(), place.of());
                let records = Assignment::Records { partition, of, lease, heard, more_follows, tried };
                writer.push(&records, batch.into_bytes()).await?;
            }
            Next::Granted(Err(error)) => {
                // It is not the consumer's failure.
                member.leave();
                return end(writer, to_wire(&error)).await;
            }
            Next::Answer(Some(Assignment::Ended(error))) => return end(writer, error).await,
            Next::Answer(Some(answer)) => writer.push(&answer, Bytes::new()).await?,
            // The consumer has finished, or its connection is gone.
            Next::Answer(None) => return writer.flush().await.map_err(StreamError::from),
        }
    }
}

enum Next {
    Answer(Option<Assignment>),
    Granted(Result<Granted, millstream_broker::Error>),
}

async fn end(writer: &mut FrameWriter, error: WireError) -> Result<(), StreamError> {
    writer.send(&Assignment::Ended(error), Bytes::new()).await?;
    Ok(())
}
