//! A vector picture: shapes, text and images, in pixels from the top left.

use crate::paint::{Role, css};
use crate::{Paint, Picture};
use std::fmt::Write;

/// The font families of all text: the embedded font of PNG files first, then fonts of about its width.
const FAMILIES: &str = "'DejaVu Sans',Verdana,system-ui,sans-serif";

/// A picture.
#[derive(Clone, Debug, PartialEq)]
pub struct Svg {
    title: String,
    width: f64,
    height: f64,
    body: String,
}

/// How a shape is drawn, and what hovering over it shows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Mark {
    fill: Option<Paint>,
    stroke: Option<(Paint, f64)>,
    opacity: Option<f64>,
    dashed: bool,
    title: String,
}

impl Mark {
    /// An area.
    pub fn fill(paint: Paint) -> Self {
        Self { fill: Some(paint), ..Self::default() }
    }

    /// A line of this width.
    pub fn stroke(paint: Paint, width: f64) -> Self {
        Self { stroke: Some((paint, width)), ..Self::default() }
    }

    /// With a line around it.
    pub fn outlined(self, paint: Paint, width: f64) -> Self {
        Self { stroke: Some((paint, width)), ..self }
    }

    /// Translucent: 0 is invisible, but still shows its title.
    pub fn opacity(self, opacity: f64) -> Self {
        Self { opacity: Some(opacity), ..self }
    }

    /// With a dashed line.
    pub fn dashed(self) -> Self {
        Self { dashed: true, ..self }
    }

    /// With a text that hovering shows and screen readers read.
    pub fn titled(self, title: impl Into<String>) -> Self {
        Self { title: title.into(), ..self }
    }

    fn attributes(&self) -> String {
        let mut text = String::new();
        let stroke = self.stroke.map(|(paint, _)| paint);
        // An element has one class attribute.
        let classes = [(self.fill, Role::Fill), (stroke, Role::Stroke)].map(|(paint, role)| paint?.class(role));
        let classes: Vec<String> = classes.into_iter().flatten().collect();
        if !classes.is_empty() {
            let _ = write!(text, " class=\"{}\"", classes.join(" "));
        }
        match self.fill {
            Some(Paint::Rgb(_)) => text += &self.fill.unwrap_or_default().attribute(Role::Fill),
            Some(_) => {}
            None => text += " fill=\"none\"",
        }
        if let Some((paint, width)) = self.stroke {
            if matches!(paint, Paint::Rgb(_)) {
                text += &paint.attribute(Role::Stroke);
            }
            let _ = write!(text, " stroke-width=\"{}\"", number(width));
        }
        if self.dashed {
            text += " stroke-dasharray=\"5 4\"";
        }
        if let Some(opacity) = self.opacity {
            let _ = write!(text, " opacity=\"{}\"", number3(opacity));
        }
        text
    }
}

/// Where a text stands relative to its position.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Anchor {
    /// It starts there.
    #[default]
    Start,
    /// Its middle is there.
    Middle,
    /// It ends there.
    End,
}

/// How a text is drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Label {
    size: f64,
    anchor: Anchor,
    paint: Paint,
    angle: f64,
}

impl Label {
    /// Text of a size in pixels.
    pub fn new(size: f64) -> Self {
        Self { size, anchor: Anchor::Start, paint: Paint::Ink, angle: 0.0 }
    }

    /// Another place.
    pub fn anchor(self, anchor: Anchor) -> Self {
        Self { anchor, ..self }
    }

    /// Another colour.
    pub fn paint(self, paint: Paint) -> Self {
        Self { paint, ..self }
    }

    /// Turned clockwise around its position, in degrees.
    pub fn turned(self, angle: f64) -> Self {
        Self { angle, ..self }
    }
}

impl Svg {
    /// An empty picture. `title` describes it to screen readers.
    pub fn new(width: f64, height: f64, title: impl Into<String>) -> Self {
        Self { title: title.into(), width, height, body: String::new() }
    }

    /// Width in pixels.
    pub fn width(&self) -> f64 {
        self.width
    }

    /// Height in pixels.
    pub fn height(&self) -> f64 {
        self.height
    }

    /// Its description.
    pub fn title(&self) -> &str {
        &self.title
    }

    /// A rectangle.
    pub fn rect(&mut self, [x, y, width, height]: [f64; 4], mark: &Mark) {
        let place = format!(
            "x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\"",
            number(x),
            number(y),
            number(width.max(0.0)),
            number(height.max(0.0))
        );
        self.element("rect", &place, mark);
    }

    /// A rectangle with round corners.
    pub fn round_rect(&mut self, [x, y, width, height]: [f64; 4], radius: f64, mark: &Mark) {
        let place = format!(
            "x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" rx=\"{}\"",
            number(x),
            number(y),
            number(width.max(0.0)),
            number(height.max(0.0)),
            number(radius)
        );
        self.element("rect", &place, mark);
    }

    /// A straight line.
    pub fn line(&mut self, from: (f64, f64), to: (f64, f64), mark: &Mark) {
        let place = format!(
            "x1=\"{}\" y1=\"{}\" x2=\"{}\" y2=\"{}\"",
            number(from.0),
            number(from.1),
            number(to.0),
            number(to.1)
        );
        self.element("line", &place, mark);
    }

    /// A line through points.
    pub fn polyline(&mut self, points: &[(f64, f64)], mark: &Mark) {
        let place = format!("points=\"{}\" stroke-linejoin=\"round\"", coordinates(points));
        self.element("polyline", &place, mark);
    }

    /// An area with corners.
    pub fn polygon(&mut self, points: &[(f64, f64)], mark: &Mark) {
        self.element("polygon", &format!("points=\"{}\"", coordinates(points)), mark);
    }

    /// A circle.
    pub fn circle(&mut self, (x, y): (f64, f64), radius: f64, mark: &Mark) {
        let place = format!("cx=\"{}\" cy=\"{}\" r=\"{}\"", number(x), number(y), number(radius));
        self.element("circle", &place, mark);
    }

    /// A path in SVG's path language, such as an arc: `M 0 0 C 10 0 10 20 0 20`.
    pub fn path(&mut self, path: &str, mark: &Mark) {
        self.element("path", &format!("d=\"{}\"", escape(path)), mark);
    }

    /// A text whose baseline is at `y`; nothing if it is empty.
    pub fn text(&mut self, (x, y): (f64, f64), text: &str, label: Label) {
        if text.is_empty() {
            return;
        }
        let anchor = match label.anchor {
            Anchor::Start => "",
            Anchor::Middle => " text-anchor=\"middle\"",
            Anchor::End => " text-anchor=\"end\"",
        };
        let (x, y) = (number(x), number(y));
        let turn = if label.angle == 0.0 {
            String::new()
        } else {
            format!(" transform=\"rotate({} {x} {y})\"", number(label.angle))
        };
        let _ = write!(
            self.body,
            "<text x=\"{x}\" y=\"{y}\" font-size=\"{}\"{anchor}{}{turn}>{}</text>",
            number(label.size),
            label.paint.attribute(Role::Fill),
            escape(text)
        );
        self.body.push('\n');
    }

    /// An image, stretched to a rectangle. Enlarged pixels keep their edges.
    pub fn image(&mut self, [x, y, width, height]: [f64; 4], picture: &Picture, title: &str) {
        let enlarged = width > picture.width() as f64;
        let _ = write!(
            self.body,
            "<image x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" preserveAspectRatio=\"none\"{} href=\"{}\">{}</image>",
            number(x),
            number(y),
            number(width),
            number(height),
            if enlarged { " style=\"image-rendering:pixelated\"" } else { "" },
            picture.data_uri(),
            title_element(title)
        );
        self.body.push('\n');
    }

    /// Another picture, at its size.
    pub fn embed(&mut self, (x, y): (f64, f64), other: &Self) {
        let _ = writeln!(self.body, "<g transform=\"translate({} {})\">\n{}</g>", number(x), number(y), other.body);
    }

    /// The picture as an SVG file, with its style sheet and background.
    pub fn to_svg(&self) -> String {
        self.document(&css())
    }

    /// The picture as an element of an HTML page that has the style sheet [`css`]; it shrinks to the width it has there.
    pub fn to_html(&self) -> String {
        format!(
            "<svg class=\"chart\" role=\"img\" viewBox=\"0 0 {w} {h}\" width=\"{w}\" height=\"{h}\" font-family=\"{FAMILIES}\" \
             aria-label=\"{}\">\n{}</svg>\n",
            escape(&self.title),
            self.body,
            w = number(self.width),
            h = number(self.height),
        )
    }

    /// The file with this style sheet.
    pub(crate) fn document(&self, css: &str) -> String {
        let (width, height) = (number(self.width), number(self.height));
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" \
             height=\"{height}\" font-family=\"{FAMILIES}\">\n{}<style>svg{{max-width:100%;height:auto}}{css}</style>\n\
             <rect width=\"{width}\" height=\"{height}\" class=\"f-paper\"/>\n{}</svg>\n",
            title_element(&self.title),
            self.body
        )
    }

    fn element(&mut self, name: &str, place: &str, mark: &Mark) {
        let attributes = mark.attributes();
        if mark.title.is_empty() {
            let _ = writeln!(self.body, "<{name} {place}{attributes}/>");
        } else {
            let _ = writeln!(self.body, "<{name} {place}{attributes}>{}</{name}>", title_element(&mark.title));
        }
    }
}

fn title_element(title: &str) -> String {
    if title.is_empty() { String::new() } else { format!("<title>{}</title>", escape(title)) }
}

fn coordinates(points: &[(f64, f64)]) -> String {
    let pairs: Vec<String> = points.iter().map(|(x, y)| format!("{},{}", number(*x), number(*y))).collect();
    pairs.join(" ")
}

/// A coordinate: a tenth of a pixel is fine enough.
fn number(value: f64) -> String {
    trimmed(format!("{value:.1}"))
}

fn number3(value: f64) -> String {
    trimmed(format!("{value:.3}"))
}

fn trimmed(text: String) -> String {
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text == "-0" { "0".to_owned() } else { text.to_owned() }
}

/// Text as XML and HTML take it, in elements and in quoted attributes. Characters that XML does not allow become U+FFFD.
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            '\n' | '\t' => escaped.push(c),
            '\u{0}'..='\u{1f}' | '\u{7f}'..='\u{9f}' | '\u{fffe}' | '\u{ffff}' => escaped.push('\u{fffd}'),
            _ => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_text_is_escaped_everywhere() {
        let mut svg = Svg::new(100.0, 50.0, "a <b> & \"c\"");
        svg.rect([0.0, 0.0, 10.0, 5.0], &Mark::fill(Paint::Ink).titled("</title><script>"));
        svg.text((1.0, 2.0), "x\u{1}<y>", Label::new(12.0));
        for text in [svg.to_svg(), svg.to_html()] {
            assert!(!text.contains("<script") && !text.contains("<y>") && !text.contains('\u{1}'), "{text}");
        }
        assert!(svg.to_html().contains("aria-label=\"a &lt;b&gt; &amp; &quot;c&quot;\""));
    }

    #[test]
    fn coordinates_are_short() {
        let cases = [(1.0, "1"), (0.25, "0.2"), (-0.01, "0"), (12.96, "13"), (100.0, "100")];
        for (value, text) in cases {
            assert_eq!(number(value), text);
        }
    }
}
