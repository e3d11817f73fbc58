//! The weight-randomisation check of Adebayo et al., "Sanity checks for saliency maps" (2018): a map that explains the network
//! must change when its weights are shuffled.

use crate::ExplainError;
use residual_graph::is_inside;
use residual_model::Model;
use residual_tensor::{NamedTensors, Stream, Tensor};
use serde::Serialize;

/// How much of a map survives when the weights of a part of the network, and of all parts after it, are shuffled.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Randomised {
    /// The part's module path.
    pub part: String,
    /// Spearman's rank correlation of the map with the original; `None` if one of them is constant, or the shuffled network's
    /// logits are not finite.
    pub correlation: Option<f64>,
}

/// Calls `each` with the model's tensors, of which more and more are shuffled: those of the last part of the network, then also
/// those of the part before it, until the first. Each parameter tensor keeps its values, in an order that `seed` draws; running
/// statistics stay.
///
/// # Errors
/// If the graph's shapes do not fit together, or `each` fails.
pub fn shuffle_weights<E: From<ExplainError>>(
    model: &Model,
    seed: u64,
    mut each: impl FnMut(&str, &NamedTensors) -> Result<(), E>,
) -> Result<(), E> {
    let graph = &model.graph;
    let specs = graph.parameters().filter(|(_, spec)| spec.role.is_parameter());
    let keys: Vec<String> = specs.map(|(key, _)| key).collect();
    let mut tensors = model.tensors.clone();
    let parts = graph.parts().map_err(ExplainError::from)?;
    for (index, part) in parts.iter().enumerate().rev() {
        for (number, key) in keys.iter().enumerate().filter(|(_, key)| is_inside(key, &part.path)) {
            let mut stream = Stream::new(seed, &[index as u64, number as u64]);
            let values = tensors.get_mut(key.as_str()).and_then(Tensor::as_f32_mut);
            stream.shuffle(values.expect("a model has all parameters"));
        }
        each(&part.path, &tensors)?;
    }
    Ok(())
}

/// Spearman's rank correlation, with mean ranks of ties; `None` if one side is constant.
///
/// # Panics
/// If the sides differ in length.
pub fn spearman(a: &[f32], b: &[f32]) -> Option<f64> {
    assert_eq!(a.len(), b.len(), "pairs of values");
    let (a, b) = (ranks(a), ranks(b));
    let mean = (a.len() as f64 - 1.0) / 2.0;
    let covariance = |x: &[f64], y: &[f64]| x.iter().zip(y).map(|(x, y)| (x - mean) * (y - mean)).sum::<f64>();
    let scale = (covariance(&a, &a) * covariance(&b, &b)).sqrt();
    (scale > 0.0).then(|| covariance(&a, &b) / scale)
}

/// The ranks of values, from 0; equal values share the mean of theirs.
fn ranks(values: &[f32]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[a].total_cmp(&values[b]));
    let mut ranks = vec![0.0; values.len()];
    let mut start = 0;
    while start < order.len() {
        let equal = order[start..].iter().take_while(|&&index| values[index] == values[order[start]]).count().max(1);
        let rank = start as f64 + (equal as f64 - 1.0) / 2.0;
        order[start..start + equal].iter().for_each(|&index| ranks[index] = rank);
        start += equal;
    }
    ranks
}

#[cfg(test)]
mod tests {
    use super::*;
    use residual_model::{Initialisation, initialise};
    use residual_preprocess::Preprocessing;

    /// `scipy.stats.spearmanr([1, 2, 2, 4, 7], [3, 1, 5, 5, 9])`.
    #[test]
    fn rank_correlation_is_scipys() {
        let got = spearman(&[1.0, 2.0, 2.0, 4.0, 7.0], &[3.0, 1.0, 5.0, 5.0, 9.0]).unwrap();
        assert!((got - 0.7631578947368421).abs() < 1e-12, "{got}");
        assert_eq!(spearman(&[1.0, 2.0, 3.0], &[9.0, 3.0, 1.0]), Some(-1.0));
        assert_eq!(spearman(&[1.0, 2.0], &[5.0, 5.0]), None);
    }

    #[test]
    fn the_cascade_shuffles_from_the_head_to_the_stem_and_keeps_values() {
        let graph = residual_zoo::build("resnet20", 5).unwrap();
        let tensors = initialise(&graph, Initialisation::Torch, 1);
        let preprocessing = Preprocessing::unscaled([32, 32], &[0.0; 3], &[1.0; 3]);
        let model = Model::new(graph, tensors, preprocessing, Vec::new()).unwrap();
        let mut cascade: Vec<(String, NamedTensors)> = Vec::new();
        let keep = |part: &str, tensors: &NamedTensors| {
            cascade.push((part.to_owned(), tensors.clone()));
            Ok::<(), ExplainError>(())
        };
        shuffle_weights(&model, 7, keep).unwrap();
        assert_eq!(cascade[0].0, "fc");
        assert_eq!(cascade.last().unwrap().0, "conv1");
        let changed = |tensors: &NamedTensors, key: &str| tensors[key] != model.tensors[key];
        assert!(changed(&cascade[0].1, "fc.weight") && !changed(&cascade[0].1, "layer3.0.conv1.weight"));
        let all = &cascade.last().unwrap().1;
        assert!(changed(all, "conv1.weight") && !changed(all, "bn1.running_var"));
        let sorted = |tensors: &NamedTensors| {
            let mut values = tensors["conv1.weight"].as_f32().unwrap().to_vec();
            values.sort_by(f32::total_cmp);
            values
        };
        assert_eq!(sorted(all), sorted(&model.tensors));
    }
}
