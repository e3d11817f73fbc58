//! A `.npy` file of images: N×C×H×W or one of C×H×W, f32 that is normalised already or u8 that is not.

use crate::failure::Failure;
use residual::data::DataError;
use residual::files::{NpyArray, NpyValues};
use residual::preprocess::{Image, Preprocessor, Views};
use std::ops::Range;

/// The images of an array.
pub(crate) struct Array {
    array: NpyArray,
    /// Images, channels, height and width; `None` for an array of other dimensions.
    shape: Option<[usize; 4]>,
}

impl Array {
    pub(crate) fn new(array: NpyArray) -> Self {
        let shape = match array.shape[..] {
            [c, h, w] => Some([1, c, h, w]),
            [n, c, h, w] => Some([n, c, h, w]),
            _ => None,
        };
        Self { array, shape }
    }

    /// How many images these are.
    pub(crate) fn images(&self) -> usize {
        self.shape.map_or(1, |[n, ..]| n)
    }

    /// Checks that the images fit the network.
    pub(crate) fn check(&self, name: &str, preprocessor: &Preprocessor, views: Views) -> Result<(), Failure> {
        if views.count() > 2 && !self.is_pixels() {
            let expected = "u8 images, of which crops can be taken".to_owned();
            return Err(
                DataError::Invalid { place: name.to_owned(), expected, got: "normalised numbers".into() }.into()
            );
        }
        let description = preprocessor.description();
        let ([height, width], channels) = (description.size, description.channels());
        let is_pixels = self.is_pixels();
        let fits = |[n, c, h, w]: [usize; 4]| {
            let filled = n > 0 && c > 0 && h > 0 && w > 0;
            filled && if is_pixels { [1, 3, 4].contains(&c) } else { [c, h, w] == [channels, height, width] }
        };
        if self.shape.is_some_and(fits) {
            return Ok(());
        }
        Err(Failure::from(DataError::Invalid {
            place: name.to_owned(),
            expected: format!("N×{channels}×{height}×{width} normalised f32, or u8 images of N×C×H×W"),
            got: format!("{} of shape {:?}", if is_pixels { "u8" } else { "numbers" }, self.array.shape),
        }))
    }

    /// Appends the views of some of the images to `values`, normalised, H×W×C.
    pub(crate) fn prepare(
        &self,
        range: Range<usize>,
        preprocessor: &Preprocessor,
        views: Views,
        values: &mut Vec<f32>,
    ) -> Result<(), Failure> {
        let Some([_, c, h, w]) = self.shape else { return Ok(()) };
        let len = c * h * w;
        let range = range.start * len..range.end * len;
        match &self.array.values {
            NpyValues::U8(pixels) => {
                for planes in pixels[range].chunks_exact(len) {
                    let start = values.len();
                    values.resize(start + views.count() * preprocessor.output_len(), 0.0);
                    let image = Image::new(h, w, c, interleave(planes, c))?;
                    preprocessor.run_views(&image, views, &mut values[start..])?;
                }
            }
            NpyValues::F32(numbers) => push_views(&numbers[range], [len, c, w], views, |number| number, values),
            NpyValues::I64(numbers) => push_views(&numbers[range], [len, c, w], views, |number| number as f32, values),
        }
        Ok(())
    }

    fn is_pixels(&self) -> bool {
        matches!(self.array.values, NpyValues::U8(_))
    }
}

/// Appends images of `len` values, each C×H×W, as H×W×C, each followed by its mirror image if there are two views.
fn push_views<T: Copy>(
    numbers: &[T],
    [len, channels, width]: [usize; 3],
    views: Views,
    convert: impl Fn(T) -> f32,
    values: &mut Vec<f32>,
) {
    for planes in numbers.chunks_exact(len) {
        let start = values.len();
        values.extend(interleave(planes, channels).into_iter().map(&convert));
        if views == Views::Flip {
            let image = values[start..].to_vec();
            let rows = image.chunks_exact(width * channels);
            values.extend(rows.flat_map(|row| row.chunks_exact(channels).rev().flatten().copied()));
        }
    }
}

/// C×H×W as H×W×C.
fn interleave<T: Copy>(planes: &[T], channels: usize) -> Vec<T> {
    let pixels = planes.len() / channels;
    (0..pixels).flat_map(|pixel| (0..channels).map(move |channel| planes[channel * pixels + pixel])).collect()
}
