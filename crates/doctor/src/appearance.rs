//! What an image looks like, in a few numbers. Brightness, blur and entropy are those of CleanVision
//! (`issue_managers/image_property.py`), so that its thresholds mean the same here.

use crate::perceptual_hash::{SIDE, perceptual_hash};
use residual_preprocess::{Image, Interpolation, luma, resize};

/// The longer side at which blur is measured, CleanVision's.
const BLUR_SIDE: usize = 64;
/// The side of the thumbnails that near duplicates are verified with.
const THUMBNAIL: usize = 16;
/// Above this number of pixels brightness, colour and entropy are those of evenly spaced rows.
const MOST_PIXELS: usize = 1 << 20;

/// What an image looks like. Values are of 0 to 1 where nothing else is said.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Appearance {
    /// Rows as stored.
    pub(crate) height: u32,
    /// Columns as stored.
    pub(crate) width: u32,
    /// Values per pixel, 1 to 4.
    pub(crate) channels: u8,
    /// Whether the pixels are upright as they are stored.
    pub(crate) is_upright: bool,
    /// Mean of red, green and blue.
    pub(crate) mean: [f32; 3],
    /// Mean difference between the largest and the smallest of a pixel's red, green and blue.
    pub(crate) colourfulness: f32,
    /// Mean brightness.
    pub(crate) brightness: f32,
    /// The 99th percentile of the pixels' brightness, √(0.241 R² + 0.691 G² + 0.068 B²).
    pub(crate) brightest: f32,
    /// 1 − the 5th percentile of the pixels' brightness.
    pub(crate) darkest: f32,
    /// CleanVision's score of sharpness: from the edges of the image at 64 pixels, and the spread of its histogram.
    pub(crate) sharpness: f32,
    /// Entropy of the values of all channels, in bits.
    pub(crate) entropy: f32,
    /// The perceptual hash.
    pub(crate) hash: u64,
    /// The image in grey, 16×16.
    pub(crate) thumbnail: [u8; THUMBNAIL * THUMBNAIL],
    /// The thumbnail's standard deviation in grey levels.
    pub(crate) contrast: f32,
}

impl Appearance {
    /// Of an image with 1 to 4 channels; `None` for other ones.
    pub(crate) fn of(image: &Image) -> Option<Self> {
        let rgb = image.with_channels(3).ok()?;
        let longer = image.height().max(image.width());
        let small = match longer > BLUR_SIDE {
            // Pillow's `int(side // ratio)`.
            true => {
                let ratio = longer as f64 / BLUR_SIDE as f64;
                let side = |side: usize| ((side as f64 / ratio).floor() as usize).max(1);
                resize(&rgb, [side(image.height()), side(image.width())], Interpolation::Bicubic)
            }
            false => rgb.clone().into_owned(),
        };
        let sharpness = sharpness(&grey(&small), small.width());
        let square: Vec<u8> = grey(&resize(&small, [SIDE, SIDE], Interpolation::Bilinear));
        let thumbnail = halved(&square);
        let Colours { mean, colourfulness, brightness, brightest, darkest } = Colours::of(&rgb);
        Some(Self {
            height: image.height() as u32,
            width: image.width() as u32,
            channels: image.channels() as u8,
            is_upright: image.orientation().is_upright(),
            mean,
            colourfulness,
            brightness,
            brightest,
            darkest,
            sharpness,
            entropy: entropy(image),
            hash: perceptual_hash(&square),
            contrast: deviation(&thumbnail),
            thumbnail,
        })
    }

    /// The correlation of two images' thumbnails, −1 to 1; 0 if one of them is flat.
    pub(crate) fn correlation(&self, other: &Self) -> f32 {
        let mean = |values: &[u8]| values.iter().map(|&value| f64::from(value)).sum::<f64>() / values.len() as f64;
        let [a, b] = [self, other].map(|image| mean(&image.thumbnail));
        let (mut product, mut squares) = (0.0, [0.0; 2]);
        for (&x, &y) in self.thumbnail.iter().zip(&other.thumbnail) {
            let (x, y) = (f64::from(x) - a, f64::from(y) - b);
            product += x * y;
            squares = [squares[0] + x * x, squares[1] + y * y];
        }
        let norm = (squares[0] * squares[1]).sqrt();
        if norm > 0.0 { (product / norm) as f32 } else { 0.0 }
    }
}

/// Statistics of the pixels' colours.
struct Colours {
    mean: [f32; 3],
    colourfulness: f32,
    brightness: f32,
    brightest: f32,
    darkest: f32,
}

impl Colours {
    fn of(rgb: &Image) -> Self {
        let (mut sums, mut spread, mut histogram) = ([0u64; 3], 0u64, [0u64; 256]);
        for row in rows(rgb) {
            for pixel in row.as_chunks::<3>().0 {
                let [r, g, b] = pixel.map(f32::from);
                let brightness = (0.241 * r * r + 0.691 * g * g + 0.068 * b * b).sqrt();
                histogram[(brightness.round() as usize).min(255)] += 1;
                let [least, most] = [pixel.iter().min(), pixel.iter().max()].map(|value| value.copied().unwrap_or(0));
                spread += u64::from(most - least);
                sums.iter_mut().zip(pixel).for_each(|(sum, &value)| *sum += u64::from(value));
            }
        }
        let count = histogram.iter().sum::<u64>().max(1);
        let share = |sum: u64| (sum as f64 / count as f64 / 255.0) as f32;
        let total: u64 = histogram.iter().zip(0..).map(|(&pixels, value): (_, u64)| pixels * value).sum();
        Self {
            mean: sums.map(share),
            colourfulness: share(spread),
            brightness: share(total),
            brightest: percentile(&histogram, count, 99),
            darkest: 1.0 - percentile(&histogram, count, 5),
        }
    }
}

/// The percentile of a histogram of 256 levels, of 0 to 1.
fn percentile(histogram: &[u64; 256], count: u64, percent: u64) -> f32 {
    let rank = (count - 1) * percent / 100;
    let mut below = 0;
    let level = histogram.iter().position(|&pixels| {
        below += pixels;
        below > rank
    });
    level.unwrap_or(255) as f32 / 255.0
}

/// The rows of an image; of a large one some of them, evenly spaced.
fn rows(image: &Image) -> impl Iterator<Item = &[u8]> {
    let step = (image.height() * image.width()).div_ceil(MOST_PIXELS).max(1);
    image.pixels().chunks_exact(image.width() * image.channels()).step_by(step)
}

/// Pillow's `Image.entropy`, over the values of all channels but alpha.
fn entropy(image: &Image) -> f32 {
    let channels = image.channels();
    let colours = channels - usize::from(channels.is_multiple_of(2));
    let mut histogram = [[0u64; 256]; 3];
    for row in rows(image) {
        for pixel in row.chunks_exact(channels) {
            for (counts, &value) in histogram.iter_mut().zip(&pixel[..colours]) {
                counts[usize::from(value)] += 1;
            }
        }
    }
    let counts = || histogram.as_flattened().iter().filter(|&&count| count > 0).map(|&count| count as f64);
    let total: f64 = counts().sum();
    counts().map(|count| -(count / total) * (count / total).log2()).sum::<f64>() as f32
}

/// CleanVision's score: edges as of Pillow's `FIND_EDGES`, and the spread of the histogram.
fn sharpness(grey: &[u8], width: usize) -> f32 {
    const FACTOR: f64 = 0.01;
    const LEAST_SPREAD: f64 = 0.18;
    let height = grey.len() / width;
    let mut edges = grey.to_vec();
    // Pillow's filter leaves the border as it is.
    for y in 1..height.saturating_sub(1) {
        for x in 1..width.saturating_sub(1) {
            let at = y * width + x;
            let around: i32 = [at - width, at, at + width]
                .iter()
                .map(|&row| grey[row - 1..=row + 1].iter().map(|&value| i32::from(value)).sum::<i32>())
                .sum();
            edges[at] = (9 * i32::from(grey[at]) - around).clamp(0, 255) as u8;
        }
    }
    let mut histogram = [0.0; 256];
    grey.iter().for_each(|&value| histogram[usize::from(value)] += 1.0);
    let score = |value: f64| 1.0 - (-value * FACTOR).exp();
    let spread = score(deviation_of(&histogram));
    let spread = if spread <= LEAST_SPREAD { 0.0 } else { spread };
    (score(f64::from(deviation(&edges))) + spread).min(1.0) as f32
}

/// The standard deviation of bytes.
fn deviation(values: &[u8]) -> f32 {
    deviation_of(&values.iter().map(|&value| f64::from(value)).collect::<Vec<_>>()) as f32
}

fn deviation_of(values: &[f64]) -> f64 {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    (values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / count).sqrt()
}

fn grey(rgb: &Image) -> Vec<u8> {
    rgb.pixels().chunks_exact(3).map(luma).collect()
}

/// A square of 32×32 at half its side.
fn halved(square: &[u8]) -> [u8; THUMBNAIL * THUMBNAIL] {
    std::array::from_fn(|index| {
        let (y, x) = (2 * (index / THUMBNAIL), 2 * (index % THUMBNAIL));
        let sum: u32 = [y * SIDE + x, y * SIDE + x + 1, (y + 1) * SIDE + x, (y + 1) * SIDE + x + 1]
            .iter()
            .map(|&at| u32::from(square[at]))
            .sum();
        ((sum + 2) / 4) as u8
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The golden file has the numbers of numpy and Pillow, by CleanVision's formulas.
    #[test]
    fn the_numbers_are_cleanvisions() {
        let golden: serde_json::Value = serde_json::from_str(include_str!("../tests/golden/appearance.json")).unwrap();
        for case in golden.as_array().unwrap() {
            let number = |key: &str| case[key].as_f64().unwrap();
            let [height, width, channels] = ["height", "width", "channels"].map(|key| number(key) as usize);
            let pixels = case["pixels"].as_array().unwrap().iter().map(|value| value.as_u64().unwrap() as u8);
            let image = Image::new(height, width, channels, pixels.collect()).unwrap();
            let found = Appearance::of(&image).unwrap();
            for (name, value, tolerance) in [
                ("brightest", found.brightest, 0.003),
                ("darkest", found.darkest, 0.003),
                ("sharpness", found.sharpness, 1e-3),
                ("entropy", found.entropy, 1e-4),
            ] {
                assert!((f64::from(value) - number(name)).abs() <= tolerance, "{name}: {value}, {}", number(name));
            }
            assert_eq!(format!("{:016x}", found.hash), case["hash"].as_str().unwrap());
        }
    }

    #[test]
    fn an_image_correlates_with_itself_in_other_light_and_not_with_a_flat_one() {
        let image = |value: &dyn Fn(usize) -> u8| {
            let pixels = (0..32 * 32).map(value).collect();
            Appearance::of(&Image::new(32, 32, 1, pixels).unwrap()).unwrap()
        };
        let pattern = |index: usize| (index * 7 + index * index / 50) % 97;
        let [dark, light] = [image(&|index| pattern(index) as u8), image(&|index| pattern(index) as u8 + 100)];
        assert!((dark.correlation(&light) - 1.0).abs() < 1e-5);
        assert_eq!(dark.correlation(&image(&|_| 9)), 0.0);
    }
}
