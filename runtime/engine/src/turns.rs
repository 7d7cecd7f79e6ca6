//! Whose turn it is on the module threads: who has used least goes first, and those whose jobs are long have threads of
//! their own. Knows no threads and no clock.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::Duration;

use crate::limits::{FLOWS_FORGOTTEN_EVERY, LONG_JOB};

/// What a job is thought to use at least, while it runs.
const LEAST_CHARGED: Duration = Duration::from_millis(1);

/// Jobs by the flow that each belongs to.
#[derive(Debug)]
pub(crate) struct Turns<J> {
    flows: HashMap<u64, Flow<J>>,
    /// Of short flows and of long ones.
    queues: [Queue; 2],
    waiting: usize,
    until_forgotten: u32,
}

/// How long the jobs of a flow are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Length {
    Short = 0,
    Long = 1,
}

impl Length {
    pub(crate) fn other(self) -> Self {
        match self {
            Self::Short => Self::Long,
            Self::Long => Self::Short,
        }
    }
}

#[derive(Debug, Default)]
struct Queue {
    /// Flows with jobs that wait, by what they have used.
    order: BTreeSet<(Duration, u64)>,
    /// What the flow that was served last had used: who comes anew starts there.
    floor: Duration,
}

#[derive(Debug)]
struct Flow<J> {
    jobs: VecDeque<J>,
    running: usize,
    used: Duration,
    /// Of its last jobs.
    mean: Duration,
    length: Length,
}

/// What was given with a job, to be given back when it is done.
#[derive(Debug)]
#[must_use]
pub(crate) struct Ticket {
    flow: u64,
    /// What the job was thought to use.
    charged: Duration,
}

impl<J> Default for Turns<J> {
    fn default() -> Self {
        Self {
            flows: HashMap::new(),
            queues: [Queue::default(), Queue::default()],
            waiting: 0,
            until_forgotten: FLOWS_FORGOTTEN_EVERY,
        }
    }
}

impl<J> Turns<J> {
    /// Jobs that wait.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting
    }

    /// Whether a job of a flow of this length waits.
    pub(crate) fn waits(&self, length: Length) -> bool {
        !self.queues[length as usize].order.is_empty()
    }

    /// Adds a job of `flow`; how long those are.
    pub(crate) fn push(&mut self, flow: u64, job: J) -> Length {
        let found = self.flows.entry(flow).or_insert_with(|| Flow {
            jobs: VecDeque::new(),
            running: 0,
            used: Duration::ZERO,
            mean: Duration::ZERO,
            length: Length::Short,
        });
        let queue = &mut self.queues[found.length as usize];
        if found.jobs.is_empty() {
            // Who did nothing for a while saves nothing up.
            found.used = found.used.max(queue.floor);
            queue.order.insert((found.used, flow));
        }
        found.jobs.push_back(job);
        self.waiting += 1;
        found.length
    }

    /// The next job of flows of this length.
    pub(crate) fn next(&mut self, length: Length) -> Option<(J, Ticket)> {
        let queue = &mut self.queues[length as usize];
        let (used, key) = queue.order.pop_first()?;
        queue.floor = queue.floor.max(used);
        let flow = self.flows.get_mut(&key)?;
        let job = flow.jobs.pop_front()?;
        // Charged at once, so that not all threads are given to one flow.
        let charged = flow.mean.max(LEAST_CHARGED);
        flow.used += charged;
        flow.running += 1;
        self.waiting -= 1;
        if !flow.jobs.is_empty() {
            queue.order.insert((flow.used, key));
        }
        Some((job, Ticket { flow: key, charged }))
    }

    /// The job that came with `ticket` has taken `cpu`.
    pub(crate) fn done(&mut self, ticket: Ticket, cpu: Duration) {
        let Ticket { flow, charged } = ticket;
        if let Some(found) = self.flows.get_mut(&flow) {
            let waits = self.queues[found.length as usize].order.remove(&(found.used, flow));
            found.running -= 1;
            found.used = (found.used + cpu).saturating_sub(charged);
            found.mean = if found.mean.is_zero() { cpu } else { (found.mean * 3 + cpu) / 4 };
            let length = match found.length {
                Length::Short if found.mean > LONG_JOB => Length::Long,
                // Some jobs of a long flow only find that nothing is left to do.
                Length::Long if found.mean < LONG_JOB / 4 => Length::Short,
                same => same,
            };
            if length != found.length {
                let ahead = found.used.saturating_sub(self.queues[found.length as usize].floor);
                (found.length, found.used) = (length, self.queues[length as usize].floor + ahead);
            }
            if waits {
                self.queues[length as usize].order.insert((found.used, flow));
            }
        }
        self.until_forgotten -= 1;
        if self.until_forgotten == 0 {
            self.until_forgotten = FLOWS_FORGOTTEN_EVERY;
            self.forget();
        }
    }

    /// Of flows that have nothing to do, what they are ahead by is forgotten bit by bit.
    fn forget(&mut self) {
        let floors = self.queues.each_ref().map(|queue| queue.floor);
        self.flows.retain(|_, flow| {
            let (idle, floor) = (flow.jobs.is_empty() && flow.running == 0, floors[flow.length as usize]);
            if idle {
                flow.used = floor + flow.used.saturating_sub(floor) / 2;
            }
            !idle || flow.used > floor + LONG_JOB
        });
    }
}

#[cfg(test)]
mod tests {
    use std::iter;

    use proptest::prelude::*;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// Runs short jobs on `threads` threads, each flow having some waiting always, until `rounds` have run; what each flow
    /// used.
    fn run(threads: usize, lengths: &[u32], rounds: usize) -> Vec<Duration> {
        let mut turns = Turns::default();
        let mut used = vec![Duration::ZERO; lengths.len()];
        // What runs, with when it ends.
        let (mut running, mut now) = (Vec::<(Duration, u64, Ticket)>::new(), Duration::ZERO);
        for flow in (0..lengths.len() as u64).flat_map(|flow| iter::repeat_n(flow, threads)) {
            turns.push(flow, flow);
        }
        for _ in 0..rounds {
            while running.len() < threads
                && let Some((flow, ticket)) = turns.next(Length::Short)
            {
                running.push((now + lengths[flow as usize] * MS, flow, ticket));
            }
            running.sort_by_key(|(end, ..)| std::cmp::Reverse(*end));
            let Some((end, flow, ticket)) = running.pop() else { break };
            now = end;
            let length = lengths[flow as usize] * MS;
            used[flow as usize] += length;
            turns.done(ticket, length);
            turns.push(flow, flow);
        }
        used
    }

    /// The next job of whichever length.
    fn next<J>(turns: &mut Turns<J>) -> Option<(J, Ticket)> {
        turns.next(Length::Short).or_else(|| turns.next(Length::Long))
    }

    #[test]
    fn who_uses_much_does_not_get_more_than_others() {
        let used = run(1, &[20, 1, 10], 10_000);
        let (least, most) = (used.iter().min().unwrap(), used.iter().max().unwrap());
        assert!(*most - *least <= 40 * MS, "{used:?}");
    }

    #[test]
    fn long_jobs_have_threads_of_their_own() {
        let mut turns = Turns::default();
        for _ in 0..5 {
            turns.push(1, 1);
        }
        // That they are long is not known before one ran.
        let (_, ticket) = turns.next(Length::Short).unwrap();
        turns.done(ticket, LONG_JOB * 5);
        assert!(turns.next(Length::Short).is_none() && turns.waits(Length::Long));
        assert_eq!((turns.push(2, 2), turns.push(1, 1)), (Length::Short, Length::Long));
        let (flow, ticket) = turns.next(Length::Short).unwrap();
        assert_eq!(flow, 2);
        turns.done(ticket, MS);
        // Whose jobs are short again is among the others.
        let waiting = turns.waiting();
        while let Some((flow, ticket)) = turns.next(Length::Long) {
            assert_eq!(flow, 1);
            turns.done(ticket, MS);
            turns.push(1, 1);
        }
        assert!(turns.waits(Length::Short) && turns.waiting() == waiting);
    }

    #[test]
    fn one_short_job_in_three_makes_no_short_flow() {
        let mut turns = Turns::default();
        for round in 0..30 {
            turns.push(1, 1);
            let (_, ticket) =
                if round == 0 { turns.next(Length::Short) } else { turns.next(Length::Long) }.unwrap();
            turns.done(ticket, if round % 3 == 2 { Duration::ZERO } else { LONG_JOB * 3 / 2 });
        }
    }

    #[test]
    fn who_becomes_short_waits_no_longer_than_it_was_ahead() {
        let mut turns = Turns::default();
        for _ in 0..100 {
            turns.push(1, 1);
            let (_, ticket) = next(&mut turns).unwrap();
            turns.done(ticket, LONG_JOB * 10);
        }
        while turns.push(1, 1) == Length::Long {
            let (_, ticket) = turns.next(Length::Long).unwrap();
            turns.done(ticket, Duration::ZERO);
        }
        // Others go before for as long as one of its jobs took, not all of them.
        for round in 0..1_000 {
            turns.push(2, 2);
            let (flow, ticket) = turns.next(Length::Short).unwrap();
            if flow == 1 {
                return;
            }
            turns.done(ticket, LONG_JOB);
            assert!(round < 30, "it does not come");
        }
    }

    #[test]
    fn flows_that_are_over_are_forgotten() {
        let mut turns = Turns::default();
        for flow in 0..u64::from(FLOWS_FORGOTTEN_EVERY) * 12 {
            turns.push(flow, ());
            let ((), ticket) = turns.next(Length::Short).unwrap();
            turns.done(ticket, 10 * LONG_JOB);
        }
        assert!(turns.flows.len() <= FLOWS_FORGOTTEN_EVERY as usize * 6, "{}", turns.flows.len());
    }

    proptest! {
        /// Whatever flows there are: all that always have jobs use about the same.
        #[test]
        fn all_that_always_have_jobs_get_the_same(
            lengths in prop::collection::vec(1..19u32, 4..8), threads in 1..4usize
        ) {
            let used = run(threads, &lengths, 4_000);
            let (least, most) = (*used.iter().min().unwrap(), *used.iter().max().unwrap());
            // What they may be ahead by: what runs beside, of each the longest.
            prop_assert!(most - least <= Duration::from_millis(19) * 4 * u32::try_from(threads).unwrap(), "{:?}", used);
        }

        /// Each job comes once, in the order of its flow.
        #[test]
        fn each_job_comes_once(pushes in prop::collection::vec((0..5u64, 0..50u32, any::<bool>()), 1..200)) {
            let mut turns = Turns::default();
            let (mut wanted, mut found) = (HashMap::<u64, Vec<usize>>::new(), HashMap::<u64, Vec<usize>>::new());
            for (number, (flow, length, pops)) in pushes.iter().enumerate() {
                turns.push(*flow, (*flow, number));
                wanted.entry(*flow).or_default().push(number);
                if *pops && let Some(((flow, number), ticket)) = next(&mut turns) {
                    found.entry(flow).or_default().push(number);
                    turns.done(ticket, *length * MS);
                }
            }
            while let Some(((flow, number), ticket)) = next(&mut turns) {
                found.entry(flow).or_default().push(number);
                turns.done(ticket, MS);
            }
            prop_assert_eq!(turns.waiting(), 0);
            prop_assert_eq!(found, wanted);
        }
    }
}
