//! The pass that reads every image once, in parallel: memory is that of the records, and of one decoded image a thread.

use crate::Collection;
use crate::record::Record;
use residual_data::Sample;
use residual_engine::Options;
use residual_preprocess::Image;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

/// Images between two looks at the stop flag, for each thread.
const BETWEEN: usize = 8;

/// The record of every image, in order; `None` if `stop` was set. `on_images` gets the number of images done.
pub(crate) fn scan(
    images: &Collection,
    options: &Options,
    stop: &AtomicBool,
    on_images: &mut dyn FnMut(usize),
) -> Option<Vec<Record>> {
    let all: Vec<usize> = (0..images.len()).collect();
    in_parallel(&all, options, stop, on_images, |index| Record::read(images, index))
}

/// `read` of each of these images, in their order; `None` if `stop` was set.
pub(crate) fn in_parallel<T: Send + Sync>(
    indices: &[usize],
    options: &Options,
    stop: &AtomicBool,
    on_images: &mut dyn FnMut(usize),
    read: impl Fn(usize) -> T + Sync,
) -> Option<Vec<T>> {
    let mut results = Vec::with_capacity(indices.len());
    for chunk in indices.chunks(BETWEEN * options.pool.threads()) {
        if stop.load(Ordering::Relaxed) {
            return None;
        }
        let slots: Vec<OnceLock<T>> = chunk.iter().map(|_| OnceLock::new()).collect();
        options.pool.run(chunk.len(), |task, _| {
            let _ = slots[task].set(read(chunk[task]));
        });
        results.extend(slots.into_iter().map(|slot| slot.into_inner().expect("every task was run")));
        on_images(results.len());
    }
    Some(results)
}

/// Image `index` decoded; `None` if it cannot be read or has normalised values.
pub(crate) fn pixels(images: &Collection, index: usize) -> Option<Image> {
    match images.sample(index) {
        Ok(Sample::Pixels(image)) => Some(image),
        _ => None,
    }
}
