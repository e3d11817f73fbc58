//! One run of a pass of a convolution, by its algorithm.

use super::{Conv, Epilogue, Pass, Statistics, WeightsPass, forward, grouped, pack, weights};
use crate::isa::{Element, Isa};
use residual_threads::Pool;

/// One run of a pass.
pub struct Run<'a, E> {
    pub(super) pass: &'a Pass,
    pub(super) isa: Isa,
    pub(super) pool: &'a Pool,
    pub(super) images: usize,
    pub(super) x: &'a [E],
    pub(super) packed: &'a [f32],
    pub(super) epilogue: Epilogue<'a, E>,
    pub(super) statistics: Option<Statistics<'a>>,
    pub(super) y: &'a mut [E],
    pub(super) workspace: &'a mut [f32],
}

impl<E: Element> Run<'_, E> {
    pub(crate) fn run(self) {
        let Self { pass, isa, pool, images, x, mut packed, epilogue, mut statistics, y, workspace } = self;
        match pass {
            Pass::Direct(phases) => {
                for phase in phases {
                    let (part, rest) = packed.split_at(pack::packed_len(isa, phase));
                    // Only the forward pass has statistics, and it has one phase.
                    let statistics = statistics.take();
                    forward::multiply(isa, pool, phase, images, x, part, epilogue, statistics, y, workspace);
                    packed = rest;
                }
            }
            Pass::Grouped(phases) => {
                let (x, epilogue, y) = E::floats(x, epilogue, y);
                for phase in phases {
                    let (part, rest) = packed.split_at(grouped::packed_len(isa, phase));
                    let statistics = statistics.take();
                    grouped::multiply(isa, pool, phase, images, x, part, epilogue, statistics, y, workspace);
                    packed = rest;
                }
            }
            Pass::Winograd(winograd) => winograd.run(isa, pool, images, x, packed, epilogue, statistics, y, workspace),
        }
    }
}

/// One run of the pass that computes the gradient of the weights.
pub struct WeightsRun<'a, E> {
    pub(super) conv: &'a Conv,
    pub(super) pool: &'a Pool,
    pub(super) images: usize,
    pub(super) x: &'a [E],
    pub(super) dy: &'a [E],
    pub(super) dw: &'a mut [f32],
    pub(super) workspace: &'a mut [f32],
}

impl<E: Element> WeightsRun<'_, E> {
    pub(crate) fn run(self) {
        let Self { conv, pool, images, x, dy, dw, workspace } = self;
        match &conv.weights {
            WeightsPass::Direct => weights::backward_weights(conv, pool, images, x, dy, dw, workspace),
            WeightsPass::Grouped => {
                let (shape, im2col, x, dy) = (&conv.shape, &conv.im2col, E::only_floats(x), E::only_floats(dy));
                grouped::backward_weights(conv.isa, pool, shape, im2col, images, x, dy, dw, workspace);
            }
            WeightsPass::Winograd(winograd) => winograd.run(conv.isa, pool, images, x, dy, dw, workspace),
        }
    }
}
