//! The image under augmentation.

use residual_preprocess::{Image, Window};

/// The pixels outside an image that a window shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Padding {
    /// The preprocessing's colour: black, as torchvision's `RandomCrop` pads by default, or the mean where images are
    /// letterboxed.
    #[default]
    Zero,
    /// The image mirrored at its border, without repeating the border itself (`padding_mode="reflect"`).
    Reflect,
}

/// An image of the network's size whose pixels operations change in place: height × width × channels. Reused for the next
/// image, it does not allocate.
#[derive(Clone, Debug, Default)]
pub(crate) struct Canvas {
    height: usize,
    width: usize,
    channels: usize,
    pixels: Vec<u8>,
    /// The target of operations that cannot work in place.
    spare: Vec<u8>,
    pub(super) buffers: Buffers,
}

/// Buffers of operations that need more: the original and its mixture with augmented versions, and sums.
#[derive(Clone, Debug, Default)]
pub(super) struct Buffers {
    pub(super) original: Vec<u8>,
    pub(super) blended: Vec<u8>,
    pub(super) sums: Vec<f32>,
}

impl Canvas {
    /// Takes the window of `size` (height, width) of `image`. Where it is not padded otherwise, it is `fill` outside.
    pub(crate) fn load(&mut self, image: &Image, window: Window, size: [usize; 2], padding: Padding, fill: &[u8]) {
        let (from, channels) = ([image.height(), image.width()], image.channels());
        [self.height, self.width] = size;
        self.channels = channels;
        self.pixels.resize(size[0] * size[1] * channels, 0);
        match padding {
            Padding::Zero => window.copy(image.pixels(), from, channels, size, fill, &mut self.pixels),
            Padding::Reflect => {
                let inside = |[y, x]: [isize; 2]| reflected(y, from[0]) * from[1] + reflected(x, from[1]);
                for (at, pixel) in self.pixels.chunks_exact_mut(channels).enumerate() {
                    let source = inside(window.source([at / size[1], at % size[1]], size)) * channels;
                    pixel.copy_from_slice(&image.pixels()[source..][..channels]);
                }
            }
        }
    }

    /// Height and width.
    pub(crate) fn size(&self) -> [usize; 2] {
        [self.height, self.width]
    }

    /// Values per pixel.
    pub(crate) fn channels(&self) -> usize {
        self.channels
    }

    /// The values, row by row, channels interleaved.
    pub(crate) fn pixels(&self) -> &[u8] {
        &self.pixels
    }

    /// The values, to be changed in place.
    pub(crate) fn pixels_mut(&mut self) -> &mut [u8] {
        &mut self.pixels
    }

    /// Replaces the pixels: `write` gets the present ones and the place of the new ones, whose content is arbitrary.
    pub(super) fn replace(&mut self, write: impl FnOnce(&[u8], &mut [u8])) {
        self.spare.resize(self.pixels.len(), 0);
        write(&self.pixels, &mut self.spare);
        std::mem::swap(&mut self.pixels, &mut self.spare);
    }
}

/// The position within `0..length` that is shown at `at` when the line is mirrored at both ends again and again.
pub(super) fn reflected(at: isize, length: usize) -> usize {
    let last = length as isize - 1;
    if last == 0 {
        return 0;
    }
    let at = at.rem_euclid(2 * last);
    (if at > last { 2 * last - at } else { at }) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A letterboxed image's border is the mean in training as in evaluation, also where a random crop moves it.
    #[test]
    fn a_window_of_a_letterboxed_image_is_filled_with_the_mean() {
        use crate::augment::testing::{image, run};
        use crate::{Augmentation, Operation, PadAndCrop, Sample, SampleRandom, Transform};
        use residual_preprocess::{CropMode, Preprocessing};
        let unscaled = Preprocessing::unscaled([8, 8], &[0.5, 0.2, 0.1], &[1.0; 3]);
        let preprocessing = Preprocessing { crop_mode: CropMode::Border, ..unscaled };
        let sample = Sample::Pixels(image(2, 8));
        let crop = Operation::PadAndCrop(PadAndCrop { padding: 2, mode: Padding::Zero });
        let training = Transform::training(preprocessing.clone(), Augmentation::new([crop])).unwrap();
        let evaluation = Transform::evaluation(preprocessing).unwrap();
        for transform in [evaluation, training] {
            for index in 0..20 {
                let output = run(&transform, &sample, SampleRandom::new(0, 0, index));
                // The mean is 0 but for the rounding of its colour; the image's blue is 7.
                let (border, image): (Vec<&[f32]>, _) = output.chunks(3).partition(|pixel| pixel[0].abs() < 0.003);
                assert!(border.len() >= 48 && border.iter().all(|pixel| pixel[2].abs() < 0.003), "{}", border.len());
                assert!(image.iter().all(|pixel: &&[f32]| (pixel[2] - (7.0 / 255.0 - 0.1)).abs() < 1e-5));
            }
        }
    }

    #[test]
    fn reflection_does_not_repeat_the_border() {
        // numpy.pad([0, 1, 2], 5, mode="reflect")
        let line: Vec<usize> = (-5..8).map(|at| reflected(at, 3)).collect();
        assert_eq!(line, [1, 0, 1, 2, 1, 0, 1, 2, 1, 0, 1, 2, 1]);
        assert_eq!(reflected(-3, 1), 0);
    }
}
