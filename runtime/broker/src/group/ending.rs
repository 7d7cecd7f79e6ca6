//! How a lease ends otherwise than by an ack: nack, release, time, the end of its consumer.

use millstream_types::{DeadLetters, Offset};

use super::{Dead, Group, MemberId, Moment, State};

/// Longest wait that a consumer may name, ms: a day.
const DELAY_MS_MAX: u64 = 86_400_000;
/// Longest error text that is kept, bytes.
const ERROR_BYTES_MAX: usize = 512;

impl Group {
    /// The record failed: again after `delay_ms`, or as the policy says; or it is a dead letter.
    pub(super) fn fail(
        &mut self,
        partition: u32,
        offset: Offset,
        delay_ms: Option<u64>,
        error: Option<&str>,
        moment: Moment,
    ) {
        self.take_back(partition, offset, moment);
        let (tries, off) = (self.config.tries, self.config.dead_letters == DeadLetters::Off);
        let Some(Some(part)) = self.parts.get_mut(partition as usize) else { return };
        let row = part.tried.entry(offset).or_default();
        row.failures = row.failures.saturating_add(1);
        row.error = error.map(cut);
        let wait = delay_ms
            .map(|delay| delay.min(DELAY_MS_MAX))
            .unwrap_or_else(|| self.config.backoff(row.failures, moment.chance));
        (row.due_ms, row.wait_ms) = (moment.wall.saturating_add_unsigned(wait), wait);
        let row = row.clone();
        let dead = row.failures >= tries && !off;
        self.news.settlements.entry(partition).or_default().tried.push((offset, row.clone()));
        if dead {
            self.put(partition, offset, State::Dead, 0);
            self.news.dead.push(Dead { partition, offset, expired: false, row });
        } else {
            self.wait(partition, offset, moment.ms.saturating_add(wait));
        }
        if wait == 0 {
            self.tick_record(partition, offset, moment);
        }
    }

    /// The record was not tried: it is for anybody, at once.
    pub(super) fn release(&mut self, partition: u32, offset: Offset, moment: Moment) {
        self.take_back(partition, offset, moment);
        self.wake_record(partition, offset);
    }

    /// A lease's time is over.
    pub(super) fn expire(&mut self, lease: u64, moment: Moment) {
        let member = self.leases.get(&lease).map(|lease| lease.member);
        if let Some(member) = member.and_then(|member| self.members.get_mut(&member)) {
            // What it may be too stopped for is not for it.
            member.silent = true;
        }
        for (partition, offset) in self.under(lease) {
            if self.is_under(partition, offset, lease) {
                self.fail(partition, offset, Some(0), Some("its lease ended before it was settled"), moment);
            }
        }
    }

    /// A consumer is gone, and what it holds is for others at once. If it broke off, that counts as a failure of what
    /// it may have been working on: all, or where order is kept, the first of each key or partition.
    pub(crate) fn leave(&mut self, member: MemberId, broke_off: bool, moment: Moment) {
        let mut leases: Vec<_> =
            self.leases.iter().filter(|(_, lease)| lease.member == member).map(|(id, _)| *id).collect();
        leases.sort_unstable();
        // Before the records are given back, so that they go to others.
        let left = self.members.remove(&member);
        self.regroup();
        for lease in leases {
            for (partition, offset) in self.under(lease) {
                if !self.is_under(partition, offset, lease) {
                    continue;
                }
                if broke_off {
                    let error = "its consumer broke off";
                    self.fail(partition, offset, Some(0), Some(error), moment);
                } else {
                    self.release(partition, offset, moment);
                }
            }
        }
        self.advance_parked(left.map(|member| member.parked).unwrap_or_default(), &[member]);
    }

    /// Ends the wait of a record, if it waits.
    pub(super) fn wake_record(&mut self, partition: u32, offset: Offset) {
        let open = self.part(partition).and_then(|part| part.open.get(offset)).copied();
        match open {
            Some(open) if open.unit != 0 => {
                self.put(partition, offset, State::Held, 0);
                self.advance(open.unit);
            }
            Some(_) => self.put(partition, offset, State::Ready, 0),
            None => {}
        }
    }

    /// The record is of no use any more: it becomes a dead letter, or is done where there are none.
    pub(super) fn expired(&mut self, partition: u32, offset: Offset) {
        if self.config.dead_letters == DeadLetters::Off {
            self.close(partition, offset);
            return self.done(partition, &[offset]);
        }
        self.put(partition, offset, State::Dead, 0);
        let row = self.part(partition).and_then(|part| part.tried.get(&offset)).cloned().unwrap_or_default();
        self.news.dead.push(Dead { partition, offset, expired: true, row });
    }

    /// Lets a record wait until `due`.
    pub(super) fn wait(&mut self, partition: u32, offset: Offset, due: u64) {
        self.put(partition, offset, State::Waiting, due);
    }

    fn tick_record(&mut self, partition: u32, offset: Offset, moment: Moment) {
        if self.due.remove(&(moment.ms, partition, offset)) {
            self.wake_record(partition, offset);
        }
    }

    /// Takes a leased record from its consumer, with those behind it that are kept in order with it.
    fn take_back(&mut self, partition: u32, offset: Offset, moment: Moment) {
        let unit = self.take_one_back(partition, offset, moment);
        for behind in unit.map(|unit| self.leased_behind(unit, offset)).unwrap_or_default() {
            self.take_one_back(partition, behind, moment);
        }
    }

    /// The unit of the record.
    fn take_one_back(&mut self, partition: u32, offset: Offset, moment: Moment) -> Option<u64> {
        let open = *self.part(partition)?.open.get(offset)?;
        if open.state() == State::Leased {
            let granted = self.leases.get(&{ open.tag }).map_or(moment.wall, |lease| lease.granted);
            self.unlease(&open);
            self.put(partition, offset, State::Held, 0);
            let part = self.part_mut(partition)?;
            let row = part.tried.entry(offset).or_default();
            if row.deliveries == 0 {
                row.first_ms = granted;
            }
            row.deliveries = row.deliveries.saturating_add(1);
        }
        (open.unit != 0).then_some(open.unit)
    }

    fn under(&self, lease: u64) -> Vec<(u32, Offset)> {
        let Some(found) = self.leases.get(&lease) else { return Vec::new() };
        let part = self.part(found.partition).into_iter();
        let open = part.flat_map(|part| part.open.range(found.first..found.end));
        let under = open.filter(|(_, open)| open.state() == State::Leased && open.tag == lease);
        under.map(|(offset, _)| (found.partition, offset)).collect()
    }

    fn is_under(&self, partition: u32, offset: Offset, lease: u64) -> bool {
        let open = self.part(partition).and_then(|part| part.open.get(offset));
        open.is_some_and(|open| open.state() == State::Leased && open.tag == lease)
    }
}

fn cut(error: &str) -> String {
    let mut end = error.len().min(ERROR_BYTES_MAX);
    while !error.is_char_boundary(end) {
        end -= 1;
    }
    error.get(..end).unwrap_or_default().to_owned()
}
