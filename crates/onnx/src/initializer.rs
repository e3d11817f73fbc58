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

#[derive(Debug)]
enum Data<'a> {
    F32(Cow<'a, [f32]>),
    I64(Vec<i64>),
}

impl<'a> Initializer<'a> {
    pub(crate) fn f32(name: &str, shape: &[usize], values: Cow<'a, [f32]>) -> Self {
        let dims = shape.iter().map(|&extent| extent as i64).collect();
        Self { head: head(name, dims, TensorProto::FLOAT), data: Data::F32(values) }
    }

    /// A list of integers.
    pub(crate) fn i64(name: &str, values: Vec<i64>) -> Self {
        Self { head: head(name, vec![values.len() as i64], TensorProto::INT64), data: Data::I64(values) }
    }

    /// Bytes of the `TensorProto`.
    pub(crate) fn bytes(&self) -> u64 {
        let data = self.data_bytes();
        self.head.len() as u64 + 1 + length_bytes(data) + data
    }

    /// Writes the `TensorProto`.
    pub(crate) fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        out.write_all(&self.head)?;
        write_key(out, RAW_DATA, self.data_bytes())?;
        match &self.data {
            Data::F32(values) => write_elements(out, values, |value: f32| value.to_le_bytes()),
            Data::I64(values) => write_elements(out, values, |value: i64| value.to_le_bytes()),
        }
    }

    fn data_bytes(&self) -> u64 {
        match &self.data {
            Data::F32(values) => size_of_val::<[f32]>(values) as u64,
            Data::I64(values) => size_of_val::<[i64]>(values) as u64,
        }
    }
}

fn head(name: &str, dims: Vec<i64>, data_type: i32) -> Vec<u8> {
    TensorProto { dims, data_type: Some(data_type), name: Some(name.into()), raw_data: None }.encode_to_vec()
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
