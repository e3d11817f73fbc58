//! From the components' planes to RGB pixels: libjpeg's smooth upsampling (`jdsample.c`) and colour conversion
//! (`jdcolor.c`), to the bit.

use super::Fault;
use super::coefficients::Plane;
use super::header::Frame;
use crate::Image;

/// Puts the image together from its planes; three of them are YCbCr or RGB.
pub(super) fn assemble((frame, planes): (Frame, Vec<Plane>), is_ycc: bool) -> Result<Image, Fault> {
    let Frame { height, width, .. } = frame;
    let mut pixels = vec![0; height * width * 3];
    // Upsampling writes whole pairs (or more) of samples.
    let mut rows: Vec<Vec<u8>> = planes.iter().map(|plane| vec![0; plane.size[1] * plane.scale[1]]).collect();
    for (y, output) in pixels.chunks_exact_mut(width * 3).enumerate() {
        for (plane, row) in planes.iter().zip(&mut rows) {
            plane.upsample(y, row);
        }
        let (output, _) = output.as_chunks_mut::<3>();
        match &rows[..] {
            [grey] => output.iter_mut().zip(grey).for_each(|(pixel, &grey)| *pixel = [grey; 3]),
            [first, second, third] => {
                let samples = first.iter().zip(second).zip(third);
                for (pixel, ((&a, &b), &c)) in output.iter_mut().zip(samples) {
                    *pixel = if is_ycc { rgb(a, b, c) } else { [a, b, c] };
                }
            }
            _ => return Err(Fault::Unhandled),
        }
    }
    Image::new(height, width, 3, pixels).map_err(|_| Fault::Broken("an image without pixels"))
}

/// ITU-R 601 in 16-bit fixed point.
fn rgb(y: u8, cb: u8, cr: u8) -> [u8; 3] {
    const HALF: i32 = 1 << 15;
    let (y, cb, cr) = (i32::from(y), i32::from(cb) - 128, i32::from(cr) - 128);
    let red = y + ((91_881 * cr + HALF) >> 16);
    let green = y + ((-22_554 * cb - 46_802 * cr + HALF) >> 16);
    let blue = y + ((116_130 * cb + HALF) >> 16);
    [red, green, blue].map(|value| value.clamp(0, 255) as u8)
}

impl Plane {
    fn row(&self, row: usize) -> &[u8] {
        &self.samples[row * self.stride..][..self.size[1]]
    }

    /// Row `y` of the plane in the image's size.
    fn upsample(&self, y: usize, output: &mut [u8]) {
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
            [2, 2] if near.len() > 2 => widen_between(near, self.row(far), output),
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
    let last = row.len() - 1;
    for (at, output) in output.iter_mut().enumerate() {
        let sample = 3 * u16::from(row[at]);
        let left = (sample + u16::from(row[at.saturating_sub(1)]) + 1) >> 2;
        let right = (sample + u16::from(row[(at + 1).min(last)]) + 2) >> 2;
        *output = [left as u8, right as u8];
    }
}

/// Twice as many samples, between two rows: nine sixteenths of the nearest, three of its neighbours, one of the
/// farthest.
fn widen_between(near: &[u8], far: &[u8], output: &mut [u8]) {
    let (output, _) = output.as_chunks_mut::<2>();
    let sum = |at: usize| 3 * u16::from(near[at]) + u16::from(far[at]);
    let last = near.len() - 1;
    let (mut before, mut here) = (sum(0), sum(0));
    for (at, output) in output.iter_mut().enumerate() {
        let after = sum((at + 1).min(last));
        *output = [((3 * here + before + 8) >> 4) as u8, ((3 * here + after + 7) >> 4) as u8];
        (before, here) = (here, after);
    }
}
