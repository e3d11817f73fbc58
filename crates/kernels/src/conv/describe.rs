//! A description of a planned convolution, for reports and for estimates.

use super::im2col::Im2col;
use super::pack::panel_width;
use super::tile::{outer_tile, tile_rows, tile_vectors};
use super::{Algorithm, Conv, Pass, WinogradTile, grouped};
use crate::isa::Isa;
use std::fmt;

/// One of the three passes of a convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// Computes y.
    Forward,
    /// Computes dx from dy.
    BackwardData,
    /// Computes dw from x and dy.
    BackwardWeights,
}

/// How one pass is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Description {
    /// The algorithm.
    pub algorithm: Algorithm,
    /// Rows of the micro-kernel: pixels or tiles; for the gradient of the weights, input channels.
    pub rows: usize,
    /// Width of the micro-kernel in vectors of output channels.
    pub vectors: usize,
    /// Multiply-adds of the micro-kernels, including rows and channels of padding, without Winograd's transforms.
    pub multiply_adds: u64,
    /// Floats of the packed weights; 0 for the gradient of the weights, which reads none.
    pub packed_len: usize,
}

impl Conv {
    /// How a pass is computed for `images` images.
    pub fn describe(&self, direction: Direction, images: usize) -> Description {
        let (isa, shape) = (self.isa, &self.shape);
        let (pass, algorithm, outputs) = match direction {
            Direction::Forward => (&self.forward, self.algorithms.forward, shape.out_channels),
            Direction::BackwardData => (&self.backward, self.algorithms.backward_data, shape.in_channels),
            Direction::BackwardWeights => return self.describe_weights(images),
        };
        let group = outputs / shape.groups;
        let (rows, vectors) = match pass {
            Pass::Grouped(phases) => (grouped::tile_pixels(&phases[0]), 1),
            _ => (tile_rows(isa, tile_vectors(isa, group)), tile_vectors(isa, group)),
        };
        let multiply_adds = match (pass, algorithm) {
            (Pass::Direct(phases), _) => phases.iter().map(|phase| products(isa, phase, images)).sum(),
            (Pass::Winograd(_), Algorithm::Winograd(tile)) => {
                let target = if direction == Direction::Forward { shape.output() } else { shape.input };
                let channels = shape.in_channels + shape.out_channels - outputs;
                let columns = outputs.next_multiple_of(panel_width(isa, outputs));
                tile.points() * tiles(target, tile, images).next_multiple_of(rows) * channels * columns
            }
            (Pass::Grouped(phases), _) => phases.iter().map(|phase| grouped::multiply_adds(isa, phase, images)).sum(),
            (Pass::Winograd(_), _) => unreachable!("the pass was made for its algorithm"),
        } as u64;
        Description { algorithm, rows, vectors, multiply_adds, packed_len: pass.packed_len(isa) }
    }

    fn describe_weights(&self, images: usize) -> Description {
        let (isa, shape) = (self.isa, &self.shape);
        let (algorithm, outputs) = (self.algorithms.backward_weights, shape.out_channels / shape.groups);
        if algorithm == Algorithm::Grouped {
            let rows = grouped::tile_pixels(&self.im2col);
            let multiply_adds = grouped::multiply_adds(isa, &self.im2col, images) as u64;
            return Description { algorithm, rows, vectors: 1, multiply_adds, packed_len: 0 };
        }
        let [rows, vectors] = outer_tile(isa.lanes(), isa.registers(), outputs);
        let (rows, multiply_adds) = match algorithm {
            Algorithm::Winograd(_) => {
                let tiles = tiles(shape.output(), WinogradTile::F4x3, images);
                (rows.min(isa.lanes()), WinogradTile::F4x3.points() * tiles * shape.in_channels * shape.out_channels)
            }
            Algorithm::Direct | Algorithm::Grouped => {
                let depth = self.im2col.depth().next_multiple_of(rows);
                let pixels = images * self.im2col.rows_per_image();
                (rows, pixels * depth * outputs.next_multiple_of(isa.lanes()) * shape.groups)
            }
        };
        Description { algorithm, rows, vectors, multiply_adds: multiply_adds as u64, packed_len: 0 }
    }
}

/// Multiply-adds of one phase, including rows and columns of padding.
fn products(isa: Isa, im2col: &Im2col, images: usize) -> usize {
    let rows = (images * im2col.rows_per_image()).next_multiple_of(tile_rows(isa, tile_vectors(isa, im2col.outputs)));
    let columns = im2col.outputs.next_multiple_of(panel_width(isa, im2col.outputs));
    rows * im2col.depth() * columns * im2col.groups
}

fn tiles(target: [usize; 2], tile: WinogradTile, images: usize) -> usize {
    images * target.map(|side| side.div_ceil(tile.outputs())).iter().product::<usize>()
}

impl Algorithm {
    /// All algorithms.
    pub const ALL: [Self; 4] =
        [Self::Direct, Self::Winograd(WinogradTile::F2x3), Self::Winograd(WinogradTile::F4x3), Self::Grouped];

    /// A short name: `direct`, `winograd2`, `winograd4` or `grouped`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Winograd(WinogradTile::F2x3) => "winograd2",
            Self::Winograd(WinogradTile::F4x3) => "winograd4",
            Self::Grouped => "grouped",
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Direct => "direct",
            Self::Winograd(WinogradTile::F2x3) => "Winograd F(2×2, 3×3)",
            Self::Winograd(WinogradTile::F4x3) => "Winograd F(4×4, 3×3)",
            Self::Grouped => "grouped",
        })
    }
}
