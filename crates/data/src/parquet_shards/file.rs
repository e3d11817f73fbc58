//! One parquet file: its row groups, its labels, and pages of its images.

use std::fs::File;
use std::io::{BufReader, Seek, SeekFrom};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::data_type::{ByteArray, ByteArrayType, DataType};
use parquet::errors::ParquetError;
use parquet::file::reader::{ChunkReader, FileReader, Length, SerializedFileReader};
use residual_files::{FileError, open_file, printable, read_part};

use super::features::Columns;
use crate::DataError;
use crate::folder::check_distinct;

/// The longest footer that is read. It takes some 500 bytes a row group.
const MAX_FOOTER: u64 = 64 << 20;
/// The number of rows whose labels are read at once.
const ROWS: usize = 1 << 14;

/// A file by its path. It is opened for each read, as several threads read it, and datasets have more files than a process may
/// keep open.
struct Bytestore {
    path: PathBuf,
    len: u64,
}

impl Length for Bytestore {
    fn len(&self) -> u64 {
        self.len
    }
}

impl ChunkReader for Bytestore {
    type T = BufReader<File>;

    fn get_read(&self, start: u64) -> Result<Self::T, ParquetError> {
        let mut file = open_file(&self.path).map_err(external)?;
        file.seek(SeekFrom::Start(start)).map_err(|error| external(FileError::read(&self.path)(error)))?;
        Ok(BufReader::new(file))
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        if start.checked_add(length as u64).is_none_or(|end| end > self.len) {
            return Err(ParquetError::EOF(format!("{length} bytes at offset {start}")));
        }
        read_part(&self.path, start, length).map(Bytes::from).map_err(external)
    }
}

fn external(error: FileError) -> ParquetError {
    ParquetError::External(Box::new(error))
}

/// A file whose footer is read.
pub(super) struct ParquetFile {
    path: PathBuf,
    reader: SerializedFileReader<Bytestore>,
    columns: Columns,
    notes: Vec<String>,
    /// The number of rows of each row group.
    groups: Vec<usize>,
}

impl ParquetFile {
    /// Reads the footer of a file, of at most 64 MiB.
    ///
    /// # Errors
    /// [`DataError::File`] if it cannot be read; [`DataError::Invalid`] if it is damaged, has no columns of images and labels, or
    /// more rows than bytes.
    pub(super) fn open(path: &Path) -> Result<Self, DataError> {
        let place = path.display().to_string();
        let len = open_file(path)?.metadata().map_err(FileError::read(path))?.len();
        let end = read_part(path, len.saturating_sub(8), len.min(8) as usize)?;
        let [l0, l1, l2, l3, b'P', b'A', b'R', b'1'] = end[..] else {
            return Err(DataError::invalid(place, "a parquet file", "other bytes at its end"));
        };
        let footer = u64::from(u32::from_le_bytes([l0, l1, l2, l3]));
        if footer > MAX_FOOTER.min(len) {
            return Err(DataError::invalid(place, format!("a footer of at most {MAX_FOOTER} bytes"), footer));
        }
        let store = Bytestore { path: path.to_path_buf(), len };
        let reader = guarded(path, || SerializedFileReader::new(store))?;
        let metadata = reader.metadata();
        let columns = guarded(path, || Ok(Columns::find(metadata.file_metadata())))?;
        let columns = columns.map_err(|(expected, got)| DataError::invalid(&place, expected, got))?;
        if let Some(names) = &columns.names {
            check_distinct(names.iter().map(String::as_str), &place)?;
        }
        let rows = |group: &parquet::file::metadata::RowGroupMetaData| usize::try_from(group.num_rows()).ok();
        let groups: Option<Vec<usize>> = metadata.row_groups().iter().map(rows).collect();
        let total =
            groups.as_ref().and_then(|groups| groups.iter().try_fold(0usize, |sum, &rows| sum.checked_add(rows)));
        // An image takes more than a byte: a file with more rows promises what it does not have.
        let (Some(groups), Some(_)) = (groups, total.filter(|&total| total as u64 <= len)) else {
            return Err(DataError::invalid(place, "at most a row for each byte", "more"));
        };
        let notes = columns.note.iter().map(|note| format!("{place}: {note}")).collect();
        Ok(Self { path: path.to_path_buf(), reader, columns, notes, groups })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The names of the classes in the file's metadata.
    pub(super) fn class_names(&self) -> Option<&[String]> {
        self.columns.names.as_deref()
    }

    pub(super) fn notes(&self) -> &[String] {
        &self.notes
    }

    /// The number of rows of each row group.
    pub(super) fn groups(&self) -> impl Iterator<Item = usize> {
        self.groups.iter().copied()
    }

    /// The compressed lengths of a row group's columns.
    pub(super) fn group_lengths(&self, group: usize) -> impl Iterator<Item = i64> {
        self.reader.metadata().row_group(group).columns().iter().map(|column| column.compressed_size())
    }

    /// Gives the label of each row to `on_label`, as text.
    pub(super) fn labels(&self, on_label: &mut dyn FnMut(&str) -> Result<(), DataError>) -> Result<(), DataError> {
        let name = &self.columns.label_name;
        let mut row = 0;
        let mut take = |label: Option<String>| {
            let label = label.filter(|label| !label.is_empty()).ok_or_else(|| {
                let place = format!("{} row {row}, {name}", self.path.display());
                DataError::invalid(place, "a label", "none")
            })?;
            row += 1;
            on_label(&label)
        };
        let is_named = self.columns.names.is_some();
        // The Hugging Face library writes -1 for no label.
        let number = |value: i64| (value >= 0).then(|| value.to_string());
        for (group, &rows) in self.groups.iter().enumerate() {
            let column =
                guarded(&self.path, || self.reader.get_row_group(group)?.get_column_reader(self.columns.label))?;
            match column {
                ColumnReader::Int64ColumnReader(mut column) => {
                    self.each(&mut column, rows, |value| take(value.copied().and_then(number)))?;
                }
                ColumnReader::Int32ColumnReader(mut column) => {
                    self.each(&mut column, rows, |value| take(value.and_then(|&value| number(value.into()))))?;
                }
                ColumnReader::ByteArrayColumnReader(mut column) if !is_named => {
                    let text = |value: &ByteArray| String::from_utf8(value.data().to_vec()).ok();
                    self.each(&mut column, rows, |value| take(value.and_then(text)))?;
                }
                _ => return Err(DataError::invalid(self.path.display(), "numbers as labels", "another type")),
            }
        }
        Ok(())
    }

    /// Gives each value of a column of `rows` rows, or `None` for a row without one, to `on_value`.
    fn each<T: DataType>(
        &self,
        column: &mut ColumnReaderImpl<T>,
        rows: usize,
        mut on_value: impl FnMut(Option<&T::T>) -> Result<(), DataError>,
    ) -> Result<(), DataError> {
        let mut left = rows;
        while left > 0 {
            let values = guarded(&self.path, || read_rows(column, left.min(ROWS)))?;
            if values.is_empty() {
                return Err(DataError::invalid(
                    self.path.display(),
                    format!("{rows} rows in a row group"),
                    rows - left,
                ));
            }
            left -= values.len();
            values.iter().try_for_each(|value| on_value(value.as_ref()))?;
        }
        Ok(())
    }

    /// The first row of each page of images of a row group, and its number of rows at the end.
    pub(super) fn page_starts(&self, group: usize) -> Result<Vec<usize>, DataError> {
        let starts = guarded(&self.path, || {
            let mut pages = self.reader.get_row_group(group)?.get_column_page_reader(self.columns.bytes)?;
            let mut starts = vec![0usize];
            while let Some(page) = pages.peek_next_page()? {
                if !page.is_dict {
                    // Without repetition a level is a row.
                    let rows = page.num_rows.or(page.num_levels).unwrap_or(0);
                    starts.push(starts.last().copied().unwrap_or(0).saturating_add(rows));
                }
                pages.skip_next_page()?;
            }
            Ok(starts)
        })?;
        let (rows, got) = (self.groups[group], starts.last().copied().unwrap_or(0));
        if rows != got {
            return Err(DataError::invalid(self.path.display(), format!("{rows} images in a row group"), got));
        }
        Ok(starts)
    }

    /// The images of rows of a row group, which are those of one page; `None` for a row without one.
    pub(super) fn images(&self, group: usize, first: usize, count: usize) -> Result<Vec<Option<ByteArray>>, DataError> {
        guarded(&self.path, || {
            let column = self.reader.get_row_group(group)?.get_column_reader(self.columns.bytes)?;
            let ColumnReader::ByteArrayColumnReader(mut column) = column else {
                return Err(ParquetError::General("a column of bytes changed its type".into()));
            };
            column.skip_records(first)?;
            let images = read_rows::<ByteArrayType>(&mut column, count)?;
            if images.len() < count {
                return Err(ParquetError::EOF(format!("{} of {count} images in a page", images.len())));
            }
            Ok(images)
        })
    }
}

/// The next `count` rows of a column, fewer at its end.
fn read_rows<T: DataType>(column: &mut ColumnReaderImpl<T>, count: usize) -> Result<Vec<Option<T::T>>, ParquetError> {
    let (mut levels, mut values) = (Vec::new(), Vec::new());
    let (rows, read, _) = column.read_records(count, Some(&mut levels), None, &mut values)?;
    // Without levels every row has a value; else the highest level is that of a value.
    if levels.is_empty() {
        return Ok(values.into_iter().map(Some).collect());
    }
    let defined = levels.iter().copied().max().unwrap_or(0);
    let is_defined = |&level: &i16| level == defined && read > 0;
    let mut values = values.into_iter();
    Ok(levels[..rows].iter().map(|level| if is_defined(level) { values.next() } else { None }).collect())
}

/// Runs a part of the reader, which may panic on damaged files.
fn guarded<T>(path: &Path, read: impl FnOnce() -> Result<T, ParquetError>) -> Result<T, DataError> {
    let damaged = |got: &str| {
        DataError::invalid(path.display(), "a parquet file that is whole, plain or packed by snappy or gzip", got)
    };
    match catch_unwind(AssertUnwindSafe(read)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(ParquetError::External(error))) => Err(match error.downcast::<FileError>() {
            Ok(error) => DataError::File(*error),
            Err(error) => damaged(&printable(&error.to_string(), 150)),
        }),
        Ok(Err(error)) => Err(damaged(&printable(&error.to_string(), 150))),
        Err(_) => Err(damaged("one that its reader fails on")),
    }
}
