//! Colour, contrast, sharpness and hue: Pillow's `ImageEnhance`, and torchvision's `adjust_hue` by Pillow's HSV.

use residual_preprocess::luma;

use crate::augment::canvas::Canvas;

/// `Image.blend(from, to, factor)` of one value: truncated, and clamped where the factor is outside 0 to 1.
pub(in crate::augment) fn blend(from: u8, to: u8, factor: f32) -> u8 {
    match factor {
        0.0 => from,
        1.0 => to,
        // Conversion to an integer clamps.
        _ => (f32::from(from) + factor * (f32::from(to) - f32::from(from))) as u8,
    }
}

/// The mean of the image in grey, rounded.
pub(super) fn mean_grey(canvas: &Canvas) -> u8 {
    let sum: u64 = match canvas.channels() {
        1 => canvas.pixels().iter().map(|&value| u64::from(value)).sum(),
        channels => canvas.pixels().chunks_exact(channels).map(|pixel| u64::from(luma(pixel))).sum(),
    };
    let count = canvas.pixels().len() / canvas.channels();
    (sum as f64 / count as f64 + 0.5) as u8
}

/// Blends the image in grey with the image.
pub(super) fn color(canvas: &mut Canvas, factor: f32) {
    if canvas.channels() == 1 {
        return;
    }
    for pixel in canvas.pixels_mut().as_chunks_mut::<3>().0 {
        let grey = luma(pixel);
        *pixel = pixel.map(|value| blend(grey, value, factor));
    }
}

/// Blends the image smoothed by Pillow's `SMOOTH` filter with the image. The border is not smoothed.
pub(super) fn sharpness(canvas: &mut Canvas, factor: f32) {
    let ([height, width], channels) = (canvas.size(), canvas.channels());
    if height < 3 || width < 3 {
        return;
    }
    let (outer, inner) = (1.0 / 13.0, 5.0 / 13.0);
    let row_len = width * channels;
    canvas.replace(|from, to| {
        to.copy_from_slice(from);
        for y in 1..height - 1 {
            let [above, own, below] = [y - 1, y, y + 1].map(|row| &from[row * row_len..][..row_len]);
            let to = &mut to[y * row_len..][..row_len];
            for at in channels..row_len - channels {
                let three = |row: &[u8], middle: f32| {
                    let [left, centre, right] = [row[at - channels], row[at], row[at + channels]].map(f32::from);
                    left * outer + centre * middle + right * outer
                };
                // In Pillow's order: from the row below to the row above.
                let sum = 0.5 + three(below, outer) + three(own, inner) + three(above, outer);
                to[at] = blend(sum as u8, own[at], factor);
            }
        }
    });
}

/// Turns the hue of an RGB image by a fraction of the circle; its 256 hues wrap around.
pub(super) fn hue(canvas: &mut Canvas, turn: f32) {
    if canvas.channels() == 1 {
        return;
    }
    let turn = (f64::from(turn) * 255.0) as i32 as u8;
    for pixel in canvas.pixels_mut().as_chunks_mut::<3>().0 {
        let [hue, saturation, value] = to_hsv(*pixel);
        *pixel = to_rgb([hue.wrapping_add(turn), saturation, value]);
    }
}

/// Pillow's conversion to HSV, in its mixture of single and double precision.
fn to_hsv([r, g, b]: [u8; 3]) -> [u8; 3] {
    let (most, least) = (r.max(g).max(b), r.min(g).min(b));
    if most == least {
        return [0, 0, most];
    }
    let range = f32::from(most - least);
    let [rc, gc, bc] = [r, g, b].map(|value| f32::from(most - value) / range);
    let hue = if r == most {
        bc - gc
    } else if g == most {
        (2.0 + f64::from(rc) - f64::from(bc)) as f32
    } else {
        (4.0 + f64::from(gc) - f64::from(rc)) as f32
    };
    let hue = ((f64::from(hue) / 6.0 + 1.0) % 1.0) as f32;
    let saturation = range / f32::from(most);
    [(f64::from(hue) * 255.0) as u8, (f64::from(saturation) * 255.0) as u8, most]
}

/// Pillow's conversion from HSV.
fn to_rgb([hue, saturation, value]: [u8; 3]) -> [u8; 3] {
    if saturation == 0 {
        return [value; 3];
    }
    let sixths = f64::from(hue) * 6.0 / 255.0;
    let sector = sixths.floor();
    let part = f64::from((sixths - sector) as f32);
    let saturation = f64::from((f64::from(saturation) / 255.0) as f32);
    let level = |share: f64| (f64::from(value) * (1.0 - share)).round() as u8;
    let (p, q, t) = (level(saturation), level(saturation * part), level(saturation * (1.0 - part)));
    match sector as u8 % 6 {
        0 => [value, t, p],
        1 => [q, value, p],
        2 => [p, value, t],
        3 => [p, q, value],
        4 => [t, p, value],
        _ => [value, p, q],
    }
}
