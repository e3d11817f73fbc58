//! Quantised values and layers, as pairs of `QuantizeLinear` and `DequantizeLinear`: a runtime that computes with bytes
//! recognises them, and any other one rounds as they say.

use super::{Layout, Value, int};
use crate::initializer::Data;
use crate::proto::NodeProto;
use residual_graph::{Node, Op};
use std::borrow::Cow;

/// The largest bias of a quantised layer, in units of a product of bytes: with the products it stays within 32 bits.
const LARGEST_BIAS: f64 = (1 << 30) as f64;

impl<'a> Layout<'a, '_> {
    /// The value, rounded to bytes and back.
    pub(super) fn quantize(&mut self, node: &Node) -> Value {
        let Value { name: x, is_vector } = self.values[node.inputs[0].0].clone();
        let [scale, zero_point] = ["scale", "zero_point"].map(|name| node.key(name));
        let zero = self.model.tensors[zero_point.as_str()].as_u8().expect("a zero point is a byte");
        self.keep(&scale, &[], Data::F32(self.floats(&scale).into()));
        self.keep(&zero_point, &[], Data::U8(zero.into()));
        Value { name: self.rounded(node, &node.name, x, [scale, zero_point]), is_vector }
    }

    /// The value, rounded in the range of the batch.
    pub(super) fn quantize_dynamic(&mut self, node: &Node) -> Value {
        let Value { name: x, is_vector } = self.values[node.inputs[0].0].clone();
        let parts = ["bytes", "scale", "zero_point"].map(|part| self.fresh(&format!("{}/{part}", node.name)));
        self.nodes.push(NodeProto {
            input: vec![x],
            output: parts.to_vec(),
            name: Some(parts[0].clone()),
            op_type: Some("DynamicQuantizeLinear".into()),
            attribute: Vec::new(),
        });
        Value { name: self.node("DequantizeLinear", node, parts.to_vec(), Vec::new()), is_vector }
    }

    /// The value of a node that picks from what it reads: if these are bytes, a pair says so again, which changes nothing.
    /// onnxruntime (1.32) gives a linear layer bytes only where it reads them from such a pair.
    pub(super) fn still_bytes(&mut self, node: &Node, value: Value) -> Value {
        let Some(id) = self.model.graph.quantized_by(node.inputs[0]) else { return value };
        let origin = self.model.graph.node(id);
        if origin.op == Op::QuantizeDynamic {
            return value;
        }
        let numbers = ["scale", "zero_point"].map(|name| origin.key(name));
        Value { name: self.rounded(node, &format!("{}/rounded", node.name), value.name, numbers), ..value }
    }

    /// The floats of `x`, rounded to bytes and back by nodes `<node>/bytes` and `name`.
    fn rounded(&mut self, node: &Node, name: &str, x: String, [scale, zero_point]: [String; 2]) -> String {
        let inputs = vec![x, scale.clone(), zero_point.clone()];
        let bytes = self.helper("QuantizeLinear", &format!("{}/bytes", node.name), inputs, Vec::new());
        self.helper("DequantizeLinear", name, vec![bytes, scale, zero_point], Vec::new())
    }

    /// Weight and bias of a quantised layer. A bias beside bytes is of 32-bit integers, whose scale is that of the products of
    /// bytes, so that runtimes can add it to them.
    pub(super) fn quantized_tensors(&mut self, node: &Node, reshape: impl Fn(&mut Vec<usize>)) -> Vec<String> {
        let [weight, weight_scale, bias] = ["weight", "weight_scale", "bias"].map(|name| node.key(name));
        let tensor = &self.model.tensors[weight.as_str()];
        let mut layer = Layer {
            weight: tensor.as_i8().expect("a quantised weight is of signed bytes").into(),
            scale: self.floats(&weight_scale).into(),
        };
        let input_scale = self.model.graph.quantized_by(node.inputs[0]).and_then(|id| {
            let key = self.model.graph.node(id).key("scale");
            self.model.tensors.contains_key(key.as_str()).then(|| self.floats(&key)[0])
        });
        let has_bias = self.model.tensors.contains_key(bias.as_str());
        let integers = input_scale.filter(|_| has_bias).map(|scale| layer.integer_bias(self.floats(&bias), scale));
        let outputs = layer.scale.len();
        let mut shape = tensor.shape().to_vec();
        reshape(&mut shape);
        // Each layer has its own, as onnxruntime's mode without saturation (`session.x64quantprecision`) rewrites them.
        let zeros = self.constant(&format!("{weight}/zero_points"), &[outputs], Data::I8(vec![0; outputs].into()));
        self.keep(&weight, &shape, Data::I8(layer.weight));
        self.keep(&weight_scale, &[outputs], Data::F32(layer.scale));
        let mut inputs = vec![self.dequantize(&weight, vec![weight.clone(), weight_scale, zeros])];
        if let Some(Bias { values, scale }) = integers {
            let name = self.constant(&format!("{}/bias_scale", node.name), &[outputs], Data::F32(scale.into()));
            self.keep(&bias, &[outputs], Data::I32(values));
            inputs.push(self.dequantize(&bias, vec![bias.clone(), name]));
        } else if has_bias {
            self.keep(&bias, &[outputs], Data::F32(self.floats(&bias).into()));
            inputs.push(bias);
        }
        inputs
    }

    /// The floats that the integers of a tensor called `key` stand for, with a scale for each output channel.
    fn dequantize(&mut self, key: &str, inputs: Vec<String>) -> String {
        self.helper("DequantizeLinear", &format!("{key}/floats"), inputs, vec![int("axis", 0i32)])
    }
}

/// The weight of a quantised layer.
struct Layer<'a> {
    weight: Cow<'a, [i8]>,
    scale: Cow<'a, [f32]>,
}

/// A bias in 32-bit integers, with their scale for each output channel.
struct Bias {
    values: Vec<i32>,
    scale: Vec<f32>,
}

impl Layer<'_> {
    /// The bias in units of products with an input of scale `input`. Where a filter's scale is so small beside its bias, as of one
    /// that training has switched off, that 32 bits do not hold it, the filter is rounded to a coarser scale, which the sum does
    /// not show.
    fn integer_bias(&mut self, bias: &[f32], input: f32) -> Bias {
        let taps = self.weight.len() / bias.len();
        let mut integers = Bias { values: Vec::with_capacity(bias.len()), scale: Vec::with_capacity(bias.len()) };
        for (output, &bias) in bias.iter().enumerate() {
            let scale = self.scale[output];
            let least = (f64::from(bias.abs()) / (f64::from(input) * LARGEST_BIAS)) as f32;
            if scale < least {
                self.scale.to_mut()[output] = least;
                let ratio = f64::from(scale) / f64::from(least);
                let filter = &mut self.weight.to_mut()[output * taps..][..taps];
                filter.iter_mut().for_each(|byte| *byte = (f64::from(*byte) * ratio).round_ties_even() as i8);
            }
            let product = input * self.scale[output];
            integers.values.push((f64::from(bias) / f64::from(product)).round_ties_even() as i32);
            integers.scale.push(product);
        }
        integers
    }
}
