//! The picture of a learning-rate range test.

use crate::{Axis, Chart, Paint, ReportError, Series, Svg};
use residual_train::RangeTest;

/// Loss against learning rate, smoothed and not, with the suggestion marked.
///
/// # Errors
/// If the test has no finite loss.
pub fn range_test(test: &RangeTest) -> Result<Svg, ReportError> {
    let line = |value: fn(&residual_train::RangePoint) -> f64| -> Vec<(f64, f64)> {
        test.points.iter().map(|point| (point.lr, value(point))).collect()
    };
    let (lr, loss) = (Axis::new("learning rate").logarithmic(), Axis::new("training loss"));
    let mut chart = Chart::new("Learning-rate range test", lr, loss)
        .sized(640.0, 400.0)
        .with(Series::line("loss of the step", Paint::Series(4), line(|point| point.loss)))
        .with(Series::line("smoothed", Paint::Series(0), line(|point| point.smoothed)));
    if let Some(lr) = test.suggestion {
        chart = chart.with(Series::vertical(format!("suggestion {lr:.2e}"), Paint::Ink, lr).dashed());
    }
    chart.draw()
}
