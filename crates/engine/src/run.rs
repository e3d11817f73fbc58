//! A session, and the execution of instructions in it: one match arm per kernel.

use crate::arena::{Arena, BufferId};
use crate::parameters::Parameters;
use crate::plan::{
    Activation, ConvId, Factors, Instruction, LayerNormId, Mask, NormId, Packing, Plan, PlannedLayerNorm, PlannedNorm,
    PlannedQuantizedConv, QuantizationId, QuantizedConvId, Slice,
};
use crate::weights::Weights;
use crate::{EngineError, Mode};
use bytemuck::Pod;
use residual_kernels::conv::{Elements, Epilogue, Quantized, QuantizedConv, Requantize, Statistics};
use residual_kernels::elementwise::{self, ChannelSlice, Subsample};
use residual_kernels::quantize::Quantization;
use residual_kernels::{Element, bf16};
use residual_kernels::{activation, batch_norm, convert, layer_norm, pool, quantize, rows, scale};
use residual_tensor::AlignedBuffer;
use residual_threads::Pool;
use std::sync::Arc;

/// What a run of a plan changes: values, workspace, and the state of batch norms.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) pool: Arc<Pool>,
    pub(crate) arena: Arena,
    norms: Vec<NormState>,
    /// For weights that must first be converted to the engine's layout.
    conversion: AlignedBuffer,
    /// The packed weights of the current convolution, if they are not kept.
    current: AlignedBuffer,
    workspace: AlignedBuffer,
    /// Partial statistics of a convolution's blocks.
    statistics: AlignedBuffer,
    /// The quantisations that the batch has determined so far, and the constants of a layer that reads such bytes.
    dynamic: Vec<Option<Quantization>>,
    constants: (Vec<i32>, Vec<f32>),
    /// Determines the elements that dropout drops.
    pub(crate) seed: u64,
}

/// State of a batch norm between forward and backward pass, one number per channel each.
#[derive(Debug)]
struct NormState {
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
    fn new(channels: usize) -> Self {
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

    /// Scale and shift from mean and variance.
    fn set_scale_and_shift(&mut self, norm: &PlannedNorm, values: &[f32]) {
        let Self { mean, variance, scale, shift, .. } = self;
        let [weight, bias] = [&values[norm.weight.clone()], &values[norm.bias.clone()]];
        batch_norm::scale_and_shift(weight, bias, mean, variance, norm.eps, scale, shift);
    }

    /// Takes the running statistics.
    fn take_running(&mut self, norm: &PlannedNorm, parameters: &Parameters) {
        self.mean.copy_from_slice(&parameters.statistics[norm.running_mean.clone()]);
        self.variance.copy_from_slice(&parameters.statistics[norm.running_var.clone()]);
        self.set_scale_and_shift(norm, &parameters.values);
    }

    /// Applies the statistics of a batch, which has `count` values per channel: updates the running ones, scale and shift.
    fn use_statistics(&mut self, norm: &PlannedNorm, parameters: &mut Parameters, count: usize) {
        let [running_mean, running_var] = parameters
            .statistics
            .get_disjoint_mut([norm.running_mean.clone(), norm.running_var.clone()])
            .expect("statistics have places of their own");
        batch_norm::update_running(norm.momentum, count, &self.mean, &self.variance, running_mean, running_var);
        parameters.counters[norm.counter] += 1;
        self.set_scale_and_shift(norm, &parameters.values);
    }

    /// The gradients of weight and bias, and the coefficients of that of x, from the sums over dy. With running statistics
    /// (`fixed`) mean and variance do not depend on x.
    fn set_gradients(&mut self, norm: &PlannedNorm, parameters: &mut Parameters, count: usize, fixed: bool) {
        let Self { mean, variance, sum, sum_x, coefficients: [a, b, c], .. } = self;
        let sums = [&sum[..], sum_x];
        if norm.trained {
            let [weight, bias] = parameters
                .gradients
                .get_disjoint_mut([norm.weight.clone(), norm.bias.clone()])
                .expect("parameters have places of their own");
            batch_norm::parameter_gradients(variance, norm.eps, sums, weight, bias);
        }
        let weight = &parameters.values[norm.weight.clone()];
        let count = (!fixed).then_some(count);
        batch_norm::input_gradient_coefficients(weight, mean, variance, norm.eps, sums, count, [a, b, c]);
    }
}

impl Session {
    /// Allocates the memory of a session.
    pub(crate) fn new(plan: &Plan, pool: Arc<Pool>) -> Result<Self, EngineError> {
        let memory = plan.memory(pool.threads());
        let take = |len| AlignedBuffer::try_zeros(len).ok_or_else(|| memory.refused());
        let Packing { conversion, current, .. } = plan.layers.packing;
        let reads_dynamic = |planned: &&PlannedQuantizedConv| plan.layers.quantizations[planned.input.0].is_dynamic;
        let layers = plan.layers.quantized.iter().filter(reads_dynamic);
        let outputs = layers.map(|planned| planned.conv.shape().out_channels).max().unwrap_or(0);
        // In inference scale and shift are among the packed weights.
        let channels = |norm: &PlannedNorm| if plan.mode == Mode::Infer { 0 } else { norm.channels };
        Ok(Self {
            arena: Arena::new(&plan.places).ok_or_else(|| memory.refused())?,
            norms: plan.layers.norms.iter().map(|norm| NormState::new(channels(norm))).collect(),
            conversion: take(conversion)?,
            current: take(current)?,
            workspace: take(plan.workspace_len(pool.threads()))?,
            statistics: take(plan.statistics_len)?,
            dynamic: vec![None; plan.layers.quantizations.len()],
            constants: (Vec::with_capacity(outputs), Vec::with_capacity(outputs)),
            seed: 0,
            pool,
        })
    }

    /// Takes the running statistics of the batch norms that use them: after parameters or statistics may have changed.
    pub(crate) fn take_running_statistics(&mut self, plan: &Plan, parameters: &Parameters) {
        let norms = plan.layers.norms.iter().zip(&mut self.norms);
        for (norm, state) in norms.filter(|(norm, _)| plan.mode != Mode::Train || norm.keeps_statistics) {
            state.take_running(norm, parameters);
        }
    }
}

/// What bytes mean: as the batch has determined, or as the model says.
fn current_quantization(weights: &Weights, dynamic: &[Option<Quantization>], id: QuantizationId) -> Quantization {
    dynamic[id.0].unwrap_or_else(|| weights.quantization(id))
}

/// A session while it runs instructions.
pub(crate) struct Run<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) weights: &'a mut Weights,
    pub(crate) session: &'a mut Session,
}

/// An expression for the type of some elements.
macro_rules! of {
    ($elements:expr, $type:ident => $body:expr) => {
        match $elements {
            Elements::F32 => {
                type $type = f32;
                $body
            }
            Elements::Bf16 => {
                type $type = bf16;
                $body
            }
        }
    };
}

impl Run<'_> {
    /// Runs one instruction on a batch of `images`.
    pub(crate) fn instruction(&mut self, instruction: &Instruction, images: usize) {
        let Self { plan, weights, session } = self;
        let Session { arena, pool: threads, workspace, norms, current, seed, dynamic, .. } = &mut **session;
        let (isa, threads) = (plan.isa, &**threads);
        match *instruction {
            Instruction::Conv { conv, x, add, relu, y } => self.conv(conv, x, add, relu, y, images),
            Instruction::QuantizedConv { conv, x, add, y } => self.quantized_conv(conv, x, add, y, images),
            Instruction::Quantize { quantization, channels, x, y } => {
                let (y, [x]) = arena.write_and_read(y, [x], images);
                quantize::quantize(isa, threads, x, channels, weights.quantization(quantization), y);
            }
            Instruction::QuantizeDynamic { quantization, channels, x, y } => {
                let (y, [x]) = arena.write_and_read(y, [x], images);
                let of_batch = Quantization::of(x);
                dynamic[quantization.0] = Some(of_batch);
                quantize::quantize(isa, threads, x, channels, of_batch, y);
            }
            Instruction::Dequantize { quantization, channels, x, y } => {
                let (y, [x]) = arena.write_and_read(y, [x], images);
                quantize::dequantize(
                    isa,
                    threads,
                    x,
                    channels,
                    current_quantization(weights, dynamic, quantization),
                    y,
                );
            }
            Instruction::Round { channels, x, accumulate, y } => {
                let (y, [x]) = arena.write_and_read(y, [x], images);
                convert::round_to_bf16(isa, threads, x, channels, accumulate, y);
            }
            Instruction::Widen { channels, x, accumulate, y } => {
                let (y, [x]) = arena.write_and_read(y, [x], images);
                convert::widen_bf16(isa, threads, x, channels, accumulate, y);
            }
            Instruction::ZeroBytes { quantization, y } => {
                let zero = current_quantization(weights, dynamic, quantization).zero;
                elementwise::fill(threads, arena.get_mut(y, images), zero);
            }
            Instruction::CopyChannelsOfBytes { x, slice, y } => {
                let (y, [x]) = arena.write_and_read::<u8, u8, 1>(y, [x], images);
                elementwise::copy_channels(threads, pixels(slice), x, from_bytes(slice), y, to_bytes(slice));
            }
            Instruction::MaxPoolOfBytes { pool, x, y } => {
                let (y, [x]) = arena.write_and_read(y, [x], images);
                pool::max_pool_bytes(isa, threads, &pool.shape(), images, x, y);
            }
            Instruction::GlobalAvgPoolOfBytes { quantization, pixels, channels, x, y } => {
                let (y, [x]) = arena.write_and_read(y, [x], images);
                let quantization = current_quantization(weights, dynamic, quantization);
                pool::global_avg_pool_bytes(threads, pixels, channels, x, quantization, y);
            }
            Instruction::ConvWithStatistics { conv, norm, x, y } => self.conv_with_statistics(conv, norm, x, y, images),
            Instruction::BatchNorm { norm, elements, takes_statistics, x, add, relu, y } => of!(elements, E => {
                if takes_statistics {
                    self.take_statistics::<E>(norm, x, images);
                }
                self.batch_norm::<E>(norm, x, add, relu, y, images);
            }),
            Instruction::LayerNorm { norm, x, y } => {
                let PlannedLayerNorm { eps, weight, bias, .. } = &plan.layers.layer_norms[norm.0];
                let (y, [x]) = arena.write_and_read(y, [x], images);
                layer_norm::forward(isa, threads, x, weights.values(weight), weights.values(bias), *eps, y);
            }
            Instruction::Scale { factors, x, add, relu, y } => {
                self.scale(factors, x, add, false, relu, y, images);
            }
            Instruction::Activate { activation, elements, x, y } => of!(elements, E => {
                let (y, [x]) = arena.write_and_read::<E, E, 1>(y, [x], images);
                match activation {
                    Activation::Gelu => activation::gelu(isa, threads, x, y),
                    Activation::Sigmoid => activation::sigmoid(isa, threads, x, y),
                }
            }),
            Instruction::Relu { elements, x, y } => of!(elements, E => {
                let (y, [x]) = arena.write_and_read::<E, E, 1>(y, [x], images);
                elementwise::relu(isa, threads, x, y);
            }),
            Instruction::Copy { elements, x, accumulate, y } => of!(elements, E => {
                let (y, [x]) = arena.write_and_read::<E, E, 1>(y, [x], images);
                elementwise::copy(isa, threads, x, accumulate, y);
            }),
            Instruction::AccumulateRelu { elements, x, y } => of!(elements, E => {
                let (y, [x]) = arena.write_and_read::<E, E, 1>(y, [x], images);
                elementwise::accumulate_relu(isa, threads, x, y);
            }),
            Instruction::Zero { y } => elementwise::zero(threads, arena.get_mut(y, images)),
            Instruction::CopyChannels { elements, x, slice, y } => of!(elements, E => {
                let (y, [x]) = arena.write_and_read::<E, E, 1>(y, [x], images);
                elementwise::copy_channels(threads, pixels(slice), x, from(slice), y, to(slice));
            }),
            Instruction::MaxPool { pool, elements, x, index: Some(index), y } => of!(elements, E => {
                let ([y, index], [x]) = arena.write_all_and_read([y, index], [x], images);
                let (x, y) = (bytemuck::cast_slice::<_, E>(x), bytemuck::cast_slice_mut(y));
                pool::max_pool_with_index(isa, threads, &pool.shape(), images, x, y, index);
            }),
            Instruction::MaxPool { pool, elements, x, index: None, y } => of!(elements, E => {
                let (y, [x]) = arena.write_and_read::<E, E, 1>(y, [x], images);
                pool::max_pool(isa, threads, &pool.shape(), images, x, y);
            }),
            Instruction::AvgPool { pool, count_include_pad, x, y } => {
                let (y, [x]) = arena.write_and_read(y, [x], images);
                pool::avg_pool(threads, &pool.shape(), count_include_pad, images, x, y);
            }
            Instruction::AdaptiveAvgPool { pool, x, y } => {
                let (y, [x]) = arena.write_and_read(y, [x], images);
                pool::adaptive_avg_pool(threads, &pool, images, x, y);
            }
            Instruction::GlobalAvgPool { elements, pixels, channels, x, y } => of!(elements, E => {
                let (y, [x]) = arena.write_and_read::<f32, E, 1>(y, [x], images);
                pool::global_avg_pool(threads, pixels, channels, x, y);
            }),
            Instruction::Dropout { node, p, x, accumulate, y } => {
                let seed = node_seed(*seed, node);
                let (y, [x]) = arena.write_and_read(y, [x], images);
                elementwise::dropout(threads, x, p, seed, accumulate, y);
            }
            Instruction::DropPath { node, p, x, accumulate, y } => {
                let seed = node_seed(*seed, node);
                let image = arena.len_of::<f32>(y);
                let (y, [x]) = arena.write_and_read(y, [x], images);
                elementwise::drop_path(threads, x, image, p, seed, accumulate, y);
            }
            Instruction::ConvWeights { conv, x, dy } => {
                of!(plan.layers.convs[conv.0].conv.elements(), E => self.conv_weights::<E>(conv, x, dy, images));
            }
            Instruction::ConvData { conv, dy, accumulate, dx } => {
                let planned = &plan.layers.convs[conv.0];
                let weight = planned.weight.as_ref().expect("a plan with gradients has all weights in its bucket");
                let packed = &mut current[..planned.conv.packed_backward_len()];
                planned.conv.pack_backward(threads, weights.values(weight), packed);
                of!(planned.conv.elements(), E => {
                    let (dx, [dy]) = arena.write_and_read::<E, E, 1>(dx, [dy], images);
                    planned.conv.backward_data(threads, images, dy, packed, accumulate, dx, workspace);
                });
            }
            Instruction::BatchNormSums { norm, elements, x, mask, dy } => {
                of!(elements, E => self.batch_norm_sums::<E>(norm, x, mask, dy, images));
            }
            Instruction::BatchNormData { norm, elements, masked, x, dy, accumulate, dx } => of!(elements, E => {
                let NormState { coefficients: [a, b, c], scale, shift, .. } = &norms[norm.0];
                let (coefficients, mask) = ([a.as_slice(), b, c], masked.then_some([scale.as_slice(), shift]));
                if dx == dy {
                    let (dx, [x]) = arena.write_and_read::<E, E, 1>(dx, [x], images);
                    batch_norm::backward_apply(isa, threads, None, x, coefficients, mask, accumulate, dx);
                } else {
                    let (dx, [x, dy]) = arena.write_and_read::<E, E, 2>(dx, [x, dy], images);
                    batch_norm::backward_apply(isa, threads, Some(dy), x, coefficients, mask, accumulate, dx);
                }
            }),
            Instruction::LayerNormBackward { norm, x, dy, accumulate, dx } => {
                self.layer_norm_backward(norm, x, dy, accumulate, dx, images);
            }
            Instruction::ScaleData { factors, dy, accumulate, dx } => {
                self.scale(factors, dy, None, accumulate, false, dx, images);
            }
            Instruction::LayerScaleSums { scale, x, dy } => {
                let sums = &mut buckets(weights).gradients[plan.layers.scales[scale.0].bucket.clone()];
                let (x, dy) = (arena.get(x, images), arena.get(dy, images));
                scale::sums(isa, threads, x, dy, sums.len(), false, sums, workspace);
            }
            Instruction::GateSums { channels, x, dy, accumulate, dgate } => {
                let (dgate, [x, dy]) = arena.write_and_read(dgate, [x, dy], images);
                scale::sums(isa, threads, x, dy, channels, accumulate, dgate, workspace);
            }
            Instruction::ActivateBackward { activation, elements, value, dy } => of!(elements, E => {
                let (dy, [value]) = arena.write_and_read::<E, E, 1>(dy, [value], images);
                match activation {
                    Activation::Gelu => activation::gelu_backward(isa, threads, value, dy),
                    Activation::Sigmoid => activation::sigmoid_backward(isa, threads, value, dy),
                }
            }),
            Instruction::ReluBackward { elements, y, dy } => of!(elements, E => {
                let (dy, [y]) = arena.write_and_read::<E, E, 1>(dy, [y], images);
                elementwise::relu_backward(isa, threads, y, dy);
            }),
            Instruction::CopyChannelsBackward { elements, dy, slice, dx } => of!(elements, E => {
                let (dx, [dy]) = arena.write_and_read::<E, E, 1>(dx, [dy], images);
                elementwise::copy_channels_backward(threads, pixels(slice), dy, to(slice), dx, from(slice));
            }),
            Instruction::MaxPoolBackward { pool, elements, index, dy, accumulate, dx } => {
                let ([dx], [index, dy]) = arena.write_all_and_read([dx], [index, dy], images);
                let shape = pool.shape();
                match elements {
                    Elements::F32 => {
                        let (dy, dx) = (bytemuck::cast_slice(dy), bytemuck::cast_slice_mut(dx));
                        pool::max_pool_backward(threads, &shape, images, index, dy, accumulate, dx);
                    }
                    Elements::Bf16 => {
                        let (dy, dx) = (bytemuck::cast_slice(dy), bytemuck::cast_slice_mut(dx));
                        pool::max_pool_backward_bf16(isa, threads, &shape, images, index, dy, accumulate, dx);
                    }
                }
            }
            Instruction::AvgPoolBackward { pool, count_include_pad, dy, accumulate, dx } => {
                let (dx, [dy]) = arena.write_and_read(dx, [dy], images);
                pool::avg_pool_backward(threads, &pool.shape(), count_include_pad, images, dy, accumulate, dx);
            }
            Instruction::AdaptiveAvgPoolBackward { pool, dy, accumulate, dx } => {
                let (dx, [dy]) = arena.write_and_read(dx, [dy], images);
                pool::adaptive_avg_pool_backward(threads, &pool, images, dy, accumulate, dx);
            }
            Instruction::GlobalAvgPoolBackward { elements, pixels, channels, dy, accumulate, dx } => {
                of!(elements, E => {
                    let (dx, [dy]) = arena.write_and_read::<E, f32, 1>(dx, [dy], images);
                    pool::global_avg_pool_backward(threads, pixels, channels, dy, accumulate, dx);
                })
            }
        }
    }

    fn conv(&mut self, id: ConvId, x: BufferId, add: Option<BufferId>, relu: bool, y: BufferId, images: usize) {
        let Self { plan, weights, session } = self;
        let Session { pool, arena, conversion, current, workspace, .. } = &mut **session;
        let (packed, bias) = weights.conv(plan, id, pool, conversion, current);
        let conv = &plan.layers.convs[id.0].conv;
        of!(conv.elements(), E => {
            let (y, [x, added]) = arena.write_and_read::<E, E, 2>(y, [x, add.unwrap_or(x)], images);
            let epilogue = Epilogue { accumulate: false, bias, add: add.map(|_| added), relu };
            conv.forward(pool, images, x, packed, epilogue, y, workspace);
        });
    }

    fn quantized_conv(&mut self, id: QuantizedConvId, x: BufferId, add: Option<BufferId>, y: BufferId, images: usize) {
        let Self { plan, weights, session } = self;
        let Session { pool, arena, workspace, dynamic, constants, .. } = &mut **session;
        let planned = &plan.layers.quantized[id.0];
        let ([y], [x, added]) = arena.write_all_and_read([y], [x, add.unwrap_or(x)], images);
        let (packed, mut requantize) = weights.quantized_conv(plan, id, add.map(|_| added));
        if let Some(input) = dynamic[planned.input.0] {
            let (start, scale) = constants;
            start.clear();
            start.extend(requantize.start.iter().map(|start| start * i32::from(input.zero)));
            scale.clear();
            scale.extend(requantize.scale.iter().map(|scale| scale * input.scale));
            requantize = Requantize { start, scale, ..requantize };
        }
        let y = match planned.output {
            Some(_) => Quantized::Bytes(y),
            None => Quantized::Floats(bytemuck::cast_slice_mut(y)),
        };
        let zero = current_quantization(weights, dynamic, planned.input).zero;
        planned.conv.forward(pool, images, (x, zero), packed, requantize, y, workspace);
    }

    fn conv_with_statistics(&mut self, id: ConvId, norm: NormId, x: BufferId, y: BufferId, images: usize) {
        let Self { plan, weights, session } = self;
        let Session { pool, arena, norms, conversion, current, workspace, statistics, .. } = &mut **session;
        let (norm, state) = (&plan.layers.norms[norm.0], &mut norms[norm.0]);
        let (packed, bias) = weights.conv(plan, id, pool, conversion, current);
        let conv = &plan.layers.convs[id.0].conv;
        let count = of!(conv.elements(), E => {
            let (y, [x]) = arena.write_and_read::<E, E, 1>(y, [x], images);
            let statistics = Statistics { mean: &mut state.mean, variance: &mut state.variance, workspace: statistics };
            conv.forward_with_statistics(pool, images, x, packed, bias, statistics, y, workspace);
            y.len() / norm.channels
        });
        state.use_statistics(norm, buckets(weights), count);
    }

    /// Computes the statistics of a batch norm's input in a separate pass.
    fn take_statistics<E: Element + Pod>(&mut self, norm: NormId, x: BufferId, images: usize) {
        let Self { plan, weights, session } = self;
        let Session { pool, arena, norms, workspace, .. } = &mut **session;
        let (norm, state) = (&plan.layers.norms[norm.0], &mut norms[norm.0]);
        let x: &[E] = arena.get(x, images);
        batch_norm::statistics(plan.isa, pool, x, &mut state.mean, &mut state.variance, workspace);
        state.use_statistics(norm, buckets(weights), x.len() / norm.channels);
    }

    fn batch_norm<E: Element + Pod>(
        &mut self,
        norm: NormId,
        x: BufferId,
        add: Option<BufferId>,
        relu: bool,
        y: BufferId,
        images: usize,
    ) {
        let Self { plan, weights, session } = self;
        let Session { pool, arena, norms, .. } = &mut **session;
        let state = &norms[norm.0];
        let [scale, shift] = weights.affine(plan, norm).unwrap_or([&state.scale, &state.shift]);
        let (y, [x, added]) = arena.write_and_read::<E, E, 2>(y, [x, add.unwrap_or(x)], images);
        batch_norm::affine(plan.isa, pool, x, scale, shift, add.map(|_| added), relu, y);
    }

    fn conv_weights<E: Element + Pod>(&mut self, conv: ConvId, x: BufferId, dy: BufferId, images: usize) {
        let Self { plan, weights, session } = self;
        let Session { pool, arena, workspace, .. } = &mut **session;
        let planned = &plan.layers.convs[conv.0];
        let weight = planned.weight.as_ref().expect("a plan with gradients has all weights in its bucket");
        let Parameters { gradients, .. } = buckets(weights);
        let (x, dy) = (arena.get::<E>(x, images), arena.get::<E>(dy, images));
        planned.conv.backward_weights(pool, images, x, dy, &mut gradients[weight.bucket.clone()], workspace);
        if let Some(bias) = &planned.bias {
            rows::column_sums(plan.isa, pool, dy, &mut gradients[bias.bucket.clone()], workspace);
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
        let Self { plan, weights, session } = self;
        let Session { pool, arena, .. } = &mut **session;
        let (id, scale) = match factors {
            Factors::Gate(gate) => (gate, None),
            Factors::LayerScale(scale) => (x, Some(weights.values(&plan.layers.scales[scale.0]))),
        };
        let (y, [x, added, gate]) = arena.write_and_read(y, [x, add.unwrap_or(x), id], images);
        let (factors, channels) = scale.map_or((gate, gate.len() / images), |scale| (scale, scale.len()));
        scale::forward(plan.isa, pool, x, factors, channels, add.map(|_| added), accumulate, relu, y);
    }

    fn layer_norm_backward(
        &mut self,
        norm: LayerNormId,
        x: BufferId,
        dy: BufferId,
        accumulate: bool,
        dx: BufferId,
        images: usize,
    ) {
        let Self { plan, weights, session } = self;
        let Session { pool, arena, workspace, .. } = &mut **session;
        let PlannedLayerNorm { eps, trained, weight, bias } = &plan.layers.layer_norms[norm.0];
        let (dx, [x, dy]) = arena.write_and_read(dx, [x, dy], images);
        let Parameters { values, gradients, .. } = buckets(weights);
        let gradients = trained.then(|| {
            gradients
                .get_disjoint_mut([weight.bucket.clone(), bias.bucket.clone()])
                .expect("parameters have places of their own")
        });
        let weight = &values[weight.bucket.clone()];
        layer_norm::backward(plan.isa, pool, x, weight, *eps, dy, accumulate, dx, gradients, workspace);
    }

    fn batch_norm_sums<E: Element + Pod>(
        &mut self,
        norm: NormId,
        x: BufferId,
        mask: Mask,
        dy: BufferId,
        images: usize,
    ) {
        let Self { plan, weights, session } = self;
        let Session { pool, arena, norms, workspace, .. } = &mut **session;
        let (norm, state) = (&plan.layers.norms[norm.0], &mut norms[norm.0]);
        let value = if let Mask::Value(y) = mask { y } else { x };
        let (dy, [x, value]) = arena.write_and_read::<E, E, 2>(dy, [x, value], images);
        let NormState { mean, scale, shift, sum, sum_x, .. } = state;
        let mask = match mask {
            Mask::None => batch_norm::Mask::None,
            Mask::Value(_) => batch_norm::Mask::Result(value),
            Mask::Again => batch_norm::Mask::Affine { scale, shift },
        };
        batch_norm::backward_sums(plan.isa, pool, dy, mask, x, mean, sum, sum_x, workspace);
        let fixed = plan.mode != Mode::Train || norm.keeps_statistics;
        state.set_gradients(norm, buckets(weights), x.len() / norm.channels, fixed);
    }
}

/// The buckets of a plan with gradients.
fn buckets(weights: &mut Weights) -> &mut Parameters {
    weights.buckets_mut().expect("a plan with gradients has its parameters in buckets")
}

fn from_bytes(slice: Slice) -> ChannelSlice {
    ChannelSlice { channels: QuantizedConv::pixel(slice.x_channels), ..from(slice) }
}

fn to_bytes(slice: Slice) -> ChannelSlice {
    ChannelSlice { channels: QuantizedConv::pixel(slice.y_channels), ..to(slice) }
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
