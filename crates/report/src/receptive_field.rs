//! Receptive fields drawn over the picture that a network sees.

use crate::{Anchor, Label, Mark, Paint, Picture, Svg, fit};
use residual_graph::ReceptiveField;
use std::ops::Range;

/// A node, and the receptive field of its central value.
#[derive(Clone, Debug, PartialEq)]
pub struct FieldOfView {
    /// The node's name.
    pub name: String,
    /// The field.
    pub field: ReceptiveField,
    /// Height and width of the node's feature map.
    pub map: [usize; 2],
}

/// The longer side of the picture, in pixels of the drawing.
const SIDE: f64 = 240.0;
/// The drawing shows as much around the picture as the largest field needs, up to this many of its sides.
const AROUND: f64 = 1.0;
const MARGIN: f64 = 14.0;
const TITLE: f64 = 14.0;
const TEXT: f64 = 11.0;
const ROW: f64 = 18.0;
const TOP: f64 = 36.0;

/// Draws the receptive field of the central value of each node over the network's input, and lists sizes, strides and
/// paddings below. Fields that reach far beyond the picture end in a dashed line at the edge of the drawing.
pub fn receptive_fields(title: &str, picture: &Picture, fields: &[FieldOfView]) -> Svg {
    let [height, width] = [picture.height(), picture.width()];
    let scale = SIDE / height.max(width) as f64;
    let spans: Vec<[Range<i64>; 2]> =
        fields.iter().map(|view| view.map.map(|extent| view.field.pixels(extent / 2))).collect();
    // Pixels around the picture on every side.
    let beyond = |span: &Range<i64>, side: usize| (-span.start).max(span.end - side as i64).max(0) as f64;
    let reach = spans.iter().flat_map(|[rows, columns]| [beyond(rows, height), beyond(columns, width)]);
    let around = reach.fold(0.0, f64::max).min(AROUND * height.max(width) as f64) + 6.0 / scale;
    let canvas = [width, height].map(|side| (side as f64 + 2.0 * around) * scale);
    let total = [canvas[0].max(420.0) + 2.0 * MARGIN, TOP + canvas[1] + (fields.len() + 1) as f64 * ROW + 2.0 * MARGIN];
    let mut svg = Svg::new(total[0], total[1], title);
    svg.text((MARGIN, 23.0), &fit(title, TITLE, total[0] - 2.0 * MARGIN), Label::new(TITLE));
    let origin = [(total[0] - canvas[0]) / 2.0, TOP];
    svg.rect(
        [origin[0], origin[1], canvas[0], canvas[1]],
        &Mark::fill(Paint::Panel).titled("padding around the image"),
    );
    let place = [origin[0] + around * scale, origin[1] + around * scale, width as f64 * scale, height as f64 * scale];
    svg.image(place, picture, "the network's input");
    // Large ones first, so that hovering finds the small ones.
    let mut order: Vec<usize> = (0..fields.len()).collect();
    order.sort_by_key(|&index| std::cmp::Reverse(fields[index].field.size));
    for index in order {
        let [rows, columns] = &spans[index];
        let inside = |value: i64, side: usize| (value as f64).clamp(-around, side as f64 + around);
        let [left, right] = [columns.start, columns.end].map(|x| inside(x, width));
        let [top, bottom] = [rows.start, rows.end].map(|y| inside(y, height));
        let is_cut = [(rows, height), (columns, width)].iter().any(|(span, side)| beyond(span, *side) > around);
        let mut mark = Mark::stroke(Paint::Series(index), 2.2).titled(describe(&fields[index], [height, width]));
        if is_cut {
            mark = mark.dashed();
        }
        let at = [place[0] + left * scale, place[1] + top * scale, (right - left) * scale, (bottom - top) * scale];
        svg.rect(at, &mark);
    }
    list(&mut svg, fields, [height, width], TOP + canvas[1] + MARGIN);
    svg
}

fn describe(FieldOfView { name, field, map }: &FieldOfView, [height, width]: [usize; 2]) -> String {
    format!(
        "{name}: a value of its {}×{} map sees {}×{} of {height}×{width} pixels, stride {}, padding {}",
        map[0], map[1], field.size, field.size, field.stride, field.padding
    )
}

/// The legend: a row for each field.
fn list(svg: &mut Svg, fields: &[FieldOfView], size: [usize; 2], top: f64) {
    let right = svg.width() - MARGIN;
    let columns = [right - 165.0, right - 110.0, right - 60.0, right];
    let mut row = |y: f64, cells: [String; 4], paint: Paint| {
        for (x, cell) in columns.into_iter().zip(&cells) {
            svg.text((x, y), cell, Label::new(TEXT).anchor(Anchor::End).paint(paint));
        }
    };
    row(top + 11.0, ["map", "field", "stride", "padding"].map(str::to_owned), Paint::Muted);
    let rows: Vec<f64> = (1..=fields.len()).map(|index| top + 11.0 + index as f64 * ROW).collect();
    for (view, &y) in fields.iter().zip(&rows) {
        let FieldOfView { field, map, .. } = view;
        let cells = [
            format!("{}×{}", map[0], map[1]),
            field.size.to_string(),
            field.stride.to_string(),
            field.padding.to_string(),
        ];
        row(y, cells, Paint::Ink);
    }
    for (index, (view, &y)) in fields.iter().zip(&rows).enumerate() {
        let mark = Mark::stroke(Paint::Series(index), 2.2).titled(describe(view, size));
        svg.rect([MARGIN + 1.0, y - 10.0, 11.0, 11.0], &mark);
        svg.text((MARGIN + 20.0, y), &fit(&view.name, TEXT, columns[0] - 60.0 - MARGIN - 20.0), Label::new(TEXT));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn svg(size: usize) -> String {
        let picture = Picture::new(60, 60, vec![90; 3 * 60 * 60]).unwrap();
        let field = ReceptiveField { size, stride: 4, padding: size / 2 };
        receptive_fields("t", &picture, &[FieldOfView { name: "layer1".into(), field, map: [15, 15] }]).to_svg()
    }

    /// The value at (7, 7) sees pixels 28 − 10 to 28 + 11 of 60, which are drawn four times as large.
    #[test]
    fn a_field_is_drawn_where_its_pixels_are() {
        let svg = svg(21);
        let image = svg.split("<image x=\"").nth(1).unwrap();
        let field = svg.split("<rect x=\"").find(|rect| rect.contains("sees 21×21 of 60×60 pixels")).unwrap();
        let number = |text: &str, name: &str| -> f64 {
            let text = text.split(&format!("{name}=\"")).nth(1).unwrap_or(text);
            text.split('"').next().unwrap().parse().unwrap()
        };
        assert!((number(field, "width") - 4.0 * 21.0).abs() < 0.2);
        assert!((number(field, " y") - number(image, " y") - 4.0 * 18.0).abs() < 0.2, "{svg}");
    }

    #[test]
    fn a_field_beyond_the_drawing_is_dashed() {
        assert!(!svg(21).contains("stroke-dasharray") && svg(1000).contains("stroke-dasharray"));
    }
}
