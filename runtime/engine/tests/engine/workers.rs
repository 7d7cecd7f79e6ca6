//! Threads for module code.

use std::sync::mpsc;

use millstream_engine::{QueueFull, Workers};

#[test]
fn jobs_run_and_panics_stay_theirs() {
    let workers = Workers::start(2, 100).unwrap();
    let (done, results) = mpsc::channel();
    for index in 0..50 {
        let done = done.clone();
        workers
            .submit(move || {
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
        .submit(move || {
            started.send(()).expect("the test waits");
            let _ = wait.recv();
        })
        .unwrap();
    has_started.recv().unwrap();
    workers.submit(|| {}).unwrap();
    workers.submit(|| {}).unwrap();
    assert_eq!(workers.submit(|| {}), Err(QueueFull(2)));
    assert_eq!(workers.waiting(), 2);
    drop(go);
}
