//! Every task runs once, whatever the number of threads, and a panic comes out where the job was started.

use residual_threads::{Pool, split};
use std::sync::Barrier;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

#[test]
fn every_task_runs_exactly_once() {
    for threads in [1, 2, 3, 8] {
        let pool = Pool::new(threads);
        for tasks in [0, 1, 2, 7, 100] {
            for _ in 0..50 {
                let counts: Vec<AtomicU32> = (0..tasks).map(|_| AtomicU32::new(0)).collect();
                pool.run(tasks, |task, worker| {
                    assert!(worker < threads);
                    counts[task].fetch_add(1, Relaxed);
                });
                assert!(counts.iter().all(|count| count.load(Relaxed) == 1), "{threads} threads, {tasks} tasks");
            }
        }
    }
}

#[test]
fn every_thread_begins_with_its_own_run_and_then_helps() {
    let pool = Pool::new(4);
    for _ in 0..50 {
        // No task ends before all have begun.
        let barrier = Barrier::new(4);
        pool.run(4, |task, worker| {
            assert_eq!(task, worker);
            barrier.wait();
        });
        // The first thread's run, 0 and 1, is done by two if its first task waits for its second.
        let second = AtomicU32::new(0);
        pool.run(8, |task, _| match task {
            0 => {
                while second.load(Relaxed) == 0 {
                    std::thread::yield_now();
                }
            }
            1 => second.store(1, Relaxed),
            _ => {}
        });
    }
}

#[test]
fn parked_workers_wake_for_the_next_job() {
    let pool = Pool::new(3);
    let count = AtomicU32::new(0);
    for _ in 0..5 {
        std::thread::sleep(std::time::Duration::from_millis(2));
        pool.run(6, |_, _| {
            count.fetch_add(1, Relaxed);
        });
    }
    assert_eq!(count.into_inner(), 30);
}

#[test]
fn callers_on_several_threads_take_turns() {
    let pool = Pool::new(2);
    let count = AtomicU32::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..200 {
                    pool.run(5, |_, _| {
                        count.fetch_add(1, Relaxed);
                    });
                }
            });
        }
    });
    assert_eq!(count.into_inner(), 4 * 200 * 5);
}

#[test]
fn a_tasks_panic_reaches_the_caller_and_the_pool_lives_on() {
    let pool = Pool::new(2);
    let run = || pool.run(8, |task, _| assert!(task != 5, "task five"));
    let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).unwrap_err();
    assert_eq!(panic.downcast_ref::<&str>(), Some(&"task five"));
    let count = AtomicU32::new(0);
    pool.run(8, |_, _| {
        count.fetch_add(1, Relaxed);
    });
    assert_eq!(count.into_inner(), 8);
}

#[test]
fn a_split_covers_everything_once() {
    for len in [0, 1, 15, 16, 17, 1000] {
        for parts in [1, 2, 3, 8] {
            for grain in [1, 4, 16] {
                let ranges: Vec<_> = (0..parts).map(|index| split(len, parts, grain, index)).collect();
                assert_eq!(ranges.iter().cloned().flatten().collect::<Vec<_>>(), (0..len).collect::<Vec<_>>());
                assert!(ranges.iter().all(|range| range.start % grain == 0 || range.is_empty()));
            }
        }
    }
}
