//! Converts the components' planes to pixels: libjpeg's smooth upsampling (`jdsample.c`) and colour conversion
//! (`jdcolor.c`), to the bit.

use std::ops::Range;

use residual_kernels::Isa;
use residual_kernels::image::{widen, widen_between, ycc_to_rgb};

use super::coefficients::Plane;
use super::header::{Colours, Frame};
use super::{Fault, Rectangle};
use crate::{Image, memory};

/// Assembles the rectangle of the image from its planes: one channel of grey, or red, green and blue.
pub(super) fn assemble(
    frame: &Frame,
    planes: &[Plane],
    rectangle: Rectangle,
    colours: Colours,
) -> Result<Image, Fault> {
    let isa = crate::instructions::isa();
    let Rectangle { top, left, height, width } = rectangle;
    let channels = if colours == Colours::Grey { 1 } else { 3 };
    debug_assert!(top + height <= frame.height && left + width <= frame.width);
    let mut pixels = memory::take(height * width * channels);
    let mut row = vec![0; width * channels];
    let mut parts: Vec<Part<'_>> = planes.iter().map(|plane| Part::new(plane, rectangle)).collect();
    for y in top..top + height {
        parts.iter_mut().for_each(|part| part.upsample(isa, y));
        let samples = |part: usize| &parts[part].row[parts[part].skip..][..width];
        match (parts.len(), colours) {
            (1, _) => pixels.extend_from_slice(samples(0)),
            (3, Colours::YCbCr) => {
                ycc_to_rgb(isa, samples(0), samples(1), samples(2), &mut row);
                pixels.extend_from_slice(&row);
            }
            (3, _) => {
                for ((&red, &green), &blue) in samples(0).iter().zip(samples(1)).zip(samples(2)) {
                    pixels.extend_from_slice(&[red, green, blue]);
                }
            }
            (4, _) => {
                if colours == Colours::Ycck {
                    ycc_to_rgb(isa, samples(0), samples(1), samples(2), &mut row);
                } else {
                    let (row, _) = row.as_chunks_mut::<3>();
                    let inks = samples(0).iter().zip(samples(1)).zip(samples(2));
                    row.iter_mut().zip(inks).for_each(|(pixel, ((&c, &m), &y))| *pixel = [c, m, y]);
                }
                for (inks, &black) in row.as_chunks::<3>().0.iter().zip(samples(3)) {
                    pixels.extend_from_slice(&printed(*inks, black, colours));
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

/// The columns of a plane that a rectangle needs, and a row of them in the image's size.
struct Part<'a> {
    plane: &'a Plane,
    columns: Range<usize>,
    row: Vec<u8>,
    /// The samples of `row` in front of the rectangle.
    skip: usize,
    sums: Vec<u16>,
}

impl<'a> Part<'a> {
    fn new(plane: &'a Plane, rectangle: Rectangle) -> Self {
        let [_, columns] = rectangle.samples(plane.scale, plane.size);
        let across = plane.scale[1];
        Self {
            plane,
            row: vec![0; columns.len() * across],
            skip: rectangle.left - columns.start * across,
            sums: vec![0; columns.len()],
            columns,
        }
    }

    /// Makes `row` the row `y` of the image. At the ends of the columns, neighbours are missing; these samples are outside the rectangle,
    /// or at the ends of the image, where there are none.
    fn upsample(&mut self, isa: Isa, y: usize) {
        let Self { plane, columns, row: output, sums, .. } = self;
        let row = |row: usize| &plane.samples[row * plane.stride..][columns.clone()];
        let [down, across] = plane.scale;
        let near = row(y / down);
        // The row on the other side of this half of `near`, itself at the edges.
        let far = if y.is_multiple_of(2) { (y / 2).saturating_sub(1) } else { (y / 2 + 1).min(plane.size[0] - 1) };
        // libjpeg repeats the samples of narrower planes.
        let smooth = plane.size[1] > 2;
        match [down, across] {
            [1, 1] => output.copy_from_slice(near),
            [1, 2] if smooth => widen(isa, near, output),
            [2, 1] => {
                let bias = if y.is_multiple_of(2) { 1 } else { 2 };
                for (output, (&near, &far)) in output.iter_mut().zip(near.iter().zip(row(far))) {
                    *output = ((3 * u16::from(near) + u16::from(far) + bias) >> 2) as u8;
                }
            }
            [2, 2] if smooth => widen_between(isa, near, row(far), sums, output),
            _ => {
                for (output, &sample) in output.chunks_exact_mut(across).zip(near) {
                    output.fill(sample);
                }
            }
        }
    }
}
