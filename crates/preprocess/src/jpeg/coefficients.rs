//! Decodes scans to the planes of the components.

use super::Fault;
use super::entropy::{Bits, Huffman};
use super::header::{Frame, Scan, Tables, ZIGZAG};
use super::idct::inverse;
use crate::{Decoding, Image};

/// The samples of a component, and while it is decoded its coefficients.
#[derive(Debug)]
pub(super) struct Plane {
    /// Samples per row of `samples`: a multiple of 8.
    pub(super) stride: usize,
    /// Rows and columns that belong to the image.
    pub(super) size: [usize; 2],
    pub(super) samples: Vec<u8>,
    /// The ratio of the image's size to the component's, vertically and horizontally.
    pub(super) scale: [usize; 2],
    quantisation: Option<[u16; 64]>,
    /// Blocks in an MCU, down and across.
    factors: [usize; 2],
    /// The blocks of a progressive image; empty for others, which are transformed at once.
    blocks: Vec<[i16; 64]>,
}

/// Decodes a frame, scan by scan.
pub(super) struct Decoder {
    pub(super) frame: Frame,
    mcus: [usize; 2],
    planes: Vec<Plane>,
}

/// The state of a scan that a restart resets.
#[derive(Default)]
struct State {
    /// The last DC coefficient of each component of the scan.
    dc: [i32; 4],
    /// Blocks that are still to be skipped as ended.
    ended: u32,
}

impl Decoder {
    pub(super) fn new(frame: Frame, decoding: &Decoding) -> Result<Self, Fault> {
        let most = |side: fn(&super::header::Component) -> usize| frame.components.iter().map(side).max().unwrap_or(1);
        let [down, across] = [most(|component| component.v), most(|component| component.h)];
        let mcus = [frame.height.div_ceil(8 * down), frame.width.div_ceil(8 * across)];
        let mut planes = Vec::new();
        let mut bytes = 0;
        for component in &frame.components {
            if down % component.v != 0 || across % component.h != 0 {
                return Err(Fault::Unsupported("fractional sampling factors"));
            }
            let scale = [down / component.v, across / component.h];
            let [rows, columns] = [mcus[0] * component.v, mcus[1] * component.h];
            let blocks = rows * columns;
            bytes += blocks as u64 * if frame.progressive { 64 + 128 } else { 64 };
            planes.push(Plane {
                stride: columns * 8,
                size: [frame.height.div_ceil(scale[0]), frame.width.div_ceil(scale[1])],
                samples: vec![0; blocks * 64],
                scale,
                quantisation: None,
                factors: [component.v, component.h],
                blocks: if frame.progressive { vec![[0; 64]; blocks] } else { Vec::new() },
            });
            if bytes > decoding.scaled(Image::MAX_DECODER_BYTES) {
                return Err(Fault::TooLarge { height: frame.height as u64, width: frame.width as u64 });
            }
        }
        Ok(Self { frame, mcus, planes })
    }

    /// The blocks that a scan visits.
    pub(super) fn blocks(&self, scan: &Scan) -> u64 {
        scan.components.iter().map(|&(place, ..)| self.planes[place].samples.len() as u64 / 64).sum()
    }

    /// Decodes the scan at the beginning of `bytes` and returns its length.
    pub(super) fn scan(&mut self, scan: &Scan, tables: &Tables, bytes: &[u8]) -> Result<usize, Fault> {
        let [first, last] = scan.band;
        let valid = match self.frame.progressive {
            false => (first, last, scan.high, scan.low) == (0, 63, 0, 0),
            true => (first == 0) == (last == 0) && (first == 0 || scan.components.len() == 1),
        };
        if !valid {
            return Err(Fault::Broken("a scan that does not suit the frame"));
        }
        for &(place, ..) in &scan.components {
            let plane = &mut self.planes[place];
            let table = tables.quantisation[self.frame.components[place].table];
            plane.quantisation = plane.quantisation.or(table);
            if plane.quantisation.is_none() {
                return Err(Fault::Broken("a scan without its quantisation table"));
            }
        }
        let alone = scan.components.len() == 1;
        let [rows, columns] = match alone {
            true => self.planes[scan.components[0].0].size.map(|side| side.div_ceil(8)),
            false => self.mcus,
        };
        let (mut bits, mut state) = (Bits::new(bytes), State::default());
        let mut left = tables.restart;
        for row in 0..rows {
            for column in 0..columns {
                if tables.restart > 0 {
                    if left == 0 {
                        bits.restart()?;
                        (state, left) = (State::default(), tables.restart);
                    }
                    left -= 1;
                }
                for (number, &(place, dc, ac)) in scan.components.iter().enumerate() {
                    let [down, across] = if alone { [1, 1] } else { self.planes[place].factors };
                    for at in 0..down * across {
                        let block = [row * down + at / across, column * across + at % across];
                        let huffman = [&tables.dc[dc], &tables.ac[ac]].map(Option::as_ref);
                        let plane = &mut self.planes[place];
                        match self.frame.progressive {
                            false => plane.sequential(block, huffman, &mut bits, &mut state.dc[number])?,
                            true => plane.progressive(block, huffman, scan, &mut bits, &mut state, number)?,
                        }
                    }
                }
            }
        }
        Ok(bits.position())
    }

    /// The planes with all their samples.
    pub(super) fn finish(mut self) -> Result<(Frame, Vec<Plane>), Fault> {
        for plane in &mut self.planes {
            let table = plane.quantisation.ok_or(Fault::Broken("a component without a scan"))?;
            let columns = plane.stride / 8;
            for (at, block) in std::mem::take(&mut plane.blocks).iter().enumerate() {
                let place = at / columns * 8 * plane.stride + at % columns * 8;
                inverse(block, &table, &mut plane.samples[place..], plane.stride);
            }
        }
        Ok((self.frame, self.planes))
    }
}

const NO_TABLE: Fault = Fault::Broken("a scan without its Huffman table");

impl Plane {
    /// Decodes and transforms a block of a sequential scan.
    fn sequential(
        &mut self,
        [row, column]: [usize; 2],
        huffman: [Option<&Huffman>; 2],
        bits: &mut Bits<'_>,
        dc: &mut i32,
    ) -> Result<(), Fault> {
        let [Some(dc_table), Some(ac_table)] = huffman else { return Err(NO_TABLE) };
        let mut block = [0i16; 64];
        *dc = dc.wrapping_add(difference(bits, dc_table)?);
        block[0] = *dc as i16;
        let mut at = 1;
        while at < 64 {
            let symbol = bits.symbol(ac_table)?;
            let (run, size) = (usize::from(symbol >> 4), u32::from(symbol & 15));
            if size == 0 {
                if run < 15 {
                    break;
                }
                at += 16;
                continue;
            }
            at += run;
            let value = bits.signed(size)?;
            *coefficient(&mut block, at)? = value as i16;
            at += 1;
        }
        let table = self.quantisation.as_ref().expect("a scan has its table");
        inverse(&block, table, &mut self.samples[row * 8 * self.stride + column * 8..], self.stride);
        Ok(())
    }

    /// Decodes a block of a progressive scan.
    fn progressive(
        &mut self,
        [row, column]: [usize; 2],
        huffman: [Option<&Huffman>; 2],
        scan: &Scan,
        bits: &mut Bits<'_>,
        state: &mut State,
        number: usize,
    ) -> Result<(), Fault> {
        let block = &mut self.blocks[row * (self.stride / 8) + column];
        match (scan.band[0], scan.high) {
            (0, 0) => {
                let dc = &mut state.dc[number];
                *dc = dc.wrapping_add(difference(bits, huffman[0].ok_or(NO_TABLE)?)?);
                block[0] = (*dc << scan.low) as i16;
            }
            (0, _) => block[0] |= i16::from(bits.bit()?) << scan.low,
            (_, 0) => first_bits(block, huffman[1].ok_or(NO_TABLE)?, scan, bits, &mut state.ended)?,
            _ => further_bits(block, huffman[1].ok_or(NO_TABLE)?, scan, bits, &mut state.ended)?,
        }
        Ok(())
    }
}

fn difference(bits: &mut Bits<'_>, table: &Huffman) -> Result<i32, Fault> {
    match bits.symbol(table)? {
        size @ 0..=15 => bits.signed(size.into()),
        _ => Err(Fault::Broken("a DC difference out of range")),
    }
}

fn coefficient(block: &mut [i16; 64], at: usize) -> Result<&mut i16, Fault> {
    let place = ZIGZAG.get(at).ok_or(Fault::Broken("a block with too many coefficients"))?;
    Ok(&mut block[usize::from(*place)])
}

/// Number of blocks that end here: this one and the following ones.
fn end_of_band(run: u8, bits: &mut Bits<'_>) -> Result<u32, Fault> {
    Ok((1 << run) + bits.number(run.into())? as u32)
}

/// The first scan of a band of AC coefficients.
fn first_bits(
    block: &mut [i16; 64],
    table: &Huffman,
    scan: &Scan,
    bits: &mut Bits<'_>,
    ended: &mut u32,
) -> Result<(), Fault> {
    if *ended > 0 {
        *ended -= 1;
        return Ok(());
    }
    let [mut at, last] = scan.band;
    while at <= last {
        let symbol = bits.symbol(table)?;
        let (run, size) = (symbol >> 4, u32::from(symbol & 15));
        if size == 0 && run < 15 {
            *ended = end_of_band(run, bits)? - 1;
            break;
        }
        at += usize::from(run);
        if size > 0 {
            let value = bits.signed(size)?;
            *coefficient(block, at)? = (value << scan.low) as i16;
        }
        at += 1;
    }
    Ok(())
}

/// A later scan of a band: one more bit of every coefficient that is known, and new ones of size 1.
fn further_bits(
    block: &mut [i16; 64],
    table: &Huffman,
    scan: &Scan,
    bits: &mut Bits<'_>,
    ended: &mut u32,
) -> Result<(), Fault> {
    let [mut at, last] = scan.band;
    let one = 1i16 << scan.low;
    while *ended == 0 && at <= last {
        let symbol = bits.symbol(table)?;
        let (run, size) = (symbol >> 4, symbol & 15);
        let new = match (run, size) {
            (15, 0) => 0,
            (run, 0) => {
                *ended = end_of_band(run, bits)?;
                break;
            }
            (_, 1) if bits.bit()? => one,
            (_, 1) => -one,
            _ => return Err(Fault::Broken("a correction of more than one bit")),
        };
        // Skips `run` zeros up to the new coefficient and corrects the known coefficients before it.
        let mut zeros = run;
        while at <= last {
            let known = coefficient(block, at)?;
            if *known == 0 {
                if zeros == 0 {
                    break;
                }
                zeros -= 1;
            } else {
                correct(known, one, bits)?;
            }
            at += 1;
        }
        if new != 0 {
            if at > last {
                return Err(Fault::Broken("a block with too many coefficients"));
            }
            *coefficient(block, at)? = new;
        }
        at += 1;
    }
    if *ended > 0 {
        while at <= last {
            let known = coefficient(block, at)?;
            if *known != 0 {
                correct(known, one, bits)?;
            }
            at += 1;
        }
        *ended -= 1;
    }
    Ok(())
}

fn correct(known: &mut i16, one: i16, bits: &mut Bits<'_>) -> Result<(), Fault> {
    if bits.bit()? && *known & one == 0 {
        *known = known.wrapping_add(if *known > 0 { one } else { -one });
    }
    Ok(())
}
