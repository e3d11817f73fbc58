//! Arrays one after another behind a header: `.npy` with one, `.safetensors` with several. Every array has room for all
//! rows, so that they can come side by side; if some never came, the arrays move together in the end.

use super::{Contents, Writer, each_in_torch_order, extents, persist, temporary};
use crate::Feature;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;
use tempfile::NamedTempFile;

/// Bytes of a `.npy` header: enough for four extents of any size.
const NPY_HEADER: usize = 256;
/// Readers take safetensors headers of up to 100 MB.
const MAX_PATHS: usize = 64 << 20;

pub(super) struct Tensors {
    file: NamedTempFile,
    format: Format,
    /// Bytes before the first array.
    header: u64,
    arrays: Vec<Array>,
    rows: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Format {
    Npy,
    Safetensors,
}

struct Array {
    name: String,
    dtype: &'static str,
    row_shape: Vec<usize>,
    row_bytes: u64,
}

impl Tensors {
    pub(super) fn npy(path: &Path, contents: &Contents) -> io::Result<Self> {
        Self::new(path, contents, Format::Npy, NPY_HEADER as u64)
    }

    pub(super) fn safetensors(path: &Path, contents: &Contents) -> io::Result<Self> {
        let mut tensors = Self::new(path, contents, Format::Safetensors, 0)?;
        if !contents.classes.is_empty() {
            tensors.arrays.push(Array { name: "labels".into(), dtype: "I64", row_shape: Vec::new(), row_bytes: 8 });
        }
        let all: Vec<usize> = (0..contents.sources.len()).collect();
        tensors.header = tensors.safetensors_header(contents, &all).len() as u64;
        Ok(tensors)
    }

    fn new(path: &Path, contents: &Contents, format: Format, header: u64) -> io::Result<Self> {
        let array = |(name, shape): &(String, residual_graph::Shape)| Array {
            name: name.clone(),
            dtype: "F32",
            row_shape: extents(*shape),
            row_bytes: 4 * shape.len() as u64,
        };
        let arrays = contents.layers.iter().map(array).collect();
        Ok(Self { file: temporary(path)?, format, header, arrays, rows: 0 })
    }

    /// Where array `index` begins if every array has `rows`.
    fn offset(&self, index: usize, rows: usize) -> u64 {
        self.header + self.arrays[..index].iter().map(|array| array.row_bytes * rows as u64).sum::<u64>()
    }

    fn write(&mut self, contents: &Contents, index: usize, bytes: &[u8]) -> io::Result<()> {
        let offset = self.offset(index, contents.sources.len()) + self.rows as u64 * self.arrays[index].row_bytes;
        self.file.as_file_mut().seek(SeekFrom::Start(offset))?;
        self.file.write_all(bytes)
    }

    /// The length of the JSON, the JSON, and spaces up to a multiple of 8.
    fn safetensors_header(&self, contents: &Contents, written: &[usize]) -> Vec<u8> {
        let mut metadata = serde_json::Map::new();
        let json = |texts: Vec<&str>| serde_json::Value::from(serde_json::json!(texts).to_string());
        let paths: Vec<&str> = written.iter().map(|&index| contents.sources[index].path.as_str()).collect();
        if paths.iter().map(|path| path.len()).sum::<usize>() <= MAX_PATHS {
            metadata.insert("paths".into(), json(paths));
        }
        if !contents.classes.is_empty() {
            metadata.insert("classes".into(), json(contents.classes.iter().map(String::as_str).collect()));
        }
        let mut header = serde_json::Map::new();
        header.insert("__metadata__".into(), metadata.into());
        for (index, Array { name, dtype, row_shape, .. }) in self.arrays.iter().enumerate() {
            let [start, end] = [index, index + 1].map(|at| self.offset(at, written.len()) - self.header);
            let shape: Vec<usize> = std::iter::once(written.len()).chain(row_shape.iter().copied()).collect();
            let info = serde_json::json!({ "dtype": dtype, "shape": shape, "data_offsets": [start, end] });
            header.insert(name.clone(), info);
        }
        let mut text = serde_json::Value::from(header).to_string().into_bytes();
        // As long as it was when the rows were laid out: with fewer rows it is never longer.
        text.resize(text.len().next_multiple_of(8).max((self.header as usize).saturating_sub(8)), b' ');
        [&(text.len() as u64).to_le_bytes()[..], &text].concat()
    }

    fn npy_header(&self, rows: usize) -> Vec<u8> {
        let extents: String = self.arrays[0].row_shape.iter().map(|extent| format!("{extent}, ")).collect();
        let text = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, {}), }}", extents.trim_end());
        let width = NPY_HEADER - 11;
        let length = (width + 1) as u16;
        [b"\x93NUMPY\x01\x00", &length.to_le_bytes()[..], format!("{text:width$}\n").as_bytes()].concat()
    }
}

impl Writer for Tensors {
    fn push(&mut self, contents: &Contents, indices: &[usize], features: &[Feature]) -> io::Result<()> {
        for (index, feature) in features.iter().enumerate() {
            let mut bytes = Vec::with_capacity(4 * feature.values.len());
            each_in_torch_order(&feature.values, feature.shape, |value| bytes.extend(value.to_le_bytes()));
            self.write(contents, index, &bytes)?;
        }
        if self.arrays.len() > features.len() {
            let label = |&index: &usize| contents.sources[index].label.map_or(-1, |label| label as i64).to_le_bytes();
            let bytes: Vec<u8> = indices.iter().flat_map(label).collect();
            self.write(contents, features.len(), &bytes)?;
        }
        self.rows += indices.len();
        Ok(())
    }

    fn finish(mut self: Box<Self>, contents: &Contents, written: &[usize], path: &Path) -> io::Result<()> {
        let rows = written.len();
        for index in 1..self.arrays.len() {
            let [from, to] = [contents.sources.len(), rows].map(|rows| self.offset(index, rows));
            move_down(self.file.as_file_mut(), from, to, self.arrays[index].row_bytes * rows as u64)?;
        }
        let len = self.offset(self.arrays.len(), rows);
        let header = match self.format {
            Format::Npy => self.npy_header(rows),
            Format::Safetensors => self.safetensors_header(contents, written),
        };
        debug_assert_eq!(header.len() as u64, self.header);
        self.file.as_file_mut().seek(SeekFrom::Start(0))?;
        self.file.write_all(&header)?;
        self.file.as_file().set_len(len)?;
        persist(self.file, path)
    }
}

/// Moves bytes towards the beginning of a file.
fn move_down(file: &mut File, from: u64, to: u64, len: u64) -> io::Result<()> {
    if from == to {
        return Ok(());
    }
    let mut buffer = vec![0; 1 << 20];
    let mut done = 0;
    while done < len {
        let part = buffer.len().min((len - done) as usize);
        file.seek(SeekFrom::Start(from + done))?;
        file.read_exact(&mut buffer[..part])?;
        file.seek(SeekFrom::Start(to + done))?;
        file.write_all(&buffer[..part])?;
        done += part as u64;
    }
    Ok(())
}
