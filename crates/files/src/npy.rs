//! Numpy arrays as files (`.npy`, format versions 1 to 3, as specified in `numpy.lib.format`).

use crate::bytes::{read_bytes, write_elements};
use crate::{FileError, MAX_BYTES, atomic_write, printable};
use half::f16;
use std::path::Path;

const MAGIC: &[u8] = b"\x93NUMPY";

/// The longest header that is read. Numpy's own limit is 10,000.
const MAX_HEADER: usize = 1 << 16;
/// Numpy's limit.
const MAX_DIMENSIONS: usize = 64;

/// Bytes that are not a supported array.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("npy: {what}")]
pub struct NpyError {
    /// The place, what was expected there and what was found.
    pub what: String,
}

/// An array: a shape and its elements in row-major order.
#[derive(Clone, Debug, PartialEq)]
pub struct NpyArray {
    /// The extent of each dimension; empty for a scalar.
    pub shape: Vec<usize>,
    /// The elements.
    pub values: NpyValues,
}

/// The elements of an [`NpyArray`]. Their meaning can depend on their type: bytes are pixels, floats are normalised.
#[derive(Clone, Debug, PartialEq)]
pub enum NpyValues {
    /// From `uint8`.
    U8(Vec<u8>),
    /// From booleans and all other integers.
    I64(Vec<i64>),
    /// From floats of 16, 32 and 64 bits.
    F32(Vec<f32>),
}

impl NpyArray {
    /// The elements as floats, of whatever type they are.
    pub fn to_f32(&self) -> Vec<f32> {
        match &self.values {
            NpyValues::U8(values) => values.iter().map(|&value| value.into()).collect(),
            NpyValues::I64(values) => values.iter().map(|&value| value as f32).collect(),
            NpyValues::F32(values) => values.clone(),
        }
    }
}

/// Reads the array at `path`.
///
/// # Errors
/// If the file cannot be read or is not such an array.
pub fn load_npy(path: &Path) -> Result<NpyArray, FileError> {
    parse_npy(&read_bytes(path, MAX_BYTES)?).map_err(|error| FileError::new(path, error))
}

/// Writes floats as an array of `shape`, atomically.
///
/// # Errors
/// If the file cannot be written; a previous file is unchanged.
///
/// # Panics
/// If `values` does not hold exactly the product of `shape`.
pub fn save_npy(path: &Path, shape: &[usize], values: &[f32]) -> Result<(), FileError> {
    assert_eq!(shape.iter().product::<usize>(), values.len(), "shape {shape:?} against the number of values");
    atomic_write(path, |out| {
        out.write_all(&npy_header(shape, 0))?;
        write_elements(out, values, f32::to_le_bytes)
    })
}

/// The header of an array of f32 in row-major order: at least `min_len` bytes, a multiple of 64.
///
/// # Panics
/// If it takes more than 65,535 bytes, as only more dimensions than numpy's limit do.
pub fn npy_header(shape: &[usize], min_len: usize) -> Vec<u8> {
    let extents: String = shape.iter().map(|extent| format!("{extent}, ")).collect();
    let header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({}), }}", extents.trim_end());
    // Magic bytes, version and length take 10 bytes, the line break one.
    let padded = (10 + header.len() + 1).max(min_len).next_multiple_of(64) - 11;
    let length = u16::try_from(padded + 1).expect("64 dimensions of 20 digits fit 65535 bytes");
    [MAGIC, &[1, 0], &length.to_le_bytes(), format!("{header:padded$}\n").as_bytes()].concat()
}

/// Parses the bytes of an array. At most sixteen times their length is allocated.
///
/// # Errors
/// If `bytes` are damaged or not an array, or its elements are not numbers.
pub fn parse_npy(bytes: &[u8]) -> Result<NpyArray, NpyError> {
    parse(bytes).map_err(|what| NpyError { what })
}

fn parse(bytes: &[u8]) -> Result<NpyArray, String> {
    let rest = bytes.strip_prefix(MAGIC).ok_or("expected numpy's magic bytes at the beginning")?;
    let truncated = || String::from("expected a header, got the end of the file");
    let ([major, _minor], rest) = rest.split_first_chunk().ok_or_else(truncated)?;
    let (length, rest) = match major {
        1 => {
            let (length, rest) = rest.split_first_chunk().ok_or_else(truncated)?;
            (usize::from(u16::from_le_bytes(*length)), rest)
        }
        2 | 3 => {
            let (length, rest) = rest.split_first_chunk().ok_or_else(truncated)?;
            (u32::from_le_bytes(*length) as usize, rest)
        }
        other => return Err(format!("expected format version 1, 2 or 3, got {other}")),
    };
    if length > MAX_HEADER {
        return Err(format!("header: expected at most {MAX_HEADER} bytes, got {length}"));
    }
    let (header, data) = rest.split_at_checked(length).ok_or_else(truncated)?;
    let Header { element, fortran_order, shape } = Header::parse(header)?;
    let count = shape.iter().try_fold(1usize, |count, &extent| count.checked_mul(extent));
    let expected = count.and_then(|count| count.checked_mul(element.size));
    if expected != Some(data.len()) {
        let expected = expected.map_or_else(|| "more than all".into(), |expected| expected.to_string());
        return Err(format!("expected {expected} bytes for {shape:?} elements, got {}", data.len()));
    }
    let values = element.convert(data);
    let values = if fortran_order && shape.len() > 1 {
        match values {
            NpyValues::U8(values) => NpyValues::U8(to_row_major(&values, &shape)),
            NpyValues::I64(values) => NpyValues::I64(to_row_major(&values, &shape)),
            NpyValues::F32(values) => NpyValues::F32(to_row_major(&values, &shape)),
        }
    } else {
        values
    };
    Ok(NpyArray { shape, values })
}

/// An element type such as `<f4`: byte order, kind, bytes.
#[derive(Clone, Copy)]
struct Element {
    big_endian: bool,
    kind: u8,
    size: usize,
}

impl Element {
    fn parse(descr: &str) -> Result<Self, String> {
        let fail = || {
            format!("descr: expected floats, integers or booleans of at most 8 bytes, got '{}'", printable(descr, 40))
        };
        let [order, kind, size] = descr.as_bytes() else { return Err(fail()) };
        let size = usize::from(size.wrapping_sub(b'0'));
        let known = match kind {
            b'f' => matches!(size, 2 | 4 | 8),
            b'i' => matches!(size, 1 | 2 | 4 | 8),
            // 64 bits without a sign do not fit i64.
            b'u' => matches!(size, 1 | 2 | 4),
            b'b' => size == 1,
            _ => false,
        };
        // `|` means "not applicable" and `=` the writer's native order, which is taken as little-endian.
        let order_is_known = matches!(order, b'<' | b'>' | b'|' | b'=');
        if known && order_is_known { Ok(Self { big_endian: *order == b'>', kind: *kind, size }) } else { Err(fail()) }
    }

    fn convert(self, data: &[u8]) -> NpyValues {
        match (self.kind, self.size) {
            (b'f', 2) => NpyValues::F32(self.elements(data, |bytes| f16::from_le_bytes(bytes).to_f32())),
            (b'f', 4) => NpyValues::F32(self.elements(data, f32::from_le_bytes)),
            (b'f', _) => NpyValues::F32(self.elements(data, |bytes| f64::from_le_bytes(bytes) as f32)),
            (b'u', 1) => NpyValues::U8(data.to_vec()),
            (b'u', 2) => NpyValues::I64(self.elements(data, |bytes| u16::from_le_bytes(bytes).into())),
            (b'u', _) => NpyValues::I64(self.elements(data, |bytes| u32::from_le_bytes(bytes).into())),
            (b'i', 1) => NpyValues::I64(self.elements(data, |bytes| i8::from_le_bytes(bytes).into())),
            (b'i', 2) => NpyValues::I64(self.elements(data, |bytes| i16::from_le_bytes(bytes).into())),
            (b'i', 4) => NpyValues::I64(self.elements(data, |bytes| i32::from_le_bytes(bytes).into())),
            (b'i', _) => NpyValues::I64(self.elements(data, i64::from_le_bytes)),
            _ => NpyValues::I64(data.iter().map(|&byte| i64::from(byte != 0)).collect()),
        }
    }

    fn elements<const N: usize, T>(self, data: &[u8], convert: impl Fn([u8; N]) -> T) -> Vec<T> {
        let (elements, _) = data.as_chunks::<N>();
        let ordered = |mut bytes: [u8; N]| {
            if self.big_endian {
                bytes.reverse();
            }
            convert(bytes)
        };
        elements.iter().map(|&bytes| ordered(bytes)).collect()
    }
}

fn to_row_major<T: Copy>(values: &[T], shape: &[usize]) -> Vec<T> {
    // In column-major order the stride of a dimension is the product of those before it.
    let strides: Vec<usize> = shape
        .iter()
        .scan(1, |stride, &extent| {
            let this = *stride;
            *stride *= extent;
            Some(this)
        })
        .collect();
    let mut index = vec![0; shape.len()];
    let mut position = 0;
    let mut ordered = Vec::with_capacity(values.len());
    while ordered.len() < values.len() {
        ordered.push(values[position]);
        for axis in (0..index.len()).rev() {
            index[axis] += 1;
            position += strides[axis];
            if index[axis] < shape[axis] {
                break;
            }
            position -= index[axis] * strides[axis];
            index[axis] = 0;
        }
    }
    ordered
}

/// The header: a Python dictionary of three items.
struct Header {
    element: Element,
    fortran_order: bool,
    shape: Vec<usize>,
}

impl Header {
    fn parse(header: &[u8]) -> Result<Self, String> {
        let text = std::str::from_utf8(header).map_err(|_| "header: expected text")?;
        let mut literal = Literal { rest: text };
        let (mut element, mut fortran_order, mut shape) = (None, None, None);
        literal.expect("{")?;
        while !literal.accept("}") {
            let key = literal.string()?;
            literal.expect(":")?;
            match key {
                "descr" => element = Some(Element::parse(literal.string()?)?),
                "fortran_order" => fortran_order = Some(literal.boolean()?),
                "shape" => shape = Some(literal.tuple()?),
                other => {
                    let got = printable(other, 40);
                    return Err(format!("header: expected descr, fortran_order and shape, got {got}"));
                }
            }
            if !literal.accept(",") {
                literal.expect("}")?;
                break;
            }
        }
        match (element, fortran_order, shape, literal.rest.trim()) {
            (Some(element), Some(fortran_order), Some(shape), "") => Ok(Self { element, fortran_order, shape }),
            _ => Err("header: expected descr, fortran_order and shape, and nothing after them".into()),
        }
    }
}

/// A Python literal that is being read.
struct Literal<'a> {
    rest: &'a str,
}

impl<'a> Literal<'a> {
    fn accept(&mut self, token: &str) -> bool {
        self.rest = self.rest.trim_start();
        match self.rest.strip_prefix(token) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn expect(&mut self, token: &str) -> Result<(), String> {
        if self.accept(token) { Ok(()) } else { Err(self.unexpected(token)) }
    }

    fn unexpected(&self, expected: &str) -> String {
        format!("header: expected {expected}, got \"{}\"", printable(self.rest, 16))
    }

    fn string(&mut self) -> Result<&'a str, String> {
        let quote = if self.accept("'") {
            '\''
        } else if self.accept("\"") {
            '"'
        } else {
            return Err(self.unexpected("a string"));
        };
        let (text, rest) = self.rest.split_once(quote).ok_or_else(|| self.unexpected("the end of a string"))?;
        self.rest = rest;
        Ok(text)
    }

    fn boolean(&mut self) -> Result<bool, String> {
        if self.accept("True") {
            Ok(true)
        } else if self.accept("False") {
            Ok(false)
        } else {
            Err(self.unexpected("True or False"))
        }
    }

    fn tuple(&mut self) -> Result<Vec<usize>, String> {
        self.expect("(")?;
        let mut items = Vec::new();
        while !self.accept(")") {
            self.rest = self.rest.trim_start();
            let digits = self.rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(self.rest.len());
            let (number, rest) = self.rest.split_at(digits);
            items.push(number.parse().map_err(|_| self.unexpected("an extent"))?);
            // Python 2 wrote long integers with an L.
            self.rest = rest.strip_prefix('L').unwrap_or(rest);
            if items.len() > MAX_DIMENSIONS {
                return Err(format!("shape: expected at most {MAX_DIMENSIONS} dimensions"));
            }
            if !self.accept(",") {
                self.expect(")")?;
                break;
            }
        }
        Ok(items)
    }
}
