//! Layer normalisation of rows (rows × channels) by its definition.

use super::narrow;

/// (x − mean) / √(variance + eps) of one row, and 1 / √(variance + eps).
fn normalise(x: &[f32], eps: f32) -> (Vec<f64>, f64) {
    let count = x.len() as f64;
    let mean = x.iter().map(|&x| f64::from(x)).sum::<f64>() / count;
    let variance = x.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / count;
    let inverse = 1.0 / (variance + f64::from(eps)).sqrt();
    (x.iter().map(|&x| (f64::from(x) - mean) * inverse).collect(), inverse)
}

/// Each row normalised, times `weight`, plus `bias`.
pub fn layer_norm(x: &[f32], weight: &[f32], bias: &[f32], eps: f32) -> Vec<f32> {
    let row = |x: &[f32]| -> Vec<f64> {
        let (normal, _) = normalise(x, eps);
        let parameters = weight.iter().zip(bias);
        normal.iter().zip(parameters).map(|(n, (&w, &b))| n * f64::from(w) + f64::from(b)).collect()
    };
    narrow(x.chunks_exact(weight.len()).flat_map(row).collect())
}

/// The gradients of `x`, `weight` and `bias`.
pub fn layer_norm_backward(x: &[f32], weight: &[f32], eps: f32, dy: &[f32]) -> [Vec<f32>; 3] {
    let channels = weight.len();
    let (mut dx, mut dweight, mut dbias) = (Vec::new(), vec![0.0; channels], vec![0.0; channels]);
    for (x, dy) in x.chunks_exact(channels).zip(dy.chunks_exact(channels)) {
        let (normal, inverse) = normalise(x, eps);
        let g: Vec<f64> = dy.iter().zip(weight).map(|(&dy, &w)| f64::from(dy) * f64::from(w)).collect();
        let mean = g.iter().sum::<f64>() / channels as f64;
        let slope = g.iter().zip(&normal).map(|(g, n)| g * n).sum::<f64>() / channels as f64;
        dx.extend(g.iter().zip(&normal).map(|(g, n)| inverse * (g - mean - n * slope)));
        for channel in 0..channels {
            dweight[channel] += f64::from(dy[channel]) * normal[channel];
            dbias[channel] += f64::from(dy[channel]);
        }
    }
    [narrow(dx), narrow(dweight), narrow(dbias)]
}
