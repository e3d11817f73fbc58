//! Line charts as SVG.

use plotters::coord::ranged1d::{AsRangedCoord, ValueFormatter};
use plotters::prelude::{
    BLACK, ChartBuilder, IntoDrawingArea, IntoLogRange, LineSeries, PathElement, Ranged, SVGBackend,
    SeriesLabelPosition, WHITE,
};
use plotters::style::{Color, RGBColor};
use std::ops::Range;

/// Width and height in pixels.
const SIZE: (u32, u32) = (800, 480);
/// Colours of the series, told apart with the common forms of colour blindness too (Okabe & Ito).
const COLOURS: [RGBColor; 6] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
];
/// The largest number that is drawn.
const LARGEST: f64 = 1e30;
/// The font of every text.
const FONT: &str = "sans-serif";

/// A chart that cannot be drawn.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// No point has coordinates of at most 1e30 (on a logarithmic axis of 1e-30 to 1e30).
    #[error("chart \"{title}\": expected a point with coordinates that can be drawn, got none")]
    Empty {
        /// The chart's title.
        title: String,
    },
    /// The drawing failed.
    #[error("chart \"{title}\": {message}")]
    Drawing {
        /// The chart's title.
        title: String,
        /// The cause.
        message: String,
    },
}

/// An axis.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Axis {
    /// Its label.
    pub label: String,
    /// Whether its scale is logarithmic; values that are not positive are skipped there.
    pub logarithmic: bool,
}

/// A line through points, in order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Series {
    /// Its name in the legend.
    pub name: String,
    /// The points; those that cannot be drawn are skipped: not finite, or beyond 1e30.
    pub points: Vec<(f64, f64)>,
}

/// A chart of lines.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LineChart {
    /// The title.
    pub title: String,
    /// The horizontal axis.
    pub x: Axis,
    /// The vertical axis.
    pub y: Axis,
    /// The lines.
    pub series: Vec<Series>,
    /// Vertical lines: a name for the legend, and a place on the horizontal axis.
    pub markers: Vec<(String, f64)>,
}

impl LineChart {
    /// The chart as the text of an SVG file.
    ///
    /// # Errors
    /// If there is nothing to draw.
    pub fn svg(&self) -> Result<String, ReportError> {
        let is_drawn = |&(x, y): &(f64, f64)| self.x.can_show(x) && self.y.can_show(y);
        let series: Vec<Series> = self
            .series
            .iter()
            .map(|Series { name, points }| Series {
                name: name.clone(),
                points: points.iter().copied().filter(is_drawn).collect(),
            })
            .collect();
        let points = || series.iter().flat_map(|series| series.points.iter());
        let markers = self.markers.iter().map(|(_, x)| *x).filter(|&x| self.x.can_show(x));
        let empty = || ReportError::Empty { title: self.title.clone() };
        let x = self.x.range(points().map(|point| point.0).chain(markers)).ok_or_else(empty)?;
        let y = self.y.range(points().map(|point| point.1)).ok_or_else(empty)?;
        let mut text = String::new();
        let drawn = match (self.x.logarithmic, self.y.logarithmic) {
            (false, false) => self.draw(&mut text, x, y.clone(), &y, &series),
            (true, false) => self.draw(&mut text, x.log_scale(), y.clone(), &y, &series),
            (false, true) => self.draw(&mut text, x, y.clone().log_scale(), &y, &series),
            (true, true) => self.draw(&mut text, x.log_scale(), y.clone().log_scale(), &y, &series),
        };
        drawn.map_err(|message| ReportError::Drawing { title: self.title.clone(), message })?;
        Ok(text)
    }

    fn draw<X, Y>(&self, text: &mut String, x: X, y: Y, heights: &Range<f64>, series: &[Series]) -> Result<(), String>
    where
        X: AsRangedCoord<Value = f64>,
        Y: AsRangedCoord<Value = f64>,
        X::CoordDescType: Ranged<ValueType = f64> + ValueFormatter<f64>,
        Y::CoordDescType: Ranged<ValueType = f64> + ValueFormatter<f64>,
    {
        let fail = |error: &dyn std::fmt::Display| error.to_string();
        let area = SVGBackend::with_string(text, SIZE).into_drawing_area();
        area.fill(&WHITE).map_err(|error| fail(&error))?;
        let mut chart = ChartBuilder::on(&area)
            .caption(&self.title, (FONT, 20))
            .margin(12)
            .x_label_area_size(44)
            .y_label_area_size(64)
            .build_cartesian_2d(x, y)
            .map_err(|error| fail(&error))?;
        let number = |value: &f64| number(*value);
        chart
            .configure_mesh()
            .light_line_style(BLACK.mix(0.05))
            .bold_line_style(BLACK.mix(0.12))
            .x_desc(&self.x.label)
            .y_desc(&self.y.label)
            .x_label_formatter(&number)
            .y_label_formatter(&number)
            .label_style((FONT, 13))
            .draw()
            .map_err(|error| fail(&error))?;
        for (index, Series { name, points }) in series.iter().enumerate() {
            let style = COLOURS[index % COLOURS.len()].stroke_width(2);
            let line = LineSeries::new(points.iter().copied(), style);
            let drawn = chart.draw_series(line).map_err(|error| fail(&error))?;
            drawn.label(name).legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], style));
        }
        for (name, x) in self.markers.iter().filter(|(_, x)| self.x.can_show(*x)) {
            let style = BLACK.mix(0.6).stroke_width(1);
            let line = PathElement::new([(*x, heights.start), (*x, heights.end)], style);
            let drawn = chart.draw_series([line]).map_err(|error| fail(&error))?;
            drawn.label(name).legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], style));
        }
        if series.len() + self.markers.len() > 1 {
            chart
                .configure_series_labels()
                .position(SeriesLabelPosition::UpperRight)
                .background_style(WHITE.mix(0.85))
                .border_style(BLACK.mix(0.2))
                .label_font((FONT, 13))
                .draw()
                .map_err(|error| fail(&error))?;
        }
        area.present().map_err(|error| fail(&error))
    }
}

impl Axis {
    /// Whether the drawing library can show a value: labels of larger numbers, or of smaller ones on a logarithmic axis, take
    /// it for ever.
    fn can_show(&self, value: f64) -> bool {
        value.abs() <= LARGEST && (!self.logarithmic || value >= 1.0 / LARGEST)
    }

    /// The range that shows all `values`, a little wider if it is linear; `None` if there are none.
    fn range(&self, values: impl Iterator<Item = f64>) -> Option<Range<f64>> {
        let (low, high) =
            values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)));
        if low > high {
            return None;
        }
        if self.logarithmic {
            return Some(if high / low > 1.01 { low..high } else { low / 2.0..high * 2.0 });
        }
        // A range that is too narrow for its numbers is widened.
        let size = low.abs().max(high.abs());
        let margin = if high - low > 1e-6 * size { 0.03 * (high - low) } else { (size / 2.0).max(f64::MIN_POSITIVE) };
        let margin = if size == 0.0 { 1.0 } else { margin };
        Some(low - margin..high + margin)
    }
}

/// A number as a label: at most three significant digits, with an exponent where it is short.
fn number(value: f64) -> String {
    let size = value.abs();
    if value == 0.0 {
        "0".into()
    } else if (1e-3..1e5).contains(&size) {
        let digits = (2 - size.log10().floor() as i32).clamp(0, 6) as usize;
        let text = format!("{value:.digits$}");
        if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
    } else {
        format!("{value:.0e}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{any, proptest};

    fn chart(points: Vec<(f64, f64)>, logarithmic: bool) -> LineChart {
        let axis = |label: &str| Axis { label: label.into(), logarithmic };
        let series = vec![Series { name: "a < b & c".into(), points }];
        LineChart { title: "A \"title\"".into(), x: axis("x"), y: axis("y"), series, markers: vec![("m".into(), 2.0)] }
    }

    #[test]
    fn a_chart_has_its_texts_escaped_and_its_lines() {
        let svg = chart(vec![(1.0, 10.0), (2.0, 20.0), (f64::NAN, 1.0), (3.0, f64::INFINITY)], false).svg().unwrap();
        assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"));
        assert!(svg.contains("a &lt; b &amp; c") && !svg.contains("a < b"), "{svg}");
        assert!(!svg.contains("NaN") && !svg.contains("inf"));
    }

    #[test]
    fn what_cannot_be_drawn_is_an_error() {
        assert!(matches!(chart(vec![], false).svg(), Err(ReportError::Empty { .. })));
        assert!(matches!(chart(vec![(-1.0, 1.0), (1.0, 0.0)], true).svg(), Err(ReportError::Empty { .. })));
        chart(vec![(3.0, 3.0)], true).svg().unwrap();
        chart(vec![(0.0, 0.0)], false).svg().unwrap();
    }

    #[test]
    fn labels_are_short() {
        let cases =
            [(0.0, "0"), (0.1, "0.1"), (12.345, "12.3"), (-0.0025, "-0.0025"), (1e-7, "1e-7"), (31_000.0, "31000")];
        for (value, text) in cases {
            assert_eq!(number(value), text);
        }
    }

    proptest! {
        #[test]
        fn no_numbers_panic(points: Vec<(f64, f64)>, logarithmic in any::<bool>()) {
            let _ = chart(points, logarithmic).svg();
        }
    }
}
