//! Bias correction: the mean error that rounded weights cause is taken out of the bias.

use super::{Observed, QuantizeOptions, is_flattened, observe};
use crate::{CalibrationImages, CompressError};
use residual_graph::{Conv2d, NodeId, Op, Shape};
use residual_model::{Model, QuantizedWeight};
use std::collections::HashMap;
use std::sync::atomic::AtomicBool;

/// The sums of a value over pixels and images.
#[derive(Clone, Debug, Default)]
struct Sums {
    /// For each channel, or for each element of a flattened feature map in torch's order.
    sums: Vec<f64>,
    count: usize,
}

impl Sums {
    fn add(&mut self, Observed { values, shape }: Observed<'_>, is_flat: bool) {
        let Shape { height, width, channels } = shape;
        let pixels = height * width;
        self.sums.resize(if is_flat { shape.len() } else { channels }, 0.0);
        for (index, pixel) in values.chunks_exact(channels).enumerate() {
            for (channel, &value) in pixel.iter().enumerate() {
                let place = if is_flat { channel * pixels + index % pixels } else { channel };
                self.sums[place] += f64::from(value);
            }
        }
        self.count += values.len() / self.sums.len();
    }

    fn means(&self) -> Vec<f64> {
        self.sums.iter().map(|sum| sum / self.count.max(1) as f64).collect()
    }
}

/// The bias of each layer, less the mean of what its rounded weights add to its result. Values outside an image count as the mean of those
/// inside. `None` if `stop` was set.
pub(super) fn corrected_biases(
    model: &Model,
    layers: &[NodeId],
    weights: &HashMap<String, QuantizedWeight>,
    images: &CalibrationImages,
    options: &QuantizeOptions,
    stop: &AtomicBool,
    on_progress: &mut dyn FnMut(&'static str, usize, usize),
) -> Result<Option<HashMap<String, Vec<f32>>>, CompressError> {
    let graph = &model.graph;
    let mut inputs: Vec<NodeId> = layers.iter().map(|id| graph.node(*id).inputs[0]).collect();
    inputs.sort_unstable();
    inputs.dedup();
    // Each with whether it is a flattened feature map.
    let sums = inputs.iter().map(|input| (Sums::default(), is_flattened(graph, *input))).collect();
    let add = &|(sums, is_flat): &mut (Sums, bool), observed: Observed<'_>| sums.add(observed, *is_flat);
    let progress = &mut |done, all| on_progress("means", done, all);
    let Some(sums) = observe(model, &inputs, images, &options.engine, stop, progress, sums, add)? else {
        return Ok(None);
    };
    let means: Vec<Vec<f64>> = sums.iter().map(|(sums, _)| sums.means()).collect();
    let corrected = |id: &NodeId| {
        let node = graph.node(*id);
        let values = |name: &str| model.tensors[node.key(name).as_str()].as_f32().expect("a model of floats");
        let place = inputs.binary_search(&node.inputs[0]).expect("its input was observed");
        let (weight, bias, rounded) = (values("weight"), values("bias"), &weights[&node.name]);
        let groups = if let Op::Conv2d(Conv2d { groups, .. }) = node.op { groups } else { 1 };
        (node.name.clone(), correct(weight, bias, rounded, groups, &means[place]))
    };
    Ok(Some(layers.iter().map(corrected).collect()))
}

/// `bias` − (rounded − weight) · mean of the input.
fn correct(weight: &[f32], bias: &[f32], rounded: &QuantizedWeight, groups: usize, means: &[f64]) -> Vec<f32> {
    let outputs = bias.len();
    let (filter, inputs) = (weight.len() / outputs, means.len() / groups);
    let taps = filter / inputs;
    let error = |output: usize| -> f64 {
        let means = &means[output / (outputs / groups) * inputs..][..inputs];
        let range = output * filter..(output + 1) * filter;
        let scale = f64::from(rounded.scale[output]);
        let pairs = weight[range.clone()].iter().zip(&rounded.values[range]);
        let errors = pairs.map(|(&exact, &byte)| f64::from(byte) * scale - f64::from(exact));
        errors.enumerate().map(|(index, error)| error * means[index / taps]).sum()
    };
    bias.iter().enumerate().map(|(output, bias)| (f64::from(*bias) - error(output)) as f32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two groups of one input and two outputs each, kernels of two taps.
    #[test]
    fn the_mean_of_the_result_is_that_of_exact_weights() {
        let weight = [0.11, -0.2, 0.35, 0.4, 0.5, 0.62, -0.7, 0.8];
        let rounded = QuantizedWeight { values: vec![1, -2, 3, 4, 5, 6, -7, 8], scale: vec![0.1; 4] };
        let (bias, means) = ([1.0, 2.0, 3.0, 4.0], [2.0, 10.0]);
        let corrected = correct(&weight, &bias, &rounded, 2, &means);
        for output in 0..4 {
            let mean = means[output / 2];
            let result = |values: [f64; 2], bias: f32| (values[0] + values[1]) * mean + f64::from(bias);
            let exact = result([0, 1].map(|tap| f64::from(weight[2 * output + tap])), bias[output]);
            let bytes = [0, 1].map(|tap| f64::from(rounded.values[2 * output + tap]) * f64::from(0.1f32));
            assert!((result(bytes, corrected[output]) - exact).abs() < 1e-5);
        }
    }

    #[test]
    fn means_of_a_flattened_map_are_in_torchs_order() {
        let shape = Shape { height: 1, width: 2, channels: 3 };
        let values = [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 10.0, 11.0, 12.0, 13.0, 14.0, 15.0];
        let mut flat = Sums::default();
        flat.add(Observed { values: &values, shape }, true);
        assert_eq!(flat.means(), [5.0, 8.0, 6.0, 9.0, 7.0, 10.0]);
        let mut map = Sums::default();
        map.add(Observed { values: &values, shape }, false);
        assert_eq!(map.means(), [6.5, 7.5, 8.5]);
    }
}
