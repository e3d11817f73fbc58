//! Heat maps: a table whose cells are coloured by value.

use crate::chart::{TEXT, heading};
use crate::font::{fit, text_width};
use crate::{Anchor, Label, Mark, Paint, Svg};

/// Cells narrower than this show no text, in pixels.
const READABLE: f64 = 22.0;

/// A cell.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Cell {
    /// The strength of its colour, from 0 to 1.
    pub strength: f64,
    /// Its text, where it fits.
    pub text: String,
    /// What hovering shows.
    pub title: String,
}

/// A table of coloured cells, such as a confusion matrix.
#[derive(Clone, Debug, PartialEq)]
pub struct HeatMap {
    /// The title.
    pub title: String,
    /// Name of the vertical axis and of the horizontal one.
    pub axes: [String; 2],
    /// Names of the rows.
    pub rows: Vec<String>,
    /// Names of the columns.
    pub columns: Vec<String>,
    /// The cells of each row.
    pub cells: Vec<Vec<Cell>>,
    /// The colour of the strongest cell.
    pub paint: Paint,
    /// Width in pixels.
    pub width: f64,
}

impl HeatMap {
    /// Draws the table; empty cells are not drawn.
    pub fn draw(&self) -> Svg {
        let widest = |names: &[String]| names.iter().map(|name| text_width(name, TEXT)).fold(0.0, f64::max);
        let row_names = widest(&self.rows).min(self.width * 0.25);
        let column_names = widest(&self.columns).min(90.0);
        let left = 26.0 + row_names + 6.0;
        let size = ((self.width - left - 12.0) / self.columns.len().max(1) as f64).min(90.0);
        let row_height = size.min(48.0);
        let title_height = if self.title.is_empty() { 4.0 } else { 30.0 };
        let (width, height) = (size * self.columns.len() as f64, row_height * self.rows.len() as f64);
        let bottom = column_names + 36.0;
        let mut svg = Svg::new(self.width, title_height + height + bottom, &self.title);
        let top = heading(&mut svg, &self.title);
        svg.rect([left, top, width, height], &Mark::fill(Paint::Panel));
        for (row, cells) in self.cells.iter().enumerate() {
            for (column, cell) in cells.iter().enumerate() {
                let area = [left + column as f64 * size, top + row as f64 * row_height, size, row_height];
                self.cell(&mut svg, area, cell);
            }
        }
        // So many names that they do not overlap.
        let every = |space: f64| (TEXT * 1.3 / space).ceil().max(1.0) as usize;
        for (index, name) in self.rows.iter().enumerate().step_by(every(row_height)) {
            let y = top + (index as f64 + 0.5) * row_height + 4.0;
            let label = Label::new(TEXT).anchor(Anchor::End);
            svg.text((left - 6.0, y), &fit(name, TEXT, row_names), label);
        }
        for (index, name) in self.columns.iter().enumerate().step_by(every(size)) {
            let x = left + (index as f64 + 0.5) * size + 4.0;
            let label = Label::new(TEXT).anchor(Anchor::End).turned(-90.0);
            svg.text((x, top + height + 6.0), &fit(name, TEXT, column_names), label);
        }
        let label = Label::new(TEXT).anchor(Anchor::Middle).paint(Paint::Muted);
        svg.text((14.0, top + height / 2.0), &self.axes[0], label.turned(-90.0));
        svg.text((left + width / 2.0, svg.height() - 8.0), &self.axes[1], label);
        svg
    }

    fn cell(&self, svg: &mut Svg, area: [f64; 4], cell: &Cell) {
        let strength = if cell.strength.is_finite() { cell.strength.clamp(0.0, 1.0) } else { 0.0 };
        if strength == 0.0 && cell.text.is_empty() {
            return;
        }
        svg.rect(area, &Mark::fill(self.paint).opacity(strength).titled(&cell.title));
        let [x, y, width, height] = area;
        if width >= READABLE && text_width(&cell.text, TEXT) <= width - 2.0 {
            let paint = if strength > 0.55 { Paint::Paper } else { Paint::Ink };
            let label = Label::new(TEXT).anchor(Anchor::Middle).paint(paint);
            svg.text((x + width / 2.0, y + height / 2.0 + 4.0), &cell.text, label);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(classes: usize) -> HeatMap {
        let names: Vec<String> = (0..classes).map(|class| format!("class {class}")).collect();
        let cell = |row: usize, column: usize| Cell {
            strength: if row == column { 0.9 } else { 0.0 },
            text: if row == column { "9".into() } else { String::new() },
            title: format!("{row} as {column}"),
        };
        HeatMap {
            title: "Confusion".into(),
            axes: ["true".into(), "predicted".into()],
            rows: names.clone(),
            columns: names,
            cells: (0..classes).map(|row| (0..classes).map(|column| cell(row, column)).collect()).collect(),
            paint: Paint::Series(0),
            width: 520.0,
        }
    }

    #[test]
    fn many_classes_still_fit_the_width() {
        for classes in [2, 10, 100] {
            let svg = map(classes).draw();
            let text = svg.to_svg();
            assert_eq!(svg.width(), 520.0);
            assert_eq!(text.matches(">0 as 0<").count(), 1);
            assert!(!text.contains(">0 as 1<"), "empty cells cost nothing");
            assert!(text.matches("class ").count() <= 2 * classes);
        }
    }
}
