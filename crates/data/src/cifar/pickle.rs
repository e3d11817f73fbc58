//! A reader for the few kinds of pickle that hold dictionaries, lists and numpy arrays. It builds plain values: what a
//! pickle would import or call is kept as a name with arguments, and never looked up.

use std::borrow::Cow;
use std::collections::HashMap;

/// The most instructions that are followed; an official batch has about 60,000 to 400,000.
const MAX_STEPS: usize = 1 << 22;

/// The place of a value in a [`Pickle`].
pub(super) type Id = u32;

/// A value, with others by their place.
#[derive(Debug)]
pub(super) enum Value<'a> {
    None,
    Bool(bool),
    Int(i64),
    Float,
    Bytes(Cow<'a, [u8]>),
    Text(Cow<'a, str>),
    Tuple(Vec<Id>),
    List(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    /// A name that would be imported: the texts of module and attribute.
    Global(Id, Id),
    /// A name that would be called, its arguments, and the state that would be set.
    Object {
        callable: Id,
        arguments: Id,
        state: Option<Id>,
    },
}

/// Why a pickle cannot be read.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) offset: usize,
    pub(super) expected: String,
    pub(super) got: String,
}

/// A numpy array of bytes.
#[derive(Debug)]
pub(super) struct ByteArray<'p> {
    pub(super) shape: Vec<usize>,
    pub(super) column_major: bool,
    pub(super) bytes: &'p [u8],
}

/// The values of a pickle.
#[derive(Debug)]
pub(super) struct Pickle<'a> {
    values: Vec<Value<'a>>,
    root: Id,
}

impl<'a> Pickle<'a> {
    /// Follows the instructions up to the end of the first pickle.
    pub(super) fn read(bytes: &'a [u8]) -> Result<Self, Fault> {
        let mut machine = Machine { bytes, left: bytes.len(), ..Machine::default() };
        for _ in 0..MAX_STEPS {
            let offset = machine.at;
            match machine.step() {
                Some(false) => {}
                Some(true) => {
                    let root = machine.stack.pop();
                    let root = root.ok_or_else(|| fault(offset, "a value", "an empty pickle"))?;
                    return Ok(Self { values: machine.values, root });
                }
                None => {
                    let got = match bytes.get(offset) {
                        Some(code) => format!("instruction {code:#04x} that is unknown, misplaced or cut off"),
                        None => "the end of the file".into(),
                    };
                    return Err(fault(offset, "a pickled dictionary", &got));
                }
            }
        }
        Err(fault(machine.at, &format!("at most {MAX_STEPS} instructions"), "more"))
    }

    pub(super) fn value(&self, id: Id) -> &Value<'a> {
        &self.values[id as usize]
    }

    /// The item of the outermost dictionary under `key`.
    pub(super) fn item(&self, key: &str) -> Option<Id> {
        let Value::Dict(items) = self.value(self.root) else { return None };
        items.iter().rev().find(|(name, _)| self.is(*name, key)).map(|&(_, value)| value)
    }

    pub(super) fn list(&self, id: Id) -> Option<&[Id]> {
        match self.value(id) {
            Value::List(items) => Some(items),
            _ => None,
        }
    }

    /// Text, or the bytes that were text in Python 2.
    pub(super) fn text(&self, id: Id) -> Option<String> {
        match self.value(id) {
            Value::Text(text) => Some(text.to_string()),
            Value::Bytes(bytes) => std::str::from_utf8(bytes).ok().map(String::from),
            _ => None,
        }
    }

    fn is(&self, id: Id, text: &str) -> bool {
        match self.value(id) {
            Value::Text(value) => value == text,
            Value::Bytes(value) => **value == *text.as_bytes(),
            _ => false,
        }
    }

    fn is_global(&self, id: Id, module: &str, name: &str) -> bool {
        matches!(*self.value(id), Value::Global(from, what) if self.is(from, module) && self.is(what, name))
    }

    fn tuple(&self, id: Id) -> Option<&[Id]> {
        match self.value(id) {
            Value::Tuple(items) => Some(items),
            _ => None,
        }
    }

    /// A numpy array of dtype `u1`: as numpy pickled it up to protocol 4, or in protocol 5.
    pub(super) fn byte_array(&self, id: Id) -> Option<ByteArray<'_>> {
        let Value::Object { callable, arguments, state } = self.value(id) else { return None };
        let imports = |name| {
            let modules =
                ["numpy.core.multiarray", "numpy._core.multiarray", "numpy.core.numeric", "numpy._core.numeric"];
            modules.into_iter().any(|module| self.is_global(*callable, module, name))
        };
        let (shape, dtype, column_major, bytes) = match state {
            Some(state) if imports("_reconstruct") => {
                let &[_, shape, dtype, order, bytes] = self.tuple(*state)? else { return None };
                (shape, dtype, matches!(self.value(order), Value::Bool(true) | Value::Int(1)), bytes)
            }
            None if imports("_frombuffer") => {
                let &[bytes, dtype, shape, order] = self.tuple(*arguments)? else { return None };
                (shape, dtype, self.is(order, "F"), bytes)
            }
            _ => return None,
        };
        let Value::Object { callable, arguments, .. } = self.value(dtype) else { return None };
        let &[kind, ..] = self.tuple(*arguments)? else { return None };
        let Value::Bytes(bytes) = self.value(bytes) else { return None };
        let side = |&id: &Id| match self.value(id) {
            Value::Int(side) => usize::try_from(*side).ok(),
            _ => None,
        };
        let shape = self.tuple(shape)?.iter().map(side).collect::<Option<_>>()?;
        (self.is_global(*callable, "numpy", "dtype") && self.is(kind, "u1")).then_some(ByteArray {
            shape,
            column_major,
            bytes,
        })
    }
}

fn fault(offset: usize, expected: &str, got: &str) -> Fault {
    Fault { offset, expected: expected.into(), got: got.into() }
}

/// Pickle's stack machine, without the instructions that call, import or persist.
#[derive(Default)]
struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    /// How many more bytes may be copied out of the file.
    left: usize,
    values: Vec<Value<'a>>,
    stack: Vec<Id>,
    marks: Vec<usize>,
    memo: HashMap<u32, Id>,
}

impl<'a> Machine<'a> {
    /// Follows one instruction: whether it was the last, or `None` if it cannot be followed.
    fn step(&mut self) -> Option<bool> {
        match self.take(1)?[0] {
            b'.' => return Some(true),
            0x80 => drop(self.take(1)?),
            0x95 => drop(self.take(8)?),
            b'(' => self.marks.push(self.stack.len()),
            b'0' => drop(self.pop()?),
            b'1' => drop(self.pop_mark()?),
            b'2' => self.stack.push(*self.stack.last()?),
            b'N' => self.push(Value::None),
            0x88 => self.push(Value::Bool(true)),
            0x89 => self.push(Value::Bool(false)),
            b'J' => {
                let value = i32::from_le_bytes(self.array()?);
                self.push(Value::Int(value.into()));
            }
            b'K' => {
                let value = self.number(1)?;
                self.push(Value::Int(value as i64));
            }
            b'M' => {
                let value = self.number(2)?;
                self.push(Value::Int(value as i64));
            }
            0x8a => {
                let len = self.number(1)?;
                let bytes = self.take(len).filter(|bytes| bytes.len() <= 8)?;
                let sign = if bytes.last().is_some_and(|&byte| byte >= 0x80) { 0xff } else { 0 };
                let mut value = [sign; 8];
                value[..bytes.len()].copy_from_slice(bytes);
                self.push(Value::Int(i64::from_le_bytes(value)));
            }
            b'G' => {
                self.take(8)?;
                self.push(Value::Float);
            }
            b'U' | b'C' => self.bytes(1)?,
            b'T' | b'B' => self.bytes(4)?,
            0x8e | 0x96 => self.bytes(8)?,
            0x8c => self.text(1)?,
            b'X' => self.text(4)?,
            0x8d => self.text(8)?,
            b']' => self.push(Value::List(Vec::new())),
            b')' => self.push(Value::Tuple(Vec::new())),
            b'}' => self.push(Value::Dict(Vec::new())),
            b'l' => {
                let items = self.pop_mark()?;
                self.push(Value::List(items));
            }
            b't' => {
                let items = self.pop_mark()?;
                self.push(Value::Tuple(items));
            }
            count @ 0x85..=0x87 => {
                let from = self.stack.len().checked_sub(usize::from(count - 0x84))?;
                let items = self.stack.split_off(from);
                self.push(Value::Tuple(items));
            }
            b'd' => {
                let items = self.pop_mark()?;
                self.push(Value::Dict(Vec::new()));
                self.set_items(items)?;
            }
            b'a' => {
                let item = self.pop()?;
                self.append(vec![item])?;
            }
            b'e' => {
                let items = self.pop_mark()?;
                self.append(items)?;
            }
            b's' => {
                let (value, key) = (self.pop()?, self.pop()?);
                self.set_items(vec![key, value])?;
            }
            b'u' => {
                let items = self.pop_mark()?;
                self.set_items(items)?;
            }
            b'q' => self.remember(1)?,
            b'r' => self.remember(4)?,
            0x94 => drop(self.memo.insert(self.memo.len() as u32, *self.stack.last()?)),
            b'h' => self.recall(1)?,
            b'j' => self.recall(4)?,
            b'c' => {
                for _ in 0..2 {
                    let line = self.line()?;
                    self.push(Value::Text(Cow::Borrowed(line)));
                }
                self.global()?;
            }
            0x93 => self.global()?,
            b'R' | 0x81 => {
                let (arguments, callable) = (self.pop()?, self.pop()?);
                let bytes = self.encoded(callable, arguments);
                self.left = self.left.checked_sub(bytes.as_ref().map_or(0, Vec::len))?;
                let bytes = bytes.map(|bytes| Value::Bytes(Cow::Owned(bytes)));
                self.push(bytes.unwrap_or(Value::Object { callable, arguments, state: None }));
            }
            b'b' => {
                let new = self.pop()?;
                let object = *self.stack.last()? as usize;
                let Value::Object { state, .. } = &mut self.values[object] else { return None };
                *state = Some(new);
            }
            _ => return None,
        }
        Some(false)
    }

    /// Python 3's way of writing bytes in protocol 2: `_codecs.encode(text, "latin1")`.
    fn encoded(&self, callable: Id, arguments: Id) -> Option<Vec<u8>> {
        let (&Value::Global(module, name), Value::Tuple(arguments)) = (self.value(callable), self.value(arguments))
        else {
            return None;
        };
        let &[text, codec] = &arguments[..] else { return None };
        let (Value::Text(text), Value::Text(codec)) = (self.value(text), self.value(codec)) else { return None };
        let (Value::Text(module), Value::Text(name)) = (self.value(module), self.value(name)) else { return None };
        if (&**module, &**name, &**codec) != ("_codecs", "encode", "latin1") {
            return None;
        }
        text.chars().map(|char| u8::try_from(u32::from(char)).ok()).collect()
    }

    /// The topmost two texts as a name.
    fn global(&mut self) -> Option<()> {
        let (name, module) = (self.pop()?, self.pop()?);
        let (Value::Text(_), Value::Text(_)) = (self.value(module), self.value(name)) else { return None };
        self.push(Value::Global(module, name));
        Some(())
    }

    fn value(&self, id: Id) -> &Value<'a> {
        &self.values[id as usize]
    }

    fn push(&mut self, value: Value<'a>) {
        // There are fewer than MAX_STEPS values.
        self.stack.push(self.values.len() as Id);
        self.values.push(value);
    }

    /// The topmost value, unless a mark lies on it.
    fn pop(&mut self) -> Option<Id> {
        (self.stack.len() > self.marks.last().copied().unwrap_or(0)).then(|| self.stack.pop())?
    }

    fn pop_mark(&mut self) -> Option<Vec<Id>> {
        let mark = self.marks.pop()?;
        (mark <= self.stack.len()).then(|| self.stack.split_off(mark))
    }

    fn append(&mut self, new: Vec<Id>) -> Option<()> {
        let list = *self.stack.last()? as usize;
        let Value::List(items) = &mut self.values[list] else { return None };
        items.extend(new);
        Some(())
    }

    fn set_items(&mut self, new: Vec<Id>) -> Option<()> {
        let dict = *self.stack.last()? as usize;
        let Value::Dict(items) = &mut self.values[dict] else { return None };
        let (pairs, []) = new.as_chunks::<2>() else { return None };
        items.extend(pairs.iter().map(|&[key, value]| (key, value)));
        Some(())
    }

    fn remember(&mut self, width: usize) -> Option<()> {
        let key = self.number(width)? as u32;
        self.memo.insert(key, *self.stack.last()?);
        Some(())
    }

    fn recall(&mut self, width: usize) -> Option<()> {
        let key = self.number(width)? as u32;
        self.stack.push(*self.memo.get(&key)?);
        Some(())
    }

    fn bytes(&mut self, width: usize) -> Option<()> {
        let len = self.number(width)?;
        let bytes = self.take(len)?;
        self.push(Value::Bytes(Cow::Borrowed(bytes)));
        Some(())
    }

    fn text(&mut self, width: usize) -> Option<()> {
        let len = self.number(width)?;
        let text = std::str::from_utf8(self.take(len)?).ok()?;
        self.push(Value::Text(Cow::Borrowed(text)));
        Some(())
    }

    /// A little-endian number of `width` bytes.
    fn number(&mut self, width: usize) -> Option<usize> {
        let mut value = [0; 8];
        value[..width].copy_from_slice(self.take(width)?);
        usize::try_from(u64::from_le_bytes(value)).ok()
    }

    fn array<const LEN: usize>(&mut self) -> Option<[u8; LEN]> {
        self.take(LEN)?.try_into().ok()
    }

    fn line(&mut self) -> Option<&'a str> {
        let rest = self.bytes.get(self.at..)?;
        let len = rest.iter().take(256).position(|&byte| byte == b'\n')?;
        self.at += len + 1;
        std::str::from_utf8(&rest[..len]).ok()
    }

    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let taken = self.bytes.get(self.at..self.at.checked_add(len)?)?;
        self.at += len;
        Some(taken)
    }
}
