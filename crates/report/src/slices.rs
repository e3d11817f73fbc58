//! Accuracy on parts of the images: by size, brightness, sharpness and class.

use residual_data::Sample;
use residual_infer::wilson;
use residual_preprocess::Image;
use serde::Serialize;

/// A slice has at least so many images.
const FEWEST: usize = 20;
/// The number of slices by each property.
const PARTS: usize = 4;

/// Properties of an image.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Properties {
    /// Its pixels: width × height.
    pub(crate) pixels: f64,
    /// Mean luma, 0 to 255.
    pub(crate) brightness: f64,
    /// The variance of the Laplacian of its luma: low for blurred images.
    pub(crate) sharpness: f64,
}

impl Properties {
    /// The properties of 8-bit samples; `None` for values that are already normalised.
    pub(crate) fn of(sample: &Sample) -> Option<Self> {
        let Sample::Pixels(image) = sample else { return None };
        let luma = luma(image);
        let (width, height) = (image.width(), image.height());
        let brightness = luma.iter().sum::<f64>() / luma.len() as f64;
        Some(Self { pixels: (width * height) as f64, brightness, sharpness: laplacian_variance(&luma, width, height) })
    }
}

fn luma(image: &Image) -> Vec<f64> {
    let channels = image.channels();
    let value = |pixel: &[u8]| match *pixel {
        [r, g, b, ..] => 0.299 * f64::from(r) + 0.587 * f64::from(g) + 0.114 * f64::from(b),
        [grey, ..] => f64::from(grey),
        [] => 0.0,
    };
    image.pixels().chunks_exact(channels).map(value).collect()
}

/// The variance of the four-neighbour Laplacian inside the image; 0 for images without an inside.
fn laplacian_variance(luma: &[f64], width: usize, height: usize) -> f64 {
    if width < 3 || height < 3 {
        return 0.0;
    }
    let (mut sum, mut squares, mut count) = (0.0, 0.0, 0.0);
    for y in 1..height - 1 {
        for x in 1..width - 1 {
            let at = y * width + x;
            let value = luma[at - 1] + luma[at + 1] + luma[at - width] + luma[at + width] - 4.0 * luma[at];
            sum += value;
            squares += value * value;
            count += 1.0;
        }
    }
    let mean: f64 = sum / count;
    squares / count - mean * mean
}

/// Images with something in common.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Slice {
    /// The property: `class`, `size`, `brightness` or `sharpness`.
    pub by: String,
    /// The values of its images, in words.
    pub name: String,
    /// Number of images.
    pub images: u64,
    /// The fraction classified correctly, in percent.
    pub top1: f64,
    /// The 95 % interval of `top1` (Wilson's score interval).
    pub interval: [f64; 2],
    /// `top1` minus that of all other images, in percentage points.
    pub gap: f64,
}

impl Slice {
    /// Whether its accuracy is below that of all images by more than chance: the interval is below it.
    pub fn is_weak(&self, top1: f64) -> bool {
        self.interval[1] < top1
    }
}

/// One of the properties.
type Property = fn(&Properties) -> f64;

/// An image's part in the slices.
pub(crate) struct Judged<'a> {
    pub(crate) class: &'a str,
    pub(crate) correct: bool,
    pub(crate) properties: Option<Properties>,
}

/// The slices with at least 20 images, the weakest first: by their upper ends.
pub(crate) fn slices(images: &[Judged<'_>]) -> Vec<Slice> {
    let measured: Vec<&Judged<'_>> = images.iter().filter(|image| image.properties.is_some()).collect();
    let images: Vec<&Judged<'_>> = images.iter().collect();
    let mut slices = Vec::new();
    let mut classes: Vec<&str> = images.iter().map(|image| image.class).collect();
    classes.sort_unstable();
    classes.dedup();
    if classes.len() > 1 {
        slices.extend(classes.iter().filter_map(|class| slice(&images, "class", class, |image| image.class == *class)));
    }
    let by: [(&str, Property); 3] = [
        ("size", |properties| properties.pixels),
        ("brightness", |properties| properties.brightness),
        ("sharpness", |properties| properties.sharpness),
    ];
    for (name, value) in by {
        slices.extend(quarters(&measured, name, value));
    }
    slices.sort_by(|a, b| a.interval[1].total_cmp(&b.interval[1]));
    slices
}

/// Slices of about equal numbers of images, by the value of a property; none if it hardly varies.
fn quarters(images: &[&Judged<'_>], by: &str, value: Property) -> Vec<Slice> {
    let mut values: Vec<f64> = images
        .iter()
        .filter_map(|image| image.properties.as_ref().map(value))
        .filter(|value| value.is_finite())
        .collect();
    values.sort_unstable_by(f64::total_cmp);
    let mut bounds: Vec<f64> = (1..PARTS).filter_map(|part| values.get(part * values.len() / PARTS).copied()).collect();
    bounds.dedup();
    bounds.retain(|bound| values.first() < Some(bound));
    if bounds.is_empty() {
        return Vec::new();
    }
    let edges = || std::iter::once(f64::NEG_INFINITY).chain(bounds.iter().copied());
    let ends = bounds.iter().copied().chain([f64::INFINITY]);
    let parts = edges().zip(ends).map(|(low, high)| {
        let name = match (low.is_finite(), high.is_finite()) {
            (false, _) => format!("below {}", shown(by, high)),
            (true, false) => format!("from {}", shown(by, low)),
            (true, true) => format!("{} to {}", shown(by, low), shown(by, high)),
        };
        slice(images, by, &name, |image| {
            image.properties.as_ref().map(value).is_some_and(|value| value >= low && value < high)
        })
    });
    parts.flatten().collect()
}

fn shown(by: &str, value: f64) -> String {
    match by {
        "size" => {
            let side = value.sqrt().round();
            format!("{side}×{side} pixels")
        }
        _ => crate::axis::short(value),
    }
}

fn slice(images: &[&Judged<'_>], by: &str, name: &str, is_in: impl Fn(&Judged<'_>) -> bool) -> Option<Slice> {
    let count = |wanted: bool| {
        let of = images.iter().filter(|image| is_in(image) == wanted);
        of.fold((0u64, 0u64), |(right, all), image| (right + u64::from(image.correct), all + 1))
    };
    let ((right, all), (other_right, others)) = (count(true), count(false));
    if all < FEWEST as u64 || others == 0 {
        return None;
    }
    let top1 = 100.0 * right as f64 / all as f64;
    Some(Slice {
        by: by.to_owned(),
        name: name.to_owned(),
        images: all,
        top1,
        interval: wilson(right, all),
        gap: top1 - 100.0 * other_right as f64 / others as f64,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_weak_part_is_found_and_comes_first() {
        let judged = |index: usize| Judged {
            class: if index.is_multiple_of(2) { "even" } else { "odd" },
            // Dark images are misclassified.
            correct: index >= 40,
            properties: Some(Properties { pixels: 1024.0, brightness: index as f64, sharpness: (index % 9) as f64 }),
        };
        let images: Vec<_> = (0..160).map(judged).collect();
        let slices = slices(&images);
        assert_eq!((slices[0].by.as_str(), slices[0].name.as_str(), slices[0].top1), ("brightness", "below 40", 0.0));
        assert_eq!(slices[0].gap, -100.0);
        assert!(slices[0].is_weak(75.0) && !slices.last().unwrap().is_weak(75.0));
        assert!(slices.iter().all(|slice| slice.by != "size"), "all images have one size");
        assert_eq!(slices.iter().filter(|slice| slice.by == "brightness").map(|slice| slice.images).sum::<u64>(), 160);
    }

    #[test]
    fn a_blurred_image_is_less_sharp() {
        let board = |period: usize| {
            let square = |at: usize| at / 8 / period + at % 8 / period;
            let pixels = (0..64).map(|at| if square(at).is_multiple_of(2) { 0 } else { 255 });
            Sample::Pixels(Image::new(8, 8, 1, pixels.collect()).unwrap())
        };
        let sharp = |period| Properties::of(&board(period)).unwrap().sharpness;
        assert!(sharp(1) > sharp(4));
        let flat = Sample::Pixels(Image::new(4, 5, 3, vec![100; 60]).unwrap());
        let flat = Properties::of(&flat).unwrap();
        assert!((flat.brightness - 100.0).abs() < 1e-9 && flat.sharpness.abs() < 1e-9 && flat.pixels == 20.0);
    }
}
