//! Unstructured pruning: single weights become zero, and the network keeps its shape.

use crate::CompressError;
use residual_graph::{Graph, Node};
use residual_model::Model;
use residual_tensor::Tensor;
use serde::Serialize;
use std::str::FromStr;

/// Which weights become zero. Biases, norms and the layer that computes the classes stay as they are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pattern {
    /// This share of every layer's weights, those of the least magnitude (torch's `l1_unstructured`): `0.3`.
    EachLayer(f64),
    /// This share of the weights of all layers together, those of the least magnitude: `global:0.3`.
    Global(f64),
    /// All but the `kept` largest of every `of` weights that belong to consecutive input channels; channels that are left over stay:
    /// `2:4`.
    Blocks {
        /// Weights that are kept.
        kept: usize,
        /// Of so many.
        of: usize,
    },
}

impl FromStr for Pattern {
    type Err = CompressError;

    fn from_str(text: &str) -> Result<Self, CompressError> {
        let share = |text: &str| text.parse().ok().filter(|share: &f64| *share > 0.0 && *share < 1.0);
        let blocks = |text: &str| {
            let (kept, of) = text.split_once(':')?;
            let (kept, of) = (kept.parse().ok()?, of.parse().ok()?);
            (0 < kept && kept < of && of <= 64).then_some(Self::Blocks { kept, of })
        };
        let found = match text.strip_prefix("global:") {
            Some(text) => share(text).map(Self::Global),
            None => share(text).map(Self::EachLayer).or_else(|| blocks(text)),
        };
        let expected = "a share as 0.3, global:0.3, or a pattern as 2:4";
        found.ok_or_else(|| CompressError::Setting { what: "unstructured", expected, got: text.to_owned() })
    }
}

impl std::fmt::Display for Pattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::EachLayer(share) => write!(f, "{share}"),
            Self::Global(share) => write!(f, "global:{share}"),
            Self::Blocks { kept, of } => write!(f, "{kept}:{of}"),
        }
    }
}

/// How many of the weights that may be pruned are zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Sparsity {
    /// Those that are zero.
    pub zeros: usize,
    /// All of them.
    pub weights: usize,
}

impl Sparsity {
    /// That of `model`.
    pub fn of(model: &Model) -> Self {
        let mut sparsity = Self { zeros: 0, weights: 0 };
        for key in weight_keys(&model.graph) {
            let values = model.tensors.get(&key).and_then(Tensor::as_f32).unwrap_or_default();
            sparsity.zeros += values.iter().filter(|value| **value == 0.0).count();
            sparsity.weights += values.len();
        }
        sparsity
    }

    /// The zeros in percent of the weights.
    pub fn percent(&self) -> f64 {
        100.0 * self.zeros as f64 / self.weights.max(1) as f64
    }
}

/// `model` with zeros in place of the weights that `pattern` removes.
///
/// # Errors
/// [`CompressError::Quantized`] if it is quantised.
pub fn prune_weights(model: &Model, pattern: Pattern) -> Result<Model, CompressError> {
    if model.graph.is_quantized() {
        return Err(CompressError::Quantized);
    }
    let keys = weight_keys(&model.graph);
    let mut tensors = model.tensors.clone();
    let mut weights: Vec<&mut Tensor> =
        tensors.iter_mut().filter(|(key, _)| keys.contains(key)).map(|(_, t)| t).collect();
    match pattern {
        Pattern::EachLayer(share) => weights.iter_mut().for_each(|weight| zero_smallest(&mut [weight], share)),
        Pattern::Global(share) => zero_smallest(&mut weights, share),
        Pattern::Blocks { kept, of } => weights.iter_mut().for_each(|weight| zero_blocks(weight, kept, of)),
    }
    Ok(model.with_tensors(tensors)?)
}

/// The keys of the weights that may be pruned: of all convolutions and linear layers but that of the classes.
fn weight_keys(graph: &Graph) -> Vec<String> {
    let head = graph.head();
    let is_pruned = |(index, node): &(usize, &Node)| node.op.is_layer() && head.is_none_or(|head| head.0 != *index);
    graph.nodes.iter().enumerate().filter(is_pruned).map(|(_, node)| node.key("weight")).collect()
}

fn floats(weight: &mut Tensor) -> &mut [f32] {
    weight.as_f32_mut().expect("a network of floats has weights of floats")
}

/// Zeroes the share of all values together that is smallest in magnitude; of equal ones the first.
fn zero_smallest(weights: &mut [&mut Tensor], share: f64) {
    let mut order: Vec<(f32, usize, usize)> = Vec::new();
    for (which, weight) in weights.iter_mut().enumerate() {
        order.extend(floats(weight).iter().enumerate().map(|(place, value)| (value.abs(), which, place)));
    }
    // As torch rounds a number of weights.
    let count = (share * order.len() as f64).round_ties_even() as usize;
    if count == 0 {
        return;
    }
    let by_magnitude =
        |a: &(f32, usize, usize), b: &(f32, usize, usize)| a.0.total_cmp(&b.0).then((a.1, a.2).cmp(&(b.1, b.2)));
    order.select_nth_unstable_by(count - 1, by_magnitude);
    for &(_, which, place) in &order[..count] {
        floats(weights[which])[place] = 0.0;
    }
}

/// Zeroes all but the `kept` largest of every `of` weights along the input channels of an O×I×… weight.
fn zero_blocks(weight: &mut Tensor, kept: usize, of: usize) {
    let inputs = weight.shape()[1];
    let area: usize = weight.shape()[2..].iter().product();
    for filter in floats(weight).chunks_exact_mut(inputs * area) {
        for first in (0..inputs / of * of).step_by(of) {
            for tap in 0..area {
                let place = |index: usize| (first + index) * area + tap;
                let mut order: Vec<usize> = (0..of).map(place).collect();
                order.sort_by(|&a, &b| filter[b].abs().total_cmp(&filter[a].abs()));
                order[kept..].iter().for_each(|&place| filter[place] = 0.0);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_weights_become_zero() {
        let mut weights = [
            Tensor::f32(&[2, 2], vec![0.1, -0.4, 0.3, -0.2]),
            Tensor::f32(&[2, 3], vec![5.0, -1.0, 0.25, 2.0, -3.0, 4.0]),
        ];
        let mut each = weights.clone();
        each.iter_mut().for_each(|weight| zero_smallest(&mut [weight], 0.5));
        assert_eq!(each[0].as_f32().unwrap(), [0.0, -0.4, 0.3, 0.0]);
        assert_eq!(each[1].as_f32().unwrap(), [5.0, 0.0, 0.0, 0.0, -3.0, 4.0]);
        zero_smallest(&mut weights.iter_mut().collect::<Vec<_>>(), 0.5);
        assert_eq!(weights[0].as_f32().unwrap(), [0.0, 0.0, 0.0, 0.0]);
        assert_eq!(weights[1].as_f32().unwrap(), [5.0, -1.0, 0.0, 2.0, -3.0, 4.0]);
        // Python's round(2.5) is 2.
        let mut five = Tensor::f32(&[5, 1], vec![1.0, 1.0, 2.0, 1.0, 3.0]);
        zero_smallest(&mut [&mut five], 0.5);
        assert_eq!(five.as_f32().unwrap(), [0.0, 0.0, 2.0, 1.0, 3.0]);
    }

    /// Five input channels of two taps: one block of four, and a channel that stays.
    #[test]
    fn of_every_four_weights_two_remain() {
        let mut weight = Tensor::f32(&[1, 5, 1, 2], vec![1.0, 8.0, -2.0, 7.0, 3.0, -6.0, 4.0, 5.0, 0.1, 0.2]);
        zero_blocks(&mut weight, 2, 4);
        assert_eq!(weight.as_f32().unwrap(), [0.0, 8.0, 0.0, 7.0, 3.0, 0.0, 4.0, 0.0, 0.1, 0.2]);
    }

    #[test]
    fn patterns_are_read_and_written() {
        for text in ["0.3", "global:0.5", "2:4"] {
            assert_eq!(text.parse::<Pattern>().unwrap().to_string(), text);
        }
        for text in ["", "1", "0", "30", "-0.3", "global:2:4", "4:2", "0:4", "4:4", "2:4:8", "nan", "1:65"] {
            let error = text.parse::<Pattern>().unwrap_err().to_string();
            assert!(
                error.starts_with("unstructured: expected a share") && error.ends_with(&format!("\"{text}\"")),
                "{error}"
            );
        }
    }
}
