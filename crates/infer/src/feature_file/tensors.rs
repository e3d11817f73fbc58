//! Consecutive arrays after a header: `.npy` with one, `.safetensors` with several. Every array has room for all
//! rows, so that batches are written to each as they come; if rows are missing at the end, the arrays are moved together.

use super::{FeatureTable, Writer, each_in_torch_order, extents};
use crate::LayerFeatures;
use residual_files::{AtomicFile, MAX_HEADER, Metadata, StoredType, npy_header, safetensors_header};
use std::io::{self, Read, Seek, SeekFrom, Write};

/// Bytes of a `.npy` header: enough for four extents of any size.
const NPY_HEADER: usize = 256;
/// Paths in a safetensors header take at most half of it, as JSON may write a byte as two.
const MAX_PATHS: usize = MAX_HEADER as usize / 2;

pub(super) struct Tensors {
    file: AtomicFile,
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
    stored: StoredType,
    row_shape: Vec<usize>,
    row_bytes: u64,
}

impl Tensors {
    pub(super) fn npy(file: AtomicFile, contents: &FeatureTable) -> Self {
        Self::new(file, contents, Format::Npy, NPY_HEADER as u64)
    }

    pub(super) fn safetensors(file: AtomicFile, contents: &FeatureTable) -> io::Result<Self> {
        let mut tensors = Self::new(file, contents, Format::Safetensors, 0);
        if !contents.classes.is_empty() {
            tensors.arrays.push(Array {
                name: "labels".into(),
                stored: StoredType::I64,
                row_shape: Vec::new(),
                row_bytes: 8,
            });
        }
        let all: Vec<usize> = (0..contents.sources.len()).collect();
        tensors.header = tensors.safetensors_header(contents, &all)?.len() as u64;
        Ok(tensors)
    }

    fn new(file: AtomicFile, contents: &FeatureTable, format: Format, header: u64) -> Self {
        let array = |(name, shape): &(String, residual_graph::Shape)| Array {
            name: name.clone(),
            stored: StoredType::F32,
            row_shape: extents(*shape),
            row_bytes: 4 * shape.len() as u64,
        };
        let arrays = contents.layers.iter().map(array).collect();
        Self { file, format, header, arrays, rows: 0 }
    }

    /// Offset of array `index` if every array has `rows`.
    fn offset(&self, index: usize, rows: usize) -> u64 {
        self.header + self.arrays[..index].iter().map(|array| array.row_bytes * rows as u64).sum::<u64>()
    }

    fn write(&mut self, contents: &FeatureTable, index: usize, bytes: &[u8]) -> io::Result<()> {
        let offset = self.offset(index, contents.sources.len()) + self.rows as u64 * self.arrays[index].row_bytes;
        self.file.seek(SeekFrom::Start(offset))?;
        self.file.write_all(bytes)
    }

    /// The header before the arrays, padded to its length for all rows; with fewer rows it is never longer.
    fn safetensors_header(&self, contents: &FeatureTable, written: &[usize]) -> io::Result<Vec<u8>> {
        let mut metadata = Metadata::new();
        let json = |texts: &[&str]| serde_json::json!(texts).to_string();
        let paths: Vec<&str> = written.iter().map(|&index| contents.sources[index].path.as_str()).collect();
        if paths.iter().map(|path| path.len()).sum::<usize>() <= MAX_PATHS {
            metadata.insert("paths".into(), json(&paths));
        }
        if !contents.classes.is_empty() {
            metadata.insert("classes".into(), serde_json::json!(contents.classes).to_string());
        }
        let shape = |array: &Array| std::iter::once(written.len()).chain(array.row_shape.iter().copied()).collect();
        let shapes: Vec<Vec<usize>> = self.arrays.iter().map(shape).collect();
        let entries = self.arrays.iter().zip(&shapes).map(|(array, shape)| (&*array.name, array.stored, &**shape));
        safetensors_header(entries, &metadata, self.header as usize).map_err(io::Error::other)
    }
}

impl Writer for Tensors {
    fn push(&mut self, contents: &FeatureTable, indices: &[usize], features: &[LayerFeatures]) -> io::Result<()> {
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

    fn finish(mut self: Box<Self>, contents: &FeatureTable, written: &[usize]) -> io::Result<AtomicFile> {
        let rows = written.len();
        for index in 1..self.arrays.len() {
            let [from, to] = [contents.sources.len(), rows].map(|rows| self.offset(index, rows));
            move_down(&mut self.file, from, to, self.arrays[index].row_bytes * rows as u64)?;
        }
        let len = self.offset(self.arrays.len(), rows);
        let header = match self.format {
            Format::Npy => {
                let shape: Vec<usize> = std::iter::once(rows).chain(self.arrays[0].row_shape.iter().copied()).collect();
                npy_header(&shape, NPY_HEADER)
            }
            Format::Safetensors => self.safetensors_header(contents, written)?,
        };
        debug_assert_eq!(header.len() as u64, self.header);
        self.file.seek(SeekFrom::Start(0))?;
        self.file.write_all(&header)?;
        self.file.set_len(len)?;
        Ok(self.file)
    }
}

/// Moves bytes towards the beginning of a file.
fn move_down(file: &mut AtomicFile, from: u64, to: u64, len: u64) -> io::Result<()> {
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
