//! Turns steps into instructions, forward and backward, and determines the lifetime of each value.

mod backward;

use super::{
    Activation, ConvId, Factors, Form, Fused, Head, Instruction, LayerNormId, LayerScaleId, NormId, Pass, Pooling,
    QuantizationId, QuantizedConvId, Scheduled, Slice, Step,
};
use crate::arena::{Buffer, BufferId};
use crate::{Frozen, Mode};
use residual_graph::{Graph, Node, NodeId, Op, Shape};
use residual_kernels::bf16;
use residual_kernels::conv::{Elements, QuantizedConv};
use residual_kernels::pool::{AdaptiveShape, TOO_MANY_PIXELS};
use std::ops::Range;

/// The instructions of a plan and the buffers they use.
#[derive(Debug)]
pub(crate) struct Schedule {
    pub(crate) forward: Vec<Scheduled>,
    pub(crate) backward: Vec<Scheduled>,
    pub(crate) buffers: Vec<Buffer>,
    /// The input image.
    pub(crate) input: BufferId,
    /// For each kept node, its value and the buffer of its seed gradient.
    pub(crate) kept: Vec<(NodeId, BufferId, Option<BufferId>)>,
}

/// The nodes whose instructions have state; an instruction refers to one by its index here.
#[derive(Debug)]
pub(crate) struct Layers {
    /// Convolutions and linear layers of floats.
    pub(crate) convs: Vec<NodeId>,
    /// Quantised ones.
    pub(crate) quantized: Vec<NodeId>,
    /// The nodes that round values.
    pub(crate) quantizations: Vec<NodeId>,
    /// Batch norms.
    pub(crate) norms: Vec<NodeId>,
    pub(crate) layer_norms: Vec<NodeId>,
    /// Layer scales.
    pub(crate) scales: Vec<NodeId>,
    pub(crate) gates: Vec<NodeId>,
    /// Whether each node of the graph is a convolution of bf16.
    pub(crate) bf16: Vec<bool>,
    /// The index of each node of the graph in its list, if it is in one.
    places: Vec<usize>,
}

impl Layers {
    /// Those of `graph`, of which convolutions `in_bf16` compute with bf16.
    pub(crate) fn of(graph: &Graph, in_bf16: impl Fn(&Node) -> bool) -> Self {
        let mut places = vec![0; graph.nodes.len()];
        let mut all = |wanted: fn(&Op) -> bool| -> Vec<NodeId> {
            let list: Vec<NodeId> =
                (0..graph.nodes.len()).map(NodeId).filter(|id| wanted(&graph.node(*id).op)).collect();
            list.iter().enumerate().for_each(|(place, id)| places[id.0] = place);
            list
        };
        Self {
            convs: all(|op| matches!(op, Op::Conv2d(_) | Op::Linear { .. }) && !op.is_quantized()),
            quantized: all(Op::is_quantized),
            quantizations: all(Op::quantizes),
            norms: all(|op| matches!(op, Op::BatchNorm2d { .. })),
            layer_norms: all(|op| matches!(op, Op::LayerNorm { .. })),
            scales: all(|op| matches!(op, Op::LayerScale { .. })),
            gates: all(|op| matches!(op, Op::Gate)),
            bf16: graph.nodes.iter().map(in_bf16).collect(),
            places,
        }
    }

    /// The quantised layer `node`.
    pub(crate) fn quantized_conv(&self, node: NodeId) -> QuantizedConvId {
        QuantizedConvId(self.place(node))
    }

    /// The quantisation of the value of `node`, if it is bytes in memory, as it is in inference.
    pub(crate) fn quantization_of(&self, graph: &Graph, node: NodeId) -> Option<QuantizationId> {
        graph.quantized_by(node).map(|origin| QuantizationId(self.place(origin)))
    }

    /// The index of a layer of this graph among those of its kind.
    fn place(&self, node: NodeId) -> usize {
        self.places[node.0]
    }
}

/// Whether an op has a kernel of bf16 that computes its sums: dense convolutions with an even number of outputs, as two share a lane.
/// Its gradient with respect to its input needs an even number of inputs, too.
pub(crate) fn can_be_bf16(op: &Op, with_gradient: bool) -> bool {
    match op {
        Op::Conv2d(conv) if with_gradient && !conv.in_channels.is_multiple_of(2) => false,
        Op::Conv2d(conv) => !op.is_quantized() && conv.groups == 1 && conv.out_channels.is_multiple_of(2),
        _ => false,
    }
}

/// Schedules the steps of `graph`, keeping the values of `kept` to the end. In training and evaluation the
/// backward pass can be seeded at every kept node. `shapes` has the shape of every node's value in memory; values that are
/// not `stored` are recomputed when the backward pass needs them.
pub(crate) fn schedule(
    graph: &Graph,
    fused: &Fused,
    layers: &Layers,
    shapes: &[Shape],
    mode: Mode,
    kept: &[NodeId],
    stored: Vec<bool>,
    frozen: &Frozen,
) -> Schedule {
    let mut scheduler = Scheduler::new(graph, fused, layers, shapes, mode, stored, frozen);
    for step in &fused.steps {
        scheduler.forward(step);
    }
    // What the caller reads is floats.
    let values: Vec<BufferId> = kept.iter().map(|&node| scheduler.floats(node)).collect();
    let mut seeds = vec![None; kept.len()];
    if mode != Mode::Infer {
        scheduler.find_gradients(fused, kept);
        scheduler.begin_backward(kept);
        for (seed, &node) in seeds.iter_mut().zip(kept) {
            *seed = Some(scheduler.seed(node));
        }
        for step in fused.steps.iter().rev() {
            scheduler.backward(step);
        }
    }
    let kept = kept.iter().zip(values).zip(seeds).map(|((&node, value), seed)| (node, value, seed)).collect();
    scheduler.finish(kept)
}

struct Scheduler<'a> {
    graph: &'a Graph,
    steps: &'a [Step],
    /// For each node, the index of the step that computes its value.
    step_of: Vec<Option<usize>>,
    /// For each node, the batch norm that reads it, if it is the only reader.
    norms_after: Vec<Option<NormId>>,
    source: &'a [NodeId],
    layers: &'a Layers,
    shapes: &'a [Shape],
    mode: Mode,
    frozen: &'a Frozen,
    forward: Vec<Scheduled>,
    backward: Vec<Scheduled>,
    /// The pass that is being scheduled.
    pass: Pass,
    /// The node whose step is being scheduled.
    current: NodeId,
    /// Bytes per image of each buffer.
    lens: Vec<usize>,
    values: Vec<Option<BufferId>>,
    /// What each value is in memory.
    forms: Vec<Form>,
    /// For each value that is no floats, the same in floats, once something has read those; and for each that is no bf16.
    in_floats: Vec<Option<BufferId>>,
    in_bf16: Vec<Option<BufferId>>,
    gradients: Vec<Option<BufferId>>,
    /// For each max pooling, the buffer of its maxima's positions.
    indices: Vec<Option<BufferId>>,
    /// Whether a gradient of the node's value is needed.
    wanted: Vec<bool>,
    /// Whether the caller reads and seeds the node's gradient, so that it must not be overwritten.
    seeded: Vec<bool>,
    /// Whether the backward pass has the node's value: stored by the forward pass, or recomputed.
    stored: Vec<bool>,
}

impl<'a> Scheduler<'a> {
    fn new(
        graph: &'a Graph,
        fused: &'a Fused,
        layers: &'a Layers,
        shapes: &'a [Shape],
        mode: Mode,
        stored: Vec<bool>,
        frozen: &'a Frozen,
    ) -> Self {
        let count = graph.nodes.len();
        let mut step_of = vec![None; count];
        fused.steps.iter().enumerate().for_each(|(index, step)| step_of[step.output.0] = Some(index));
        let mut readers = vec![0; count];
        let mut norms_after = vec![None; count];
        for (id, &norm) in layers.norms.iter().enumerate() {
            let input = fused.source[graph.node(norm).inputs[0].0].0;
            readers[input] += 1;
            norms_after[input] = (readers[input] == 1).then_some(NormId(id));
        }
        let mut scheduler = Self {
            graph,
            steps: &fused.steps,
            step_of,
            norms_after,
            source: &fused.source,
            layers,
            shapes,
            mode,
            frozen,
            forward: Vec::new(),
            backward: Vec::new(),
            pass: Pass::Forward,
            current: NodeId(0),
            lens: Vec::new(),
            values: vec![None; count],
            forms: vec![Form::FLOATS; count],
            in_floats: vec![None; count],
            in_bf16: vec![None; count],
            gradients: vec![None; count],
            indices: vec![None; count],
            wanted: vec![false; count],
            seeded: vec![false; count],
            stored,
        };
        scheduler.values[0] = Some(scheduler.allocate(NodeId(0)));
        scheduler
    }

    /// A buffer for the value of `node`, in its form.
    fn allocate(&mut self, node: NodeId) -> BufferId {
        self.allocate_in(node, self.forms[node.0])
    }

    /// A buffer for the value of `node` in a form, or its gradient.
    fn allocate_in(&mut self, node: NodeId, form: Form) -> BufferId {
        let Shape { height, width, channels } = self.shapes[node.0];
        let pixel = match form {
            Form::Bytes => QuantizedConv::pixel(channels),
            Form::BF16 => Elements::Bf16.pixel(channels) * size_of::<bf16>(),
            Form::FLOATS => channels * size_of::<f32>(),
        };
        self.lens.push(height * width * pixel);
        BufferId(self.lens.len() - 1)
    }

    /// The quantisation of the value of `node`, if it is bytes.
    fn quantization_of(&self, node: NodeId) -> Option<QuantizationId> {
        self.layers.quantization_of(self.graph, node)
    }

    /// If `step` is a max pooling, allocates the buffer of its maxima's positions.
    fn allocate_index(&mut self, step: &Step) {
        let node = step.name();
        if let Op::MaxPool2d(_) = self.graph.node(node).op {
            self.lens.push(self.pooling(node).shape().index_len());
            self.indices[node.0] = Some(BufferId(self.lens.len() - 1));
        }
    }

    fn value(&self, node: NodeId) -> BufferId {
        self.values[self.source[node.0].0].expect("steps come after what they read")
    }

    /// The value of `node` in a form; it is converted when it is first read in another than its own.
    fn read(&mut self, node: NodeId, form: Form) -> BufferId {
        let node = self.source[node.0];
        if let Some(value) = self.known(node, form) {
            return value;
        }
        let channels = self.shapes[node.0].channels;
        let x = match form {
            Form::BF16 => self.read(node, Form::FLOATS),
            _ => self.value(node),
        };
        let y = self.allocate_in(node, form);
        let instruction = match (form, self.quantization_of(node)) {
            (Form::BF16, _) => Instruction::Round { channels, x, accumulate: false, y },
            (Form::FLOATS, Some(quantization)) => Instruction::Dequantize { quantization, channels, x, y },
            (Form::FLOATS, None) => Instruction::Widen { channels, x, accumulate: false, y },
            (Form::Bytes, _) => unreachable!("values become bytes by a node of their own"),
        };
        match form {
            Form::BF16 => self.in_bf16[node.0] = Some(y),
            _ => self.in_floats[node.0] = Some(y),
        }
        let scheduled = Scheduled::new(node, self.pass, instruction);
        match self.pass {
            Pass::Forward => self.forward.push(scheduled),
            Pass::Backward => self.backward.push(scheduled),
        }
        y
    }

    /// The value of `node` in a form, if it is in memory.
    fn known(&self, node: NodeId, form: Form) -> Option<BufferId> {
        let node = self.source[node.0];
        match form {
            _ if self.forms[node.0] == form => Some(self.value(node)),
            Form::FLOATS => self.in_floats[node.0],
            Form::BF16 => self.in_bf16[node.0],
            Form::Bytes => None,
        }
    }

    /// The value of `node` in floats.
    fn floats(&mut self, node: NodeId) -> BufferId {
        self.read(node, Form::FLOATS)
    }

    /// The form in which a step reads its inputs.
    fn reads(&self, step: &Step) -> Form {
        let form_of = |id: &NodeId| self.forms[self.source[id.0].0];
        let any_is_bf16 = || self.mode != Mode::Infer && step.inputs.iter().any(|id| form_of(id) == Form::BF16);
        let Head::Node(node) = step.head else {
            return if any_is_bf16() { Form::BF16 } else { Form::FLOATS };
        };
        let op = &self.graph.node(node).op;
        let Some(input) = self.graph.node(node).inputs.first() else { return Form::FLOATS };
        // Values of bf16 have an even number of channels, which the ops that follow the form of their input must keep.
        let is_even = |id: &NodeId| self.shapes[id.0].channels.is_multiple_of(2);
        match (op, form_of(input)) {
            _ if op.is_quantized() => Form::Bytes,
            _ if self.layers.bf16[node.0] => Form::BF16,
            (Op::MaxPool2d(_) | Op::PadShortcut { .. }, Form::Bytes) => Form::Bytes,
            (Op::GlobalAvgPool, Form::Bytes) if self.pixels(node).0 < TOO_MANY_PIXELS => Form::Bytes,
            (Op::MaxPool2d(_) | Op::GlobalAvgPool, Form::BF16) => Form::BF16,
            (Op::PadShortcut { .. }, Form::BF16) if is_even(&node) => Form::BF16,
            (Op::BatchNorm2d { .. } | Op::Relu | Op::Gelu | Op::Sigmoid, Form::BF16) if self.mode != Mode::Infer => {
                Form::BF16
            }
            (Op::Concat, _) if any_is_bf16() && step.inputs.iter().all(is_even) => Form::BF16,
            _ => Form::FLOATS,
        }
    }

    /// The form of a step's value.
    fn writes(&self, step: &Step) -> Form {
        let averages = matches!(step.head, Head::Node(node) if self.graph.node(node).op == Op::GlobalAvgPool);
        match self.reads(step) {
            _ if self.quantization_of(step.output).is_some() => Form::Bytes,
            Form::BF16 if !averages => Form::BF16,
            _ => Form::FLOATS,
        }
    }

    /// The value of `node` in the form that a step reads.
    fn operand(&self, node: NodeId, form: Form) -> BufferId {
        self.known(node, form).expect("inputs are converted before the step")
    }

    /// The step that computes the value of `node`.
    fn step_of(&self, node: NodeId) -> &'a Step {
        &self.steps[self.step_of[node.0].expect("every value but the input has its step")]
    }

    fn conv(&self, node: NodeId) -> ConvId {
        ConvId(self.layers.place(node))
    }

    fn norm(&self, node: NodeId) -> NormId {
        NormId(self.layers.place(node))
    }

    fn layer_norm(&self, node: NodeId) -> LayerNormId {
        LayerNormId(self.layers.place(node))
    }

    fn layer_scale(&self, node: NodeId) -> LayerScaleId {
        LayerScaleId(self.layers.place(node))
    }

    /// The factors of a layer scale or gate.
    fn factors(&self, node: NodeId) -> Factors {
        match self.graph.node(node).op {
            Op::Gate => Factors::Gate(self.operand(self.graph.node(node).inputs[1], Form::FLOATS)),
            _ => Factors::LayerScale(self.layer_scale(node)),
        }
    }

    /// The batch norm whose statistics convolution `node` computes in training: its only reader.
    fn norm_after(&self, node: NodeId) -> Option<NormId> {
        let fits = self.mode == Mode::Train && matches!(self.graph.node(node).op, Op::Conv2d(_));
        let norm = self.norms_after[node.0].filter(|_| fits)?;
        (!self.keeps_statistics(self.layers.norms[norm.0])).then_some(norm)
    }

    /// Whether batch norm `node` uses its running statistics in training too.
    fn keeps_statistics(&self, node: NodeId) -> bool {
        self.frozen.statistics.contains(&self.graph.node(node).name)
    }

    /// Whether `node` has parameters that need gradients.
    fn is_trained(&self, node: NodeId) -> bool {
        let node = self.graph.node(node);
        !node.op.parameters().is_empty() && !self.frozen.parameters.contains(&node.name)
    }

    /// The node with the value of the only (or first) input of `node`.
    fn input(&self, node: NodeId) -> NodeId {
        self.source[self.graph.node(node).inputs[0].0]
    }

    fn forward(&mut self, step: &Step) {
        let form = self.reads(step);
        if form != Form::Bytes {
            step.inputs.iter().for_each(|&input| _ = self.read(input, form));
        }
        self.forms[step.output.0] = self.writes(step);
        let y = self.allocate(step.output);
        self.values[step.output.0] = Some(y);
        if self.mode != Mode::Infer && self.stored[step.output.0] {
            self.allocate_index(step);
        }
        let instructions = self.instructions(step, y, false).into_iter();
        self.forward.extend(instructions.map(|instruction| Scheduled::new(step.name(), Pass::Forward, instruction)));
    }

    /// The instructions that compute the value `y` of a step, for the first time or `again`.
    fn instructions(&self, step: &Step, y: BufferId, again: bool) -> Vec<Instruction> {
        let node = match &step.head {
            Head::Sum(values) => {
                let (last, rest) = values.split_last().expect("shape inference wants two inputs");
                let form = self.reads(step);
                let Form::Values(elements) = form else { unreachable!("sums of bytes are fused") };
                let x = self.operand(*last, form);
                let add = |(index, &id): (usize, &NodeId)| Instruction::Copy {
                    elements,
                    x: self.operand(id, form),
                    accumulate: index > 0,
                    y,
                };
                let end = match step.relu {
                    true => Instruction::AccumulateRelu { elements, x, y },
                    false => Instruction::Copy { elements, x, accumulate: true, y },
                };
                return rest.iter().enumerate().map(add).chain([end]).collect();
            }
            Head::Node(node) => *node,
        };
        let form = self.reads(step);
        let x = self.operand(self.graph.node(node).inputs[0], form);
        let add = step.add.map(|id| self.operand(id, form));
        let relu = step.relu;
        let Form::Values(elements) = form else { return self.instructions_on_bytes(node, x, add, y) };
        vec![match self.graph.node(node).op {
            Op::Quantize => {
                let quantization = QuantizationId(self.layers.place(node));
                Instruction::Quantize { quantization, channels: self.shapes[node.0].channels, x, y }
            }
            Op::QuantizeDynamic => {
                let quantization = QuantizationId(self.layers.place(node));
                Instruction::QuantizeDynamic { quantization, channels: self.shapes[node.0].channels, x, y }
            }
            Op::Conv2d(_) | Op::Linear { .. } => match self.norm_after(node).filter(|_| !again) {
                Some(norm) => Instruction::ConvWithStatistics { conv: self.conv(node), norm, x, y },
                None => Instruction::Conv { conv: self.conv(node), x, add, relu, y },
            },
            Op::BatchNorm2d { .. } => {
                let norm = self.norm(node);
                let known = again || self.norm_after(self.input(node)) == Some(norm);
                let takes_statistics = self.mode == Mode::Train && !known && !self.keeps_statistics(node);
                Instruction::BatchNorm { norm, elements, takes_statistics, x, add, relu, y }
            }
            Op::LayerNorm { .. } => Instruction::LayerNorm { norm: self.layer_norm(node), x, y },
            Op::LayerScale { .. } | Op::Gate => Instruction::Scale { factors: self.factors(node), x, add, relu, y },
            Op::Gelu => Instruction::Activate { activation: Activation::Gelu, elements, x, y },
            Op::Sigmoid => Instruction::Activate { activation: Activation::Sigmoid, elements, x, y },
            Op::Relu => Instruction::Relu { elements, x, y },
            Op::MaxPool2d(_) => {
                Instruction::MaxPool { pool: self.pooling(node), elements, x, index: self.indices[node.0], y }
            }
            Op::AvgPool2d { count_include_pad, .. } => {
                Instruction::AvgPool { pool: self.pooling(node), count_include_pad, x, y }
            }
            Op::AdaptiveAvgPool2d { .. } => Instruction::AdaptiveAvgPool { pool: self.adaptive(node), x, y },
            Op::GlobalAvgPool => {
                let (pixels, channels) = self.pixels(node);
                Instruction::GlobalAvgPool { elements, pixels, channels, x, y }
            }
            Op::Dropout { p } => Instruction::Dropout { node: node.0, p, x, accumulate: false, y },
            Op::DropPath { p } => Instruction::DropPath { node: node.0, p, x, accumulate: false, y },
            Op::Concat | Op::PadShortcut { .. } => {
                let has_gaps = matches!(self.graph.node(node).op, Op::PadShortcut { .. });
                let zero = has_gaps.then_some(Instruction::Zero { y });
                let copy =
                    |(input, slice)| Instruction::CopyChannels { elements, x: self.operand(input, form), slice, y };
                return zero.into_iter().chain(self.slices(node).into_iter().map(copy)).collect();
            }
            Op::Input { .. } | Op::Flatten | Op::Add => unreachable!("no step begins with these"),
        }]
    }

    /// The instructions of a step that begins with `node`, which reads the bytes of `x`.
    fn instructions_on_bytes(&self, node: NodeId, x: BufferId, add: Option<BufferId>, y: BufferId) -> Vec<Instruction> {
        let quantization = self.quantization_of(self.graph.node(node).inputs[0]).expect("what it reads is bytes");
        match self.graph.node(node).op {
            Op::MaxPool2d(_) => vec![Instruction::MaxPoolOfBytes { pool: self.pooling(node), x, y }],
            Op::GlobalAvgPool => {
                let (pixels, channels) = self.pixels(node);
                vec![Instruction::GlobalAvgPoolOfBytes { quantization, pixels, channels, x, y }]
            }
            Op::PadShortcut { .. } => {
                let copies = self.slices(node).into_iter();
                let copy = |(_, slice)| Instruction::CopyChannelsOfBytes { x, slice, y };
                [Instruction::ZeroBytes { quantization, y }].into_iter().chain(copies.map(copy)).collect()
            }
            _ => vec![Instruction::QuantizedConv { conv: self.layers.quantized_conv(node), x, add, y }],
        }
    }

    fn pooling(&self, node: NodeId) -> Pooling {
        let input = self.shapes[self.input(node).0];
        let (Op::MaxPool2d(window) | Op::AvgPool2d { pool: window, .. }) = self.graph.node(node).op else {
            unreachable!("called for pooling nodes")
        };
        Pooling { window, input: [input.height, input.width], channels: input.channels }
    }

    fn adaptive(&self, node: NodeId) -> AdaptiveShape {
        let [input, output] = [self.input(node), node].map(|id| self.shapes[id.0]);
        let size = |shape: Shape| [shape.height, shape.width];
        AdaptiveShape { input: size(input), output: size(output), channels: input.channels }
    }

    fn pixels(&self, node: NodeId) -> (usize, usize) {
        let input = self.shapes[self.input(node).0];
        (input.height * input.width, input.channels)
    }

    /// The copies of a concatenation or padding shortcut: source input and destination.
    fn slices(&self, node: NodeId) -> Vec<(NodeId, Slice)> {
        let y_channels = self.shapes[node.0].channels;
        let slice = |input: NodeId, stride, y_offset| {
            let shape = self.shapes[input.0];
            let size = [shape.height, shape.width];
            (input, Slice { size, stride, x_channels: shape.channels, y_channels, y_offset })
        };
        match self.graph.node(node).op {
            Op::PadShortcut { in_channels, out_channels, stride } => {
                vec![slice(self.input(node), stride, (out_channels - in_channels) / 2)]
            }
            _ => {
                let mut offset = 0;
                let inputs = self.graph.node(node).inputs.iter();
                inputs
                    .map(|input| {
                        let slice = slice(self.source[input.0], 1, offset);
                        offset += slice.1.x_channels;
                        slice
                    })
                    .collect()
            }
        }
    }

    fn finish(self, kept: Vec<(NodeId, BufferId, Option<BufferId>)>) -> Schedule {
        let forward = self.forward.len();
        let end = forward + self.backward.len() + 1;
        let mut alive: Vec<Option<Range<usize>>> = vec![None; self.lens.len()];
        let mut touch = |id: BufferId, at: usize| {
            let range = alive[id.0].take().unwrap_or(at..at);
            alive[id.0] = Some(range.start.min(at)..range.end.max(at + 1));
        };
        for (at, scheduled) in self.forward.iter().chain(&self.backward).enumerate() {
            scheduled.facts.buffers.iter().for_each(|&id| touch(id, at));
        }
        let input = self.values[0].expect("the input has a buffer");
        touch(input, 0);
        for &(_, value, seed) in &kept {
            touch(value, end);
            // Seeds are written between the passes and may be read after the last.
            if let Some(seed) = seed {
                touch(seed, forward);
                touch(seed, end);
            }
        }
        let buffer =
            |(&len, alive): (&usize, Option<Range<usize>>)| Buffer { len, alive: alive.unwrap_or(0..0), images: None };
        let buffers = self.lens.iter().zip(alive).map(buffer).collect();
        Schedule { forward: self.forward, backward: self.backward, buffers, input, kept }
    }
}
