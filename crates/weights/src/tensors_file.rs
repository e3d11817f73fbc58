//! Named tensors and string metadata as a safetensors file.

use crate::view::{ElementType, TensorView};
use crate::{Cause, FormatError, WeightsError, atomic_write, file};
use residual_tensor::{Elements, NamedTensors};
use safetensors::{Dtype, SafeTensors};
use serde::ser::{Serialize, SerializeMap, Serializer};
use std::collections::BTreeMap;
use std::path::Path;

/// String metadata beside the tensors of a file.
pub type Metadata = BTreeMap<String, String>;

/// The key under which safetensors keeps the metadata, which no tensor may have.
const METADATA: &str = "__metadata__";

/// The longest header that is read or written. It holds names, shapes and the metadata, of which a graph of a thousand
/// layers takes 2 MB.
const MAX_HEADER: u64 = 64 << 20;

/// Writes `tensors` and `metadata` as a safetensors file, as a whole or not at all. The same input gives the same
/// bytes.
///
/// # Errors
/// If the file cannot be written; what was there before still is.
pub fn save_tensors(path: &Path, tensors: &NamedTensors, metadata: &Metadata) -> Result<(), WeightsError> {
    let header = header(tensors, metadata).map_err(|error| WeightsError::new(path, Cause::Format(error)))?;
    atomic_write(path, |out| {
        out.write_all(&(header.len() as u64).to_le_bytes())?;
        out.write_all(&header)?;
        stored_order(tensors).try_for_each(|(_, elements)| match elements {
            Elements::F32(values) => file::write_elements(out, values, f32::to_le_bytes),
            Elements::I64(values) => file::write_elements(out, values, i64::to_le_bytes),
        })
    })
}

/// Reads a safetensors file: floats as f32, integers as i64, the order as stored ([`save_tensors`] puts integers first).
///
/// # Errors
/// If the file cannot be read or is no such file.
pub fn load_tensors(path: &Path) -> Result<(NamedTensors, Metadata), WeightsError> {
    let bytes = file::read(path)?;
    let read = || {
        let (views, metadata) = parse_safetensors(&bytes)?;
        let tensors = views
            .into_iter()
            .map(|(key, view)| view.to_tensor(&key).map(|tensor| (key, tensor)))
            .collect::<Result<_, FormatError>>()?;
        Ok((tensors, metadata))
    };
    read().map_err(|error: FormatError| WeightsError::new(path, error))
}

/// The tensors, in the order in which they are stored, and the metadata of a safetensors file's bytes. Nothing is
/// converted yet, and nothing allocated beyond a multiple of the header's length.
///
/// # Errors
/// If `bytes` are no such file: the header's length, its JSON, its shapes and its offsets must fit together and cover
/// the bytes exactly.
pub fn parse_safetensors(bytes: &[u8]) -> Result<(Vec<(String, TensorView<'_>)>, Metadata), FormatError> {
    if let Some(length) = bytes.first_chunk().map(|length| u64::from_le_bytes(*length))
        && length > MAX_HEADER
    {
        return Err(FormatError::Header(format!("header: expected at most {MAX_HEADER} bytes, got {length}")));
    }
    let (header, info) = SafeTensors::read_metadata(bytes)?;
    let data = &bytes[8 + header..];
    let metadata = info.metadata().iter().flatten().map(|(key, value)| (key.clone(), value.clone())).collect();
    let mut views = Vec::new();
    for key in info.offset_keys() {
        // Offsets and shape were held against each other and the data above.
        let Some(tensor) = info.info(&key) else { continue };
        let (start, end) = tensor.data_offsets;
        views.push((key, TensorView::dense(element_type(tensor.dtype), tensor.shape.clone(), &data[start..end])));
    }
    Ok((views, metadata))
}

fn element_type(dtype: Dtype) -> Result<ElementType, String> {
    Ok(match dtype {
        Dtype::F64 => ElementType::F64,
        Dtype::F32 => ElementType::F32,
        Dtype::F16 => ElementType::F16,
        Dtype::BF16 => ElementType::BF16,
        Dtype::I64 => ElementType::I64,
        Dtype::I32 => ElementType::I32,
        Dtype::I16 => ElementType::I16,
        Dtype::I8 => ElementType::I8,
        Dtype::U8 => ElementType::U8,
        Dtype::BOOL => ElementType::Bool,
        other => return Err(format!("{other:?}").to_lowercase()),
    })
}

/// The eight-byte integers come first, so that every tensor is aligned, which torch's reader needs.
fn stored_order(tensors: &NamedTensors) -> impl Iterator<Item = (&str, &Elements)> {
    let all = || tensors.iter().map(|(key, tensor)| (key.as_str(), tensor.elements()));
    let is_integer = |elements: &Elements| matches!(elements, Elements::I64(_));
    all()
        .filter(move |(_, elements)| is_integer(elements))
        .chain(all().filter(move |(_, elements)| !is_integer(elements)))
}

/// The JSON header, padded with spaces to a multiple of eight bytes. (The safetensors crate would write the metadata in
/// random order, so that equal runs gave different files.)
fn header(tensors: &NamedTensors, metadata: &Metadata) -> Result<Vec<u8>, FormatError> {
    if tensors.contains_key(METADATA) {
        return Err(FormatError::Header(format!("expected tensor names other than \"{METADATA}\"")));
    }
    let mut header = serde_json::to_vec(&Header { tensors, metadata })
        .expect("maps with string keys, strings and numbers can be written as JSON");
    header.resize(header.len().next_multiple_of(8), b' ');
    if header.len() as u64 > MAX_HEADER {
        let length = header.len();
        return Err(FormatError::Header(format!("header: expected at most {MAX_HEADER} bytes, got {length}")));
    }
    Ok(header)
}

struct Header<'a> {
    tensors: &'a NamedTensors,
    metadata: &'a Metadata,
}

#[derive(serde::Serialize)]
struct TensorInfo<'a> {
    dtype: &'static str,
    shape: &'a [usize],
    data_offsets: [usize; 2],
}

impl Serialize for Header<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        if !self.metadata.is_empty() {
            map.serialize_entry(METADATA, self.metadata)?;
        }
        let mut offset = 0;
        for (key, elements) in stored_order(self.tensors) {
            let (dtype, size) = match elements {
                Elements::F32(values) => ("F32", 4 * values.len()),
                Elements::I64(values) => ("I64", 8 * values.len()),
            };
            let data_offsets = [offset, offset + size];
            map.serialize_entry(key, &TensorInfo { dtype, shape: self.tensors[key].shape(), data_offsets })?;
            offset += size;
        }
        map.end()
    }
}
