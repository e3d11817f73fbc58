//! Charts with two axes: lines, bands, points and columns.

use crate::axis::{Scale, short};
use crate::font::{fit, text_width};
use crate::{Anchor, Axis, Label, Mark, Paint, ReportError, Svg};

/// Font sizes in pixels.
pub(crate) const TITLE: f64 = 15.0;
pub(crate) const TEXT: f64 = 12.0;

/// A line with more points has no marks of its own at them.
const MARKED_POINTS: usize = 40;

/// A point with a text.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Point {
    /// Horizontal value.
    pub x: f64,
    /// Vertical value.
    pub y: f64,
    /// What hovering shows; its values if it is empty.
    pub title: String,
    /// A text beside the point.
    pub label: String,
}

/// A part of a chart that has one colour and one name.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    name: String,
    paint: Paint,
    shape: Shape,
    dashed: bool,
}

#[derive(Clone, Debug, PartialEq)]
enum Shape {
    Line(Vec<(f64, f64)>),
    /// Horizontal value, lower and upper end.
    Band(Vec<(f64, f64, f64)>),
    Points(Vec<Point>),
    /// Left and right end, height.
    Columns(Vec<(f64, f64, f64)>),
    Vertical(f64),
    Horizontal(f64),
}

impl Series {
    fn new(name: impl Into<String>, paint: Paint, shape: Shape) -> Self {
        Self { name: name.into(), paint, shape, dashed: false }
    }

    /// A line through points, in order. A point that cannot be drawn leaves a gap: not finite, beyond 1e30, or not positive
    /// on a logarithmic axis.
    pub fn line(name: impl Into<String>, paint: Paint, points: Vec<(f64, f64)>) -> Self {
        Self::new(name, paint, Shape::Line(points))
    }

    /// The area between a lower and an upper line: horizontal value, lower and upper end.
    pub fn band(name: impl Into<String>, paint: Paint, points: Vec<(f64, f64, f64)>) -> Self {
        Self::new(name, paint, Shape::Band(points))
    }

    /// Single points.
    pub fn points(name: impl Into<String>, paint: Paint, points: Vec<Point>) -> Self {
        Self::new(name, paint, Shape::Points(points))
    }

    /// Columns from the bottom: left and right end, height.
    pub fn columns(name: impl Into<String>, paint: Paint, columns: Vec<(f64, f64, f64)>) -> Self {
        Self::new(name, paint, Shape::Columns(columns))
    }

    /// A vertical line at a place on the horizontal axis.
    pub fn vertical(name: impl Into<String>, paint: Paint, x: f64) -> Self {
        Self::new(name, paint, Shape::Vertical(x))
    }

    /// A horizontal line at a place on the vertical axis.
    pub fn horizontal(name: impl Into<String>, paint: Paint, y: f64) -> Self {
        Self::new(name, paint, Shape::Horizontal(y))
    }

    /// With dashed lines.
    pub fn dashed(self) -> Self {
        Self { dashed: true, ..self }
    }

    /// The values that the axes have to show.
    fn values(&self) -> Vec<(Option<f64>, Option<f64>)> {
        match &self.shape {
            Shape::Line(points) => points.iter().map(|&(x, y)| (Some(x), Some(y))).collect(),
            Shape::Band(points) => {
                points.iter().flat_map(|&(x, low, high)| [(Some(x), Some(low)), (Some(x), Some(high))]).collect()
            }
            Shape::Points(points) => points.iter().map(|point| (Some(point.x), Some(point.y))).collect(),
            Shape::Columns(columns) => {
                columns.iter().flat_map(|&(from, to, y)| [(Some(from), Some(y)), (Some(to), Some(0.0))]).collect()
            }
            Shape::Vertical(x) => vec![(Some(*x), None)],
            Shape::Horizontal(y) => vec![(None, Some(*y))],
        }
    }
}

/// A chart.
#[derive(Clone, Debug, PartialEq)]
pub struct Chart {
    title: String,
    x: Axis,
    y: Axis,
    series: Vec<Series>,
    width: f64,
    height: f64,
}

impl Chart {
    /// An empty chart of 480 × 320 pixels: small enough for a telephone, where a page shows its text at almost its size.
    pub fn new(title: impl Into<String>, x: Axis, y: Axis) -> Self {
        Self { title: title.into(), x, y, series: Vec::new(), width: 480.0, height: 320.0 }
    }

    /// With another part, drawn over the earlier ones.
    pub fn with(mut self, series: Series) -> Self {
        self.series.push(series);
        self
    }

    /// With another size in pixels.
    pub fn sized(self, width: f64, height: f64) -> Self {
        Self { width, height, ..self }
    }

    /// Draws the chart.
    ///
    /// # Errors
    /// [`ReportError::Empty`] if it has no value that can be drawn.
    pub fn draw(&self) -> Result<Svg, ReportError> {
        let values: Vec<_> = self.series.iter().flat_map(Series::values).collect();
        // A point that misses one axis does not stretch the other.
        let shown: Vec<_> = values
            .into_iter()
            .filter(|(x, y)| x.is_none_or(|x| self.x.can_show(x)) && y.is_none_or(|y| self.y.can_show(y)))
            .collect();
        let empty = || ReportError::Empty { title: self.title.clone() };
        let x = self.x.scale(shown.iter().filter_map(|value| value.0)).ok_or_else(empty)?;
        let y = self.y.scale(shown.iter().filter_map(|value| value.1)).ok_or_else(empty)?;
        let mut svg = Svg::new(self.width, self.height, &self.title);
        let mut top = heading(&mut svg, &self.title);
        top = self.legend(&mut svg, top);
        let y_ticks = y.ticks(((self.height - top) / 48.0) as usize);
        let widest = y_ticks.iter().map(|(_, label)| text_width(label, TEXT)).fold(0.0, f64::max);
        let left = widest + if self.y.label.is_empty() { 12.0 } else { 30.0 };
        let bottom = self.height - if self.x.label.is_empty() { 24.0 } else { 42.0 };
        let frame = Frame { x, y, left, right: self.width - 14.0, top: top + 6.0, bottom };
        self.axes(&mut svg, &frame, &y_ticks);
        self.series.iter().for_each(|series| self.series(&mut svg, &frame, series));
        Ok(svg)
    }

    /// Names and colours of the series, in as many lines as they need; the place below.
    fn legend(&self, svg: &mut Svg, top: f64) -> f64 {
        let named: Vec<&Series> = self.series.iter().filter(|series| !series.name.is_empty()).collect();
        if named.len() < 2 {
            return top;
        }
        let (mut x, mut y) = (12.0, top + 10.0);
        for series in named {
            let name = fit(&series.name, TEXT, self.width - 60.0);
            let width = 24.0 + text_width(&name, TEXT);
            if x + width > self.width - 8.0 && x > 12.0 {
                (x, y) = (12.0, y + 17.0);
            }
            series.swatch(svg, x, y - 4.0);
            svg.text((x + 22.0, y), &name, Label::new(TEXT));
            x += width + 16.0;
        }
        y + 6.0
    }

    fn axes(&self, svg: &mut Svg, frame: &Frame, y_ticks: &[(f64, String)]) {
        let grid = Mark::stroke(Paint::Grid, 1.0);
        for (value, label) in y_ticks {
            let y = frame.y(*value);
            svg.line((frame.left, y), (frame.right, y), &grid);
            svg.text((frame.left - 6.0, y + 4.0), label, Label::new(TEXT).anchor(Anchor::End).paint(Paint::Muted));
        }
        let mut taken = f64::NEG_INFINITY;
        for (value, label) in frame.x.ticks(((frame.right - frame.left) / 60.0) as usize) {
            let x = frame.x(value);
            svg.line((x, frame.top), (x, frame.bottom), &grid);
            let half = text_width(&label, TEXT) / 2.0;
            if x - half > taken && x + half < self.width {
                svg.text((x, frame.bottom + 15.0), &label, Label::new(TEXT).anchor(Anchor::Middle).paint(Paint::Muted));
                taken = x + half + 6.0;
            }
        }
        svg.line((frame.left, frame.bottom), (frame.right, frame.bottom), &Mark::stroke(Paint::Muted, 1.0));
        let label = Label::new(TEXT).anchor(Anchor::Middle);
        let (across, along) = ((frame.left + frame.right) / 2.0, (frame.top + frame.bottom) / 2.0);
        svg.text((across, self.height - 8.0), &fit(&self.x.label, TEXT, frame.right - frame.left), label);
        svg.text((14.0, along), &fit(&self.y.label, TEXT, frame.bottom - frame.top), label.turned(-90.0));
    }

    fn series(&self, svg: &mut Svg, frame: &Frame, series: &Series) {
        let paint = series.paint;
        let dashed = |mark: Mark| if series.dashed { mark.dashed() } else { mark };
        let name = if series.name.is_empty() { String::new() } else { format!("{}: ", series.name) };
        let values = |x: f64, y: f64| {
            let [x_name, y_name] = [&self.x.label, &self.y.label].map(|label| unit(label));
            format!("{name}{y_name}{} at {x_name}{}", short(y), short(x))
        };
        match &series.shape {
            Shape::Line(points) => {
                let pieces = points.split(|&(x, y)| !self.can_show(x, y)).filter(|piece| !piece.is_empty());
                for piece in pieces {
                    let places: Vec<_> = piece.iter().map(|&(x, y)| (frame.x(x), frame.y(y))).collect();
                    svg.polyline(&places, &dashed(Mark::stroke(paint, 1.8)));
                    let marked = points.len() <= MARKED_POINTS;
                    for (&place, &(x, y)) in places.iter().zip(piece) {
                        let (radius, opacity) = if marked { (2.4, 1.0) } else { (5.0, 0.0) };
                        svg.circle(place, radius, &Mark::fill(paint).opacity(opacity).titled(values(x, y)));
                    }
                }
            }
            Shape::Band(points) => {
                let can_show = |&&(x, low, high): &&(f64, f64, f64)| self.can_show(x, low) && self.can_show(x, high);
                let points: Vec<_> = points.iter().filter(can_show).collect();
                let lower = points.iter().map(|&&(x, low, _)| (frame.x(x), frame.y(low)));
                let upper = points.iter().rev().map(|&&(x, _, high)| (frame.x(x), frame.y(high)));
                svg.polygon(&lower.chain(upper).collect::<Vec<_>>(), &Mark::fill(paint).opacity(0.22));
            }
            Shape::Points(points) => {
                for Point { x, y, title, label } in points.iter().filter(|point| self.can_show(point.x, point.y)) {
                    let place = (frame.x(*x), frame.y(*y));
                    let title = if title.is_empty() { values(*x, *y) } else { title.clone() };
                    svg.circle(place, 3.4, &Mark::fill(paint).opacity(0.8).titled(title));
                    if !label.is_empty() {
                        let width = text_width(label, TEXT);
                        let left = place.0 + 7.0 + width > self.width - 4.0;
                        let (x, anchor) =
                            if left { (place.0 - 7.0, Anchor::End) } else { (place.0 + 7.0, Anchor::Start) };
                        svg.text((x, place.1 + 4.0), label, Label::new(TEXT).anchor(anchor));
                    }
                }
            }
            Shape::Columns(columns) => {
                for &(from, to, height) in columns.iter().filter(|&&(x, _, y)| self.can_show(x, y)) {
                    let [left, right] = [frame.x(from), frame.x(to)];
                    let [top, bottom] = [frame.y(height), frame.y(0.0f64.max(frame.y.low))];
                    let title = format!("{name}{} for {} to {}", short(height), short(from), short(to));
                    let area = [left + 0.5, top.min(bottom), right - left - 1.0, (bottom - top).abs()];
                    svg.rect(area, &Mark::fill(paint).opacity(0.75).titled(title));
                }
            }
            Shape::Vertical(x) if self.x.can_show(*x) => {
                let x = frame.x(*x);
                let mark = dashed(Mark::stroke(paint, 1.4)).titled(&series.name);
                svg.line((x, frame.top), (x, frame.bottom), &mark);
            }
            Shape::Horizontal(y) if self.y.can_show(*y) => {
                let y = frame.y(*y);
                let mark = dashed(Mark::stroke(paint, 1.4)).titled(&series.name);
                svg.line((frame.left, y), (frame.right, y), &mark);
            }
            Shape::Vertical(_) | Shape::Horizontal(_) => {}
        }
    }

    fn can_show(&self, x: f64, y: f64) -> bool {
        self.x.can_show(x) && self.y.can_show(y)
    }
}

impl Series {
    /// Its entry in the legend: 16 pixels wide, at the height `y`.
    fn swatch(&self, svg: &mut Svg, x: f64, y: f64) {
        match &self.shape {
            Shape::Points(_) => svg.circle((x + 8.0, y), 4.0, &Mark::fill(self.paint)),
            Shape::Band(_) => svg.rect([x, y - 5.0, 16.0, 10.0], &Mark::fill(self.paint).opacity(0.3)),
            Shape::Columns(_) => svg.rect([x, y - 5.0, 16.0, 10.0], &Mark::fill(self.paint).opacity(0.75)),
            Shape::Line(_) | Shape::Vertical(_) | Shape::Horizontal(_) => {
                let mark = Mark::stroke(self.paint, 2.0);
                svg.line((x, y), (x + 16.0, y), &if self.dashed { mark.dashed() } else { mark });
            }
        }
    }
}

/// The area between the axes.
struct Frame {
    x: Scale,
    y: Scale,
    left: f64,
    right: f64,
    top: f64,
    bottom: f64,
}

impl Frame {
    fn x(&self, value: f64) -> f64 {
        self.left + self.x.at(value) * (self.right - self.left)
    }

    fn y(&self, value: f64) -> f64 {
        self.bottom - self.y.at(value) * (self.bottom - self.top)
    }
}

/// A picture's title at its top; the place below.
pub(crate) fn heading(svg: &mut Svg, title: &str) -> f64 {
    if title.is_empty() {
        return 4.0;
    }
    let text = fit(title, TITLE, svg.width() - 20.0);
    svg.text((12.0, 20.0), &text, Label::new(TITLE));
    30.0
}

/// An axis's name before its value.
fn unit(label: &str) -> String {
    if label.is_empty() { String::new() } else { format!("{label} ") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{any, proptest};

    fn chart(points: Vec<(f64, f64)>, logarithmic: bool) -> Chart {
        let axis = |label: &str| if logarithmic { Axis::new(label).logarithmic() } else { Axis::new(label) };
        Chart::new("A \"title\"", axis("x"), axis("y"))
            .with(Series::line("a < b & c", Paint::Series(0), points))
            .with(Series::vertical("m", Paint::Muted, 2.0))
    }

    #[test]
    fn a_chart_has_its_texts_escaped_and_its_values_on_hover() {
        let points = vec![(1.0, 10.0), (2.0, 20.0), (f64::NAN, 1.0), (3.0, f64::INFINITY), (4.0, 12.0)];
        let svg = chart(points, false).draw().unwrap().to_svg();
        assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"));
        assert!(svg.contains("a &lt; b &amp; c: y 20 at x 2") && !svg.contains("a < b"), "{svg}");
        assert!(!svg.contains("NaN") && !svg.contains("inf"));
        assert_eq!(svg.matches("<polyline").count(), 2, "a point that cannot be drawn leaves a gap");
    }

    #[test]
    fn what_cannot_be_drawn_is_an_error() {
        let none = Chart::new("t", Axis::new("x"), Axis::new("y"));
        assert!(matches!(none.draw(), Err(ReportError::Empty { .. })));
        assert!(matches!(chart(vec![(-1.0, 1.0), (1.0, 0.0)], true).draw(), Err(ReportError::Empty { .. })));
        chart(vec![(3.0, 3.0)], true).draw().unwrap();
        chart(vec![(0.0, 0.0)], false).draw().unwrap();
    }

    #[test]
    fn every_shape_stays_inside_the_picture() {
        let points = (0..50).map(|i| f64::from(i) / 10.0);
        let chart = Chart::new("all", Axis::new("x"), Axis::new("y").between(0.0, 1.0))
            .with(Series::columns("columns", Paint::Series(0), vec![(0.0, 1.0, 0.5), (1.0, 2.0, 0.9)]))
            .with(Series::band("band", Paint::Series(1), points.clone().map(|x| (x, x / 9.0, x / 6.0)).collect()))
            .with(Series::line("line", Paint::Series(2), points.clone().map(|x| (x, x / 8.0)).collect()).dashed())
            .with(Series::horizontal("level", Paint::Bad, 0.3))
            .with(Series::points(
                "points",
                Paint::Series(3),
                points.map(|x| Point { x, y: x / 7.0, label: "a long label".into(), ..Point::default() }).collect(),
            ));
        let svg = chart.draw().unwrap();
        let text = svg.to_svg();
        for attribute in ["x", "cx", "x1", "x2"] {
            for value in text.split(&format!(" {attribute}=\"")).skip(1) {
                let value: f64 = value.split('"').next().unwrap().parse().unwrap();
                assert!((0.0..=svg.width()).contains(&value), "{attribute}={value}");
            }
        }
    }

    proptest! {
        #[test]
        fn no_numbers_panic(points: Vec<(f64, f64)>, logarithmic in any::<bool>()) {
            let _ = chart(points, logarithmic).draw();
        }
    }
}
