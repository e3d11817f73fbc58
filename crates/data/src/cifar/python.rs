//! The python layout: pickled dictionaries with `data`, a numpy array, and `labels` or `fine_labels`.

use super::pickle::{Pickle, Value};
use super::{CifarKind, IMAGE_LEN, Records};
use crate::DataError;

/// Reads a pickled batch; `place` names it in errors. Nothing in the file is executed or imported. Never panics, and
/// allocates no more than a small multiple of the bytes it was given.
///
/// # Errors
/// [`DataError::Invalid`] if the pickle holds anything but the dictionary of an official batch.
pub fn parse_python(bytes: &[u8], kind: CifarKind, place: &str) -> Result<Records, DataError> {
    let fault = |expected: &str, got: String| DataError::invalid(place, expected, got);
    let pickle = read(bytes, place)?;
    let key = if kind == CifarKind::Cifar10 { "labels" } else { "fine_labels" };
    let labels = pickle.item(key).ok_or_else(|| fault(&format!("a list {key:?}"), "no such key".into()))?;
    let labels = pickle.list(labels).ok_or_else(|| fault(&format!("{key:?} to be a list"), "something else".into()))?;
    let mut numbers = Vec::with_capacity(labels.len());
    for (index, &label) in labels.iter().enumerate() {
        match pickle.value(label) {
            Value::Int(label) if (0..kind.classes() as i64).contains(label) => numbers.push(*label as u32),
            Value::Int(label) => {
                let place = format!("{place}: {key:?} element {index}");
                return Err(DataError::invalid(place, format!("a label from 0 to {}", kind.classes() - 1), label));
            }
            _ => return Err(fault(&format!("integers in {key:?}"), format!("something else at {index}"))),
        }
    }
    let data = pickle.item("data").ok_or_else(|| fault("an array \"data\"", "no such key".into()))?;
    let array =
        pickle.byte_array(data).ok_or_else(|| fault("\"data\" to be an array of u8", "something else".into()))?;
    let shape = [numbers.len(), IMAGE_LEN];
    if numbers.is_empty() || array.shape != shape || array.bytes.len() != numbers.len() * IMAGE_LEN {
        let got = format!("{:?} with {} bytes", array.shape, array.bytes.len());
        return Err(fault(&format!("\"data\" of shape {shape:?} with as many bytes"), got));
    }
    let count = numbers.len();
    let pixels = match array.column_major {
        false => array.bytes.to_vec(),
        true => (0..count).flat_map(|image| (0..IMAGE_LEN).map(move |at| array.bytes[at * count + image])).collect(),
    };
    Ok(Records { labels: numbers, pixels })
}

/// Reads the class names of `batches.meta` or `meta`.
pub(super) fn parse_names(bytes: &[u8], kind: CifarKind, place: &str) -> Result<Vec<String>, DataError> {
    let key = if kind == CifarKind::Cifar10 { "label_names" } else { "fine_label_names" };
    let pickle = read(bytes, place)?;
    let names = pickle.item(key).and_then(|names| pickle.list(names));
    let names = names.and_then(|names| names.iter().map(|&name| pickle.text(name)).collect());
    names.ok_or_else(|| DataError::invalid(place, format!("a list of strings {key:?}"), "none"))
}

fn read<'a>(bytes: &'a [u8], place: &str) -> Result<Pickle<'a>, DataError> {
    Pickle::read(bytes).map_err(|fault| {
        let place = format!("{place}: offset {}", fault.offset);
        DataError::invalid(place, fault.expected, fault.got)
    })
}
