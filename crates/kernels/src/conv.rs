//! 2-d convolution as implicit GEMM: forward, backward-data and backward-weights passes.
//!
//! Activations are NHWC. A *tap* is a position in the kernel. Weights and their gradients are
//! `[group][tap row][tap column][input channel][output channel]` with the channels of one group; the forward and
//! backward-data passes read them repacked (see [`Conv::pack_forward`]).
//!
//! [`Algorithms`] has the algorithm of each pass. 3×3 convolutions of stride 1 can use Winograd's minimal filtering
//! (`winograd`), and convolutions with small groups compute several groups per vector (`grouped`). The direct algorithm
//! is an implicit GEMM: blocks of im2col rows are gathered from an image (`im2col`) into a panel that stays in the L2
//! cache, and multiplied there by a micro-kernel (`tile`).

mod blocks;
mod describe;
mod forward;
mod grouped;
mod im2col;
mod moments;
mod pack;
mod quantized;
mod run;
mod tile;
mod weights;
mod winograd;

pub use describe::{Description, Direction};
pub use forward::Epilogue;
pub use moments::Statistics;
pub use quantized::{Quantized, QuantizedConv, Requantize};
pub(crate) use run::{Run, WeightsRun};
pub use winograd::WinogradTile;

use crate::extents::{elements, is_batch, is_product, travel};
use crate::isa::{Element, Isa, Sealed};
use half::bf16;
use im2col::Im2col;
use residual_threads::Pool;
use winograd::{Winograd, WinogradWeights};

/// The extents of a convolution. `[usize; 2]` is height, width.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConvShape {
    /// Input height and width.
    pub input: [usize; 2],
    /// Input channels, all groups together.
    pub in_channels: usize,
    /// Output channels, all groups together.
    pub out_channels: usize,
    /// Kernel height and width.
    pub kernel: [usize; 2],
    /// Step between outputs.
    pub stride: [usize; 2],
    /// Zeros on either side.
    pub padding: [usize; 2],
    /// Distance between taps.
    pub dilation: [usize; 2],
    /// Groups of channels that do not mix.
    pub groups: usize,
}

impl ConvShape {
    /// Output height and width.
    ///
    /// # Panics
    /// If the padded input is smaller than the window, or the stride is zero.
    pub fn output(&self) -> [usize; 2] {
        std::array::from_fn(|axis| {
            let gaps = self.kernel[axis].checked_sub(1).and_then(|gaps| gaps.checked_mul(self.dilation[axis]));
            let reach = gaps.and_then(|gaps| gaps.checked_add(1));
            let reach = reach.unwrap_or_else(|| panic!("{self:?}: expected a window of at least one tap"));
            travel(self.input[axis], self.padding[axis], reach) / self.stride[axis] + 1
        })
    }

    /// Elements of one input image.
    ///
    /// # Panics
    /// If no memory holds so many.
    pub fn input_len(&self) -> usize {
        elements(&[self.input[0], self.input[1], self.in_channels])
    }

    /// Elements of one output image.
    ///
    /// # Panics
    /// As [`ConvShape::output`], or if no memory holds so many.
    pub fn output_len(&self) -> usize {
        let [height, width] = self.output();
        elements(&[height, width, self.out_channels])
    }

    /// Elements of the weights.
    ///
    /// # Panics
    /// If there are no groups, or no memory holds so many elements.
    pub fn weight_len(&self) -> usize {
        elements(&[self.kernel[0], self.kernel[1], self.in_channels / self.groups, self.out_channels])
    }
}

/// How one pass of a convolution is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// Implicit GEMM. Any convolution.
    Direct,
    /// Winograd's minimal filtering. 3×3 with stride 1, dense, in whole vectors of channels.
    Winograd(WinogradTile),
    /// One vector of output channels at a time, of several groups if they are small. Convolutions with more than one group,
    /// such as depthwise ones.
    Grouped,
}

/// The algorithm of each pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Algorithms {
    /// That computes y.
    pub forward: Algorithm,
    /// That computes dx.
    pub backward_data: Algorithm,
    /// That computes dw: direct, grouped, or Winograd's with the large tile, of bf16 also with the small one.
    pub backward_weights: Algorithm,
}

impl Algorithms {
    /// Direct convolution everywhere.
    pub const DIRECT: Self =
        Self { forward: Algorithm::Direct, backward_data: Algorithm::Direct, backward_weights: Algorithm::Direct };

    /// The algorithms expected to be fastest for batches of `images`: a function of the arguments alone.
    pub fn choose(isa: Isa, shape: &ConvShape, images: usize) -> Self {
        if !winograd::fits(isa, shape, 1) {
            return Self::untransformed(isa, shape);
        }
        Self {
            forward: winograd::choose(shape.output(), images),
            backward_data: winograd::choose(shape.input, images),
            backward_weights: winograd::choose_weights(shape, images),
        }
    }

    /// As [`Algorithms::choose`], for values of bf16.
    pub fn choose_bf16(isa: Isa, shape: &ConvShape, images: usize) -> Self {
        if !isa.multiplies_bf16() || !winograd::fits(isa, shape, 1) {
            return Self::choose(isa, shape, images);
        }
        Self {
            forward: winograd::choose_bf16(isa, shape, shape.output(), images),
            backward_data: winograd::choose_bf16(isa, shape, shape.input, images),
            backward_weights: winograd::choose_weights_bf16(shape, images),
        }
    }

    /// The algorithms expected to be fastest among those that do not transform the weights, and so need less memory and
    /// less time for packing.
    pub fn untransformed(isa: Isa, shape: &ConvShape) -> Self {
        let grouped = |pays: bool| if pays { Algorithm::Grouped } else { Algorithm::Direct };
        let multiply = grouped(grouped::pays(shape));
        let backward_weights = grouped(grouped::weights_pay(isa, shape));
        Self { forward: multiply, backward_data: multiply, backward_weights }
    }
}

/// The type of the values that a convolution reads and writes, and of its packed weights. Sums, biases and statistics are floats.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Elements {
    /// 32-bit floats.
    #[default]
    F32,
    /// bf16, in pixels of an even number of channels ([`Elements::pixel`]): for dense convolutions with an even number of outputs, forward
    /// and, where the number of inputs is even, backward-data.
    Bf16,
}

impl Elements {
    /// All of them, by name.
    pub const NAMES: [(&'static str, Self); 2] = [("f32", Self::F32), ("bf16", Self::Bf16)];

    /// Those called `name`.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::NAMES.into_iter().find(|(known, _)| *known == name).map(|(_, elements)| elements)
    }

    /// The name that [`Elements::from_name`] takes.
    pub fn name(self) -> &'static str {
        match self {
            Elements::F32 => "f32",
            Elements::Bf16 => "bf16",
        }
    }

    /// Elements of a pixel with `channels` channels.
    pub fn pixel(self, channels: usize) -> usize {
        channels.next_multiple_of(self.group())
    }

    /// Elements of a lane of 32 bits.
    fn group(self) -> usize {
        match self {
            Elements::F32 => f32::GROUP,
            Elements::Bf16 => bf16::GROUP,
        }
    }
}

/// A convolution planned for one instruction set and batch size. All buffers are the caller's; nothing is allocated
/// after planning.
#[derive(Clone, Debug)]
pub struct Conv {
    shape: ConvShape,
    isa: Isa,
    elements: Elements,
    algorithms: Algorithms,
    im2col: Im2col,
    forward: Pass,
    backward: Pass,
    weights: WeightsPass,
}

#[derive(Clone, Debug)]
enum Pass {
    /// One im2col for each phase of the stride: targets that see the same taps. The forward pass has one.
    Direct(Vec<Im2col>),
    /// As for the direct algorithm.
    Grouped(Vec<Im2col>),
    Winograd(Winograd),
}

#[derive(Clone, Debug)]
enum WeightsPass {
    Direct,
    Grouped,
    Winograd(WinogradWeights),
}

impl Pass {
    fn packed_len(&self, isa: Isa) -> usize {
        match self {
            Pass::Direct(phases) => phases.iter().map(|phase| pack::packed_len(isa, phase)).sum(),
            Pass::Grouped(phases) => phases.iter().map(|phase| grouped::packed_len(isa, phase)).sum(),
            Pass::Winograd(winograd) => winograd.packed_len(isa),
        }
    }

    fn workspace_len(&self, isa: Isa, elements: Elements) -> usize {
        match self {
            Pass::Direct(phases) => {
                let len = |phase| match elements {
                    Elements::F32 => forward::workspace_len::<f32>(isa, phase),
                    Elements::Bf16 => forward::workspace_len::<bf16>(isa, phase),
                };
                phases.iter().map(len).max().unwrap_or(0)
            }
            Pass::Grouped(phases) => phases.iter().map(|phase| grouped::workspace_len(isa, phase)).max().unwrap_or(0),
            Pass::Winograd(winograd) => winograd.workspace_len(isa),
        }
    }
}

impl Conv {
    /// Plans the convolution of batches of about `images` with the algorithms expected to be fastest.
    ///
    /// # Panics
    /// If the groups do not divide the channels, the padded input is smaller than the window, the stride is zero, or no
    /// memory holds an image or the weights.
    pub fn new(isa: Isa, shape: ConvShape, images: usize) -> Self {
        Self::with_algorithms(isa, shape, Algorithms::choose(isa, &shape, images))
    }

    /// Plans the convolution with these algorithms; what an algorithm cannot compute is computed directly.
    ///
    /// # Panics
    /// As [`Conv::new`].
    pub fn with_algorithms(isa: Isa, shape: ConvShape, algorithms: Algorithms) -> Self {
        Self::of_elements(isa, shape, algorithms, Elements::F32)
    }

    /// As [`Conv::with_algorithms`], for values of these elements.
    ///
    /// # Panics
    /// As [`Conv::new`], or for bf16 if the convolution has groups or an odd number of outputs.
    pub fn of_elements(isa: Isa, shape: ConvShape, algorithms: Algorithms, elements: Elements) -> Self {
        let fits = elements == Elements::F32 || shape.groups == 1 && shape.out_channels.is_multiple_of(2);
        assert!(fits, "{shape:?}: expected one group and an even number of outputs for {elements:?}");
        let group = elements.group();
        let grouped = |channels: usize| channels.is_multiple_of(shape.groups);
        assert!(grouped(shape.in_channels) && grouped(shape.out_channels), "{shape:?}");
        // All lengths below are at most small multiples of these.
        let _ = (shape.input_len(), shape.output_len(), shape.weight_len());
        let possible = |algorithm| match algorithm {
            Algorithm::Winograd(tile) if !winograd::fits(isa, &shape, tile.group(group)) => Algorithm::Direct,
            Algorithm::Grouped if shape.groups == 1 => Algorithm::Direct,
            algorithm => algorithm,
        };
        // Its lanes are of several tiles, not of several channels.
        let possible_weights = |algorithm| match algorithm {
            Algorithm::Winograd(_) if winograd::fits(isa, &shape, 1) => algorithm,
            algorithm => possible(algorithm),
        };
        let mut algorithms = Algorithms {
            forward: possible(algorithms.forward),
            backward_data: possible(algorithms.backward_data),
            backward_weights: possible_weights(algorithms.backward_weights),
        };
        let forward = match algorithms.forward {
            Algorithm::Direct => Pass::Direct(vec![Im2col::forward(&shape).in_lanes(group)]),
            Algorithm::Grouped => Pass::Grouped(vec![Im2col::forward(&shape)]),
            Algorithm::Winograd(tile) => Pass::Winograd(Winograd::forward(&shape, tile, group)),
        };
        let backward = match algorithms.backward_data {
            Algorithm::Direct => {
                let phases = Im2col::backward(&shape).into_iter();
                Pass::Direct(phases.map(|phase| phase.in_lanes(group)).collect())
            }
            Algorithm::Grouped => Pass::Grouped(Im2col::backward(&shape)),
            Algorithm::Winograd(tile) => Pass::Winograd(Winograd::backward(&shape, tile, group)),
        };
        let weights = match algorithms.backward_weights {
            Algorithm::Direct => WeightsPass::Direct,
            Algorithm::Grouped => WeightsPass::Grouped,
            Algorithm::Winograd(tile) => {
                let tile = if elements == Elements::F32 { WinogradTile::F4x3 } else { tile };
                algorithms.backward_weights = Algorithm::Winograd(tile);
                WeightsPass::Winograd(WinogradWeights::new(&shape, tile, group))
            }
        };
        let im2col = Im2col::forward(&shape).in_lanes(group);
        Self { shape, isa, elements, algorithms, im2col, forward, backward, weights }
    }

    /// The extents.
    pub fn shape(&self) -> &ConvShape {
        &self.shape
    }

    /// The type of the values.
    pub fn elements(&self) -> Elements {
        self.elements
    }

    /// The algorithm of each pass.
    pub fn algorithms(&self) -> Algorithms {
        self.algorithms
    }

    /// Floats of the weights as [`Conv::pack_forward`] lays them out.
    pub fn packed_forward_len(&self) -> usize {
        self.forward.packed_len(self.isa)
    }

    /// Floats of the weights as [`Conv::pack_backward`] lays them out.
    pub fn packed_backward_len(&self) -> usize {
        self.backward.packed_len(self.isa)
    }

    /// Floats of workspace that [`Conv::forward`] and [`Conv::backward_data`] need on `threads` threads.
    pub fn workspace_len(&self, threads: usize) -> usize {
        let len = |pass: &Pass| pass.workspace_len(self.isa, self.elements);
        threads * len(&self.forward).max(len(&self.backward))
    }

    /// Floats of workspace for the statistics of up to `images` images.
    pub fn statistics_workspace_len(&self, images: usize) -> usize {
        match &self.forward {
            Pass::Direct(phases) => match self.elements {
                Elements::F32 => forward::statistics_len::<f32>(self.isa, &phases[0], images),
                Elements::Bf16 => forward::statistics_len::<bf16>(self.isa, &phases[0], images),
            },
            Pass::Grouped(phases) => grouped::statistics_len(&phases[0], images),
            Pass::Winograd(winograd) => winograd.statistics_len(self.isa, images),
        }
    }

    /// Floats of workspace that [`Conv::backward_weights`] needs for `images` images on `threads` threads.
    pub fn weights_workspace_len(&self, images: usize, threads: usize) -> usize {
        match &self.weights {
            WeightsPass::Direct => weights::workspace_len(self, images, threads),
            WeightsPass::Grouped => grouped::weights_workspace_len(self.isa, &self.im2col, images),
            WeightsPass::Winograd(winograd) => winograd.workspace_len(images, threads),
        }
    }

    /// `Some(width)` if [`Conv::pack_forward`] only reorders weights into panels of `width` output channels of one group:
    /// `[group][panel][tap row][tap column][input channel][output channel of the panel]`, with zeros past the group's last.
    pub fn panel_width(&self) -> Option<usize> {
        match &self.forward {
            Pass::Direct(_) if self.elements == Elements::F32 => {
                Some(pack::panel_width(self.isa, self.shape.out_channels / self.shape.groups))
            }
            Pass::Direct(_) | Pass::Grouped(_) | Pass::Winograd(_) => None,
        }
    }

    /// Lays weights out for [`Conv::forward`].
    ///
    /// # Panics
    /// If a slice has not the length this plan states.
    pub fn pack_forward(&self, pool: &Pool, weights: &[f32], packed: &mut [f32]) {
        assert_eq!(weights.len(), self.shape.weight_len());
        match &self.forward {
            Pass::Direct(phases) => {
                pack::pack_forward(self.isa, pool, &self.shape, &phases[0], self.elements, weights, packed)
            }
            Pass::Grouped(phases) => {
                grouped::pack(self.isa, pool, &self.shape, &phases[0], grouped::Pass::Forward, weights, packed);
            }
            Pass::Winograd(winograd) => winograd.pack(self.isa, pool, weights, packed),
        }
    }

    /// Lays weights out for [`Conv::backward_data`].
    ///
    /// # Panics
    /// If a slice has not the length this plan states.
    pub fn pack_backward(&self, pool: &Pool, weights: &[f32], mut packed: &mut [f32]) {
        assert_eq!(weights.len(), self.shape.weight_len());
        assert_eq!(packed.len(), self.packed_backward_len());
        match &self.backward {
            Pass::Direct(phases) => {
                for phase in phases {
                    let (part, rest) = packed.split_at_mut(pack::packed_len(self.isa, phase));
                    pack::pack_backward(self.isa, pool, &self.shape, phase, self.elements, weights, part);
                    packed = rest;
                }
            }
            Pass::Grouped(phases) => {
                for phase in phases {
                    let (part, rest) = packed.split_at_mut(grouped::packed_len(self.isa, phase));
                    grouped::pack(self.isa, pool, &self.shape, phase, grouped::Pass::BackwardData, weights, part);
                    packed = rest;
                }
            }
            Pass::Winograd(winograd) => winograd.pack(self.isa, pool, weights, packed),
        }
    }

    /// y = x ∗ w, then the epilogue, for `images` images.
    ///
    /// # Panics
    /// If a slice has not the length this plan states, or its elements are not the plan's.
    pub fn forward<E: Element>(
        &self,
        pool: &Pool,
        images: usize,
        x: &[E],
        packed: &[f32],
        epilogue: Epilogue<'_, E>,
        y: &mut [E],
        workspace: &mut [f32],
    ) {
        assert_eq!(E::ELEMENTS, self.elements);
        assert_eq!(packed.len(), self.packed_forward_len());
        let (pass, isa) = (&self.forward, self.isa);
        E::convolve(Run { pass, isa, pool, images, x, packed, epilogue, statistics: None, y, workspace });
    }

    /// As [`Conv::forward`] with a bias alone; also computes the mean and biased variance of each channel of y.
    ///
    /// # Panics
    /// If a slice has not the length this plan states.
    pub fn forward_with_statistics<E: Element>(
        &self,
        pool: &Pool,
        images: usize,
        x: &[E],
        packed: &[f32],
        bias: Option<&[f32]>,
        statistics: Statistics<'_>,
        y: &mut [E],
        workspace: &mut [f32],
    ) {
        assert_eq!(E::ELEMENTS, self.elements);
        let channels = self.shape.out_channels;
        assert_eq!(packed.len(), self.packed_forward_len());
        assert!(statistics.mean.len() == channels && statistics.variance.len() == channels);
        assert!(statistics.workspace.len() >= self.statistics_workspace_len(images));
        let epilogue = Epilogue { bias, ..Epilogue::default() };
        let (pass, isa, statistics) = (&self.forward, self.isa, Some(statistics));
        E::convolve(Run { pass, isa, pool, images, x, packed, epilogue, statistics, y, workspace });
    }

    /// dx = the gradient of x given `dy`, added to `dx` if `accumulate`.
    ///
    /// # Panics
    /// If a slice has not the length this plan states.
    pub fn backward_data<E: Element>(
        &self,
        pool: &Pool,
        images: usize,
        dy: &[E],
        packed: &[f32],
        accumulate: bool,
        dx: &mut [E],
        workspace: &mut [f32],
    ) {
        assert_eq!(E::ELEMENTS, self.elements);
        assert_eq!(packed.len(), self.packed_backward_len());
        let epilogue = Epilogue { accumulate, ..Epilogue::default() };
        let (pass, isa) = (&self.backward, self.isa);
        E::convolve(Run { pass, isa, pool, images, x: dy, packed, epilogue, statistics: None, y: dx, workspace });
    }

    /// dw = the gradient of the weights given `x` and `dy`.
    ///
    /// # Panics
    /// If a slice has not the length this plan states.
    pub fn backward_weights<E: Element>(
        &self,
        pool: &Pool,
        images: usize,
        x: &[E],
        dy: &[E],
        dw: &mut [f32],
        workspace: &mut [f32],
    ) {
        assert_eq!(E::ELEMENTS, self.elements);
        let ConvShape { input, in_channels, .. } = self.shape;
        assert!(is_batch(x.len(), images, input, self.elements.pixel(in_channels)), "x of {}", x.len());
        assert!(is_product(dy.len(), &[images, self.shape.output_len()]), "dy of {}", dy.len());
        assert_eq!(dw.len(), self.shape.weight_len());
        if dy.is_empty() {
            // The passes store their first sums instead of adding them to zeros.
            dw.fill(0.0);
            return;
        }
        E::convolve_weights(WeightsRun { conv: self, pool, images, x, dy, dw, workspace });
    }
}
