//! Samples of a beta distribution.

use residual_tensor::Stream;

/// A sample of Beta(`alpha`, `alpha`), in [0, 1], for a positive `alpha`: X / (X + Y) of two gamma variates.
pub(super) fn symmetric(alpha: f64, random: &mut Stream) -> f64 {
    // By logarithms: for a small alpha both variates may be too small for a float.
    let [x, y] = [0, 1].map(|_| ln_gamma(alpha, random));
    1.0 / (1.0 + (y - x).exp())
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
