//! The pool. This file holds the one `unsafe` of the crate: handing a closure that lives on the caller's stack to
//! threads that outlive it. No safe construct of the standard library does that without starting new threads for
//! every job, which takes longer than a small layer.

use crate::sync::{
    Arc, AtomicBool, AtomicU64, AtomicUsize, Builder, Condvar, JoinHandle, Mutex, MutexGuard, Ordering, spin_loop,
    thread_local, yield_now,
};
use std::any::Any;
use std::cell::Cell;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::PoisonError;
use std::time::{Duration, Instant};

/// How long a worker that found no job keeps looking before it parks. Longer than the gap between two layers of a
/// network, shorter than anything a person or a loader would notice.
#[cfg(not(loom))]
const SPIN: Duration = Duration::from_micros(100);
/// loom has no clock: workers park at once.
#[cfg(loom)]
const SPIN: Duration = Duration::ZERO;

/// Set in [`Shared::state`] while workers may join the job.
const OPEN: u64 = 1 << 31;
/// The workers inside the job: the low bits of [`Shared::state`].
const INSIDE: u64 = OPEN - 1;
/// One job, in the high bits of [`Shared::state`].
const GENERATION: u64 = 1 << 32;

#[cfg(not(loom))]
thread_local! {
    static IN_TASK: Cell<bool> = const { Cell::new(false) };
}
#[cfg(loom)]
thread_local! {
    static IN_TASK: Cell<bool> = Cell::new(false);
}

/// A fixed number of threads, including the caller's, that run the tasks of one job at a time.
///
/// The tasks of a job are partitioned into one range for each thread; a thread that has finished its own range steals
/// tasks from other ranges. Jobs whose tasks access memory in the same order, as the layers of a network do, thus find
/// their input in the cache of the core that wrote it.
///
/// A worker without a job spins for 100 µs, then parks; a job does not wait for a worker that wakes up late.
pub struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    /// Held during a job, so that callers run one after the other.
    caller: Mutex<()>,
}

type Task<'a> = &'a (dyn Fn(usize, usize) + Sync);

struct Shared {
    state: AtomicU64,
    job: Mutex<Option<Task<'static>>>,
    tasks: AtomicUsize,
    /// For each thread the next task of its range.
    next: Box<[Next]>,
    /// The payload of the job's first panic.
    panic: Mutex<Option<Box<dyn Any + Send>>>,
    parked: AtomicUsize,
    sleep: Mutex<()>,
    wake: Condvar,
    stop: AtomicBool,
}

/// Padded to its own cache line, or two that are fetched together.
#[repr(align(128))]
struct Next(AtomicUsize);

/// Why a pool could not be created.
#[derive(Debug, thiserror::Error)]
pub enum PoolError {
    /// An invalid number of threads.
    #[error("threads: expected 1 to {max}, got {0}", max = Pool::MAX_THREADS)]
    Count(usize),
    /// The system started fewer.
    #[error("threads: expected {threads}, the system started {started}")]
    Refused {
        /// The requested number.
        threads: usize,
        /// The number of threads before the system refused, including the caller's.
        started: usize,
        /// The system's reason.
        source: io::Error,
    },
}

impl Pool {
    /// Maximum number of threads of a pool: more than any machine has cores, and few enough that their stacks leave a
    /// process its memory mappings.
    pub const MAX_THREADS: usize = 1024;

    /// A pool of up to `threads` threads in total: fewer, down to the caller's alone, if `threads` exceeds
    /// [`Pool::MAX_THREADS`] or the system refuses to start them. [`Pool::threads`] returns the number.
    ///
    /// # Panics
    /// If `threads` is zero.
    pub fn new(threads: usize) -> Self {
        let mut threads = threads.min(Self::MAX_THREADS);
        loop {
            match Self::try_new(threads) {
                Ok(pool) => return pool,
                Err(PoolError::Refused { started, .. }) => threads = started,
                Err(error @ PoolError::Count(_)) => panic!("{error}"),
            }
        }
    }

    /// A pool of exactly `threads` threads in total.
    ///
    /// # Errors
    /// If `threads` is zero or above [`Pool::MAX_THREADS`], or the system refuses to start one. Threads that were already
    /// started are ended.
    pub fn try_new(threads: usize) -> Result<Self, PoolError> {
        if !(1..=Self::MAX_THREADS).contains(&threads) {
            return Err(PoolError::Count(threads));
        }
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
        let mut pool = Self { shared, workers: Vec::with_capacity(threads - 1), caller: Mutex::new(()) };
        for worker in 1..threads {
            let shared = Arc::clone(&pool.shared);
            let thread = Builder::new().name(format!("residual-compute-{worker}"));
            match thread.spawn(move || shared.work(worker)) {
                Ok(worker) => pool.workers.push(worker),
                Err(source) => return Err(PoolError::Refused { threads, started: pool.threads(), source }),
            }
        }
        Ok(pool)
    }

    /// The number of threads, including the caller's.
    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Calls `task(index, worker)` once for every index below `tasks`, on all threads, and returns when all calls have.
    /// `worker` is below [`Pool::threads`], and no two calls of one job that overlap in time have the same.
    ///
    /// Jobs of several calling threads run one after the other. A job of a single task, or of a pool of one thread, does
    /// not wait: the caller runs it immediately as worker 0, concurrently with other jobs.
    ///
    /// # Panics
    /// If a task panics, with the payload of the first one, after all threads have left the job; the payloads of others
    /// are leaked. Or if called from within a task.
    pub fn run(&self, tasks: usize, task: impl Fn(usize, usize) + Sync) {
        assert!(!IN_TASK.with(Cell::get), "a task cannot run a job of its own");
        if self.workers.is_empty() || tasks < 2 {
            (0..tasks).for_each(|index| task(index, 0));
            return;
        }
        let panic = {
            let _turn = lock(&self.caller);
            let task: Task<'_> = &task;
            // SAFETY: only the lifetime changes. Workers copy the reference out of `job` after they have entered the job
            // (`state` counts them inside) and leave before they drop it; dropping `job` below, however this scope is
            // left, does not return while one is inside, and clears it. So no use of the reference outlives this call.
            let task: Task<'static> = unsafe { std::mem::transmute::<Task<'_>, Task<'static>>(task) };
            let job = self.shared.open(task, tasks);
            self.shared.take_tasks(task, 0);
            drop(job);
            lock(&self.shared.panic).take()
        };
        if let Some(panic) = panic {
            resume_unwind(panic);
        }
    }
}

/// A job that workers may join. Dropping it waits until they have left.
struct Job<'a>(&'a Shared);

impl Drop for Job<'_> {
    fn drop(&mut self) {
        self.0.close();
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
    fn open(&self, task: Task<'static>, tasks: usize) -> Job<'_> {
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
        Job(self)
    }

    fn close(&self) {
        self.state.fetch_and(!OPEN, Ordering::AcqRel);
        let mut spins = 0u32;
        while self.state.load(Ordering::Acquire) & INSIDE != 0 {
            spins += 1;
            // A worker that holds a task may have lost its core.
            if spins > 10_000 { yield_now() } else { spin_loop() }
        }
        *lock(&self.job) = None;
    }

    /// The first task of a thread's range, or the end of the last one's.
    fn first(&self, tasks: usize, thread: usize) -> usize {
        let threads = self.next.len();
        tasks / threads * thread + tasks % threads * thread / threads
    }

    fn take_tasks(&self, task: Task<'_>, worker: usize) {
        let tasks = self.tasks.load(Ordering::Relaxed);
        let result = catch_unwind(AssertUnwindSafe(|| {
            IN_TASK.with(|inside| inside.set(true));
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
        IN_TASK.with(|inside| inside.set(false));
        if let Err(panic) = result {
            self.next.iter().for_each(|next| next.0.store(tasks, Ordering::Relaxed));
            let mut first = lock(&self.panic);
            if first.is_none() {
                *first = Some(panic);
            } else {
                // Dropping it runs code of the task, which may panic while this thread still counts as inside the job.
                std::mem::forget(panic);
            }
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
        let start = Instant::now();
        while start.elapsed() < SPIN {
            for _ in 0..64 {
                if let Some(generation) = ready() {
                    return Some(generation);
                }
                spin_loop();
            }
        }
        let mut guard = lock(&self.sleep);
        self.parked.fetch_add(1, Ordering::SeqCst);
        let generation = loop {
            if self.stop.load(Ordering::SeqCst) {
                break None;
            }
            if let Some(generation) = ready() {
                break Some(generation);
            }
            guard = self.wake.wait(guard).unwrap_or_else(PoisonError::into_inner);
        };
        self.parked.fetch_sub(1, Ordering::SeqCst);
        generation
    }
}

/// No code panics while it holds one of this file's locks, so poisoning can be ignored.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
