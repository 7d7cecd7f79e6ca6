//! Memtable rotation and the watch over flushes. fjall's own rotation goes through its worker queue, where a worker can
//! block on its own full queue and stop all flushing (fjall PR 323); so memtables are rotated from here, and fjall's
//! limits are set so high that it never does.

use std::{
    thread,
    time::{Duration, Instant},
};

use fjall::{AbstractTree as _, Keyspace, PersistMode};

use crate::{
    error::WriteError,
    options::JOURNAL_BYTES_MIN,
    store::{Inner, Keyspaces},
};

/// Keeps track of what was rotated and what reached the disk.
#[derive(Debug)]
pub(crate) struct FlushWatch {
    /// Bytes written to the journal, ever, and at the last rotation of each keyspace.
    written: u64,
    written_at_rotation: [u64; 3],
    flushes: Flushes,
}

/// Whether sealed memtables reach the disk.
#[derive(Debug)]
struct Flushes {
    /// Memtables sealed by us or found sealed at open.
    sealed_ever: usize,
    flushed: usize,
    /// When a memtable last reached the disk, or none had to.
    progress_at: Instant,
}

/// fjall halts writers, without end, at 4 sealed memtables and at 30 runs in level 0: rotation stops short of both.
const SEALED_MAX: usize = 2;
const L0_RUNS_MAX: usize = 16;
/// Longest that one call of `maintain` holds back the committer.
const HOLD_BACK_MAX: Duration = Duration::from_secs(1);

impl FlushWatch {
    /// `journal_bytes`: what the journals hold that were found at open.
    pub(crate) fn new(keyspaces: &Keyspaces, journal_bytes: u64) -> Self {
        Self {
            written: journal_bytes,
            written_at_rotation: [0; 3],
            flushes: Flushes { sealed_ever: sealed(keyspaces), flushed: 0, progress_at: Instant::now() },
        }
    }

    pub(crate) fn wrote(&mut self, bytes: u64) {
        self.written += bytes;
    }

    pub(crate) fn maintain(&mut self, inner: &Inner) -> Result<(), WriteError> {
        self.rotate(inner)?;
        self.watch(inner)?;
        self.hold_back(inner)
    }

    fn rotate(&mut self, inner: &Inner) -> Result<(), WriteError> {
        // A keyspace that is seldom written keeps every journal since its last flush on disk: so all are flushed each
        // time a share of the allowance is used up.
        let journal_share = inner.options.journal_bytes_max.max(JOURNAL_BYTES_MIN) / 4;
        let Keyspaces { log, state, modules } = &inner.keyspaces;
        for (keyspace, rotated_at) in [log, state, modules].into_iter().zip(&mut self.written_at_rotation) {
            let bytes = keyspace.tree.active_memtable().size();
            let due = bytes >= inner.options.memtable_bytes
                || (bytes > 0 && self.written - *rotated_at >= journal_share);
            if due && has_room(keyspace) {
                self.flushes.rotate(inner, keyspace)?;
                *rotated_at = self.written;
            }
        }
        Ok(())
    }

    /// How many memtables have been sealed, ever.
    pub(crate) fn sealed_ever(&self) -> usize {
        self.flushes.sealed_ever
    }

    /// How many of them have reached the disk.
    pub(crate) fn flushed(&self, inner: &Inner) -> usize {
        self.flushes.sealed_ever.saturating_sub(sealed(&inner.keyspaces))
    }

    /// Rotates the memtable of `keyspace` now, if it holds anything; false when there is no room for that.
    pub(crate) fn rotate_now(&mut self, inner: &Inner, keyspace: &Keyspace) -> Result<bool, WriteError> {
        if keyspace.tree.active_memtable().size() == 0 {
            return Ok(true);
        }
        let room = has_room(keyspace);
        if room {
            self.flushes.rotate(inner, keyspace)?;
        }
        Ok(room)
    }

    fn watch(&mut self, inner: &Inner) -> Result<(), WriteError> {
        let stalled = self.flushes.stalled(sealed(&inner.keyspaces), Instant::now());
        if stalled > inner.options.flush_stall {
            return Err(WriteError::FlushStalled {
                stalled_s: stalled.as_secs(),
                waiting_bytes: inner.db.write_buffer_size(),
            });
        }
        Ok(())
    }

    /// Writes come faster than the disk takes them: the committer waits, so that memory stays bounded.
    fn hold_back(&mut self, inner: &Inner) -> Result<(), WriteError> {
        let since = Instant::now();
        while inner.db.write_buffer_size() > inner.options.memtable_bytes_max
            && since.elapsed() < HOLD_BACK_MAX.min(inner.options.flush_stall)
        {
            thread::sleep(Duration::from_millis(1));
            self.rotate(inner)?;
            self.watch(inner)?;
        }
        Ok(())
    }
}

impl Flushes {
    fn rotate(&mut self, inner: &Inner, keyspace: &Keyspace) -> Result<(), WriteError> {
        let waiting = sealed(&inner.keyspaces);
        // No table may hold what a power loss can take from the journal: the keyspaces would no longer agree on which
        // commit is the last. fjall syncs the journal before a flush, but the flush takes every memtable sealed by then,
        // also one sealed after that sync.
        let rotated = inner.db.persist(PersistMode::SyncData).and_then(|()| keyspace.rotate_memtable());
        let rotated = rotated.map_err(|error| WriteError::Unknown { cause: error.into() })?;
        if *keyspace == inner.keyspaces.log {
            inner.log_rotated();
        }
        if rotated {
            self.sealed_one(waiting, Instant::now());
        }
        Ok(())
    }

    /// One more memtable waits, beside `waiting` others.
    fn sealed_one(&mut self, waiting: usize, now: Instant) {
        // After a quiet time nobody has looked for long, and nothing had to be done.
        if waiting == 0 {
            self.progress_at = now;
            self.flushed = self.sealed_ever;
        }
        self.sealed_ever += 1;
    }

    /// For how long no memtable has reached the disk, although some wait.
    fn stalled(&mut self, sealed: usize, now: Instant) -> Duration {
        let flushed = self.sealed_ever.saturating_sub(sealed);
        if sealed == 0 || flushed > self.flushed {
            self.progress_at = now;
        }
        self.flushed = flushed;
        now.saturating_duration_since(self.progress_at)
    }
}

fn has_room(keyspace: &Keyspace) -> bool {
    keyspace.tree.sealed_memtable_count() < SEALED_MAX && keyspace.tree.l0_run_count() < L0_RUNS_MAX
}

fn sealed(keyspaces: &Keyspaces) -> usize {
    let Keyspaces { log, state, modules } = keyspaces;
    [log, state, modules].into_iter().map(|keyspace| keyspace.tree.sealed_memtable_count()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_waiting_without_progress_counts_as_a_stall() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut flushes = Flushes { sealed_ever: 0, flushed: 0, progress_at: start };
        assert_eq!(flushes.stalled(0, at(100)), Duration::ZERO, "nothing waits");
        flushes.sealed_ever = 2;
        assert_eq!(flushes.stalled(2, at(110)), Duration::from_secs(10));
        assert_eq!(flushes.stalled(1, at(120)), Duration::ZERO, "one reached the disk");
        flushes.sealed_ever = 3;
        assert_eq!(flushes.stalled(2, at(150)), Duration::from_secs(30), "another one waits behind it");
        assert_eq!(flushes.stalled(0, at(160)), Duration::ZERO);
    }

    #[test]
    fn a_quiet_time_before_a_rotation_is_no_stall() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut flushes = Flushes { sealed_ever: 0, flushed: 0, progress_at: start };
        flushes.sealed_one(0, at(1));
        // It reaches the disk, and nobody looks for two minutes.
        flushes.sealed_one(0, at(120));
        assert_eq!(flushes.stalled(1, at(121)), Duration::from_secs(1));
        flushes.sealed_one(1, at(140));
        assert_eq!(flushes.stalled(2, at(150)), Duration::from_secs(30), "the first one waits still");
    }
}
