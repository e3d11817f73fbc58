//! Weights of which many are zero: the values of the others and a bit for each place.
//!
//! The weight `conv1.weight` of n elements is stored as `conv1.weight_values`, its elements that are kept, in order, and
//! `conv1.weight_bits`, ⌈n / 8⌉ bytes with a bit for each element, set where it is kept, the first in the least significant place.

use crate::FormatError;
use crate::view::{TensorView, check_finite};
use indexmap::IndexMap;
use residual_graph::{Graph, Role};
use residual_tensor::{NamedTensors, Tensor, pack_bits, unpack_bits};
use std::collections::{BTreeMap, HashSet};

/// What the names of the two parts add to that of the weight.
const PARTS: [&str; 2] = ["_values", "_bits"];

/// Bytes that a further tensor takes in the header of a file, about.
const HEADER: usize = 100;

/// `tensors` with the weights of convolutions and linear layers in two parts where that saves space, and the shapes of these.
pub(crate) fn compact(graph: &Graph, tensors: &NamedTensors) -> (NamedTensors, BTreeMap<String, Vec<usize>>) {
    let weights = graph.parameters().filter(|(_, spec)| spec.role == Role::Weight);
    let weights: HashSet<String> = weights.map(|(key, _)| key).collect();
    let (mut stored, mut shapes) = (NamedTensors::new(), BTreeMap::new());
    for (key, tensor) in tensors {
        match tensor.as_f32().filter(|_| weights.contains(key)).and_then(parts) {
            Some(parts) => {
                stored.extend(PARTS.into_iter().zip(parts).map(|(part, tensor)| (format!("{key}{part}"), tensor)));
                shapes.insert(key.clone(), tensor.shape().to_vec());
            }
            None => drop(stored.insert(key.clone(), tensor.clone())),
        }
    }
    (stored, shapes)
}

/// The values that are kept and their bits, if these are smaller than all values. A negative zero is kept, so that every bit comes back.
fn parts(values: &[f32]) -> Option<[Tensor; 2]> {
    let is_kept = |value: &f32| value.to_bits() != 0;
    let zeros = values.iter().filter(|value| !is_kept(value)).count();
    if 4 * zeros <= values.len().div_ceil(8) + HEADER {
        return None;
    }
    let kept: Vec<f32> = values.iter().copied().filter(is_kept).collect();
    let bits = pack_bits(values.iter().map(is_kept));
    Some([Tensor::f32(&[kept.len()], kept), Tensor::u8(&[bits.len()], bits)])
}

/// The weight `key` of shape `expected`, if it is stored in two parts, which are removed from `entries`. It takes at most 32 times the
/// bytes of its bits.
///
/// # Errors
/// If one part is missing, or they do not fit the shape or each other.
pub(crate) fn take(
    entries: &mut IndexMap<String, TensorView<'_>>,
    key: &str,
    expected: &[usize],
) -> Result<Option<Tensor>, FormatError> {
    let names = PARTS.map(|part| format!("{key}{part}"));
    let found = names.each_ref().map(|name| entries.swap_remove(name));
    let len: usize = expected.iter().product();
    let fail = |part: usize, expected: String, got: String| FormatError::Packed {
        key: names[part].clone(),
        fault: format!("expected {expected}, got {got}"),
    };
    let (values, bits) = match found {
        [None, None] => return Ok(None),
        [Some(values), Some(bits)] => (values, bits),
        [values, _] => {
            let missing = usize::from(values.is_some());
            return Err(fail(missing, format!("it beside \"{}\"", names[1 - missing]), "none".into()));
        }
    };
    let describe = |view: &TensorView<'_>| format!("{:?} of type {}", view.shape(), view.type_name());
    let bytes = len.div_ceil(8);
    if bits.type_name() != "u8" || bits.shape() != [bytes] {
        return Err(fail(1, format!("[{bytes}] of type u8"), describe(&bits)));
    }
    let bits = bits.to_bytes(&names[1], bytes)?;
    let bits = bits.as_u8().unwrap_or_default();
    if unpack_bits(bits).skip(len).any(|bit| bit) {
        return Err(fail(1, format!("{len} bits, and zeros to fill up the last byte"), "more".into()));
    }
    let kept: usize = bits.iter().map(|byte| byte.count_ones() as usize).sum();
    if values.is_float() != Some(true) || values.shape() != [kept] {
        return Err(fail(0, format!("[{kept}] of type f32, as the bits say"), describe(&values)));
    }
    let values = values.to_tensor_within(&names[0], kept)?;
    check_finite(&names[0], &values)?;
    let mut values = values.as_f32().unwrap_or_default().iter().copied();
    let mut dense = Vec::new();
    dense.try_reserve_exact(len).map_err(|_| FormatError::Memory { key: key.to_owned(), len })?;
    dense.extend(unpack_bits(bits).take(len).map(|kept| if kept { values.next().unwrap_or(0.0) } else { 0.0 }));
    Ok(Some(Tensor::f32(expected, dense)))
}
