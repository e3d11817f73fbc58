//! The pool. This file holds the one `unsafe` of the crate: handing a closure that lives on the caller's stack to
//! threads that outlive it. No safe construct of the standard library does that without starting threads anew for
//! every job, which costs more than a small layer takes.

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long a worker that found no job keeps looking before it parks. Longer than the gap between two layers of a
/// network, shorter than anything a person or a loader would notice.
const SPIN: Duration = Duration::from_micros(100);

/// Set in [`Shared::state`] while workers may join the job.
const OPEN: u64 = 1 << 31;
/// The workers inside the job: the low bits of [`Shared::state`].
const INSIDE: u64 = OPEN - 1;
/// One job, in the high bits of [`Shared::state`].
const GENERATION: u64 = 1 << 32;

thread_local! {
    static IN_TASK: Cell<bool> = const { Cell::new(false) };
}

/// A fixed number of threads, the caller's among them, that run the tasks of one job at a time.
///
/// Every thread begins with a run of tasks of its own, and helps the others when that is done. Jobs whose tasks go through
/// memory in the same order, as the layers of a network do, thus find what they read in the cache of the core that wrote it.
///
/// A worker without a job spins for 100 µs, then parks; a job does not wait for a worker that wakes up late.
pub struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    /// Held for the length of a job, so that two callers take turns.
    caller: Mutex<()>,
}

type Task<'a> = &'a (dyn Fn(usize, usize) + Sync);

struct Shared {
    state: AtomicU64,
    job: Mutex<Option<Task<'static>>>,
    tasks: AtomicUsize,
    /// For each thread the next of its run of tasks.
    next: Box<[Next]>,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
    parked: AtomicUsize,
    sleep: Mutex<()>,
    wake: Condvar,
    stop: AtomicBool,
}

/// In a cache line of its own, or two that are fetched together.
#[repr(align(128))]
struct Next(AtomicUsize);

impl Pool {
    /// A pool of `threads` threads in all; 1 starts none.
    ///
    /// # Panics
    /// If `threads` is zero or the system refuses to start a thread.
    pub fn new(threads: usize) -> Self {
        assert!(threads > 0, "a pool needs at least one thread");
        let shared = Arc::new(Shared {
            state: AtomicU64::new(0),
            job: Mutex::new(None),
            tasks: AtomicUsize::new(0),
            next: (0..threads).map(|_| Next(AtomicUsize::new(0))).collect(),
            panic: Mutex::new(None),
            parked: AtomicUsize::new(0),
            sleep: Mutex::new(()),
            wake: Condvar::new(),
            stop: AtomicBool::new(false),
        });
        let workers = (1..threads)
            .map(|worker| {
                let shared = Arc::clone(&shared);
                std::thread::Builder::new()
                    .name(format!("residual-compute-{worker}"))
                    .spawn(move || shared.work(worker))
                    .expect("the system starts a compute thread")
            })
            .collect();
        Self { shared, workers, caller: Mutex::new(()) }
    }

    /// The number of threads, the caller's included.
    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Calls `task(index, worker)` once for every index below `tasks`, on all threads, and returns when all calls have.
    /// `worker` is below [`Pool::threads`] and no two calls that overlap in time have the same.
    ///
    /// # Panics
    /// If a task panics, with its message, after all threads have left the job; or if called from within a task.
    pub fn run(&self, tasks: usize, task: impl Fn(usize, usize) + Sync) {
        assert!(!IN_TASK.get(), "a task cannot run a job of its own");
        if self.workers.is_empty() || tasks < 2 {
            (0..tasks).for_each(|index| task(index, 0));
            return;
        }
        let _turn = lock(&self.caller);
        let task: Task<'_> = &task;
        // SAFETY: only the lifetime changes. Workers copy the reference out of `job` after they have entered
        // the job (`state` counts them inside) and leave before they drop it; `close` below does not return
        // while one is inside, and clears `job`, so no use of the reference outlives this call.
        let task: Task<'static> = unsafe { std::mem::transmute::<Task<'_>, Task<'static>>(task) };
        self.shared.open(task, tasks);
        self.shared.take_tasks(task, 0);
        self.shared.close();
        if let Some(panic) = lock(&self.shared.panic).take() {
            resume_unwind(panic);
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        drop(lock(&self.shared.sleep));
        self.shared.wake.notify_all();
        for worker in self.workers.drain(..) {
            // A worker catches its tasks' panics, so it always ends in order.
            let _ = worker.join();
        }
    }
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Pool({} threads)", self.threads())
    }
}

impl Shared {
    fn open(&self, task: Task<'static>, tasks: usize) {
        *lock(&self.job) = Some(task);
        self.tasks.store(tasks, Ordering::Relaxed);
        for (thread, next) in self.next.iter().enumerate() {
            next.0.store(self.first(tasks, thread), Ordering::Relaxed);
        }
        let generation = self.state.load(Ordering::Relaxed) & !(GENERATION - 1);
        self.state.store(generation.wrapping_add(GENERATION) | OPEN, Ordering::SeqCst);
        if self.parked.load(Ordering::SeqCst) > 0 {
            drop(lock(&self.sleep));
            self.wake.notify_all();
        }
    }

    fn close(&self) {
        self.state.fetch_and(!OPEN, Ordering::AcqRel);
        let mut spins = 0u32;
        while self.state.load(Ordering::Acquire) & INSIDE != 0 {
            spins += 1;
            // A worker that holds a task may have lost its core.
            if spins > 10_000 { std::thread::yield_now() } else { std::hint::spin_loop() }
        }
        *lock(&self.job) = None;
    }

    /// The first task of a thread's run, or the end of the last one's.
    fn first(&self, tasks: usize, thread: usize) -> usize {
        let threads = self.next.len();
        tasks / threads * thread + tasks % threads * thread / threads
    }

    fn take_tasks(&self, task: Task<'_>, worker: usize) {
        let tasks = self.tasks.load(Ordering::Relaxed);
        let result = catch_unwind(AssertUnwindSafe(|| {
            IN_TASK.set(true);
            let threads = self.next.len();
            for owner in (worker..threads).chain(0..worker) {
                let end = self.first(tasks, owner + 1);
                loop {
                    let index = self.next[owner].0.fetch_add(1, Ordering::Relaxed);
                    if index >= end {
                        break;
                    }
                    task(index, worker);
                }
            }
        }));
        IN_TASK.set(false);
        if let Err(panic) = result {
            self.next.iter().for_each(|next| next.0.store(tasks, Ordering::Relaxed));
            lock(&self.panic).get_or_insert(panic);
        }
    }

    fn work(&self, worker: usize) {
        let mut done = 0;
        while let Some(generation) = self.wait(done) {
            let state = self.state.load(Ordering::Acquire);
            let still_open = state & OPEN != 0 && state / GENERATION == generation;
            if still_open && self.state.compare_exchange(state, state + 1, Ordering::AcqRel, Ordering::Relaxed).is_ok()
            {
                let task = *lock(&self.job);
                if let Some(task) = task {
                    self.take_tasks(task, worker);
                }
                self.state.fetch_sub(1, Ordering::Release);
                done = generation;
            }
        }
    }

    /// Waits for an open job other than `done`; `None` when the pool is dropped.
    fn wait(&self, done: u64) -> Option<u64> {
        let ready = || {
            let state = self.state.load(Ordering::SeqCst);
            (state & OPEN != 0 && state / GENERATION != done).then_some(state / GENERATION)
        };
        loop {
            let start = Instant::now();
            while start.elapsed() < SPIN {
                for _ in 0..64 {
                    if let Some(generation) = ready() {
                        return Some(generation);
                    }
                    std::hint::spin_loop();
                }
            }
            let mut guard = lock(&self.sleep);
            self.parked.fetch_add(1, Ordering::SeqCst);
            while ready().is_none() && !self.stop.load(Ordering::SeqCst) {
                guard = self.wake.wait(guard).unwrap_or_else(PoisonError::into_inner);
            }
            self.parked.fetch_sub(1, Ordering::SeqCst);
            if self.stop.load(Ordering::SeqCst) {
                return None;
            }
        }
    }
}

/// No code panics while it holds one of this file's locks, so a poisoned one is as good as any.
fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
