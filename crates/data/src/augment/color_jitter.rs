//! torchvision's `ColorJitter` and `RandomGrayscale`.

use residual_tensor::Stream;

use super::SampleRandom;
use super::canvas::Canvas;
use super::pixels::{PixelOperation, Resampling};
use crate::DataError;

/// Changes brightness, contrast, saturation and hue by random factors, in random order.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ColorJitter {
    /// The brightness factor is uniform in `1 ± brightness`, but at least 0.
    pub brightness: f32,
    /// The contrast factor is uniform in `1 ± contrast`, but at least 0.
    pub contrast: f32,
    /// The saturation factor is uniform in `1 ± saturation`, but at least 0.
    pub saturation: f32,
    /// The hue is turned by a uniform fraction of the circle in `± hue`; at most 0.5.
    pub hue: f32,
    /// The probability that an image is changed at all.
    pub probability: f32,
}

impl ColorJitter {
    const SALT: u64 = u64::from_be_bytes(*b"colorjit");

    /// timm's forms of `color_jitter`: one strength for brightness, contrast and saturation; these three; or these and the
    /// hue.
    ///
    /// # Errors
    /// [`DataError::Invalid`] for any other number of strengths.
    pub fn new(strengths: &[f32], probability: f32) -> Result<Self, DataError> {
        let [brightness, contrast, saturation, hue] = match *strengths {
            [all] => [all, all, all, 0.0],
            [brightness, contrast, saturation] => [brightness, contrast, saturation, 0.0],
            [brightness, contrast, saturation, hue] => [brightness, contrast, saturation, hue],
            _ => {
                let expected = "one strength, three (brightness, contrast, saturation) or four (with hue)";
                return Err(DataError::invalid("color_jitter", expected, strengths.len()));
            }
        };
        Ok(Self { brightness, contrast, saturation, hue, probability })
    }

    pub(super) fn validate(&self) -> Result<(), DataError> {
        let strengths = [self.brightness, self.contrast, self.saturation];
        if !strengths.iter().all(|strength| (0.0..=100.0).contains(strength)) {
            return Err(DataError::invalid("color_jitter", "strengths of 0 to 100", format!("{strengths:?}")));
        }
        if !(0.0..=0.5).contains(&self.hue) {
            return Err(DataError::invalid("color_jitter", "a hue of 0 to 0.5", self.hue));
        }
        super::probability("color_jitter_prob", self.probability)
    }

    pub(super) fn apply(&self, canvas: &mut Canvas, random: SampleRandom) {
        let mut random = random.stream_of(Self::SALT);
        if !random.chance(self.probability) {
            return;
        }
        for operation in self.draw(&mut random).into_iter().flatten() {
            operation.apply(canvas, Resampling::Nearest, &[]);
        }
    }

    /// The operations in their order; `None` for those that are off.
    fn draw(&self, random: &mut Stream) -> [Option<PixelOperation>; 4] {
        let mut order = [0, 1, 2, 3];
        random.shuffle(&mut order);
        let mut factor = |strength: f32| {
            let factor = random.range((1.0 - strength).max(0.0), 1.0 + strength);
            (strength > 0.0).then_some(factor)
        };
        let operations = [
            factor(self.brightness).map(PixelOperation::Brightness),
            factor(self.contrast).map(PixelOperation::Contrast),
            factor(self.saturation).map(PixelOperation::Color),
            Some(PixelOperation::Hue(random.range(-self.hue, self.hue))).filter(|_| self.hue > 0.0),
        ];
        order.map(|at| operations[at])
    }
}

/// Turns an image grey, with as many channels, with a probability.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Grayscale {
    /// In [0, 1].
    pub probability: f32,
}

impl Grayscale {
    const SALT: u64 = u64::from_be_bytes(*b"grayscal");

    pub(super) fn validate(&self) -> Result<(), DataError> {
        super::probability("grayscale_prob", self.probability)
    }

    pub(super) fn apply(&self, canvas: &mut Canvas, random: SampleRandom) {
        if random.stream_of(Self::SALT).chance(self.probability) {
            PixelOperation::Grayscale.apply(canvas, Resampling::Nearest, &[]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn factors_keep_their_ranges_and_every_order_occurs() {
        let jitter = ColorJitter::new(&[0.4, 1.5, 0.0, 0.1], 1.0).unwrap();
        let mut orders = std::collections::BTreeSet::new();
        for index in 0..2000 {
            let operations = jitter.draw(&mut SampleRandom::new(1, 0, index).stream_of(0));
            let order = operations.into_iter().flatten().map(|operation| match operation {
                PixelOperation::Brightness(factor) if (0.6..=1.4).contains(&factor) => 'b',
                PixelOperation::Contrast(factor) if (0.0..=2.5).contains(&factor) => 'c',
                PixelOperation::Hue(turn) if (-0.1..=0.1).contains(&turn) => 'h',
                other => panic!("{other:?}"),
            });
            orders.insert(order.collect::<String>());
        }
        assert_eq!(orders.len(), 6, "{orders:?}");
    }

    #[test]
    fn timms_forms_of_strengths_are_understood() {
        let three = ColorJitter { brightness: 0.4, contrast: 0.4, saturation: 0.4, hue: 0.0, probability: 1.0 };
        assert_eq!(ColorJitter::new(&[0.4], 1.0).unwrap(), three);
        assert_eq!(ColorJitter::new(&[0.4, 0.4, 0.4], 1.0).unwrap(), three);
        assert!(ColorJitter::new(&[0.4; 2], 1.0).is_err());
        assert!(ColorJitter::new(&[0.4, 0.4, 0.4, 0.6], 1.0).unwrap().validate().is_err());
    }
}
