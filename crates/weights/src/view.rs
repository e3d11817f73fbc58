//! Tensors as they stand in a file, not yet converted.

use crate::FormatError;
use half::{bf16, f16};
use residual_files::Bytes;
use residual_tensor::Tensor;

/// The element types that become a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ElementType {
    F64,
    F32,
    F16,
    BF16,
    I64,
    I32,
    I16,
    I8,
    U8,
    Bool,
}

impl ElementType {
    /// Bytes of one element.
    pub(crate) fn size(self) -> usize {
        match self {
            Self::F64 | Self::I64 => 8,
            Self::F32 | Self::I32 => 4,
            Self::F16 | Self::BF16 | Self::I16 => 2,
            Self::I8 | Self::U8 | Self::Bool => 1,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::F64 => "f64",
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::BF16 => "bf16",
            Self::I64 => "i64",
            Self::I32 => "i32",
            Self::I16 => "i16",
            Self::I8 => "i8",
            Self::U8 => "u8",
            Self::Bool => "bool",
        }
    }

    fn is_float(self) -> bool {
        matches!(self, Self::F64 | Self::F32 | Self::F16 | Self::BF16)
    }
}

/// A tensor in the bytes of a file: little-endian elements, possibly strided.
///
/// Its extents were held against the bytes when the file was parsed; it has at most as many elements as its storage.
#[derive(Clone, Debug)]
pub struct TensorView<'a> {
    element: Result<ElementType, String>,
    shape: Vec<usize>,
    /// Steps in elements; `None` for a dense, row-major tensor.
    strides: Option<Vec<usize>>,
    bytes: &'a [u8],
}

impl<'a> TensorView<'a> {
    /// A dense, row-major tensor whose elements are exactly `bytes`; the name of its type when it is none of ours.
    pub(crate) fn dense(element: Result<ElementType, String>, shape: Vec<usize>, bytes: &'a [u8]) -> Self {
        Self { element, shape, strides: None, bytes }
    }

    /// A tensor of a `kind` that becomes none of ours.
    pub(crate) fn foreign(kind: &str) -> Self {
        Self { element: Err(kind.into()), shape: Vec::new(), strides: None, bytes: &[] }
    }

    /// A tensor that begins with the first of `bytes` and lies in them with `strides`, in elements. The message says
    /// what is wrong.
    pub(crate) fn strided(
        element: ElementType,
        shape: Vec<usize>,
        strides: Vec<usize>,
        bytes: &'a [u8],
    ) -> Result<Self, String> {
        let available = bytes.len() / element.size();
        let overflow = || format!("expected a tensor within its {available} stored elements, got {shape:?}");
        let len = shape.iter().try_fold(1usize, |len, &extent| len.checked_mul(extent)).ok_or_else(overflow)?;
        if strides.len() != shape.len() {
            return Err(format!("expected a stride for each of {} dimensions, got {}", shape.len(), strides.len()));
        }
        // Overlapping views could make a large tensor of a small file; state dicts have none.
        if len > available {
            return Err(overflow());
        }
        if len == 0 {
            return Ok(Self { element: Ok(element), shape, strides: None, bytes: &[] });
        }
        let last = shape
            .iter()
            .zip(&strides)
            .try_fold(0usize, |last, (&extent, &stride)| last.checked_add(stride.checked_mul(extent - 1)?));
        if last.is_none_or(|last| last >= available) {
            return Err(overflow());
        }
        let mut dense = 1;
        let is_dense = shape.iter().zip(&strides).rev().all(|(&extent, &stride)| {
            let fits = extent == 1 || stride == dense;
            dense *= extent;
            fits
        });
        let strides = if is_dense { None } else { Some(strides) };
        let bytes = if is_dense { &bytes[..len * element.size()] } else { bytes };
        Ok(Self { element: Ok(element), shape, strides, bytes })
    }

    /// Its extents; none for a kind of tensor that is not read, such as a sparse one.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Whether its elements become floats: `None` when they become nothing at all.
    pub(crate) fn is_float(&self) -> Option<bool> {
        self.element.as_ref().ok().map(|element| element.is_float())
    }

    /// The name of its element type.
    pub(crate) fn type_name(&self) -> &str {
        match &self.element {
            Ok(element) => element.name(),
            Err(name) => name,
        }
    }

    /// The tensor: floats of any width as f32, integers and booleans as i64.
    ///
    /// # Errors
    /// If its element type, that of `key` in the message, becomes neither.
    pub fn to_tensor(&self, key: &str) -> Result<Tensor, FormatError> {
        let element = self.element.as_ref().map_err(|got| FormatError::Type {
            key: key.into(),
            expected: "f16, bf16, f32, f64, an integer or bool",
            got: got.clone(),
        })?;
        Ok(match element {
            ElementType::F64 => self.floats(|bytes| f64::from_le_bytes(bytes) as f32),
            ElementType::F32 => self.floats(f32::from_le_bytes),
            ElementType::F16 => self.floats(|bytes| f16::from_le_bytes(bytes).to_f32()),
            ElementType::BF16 => self.floats(|bytes| bf16::from_le_bytes(bytes).to_f32()),
            ElementType::I64 => self.integers(i64::from_le_bytes),
            ElementType::I32 => self.integers(|bytes| i32::from_le_bytes(bytes).into()),
            ElementType::I16 => self.integers(|bytes| i16::from_le_bytes(bytes).into()),
            ElementType::I8 => self.integers(|bytes| i8::from_le_bytes(bytes).into()),
            ElementType::U8 => self.integers(|[byte]| byte.into()),
            ElementType::Bool => self.integers(|[byte]| i64::from(byte != 0)),
        })
    }

    /// [`TensorView::to_tensor`], for a view of `file`, which the tensor goes on sharing if it can.
    pub(crate) fn share(&self, key: &str, file: &Bytes) -> Result<Tensor, FormatError> {
        let is_stored = self.element == Ok(ElementType::F32) && self.strides.is_none();
        match is_stored.then(|| file.floats(self.bytes)).flatten() {
            Some(floats) => Ok(Tensor::floats(&self.shape, floats)),
            None => self.to_tensor(key),
        }
    }

    /// Bytes in the file, at most.
    pub(crate) fn stored(&self) -> usize {
        self.bytes.len()
    }

    fn floats<const N: usize>(&self, convert: impl Fn([u8; N]) -> f32) -> Tensor {
        Tensor::f32(&self.shape, self.elements(convert))
    }

    fn integers<const N: usize>(&self, convert: impl Fn([u8; N]) -> i64) -> Tensor {
        Tensor::i64(&self.shape, self.elements(convert))
    }

    fn elements<const N: usize, T>(&self, convert: impl Fn([u8; N]) -> T) -> Vec<T> {
        let (stored, _) = self.bytes.as_chunks::<N>();
        let Some(strides) = &self.strides else {
            return stored.iter().map(|&bytes| convert(bytes)).collect();
        };
        let len = self.shape.iter().product();
        let mut elements = Vec::with_capacity(len);
        let mut index = vec![0; self.shape.len()];
        let mut position = 0;
        while elements.len() < len {
            elements.push(convert(stored[position]));
            // The next index in row-major order, the last dimension first.
            for axis in (0..index.len()).rev() {
                index[axis] += 1;
                position += strides[axis];
                if index[axis] < self.shape[axis] {
                    break;
                }
                position -= index[axis] * strides[axis];
                index[axis] = 0;
            }
        }
        elements
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(len: u8) -> Vec<u8> {
        (0..len).flat_map(|value| f32::from(value).to_le_bytes()).collect()
    }

    #[test]
    fn strides_are_honoured() {
        let bytes = bytes(12);
        let view = |shape: &[usize], strides: &[usize]| {
            TensorView::strided(ElementType::F32, shape.to_vec(), strides.to_vec(), &bytes)
                .unwrap()
                .to_tensor("x")
                .unwrap()
        };
        assert_eq!(view(&[2, 3], &[3, 1]), Tensor::f32(&[2, 3], vec![0., 1., 2., 3., 4., 5.]));
        assert_eq!(view(&[3, 2], &[1, 3]), Tensor::f32(&[3, 2], vec![0., 3., 1., 4., 2., 5.]));
        assert_eq!(view(&[2, 1, 2], &[6, 99, 2]), Tensor::f32(&[2, 1, 2], vec![0., 2., 6., 8.]));
        assert_eq!(view(&[], &[]), Tensor::f32(&[], vec![0.]));
        assert_eq!(view(&[0, 5], &[5, 1]), Tensor::f32(&[0, 5], vec![]));
    }

    #[test]
    fn a_view_past_its_storage_is_refused() {
        let bytes = bytes(12);
        let refused = |shape: &[usize], strides: &[usize]| {
            TensorView::strided(ElementType::F32, shape.to_vec(), strides.to_vec(), &bytes).is_err()
        };
        assert!(refused(&[13], &[1]));
        assert!(refused(&[2, 2], &[11, 1]));
        assert!(refused(&[2], &[usize::MAX]));
        assert!(refused(&[usize::MAX, 2], &[0, 0]));
        assert!(refused(&[100], &[0]));
        assert!(refused(&[2, 2], &[2]));
    }
}
