//! The parallel loader: batches in a fixed order, the same for any number of workers.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use residual_tensor::{AlignedBuffer, Stream};

use crate::augment::Canvas;
use crate::sampler::{Draw, Sampler};
use crate::targets::TargetBuffer;
use crate::transform::Pixels;
use crate::{DataError, Dataset, SampleRandom, Targets, Transform};

/// Options of a [`Loader`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoaderOptions {
    /// Batch size.
    pub batch_size: usize,
    /// The order of the samples.
    pub sampler: Sampler,
    /// How often each sample is repeated, with other augmentations, before the next one; an epoch has a fraction of the images
    /// then. At least 1.
    pub repeats: usize,
    /// Whether every batch is full: an incomplete last batch is dropped, and with
    /// [`skip_bad_images`](Self::skip_bad_images) a bad image is replaced by another one.
    pub drop_last: bool,
    /// The random seed; with the epoch and the index of the sample or batch it determines order and augmentation.
    pub seed: u64,
    /// The epoch, from 0.
    pub epoch: u64,
    /// The first batch to yield, from 0, to resume an interrupted epoch.
    pub start_batch: usize,
    /// Data-loading threads; 0 prepares batches on the caller's thread.
    pub workers: usize,
    /// Whether a [bad image](DataError::is_bad_image) is skipped and [listed](Loader::skipped), or ends the epoch.
    pub skip_bad_images: bool,
}

impl Default for LoaderOptions {
    /// Evaluation on the caller's thread: batches of 128, in order, the last one included.
    fn default() -> Self {
        Self {
            batch_size: 128,
            sampler: Sampler::InOrder,
            repeats: 1,
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
    /// The images: n × height × width × channels (NHWC), or n × views × height × width × channels where the transform has
    /// several [views](Transform::views).
    pub fn images(&self) -> &[f32] {
        &self.content.images[..self.len() * self.image_len]
    }

    /// The targets of the images.
    pub fn targets(&self) -> Targets<'_> {
        self.content.targets.targets()
    }

    /// The label of each image; if images are mixed, the label of the first image.
    pub fn labels(&self) -> &[u32] {
        self.content.targets.labels()
    }

    /// The dataset index of each image.
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
    /// Returns the memory to the loader, for a later batch.
    fn drop(&mut self) {
        lock(&self.spare).push(std::mem::take(&mut self.content));
    }
}

/// A skipped image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// Its dataset index.
    pub index: usize,
    /// The image and its error, in one line.
    pub reason: String,
}

/// One epoch's batches, prepared in parallel, at most a few in advance. Dropping it ends its threads.
pub struct Loader {
    job: Arc<Job>,
    threads: Vec<JoinHandle<()>>,
    next: usize,
    failed: bool,
    skipped: Vec<Skipped>,
    /// The canvas of the caller's thread.
    canvas: Canvas,
}

impl Loader {
    /// Starts the workers.
    ///
    /// # Errors
    /// [`DataError::Invalid`] for a batch size or repeats of 0, an empty dataset, or one that `transform` or the sampler cannot
    /// take;
    /// [`DataError::Thread`] if a thread cannot be started.
    pub fn new(dataset: Arc<dyn Dataset>, transform: Transform, options: LoaderOptions) -> Result<Self, DataError> {
        if options.batch_size == 0 {
            return Err(DataError::invalid("batch size", "at least 1", 0));
        }
        if dataset.is_empty() {
            return Err(DataError::invalid("dataset", "at least one image", "none"));
        }
        transform.check(&*dataset)?;
        if options.repeats == 0 {
            return Err(DataError::invalid("repeats", "at least 1", 0));
        }
        let order = options.sampler.order(&*dataset, options.repeats, options.seed, options.epoch)?;
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
        let mut loader =
            Self { job, threads: Vec::new(), next, failed: false, skipped: Vec::new(), canvas: Canvas::default() };
        for worker in 0..loader.job.options.workers.min(batches - next) {
            let job = loader.job.clone();
            let thread = std::thread::Builder::new().name(format!("loader-{worker}")).spawn(move || job.work());
            loader.threads.push(thread.map_err(DataError::Thread)?);
        }
        Ok(loader)
    }

    /// The number of batches in the epoch, including those before the start.
    pub fn batches(&self) -> usize {
        self.job.batches
    }

    /// The images skipped in the batches yielded so far, in order.
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
        let outcome = if self.threads.is_empty() {
            self.job.prepare(self.next, &mut self.canvas)
        } else {
            self.job.take(self.next)
        };
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
        // Under the lock, so that no worker is between checking `stop` and sleeping.
        drop(lock(&self.job.progress));
        self.job.changed.notify_all();
        for thread in self.threads.drain(..) {
            // Workers catch their panics, so the result carries no information.
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

/// State shared by the workers and the caller.
struct Job {
    dataset: Arc<dyn Dataset>,
    transform: Transform,
    options: LoaderOptions,
    order: Vec<Draw>,
    batches: usize,
    /// Maximum number of batches in preparation or ready.
    ahead: usize,
    progress: Mutex<Progress>,
    changed: Condvar,
    stop: AtomicBool,
    spare: Arc<Mutex<Vec<Content>>>,
}

struct Progress {
    issued: usize,
    delivered: usize,
    /// Ready batches, each at its index modulo `ahead`.
    ready: Vec<Option<Outcome>>,
}

impl Job {
    /// A worker's loop: take the next batch index, prepare the batch, publish it.
    fn work(&self) {
        let mut canvas = Canvas::default();
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
            let outcome = self.prepare(batch, &mut canvas);
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

    fn prepare(&self, batch: usize, canvas: &mut Canvas) -> Outcome {
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
        for &draw in order {
            if self.stopped() {
                break;
            }
            let place = &mut content.images[content.indices.len() * image_len..][..image_len];
            if let Some(index) = self.place(draw, place, canvas, &mut skipped)? {
                content.targets.push(self.dataset.label(index), self.dataset.soft_label(index));
                content.indices.push(index);
            }
        }
        let LoaderOptions { seed, epoch, .. } = self.options;
        let images = &mut content.images[..content.indices.len() * image_len];
        let mut random = Stream::new(seed, &[epoch, batch as u64, MIX]);
        self.transform.mix(images, &mut content.targets, epoch, &mut random);
        Ok((content, skipped))
    }

    /// Prepares a sample or its substitute; `None` if it is skipped. A pure function of (seed, epoch, index, repeat).
    fn place(
        &self,
        draw: Draw,
        place: &mut [f32],
        canvas: &mut Canvas,
        skipped: &mut Vec<Skipped>,
    ) -> Result<Option<usize>, DataError> {
        const TRIES: usize = 100;
        let LoaderOptions { seed, epoch, skip_bad_images, drop_last, .. } = self.options;
        let index = draw.index as usize;
        let error = match self.fill(draw, place, canvas) {
            Ok(()) => return Ok(Some(index)),
            Err(error) if skip_bad_images && error.is_bad_image() => error,
            Err(error) => return Err(error),
        };
        skipped.push(Skipped { index, reason: error.to_string() });
        if !drop_last {
            return Ok(None);
        }
        let mut random = SampleRandom::new(seed, epoch, index).repeated(draw.repeat).stream_of(SUBSTITUTE);
        for _ in 0..TRIES {
            let other = self.order[random.below(self.order.len() as u32) as usize];
            match self.fill(other, place, canvas) {
                Ok(()) => return Ok(Some(other.index as usize)),
                Err(error) if error.is_bad_image() => {}
                Err(error) => return Err(error),
            }
        }
        Err(error)
    }

    fn fill(&self, draw: Draw, place: &mut [f32], canvas: &mut Canvas) -> Result<(), DataError> {
        let index = draw.index as usize;
        let describe = || self.dataset.describe(index);
        let random = SampleRandom::new(self.options.seed, self.options.epoch, index).repeated(draw.repeat);
        let filled = catch_unwind(AssertUnwindSafe(|| {
            if let Some(image) = self.dataset.decoded(index)? {
                return self.transform.apply_to_pixels(canvas, Pixels::Image(&image), random, place, &describe);
            }
            match self.dataset.encoded(index)? {
                Some(file) => self.transform.apply_to_pixels(canvas, Pixels::File(&file), random, place, &describe),
                None => self.transform.apply_on(canvas, &self.dataset.sample(index)?, random, place, &describe),
            }
        }));
        filled.unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
            Err(DataError::Panic { place: describe(), message: text.lines().collect::<Vec<_>>().join(" ") })
        })
    }
}

/// Salt of the random substitutes.
const SUBSTITUTE: u64 = u64::from_be_bytes(*b"substitu");
/// Salt of batch mixing.
const MIX: u64 = u64::from_be_bytes(*b"mixbatch");

/// Locks and ignores poisoning: the guarded state is consistent between any two statements.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
