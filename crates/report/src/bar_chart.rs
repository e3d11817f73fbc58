//! Horizontal bars with names.

use crate::chart::{TEXT, heading};
use crate::font::{fit, text_width};
use crate::{Anchor, Label, Mark, Paint, Svg};

/// Height of a bar with its distance to the next, in pixels.
const ROW: f64 = 18.0;

/// A bar.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Bar {
    /// Its name, left of it.
    pub name: String,
    /// Its length; not finite or negative is drawn as 0.
    pub value: f64,
    /// Lower and upper end of an interval around the value.
    pub interval: Option<(f64, f64)>,
    /// The text right of it.
    pub text: String,
    /// Its colour.
    pub paint: Paint,
    /// What hovering shows; name and text if it is empty.
    pub title: String,
}

/// Bars below each other, each with a name and a text.
#[derive(Clone, Debug, PartialEq)]
pub struct BarChart {
    /// The title.
    pub title: String,
    /// The bars, from the top.
    pub bars: Vec<Bar>,
    /// The length that fills the width; that of the longest bar if `None`.
    pub limit: Option<f64>,
    /// Width in pixels.
    pub width: f64,
}

impl BarChart {
    /// Bars on a picture of 480 pixels.
    pub fn new(title: impl Into<String>, bars: Vec<Bar>) -> Self {
        Self { title: title.into(), bars, limit: None, width: 480.0 }
    }

    /// Draws the bars; their number gives the height.
    pub fn draw(&self) -> Svg {
        let widest =
            |text: fn(&Bar) -> &str| self.bars.iter().map(|bar| text_width(text(bar), TEXT)).fold(0.0, f64::max);
        let names = widest(|bar| &bar.name).min(self.width * 0.4);
        let texts = widest(|bar| &bar.text).min(self.width * 0.3);
        let left = 12.0 + names + 8.0;
        let length = (self.width - left - texts - 18.0).max(10.0);
        let ends = self.bars.iter().map(|bar| bar.interval.map_or(bar.value, |(_, high)| high.max(bar.value)));
        let longest = self.limit.unwrap_or_else(|| ends.filter(|end| end.is_finite()).fold(0.0, f64::max));
        let scaled = |value: f64| {
            let share = if value.is_finite() && longest > 0.0 { (value / longest).clamp(0.0, 1.0) } else { 0.0 };
            left + share * length
        };
        let title_height = if self.title.is_empty() { 4.0 } else { 30.0 };
        let mut svg = Svg::new(self.width, title_height + self.bars.len() as f64 * ROW + 8.0, &self.title);
        let top = heading(&mut svg, &self.title);
        for (index, bar) in self.bars.iter().enumerate() {
            let y = top + index as f64 * ROW;
            let title = if bar.title.is_empty() { format!("{}: {}", bar.name, bar.text) } else { bar.title.clone() };
            let name = Label::new(TEXT).anchor(Anchor::End);
            svg.text((left - 8.0, y + 13.0), &fit(&bar.name, TEXT, names), name);
            let end = scaled(bar.value);
            svg.rect([left, y + 3.0, end - left, ROW - 5.0], &Mark::fill(bar.paint).opacity(0.85).titled(&title));
            let mut text_at = end;
            if let Some((low, high)) = bar.interval {
                let (low, high, middle) = (scaled(low), scaled(high), y + 3.0 + (ROW - 5.0) / 2.0);
                svg.line((low, middle), (high, middle), &Mark::stroke(Paint::Ink, 1.2).titled(&title));
                for x in [low, high] {
                    svg.line((x, middle - 3.0), (x, middle + 3.0), &Mark::stroke(Paint::Ink, 1.2));
                }
                text_at = text_at.max(high);
            }
            let label = Label::new(TEXT).paint(Paint::Muted);
            svg.text((text_at + 6.0, y + 13.0), &fit(&bar.text, TEXT, texts + 4.0), label);
        }
        svg
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_proportional_and_the_text_stays_inside() {
        let bar = |name: &str, value: f64| Bar {
            name: name.into(),
            value,
            text: format!("{value} ms"),
            paint: Paint::Series(0),
            ..Bar::default()
        };
        let chart = BarChart::new("t", vec![bar("layer1", 10.0), bar("layer2", 5.0), bar("bad", f64::NAN)]);
        let svg = chart.draw().to_svg();
        let widths: Vec<f64> = svg
            .split("<rect x=")
            .skip(1)
            .map(|rect| rect.split("width=\"").nth(1).unwrap().split('"').next().unwrap().parse().unwrap())
            .collect();
        assert!((widths[0] - 2.0 * widths[1]).abs() < 0.2 && widths[2] == 0.0, "{widths:?}");
        assert!(svg.contains("<title>layer1: 10 ms</title>"));
    }
}
