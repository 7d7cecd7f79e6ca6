//! Threads for module code, so that it never runs on a thread that serves the network.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use crate::EngineError;

type Job = Box<dyn FnOnce() + Send>;

/// Why a job was not taken: as many wait as may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0} jobs wait for a module thread, as many as may: try again")]
pub struct QueueFull(pub usize);

/// A fixed number of threads that run jobs in the order they came. Dropping it runs what waits, then ends the threads.
pub struct Workers {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

struct Shared {
    queue: Mutex<Queue>,
    woken: Condvar,
    jobs_max: usize,
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    closed: bool,
}

impl Workers {
    /// Starts `threads` threads, one a core when 0, before which at most `jobs_max` jobs wait.
    ///
    /// # Errors
    /// [`EngineError::Thread`] when the system gives none.
    pub fn start(threads: usize, jobs_max: usize) -> Result<Self, EngineError> {
        let threads = match threads {
            0 => thread::available_parallelism().map_or(1, usize::from),
            given => given,
        };
        let shared = Arc::new(Shared { queue: Mutex::default(), woken: Condvar::new(), jobs_max });
        // Made first, so that the threads there are end when one cannot be started.
        let mut workers = Self { shared, threads: Vec::with_capacity(threads) };
        for index in 0..threads {
            let shared = Arc::clone(&workers.shared);
            let thread = thread::Builder::new()
                .name(format!("millstream-mod-{index}"))
                .spawn(move || shared.work())
                .map_err(EngineError::Thread)?;
            workers.threads.push(thread);
        }
        Ok(workers)
    }

    /// Has a thread run `job`, soon. Never waits. The job tells its outcome itself, as by a channel.
    ///
    /// # Errors
    /// [`QueueFull`] when too many wait; the job is dropped then.
    pub fn submit(&self, job: impl FnOnce() + Send + 'static) -> Result<(), QueueFull> {
        let mut queue = self.shared.lock();
        if queue.jobs.len() >= self.shared.jobs_max {
            return Err(QueueFull(self.shared.jobs_max));
        }
        queue.jobs.push_back(Box::new(job));
        drop(queue);
        self.shared.woken.notify_one();
        Ok(())
    }

    /// Jobs that wait for a thread.
    pub fn waiting(&self) -> usize {
        self.shared.lock().jobs.len()
    }
}

impl Shared {
    fn work(&self) {
        while let Some(job) = self.next() {
            // A job that panics must not take the thread from the others; the panic hook has told of it.
            if catch_unwind(AssertUnwindSafe(job)).is_err() {
                tracing::error!("a job on a module thread panicked");
            }
        }
    }

    fn next(&self) -> Option<Job> {
        let mut queue = self.lock();
        loop {
            if let Some(job) = queue.jobs.pop_front() {
                return Some(job);
            }
            if queue.closed {
                return None;
            }
            queue = self.woken.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.woken.notify_all();
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
