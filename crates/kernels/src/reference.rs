//! Naive implementations of the kernels, for tests: loops that follow the definitions and sum in f64.

mod activation;
mod batch_norm;
mod conv;
mod elementwise;
mod image;
mod layer_norm;
mod loss;
mod optim;
mod pool;
mod quantize;
mod quantized;
mod scale;

pub use activation::{gelu, gelu_backward, sigmoid, sigmoid_backward};
pub use batch_norm::{affine, backward_apply, backward_sums, batch_norm_backward, column_sums, statistics};
pub use conv::{conv_backward_data, conv_backward_weights, conv_forward};
pub use elementwise::{accumulate, accumulate_relu, copy_channels, copy_channels_backward, relu, relu_backward};
pub use image::{inverse_cosine, normalize, resample_columns, resample_rows, widen, widen_between, ycc_to_rgb};
pub use layer_norm::{layer_norm, layer_norm_backward};
pub use loss::{
    attention_transfer, binary_cross_entropy, cross_entropy, decoupled_distillation, focal_loss, kl_divergence, softmax,
};
pub use optim::{adam, clip_units, lamb_direction, lerp, lion, nadam, orthogonalise, rmsprop, sgd, sum_of_squares};
pub use pool::{
    adaptive_avg_pool, adaptive_avg_pool_backward, avg_pool, avg_pool_backward, global_avg_pool,
    global_avg_pool_backward, global_avg_pool_bytes, max_pool, max_pool_backward, max_pool_bytes,
};
pub use quantize::{dequantize, quantize};
pub use quantized::conv_quantized;
pub use scale::{scale, scale_sums};

fn narrow(values: Vec<f64>) -> Vec<f32> {
    values.into_iter().map(|value| value as f32).collect()
}
