//! Bits and Huffman codes.

use super::Fault;

/// Bits that are looked up at once; most codes are shorter.
const FAST_BITS: u32 = 9;

/// A Huffman table.
#[derive(Debug)]
pub(super) struct Huffman {
    /// The code that the next bits begin with; of length 0 if it is longer.
    fast: Box<[Code; 1 << FAST_BITS]>,
    /// For each length from 1: the first code that is longer, as 16 bits, and the offset from a code to its symbol's
    /// index.
    lengths: [(u32, i32); 16],
    symbols: Vec<u8>,
}

/// A code in one word, from the lowest byte: its length together with that of the number that follows it, whose size the lower half of the
/// symbol is; its length; its symbol.
#[derive(Clone, Copy, Debug, Default)]
struct Code(u32);

impl Code {
    fn new(length: u32, symbol: u8) -> Self {
        let symbol = u32::from(symbol);
        Self((length + (symbol & 15)) | length << 8 | symbol << 16)
    }
}

impl Huffman {
    /// From the number of codes of each length from 1 to 16, and the symbols in the order of their codes.
    pub(super) fn new(counts: &[u8; 16], symbols: &[u8]) -> Result<Self, Fault> {
        let mut fast = Box::new([Code::default(); 1 << FAST_BITS]);
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
                    fast[first..first + (1 << (FAST_BITS - length))].fill(Code::new(length, symbols[place]));
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

    /// The code that `next`, 16 bits, begins with, if it is longer than those that are looked up at once.
    #[cold]
    fn long(&self, next: u32) -> Result<Code, Fault> {
        let length = (FAST_BITS + 1..=16).find(|&length| next < self.lengths[length as usize - 1].0);
        let length = length.ok_or(Fault::Broken("a code that is in no table"))?;
        let place = (next >> (16 - length)) as i32 + self.lengths[length as usize - 1].1;
        let symbol = self.symbols.get(place as usize).ok_or(Fault::Broken("a code that is in no table"))?;
        Ok(Code::new(length, *symbol))
    }
}

/// The bits of entropy-coded data, up to the next marker.
pub(super) struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
    /// The next bits, from the highest. Below the first `count` there are zeros, or bits that follow.
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

    /// Fills the window, as far as there are bits, to at least the 31 of the longest code and number.
    #[inline(always)]
    fn refill(&mut self) {
        if self.count >= 32 {
            return;
        }
        if let Some(next) = self.bytes[self.at..].first_chunk() {
            let next = u64::from_be_bytes(*next);
            // Whether a byte is 0xff, which is a marker or has a byte behind it that does not count.
            const LOW: u64 = u64::from_ne_bytes([0x7f; 8]);
            if ((next & LOW) + u64::from_ne_bytes([1; 8])) & next & !LOW == 0 {
                self.window |= next >> self.count;
                let whole = (64 - self.count) / 8;
                self.at += whole as usize;
                self.count += 8 * whole;
                return;
            }
        }
        self.refill_by_bytes();
    }

    #[cold]
    fn refill_by_bytes(&mut self) {
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

    #[inline(always)]
    fn take(&mut self, count: u32) -> Result<(), Fault> {
        if count > self.count {
            return Err(Fault::Broken("a truncated scan"));
        }
        self.window <<= count;
        self.count -= count;
        Ok(())
    }

    /// The next symbol, and the signed number that follows it, of as many bits as the lower half of the symbol says: those that begin
    /// with 0 are negative.
    #[inline(always)]
    pub(super) fn symbol(&mut self, table: &Huffman) -> Result<(u8, i32), Fault> {
        self.refill();
        let mut code = table.fast[(self.window >> (64 - FAST_BITS)) as usize];
        if code.0 == 0 {
            code = table.long((self.window >> 48) as u32)?;
        }
        let (total, length, symbol) = (code.0 & 0xff, code.0 >> 8 & 0xff, (code.0 >> 16) as u8);
        let size = u32::from(symbol & 15);
        let number = self.window << length;
        self.take(total)?;
        // All ones where the number begins with 0.
        let negative = !((number as i64 >> 63) as i32);
        let number = (number >> 1 >> (63 - size)) as i32;
        Ok((symbol, number + (negative & (1 - (1 << size)))))
    }

    /// A number of `count` bits, up to 16.
    pub(super) fn number(&mut self, count: u32) -> Result<i32, Fault> {
        self.refill();
        let number = (self.window >> 1 >> (63 - count)) as i32;
        self.take(count)?;
        Ok(number)
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
