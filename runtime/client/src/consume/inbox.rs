//! What has come and was not yet taken by the application. Bounded by the credit we gave.

use std::{
    collections::{BTreeMap, VecDeque},
    task::{Context, Poll, Waker},
};

use millstream_types::{Offset, RecordBatch};

use crate::{ConsumeError, Place};

/// A batch of records, plain and checked, and how far it brings its partition.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// Which partition of which topic.
    pub place: Place,
    /// Everything below this offset has come; acknowledge it when the records are done.
    pub next: Offset,
    /// The records.
    pub batch: RecordBatch,
}

/// What a consumer gets.
#[derive(Debug, Clone)]
pub enum Event {
    /// Records.
    Batch(Delivery),
    /// Records were scanned and none of them was for this reader.
    Progress {
        /// Which partition of which topic.
        place: Place,
        /// Everything below this offset has been scanned.
        next: Offset,
    },
    /// A topic was deleted, which is one of several: nothing more comes of this partition.
    Gone {
        /// Which partition of which topic.
        place: Place,
    },
}

/// See the module's head.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    /// With the bytes that each had on the wire.
    batches: VecDeque<(Delivery, u64)>,
    /// Behind the batches, one a partition: so that it cannot grow.
    progress: BTreeMap<Place, Offset>,
    /// Partitions of deleted topics, behind the batches.
    gone: Vec<Place>,
    bytes: u64,
    /// Bytes taken by the application, not yet given back to the broker.
    taken: u64,
    /// Some of those were never seen by the application, which may be waiting for what comes behind them.
    discarded: bool,
    end: Option<ConsumeError>,
    reader: Option<Waker>,
}

impl Inbox {
    /// A batch came, which took `bytes` of the credit.
    pub(super) fn put(&mut self, delivery: Delivery, bytes: u64) {
        // Told by the batch as well.
        self.progress.remove(&delivery.place);
        self.bytes = self.bytes.saturating_add(bytes);
        self.batches.push_back((delivery, bytes));
        self.wake();
    }

    /// Bytes came that the application never sees.
    pub(super) fn discard(&mut self, bytes: u64) {
        self.taken = self.taken.saturating_add(bytes);
        self.discarded = true;
    }

    /// Progress came.
    pub(super) fn progress(&mut self, place: Place, next: Offset) {
        self.progress.insert(place, next);
        self.wake();
    }

    /// Nothing more comes of a partition.
    pub(super) fn gone(&mut self, place: Place) {
        self.gone.push(place);
        self.wake();
    }

    /// Nothing more comes.
    pub(super) fn end(&mut self, error: ConsumeError) {
        self.end.get_or_insert(error);
        self.wake();
    }

    /// Why nothing more comes.
    pub(super) fn ended(&self) -> Option<&ConsumeError> {
        self.end.as_ref()
    }

    /// Bytes of the batches that wait.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The next event; batches first, as progress is behind them.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Event, ConsumeError>> {
        if let Some((delivery, bytes)) = self.batches.pop_front() {
            self.bytes = self.bytes.saturating_sub(bytes);
            self.taken = self.taken.saturating_add(bytes);
            return Poll::Ready(Ok(Event::Batch(delivery)));
        }
        if let Some((place, next)) = self.progress.pop_first() {
            return Poll::Ready(Ok(Event::Progress { place, next }));
        }
        if let Some(place) = self.gone.pop() {
            return Poll::Ready(Ok(Event::Gone { place }));
        }
        if let Some(error) = &self.end {
            return Poll::Ready(Err(error.clone()));
        }
        self.reader = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Whether at least `least` bytes are to be given back.
    pub(super) fn owes(&self, least: u64) -> bool {
        self.taken >= least
    }

    /// The bytes to give back, once they are at least `least` or some were discarded.
    pub(super) fn give_back(&mut self, least: u64) -> Option<u64> {
        let due = self.taken >= least || std::mem::take(&mut self.discarded);
        (due && self.taken > 0).then(|| std::mem::take(&mut self.taken))
    }

    /// A new stream is about to start, with credit of its own for all but the bytes that wait here: those are given
    /// back as they are taken.
    pub(super) fn reconnecting(&mut self) -> u64 {
        self.taken = 0;
        self.bytes
    }

    fn wake(&mut self) {
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use millstream_types::{BatchBuilder, Record, TopicPartition};

    fn place(partition: u32) -> Place {
        Place::new(partition, TopicPartition { topic: "t".parse().unwrap(), partition })
    }

    fn delivery(partition: u32, next: Offset) -> Delivery {
        let mut builder = BatchBuilder::new();
        builder.push(&Record::new("x")).unwrap();
        Delivery { place: place(partition), next, batch: builder.build().unwrap() }
    }

    fn next(inbox: &mut Inbox) -> String {
        match inbox.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Ok(Event::Batch(batch))) => {
                format!("batch {}:{}", batch.place.partition(), batch.next)
            }
            Poll::Ready(Ok(Event::Progress { place, next })) => {
                format!("progress {}:{next}", place.partition())
            }
            Poll::Ready(Ok(Event::Gone { place })) => format!("gone {}", place.partition()),
            Poll::Ready(Err(error)) => error.to_string(),
            Poll::Pending => "pending".into(),
        }
    }

    #[test]
    fn progress_is_behind_batches_and_never_piles_up() {
        let mut inbox = Inbox::default();
        inbox.progress(place(0), 5);
        inbox.progress(place(1), 6);
        inbox.put(delivery(0, 10), 100);
        for at in 11..1_000 {
            inbox.progress(place(1), at);
        }
        inbox.end(ConsumeError::Closed);
        let all: Vec<_> = std::iter::repeat_with(|| next(&mut inbox)).take(4).collect();
        let closed = ConsumeError::Closed.to_string();
        assert_eq!(all, ["batch 0:10", "progress 1:999", closed.as_str(), closed.as_str()]);
    }

    #[test]
    fn credit_is_given_back_when_it_is_worth_a_message() {
        let mut inbox = Inbox::default();
        inbox.put(delivery(0, 1), 60);
        inbox.put(delivery(0, 2), 60);
        assert_eq!(inbox.bytes(), 120);
        next(&mut inbox);
        assert_eq!(inbox.give_back(100), None);
        next(&mut inbox);
        assert_eq!(inbox.give_back(100), Some(120));
        assert_eq!(inbox.give_back(0), None);
        inbox.discard(7);
        assert_eq!(inbox.give_back(100), Some(7), "nobody takes more before this is given back");
        assert_eq!(inbox.give_back(100), None);
    }
}
