//! The parallel loader: batches in a fixed order, the same for any number of workers.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use residual_tensor::{AlignedBuffer, Stream};

use crate::targets::TargetBuffer;
use crate::{DataError, Dataset, SampleRandom, Targets, Transform};

/// How a [`Loader`] goes through a dataset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoaderOptions {
    /// Images a batch.
    pub batch_size: usize,
    /// Whether the order is a permutation drawn from (seed, epoch) or the dataset's.
    pub shuffle: bool,
    /// Whether every batch is full: the last one is left out if it is not, and with
    /// [`skip_bad_images`](Self::skip_bad_images) another image takes the place of a bad one.
    pub drop_last: bool,
    /// Decides, with the epoch and the index of the sample or batch, the order and every augmentation.
    pub seed: u64,
    /// The epoch, from 0.
    pub epoch: u64,
    /// The first batch to yield, from 0: where an interrupted epoch goes on.
    pub start_batch: usize,
    /// Threads that prepare batches ahead; 0 prepares them on the caller's thread.
    pub workers: usize,
    /// Whether a [bad image](DataError::is_bad_image) is left out and [listed](Loader::skipped) or ends the epoch.
    pub skip_bad_images: bool,
}

impl Default for LoaderOptions {
    /// Evaluation on the caller's thread: batches of 128, in order, the last one included.
    fn default() -> Self {
        Self {
            batch_size: 128,
            shuffle: false,
            drop_last: false,
            seed: 0,
            epoch: 0,
            start_batch: 0,
            workers: 0,
            skip_bad_images: false,
        }
    }
}

/// Normalised images and their targets.
#[derive(Debug)]
pub struct Batch {
    content: Content,
    image_len: usize,
    spare: Arc<Mutex<Vec<Content>>>,
}

impl Batch {
    /// The images: n × height × width × channels (NHWC).
    pub fn images(&self) -> &[f32] {
        &self.content.images[..self.len() * self.image_len]
    }

    /// What the images should be classified as.
    pub fn targets(&self) -> Targets<'_> {
        self.content.targets.targets()
    }

    /// The class of each image; where images are mixed, that of the image which another was mixed into.
    pub fn labels(&self) -> &[u32] {
        self.content.targets.labels()
    }

    /// Where each image stands in the dataset.
    pub fn indices(&self) -> &[usize] {
        &self.content.indices
    }

    /// The number of images; 0 if all of them were bad and skipped.
    pub fn len(&self) -> usize {
        self.content.indices.len()
    }

    /// Whether there are no images.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Drop for Batch {
    /// The memory goes back to the loader, for a later batch.
    fn drop(&mut self) {
        lock(&self.spare).push(std::mem::take(&mut self.content));
    }
}

/// An image that was left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// Where it stands in the dataset.
    pub index: usize,
    /// Which it is and what is wrong with it, in one line.
    pub reason: String,
}

/// One epoch's batches, prepared in parallel and at most a few ahead. Dropping it ends its threads.
pub struct Loader {
    job: Arc<Job>,
    threads: Vec<JoinHandle<()>>,
    next: usize,
    failed: bool,
    skipped: Vec<Skipped>,
}

impl Loader {
    /// Starts the workers.
    ///
    /// # Errors
    /// [`DataError::Invalid`] for a batch size of 0, an empty dataset, or one that `transform` cannot take;
    /// [`DataError::Thread`] if a thread cannot be started.
    pub fn new(dataset: Arc<dyn Dataset>, transform: Transform, options: LoaderOptions) -> Result<Self, DataError> {
        if options.batch_size == 0 {
            return Err(DataError::invalid("batch size", "at least 1", 0));
        }
        if dataset.is_empty() {
            return Err(DataError::invalid("dataset", "at least one image", "none"));
        }
        transform.check(&*dataset)?;
        let mut order: Vec<u32> = (0..dataset.len() as u32).collect();
        if options.shuffle {
            Stream::new(options.seed, &[options.epoch]).shuffle(&mut order);
        }
        let batches =
            if options.drop_last { order.len() / options.batch_size } else { order.len().div_ceil(options.batch_size) };
        let next = options.start_batch.min(batches);
        let ahead = options.workers + 2;
        let progress =
            Progress { issued: next, delivered: next, ready: std::iter::repeat_with(|| None).take(ahead).collect() };
        let job = Arc::new(Job {
            dataset,
            transform,
            order,
            batches,
            ahead,
            progress: Mutex::new(progress),
            changed: Condvar::new(),
            stop: AtomicBool::new(false),
            spare: Arc::default(),
            options,
        });
        let mut loader = Self { job, threads: Vec::new(), next, failed: false, skipped: Vec::new() };
        for worker in 0..loader.job.options.workers.min(batches - next) {
            let job = loader.job.clone();
            let thread = std::thread::Builder::new().name(format!("loader-{worker}")).spawn(move || job.work());
            loader.threads.push(thread.map_err(DataError::Thread)?);
        }
        Ok(loader)
    }

    /// The number of batches in the epoch, those before the start included.
    pub fn batches(&self) -> usize {
        self.job.batches
    }

    /// The images that were left out of the batches yielded so far, in their order.
    pub fn skipped(&self) -> &[Skipped] {
        &self.skipped
    }
}

impl Iterator for Loader {
    type Item = Result<Batch, DataError>;

    /// The next batch; after an error there are no more.
    fn next(&mut self) -> Option<Self::Item> {
        if self.failed || self.next == self.job.batches {
            return None;
        }
        let outcome = if self.threads.is_empty() { self.job.prepare(self.next) } else { self.job.take(self.next) };
        self.next += 1;
        Some(match outcome {
            Ok((content, skipped)) => {
                self.skipped.extend(skipped);
                Ok(Batch { content, image_len: self.job.transform.output_len(), spare: self.job.spare.clone() })
            }
            Err(error) => {
                self.failed = true;
                Err(error)
            }
        })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = if self.failed { 0 } else { self.job.batches - self.next };
        (0, Some(left))
    }
}

impl Drop for Loader {
    fn drop(&mut self) {
        self.job.stop.store(true, Ordering::Relaxed);
        // Under the lock, so that no worker is between its look at `stop` and its sleep.
        drop(lock(&self.job.progress));
        self.job.changed.notify_all();
        for thread in self.threads.drain(..) {
            // A worker catches its panics; there is nothing to hear from it.
            let _ = thread.join();
        }
    }
}

#[derive(Debug)]
struct Content {
    images: AlignedBuffer,
    targets: TargetBuffer,
    indices: Vec<usize>,
}

impl Default for Content {
    fn default() -> Self {
        Self { images: AlignedBuffer::zeros(0), targets: TargetBuffer::default(), indices: Vec::new() }
    }
}

type Outcome = Result<(Content, Vec<Skipped>), DataError>;

/// What the workers and the caller share.
struct Job {
    dataset: Arc<dyn Dataset>,
    transform: Transform,
    options: LoaderOptions,
    order: Vec<u32>,
    batches: usize,
    /// How many batches may be in work or ready at once.
    ahead: usize,
    progress: Mutex<Progress>,
    changed: Condvar,
    stop: AtomicBool,
    spare: Arc<Mutex<Vec<Content>>>,
}

struct Progress {
    issued: usize,
    delivered: usize,
    /// Batches that are ready, each at its number modulo `ahead`.
    ready: Vec<Option<Outcome>>,
}

impl Job {
    /// A worker's life: take the next batch's number, prepare it, lay it out.
    fn work(&self) {
        let mut progress = lock(&self.progress);
        loop {
            if self.stopped() || progress.issued == self.batches {
                return;
            }
            if progress.issued == progress.delivered + self.ahead {
                progress = self.changed.wait(progress).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            let batch = progress.issued;
            progress.issued += 1;
            drop(progress);
            let outcome = self.prepare(batch);
            progress = lock(&self.progress);
            progress.ready[batch % self.ahead] = Some(outcome);
            self.changed.notify_all();
        }
    }

    /// Waits for a batch that a worker prepares.
    fn take(&self, batch: usize) -> Outcome {
        let mut progress = lock(&self.progress);
        loop {
            if let Some(outcome) = progress.ready[batch % self.ahead].take() {
                progress.delivered = batch + 1;
                self.changed.notify_all();
                return outcome;
            }
            progress = self.changed.wait(progress).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn prepare(&self, batch: usize) -> Outcome {
        let size = self.options.batch_size;
        let order = &self.order[batch * size..((batch + 1) * size).min(self.order.len())];
        let image_len = self.transform.output_len();
        let mut content = lock(&self.spare).pop().unwrap_or_default();
        content.targets.clear();
        content.indices.clear();
        if content.images.is_empty() {
            let values = size.checked_mul(image_len);
            content.images = values.and_then(AlignedBuffer::try_zeros).ok_or_else(|| DataError::Memory {
                what: format!("a batch of {size} images"),
                bytes: (size as u64).saturating_mul(4 * image_len as u64),
            })?;
        }
        let mut skipped = Vec::new();
        for &index in order {
            if self.stopped() {
                break;
            }
            let place = &mut content.images[content.indices.len() * image_len..][..image_len];
            if let Some(index) = self.place(index as usize, place, &mut skipped)? {
                content.targets.push(self.dataset.label(index), self.dataset.soft_label(index));
                content.indices.push(index);
            }
        }
        let LoaderOptions { seed, epoch, .. } = self.options;
        let images = &mut content.images[..content.indices.len() * image_len];
        self.transform.mix(images, &mut content.targets, &mut Stream::new(seed, &[epoch, batch as u64, MIX]));
        Ok((content, skipped))
    }

    /// Prepares sample `index`, or the one that takes its place; `None` if it is left out. Depends on nothing but
    /// (seed, epoch, index).
    fn place(&self, index: usize, place: &mut [f32], skipped: &mut Vec<Skipped>) -> Result<Option<usize>, DataError> {
        const TRIES: usize = 100;
        let LoaderOptions { seed, epoch, skip_bad_images, drop_last, .. } = self.options;
        let error = match self.fill(index, place) {
            Ok(()) => return Ok(Some(index)),
            Err(error) if skip_bad_images && error.is_bad_image() => error,
            Err(error) => return Err(error),
        };
        skipped.push(Skipped { index, reason: error.to_string() });
        if !drop_last {
            return Ok(None);
        }
        let mut random = SampleRandom::new(seed, epoch, index).stream_of(SUBSTITUTE);
        for _ in 0..TRIES {
            let other = self.order[random.below(self.order.len() as u32) as usize] as usize;
            match self.fill(other, place) {
                Ok(()) => return Ok(Some(other)),
                Err(error) if error.is_bad_image() => {}
                Err(error) => return Err(error),
            }
        }
        Err(error)
    }

    fn fill(&self, index: usize, place: &mut [f32]) -> Result<(), DataError> {
        let describe = || self.dataset.describe(index);
        let random = SampleRandom::new(self.options.seed, self.options.epoch, index);
        let filled = catch_unwind(AssertUnwindSafe(|| {
            self.transform.apply(&self.dataset.sample(index)?, random, place, &describe)
        }));
        filled.unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
            Err(DataError::Panic { place: describe(), message: text.lines().collect::<Vec<_>>().join(" ") })
        })
    }
}

/// Keeps the draw of substitutes apart from other random numbers of the same epoch and sample.
const SUBSTITUTE: u64 = u64::from_be_bytes(*b"substitu");
/// Keeps the mixing of a batch apart from the samples' random numbers.
const MIX: u64 = u64::from_be_bytes(*b"mixbatch");

/// A lock whatever other threads did: every state the lock guards is whole between two statements.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
