//! Threads for module code.

use std::sync::{Arc, mpsc};
use std::time::Duration;

use millstream_engine::{QueueFull, Workers};

#[test]
fn jobs_run_and_panics_stay_theirs() {
    let workers = Workers::start(2, 100).unwrap();
    let (done, results) = mpsc::channel();
    for index in 0..50 {
        let done = done.clone();
        workers
            .submit(index % 3, move || {
                assert!(index % 10 != 3, "as planned");
                done.send(index).expect("the test waits");
            })
            .unwrap();
    }
    drop((done, workers));
    let mut results: Vec<_> = results.iter().collect();
    results.sort_unstable();
    assert_eq!(results, (0..50).filter(|index| index % 10 != 3).collect::<Vec<_>>());
}

#[test]
fn the_queue_is_bounded() {
    let workers = Workers::start(1, 2).unwrap();
    let (started, has_started) = mpsc::channel();
    let (go, wait) = mpsc::channel::<()>();
    workers
        .submit(0, move || {
            started.send(()).expect("the test waits");
            let _ = wait.recv();
        })
        .unwrap();
    has_started.recv().unwrap();
    workers.submit(0, || {}).unwrap();
    workers.submit(0, || {}).unwrap();
    assert_eq!(workers.submit(0, || {}), Err(QueueFull(2)));
    assert_eq!(workers.waiting(), 2);
    drop(go);
}

/// Only where something is broken.
const PATIENCE: Duration = Duration::from_secs(60);

/// Uses the CPU for so long.
fn burn(ms: u64) {
    let cpu = || rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    let started = cpu();
    let used = || Duration::try_from(cpu() - started).unwrap_or_default();
    while used() < Duration::from_millis(ms) {
        std::hint::spin_loop();
    }
}

#[test]
fn whose_jobs_are_long_leave_the_others_theirs() {
    let workers = Arc::new(Workers::start(2, 1_000).unwrap());
    let (long, short) = (0, 1);
    let (done, has_run) = mpsc::channel();
    // Known to be long from then on.
    for _ in 0..2 {
        let done = done.clone();
        workers
            .submit(long, move || {
                burn(150);
                done.send(()).expect("the test waits");
            })
            .unwrap();
    }
    (0..2).for_each(|_| has_run.recv().unwrap());
    // They would never end, were all threads theirs: each waits for a short one that is queued behind all of them.
    let (go, wait) = mpsc::channel::<()>();
    let wait = Arc::new(std::sync::Mutex::new(wait));
    for _ in 0..4 {
        let (wait, done) = (Arc::clone(&wait), done.clone());
        workers
            .submit(long, move || {
                wait.lock().expect("nobody panics").recv_timeout(PATIENCE).expect("the short job comes");
                burn(150);
                done.send(()).expect("the test waits");
            })
            .unwrap();
    }
    workers.submit(short, move || (0..4).for_each(|_| go.send(()).expect("they wait"))).unwrap();
    (0..4).for_each(|_| has_run.recv().unwrap());
    assert_eq!(workers.waiting(), 0);
}
