//! The networks of NAS-Bench-201 (Dong & Yang, arXiv:2001.00326): 15,625 cells, each trained on CIFAR, with published accuracies.

use crate::ZooError;
use crate::config::{Architecture, number};
use residual_files::printable;
use residual_graph::{Builder, Conv2d, GraphError, NodeId, Op, Pool2d};
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;

/// The op of an edge of a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum CellOp {
    /// Zero.
    None,
    /// The identity.
    SkipConnect,
    /// ReLU, 1×1 convolution, batch norm.
    Conv1x1,
    /// ReLU, 3×3 convolution, batch norm.
    Conv3x3,
    /// Mean over 3×3 pixels; padding does not count.
    AvgPool3x3,
}

impl CellOp {
    /// Every op, in the benchmark's order.
    pub const ALL: [Self; 5] = [Self::None, Self::SkipConnect, Self::Conv1x1, Self::Conv3x3, Self::AvgPool3x3];

    /// The benchmark's name of the op.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::SkipConnect => "skip_connect",
            Self::Conv1x1 => "nor_conv_1x1",
            Self::Conv3x3 => "nor_conv_3x3",
            Self::AvgPool3x3 => "avg_pool_3x3",
        }
    }

    /// The kernel size of a convolution.
    fn kernel(self) -> Option<usize> {
        match self {
            Self::Conv1x1 => Some(1),
            Self::Conv3x3 => Some(3),
            Self::None | Self::SkipConnect | Self::AvgPool3x3 => None,
        }
    }
}

/// A cell: four nodes, the first of which is its input and the last its output, with an edge from every node to every later
/// one. A node is the sum of its edges. Written as in the benchmark, a group of edges for each node:
/// `|nor_conv_3x3~0|+|nor_conv_3x3~0|avg_pool_3x3~1|+|skip_connect~0|nor_conv_3x3~1|skip_connect~2|`, where `op~n` reads
/// node n.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Cell(pub [CellOp; 6]);

/// The nodes that each edge of a cell reads and adds to, in the order of the cell's string.
const EDGES: [(usize, usize); 6] = [(0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3)];
/// Nodes of a cell.
const NODES: usize = 4;
/// Longer texts are truncated in errors; the longest cell has 109 bytes.
const MAX_SHOWN: usize = 120;

impl Cell {
    /// The basic block of a ResNet as a cell.
    pub const RESNET: Self = {
        use CellOp::{Conv3x3, None, SkipConnect};
        Self([Conv3x3, None, Conv3x3, SkipConnect, None, SkipConnect])
    };

    /// The edges: the node that is read, the node that is added to, and the op.
    pub fn edges(self) -> impl Iterator<Item = (usize, usize, CellOp)> {
        EDGES.into_iter().zip(self.0).map(|((from, to), op)| (from, to, op))
    }

    /// For each node, whether the cell's output depends on it, if no node is zero.
    fn reaches_output(self) -> [bool; NODES] {
        let mut reaches = [false, false, false, true];
        for node in (0..NODES - 1).rev() {
            reaches[node] = self.edges().any(|(from, to, op)| from == node && op != CellOp::None && reaches[to]);
        }
        reaches
    }

    /// For each node, whether it is zero whatever the input. A convolution of zeros is not: its batch norm shifts it.
    fn is_zero(self) -> [bool; NODES] {
        let mut zero = [false, true, true, true];
        for (from, to, op) in self.edges() {
            let is_zero = op == CellOp::None || (zero[from] && op.kernel().is_none());
            zero[to] &= is_zero;
        }
        zero
    }

    /// Whether the cell is a network here.
    ///
    /// # Errors
    /// If its output is zero, or a convolution that the output depends on reads zeros. Such a convolution learns a constant
    /// for each channel, which no op can express.
    pub fn validate(self) -> Result<(), ZooError> {
        let (reaches, zero) = (self.reaches_output(), self.is_zero());
        if zero[NODES - 1] {
            return Err(ZooError::field("cell", "a path from node 0 to node 3", self));
        }
        let reads_zeros = |&(from, to, op): &(usize, usize, CellOp)| reaches[to] && zero[from] && op.kernel().is_some();
        match self.edges().find(reads_zeros) {
            Some((from, _, op)) => {
                let expected = format!("node {from}, which {} reads, to have an edge other than none", op.name());
                Err(ZooError::field("cell", expected, self))
            }
            None => Ok(()),
        }
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (from, to, op) in self.edges() {
            let begins = if from > 0 {
                ""
            } else if to > 1 {
                "+|"
            } else {
                "|"
            };
            write!(f, "{begins}{}~{from}|", op.name())?;
        }
        Ok(())
    }
}

/// What a cell looks like, for errors.
fn form() -> String {
    let ops = CellOp::ALL.map(CellOp::name).join(", ");
    format!("|op~0|+|op~0|op~1|+|op~0|op~1|op~2| with ops of {ops}")
}

impl FromStr for Cell {
    type Err = ZooError;

    fn from_str(text: &str) -> Result<Self, ZooError> {
        let mut rest = text;
        let mut cell = Self::RESNET;
        for (index, (from, to)) in EDGES.into_iter().enumerate() {
            let begins = if from > 0 {
                ""
            } else if to > 1 {
                "+|"
            } else {
                "|"
            };
            let read = rest.strip_prefix(begins).and_then(|rest| {
                CellOp::ALL.into_iter().find_map(|op| {
                    let rest = rest.strip_prefix(op.name())?.strip_prefix('~')?;
                    Some((op, rest.strip_prefix(&from.to_string())?.strip_prefix('|')?))
                })
            });
            let Some((op, after)) = read else {
                return Err(ZooError::field("cell", form(), printable(text, MAX_SHOWN)));
            };
            (cell.0[index], rest) = (op, after);
        }
        match rest.is_empty() {
            true => Ok(cell),
            false => Err(ZooError::field("cell", form(), printable(text, MAX_SHOWN))),
        }
    }
}

impl Serialize for Cell {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Cell {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(|_| D::Error::custom(format!("expected {}", form())))
    }
}

/// A network of NAS-Bench-201: a 3×3 stem, three stages of equal cells, and between the stages a residual block of stride 2
/// whose shortcut is a mean over 2×2 pixels and a 1×1 convolution without batch norm.
///
/// Module paths are those of the benchmark's code (`stem.0`, `cells.5.conv_a.op.1`, `lastact.0`, `classifier`). Edges that do
/// not lead to a cell's output are left out; the benchmark counts their parameters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NasBench201 {
    /// The cell.
    pub cell: Cell,
    /// Cells in each stage.
    pub cells: usize,
    /// Channels of the stem and of the first stage; each further stage has twice as many.
    pub width: usize,
}

impl NasBench201 {
    /// The benchmark's network of a cell: stages of 5 cells, 16, 32 and 64 channels.
    pub fn new(cell: Cell) -> Self {
        Self { cell, cells: 5, width: 16 }
    }

    /// ReLU, convolution, batch norm: `op.0`, `op.1` and `op.2` of the module at `path`.
    fn relu_conv_norm(net: &mut Builder, path: &str, x: NodeId, conv: Conv2d) -> Result<NodeId, GraphError> {
        let x = net.relu(format!("{path}.op.0"), x)?;
        let x = net.conv(format!("{path}.op.1"), x, conv)?;
        net.batch_norm(format!("{path}.op.2"), x)
    }

    fn add_cell(&self, net: &mut Builder, path: &str, input: NodeId) -> Result<NodeId, GraphError> {
        let channels = net.shape(input).channels;
        let reaches = self.cell.reaches_output();
        // The value of every node; none where it is zero or not needed.
        let mut values = [Some(input), None, None, None];
        for node in (1..NODES).filter(|&node| reaches[node]) {
            let mut operands = Vec::new();
            for (index, (from, to, op)) in self.cell.edges().enumerate() {
                let Some(x) = values[from].filter(|_| to == node) else { continue };
                let path = format!("{path}.layers.{index}");
                match (op, op.kernel()) {
                    (_, Some(kernel)) => {
                        let conv = Conv2d::new(channels, channels, kernel).padding(kernel / 2);
                        operands.push(Self::relu_conv_norm(net, &path, x, conv)?);
                    }
                    (CellOp::AvgPool3x3, _) => {
                        let op = Op::AvgPool2d { pool: Pool2d::new(3, 1, 1), count_include_pad: false };
                        operands.push(net.push(format!("{path}.op"), op, &[x])?);
                    }
                    (CellOp::SkipConnect, _) => operands.push(x),
                    _ => {}
                }
            }
            values[node] = match operands[..] {
                [] => None,
                [value] => Some(value),
                _ => Some(net.push(format!("{path}.node{node}"), Op::Add, &operands)?),
            };
        }
        Ok(values[NODES - 1].expect("a validated cell has an output"))
    }

    /// The residual block that halves the feature map and doubles its channels.
    fn add_reduction(net: &mut Builder, path: &str, x: NodeId) -> Result<NodeId, GraphError> {
        let channels = net.shape(x).channels;
        let wide = 2 * channels;
        let conv = |from| Conv2d::new(from, wide, 3).padding(1);
        let y = Self::relu_conv_norm(net, &format!("{path}.conv_a"), x, conv(channels).stride(2))?;
        let y = Self::relu_conv_norm(net, &format!("{path}.conv_b"), y, conv(wide))?;
        let pool = Op::AvgPool2d { pool: Pool2d::new(2, 2, 0), count_include_pad: true };
        let shortcut = net.push(format!("{path}.downsample.0"), pool, &[x])?;
        let shortcut = net.conv(format!("{path}.downsample.1"), shortcut, Conv2d::new(channels, wide, 1))?;
        net.add(format!("{path}.add"), y, shortcut)
    }
}

/// Stages of cells.
const STAGES: usize = 3;

impl Architecture for NasBench201 {
    fn validate(&self) -> Result<(), ZooError> {
        number("cells", self.cells, 1, 1024)?;
        number("width", self.width, 1, 1 << 14)?;
        self.cell.validate()
    }

    fn layers(&self, net: &mut Builder, num_classes: usize) -> Result<NodeId, GraphError> {
        let in_channels = net.shape(net.input()).channels;
        let mut x = net.conv("stem.0", net.input(), Conv2d::new(in_channels, self.width, 3).padding(1))?;
        x = net.batch_norm("stem.1", x)?;
        let mut index = 0;
        for stage in 0..STAGES {
            if stage > 0 {
                x = Self::add_reduction(net, &format!("cells.{index}"), x)?;
                index += 1;
            }
            for _ in 0..self.cells {
                x = self.add_cell(net, &format!("cells.{index}"), x)?;
                index += 1;
            }
        }
        x = net.batch_norm("lastact.0", x)?;
        x = net.relu("lastact.1", x)?;
        x = net.global_avg_pool("global_pooling", x)?;
        x = net.flatten("flatten", x)?;
        if num_classes == 0 { Ok(x) } else { net.linear("classifier", x, num_classes, true) }
    }

    fn image_size(&self) -> [usize; 2] {
        [32; 2]
    }
}
