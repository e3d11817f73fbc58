//! Occlusion sensitivity: how much the score falls where a window of the image is covered.

use crate::{ExplainError, Map, Network, Target};

/// The window that covers a part of the image, and its step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Occlusion {
    /// Height and width in pixels.
    pub window: usize,
    /// Pixels between neighbouring windows, at most the window's side.
    pub stride: usize,
}

impl Occlusion {
    /// A window of a quarter of the image's shorter side, moved by half of it.
    pub fn for_image([height, width]: [usize; 2]) -> Self {
        let window = (height.min(width) / 4).max(1);
        Self { window, stride: (window / 2).max(1) }
    }
}

/// The drop of the score when a window is covered with zeros (the mean colour), by pixel: the mean over the windows that cover it,
/// as captum's `Occlusion`. Zeiler and Fergus, "Visualizing and understanding convolutional networks" (2014).
///
/// # Errors
/// As [`Network::forward`]; also if the window does not fit the image or its stride leaves gaps.
pub fn occlusion(
    network: &mut Network,
    image: &[f32],
    target: Target,
    Occlusion { window, stride }: Occlusion,
) -> Result<Map, ExplainError> {
    let shape = network.image();
    let (height, width, channels) = (shape.height, shape.width, shape.channels);
    if window == 0 || window > height.min(width) {
        return Err(ExplainError::setting("window", format!("1 to {}", height.min(width)), window));
    }
    if stride == 0 || stride > window {
        return Err(ExplainError::setting("stride", format!("1 to {window}, the side of the window"), stride));
    }
    target.check(network.classes())?;
    let classes = network.classes();
    let score = target.score(&network.logits(image)?);
    // The last window may reach past the edge: it is cut.
    let starts = |side: usize| (0..=(side - window).div_ceil(stride)).map(move |step| step * stride);
    let corners: Vec<[usize; 2]> = starts(height).flat_map(|y| starts(width).map(move |x| [y, x])).collect();
    let mut sums = vec![0.0f64; height * width];
    let mut counts = vec![0u32; height * width];
    for part in corners.chunks(network.batch()) {
        let mut covered = Vec::with_capacity(part.len() * image.len());
        for &[top, left] in part {
            let start = covered.len();
            covered.extend_from_slice(image);
            for y in top..(top + window).min(height) {
                let right = (left + window).min(width);
                covered[start + (y * width + left) * channels..start + (y * width + right) * channels].fill(0.0);
            }
        }
        let logits = network.logits(&covered)?;
        for (&[top, left], logits) in part.iter().zip(logits.chunks_exact(classes)) {
            let drop = f64::from(score - target.score(logits));
            for y in top..(top + window).min(height) {
                for x in left..(left + window).min(width) {
                    sums[y * width + x] += drop;
                    counts[y * width + x] += 1;
                }
            }
        }
    }
    let values = sums.iter().zip(&counts).map(|(sum, &count)| (sum / f64::from(count.max(1))) as f32).collect();
    Ok(Map::new([height, width], values))
}
