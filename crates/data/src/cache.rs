//! Decoded images in memory.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use residual_preprocess::Image;

use crate::dataset::counted;
use crate::{DataError, Dataset, Format, Sample};

/// A limit of the memory of [decoded images](DecodedImages), which several datasets share.
#[derive(Debug)]
pub struct ImageMemory {
    limit: u64,
    used: AtomicU64,
    kept: AtomicUsize,
    refused: AtomicUsize,
}

impl ImageMemory {
    /// At most `limit` bytes of pixels.
    pub fn new(limit: u64) -> Arc<Self> {
        Arc::new(Self { limit, used: 0.into(), kept: 0.into(), refused: 0.into() })
    }

    /// Bytes of pixels that are kept.
    pub fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// In one line how much is kept, if some image did not fit; `None` if all did so far.
    pub fn shortage(&self) -> Option<String> {
        let refused = self.refused.load(Ordering::Relaxed);
        let kept = self.kept.load(Ordering::Relaxed);
        (refused > 0).then(|| {
            let images = counted(kept + refused, "image");
            let megabytes = self.limit / 1_000_000;
            format!(
                "{kept} of {images} that were read fit decoded in {megabytes} MB; the others are decoded every time"
            )
        })
    }

    /// Whether `bytes` are left, and now taken.
    fn reserve(&self, bytes: u64) -> bool {
        let taken = |used: u64| used.checked_add(bytes).filter(|&used| used <= self.limit);
        let fits = self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, taken).is_ok();
        let count = if fits { &self.kept } else { &self.refused };
        count.fetch_add(1, Ordering::Relaxed);
        fits
    }
}

/// A dataset of image files whose decoded pixels are kept in memory as far as they fit, in the order in which they are read, until it is
/// dropped. What a loader makes of it is the same with and without, to the bit. Files that change are not read again.
pub struct DecodedImages {
    whole: Arc<dyn Dataset>,
    memory: Arc<ImageMemory>,
    /// Empty where no image was read, `None` where it did not fit.
    images: Vec<OnceLock<Option<Arc<Image>>>>,
}

impl DecodedImages {
    /// The images of `whole`, kept within `memory`.
    pub fn new(whole: Arc<dyn Dataset>, memory: Arc<ImageMemory>) -> Self {
        let images = std::iter::repeat_with(OnceLock::new).take(whole.len()).collect();
        Self { whole, memory, images }
    }
}

impl Drop for DecodedImages {
    fn drop(&mut self) {
        let pixels =
            self.images.iter().filter_map(|image| image.get()?.as_ref()).map(|image| image.pixels().len() as u64);
        self.memory.used.fetch_sub(pixels.sum(), Ordering::Relaxed);
    }
}

impl Dataset for DecodedImages {
    fn len(&self) -> usize {
        self.whole.len()
    }

    fn label(&self, index: usize) -> u32 {
        self.whole.label(index)
    }

    fn soft_label(&self, index: usize) -> Option<&[f32]> {
        self.whole.soft_label(index)
    }

    fn is_multi_label(&self) -> bool {
        self.whole.is_multi_label()
    }

    fn class_names(&self) -> &[String] {
        self.whole.class_names()
    }

    fn sample(&self, index: usize) -> Result<Sample, DataError> {
        match self.decoded(index)? {
            Some(image) => Ok(Sample::Pixels(Image::clone(&image))),
            None => self.whole.sample(index),
        }
    }

    fn encoded(&self, index: usize) -> Result<Option<Vec<u8>>, DataError> {
        self.whole.encoded(index)
    }

    fn decoded(&self, index: usize) -> Result<Option<Arc<Image>>, DataError> {
        if let Some(image) = self.images[index].get() {
            return Ok(image.clone());
        }
        // Datasets without files have their pixels in memory.
        let Some(file) = self.whole.encoded(index)? else { return Ok(None) };
        let place = || self.whole.describe(index);
        let decoded = Image::decode(&file).map_err(|cause| DataError::Image { place: place(), cause })?;
        let decoded = Arc::new(decoded);
        self.images[index].get_or_init(|| {
            let fits = self.memory.reserve(decoded.pixels().len() as u64);
            fits.then(|| decoded.clone())
        });
        Ok(Some(decoded))
    }

    fn fingerprint(&self, index: usize) -> u32 {
        self.whole.fingerprint(index)
    }

    fn describe(&self, index: usize) -> String {
        self.whole.describe(index)
    }

    fn place(&self) -> String {
        self.whole.place()
    }

    fn describe_set(&self) -> String {
        self.whole.describe_set()
    }

    fn format(&self) -> &Format {
        self.whole.format()
    }

    fn notes(&self) -> &[String] {
        self.whole.notes()
    }
}
