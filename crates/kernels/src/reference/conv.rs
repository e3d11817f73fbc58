//! Convolution by its definition.

use super::narrow;
use crate::conv::ConvShape;

/// Calls `visit(x index, weight index, y index)` for every product of the convolution.
pub(super) fn products(shape: &ConvShape, images: usize, mut visit: impl FnMut(usize, usize, usize)) {
    let [height, width] = shape.input;
    let [out_height, out_width] = shape.output();
    let (inputs, outputs) = (shape.in_channels / shape.groups, shape.out_channels / shape.groups);
    for image in 0..images {
        for oy in 0..out_height {
            for ox in 0..out_width {
                for ky in 0..shape.kernel[0] {
                    for kx in 0..shape.kernel[1] {
                        let y = (oy * shape.stride[0] + ky * shape.dilation[0]).wrapping_sub(shape.padding[0]);
                        let x = (ox * shape.stride[1] + kx * shape.dilation[1]).wrapping_sub(shape.padding[1]);
                        if y >= height || x >= width {
                            continue;
                        }
                        for group in 0..shape.groups {
                            for i in 0..inputs {
                                for o in 0..outputs {
                                    let tap = (group * shape.kernel[0] + ky) * shape.kernel[1] + kx;
                                    visit(
                                        ((image * height + y) * width + x) * shape.in_channels + group * inputs + i,
                                        (tap * inputs + i) * outputs + o,
                                        ((image * out_height + oy) * out_width + ox) * shape.out_channels
                                            + group * outputs
                                            + o,
                                    );
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// y = x ∗ w.
pub fn conv_forward(shape: &ConvShape, images: usize, x: &[f32], w: &[f32]) -> Vec<f32> {
    let mut y = vec![0.0; images * shape.output_len()];
    products(shape, images, |xi, wi, yi| y[yi] += f64::from(x[xi]) * f64::from(w[wi]));
    narrow(y)
}

/// The gradient of x given that of y.
pub fn conv_backward_data(shape: &ConvShape, images: usize, dy: &[f32], w: &[f32]) -> Vec<f32> {
    let mut dx = vec![0.0; images * shape.input_len()];
    products(shape, images, |xi, wi, yi| dx[xi] += f64::from(dy[yi]) * f64::from(w[wi]));
    narrow(dx)
}

/// The gradient of the weights given that of y.
pub fn conv_backward_weights(shape: &ConvShape, images: usize, x: &[f32], dy: &[f32]) -> Vec<f32> {
    let mut dw = vec![0.0; shape.weight_len()];
    products(shape, images, |xi, wi, yi| dw[wi] += f64::from(x[xi]) * f64::from(dy[yi]));
    narrow(dw)
}
