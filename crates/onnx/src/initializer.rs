//! Constant tensors, written without a copy of the model's.

use crate::proto::TensorProto;
use prost::Message;
use std::borrow::Cow;
use std::io::{self, Write};

/// The key of a length-delimited field: protobuf's wire type 2.
pub(crate) const fn key(field: u8) -> u8 {
    assert!(field < 16, "keys of one byte");
    field << 3 | 2
}

/// `TensorProto.raw_data`.
const RAW_DATA: u8 = key(9);
/// Elements converted at a time.
const CHUNK: usize = 4096;

/// A constant tensor.
#[derive(Debug)]
pub(crate) struct Initializer<'a> {
    /// Its `TensorProto` without the data.
    head: Vec<u8>,
    data: Data<'a>,
}

/// The elements of a constant tensor: a model's own, or made for the file.
#[derive(Debug)]
pub(crate) enum Data<'a> {
    F32(Cow<'a, [f32]>),
    F64(Vec<f64>),
    I64(Vec<i64>),
    I32(Vec<i32>),
    I8(Cow<'a, [i8]>),
    U8(Cow<'a, [u8]>),
}

impl<'a> Initializer<'a> {
    pub(crate) fn new(name: &str, shape: &[usize], data: Data<'a>) -> Self {
        let head = TensorProto {
            dims: shape.iter().map(|&extent| extent as i64).collect(),
            data_type: Some(data.data_type()),
            name: Some(name.into()),
            raw_data: None,
        };
        Self { head: head.encode_to_vec(), data }
    }

    /// Bytes of the `TensorProto`.
    pub(crate) fn bytes(&self) -> u64 {
        let data = self.data.bytes();
        self.head.len() as u64 + 1 + length_bytes(data) + data
    }

    /// Writes the `TensorProto`.
    pub(crate) fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        out.write_all(&self.head)?;
        write_key(out, RAW_DATA, self.data.bytes())?;
        self.data.write(out)
    }
}

impl Data<'_> {
    /// The type in a `TensorProto`.
    fn data_type(&self) -> i32 {
        match self {
            Data::F32(_) => TensorProto::FLOAT,
            Data::F64(_) => TensorProto::DOUBLE,
            Data::I64(_) => TensorProto::INT64,
            Data::I32(_) => TensorProto::INT32,
            Data::I8(_) => TensorProto::INT8,
            Data::U8(_) => TensorProto::UINT8,
        }
    }

    fn bytes(&self) -> u64 {
        let bytes = match self {
            Data::F32(values) => size_of_val::<[f32]>(values),
            Data::F64(values) => size_of_val::<[f64]>(values),
            Data::I64(values) => size_of_val::<[i64]>(values),
            Data::I32(values) => size_of_val::<[i32]>(values),
            Data::I8(values) => size_of_val::<[i8]>(values),
            Data::U8(values) => size_of_val::<[u8]>(values),
        };
        bytes as u64
    }

    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        match self {
            Data::F32(values) => write_elements(out, values, |value: f32| value.to_le_bytes()),
            Data::F64(values) => write_elements(out, values, |value: f64| value.to_le_bytes()),
            Data::I64(values) => write_elements(out, values, |value: i64| value.to_le_bytes()),
            Data::I32(values) => write_elements(out, values, |value: i32| value.to_le_bytes()),
            Data::I8(values) => write_elements(out, values, |value: i8| value.to_le_bytes()),
            Data::U8(values) => out.write_all(values),
        }
    }
}

/// Writes the key of a length-delimited field and its length.
pub(crate) fn write_key(out: &mut dyn Write, key: u8, length: u64) -> io::Result<()> {
    let mut bytes = vec![key];
    prost::encode_length_delimiter(length as usize, &mut bytes).expect("a vector grows");
    out.write_all(&bytes)
}

/// Encoded size of a length in bytes.
pub(crate) fn length_bytes(length: u64) -> u64 {
    prost::length_delimiter_len(length as usize) as u64
}

fn write_elements<T: Copy, const N: usize>(
    out: &mut dyn Write,
    values: &[T],
    bytes: impl Fn(T) -> [u8; N],
) -> io::Result<()> {
    let mut buffer = Vec::with_capacity(N * CHUNK.min(values.len()));
    for chunk in values.chunks(CHUNK) {
        buffer.clear();
        buffer.extend(chunk.iter().flat_map(|&value| bytes(value)));
        out.write_all(&buffer)?;
    }
    Ok(())
}
