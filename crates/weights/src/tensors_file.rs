//! Named tensors and string metadata from a safetensors file.

use crate::view::{ElementType, MAX_SHOWN, TensorView, check_finite};
use crate::{FormatError, WeightsError};
use residual_files::{HeaderError, MAX_BYTES, MAX_HEADER, Metadata, printable, read_bytes};
use residual_tensor::NamedTensors;
use safetensors::{Dtype, SafeTensorError, SafeTensors};
use serde::Deserializer;
use serde::de::{IgnoredAny, MapAccess, Visitor};
use std::collections::HashSet;
use std::path::Path;

/// Reads a safetensors file: floats as f32, integers as i64, the order as stored ([`crate::save_tensors`] puts integers
/// first).
///
/// # Errors
/// If the file cannot be read, is not a safetensors file, or contains non-finite floats.
pub fn load_tensors(path: &Path) -> Result<(NamedTensors, Metadata), WeightsError> {
    let bytes = read_bytes(path, MAX_BYTES)?;
    let read = || {
        let (views, metadata) = parse_safetensors(&bytes)?;
        let tensor = |(key, view): (String, TensorView<'_>)| {
            let tensor = view.to_tensor(&key)?;
            check_finite(&key, &tensor)?;
            Ok((key, tensor))
        };
        let tensors = views.into_iter().map(tensor).collect::<Result<_, FormatError>>()?;
        Ok((tensors, metadata))
    };
    read().map_err(|error: FormatError| WeightsError::new(path, error))
}

/// The tensors, in the order in which they are stored, and the metadata of a safetensors file's bytes. Nothing is
/// converted yet, and nothing allocated beyond a multiple of the header's length.
///
/// # Errors
/// If `bytes` are not such a file: the header's length, its JSON, its shapes and its offsets must fit together and cover
/// the bytes exactly.
pub fn parse_safetensors(bytes: &[u8]) -> Result<(Vec<(String, TensorView<'_>)>, Metadata), FormatError> {
    if let Some(length) = bytes.first_chunk().map(|length| u64::from_le_bytes(*length))
        && length > MAX_HEADER
    {
        return Err(HeaderError::TooLong { got: usize::try_from(length).unwrap_or(usize::MAX) }.into());
    }
    let (header, info) = SafeTensors::read_metadata(bytes).map_err(|error| match error {
        SafeTensorError::InvalidHeaderLength => FormatError::CutOff { format: "safetensors", length: bytes.len() },
        SafeTensorError::MetadataIncompleteBuffer => FormatError::Safetensors {
            what: "expected the bytes of its tensors and no others, got more or fewer (get it again if it was cut off)"
                .into(),
        },
        error => FormatError::Safetensors { what: printable(&error.to_string(), 2 * MAX_SHOWN) },
    })?;
    // The safetensors crate takes the last of equal keys.
    if let Some(key) = repeated_key(&bytes[8..8 + header]) {
        let what = format!("expected every key once, got \"{}\" twice", printable(&key, MAX_SHOWN));
        return Err(FormatError::Safetensors { what });
    }
    let data = &bytes[8 + header..];
    let metadata = info.metadata().iter().flatten().map(|(key, value)| (key.clone(), value.clone())).collect();
    let mut views = Vec::new();
    for key in info.offset_keys() {
        // Offsets and shape were compared with each other and the data above.
        let Some(tensor) = info.info(&key) else { continue };
        let (start, end) = tensor.data_offsets;
        views.push((key, TensorView::dense(element_type(tensor.dtype), tensor.shape.clone(), &data[start..end])));
    }
    Ok((views, metadata))
}

/// A duplicate key in a JSON object.
fn repeated_key(json: &[u8]) -> Option<String> {
    struct Keys;
    impl<'de> Visitor<'de> for Keys {
        type Value = Option<String>;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("a JSON object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut seen: HashSet<String> = HashSet::new();
            let mut repeated = None;
            while let Some((key, _)) = map.next_entry::<String, IgnoredAny>()? {
                if let Some(key) = seen.replace(key) {
                    repeated.get_or_insert(key);
                }
            }
            Ok(repeated)
        }
    }
    serde_json::Deserializer::from_slice(json).deserialize_map(Keys).ok()?
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
        other => return Err(other.to_string().to_lowercase()),
    })
}
