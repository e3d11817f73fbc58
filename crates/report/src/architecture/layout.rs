//! Where the boxes of a diagram go: the main path from top to bottom, branches beside it.

use super::boxes::Layer;

/// The place of each box, and the lines between them.
pub(super) struct Layout {
    /// Row and column of every box; column 0 is the main path.
    pub(super) places: Vec<[usize; 2]>,
    pub(super) edges: Vec<Edge>,
    pub(super) rows: usize,
    /// Columns, with the main one.
    pub(super) columns: usize,
}

/// A line from one box to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Edge {
    pub(super) from: usize,
    pub(super) to: usize,
    /// Whether it passes other boxes of the main path: a shortcut, drawn as an arc.
    pub(super) skips: bool,
}

/// Boxes beside the main path, each reading the one before.
struct Branch {
    layers: Vec<usize>,
    source: usize,
}

impl Layout {
    pub(super) fn new(layers: &[Layer], output: usize) -> Self {
        let is_main = main_path(layers, output);
        let branches = branches(layers, &is_main);
        // The branch that each box reads the end of.
        let ending: Vec<Vec<usize>> = layers
            .iter()
            .map(|layer| {
                let ends =
                    |branch: &usize| branches[*branch].layers.last().is_some_and(|end| layer.inputs.contains(end));
                (0..branches.len()).filter(ends).collect()
            })
            .collect();
        let mut places = vec![[0, 0]; layers.len()];
        let mut next = 0;
        // The branches placed so far: their rows and column.
        let mut taken: Vec<([usize; 2], usize)> = Vec::new();
        for index in (0..layers.len()).filter(|&index| is_main[index]) {
            let room = |branch: &usize| places[branches[*branch].source][0] + branches[*branch].layers.len() + 1;
            let row = ending[index].iter().map(room).max().unwrap_or(0).max(next);
            places[index] = [row, 0];
            next = row + 1;
            for &branch in &ending[index] {
                let Branch { layers, source } = &branches[branch];
                let rows = [places[*source][0], row];
                let free = |column: &usize| {
                    taken.iter().all(|([from, to], other)| other != column || *to <= rows[0] || rows[1] <= *from)
                };
                let column = (1..).find(free).expect("some column is free");
                taken.push((rows, column));
                for (position, &layer) in layers.iter().enumerate() {
                    let span = rows[1] - rows[0];
                    places[layer] =
                        [rows[0] + (span * (position + 1)).div_ceil(layers.len() + 1).min(span - 1).max(1), column];
                }
            }
        }
        // Branches that no box of the main path reads.
        let mut rest = places.iter().map(|[_, column]| column + 1).max().unwrap_or(1);
        for (branch, Branch { layers, source }) in branches.iter().enumerate() {
            if !ending.iter().enumerate().any(|(index, ending)| is_main[index] && ending.contains(&branch)) {
                for (position, &layer) in layers.iter().enumerate() {
                    places[layer] = [places[*source][0] + 1 + position, rest];
                    next = next.max(places[layer][0] + 1);
                }
                rest += 1;
            }
        }
        let columns = places.iter().map(|[_, column]| column + 1).max().unwrap_or(1);
        Self { edges: edges(layers, &is_main, &places), places, rows: next, columns }
    }
}

/// The boxes from the output back to the image along first inputs.
fn main_path(layers: &[Layer], output: usize) -> Vec<bool> {
    let mut is_main = vec![false; layers.len()];
    let mut at = Some(output);
    while let Some(index) = at {
        is_main[index] = true;
        at = layers[index].inputs.first().copied();
    }
    is_main
}

fn branches(layers: &[Layer], is_main: &[bool]) -> Vec<Branch> {
    let mut branches: Vec<Branch> = Vec::new();
    for (index, layer) in layers.iter().enumerate().filter(|(index, _)| !is_main[*index]) {
        let source = layer.inputs.first().copied().unwrap_or(0);
        match branches.iter_mut().find(|branch| branch.layers.last() == Some(&source)) {
            Some(branch) => branch.layers.push(index),
            None => branches.push(Branch { layers: vec![index], source }),
        }
    }
    branches
}

fn edges(layers: &[Layer], is_main: &[bool], places: &[[usize; 2]]) -> Vec<Edge> {
    let mut edges = Vec::new();
    for (to, layer) in layers.iter().enumerate() {
        let mut inputs = layer.inputs.clone();
        inputs.dedup();
        for from in inputs {
            let between =
                |other: usize| is_main[other] && (places[from][0] + 1..places[to][0]).contains(&places[other][0]);
            let skips = is_main[from] && is_main[to] && (0..layers.len()).any(between);
            edges.push(Edge { from, to, skips });
        }
    }
    edges
}
