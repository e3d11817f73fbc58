//! Tensors of a foreign state dict under the names of a graph.

use crate::Cause;
use crate::renames::torchvision_names;
use crate::view::TensorView;
use indexmap::IndexMap;
use residual_files::Bytes;
use residual_graph::{Graph, Role};
use residual_model::{ModelError, TensorProblem};
use residual_tensor::{Elements, NamedTensors, Tensor};
use std::collections::HashSet;

/// Dictionaries that training scripts (torchvision's, timm's, akamaster's, Lightning's) keep the weights in, beside
/// others. Where there are several the first counts: averaged weights are the ones that were evaluated.
const WRAPPERS: [&str; 6] = ["model_ema", "state_dict_ema", "state_dict", "model_state_dict", "model", "net"];

/// What `DataParallel`, `AveragedModel` and `torch.compile` put before every name.
const PREFIXES: [&str; 2] = ["module.", "_orig_mod."];

/// Names that other code gives to a module of ours, as one component of the path.
const ALIASES: [(&str, &str); 3] = [("linear", "fc"), ("shortcut", "downsample"), ("i_downsample", "downsample")];

/// Kept beside the averaged weights by torch's `AveragedModel`.
const COUNT_OF_AVERAGED: &str = "n_averaged";

/// Wrappers within wrappers that are followed.
const MAX_WRAPPERS: usize = 8;

/// The tensors that `graph` names, found among `entries` under its names or other code's, and converted. Missing
/// `num_batches_tracked` (as from torch before 0.4.1) become 0.
///
/// A tensor is converted only if its shape is the graph's but for how others write it down, so that no more is allocated than the graph needs. Where it
/// is most of `file` that the graph needs, the tensors share the file's bytes instead of copying theirs; a file that
/// holds much else, such as the state of an optimiser, would stay in memory for a small part of it.
pub(crate) fn tensors_of_graph(
    entries: Vec<(String, TensorView<'_>)>,
    graph: &Graph,
    file: Option<&Bytes>,
) -> Result<NamedTensors, Cause> {
    let mut entries = resolve(entries, graph);
    let needed: usize = graph.parameters().filter_map(|(key, _)| entries.get(&key)).map(TensorView::stored).sum();
    let file = file.filter(|file| needed > file.len() / 2);
    let mut tensors = NamedTensors::new();
    let mut problems = Vec::new();
    for (key, spec) in graph.parameters() {
        let expected = spec.shape;
        let is_counter = spec.role == Role::Counter;
        match entries.swap_remove(&key) {
            None if is_counter => {
                let zeros = vec![0; expected.iter().product()];
                tensors.insert(key, Tensor::i64(&expected, zeros));
            }
            None => problems.push(TensorProblem::Missing { key, expected }),
            Some(view) if view.is_float() != Some(!is_counter) => {
                let expected = if is_counter { "i64" } else { "f32" };
                problems.push(TensorProblem::Type { key, expected, got: view.type_name().into() });
            }
            Some(view) if !is_same(&expected, view.shape()) => {
                problems.push(TensorProblem::Shape { key, expected, got: view.shape().to_vec() });
            }
            Some(view) => {
                let tensor = file.map_or_else(|| view.to_tensor(&key), |file| view.share(&key, file))?;
                tensors.insert(key, reshaped(tensor, &expected));
            }
        }
    }
    entries.sort_unstable_keys();
    let unexpected =
        |(key, view): (String, TensorView<'_>)| TensorProblem::Unexpected { key, got: view.shape().to_vec() };
    problems.extend(entries.into_iter().map(unexpected));
    if problems.is_empty() { Ok(tensors) } else { Err(ModelError::Tensors { problems }.into()) }
}

/// Whether a tensor of shape `got` is one of `expected`, written down in another way: with or without extents of 1 (a layer
/// scale, or a linear layer as a 1×1 convolution), or a linear layer of a whole feature map as a convolution of its size.
fn is_same(expected: &[usize], got: &[usize]) -> bool {
    fn extents(shape: &[usize]) -> impl Iterator<Item = usize> {
        shape.iter().copied().filter(|&extent| extent != 1)
    }
    let flat = |got: &[usize]| got.iter().try_fold(1usize, |len, &extent| len.checked_mul(extent));
    match (expected, got) {
        _ if extents(expected).eq(extents(got)) => true,
        (&[outputs, inputs], &[first, _, _, _]) => outputs == first && flat(&got[1..]) == Some(inputs),
        _ => false,
    }
}

fn reshaped(tensor: Tensor, shape: &[usize]) -> Tensor {
    match tensor.elements() {
        _ if tensor.shape() == shape => tensor,
        Elements::F32(values) => Tensor::floats(shape, values.clone()),
        Elements::I64(values) => Tensor::i64(shape, values.clone()),
    }
}

/// The names that the tensors of a state dict get when it is read into `graph`: the graph's where there is one for them, else
/// their own. Those of wrapping dictionaries that are not entered are left out.
pub fn resolved_names(names: &[&str], graph: &Graph) -> Vec<String> {
    resolve(names.iter().map(|name| ((*name).to_owned(), ())).collect(), graph).into_keys().collect()
}

/// `entries` under the names of `graph` where there is one for them, else under their own.
pub(crate) fn resolve<T>(entries: Vec<(String, T)>, graph: &Graph) -> IndexMap<String, T> {
    let known: HashSet<String> = graph.parameters().map(|(key, _)| key).collect();
    let entries = unwrap(entries, &known);
    let mut resolved = IndexMap::with_capacity(entries.len());
    let mut left = Vec::new();
    // A tensor under the graph's own name counts before one under another's.
    for (name, value) in entries {
        if known.contains(&name) {
            resolved.insert(name, value);
        } else {
            left.push((name, value));
        }
    }
    for (name, value) in left {
        match translate(&name, &known) {
            Some(key) if !resolved.contains_key(&key) => resolved.insert(key, value),
            _ if name == COUNT_OF_AVERAGED || name == format!("module.{COUNT_OF_AVERAGED}") => None,
            _ => resolved.insert(name, value),
        };
    }
    resolved
}

/// Enters wrapping dictionaries until some entry has a name of the graph.
fn unwrap<T>(mut entries: Vec<(String, T)>, known: &HashSet<String>) -> Vec<(String, T)> {
    for _ in 0..MAX_WRAPPERS {
        if entries.iter().any(|(name, _)| translate(name, known).is_some()) {
            break;
        }
        let inside = |name: &str, wrapper: &str| {
            name.strip_prefix(wrapper).and_then(|rest| rest.strip_prefix('.')).map(str::to_owned)
        };
        let holds = |wrapper: &&str| entries.iter().any(|(name, _)| inside(name, wrapper).is_some());
        let Some(wrapper) = WRAPPERS.into_iter().find(|wrapper| holds(wrapper)) else { break };
        entries =
            entries.into_iter().filter_map(|(name, value)| inside(&name, wrapper).map(|name| (name, value))).collect();
    }
    entries
}

/// The name in the graph of what other code calls `name`.
fn translate(name: &str, known: &HashSet<String>) -> Option<String> {
    let mut name = name;
    while !known.contains(name) {
        match PREFIXES.iter().find_map(|prefix| name.strip_prefix(prefix)) {
            Some(rest) => name = rest,
            None => break,
        }
    }
    if known.contains(name) {
        return Some(name.to_owned());
    }
    let alias = |component: &'_ str| match ALIASES.iter().find(|(theirs, _)| *theirs == component) {
        Some((_, ours)) => (*ours).to_owned(),
        None => component.to_owned(),
    };
    let aliased = name.split('.').map(alias).collect::<Vec<_>>().join(".");
    if known.contains(&aliased) {
        return Some(aliased);
    }
    torchvision_names(name).into_iter().find(|name| known.contains(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolved(names: &[&str]) -> Vec<String> {
        let graph = residual_zoo::build("resnet20", 10).unwrap();
        resolved_names(names, &graph)
    }

    #[test]
    fn names_of_other_code_become_the_graphs() {
        for (theirs, ours) in [
            ("fc.weight", "fc.weight"),
            ("linear.weight", "fc.weight"),
            ("module.linear.bias", "fc.bias"),
            ("module.module.conv1.weight", "conv1.weight"),
            ("_orig_mod.module.bn1.weight", "bn1.weight"),
            ("state_dict.module.layer2.0.shortcut.0.weight", "layer2.0.downsample.0.weight"),
            ("model.state_dict.layer2.0.i_downsample.1.bias", "layer2.0.downsample.1.bias"),
            ("state_dict.model._orig_mod.conv1.weight", "conv1.weight"),
            ("layer9.0.conv1.weight", "layer9.0.conv1.weight"),
        ] {
            assert_eq!(resolved(&[theirs]), [ours]);
        }
    }

    #[test]
    fn modules_that_others_renamed_become_torchvisions() {
        for (network, theirs, ours) in [
            ("convnext_tiny", "stem.0.weight", "features.0.0.weight"),
            ("convnext_tiny", "stages.1.downsample.0.bias", "features.2.0.bias"),
            ("convnext_tiny", "stages.2.blocks.8.mlp.fc2.weight", "features.5.8.block.5.weight"),
            ("convnext_tiny", "model_ema.module.stages.0.blocks.0.gamma", "features.1.0.layer_scale"),
            ("convnext_tiny", "downsample_layers.3.1.weight", "features.6.1.weight"),
            ("convnext_tiny", "stages.3.2.pwconv1.bias", "features.7.2.block.3.bias"),
            ("convnext_tiny", "head.fc.weight", "classifier.2.weight"),
            ("convnext_tiny", "head.weight", "classifier.2.weight"),
            ("convnext_tiny", "stages.99.blocks.0.gamma", "stages.99.blocks.0.gamma"),
            (
                "convnext_tiny",
                "stages.18446744073709551615.blocks.0.gamma",
                "stages.18446744073709551615.blocks.0.gamma",
            ),
            ("vgg19_bn", "pre_logits.fc1.weight", "classifier.0.weight"),
            ("vgg19", "head.fc.bias", "classifier.6.bias"),
            (
                "densenet121",
                "module.features.denseblock4.denselayer16.conv.2.weight",
                "features.denseblock4.denselayer16.conv2.weight",
            ),
        ] {
            let graph = residual_zoo::build(network, 1000).unwrap();
            assert_eq!(resolved_names(&[theirs], &graph), [ours]);
        }
    }

    #[test]
    fn a_shape_may_be_written_with_extents_of_one_or_as_a_whole_convolution() {
        assert!(is_same(&[4, 1, 1], &[4]) && is_same(&[8, 4], &[8, 4, 1, 1]) && is_same(&[10, 18], &[10, 2, 3, 3]));
        assert!(is_same(&[], &[1]) && is_same(&[1, 3], &[1, 3]));
        assert!(!is_same(&[4, 8], &[8, 4]) && !is_same(&[10, 18], &[10, 2, 9]) && !is_same(&[10, 18], &[18, 10, 1, 1]));
        assert!(!is_same(&[1, 0], &[1, usize::MAX, 2, 1]) && !is_same(&[4], &[4, 0]));
    }

    #[test]
    fn averaged_weights_count_before_the_last_and_optimiser_state_not_at_all() {
        let names = ["model.conv1.weight", "optimizer.conv1", "model_ema.module.bn1.bias", "model_ema.n_averaged"];
        assert_eq!(resolved(&names), ["bn1.bias"]);
    }

    #[test]
    fn two_names_for_one_tensor_are_not_silently_merged() {
        assert_eq!(resolved(&["linear.bias", "fc.bias"]), ["fc.bias", "linear.bias"]);
    }
}
