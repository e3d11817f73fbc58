//! Pictures of training runs, as SVG.
//!
//! ```
//! use residual_report::{Axis, LineChart, Series};
//!
//! let loss = Series { name: "loss".into(), points: vec![(0.001, 2.3), (0.01, 1.9), (0.1, 2.0)] };
//! let chart = LineChart {
//!     title: "Learning-rate range test".into(),
//!     x: Axis { label: "learning rate".into(), logarithmic: true },
//!     y: Axis { label: "loss".into(), logarithmic: false },
//!     series: vec![loss],
//!     markers: vec![("suggestion".into(), 0.01)],
//! };
//! assert!(chart.svg()?.starts_with("<svg"));
//! # Ok::<(), residual_report::ReportError>(())
//! ```
#![forbid(unsafe_code)]

mod line_chart;
mod range_test;

pub use line_chart::{Axis, LineChart, ReportError, Series};
pub use range_test::range_test;
