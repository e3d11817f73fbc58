//! The architecture of a network: stages as bands, layers as boxes, shortcuts as arcs, equal blocks once.

mod boxes;
mod fold;
mod layout;

use crate::{Anchor, Label, Mark, Paint, ReportError, Svg, fit, text_width};
use boxes::{Layer, boxes};
use fold::{Folded, Repeat};
use layout::{Edge, Layout};
use residual_graph::{Graph, Op, Stage};

/// Sizes in pixels: the margin, the columns for stages and blocks, a box, its row, and the distance to boxes beside it.
const MARGIN: f64 = 12.0;
const STAGES: f64 = 122.0;
const BLOCKS: f64 = 92.0;
const BOX: [f64; 2] = [196.0, 24.0];
const ROW: f64 = 34.0;
const GAP: f64 = 44.0;
/// The width of a shortcut's arc.
const ARC: f64 = 36.0;
/// Font sizes.
const TITLE: f64 = 15.0;
const TEXT: f64 = 11.0;
/// The largest number of boxes: a picture of 68,000 pixels.
const MAX_BOXES: usize = 2000;
/// Above the first row: the title and a line of facts.
const TOP: f64 = 58.0;

/// Draws a network at an input of `height` × `width` pixels. Layers follow each other from top to bottom, a norm or
/// activation in the box of the layer before it; branches are beside the main path, and shortcuts are arcs. Consecutive
/// blocks of a stage that look the same are drawn once, with their number.
///
/// # Errors
/// If the graph's shapes do not fit together, or more than 2000 boxes are left to draw.
pub fn architecture(graph: &Graph, [height, width]: [usize; 2]) -> Result<Svg, ReportError> {
    let analysis = graph.analyse(height, width)?;
    let shapes = graph.shapes(height, width)?;
    let stages = graph.stages(height, width)?;
    let folded = Folded::new(graph, &shapes, &stages);
    let layers = boxes(graph, &folded, &analysis);
    if layers.len() > MAX_BOXES {
        return Err(ReportError::Boxes { network: graph.name.clone(), count: layers.len(), limit: MAX_BOXES });
    }
    let output = folded.drawn[graph.output.0];
    let output = layers.iter().position(|layer| layer.nodes.contains(&output)).unwrap_or(layers.len() - 1);
    let layout = Layout::new(&layers, output);
    let diagram = Diagram { graph, layers: &layers, layout: &layout };
    let mut svg =
        Svg::new(diagram.width(), TOP + layout.rows as f64 * ROW + MARGIN, format!("Architecture of {}", graph.name));
    svg.text((MARGIN, 26.0), &fit(&graph.name, TITLE, diagram.width() - 2.0 * MARGIN), Label::new(TITLE));
    let facts = format!(
        "{} layers deep, {:.2} M parameters, {:.3} G multiply-accumulates",
        analysis.depth,
        analysis.parameters as f64 / 1e6,
        analysis.macs as f64 / 1e9
    );
    svg.text((MARGIN, 44.0), &fit(&facts, TEXT, diagram.width() - 2.0 * MARGIN), Label::new(TEXT).paint(Paint::Muted));
    diagram.stages(&mut svg, &stages, &folded);
    diagram.repeats(&mut svg, &folded);
    diagram.edges(&mut svg);
    diagram.boxes(&mut svg);
    Ok(svg)
}

struct Diagram<'a> {
    graph: &'a Graph,
    layers: &'a [Layer],
    layout: &'a Layout,
}

impl Diagram<'_> {
    fn width(&self) -> f64 {
        let columns = self.layout.columns as f64;
        MARGIN + STAGES + BLOCKS + columns * BOX[0] + (columns - 1.0) * GAP + ARC + 2.0 * MARGIN
    }

    /// The top left corner of a box.
    fn corner(&self, layer: usize) -> [f64; 2] {
        let [row, column] = self.layout.places[layer];
        let x = MARGIN + STAGES + BLOCKS + column as f64 * (BOX[0] + GAP);
        [x, TOP + row as f64 * ROW + (ROW - BOX[1]) / 2.0]
    }

    /// The first and the last row of the boxes with a node in `nodes`, of those on the main path or of all.
    fn rows(&self, nodes: impl Fn(usize) -> bool, main: bool) -> Option<[usize; 2]> {
        let rows = self.layers.iter().zip(&self.layout.places);
        let rows = rows.filter(|(layer, place)| (place[1] == 0 || !main) && nodes(layer.nodes[0]));
        let rows = rows.map(|(_, place)| place[0]);
        Some([rows.clone().min()?, rows.max()?])
    }

    /// A band for each stage, with its name and the shape of its result.
    fn stages(&self, svg: &mut Svg, stages: &[Stage], folded: &Folded) {
        let mut from = self.rows(|node| node == 0, true).map_or(0, |[_, last]| last + 1);
        for (index, stage) in stages.iter().enumerate() {
            let Some([_, last]) = self.rows(|node| stage.nodes.contains(&node), true) else { continue };
            // A band of one row has room for one line.
            let is_high = last > from;
            let (y, height) = (TOP + from as f64 * ROW, (last + 1 - from) as f64 * ROW);
            from = last + 1;
            let paint = if index % 2 == 0 { Paint::Panel } else { Paint::Paper };
            let blocks = folded.repeats.iter().filter(|repeat| stage.nodes.contains(&repeat.nodes.start));
            let blocks: usize = blocks.map(|repeat| repeat.count).sum();
            let title = match blocks {
                0 => format!("{}: {}", stage.name, stage.output),
                1 => format!("{}: 1 block, {}", stage.name, stage.output),
                _ => format!("{}: {blocks} blocks, {}", stage.name, stage.output),
            };
            let mark = Mark::fill(paint).outlined(Paint::Grid, 1.0).titled(title);
            svg.round_rect([MARGIN / 2.0, y + 1.0, self.width() - MARGIN, height - 2.0], 6.0, &mark);
            let x = MARGIN + 2.0;
            svg.text((x, y + 20.0), &fit(&stage_name(&stage.name), TEXT, STAGES), Label::new(TEXT));
            if is_high {
                svg.text((x, y + 36.0), &stage.output.to_string(), Label::new(TEXT).paint(Paint::Muted));
            }
        }
    }

    /// A frame around each block, with its name and number.
    fn repeats(&self, svg: &mut Svg, folded: &Folded) {
        for Repeat { names: [first, last], nodes, count } in &folded.repeats {
            let Some([top, bottom]) = self.rows(|node| nodes.contains(&node), false) else { continue };
            let y = TOP + top as f64 * ROW + 2.5;
            let x = MARGIN + STAGES + BLOCKS - 8.0;
            let frame = [x, y, self.width() - MARGIN - x - 4.0, (bottom + 1 - top) as f64 * ROW - 5.0];
            let title = if *count == 1 { first.clone() } else { format!("{first} to {last}: {count} equal blocks") };
            svg.round_rect(frame, 5.0, &Mark::stroke(Paint::Grid, 1.0).dashed().titled(title));
            let label = Label::new(TEXT).anchor(Anchor::End);
            let text = if *count == 1 { first.clone() } else { format!("{first} … {last}") };
            let text = short(&text);
            let muted = label.paint(Paint::Muted);
            svg.text((x - 8.0, y + 17.0), &fit(&text, TEXT, BLOCKS - 14.0), muted);
            if *count > 1 {
                svg.text((x - 8.0, y + 33.0), &format!("× {count}"), Label::new(TITLE).anchor(Anchor::End));
            }
        }
    }

    fn edges(&self, svg: &mut Svg) {
        for &Edge { from, to, skips } in &self.layout.edges {
            let ([x0, y0], [x1, y1]) = (self.corner(from), self.corner(to));
            let [column_from, column_to] = [from, to].map(|layer| self.layout.places[layer][1]);
            let [box_width, box_height] = BOX;
            let mark = |paint| Mark::stroke(paint, 1.4);
            // What leaves a box on its right does so below what arrives there.
            let (start, end) = ([x0, y0 + box_height * 0.72], [x1, y1 + box_height * 0.34]);
            if skips {
                let (right, far) = (x0 + box_width, x0 + box_width + ARC);
                let path =
                    format!("M {right} {} C {far} {} {far} {} {} {}", start[1], start[1], end[1], right + 5.0, end[1]);
                let title = format!("shortcut from {} to {}", self.name(from), self.name(to));
                svg.path(&path, &Mark::stroke(Paint::Series(1), 2.0).titled(title));
                arrow(svg, [right + 0.5, end[1]], Direction::Left, Paint::Series(1));
            } else if column_from == column_to {
                let x = x0 + box_width / 2.0;
                svg.line((x, y0 + box_height), (x, y1 - 4.0), &mark(Paint::Muted));
                arrow(svg, [x, y1], Direction::Down, Paint::Muted);
            } else if column_to > column_from {
                // From the main path to the top of a branch.
                let (right, x) = (x0 + box_width, x1 + box_width / 2.0);
                let path = format!(
                    "M {right} {} H {} Q {x} {} {x} {} V {}",
                    start[1],
                    x - 10.0,
                    start[1],
                    start[1] + 10.0,
                    y1 - 4.0
                );
                svg.path(&path, &mark(Paint::Series(1)));
                arrow(svg, [x, y1], Direction::Down, Paint::Series(1));
            } else {
                // From the bottom of a branch back to the main path.
                let x = x0 + box_width / 2.0;
                let right = x1 + box_width;
                let path = format!(
                    "M {x} {} V {} Q {x} {} {} {} H {}",
                    y0 + box_height,
                    end[1] - 10.0,
                    end[1],
                    x - 10.0,
                    end[1],
                    right + 5.0
                );
                svg.path(&path, &mark(Paint::Series(1)));
                arrow(svg, [right + 0.5, end[1]], Direction::Left, Paint::Series(1));
            }
        }
    }

    fn name(&self, layer: usize) -> &str {
        &self.graph.nodes[self.layers[layer].nodes[0]].name
    }

    fn boxes(&self, svg: &mut Svg) {
        for (index, layer) in self.layers.iter().enumerate() {
            let [x, y] = self.corner(index);
            let [width, height] = BOX;
            let paint = paint(&self.graph.nodes[layer.nodes[0]].op);
            svg.round_rect([x, y, width, height], 4.0, &Mark::fill(Paint::Paper));
            let mark = Mark::fill(paint).opacity(0.22).titled(&layer.title);
            svg.round_rect([x, y, width, height], 4.0, &mark);
            svg.round_rect([x, y, width, height], 4.0, &Mark::stroke(paint, 1.2));
            let text = fit(&layer.text, TEXT, width - 12.0);
            svg.text((x + 7.0, y + 16.0), &text, Label::new(TEXT));
            let left = width - 20.0 - text_width(&text, TEXT);
            let suffix = fit(&layer.suffix, TEXT, left.max(0.0));
            svg.text((x + width - 7.0, y + 16.0), &suffix, Label::new(TEXT).anchor(Anchor::End).paint(Paint::Muted));
        }
    }
}

/// A module, or the first and last of several, by what tells them apart: `features.conv0 … features.norm0` as
/// `conv0 … norm0`, `denselayer1 … denselayer6` as `1 … 6`, `inception3a … inception3b` as `inception3a … 3b`.
fn short(name: &str) -> String {
    let local = |name: &'_ str| name.rsplit('.').next().unwrap_or_default().to_owned();
    let Some((first, last)) = name.split_once(" … ") else { return local(name) };
    let (first, last) = (local(first), local(last));
    let word = first.find(|c: char| !c.is_alphabetic()).unwrap_or(0);
    let rest = last.strip_prefix(&first[..word]).unwrap_or(&last);
    let is_number = |text: &str| text.parse::<u32>().is_ok();
    match &first[word..] {
        number if is_number(number) && is_number(rest) => format!("{number} … {rest}"),
        _ => format!("{first} … {rest}"),
    }
}

/// As [`short`], with the module around where a number is left: `features.28 … 34`.
fn stage_name(name: &str) -> String {
    let text = short(name);
    let parent = name.split(" … ").next().and_then(|first| first.rsplit_once('.')).map(|(path, _)| path);
    match parent {
        Some(path) if text.starts_with(|c: char| c.is_ascii_digit()) => {
            format!("{}.{text}", path.rsplit('.').next().unwrap_or_default())
        }
        _ => text,
    }
}

/// Where an arrow points.
#[derive(Clone, Copy)]
enum Direction {
    Down,
    Left,
}

/// The head of an arrow whose tip is at `tip`.
fn arrow(svg: &mut Svg, [x, y]: [f64; 2], direction: Direction, paint: Paint) {
    let (long, wide) = (6.0, 3.5);
    let corners = match direction {
        Direction::Down => [(x, y), (x - wide, y - long), (x + wide, y - long)],
        Direction::Left => [(x, y), (x + long, y - wide), (x + long, y + wide)],
    };
    svg.polygon(&corners, &Mark::fill(paint));
}

/// The colour of a kind of layer.
fn paint(op: &Op) -> Paint {
    match op {
        Op::Conv2d(_) => Paint::Series(0),
        Op::Linear { .. } => Paint::Series(2),
        Op::Add | Op::Concat | Op::Gate | Op::PadShortcut { .. } => Paint::Series(1),
        Op::MaxPool2d(_) | Op::AvgPool2d { .. } | Op::GlobalAvgPool | Op::AdaptiveAvgPool2d { .. } => Paint::Series(4),
        _ => Paint::Muted,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use residual_graph::{Builder, Conv2d, NodeId};

    /// A stage of residual blocks of two convolutions.
    fn residual(blocks: usize) -> Graph {
        let mut net = Builder::new("small", [3, 16, 16]);
        let mut x = net.conv("conv1", net.input(), Conv2d::new(3, 8, 3).padding(1)).unwrap();
        for block in 0..blocks {
            let conv = |net: &mut Builder, place: usize, x: NodeId| {
                net.conv(format!("layer1.{block}.conv{place}"), x, Conv2d::new(8, 8, 3).padding(1)).unwrap()
            };
            let y = conv(&mut net, 1, x);
            let y = net.relu(format!("layer1.{block}.relu1"), y).unwrap();
            let y = conv(&mut net, 2, y);
            x = net.add(format!("layer1.{block}.add"), y, x).unwrap();
        }
        let mean = net.global_avg_pool("avgpool", x).unwrap();
        let fc = net.linear("fc", mean, 10, true).unwrap();
        net.finish(fc).unwrap()
    }

    #[test]
    fn names_are_shortened_to_what_tells_them_apart() {
        for (name, expected) in [
            ("layer1", "layer1"),
            ("features.denseblock1", "denseblock1"),
            ("conv1 … bn1", "conv1 … bn1"),
            ("features.conv0 … features.norm0", "conv0 … norm0"),
            ("a.denselayer1 … a.denselayer12", "1 … 12"),
            ("features.28 … features.34", "28 … 34"),
            ("inception3a … inception3b", "inception3a … 3b"),
            ("a … a", "a … a"),
        ] {
            assert_eq!(short(name), expected);
        }
        assert_eq!(
            ["layer1", "features.1", "features.28 … features.34"].map(stage_name),
            ["layer1", "features.1", "features.28 … 34"]
        );
    }

    #[test]
    fn equal_blocks_are_drawn_once_with_their_number_and_a_shortcut() {
        let svg = |blocks| architecture(&residual(blocks), [16, 16]).unwrap();
        let [one, seven] = [1, 7].map(svg);
        assert_eq!(one.height(), seven.height());
        let (one, seven) = (one.to_svg(), seven.to_svg());
        for (text, count) in
            [("8 blocks", 0), ("7 equal blocks", 1), ("× 7", 1), ("shortcut from conv1 to layer1.0.add", 1)]
        {
            assert_eq!(seven.matches(text).count(), count, "{text}");
        }
        assert_eq!([&one, &seven].map(|svg| svg.matches("3×3 conv, 8<").count()), [3, 3]);
        assert!(!one.contains("equal blocks"));
    }

    /// Boxes of one column never overlap, and no branch lies on the main path.
    #[test]
    fn boxes_do_not_overlap_where_branches_meet() {
        let mut net = Builder::new("branches", [3, 16, 16]);
        let x = net.input();
        let conv = |net: &mut Builder, name: &str, x: NodeId| net.conv(name, x, Conv2d::new(3, 3, 1)).unwrap();
        let one = conv(&mut net, "a.branch1", x);
        let two = conv(&mut net, "a.branch2.0", x);
        let two = conv(&mut net, "a.branch2.1", two);
        let three = conv(&mut net, "a.branch3.0", x);
        let three = conv(&mut net, "a.branch3.1", three);
        let three = conv(&mut net, "a.branch3.2", three);
        let concat = net.push("a.concat", Op::Concat, &[one, two, three, x]).unwrap();
        let graph = net.finish(concat).unwrap();
        let analysis = graph.analyse(16, 16).unwrap();
        let folded = Folded::new(&graph, &graph.shapes(16, 16).unwrap(), &graph.stages(16, 16).unwrap());
        let layers = boxes(&graph, &folded, &analysis);
        let layout = Layout::new(&layers, layers.len() - 1);
        assert_eq!(layout.columns, 3);
        let mut places = layout.places.clone();
        places.sort_unstable();
        places.dedup();
        assert_eq!(places.len(), layers.len(), "{:?}", layout.places);
        let rows: Vec<usize> = layout.places.iter().map(|[row, _]| *row).collect();
        assert!(layout.edges.iter().all(|edge| rows[edge.from] < rows[edge.to]), "{:?}", layout.places);
        let skipping: Vec<[usize; 2]> =
            layout.edges.iter().filter(|edge| edge.skips).map(|edge| [edge.from, edge.to]).collect();
        assert_eq!(skipping, [[0, layers.len() - 1]], "the image itself is concatenated too");
    }
}
