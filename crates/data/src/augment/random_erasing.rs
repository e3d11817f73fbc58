//! timm's `RandomErasing` (Zhong et al. 2020, arXiv:1708.04896), on normalised images.

use residual_tensor::Stream;

use super::SampleRandom;
use crate::DataError;

/// Erases rectangles of 2 % to a third of the normalised image's area with a probability.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RandomErasing {
    /// In [0, 1].
    pub probability: f32,
    /// What the rectangles are filled with.
    pub mode: ErasingMode,
    /// The greatest number of rectangles, of which each image gets 1 or more, with their share of the area each.
    pub count: u32,
}

/// The content of an erased rectangle.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ErasingMode {
    /// 0: the mean of the dataset.
    Const,
    /// One normally distributed value for each channel.
    Rand,
    /// A normally distributed value for each channel of each pixel.
    #[default]
    Pixel,
}

impl RandomErasing {
    /// The upper limit of [`count`](Self::count).
    pub const MAX_COUNT: u32 = 64;
    const SALT: u64 = u64::from_be_bytes(*b"randeras");

    pub(super) fn validate(&self) -> Result<(), DataError> {
        super::probability("reprob", self.probability)?;
        let valid = (1..=Self::MAX_COUNT).contains(&self.count);
        let expected = || format!("1 to {} rectangles", Self::MAX_COUNT);
        valid.then_some(()).ok_or_else(|| DataError::invalid("recount", expected(), self.count))
    }

    /// Erases parts of an image of `size` (height, width) and interleaved channels.
    pub(super) fn apply(&self, image: &mut [f32], size: [usize; 2], random: SampleRandom) {
        let mut random = random.stream_of(Self::SALT);
        if !random.chance(self.probability) {
            return;
        }
        let count = if self.count == 1 { 1 } else { 1 + random.below(self.count) };
        for _ in 0..count {
            if let Some(rectangle) = draw(size, count, &mut random) {
                self.erase(image, size, rectangle, &mut random);
            }
        }
    }

    fn erase(
        &self,
        image: &mut [f32],
        [height, width]: [usize; 2],
        [top, left, rows, columns]: [usize; 4],
        random: &mut Stream,
    ) {
        let channels = image.len() / (height * width);
        for channel in 0..channels {
            let color = if self.mode == ErasingMode::Rand { random.normal() } else { 0.0 };
            for row in top..top + rows {
                let start = (row * width + left) * channels;
                let values = image[start..start + columns * channels].iter_mut().skip(channel).step_by(channels);
                match self.mode {
                    ErasingMode::Pixel => values.for_each(|value| *value = random.normal()),
                    _ => values.for_each(|value| *value = color),
                }
            }
        }
    }
}

/// Top, left, height and width of one of `count` rectangles; `None` if none fits in ten tries.
fn draw([height, width]: [usize; 2], count: u32, random: &mut Stream) -> Option<[usize; 4]> {
    const AREA: [f32; 2] = [0.02, 1.0 / 3.0];
    const ASPECT: f64 = 0.3;
    for _ in 0..10 {
        let area = f64::from(random.range(AREA[0], AREA[1])) * (height * width) as f64 / f64::from(count);
        let limit = -(ASPECT.ln()) as f32;
        let aspect = f64::from(random.range(-limit, limit)).exp();
        let rows = (area * aspect).sqrt().round_ties_even() as usize;
        let columns = (area / aspect).sqrt().round_ties_even() as usize;
        if rows < height && columns < width {
            let top = random.below((height - rows) as u32 + 1) as usize;
            return Some([top, random.below((width - columns) as u32 + 1) as usize, rows, columns]);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The rectangle that differs from an image of NaN.
    fn erased(mode: ErasingMode, count: u32, index: usize) -> Vec<f32> {
        let mut image = vec![f32::NAN; 32 * 24 * 3];
        let erasing = RandomErasing { probability: 1.0, mode, count };
        erasing.apply(&mut image, [32, 24], SampleRandom::new(3, 0, index));
        image
    }

    #[test]
    fn one_rectangle_of_the_given_area_and_shape_is_erased() {
        let mut mean = 0.0;
        for index in 0..500 {
            let image = erased(ErasingMode::Const, 1, index);
            let pixels: Vec<usize> = (0..32 * 24).filter(|&at| !image[at * 3].is_nan()).collect();
            assert!(pixels.iter().all(|&at| image[at * 3..at * 3 + 3] == [0.0; 3]));
            let (rows, columns): (Vec<_>, Vec<_>) = pixels.iter().map(|at| (at / 24, at % 24)).unzip();
            let sides = [rows, columns].map(|at| at.iter().max().unwrap() - at.iter().min().unwrap() + 1);
            assert_eq!(sides[0] * sides[1], pixels.len(), "a rectangle");
            let share = pixels.len() as f64 / (32.0 * 24.0);
            // Rounded sides change a small rectangle's area and shape.
            assert!((0.012..0.38).contains(&share), "{share}");
            assert!((0.2..5.0).contains(&(sides[0] as f64 / sides[1] as f64)), "{sides:?}");
            mean += share / 500.0;
        }
        assert!((mean - 0.17).abs() < 0.02, "{mean}");
    }

    #[test]
    fn modes_fill_with_normal_numbers_per_pixel_or_per_rectangle() {
        let values = |mode, count| -> Vec<f32> {
            (0..200).flat_map(|index| erased(mode, count, index)).filter(|value| !value.is_nan()).collect()
        };
        let pixel = values(ErasingMode::Pixel, 1);
        let mean = pixel.iter().sum::<f32>() / pixel.len() as f32;
        let variance = pixel.iter().map(|value| value * value).sum::<f32>() / pixel.len() as f32;
        assert!(mean.abs() < 0.02 && (variance - 1.0).abs() < 0.03, "{mean} {variance}");
        for index in 0..20 {
            let mut colors: Vec<f32> = erased(ErasingMode::Rand, 1, index);
            colors.retain(|value| !value.is_nan());
            colors.sort_unstable_by(f32::total_cmp);
            colors.dedup();
            assert_eq!(colors.len(), 3);
        }
        // Several rectangles share the area of one.
        let [one, many] = [1, 8].map(|count| values(ErasingMode::Const, count).len());
        assert!(many < one, "{many} of {one}");
    }

    #[test]
    fn the_probability_is_kept() {
        let erasing = RandomErasing { probability: 0.25, mode: ErasingMode::Pixel, count: 1 };
        let count = (0..2000).filter(|&index| {
            let mut image = vec![f32::NAN; 16 * 16];
            erasing.apply(&mut image, [16, 16], SampleRandom::new(3, 1, index));
            image.iter().any(|value| !value.is_nan())
        });
        let count = count.count();
        assert!((430..570).contains(&count), "{count} of 2000");
    }
}
