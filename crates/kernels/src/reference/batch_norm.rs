//! Batch normalisation and sums over rows (rows × channels) by their definitions.

use super::{narrow, relu};

/// Σ over the rows of each channel of `value(element index, channel)`.
fn sums(len: usize, channels: usize, value: impl Fn(usize, usize) -> f64) -> Vec<f64> {
    let mut sums = vec![0.0; channels];
    for index in 0..len {
        sums[index % channels] += value(index, index % channels);
    }
    sums
}

/// Mean and biased variance of each channel.
pub fn statistics(x: &[f32], channels: usize) -> (Vec<f32>, Vec<f32>) {
    let rows = (x.len() / channels) as f64;
    let mean = sums(x.len(), channels, |index, _| f64::from(x[index]) / rows);
    let variance = sums(x.len(), channels, |index, channel| (f64::from(x[index]) - mean[channel]).powi(2) / rows);
    (narrow(mean), narrow(variance))
}

/// y = x · scale + shift for each channel, plus `add`, then ReLU if `relu`.
pub fn affine(x: &[f32], scale: &[f32], shift: &[f32], add: Option<&[f32]>, relu: bool) -> Vec<f32> {
    let value = |index: usize| {
        let channel = index % scale.len();
        let added = add.map_or(0.0, |add| f64::from(add[index]));
        f64::from(x[index]) * f64::from(scale[channel]) + f64::from(shift[channel]) + added
    };
    let y = narrow((0..x.len()).map(value).collect());
    if relu { self::relu(&y) } else { y }
}

/// Σ dy and Σ dy · (x − mean) for each channel.
pub fn backward_sums(dy: &[f32], x: &[f32], mean: &[f32]) -> (Vec<f32>, Vec<f32>) {
    let sum = sums(x.len(), mean.len(), |index, _| f64::from(dy[index]));
    let sum_x = sums(x.len(), mean.len(), |index, channel| {
        f64::from(dy[index]) * (f64::from(x[index]) - f64::from(mean[channel]))
    });
    (narrow(sum), narrow(sum_x))
}

/// dx = dy · a + x · b + c for each channel.
pub fn backward_apply(dy: &[f32], x: &[f32], [a, b, c]: [&[f32]; 3]) -> Vec<f32> {
    let value = |index: usize| {
        let [a, b, c] = [a, b, c].map(|factor| f64::from(factor[index % factor.len()]));
        f64::from(dy[index]) * a + f64::from(x[index]) * b + c
    };
    narrow((0..x.len()).map(value).collect())
}

/// dx, dweight and dbias of batch normalisation with the statistics of the batch, or with `running` ones: with
/// n = (x − mean) / √(variance + eps), dx = weight / √(variance + eps) · (dy − mean of dy − n · mean of dy · n), where the
/// means are zero for running statistics.
pub fn batch_norm_backward(
    x: &[f32],
    weight: &[f32],
    eps: f64,
    running: Option<[&[f32]; 2]>,
    dy: &[f32],
) -> [Vec<f32>; 3] {
    let channels = weight.len();
    let rows = (x.len() / channels) as f64;
    let [mean, variance] = match running {
        Some(statistics) => statistics.map(|numbers| numbers.iter().copied().map(f64::from).collect::<Vec<_>>()),
        None => {
            let mean = sums(x.len(), channels, |index, _| f64::from(x[index]) / rows);
            let variance =
                sums(x.len(), channels, |index, channel| (f64::from(x[index]) - mean[channel]).powi(2) / rows);
            [mean, variance]
        }
    };
    let inverse = |channel: usize| 1.0 / (variance[channel] + eps).sqrt();
    let normal = |index: usize, channel: usize| (f64::from(x[index]) - mean[channel]) * inverse(channel);
    let dbias = sums(x.len(), channels, |index, _| f64::from(dy[index]));
    let dweight = sums(x.len(), channels, |index, channel| f64::from(dy[index]) * normal(index, channel));
    let share = if running.is_none() { 1.0 / rows } else { 0.0 };
    let value = |index: usize| {
        let c = index % channels;
        let through = f64::from(dy[index]) - share * (dbias[c] + normal(index, c) * dweight[c]);
        f64::from(weight[c]) * inverse(c) * through
    };
    [narrow((0..x.len()).map(value).collect()), narrow(dweight), narrow(dbias)]
}

/// The sum of each column.
pub fn column_sums(x: &[f32], channels: usize) -> Vec<f32> {
    narrow(sums(x.len(), channels, |index, _| f64::from(x[index])))
}
