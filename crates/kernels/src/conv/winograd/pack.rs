//! The weights of a pass, transformed once and laid out as the products read them.

use super::transform::{F2, F4, Transform};
use super::{Winograd, WinogradTile};
use crate::isa::{Kernel, MAX_LANES, Simd};
use crate::raw::SharedMut;
use half::bf16;

/// Transforms the weights of a vector of channels of the source.
pub(super) struct Pack<'a> {
    pub(super) winograd: &'a Winograd,
    pub(super) weights: &'a [f32],
    pub(super) packed: SharedMut<'a>,
    /// The first of the channels.
    pub(super) first: usize,
    pub(super) width: usize,
    pub(super) panels: usize,
}

impl Kernel for Pack<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        match self.winograd.tile {
            WinogradTile::F2x3 => self.transform::<S, F2>(s),
            WinogradTile::F4x3 => self.transform::<S, F4>(s),
        }
    }
}

/// A square of each tap's weights: `[tap][channel of this pass][output of this pass]`.
type Square = [[[f32; 16]; 16]; 9];

impl Pack<'_> {
    #[inline(always)]
    fn transform<S: Simd, T: Transform>(&self, s: S) {
        let mut square: Square = [[[0.0; 16]; 16]; 9];
        for output in (0..self.winograd.outputs).step_by(S::LANES) {
            self.read::<S>(output, &mut square);
            for lane in 0..S::LANES {
                let mut filter = [[s.zero(); 3]; 3];
                for (value, tap) in filter.as_flattened_mut().iter_mut().zip(&square) {
                    // SAFETY: a vector has at most sixteen lanes.
                    *value = unsafe { s.load(tap[lane].as_ptr()) };
                }
                self.filter::<S, T>(s, filter, self.first + lane, output);
            }
        }
        (self.first..self.first + S::LANES).for_each(|channel| self.clear_tail(channel));
    }

    /// Reads a vector of outputs from `output` on of a vector of channels, in the order of memory.
    #[inline(always)]
    fn read<S: Simd>(&self, output: usize, square: &mut Square) {
        let Winograd { channels, outputs, rotated, .. } = *self.winograd;
        for (tap, square) in square.iter_mut().enumerate() {
            for row in 0..S::LANES {
                if rotated {
                    // The weights are [tap][output of this pass][channel of this pass].
                    let from = ((8 - tap) * outputs + output + row) * channels + self.first;
                    for (to, &weight) in square.iter_mut().zip(&self.weights[from..from + S::LANES]) {
                        to[row] = weight;
                    }
                } else {
                    let from = (tap * channels + self.first + row) * outputs + output;
                    square[row][..S::LANES].copy_from_slice(&self.weights[from..from + S::LANES]);
                }
            }
        }
    }

    /// Transforms the filters from one channel to a vector of outputs.
    #[inline(always)]
    fn filter<S: Simd, T: Transform>(&self, s: S, filter: [[S::Reg; 3]; 3], channel: usize, output: usize) {
        let mut half = [[s.zero(); 3]; 6];
        for column in 0..3 {
            let rows = T::filter(s, [filter[0][column], filter[1][column], filter[2][column]]);
            for row in 0..T::N {
                half[row][column] = rows[row];
            }
        }
        let (panel, within) = (output / self.width, output % self.width);
        for row in 0..T::N {
            let points = T::filter(s, half[row]);
            for column in 0..T::N {
                let (point, group) = (row * T::N + column, self.winograd.group);
                let lane = (point * self.panels + panel) * self.winograd.lanes() + channel / group;
                let to = self.packed.at(lane * self.width + within);
                // SAFETY: a whole vector of this channel's row of the panel, which only this task writes; of pairs the halves
                // of this channel.
                unsafe {
                    if group == 1 {
                        s.store(to, points[column]);
                    } else {
                        let mut rounded = [bf16::ZERO; MAX_LANES];
                        s.store_halves(rounded.as_mut_ptr(), S::LANES, points[column]);
                        for (output, &weight) in rounded.iter().enumerate().take(S::LANES) {
                            to.cast::<bf16>().add(2 * output + channel % 2).write(weight);
                        }
                    }
                }
            }
        }
    }

    /// Columns past the last output are multiplied too; their products are not stored.
    #[inline(always)]
    fn clear_tail(&self, channel: usize) {
        let used = self.winograd.outputs - (self.panels - 1) * self.width;
        for point in 0..self.winograd.tile.points() {
            let lane = (point * self.panels + self.panels - 1) * self.winograd.lanes() + channel / self.winograd.group;
            let row = lane * self.width;
            // SAFETY: the end of this channel's row of the last panel, which only this task writes.
            unsafe { self.packed.part(row + used..row + self.width) }.fill(0.0);
        }
    }
}
