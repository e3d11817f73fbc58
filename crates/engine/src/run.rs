//! Executes instructions: one match arm per kernel.

use crate::arena::{Arena, BufferId};
use crate::parameters::{Filters, Parameters};
use crate::plan::{Activation, Factors, Instruction, Mask, Slice};
use crate::{Mode, Options};
use residual_kernels::conv::{Conv, Epilogue, Statistics};
use residual_kernels::elementwise::{self, ChannelSlice, Subsample};
use residual_kernels::{activation, batch_norm, layer_norm, pool, rows, scale};
use residual_tensor::AlignedBuffer;
use residual_threads::Pool;
use std::ops::Range;

/// A convolution or linear layer of the plan.
#[derive(Debug)]
pub(crate) struct PlannedConv {
    pub(crate) conv: Conv,
    pub(crate) weight: Weight,
    /// The range of its bias in the parameter bucket.
    pub(crate) bias: Option<Range<usize>>,
    /// In inference, the ranges of weight and bias in [`Executor::packed`].
    pub(crate) packed: Option<[Range<usize>; 2]>,
}

/// The source of a convolution's weight.
#[derive(Debug)]
pub(crate) enum Weight {
    /// Its range in the parameter bucket.
    Bucket(Range<usize>),
    /// The model's, in inference that packs on use.
    Shared(Filters),
}

impl PlannedConv {
    /// The weight's range in the bucket.
    fn range(&self) -> Range<usize> {
        match &self.weight {
            Weight::Bucket(range) => range.clone(),
            Weight::Shared(_) => unreachable!("a plan without a bucket packs its weights itself"),
        }
    }

    /// The packed weights of the forward pass, packed into `packed` if they are not there yet, and the bias.
    fn weights<'a>(
        &self,
        pool: &Pool,
        packed: &'a mut [f32],
        parameters: Option<&'a Parameters>,
    ) -> (&'a [f32], Option<&'a [f32]>) {
        match (&self.packed, parameters) {
            (Some([weight, bias]), _) => {
                if let Weight::Shared(filters) = &self.weight {
                    let (room, packed) = packed.split_at_mut(weight.start);
                    filters.pack(pool, &self.conv, room, &mut packed[..weight.len()]);
                }
                (&packed[weight.clone()], self.bias.as_ref().map(|_| &packed[bias.clone()]))
            }
            (None, Some(Parameters { values, .. })) => {
                let packed = &mut packed[..self.conv.packed_forward_len()];
                self.conv.pack_forward(pool, &values[self.range()], packed);
                (packed, self.bias.as_ref().map(|bias| &values[bias.clone()]))
            }
            (None, None) => unreachable!("a plan without parameters has packed all weights"),
        }
    }
}

/// A batch norm of the plan.
#[derive(Debug)]
pub(crate) struct PlannedNorm {
    pub(crate) channels: usize,
    pub(crate) eps: f32,
    pub(crate) momentum: f32,
    /// Whether its weight and bias have gradients.
    pub(crate) trained: bool,
    /// Whether it uses its running statistics in training too.
    pub(crate) keeps_statistics: bool,
    /// The ranges of its weight and bias in the parameter bucket.
    pub(crate) weight: Range<usize>,
    pub(crate) bias: Range<usize>,
    /// The ranges of its running mean and variance in the statistics bucket.
    pub(crate) running_mean: Range<usize>,
    pub(crate) running_var: Range<usize>,
    pub(crate) counter: usize,
    pub(crate) state: NormState,
}

/// State of a batch norm between forward and backward pass, one number per channel each.
#[derive(Debug)]
pub(crate) struct NormState {
    mean: Vec<f32>,
    variance: Vec<f32>,
    scale: Vec<f32>,
    shift: Vec<f32>,
    sum: Vec<f32>,
    sum_x: Vec<f32>,
    /// Those of the gradient of x.
    coefficients: [Vec<f32>; 3],
}

impl NormState {
    pub(crate) fn new(channels: usize) -> Self {
        let zeros = || vec![0.0; channels];
        Self {
            mean: zeros(),
            variance: zeros(),
            scale: zeros(),
            shift: zeros(),
            sum: zeros(),
            sum_x: zeros(),
            coefficients: [zeros(), zeros(), zeros()],
        }
    }
}

impl PlannedNorm {
    /// scale and shift from mean and variance.
    fn set_scale_and_shift(&mut self, weight: &[f32], bias: &[f32]) {
        let NormState { mean, variance, scale, shift, .. } = &mut self.state;
        batch_norm::scale_and_shift(weight, bias, mean, variance, self.eps, scale, shift);
    }

    /// Updates the running statistics with those of the batch, which has `count` values per channel.
    fn update_running(&self, statistics: &mut [f32], count: usize) {
        let NormState { mean, variance, .. } = &self.state;
        let [running_mean, running_var] = statistics
            .get_disjoint_mut([self.running_mean.clone(), self.running_var.clone()])
            .expect("statistics have places of their own");
        batch_norm::update_running(self.momentum, count, mean, variance, running_mean, running_var);
    }

    /// The gradients of weight and bias, and the coefficients of that of x, from the sums over dy. With running statistics
    /// (`frozen`) mean and variance do not depend on x.
    fn set_gradients(&mut self, weight: &[f32], count: usize, frozen: bool, gradients: &mut [f32]) {
        let NormState { mean, variance, sum, sum_x, coefficients, .. } = &mut self.state;
        let sums = [&sum[..], sum_x];
        if self.trained {
            let [weight, bias] = gradients
                .get_disjoint_mut([self.weight.clone(), self.bias.clone()])
                .expect("parameters have places of their own");
            batch_norm::parameter_gradients(variance, self.eps, sums, weight, bias);
        }
        let (count, [a, b, c]) = ((!frozen).then_some(count), coefficients);
        batch_norm::input_gradient_coefficients(weight, mean, variance, self.eps, sums, count, [a, b, c]);
    }
}

/// A layer norm of the plan.
#[derive(Debug)]
pub(crate) struct PlannedLayerNorm {
    pub(crate) eps: f32,
    /// Whether its parameters have gradients.
    pub(crate) trained: bool,
    pub(crate) weight: Copied,
    pub(crate) bias: Copied,
}

/// A parameter with one number per channel: its range in the bucket, and a copy of its values from the last preparation.
/// Inference has no bucket.
#[derive(Debug)]
pub(crate) struct Copied {
    place: Range<usize>,
    values: Vec<f32>,
}

impl Copied {
    pub(crate) fn new(place: Range<usize>) -> Self {
        Self { values: vec![0.0; place.len()], place }
    }

    fn take(&mut self, bucket: &[f32]) {
        self.values.copy_from_slice(&bucket[self.place.clone()]);
    }
}

/// The state that instructions operate on.
#[derive(Debug)]
pub(crate) struct Executor {
    pub(crate) mode: Mode,
    pub(crate) options: Options,
    pub(crate) arena: Arena,
    pub(crate) convs: Vec<PlannedConv>,
    pub(crate) norms: Vec<PlannedNorm>,
    pub(crate) layer_norms: Vec<PlannedLayerNorm>,
    /// Layer scales.
    pub(crate) scales: Vec<Copied>,
    /// Packed weights: in inference all of them; in training and inference that packs on use those of the current
    /// convolution, so that they are still in cache when it runs.
    pub(crate) packed: AlignedBuffer,
    pub(crate) workspace: AlignedBuffer,
    /// Partial statistics of a convolution's blocks.
    pub(crate) statistics: AlignedBuffer,
    /// Absent in inference after packing.
    pub(crate) parameters: Option<Parameters>,
    /// Determines the elements that dropout drops.
    pub(crate) seed: u64,
}

impl Executor {
    /// Bytes of parameters, their gradients and statistics, or of the shared weights of the model.
    pub(crate) fn parameter_bytes(&self) -> usize {
        let shared = self.convs.iter().filter(|planned| matches!(planned.weight, Weight::Shared(_)));
        let weights: usize = shared.map(|planned| planned.conv.shape().weight_len()).sum();
        self.parameters.as_ref().map_or(4 * weights, Parameters::bytes)
    }

    /// Prepares derived state from the buckets: all packed weights in inference that packs in advance, the running
    /// statistics in evaluation and inference, and the parameters of layer norms and layer scales.
    pub(crate) fn prepare(&mut self) {
        let pool = &self.options.pool;
        let parameters = self.parameters.as_ref().expect("parameters are there until everything is packed");
        let values: &[f32] = &parameters.values;
        for planned in &self.convs {
            if let Some([weight, bias]) = &planned.packed {
                if let Weight::Bucket(from) = &planned.weight {
                    planned.conv.pack_forward(pool, &values[from.clone()], &mut self.packed[weight.clone()]);
                }
                if let Some(from) = &planned.bias {
                    self.packed[bias.clone()].copy_from_slice(&values[from.clone()]);
                }
            }
        }
        for norm in &mut self.layer_norms {
            norm.weight.take(values);
            norm.bias.take(values);
        }
        self.scales.iter_mut().for_each(|scale| scale.take(values));
        for norm in self.norms.iter_mut().filter(|norm| self.mode != Mode::Train || norm.keeps_statistics) {
            norm.state.mean.copy_from_slice(&parameters.statistics[norm.running_mean.clone()]);
            norm.state.variance.copy_from_slice(&parameters.statistics[norm.running_var.clone()]);
            norm.set_scale_and_shift(&values[norm.weight.clone()], &values[norm.bias.clone()]);
        }
    }

    /// Runs one instruction on a batch of `images`.
    pub(crate) fn run(&mut self, instruction: &Instruction, images: usize) {
        let Self { options, arena, .. } = self;
        let (isa, threads) = (options.isa, &*options.pool);
        match *instruction {
            Instruction::Conv { conv, x, add, relu, y } => self.conv(conv, x, add, relu, y, images),
            Instruction::ConvWithStatistics { conv, norm, x, y } => self.conv_with_statistics(conv, norm, x, y, images),
            Instruction::BatchNorm { norm, takes_statistics, x, add, relu, y } => {
                if takes_statistics {
                    self.take_statistics(norm, x, images);
                }
                self.batch_norm(norm, x, add, relu, y, images);
            }
            Instruction::LayerNorm { norm, x, y } => {
                let PlannedLayerNorm { eps, weight, bias, .. } = &self.layer_norms[norm];
                let (y, [x]) = arena.write_and_read(y, [x], images);
                layer_norm::forward(isa, threads, x, &weight.values, &bias.values, *eps, y);
            }
            Instruction::Scale { factors, x, add, relu, y } => {
                self.scale(factors, x, add, false, relu, y, images);
            }
            Instruction::Activate { activation, x, y } => {
                let (y, [x]) = arena.write_and_read(y, [x], images);
                match activation {
                    Activation::Gelu => activation::gelu(isa, threads, x, y),
                    Activation::Sigmoid => activation::sigmoid(isa, threads, x, y),
                }
            }
            Instruction::Relu { x, y } => {
                let (y, [x]) = arena.write_and_read(y, [x], images);
                elementwise::relu(isa, threads, x, y);
            }
            Instruction::Copy { x, accumulate, y } => {
                let (y, [x]) = arena.write_and_read(y, [x], images);
                elementwise::copy(isa, threads, x, accumulate, y);
            }
            Instruction::AccumulateRelu { x, y } => {
                let (y, [x]) = arena.write_and_read(y, [x], images);
                elementwise::accumulate_relu(isa, threads, x, y);
            }
            Instruction::Zero { y } => elementwise::zero(threads, arena.get_mut(y, images)),
            Instruction::CopyChannels { x, slice, y } => {
                let (y, [x]) = arena.write_and_read(y, [x], images);
                elementwise::copy_channels(threads, pixels(slice), x, from(slice), y, to(slice));
            }
            Instruction::MaxPool { pool, x, index: None, y } => {
                let (y, [x]) = arena.write_and_read(y, [x], images);
                pool::max_pool(isa, threads, &pool.shape(), images, x, y, None);
            }
            Instruction::MaxPool { pool, x, index: Some(index), y } => {
                let ([y, index], [x]) = arena.write_all_and_read([y, index], [x], images);
                pool::max_pool(isa, threads, &pool.shape(), images, x, y, Some(index));
            }
            Instruction::AvgPool { pool, count_include_pad, x, y } => {
                let (y, [x]) = arena.write_and_read(y, [x], images);
                pool::avg_pool(threads, &pool.shape(), count_include_pad, images, x, y);
            }
            Instruction::AdaptiveAvgPool { pool, x, y } => {
                let (y, [x]) = arena.write_and_read(y, [x], images);
                pool::adaptive_avg_pool(threads, &pool, images, x, y);
            }
            Instruction::GlobalAvgPool { pixels, channels, x, y } => {
                let (y, [x]) = arena.write_and_read(y, [x], images);
                pool::global_avg_pool(threads, pixels, channels, x, y);
            }
            Instruction::Dropout { node, p, x, accumulate, y } => {
                let seed = node_seed(self.seed, node);
                let (y, [x]) = arena.write_and_read(y, [x], images);
                elementwise::dropout(threads, x, p, seed, accumulate, y);
            }
            Instruction::DropPath { node, p, x, accumulate, y } => {
                let seed = node_seed(self.seed, node);
                let image = arena.len_of(y);
                let (y, [x]) = arena.write_and_read(y, [x], images);
                elementwise::drop_path(threads, x, image, p, seed, accumulate, y);
            }
            Instruction::ConvWeights { conv, x, dy } => self.conv_weights(conv, x, dy, images),
            Instruction::ConvData { conv, dy, accumulate, dx } => {
                let planned = &self.convs[conv];
                let values = &self.parameters.as_ref().expect("a plan with gradients keeps its parameters").values;
                let packed = &mut self.packed[..planned.conv.packed_backward_len()];
                planned.conv.pack_backward(threads, &values[planned.range()], packed);
                let (dx, [dy]) = arena.write_and_read(dx, [dy], images);
                planned.conv.backward_data(threads, images, dy, packed, accumulate, dx, &mut self.workspace);
            }
            Instruction::BatchNormSums { norm, x, mask, dy } => self.batch_norm_sums(norm, x, mask, dy, images),
            Instruction::BatchNormData { norm, masked, x, dy, accumulate, dx } => {
                let NormState { coefficients: [a, b, c], scale, shift, .. } = &self.norms[norm].state;
                let (coefficients, mask) = ([a.as_slice(), b, c], masked.then_some([scale.as_slice(), shift]));
                if dx == dy {
                    let (dx, [x]) = arena.write_and_read(dx, [x], images);
                    batch_norm::backward_apply(isa, threads, None, x, coefficients, mask, accumulate, dx);
                } else {
                    let (dx, [x, dy]) = arena.write_and_read(dx, [x, dy], images);
                    batch_norm::backward_apply(isa, threads, Some(dy), x, coefficients, mask, accumulate, dx);
                }
            }
            Instruction::LayerNormBackward { norm, x, dy, accumulate, dx } => {
                self.layer_norm_backward(norm, x, dy, accumulate, dx, images);
            }
            Instruction::ScaleData { factors, dy, accumulate, dx } => {
                self.scale(factors, dy, None, accumulate, false, dx, images);
            }
            Instruction::LayerScaleSums { scale, x, dy } => {
                let parameters = self.parameters.as_mut().expect("a plan with gradients keeps its parameters");
                let sums = &mut parameters.gradients[self.scales[scale].place.clone()];
                let (x, dy) = (arena.get(x, images), arena.get(dy, images));
                scale::sums(isa, threads, x, dy, sums.len(), false, sums, &mut self.workspace);
            }
            Instruction::GateSums { channels, x, dy, accumulate, dgate } => {
                let (dgate, [x, dy]) = arena.write_and_read(dgate, [x, dy], images);
                scale::sums(isa, threads, x, dy, channels, accumulate, dgate, &mut self.workspace);
            }
            Instruction::ActivateBackward { activation, value, dy } => {
                let (dy, [value]) = arena.write_and_read(dy, [value], images);
                match activation {
                    Activation::Gelu => activation::gelu_backward(isa, threads, value, dy),
                    Activation::Sigmoid => activation::sigmoid_backward(isa, threads, value, dy),
                }
            }
            Instruction::ReluBackward { y, dy } => {
                let (dy, [y]) = arena.write_and_read(dy, [y], images);
                elementwise::relu_backward(isa, threads, y, dy);
            }
            Instruction::CopyChannelsBackward { dy, slice, dx } => {
                let (dx, [dy]) = arena.write_and_read(dx, [dy], images);
                elementwise::copy_channels_backward(threads, pixels(slice), dy, to(slice), dx, from(slice));
            }
            Instruction::MaxPoolBackward { pool, index, dy, accumulate, dx } => {
                let (dx, [index, dy]) = arena.write_and_read(dx, [index, dy], images);
                pool::max_pool_backward(threads, &pool.shape(), images, index, dy, accumulate, dx);
            }
            Instruction::AvgPoolBackward { pool, count_include_pad, dy, accumulate, dx } => {
                let (dx, [dy]) = arena.write_and_read(dx, [dy], images);
                pool::avg_pool_backward(threads, &pool.shape(), count_include_pad, images, dy, accumulate, dx);
            }
            Instruction::AdaptiveAvgPoolBackward { pool, dy, accumulate, dx } => {
                let (dx, [dy]) = arena.write_and_read(dx, [dy], images);
                pool::adaptive_avg_pool_backward(threads, &pool, images, dy, accumulate, dx);
            }
            Instruction::GlobalAvgPoolBackward { pixels, channels, dy, accumulate, dx } => {
                let (dx, [dy]) = arena.write_and_read(dx, [dy], images);
                pool::global_avg_pool_backward(threads, pixels, channels, dy, accumulate, dx);
            }
        }
    }

    fn conv(&mut self, conv: usize, x: BufferId, add: Option<BufferId>, relu: bool, y: BufferId, images: usize) {
        let Self { options, arena, convs, packed, workspace, parameters, .. } = self;
        let planned = &convs[conv];
        let (packed, bias) = planned.weights(&options.pool, packed, parameters.as_ref());
        let (y, [x, added]) = arena.write_and_read(y, [x, add.unwrap_or(x)], images);
        let epilogue = Epilogue { accumulate: false, bias, add: add.map(|_| added), relu };
        planned.conv.forward(&options.pool, images, x, packed, epilogue, y, workspace);
    }

    fn conv_with_statistics(&mut self, conv: usize, norm: usize, x: BufferId, y: BufferId, images: usize) {
        let Self { options, arena, convs, norms, packed, workspace, statistics, parameters, .. } = self;
        let (planned, state) = (&convs[conv], &mut norms[norm].state);
        let (packed, bias) = planned.weights(&options.pool, packed, parameters.as_ref());
        let (y, [x]) = arena.write_and_read(y, [x], images);
        let statistics = Statistics { mean: &mut state.mean, variance: &mut state.variance, workspace: statistics };
        planned.conv.forward_with_statistics(&options.pool, images, x, packed, bias, statistics, y, workspace);
        let rows = y.len() / norms[norm].channels;
        self.use_statistics(norm, rows);
    }

    /// Computes the statistics of a batch norm's input in a separate pass.
    fn take_statistics(&mut self, norm: usize, x: BufferId, images: usize) {
        let (x, state) = (self.arena.get(x, images), &mut self.norms[norm].state);
        let (mean, variance) = (&mut state.mean, &mut state.variance);
        batch_norm::statistics(self.options.isa, &self.options.pool, x, mean, variance, &mut self.workspace);
        let rows = x.len() / self.norms[norm].channels;
        self.use_statistics(norm, rows);
    }

    /// Applies the statistics over `rows` values: updates the running ones, scale and shift.
    fn use_statistics(&mut self, norm: usize, rows: usize) {
        let norm = &mut self.norms[norm];
        let parameters = self.parameters.as_mut().expect("training keeps its parameters");
        norm.update_running(&mut parameters.statistics, rows);
        parameters.counters[norm.counter].1 += 1;
        norm.set_scale_and_shift(&parameters.values[norm.weight.clone()], &parameters.values[norm.bias.clone()]);
    }

    fn batch_norm(&mut self, norm: usize, x: BufferId, add: Option<BufferId>, relu: bool, y: BufferId, images: usize) {
        let state = &self.norms[norm].state;
        let (y, [x, added]) = self.arena.write_and_read(y, [x, add.unwrap_or(x)], images);
        let (isa, pool) = (self.options.isa, &*self.options.pool);
        batch_norm::affine(isa, pool, x, &state.scale, &state.shift, add.map(|_| added), relu, y);
    }

    fn conv_weights(&mut self, conv: usize, x: BufferId, dy: BufferId, images: usize) {
        let (isa, pool) = (self.options.isa, &*self.options.pool);
        let planned = &self.convs[conv];
        let parameters = self.parameters.as_mut().expect("a plan with gradients keeps its parameters");
        let (x, dy) = (self.arena.get(x, images), self.arena.get(dy, images));
        let dw = &mut parameters.gradients[planned.range()];
        planned.conv.backward_weights(pool, images, x, dy, dw, &mut self.workspace);
        if let Some(bias) = &planned.bias {
            rows::column_sums(isa, pool, dy, &mut parameters.gradients[bias.clone()], &mut self.workspace);
        }
    }

    /// y = x · factors, plus `add` or the previous y, ReLU.
    fn scale(
        &mut self,
        factors: Factors,
        x: BufferId,
        add: Option<BufferId>,
        accumulate: bool,
        relu: bool,
        y: BufferId,
        images: usize,
    ) {
        let (isa, pool) = (self.options.isa, &*self.options.pool);
        let (id, scale) = match factors {
            Factors::Gate(gate) => (gate, None),
            Factors::LayerScale(scale) => (x, Some(&self.scales[scale].values)),
        };
        let (y, [x, added, gate]) = self.arena.write_and_read(y, [x, add.unwrap_or(x), id], images);
        let (factors, channels) = scale.map_or((gate, gate.len() / images), |scale| (scale, scale.len()));
        scale::forward(isa, pool, x, factors, channels, add.map(|_| added), accumulate, relu, y);
    }

    fn layer_norm_backward(
        &mut self,
        norm: usize,
        x: BufferId,
        dy: BufferId,
        accumulate: bool,
        dx: BufferId,
        images: usize,
    ) {
        let (isa, pool) = (self.options.isa, &*self.options.pool);
        let PlannedLayerNorm { eps, trained, weight, bias } = &self.layer_norms[norm];
        let (dx, [x, dy]) = self.arena.write_and_read(dx, [x, dy], images);
        let gradients = &mut self.parameters.as_mut().expect("a plan with gradients keeps its parameters").gradients;
        let gradients = trained.then(|| {
            // The bias follows the weight.
            let (weights, biases) = gradients.split_at_mut(bias.place.start);
            [&mut weights[weight.place.clone()], &mut biases[..bias.place.len()]]
        });
        let workspace = &mut self.workspace;
        layer_norm::backward(isa, pool, x, &weight.values, *eps, dy, accumulate, dx, gradients, workspace);
    }

    fn batch_norm_sums(&mut self, norm: usize, x: BufferId, mask: Mask, dy: BufferId, images: usize) {
        let (isa, pool) = (self.options.isa, &*self.options.pool);
        let norm = &mut self.norms[norm];
        let value = if let Mask::Value(y) = mask { y } else { x };
        let (dy, [x, value]) = self.arena.write_and_read(dy, [x, value], images);
        let NormState { mean, scale, shift, sum, sum_x, .. } = &mut norm.state;
        let mask = match mask {
            Mask::None => batch_norm::Mask::None,
            Mask::Value(_) => batch_norm::Mask::Result(value),
            Mask::Again => batch_norm::Mask::Affine { scale, shift },
        };
        batch_norm::backward_sums(isa, pool, dy, mask, x, mean, sum, sum_x, &mut self.workspace);
        let Parameters { values, gradients, .. } =
            self.parameters.as_mut().expect("a plan with gradients keeps its parameters");
        let frozen = self.mode != Mode::Train || norm.keeps_statistics;
        norm.set_gradients(&values[norm.weight.clone()], x.len() / norm.channels, frozen, gradients);
    }
}

/// The seed of a node's dropout.
fn node_seed(seed: u64, node: usize) -> u64 {
    seed.wrapping_add((node as u64) << 32)
}

fn pixels(slice: Slice) -> Subsample {
    Subsample { size: slice.size, stride: slice.stride }
}

fn from(slice: Slice) -> ChannelSlice {
    ChannelSlice { channels: slice.x_channels, offset: 0, count: slice.x_channels }
}

fn to(slice: Slice) -> ChannelSlice {
    ChannelSlice { channels: slice.y_channels, offset: slice.y_offset, count: slice.x_channels }
}
