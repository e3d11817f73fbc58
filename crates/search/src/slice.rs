//! The part of a supernet's tensors that is a member's: of every tensor of the member, the elements of the supernet's tensor of
//! the same name for the same output and input channels. Blocks are shared by their names, so a member has the first blocks of
//! each stage and the first channels of each layer.
//!
//! Channels are counted over all groups: a convolution with groups has the elements of one without that its groups do not
//! leave out.

use residual_graph::{Graph, Op, ParameterSpec, Role};
use residual_tensor::{NamedTensors, Tensor};
use std::collections::HashMap;

/// The elements of a member's tensors among those of its supernet.
#[derive(Clone, Debug)]
pub(crate) struct Slice {
    parts: Vec<Part>,
}

/// The elements of one tensor: rows of `len` elements that lie together, in the member's order.
#[derive(Clone, Debug)]
struct Part {
    key: String,
    shape: Vec<usize>,
    len: usize,
    /// Where each row begins in the supernet's tensor.
    starts: Vec<usize>,
    is_counter: bool,
}

impl Slice {
    /// The slice of `supernet` that `member` is.
    ///
    /// # Errors
    /// If it is none: a line with the first tensor that is no part of the supernet's, or with the image size if it is another.
    pub(crate) fn new(member: &Graph, supernet: &Graph) -> Result<Self, String> {
        let ([_, height, width], [_, supernet_height, supernet_width]) = (member.input_size(), supernet.input_size());
        if (height, width) != (supernet_height, supernet_width) {
            return Err(format!("image size: expected {supernet_height}x{supernet_width}, got {height}x{width}"));
        }
        let (groups, supernet_groups) = (groups(member), groups(supernet));
        let whole: HashMap<String, ParameterSpec> = supernet.parameters().collect();
        let part = |(key, spec): (String, ParameterSpec)| {
            let fail = |expected: String| format!("{key}: expected {expected}, got {:?}", spec.shape);
            let of = whole.get(&key).ok_or_else(|| fail("a tensor of the largest network".into()))?;
            let groups = [&groups, &supernet_groups].map(|groups| groups.get(&key).copied().unwrap_or(1));
            let (starts, len) =
                rows([&spec.shape, &of.shape], groups).ok_or_else(|| fail(format!("a part of {:?}", of.shape)))?;
            Ok(Part { shape: spec.shape, len, starts, is_counter: spec.role == Role::Counter, key })
        };
        Ok(Self { parts: member.parameters().map(part).collect::<Result<_, String>>()? })
    }

    /// The member's state dict, given the supernet's.
    ///
    /// # Panics
    /// If it is another network's.
    pub(crate) fn cut(&self, supernet: &NamedTensors) -> NamedTensors {
        let cut = |part: &Part| {
            let whole = &supernet[&part.key];
            if part.is_counter {
                return (part.key.clone(), whole.clone());
            }
            let values = whole.as_f32().expect("parameters and statistics are floats");
            let rows = part.starts.iter().flat_map(|&start| &values[start..start + part.len]);
            (part.key.clone(), Tensor::f32(&part.shape, rows.copied().collect()))
        };
        self.parts.iter().map(cut).collect()
    }

    /// Adds the member's tensors, such as gradients, to the supernet's, where both have some.
    ///
    /// # Panics
    /// If a tensor is another network's.
    pub(crate) fn add(&self, member: &NamedTensors, supernet: &mut NamedTensors) {
        for part in self.parts.iter().filter(|part| !part.is_counter) {
            let (Some(tensor), Some(sum)) = (member.get(&part.key), supernet.get_mut(&part.key)) else { continue };
            let values = tensor.as_f32().expect("gradients are floats");
            let sums = sum.as_f32_mut().expect("gradients are floats");
            for (&start, row) in part.starts.iter().zip(values.chunks_exact(part.len)) {
                sums[start..start + part.len].iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
            }
        }
    }
}

/// The groups of every convolution that has several, by the key of its weight.
fn groups(graph: &Graph) -> HashMap<String, usize> {
    let grouped = graph.nodes.iter().filter_map(|node| match &node.op {
        Op::Conv2d(conv) if conv.groups > 1 => Some((node.key("weight"), conv.groups)),
        _ => None,
    });
    grouped.collect()
}

/// The starts and the length of the rows of a tensor, given its and the supernet's shape and groups; `None` if it is no part.
fn rows(shapes: [&[usize]; 2], groups: [usize; 2]) -> Option<(Vec<usize>, usize)> {
    match shapes {
        [[], []] => Some((vec![0], 1)),
        [&[len], &[whole]] => (len <= whole).then_some((vec![0], len)),
        [&[outputs, inputs, ref taps @ ..], &[all_outputs, all_inputs, ref all_taps @ ..]] => {
            if taps != all_taps || outputs > all_outputs {
                return None;
            }
            let taps: usize = taps.iter().product();
            // The first input channel that an output channel reads.
            let first =
                |output: usize, outputs: usize, inputs: usize, groups: usize| output / (outputs / groups) * inputs;
            let start = |output: usize| {
                let begin = first(output, outputs, inputs, groups[0]);
                let all_begin = first(output, all_outputs, all_inputs, groups[1]);
                let is_inside = begin >= all_begin && begin + inputs <= all_begin + all_inputs;
                is_inside.then(|| (output * all_inputs + begin - all_begin) * taps)
            };
            Some(((0..outputs).map(start).collect::<Option<_>>()?, inputs * taps))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::NetworkSpace;
    use residual_engine::{Engine, Mode, Options};
    use residual_model::{Initialisation, Model, initialise};
    use residual_preprocess::Preprocessing;
    use residual_tensor::Stream;

    /// By hand, on 4×4 matrices whose element (output, input) is 10·output + input.
    #[test]
    fn rows_are_those_of_the_same_channels() {
        let values: Vec<usize> = (0..16).map(|at| at / 4 * 10 + at % 4).collect();
        let cut = |shapes, groups| {
            let (starts, len) = rows(shapes, groups)?;
            Some(starts.into_iter().flat_map(|start| values[start..start + len].to_vec()).collect::<Vec<_>>())
        };
        assert_eq!(cut([&[2, 3], &[4, 4]], [1, 1]).unwrap(), [0, 1, 2, 10, 11, 12]);
        // Two groups of two outputs and two inputs: the blocks of the diagonal.
        assert_eq!(cut([&[4, 2], &[4, 4]], [2, 1]).unwrap(), [0, 1, 10, 11, 22, 23, 32, 33]);
        // Each of two outputs reads its own input.
        assert_eq!(cut([&[2, 1], &[4, 4]], [2, 1]).unwrap(), [0, 11]);
        // With taps, two elements for each input.
        assert_eq!(rows([&[1, 1, 1, 2], &[2, 3, 1, 2]], [1, 1]).unwrap(), (vec![0], 2));
        assert_eq!(rows([&[2, 2, 1, 2], &[2, 3, 1, 2]], [1, 1]).unwrap(), (vec![0, 6], 4));
        // The first two of four groups of a 4×1 convolution.
        assert_eq!(rows([&[2, 1], &[4, 1]], [2, 4]).unwrap(), (vec![0, 1], 1));
        for (shapes, groups) in [
            ([&[5, 4][..], &[4, 4][..]], [1, 1]),
            ([&[4, 5], &[4, 4]], [1, 1]),
            ([&[2, 2, 1, 1], &[2, 2, 3, 3]], [1, 1]),
            // Without groups an output reads what the groups of the supernet leave out.
            ([&[4, 2], &[4, 2]], [1, 2]),
            ([&[3], &[2]], [1, 1]),
            ([&[2], &[2, 2]], [1, 1]),
        ] {
            assert_eq!(rows(shapes, groups), None, "{shapes:?} {groups:?}");
        }
    }

    fn graph(text: &str) -> Graph {
        let space = NetworkSpace::parse("s", text).unwrap();
        space.extremes().unwrap()[1].graph.clone()
    }

    #[test]
    fn what_is_cut_is_added_back_to_its_place() {
        let of = |depth: &str, widths: &str| {
            graph(&format!("family = 'cifar_resnet'\ndepths = {depth}\nwidths = {widths}\nimage_size = 12\n"))
        };
        let (member, supernet) = (of("[1, 2, 1]", "[4, 8, 8]"), of("[2, 2, 3]", "[8, 8, 16]"));
        let slice = Slice::new(&member, &supernet).unwrap();
        let whole = initialise(&supernet, Initialisation::Torch, 1);
        let cut = slice.cut(&whole);
        residual_model::check_tensors(&member, &cut).unwrap();
        let mut sum: NamedTensors =
            whole.iter().map(|(key, tensor)| (key.clone(), Tensor::full(tensor.shape(), 0.0))).collect();
        slice.add(&cut, &mut sum);
        slice.add(&cut, &mut sum);
        for (key, tensor) in whole.iter().filter(|(_, tensor)| tensor.as_f32().is_some()) {
            let twice = sum[key].as_f32().unwrap().iter().zip(tensor.as_f32().unwrap());
            assert!(twice.clone().all(|(sum, value)| *sum == 0.0 || *sum == 2.0 * value), "{key}");
            let kept = twice.filter(|(sum, value)| **value != 0.0 && **sum != 0.0).count();
            let expected = cut.get(key).map_or(0, |cut| cut.as_f32().unwrap().iter().filter(|v| **v != 0.0).count());
            assert_eq!(kept, expected, "{key}");
        }
        // Blocks and channels that the supernet does not have, and other kernels.
        let error = |member: &str, supernet: &str| Slice::new(&graph(member), &graph(supernet)).unwrap_err();
        let base = "family = 'cifar_resnet'\nwidths = [4, 8, 8]\n";
        assert_eq!(
            error(&format!("{base}depths = [1, 1, 2]"), &format!("{base}depths = [1, 2, 1]")),
            "layer3.1.conv1.weight: expected a tensor of the largest network, got [8, 8, 3, 3]"
        );
        assert!(
            error("family = 'cifar_resnet'\nwidths = [4, 9, 8]", base).contains(": expected a part of "),
            "more channels"
        );
        let sized = format!("{base}image_size = 16");
        assert_eq!(error(&sized, base), "image size: expected 32x32, got 16x16");
    }

    /// The logits of a network in evaluation, for a batch of noise.
    fn logits(graph: &Graph, tensors: NamedTensors) -> Vec<f32> {
        let size = [12; 2];
        let preprocessing = Preprocessing::unscaled(size, &[0.0; 3], &[1.0; 3]);
        let model = Model::new(graph.clone(), tensors, preprocessing, Vec::new()).unwrap();
        let mut engine = Engine::new(&model, Mode::Eval, 4, size, &[], &Options::threads(1)).unwrap();
        let mut random = Stream::new(8, &[]);
        let images: Vec<f32> = (0..4 * 3 * 144).map(|_| random.normal()).collect();
        engine.forward(&images).unwrap();
        engine.output().to_vec()
    }

    /// Blocks whose last batch norm is zero are their shortcut, and channels whose batch norm is zero add nothing.
    #[test]
    fn a_member_computes_what_its_supernet_does_without_the_other_weights() {
        let graph = |text: &str| {
            let text = format!("family = 'cifar_resnet'\nimage_size = 12\n{text}");
            residual_zoo::from_toml(&text).unwrap().graph().unwrap()
        };
        let cases = [
            ("depths = [2, 3, 2]\nwidths = [8, 16, 24]", "depths = [1, 2, 2]\nwidths = [8, 12, 16]"),
            (
                "block = 'bottleneck'\ndepths = [1, 2, 2]\nwidths = [8, 12, 16]\nsqueeze_excitation = true",
                "block = 'bottleneck'\ndepths = [1, 1, 2]\nwidths = [4, 12, 8]\nsqueeze_excitation = true\ncardinality = 2",
            ),
        ];
        for (supernet, member) in cases {
            let (supernet, member) = (graph(supernet), graph(member));
            let slice = Slice::new(&member, &supernet).unwrap();
            let mut random = Stream::new(4, &[]);
            let mut whole = initialise(&supernet, Initialisation::Torch, 3);
            // Statistics and batch norms that are not those of a new network.
            for (key, tensor) in &mut whole {
                let is_norm = key.contains("running") || key.contains("bn") || key.contains("downsample.1");
                if let (true, Some(values)) = (is_norm, tensor.as_f32_mut()) {
                    values.iter_mut().for_each(|value| *value += 0.5 * random.uniform());
                }
            }
            let cut = slice.cut(&whole);
            let zero = |(key, tensor): (&String, &Tensor)| {
                let zero = if tensor.as_f32().is_some() { Tensor::full(tensor.shape(), 0.0) } else { tensor.clone() };
                (key.clone(), zero)
            };
            let mut without: NamedTensors = whole.iter().map(zero).collect();
            slice.add(&cut, &mut without);
            let (expected, got) = (logits(&supernet, without), logits(&member, cut));
            let largest = expected.iter().fold(0.0f32, |most, value| most.max(value.abs()));
            assert!(expected.iter().zip(&got).all(|(a, b)| (a - b).abs() < 1e-4 * largest), "{expected:?} {got:?}");
        }
    }
}
