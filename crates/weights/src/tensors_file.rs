//! Named tensors and string metadata from a safetensors file.

use crate::view::{ElementType, TensorView};
use crate::{FormatError, WeightsError};
use residual_files::{HeaderError, MAX_BYTES, MAX_HEADER, Metadata, read_bytes};
use residual_tensor::NamedTensors;
use safetensors::{Dtype, SafeTensors};
use std::path::Path;

/// Reads a safetensors file: floats as f32, integers as i64, the order as stored ([`crate::save_tensors`] puts integers first).
///
/// # Errors
/// If the file cannot be read or is no such file.
pub fn load_tensors(path: &Path) -> Result<(NamedTensors, Metadata), WeightsError> {
    let bytes = read_bytes(path, MAX_BYTES)?;
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
        return Err(HeaderError::TooLong { got: usize::try_from(length).unwrap_or(usize::MAX) }.into());
    }
    let (header, info) = SafeTensors::read_metadata(bytes)?;
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
