//! The ONNX file: the messages around the nodes, and the order of the bytes.
//!
//! The weights are written straight from the model. Therefore the messages around them, `ModelProto` and `GraphProto`, are
//! not encoded as a whole: protobuf allows fields in any order, and a message split between fields equals the concatenation
//! of two messages.

use crate::initializer::{Initializer, key, length_bytes, write_key};
use crate::nodes::{Nodes, lay_out};
use crate::proto::{
    Dimension, GraphProto, ModelProto, OperatorSetIdProto, StringStringEntryProto, TensorProto, TensorShapeProto,
    TensorType, TypeProto, ValueInfoProto,
};
use crate::{ACTIVATION, INPUT, LABELS, MODEL, OPSET, OUTPUT, OnnxError, PREPROCESSING, TEMPERATURE};
use prost::Message;
use residual_model::{Activation, Model, ModelError, check_tensors};
use std::io::{self, Write};

/// Protobuf's limit.
pub(crate) const MAX_BYTES: u64 = i32::MAX as u64;
/// The version of the format that came with opset 17.
const IR_VERSION: i64 = 8;
/// `ModelProto.graph`.
const GRAPH: u8 = key(7);
/// `GraphProto.initializer`.
const INITIALIZER: u8 = key(5);

/// A model prepared as an ONNX file, not yet written.
///
/// - The input `input` is N×C×H×W, f32 and normalised, with the size of the model's preprocessing; N is dynamic. The output
///   `logits` is N×classes, or N×C×H×W where the network ends in a feature map.
/// - Nodes and their values have the names of the graph. If an op is exported as several nodes, the main one has its name; the
///   others are called `name/…`.
/// - Initializers have state-dict keys and shapes, except that a linear layer of a feature map is a 1×1
///   convolution, whose weight has two dimensions more. `num_batches_tracked` is omitted, as are dropout and stochastic
///   depth, which do nothing in inference.
/// - The metadata hold the network's name ([`MODEL`]), the preprocessing ([`PREPROCESSING`]) and, where there are any, the
///   labels ([`LABELS`]), an activation other than softmax ([`ACTIVATION`]) and a temperature other than 1
///   ([`TEMPERATURE`]).
///
/// A model whose batch norms are folded ([`residual_model::fold_batch_norm`]) gives a file without them. Equal models give
/// equal bytes.
#[derive(Debug)]
pub struct OnnxModel<'a> {
    /// `ModelProto` without the graph.
    model: Vec<u8>,
    /// `GraphProto` without the initializers.
    graph: Vec<u8>,
    initializers: Vec<Initializer<'a>>,
}

impl<'a> OnnxModel<'a> {
    /// Prepares the export of `model`. Its weights are not copied.
    ///
    /// # Errors
    /// If the model's public fields were changed so that they no longer fit together, or the file would be larger than 2
    /// GiB.
    pub fn new(model: &'a Model) -> Result<Self, OnnxError> {
        model.graph.validate()?;
        check_tensors(&model.graph, &model.tensors)?;
        model.preprocessing.validate().map_err(ModelError::from)?;
        let [height, width] = model.preprocessing.size;
        let shapes = model.graph.shapes(height, width)?;
        let output = shapes[model.graph.output.0];
        let Nodes { nodes, initializers } = lay_out(model, &shapes);
        let channels = model.graph.input_size()[0];
        let is_vector = [output.height, output.width] == [1, 1];
        let output_shape = [output.channels, output.height, output.width];
        let graph = GraphProto {
            node: nodes,
            name: Some(model.graph.name.clone()),
            initializer: Vec::new(),
            input: vec![value_info(INPUT, &[channels, height, width])],
            output: vec![value_info(OUTPUT, if is_vector { &output_shape[..1] } else { &output_shape })],
        };
        let onnx = Self { model: describe(model).encode_to_vec(), graph: graph.encode_to_vec(), initializers };
        match onnx.bytes() {
            got if got > MAX_BYTES => Err(OnnxError::TooLarge { got }),
            _ => Ok(onnx),
        }
    }

    /// Bytes of the file.
    pub fn bytes(&self) -> u64 {
        let graph = self.graph_bytes();
        self.model.len() as u64 + 1 + length_bytes(graph) + graph
    }

    /// Writes the file.
    ///
    /// # Errors
    /// If `out` cannot be written to.
    pub fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        out.write_all(&self.model)?;
        write_key(out, GRAPH, self.graph_bytes())?;
        out.write_all(&self.graph)?;
        for initializer in &self.initializers {
            write_key(out, INITIALIZER, initializer.bytes())?;
            initializer.write(out)?;
        }
        Ok(())
    }

    fn graph_bytes(&self) -> u64 {
        let initializers = self.initializers.iter().map(Initializer::bytes);
        self.graph.len() as u64 + initializers.map(|bytes| 1 + length_bytes(bytes) + bytes).sum::<u64>()
    }
}

/// The message around the graph.
fn describe(model: &Model) -> ModelProto {
    let [height, width] = model.preprocessing.size;
    let json = |text: serde_json::Result<String>| text.expect("strings and finite numbers, which JSON can express");
    let mut metadata =
        vec![(MODEL, model.graph.name.clone()), (PREPROCESSING, json(serde_json::to_string(&model.preprocessing)))];
    if !model.labels.is_empty() {
        metadata.push((LABELS, json(serde_json::to_string(&model.labels))));
    }
    match model.activation {
        Activation::Softmax => {}
        Activation::Sigmoid => metadata.push((ACTIVATION, "sigmoid".into())),
    }
    if model.temperature != 1.0 {
        metadata.push((TEMPERATURE, model.temperature.to_string()));
    }
    let entry = |(key, value): (&str, String)| StringStringEntryProto { key: Some(key.into()), value: Some(value) };
    ModelProto {
        ir_version: Some(IR_VERSION),
        producer_name: Some("residual".into()),
        producer_version: Some(env!("CARGO_PKG_VERSION").into()),
        doc_string: Some(format!(
            "{}: images N×{}×{height}×{width}, normalised as metadata \"{PREPROCESSING}\" says, to logits",
            model.graph.name,
            model.graph.input_size()[0]
        )),
        graph: None,
        opset_import: vec![OperatorSetIdProto { domain: Some(String::new()), version: Some(OPSET) }],
        metadata_props: metadata.into_iter().map(entry).collect(),
    }
}

/// The name and type of a value with this shape for each of N images.
fn value_info(name: &str, shape: &[usize]) -> ValueInfoProto {
    let batch = Dimension { dim_value: None, dim_param: Some("N".into()) };
    let extent = |&extent: &usize| Dimension { dim_value: Some(extent as i64), dim_param: None };
    let shape = TensorShapeProto { dim: std::iter::once(batch).chain(shape.iter().map(extent)).collect() };
    let tensor_type = TensorType { elem_type: Some(TensorProto::FLOAT), shape: Some(shape) };
    ValueInfoProto { name: Some(name.into()), r#type: Some(TypeProto { tensor_type: Some(tensor_type) }) }
}
