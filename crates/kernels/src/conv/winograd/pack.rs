//! The weights of a pass, transformed once and laid out as the products read them.

use super::transform::{F2, F4, Transform};
use super::{Winograd, WinogradTile};
use crate::isa::{Element, ElementKernel, ElementProduct, Reg, Sealed, Simd};
use crate::raw::SharedMut;

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

/// Of elements of which a lane has as many as the plan says.
impl<E: Element> ElementKernel<E> for Pack<'_> {
    type Output = ();

    #[inline(always)]
    fn run<P: ElementProduct<Element = E>>(self, product: P) {
        debug_assert_eq!(self.winograd.group, E::GROUP);
        match self.winograd.tile {
            WinogradTile::F2x3 => self.transform::<P, F2>(product),
            WinogradTile::F4x3 => self.transform::<P, F4>(product),
        }
    }
}

/// A square of each tap's weights: `[tap][channel of this pass][output of this pass]`.
type Square = [[[f32; 16]; 16]; 9];

impl Pack<'_> {
    #[inline(always)]
    fn transform<P: ElementProduct, T: Transform>(&self, product: P) {
        let (s, lanes, group) = (product.simd(), P::Simd::LANES, P::Element::GROUP);
        let mut square: Square = [[[0.0; 16]; 16]; 9];
        for output in (0..self.winograd.outputs).step_by(lanes) {
            self.read::<P::Simd>(output, &mut square);
            for lane in (0..lanes).step_by(group) {
                let first = filter::<P::Simd, T>(s, &square, lane);
                let second = if group == 1 { first } else { filter::<P::Simd, T>(s, &square, lane + 1) };
                self.write::<P, T>(product, [first, second], self.first + lane, output);
            }
        }
        (self.first..self.first + lanes).step_by(group).for_each(|channel| self.clear_tail(channel));
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

    /// Writes the transformed filters from the channels of a lane to a vector of outputs.
    #[inline(always)]
    fn write<P: ElementProduct, T: Transform>(
        &self,
        product: P,
        [first, second]: [[[Reg<P>; 6]; 6]; 2],
        channel: usize,
        output: usize,
    ) {
        let (panel, within) = (output / self.width, output % self.width);
        for row in 0..T::N {
            for column in 0..T::N {
                let point = row * T::N + column;
                let lane = (point * self.panels + panel) * self.winograd.lanes() + channel / P::Element::GROUP;
                let to = self.packed.at(lane * self.width + within);
                // SAFETY: a whole vector of these channels' row of the panel, which only this task writes.
                unsafe { product.simd().store(to, product.zip([first[row][column], second[row][column]])) };
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

/// The points of the filters from one channel of the square to a vector of outputs.
#[inline(always)]
fn filter<S: Simd, T: Transform>(s: S, square: &Square, lane: usize) -> [[S::Reg; 6]; 6] {
    let mut taps = [[s.zero(); 3]; 3];
    for (value, tap) in taps.as_flattened_mut().iter_mut().zip(square) {
        // SAFETY: a vector has at most sixteen lanes.
        *value = unsafe { s.load(tap[lane].as_ptr()) };
    }
    let mut half = [[s.zero(); 3]; 6];
    for column in 0..3 {
        let rows = T::filter(s, [taps[0][column], taps[1][column], taps[2][column]]);
        for row in 0..T::N {
            half[row][column] = rows[row];
        }
    }
    let mut points = [[s.zero(); 6]; 6];
    for row in 0..T::N {
        points[row] = T::filter(s, half[row]);
    }
    points
}
