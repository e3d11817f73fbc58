//! Maps the tensors of a foreign state dict to the names of a graph.

use crate::renames::torchvision_names;
use crate::view::{MAX_SHOWN, StoredTensor, TensorView, check_finite};
use crate::{Cause, FormatError};
use crate::{four_bits, sparse};
use indexmap::IndexMap;
use residual_files::{Bytes, printable};
use residual_graph::{Graph, Role};
use residual_model::{ModelError, TensorProblem};
use residual_tensor::{Elements, NamedTensors, Tensor};
use std::collections::{HashMap, HashSet};

/// Dictionaries of averaged weights in training checkpoints. They take precedence, as these weights were evaluated.
const AVERAGED: [&str; 4] = ["model_ema", "state_dict_ema", "ema_state_dict", "ema"];

/// Dictionaries that training scripts (torchvision's, timm's, akamaster's, Lightning's) keep the weights in. If there are
/// several, the first applies.
const WRAPPERS: [&str; 5] = ["state_dict", "model_state_dict", "model_state", "model", "net"];

/// Wrapper modules, which add a component to the names: of `DataParallel` and `AveragedModel`, `torch.compile`,
/// FSDP and activation checkpointing.
const AROUND: [&str; 4] = ["module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"];

/// Alternative module names, as one component of the path.
const ALIASES: [(&str, &str); 3] = [("linear", "fc"), ("shortcut", "downsample"), ("i_downsample", "downsample")];

/// A counter of torch's `AveragedModel`.
const COUNT_OF_AVERAGED: &str = "n_averaged";

/// Buffers that the profiler thop adds to every module.
const COUNTS_OF_PROFILER: [&str; 2] = ["total_ops", "total_params"];

/// The auxiliary classifiers of torchvision's GoogLeNet, which only take part in training.
const AUXILIARY: [&str; 2] = ["aux1", "aux2"];

/// Suffixes of torch's pruning: the original values and the mask.
const PRUNED: [&str; 2] = ["_orig", "_mask"];

/// Maximum nesting of wrappers.
const MAX_WRAPPERS: usize = 8;

/// Maximum length of names to compare with the graph's, in bytes. No graph has longer ones.
const MAX_NAME: usize = 512;

/// The tensors that `graph` names, found among `entries` by its names or alternative names, and converted, and notes for
/// the user. Missing ones are taken from `otherwise`; missing `num_batches_tracked` (as from torch
/// before 0.4.1) become 0.
///
/// A tensor is converted only if its shape is equivalent to the graph's, so that no more is allocated than the graph
/// needs. If the graph needs most of `file`, the tensors share the file's bytes instead of copying them; a file with
/// much else, such as an optimiser's state, would otherwise stay in memory for a small part of it.
pub(crate) fn tensors_of_graph(
    entries: Vec<(String, TensorView<'_>)>,
    graph: &Graph,
    otherwise: &NamedTensors,
    file: Option<&Bytes>,
) -> Result<(NamedTensors, Vec<String>), Cause> {
    let Resolved { tensors: mut entries, outside, mut notes } = resolve(entries, graph);
    let needed: usize = graph.parameters().filter_map(|(key, _)| entries.get(&key)).map(TensorView::stored).sum();
    let file = file.filter(|file| needed > file.len() / 2);
    let mut tensors = NamedTensors::new();
    let mut problems = Vec::new();
    for (key, spec) in graph.parameters() {
        let expected = spec.shape;
        let is_counter = spec.role == Role::Counter;
        let stored = spec.role.type_name();
        let is_bytes = matches!(spec.role, Role::QuantizedWeight | Role::ZeroPoint);
        let Some(view) = entries.swap_remove(&key) else {
            if is_counter {
                let zeros = vec![0; expected.iter().product()];
                tensors.insert(key, Tensor::i64(&expected, zeros));
            } else if let Some(tensor) = pruned(&mut entries, &key, &expected)? {
                tensors.insert(key, tensor);
            } else if spec.role == Role::Weight
                && let Some(tensor) = sparse::take(&mut entries, &key, &expected)?
            {
                tensors.insert(key, tensor);
            } else if spec.role == Role::QuantizedWeight
                && let Some(tensor) = four_bits::take(&mut entries, &key, &expected)?
            {
                tensors.insert(key, tensor);
            } else if let Some(tensor) = otherwise.get(&key) {
                tensors.insert(key, tensor.clone());
            } else {
                problems.push(TensorProblem::Missing { key, expected });
            }
            continue;
        };
        // A counter may have any numeric type, as in torch; averaging scripts convert it to floats.
        let fits = match view.is_float() {
            _ if is_bytes => view.type_name() == stored,
            known if is_counter => known.is_some(),
            known => known == Some(true),
        };
        if !fits {
            problems.push(TensorProblem::Type { key, expected: stored, got: view.type_name().into() });
        } else if !is_same(&expected, view.shape()) {
            problems.push(TensorProblem::Shape { key, expected, got: view.shape().to_vec() });
        } else {
            let bound = expected.iter().product();
            let tensor = match file {
                _ if is_counter => view.to_counter(&key, bound)?,
                _ if is_bytes => view.to_bytes(&key, bound)?,
                Some(file) => view.share(&key, bound, file)?,
                None => view.to_tensor_within(&key, bound)?,
            };
            check_finite(&key, &tensor)?;
            tensors.insert(key, reshaped(tensor, &expected));
        }
    }
    entries.sort_unstable_keys();
    // Entries outside the weights are no error, but may explain one if the weights do not fit.
    let beside = if problems.is_empty() { Vec::new() } else { outside };
    let unexpected = |(key, view): (String, TensorView<'_>)| TensorProblem::Unexpected {
        key: printable(&key, MAX_SHOWN),
        got: view.shape().to_vec(),
    };
    problems.extend(entries.into_iter().chain(beside).map(unexpected));
    if problems.is_empty() {
        notes.dedup();
        Ok((tensors, notes))
    } else {
        Err(ModelError::Tensors { problems }.into())
    }
}

/// The mismatches between `resolved` and `graph`, by names and shapes.
pub(crate) fn compare(resolved: Resolved<&StoredTensor>, graph: &Graph) -> Vec<TensorProblem> {
    let mut entries = resolved.tensors;
    let mut problems = Vec::new();
    for (key, spec) in graph.parameters() {
        let expected = spec.shape;
        match entries.swap_remove(&key) {
            Some(tensor) if is_same(&expected, tensor.shape()) => {}
            Some(tensor) => problems.push(TensorProblem::Shape { key, expected, got: tensor.shape().to_vec() }),
            None if spec.role == Role::Counter => {}
            None => {
                let parts = PRUNED.map(|suffix| entries.swap_remove(&format!("{key}{suffix}")));
                if !parts.iter().all(|part| part.is_some_and(|part| is_same(&expected, part.shape()))) {
                    problems.push(TensorProblem::Missing { key, expected });
                }
            }
        }
    }
    let unexpected =
        |(key, tensor): (String, &StoredTensor)| TensorProblem::Unexpected { key, got: tensor.shape().to_vec() };
    problems.extend(entries.into_iter().map(unexpected));
    problems
}

/// The parameter `key` that torch's pruning stores as original values and a mask: their product, as in `prune.remove`.
fn pruned(
    entries: &mut IndexMap<String, TensorView<'_>>,
    key: &str,
    expected: &[usize],
) -> Result<Option<Tensor>, FormatError> {
    let names = PRUNED.map(|suffix| format!("{key}{suffix}"));
    let fits = |name: &String| {
        entries.get(name).is_some_and(|view| is_same(expected, view.shape()) && view.is_float() == Some(true))
    };
    if !names.iter().all(fits) {
        return Ok(None);
    }
    let bound = expected.iter().product();
    let [values, mask] = names.map(|name| {
        let view = entries.swap_remove(&name).expect("it was looked at above");
        let tensor = view.to_tensor_within(&name, bound)?;
        check_finite(&name, &tensor)?;
        Ok::<_, FormatError>(tensor)
    });
    let (values, mask) = (values?, mask?);
    let (Elements::F32(values), Elements::F32(mask)) = (values.elements(), mask.elements()) else { return Ok(None) };
    let product = values.iter().zip(mask.iter()).map(|(value, keep)| value * keep).collect();
    Ok(Some(Tensor::f32(expected, product)))
}

/// Whether shape `got` is equivalent to `expected`: with or without extents of 1 (a layer
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
        Elements::I8(values) => Tensor::i8(shape, values.clone()),
        Elements::U8(values) => Tensor::u8(shape, values.clone()),
    }
}

/// The names that the tensors of a state dict get when it is read into `graph`: the graph's, or their own if the graph
/// has none. Entries of dictionaries that are not used are ignored.
pub fn resolved_names(names: &[&str], graph: &Graph) -> Vec<String> {
    resolve(names.iter().map(|name| ((*name).to_owned(), ())).collect(), graph).tensors.into_keys().collect()
}

/// The entries of a state dict by the names of a graph.
pub(crate) struct Resolved<T> {
    /// By the graph's names, or their own if the graph has none.
    pub(crate) tensors: IndexMap<String, T>,
    /// Outside the dictionary or module of the graph's tensors.
    outside: Vec<(String, T)>,
    /// Notes for the user.
    pub(crate) notes: Vec<String>,
}

/// An entry: its name as it is compared with the graph's, its name in the file, and its value.
struct Entry<T> {
    name: String,
    own: String,
    value: T,
}

/// `entries` by the names of `graph`, or their own if it has none.
pub(crate) fn resolve<T>(entries: Vec<(String, T)>, graph: &Graph) -> Resolved<T> {
    let known: HashSet<String> = graph.parameters().map(|(key, _)| key).collect();
    let mut notes = Vec::new();
    let entry = |(own, value): (String, T)| Entry { name: without_wrappers(&own, &known), own, value };
    let entries = unwrap(entries.into_iter().map(entry).collect(), &known, &mut notes);
    let (entries, outside) = below_prefix(entries, &known, &mut notes);
    let (entries, debris): (Vec<_>, Vec<_>) = entries.into_iter().partition(|entry| !is_debris(&entry.name, &known));
    let counts: Vec<_> = debris.iter().filter(|entry| last(&entry.name) != COUNT_OF_AVERAGED).collect();
    if let [first, ..] = counts.as_slice() {
        let (count, first) = (counts.len(), printable(&first.own, MAX_SHOWN));
        notes.push(format!("{count} counts of a profiler are ignored, such as \"{first}\""));
    }
    let (auxiliary, entries): (Vec<_>, Vec<_>) =
        entries.into_iter().partition(|entry| is_auxiliary(&entry.name, &known));
    if let [first, ..] = auxiliary.as_slice() {
        let (count, first) = (auxiliary.len(), printable(&first.own, MAX_SHOWN));
        notes.push(format!(
            "{count} tensors of auxiliary classifiers, which only take part in training, are left out, such as \"{first}\""
        ));
    }
    let mut tensors = IndexMap::with_capacity(entries.len());
    let mut left = Vec::new();
    // A tensor with the graph's own name takes precedence over one with an alternative name.
    for entry in entries {
        if known.contains(&entry.name) && !tensors.contains_key(&entry.name) {
            tensors.insert(entry.name, entry.value);
        } else {
            left.push(entry);
        }
    }
    for Entry { name, own, value } in left {
        match translate(&name, &known) {
            Some(key) if !tensors.contains_key(&key) => tensors.insert(key, value),
            _ => tensors.insert(own, value),
        };
    }
    Resolved { tensors, outside, notes }
}

/// `name` without the components of wrapper modules.
fn without_wrappers(name: &str, known: &HashSet<String>) -> String {
    if known.contains(name) || !AROUND.iter().any(|around| name.contains(around)) {
        return name.to_owned();
    }
    name.split('.').filter(|part| !AROUND.contains(part)).collect::<Vec<_>>().join(".")
}

fn last(name: &str) -> &str {
    name.rsplit('.').next().unwrap_or(name)
}

/// Whether a tensor was added to the state dict by a tool and is not part of a network.
fn is_debris(name: &str, known: &HashSet<String>) -> bool {
    !known.contains(name) && (name == COUNT_OF_AVERAGED || COUNTS_OF_PROFILER.contains(&last(name)))
}

/// Whether a tensor is of an auxiliary classifier that the graph does not have.
fn is_auxiliary(name: &str, known: &HashSet<String>) -> bool {
    AUXILIARY.iter().any(|module| inside(name, module).is_some()) && !known.contains(name)
}

/// Enters wrapping dictionaries until some entry has a name of the graph.
fn unwrap<T>(mut entries: Vec<Entry<T>>, known: &HashSet<String>, notes: &mut Vec<String>) -> Vec<Entry<T>> {
    for _ in 0..MAX_WRAPPERS {
        if entries.iter().any(|entry| translate(&entry.name, known).is_some()) {
            break;
        }
        // A dictionary that holds names of the graph, at whatever depth.
        let holds = |wrapper: &&str| {
            entries
                .iter()
                .filter_map(|entry| inside(&entry.name, wrapper))
                .any(|rest| suffixes(rest).any(|suffix| translate(suffix, known).is_some()))
        };
        let found: Vec<&str> = AVERAGED.into_iter().chain(WRAPPERS).filter(holds).collect();
        let [wrapper, others @ ..] = found.as_slice() else { break };
        if let ([other, ..], true) = (others, AVERAGED.contains(wrapper)) {
            notes.push(format!("the averaged weights, under \"{wrapper}\", are read, not those under \"{other}\""));
        }
        entries.retain_mut(|entry| match inside(&entry.name, wrapper) {
            Some(rest) => {
                entry.name = rest.to_owned();
                true
            }
            None => false,
        });
    }
    entries
}

/// The rest of a name in the dictionary or module `wrapper`.
fn inside<'a>(name: &'a str, wrapper: &str) -> Option<&'a str> {
    name.strip_prefix(wrapper)?.strip_prefix('.')
}

/// A name without its first 0, 1, 2 … components.
fn suffixes(name: &str) -> impl Iterator<Item = &str> {
    let name = if name.len() <= MAX_NAME { name } else { "" };
    std::iter::successors(Some(name), |rest| Some(rest.split_once('.')?.1))
}

/// If few names match the graph directly, but many with one prefix (a module that contains the network, such as
/// `backbone`): the entries with that prefix stripped, and the entries that match neither way. Two prefixes with the same
/// number of matches are not stripped.
fn below_prefix<T>(
    entries: Vec<Entry<T>>,
    known: &HashSet<String>,
    notes: &mut Vec<String>,
) -> (Vec<Entry<T>>, Vec<(String, T)>) {
    let direct = entries.iter().filter(|entry| translate(&entry.name, known).is_some()).count();
    if 2 * direct >= known.len() {
        return (entries, Vec::new());
    }
    let mut counts: HashMap<&str, usize> = HashMap::new();
    for entry in &entries {
        for suffix in suffixes(&entry.name).skip(1).filter(|suffix| translate(suffix, known).is_some()) {
            *counts.entry(&entry.name[..entry.name.len() - suffix.len() - 1]).or_default() += 1;
        }
    }
    let most = counts.values().copied().max().unwrap_or(0);
    let best: Vec<&str> = counts.iter().filter(|(_, count)| **count == most).map(|(prefix, _)| *prefix).collect();
    let &[prefix] = best.as_slice() else { return (entries, Vec::new()) };
    if most <= direct || 3 * most < known.len() {
        return (entries, Vec::new());
    }
    let prefix = prefix.to_owned();
    let (mut here, mut outside) = (Vec::new(), Vec::new());
    for mut entry in entries {
        if let Some(rest) = inside(&entry.name, &prefix) {
            entry.name = rest.to_owned();
            here.push(entry);
        } else if translate(&entry.name, known).is_some() {
            here.push(entry);
        } else {
            outside.push((entry.own, entry.value));
        }
    }
    let beside = match outside.as_slice() {
        [] => String::new(),
        [(first, _), ..] => {
            format!("; {} outside it are ignored, such as \"{}\"", outside.len(), printable(first, MAX_SHOWN))
        }
    };
    notes.push(format!("the tensors under \"{}\" are read{beside}", printable(&prefix, MAX_SHOWN)));
    (here, outside)
}

/// The graph's name for the alternative name `name`.
fn translate(name: &str, known: &HashSet<String>) -> Option<String> {
    if known.contains(name) {
        return Some(name.to_owned());
    }
    if name.is_empty() || name.len() > MAX_NAME {
        return None;
    }
    for suffix in PRUNED {
        if let Some(parameter) = name.strip_suffix(suffix) {
            return translate(parameter, known).map(|key| format!("{key}{suffix}"));
        }
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
    fn wrappers_are_taken_off_wherever_they_stand() {
        for (theirs, ours) in [
            ("layer1._orig_mod.0.conv1.weight", "layer1.0.conv1.weight"),
            ("layer2.0._orig_mod.bn1.bias", "layer2.0.bn1.bias"),
            ("module.layer3.module.0.conv2.weight", "layer3.0.conv2.weight"),
            ("_fsdp_wrapped_module.layer1.0._checkpoint_wrapped_module.bn2.weight", "layer1.0.bn2.weight"),
            ("module.model.conv1.weight", "conv1.weight"),
            ("state_dict._orig_mod.model.fc.weight", "fc.weight"),
        ] {
            assert_eq!(resolved(&[theirs]), [ours]);
        }
    }

    /// Every name of the network, some of them under `head` and the others under `trunk`.
    fn under(trunk: &str, head: &str) -> Vec<String> {
        let graph = residual_zoo::build("resnet20", 10).unwrap();
        let place = |key: &str| if key.starts_with("fc.") { head } else { trunk }.to_owned() + key;
        graph.parameters().map(|(key, _)| place(&key)).collect()
    }

    fn read(names: &[String]) -> Resolved<()> {
        let graph = residual_zoo::build("resnet20", 10).unwrap();
        resolve(names.iter().map(|name| (name.clone(), ())).collect(), &graph)
    }

    fn is_whole(resolved: &Resolved<()>) -> bool {
        let graph = residual_zoo::build("resnet20", 10).unwrap();
        resolved.tensors.len() == graph.parameters().count()
            && graph.parameters().all(|(key, _)| resolved.tensors.contains_key(&key))
    }

    #[test]
    fn the_one_prefix_behind_which_the_network_lies_is_taken_off_and_told() {
        for (trunk, head) in [
            ("state_dict.backbone.", "state_dict.head."),
            ("state_dict.module.encoder_q.", "state_dict.module.encoder_q."),
            ("model_weights.", "model_weights."),
            ("a.b.c.", "a.b.c."),
        ] {
            let resolved = read(&under(trunk, head));
            assert!(is_whole(&resolved), "{trunk}");
            assert!(resolved.notes[0].starts_with("the tensors under \""), "{:?}", resolved.notes);
        }
        let mut names = under("encoder_q.", "encoder_q.");
        names.push("queue".into());
        let resolved = read(&names);
        assert!(is_whole(&resolved));
        assert_eq!(
            resolved.notes,
            ["the tensors under \"encoder_q\" are read; 1 outside it are ignored, such as \"queue\""]
        );
        // Two networks in one file: nobody knows which is meant.
        names.extend(under("encoder_k.", "encoder_k."));
        assert!(!is_whole(&read(&names)));
    }

    #[test]
    fn averaged_weights_come_first_under_any_of_their_names_and_it_is_told() {
        for ema in ["ema", "ema_state_dict", "model_ema", "state_dict_ema"] {
            let mut names = under("model.", "model.");
            let without = [&names[..], &[format!("{ema}.decay")]].concat();
            assert!(is_whole(&read(&without)) && read(&without).notes.is_empty(), "{ema} without weights");
            names.extend(under(&format!("{ema}.module."), &format!("{ema}.module.")));
            let resolved = read(&names);
            assert!(is_whole(&resolved));
            let note = format!("the averaged weights, under \"{ema}\", are read, not those under \"model\"");
            assert_eq!(resolved.notes, [note]);
        }
    }

    #[test]
    fn counts_of_a_profiler_are_ignored_with_a_note() {
        let mut names = under("", "");
        names.extend(["total_ops", "total_params", "layer1.0.total_ops"].map(str::to_owned));
        let resolved = read(&names);
        assert!(is_whole(&resolved));
        assert_eq!(resolved.notes, ["3 counts of a profiler are ignored, such as \"total_ops\""]);
    }

    #[test]
    fn auxiliary_classifiers_are_left_out_with_a_note() {
        let mut names = under("module.", "module.");
        names.extend(["module.aux1.conv.conv.weight", "module.aux2.fc2.bias"].map(str::to_owned));
        let resolved = read(&names);
        assert!(is_whole(&resolved));
        assert_eq!(
            resolved.notes,
            ["2 tensors of auxiliary classifiers, which only take part in training, are left out, such as \
              \"module.aux1.conv.conv.weight\""]
        );
        // A module whose name only begins alike stays an error.
        assert!(!is_whole(&read(&[under("", ""), vec!["aux1_weight".to_owned()]].concat())));
    }

    #[test]
    fn names_longer_than_any_graph_has_cost_nothing() {
        let names: Vec<String> = (0..20_000).map(|index| format!("{index}{}", ".module.fc".repeat(200))).collect();
        assert_eq!(read(&names).tensors.len(), names.len());
    }

    #[test]
    fn two_names_for_one_tensor_are_not_silently_merged() {
        assert_eq!(resolved(&["linear.bias", "fc.bias"]), ["fc.bias", "linear.bias"]);
    }
}
