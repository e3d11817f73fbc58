//! Shapes, element types, aligned storage, named tensors and counter-based random streams.
//!
//! A [`Tensor`] has a shape in torch's order and its elements, as in a file. The engine works on flat [`AlignedBuffer`]s;
//! tensors are used only where a model is loaded or saved.
#![forbid(unsafe_code)]

mod bits;
mod buffer;
mod floats;
mod random;

pub use bits::{pack_bits, unpack_bits};
pub use buffer::AlignedBuffer;
pub use floats::Floats;
pub use random::Stream;

use indexmap::IndexMap;
use std::sync::Arc;

/// Tensors by torch module path, in file order.
pub type NamedTensors = IndexMap<String, Tensor>;

/// The elements of a [`Tensor`].
#[derive(Clone, Debug, PartialEq)]
pub enum Elements {
    /// 32-bit floats: parameters and running statistics.
    F32(Floats),
    /// 64-bit integers: torch's `num_batches_tracked`.
    I64(Vec<i64>),
    /// Signed bytes: quantised weights. Clones share them.
    I8(Arc<[i8]>),
    /// Unsigned bytes: zero points of quantised values.
    U8(Vec<u8>),
}

impl Elements {
    /// The name of their type.
    pub fn type_name(&self) -> &'static str {
        match self {
            Elements::F32(_) => "f32",
            Elements::I64(_) => "i64",
            Elements::I8(_) => "i8",
            Elements::U8(_) => "u8",
        }
    }
}

/// A dense, row-major tensor in torch's dimension order (`[out, in, height, width]` for a convolution).
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    shape: Vec<usize>,
    elements: Elements,
}

impl Tensor {
    /// A tensor of 32-bit floats.
    ///
    /// # Panics
    /// If `values` does not hold exactly the product of `shape`.
    pub fn f32(shape: &[usize], values: Vec<f32>) -> Self {
        Self::floats(shape, values.into())
    }

    /// A tensor of 32-bit floats that it may share with others.
    ///
    /// # Panics
    /// If `values` does not hold exactly the product of `shape`.
    pub fn floats(shape: &[usize], values: Floats) -> Self {
        assert_eq!(count(shape), values.len(), "shape {shape:?} against the number of values");
        Self { shape: shape.to_vec(), elements: Elements::F32(values) }
    }

    /// A tensor of 64-bit integers.
    ///
    /// # Panics
    /// If `values` does not hold exactly the product of `shape`.
    pub fn i64(shape: &[usize], values: Vec<i64>) -> Self {
        assert_eq!(count(shape), values.len(), "shape {shape:?} against the number of values");
        Self { shape: shape.to_vec(), elements: Elements::I64(values) }
    }

    /// A tensor of signed bytes.
    ///
    /// # Panics
    /// If `values` does not hold exactly the product of `shape`.
    pub fn i8(shape: &[usize], values: impl Into<Arc<[i8]>>) -> Self {
        let values = values.into();
        assert_eq!(count(shape), values.len(), "shape {shape:?} against the number of values");
        Self { shape: shape.to_vec(), elements: Elements::I8(values) }
    }

    /// A tensor of unsigned bytes.
    ///
    /// # Panics
    /// If `values` does not hold exactly the product of `shape`.
    pub fn u8(shape: &[usize], values: Vec<u8>) -> Self {
        assert_eq!(count(shape), values.len(), "shape {shape:?} against the number of values");
        Self { shape: shape.to_vec(), elements: Elements::U8(values) }
    }

    /// A tensor of 32-bit floats, all `value`.
    pub fn full(shape: &[usize], value: f32) -> Self {
        Self::f32(shape, vec![value; count(shape)])
    }

    /// The extent of each dimension; empty for a scalar.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The elements, whatever their type.
    pub fn elements(&self) -> &Elements {
        &self.elements
    }

    /// The number of elements: 1 for a scalar.
    pub fn len(&self) -> usize {
        count(&self.shape)
    }

    /// Whether some dimension is zero.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The elements as floats, or `None` for a tensor of integers.
    pub fn as_f32(&self) -> Option<&[f32]> {
        match &self.elements {
            Elements::F32(values) => Some(values),
            Elements::I64(_) | Elements::I8(_) | Elements::U8(_) => None,
        }
    }

    /// The elements as floats, to be changed, or `None` for an integer tensor. Shared ones are copied first.
    pub fn as_f32_mut(&mut self) -> Option<&mut [f32]> {
        match &mut self.elements {
            Elements::F32(values) => Some(values.to_mut()),
            Elements::I64(_) | Elements::I8(_) | Elements::U8(_) => None,
        }
    }

    /// The elements as 64-bit integers, or `None` for a tensor of another type.
    pub fn as_i64(&self) -> Option<&[i64]> {
        match &self.elements {
            Elements::I64(values) => Some(values),
            Elements::F32(_) | Elements::I8(_) | Elements::U8(_) => None,
        }
    }

    /// The elements as signed bytes, or `None` for a tensor of another type.
    pub fn as_i8(&self) -> Option<&[i8]> {
        match &self.elements {
            Elements::I8(values) => Some(values),
            Elements::F32(_) | Elements::I64(_) | Elements::U8(_) => None,
        }
    }

    /// The elements as unsigned bytes, or `None` for a tensor of another type.
    pub fn as_u8(&self) -> Option<&[u8]> {
        match &self.elements {
            Elements::U8(values) => Some(values),
            Elements::F32(_) | Elements::I64(_) | Elements::I8(_) => None,
        }
    }
}

fn count(shape: &[usize]) -> usize {
    shape.iter().product()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scalar_has_one_element() {
        let tensor = Tensor::i64(&[], vec![7]);
        assert_eq!((tensor.len(), tensor.shape(), tensor.as_i64()), (1, &[][..], Some(&[7][..])));
        assert_eq!(tensor.as_f32(), None);
    }

    #[test]
    #[should_panic(expected = "against the number of values")]
    fn a_shape_that_does_not_fit_its_values_is_refused() {
        Tensor::f32(&[2, 3], vec![0.0; 5]);
    }
}
