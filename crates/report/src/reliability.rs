//! Reliability: how often predictions of a confidence are right, before and after the temperature.

use crate::{Axis, Chart, Paint, Series, Svg};
use residual_infer::{Calibration, ImageResult, fit_temperature};
use serde::Serialize;

/// The number of bins, as in the expected calibration error.
const BINS: usize = 15;

/// The images whose predicted class has a probability in one range.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Bin {
    /// Images.
    pub images: u64,
    /// Their mean confidence, 0 to 1.
    pub confidence: f64,
    /// The fraction of them that is classified correctly.
    pub accuracy: f64,
}

/// Calibration of a model on images that it was not trained on.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Reliability {
    /// Bins of equal width of the model's own probabilities.
    pub before: Vec<Bin>,
    /// Loss, ECE and Brier score of them.
    pub calibration_before: Calibration,
    /// The same of probabilities with a temperature that was fitted on the other half of the images.
    pub after: Vec<Bin>,
    /// Loss, ECE and Brier score of them.
    pub calibration_after: Calibration,
    /// The temperature that fits all images.
    pub temperature: f32,
}

impl Reliability {
    /// The calibration of images in order: `logits` are labels × `classes`; `None` where no temperature can be fitted: there are
    /// too few images, or none of them is misclassified.
    ///
    /// # Panics
    /// If the lengths do not fit or a label is not below `classes`.
    pub fn of(logits: &[f32], labels: &[u32], classes: usize) -> Option<Self> {
        let temperature = fit_temperature(logits, labels, classes).ok()?;
        // Each half is judged with the temperature of the other one.
        let half = |parity: usize| {
            let rows = logits.chunks_exact(classes).zip(labels).skip(parity).step_by(2);
            let (mut values, mut classes_of) = (Vec::new(), Vec::new());
            rows.for_each(|(row, &label)| {
                values.extend_from_slice(row);
                classes_of.push(label);
            });
            fit_temperature(&values, &classes_of, classes).ok()
        };
        let temperatures = [half(1)?, half(0)?];
        let results = |temperature: &dyn Fn(usize) -> f32| -> Vec<ImageResult> {
            let rows = logits.chunks_exact(classes).zip(labels).enumerate();
            rows.map(|(index, (row, &label))| ImageResult::single_label(index, row, label, temperature(index)))
                .collect()
        };
        let (before, after) = (results(&|_| 1.0), results(&|index| temperatures[index % 2]));
        Some(Self {
            before: bins(&before),
            calibration_before: Calibration::of(&before),
            after: bins(&after),
            calibration_after: Calibration::of(&after),
            temperature,
        })
    }

    /// The diagrams before and after.
    pub fn draw(&self) -> [Svg; 2] {
        let ece = |calibration: &Calibration| format!("ECE {:.4}", calibration.ece);
        [
            diagram(&format!("Before: {}", ece(&self.calibration_before)), &self.before),
            diagram(&format!("After temperature scaling: {}", ece(&self.calibration_after)), &self.after),
        ]
    }
}

fn bins(results: &[ImageResult]) -> Vec<Bin> {
    let mut bins = vec![Bin::default(); BINS];
    for result in results.iter().filter(|result| result.predicted.is_some()) {
        let confidence = f64::from(result.probability);
        let bin = &mut bins[((confidence * BINS as f64).ceil() as usize).clamp(1, BINS) - 1];
        bin.images += 1;
        bin.confidence += confidence;
        bin.accuracy += f64::from(u8::from(result.correct));
    }
    for bin in &mut bins {
        let images = bin.images.max(1) as f64;
        (bin.confidence, bin.accuracy) = (bin.confidence / images, bin.accuracy / images);
    }
    bins
}

fn diagram(title: &str, bins: &[Bin]) -> Svg {
    let width = 1.0 / bins.len() as f64;
    let filled = || bins.iter().enumerate().filter(|(_, bin)| bin.images > 0);
    let column = |(index, bin): (usize, &Bin)| (index as f64 * width, (index + 1) as f64 * width, bin.accuracy);
    let point = |(_, bin): (usize, &Bin)| crate::Point {
        x: bin.confidence,
        y: bin.accuracy,
        title: format!(
            "{} images with a mean confidence of {:.1} %: {:.1} % of them are right",
            bin.images,
            100.0 * bin.confidence,
            100.0 * bin.accuracy
        ),
        label: String::new(),
    };
    Chart::new(title, Axis::new("confidence").between(0.0, 1.0), Axis::new("accuracy").between(0.0, 1.0))
        .with(Series::columns("accuracy", Paint::Series(0), filled().map(column).collect()))
        .with(Series::line("perfectly calibrated", Paint::Muted, vec![(0.0, 0.0), (1.0, 1.0)]).dashed())
        .with(Series::points("mean of a bin", Paint::Series(1), filled().map(point).collect()))
        .draw()
        .expect("the axes have a range")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Overconfident logits: right in three of four images, at a confidence of 98 %.
    fn overconfident() -> (Vec<f32>, Vec<u32>) {
        let labels: Vec<u32> = (0..400).map(|image| u32::from(image % 7 < 3)).collect();
        let logits = labels.iter().enumerate().flat_map(|(image, &label)| {
            let towards = if image / 8 % 4 == 0 { 1 - label } else { label };
            if towards == 0 { [4.0, 0.0] } else { [0.0, 4.0] }
        });
        (logits.collect(), labels)
    }

    #[test]
    fn a_temperature_from_other_images_lowers_the_error_of_overconfident_logits() {
        let (logits, labels) = overconfident();
        let reliability = Reliability::of(&logits, &labels, 2).unwrap();
        assert_eq!(reliability.before.iter().map(|bin| bin.images).sum::<u64>(), 400);
        let top = reliability.before.last().unwrap();
        assert!(top.images == 400 && top.confidence > 0.98 && top.accuracy < 0.8, "{top:?}");
        let (before, after) = (reliability.calibration_before, reliability.calibration_after);
        assert!(before.ece > 0.2 && after.ece < 0.01, "{before:?} {after:?}");
        // The fraction that is right fixes the temperature: 1 / (1 + exp(-4 / t)) is it.
        let right = top.accuracy;
        let expected = 4.0 / (right / (1.0 - right)).ln();
        assert!((f64::from(reliability.temperature) - expected).abs() < 1e-3);
    }

    #[test]
    fn without_mistakes_there_is_no_temperature() {
        assert_eq!(Reliability::of(&[4.0, 0.0, 5.0, 1.0, 3.0, 0.0], &[0, 0, 0], 2), None);
    }
}
