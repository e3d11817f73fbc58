//! The picture of a learning-rate range test.

use crate::{Axis, LineChart, ReportError, Series};
use residual_train::RangeTest;

/// Loss against learning rate, smoothed and not, with the suggestion marked, as SVG.
///
/// # Errors
/// If the test has no finite loss.
pub fn range_test(test: &RangeTest) -> Result<String, ReportError> {
    let series = |name: &str, value: fn(&residual_train::RangePoint) -> f64| Series {
        name: name.into(),
        points: test.points.iter().map(|point| (point.lr, value(point))).collect(),
    };
    LineChart {
        title: "Learning-rate range test".into(),
        x: Axis { label: "learning rate".into(), logarithmic: true },
        y: Axis { label: "training loss".into(), logarithmic: false },
        series: vec![series("smoothed", |point| point.smoothed), series("loss of the step", |point| point.loss)],
        markers: test.suggestion.map(|lr| (format!("suggestion {lr:.2e}"), lr)).into_iter().collect(),
    }
    .svg()
}
