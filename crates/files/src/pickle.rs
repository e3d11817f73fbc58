//! Python pickles, protocols 2 to 5, read as data.
//!
//! A pickle is a program for a stack machine. This one never calls or imports anything: a global is a pair of names, a
//! call is a node with its callable and its arguments. All values are in one list and refer to each other by index, so
//! that shared and cyclic values need no special case, dropping needs no recursion, and memory grows by a bounded
//! amount per operation (under 250 bytes), whose number the caller limits. Text, names and bytes are slices of the
//! pickle.

use std::collections::HashMap;

/// The index of a value in a [`Pickle`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Id(u32);

/// A Python value.
#[derive(Debug)]
pub enum Value<'a> {
    /// `None`.
    None,
    /// A boolean.
    Bool(bool),
    /// An integer of up to 64 bits.
    Int(i64),
    /// Text.
    Str(&'a str),
    /// Bytes, among them the strings of Python 2, which may be text.
    Bytes(&'a [u8]),
    /// A tuple, a list or a set.
    Sequence(Vec<Id>),
    /// A dictionary, in the order of its items. A key can occur twice: the last one applies.
    Dict(Vec<[Id; 2]>),
    /// A class or function, by module and name.
    Global(&'a str, &'a str),
    /// The result of a call, which is not made.
    Call {
        /// The function or class.
        callable: Id,
        /// Its arguments.
        arguments: Id,
        /// The items set on the result (as on an `OrderedDict`).
        items: Vec<[Id; 2]>,
        /// The state set on the result.
        state: Option<Id>,
    },
    /// A persistent identifier, which the container resolves: a storage of torch's.
    Persistent(Id),
    /// A float, or an integer of more than 64 bits; their values are not used.
    Other,
}

/// Bytes that are not a supported pickle.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("pickle, byte {offset}: expected {expected}, got {got}")]
pub struct PickleError {
    /// The offset of the operation at fault.
    pub offset: usize,
    /// What was expected there.
    pub expected: String,
    /// What was found.
    pub got: String,
}

/// The values of one pickle.
#[derive(Debug)]
pub struct Pickle<'a> {
    values: Vec<Value<'a>>,
    root: Id,
    length: usize,
}

impl<'a> Pickle<'a> {
    /// Runs the pickle at the beginning of `bytes`, for at most `max_operations`.
    ///
    /// # Errors
    /// If there is none, or it has more operations.
    pub fn parse(bytes: &'a [u8], max_operations: usize) -> Result<Self, PickleError> {
        let mut machine = Machine {
            bytes,
            position: 0,
            values: Vec::new(),
            stack: Vec::new(),
            marks: Vec::new(),
            memo: HashMap::new(),
        };
        // Indices of values have 32 bits; there is at most one value per operation.
        let max_operations = max_operations.min(u32::MAX as usize);
        for _ in 0..max_operations {
            let offset = machine.position;
            match machine.step() {
                Ok(None) => {}
                Ok(Some(root)) => return Ok(Self { values: machine.values, root, length: machine.position }),
                Err(Fault { expected, got }) => return Err(PickleError { offset, expected, got }),
            }
        }
        let expected = format!("at most {max_operations} operations");
        Err(PickleError { offset: machine.position, expected, got: "more".into() })
    }

    /// The length of the pickle in bytes.
    pub fn length(&self) -> usize {
        self.length
    }

    /// The unpickled value.
    pub fn root(&self) -> &Value<'a> {
        self.get(self.root)
    }

    /// The value at `id`, an id of this pickle.
    pub fn get(&self, id: Id) -> &Value<'a> {
        &self.values[id.0 as usize]
    }

    /// All values, including unreferenced ones.
    pub fn values(&self) -> &[Value<'a>] {
        &self.values
    }

    /// The text at `id`, which may be a string of Python 2.
    pub fn text(&self, id: Id) -> Option<&'a str> {
        match *self.get(id) {
            Value::Str(text) => Some(text),
            Value::Bytes(bytes) => std::str::from_utf8(bytes).ok(),
            _ => None,
        }
    }

    /// The tuple, list or set at `id`.
    pub fn sequence(&self, id: Id) -> Option<&[Id]> {
        match self.get(id) {
            Value::Sequence(items) => Some(items),
            _ => None,
        }
    }
}

/// What an operation expected and what it found.
struct Fault {
    expected: String,
    got: String,
}

fn fault(expected: impl Into<String>, got: impl Into<String>) -> Fault {
    Fault { expected: expected.into(), got: got.into() }
}

type Step<T> = Result<T, Fault>;

struct Machine<'a> {
    bytes: &'a [u8],
    position: usize,
    values: Vec<Value<'a>>,
    stack: Vec<Id>,
    /// The stack heights at the marks.
    marks: Vec<usize>,
    memo: HashMap<u32, Id>,
}

impl<'a> Machine<'a> {
    /// Runs one operation; returns the unpickled value after the last one.
    fn step(&mut self) -> Step<Option<Id>> {
        let [operation] = self.array()?;
        match operation {
            b'.' => return self.pop().map(Some),
            // PROTO
            0x80 => {
                let [protocol] = self.array()?;
                if !(2..=5).contains(&protocol) {
                    return Err(fault("protocol 2 to 5", protocol.to_string()));
                }
            }
            // FRAME
            0x95 => {
                self.array::<8>()?;
            }
            b'(' => self.marks.push(self.stack.len()),
            b'0' => {
                self.pop()?;
            }
            b'1' => {
                self.pop_to_mark()?;
            }
            b'2' => self.stack.push(self.top()?),
            b'N' => self.push(Value::None),
            0x88 => self.push(Value::Bool(true)),
            0x89 => self.push(Value::Bool(false)),
            b'J' => {
                let value = i32::from_le_bytes(self.array()?);
                self.push(Value::Int(value.into()));
            }
            b'K' => {
                let [value] = self.array()?;
                self.push(Value::Int(value.into()));
            }
            b'M' => {
                let value = u16::from_le_bytes(self.array()?);
                self.push(Value::Int(value.into()));
            }
            // LONG1, LONG4
            0x8a | 0x8b => {
                let length = if operation == 0x8a { self.length::<1>()? } else { self.length::<4>()? };
                let value = integer(self.take(length)?);
                self.push(value);
            }
            // BINFLOAT
            b'G' => {
                self.array::<8>()?;
                self.push(Value::Other);
            }
            // SHORT_BINUNICODE, BINUNICODE, BINUNICODE8
            0x8c => self.text::<1>()?,
            b'X' => self.text::<4>()?,
            0x8d => self.text::<8>()?,
            // SHORT_BINSTRING and BINSTRING (Python 2's strings), SHORT_BINBYTES, BINBYTES, BINBYTES8, BYTEARRAY8
            b'U' | b'C' => self.blob::<1>()?,
            b'T' | b'B' => self.blob::<4>()?,
            0x8e | 0x96 => self.blob::<8>()?,
            // EMPTY_LIST, EMPTY_TUPLE, EMPTY_SET
            b']' | b')' | 0x8f => self.push(Value::Sequence(Vec::new())),
            // LIST, TUPLE, FROZENSET
            b'l' | b't' | 0x91 => {
                let items = self.pop_to_mark()?;
                self.push(Value::Sequence(items));
            }
            // TUPLE1, TUPLE2, TUPLE3
            0x85..=0x87 => {
                let items = self.pop_items(usize::from(operation - 0x84))?;
                self.push(Value::Sequence(items));
            }
            b'}' => self.push(Value::Dict(Vec::new())),
            // DICT
            b'd' => {
                let items = pairs(&self.pop_to_mark()?)?;
                self.push(Value::Dict(items));
            }
            // APPEND, APPENDS, ADDITEMS
            b'a' => {
                let items = self.pop_items(1)?;
                self.append(&items)?;
            }
            b'e' | 0x90 => {
                let items = self.pop_to_mark()?;
                self.append(&items)?;
            }
            // SETITEM, SETITEMS
            b's' => {
                let items = self.pop_items(2)?;
                self.set_items(&items)?;
            }
            b'u' => {
                let items = self.pop_to_mark()?;
                self.set_items(&items)?;
            }
            // BINGET, LONG_BINGET
            b'h' => {
                let [slot] = self.array()?;
                self.recall(slot.into())?;
            }
            b'j' => {
                let slot = u32::from_le_bytes(self.array()?);
                self.recall(slot)?;
            }
            // BINPUT, LONG_BINPUT, MEMOIZE
            b'q' => {
                let [slot] = self.array()?;
                self.memo.insert(slot.into(), self.top()?);
            }
            b'r' => {
                let slot = u32::from_le_bytes(self.array()?);
                self.memo.insert(slot, self.top()?);
            }
            0x94 => {
                self.memo.insert(self.memo.len() as u32, self.top()?);
            }
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                self.push(Value::Global(module, name));
            }
            // STACK_GLOBAL
            0x93 => {
                let names = self.pop_items(2)?;
                let [Value::Str(module), Value::Str(name)] = [self.value(names[0]), self.value(names[1])] else {
                    return Err(fault("the two names of a global", "other values"));
                };
                self.push(Value::Global(module, name));
            }
            // REDUCE, NEWOBJ: a call that is not made
            b'R' | 0x81 => {
                let parts = self.pop_items(2)?;
                self.push(Value::Call { callable: parts[0], arguments: parts[1], items: Vec::new(), state: None });
            }
            // NEWOBJ_EX
            0x92 => {
                let parts = self.pop_items(3)?;
                self.push(Value::Call { callable: parts[0], arguments: parts[1], items: Vec::new(), state: None });
            }
            // BUILD: sets the state of an object; only that of calls is used
            b'b' => {
                let new = self.pop()?;
                let object = self.top()?;
                if let Value::Call { state, .. } = &mut self.values[object.0 as usize] {
                    *state = Some(new);
                }
            }
            // BINPERSID
            b'Q' => {
                let identifier = self.pop()?;
                self.push(Value::Persistent(identifier));
            }
            other => return Err(fault("an operation of protocols 2 to 5", format!("{other:#04x}"))),
        }
        Ok(None)
    }

    fn value(&self, id: Id) -> &Value<'a> {
        &self.values[id.0 as usize]
    }

    fn take(&mut self, length: usize) -> Step<&'a [u8]> {
        let end = self.position.checked_add(length).filter(|&end| end <= self.bytes.len());
        let end =
            end.ok_or_else(|| fault(format!("{length} more bytes"), (self.bytes.len() - self.position).to_string()))?;
        let taken = &self.bytes[self.position..end];
        self.position = end;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Step<[u8; N]> {
        let bytes = self.take(N)?;
        Ok(std::array::from_fn(|index| bytes[index]))
    }

    /// A little-endian length of `N` bytes.
    fn length<const N: usize>(&mut self) -> Step<usize> {
        let length = self.array::<N>()?.iter().rev().fold(0u64, |length, &byte| length << 8 | u64::from(byte));
        usize::try_from(length).map_err(|_| fault("a length", length.to_string()))
    }

    fn line(&mut self) -> Step<&'a str> {
        let rest = &self.bytes[self.position..];
        let length = rest.iter().position(|&byte| byte == b'\n').ok_or_else(|| fault("a line", "none"))?;
        let line = self.take(length + 1)?;
        std::str::from_utf8(&line[..length]).map_err(|_| fault("a name in UTF-8", "other bytes"))
    }

    fn text<const N: usize>(&mut self) -> Step<()> {
        let length = self.length::<N>()?;
        // Text that is not UTF-8 (lone surrogates) names nothing that is read.
        let value = std::str::from_utf8(self.take(length)?).map_or(Value::Other, Value::Str);
        self.push(value);
        Ok(())
    }

    fn blob<const N: usize>(&mut self) -> Step<()> {
        let length = self.length::<N>()?;
        let bytes = self.take(length)?;
        self.push(Value::Bytes(bytes));
        Ok(())
    }

    fn push(&mut self, value: Value<'a>) {
        self.stack.push(Id(self.values.len() as u32));
        self.values.push(value);
    }

    /// The height below which no value may be popped: the innermost mark's.
    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    fn top(&self) -> Step<Id> {
        let top = if self.stack.len() > self.floor() { self.stack.last() } else { None };
        top.copied().ok_or_else(|| fault("a value on the stack", "none"))
    }

    fn pop(&mut self) -> Step<Id> {
        let top = self.top()?;
        self.stack.pop();
        Ok(top)
    }

    fn pop_items(&mut self, count: usize) -> Step<Vec<Id>> {
        let start = self.stack.len().checked_sub(count).filter(|&start| start >= self.floor());
        let start = start.ok_or_else(|| fault(format!("{count} values on the stack"), "fewer"))?;
        Ok(self.cut(start))
    }

    fn pop_to_mark(&mut self) -> Step<Vec<Id>> {
        let mark = self.marks.pop().ok_or_else(|| fault("a mark on the stack", "none"))?;
        Ok(self.cut(mark))
    }

    /// Removes the stack above `start`, into a vector without spare capacity.
    fn cut(&mut self, start: usize) -> Vec<Id> {
        let items = self.stack[start..].to_vec();
        self.stack.truncate(start);
        items
    }

    fn recall(&mut self, slot: u32) -> Step<()> {
        let id = *self.memo.get(&slot).ok_or_else(|| fault(format!("a value in memo {slot}"), "none"))?;
        self.stack.push(id);
        Ok(())
    }

    fn append(&mut self, new: &[Id]) -> Step<()> {
        let target = self.top()?;
        match &mut self.values[target.0 as usize] {
            Value::Sequence(items) => items.extend(new),
            // A list created by a call; its items are not used.
            Value::Call { .. } => {}
            _ => return Err(fault("a list to append to", "another value")),
        }
        Ok(())
    }

    fn set_items(&mut self, new: &[Id]) -> Step<()> {
        let target = self.top()?;
        match &mut self.values[target.0 as usize] {
            Value::Dict(items) | Value::Call { items, .. } => items.extend(pairs(new)?),
            _ => return Err(fault("a dictionary to set items of", "another value")),
        }
        Ok(())
    }
}

fn pairs(items: &[Id]) -> Step<Vec<[Id; 2]>> {
    let (pairs, rest) = items.as_chunks::<2>();
    if rest.is_empty() { Ok(pairs.to_vec()) } else { Err(fault("a value for every key", "one too few")) }
}

/// A little-endian two's complement integer of any length.
fn integer<'a>(bytes: &[u8]) -> Value<'a> {
    if bytes.len() > 8 {
        return Value::Other;
    }
    let negative = bytes.last().is_some_and(|&byte| byte >= 0x80);
    let mut value = [if negative { 0xff } else { 0 }; 8];
    value[..bytes.len()].copy_from_slice(bytes);
    Value::Int(i64::from_le_bytes(value))
}
