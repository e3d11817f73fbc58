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
    let entries = stored_order(tensors).map(|(key, elements)| (key, StoredType::of(elements), tensors[key].shape()));
    let header = safetensors_header(entries, metadata, 0).map_err(|error| FileError::new(path, error))?;
    atomic_write(path, |out| {
        out.write_all(&header)?;
        stored_order(tensors).try_for_each(|(_, elements)| match elements {
            Elements::F32(values) => write_elements(out, values, f32::to_le_bytes),
            Elements::I64(values) => write_elements(out, values, i64::to_le_bytes),
            Elements::I8(values) => write_elements(out, values, i8::to_le_bytes),
            Elements::U8(values) => out.write_all(values),
        })
    })
}

/// The element type of a tensor in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoredType {
    /// 64-bit integers.
    I64,
    /// 32-bit floats.
    F32,
    /// Signed bytes.
    I8,
    /// Unsigned bytes.
    U8,
}

impl StoredType {
    /// All of them, by falling size.
    const ALL: [Self; 4] = [Self::I64, Self::F32, Self::I8, Self::U8];

    fn of(elements: &Elements) -> Self {
        match elements {
            Elements::I64(_) => Self::I64,
            Elements::F32(_) => Self::F32,
            Elements::I8(_) => Self::I8,
            Elements::U8(_) => Self::U8,
        }
    }

    /// Its name in the header.
    fn name(self) -> &'static str {
        match self {
            Self::I64 => "I64",
            Self::F32 => "F32",
            Self::I8 => "I8",
            Self::U8 => "U8",
        }
    }

    /// Bytes of an element.
    fn size(self) -> usize {
        match self {
            Self::I64 => 8,
            Self::F32 => 4,
            Self::I8 | Self::U8 => 1,
        }
    }
}

/// The tensors in the order of the file: by falling size of their elements, so that every tensor is aligned, as torch's reader
/// requires.
fn stored_order(tensors: &NamedTensors) -> impl Iterator<Item = (&str, &Elements)> {
    let all = || tensors.iter().map(|(key, tensor)| (key.as_str(), tensor.elements()));
    let of_type = move |stored| all().filter(move |(_, elements)| StoredType::of(elements) == stored);
    StoredType::ALL.into_iter().flat_map(of_type)
}

/// The header of a file of `tensors` (names, element types, shapes), whose elements follow in that order: at least
/// `min_len` bytes, a multiple of eight.
///
/// # Errors
/// If a tensor has the reserved name `__metadata__`, or the header is longer than [`MAX_HEADER`].
pub fn safetensors_header<'a>(
    tensors: impl IntoIterator<Item = (&'a str, StoredType, &'a [usize])>,
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
        for (key, stored, shape) in tensors {
            is_metadata |= key == METADATA;
            let data_offsets = [offset, offset + stored.size() * shape.iter().product::<usize>()];
            map.serialize_entry(key, &TensorInfo { dtype: stored.name(), shape, data_offsets })?;
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
