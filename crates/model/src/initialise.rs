//! Initial values of every tensor of a graph.

use residual_graph::{Graph, Node, NodeId, Op, ParameterSpec, Role};
use residual_tensor::{NamedTensors, Stream, Tensor};
use std::collections::HashSet;

/// The distribution of initial weights.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Initialisation {
    /// The defaults of torch's modules: convolutions and linear layers, weight and bias, uniform in
    /// ±1/√fan_in (`kaiming_uniform_(a=√5)`); batch norms 1 and 0.
    Torch,
    /// As in torchvision's ResNets: convolution weights normal with variance 2/fan_out (He et al.,
    /// arXiv:1502.01852), everything else as [`Initialisation::Torch`].
    KaimingFanOut {
        /// Whether the batch norm that ends a residual branch starts with weight 0, so that every block starts as
        /// the identity (Goyal et al., arXiv:1706.02677, section 5.1). In pre-activation blocks, which end in a
        /// convolution, its weight does.
        zero_init_residual: bool,
    },
    /// As in torchvision's ConvNeXts: weights of convolutions and linear layers normal, their biases 0. (torchvision also
    /// truncates the normal at ±2, which has no effect for its standard deviation of 0.02.)
    Normal {
        /// The standard deviation.
        deviation: f32,
    },
}

impl Initialisation {
    /// As in the papers: [`Initialisation::Normal`] for networks with layer norms instead of batch
    /// norms, otherwise [`Initialisation::KaimingFanOut`] without the zeros.
    pub fn usual(graph: &Graph) -> Self {
        match graph.nodes.iter().any(|node| matches!(node.op, Op::LayerNorm { .. })) {
            true => Self::Normal { deviation: 0.02 },
            false => Self::KaimingFanOut { zero_init_residual: false },
        }
    }
}

/// The initial value of an [`Op::LayerScale`] (Liu et al., arXiv:2201.03545, appendix A).
const LAYER_SCALE: f32 = 1e-6;

/// Salt of these random streams.
const DOMAIN: u64 = u64::from_be_bytes(*b"initial.");

/// A state dict for `graph`: torch's keys, shapes and order.
///
/// Every tensor has a separate random stream, given by `seed` and its index in the state dict.
pub fn initialise(graph: &Graph, how: Initialisation, seed: u64) -> NamedTensors {
    let zeroed = match how {
        Initialisation::KaimingFanOut { zero_init_residual: true } => ends_of_branches(graph),
        _ => HashSet::new(),
    };
    let mut tensors = NamedTensors::new();
    for id in graph.state_order() {
        let node = graph.node(id);
        for spec in node.op.parameters() {
            let tensor = if spec.name == "weight" && zeroed.contains(&id) {
                Tensor::full(&spec.shape, 0.0)
            } else {
                first_values(node, &spec, how, seed, tensors.len())
            };
            tensors.insert(node.key(spec.name), tensor);
        }
    }
    tensors
}

/// The tensor of `node` that `spec` describes, being number `index` of the state dict.
pub(crate) fn first_values(node: &Node, spec: &ParameterSpec, how: Initialisation, seed: u64, index: usize) -> Tensor {
    let shape = &spec.shape;
    let len = shape.iter().product();
    match spec.role {
        Role::Counter => return Tensor::i64(shape, vec![0; len]),
        // A quantised network is made from a trained one.
        Role::QuantizedWeight => return Tensor::i8(shape, vec![0; len]),
        Role::ZeroPoint => return Tensor::u8(shape, vec![0; len]),
        Role::Scale => return Tensor::full(shape, 1.0),
        Role::Weight | Role::Bias | Role::NormWeight | Role::NormBias | Role::LayerScale | Role::Buffer => {}
    }
    let draw = |value: &mut dyn FnMut(&mut Stream) -> f32| {
        let mut stream = Stream::new(seed, &[DOMAIN, index as u64]);
        Tensor::f32(shape, (0..shape.iter().product()).map(|_| value(&mut stream)).collect())
    };
    let uniform = |fan_in: usize| {
        let bound = 1.0 / (fan_in as f32).sqrt();
        draw(&mut |stream| stream.range(-bound, bound))
    };
    let is_linear = matches!(node.op, Op::Conv2d(_) | Op::Linear { .. });
    if let (true, Initialisation::Normal { deviation }) = (is_linear, how) {
        if spec.name == "bias" {
            return Tensor::full(shape, 0.0);
        }
        return draw(&mut |stream| deviation * stream.normal());
    }
    match node.op {
        Op::Conv2d(conv) => {
            let area = conv.kernel[0] * conv.kernel[1];
            match how {
                Initialisation::KaimingFanOut { .. } if spec.name == "weight" => {
                    // As torch counts: the groups do not divide the fan-out.
                    let deviation = (2.0 / (conv.out_channels * area) as f32).sqrt();
                    draw(&mut |stream| deviation * stream.normal())
                }
                _ => uniform(conv.in_channels / conv.groups * area),
            }
        }
        Op::Linear { in_features, .. } => uniform(in_features),
        Op::LayerScale { .. } => Tensor::full(shape, LAYER_SCALE),
        // Scale 1, shift 0, running statistics of a standard normal.
        Op::BatchNorm2d { .. } | Op::LayerNorm { .. } => {
            Tensor::full(shape, if matches!(spec.name, "weight" | "running_var") { 1.0 } else { 0.0 })
        }
        Op::Input { .. }
        | Op::Quantize
        | Op::QuantizeDynamic
        | Op::Relu
        | Op::Gelu
        | Op::Sigmoid
        | Op::Gate
        | Op::Add
        | Op::Concat
        | Op::Flatten
        | Op::MaxPool2d(_)
        | Op::AvgPool2d { .. }
        | Op::GlobalAvgPool
        | Op::AdaptiveAvgPool2d { .. }
        | Op::Dropout { .. }
        | Op::DropPath { .. }
        | Op::PadShortcut { .. } => {
            unreachable!("{} has no tensors of random values", node.op.name())
        }
    }
}

/// The batch norms, or convolutions in pre-activation blocks, that end a residual branch: those that an [`Op::Add`] reads
/// as its first input, directly or through a gate or stochastic depth. The shortcut is its second.
fn ends_of_branches(graph: &Graph) -> HashSet<NodeId> {
    let sums = graph.nodes.iter().filter(|node| node.op == Op::Add);
    let ends = sums.filter_map(|node| {
        let mut end = *node.inputs.first()?;
        while matches!(graph.node(end).op, Op::Gate | Op::DropPath { .. }) {
            end = *graph.node(end).inputs.first()?;
        }
        Some(end)
    });
    ends.filter(|&end| matches!(graph.node(end).op, Op::BatchNorm2d { .. } | Op::Conv2d(_))).collect()
}
