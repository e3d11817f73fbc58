//! The python layout: pickled dictionaries with `data`, a numpy array, and `labels` or `fine_labels`.

use super::{CifarKind, IMAGE_LEN, Records};
use crate::DataError;
use residual_files::pickle::{Id, Pickle, Value};
use std::borrow::Cow;

/// Maximum number of pickle operations; an official batch has about 60,000 to 400,000.
const MAX_OPERATIONS: usize = 1 << 22;

/// Reads a pickled batch; `place` names it in errors. Nothing in the file is executed or imported. Never panics, and
/// allocates no more than a small multiple of the bytes it was given.
///
/// # Errors
/// [`DataError::Invalid`] if the pickle holds anything but the dictionary of an official batch.
pub fn parse_python(bytes: &[u8], kind: CifarKind, place: &str) -> Result<Records, DataError> {
    let fault = |expected: &str, got: String| DataError::invalid(place, expected, got);
    let pickle = read(bytes, place)?;
    let key = if kind == CifarKind::Cifar10 { "labels" } else { "fine_labels" };
    let labels = item(&pickle, key).ok_or_else(|| fault(&format!("a list {key:?}"), "no such key".into()))?;
    let labels =
        pickle.sequence(labels).ok_or_else(|| fault(&format!("{key:?} to be a list"), "something else".into()))?;
    let mut numbers = Vec::with_capacity(labels.len());
    for (index, &label) in labels.iter().enumerate() {
        match pickle.get(label) {
            Value::Int(label) if (0..kind.classes() as i64).contains(label) => numbers.push(*label as u32),
            Value::Int(label) => {
                let place = format!("{place}: {key:?} element {index}");
                return Err(DataError::invalid(place, format!("a label from 0 to {}", kind.classes() - 1), label));
            }
            _ => return Err(fault(&format!("integers in {key:?}"), format!("something else at {index}"))),
        }
    }
    let data = item(&pickle, "data").ok_or_else(|| fault("an array \"data\"", "no such key".into()))?;
    let array =
        byte_array(&pickle, data).ok_or_else(|| fault("\"data\" to be an array of u8", "something else".into()))?;
    let shape = [numbers.len(), IMAGE_LEN];
    if numbers.is_empty() || array.shape != shape || array.bytes.len() != numbers.len() * IMAGE_LEN {
        let got = format!("{:?} with {} bytes", array.shape, array.bytes.len());
        return Err(fault(&format!("\"data\" of shape {shape:?} with as many bytes"), got));
    }
    let count = numbers.len();
    let pixels = match array.column_major {
        false => array.bytes.into_owned(),
        true => {
            let bytes = &array.bytes;
            (0..count).flat_map(|image| (0..IMAGE_LEN).map(move |at| bytes[at * count + image])).collect()
        }
    };
    Ok(Records { labels: numbers, pixels })
}

/// Reads the class names of `batches.meta` or `meta`.
pub(super) fn parse_names(bytes: &[u8], kind: CifarKind, place: &str) -> Result<Vec<String>, DataError> {
    let key = if kind == CifarKind::Cifar10 { "label_names" } else { "fine_label_names" };
    let pickle = read(bytes, place)?;
    let fault = |got: String| DataError::invalid(place, format!("a list of {} strings {key:?}", kind.classes()), got);
    let names = item(&pickle, key).and_then(|names| pickle.sequence(names)).ok_or_else(|| fault("none".into()))?;
    // Counted first: a list of a few bytes can name one long text many times.
    if names.len() != kind.classes() {
        return Err(fault(names.len().to_string()));
    }
    let name = |&id: &Id| pickle.text(id).map(str::to_owned).ok_or_else(|| fault("something else".into()));
    names.iter().map(name).collect()
}

fn read<'a>(bytes: &'a [u8], place: &str) -> Result<Pickle<'a>, DataError> {
    Pickle::parse(bytes, MAX_OPERATIONS).map_err(|error| {
        let place = format!("{place}: offset {}", error.offset);
        DataError::invalid(place, error.expected, error.got)
    })
}

/// The item of the outermost dictionary under `key`.
fn item(pickle: &Pickle<'_>, key: &str) -> Option<Id> {
    let Value::Dict(items) = pickle.root() else { return None };
    items.iter().rev().find(|[name, _]| pickle.text(*name) == Some(key)).map(|&[_, value]| value)
}

/// A numpy array of bytes.
struct ByteArray<'a> {
    shape: Vec<usize>,
    column_major: bool,
    bytes: Cow<'a, [u8]>,
}

/// A numpy array of dtype `u1`: as numpy pickled it up to protocol 4, or in protocol 5.
fn byte_array<'a>(pickle: &Pickle<'a>, id: Id) -> Option<ByteArray<'a>> {
    let &Value::Call { callable, arguments, state, .. } = pickle.get(id) else { return None };
    let (shape, dtype, column_major, bytes) = match (pickle.get(callable), state) {
        (Value::Global("numpy.core.multiarray" | "numpy._core.multiarray", "_reconstruct"), Some(state)) => {
            let &[_, shape, dtype, order, bytes] = pickle.sequence(state)? else { return None };
            (shape, dtype, matches!(pickle.get(order), Value::Bool(true) | Value::Int(1)), bytes)
        }
        (Value::Global("numpy.core.numeric" | "numpy._core.numeric", "_frombuffer"), None) => {
            let &[bytes, dtype, shape, order] = pickle.sequence(arguments)? else { return None };
            (shape, dtype, pickle.text(order) == Some("F"), bytes)
        }
        _ => return None,
    };
    let &Value::Call { callable, arguments, .. } = pickle.get(dtype) else { return None };
    let &[kind, ..] = pickle.sequence(arguments)? else { return None };
    if !matches!(pickle.get(callable), Value::Global("numpy", "dtype")) || pickle.text(kind) != Some("u1") {
        return None;
    }
    let side = |&id: &Id| match pickle.get(id) {
        Value::Int(side) => usize::try_from(*side).ok(),
        _ => None,
    };
    let shape = pickle.sequence(shape)?.iter().map(side).collect::<Option<_>>()?;
    Some(ByteArray { shape, column_major, bytes: bytes_of(pickle, bytes)? })
}

/// Bytes, also as Python 3 writes them in protocol 2: `_codecs.encode(text, "latin1")`.
fn bytes_of<'a>(pickle: &Pickle<'a>, id: Id) -> Option<Cow<'a, [u8]>> {
    match pickle.get(id) {
        Value::Bytes(bytes) => Some(Cow::Borrowed(*bytes)),
        &Value::Call { callable, arguments, .. } => {
            let &[text, codec] = pickle.sequence(arguments)? else { return None };
            let &Value::Str(text) = pickle.get(text) else { return None };
            let is_latin1 = pickle.text(codec) == Some("latin1");
            if !is_latin1 || !matches!(pickle.get(callable), Value::Global("_codecs", "encode")) {
                return None;
            }
            text.chars().map(|char| u8::try_from(u32::from(char)).ok()).collect::<Option<Vec<u8>>>().map(Cow::Owned)
        }
        _ => None,
    }
}
