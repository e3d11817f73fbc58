//! torchvision's `RandomResizedCrop`.

use residual_preprocess::{Image, ImageError, Interpolation, resize};
use residual_tensor::Stream;

use crate::DataError;

/// A rectangle of random area and aspect ratio, resized to the network's input.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RandomResizedCrop {
    /// The minimum and maximum fraction of the image's area, in (0, 1].
    pub scale: [f32; 2],
    /// The minimum and maximum aspect ratio (width / height).
    pub ratio: [f32; 2],
}

impl RandomResizedCrop {
    /// The upper limit of [`ratio`](Self::ratio); the lower limit is above 0.
    pub const MAX_RATIO: f32 = 100.0;

    pub(super) fn validate(&self) -> Result<(), DataError> {
        validate(self.scale, self.ratio)
    }

    pub(crate) fn crop(
        &self,
        image: &Image,
        size: [usize; 2],
        interpolation: Interpolation,
        random: &mut Stream,
    ) -> Image {
        let [top, left, height, width] = self.rectangle([image.height(), image.width()], random);
        resized(image.crop(top, left, height, width), size, interpolation)
    }

    /// [`crop`](Self::crop) of the image in a file: only the rectangle is decoded.
    ///
    /// # Errors
    /// If it cannot be decoded.
    pub(crate) fn decode(
        &self,
        file: &[u8],
        size: [usize; 2],
        interpolation: Interpolation,
        random: &mut Stream,
    ) -> Result<Image, ImageError> {
        let image = Image::decode_crop(file, |whole| self.rectangle(whole, random))?;
        Ok(resized(image, size, interpolation))
    }

    /// Top, left, height and width of torchvision's `RandomResizedCrop.get_params`: ten tries, then the largest
    /// centred rectangle within the ratios.
    fn rectangle(&self, [height, width]: [usize; 2], random: &mut Stream) -> [usize; 4] {
        let Self { scale, ratio } = *self;
        let (area, [low, high]) = ((height * width) as f64, ratio.map(f64::from));
        for _ in 0..10 {
            let target = area * f64::from(random.range(scale[0], scale[1]));
            let aspect = f64::from(random.range(low.ln() as f32, high.ln() as f32)).exp();
            let w = (target * aspect).sqrt().round_ties_even() as usize;
            let h = (target / aspect).sqrt().round_ties_even() as usize;
            if 0 < w && w <= width && 0 < h && h <= height {
                let top = random.below((height - h) as u32 + 1) as usize;
                return [top, random.below((width - w) as u32 + 1) as usize, h, w];
            }
        }
        let whole = width as f64 / height as f64;
        let (h, w) = if whole < low {
            (((width as f64 / low).round_ties_even() as usize).clamp(1, height), width)
        } else if whole > high {
            (height, ((height as f64 * high).round_ties_even() as usize).clamp(1, width))
        } else {
            (height, width)
        };
        [(height - h) / 2, (width - w) / 2, h, w]
    }
}

fn resized(image: Image, size: [usize; 2], interpolation: Interpolation) -> Image {
    let resized = resize(&image, size, interpolation);
    image.recycle();
    resized
}

/// Checks the range of a scale and a ratio.
pub(super) fn validate(scale: [f32; 2], ratio: [f32; 2]) -> Result<(), DataError> {
    let rising = |field, [low, high]: [f32; 2], most: f32| {
        let valid = low > 0.0 && low <= high && high <= most;
        let fault = || DataError::invalid(field, format!("0 < low <= high <= {most}"), format!("[{low}, {high}]"));
        valid.then_some(()).ok_or_else(fault)
    };
    rising("scale", scale, 1.0)?;
    rising("ratio", ratio, RandomResizedCrop::MAX_RATIO)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATIO: [f32; 2] = [0.75, 4.0 / 3.0];

    #[test]
    fn crops_keep_to_their_area_and_shape() {
        let crop = RandomResizedCrop { scale: [0.08, 1.0], ratio: RATIO };
        let mut random = Stream::new(2, &[]);
        for _ in 0..2000 {
            let [top, left, h, w] = crop.rectangle([375, 500], &mut random);
            assert!(top + h <= 375 && left + w <= 500);
            let (share, ratio) = ((h * w) as f64 / (375.0 * 500.0), w as f64 / h as f64);
            assert!(share > 0.078 && (0.74..1.35).contains(&ratio), "{share} {ratio}");
        }
    }

    #[test]
    fn a_strip_falls_back_to_its_largest_centred_part() {
        // torchvision: RandomResizedCrop.get_params on 10x1000 with scale (1, 1) always falls back.
        let whole = RandomResizedCrop { scale: [1.0, 1.0], ratio: RATIO };
        let mut random = Stream::new(2, &[]);
        assert_eq!(whole.rectangle([10, 1000], &mut random), [0, 493, 10, 13]);
        assert_eq!(whole.rectangle([1000, 10], &mut random), [493, 0, 13, 10]);
        let square = RandomResizedCrop { scale: [0.08, 0.08], ratio: [1.0, 1.0] };
        assert_eq!(square.rectangle([1, 1], &mut random), [0, 0, 1, 1]);
    }
}
