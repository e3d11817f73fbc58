//! Operations on each value by itself: a table of 256 entries per channel.

use crate::augment::canvas::Canvas;

/// Replaces every value by `change` of it.
pub(super) fn map(canvas: &mut Canvas, change: impl Fn(u8) -> u8) {
    let table: [u8; 256] = std::array::from_fn(|value| change(value as u8));
    canvas.pixels_mut().iter_mut().for_each(|value| *value = table[usize::from(*value)]);
}

/// `ImageOps.autocontrast`: each channel is scaled so that its least value becomes 0 and its greatest 255.
pub(super) fn auto_contrast(canvas: &mut Canvas) {
    by_channel(canvas, |histogram| {
        let low = histogram.iter().position(|&count| count > 0)?;
        let high = histogram.iter().rposition(|&count| count > 0).filter(|&high| high > low)?;
        let scale = 255.0 / (high - low) as f64;
        let offset = -(low as f64) * scale;
        // Conversion to an integer truncates and clamps, as Pillow does.
        Some(std::array::from_fn(|value| (value as f64 * scale + offset) as u8))
    });
}

/// `ImageOps.equalize`: each channel's values are spread by their cumulative histogram.
pub(super) fn equalize(canvas: &mut Canvas) {
    by_channel(canvas, |histogram| {
        let last = *histogram.iter().rfind(|&&count| count > 0)?;
        let total: usize = histogram.iter().sum();
        // A channel of one value has no other count, and so a step of 0.
        let step = (total - last) / 255;
        if step == 0 {
            return None;
        }
        let mut sum = step / 2;
        Some(std::array::from_fn(|value| {
            let level = (sum / step).min(255) as u8;
            sum += histogram[value];
            level
        }))
    });
}

/// Replaces each channel's values by the table made from its histogram; `None` keeps them.
fn by_channel(canvas: &mut Canvas, table: impl Fn(&[usize; 256]) -> Option<[u8; 256]>) {
    let channels = canvas.channels();
    for channel in 0..channels {
        let mut histogram = [0; 256];
        let values = canvas.pixels().iter().skip(channel).step_by(channels);
        values.for_each(|&value| histogram[usize::from(value)] += 1);
        let Some(table) = table(&histogram) else { continue };
        let values = canvas.pixels_mut().iter_mut().skip(channel).step_by(channels);
        values.for_each(|value| *value = table[usize::from(*value)]);
    }
}
