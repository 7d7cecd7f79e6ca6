//! What a worker says of what it holds, message by message.

use millstream_types::{BatchBuilder, Record, TopicPartition};

use super::*;

fn arrived(lease: u64, offsets: &[Offset]) -> Arrived {
    let mut builder = BatchBuilder::new().with_stamp(offsets[0], 0);
    for offset in offsets {
        let record = Record::new("x").with_key(format!("{}", offset % 2));
        builder.push_at(u32::try_from(offset - offsets[0]).unwrap(), &record).unwrap();
    }
    let batch = builder.build().unwrap();
    Arrived {
        place: Place::new(0, TopicPartition { topic: "t".parse().unwrap(), partition: 0 }),
        lease,
        more_follows: false,
        tried: Vec::new(),
        batch,
        index: 0,
        left_out: BTreeSet::new(),
    }
}

fn take(state: &mut State) -> Option<Leased> {
    match state.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(leased) => Some(leased.unwrap()),
        Poll::Pending => None,
    }
}

fn take_all(state: &mut State) -> Vec<Leased> {
    std::iter::from_fn(|| take(state)).collect()
}

fn offsets(leased: &[Leased]) -> Vec<Offset> {
    leased.iter().map(|leased| leased.offset()).collect()
}

fn ranges(control: Option<WorkControl>) -> Vec<(Option<u64>, Offset, Offset)> {
    match control {
        Some(WorkControl::Settle { settlements, .. }) => {
            settlements.iter().map(|said| (said.lease, said.from, said.to)).collect()
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn acks_of_neighbours_go_together_and_leave_out_what_is_not_done() {
    let mut state = State::new(DeliveryMode::Shared, (9, 9));
    state.arrived(arrived(1, &[5, 7, 8, 20]), 0);
    state.arrived(arrived(2, &[21, 22]), 0);
    let messages = take_all(&mut state);
    for index in [0, 3, 1, 5, 4] {
        assert!(state.say(&messages[index], SettleAs::Ack, None));
    }
    assert_eq!(ranges(state.next_message()), [(Some(1), 5, 8), (Some(1), 20, 21), (Some(2), 21, 23)]);
    assert!(state.say(&messages[2], SettleAs::Ack, None));
    assert_eq!(state.next_message(), None, "one at a time");
    state.settled(1, &[1]);
    assert_eq!(ranges(state.next_message()), [(Some(1), 8, 9)]);
    assert!(!state.is_settled());
    state.settled(2, &[]);
    assert!(state.is_settled());
    assert_eq!(state.stale(), 1);
}

#[test]
fn what_was_left_out_is_not_acknowledged_with_its_neighbours() {
    let mut state = State::new(DeliveryMode::KeyShared, (9, 9));
    state.arrived(arrived(1, &[4, 5, 6, 7, 8, 9]), 0);
    let messages = [take(&mut state).unwrap(), take(&mut state).unwrap()];
    state.say(&messages[1], SettleAs::Ack, None);
    state.say(&messages[0], SettleAs::Release, None);
    let rest = take_all(&mut state);
    assert_eq!(offsets(&rest), [7, 9]);
    assert!(rest.iter().all(|message| state.say(message, SettleAs::Ack, None)));
    let said = ranges(state.next_message());
    let given_back = [(Some(1), 4, 5), (Some(1), 6, 7), (Some(1), 8, 9)];
    let acked = [(Some(1), 5, 6), (Some(1), 7, 8), (Some(1), 9, 10)];
    assert_eq!(said, [acked, given_back].concat());
}

#[test]
fn a_record_that_became_several_is_done_with_the_last() {
    let mut state = State::new(DeliveryMode::Shared, (9, 9));
    state.arrived(Arrived { more_follows: true, ..arrived(1, &[5, 6, 6]) }, 0);
    state.arrived(arrived(1, &[6, 7]), 0);
    let messages = take_all(&mut state);
    let said: Vec<_> = messages.iter().map(|message| state.say(message, SettleAs::Ack, None)).collect();
    assert_eq!(said, [true, false, false, true, true]);
}

#[test]
fn what_is_behind_a_record_given_back_is_void_until_the_broker_knows() {
    let nack = SettleAs::Nack { delay_ms: None, error: None };
    for (mode, left) in [
        (DeliveryMode::Shared, vec![6, 7, 8, 9, 10]),
        (DeliveryMode::KeyShared, vec![7, 9]),
        (DeliveryMode::Failover, vec![]),
    ] {
        let mut state = State::new(mode, (9, 9));
        state.arrived(arrived(1, &[4, 6, 7, 8]), 0);
        let four = take(&mut state).unwrap();

        assert!(state.say(&four, nack.clone(), None));
        state.arrived(arrived(2, &[9, 10]), 0);
        assert_eq!(offsets(&take_all(&mut state)), left, "{mode}");
        assert!(state.next_message().is_some());
        state.settled(1, &[]);
        state.arrived(arrived(2, &[12, 13]), 0);
        let late = if mode == DeliveryMode::Failover { vec![] } else { vec![13] };
        let late = if mode == DeliveryMode::Shared { vec![12, 13] } else { late };
        assert_eq!(offsets(&take_all(&mut state)), late, "{mode}: leased before the broker knew");
        state.arrived(arrived(3, &[4, 6]), 1);
        assert_eq!(offsets(&take_all(&mut state)), [4, 6], "{mode}: again, in order");
    }
}

#[test]
fn a_new_stream_voids_the_leases_of_the_one_before() {
    let mut state = State::new(DeliveryMode::Shared, (9, 9));
    state.arrived(arrived(1, &[5, 6]), 0);
    let five = take(&mut state).unwrap();
    let (answer, mut told) = oneshot::channel();
    state.say(&five, SettleAs::Ack, Some(answer));
    assert!(state.next_message().is_some());
    state.reconnected();
    assert_eq!(told.try_recv(), Ok(Settled::Unknown));
    let (answer, mut told) = oneshot::channel();
    assert!(!state.say(&five, SettleAs::Ack, Some(answer)));
    assert_eq!(told.try_recv(), Ok(Settled::Stale));
    assert!(take(&mut state).is_none() && state.is_settled());
}

#[test]
fn leases_of_what_waits_are_kept_while_messages_are_taken() {
    let alive = Some(WorkControl::Window { records: 9, bytes: 9 });
    let mut state = State::new(DeliveryMode::Shared, (9, 9));
    state.arrived(arrived(7, &[5, 6, 7]), 0);
    let first = take(&mut state).unwrap();
    state.keep_leases(100);
    assert_eq!(state.next_message(), alive);
    assert_eq!(state.next_message(), Some(WorkControl::Extend { number: 1, lease: 7, ms: 100 }));
    // One who is at work on it says so.
    state.extend(&first, 50, oneshot::channel().0);
    state.keep_leases(100);
    let sent: Vec<_> = std::iter::from_fn(|| state.next_message()).collect();
    assert_eq!(sent.len(), 3, "{sent:?}");
    // For long nothing is taken or extended: what was not tried is given back, and did not fail.
    for _ in 0..2 {
        state.keep_leases(100);
        assert_eq!(state.next_message(), alive);
    }
    assert_eq!(ranges(state.next_message()), [(Some(7), 6, 7), (Some(7), 7, 8)]);
    assert!(take(&mut state).is_none());
    state.settled(4, &[0, 1]);
    assert_eq!(state.stale(), 0, "whether those came in time is nobody's business");
}
