//! Tensors of a foreign state dict under the names of a graph.

use crate::Cause;
use crate::file::Bytes;
use crate::view::TensorView;
use indexmap::IndexMap;
use residual_graph::{Graph, Role};
use residual_model::{ModelError, TensorProblem};
use residual_tensor::{NamedTensors, Tensor};
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
/// A tensor is converted only if its shape is the graph's, so that no more is allocated than the graph needs. Where it
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
            Some(view) if view.shape() != expected => {
                problems.push(TensorProblem::Shape { key, expected, got: view.shape().to_vec() });
            }
            Some(view) => {
                let tensor = file.map_or_else(|| view.to_tensor(&key), |file| view.share(&key, file))?;
                tensors.insert(key, tensor);
            }
        }
    }
    entries.sort_unstable_keys();
    let unexpected =
        |(key, view): (String, TensorView<'_>)| TensorProblem::Unexpected { key, got: view.shape().to_vec() };
    problems.extend(entries.into_iter().map(unexpected));
    if problems.is_empty() { Ok(tensors) } else { Err(ModelError::Tensors { problems }.into()) }
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
    let name = name.split('.').map(alias).collect::<Vec<_>>().join(".");
    known.contains(&name).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolved(names: &[&str]) -> Vec<String> {
        let graph = residual_zoo::build("resnet20", 10).unwrap();
        let entries = names.iter().map(|name| (name.to_string(), ())).collect();
        resolve(entries, &graph).into_keys().collect()
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
    fn averaged_weights_count_before_the_last_and_optimiser_state_not_at_all() {
        let names = ["model.conv1.weight", "optimizer.conv1", "model_ema.module.bn1.bias", "model_ema.n_averaged"];
        assert_eq!(resolved(&names), ["bn1.bias"]);
    }

    #[test]
    fn two_names_for_one_tensor_are_not_silently_merged() {
        assert_eq!(resolved(&["linear.bias", "fc.bias"]), ["fc.bias", "linear.bias"]);
    }
}
