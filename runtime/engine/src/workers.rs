//! Threads for module code, so that it never runs on a thread that serves the network, nor for long at others' cost: what takes
//! long runs on threads of its own, which give way to all others.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use crate::EngineError;
use crate::limits::{LONG_NICE, MODULE_THREADS_MIN};
use crate::turns::{Length, Ticket, Turns};

type Job = Box<dyn FnOnce() + Send>;

/// Why a job was not taken: as many wait as may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0} jobs wait for a module thread, as many as may: try again")]
pub struct QueueFull(pub usize);

/// A fixed number of threads that run jobs. Each job belongs to a flow, as those of one subscription do: the flow that has
/// used least CPU time goes first, and flows whose jobs are long have threads of their own, of lower priority. Dropping it
/// runs what waits, then ends the threads.
pub struct Workers {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

struct Shared {
    queue: Mutex<Queue>,
    /// For threads that run short jobs, and for those that run long ones.
    woken: [Condvar; 2],
    jobs_max: usize,
}

#[derive(Default)]
struct Queue {
    turns: Turns<Job>,
    closed: bool,
}

impl Workers {
    /// Starts `threads` threads, one a core and at least two when 0, and for long jobs one less, at least one; before them at
    /// most `jobs_max` jobs wait.
    ///
    /// # Errors
    /// [`EngineError::Thread`] when the system gives none.
    pub fn start(threads: usize, jobs_max: usize) -> Result<Self, EngineError> {
        let threads = match threads {
            0 => thread::available_parallelism().map_or(1, usize::from).max(MODULE_THREADS_MIN),
            given => given,
        };
        let woken = [Condvar::new(), Condvar::new()];
        let shared = Arc::new(Shared { queue: Mutex::default(), woken, jobs_max });
        // Made first, so that the threads there are end when one cannot be started.
        let mut workers = Self { shared, threads: Vec::new() };
        for (length, name, count) in
            [(Length::Short, "mod", threads), (Length::Long, "long", threads.saturating_sub(1).max(1))]
        {
            for index in 0..count {
                let shared = Arc::clone(&workers.shared);
                let thread = thread::Builder::new()
                    .name(format!("millstream-{name}-{index}"))
                    .spawn(move || shared.work(length))
                    .map_err(EngineError::Thread)?;
                workers.threads.push(thread);
            }
        }
        Ok(workers)
    }

    /// Has a thread run `job` of `flow`, soon. Never waits. The job tells its outcome itself, as by a channel.
    ///
    /// # Errors
    /// [`QueueFull`] when too many wait; the job is dropped then.
    pub fn submit(&self, flow: u64, job: impl FnOnce() + Send + 'static) -> Result<(), QueueFull> {
        let mut queue = self.shared.lock();
        if queue.turns.waiting() >= self.shared.jobs_max {
            return Err(QueueFull(self.shared.jobs_max));
        }
        let length = queue.turns.push(flow, Box::new(job));
        drop(queue);
        self.shared.woken(length).notify_one();
        Ok(())
    }

    /// Jobs that wait for a thread.
    pub fn waiting(&self) -> usize {
        self.shared.lock().turns.waiting()
    }
}

impl Shared {
    fn work(&self, length: Length) {
        if length == Length::Long {
            give_way();
        }
        let mut ran = None;
        while let Some((job, ticket)) = self.next(length, ran.take()) {
            let started = clock_gettime(ClockId::ThreadCPUTime);
            // A job that panics must not take the thread from the others; the panic hook has told of it.
            if catch_unwind(AssertUnwindSafe(job)).is_err() {
                tracing::error!("a job on a module thread panicked");
            }
            let used = clock_gettime(ClockId::ThreadCPUTime) - started;
            ran = Some((ticket, Duration::try_from(used).unwrap_or_default()));
        }
    }

    /// Notes what `ran`; the next job of this length.
    fn next(&self, length: Length, ran: Option<(Ticket, Duration)>) -> Option<(Job, Ticket)> {
        let mut queue = self.lock();
        if let Some((ticket, cpu)) = ran {
            queue.turns.done(ticket, cpu);
            // Its flow may have become one of the others.
            if queue.turns.waits(length.other()) {
                self.woken(length.other()).notify_one();
            }
        }
        loop {
            if let Some(turn) = queue.turns.next(length) {
                return Some(turn);
            }
            if queue.closed && queue.turns.waiting() == 0 {
                self.woken.iter().for_each(Condvar::notify_all);
                return None;
            }
            queue = self.woken(length).wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn woken(&self, length: Length) -> &Condvar {
        &self.woken[length as usize]
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Has this thread give way to others that need the CPU.
fn give_way() {
    // Elsewhere it would be the whole process.
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::setpriority_process(None, LONG_NICE) {
        tracing::warn!(%error, "a thread for long module calls keeps its priority");
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.woken.iter().for_each(Condvar::notify_all);
        let own = thread::current().id();
        for thread in self.threads.drain(..).filter(|thread| thread.thread().id() != own) {
            if thread.join().is_err() {
                tracing::error!("a module thread panicked");
            }
        }
    }
}

impl std::fmt::Debug for Workers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Workers").field("threads", &self.threads.len()).finish_non_exhaustive()
    }
}
