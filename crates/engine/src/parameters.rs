//! Parameters, their gradients and running statistics in flat buckets, and their way from and to torch's layout.

use crate::transpose::Jobs;
use crate::{EngineError, Frozen, Memory};
use residual_graph::{Graph, Node, NodeId, Op, Role};
use residual_kernels::conv::Conv;
use residual_model::check_tensors;
use residual_tensor::{AlignedBuffer, Elements, Floats, NamedTensors, Tensor};
use residual_threads::Pool;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

/// One tensor of a bucket.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its state-dict key.
    pub name: String,
    /// Its shape in torch, which may not be the order of its elements in the bucket.
    pub shape: Vec<usize>,
    /// What it is to its op.
    pub role: Role,
    /// Where it lies in the bucket. Tensors start on cache lines; what lies between them is zero and stays so.
    pub range: Range<usize>,
    layout: Layout,
}

/// All parameters of a network that are trained, in one bucket: in state-dict order, without the frozen ones. Running
/// statistics are no part of it.
#[derive(Debug)]
pub struct Flat<'a> {
    /// Their values. Weights are in the engine's layout (see [`crate::Engine::to_torch`]).
    pub values: &'a mut [f32],
    /// Their gradients of the last backward pass, in the same layout. They are an optimiser's to change, clip or reduce: the
    /// next backward pass overwrites them.
    pub gradients: &'a mut [f32],
    /// What lies where.
    pub entries: &'a [Entry],
}

/// How a tensor's elements are ordered in a bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Layout {
    /// As in torch.
    Plain,
    /// Torch's `[groups · o, i, h, w]` as `[groups][h][w][i][o]`. A linear layer on a flattened feature map is a
    /// convolution as large as the map.
    Filter { groups: usize, o: usize, i: usize, taps: usize },
}

/// The state of a network while it is trained.
#[derive(Debug)]
pub(crate) struct Parameters {
    /// Those that are trained, which have gradients, and behind them the frozen ones.
    pub(crate) values: AlignedBuffer,
    pub(crate) gradients: AlignedBuffer,
    entries: Vec<Entry>,
    /// How many of the entries are trained.
    trained: usize,
    pub(crate) statistics: AlignedBuffer,
    statistic_entries: Vec<Entry>,
    pub(crate) counters: Vec<(String, i64)>,
    graph: Graph,
    pool: Arc<Pool>,
}

/// What the filters of weights are multiplied by on their way into a bucket: see `Folded` of the `model` crate.
pub(crate) type Scales = HashMap<String, Vec<f64>>;

impl Parameters {
    /// Buckets for `graph`, filled from `tensors` and `scales`; `without_filters`, the weights of convolutions and linear
    /// layers have no place in them.
    pub(crate) fn new(
        graph: &Graph,
        tensors: &NamedTensors,
        scales: &Scales,
        without_filters: bool,
        frozen: &Frozen,
        pool: &Arc<Pool>,
    ) -> Result<Self, EngineError> {
        let (mut entries, mut statistic_entries, mut counters) = (Vec::new(), Vec::new(), Vec::new());
        let (mut len, mut statistics_len) = (0, 0);
        let (mut trained, mut trained_len) = (0, 0);
        let is_frozen = |node: &&Node| frozen.parameters.contains(&node.name);
        let (behind, first): (Vec<&Node>, Vec<&Node>) =
            graph.state_order().into_iter().map(|id| graph.node(id)).partition(is_frozen);
        for node in first.into_iter().chain(behind) {
            for spec in node.op.parameters() {
                let name = node.key(spec.name);
                let count: usize = spec.shape.iter().product();
                let layout = layout(graph, node, &spec.shape);
                if without_filters && matches!(layout, Layout::Filter { .. }) {
                    continue;
                }
                let (list, end) = match spec.role {
                    Role::Counter => {
                        counters.push((name, 0));
                        continue;
                    }
                    Role::Buffer => (&mut statistic_entries, &mut statistics_len),
                    _ => (&mut entries, &mut len),
                };
                list.push(Entry { name, shape: spec.shape, role: spec.role, range: *end..*end + count, layout });
                *end += count.next_multiple_of(16);
            }
            if !is_frozen(&node) {
                (trained, trained_len) = (entries.len(), len);
            }
        }
        let mut parameters = Self {
            values: zeros(len)?,
            gradients: zeros(trained_len)?,
            entries,
            trained,
            statistics: zeros(statistics_len)?,
            statistic_entries,
            counters,
            graph: graph.clone(),
            pool: Arc::clone(pool),
        };
        parameters.load_scaled(tensors, scales)?;
        Ok(parameters)
    }

    /// Takes all values from a state dict.
    pub(crate) fn load(&mut self, tensors: &NamedTensors) -> Result<(), EngineError> {
        self.load_scaled(tensors, &Scales::new())
    }

    fn load_scaled(&mut self, tensors: &NamedTensors, scales: &Scales) -> Result<(), EngineError> {
        check_tensors(&self.graph, tensors)?;
        scatter(&self.pool, &self.entries, tensors, scales, &mut self.values);
        scatter(&self.pool, &self.statistic_entries, tensors, scales, &mut self.statistics);
        for (name, count) in &mut self.counters {
            *count = tensors[name.as_str()].as_i64().map_or(0, |values| values[0]);
        }
        Ok(())
    }

    /// All values as a state dict.
    pub(crate) fn state_dict(&self) -> NamedTensors {
        let mut parts = gather(&self.entries, &self.values);
        parts.extend(gather(&self.statistic_entries, &self.statistics));
        parts.extend(self.counters.iter().map(|(name, count)| (name.clone(), Tensor::i64(&[], vec![*count]))));
        self.graph
            .parameters()
            .map(|(key, _)| {
                let tensor = parts.swap_remove(&key).expect("every key of the graph is in one of the buckets");
                (key, tensor)
            })
            .collect()
    }

    /// What is trained.
    pub(crate) fn entries(&self) -> &[Entry] {
        &self.entries[..self.trained]
    }

    /// What is trained: values, gradients, and what lies where.
    pub(crate) fn flat_mut(&mut self) -> Flat<'_> {
        let len = self.gradients.len();
        Flat { values: &mut self.values[..len], gradients: &mut self.gradients, entries: &self.entries[..self.trained] }
    }

    /// A bucket of what is trained as torch tensors.
    pub(crate) fn to_torch(&self, bucket: &[f32]) -> NamedTensors {
        gather(self.entries(), bucket)
    }

    /// Torch tensors as a bucket.
    pub(crate) fn read_torch(&self, tensors: &NamedTensors) -> Result<AlignedBuffer, EngineError> {
        let mut problems = Vec::new();
        let entries = self.entries();
        for entry in entries {
            match tensors.get(&entry.name) {
                Some(tensor) if tensor.shape() == entry.shape && tensor.as_f32().is_some() => {}
                other => problems.push((entry, other)),
            }
        }
        if let Some((entry, got)) = problems.first() {
            return Err(EngineError::Tensor {
                name: entry.name.clone(),
                expected: entry.shape.clone(),
                got: got.map(|tensor| tensor.shape().to_vec()),
            });
        }
        let mut bucket = zeros(self.gradients.len())?;
        scatter(&self.pool, entries, tensors, &Scales::new(), &mut bucket);
        Ok(bucket)
    }

    /// Bytes of all buckets.
    pub(crate) fn bytes(&self) -> usize {
        4 * (self.values.len() + self.gradients.len() + self.statistics.len())
    }

    /// Where the parameter `key` lies in the bucket.
    pub(crate) fn range(&self, key: &str) -> Range<usize> {
        find(&self.entries, key)
    }

    /// Where the running statistic `key` lies in the bucket of statistics.
    pub(crate) fn statistic_range(&self, key: &str) -> Range<usize> {
        find(&self.statistic_entries, key)
    }

    /// The index of the counter `key`.
    pub(crate) fn counter(&self, key: &str) -> usize {
        self.counters.iter().position(|(name, _)| name == key).expect("the graph names its own counters")
    }
}

/// The weight of a convolution or linear layer as the model has it, which shares its elements.
#[derive(Debug)]
pub(crate) struct Filters {
    values: Floats,
    scale: Option<Vec<f64>>,
    layout: Layout,
}

impl Filters {
    /// The weight of `node`. `tensors` were checked against `graph`.
    pub(crate) fn new(graph: &Graph, node: NodeId, tensors: &NamedTensors, scales: &Scales) -> Self {
        let node = graph.node(node);
        let key = node.key("weight");
        let tensor = &tensors[key.as_str()];
        let Elements::F32(values) = tensor.elements() else { unreachable!("checked: parameters are floats") };
        let layout = layout(graph, node, tensor.shape());
        Self { values: values.clone(), scale: scales.get(&key).cloned(), layout }
    }

    /// Writes it to `packed`, scaled, as `conv` reads it; with `room` for it in the engine's layout if `conv` has no
    /// [`Conv::panel_width`].
    pub(crate) fn pack(&self, pool: &Pool, conv: &Conv, room: &mut [f32], packed: &mut [f32]) {
        let (values, scale) = (&*self.values, self.scale.as_deref());
        let mut jobs = Jobs::default();
        if let (Some(width), &Layout::Filter { groups, o, i, taps }) = (conv.panel_width(), &self.layout) {
            jobs.pack([groups, o, i, taps], values, scale, width, packed);
            jobs.run(pool);
        } else {
            let room = &mut room[..values.len()];
            jobs.lay_out(&self.layout, values, scale, room);
            jobs.run(pool);
            conv.pack_forward(pool, room, packed);
        }
    }
}

/// Memory for a bucket of `len` floats.
fn zeros(len: usize) -> Result<AlignedBuffer, EngineError> {
    let memory = Memory { parameters: len.saturating_mul(size_of::<f32>()), ..Memory::default() };
    AlignedBuffer::try_zeros(len).ok_or_else(|| memory.refused())
}

fn find(entries: &[Entry], key: &str) -> Range<usize> {
    let entry = entries.iter().find(|entry| entry.name == key).expect("the graph names its own parameters");
    entry.range.clone()
}

fn layout(graph: &Graph, node: &Node, shape: &[usize]) -> Layout {
    match node.op {
        Op::Conv2d(conv) if shape.len() == 4 => Layout::Filter {
            groups: conv.groups,
            o: conv.out_channels / conv.groups,
            i: conv.in_channels / conv.groups,
            taps: conv.kernel[0] * conv.kernel[1],
        },
        Op::Linear { out_features, in_features, .. } if shape.len() == 2 => {
            let channels = node.inputs.first().map_or(in_features, |id| flattened_channels(graph, id.0, in_features));
            Layout::Filter { groups: 1, o: out_features, i: channels, taps: in_features / channels }
        }
        _ => Layout::Plain,
    }
}

/// The channels of the feature map that node `index`, a vector of `features`, is the flattened form of.
fn flattened_channels(graph: &Graph, mut index: usize, features: usize) -> usize {
    loop {
        let node = &graph.nodes[index];
        match node.op {
            Op::Flatten => return channels_of(graph, node.inputs[0].0),
            Op::Relu | Op::Gelu | Op::Sigmoid | Op::Dropout { .. } | Op::DropPath { .. } => index = node.inputs[0].0,
            _ => return features,
        }
    }
}

fn channels_of(graph: &Graph, index: usize) -> usize {
    let node = &graph.nodes[index];
    match &node.op {
        Op::Input { channels, .. } => *channels,
        Op::Conv2d(conv) => conv.out_channels,
        Op::Linear { out_features, .. } => *out_features,
        Op::PadShortcut { out_channels, .. } => *out_channels,
        Op::Concat => node.inputs.iter().map(|input| channels_of(graph, input.0)).sum(),
        _ => channels_of(graph, node.inputs[0].0),
    }
}

impl Layout {
    /// Calls `visit(torch index, bucket index)` for each of `len` elements.
    fn visit(&self, len: usize, mut visit: impl FnMut(usize, usize)) {
        match *self {
            Layout::Plain => (0..len).for_each(|index| visit(index, index)),
            Layout::Filter { groups, o, i, taps } => {
                for group in 0..groups {
                    for tap in 0..taps {
                        for input in 0..i {
                            let to = ((group * taps + tap) * i + input) * o;
                            let from = (group * o * i + input) * taps + tap;
                            for output in 0..o {
                                visit(from + output * i * taps, to + output);
                            }
                        }
                    }
                }
            }
        }
    }
}

/// `tensors` were checked against `entries`.
fn scatter(pool: &Pool, entries: &[Entry], tensors: &NamedTensors, scales: &Scales, mut bucket: &mut [f32]) {
    let mut jobs = Jobs::default();
    let mut end = 0;
    for entry in entries {
        let values = tensors[entry.name.as_str()].as_f32().expect("checked: parameters and statistics are floats");
        let scale = scales.get(&entry.name).map(Vec::as_slice);
        let (part, rest) = std::mem::take(&mut bucket)[entry.range.start - end..].split_at_mut(entry.range.len());
        (bucket, end) = (rest, entry.range.end);
        jobs.lay_out(&entry.layout, values, scale, part);
    }
    jobs.run(pool);
}

fn gather(entries: &[Entry], bucket: &[f32]) -> NamedTensors {
    entries
        .iter()
        .map(|entry| {
            let bucket = &bucket[entry.range.clone()];
            let mut values = vec![0.0; bucket.len()];
            entry.layout.visit(bucket.len(), |torch, here| values[torch] = bucket[here]);
            (entry.name.clone(), Tensor::f32(&entry.shape, values))
        })
        .collect()
}
