//! Points of images in the plane, coloured by class.

use crate::{Axis, Chart, Paint, Point, ReportError, Series, Svg};
use std::collections::BTreeSet;

/// The classes that the colours of series tell apart.
const FEW: usize = 8;

/// Colours for more classes: matplotlib's `tab20`, the dark ones first.
const MANY: [[u8; 3]; 20] = [
    [31, 119, 180],
    [255, 127, 14],
    [44, 160, 44],
    [214, 39, 40],
    [148, 103, 189],
    [140, 86, 75],
    [227, 119, 194],
    [127, 127, 127],
    [188, 189, 34],
    [23, 190, 207],
    [174, 199, 232],
    [255, 187, 120],
    [152, 223, 138],
    [255, 152, 150],
    [197, 176, 213],
    [196, 156, 148],
    [247, 182, 210],
    [199, 199, 199],
    [219, 219, 141],
    [158, 218, 229],
];

/// An image as a point.
#[derive(Clone, Debug, PartialEq)]
pub struct ScatterPoint {
    /// Horizontal and vertical place.
    pub place: [f64; 2],
    /// Its class, if it has one.
    pub class: Option<String>,
    /// What hovering shows beside the class.
    pub title: String,
}

/// Draws the points, a series for each class, in the order of their names. Beyond twenty classes the colours repeat.
///
/// # Errors
/// If there is no point with finite coordinates.
pub fn scatter(title: &str, [x, y]: [String; 2], points: &[ScatterPoint]) -> Result<Svg, ReportError> {
    let classes: BTreeSet<Option<&str>> = points.iter().map(|point| point.class.as_deref()).collect();
    let mut chart = Chart::new(title, Axis::new(x), Axis::new(y));
    let paint = |index: usize| match classes.len() {
        ..=FEW => Paint::Series(index),
        _ => Paint::Rgb(MANY[index % MANY.len()]),
    };
    for (index, &class) in classes.iter().enumerate() {
        let name = class.unwrap_or_default();
        let point = |point: &ScatterPoint| Point {
            x: point.place[0],
            y: point.place[1],
            title: if name.is_empty() { point.title.clone() } else { format!("{name}: {}", point.title) },
            label: String::new(),
        };
        let points = points.iter().filter(|point| point.class.as_deref() == class).map(point).collect();
        // More classes than colours have no legend, which would fill the picture; hovering names them.
        let legend = if classes.len() <= MANY.len() { name } else { "" };
        chart = chart.with(Series::points(legend, paint(index), points));
    }
    chart.draw()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_image_is_a_point_with_its_class_on_hover() {
        let point = |x: f64, class: Option<&str>| ScatterPoint {
            place: [x, -x],
            class: class.map(str::to_owned),
            title: format!("{x}.png"),
        };
        let axes = || ["a".to_owned(), "b".to_owned()];
        let points = [point(1.0, Some("owl")), point(2.0, Some("ant")), point(3.0, None)];
        let svg = scatter("t", axes(), &points).unwrap().to_svg();
        for title in ["owl: 1.png", "ant: 2.png", ">3.png"] {
            assert!(svg.contains(title), "{title}: {svg}");
        }
        assert!(scatter("t", axes(), &[point(f64::NAN, None)]).is_err());
        let names: Vec<String> = (0..9).map(|class| format!("class {class}")).collect();
        let many: Vec<ScatterPoint> = names.iter().zip(0..).map(|(name, x)| point(f64::from(x), Some(name))).collect();
        let svg = scatter("t", axes(), &many).unwrap().to_svg();
        let names: Vec<String> = (0..100).map(|class| format!("class {class}")).collect();
        let most: Vec<ScatterPoint> = names.iter().zip(0..).map(|(name, x)| point(f64::from(x), Some(name))).collect();
        let drawn = scatter("t", axes(), &most).unwrap().to_svg();
        assert!(drawn.contains("class 99: 99.png") && !drawn.contains(">class 99<"), "{drawn}");
        assert!(svg.contains("#1f77b4") && svg.contains("#bcbd22"), "nine classes have nine colours: {svg}");
    }
}
