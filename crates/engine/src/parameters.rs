//! Parameters, their gradients and running statistics in flat buffers (buckets), read from and written to state dicts.

use crate::layout::{FromTorch, Layout, ToTorch};
use crate::{EngineError, Memory};
use residual_graph::{Graph, Node, Role};
use residual_kernels::conv::Conv;
use residual_kernels::optim::BucketOrder;
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
    /// Its role in the op.
    pub role: Role,
    /// Whether it is one of the head's, the last linear layer's.
    pub is_head: bool,
    /// Its range in the bucket. Tensors start on cache lines; the padding between them is zero and stays zero.
    pub range: Range<usize>,
    layout: Layout,
}

impl Entry {
    /// The order of its elements in the bucket; a tensor of one dimension is one output.
    pub fn order(&self) -> BucketOrder {
        match self.layout {
            Layout::Filter { groups, o, i, taps } => BucketOrder { groups, rows: i * taps, outputs: o },
            Layout::Plain => {
                let groups = if self.shape.len() > 1 { self.shape[0] } else { 1 };
                BucketOrder { groups, rows: self.range.len() / groups.max(1), outputs: 1 }
            }
        }
    }
}

/// All trainable parameters of a network in one flat buffer: in state-dict order, without frozen ones and without running
/// statistics.
#[derive(Debug)]
pub struct Flat<'a> {
    /// Their values. Weights are in the engine's layout (see [`crate::Engine::to_torch`]).
    pub values: &'a mut [f32],
    /// Their gradients of the last backward pass, in the same layout. They may be changed (clipped, reduced) until the next
    /// backward pass overwrites them.
    pub gradients: &'a mut [f32],
    /// The range of each tensor.
    pub entries: &'a [Entry],
}

/// The place of every tensor of a network in the buckets. Trainable parameters come first, each bucket in state-dict order.
#[derive(Debug)]
pub(crate) struct ParameterLayout {
    graph: Graph,
    entries: Vec<Entry>,
    /// Number of trainable entries.
    trained: usize,
    statistic_entries: Vec<Entry>,
    /// The keys of the counters.
    counters: Vec<String>,
    /// The range of each tensor in its bucket, by key; for a counter, its index.
    ranges: HashMap<String, Range<usize>>,
    /// Floats of all parameters, of trainable parameters, and of running statistics.
    lens: [usize; 3],
}

impl ParameterLayout {
    /// The layout for `graph`; `without_filters`, the weights of convolutions and linear layers are in no bucket. `channels`
    /// are those of each node's value in memory (see [`Layout::of`]).
    pub(crate) fn new(
        graph: &Graph,
        channels: &[usize],
        without_filters: bool,
        is_trained: impl Fn(&Node) -> bool,
    ) -> Self {
        let (mut entries, mut statistic_entries, mut counters) = (Vec::new(), Vec::new(), Vec::new());
        let (mut len, mut statistics_len) = (0, 0);
        let (mut trained, mut trained_len) = (0, 0);
        let mut ranges = HashMap::new();
        let head = graph.head().map(|id| &graph.node(id).name);
        let (first, behind): (Vec<&Node>, Vec<&Node>) =
            graph.state_order().into_iter().map(|id| graph.node(id)).partition(|node| is_trained(node));
        for node in first.into_iter().chain(behind) {
            for spec in node.op.parameters() {
                let name = node.key(spec.name);
                let count: usize = spec.shape.iter().product();
                let layout = Layout::of(node, spec.role, channels[node.inputs[0].0]);
                if without_filters && matches!(layout, Layout::Filter { .. }) {
                    continue;
                }
                let (list, end) = match spec.role {
                    // Bytes and what they mean are in no bucket.
                    Role::QuantizedWeight | Role::Scale | Role::ZeroPoint => continue,
                    Role::Counter => {
                        ranges.insert(name.clone(), counters.len()..counters.len() + 1);
                        counters.push(name);
                        continue;
                    }
                    Role::Buffer => (&mut statistic_entries, &mut statistics_len),
                    Role::Weight | Role::Bias | Role::NormWeight | Role::NormBias | Role::LayerScale => {
                        (&mut entries, &mut len)
                    }
                };
                let range = *end..*end + count;
                ranges.insert(name.clone(), range.clone());
                let is_head = head == Some(&node.name);
                list.push(Entry { name, shape: spec.shape, role: spec.role, is_head, range, layout });
                *end += count.next_multiple_of(16);
            }
            if is_trained(node) {
                (trained, trained_len) = (entries.len(), len);
            }
        }
        Self {
            graph: graph.clone(),
            entries,
            trained,
            statistic_entries,
            counters,
            ranges,
            lens: [len, trained_len, statistics_len],
        }
    }

    /// The graph whose tensors they are.
    pub(crate) fn graph(&self) -> &Graph {
        &self.graph
    }

    /// Bytes of the buckets: parameters, their gradients, and running statistics.
    pub(crate) fn bytes(&self) -> usize {
        self.lens.iter().fold(0, |sum: usize, len| sum.saturating_add(len.saturating_mul(size_of::<f32>())))
    }

    /// The trainable entries.
    fn trainable(&self) -> &[Entry] {
        &self.entries[..self.trained]
    }

    /// The range of the parameter or running statistic `key` in its bucket.
    pub(crate) fn range(&self, key: &str) -> Range<usize> {
        self.ranges[key].clone()
    }

    /// The index of the counter `key`.
    pub(crate) fn counter(&self, key: &str) -> usize {
        self.ranges[key].start
    }
}

/// The parameters of a network, their gradients and running statistics.
#[derive(Debug)]
pub(crate) struct Parameters {
    layout: Arc<ParameterLayout>,
    pool: Arc<Pool>,
    /// The trainable ones, which have gradients, followed by the others.
    pub(crate) values: AlignedBuffer,
    pub(crate) gradients: AlignedBuffer,
    pub(crate) statistics: AlignedBuffer,
    pub(crate) counters: Vec<i64>,
}

/// Factors of the filters, applied when weights are copied into a bucket: see `Folded` of the `model` crate.
pub(crate) type Scales = HashMap<String, Vec<f64>>;

impl Parameters {
    /// Buckets filled from `tensors` and `scales`.
    pub(crate) fn new(
        layout: Arc<ParameterLayout>,
        tensors: &NamedTensors,
        scales: &Scales,
        pool: &Arc<Pool>,
    ) -> Result<Self, EngineError> {
        let [len, trained, statistics] = layout.lens;
        let mut parameters = Self {
            values: zeros(len)?,
            gradients: zeros(trained)?,
            statistics: zeros(statistics)?,
            counters: vec![0; layout.counters.len()],
            pool: Arc::clone(pool),
            layout,
        };
        parameters.load_scaled(tensors, scales)?;
        Ok(parameters)
    }

    /// Loads all values from a state dict.
    pub(crate) fn load(&mut self, tensors: &NamedTensors) -> Result<(), EngineError> {
        self.load_scaled(tensors, &Scales::new())
    }

    fn load_scaled(&mut self, tensors: &NamedTensors, scales: &Scales) -> Result<(), EngineError> {
        let layout = &self.layout;
        check_tensors(&layout.graph, tensors)?;
        scatter(&self.pool, &layout.entries, tensors, scales, &mut self.values);
        scatter(&self.pool, &layout.statistic_entries, tensors, scales, &mut self.statistics);
        for (name, count) in layout.counters.iter().zip(&mut self.counters) {
            *count = tensors[name.as_str()].as_i64().map_or(0, |values| values[0]);
        }
        Ok(())
    }

    /// All values as a state dict.
    pub(crate) fn state_dict(&self) -> NamedTensors {
        self.state_dict_of(self.weights())
    }

    /// The trainable parameters and the running statistics.
    pub(crate) fn weights(&self) -> [&[f32]; 2] {
        [&self.values[..self.gradients.len()], &self.statistics]
    }

    /// All values as a state dict, with the trainable parameters and running statistics of other buckets.
    pub(crate) fn state_dict_of(&self, [values, statistics]: [&[f32]; 2]) -> NamedTensors {
        let layout = &self.layout;
        let (trained, others) = layout.entries.split_at(layout.trained);
        let mut parts = gather(&self.pool, trained, values);
        parts.extend(gather(&self.pool, others, &self.values));
        parts.extend(gather(&self.pool, &layout.statistic_entries, statistics));
        let counters = layout.counters.iter().zip(&self.counters);
        parts.extend(counters.map(|(name, count)| (name.clone(), Tensor::i64(&[], vec![*count]))));
        layout
            .graph
            .parameters()
            .map(|(key, _)| {
                let tensor = parts.swap_remove(&key).expect("every key of the graph is in one of the buckets");
                (key, tensor)
            })
            .collect()
    }

    /// The trainable parameters and the running statistics of a state dict.
    pub(crate) fn weights_of(&self, tensors: &NamedTensors) -> Result<[AlignedBuffer; 2], EngineError> {
        check_tensors(&self.layout.graph, tensors)?;
        let mut weights = [zeros(self.gradients.len())?, zeros(self.statistics.len())?];
        for (entries, bucket) in [self.entries(), &self.layout.statistic_entries].into_iter().zip(&mut weights) {
            scatter(&self.pool, entries, tensors, &Scales::new(), bucket);
        }
        Ok(weights)
    }

    /// The trainable entries.
    pub(crate) fn entries(&self) -> &[Entry] {
        self.layout.trainable()
    }

    /// The trainable parameters: values, gradients and ranges.
    pub(crate) fn flat_mut(&mut self) -> Flat<'_> {
        let len = self.gradients.len();
        Flat { values: &mut self.values[..len], gradients: &mut self.gradients, entries: self.layout.trainable() }
    }

    /// A bucket of trainable parameters as torch tensors.
    pub(crate) fn to_torch(&self, bucket: &[f32]) -> NamedTensors {
        gather(&self.pool, self.entries(), bucket)
    }

    /// Torch tensors as a bucket.
    pub(crate) fn read_torch(&self, tensors: &NamedTensors) -> Result<AlignedBuffer, EngineError> {
        let entries = self.entries();
        for entry in entries {
            let tensor = tensors.get(&entry.name);
            if tensor.is_none_or(|tensor| tensor.shape() != entry.shape || tensor.as_f32().is_none()) {
                return Err(EngineError::Tensor {
                    name: entry.name.clone(),
                    expected: entry.shape.clone(),
                    got: tensor.map(|tensor| tensor.shape().to_vec()),
                });
            }
        }
        let mut bucket = zeros(self.gradients.len())?;
        scatter(&self.pool, entries, tensors, &Scales::new(), &mut bucket);
        Ok(bucket)
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
    /// The weight with this state-dict key. `tensors` were checked against the graph.
    pub(crate) fn new(key: &str, layout: Layout, tensors: &NamedTensors, scales: &Scales) -> Self {
        let Elements::F32(values) = tensors[key].elements() else { unreachable!("checked: parameters are floats") };
        Self { values: values.clone(), scale: scales.get(key).cloned(), layout }
    }

    /// Writes it to `packed`, scaled and packed for `conv`; `room` is a buffer in the engine's layout, used if `conv` has
    /// no [`Conv::panel_width`].
    pub(crate) fn pack(&self, pool: &Pool, conv: &Conv, room: &mut [f32], packed: &mut [f32]) {
        let (values, scale) = (&*self.values, self.scale.as_deref());
        let mut copies = FromTorch::default();
        if let (Some(width), &Layout::Filter { groups, o, i, taps }) = (conv.panel_width(), &self.layout) {
            copies.pack([groups, o, i, taps], values, scale, width, packed);
            copies.run(pool);
        } else {
            let room = &mut room[..values.len()];
            copies.lay_out(&self.layout, values, scale, room);
            copies.run(pool);
            conv.pack_forward(pool, room, packed);
        }
    }
}

/// Memory for a bucket of `len` floats.
fn zeros(len: usize) -> Result<AlignedBuffer, EngineError> {
    let memory = Memory { parameters: len.saturating_mul(size_of::<f32>()), ..Memory::default() };
    AlignedBuffer::try_zeros(len).ok_or_else(|| memory.refused())
}

/// `tensors` were checked against `entries`.
fn scatter(pool: &Pool, entries: &[Entry], tensors: &NamedTensors, scales: &Scales, mut bucket: &mut [f32]) {
    let mut copies = FromTorch::default();
    let mut end = 0;
    for entry in entries {
        let values = tensors[entry.name.as_str()].as_f32().expect("checked: parameters and statistics are floats");
        let scale = scales.get(&entry.name).map(Vec::as_slice);
        let (part, rest) = std::mem::take(&mut bucket)[entry.range.start - end..].split_at_mut(entry.range.len());
        (bucket, end) = (rest, entry.range.end);
        copies.lay_out(&entry.layout, values, scale, part);
    }
    copies.run(pool);
}

fn gather(pool: &Pool, entries: &[Entry], bucket: &[f32]) -> NamedTensors {
    let mut values: Vec<Vec<f32>> = entries.iter().map(|entry| vec![0.0; entry.range.len()]).collect();
    let mut copies = ToTorch::default();
    for (entry, values) in entries.iter().zip(&mut values) {
        copies.read(&entry.layout, &bucket[entry.range.clone()], values);
    }
    copies.run(pool);
    let tensor = |(entry, values): (&Entry, Vec<f32>)| (entry.name.clone(), Tensor::f32(&entry.shape, values));
    entries.iter().zip(values).map(tensor).collect()
}
