//! Parquet: a column for each field, in row groups of many rows.

use super::Row;
use parquet::basic::{LogicalType, Repetition, Type as Physical};
use parquet::data_type::{BoolType, ByteArray, ByteArrayType, DoubleType, FloatType, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::types::Type;
use residual_files::{AtomicFile, FileError};
use std::io;
use std::path::Path;
use std::sync::Arc;

/// Rows of a row group.
const GROUP: usize = 1 << 16;

pub(super) fn write<'a>(path: &Path, rows: impl Iterator<Item = Row<'a>>) -> Result<(), FileError> {
    let file = AtomicFile::create(path)?;
    let written = write_rows(file, rows).map_err(|error| FileError::write(path)(io::Error::other(error)))?;
    written.finish()
}

fn write_rows<'a>(file: AtomicFile, rows: impl Iterator<Item = Row<'a>>) -> Result<AtomicFile, ParquetError> {
    let schema = Arc::new(schema()?);
    let mut writer = SerializedFileWriter::new(file, schema, Arc::new(WriterProperties::builder().build()))?;
    let mut rows = rows.peekable();
    while rows.peek().is_some() {
        let group: Vec<Row<'_>> = rows.by_ref().take(GROUP).collect();
        write_group(writer.next_row_group()?, &group)?;
    }
    writer.into_inner()
}

fn write_group(mut group: SerializedRowGroupWriter<'_, AtomicFile>, rows: &[Row<'_>]) -> Result<(), ParquetError> {
    /// Writes the next column of `group` with these values, and with the definition levels of one that may be null.
    macro_rules! column {
        ($kind:ty, $values:expr, $levels:expr) => {{
            let mut column = group.next_column()?.expect("the schema has a column for each field");
            column.typed::<$kind>().write_batch(&$values.collect::<Vec<_>>(), $levels, None)?;
            column.close()?;
        }};
    }
    let defined: Vec<i16> = rows.iter().map(|row| row.predicted.is_some().into()).collect();
    column!(ByteArrayType, rows.iter().map(|row| ByteArray::from(row.image.as_str())), None);
    column!(Int64Type, rows.iter().map(|row| row.index as i64), None);
    column!(ByteArrayType, rows.iter().map(|row| ByteArray::from(row.label)), None);
    column!(ByteArrayType, rows.iter().filter_map(|row| row.predicted).map(ByteArray::from), Some(&defined));
    column!(FloatType, rows.iter().map(|row| row.probability), None);
    column!(BoolType, rows.iter().map(|row| row.correct), None);
    column!(DoubleType, rows.iter().map(|row| row.loss), None);
    group.close()?;
    Ok(())
}

fn schema() -> Result<Type, ParquetError> {
    let fields = [
        ("image", Physical::BYTE_ARRAY, Repetition::REQUIRED),
        ("index", Physical::INT64, Repetition::REQUIRED),
        ("label", Physical::BYTE_ARRAY, Repetition::REQUIRED),
        ("predicted", Physical::BYTE_ARRAY, Repetition::OPTIONAL),
        ("probability", Physical::FLOAT, Repetition::REQUIRED),
        ("correct", Physical::BOOLEAN, Repetition::REQUIRED),
        ("loss", Physical::DOUBLE, Repetition::REQUIRED),
    ];
    let field = |(name, physical, repetition): (&str, Physical, Repetition)| {
        let text = (physical == Physical::BYTE_ARRAY).then_some(LogicalType::String);
        let field = Type::primitive_type_builder(name, physical).with_repetition(repetition).with_logical_type(text);
        Ok(Arc::new(field.build()?))
    };
    let fields = fields.into_iter().map(field).collect::<Result<Vec<_>, ParquetError>>()?;
    Type::group_type_builder("predictions").with_fields(fields).build()
}
