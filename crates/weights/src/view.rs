//! Tensors in a file, not yet converted.

use crate::FormatError;
use half::{bf16, f16};
use residual_files::{Bytes, printable};
use residual_tensor::{Elements, Tensor};
use std::ops::Range;

/// Characters of a foreign name that an error shows.
pub(crate) const MAX_SHOWN: usize = 100;

/// The supported element types.
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
/// Its extents were compared with the bytes when the file was parsed; it is within its storage, some elements of which it
/// may repeat.
#[derive(Clone, Debug)]
pub struct TensorView<'a> {
    element: Result<ElementType, String>,
    shape: Vec<usize>,
    /// Steps in elements; `None` for a dense, row-major tensor.
    strides: Option<Vec<usize>>,
    bytes: &'a [u8],
}

impl<'a> TensorView<'a> {
    /// A dense, row-major tensor whose elements are exactly `bytes`; the name of its type if it is unsupported.
    pub(crate) fn dense(element: Result<ElementType, String>, shape: Vec<usize>, bytes: &'a [u8]) -> Self {
        Self { element, shape, strides: None, bytes }
    }

    /// A tensor of an unsupported `kind`.
    pub(crate) fn foreign(kind: &str) -> Self {
        Self { element: Err(printable(kind, MAX_SHOWN)), shape: Vec::new(), strides: None, bytes: &[] }
    }

    /// A tensor that starts at the first of `bytes`, with `strides` in elements. The error is a
    /// message.
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

    /// Its shape; empty for an unsupported kind of tensor, such as a sparse one.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Whether its elements are floats; `None` for an unsupported type.
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
    /// If its element type is unsupported, or it has more elements than are stored; `key` names it in the message.
    pub fn to_tensor(&self, key: &str) -> Result<Tensor, FormatError> {
        self.to_tensor_within(key, 0)
    }

    /// [`TensorView::to_tensor`], with at most `bound` elements even if fewer are stored.
    pub(crate) fn to_tensor_within(&self, key: &str, bound: usize) -> Result<Tensor, FormatError> {
        let element = self.element(key)?;
        self.check_len(key, element, bound)?;
        match element {
            ElementType::F64 => self.floats(key, |bytes| f64::from_le_bytes(bytes) as f32),
            ElementType::F32 => self.floats(key, f32::from_le_bytes),
            ElementType::F16 => self.floats(key, |bytes| f16::from_le_bytes(bytes).to_f32()),
            ElementType::BF16 => self.floats(key, |bytes| bf16::from_le_bytes(bytes).to_f32()),
            ElementType::I64 => self.integers(key, i64::from_le_bytes),
            ElementType::I32 => self.integers(key, |bytes| i32::from_le_bytes(bytes).into()),
            ElementType::I16 => self.integers(key, |bytes| i16::from_le_bytes(bytes).into()),
            ElementType::I8 => self.integers(key, |bytes| i8::from_le_bytes(bytes).into()),
            ElementType::U8 => self.integers(key, |[byte]| byte.into()),
            ElementType::Bool => self.integers(key, |[byte]| i64::from(byte != 0)),
        }
    }

    /// The tensor as integers, floats truncated, as torch copies them into a counter.
    pub(crate) fn to_counter(&self, key: &str, bound: usize) -> Result<Tensor, FormatError> {
        let element = self.element(key)?;
        self.check_len(key, element, bound)?;
        match element {
            ElementType::F64 => self.integers(key, |bytes| f64::from_le_bytes(bytes) as i64),
            ElementType::F32 => self.integers(key, |bytes| f32::from_le_bytes(bytes) as i64),
            ElementType::F16 => self.integers(key, |bytes| f16::from_le_bytes(bytes).to_f32() as i64),
            ElementType::BF16 => self.integers(key, |bytes| bf16::from_le_bytes(bytes).to_f32() as i64),
            _ => self.to_tensor_within(key, bound),
        }
    }

    /// The tensor as bytes, which its elements are; as [`TensorView::to_tensor_within`] otherwise.
    pub(crate) fn to_bytes(&self, key: &str, bound: usize) -> Result<Tensor, FormatError> {
        let element = self.element(key)?;
        self.check_len(key, element, bound)?;
        match element {
            ElementType::I8 => Ok(Tensor::i8(&self.shape, self.elements(key, i8::from_le_bytes)?)),
            ElementType::U8 => Ok(Tensor::u8(&self.shape, self.elements(key, u8::from_le_bytes)?)),
            _ => self.to_tensor_within(key, bound),
        }
    }

    /// [`TensorView::to_tensor_within`], for a view of `file`, which the tensor shares if it can.
    pub(crate) fn share(&self, key: &str, bound: usize, file: &Bytes) -> Result<Tensor, FormatError> {
        let is_stored = self.element == Ok(ElementType::F32) && self.strides.is_none();
        match is_stored.then(|| file.floats(self.bytes)).flatten() {
            Some(floats) => Ok(Tensor::floats(&self.shape, floats)),
            None => self.to_tensor_within(key, bound),
        }
    }

    fn element(&self, key: &str) -> Result<ElementType, FormatError> {
        self.element.clone().map_err(|got| FormatError::Type {
            key: printable(key, MAX_SHOWN),
            expected: "f16, bf16, f32, f64, an integer or bool",
            got,
        })
    }

    fn check_len(&self, key: &str, element: ElementType, bound: usize) -> Result<(), FormatError> {
        let (len, stored) = (self.len(), self.bytes.len() / element.size());
        if len <= stored.max(bound) {
            return Ok(());
        }
        Err(FormatError::Expanded { key: printable(key, MAX_SHOWN), stored, len })
    }

    /// The number of its elements, which was checked for overflow when it was parsed.
    fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Upper limit of its bytes in the file.
    pub(crate) fn stored(&self) -> usize {
        self.bytes.len()
    }

    fn floats<const N: usize>(&self, key: &str, convert: impl Fn([u8; N]) -> f32) -> Result<Tensor, FormatError> {
        Ok(Tensor::f32(&self.shape, self.elements(key, convert)?))
    }

    fn integers<const N: usize>(&self, key: &str, convert: impl Fn([u8; N]) -> i64) -> Result<Tensor, FormatError> {
        Ok(Tensor::i64(&self.shape, self.elements(key, convert)?))
    }

    fn elements<const N: usize, T>(&self, key: &str, convert: impl Fn([u8; N]) -> T) -> Result<Vec<T>, FormatError> {
        let (stored, _) = self.bytes.as_chunks::<N>();
        let len = self.len();
        let mut elements = Vec::new();
        let reserved = elements.try_reserve_exact(len);
        reserved.map_err(|_| FormatError::Memory { key: printable(key, MAX_SHOWN), len })?;
        let Some(strides) = &self.strides else {
            elements.extend(stored.iter().map(|&bytes| convert(bytes)));
            return Ok(elements);
        };
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
        Ok(elements)
    }
}

/// A [`TensorView`] without the bytes: where in a file they are.
#[derive(Clone, Debug)]
pub(crate) struct StoredTensor {
    element: Result<ElementType, String>,
    shape: Vec<usize>,
    strides: Option<Vec<usize>>,
    range: Range<usize>,
}

impl StoredTensor {
    /// The place of `view` in `file`.
    pub(crate) fn new(view: TensorView<'_>, file: &[u8]) -> Self {
        let start = view.bytes.as_ptr().addr().wrapping_sub(file.as_ptr().addr());
        // Views without elements may be outside the file.
        let range = if view.bytes.is_empty() { 0..0 } else { start..start + view.bytes.len() };
        Self { element: view.element, shape: view.shape, strides: view.strides, range }
    }

    /// The view into `file`, which must be the file it was created from.
    pub(crate) fn view<'a>(&self, file: &'a [u8]) -> TensorView<'a> {
        TensorView {
            element: self.element.clone(),
            shape: self.shape.clone(),
            strides: self.strides.clone(),
            bytes: &file[self.range.clone()],
        }
    }

    pub(crate) fn shape(&self) -> &[usize] {
        &self.shape
    }
}

/// Rejects NaN and infinite floats: a network with them would silently produce meaningless results.
pub(crate) fn check_finite(key: &str, tensor: &Tensor) -> Result<(), FormatError> {
    let Elements::F32(values) = tensor.elements() else { return Ok(()) };
    let count = values.iter().map(|value| usize::from(!value.is_finite())).sum();
    if count == 0 {
        return Ok(());
    }
    Err(FormatError::NotFinite { key: printable(key, MAX_SHOWN), count, len: values.len() })
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
    fn elements_are_repeated_within_the_bound_that_a_network_sets() {
        let bytes = bytes(2);
        let view = TensorView::strided(ElementType::F32, vec![2, 3], vec![1, 0], &bytes).unwrap();
        assert_eq!(view.to_tensor_within("x", 6).unwrap(), Tensor::f32(&[2, 3], vec![0., 0., 0., 1., 1., 1.]));
        assert!(matches!(view.to_tensor("x"), Err(FormatError::Expanded { stored: 2, len: 6, .. })));
        let endless = TensorView::strided(ElementType::F32, vec![1 << 60], vec![0], &bytes).unwrap();
        assert!(matches!(endless.to_tensor_within("x", usize::MAX), Err(FormatError::Memory { .. })));
    }

    #[test]
    fn a_counter_of_any_type_is_truncated_as_torch_does() {
        let half: Vec<u8> = [7.0f32, 2.75].iter().flat_map(|&value| f16::from_f32(value).to_le_bytes()).collect();
        let view = TensorView::dense(Ok(ElementType::F16), vec![2], &half);
        assert_eq!(view.to_counter("n", 2).unwrap(), Tensor::i64(&[2], vec![7, 2]));
        let double: Vec<u8> = [-3.9f64].iter().flat_map(|value| value.to_le_bytes()).collect();
        let view = TensorView::dense(Ok(ElementType::F64), vec![], &double);
        assert_eq!(view.to_counter("n", 1).unwrap(), Tensor::i64(&[], vec![-3]));
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
        assert!(refused(&[2, 2], &[2]));
    }
}
