//! Where Winograd's algorithms apply, and with which tile they are expected to be fastest.

use super::transform::{F4, Transform};
use super::{TILE_GRAIN, WinogradTile, WinogradWeights};
use crate::conv::{Algorithm, ConvShape};
use crate::isa::Isa;

/// Whether a convolution is one that these algorithms compute: 3×3, stride 1, dense, in whole vectors of channels, each of lanes of
/// `group` elements.
pub(in crate::conv) fn fits(isa: Isa, shape: &ConvShape, group: usize) -> bool {
    let whole = |channels: usize| channels.is_multiple_of(isa.lanes() * group);
    shape.kernel == [3; 2]
        && shape.stride == [1; 2]
        && shape.dilation == [1; 2]
        && shape.groups == 1
        && shape.padding.iter().all(|&padding| padding <= 2)
        && whole(shape.in_channels)
        && whole(shape.out_channels)
}

/// The algorithm for one pass that writes images of height and width `target`: the large tile wherever its tiles fill
/// the rows of a micro-kernel. A few small images fill them with the small tile, whose weights take half the memory.
pub(in crate::conv) fn choose(target: [usize; 2], images: usize) -> Algorithm {
    let tiles =
        |tile: WinogradTile| images * target.iter().map(|side| side.div_ceil(tile.outputs())).product::<usize>();
    let fills = |tile: &WinogradTile| tiles(*tile) >= TILE_GRAIN;
    [WinogradTile::F4x3, WinogradTile::F2x3].into_iter().find(fills).map_or(Algorithm::Direct, Algorithm::Winograd)
}

/// As [`choose`], where products of bf16 are faster than those of floats: the small tile wherever its operands may be bf16.
pub(in crate::conv) fn choose_bf16(isa: Isa, shape: &ConvShape, target: [usize; 2], images: usize) -> Algorithm {
    let small = WinogradTile::F2x3;
    let tiles = images * target.map(|side| side.div_ceil(small.outputs())).iter().product::<usize>();
    match fits(isa, shape, small.group(2)) && shape.in_channels >= 64 && tiles >= TILE_GRAIN {
        true => Algorithm::Winograd(small),
        false => choose(target, images),
    }
}

/// As [`choose_weights`], where products of bf16 are faster than those of floats: the small tile where channels are many.
pub(in crate::conv) fn choose_weights_bf16(shape: &ConvShape, images: usize) -> Algorithm {
    match choose_weights(shape, images) {
        Algorithm::Winograd(_) if shape.in_channels.min(shape.out_channels) >= 64 => {
            Algorithm::Winograd(WinogradTile::F2x3)
        }
        choice => choice,
    }
}

/// The algorithm for the gradient of the weights: with few tiles the transform of the sums costs more than Winograd saves.
pub(in crate::conv) fn choose_weights(shape: &ConvShape, images: usize) -> Algorithm {
    let tiles = images * shape.output().map(|side| side.div_ceil(F4::M)).iter().product::<usize>();
    if tiles >= WinogradWeights::FEWEST_TILES { Algorithm::Winograd(WinogradTile::F4x3) } else { Algorithm::Direct }
}
