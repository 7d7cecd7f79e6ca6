//! How far each partition is received, acknowledged and settled. Free of I/O and clocks.

use std::collections::BTreeMap;

use millstream_types::Offset;
use millstream_wire::PartitionSpan;

/// Partitions acknowledged in one message: all of any one topic.
const ACKED_MAX: usize = 1_024;

/// Acks of one consumer. One ack message is on the way at a time: what is acknowledged meanwhile goes with the next.
#[derive(Debug)]
pub(super) struct Acks {
    durable: bool,
    /// Whether partitions come and go.
    several: bool,
    lanes: BTreeMap<u32, Lane>,
    /// Number of the newest ack of this stream.
    number: u64,
    /// Where the next one begins.
    turn: u32,
    on_the_way: Option<Vec<(u32, Offset)>>,
}

/// One partition. Each is the next offset, everything below being done.
#[derive(Debug, Clone, Copy)]
struct Lane {
    /// Handed to us, as records or as progress.
    received: Offset,
    /// The same by this stream alone, which may bring again what is here: the broker takes acks as far as that.
    reached: Offset,
    /// Handed to us as records: what the application has to acknowledge.
    delivered: Offset,
    /// Acknowledged by the application.
    acked: Offset,
    /// Stored by the broker.
    settled: Offset,
}

impl Lane {
    fn at(next: Offset) -> Self {
        Self { received: next, reached: next, delivered: next, acked: next, settled: next }
    }

    /// What the broker should know: with all records acknowledged, progress behind them counts as well.
    fn done(&self) -> Offset {
        if self.acked >= self.delivered { self.received } else { self.acked }
    }

    /// What of that the broker would take now.
    fn due(&self) -> Option<Offset> {
        Some(self.done().min(self.reached)).filter(|due| *due > self.settled)
    }
}

impl Acks {
    pub(super) fn new(durable: bool, several: bool, spans: &[PartitionSpan]) -> Self {
        let lanes = spans.iter().map(|span| (span.partition, Lane::at(span.next))).collect();
        Self { durable, several, lanes, number: 0, turn: 0, on_the_way: None }
    }

    /// A new stream takes over; the partitions that are gone. `None` when it has another number of them, which it must not.
    #[must_use]
    pub(super) fn reconnected(&mut self, spans: &[PartitionSpan]) -> Option<Vec<u32>> {
        if !self.several && spans.len() != self.lanes.len() {
            return None;
        }
        (self.number, self.on_the_way) = (0, None);
        let mut before = std::mem::take(&mut self.lanes);
        for span in spans {
            let mut lane = before.remove(&span.partition).unwrap_or(Lane::at(span.next));
            (lane.settled, lane.reached) = (span.next, span.next);
            if span.next > lane.received || span.end < lane.received {
                // Moved on by somebody else; or the broker lost what was not yet durable, and new records take the
                // offsets that we knew.
                let next = if span.next > lane.received { span.next } else { span.end.max(span.next) };
                lane = Lane { settled: span.next, reached: span.next, ..Lane::at(next) };
            }
            self.lanes.insert(span.partition, lane);
        }
        Some(before.into_keys().collect())
    }

    /// Everything below is here already; `None` for a partition that cannot be.
    pub(super) fn received(&mut self, partition: u32) -> Option<Offset> {
        if self.several {
            // Of a topic that was made just now.
            self.lanes.entry(partition).or_insert(Lane::at(0));
        }
        self.lanes.get(&partition).map(|lane| lane.received)
    }

    /// Nothing more comes of a partition.
    pub(super) fn gone(&mut self, partition: u32) {
        self.lanes.remove(&partition);
    }

    /// Where to go on, each partition, in order.
    pub(super) fn all_received(&self) -> Vec<(u32, Offset)> {
        self.lanes.iter().map(|(partition, lane)| (*partition, lane.received)).collect()
    }

    /// Records up to `next` came.
    pub(super) fn delivered(&mut self, partition: u32, next: Offset) {
        if let Some(lane) = self.lanes.get_mut(&partition) {
            lane.reached = lane.reached.max(next);
            lane.received = lane.received.max(next);
            lane.delivered = lane.received;
        }
    }

    /// Nothing came up to `next`.
    pub(super) fn progress(&mut self, partition: u32, next: Offset) {
        if let Some(lane) = self.lanes.get_mut(&partition) {
            lane.reached = lane.reached.max(next);
            lane.received = lane.received.max(next);
        }
    }

    /// The application is done with everything below `next`; what has not come cannot be done.
    pub(super) fn ack(&mut self, partition: u32, next: Offset) {
        if let Some(lane) = self.lanes.get_mut(&partition) {
            lane.acked = lane.acked.max(next.min(lane.received));
        }
    }

    /// The next acks to send: the number and positions of each. The `last` ones of a consumer wait for none before them.
    pub(super) fn next_messages(&mut self, last: bool) -> Vec<(u64, Vec<(u32, Offset)>)> {
        if !self.durable || (self.on_the_way.is_some() && !last) {
            return Vec::new();
        }
        // From where the one before ended, so that none is forgotten.
        let lanes = self.lanes.range(self.turn..).chain(self.lanes.range(..self.turn));
        let due = lanes.filter_map(|(partition, lane)| Some((*partition, lane.due()?)));
        let due: Vec<_> = due.take(if last { usize::MAX } else { ACKED_MAX }).collect();
        let messages: Vec<_> = (self.number + 1..).zip(due.chunks(ACKED_MAX).map(<[_]>::to_vec)).collect();
        if let Some((number, _)) = messages.last() {
            self.number = *number;
            let behind = due.last().filter(|_| due.len() >= ACKED_MAX);
            self.turn = behind.map_or(0, |(partition, _)| partition.saturating_add(1));
            self.on_the_way = Some(due);
        }
        messages
    }

    /// The broker has stored the acks up to this number.
    pub(super) fn settled(&mut self, number: u64) {
        if number < self.number {
            return;
        }
        for (partition, next) in self.on_the_way.take().unwrap_or_default() {
            if let Some(lane) = self.lanes.get_mut(&partition) {
                lane.settled = lane.settled.max(next);
            }
        }
    }

    /// Whether the broker has stored all that was acknowledged.
    pub(super) fn is_settled(&self) -> bool {
        !self.durable || self.lanes.values().all(|lane| lane.done() <= lane.settled)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(partition: u32, next: Offset, end: Offset) -> PartitionSpan {
        PartitionSpan { partition, of: None, next, end }
    }

    fn spans(next: &[Offset]) -> Vec<PartitionSpan> {
        (0..).zip(next).map(|(partition, &next)| span(partition, next, 1_000)).collect()
    }

    #[test]
    fn acks_gather_while_one_is_on_the_way() {
        let mut acks = Acks::new(true, false, &spans(&[0, 0]));
        acks.delivered(0, 10);
        acks.delivered(1, 20);
        assert_eq!(acks.next_messages(false), []);
        acks.ack(0, 3);
        assert_eq!(acks.next_messages(false), [(1, vec![(0, 3)])]);
        acks.ack(0, 10);
        acks.ack(1, 5);
        assert_eq!(acks.next_messages(false), []);
        acks.settled(1);
        assert!(!acks.is_settled());
        assert_eq!(acks.next_messages(true), [(2, vec![(0, 10), (1, 5)])]);
        assert_eq!(acks.reconnected(&[span(0, 3, 1_000), span(1, 0, 1_000)]), Some(Vec::new()));
        assert_eq!(acks.next_messages(false), [], "the new stream has brought nothing yet");
        acks.progress(0, 7);
        acks.progress(1, 20);
        assert_eq!(acks.next_messages(false), [(1, vec![(0, 7), (1, 5)])], "no further than it has");
        acks.settled(1);
        assert!(!acks.is_settled());
        acks.progress(0, 12);
        assert_eq!(acks.next_messages(false), [(2, vec![(0, 12)])]);
        acks.settled(2);
        assert!(acks.is_settled());
    }

    #[test]
    fn a_new_stream_takes_over_what_was_gathered() {
        let mut acks = Acks::new(true, false, &spans(&[0, 0]));
        acks.delivered(0, 10);
        acks.delivered(1, 20);
        acks.ack(0, 10);
        acks.ack(1, 5);
        assert_eq!(acks.reconnected(&spans(&[0, 0])), Some(Vec::new()));
        acks.progress(0, 10);
        acks.progress(1, 20);
        assert_eq!(acks.next_messages(false), [(1, vec![(0, 10), (1, 5)])]);
        acks.settled(1);
        assert!(acks.is_settled());
    }

    #[test]
    fn progress_counts_once_the_records_before_it_are_done() {
        let mut acks = Acks::new(true, false, &spans(&[0]));
        acks.progress(0, 50);
        assert_eq!(acks.next_messages(false), [(1, vec![(0, 50)])]);
        acks.settled(1);
        acks.delivered(0, 60);
        acks.progress(0, 90);
        assert_eq!(acks.next_messages(false), []);
        acks.ack(0, 60);
        assert_eq!(acks.next_messages(false), [(2, vec![(0, 90)])]);
    }

    #[test]
    fn what_has_not_come_cannot_be_done() {
        let mut acks = Acks::new(true, false, &spans(&[0]));
        acks.delivered(0, 10);
        acks.ack(0, u64::MAX);
        acks.ack(7, 1);
        assert_eq!(acks.next_messages(false), [(1, vec![(0, 10)])]);
    }

    #[test]
    fn a_lost_ack_goes_again() {
        let mut acks = Acks::new(true, false, &spans(&[0]));
        acks.delivered(0, 10);
        acks.ack(0, 10);
        assert_eq!(acks.next_messages(false).len(), 1);
        assert_eq!(acks.reconnected(&spans(&[0])), Some(Vec::new()));
        assert_eq!(acks.received(0), Some(10), "what is delivered again is known");
        acks.progress(0, 10);
        assert_eq!(acks.next_messages(false), [(1, vec![(0, 10)])]);
        assert_eq!(acks.reconnected(&spans(&[0, 0])), None);
    }

    #[test]
    fn a_broker_that_lost_its_tail_is_believed() {
        let mut acks = Acks::new(true, false, &spans(&[0]));
        acks.delivered(0, 10);
        assert_eq!(acks.reconnected(&[span(0, 2, 7)]), Some(Vec::new()));
        assert_eq!(acks.received(0), Some(7));
        assert_eq!(acks.reconnected(&[span(0, 30, 40)]), Some(Vec::new()));
        assert_eq!(acks.received(0), Some(30));
    }

    #[test]
    fn ephemeral_consumers_send_none() {
        let mut acks = Acks::new(false, false, &spans(&[0]));
        acks.delivered(0, 10);
        acks.ack(0, 10);
        assert_eq!(acks.next_messages(false), []);
        assert!(acks.is_settled());
        assert_eq!(acks.all_received(), [(0, 10)]);
    }

    #[test]
    fn of_several_topics_partitions_come_and_go() {
        let mut acks = Acks::new(true, true, &[span(3, 5, 10)]);
        assert_eq!((acks.received(3), acks.received(9)), (Some(5), Some(0)), "a topic was made");
        acks.delivered(9, 4);
        acks.delivered(3, 8);
        acks.ack(9, 4);
        acks.ack(3, 8);
        assert_eq!(acks.next_messages(false), [(1, vec![(3, 8), (9, 4)])]);
        // One is deleted before the answer comes.
        acks.gone(3);
        acks.settled(1);
        assert!(acks.is_settled());
        assert_eq!(acks.all_received(), [(9, 4)]);
        // While the connection was lost, another was made and the other one deleted.
        assert_eq!(acks.reconnected(&[span(12, 0, 2)]), Some(vec![9]));
        assert_eq!(acks.all_received(), [(12, 0)]);
        assert!(acks.is_settled());
    }

    #[test]
    fn many_partitions_take_several_messages() {
        let many = 2 * ACKED_MAX as u32 + 5;
        let spans: Vec<_> = (0..many).map(|partition| span(partition, 0, 10)).collect();
        let mut acks = Acks::new(true, true, &spans);
        for partition in 0..many {
            acks.delivered(partition, 2);
            acks.ack(partition, 1);
        }
        let mut told = Vec::new();
        for number in 1..=3 {
            let messages = acks.next_messages(false);
            assert_eq!(messages.len(), 1);
            told.extend(messages[0].1.clone());
            // The first ones are busy: the others have their turn nevertheless.
            (0..ACKED_MAX as u32).for_each(|partition| acks.ack(partition, 2));
            acks.settled(number);
        }
        let first: BTreeMap<_, _> = told.into_iter().rev().collect();
        assert_eq!(first.len(), many as usize);
        (0..many).for_each(|partition| acks.ack(partition, 2));
        assert_eq!(acks.next_messages(true).iter().map(|(number, _)| *number).collect::<Vec<_>>(), [4, 5]);
        acks.settled(5);
        assert!(acks.is_settled());
    }
}
