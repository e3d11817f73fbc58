//! Parquet: one row per image, in row groups of some megabytes.

use super::{FeatureTable, Writer, each_in_torch_order, extents};
use crate::LayerFeatures;
use parquet::data_type::{ByteArray, ByteArrayType, FloatType, Int32Type};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::Type;
use parquet::{basic, schema};
use residual_files::AtomicFile;
use std::io;
use std::sync::Arc;

/// Floats of a row group.
const GROUP: usize = 8 << 20;

pub(super) struct Parquet {
    writer: SerializedFileWriter<AtomicFile>,
    /// The rows of the next row group: images, and the values of each layer.
    indices: Vec<usize>,
    values: Vec<Vec<f32>>,
}

impl Parquet {
    pub(super) fn new(file: AtomicFile, contents: &FeatureTable) -> io::Result<Self> {
        let schema = Arc::new(schema(contents).map_err(io::Error::other)?);
        let shapes = contents.layers.iter().map(|(layer, shape)| (layer.clone(), serde_json::json!(extents(*shape))));
        let shapes = serde_json::Value::Object(shapes.collect()).to_string();
        let metadata = vec![
            KeyValue::new("shapes".into(), shapes),
            KeyValue::new("classes".into(), serde_json::json!(contents.classes).to_string()),
        ];
        // Floats of features do not repeat: a dictionary of them only takes time.
        let properties =
            WriterProperties::builder().set_dictionary_enabled(false).set_key_value_metadata(Some(metadata)).build();
        let writer = SerializedFileWriter::new(file, schema, Arc::new(properties)).map_err(io::Error::other)?;
        Ok(Self { writer, indices: Vec::new(), values: vec![Vec::new(); contents.layers.len()] })
    }

    fn write_group(&mut self, contents: &FeatureTable) -> Result<(), ParquetError> {
        if self.indices.is_empty() {
            return Ok(());
        }
        let sources: Vec<_> = self.indices.drain(..).map(|index| &contents.sources[index]).collect();
        let mut group = self.writer.next_row_group()?;
        let mut column = group.next_column()?.expect("the schema begins with a path");
        let paths: Vec<ByteArray> = sources.iter().map(|source| source.path.as_str().into()).collect();
        column.typed::<ByteArrayType>().write_batch(&paths, None, None)?;
        column.close()?;
        let mut column = group.next_column()?.expect("the schema has a label");
        let labels: Vec<i32> = sources.iter().filter_map(|source| source.label).map(|label| label as i32).collect();
        let defined: Vec<i16> = sources.iter().map(|source| source.label.is_some().into()).collect();
        column.typed::<Int32Type>().write_batch(&labels, Some(&defined), None)?;
        column.close()?;
        for values in &mut self.values {
            let mut column = group.next_column()?.expect("the schema has a column for every layer");
            let len = values.len() / sources.len();
            let repeated: Vec<i16> = (0..values.len()).map(|index| (index % len > 0).into()).collect();
            column.typed::<FloatType>().write_batch(values, Some(&vec![1; values.len()]), Some(&repeated))?;
            column.close()?;
            values.clear();
        }
        group.close()?;
        Ok(())
    }
}

fn schema(contents: &FeatureTable) -> Result<Type, ParquetError> {
    let path = Type::primitive_type_builder("path", basic::Type::BYTE_ARRAY)
        .with_repetition(basic::Repetition::REQUIRED)
        .with_logical_type(Some(basic::LogicalType::String))
        .build()?;
    let label = Type::primitive_type_builder("label", basic::Type::INT32)
        .with_repetition(basic::Repetition::OPTIONAL)
        .build()?;
    let list = |name: &str| -> Result<Arc<Type>, ParquetError> {
        let element = Type::primitive_type_builder("element", basic::Type::FLOAT)
            .with_repetition(basic::Repetition::REQUIRED)
            .build()?;
        let items = Type::group_type_builder("list")
            .with_repetition(basic::Repetition::REPEATED)
            .with_fields(vec![Arc::new(element)])
            .build()?;
        let list = Type::group_type_builder(name)
            .with_repetition(basic::Repetition::REQUIRED)
            .with_logical_type(Some(basic::LogicalType::List))
            .with_fields(vec![Arc::new(items)])
            .build()?;
        Ok(Arc::new(list))
    };
    let mut fields = vec![Arc::new(path), Arc::new(label)];
    for (layer, _) in &contents.layers {
        fields.push(list(if contents.layers.len() == 1 { "vector" } else { layer })?);
    }
    schema::types::Type::group_type_builder("features").with_fields(fields).build()
}

impl Writer for Parquet {
    fn push(&mut self, contents: &FeatureTable, indices: &[usize], features: &[LayerFeatures]) -> io::Result<()> {
        self.indices.extend_from_slice(indices);
        for (values, feature) in self.values.iter_mut().zip(features) {
            each_in_torch_order(&feature.values, feature.shape, |value| values.push(value));
        }
        if self.values.iter().map(Vec::len).sum::<usize>() >= GROUP {
            self.write_group(contents).map_err(io::Error::other)?;
        }
        Ok(())
    }

    fn finish(mut self: Box<Self>, contents: &FeatureTable, _written: &[usize]) -> io::Result<AtomicFile> {
        self.write_group(contents).map_err(io::Error::other)?;
        self.writer.into_inner().map_err(io::Error::other)
    }
}
