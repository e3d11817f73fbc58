//! Converts each op of a graph to ONNX nodes.

mod preprocess;
mod quantized;

use crate::initializer::{Data, Initializer};
use crate::proto::{AttributeProto, NodeProto};
use crate::{IMAGES, INPUT, Input, OUTPUT};
use residual_graph::{Node, NodeId, Op, Pool2d, Role};
use residual_model::Model;
use std::collections::{HashMap, HashSet};
use std::f32::consts::SQRT_2;

/// A converted graph: nodes in execution order, and their constants.
#[derive(Debug)]
pub(crate) struct Nodes<'a> {
    pub(crate) nodes: Vec<NodeProto>,
    pub(crate) initializers: Vec<Initializer<'a>>,
}

/// Converts a valid model. `extents` are height and width of its graph's nodes, `None` where they follow the image's.
pub(crate) fn lay_out<'a>(model: &'a Model, extents: &[Option<[usize; 2]>], input: Input) -> Nodes<'a> {
    let mut layout = Layout {
        model,
        extents,
        values: Vec::with_capacity(extents.len()),
        names: HashSet::from([IMAGES, INPUT, OUTPUT].map(String::from)),
        shared: HashMap::new(),
        nodes: Vec::new(),
        initializers: Vec::new(),
    };
    layout.reserve_keys();
    match input {
        Input::Normalized | Input::AnySize => {}
        Input::Images => layout.preprocess(),
    }
    for (index, node) in model.graph.nodes.iter().enumerate() {
        let value = layout.op(node, extents[index]);
        layout.values.push(value);
    }
    layout.output();
    Nodes { nodes: layout.nodes, initializers: layout.initializers }
}

struct Layout<'a, 'b> {
    model: &'a Model,
    extents: &'b [Option<[usize; 2]>],
    /// For every node of the graph so far, its value.
    values: Vec<Value>,
    /// The names of values so far, constants among them.
    names: HashSet<String>,
    /// Constants shared by several nodes, by what they are.
    shared: HashMap<String, String>,
    nodes: Vec<NodeProto>,
    initializers: Vec<Initializer<'a>>,
}

#[derive(Clone)]
struct Value {
    name: String,
    /// N×C, not N×C×H×W.
    is_vector: bool,
}

impl<'a> Layout<'a, '_> {
    /// Keeps the names of the state dict for its tensors.
    fn reserve_keys(&mut self) {
        self.names.extend(self.model.graph.parameters().map(|(key, _)| key));
    }

    fn op(&mut self, node: &Node, output: Option<[usize; 2]>) -> Value {
        let name = node.name.as_str();
        let input = |index: usize| node.inputs[index];
        let before = |layout: &Self| layout.values[input(0).0].clone();
        match node.op {
            Op::Input { .. } => Value { name: INPUT.into(), is_vector: false },
            Op::Conv2d(conv) => {
                let x = self.map(node, input(0));
                let attributes = vec![
                    ints("dilations", conv.dilation),
                    int("group", conv.groups),
                    ints("kernel_shape", conv.kernel),
                    ints("pads", both_sides(conv.padding)),
                    ints("strides", conv.stride),
                ];
                let inputs = self.with_tensors(node, x);
                self.map_value("Conv", node, inputs, attributes)
            }
            Op::BatchNorm2d { eps, .. } => {
                let x = self.map(node, input(0));
                let inputs = self.with_tensors(node, x);
                self.map_value("BatchNormalization", node, inputs, vec![float("epsilon", eps)])
            }
            Op::LayerNorm { eps, .. } => {
                let attributes = vec![int("axis", -1i32), float("epsilon", eps)];
                let x = before(self);
                if x.is_vector {
                    let inputs = self.with_tensors(node, x.name);
                    return Value { name: self.node("LayerNormalization", node, inputs, attributes), is_vector: true };
                }
                let transposed =
                    |suffix: &str, order: [usize; 4]| (format!("{name}/{suffix}"), vec![ints("perm", order)]);
                let (to_nhwc, perm) = transposed("to_nhwc", [0, 2, 3, 1]);
                let x = self.helper("Transpose", &to_nhwc, vec![x.name], perm);
                let y = self.fresh(&format!("{name}/normalized"));
                let inputs = self.with_tensors(node, x);
                self.push("LayerNormalization", name, inputs, &y, attributes);
                let (to_nchw, perm) = transposed("to_nchw", [0, 3, 1, 2]);
                let output = self.fresh(name);
                self.push("Transpose", &to_nchw, vec![y], &output, perm);
                Value { name: output, is_vector: false }
            }
            Op::LayerScale { .. } => {
                let x = self.map(node, input(0));
                let inputs = self.with_tensors(node, x);
                self.map_value("Mul", node, inputs, Vec::new())
            }
            Op::Relu => self.elementwise("Relu", node),
            Op::Sigmoid => self.elementwise("Sigmoid", node),
            Op::Gelu => self.gelu(node),
            Op::Gate => {
                let inputs = vec![self.map(node, input(0)), self.map(node, input(1))];
                self.map_value("Mul", node, inputs, Vec::new())
            }
            Op::Add => {
                let op = if node.inputs.len() == 2 { "Add" } else { "Sum" };
                self.joined(op, node, Vec::new())
            }
            Op::Concat => self.joined("Concat", node, vec![int("axis", 1i32)]),
            Op::MaxPool2d(pool) => {
                let x = self.map(node, input(0));
                let pads = pads(pool, self.extents[input(0).0], output);
                let mut attributes = pool_attributes(pool.kernel, pool.stride, pads);
                attributes.extend(ceil_mode(pool, output));
                let pooled = self.map_value("MaxPool", node, vec![x], attributes);
                self.still_bytes(node, pooled)
            }
            Op::AvgPool2d { pool, count_include_pad } => self.average_pool(node, pool, count_include_pad, output),
            Op::GlobalAvgPool => {
                let x = self.map(node, input(0));
                self.map_value("GlobalAveragePool", node, vec![x], Vec::new())
            }
            Op::AdaptiveAvgPool2d { output } => self.adaptive_pool(node, output),
            Op::Flatten => {
                let x = before(self);
                if x.is_vector {
                    return x;
                }
                let name = self.node("Flatten", node, vec![x.name], vec![int("axis", 1i32)]);
                self.still_bytes(node, Value { name, is_vector: true })
            }
            Op::Linear { .. } => {
                let x = before(self);
                if x.is_vector {
                    let inputs = self.with_tensors(node, x.name);
                    return Value { name: self.node("Gemm", node, inputs, vec![int("transB", 1i32)]), is_vector: true };
                }
                let pixelwise = |shape: &mut Vec<usize>| {
                    if shape.len() == 2 {
                        shape.extend([1, 1]);
                    }
                };
                let inputs = self.with_shaped_tensors(node, x.name, pixelwise);
                self.map_value("Conv", node, inputs, vec![ints("kernel_shape", [1, 1])])
            }
            Op::Quantize => self.quantize(node),
            Op::QuantizeDynamic => self.quantize_dynamic(node),
            Op::Dropout { .. } | Op::DropPath { .. } => before(self),
            Op::PadShortcut { in_channels, out_channels, stride } => {
                let mut x = Value { name: self.map(node, input(0)), is_vector: false };
                if stride > 1 {
                    // An end beyond the last row means all rows.
                    let end = i64::MAX as usize;
                    let numbers = [("starts", [0, 0]), ("ends", [end; 2]), ("axes", [2, 3]), ("steps", [stride; 2])];
                    let constants = numbers.map(|(what, values)| self.integers(&format!("{name}/{what}"), &values));
                    let inputs = std::iter::once(x.name).chain(constants).collect();
                    x.name = self.helper("Slice", &format!("{name}/strided"), inputs, Vec::new());
                }
                let new = (out_channels - in_channels) / 2;
                let pads = self.integers(&format!("{name}/pads"), &[0, new, 0, 0, 0, new, 0, 0]);
                self.map_value("Pad", node, vec![x.name, pads], Vec::new())
            }
        }
    }

    /// x/2 · (1 + erf(x/√2)), in the form that torch's exporter writes and runtimes recognise.
    fn gelu(&mut self, node: &Node) -> Value {
        let Value { name: x, is_vector } = self.values[node.inputs[0].0].clone();
        let [root, one, half] = [("sqrt2", SQRT_2), ("one", 1.0), ("half", 0.5)].map(|(name, v)| self.scalar(name, v));
        let step = |what: &str| format!("{}/{what}", node.name);
        let y = self.helper("Div", &step("div"), vec![x.clone(), root], Vec::new());
        let y = self.helper("Erf", &step("erf"), vec![y], Vec::new());
        let y = self.helper("Add", &step("add"), vec![y, one], Vec::new());
        let y = self.helper("Mul", &step("mul"), vec![x, y], Vec::new());
        Value { name: self.node("Mul", node, vec![y, half], Vec::new()), is_vector }
    }

    fn average_pool(
        &mut self,
        node: &Node,
        pool: Pool2d,
        count_include_pad: bool,
        output: Option<[usize; 2]>,
    ) -> Value {
        let mut x = self.map(node, node.inputs[0]);
        let mut pads = pads(pool, self.extents[node.inputs[0].0], output);
        let cut_off = pads[2..] != pool.padding;
        let mut counts = count_include_pad && pool.padding != [0, 0];
        if counts && cut_off {
            // Padded zeros count, but not what a last window reaches beyond them: the zeros have to be there before.
            let [top, left] = pool.padding;
            let zeros = self.integers(&format!("{}/pads", node.name), &[0, 0, top, left, 0, 0, top, left]);
            x = self.helper("Pad", &format!("{}/padded", node.name), vec![x, zeros], Vec::new());
            pads = [0, 0, pads[2] - top, pads[3] - left];
            counts = false;
        }
        let mut attributes = pool_attributes(pool.kernel, pool.stride, pads);
        attributes.push(int("count_include_pad", counts));
        attributes.extend(ceil_mode(pool, output));
        self.map_value("AveragePool", node, vec![x], attributes)
    }

    fn adaptive_pool(&mut self, node: &Node, to: [usize; 2]) -> Value {
        let x = self.map(node, node.inputs[0]);
        let from = match self.extents[node.inputs[0].0] {
            Some(from) if from == to => return Value { name: x, is_vector: false },
            Some(from) if to != [1, 1] => from,
            // Of a map whose size follows the image's, only the mean of all can be had.
            _ => return self.map_value("GlobalAveragePool", node, vec![x], Vec::new()),
        };
        if (0..2).all(|axis| from[axis].is_multiple_of(to[axis])) {
            let kernel = [0, 1].map(|axis| from[axis] / to[axis]);
            return self.map_value("AveragePool", node, vec![x], pool_attributes(kernel, kernel, [0; 4]));
        }
        // Windows of several sizes: means along the rows and then along the columns, as products with matrices.
        let rows = self.means(&format!("{}/rows", node.name), from[0], to[0], false);
        let columns = self.means(&format!("{}/columns", node.name), from[1], to[1], true);
        let y = self.helper("MatMul", &format!("{}/along_rows", node.name), vec![x, columns], Vec::new());
        self.map_value("MatMul", node, vec![rows, y], Vec::new())
    }

    /// The matrix to×from whose product with a column is the mean of each window of an adaptive pooling, or its transpose.
    fn means(&mut self, name: &str, from: usize, to: usize, transposed: bool) -> String {
        let mut matrix = vec![0.0; to * from];
        for window in 0..to {
            let span = window * from / to..((window + 1) * from).div_ceil(to);
            let share = 1.0 / span.len() as f32;
            for pixel in span {
                matrix[if transposed { pixel * to + window } else { window * from + pixel }] = share;
            }
        }
        let shape = if transposed { [from, to] } else { [to, from] };
        self.constant(name, &shape, Data::F32(matrix.into()))
    }

    /// The network's result, under its name.
    fn output(&mut self) {
        let id = self.model.graph.output;
        let Value { name, is_vector } = self.values[id.0].clone();
        if !is_vector && self.extents[id.0] == Some([1, 1]) {
            let flatten = format!("{}/vector", self.model.graph.node(id).name);
            self.push("Flatten", &flatten, vec![name], OUTPUT, vec![int("axis", 1i32)]);
        } else if name == INPUT {
            self.push("Identity", OUTPUT, vec![name], OUTPUT, Vec::new());
        } else {
            let values = self.nodes.iter_mut().flat_map(|node| node.input.iter_mut().chain(&mut node.output));
            values.filter(|value| **value == name).for_each(|value| OUTPUT.clone_into(value));
        }
    }

    /// The value of node `id` as N×C×H×W, for `reader`.
    fn map(&mut self, reader: &Node, id: NodeId) -> String {
        let Value { name, is_vector } = self.values[id.0].clone();
        if !is_vector {
            return name;
        }
        let axes = self.integers(&format!("{}/axes", reader.name), &[2, 3]);
        self.helper("Unsqueeze", &format!("{}/map", reader.name), vec![name, axes], Vec::new())
    }

    /// An elementwise node.
    fn elementwise(&mut self, op: &str, node: &Node) -> Value {
        let Value { name, is_vector } = self.values[node.inputs[0].0].clone();
        Value { name: self.node(op, node, vec![name], Vec::new()), is_vector }
    }

    /// A node of several inputs of one rank.
    fn joined(&mut self, op: &str, node: &Node, attributes: Vec<AttributeProto>) -> Value {
        let is_vector = node.inputs.iter().all(|input| self.values[input.0].is_vector);
        let inputs = node.inputs.iter().map(|&input| match is_vector {
            true => self.values[input.0].name.clone(),
            false => self.map(node, input),
        });
        let inputs = inputs.collect();
        Value { name: self.node(op, node, inputs, attributes), is_vector }
    }

    fn map_value(&mut self, op: &str, node: &Node, inputs: Vec<String>, attributes: Vec<AttributeProto>) -> Value {
        Value { name: self.node(op, node, inputs, attributes), is_vector: false }
    }

    /// `x` and the node's own tensors, in torch's order, which is ONNX's.
    fn with_tensors(&mut self, node: &Node, x: String) -> Vec<String> {
        self.with_shaped_tensors(node, x, |_| {})
    }

    /// As [`Layout::with_tensors`], with shapes that `reshape` has changed.
    fn with_shaped_tensors(&mut self, node: &Node, x: String, reshape: impl Fn(&mut Vec<usize>)) -> Vec<String> {
        let mut inputs = vec![x];
        if node.op.is_quantized() {
            inputs.extend(self.quantized_tensors(node, reshape));
            return inputs;
        }
        for mut spec in node.op.parameters().into_iter().filter(|spec| spec.role != Role::Counter) {
            let key = node.key(spec.name);
            reshape(&mut spec.shape);
            self.keep(&key, &spec.shape, Data::F32(self.floats(&key).into()));
            inputs.push(key);
        }
        inputs
    }

    /// The values of one of the model's tensors of floats.
    fn floats(&self, key: &str) -> &'a [f32] {
        self.model.tensors[key].as_f32().expect("a model has its graph's tensors")
    }

    /// Appends a node of the graph's name; the name of its value.
    fn node(&mut self, op: &str, node: &Node, inputs: Vec<String>, attributes: Vec<AttributeProto>) -> String {
        self.helper(op, &node.name, inputs, attributes)
    }

    /// Appends a node and a value, both called `name`; the value's name.
    fn helper(&mut self, op: &str, name: &str, inputs: Vec<String>, attributes: Vec<AttributeProto>) -> String {
        let output = self.fresh(name);
        self.push(op, name, inputs, &output, attributes);
        output
    }

    fn push(&mut self, op: &str, name: &str, inputs: Vec<String>, output: &str, attribute: Vec<AttributeProto>) {
        self.nodes.push(NodeProto {
            input: inputs,
            output: vec![output.into()],
            name: Some(name.into()),
            op_type: Some(op.into()),
            attribute,
        });
    }

    /// A list of integers as a constant; its name.
    fn integers(&mut self, name: &str, values: &[usize]) -> String {
        self.constant(name, &[values.len()], Data::I64(values.iter().map(|&value| integer(value)).collect()))
    }

    /// A number as a constant that several nodes may read; its name.
    fn scalar(&mut self, what: &str, value: f32) -> String {
        self.shared(what, &[], Data::F32(vec![value].into()))
    }

    /// A constant that several nodes may read; its name.
    fn shared(&mut self, what: &str, shape: &[usize], data: Data<'a>) -> String {
        if let Some(name) = self.shared.get(what) {
            return name.clone();
        }
        let name = self.constant(&format!("constant/{what}"), shape, data);
        self.shared.insert(what.into(), name.clone());
        name
    }

    /// A constant called `name`, or similarly if a value has that name; its name.
    fn constant(&mut self, name: &str, shape: &[usize], data: Data<'a>) -> String {
        let name = self.fresh(name);
        self.keep(&name, shape, data);
        name
    }

    /// A constant under a name that is known to be free.
    fn keep(&mut self, name: &str, shape: &[usize], data: Data<'a>) {
        self.initializers.push(Initializer::new(name, shape, data));
    }

    /// `name`, or one like it that no value has yet.
    fn fresh(&mut self, name: &str) -> String {
        let others = (1..).map(|number| format!("{name}/{number}"));
        let free = std::iter::once(name.to_owned()).chain(others).find(|name| !self.names.contains(name));
        let free = free.expect("fewer names than numbers");
        self.names.insert(free.clone());
        free
    }
}

/// Zeros before and after, in ONNX's order: top, left, bottom, right.
fn both_sides([height, width]: [usize; 2]) -> [usize; 4] {
    [height, width, height, width]
}

/// The padding of a pooling whose last windows may reach beyond it (`ceil_mode`): missing padding is added, as runtimes
/// disagree about where such windows end. For maps of any size it is the pooling's own.
fn pads(pool: Pool2d, from: Option<[usize; 2]>, to: Option<[usize; 2]>) -> [usize; 4] {
    let (Some(from), Some(to)) = (from, to) else { return both_sides(pool.padding) };
    let after = |axis: usize| {
        let reach = (to[axis] - 1) * pool.stride[axis] + pool.kernel[axis];
        pool.padding[axis] + reach.saturating_sub(from[axis] + 2 * pool.padding[axis])
    };
    let [top, left] = pool.padding;
    [top, left, after(0), after(1)]
}

/// The attribute `ceil_mode` of a pooling of maps of any size, whose padding does not say what its last windows are.
fn ceil_mode(pool: Pool2d, to: Option<[usize; 2]>) -> Option<AttributeProto> {
    (pool.ceil_mode && to.is_none()).then(|| int("ceil_mode", 1i32))
}

fn pool_attributes(kernel: [usize; 2], stride: [usize; 2], pads: [usize; 4]) -> Vec<AttributeProto> {
    vec![ints("kernel_shape", kernel), ints("pads", pads), ints("strides", stride)]
}

fn int(name: &str, value: impl TryInto<i64>) -> AttributeProto {
    let i = Some(integer(value));
    AttributeProto { name: Some(name.into()), i, r#type: Some(AttributeProto::INT), ..Default::default() }
}

fn ints<const N: usize>(name: &str, values: [usize; N]) -> AttributeProto {
    let ints = values.map(integer).to_vec();
    AttributeProto { name: Some(name.into()), ints, r#type: Some(AttributeProto::INTS), ..Default::default() }
}

fn text(name: &str, value: &str) -> AttributeProto {
    let s = Some(value.into());
    AttributeProto { name: Some(name.into()), s, r#type: Some(AttributeProto::STRING), ..Default::default() }
}

fn float(name: &str, value: f32) -> AttributeProto {
    AttributeProto {
        name: Some(name.into()),
        f: Some(value),
        r#type: Some(AttributeProto::FLOAT),
        ..Default::default()
    }
}

fn integer(value: impl TryInto<i64>) -> i64 {
    value.try_into().unwrap_or_else(|_| unreachable!("a validated graph's extents are far below 2⁶³"))
}
