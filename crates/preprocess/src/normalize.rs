//! Converts 8-bit pixels to the network's input: crop, flip and normalise in one pass.

use crate::Image;

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
    /// Calls `fill` for every pixel of an output of `size` with its position and that of the pixel it shows, or `None`
    /// outside an image of `height` × `width`.
    fn walk(self, [height, width]: [usize; 2], size: [usize; 2], mut fill: impl FnMut(usize, Option<usize>)) {
        for y in 0..size[0] {
            let row = if self.vertical_flip { size[0] - 1 - y } else { y };
            let row = self.top.checked_add_unsigned(row).and_then(|row| usize::try_from(row).ok());
            let row = row.filter(|&row| row < height);
            for x in 0..size[1] {
                let column = if self.flip { size[1] - 1 - x } else { x };
                let column = self.left.checked_add_unsigned(column).and_then(|column| usize::try_from(column).ok());
                let source = row.zip(column.filter(|&c| c < width)).map(|(row, column)| row * width + column);
                fill(y * size[1] + x, source);
            }
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
        self.walk(image, size, |to, from| {
            let to = &mut output[to * channels..][..channels];
            match from {
                Some(from) => to.copy_from_slice(&values[from * channels..][..channels]),
                None => to.copy_from_slice(fill),
            }
        });
    }
}

/// `(x / 255 − mean) / std` for each of the 256 values of each channel, computed once.
#[derive(Clone, Debug)]
pub struct Normalizer {
    tables: Vec<[f32; 256]>,
}

impl Normalizer {
    /// The tables for channels of the given means and standard deviations, on a scale of 0 to 1. The values are
    /// those of torchvision's `ToTensor` and `Normalize`, bit for bit.
    pub fn new(mean: &[f32], std: &[f32]) -> Self {
        let table = |(&mean, &std): (&f32, &f32)| std::array::from_fn(|x| (x as f32 / 255.0 - mean) / std);
        Self { tables: mean.iter().zip(std).map(table).collect() }
    }

    /// The number of channels.
    pub fn channels(&self) -> usize {
        self.tables.len()
    }

    /// Writes the window of `image` as normalised values, height × width × channels; pixels outside it are `fill`.
    ///
    /// # Panics
    /// If image or `fill` do not have as many channels as the tables, or `output` not `size` (height, width) of them.
    pub fn write(&self, image: &Image, window: Window, size: [usize; 2], fill: &[u8], output: &mut [f32]) {
        let channels = self.channels();
        assert_eq!([image.channels(), fill.len()], [channels; 2], "the channels of image and fill");
        assert_eq!(output.len(), size[0] * size[1] * channels, "output against its size");
        let inside = [image.height(), image.width()];
        match &self.tables[..] {
            [red, green, blue] => {
                let (pixels, _) = image.pixels().as_chunks::<3>();
                let (output, _) = output.as_chunks_mut::<3>();
                let outside = [fill[0], fill[1], fill[2]];
                window.walk(inside, size, |to, from| {
                    let [r, g, b] = from.map_or(outside, |from| pixels[from]);
                    output[to] = [red[usize::from(r)], green[usize::from(g)], blue[usize::from(b)]];
                });
            }
            tables => window.walk(inside, size, |to, from| {
                let output = &mut output[to * channels..][..channels];
                let pixel = from.map_or(fill, |from| &image.pixels()[from * channels..][..channels]);
                for ((output, table), &value) in output.iter_mut().zip(tables).zip(pixel) {
                    *output = table[usize::from(value)];
                }
            }),
        }
    }

    /// Writes all `pixels`, height × width × channels, as normalised values.
    ///
    /// # Panics
    /// If the slices differ in length, or have no whole number of pixels.
    pub fn write_all(&self, pixels: &[u8], output: &mut [f32]) {
        let channels = self.channels();
        assert_eq!(pixels.len(), output.len(), "as many values as pixels have");
        assert!(pixels.len().is_multiple_of(channels), "whole pixels");
        for (pixel, output) in pixels.chunks_exact(channels).zip(output.chunks_exact_mut(channels)) {
            for ((output, &value), table) in output.iter_mut().zip(pixel).zip(&self.tables) {
                *output = table[usize::from(value)];
            }
        }
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
