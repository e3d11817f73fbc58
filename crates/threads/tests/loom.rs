//! Every interleaving of pools of two and three threads with up to two, three or four preemptions, and every value that
//! a load may give in C11's memory model, as loom explores them. loom takes `SeqCst` for acquire and release, so what holds
//! here holds without it. Not reached: more preemptions or threads, and workers that spin before they park.
//!
//!     RUSTFLAGS="--cfg loom" cargo test -p residual-threads --test loom --target-dir target/loom
//!
//! Tasks write to loom's cells, and so does the caller before and after a job: a task that could still run, or whose
//! writes the caller could miss, is a failure.
#![cfg(loom)]

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use residual_threads::Pool;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// A counter that only one thread at a time may touch; loom checks it.
#[derive(Default)]
struct Counter(UnsafeCell<u32>);

// SAFETY: that accesses never overlap is what loom's cell checks.
unsafe impl Sync for Counter {}

impl Counter {
    fn add(&self) {
        // SAFETY: loom's cell panics if another thread could be at it.
        self.0.with_mut(|count| unsafe { *count += 1 });
    }

    fn get(&self) -> u32 {
        // SAFETY: as above.
        self.0.with(|count| unsafe { *count })
    }
}

/// Runs `tasks` tasks, each of which counts in a cell of its own on the caller's stack, and checks that each did once.
fn job(pool: &Pool, tasks: usize) {
    let counters: Vec<Counter> = (0..tasks).map(|_| Counter::default()).collect();
    pool.run(tasks, |task, _| counters[task].add());
    assert!(counters.iter().all(|counter| counter.get() == 1));
}

fn model(preemptions: Option<usize>, body: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = preemptions;
    builder.check(body);
}

#[test]
fn every_task_runs_once_and_is_seen_by_the_caller() {
    model(Some(4), || job(&Pool::new(2), 2));
}

#[test]
fn jobs_follow_each_other() {
    model(Some(2), || {
        let pool = Pool::new(2);
        job(&pool, 2);
        job(&pool, 3);
    });
}

#[test]
fn workers_share_a_job() {
    model(Some(2), || job(&Pool::new(3), 3));
}

#[test]
fn callers_take_turns() {
    model(Some(2), || {
        let pool = Arc::new(Pool::new(2));
        let other = loom::thread::spawn({
            let pool = Arc::clone(&pool);
            move || job(&pool, 2)
        });
        job(&pool, 2);
        other.join().unwrap();
    });
}

#[test]
fn a_panic_leaves_no_worker_inside() {
    model(Some(3), || {
        let pool = Pool::new(2);
        let counters = [Counter::default(), Counter::default()];
        let run = || {
            pool.run(2, |task, _| {
                counters[task].add();
                std::panic::resume_unwind(Box::new(task));
            });
        };
        assert!(catch_unwind(AssertUnwindSafe(run)).is_err());
        assert!(counters.iter().map(Counter::get).sum::<u32>() >= 1);
        job(&pool, 2);
    });
}
