//! The stages of a network, for tables and pictures.

use crate::{Graph, GraphError, Part, Shape};
use std::collections::{HashMap, HashSet};
use std::ops::Range;

/// Consecutive nodes that belong together: a stage of blocks, or the layers of one resolution before, between and after.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stage {
    /// Its module (`layer1`), or its first and last (`conv1 … bn1`).
    pub name: String,
    /// Its nodes; the input is in none.
    pub nodes: Range<usize>,
    /// The shape of its result.
    pub output: Shape,
    /// Whether it consists of blocks one after another.
    pub has_blocks: bool,
}

impl Graph {
    /// Splits the nodes into stages at an input of `height` × `width` pixels. A stage is one of [`Graph::parts`] that
    /// consists of blocks one after another; other parts are joined while their last layers have one resolution, as the
    /// convolutions of a VGG or the branching modules of an Inception network. Nodes outside all parts (ReLU, pooling)
    /// belong to the part before them, or to the next one if their result is a vector.
    ///
    /// # Errors
    /// If the graph's shapes do not fit together.
    pub fn stages(&self, height: usize, width: usize) -> Result<Vec<Stage>, GraphError> {
        let shapes = self.shapes(height, width)?;
        let resolution = |index: usize| [shapes[index].height, shapes[index].width];
        let parts = self.parts()?;
        let mut stages: Vec<Stage> = Vec::new();
        let mut last_resolution = None;
        for (part, nodes) in self.runs(&parts, |index| resolution(index) == [1, 1]) {
            let layer = nodes.clone().rev().find(|&index| self.nodes[index].op.has_parameters());
            let own = layer.map(resolution);
            let has_blocks = part.is_some_and(|part| part.is_stage && !self.branches(&part.path, &nodes));
            let name = part.map_or(&self.name, |part| &part.path);
            let output = shapes[nodes.end - 1];
            match stages.last_mut() {
                Some(stage) if !stage.has_blocks && !has_blocks && own == last_resolution => {
                    let first = stage.name.split(" … ").next().unwrap_or_default();
                    stage.name = format!("{first} … {name}");
                    stage.nodes.end = nodes.end;
                    stage.output = output;
                }
                _ => stages.push(Stage { name: name.clone(), nodes, output, has_blocks }),
            }
            last_resolution = own;
        }
        Ok(stages)
    }

    /// Consecutive nodes of one part. Nodes outside all parts follow the node before them, vectors the one after.
    fn runs<'a>(&self, parts: &'a [Part], is_vector: impl Fn(usize) -> bool) -> Vec<(Option<&'a Part>, Range<usize>)> {
        let paths: HashMap<&str, usize> = parts.iter().enumerate().map(|(at, part)| (part.path.as_str(), at)).collect();
        let part = |name: &str| {
            let ends = name.match_indices('.').map(|(end, _)| end).chain([name.len()]);
            ends.filter_map(|end| paths.get(&name[..end]).copied()).next()
        };
        let mut places: Vec<Option<usize>> = self.nodes.iter().map(|node| part(&node.name)).collect();
        for index in (1..places.len()).rev().filter(|&index| is_vector(index)) {
            places[index] = places[index].or_else(|| places.get(index + 1).copied().flatten());
        }
        let mut runs: Vec<(Option<usize>, Range<usize>)> = Vec::new();
        for (index, &place) in places.iter().enumerate().skip(1) {
            match runs.last_mut() {
                Some((last, nodes)) if place.is_none() || *last == place || last.is_none() => {
                    *last = last.or(place);
                    nodes.end = index + 1;
                }
                _ => runs.push((place, index..index + 1)),
            }
        }
        runs.into_iter().map(|(place, nodes)| (place.map(|place| &parts[place]), nodes)).collect()
    }

    /// Whether several submodules of `path`, whose nodes these are, begin at what was computed before it.
    fn branches(&self, path: &str, nodes: &Range<usize>) -> bool {
        let begins = |index: &usize| self.nodes[*index].inputs.iter().any(|input| input.0 < nodes.start);
        let submodule = |index: usize| self.nodes[index].name.strip_prefix(path)?.split('.').nth(1);
        let beginning: HashSet<_> = nodes.clone().filter(begins).filter_map(submodule).collect();
        beginning.len() > 1
    }
}
