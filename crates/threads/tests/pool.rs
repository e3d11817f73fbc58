//! Every task runs once, whatever the number of threads, and a panic comes out where the job was started.

use residual_threads::{Pool, PoolError, split};
use std::panic::{AssertUnwindSafe, catch_unwind};
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
fn every_thread_begins_with_its_own_range_and_then_helps() {
    let pool = Pool::new(4);
    for _ in 0..50 {
        // No task ends before all have begun.
        let barrier = Barrier::new(4);
        pool.run(4, |task, worker| {
            assert_eq!(task, worker);
            barrier.wait();
        });
        // The first thread's range, 0 and 1, is done by two if its first task waits for its second.
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
    let panic = catch_unwind(AssertUnwindSafe(run)).unwrap_err();
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

/// A payload whose drop panics would unwind out of the job while others are inside, or end a worker.
#[test]
fn a_second_panic_does_no_harm_whatever_its_payload_does_when_dropped() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            if !std::thread::panicking() {
                std::panic::resume_unwind(Box::new("dropped"));
            }
        }
    }
    let pool = Pool::new(4);
    for _ in 0..100 {
        let barrier = Barrier::new(4);
        let run = || {
            pool.run(4, |_, _| {
                barrier.wait();
                std::panic::resume_unwind(Box::new(Bomb));
            });
        };
        let panic = catch_unwind(AssertUnwindSafe(run)).unwrap_err();
        assert!(panic.is::<Bomb>());
        std::mem::forget(panic);
    }
    let count = AtomicU32::new(0);
    pool.run(8, |_, _| {
        count.fetch_add(1, Relaxed);
    });
    assert_eq!(count.into_inner(), 8);
}

#[test]
fn a_number_of_threads_that_no_pool_has_is_an_error() {
    for threads in [0, Pool::MAX_THREADS + 1, usize::MAX] {
        let error = Pool::try_new(threads).unwrap_err();
        assert_eq!(error.to_string(), format!("threads: expected 1 to 1024, got {threads}"));
    }
    assert_eq!(Pool::try_new(3).unwrap().threads(), 3);
}

/// The stacks of 1024 threads do not fit the address space that the second process is given.
#[test]
#[cfg(target_os = "linux")]
fn where_the_system_refuses_a_thread_there_is_an_error_or_a_smaller_pool() {
    const LIMITED: &str = "RESIDUAL_TEST_LIMITED";
    if std::env::var_os(LIMITED).is_none() {
        let name = "where_the_system_refuses_a_thread_there_is_an_error_or_a_smaller_pool";
        let status = std::process::Command::new("sh")
            .args(["-c", "ulimit -v 1000000 && exec \"$0\" --exact \"$1\""])
            .arg(std::env::current_exe().unwrap())
            .arg(name)
            .env(LIMITED, "1")
            .status();
        assert!(status.unwrap().success());
        return;
    }
    let refused = Pool::try_new(Pool::MAX_THREADS);
    assert!(matches!(refused, Err(PoolError::Refused { threads: 1024, started: 1..1024, .. })), "{refused:?}");
    let pool = Pool::new(Pool::MAX_THREADS);
    assert!((1..1024).contains(&pool.threads()), "{pool:?}");
    let count = AtomicU32::new(0);
    pool.run(5000, |_, _| {
        count.fetch_add(1, Relaxed);
    });
    assert_eq!(count.into_inner(), 5000);
}

#[test]
fn a_task_cannot_run_a_job() {
    let (pool, other) = (Pool::new(2), Pool::new(2));
    let run = || pool.run(2, |_, _| other.run(2, |_, _| {}));
    let panic = catch_unwind(AssertUnwindSafe(run)).unwrap_err();
    assert_eq!(panic.downcast_ref::<&str>(), Some(&"a task cannot run a job of its own"));
}
