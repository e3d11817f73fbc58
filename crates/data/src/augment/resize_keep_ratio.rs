//! timm's training crops `rkrc` and `rkrr`: `ResizeKeepRatio`, then a centred or random crop.

use residual_preprocess::{Image, Interpolation, Window, resize};

use super::SampleRandom;
use crate::DataError;

/// The image resized so that it just covers the network's input, but for random changes of scale and aspect ratio, each with
/// probability 0.5, and cropped to the input's size. Where it is smaller it is mirrored at its border.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ResizeKeepRatio {
    /// The minimum and maximum fraction of the covered area, as for a random resized crop: above 0. timm's default is 0.8 to 1.
    pub scale: [f32; 2],
    /// The minimum and maximum factor of the aspect ratio. timm's default is 0.9 to 1 / 0.9.
    pub ratio: [f32; 2],
    /// Whether the crop is at a random place (`rkrr`) or at the centre (`rkrc`).
    pub random_crop: bool,
}

impl ResizeKeepRatio {
    const SALT: u64 = u64::from_be_bytes(*b"keeprati");

    pub(super) fn validate(&self) -> Result<(), DataError> {
        super::random_resized_crop::validate(self.scale, self.ratio)
    }

    /// The resized image, and the window of `size` to crop; `centre` is the centred one of an image.
    pub(crate) fn resize(
        &self,
        image: &Image,
        size: [usize; 2],
        interpolation: Interpolation,
        random: SampleRandom,
        centre: impl Fn(&Image) -> Window,
    ) -> (Image, Window) {
        let mut random = random.stream_of(Self::SALT);
        let [scale, aspect] = [random.chance(0.5), random.chance(0.5)];
        let [area, log_aspect] = [self.scale, self.ratio.map(f32::ln)].map(|[low, high]| random.range(low, high));
        let scale = if scale { 1.0 / f64::from(area).sqrt() } else { 1.0 };
        let aspect = if aspect { f64::from(log_aspect).exp().sqrt() } else { 1.0 };
        let image = resize(image, resized_size([image.height(), image.width()], size, scale, aspect), interpolation);
        if !self.random_crop {
            let window = centre(&image);
            return (image, window);
        }
        let mut place = |image: usize, size: usize| {
            let place = random.below(image.abs_diff(size) as u32 + 1) as isize;
            if image < size { -place } else { place }
        };
        let (top, left) = (place(image.height(), size[0]), place(image.width(), size[1]));
        (image, Window { top, left, ..Window::default() })
    }
}

/// The size that just covers `target`, times `scale`, higher by 1 / `aspect` and wider by `aspect`.
fn resized_size([height, width]: [usize; 2], target: [usize; 2], scale: f64, aspect: f64) -> [usize; 2] {
    let [height, width] = [height, width].map(|side| side as f64);
    let ratio = (height / target[0] as f64).min(width / target[1] as f64);
    // A strip of extreme shape is limited to the largest image.
    let most = f64::from(Image::MAX_SIDE);
    [height * (scale / aspect) / ratio, width * (scale * aspect) / ratio]
        .map(|side| side.round_ties_even().clamp(1.0, most) as usize)
}

#[cfg(test)]
mod tests {
    use super::super::testing::image;
    use super::*;

    #[test]
    fn sizes_are_those_of_timm() {
        // ResizeKeepRatio.get_params with random.random and random.uniform patched: see tests/golden/make_augment.py.
        assert_eq!(resized_size([375, 500], [224, 224], 1.0, 1.0), [224, 299]);
        assert_eq!(resized_size([375, 500], [224, 224], 1.0 / 0.8f64.sqrt(), 1.0), [250, 334]);
        assert_eq!(resized_size([375, 500], [224, 160], 1.0, 0.9f64.sqrt()), [236, 283]);
    }

    #[test]
    fn every_place_of_a_random_crop_is_within_the_margin() {
        let crop = ResizeKeepRatio { scale: [0.8, 1.0], ratio: [0.9, 1.0 / 0.9], random_crop: true };
        let (mut inside, mut outside) = (0, 0);
        for index in 0..200 {
            let random = SampleRandom::new(2, 0, index);
            let (image, window) = crop.resize(&image(40, 50), [32, 32], Interpolation::Bilinear, random, |_| panic!());
            for (at, side) in [(window.top, image.height()), (window.left, image.width())] {
                let margin = side as isize - 32;
                assert!((margin.min(0)..=margin.max(0)).contains(&at), "{at} of {side}");
                if margin < 0 { outside += 1 } else { inside += 1 }
            }
        }
        assert!(inside > 200 && outside > 5, "{inside} {outside}");
    }
}
