//! Gradient flow: the gradients of every layer, from the first to the last.

use crate::{Axis, Chart, Paint, Point, ReportError, Series, Svg};
use residual_explain::GradientStatistics;

/// Draws the mean and the largest |gradient| of each tensor on a logarithmic axis, in the order of the network.
///
/// # Errors
/// If no gradient is positive.
pub fn layer_gradients(title: &str, tensors: &[GradientStatistics]) -> Result<Svg, ReportError> {
    let mut chart = Chart::new(title, Axis::new("layer").whole(), Axis::new("|gradient|").logarithmic());
    let largest: Vec<f64> = tensors.iter().map(|tensor| tensor.max).collect();
    let mean: Vec<f64> = tensors.iter().map(|tensor| tensor.mean).collect();
    for (index, (what, values)) in [("mean", mean), ("largest", largest)].into_iter().enumerate().rev() {
        let places: Vec<(f64, f64)> = (1..).map(f64::from).zip(values).collect();
        let point = |(&(x, y), tensor): (&(f64, f64), &GradientStatistics)| Point {
            x,
            y,
            title: format!("{}: {what} {y:.2e}", tensor.name),
            label: String::new(),
        };
        let points = places.iter().zip(tensors).map(point).collect();
        let paint = Paint::Series(index);
        chart = chart.with(Series::line("", paint, places)).with(Series::points(what, paint, points));
    }
    chart.draw()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_layer_is_named_on_hover() {
        let tensor = |name: &str, mean: f64| GradientStatistics {
            name: name.to_owned(),
            shape: vec![2, 2],
            mean,
            max: 10.0 * mean,
            norm: mean,
            weight_norm: 1.0,
        };
        let svg = layer_gradients("t", &[tensor("conv1.weight", 1e-3), tensor("fc.weight", 1e-5)]).unwrap().to_svg();
        for text in ["conv1.weight: mean 1.00e-3", "fc.weight: largest 1.00e-4"] {
            assert!(svg.contains(text), "{text}: {svg}");
        }
        assert!(layer_gradients("t", &[tensor("conv1.weight", 0.0)]).is_err());
    }
}
