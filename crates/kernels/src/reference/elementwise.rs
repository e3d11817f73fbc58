//! Ops on elements and on channels of a pixel by their definitions.

use crate::elementwise::{ChannelSlice, Subsample};

/// max(x, 0); NaN stays NaN.
pub fn relu(x: &[f32]) -> Vec<f32> {
    x.iter().map(|&x| if x <= 0.0 { 0.0 } else { x }).collect()
}

/// `dy` where `y`, the result of a ReLU, is positive, else 0.
pub fn relu_backward(y: &[f32], dy: &[f32]) -> Vec<f32> {
    y.iter().zip(dy).map(|(&y, &dy)| if y > 0.0 { dy } else { 0.0 }).collect()
}

/// x + y.
pub fn accumulate(x: &[f32], y: &[f32]) -> Vec<f32> {
    x.iter().zip(y).map(|(x, y)| x + y).collect()
}

/// max(x + y, 0).
pub fn accumulate_relu(x: &[f32], y: &[f32]) -> Vec<f32> {
    relu(&accumulate(x, y))
}

/// Calls `visit(index in the large tensor, index in the small one)` for every element that a copy of channels moves.
fn moves(
    pixels: Subsample,
    images: usize,
    large: ChannelSlice,
    small: ChannelSlice,
    mut visit: impl FnMut(usize, usize),
) {
    let [height, width] = pixels.size;
    let mut pixel = 0;
    for image in 0..images {
        for row in (0..height).step_by(pixels.stride) {
            for column in (0..width).step_by(pixels.stride) {
                for channel in 0..large.count {
                    let kept = (image * height + row) * width + column;
                    visit(
                        kept * large.channels + large.offset + channel,
                        pixel * small.channels + small.offset + channel,
                    );
                }
                pixel += 1;
            }
        }
    }
}

/// Copies channels `from` of the kept pixels of `x` to channels `to` of `y`.
pub fn copy_channels<T: Copy>(pixels: Subsample, x: &[T], from: ChannelSlice, y: &mut [T], to: ChannelSlice) {
    let images = x.len() / (pixels.size[0] * pixels.size[1] * from.channels);
    moves(pixels, images, from, to, |xi, yi| y[yi] = x[xi]);
}

/// Adds channels `to` of `dy` to channels `from` of the kept pixels of `dx`.
pub fn copy_channels_backward(pixels: Subsample, dy: &[f32], to: ChannelSlice, dx: &mut [f32], from: ChannelSlice) {
    let images = dx.len() / (pixels.size[0] * pixels.size[1] * from.channels);
    moves(pixels, images, from, to, |xi, yi| dx[xi] += dy[yi]);
}
