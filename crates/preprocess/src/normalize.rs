//! Converts 8-bit pixels to the network's input: crop, flip and normalise in one pass.

use std::ops::Range;

use residual_kernels::image::{Normalization, normalize};

use crate::instructions::isa;
use crate::{Image, memory};

/// The window of an image that becomes the network's input. The rectangle may extend beyond the image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Window {
    /// The image's row that becomes the first.
    pub top: isize,
    /// The image's column that becomes the first (the last one with `flip`).
    pub left: isize,
    /// Whether the window is flipped horizontally.
    pub flip: bool,
    /// Whether the window is flipped vertically.
    pub vertical_flip: bool,
}

impl Window {
    /// Calls `fill` for every row of an output of `size` with its number, that of the image's row it shows, or `None` outside an image of
    /// `height` × `width`, and the columns that it shows of it: the range in the output, and the first column of the image there. With
    /// [`flip`](Self::flip) that range is filled from its end.
    fn rows(
        self,
        [height, width]: [usize; 2],
        size: [usize; 2],
        mut fill: impl FnMut(usize, Option<(usize, Range<usize>, usize)>),
    ) {
        // The columns of the window that are inside the image.
        let start = if self.left < 0 { self.left.unsigned_abs() } else { 0 }.min(size[1]);
        let end = usize::try_from((width as isize).saturating_sub(self.left)).unwrap_or(0).clamp(start, size[1]);
        let columns = if self.flip { size[1] - end..size[1] - start } else { start..end };
        for y in 0..size[0] {
            let row = if self.vertical_flip { size[0] - 1 - y } else { y };
            let row = self.top.checked_add_unsigned(row).and_then(|row| usize::try_from(row).ok());
            let row = row.filter(|&row| row < height && start < end);
            fill(y, row.map(|row| (row, columns.clone(), self.left.saturating_add_unsigned(start) as usize)));
        }
    }

    /// The row and column of the image, which may be outside it, that an output of `size` shows at `position`.
    pub fn source(self, [y, x]: [usize; 2], size: [usize; 2]) -> [isize; 2] {
        let y = if self.vertical_flip { size[0] - 1 - y } else { y };
        let x = if self.flip { size[1] - 1 - x } else { x };
        [self.top.saturating_add_unsigned(y), self.left.saturating_add_unsigned(x)]
    }

    /// Copies the window of an image of height × width × channels to an output of `size` (height, width), without
    /// normalising it; pixels outside the image are `fill`.
    ///
    /// # Panics
    /// If a slice does not have its size.
    pub fn copy<T: Copy>(
        self,
        values: &[T],
        image: [usize; 2],
        channels: usize,
        size: [usize; 2],
        fill: &[T],
        output: &mut [T],
    ) {
        assert_eq!(values.len(), image[0] * image[1] * channels, "values against the image's size");
        assert_eq!(output.len(), size[0] * size[1] * channels, "output against its size");
        let row_len = size[1] * channels;
        self.rows(image, size, |y, shown| {
            let output = &mut output[y * row_len..][..row_len];
            self.copy_row(values, image[1], channels, shown, fill, output);
        });
    }

    /// Copies a row of [`rows`](Self::rows).
    fn copy_row<T: Copy>(
        self,
        values: &[T],
        width: usize,
        channels: usize,
        shown: Option<(usize, Range<usize>, usize)>,
        fill: &[T],
        output: &mut [T],
    ) {
        let (row, columns, first) = shown.unwrap_or_default();
        let (before, output) = output.split_at_mut(columns.start * channels);
        let (inside, after) = output.split_at_mut(columns.len() * channels);
        for pixel in before.chunks_exact_mut(channels).chain(after.chunks_exact_mut(channels)) {
            pixel.copy_from_slice(fill);
        }
        let source = &values[(row * width + first) * channels..][..inside.len()];
        match channels {
            _ if !self.flip => inside.copy_from_slice(source),
            3 => {
                let source = source.as_chunks::<3>().0.iter().rev();
                inside.as_chunks_mut::<3>().0.iter_mut().zip(source).for_each(|(pixel, from)| *pixel = *from);
            }
            _ => {
                let source = source.chunks_exact(channels).rev();
                inside.chunks_exact_mut(channels).zip(source).for_each(|(pixel, from)| pixel.copy_from_slice(from));
            }
        }
    }
}

/// `(x / 255 − mean) / std` for each of the 256 values of each channel, computed once.
#[derive(Clone, Debug)]
pub struct Normalizer {
    values: Normalization,
}

impl Normalizer {
    /// For channels of the given means and standard deviations, on a scale of 0 to 1. The values are
    /// those of torchvision's `ToTensor` and `Normalize`, bit for bit.
    pub fn new(mean: &[f32], std: &[f32]) -> Self {
        Self { values: Normalization::new(mean, std) }
    }

    /// The number of channels.
    pub fn channels(&self) -> usize {
        self.values.channels()
    }

    /// Writes the window of `image` as normalised values, height × width × channels; pixels outside it are `fill`.
    ///
    /// # Panics
    /// If image or `fill` do not have as many channels as the tables, or `output` not `size` (height, width) of them.
    pub fn write(&self, image: &Image, window: Window, size: [usize; 2], fill: &[u8], output: &mut [f32]) {
        let channels = self.channels();
        assert_eq!([image.channels(), fill.len()], [channels; 2], "the channels of image and fill");
        assert_eq!(output.len(), size[0] * size[1] * channels, "output against its size");
        let (isa, width, row_len) = (isa(), image.width(), size[1] * channels);
        let mut turned = memory::take(row_len);
        turned.resize(row_len, 0);
        window.rows([image.height(), width], size, |y, shown| {
            let output = &mut output[y * row_len..][..row_len];
            let pixels = match shown {
                Some((row, Range { start: 0, end }, first)) if end == size[1] && !window.flip => {
                    &image.pixels()[(row * width + first) * channels..][..row_len]
                }
                shown => {
                    window.copy_row(image.pixels(), width, channels, shown, fill, &mut turned);
                    &turned
                }
            };
            normalize(isa, &self.values, pixels, output);
        });
        memory::give(turned);
    }

    /// Writes `pixels`, interleaved channels, as normalised values.
    ///
    /// # Panics
    /// If `output` does not have as many values, or `pixels` are not whole pixels.
    pub fn write_all(&self, pixels: &[u8], output: &mut [f32]) {
        normalize(isa(), &self.values, pixels, output);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbered(height: usize, width: usize, channels: usize) -> Image {
        Image::new(height, width, channels, (0..(height * width * channels) as u8).collect()).unwrap()
    }

    #[test]
    fn a_window_outside_the_image_is_filled() {
        let identity = Normalizer::new(&[0.0], &[1.0 / 255.0]);
        let mut output = [-1.0; 4];
        identity.write(&numbered(2, 2, 1), Window { top: -1, left: 1, ..Window::default() }, [2, 2], &[9], &mut output);
        assert_eq!(output.map(f32::round), [9.0, 9.0, 1.0, 9.0]);
        identity.write(
            &numbered(2, 2, 1),
            Window { top: isize::MAX, left: isize::MIN, flip: true, vertical_flip: true },
            [2, 2],
            &[0],
            &mut output,
        );
        assert_eq!(output, [0.0; 4]);
    }

    #[test]
    fn a_flip_mirrors_the_window_not_the_image() {
        let identity = Normalizer::new(&[0.0; 3], &[1.0 / 255.0; 3]);
        let mut output = [0.0; 6];
        identity.write(
            &numbered(1, 3, 3),
            Window { top: 0, left: 1, flip: true, ..Window::default() },
            [1, 2],
            &[0; 3],
            &mut output,
        );
        assert_eq!(output.map(f32::round), [6.0, 7.0, 8.0, 3.0, 4.0, 5.0]);
    }

    #[test]
    fn both_flips_rotate_the_window_by_half_a_turn() {
        let image = numbered(2, 3, 1);
        let window = Window { top: 0, left: 1, flip: true, vertical_flip: true };
        let mut turned = [9; 4];
        window.copy(image.pixels(), [2, 3], 1, [2, 2], &[0], &mut turned);
        assert_eq!(turned, [5, 4, 2, 1]);
        assert_eq!(window.source([0, 0], [2, 2]), [1, 2]);
    }

    #[test]
    fn three_channels_and_any_other_number_agree() {
        let (mean, std) = ([0.1, 0.2, 0.3, 0.4, 0.5], [0.5, 0.4, 0.3, 0.2, 0.1]);
        let five = numbered(4, 4, 5);
        let three: Vec<u8> = five.pixels().chunks_exact(5).flat_map(|pixel| &pixel[..3]).copied().collect();
        let three = Image::new(4, 4, 3, three).unwrap();
        let window = Window { top: -1, left: 2, flip: true, vertical_flip: true };
        let (mut all, mut some) = ([0.0; 45], [0.0; 27]);
        Normalizer::new(&mean, &std).write(&five, window, [3, 3], &[4; 5], &mut all);
        Normalizer::new(&mean[..3], &std[..3]).write(&three, window, [3, 3], &[4; 3], &mut some);
        assert!(all.chunks_exact(5).zip(some.chunks_exact(3)).all(|(all, some)| all[..3] == *some));
    }
}
