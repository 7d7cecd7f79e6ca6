//! Whose turn it is on the module threads: who has used least goes first, and those whose jobs are long leave room for
//! the others. Knows no threads and no clock.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::Duration;

use crate::limits::{FLOWS_FORGOTTEN_EVERY, LONG_JOB};

/// What a job is thought to use at least, while it runs.
const LEAST_CHARGED: Duration = Duration::from_millis(1);

/// Jobs by the flow that each belongs to.
#[derive(Debug)]
pub(crate) struct Turns<J> {
    flows: HashMap<u64, Flow<J>>,
    /// Flows with jobs that wait, by what they have used.
    short: BTreeSet<(Duration, u64)>,
    long: BTreeSet<(Duration, u64)>,
    waiting: usize,
    /// Jobs of long flows that run.
    long_running: usize,
    /// What the flow that was served last had used: who comes anew starts there.
    floor: Duration,
    until_forgotten: u32,
}

#[derive(Debug)]
struct Flow<J> {
    jobs: VecDeque<J>,
    running: usize,
    used: Duration,
    /// Of its last jobs.
    mean: Duration,
}

/// What was given with a job, to be given back when it is done.
#[derive(Debug)]
#[must_use]
pub(crate) struct Ticket {
    flow: u64,
    long: bool,
    /// What the job was thought to use.
    charged: Duration,
}

impl<J> Default for Turns<J> {
    fn default() -> Self {
        Self {
            flows: HashMap::new(),
            short: BTreeSet::new(),
            long: BTreeSet::new(),
            waiting: 0,
            long_running: 0,
            floor: Duration::ZERO,
            until_forgotten: FLOWS_FORGOTTEN_EVERY,
        }
    }
}

impl<J> Turns<J> {
    /// Jobs that wait.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting
    }

    /// Adds a job of `flow`.
    pub(crate) fn push(&mut self, flow: u64, job: J) {
        let floor = self.floor;
        let found = self.flows.entry(flow).or_insert_with(|| Flow {
            jobs: VecDeque::new(),
            running: 0,
            used: floor,
            mean: Duration::ZERO,
        });
        if found.jobs.is_empty() {
            // Who did nothing for a while saves nothing up.
            found.used = found.used.max(floor);
            let entry = (found.used, flow);
            if found.is_long() {
                self.long.insert(entry)
            } else {
                self.short.insert(entry)
            };
        }
        found.jobs.push_back(job);
        self.waiting += 1;
    }

    /// The next job, for one of `threads` threads that all are served here: of long flows no more run at once than leave one
    /// of them free.
    pub(crate) fn next(&mut self, threads: usize) -> Option<(J, Ticket)> {
        let may_be_long = self.long_running + 1 < threads || threads == 1;
        let long_one = self.long.first().filter(|_| may_be_long);
        let entry = match (self.short.first(), long_one) {
            (Some(short), Some(long)) => *short.min(long),
            (short, long) => *short.or(long)?,
        };
        let long = !self.short.remove(&entry) && self.long.remove(&entry);
        let (used, key) = entry;
        self.floor = self.floor.max(used);
        let flow = self.flows.get_mut(&key)?;
        let job = flow.jobs.pop_front()?;
        // Charged at once, so that not all threads are given to one flow.
        let charged = flow.mean.max(LEAST_CHARGED);
        flow.used += charged;
        flow.running += 1;
        self.waiting -= 1;
        self.long_running += usize::from(long);
        if !flow.jobs.is_empty() {
            let entry = (flow.used, key);
            if long {
                self.long.insert(entry)
            } else {
                self.short.insert(entry)
            };
        }
        Some((job, Ticket { flow: key, long, charged }))
    }

    /// The job that came with `ticket` has taken `cpu`.
    pub(crate) fn done(&mut self, ticket: Ticket, cpu: Duration) {
        let Ticket { flow, long, charged } = ticket;
        self.long_running -= usize::from(long);
        if let Some(found) = self.flows.get_mut(&flow) {
            let entry = (found.used, flow);
            let waits = self.short.remove(&entry) || self.long.remove(&entry);
            found.running -= 1;
            found.used = (found.used + cpu).saturating_sub(charged);
            found.mean = (found.mean * 3 + cpu) / 4;
            if waits {
                let entry = (found.used, flow);
                if found.is_long() {
                    self.long.insert(entry)
                } else {
                    self.short.insert(entry)
                };
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
        let floor = self.floor;
        self.flows.retain(|_, flow| {
            let idle = flow.jobs.is_empty() && flow.running == 0;
            if idle {
                flow.used = floor + flow.used.saturating_sub(floor) / 2;
            }
            !idle || flow.used > floor + LONG_JOB
        });
    }
}

impl<J> Flow<J> {
    fn is_long(&self) -> bool {
        self.mean > LONG_JOB
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// Runs jobs on `threads` threads, each flow having some waiting always, until `rounds` have run; what each flow used.
    fn run(threads: usize, lengths: &[u32], rounds: usize) -> Vec<Duration> {
        let mut turns = Turns::default();
        let mut used = vec![Duration::ZERO; lengths.len()];
        // What runs, with when it ends.
        let (mut running, mut now) = (Vec::<(Duration, u64, Ticket)>::new(), Duration::ZERO);
        (0..lengths.len()).for_each(|flow| (0..threads).for_each(|_| turns.push(flow as u64, flow as u64)));
        for _ in 0..rounds {
            while running.len() < threads
                && let Some((flow, ticket)) = turns.next(threads)
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

    #[test]
    fn who_uses_much_does_not_get_more_than_others() {
        let used = run(1, &[100, 1, 10], 10_000);
        let (least, most) = (used.iter().min().unwrap(), used.iter().max().unwrap());
        assert!(*most - *least <= 200 * MS, "{used:?}");
    }

    #[test]
    fn long_jobs_leave_a_thread_to_short_ones() {
        let mut turns = Turns::default();
        for flow in 0..4 {
            (0..5).for_each(|_| turns.push(flow, flow));
        }
        // That they are long is not known before they ran; one of each runs.
        let first: Vec<_> = (0..4).filter_map(|_| turns.next(4)).collect();
        assert_eq!(first.iter().map(|(flow, _)| *flow).collect::<Vec<_>>(), [0, 1, 2, 3]);
        first.into_iter().for_each(|(_, ticket)| turns.done(ticket, LONG_JOB * 5));
        let mut runs: Vec<_> = std::iter::from_fn(|| turns.next(4)).collect();
        assert_eq!(runs.len(), 3);
        turns.push(9, 9);
        let (flow, ticket) = turns.next(4).unwrap();
        assert_eq!(flow, 9);
        turns.done(ticket, MS);
        assert!(turns.next(4).is_none());
        // Whose jobs are short again has no such limit.
        for _ in 0..9 {
            runs.pop().into_iter().for_each(|(_, ticket)| turns.done(ticket, MS));
            runs.extend(turns.next(4));
        }
        runs.into_iter().for_each(|(_, ticket)| turns.done(ticket, MS));
        assert_eq!(std::iter::from_fn(|| turns.next(4)).count(), 4);
    }

    #[test]
    fn one_thread_serves_long_jobs_too() {
        let mut turns = Turns::default();
        (0..3).for_each(|_| turns.push(1, ()));
        for _ in 0..3 {
            let ((), ticket) = turns.next(1).unwrap();
            turns.done(ticket, LONG_JOB * 10);
        }
    }

    #[test]
    fn flows_that_are_over_are_forgotten() {
        let mut turns = Turns::default();
        for flow in 0..u64::from(FLOWS_FORGOTTEN_EVERY) * 12 {
            turns.push(flow, ());
            let ((), ticket) = turns.next(2).unwrap();
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
                if *pops && let Some(((flow, number), ticket)) = turns.next(2) {
                    found.entry(flow).or_default().push(number);
                    turns.done(ticket, *length * MS);
                }
            }
            while let Some(((flow, number), ticket)) = turns.next(2) {
                found.entry(flow).or_default().push(number);
                turns.done(ticket, MS);
            }
            prop_assert_eq!(turns.waiting(), 0);
            prop_assert_eq!(found, wanted);
        }
    }
}
