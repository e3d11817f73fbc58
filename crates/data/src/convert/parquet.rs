//! Parquet files in the layout of the Hugging Face hub: a struct `image` of `bytes` and `path`, and the number `label`.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use parquet::basic::{Compression, LogicalType, Repetition, Type as Physical};
use parquet::data_type::{ByteArray, ByteArrayType, DataType, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::types::Type;
use residual_files::FileError;

use super::{EncodedImage, Shard};
use crate::DataError;

/// The most rows of a row group, and about the most bytes of its images: the Hugging Face library's for images.
const ROWS: usize = 100;
const BYTES: usize = 64 << 20;
/// The bytes after which a page of images ends.
const PAGE: usize = 1 << 20;

/// A shard that is being written, with the rows of its last row group.
pub(super) struct ParquetShard {
    path: PathBuf,
    writer: SerializedFileWriter<File>,
    images: Vec<ByteArray>,
    paths: Vec<ByteArray>,
    labels: Vec<i64>,
    bytes: usize,
}

impl Shard for ParquetShard {
    const EXTENSION: &'static str = "parquet";

    fn create(path: &Path, names: &[String]) -> Result<Self, DataError> {
        let file = File::create(path).map_err(FileError::write(path))?;
        let features = serde_json::json!({ "info": { "features": {
            "image": { "_type": "Image" },
            "label": { "names": names, "_type": "ClassLabel" },
        } } });
        // Images are packed already, and no two are equal. Pages end between the batches that are written.
        let properties = WriterProperties::builder()
            .set_compression(Compression::UNCOMPRESSED)
            .set_dictionary_enabled(false)
            .set_statistics_enabled(EnabledStatistics::None)
            .set_data_page_size_limit(PAGE)
            .set_write_batch_size(4)
            .set_key_value_metadata(Some(vec![KeyValue::new("huggingface".to_owned(), features.to_string())]))
            .build();
        let writer = schema().and_then(|schema| SerializedFileWriter::new(file, schema.into(), Arc::new(properties)));
        Ok(Self {
            path: path.to_path_buf(),
            writer: writer.map_err(failed(path))?,
            images: Vec::new(),
            paths: Vec::new(),
            labels: Vec::new(),
            bytes: 0,
        })
    }

    fn push(&mut self, index: usize, image: EncodedImage, label: u32) -> Result<(), DataError> {
        self.bytes += image.bytes.len();
        self.images.push(ByteArray::from(Bytes::from(image.bytes)));
        self.paths.push(ByteArray::from(format!("{index:09}.{}", image.extension).into_bytes()));
        self.labels.push(label.into());
        if self.labels.len() == ROWS || self.bytes >= BYTES { self.write_group() } else { Ok(()) }
    }

    fn finish(mut self) -> Result<(), DataError> {
        if !self.labels.is_empty() {
            self.write_group()?;
        }
        self.writer.close().map_err(failed(&self.path))?;
        Ok(())
    }

    /// The class names are in each file.
    fn describe(_folder: &Path, _names: &[String]) -> Result<(), DataError> {
        Ok(())
    }
}

impl ParquetShard {
    fn write_group(&mut self) -> Result<(), DataError> {
        let Self { path, writer, images, paths, labels, bytes } = self;
        let mut write = || {
            let mut group = writer.next_row_group()?;
            write_column::<ByteArrayType>(&mut group, images)?;
            write_column::<ByteArrayType>(&mut group, paths)?;
            write_column::<Int64Type>(&mut group, labels)?;
            group.close()
        };
        write().map_err(failed(path))?;
        images.clear();
        paths.clear();
        labels.clear();
        *bytes = 0;
        Ok(())
    }
}

fn write_column<T: DataType>(
    group: &mut SerializedRowGroupWriter<'_, File>,
    values: &[T::T],
) -> Result<(), ParquetError> {
    let mut column = group.next_column()?.expect("the schema has three columns");
    column.typed::<T>().write_batch(values, None, None)?;
    column.close()
}

fn schema() -> Result<Type, ParquetError> {
    let field = |name, physical, logical| {
        let field = Type::primitive_type_builder(name, physical).with_repetition(Repetition::REQUIRED);
        Ok::<_, ParquetError>(Arc::new(field.with_logical_type(logical).build()?))
    };
    let fields = vec![
        field("bytes", Physical::BYTE_ARRAY, None)?,
        field("path", Physical::BYTE_ARRAY, Some(LogicalType::String))?,
    ];
    let image = Type::group_type_builder("image").with_repetition(Repetition::REQUIRED).with_fields(fields).build()?;
    let fields = vec![Arc::new(image), field("label", Physical::INT64, None)?];
    Type::group_type_builder("schema").with_fields(fields).build()
}

fn failed(path: &Path) -> impl Fn(ParquetError) -> DataError + '_ {
    move |error| FileError::write(path)(io::Error::other(error)).into()
}
