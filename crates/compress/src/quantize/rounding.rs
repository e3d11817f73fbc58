//! AdaRound: which of the two nearest integers a weight becomes is learned, layer by layer, so that the layer's result is kept (Nagel et
//! al., "Up or down? Adaptive rounding for post-training quantization", 2020, arXiv:2004.10568).
//!
//! A weight w of scale s becomes s · (⌊w / s⌋ + h), with h from 0 to 1 the rectified sigmoid of a variable of its own. Adam minimises
//! the squared error of the layer's result, behind the ReLU if one follows, and a regulariser 1 − |2h − 1|^β that pushes h to 0 or 1 as β
//! falls. The layer reads what it reads in the network quantised so far; its result shall be that of the network of floats.
//!
//! As the paper does it, but for two things: a step sees single pixels of many images instead of whole images, which is as good an
//! estimate of the gradient and much cheaper here; and the squared error is in units of that of nearest rounding, so that the weight of the
//! regulariser needs no tuning for layers of different sizes.

use super::is_flattened;
use super::observe::{Observed, observe};
use crate::{CalibrationImages, CompressError};
use residual_engine::{Engine, Mode, Options};
use residual_graph::{Builder, Conv2d, Graph, NodeId, Op, Shape, Window};
use residual_model::{Model, QuantizedWeight, WeightBits};
use residual_preprocess::Preprocessing;
use residual_tensor::{NamedTensors, Stream, Tensor};
use std::sync::atomic::{AtomicBool, Ordering};

/// Salt of the random choices.
const DOMAIN: u64 = u64::from_be_bytes(*b"adaround");

/// Pixels of a layer's result that it is learned on, about.
const PIXELS: usize = 8192;
/// Bytes of what the layer reads for them, at most.
const MOST_BYTES: usize = 1 << 28;
/// Pixels of a step.
const BATCH: usize = 256;
/// The share of the steps before the regulariser begins.
const WARM_UP: f32 = 0.2;
/// β when the regulariser begins, and at the end.
const BETA: [f32; 2] = [20.0, 2.0];
/// The weight of the regulariser's mean beside the squared error in units of nearest rounding's.
const REGULARISER: f32 = 8.0;
/// The learning rate of Adam.
const RATE: f32 = 0.01;
/// The range of the sigmoid before it is cut off at 0 and 1.
const STRETCH: [f32; 2] = [-0.1, 1.1];
/// Added to the root of Adam's mean square.
const EPSILON: f32 = 1e-8;

/// A layer and what its result shall be.
pub(super) struct Layer<'a> {
    /// The model of floats, and the layer in it.
    pub(super) exact: &'a Model,
    pub(super) id: NodeId,
    /// The model in which this layer and all before are quantised, those with learned rounding.
    pub(super) quantized: &'a Model,
    /// Its nearest rounding.
    pub(super) nearest: &'a QuantizedWeight,
    pub(super) bits: WeightBits,
}

/// The learned rounding of a layer, or the nearest one if that is no worse. `None` if `stop` was set.
pub(super) fn learned(
    layer: &Layer<'_>,
    images: &CalibrationImages,
    (steps, seed): (u32, u64),
    options: &Options,
    stop: &AtomicBool,
) -> Result<Option<QuantizedWeight>, CompressError> {
    let Layer { exact, id, quantized, nearest, bits } = *layer;
    let node = exact.graph.node(id);
    let Some(samples) = samples(layer, images, seed, options, stop)? else { return Ok(None) };
    let values = |name: &str| &exact.tensors[node.key(name).as_str()];
    let has_relu = match exact.graph.consumers()[id.0][..] {
        [reader] => exact.graph.node(reader).op == Op::Relu && id != exact.graph.output,
        _ => false,
    };
    let groups = if let Op::Conv2d(Conv2d { groups, .. }) = node.op { groups } else { 1 };
    let bias = quantized.tensors[node.key("bias").as_str()].clone();
    let mut learner = Learner::new([values("weight"), &bias], groups, nearest, bits, has_relu, samples, options)?;
    let before = learner.error_of(nearest)?;
    if before == 0.0 {
        return Ok(Some(nearest.clone()));
    }
    learner.unit = before;
    let mut stream = Stream::new(seed, &[DOMAIN, id.0 as u64, 1]);
    for step in 0..steps {
        if stop.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let batch: Vec<usize> = (0..BATCH).map(|_| stream.below(learner.samples.count as u32) as usize).collect();
        learner.gradient(&batch, beta(step, steps))?;
        learner.update(step);
    }
    let rounded = learner.rounded();
    Ok(Some(if learner.error_of(&rounded)? < before { rounded } else { nearest.clone() }))
}

/// β of one of some steps; none before the regulariser begins.
fn beta(step: u32, steps: u32) -> Option<f32> {
    let done = (step as f32 / steps as f32 - WARM_UP) / (1.0 - WARM_UP);
    let [first, last] = BETA;
    (done >= 0.0).then_some(last + (first - last) * (1.0 - done))
}

/// What a layer reads and what its result shall be, for some pixels of its result.
struct Samples {
    count: usize,
    /// For each pixel, the taps of every channel that it is computed from, in the order of torch's weights.
    inputs: Vec<f32>,
    /// For each pixel, its channels.
    results: Vec<f32>,
}

/// Adds what is sampled of some images to the number of images so far and the values taken.
type Take<'a> = dyn Fn(&mut (usize, Vec<f32>), Observed<'_>) + Sync + 'a;

/// Samples of a layer, drawn by `seed`. `None` if `stop` was set.
fn samples(
    layer: &Layer<'_>,
    images: &CalibrationImages,
    seed: u64,
    options: &Options,
    stop: &AtomicBool,
) -> Result<Option<Samples>, CompressError> {
    let Layer { exact, id, quantized, .. } = *layer;
    let node = exact.graph.node(id);
    let [height, width] = exact.preprocessing.size;
    let shapes = exact.graph.shapes(height, width)?;
    let (input, result) = (shapes[node.inputs[0].0], shapes[id.0]);
    let is_flat = is_flattened(&exact.graph, node.inputs[0]);
    // A flattened feature map is one window.
    let whole = if is_flat { shapes[exact.graph.origin(node.inputs[0]).0] } else { input };
    let window = match node.op.window() {
        Some(window) => window,
        None => Window {
            kernel: if is_flat { [whole.height, whole.width] } else { [1; 2] },
            stride: [1; 2],
            padding: [0; 2],
            dilation: [1; 2],
            groups: 1,
        },
    };
    let taps = whole.channels * window.kernel[0] * window.kernel[1];
    let most = MOST_BYTES / size_of::<f32>() / taps / images.len();
    let pixels = result.height * result.width;
    let each = PIXELS.div_ceil(images.len()).min(pixels).min(most.max(1));
    let choose = |image: usize| {
        let mut stream = Stream::new(seed, &[DOMAIN, id.0 as u64, 0, image as u64]);
        (0..each).map(move |_| stream.below(pixels as u32) as usize)
    };
    let take_results = &|(image, taken): &mut (usize, Vec<f32>), Observed { values, shape }: Observed<'_>| {
        for values in values.chunks_exact(shape.len()) {
            choose(*image).for_each(|pixel| taken.extend(&values[pixel * shape.channels..][..shape.channels]));
            *image += 1;
        }
    };
    let take_inputs = &|(image, taken): &mut (usize, Vec<f32>), Observed { values, shape }: Observed<'_>| {
        for values in values.chunks_exact(shape.len()) {
            for pixel in choose(*image) {
                patch(values, shape, &window, [pixel / result.width, pixel % result.width], taken);
            }
            *image += 1;
        }
    };
    let observed = |model: &Model, node: NodeId, take: &Take<'_>| {
        let model = until(model, node)?;
        let observed = observe(&model, &[node], images, options, stop, &mut |_, _| (), vec![(0, Vec::new())], take)?;
        Ok::<_, CompressError>(observed.and_then(|mut states| states.pop()).map(|(_, taken)| taken))
    };
    let Some(results) = observed(exact, id, take_results)? else { return Ok(None) };
    let read = quantized.graph.find(&node.name).map(|id| quantized.graph.node(id).inputs[0]);
    let Some(inputs) = observed(quantized, read.expect("a node of the same name"), take_inputs)? else {
        return Ok(None);
    };
    Ok(Some(Samples { count: each * images.len(), inputs, results }))
}

/// The nodes of `model` up to `node`, which becomes the output.
fn until(model: &Model, node: NodeId) -> Result<Model, CompressError> {
    let nodes = model.graph.nodes[..=node.0].to_vec();
    let graph = Graph { name: model.graph.name.clone(), nodes, output: node };
    let tensors = graph.parameters().map(|(key, _)| (key.clone(), model.tensors[key.as_str()].clone())).collect();
    Ok(Model::new(graph, tensors, model.preprocessing.clone(), Vec::new())?)
}

/// Appends what pixel `y`, `x` of a convolution's result is computed from, channel by channel, to `taken`. Padding is zero.
fn patch(values: &[f32], shape: Shape, window: &Window, [y, x]: [usize; 2], taken: &mut Vec<f32>) {
    let Window { kernel, stride, padding, dilation, .. } = *window;
    let place = |axis: usize, at: usize, tap: usize, extent: usize| {
        (at * stride[axis] + tap * dilation[axis]).checked_sub(padding[axis]).filter(|&place| place < extent)
    };
    for channel in 0..shape.channels {
        for row in 0..kernel[0] {
            for column in 0..kernel[1] {
                let pixel = place(0, y, row, shape.height).zip(place(1, x, column, shape.width));
                let value = |(y, x)| values[(y * shape.width + x) * shape.channels + channel];
                taken.push(pixel.map_or(0.0, value));
            }
        }
    }
}

/// A layer in training: an engine computes its result from samples, as a convolution of single pixels. All vectors of as many elements
/// as the engine has parameters are in its order; what is no weight has the scale zero.
struct Learner {
    engine: Engine,
    samples: Samples,
    has_relu: bool,
    nearest: QuantizedWeight,
    range: [f32; 2],
    /// The shape of the weight.
    shape: [usize; 4],
    /// The scale of each weight, and the lower integer.
    scales: Vec<f32>,
    floors: Vec<f32>,
    /// The parameters beside the weights: the bias.
    others: Vec<f32>,
    /// What the rectified sigmoid is of.
    free: Vec<f32>,
    /// The gradient of the loss by these, and Adam's means of it and of its square.
    gradient: Vec<f32>,
    means: [Vec<f32>; 2],
    /// The squared error that counts as 1.
    unit: f64,
}

/// The key of the only layer's weight.
const WEIGHT: &str = "layer.weight";

impl Learner {
    /// A learner of the rounding of a weight, with a bias.
    fn new(
        [weight, bias]: [&Tensor; 2],
        groups: usize,
        nearest: &QuantizedWeight,
        bits: WeightBits,
        has_relu: bool,
        samples: Samples,
        options: &Options,
    ) -> Result<Self, CompressError> {
        let outputs = bias.len();
        let taps = weight.len() / outputs;
        let inputs = taps * groups;
        let conv = Conv2d { groups, bias: true, ..Conv2d::new(inputs, outputs, 1) };
        let mut net = Builder::new("layer", [inputs, 1, 1]);
        let result = net.conv("layer", net.input(), conv)?;
        let graph = net.finish(result)?;
        let shape = [outputs, taps, 1, 1];
        let exact = weight.as_f32().expect("a weight of floats");
        let tensors = |value: &dyn Fn(f32, f32) -> f32, bias: Tensor| {
            let values = exact.iter().enumerate().map(|(index, &exact)| value(exact, nearest.scale[index / taps]));
            let weight = Tensor::f32(&shape, values.collect());
            NamedTensors::from([(WEIGHT.to_owned(), weight), ("layer.bias".to_owned(), bias)])
        };
        let preprocessing = Preprocessing::unscaled([1, 1], &vec![0.0; inputs], &vec![1.0; inputs]);
        let model = Model::new(graph, tensors(&|exact, _| exact, bias.clone()), preprocessing, Vec::new())?;
        let engine = Engine::new(&model, Mode::Train, BATCH, [1, 1], &[], options)?;
        let none = Tensor::full(&[outputs], 0.0);
        let flat = |tensors: NamedTensors| engine.from_torch(&tensors).map(|flat| flat.to_vec());
        let scales = flat(tensors(&|_, scale| scale, none.clone()))?;
        let floors = flat(tensors(&|exact, scale| (exact / scale).floor(), none.clone()))?;
        let mut free = flat(tensors(&|exact, scale| exact / scale - (exact / scale).floor(), none))?;
        free.iter_mut().for_each(|share| *share = unrectified(*share));
        let others = flat(tensors(&|_, _| 0.0, bias.clone()))?;
        let len = scales.len();
        let [gradient, mean, square] = [(); 3].map(|()| vec![0.0; len]);
        let (nearest, range) = (nearest.clone(), bits.range());
        let means = [mean, square];
        Ok(Self {
            engine,
            samples,
            has_relu,
            nearest,
            range,
            shape,
            scales,
            floors,
            others,
            free,
            gradient,
            means,
            unit: 1.0,
        })
    }

    /// The mean over all samples of the squared error of the layer's result with these weights.
    fn error_of(&mut self, weight: &QuantizedWeight) -> Result<f64, CompressError> {
        let bias = Tensor::full(&[weight.scale.len()], 0.0);
        let values = weight.values.iter().map(|&value| f32::from(value)).collect();
        let tensors = NamedTensors::from([
            (WEIGHT.to_owned(), Tensor::f32(&self.shape, values)),
            ("layer.bias".to_owned(), bias),
        ]);
        let integers = self.engine.from_torch(&tensors)?;
        self.set(|index| integers[index]);
        let all: Vec<usize> = (0..self.samples.count).collect();
        let mut error = 0.0;
        for batch in all.chunks(BATCH) {
            error += self.forward(batch)?.1;
        }
        Ok(error / all.len() as f64)
    }

    /// Sets the weights to these integers, by their place.
    fn set(&mut self, integer: impl Fn(usize) -> f32) {
        let values = self.engine.flat_mut().values.iter_mut().zip(&self.scales).zip(&self.others);
        for (index, ((value, scale), other)) in values.enumerate() {
            *value = scale * integer(index) + other;
        }
    }

    /// Runs the layer on some samples. Returns the gradient of the sum of squared errors by its results, and that sum.
    fn forward(&mut self, batch: &[usize]) -> Result<(Vec<f32>, f64), CompressError> {
        let Samples { count, inputs, results } = &self.samples;
        let [taps, outputs] = [inputs.len() / count, results.len() / count];
        let row = |values: &[f32], len: usize| -> Vec<f32> {
            batch.iter().flat_map(|&sample| &values[sample * len..][..len]).copied().collect()
        };
        self.engine.forward(&row(inputs, taps))?;
        let mut gradient = row(results, outputs);
        let mut sum = 0.0;
        for (wanted, &got) in gradient.iter_mut().zip(self.engine.output()) {
            let least = if self.has_relu { 0.0 } else { f32::NEG_INFINITY };
            let error = got.max(least) - wanted.max(least);
            sum += f64::from(error).powi(2);
            *wanted = if got > least { 2.0 * error } else { 0.0 };
        }
        Ok((gradient, sum))
    }

    /// The loss of a step, and its gradient by the variables.
    fn gradient(&mut self, batch: &[usize], beta: Option<f32>) -> Result<f64, CompressError> {
        let [least, most] = self.range;
        let (free, floors) = (std::mem::take(&mut self.free), std::mem::take(&mut self.floors));
        self.set(|index| (floors[index] + rectified(free[index])).clamp(least, most));
        let (mut seed, error) = self.forward(batch)?;
        let unit = self.unit * batch.len() as f64;
        seed.iter_mut().for_each(|value| *value = (f64::from(*value) / unit) as f32);
        self.engine.backward_output(&seed)?;
        let mut loss = error / unit;
        let share = REGULARISER / self.nearest.values.len() as f32;
        let gradients = self.engine.flat_mut().gradients.iter().zip(&mut self.gradient);
        for (index, (by_weight, gradient)) in gradients.enumerate() {
            let (h, scale) = (rectified(free[index]), self.scales[index]);
            let is_inside = (least..=most).contains(&(floors[index] + h));
            let mut by_h = if is_inside { by_weight * scale } else { 0.0 };
            if let (Some(beta), true) = (beta, scale > 0.0) {
                let distance = 2.0 * h - 1.0;
                loss += f64::from(share * (1.0 - distance.abs().powf(beta)));
                by_h -= share * 2.0 * beta * distance.abs().powf(beta - 1.0) * distance.signum();
            }
            *gradient = by_h * slope(free[index]);
        }
        (self.free, self.floors) = (free, floors);
        Ok(loss)
    }

    /// Adam's step.
    fn update(&mut self, step: u32) {
        let [decay, decay_square] = [0.9f32, 0.999];
        let correction = |decay: f32| 1.0 - decay.powi(step as i32 + 1);
        let (rate, square) = (RATE / correction(decay), correction(decay_square));
        let [means, squares] = &mut self.means;
        let means = means.iter_mut().zip(squares);
        for ((free, gradient), (mean, mean_square)) in self.free.iter_mut().zip(&self.gradient).zip(means) {
            *mean = decay * *mean + (1.0 - decay) * gradient;
            *mean_square = decay_square * *mean_square + (1.0 - decay_square) * gradient * gradient;
            *free -= rate * *mean / ((*mean_square / square).sqrt() + EPSILON);
        }
    }

    /// The integers that the variables are nearest to.
    fn rounded(&self) -> QuantizedWeight {
        let [least, most] = self.range;
        let integer =
            |(floor, &free): (&f32, &f32)| (floor + if rectified(free) >= 0.5 { 1.0 } else { 0.0 }).clamp(least, most);
        let flat: Vec<f32> = self.floors.iter().zip(&self.free).map(integer).collect();
        let tensors = self.engine.to_torch(&flat);
        let values = tensors[WEIGHT].as_f32().expect("a weight of floats").iter().map(|&value| value as i8);
        QuantizedWeight { values: values.collect(), scale: self.nearest.scale.clone() }
    }
}

/// The sigmoid, stretched and cut off at 0 and 1.
fn rectified(x: f32) -> f32 {
    let [least, most] = STRETCH;
    (sigmoid(x) * (most - least) + least).clamp(0.0, 1.0)
}

/// Its derivative.
fn slope(x: f32) -> f32 {
    let [least, most] = STRETCH;
    let (sigmoid, h) = (sigmoid(x), rectified(x));
    if h > 0.0 && h < 1.0 { sigmoid * (1.0 - sigmoid) * (most - least) } else { 0.0 }
}

/// Its inverse, for 0 to 1.
fn unrectified(h: f32) -> f32 {
    let [least, most] = STRETCH;
    -((most - least) / (h - least) - 1.0).ln()
}

fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A layer of two groups with eight taps and two outputs each, and correlated noise that it reads.
    fn learner(has_relu: bool) -> Learner {
        let mut stream = Stream::new(1, &[]);
        let mut noise = |len: usize| -> Vec<f32> { (0..len).map(|_| stream.normal()).collect() };
        let (weight, bias) = (Tensor::f32(&[4, 8, 1, 1], noise(32)), Tensor::f32(&[4], noise(4)));
        let mut samples = Samples { count: 40, inputs: noise(40 * 16), results: noise(40 * 4) };
        for taps in samples.inputs.chunks_exact_mut(16) {
            let common = taps[0];
            taps.iter_mut().for_each(|tap| *tap = common + 0.3 * *tap);
        }
        let nearest = QuantizedWeight::nearest(&weight, WeightBits::Four);
        let options = Options::threads(1);
        Learner::new([&weight, &bias], 2, &nearest, WeightBits::Four, has_relu, samples, &options).unwrap()
    }

    #[test]
    fn the_gradient_is_a_finite_difference_of_the_loss() {
        for (has_relu, beta) in [(false, None), (true, None), (false, Some(3.0)), (true, Some(2.0))] {
            let mut learner = learner(has_relu);
            let batch: Vec<usize> = (0..40).collect();
            learner.gradient(&batch, beta).unwrap();
            let gradient = learner.gradient.clone();
            let weights: Vec<usize> = (0..learner.scales.len()).filter(|index| learner.scales[*index] > 0.0).collect();
            assert_eq!(weights.len(), 32);
            for index in weights {
                let at = learner.free[index];
                // Away from where h is cut off.
                if slope(at - 0.02) == 0.0 || slope(at + 0.02) == 0.0 {
                    continue;
                }
                let [less, more] = [-0.01, 0.01].map(|step| {
                    learner.free[index] = at + step;
                    learner.gradient(&batch, beta).unwrap()
                });
                learner.free[index] = at;
                let difference = (more - less) / 0.02;
                let error = (difference - f64::from(gradient[index])).abs();
                assert!(error < 2e-3 + 0.02 * difference.abs(), "{index}: {difference} against {}", gradient[index]);
            }
        }
    }

    /// With the layer's own results as wanted ones.
    #[test]
    fn the_layers_error_falls_below_that_of_nearest_rounding() {
        let mut learner = learner(false);
        let integers: Vec<f32> = learner.floors.iter().zip(&learner.free).map(|(f, v)| f + rectified(*v)).collect();
        learner.set(|index| integers[index]);
        let all: Vec<usize> = (0..40).collect();
        learner.forward(&all).unwrap();
        learner.samples.results = learner.engine.output().to_vec();
        let nearest = learner.nearest.clone();
        let before = learner.error_of(&nearest).unwrap();
        learner.unit = before;
        for step in 0..1000 {
            learner.gradient(&all, beta(step, 1000)).unwrap();
            learner.update(step);
        }
        let rounded = learner.rounded();
        let after = learner.error_of(&rounded).unwrap();
        assert!(after < before, "{after} against {before}");
        // Nearly every variable has settled.
        let h = |index: usize| rectified(learner.free[index]);
        let weights = (0..learner.free.len()).filter(|index| learner.scales[*index] > 0.0);
        let undecided: Vec<f32> = weights.map(h).filter(|h| (h - 0.5).abs() < 0.49).collect();
        assert!(undecided.len() < 4, "{undecided:?} of 32");
    }

    #[test]
    fn a_patch_is_in_the_order_of_torchs_weights() {
        // Two rows of three pixels of two channels: channel 0 counts from 0, channel 1 from 10.
        let values: Vec<f32> = (0..6).flat_map(|pixel| [pixel as f32, 10.0 + pixel as f32]).collect();
        let shape = Shape { height: 2, width: 3, channels: 2 };
        let window = Window { kernel: [2, 2], stride: [1, 2], padding: [1, 0], dilation: [1, 1], groups: 1 };
        let mut taken = Vec::new();
        patch(&values, shape, &window, [0, 0], &mut taken);
        assert_eq!(taken, [0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 10.0, 11.0]);
        taken.clear();
        patch(&values, shape, &window, [1, 0], &mut taken);
        assert_eq!(taken, [0.0, 1.0, 3.0, 4.0, 10.0, 11.0, 13.0, 14.0]);
    }
}
