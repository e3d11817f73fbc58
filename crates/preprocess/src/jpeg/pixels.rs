//! Converts the components' planes to pixels: libjpeg's smooth upsampling (`jdsample.c`) and colour conversion
//! (`jdcolor.c`), to the bit.

use super::Fault;
use super::coefficients::Plane;
use super::header::{Colours, Frame};
use crate::Image;

/// Assembles the image from its planes: one channel of grey, or red, green and blue.
pub(super) fn assemble((frame, planes): (Frame, Vec<Plane>), colours: Colours) -> Result<Image, Fault> {
    let Frame { height, width, .. } = frame;
    let channels = if colours == Colours::Grey { 1 } else { 3 };
    let mut pixels = vec![0; height * width * channels];
    // Upsampling writes whole pairs (or more) of samples.
    let mut rows: Vec<Vec<u8>> = planes.iter().map(|plane| vec![0; plane.size[1] * plane.scale[1]]).collect();
    let mut sums: Vec<Vec<u16>> = planes.iter().map(|plane| vec![0; plane.size[1]]).collect();
    for (y, output) in pixels.chunks_exact_mut(width * channels).enumerate() {
        for (plane, (row, sums)) in planes.iter().zip(rows.iter_mut().zip(&mut sums)) {
            plane.upsample(y, sums, row);
        }
        match &rows[..] {
            [grey] => output.copy_from_slice(&grey[..width]),
            [first, second, third, black @ ..] => {
                let (output, _) = output.as_chunks_mut::<3>();
                let samples = first.iter().zip(second).zip(third);
                let samples = samples.map(|((&first, &second), &third)| [first, second, third]);
                let colours_of = |[first, second, third]: [u8; 3]| match colours {
                    Colours::YCbCr | Colours::Ycck => rgb(first, second, third),
                    _ => [first, second, third],
                };
                match black {
                    [] => output.iter_mut().zip(samples).for_each(|(pixel, sample)| *pixel = colours_of(sample)),
                    [black, ..] => {
                        for ((pixel, sample), &black) in output.iter_mut().zip(samples).zip(black) {
                            *pixel = printed(colours_of(sample), black, colours);
                        }
                    }
                }
            }
            _ => return Err(Fault::Broken("a frame of two components")),
        }
    }
    Image::new(height, width, channels, pixels).map_err(|_| Fault::Broken("an image without pixels"))
}

/// The colour of three inks and black as Adobe stores them, 255 for none: Pillow's `cmyk2rgb` (`Convert.c`) of the
/// inverted values. Of YCCK, the three are complements of the inks: libjpeg's `ycck_cmyk_convert`.
fn printed(inks: [u8; 3], black: u8, colours: Colours) -> [u8; 3] {
    inks.map(|stored| {
        let stored = if colours == Colours::Ycck { 255 - stored } else { stored };
        let (ink, light) = (u32::from(255 - stored), u32::from(black));
        let product = ink * light + 128;
        (light as i32 - ((product + (product >> 8)) >> 8) as i32).clamp(0, 255) as u8
    })
}

/// ITU-R 601 in 16-bit fixed point.
fn rgb(y: u8, cb: u8, cr: u8) -> [u8; 3] {
    const HALF: i32 = 1 << 15;
    let (y, cb, cr) = (i32::from(y), i32::from(cb) - 128, i32::from(cr) - 128);
    let red = y + ((91_881 * cr + HALF) >> 16);
    let green = y + ((-22_554 * cb - 46_802 * cr + HALF) >> 16);
    let blue = y + ((116_130 * cb + HALF) >> 16);
    [red.clamp(0, 255) as u8, green.clamp(0, 255) as u8, blue.clamp(0, 255) as u8]
}

impl Plane {
    fn row(&self, row: usize) -> &[u8] {
        &self.samples[row * self.stride..][..self.size[1]]
    }

    /// Row `y` of the plane in the image's size. `sums` has room for a row of the plane.
    fn upsample(&self, y: usize, sums: &mut [u16], output: &mut [u8]) {
        let [down, across] = self.scale;
        let near = self.row(y / down);
        // The row on the other side of this half of `near`, itself at the edges.
        let far = if y.is_multiple_of(2) { (y / 2).saturating_sub(1) } else { (y / 2 + 1).min(self.size[0] - 1) };
        match [down, across] {
            [1, 1] => output.copy_from_slice(near),
            [1, 2] if near.len() > 2 => widen(near, output),
            [2, 1] => {
                let bias = if y.is_multiple_of(2) { 1 } else { 2 };
                for (output, (&near, &far)) in output.iter_mut().zip(near.iter().zip(self.row(far))) {
                    *output = ((3 * u16::from(near) + u16::from(far) + bias) >> 2) as u8;
                }
            }
            [2, 2] if near.len() > 2 => widen_between(near, self.row(far), sums, output),
            _ => {
                for (output, &sample) in output.chunks_exact_mut(across).zip(near) {
                    output.fill(sample);
                }
            }
        }
    }
}

/// Twice as many samples: three quarters of the nearer, one of the other.
fn widen(row: &[u8], output: &mut [u8]) {
    let (output, _) = output.as_chunks_mut::<2>();
    let pair = |before: u8, here: u8, after: u8| {
        let here = 3 * u16::from(here);
        [((here + u16::from(before) + 1) >> 2) as u8, ((here + u16::from(after) + 2) >> 2) as u8]
    };
    let last = row.len() - 1;
    for (output, window) in output[1..].iter_mut().zip(row.windows(3)) {
        *output = pair(window[0], window[1], window[2]);
    }
    output[0] = pair(row[0], row[0], row[1]);
    output[last] = pair(row[last - 1], row[last], row[last]);
}

/// Twice as many samples, between two rows: nine sixteenths of the nearest, three of its neighbours, one of the
/// farthest. `sums` has room for a row.
fn widen_between(near: &[u8], far: &[u8], sums: &mut [u16], output: &mut [u8]) {
    let (output, _) = output.as_chunks_mut::<2>();
    for (sum, (&near, &far)) in sums.iter_mut().zip(near.iter().zip(far)) {
        *sum = 3 * u16::from(near) + u16::from(far);
    }
    let pair = |before: u16, here: u16, after: u16| {
        [((3 * here + before + 8) >> 4) as u8, ((3 * here + after + 7) >> 4) as u8]
    };
    let last = near.len() - 1;
    for (output, window) in output[1..].iter_mut().zip(sums.windows(3)) {
        *output = pair(window[0], window[1], window[2]);
    }
    output[0] = pair(sums[0], sums[0], sums[1]);
    output[last] = pair(sums[last - 1], sums[last], sums[last]);
}
