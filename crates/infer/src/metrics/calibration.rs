//! How well probabilities agree with accuracies.

use super::ImageResult;
use serde::Serialize;

/// The number of bins of the expected calibration error.
const BINS: usize = 15;

/// Metrics of the probabilities of the images with finite logits. Not a number (null in JSON) if there are none.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Calibration {
    /// Mean cross-entropy; of multi-label data mean binary cross-entropy.
    pub loss: f64,
    /// Expected calibration error: the mean over the images of |accuracy − confidence| of their bin, where confidence is
    /// the probability of the predicted class. 15 bins of equal width, ((m − 1)/15, m/15] (Guo et al., "On Calibration of
    /// Modern Neural Networks", 2017, equation 3).
    pub ece: f64,
    /// Brier score as he defined it (1950): the mean over the images of Σ (probability − target)² over the classes; 0 to 2
    /// for one class per image.
    pub brier: f64,
}

impl Calibration {
    /// The metrics of some images, in their order.
    pub fn of<'a>(results: impl IntoIterator<Item = &'a ImageResult>) -> Self {
        let mut sums = CalibrationSums::default();
        results.into_iter().for_each(|result| sums.add(result));
        sums.finish()
    }
}

/// The running sums of a [`Calibration`], in the order of the images.
#[derive(Clone, Debug, Default)]
pub(crate) struct CalibrationSums {
    images: u64,
    loss: f64,
    brier: f64,
    /// The sum of correct − confidence of each bin.
    gaps: [f64; BINS],
}

impl CalibrationSums {
    pub(crate) fn add(&mut self, result: &ImageResult) {
        if result.predicted.is_none() {
            return;
        }
        let confidence = f64::from(result.probability);
        let bin = ((confidence * BINS as f64).ceil() as usize).clamp(1, BINS) - 1;
        self.gaps[bin] += f64::from(u8::from(result.correct)) - confidence;
        self.loss += result.loss;
        self.brier += result.brier;
        self.images += 1;
    }

    pub(crate) fn finish(&self) -> Calibration {
        let images = self.images as f64;
        let mean = |sum: f64| if self.images == 0 { f64::NAN } else { sum / images };
        Calibration {
            loss: mean(self.loss),
            ece: mean(self.gaps.iter().map(|gap| gap.abs()).sum()),
            brier: mean(self.brier),
        }
    }
}
