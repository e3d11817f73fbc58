//! Quantised weights of 4 bits: two integers in a byte.
//!
//! The weight `conv1.weight` of n integers from −8 to 7 is stored as `conv1.weight_4bit`, ⌈n / 2⌉ bytes: the first of two integers, as a
//! two's complement of 4 bits, in the less significant half.

use crate::FormatError;
use crate::view::TensorView;
use indexmap::IndexMap;
use residual_tensor::{NamedTensors, Tensor};
use std::collections::BTreeMap;

/// What the name of the stored tensor adds to that of the weight.
const SUFFIX: &str = "_4bit";

/// `tensors` with the signed bytes that 4 bits hold in such, and the shapes of these.
pub(crate) fn compact(tensors: &NamedTensors) -> (NamedTensors, BTreeMap<String, Vec<usize>>) {
    let (mut stored, mut shapes) = (NamedTensors::new(), BTreeMap::new());
    for (key, tensor) in tensors {
        match tensor.as_i8().filter(|values| values.iter().all(|value| (-8..8).contains(value))) {
            Some(values) => {
                let packed: Vec<u8> = values.chunks(2).map(pack).collect();
                stored.insert(format!("{key}{SUFFIX}"), Tensor::u8(&[packed.len()], packed));
                shapes.insert(key.clone(), tensor.shape().to_vec());
            }
            None => drop(stored.insert(key.clone(), tensor.clone())),
        }
    }
    (stored, shapes)
}

/// One or two integers as a byte.
fn pack(pair: &[i8]) -> u8 {
    let nibble = |value: i8| value as u8 & 15;
    pair.iter().rev().fold(0, |byte, &value| byte << 4 | nibble(value))
}

/// The two integers of a byte.
fn unpack(byte: u8) -> [i8; 2] {
    let signed = |nibble: u8| (nibble << 4) as i8 >> 4;
    [signed(byte), signed(byte >> 4)]
}

/// The weight `key` of shape `expected`, if it is stored in 4 bits; it is removed from `entries`. It takes twice the bytes of the file.
///
/// # Errors
/// If the bytes do not fit the shape.
pub(crate) fn take(
    entries: &mut IndexMap<String, TensorView<'_>>,
    key: &str,
    expected: &[usize],
) -> Result<Option<Tensor>, FormatError> {
    let name = format!("{key}{SUFFIX}");
    let Some(view) = entries.swap_remove(&name) else { return Ok(None) };
    let fail = |fault: String| FormatError::Packed { key: name.clone(), fault };
    let len: usize = expected.iter().product();
    let bytes = len.div_ceil(2);
    if view.type_name() != "u8" || view.shape() != [bytes] {
        let (shape, kind) = (view.shape(), view.type_name());
        return Err(fail(format!("expected [{bytes}] of type u8, got {shape:?} of type {kind}")));
    }
    let packed = view.to_bytes(&name, bytes)?;
    let packed = packed.as_u8().unwrap_or_default();
    if !len.is_multiple_of(2) && packed.last().is_some_and(|last| last >> 4 != 0) {
        return Err(fail(format!("expected {len} integers, and zero to fill up the last byte, got another")));
    }
    let mut values = Vec::new();
    values.try_reserve_exact(2 * bytes).map_err(|_| FormatError::Memory { key: key.to_owned(), len })?;
    values.extend(packed.iter().copied().flat_map(unpack));
    values.truncate(len);
    Ok(Some(Tensor::i8(expected, values)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_is_two_integers() {
        for byte in 0..=255 {
            assert_eq!(pack(&unpack(byte)), byte);
        }
        assert_eq!((unpack(0x8f), pack(&[-3])), ([-1, -8], 0x0d));
    }
}
