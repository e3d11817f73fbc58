//! The ONNX file: the messages around the nodes, and the order of the bytes.
//!
//! The weights are written straight from the model. Therefore the messages around them, `ModelProto` and `GraphProto`, are
//! not encoded as a whole: protobuf allows fields in any order, and a message split between fields equals the concatenation
//! of two messages.

use crate::extents::extents;
use crate::initializer::{Initializer, key, length_bytes, write_key};
use crate::nodes::{Nodes, lay_out};
use crate::proto::{
    Dimension, GraphProto, ModelProto, OperatorSetIdProto, StringStringEntryProto, TensorProto, TensorShapeProto,
    TensorType, TypeProto, ValueInfoProto,
};
use crate::{
    ACTIVATION, IMAGES, INPUT, Input, LABELS, MODEL, OPSET, OPSET_OF_IMAGES, OUTPUT, OnnxError, PREPROCESSING,
    TEMPERATURE,
};
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
/// - The input is what [`Input`] says; N, the number of images, is dynamic. The output `logits` is N×classes, or N×C×H×W where
///   the network ends in a feature map.
/// - Nodes and their values have the names of the graph. If an op is exported as several nodes, the main one has its name; the
///   others are called `name/…`.
/// - Initializers have state-dict keys and shapes, except that a linear layer of a feature map is a 1×1
///   convolution, whose weight has two dimensions more. `num_batches_tracked` is omitted, as are dropout and stochastic
///   depth, which do nothing in inference.
/// - Quantised values and layers are pairs of `QuantizeLinear` and `DequantizeLinear`. A bias beside bytes is of 32-bit integers,
///   as runtimes add it to sums of products; filters that are next to nothing beside their bias have a coarser scale for that.
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
    opset: i64,
}

impl<'a> OnnxModel<'a> {
    /// Prepares the export of `model`, for normalised images of its preprocessing's size. Its weights are not copied.
    ///
    /// # Errors
    /// As [`OnnxModel::with_input`].
    pub fn new(model: &'a Model) -> Result<Self, OnnxError> {
        Self::with_input(model, Input::Normalized)
    }

    /// Prepares the export of `model` with another input. Its weights are not copied.
    ///
    /// # Errors
    /// If the model's public fields were changed so that they no longer fit together, the file would be larger than 2
    /// GiB, or for [`Input::AnySize`], if the network takes images of one size only.
    pub fn with_input(model: &'a Model, input: Input) -> Result<Self, OnnxError> {
        model.graph.validate()?;
        check_tensors(&model.graph, &model.tensors)?;
        model.preprocessing.validate().map_err(ModelError::from)?;
        let extents = extents(&model.graph, model.preprocessing.size, input == Input::AnySize)?;
        let Nodes { nodes, initializers } = lay_out(model, &extents, input);
        let graph = GraphProto {
            node: nodes,
            name: Some(model.graph.name.clone()),
            initializer: Vec::new(),
            input: vec![input_info(model, input)],
            output: vec![output_info(model, extents[model.graph.output.0])?],
        };
        let opset = match input {
            Input::Normalized | Input::AnySize => OPSET,
            Input::Images => OPSET_OF_IMAGES,
        };
        let head = describe(model, input, opset).encode_to_vec();
        let onnx = Self { model: head, graph: graph.encode_to_vec(), initializers, opset };
        match onnx.bytes() {
            got if got > MAX_BYTES => Err(OnnxError::TooLarge { got }),
            _ => Ok(onnx),
        }
    }

    /// The version of ONNX's operators that the file needs.
    pub fn opset(&self) -> i64 {
        self.opset
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
fn describe(model: &Model, input: Input, opset: i64) -> ModelProto {
    let ([height, width], channels) = (model.preprocessing.size, model.graph.input_size()[0]);
    let images = match input {
        Input::Normalized => format!("N×{channels}×{height}×{width}, normalised as metadata \"{PREPROCESSING}\" says,"),
        Input::AnySize => format!("N×{channels}×height×width, normalised as metadata \"{PREPROCESSING}\" says,"),
        Input::Images => {
            format!("N×height×width×{channels} in bytes, which metadata \"{PREPROCESSING}\" says how it prepares,")
        }
    };
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
        doc_string: Some(format!("{}: images {images} to logits", model.graph.name)),
        graph: None,
        opset_import: vec![OperatorSetIdProto { domain: Some(String::new()), version: Some(opset) }],
        metadata_props: metadata.into_iter().map(entry).collect(),
    }
}

/// The name and type of the images.
fn input_info(model: &Model, input: Input) -> ValueInfoProto {
    let channels = number(model.graph.input_size()[0]);
    let [height, width] = model.preprocessing.size.map(number);
    let [any_height, any_width] = ["height", "width"].map(any);
    match input {
        Input::Normalized => value_info(INPUT, TensorProto::FLOAT, vec![channels, height, width]),
        Input::AnySize => value_info(INPUT, TensorProto::FLOAT, vec![channels, any_height, any_width]),
        Input::Images => value_info(IMAGES, TensorProto::UINT8, vec![any_height, any_width, channels]),
    }
}

/// The name and type of the logits, a vector, or a map whose height and width may follow the image's.
fn output_info(model: &Model, extent: Option<[usize; 2]>) -> Result<ValueInfoProto, OnnxError> {
    let mut shape = vec![number(model.graph.output_channels()?)];
    match extent {
        Some([1, 1]) => {}
        Some(extent) => shape.extend(extent.map(number)),
        None => shape.extend(["output_height", "output_width"].map(any)),
    }
    Ok(value_info(OUTPUT, TensorProto::FLOAT, shape))
}

/// The name and type of a value with this shape for each of N images.
fn value_info(name: &str, elem_type: i32, shape: Vec<Dimension>) -> ValueInfoProto {
    let shape = TensorShapeProto { dim: std::iter::once(any("N")).chain(shape).collect() };
    let tensor_type = TensorType { elem_type: Some(elem_type), shape: Some(shape) };
    ValueInfoProto { name: Some(name.into()), r#type: Some(TypeProto { tensor_type: Some(tensor_type) }) }
}

fn number(extent: usize) -> Dimension {
    Dimension { dim_value: Some(extent as i64), dim_param: None }
}

/// A dimension of any extent.
fn any(name: &str) -> Dimension {
    Dimension { dim_value: None, dim_param: Some(name.into()) }
}
