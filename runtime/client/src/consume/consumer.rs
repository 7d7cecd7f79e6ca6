//! The handle that an application consumes with.

use std::{
    collections::BTreeMap,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
};

use futures_core::Stream;
use millstream_types::{Offset, SubscriptionName, TopicPartition, TopicPattern};
use millstream_wire::{PartitionSpan, Subscribed};
use tokio::sync::{Notify, watch};

use super::{
    acks::Acks,
    inbox::{Delivery, Event, Inbox},
    message::Message,
    options::SubscribeOptions,
    task,
};
use crate::{CallError, ConsumeError, Place, connect::Link, place::Places};

/// Reads a subscription: a `Stream` of messages, or [batches](Self::next_batch), or [events](Self::next_event).
///
/// Acks are cumulative in each partition: acknowledging a message acknowledges everything before it. They are sent in
/// the background; [`ack_flush`](Self::ack_flush) waits for the broker to have stored them. What modules dropped is
/// acknowledged by itself once everything before it is. An ephemeral subscription needs no acks.
///
/// A lost connection is taken up again, and no message is handed out twice by one consumer unless the broker lost it;
/// a consumer made later gets again what was not acknowledged. Dropping a consumer sends the acks made so far without
/// waiting; [`close`](Self::close) waits.
#[derive(Debug)]
pub struct Consumer {
    shared: Arc<Shared>,
    topic: TopicPattern,
    subscribed: Subscribed,
    /// Next offset that the application has not got, each partition.
    positions: BTreeMap<Place, Offset>,
    /// Where to stop.
    ends: Option<BTreeMap<Place, Offset>>,
    /// The batch that messages are taken from, and the next one's index.
    current: Option<(Delivery, usize)>,
    failed: bool,
}

/// Acknowledges from elsewhere than where messages are taken.
#[derive(Debug, Clone)]
pub struct Acker {
    shared: Arc<Shared>,
}

/// What the handles and the task share.
#[derive(Debug)]
pub(super) struct Shared {
    acks: Mutex<Acks>,
    places: Mutex<Places>,
    inbox: Mutex<Inbox>,
    /// Wakes the task's sending half.
    pub(super) wake: Notify,
    /// Wakes those who wait for acks to be stored.
    pub(super) settled: Notify,
    /// The consumer is dropped.
    closed: std::sync::atomic::AtomicBool,
    /// Why the subscription's modules are let alone, while they are.
    pub(super) faults: watch::Sender<Option<String>>,
    /// Whether it is to end where there is nothing more now.
    pub(super) until_end: bool,
    /// Most bytes that the broker may send ahead.
    pub(super) credit_bytes: u64,
    /// Credit given back at a time.
    pub(super) credit_step: u64,
}

impl Shared {
    pub(super) fn acks(&self) -> MutexGuard<'_, Acks> {
        self.acks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The place that the broker calls `number`, and says to be `of` there.
    pub(super) fn place(&self, number: u32, of: Option<TopicPartition>) -> Result<Place, CallError> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner).place(number, of)
    }

    pub(super) fn inbox(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(std::sync::atomic::Ordering::Acquire)
    }

    fn ack(&self, place: &Place, next: Offset) {
        self.acks().ack(place.number(), next);
        self.wake.notify_one();
    }

    async fn ack_flush(&self) -> Result<(), ConsumeError> {
        loop {
            let mut settled = std::pin::pin!(self.settled.notified());
            // Listen before looking, so that what happens in between is not missed.
            settled.as_mut().enable();
            if self.acks().is_settled() {
                return Ok(());
            }
            if let Some(error) = self.inbox().ended() {
                return Err(error.clone());
            }
            self.wake.notify_one();
            settled.await;
        }
    }

    /// Waits until the task has ended.
    async fn ended(&self) {
        loop {
            let mut settled = std::pin::pin!(self.settled.notified());
            settled.as_mut().enable();
            if self.inbox().ended().is_some() {
                return;
            }
            settled.await;
        }
    }
}

impl Consumer {
    pub(crate) async fn open(link: Arc<Link>, options: SubscribeOptions) -> Result<Self, ConsumeError> {
        let stream = task::open_stream(&link, &options, None).await?;
        let subscribed = stream.answer.clone();
        let mut places = Places::of(&options.topic);
        let spans = subscribed
            .partitions
            .iter()
            .map(|span| Ok((places.place(span.partition, span.of.clone())?, span)));
        let spans = spans.collect::<Result<Vec<_>, CallError>>()?;
        let several = options.topic.as_topic().is_none();
        let positions = spans.iter().map(|(place, span)| (place.clone(), span.next)).collect();
        let ends = || spans.iter().map(|(place, span)| (place.clone(), span.end)).collect();
        let ends = options.until_end.then(ends);
        let shared = Arc::new(Shared {
            acks: Mutex::new(Acks::new(subscribed.durable, several, &subscribed.partitions)),
            places: Mutex::new(places),
            inbox: Mutex::new(Inbox::default()),
            wake: Notify::new(),
            settled: Notify::new(),
            closed: std::sync::atomic::AtomicBool::new(false),
            faults: watch::Sender::new(None),
            until_end: options.until_end,
            credit_bytes: options.credit_bytes,
            credit_step: (options.credit_bytes / 4).max(1),
        });
        let consumer = Self {
            shared: shared.clone(),
            topic: options.topic.clone(),
            positions,
            ends,
            subscribed,
            current: None,
            failed: false,
        };
        tokio::spawn(task::run(link, options, shared, stream));
        Ok(consumer)
    }

    /// What is read.
    pub fn topic(&self) -> &TopicPattern {
        &self.topic
    }

    /// Name of the subscription; the broker made it up for an ephemeral one, and anew after each reconnect.
    pub fn name(&self) -> &SubscriptionName {
        &self.subscribed.name
    }

    /// Whether it survives this consumer.
    pub fn is_durable(&self) -> bool {
        self.subscribed.durable
    }

    /// Where each partition started, and where its end was then.
    pub fn start(&self) -> &[PartitionSpan] {
        &self.subscribed.partitions
    }

    /// The next offset that the application has not got, each partition. Of a batch whose messages are being taken
    /// one by one, everything counts as got.
    pub fn positions(&self) -> &BTreeMap<Place, Offset> {
        &self.positions
    }

    /// Why nothing comes: the subscription's modules fail and are let alone for a while, and its backlog is kept. `None` while
    /// they judge. A consumer that reads [`until_end`](SubscribeOptions::until_end) ends with that instead.
    pub fn faults(&self) -> watch::Receiver<Option<String>> {
        self.shared.faults.subscribe()
    }

    /// The next records or progress; `None` at the end, see [`SubscribeOptions::until_end`], and after an error.
    /// Messages of a batch begun with [`next_message`](Self::next_message) are passed over. Cancel-safe.
    pub async fn next_event(&mut self) -> Option<Result<Event, ConsumeError>> {
        std::future::poll_fn(|cx| self.poll_event(cx)).await
    }

    /// The next records; otherwise as [`next_event`](Self::next_event). Cancel-safe.
    pub async fn next_batch(&mut self) -> Option<Result<Delivery, ConsumeError>> {
        loop {
            match self.next_event().await? {
                Ok(Event::Batch(delivery)) => return Some(Ok(delivery)),
                Ok(Event::Progress { .. } | Event::Gone { .. }) => {}
                Err(error) => return Some(Err(error)),
            }
        }
    }

    /// The next message; `None` at the end and after an error. Cancel-safe.
    pub async fn next_message(&mut self) -> Option<Result<Message, ConsumeError>> {
        std::future::poll_fn(|cx| self.poll_message(cx)).await
    }

    /// Acknowledges a message and everything before it in its partition.
    pub fn ack(&self, message: &Message) {
        self.shared.ack(message.place(), message.ack_next());
    }

    /// Acknowledges everything below `next` at `place`, as far as it has come.
    pub fn ack_through(&self, place: &Place, next: Offset) {
        self.shared.ack(place, next);
    }

    /// Waits until the broker has stored the acks made so far. Cancel-safe.
    ///
    /// # Errors
    /// [`ConsumeError`] when the subscription ended before.
    pub async fn ack_flush(&self) -> Result<(), ConsumeError> {
        self.shared.ack_flush().await
    }

    /// A handle that acknowledges from elsewhere.
    pub fn acker(&self) -> Acker {
        Acker { shared: self.shared.clone() }
    }

    /// Waits until the broker has stored the acks made so far and has given the subscription free for the next
    /// consumer. If cancelled, both still happen.
    ///
    /// # Errors
    /// As [`ack_flush`](Self::ack_flush).
    pub async fn close(self) -> Result<(), ConsumeError> {
        let shared = self.shared.clone();
        let flushed = shared.ack_flush().await;
        drop(self);
        shared.ended().await;
        flushed
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Event, ConsumeError>>> {
        self.current = None;
        loop {
            if self.failed || self.is_at_end() {
                return Poll::Ready(None);
            }
            let event = {
                let mut inbox = self.shared.inbox();
                let event = ready!(inbox.poll(cx));
                if inbox.owes(self.shared.credit_step) {
                    self.shared.wake.notify_one();
                }
                event
            };
            match event.map(|event| self.admit(event)) {
                Ok(Some(event)) => return Poll::Ready(Some(Ok(event))),
                Ok(None) => {}
                Err(error) => {
                    self.failed = true;
                    return Poll::Ready(Some(Err(error)));
                }
            }
        }
    }

    fn poll_message(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Message, ConsumeError>>> {
        loop {
            if let Some((delivery, index)) = &mut self.current
                && let Some(message) = message_at(delivery, *index)
            {
                *index += 1;
                return Poll::Ready(Some(Ok(message)));
            }
            match ready!(self.poll_event(cx)) {
                Some(Ok(Event::Batch(delivery))) => self.current = Some((delivery, 0)),
                Some(Ok(Event::Progress { .. } | Event::Gone { .. })) => {}
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => return Poll::Ready(None),
            }
        }
    }

    /// Moves the position, and cuts what is beyond the end; `None` when nothing is left.
    fn admit(&mut self, event: Event) -> Option<Event> {
        let (place, next) = match &event {
            Event::Batch(delivery) => (&delivery.place, delivery.next),
            Event::Progress { place, next } => (place, *next),
            Event::Gone { place } => {
                self.positions.remove(place);
                self.ends.as_mut().map(|ends| ends.remove(place));
                return Some(event);
            }
        };
        // What was made since is behind the end.
        let end = self.ends.as_ref().map_or(Offset::MAX, |ends| ends.get(place).copied().unwrap_or(0));
        let position = self.positions.entry(place.clone()).or_default();
        let before = *position;
        *position = next.min(end).max(before);
        let next = *position;
        match event {
            Event::Progress { place, .. } => Some(Event::Progress { place, next }),
            Event::Batch(delivery) => {
                let batch = cut(&delivery, 0, end)?;
                Some(Event::Batch(Delivery { next, batch, ..delivery }))
            }
            gone @ Event::Gone { .. } => Some(gone),
        }
    }

    fn is_at_end(&self) -> bool {
        let Some(ends) = &self.ends else { return false };
        ends.iter().all(|(place, end)| self.positions.get(place).is_none_or(|position| position >= end))
    }
}

impl Stream for Consumer {
    type Item = Result<Message, ConsumeError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_message(cx)
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        self.shared.closed.store(true, std::sync::atomic::Ordering::Release);
        self.shared.wake.notify_one();
    }
}

impl Acker {
    /// See [`Consumer::ack`].
    pub fn ack(&self, message: &Message) {
        self.shared.ack(message.place(), message.ack_next());
    }

    /// See [`Consumer::ack_through`].
    pub fn ack_through(&self, place: &Place, next: Offset) {
        self.shared.ack(place, next);
    }

    /// See [`Consumer::ack_flush`]. Cancel-safe.
    ///
    /// # Errors
    /// [`ConsumeError`] when the subscription ended before.
    pub async fn ack_flush(&self) -> Result<(), ConsumeError> {
        self.shared.ack_flush().await
    }
}

/// The records of a delivery with offsets from `from` to below `end`; `None` when there are none.
pub(super) fn cut(delivery: &Delivery, from: Offset, end: Offset) -> Option<millstream_types::RecordBatch> {
    let view = delivery.batch.view();
    let range = view.index_of(from)..view.index_of(end);
    if range.is_empty() {
        return None;
    }
    if range.len() == view.len() {
        return Some(delivery.batch.clone());
    }
    // Fails only on compressed batches; deliveries are plain.
    view.subset(&[range]).ok()
}

/// Message `index` of a delivery. The last one stands for all that was scanned; one of several with the same offset
/// does not yet bring that offset to its end.
fn message_at(delivery: &Delivery, index: usize) -> Option<Message> {
    let view = delivery.batch.view();
    let record = view.record(index)?;
    let ack_next = match view.record(index + 1) {
        None => delivery.next,
        Some(following) if following.offset == record.offset => record.offset,
        Some(_) => record.offset.saturating_add(1),
    };
    Some(Message::new(delivery.place.clone(), delivery.batch.clone(), index, ack_next))
}

#[cfg(test)]
mod tests {
    use super::*;
    use millstream_types::{BatchBuilder, Record};

    fn delivery(deltas: &[u32], next: Offset) -> Delivery {
        let place = Place::new(0, TopicPartition { topic: "t".parse().unwrap(), partition: 0 });
        let mut builder = BatchBuilder::new().with_stamp(100, 0);
        for &delta in deltas {
            builder.push_at(delta, &Record::new("x")).unwrap();
        }
        Delivery { place, next, batch: builder.build().unwrap() }
    }

    #[test]
    fn a_record_that_became_several_is_done_with_the_last() {
        let delivery = delivery(&[0, 2, 2, 5], 120);
        let acks: Vec<_> = (0..4).map(|index| message_at(&delivery, index).unwrap().ack_next()).collect();
        assert_eq!(acks, [101, 102, 103, 120]);
        assert!(message_at(&delivery, 4).is_none());
    }

    #[test]
    fn batches_are_cut_at_offsets() {
        let delivery = delivery(&[0, 2, 2, 5], 120);
        let offsets = |from, end| {
            cut(&delivery, from, end)
                .map(|batch| batch.view().records().map(|record| record.offset).collect::<Vec<_>>())
        };
        assert_eq!(offsets(0, Offset::MAX), Some(vec![100, 102, 102, 105]));
        assert_eq!(offsets(102, 105), Some(vec![102, 102]));
        assert_eq!(offsets(106, Offset::MAX), None);
        assert_eq!(offsets(0, 100), None);
    }
}
