//! Affine transforms, with the arithmetic of Pillow's `Image.transform` and `Image.rotate`.

use residual_preprocess::Interpolation;

use super::Resampling;
use crate::augment::canvas::Canvas;

/// The source of a position in an image of the given size.
type Turn = fn([usize; 2], [usize; 2]) -> [usize; 2];

/// `Image.rotate(degrees)`: anticlockwise about the centre, in an image of the same size.
pub(super) fn rotate(canvas: &mut Canvas, degrees: f64, resampling: Resampling, fill: &[u8]) {
    let degrees = degrees.rem_euclid(360.0);
    let [height, width] = canvas.size();
    if degrees == 0.0 {
        return;
    }
    // Pillow transposes instead of interpolating.
    let turns: Option<Turn> = match degrees {
        180.0 => Some(|[y, x], [height, width]| [height - 1 - y, width - 1 - x]),
        90.0 if height == width => Some(|[y, x], [_, width]| [x, width - 1 - y]),
        270.0 if height == width => Some(|[y, x], [height, _]| [height - 1 - x, y]),
        _ => None,
    };
    if let Some(source) = turns {
        let channels = canvas.channels();
        canvas.replace(|from, to| {
            for (at, pixel) in to.chunks_exact_mut(channels).enumerate() {
                let [y, x] = source([at / width, at % width], [height, width]);
                pixel.copy_from_slice(&from[(y * width + x) * channels..][..channels]);
            }
        });
        return;
    }
    let angle = -degrees.to_radians();
    let [cos, sin] = [angle.cos(), angle.sin()].map(rounded);
    let [x, y] = [width, height].map(|side| side as f64 / 2.0);
    let matrix = [cos, sin, cos * -x + sin * -y + x, -sin, cos, -sin * -x + cos * -y + y];
    affine(canvas, matrix, resampling, fill);
}

/// `value` with 15 decimal places.
fn rounded(value: f64) -> f64 {
    format!("{value:.15}").parse().expect("a printed number is a number")
}

/// Shows at each position (x, y) the position (`a·x + b·y + c`, `d·x + e·y + f`) of the image, and `fill` outside it.
pub(super) fn affine(canvas: &mut Canvas, matrix: [f64; 6], resampling: Resampling, fill: &[u8]) {
    match canvas.channels() {
        1 => affine_of::<1>(canvas, matrix, resampling, fill),
        3 => affine_of::<3>(canvas, matrix, resampling, fill),
        channels => unreachable!("{channels} channels, which were refused before"),
    }
}

fn affine_of<const CHANNELS: usize>(canvas: &mut Canvas, matrix: [f64; 6], resampling: Resampling, fill: &[u8]) {
    let [height, width] = canvas.size();
    let fill: [u8; CHANNELS] = fill.try_into().expect("a colour of as many channels");
    canvas.replace(|from, to| {
        let source = Source { pixels: from.as_chunks().0, height, width };
        let to = to.as_chunks_mut().0;
        match resampling {
            Resampling::Nearest => nearest(source, to, matrix, fill),
            Resampling::Smooth(interpolation) => smooth(source, to, matrix, fill, interpolation),
        }
    });
}

#[derive(Clone, Copy)]
struct Source<'a, const CHANNELS: usize> {
    pixels: &'a [[u8; CHANNELS]],
    height: usize,
    width: usize,
}

impl<const CHANNELS: usize> Source<'_, CHANNELS> {
    /// The square of `N` × `N` pixels from (`top`, `left`) on; its parts outside the image repeat the border.
    #[inline(always)]
    fn square<const N: usize>(&self, top: isize, left: isize) -> [[[u8; CHANNELS]; N]; N] {
        if top >= 0 && left >= 0 && top as usize + N <= self.height && left as usize + N <= self.width {
            return std::array::from_fn(|y| {
                let row = &self.pixels[(top as usize + y) * self.width + left as usize..];
                *row.first_chunk().expect("a row of the square is inside the image")
            });
        }
        let inside = |at: isize, side: usize| at.clamp(0, side as isize - 1) as usize;
        let columns: [usize; N] = std::array::from_fn(|x| inside(left + x as isize, self.width));
        std::array::from_fn(|y| {
            let row = &self.pixels[inside(top + y as isize, self.height) * self.width..][..self.width];
            columns.map(|column| row[column])
        })
    }
}

/// Nearest neighbours. Pillow adds up the positions: those of a pure translation as floating-point numbers, others in
/// 16.16 fixed point.
fn nearest<const CHANNELS: usize>(
    source: Source<'_, CHANNELS>,
    to: &mut [[u8; CHANNELS]],
    [a, b, c, d, e, f]: [f64; 6],
    fill: [u8; CHANNELS],
) {
    let inside = |at: i64, side: usize| usize::try_from(at).ok().filter(|&at| at < side);
    let read = |y: Option<usize>, x: Option<usize>| y.zip(x).map_or(fill, |(y, x)| source.pixels[y * source.width + x]);
    if b == 0.0 && d == 0.0 {
        // Truncation towards zero, but not of negative positions, which are outside.
        let whole = |at: f64| if at < 0.0 { -1 } else { at as i64 };
        let mut y = f + e * 0.5;
        for row in to.chunks_exact_mut(source.width) {
            let mut x = c + a * 0.5;
            for pixel in row {
                *pixel = read(inside(whole(y), source.height), inside(whole(x), source.width));
                x += a;
            }
            y += e;
        }
        return;
    }
    let fixed = |value: f64| (value * 65536.0 + 0.5).floor() as i64;
    let steps = [a, b, d, e].map(fixed);
    let mut start = [fixed(c + a * 0.5 + b * 0.5), fixed(f + d * 0.5 + e * 0.5)];
    for row in to.chunks_exact_mut(source.width) {
        let [mut x, mut y] = start;
        for pixel in row {
            *pixel = read(inside(y >> 16, source.height), inside(x >> 16, source.width));
            x += steps[0];
            y += steps[2];
        }
        start = [start[0] + steps[1], start[1] + steps[3]];
    }
}

/// Bilinear or bicubic interpolation between pixel centres; values are truncated, not rounded.
fn smooth<const CHANNELS: usize>(
    source: Source<'_, CHANNELS>,
    to: &mut [[u8; CHANNELS]],
    [a, b, c, d, e, f]: [f64; 6],
    fill: [u8; CHANNELS],
    interpolation: Interpolation,
) {
    let [height, width] = [source.height, source.width].map(|side| side as f64);
    for (y, row) in to.chunks_exact_mut(source.width).enumerate() {
        let y = y as f64 + 0.5;
        for (x, pixel) in row.iter_mut().enumerate() {
            let x = x as f64 + 0.5;
            let [from_x, from_y] = [a * x + b * y + c, d * x + e * y + f];
            let inside = (0.0..width).contains(&from_x) && (0.0..height).contains(&from_y);
            *pixel = match interpolation {
                _ if !inside => fill,
                Interpolation::Bilinear => bilinear(source, from_y - 0.5, from_x - 0.5),
                Interpolation::Bicubic => bicubic(source, from_y - 0.5, from_x - 0.5),
            };
        }
    }
}

/// The greatest whole number that is not above `x`, and the rest.
#[inline(always)]
fn floor(x: f64) -> (isize, f64) {
    let whole = x as isize;
    let floor = if x < whole as f64 { whole - 1 } else { whole };
    (floor, x - floor as f64)
}

#[inline(always)]
fn bilinear<const CHANNELS: usize>(source: Source<'_, CHANNELS>, y: f64, x: f64) -> [u8; CHANNELS] {
    let ((top, dy), (left, dx)) = (floor(y), floor(x));
    let corners = source.square::<2>(top, left);
    std::array::from_fn(|channel| {
        let [upper, lower] = corners.map(|row| {
            let [left, right] = row.map(|pixel| f64::from(pixel[channel]));
            left + (right - left) * dx
        });
        (upper + (lower - upper) * dy) as u8
    })
}

#[inline(always)]
fn bicubic<const CHANNELS: usize>(source: Source<'_, CHANNELS>, y: f64, x: f64) -> [u8; CHANNELS] {
    let ((top, dy), (left, dx)) = (floor(y), floor(x));
    let pixels = source.square::<4>(top - 1, left - 1);
    std::array::from_fn(|channel| {
        let rows = pixels.map(|row| cubic(row.map(|pixel| f64::from(pixel[channel])), dx));
        cubic(rows, dy) as u8
    })
}

/// The cubic of Pillow's transforms (a = −1) through four values, at `at` between the second and the third.
fn cubic([a, b, c, d]: [f64; 4], at: f64) -> f64 {
    b + at * ((c - a) + at * ((2.0 * (a - b) + c - d) + at * (-a + b - c + d)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quarter_turns_keep_every_pixel() {
        let image = crate::augment::testing::image(3, 3);
        for resampling in [Resampling::Nearest, Resampling::Smooth(Interpolation::Bicubic)] {
            let mut canvas = crate::augment::testing::canvas(&image);
            for degrees in [90.0, 180.0, 450.0] {
                rotate(&mut canvas, degrees, resampling, &[0; 3]);
            }
            assert_eq!(canvas.pixels(), image.pixels(), "a full turn");
            rotate(&mut canvas, 90.0, resampling, &[0; 3]);
            assert_eq!(canvas.pixels()[..3], image.pixels()[6..9], "anticlockwise: the right edge becomes the upper");
        }
    }
}
