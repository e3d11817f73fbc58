//! Pictures of networks and training runs: charts, heat maps and grids of images, as SVG and PNG.
//!
//! Everything is drawn on [`Svg`]. [`Svg::to_svg`] is a file that follows the reader's light or dark theme and
//! shows values on hover; [`Svg::to_png`] renders the same picture in the light theme.
//!
//! ```
//! use residual_report::{Axis, Chart, Paint, Series};
//!
//! let loss = vec![(0.001, 2.3), (0.01, 1.9), (0.1, 2.0)];
//! let chart = Chart::new("Learning-rate range test", Axis::new("learning rate").logarithmic(), Axis::new("loss"))
//!     .with(Series::line("loss", Paint::Series(0), loss))
//!     .with(Series::vertical("suggestion", Paint::Muted, 0.01));
//! let picture = chart.draw()?;
//! assert!(picture.to_svg().starts_with("<svg"));
//! assert!(picture.to_png(2.0)?.starts_with(b"\x89PNG"));
//! # Ok::<(), residual_report::ReportError>(())
//! ```
#![forbid(unsafe_code)]

mod architecture;
mod axis;
mod bar_chart;
mod chart;
mod colormap;
mod comparison;
mod curves;
mod dataset_page;
mod embedding;
mod error;
mod facts;
mod font;
mod heat_map;
mod held_out;
pub mod html;
mod layer_gradients;
mod overlay;
mod paint;
mod picture;
mod picture_grid;
mod png;
mod quantity;
mod range_test;
mod receptive_field;
mod reliability;
mod roofline;
mod run_page;
mod run_report;
mod samples;
mod scatter;
mod slices;
mod svg;
mod trade_off;
mod tuning;

pub use architecture::architecture;
pub use axis::Axis;
pub use bar_chart::{Bar, BarChart};
pub use chart::{Chart, Point, Series};
pub use colormap::viridis;
pub use comparison::RunComparison;
pub use dataset_page::dataset_page;
pub use error::ReportError;
pub use facts::{Environment, Facts, Setting, TestResult, WallClock};
pub use font::{fit, text_width};
pub use heat_map::{Cell, HeatMap};
pub use layer_gradients::layer_gradients;
pub use overlay::{filter_pictures, heat, overlay};
pub use paint::{Paint, css};
pub use picture::Picture;
pub use picture_grid::{PictureGrid, Tile};
pub use quantity::{bytes, duration, grouped};
pub use range_test::range_test;
pub use receptive_field::{FieldOfView, receptive_fields};
pub use reliability::{Bin, Reliability};
pub use roofline::{LayerTime, layer_times, roofline};
pub use run_report::{RunReport, SCHEMA, begin_report};
pub use scatter::{ScatterPoint, scatter};
pub use slices::Slice;
pub use svg::{Anchor, Label, Mark, Svg, escape};
pub use trade_off::{Candidate, TradeOff};
pub use tuning::{Searched, Trial, Tuning};
