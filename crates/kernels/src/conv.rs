//! 2-d convolution as implicit matrix multiplication: forward, backward-data and backward-weights.
//!
//! Activations are NHWC. Weights and their gradients are `[group][tap row][tap column][input channel][output channel]`
//! with the channels of one group; the forward and backward-data passes read them repacked (see [`Conv::pack_forward`]).
//!
//! Every pass is the same operation: rows of a matrix are gathered from an image (`gather`), a block at a time, into a
//! panel that stays in the L2 cache, and multiplied there by a micro-kernel (`tile`).

mod forward;
mod gather;
mod pack;
mod tile;
mod weights;

pub use forward::Epilogue;

use crate::isa::Isa;
use gather::Gather;
use residual_threads::Pool;

/// The extents of a convolution. `[usize; 2]` is height, width.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
    /// If the padded input is smaller than the window.
    pub fn output(&self) -> [usize; 2] {
        std::array::from_fn(|axis| {
            let reach = self.dilation[axis] * (self.kernel[axis] - 1) + 1;
            (self.input[axis] + 2 * self.padding[axis] - reach) / self.stride[axis] + 1
        })
    }

    /// Elements of one input image.
    pub fn input_len(&self) -> usize {
        self.input[0] * self.input[1] * self.in_channels
    }

    /// Elements of one output image.
    pub fn output_len(&self) -> usize {
        let [height, width] = self.output();
        height * width * self.out_channels
    }

    /// Elements of the weights.
    pub fn weight_len(&self) -> usize {
        self.kernel[0] * self.kernel[1] * (self.in_channels / self.groups) * self.out_channels
    }
}

/// A convolution planned for one instruction set. All buffers are the caller's; nothing is allocated after planning.
#[derive(Clone, Debug)]
pub struct Conv {
    shape: ConvShape,
    isa: Isa,
    forward: Gather,
    /// One gather for each phase of the stride: the inputs that see the same taps.
    backward: Vec<Gather>,
}

impl Conv {
    /// Plans the convolution.
    ///
    /// # Panics
    /// If the groups do not divide the channels or the padded input is smaller than the window.
    pub fn new(isa: Isa, shape: ConvShape) -> Self {
        let grouped = |channels: usize| channels.is_multiple_of(shape.groups);
        assert!(grouped(shape.in_channels) && grouped(shape.out_channels), "{shape:?}");
        Self { shape, isa, forward: Gather::forward(&shape), backward: Gather::backward(&shape) }
    }

    /// The extents.
    pub fn shape(&self) -> &ConvShape {
        &self.shape
    }

    /// Floats of the weights as [`Conv::pack_forward`] lays them out.
    pub fn packed_forward_len(&self) -> usize {
        pack::packed_len(self.isa, &self.forward)
    }

    /// Floats of the weights as [`Conv::pack_backward`] lays them out.
    pub fn packed_backward_len(&self) -> usize {
        self.backward.iter().map(|phase| pack::packed_len(self.isa, phase)).sum()
    }

    /// Floats of workspace that [`Conv::forward`] and [`Conv::backward_data`] need on `threads` threads.
    pub fn workspace_len(&self, threads: usize) -> usize {
        threads * forward::PANEL_LEN
    }

    /// Floats of workspace that [`Conv::backward_weights`] needs for `images` images on `threads` threads.
    pub fn weights_workspace_len(&self, images: usize, threads: usize) -> usize {
        weights::workspace_len(self, images, threads)
    }

    /// Lays weights out for [`Conv::forward`].
    ///
    /// # Panics
    /// If a slice has not the length this plan states.
    pub fn pack_forward(&self, pool: &Pool, weights: &[f32], packed: &mut [f32]) {
        assert_eq!(weights.len(), self.shape.weight_len());
        pack::pack_forward(self.isa, pool, &self.shape, &self.forward, weights, packed);
    }

    /// Lays weights out for [`Conv::backward_data`].
    ///
    /// # Panics
    /// If a slice has not the length this plan states.
    pub fn pack_backward(&self, pool: &Pool, weights: &[f32], mut packed: &mut [f32]) {
        assert_eq!(weights.len(), self.shape.weight_len());
        assert_eq!(packed.len(), self.packed_backward_len());
        for phase in &self.backward {
            let (part, rest) = packed.split_at_mut(pack::packed_len(self.isa, phase));
            pack::pack_backward(self.isa, pool, &self.shape, phase, weights, part);
            packed = rest;
        }
    }

    /// y = x ∗ w, then the epilogue, for `images` images.
    ///
    /// # Panics
    /// If a slice has not the length this plan states.
    pub fn forward(
        &self,
        pool: &Pool,
        images: usize,
        x: &[f32],
        packed: &[f32],
        epilogue: Epilogue<'_>,
        y: &mut [f32],
        workspace: &mut [f32],
    ) {
        assert_eq!(x.len(), images * self.shape.input_len());
        assert_eq!(y.len(), images * self.shape.output_len());
        forward::multiply(self.isa, pool, &self.forward, images, x, packed, epilogue, y, workspace);
    }

    /// dx = the gradient of x given `dy`, added to what `dx` holds if `accumulate`.
    ///
    /// # Panics
    /// If a slice has not the length this plan states.
    pub fn backward_data(
        &self,
        pool: &Pool,
        images: usize,
        dy: &[f32],
        mut packed: &[f32],
        accumulate: bool,
        dx: &mut [f32],
        workspace: &mut [f32],
    ) {
        assert_eq!(dx.len(), images * self.shape.input_len());
        assert_eq!(dy.len(), images * self.shape.output_len());
        let epilogue = Epilogue { accumulate, ..Epilogue::default() };
        for phase in &self.backward {
            let (part, rest) = packed.split_at(pack::packed_len(self.isa, phase));
            forward::multiply(self.isa, pool, phase, images, dy, part, epilogue, dx, workspace);
            packed = rest;
        }
    }

    /// dw = the gradient of the weights given `x` and `dy`.
    ///
    /// # Panics
    /// If a slice has not the length this plan states.
    pub fn backward_weights(
        &self,
        pool: &Pool,
        images: usize,
        x: &[f32],
        dy: &[f32],
        dw: &mut [f32],
        workspace: &mut [f32],
    ) {
        assert_eq!(x.len(), images * self.shape.input_len());
        assert_eq!(dy.len(), images * self.shape.output_len());
        assert_eq!(dw.len(), self.shape.weight_len());
        weights::backward_weights(self, pool, images, x, dy, dw, workspace);
    }
}
