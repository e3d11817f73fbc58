//! Python pickles, protocols 2 to 5, read as data.
//!
//! A pickle is a program for a stack machine. This one runs it without ever calling anything: a global is a pair of
//! names, a call is a node that holds what would be called and with what. All values lie in one list and refer to each
//! other by their places in it, so that what is shared or cyclic costs nothing more, dropping needs no recursion, and
//! memory grows by a fixed amount an operation, of which there are at most [`MAX_OPERATIONS`].

use std::collections::HashMap;

/// The longest program that is run. Torch needs some forty operations a tensor.
const MAX_OPERATIONS: usize = 1 << 21;

/// The place of a value in [`Pickle::values`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Id(u32);

/// A Python value. Text and names are slices of the pickle.
#[derive(Debug)]
pub(crate) enum Value<'a> {
    None,
    Bool(bool),
    Int(i64),
    Str(&'a str),
    /// A tuple, a list or a set.
    Sequence(Vec<Id>),
    Dict(Vec<[Id; 2]>),
    /// A class or function, by module and name.
    Global(&'a str, &'a str),
    /// What a call would have made, with the items set on it afterwards (as on an `OrderedDict`).
    Call {
        callable: Id,
        arguments: Id,
        items: Vec<[Id; 2]>,
    },
    /// What the container knows under this identifier: a storage.
    Persistent(Id),
    /// Bytes, floats and integers past 64 bits, of which nothing depends on the value.
    Other,
}

/// The values of one pickle.
#[derive(Debug)]
pub(crate) struct Pickle<'a> {
    values: Vec<Value<'a>>,
    root: Id,
}

impl<'a> Pickle<'a> {
    /// Runs the pickle at the beginning of `bytes`; gives it and the number of bytes it takes. The error says where and
    /// what.
    pub(crate) fn parse(bytes: &'a [u8]) -> Result<(Self, usize), String> {
        let mut machine = Machine {
            bytes,
            position: 0,
            values: Vec::new(),
            stack: Vec::new(),
            marks: Vec::new(),
            memo: HashMap::new(),
        };
        let root = machine.run().map_err(|what| format!("pickle, byte {}: {what}", machine.position))?;
        Ok((Self { values: machine.values, root }, machine.position))
    }

    /// The value that the pickle is.
    pub(crate) fn root(&self) -> &Value<'a> {
        self.get(self.root)
    }

    /// The value at `id`.
    pub(crate) fn get(&self, id: Id) -> &Value<'a> {
        &self.values[id.0 as usize]
    }

    /// Every value, those included that nothing refers to.
    pub(crate) fn values(&self) -> &[Value<'a>] {
        &self.values
    }
}

struct Machine<'a> {
    bytes: &'a [u8],
    position: usize,
    values: Vec<Value<'a>>,
    stack: Vec<Id>,
    /// Heights of the stack at the marks.
    marks: Vec<usize>,
    memo: HashMap<u32, Id>,
}

type Step<T> = Result<T, String>;

impl<'a> Machine<'a> {
    fn run(&mut self) -> Step<Id> {
        for _ in 0..MAX_OPERATIONS {
            let [operation] = self.array()?;
            match operation {
                b'.' => return self.pop(),
                // PROTO
                0x80 => {
                    let [protocol] = self.array()?;
                    if !(2..=5).contains(&protocol) {
                        return Err(format!("expected protocol 2 to 5, got {protocol}"));
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
                // SHORT_BINSTRING and BINSTRING (Python 2's strings, which may be bytes), SHORT_BINUNICODE, BINUNICODE, BINUNICODE8
                b'U' | 0x8c => self.text::<1>()?,
                b'T' | b'X' => self.text::<4>()?,
                0x8d => self.text::<8>()?,
                // SHORT_BINBYTES, BINBYTES, BINBYTES8, BYTEARRAY8
                b'C' => self.blob::<1>()?,
                b'B' => self.blob::<4>()?,
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
                        return Err("expected the two names of a global".into());
                    };
                    self.push(Value::Global(module, name));
                }
                // REDUCE, NEWOBJ: a call that is not made
                b'R' | 0x81 => {
                    let parts = self.pop_items(2)?;
                    self.push(Value::Call { callable: parts[0], arguments: parts[1], items: Vec::new() });
                }
                // NEWOBJ_EX
                0x92 => {
                    let parts = self.pop_items(3)?;
                    self.push(Value::Call { callable: parts[0], arguments: parts[1], items: Vec::new() });
                }
                // BUILD: the state of an object, of which no tensor depends
                b'b' => {
                    self.pop()?;
                }
                // BINPERSID
                b'Q' => {
                    let identifier = self.pop()?;
                    self.push(Value::Persistent(identifier));
                }
                other => return Err(format!("expected an operation of protocols 2 to 5, got {other:#04x}")),
            }
        }
        Err(format!("expected at most {MAX_OPERATIONS} operations"))
    }

    fn value(&self, id: Id) -> &Value<'a> {
        &self.values[id.0 as usize]
    }

    fn take(&mut self, length: usize) -> Step<&'a [u8]> {
        let end = self.position.checked_add(length).filter(|&end| end <= self.bytes.len());
        let end =
            end.ok_or_else(|| format!("expected {length} more bytes, got {}", self.bytes.len() - self.position))?;
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
        usize::try_from(length).map_err(|_| format!("expected a length, got {length}"))
    }

    fn line(&mut self) -> Step<&'a str> {
        let rest = &self.bytes[self.position..];
        let length = rest.iter().position(|&byte| byte == b'\n').ok_or("expected a line, got none")?;
        let line = self.take(length + 1)?;
        std::str::from_utf8(&line[..length]).map_err(|_| "expected a name in UTF-8".into())
    }

    fn text<const N: usize>(&mut self) -> Step<()> {
        let length = self.length::<N>()?;
        // What is no UTF-8 (bytes, lone surrogates) is no name of a tensor.
        let value = std::str::from_utf8(self.take(length)?).map_or(Value::Other, Value::Str);
        self.push(value);
        Ok(())
    }

    fn blob<const N: usize>(&mut self) -> Step<()> {
        let length = self.length::<N>()?;
        self.take(length)?;
        self.push(Value::Other);
        Ok(())
    }

    fn push(&mut self, value: Value<'a>) {
        // At most one value an operation: the place fits 32 bits.
        self.stack.push(Id(self.values.len() as u32));
        self.values.push(value);
    }

    /// The lowest height to which values may be popped: the innermost mark's.
    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    fn top(&self) -> Step<Id> {
        let top = if self.stack.len() > self.floor() { self.stack.last() } else { None };
        top.copied().ok_or_else(|| "expected a value on the stack, got none".into())
    }

    fn pop(&mut self) -> Step<Id> {
        let top = self.top()?;
        self.stack.pop();
        Ok(top)
    }

    fn pop_items(&mut self, count: usize) -> Step<Vec<Id>> {
        let start = self.stack.len().checked_sub(count).filter(|&start| start >= self.floor());
        let start = start.ok_or_else(|| format!("expected {count} values on the stack"))?;
        Ok(self.cut(start))
    }

    fn pop_to_mark(&mut self) -> Step<Vec<Id>> {
        let mark = self.marks.pop().ok_or("expected a mark on the stack, got none")?;
        Ok(self.cut(mark))
    }

    /// Removes the stack above `start`, into a vector of just that size.
    fn cut(&mut self, start: usize) -> Vec<Id> {
        let items = self.stack[start..].to_vec();
        self.stack.truncate(start);
        items
    }

    fn recall(&mut self, slot: u32) -> Step<()> {
        let id = *self.memo.get(&slot).ok_or_else(|| format!("expected a value in memo {slot}, got none"))?;
        self.stack.push(id);
        Ok(())
    }

    fn append(&mut self, new: &[Id]) -> Step<()> {
        let target = self.top()?;
        match &mut self.values[target.0 as usize] {
            Value::Sequence(items) => items.extend(new),
            // A list made by a call, of which no tensor depends.
            Value::Call { .. } => {}
            _ => return Err("expected a list to append to".into()),
        }
        Ok(())
    }

    fn set_items(&mut self, new: &[Id]) -> Step<()> {
        let target = self.top()?;
        match &mut self.values[target.0 as usize] {
            Value::Dict(items) | Value::Call { items, .. } => items.extend(pairs(new)?),
            _ => return Err("expected a dictionary to set items of".into()),
        }
        Ok(())
    }
}

fn pairs(items: &[Id]) -> Step<Vec<[Id; 2]>> {
    let (pairs, rest) = items.as_chunks::<2>();
    if rest.is_empty() { Ok(pairs.to_vec()) } else { Err("expected a value for every key".into()) }
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
