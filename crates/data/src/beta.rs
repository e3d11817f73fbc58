//! Samples of the beta and the Dirichlet distribution.

use residual_tensor::Stream;

/// A sample of Beta(`alpha`, `alpha`), in [0, 1], for a positive `alpha`: X / (X + Y) of two gamma variates.
pub(crate) fn symmetric(alpha: f64, random: &mut Stream) -> f64 {
    // By logarithms: for a small alpha both variates may be too small for a float.
    let [x, y] = [0, 1].map(|_| ln_gamma(alpha, random));
    1.0 / (1.0 + (y - x).exp())
}

/// Fills `weights`, at least one, with a sample of the Dirichlet distribution whose parameters are all `alpha`.
pub(crate) fn dirichlet(alpha: f64, weights: &mut [f32], random: &mut Stream) {
    weights.iter_mut().for_each(|weight| *weight = ln_gamma(alpha, random) as f32);
    // Relative to the greatest: for a small alpha all variates may be too small for a float.
    let most = weights.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    weights.iter_mut().for_each(|weight| *weight = (*weight - most).exp());
    let sum: f32 = weights.iter().sum();
    weights.iter_mut().for_each(|weight| *weight /= sum);
}

/// The logarithm of a sample of Gamma(`shape`, 1), by Marsaglia and Tsang ("A simple method for generating gamma
/// variables", 2000).
fn ln_gamma(shape: f64, random: &mut Stream) -> f64 {
    if shape < 1.0 {
        return ln_gamma(shape + 1.0, random) + ln_uniform(random) / shape;
    }
    let d = shape - 1.0 / 3.0;
    let c = 1.0 / (9.0 * d).sqrt();
    loop {
        let x = f64::from(random.normal());
        let v = (1.0 + c * x).powi(3);
        if v > 0.0 && ln_uniform(random) < 0.5 * x * x + d - d * v + d * v.ln() {
            return (d * v).ln();
        }
    }
}

/// The logarithm of a uniform number in (0, 1).
fn ln_uniform(random: &mut Stream) -> f64 {
    ((f64::from(random.next_u32()) + 0.5) * (1.0 / 4_294_967_296.0)).ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each weight has the mean 1/n and the variance (n − 1) / (n² (n alpha + 1)).
    #[test]
    fn moments_of_a_dirichlet_sample_are_those_of_the_distribution() {
        for (count, alpha) in [(1, 1.0), (3, 1.0), (4, 0.3)] {
            let (mut random, mut weights, samples) = (Stream::new(12, &[]), vec![0.0; count], 20_000);
            let (mut mean, mut square) = (0.0, 0.0);
            for _ in 0..samples {
                dirichlet(alpha, &mut weights, &mut random);
                assert!((weights.iter().sum::<f32>() - 1.0).abs() < 1e-6);
                mean += f64::from(weights[0]) / f64::from(samples);
                square += f64::from(weights[0]).powi(2) / f64::from(samples);
            }
            let n = count as f64;
            let variance = (n - 1.0) / (n * n * (n * alpha + 1.0));
            assert!(
                (mean - 1.0 / n).abs() < 0.01 && (square - mean * mean - variance).abs() < 0.005,
                "{count} {alpha}"
            );
        }
    }

    /// Mean 1/2, variance 1 / (4 (2 alpha + 1)), fourth central moment 3 / (16 (2 alpha + 1) (2 alpha + 3)).
    #[test]
    fn moments_are_those_of_the_distribution() {
        for alpha in [1e-3, 0.1, 0.2, 0.8, 1.0, 2.5, 1000.0] {
            let mut random = Stream::new(11, &[]);
            let count = 100_000;
            let (mut mean, mut second, mut fourth) = (0.0, 0.0, 0.0);
            for _ in 0..count {
                let value = symmetric(alpha, &mut random);
                assert!((0.0..=1.0).contains(&value));
                mean += value / f64::from(count);
                second += (value - 0.5).powi(2) / f64::from(count);
                fourth += (value - 0.5).powi(4) / f64::from(count);
            }
            let (variance, kurtosis) =
                (0.25 / (2.0 * alpha + 1.0), 3.0 / (16.0 * (2.0 * alpha + 1.0) * (2.0 * alpha + 3.0)));
            assert!((mean - 0.5).abs() < 5.0 * (variance / f64::from(count)).sqrt(), "{alpha}: mean {mean}");
            assert!((second / variance - 1.0).abs() < 0.02, "{alpha}: variance {second}, not {variance}");
            assert!((fourth / kurtosis - 1.0).abs() < 0.04, "{alpha}: {fourth}, not {kurtosis}");
        }
    }
}
