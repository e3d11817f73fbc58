//! The latency of a network at other widths: what its layers take on this machine.
//!
//! "Fewer multiply-accumulates" is often not faster: widths that do not fill a vector register take as long as those that do, and
//! small layers are bound by memory. The time of each step of the original network is measured; that of a narrower layer is the same
//! times the ratio of two measurements of the layer by itself, which a table keeps.

use super::LayerCost;
use crate::CompressError;
use residual_graph::{Conv2d, Graph, GraphError, NodeId, Op, Shape};
use residual_infer::LatencyTable;
use std::collections::HashMap;

/// The latency of a batch, in seconds.
pub struct LatencyCost<'a, M> {
    graph: &'a Graph,
    shapes: Vec<Shape>,
    batch: usize,
    /// The time of each node of the original.
    times: HashMap<NodeId, f64>,
    table: &'a mut LatencyTable,
    measure: M,
}

impl<'a, M: FnMut(&Op, usize, [usize; 2]) -> Result<f64, CompressError>> LatencyCost<'a, M> {
    /// The latency of `graph` for `batch` images of `size` (height, width), from the `times` of its nodes. A layer of another width is
    /// looked up in `table`, or measured by `measure`, which gets its op, and the channels, height and width of its input, and returns
    /// seconds.
    ///
    /// # Errors
    /// If the shapes do not fit together.
    pub fn new(
        graph: &'a Graph,
        [height, width]: [usize; 2],
        batch: usize,
        times: HashMap<NodeId, f64>,
        table: &'a mut LatencyTable,
        measure: M,
    ) -> Result<Self, GraphError> {
        let shapes = graph.shapes(height, width)?;
        Ok(Self { graph, shapes, batch, times, table, measure })
    }

    /// The seconds of a layer of these widths by itself.
    fn layer(&mut self, id: NodeId, input: usize, output: usize) -> Result<f64, CompressError> {
        let node = self.graph.node(id);
        let op = node.op.with_channels(input, output);
        let shape = self.shapes[node.inputs[0].0];
        let size = [shape.height, shape.width];
        let Self { table, measure, batch, .. } = self;
        table.seconds(&op, size, *batch, || measure(&op, input, size))
    }

    /// The seconds of a layer, between measured widths of its input and its output where it has no groups.
    fn interpolated(&mut self, id: NodeId, input: usize, output: usize) -> Result<f64, CompressError> {
        let node = self.graph.node(id);
        if matches!(node.op, Op::Conv2d(Conv2d { groups, .. }) if groups > 1) {
            return self.layer(id, input, output);
        }
        let full = [self.shapes[node.inputs[0].0].channels, self.shapes[id.0].channels];
        let [inputs, outputs] = [neighbours(input, full[0]), neighbours(output, full[1])];
        let mut sum = 0.0;
        for (input, input_weight) in inputs {
            for (output, output_weight) in outputs {
                let weight = input_weight * output_weight;
                if weight > 0.0 {
                    sum += weight * self.layer(id, input, output)?;
                }
            }
        }
        Ok(sum)
    }
}

impl<M: FnMut(&Op, usize, [usize; 2]) -> Result<f64, CompressError>> LayerCost for LatencyCost<'_, M> {
    fn cost(&mut self, id: NodeId, input: usize, output: usize) -> Result<f64, CompressError> {
        let Some(&time) = self.times.get(&id) else { return Ok(0.0) };
        let node = self.graph.node(id);
        let full = self.shapes[id.0].channels;
        if !node.op.is_layer() {
            return Ok(time * output as f64 / full as f64);
        }
        let full_input = self.shapes[node.inputs[0].0].channels;
        if (input, output) == (full_input, full) {
            return Ok(time);
        }
        Ok(time * self.interpolated(id, input, output)? / self.interpolated(id, full_input, full)?)
    }
}

/// The measured widths on either side of `width`, up to `full`, each with its weight: 8, 16, 24, 32, 48, 64, 96, … and `full` itself.
fn neighbours(width: usize, full: usize) -> [(usize, f64); 2] {
    let grid = (0..).flat_map(|power| [8usize << power, 12 << power]).filter(|width| width % 8 == 0);
    let (mut below, mut above) = (0, full);
    for measured in grid.take_while(|measured| *measured < full) {
        if measured <= width {
            below = measured;
        } else {
            above = measured;
            break;
        }
    }
    if width >= full || below == 0 || below == width {
        return [(width, 1.0), (width, 0.0)];
    }
    let share = (width - below) as f64 / (above - below) as f64;
    [(below, 1.0 - share), (above, share)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn widths_between_measured_ones_are_weighted_by_their_distance() {
        assert_eq!(neighbours(40, 64), [(32, 0.5), (48, 0.5)]);
        assert_eq!(neighbours(48, 64), [(48, 1.0), (48, 0.0)]);
        assert_eq!(neighbours(54, 60), [(48, 0.5), (60, 0.5)]);
        assert_eq!(neighbours(64, 64), [(64, 1.0), (64, 0.0)]);
        // Too few to measure others.
        assert_eq!(neighbours(3, 3), [(3, 1.0), (3, 0.0)]);
        assert_eq!(neighbours(5, 64), [(5, 1.0), (5, 0.0)]);
    }
}
