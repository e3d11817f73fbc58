//! Writes safetensors files. (The safetensors crate would write the metadata in random order, so that equal contents
//! would give different files.)

use crate::bytes::write_elements;
use crate::{FileError, atomic_write};
use residual_tensor::{Elements, NamedTensors};
use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};
use std::collections::BTreeMap;
use std::path::Path;

/// String metadata beside the tensors of a file.
pub type Metadata = BTreeMap<String, String>;

/// The key of the metadata in a safetensors header, which no tensor may have.
const METADATA: &str = "__metadata__";

/// The longest header that is read or written, in bytes. It holds names, shapes and the metadata, of which a graph of a
/// thousand layers takes 2 MB. Other readers accept 100 MB.
pub const MAX_HEADER: u64 = 64 << 20;

/// Tensors or metadata for which no header can be written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// A tensor has the name of the metadata.
    #[error("safetensors: expected tensor names other than \"__metadata__\"")]
    Name,
    /// The header is longer than readers accept.
    #[error("safetensors: header: expected at most {MAX_HEADER} bytes, got {got}")]
    TooLong {
        /// Its length.
        got: usize,
    },
}

/// Writes `tensors` and `metadata` as a safetensors file, atomically. Equal input gives equal bytes.
///
/// # Errors
/// If the file cannot be written; a previous file is unchanged.
pub fn save_tensors(path: &Path, tensors: &NamedTensors, metadata: &Metadata) -> Result<(), FileError> {
    let entries = stored_order(tensors).map(|(key, elements)| {
        let dtype = if matches!(elements, Elements::F32(_)) { "F32" } else { "I64" };
        (key, dtype, tensors[key].shape())
    });
    let header = safetensors_header(entries, metadata, 0).map_err(|error| FileError::new(path, error))?;
    atomic_write(path, |out| {
        out.write_all(&header)?;
        stored_order(tensors).try_for_each(|(_, elements)| match elements {
            Elements::F32(values) => write_elements(out, values, f32::to_le_bytes),
            Elements::I64(values) => write_elements(out, values, i64::to_le_bytes),
        })
    })
}

/// The tensors in the order of the file: eight-byte integers first, so that every tensor is aligned, as torch's reader
/// requires.
fn stored_order(tensors: &NamedTensors) -> impl Iterator<Item = (&str, &Elements)> {
    let all = || tensors.iter().map(|(key, tensor)| (key.as_str(), tensor.elements()));
    let is_integer = |elements: &Elements| matches!(elements, Elements::I64(_));
    all()
        .filter(move |(_, elements)| is_integer(elements))
        .chain(all().filter(move |(_, elements)| !is_integer(elements)))
}

/// The header of a file of `tensors` (names, `F32` or `I64`, shapes), whose elements follow in that order: at least
/// `min_len` bytes, a multiple of eight.
///
/// # Errors
/// If a tensor has the reserved name `__metadata__`, or the header is longer than [`MAX_HEADER`].
pub fn safetensors_header<'a>(
    tensors: impl IntoIterator<Item = (&'a str, &'static str, &'a [usize])>,
    metadata: &Metadata,
    min_len: usize,
) -> Result<Vec<u8>, HeaderError> {
    let (mut json, mut is_metadata) = (Vec::new(), false);
    let write = || -> serde_json::Result<()> {
        let mut serializer = serde_json::Serializer::new(&mut json);
        let mut map = serializer.serialize_map(None)?;
        if !metadata.is_empty() {
            map.serialize_entry(METADATA, metadata)?;
        }
        let mut offset = 0;
        for (key, dtype, shape) in tensors {
            is_metadata |= key == METADATA;
            let size = if dtype == "I64" { 8 } else { 4 };
            let data_offsets = [offset, offset + size * shape.iter().product::<usize>()];
            map.serialize_entry(key, &TensorInfo { dtype, shape, data_offsets })?;
            offset = data_offsets[1];
        }
        map.end()
    };
    write().expect("strings and numbers can be written as JSON");
    if is_metadata {
        return Err(HeaderError::Name);
    }
    json.resize(json.len().next_multiple_of(8).max(min_len.saturating_sub(8)), b' ');
    if json.len() as u64 > MAX_HEADER {
        return Err(HeaderError::TooLong { got: json.len() });
    }
    Ok([&(json.len() as u64).to_le_bytes()[..], &json].concat())
}

#[derive(Serialize)]
struct TensorInfo<'a> {
    dtype: &'static str,
    shape: &'a [usize],
    data_offsets: [usize; 2],
}
