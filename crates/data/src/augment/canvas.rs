//! The image under augmentation.

use residual_preprocess::{Image, Window};

/// The pixels outside an image that a window shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Padding {
    /// Black: pixel value 0, as torchvision's `RandomCrop` pads by default.
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
    /// The images and sums of AugMix.
    pub(super) mixture: Mixture,
}

/// Buffers of a mixture of several augmented versions of one image.
#[derive(Clone, Debug, Default)]
pub(super) struct Mixture {
    pub(super) original: Vec<u8>,
    pub(super) blended: Vec<u8>,
    pub(super) sum: Vec<f32>,
}

impl Canvas {
    /// Takes the window of `size` (height, width) of `image`.
    pub(crate) fn load(&mut self, image: &Image, window: Window, size: [usize; 2], padding: Padding) {
        let (from, channels) = ([image.height(), image.width()], image.channels());
        [self.height, self.width] = size;
        self.channels = channels;
        self.pixels.resize(size[0] * size[1] * channels, 0);
        match padding {
            Padding::Zero => window.copy(image.pixels(), from, channels, size, &mut self.pixels),
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

    #[test]
    fn reflection_does_not_repeat_the_border() {
        // numpy.pad([0, 1, 2], 5, mode="reflect")
        let line: Vec<usize> = (-5..8).map(|at| reflected(at, 3)).collect();
        assert_eq!(line, [1, 0, 1, 2, 1, 0, 1, 2, 1, 0, 1, 2, 1]);
        assert_eq!(reflected(-3, 1), 0);
    }
}
