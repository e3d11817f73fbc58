//! Bits and Huffman codes.

use super::Fault;

/// Bits that are looked up at once; most codes are shorter.
const FAST_BITS: u32 = 9;

/// A Huffman table.
#[derive(Debug)]
pub(super) struct Huffman {
    /// Length and symbol of the code that the next bits begin with; length 0 if it is longer.
    fast: Box<[(u8, u8); 1 << FAST_BITS]>,
    /// For each length from 1: the first code that is longer, as 16 bits, and the offset from a code to its symbol's
    /// index.
    lengths: [(u32, i32); 16],
    symbols: Vec<u8>,
}

impl Huffman {
    /// From the number of codes of each length from 1 to 16, and the symbols in the order of their codes.
    pub(super) fn new(counts: &[u8; 16], symbols: &[u8]) -> Result<Self, Fault> {
        let mut fast = Box::new([(0, 0); 1 << FAST_BITS]);
        let mut lengths = [(0, 0); 16];
        let (mut code, mut place) = (0u32, 0usize);
        for (at, &count) in counts.iter().enumerate() {
            let length = at as u32 + 1;
            lengths[at].1 = place as i32 - code as i32;
            for _ in 0..count {
                if code >> length != 0 {
                    return Err(Fault::Broken("a Huffman table with too many codes"));
                }
                if length <= FAST_BITS {
                    let first = (code << (FAST_BITS - length)) as usize;
                    fast[first..first + (1 << (FAST_BITS - length))].fill((length as u8, symbols[place]));
                }
                code += 1;
                place += 1;
            }
            lengths[at].0 = code << (16 - length);
            code <<= 1;
        }
        if symbols.len() > 256 {
            return Err(Fault::Broken("a Huffman table with too many codes"));
        }
        Ok(Self { fast, lengths, symbols: symbols.to_vec() })
    }
}

/// The bits of entropy-coded data, up to the next marker.
pub(super) struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
    /// The next bits, from the highest; below them zeros.
    window: u64,
    count: u32,
}

impl<'a> Bits<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0, window: 0, count: 0 }
    }

    /// Bytes that were read, up to the marker that ends them.
    pub(super) fn position(&self) -> usize {
        self.at
    }

    /// Fills the window as far as there are bits.
    fn refill(&mut self) {
        while self.count <= 56 {
            let (byte, len) = match self.bytes.get(self.at..) {
                Some([0xff, 0, ..]) => (0xff, 2),
                Some([0xff, ..] | []) | None => return,
                Some([byte, ..]) => (*byte, 1),
            };
            self.at += len;
            self.window |= u64::from(byte) << (56 - self.count);
            self.count += 8;
        }
    }

    fn take(&mut self, count: u32) -> Result<(), Fault> {
        if count > self.count {
            return Err(Fault::Broken("a truncated scan"));
        }
        self.window <<= count;
        self.count -= count;
        Ok(())
    }

    /// The next symbol.
    pub(super) fn symbol(&mut self, table: &Huffman) -> Result<u8, Fault> {
        if self.count < 16 {
            self.refill();
        }
        let (length, symbol) = table.fast[(self.window >> (64 - FAST_BITS)) as usize];
        if length > 0 {
            self.take(length.into())?;
            return Ok(symbol);
        }
        let next = (self.window >> 48) as u32;
        let length = (FAST_BITS + 1..=16).find(|&length| next < table.lengths[length as usize - 1].0);
        let length = length.ok_or(Fault::Broken("a code that is in no table"))?;
        self.take(length)?;
        let place = (next >> (16 - length)) as i32 + table.lengths[length as usize - 1].1;
        table.symbols.get(place as usize).copied().ok_or(Fault::Broken("a code that is in no table"))
    }

    /// A number of `count` bits, up to 16.
    pub(super) fn number(&mut self, count: u32) -> Result<i32, Fault> {
        if count == 0 {
            return Ok(0);
        }
        if self.count < count {
            self.refill();
        }
        let number = (self.window >> (64 - count)) as i32;
        self.take(count)?;
        Ok(number)
    }

    /// A signed number of `count` bits, up to 16: those that begin with 0 are negative.
    pub(super) fn signed(&mut self, count: u32) -> Result<i32, Fault> {
        let number = self.number(count)?;
        Ok(if count > 0 && number < 1 << (count - 1) { number - (1 << count) + 1 } else { number })
    }

    /// One bit.
    pub(super) fn bit(&mut self) -> Result<bool, Fault> {
        Ok(self.number(1)? == 1)
    }

    /// Passes the restart marker that must follow.
    pub(super) fn restart(&mut self) -> Result<(), Fault> {
        if self.count >= 8 {
            return Err(Fault::Broken("data where a restart marker belongs"));
        }
        (self.window, self.count) = (0, 0);
        // A marker may be preceded by any number of fill bytes.
        while let Some([0xff, 0xff]) = self.bytes.get(self.at..self.at + 2) {
            self.at += 1;
        }
        let Some([0xff, 0xd0..=0xd7]) = self.bytes.get(self.at..self.at + 2) else {
            return Err(Fault::Broken("no restart marker where one belongs"));
        };
        self.at += 2;
        Ok(())
    }
}
