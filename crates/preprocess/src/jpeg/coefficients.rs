//! Decodes scans to the planes of the components.

use std::cell::Cell;
use std::ops::Range;

use residual_kernels::Isa;
use residual_kernels::image::inverse_cosine;

use super::entropy::{Bits, Huffman};
use super::header::{Frame, Scan, Tables, ZIGZAG};
use super::{Fault, Rectangle};
use crate::{Decoding, Image};

/// The samples of a component, and while it is decoded its coefficients.
#[derive(Debug)]
pub(super) struct Plane {
    /// Samples per row of `samples`: a multiple of 8.
    pub(super) stride: usize,
    /// Rows and columns that belong to the image.
    pub(super) size: [usize; 2],
    /// Samples that the rectangle does not need are arbitrary.
    pub(super) samples: Vec<u8>,
    /// The ratio of the image's size to the component's, vertically and horizontally.
    pub(super) scale: [usize; 2],
    quantisation: Option<[u16; 64]>,
    /// Blocks in an MCU, down and across.
    factors: [usize; 2],
    /// The blocks of a progressive image; of others, which are transformed at once, those of a row of MCUs.
    blocks: Vec<[i16; 64]>,
    /// The rows and columns of blocks that the rectangle needs.
    needed: [Range<usize>; 2],
}

/// The memory of a plane.
type Memory = (Vec<u8>, Vec<[i16; 64]>);

thread_local! {
    /// The memory of the last image's planes, for those of the next one.
    static MEMORY: Cell<Vec<Memory>> = const { Cell::new(Vec::new()) };
}

/// The most memory that a thread keeps between images, in bytes: more than photographs of 2 megapixels take.
const KEPT: usize = 4 << 20;

/// Decodes a frame, scan by scan.
pub(super) struct Decoder {
    pub(super) frame: Frame,
    isa: Isa,
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
    /// Prepares for the pixels of `rectangle`.
    pub(super) fn new(frame: Frame, rectangle: Rectangle, decoding: &Decoding) -> Result<Self, Fault> {
        let most = |side: fn(&super::header::Component) -> usize| frame.components.iter().map(side).max().unwrap_or(1);
        let [down, across] = [most(|component| component.v), most(|component| component.h)];
        let mcus = [frame.height.div_ceil(8 * down), frame.width.div_ceil(8 * across)];
        let mut planes = Vec::new();
        let mut memory = MEMORY.take().into_iter();
        let mut bytes = 0;
        for component in &frame.components {
            if down % component.v != 0 || across % component.h != 0 {
                return Err(Fault::Unsupported("fractional sampling factors"));
            }
            let scale = [down / component.v, across / component.h];
            let [rows, columns] = [mcus[0] * component.v, mcus[1] * component.h];
            let blocks = rows * columns;
            bytes += blocks as u64 * if frame.progressive { 64 + 128 } else { 64 };
            if bytes > decoding.scaled(Image::MAX_DECODER_BYTES) {
                return Err(Fault::TooLarge { height: frame.height as u64, width: frame.width as u64 });
            }
            let (mut samples, mut coefficients) = memory.next().unwrap_or_default();
            samples.resize(blocks * 64, 0);
            coefficients.clear();
            coefficients.resize(if frame.progressive { blocks } else { component.v * columns }, [0; 64]);
            let size = [frame.height.div_ceil(scale[0]), frame.width.div_ceil(scale[1])];
            planes.push(Plane {
                stride: columns * 8,
                size,
                samples,
                scale,
                quantisation: None,
                factors: [component.v, component.h],
                blocks: coefficients,
                needed: rectangle.samples(scale, size).map(|range| range.start / 8..range.end.div_ceil(8)),
            });
        }
        Ok(Self { frame, isa: crate::instructions::isa(), mcus, planes })
    }

    /// The blocks that a scan visits.
    pub(super) fn blocks(&self, scan: &Scan) -> u64 {
        scan.components.iter().map(|&(place, ..)| self.planes[place].samples.len() as u64 / 64).sum()
    }

    /// Gives the planes' memory back for the next image.
    pub(super) fn recycle(planes: Vec<Plane>) {
        let memory = planes.into_iter().map(|plane| (plane.samples, plane.blocks));
        let size = |(samples, blocks): &Memory| samples.capacity() + 128 * blocks.capacity();
        let memory: Vec<Memory> = memory.collect();
        if memory.iter().map(size).sum::<usize>() <= KEPT {
            MEMORY.set(memory);
        }
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
                    let plane = &mut self.planes[place];
                    let [down, across] = if alone { [1, 1] } else { plane.factors };
                    let huffman = [&tables.dc[dc], &tables.ac[ac]].map(Option::as_ref);
                    let per_row = plane.stride / 8;
                    for at in 0..down * across {
                        let (down_at, column) = (at / across, column * across + at % across);
                        if self.frame.progressive {
                            let block = &mut plane.blocks[(row * down + down_at) * per_row + column];
                            progressive(block, huffman, scan, &mut bits, &mut state, number)?;
                        } else {
                            let block = &mut plane.blocks[down_at * per_row + column];
                            sequential(block, huffman, &mut bits, &mut state.dc[number])?;
                        }
                    }
                }
            }
            if !self.frame.progressive {
                for &(place, ..) in &scan.components {
                    let plane = &mut self.planes[place];
                    let down = if alone { 1 } else { plane.factors[0] };
                    for down_at in 0..down {
                        plane.transform(self.isa, row * down + down_at, down_at);
                    }
                    plane.blocks.fill([0; 64]);
                }
            }
        }
        Ok(bits.position())
    }

    /// The planes with all the samples that are needed.
    pub(super) fn finish(mut self) -> Result<(Frame, Vec<Plane>), Fault> {
        for plane in &mut self.planes {
            plane.quantisation.ok_or(Fault::Broken("a component without a scan"))?;
            if self.frame.progressive {
                for row in plane.needed[0].clone() {
                    plane.transform(self.isa, row, row);
                }
            }
        }
        Ok((self.frame, self.planes))
    }
}

const NO_TABLE: Fault = Fault::Broken("a scan without its Huffman table");

impl Plane {
    /// Transforms the needed blocks of a row, which are at row `at` of `blocks`.
    fn transform(&mut self, isa: Isa, row: usize, at: usize) {
        let Self { needed: [rows, columns], stride, .. } = self;
        if !rows.contains(&row) {
            return;
        }
        let blocks = &self.blocks[at * (*stride / 8)..][columns.clone()];
        let table = self.quantisation.as_ref().expect("a scan has its table");
        inverse_cosine(isa, blocks, table, &mut self.samples[row * 8 * *stride + columns.start * 8..], *stride);
    }
}

/// Decodes a block of a sequential scan, which is zero before.
#[inline(always)]
fn sequential(
    block: &mut [i16; 64],
    huffman: [Option<&Huffman>; 2],
    bits: &mut Bits<'_>,
    dc: &mut i32,
) -> Result<(), Fault> {
    let [Some(dc_table), Some(ac_table)] = huffman else { return Err(NO_TABLE) };
    *dc = dc.wrapping_add(difference(bits, dc_table)?);
    block[0] = *dc as i16;
    let mut at = 1;
    while at < 64 {
        let (symbol, value) = bits.symbol(ac_table)?;
        let (run, size) = (usize::from(symbol >> 4), symbol & 15);
        if size == 0 {
            if run < 15 {
                break;
            }
            at += 16;
            continue;
        }
        at += run;
        *coefficient(block, at)? = value as i16;
        at += 1;
    }
    Ok(())
}

/// Decodes a block of a progressive scan.
fn progressive(
    block: &mut [i16; 64],
    huffman: [Option<&Huffman>; 2],
    scan: &Scan,
    bits: &mut Bits<'_>,
    state: &mut State,
    number: usize,
) -> Result<(), Fault> {
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

#[inline(always)]
fn difference(bits: &mut Bits<'_>, table: &Huffman) -> Result<i32, Fault> {
    match bits.symbol(table)? {
        (0..=15, value) => Ok(value),
        _ => Err(Fault::Broken("a DC difference out of range")),
    }
}

#[inline(always)]
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
        let (symbol, value) = bits.symbol(table)?;
        let (run, size) = (symbol >> 4, symbol & 15);
        if size == 0 && run < 15 {
            *ended = end_of_band(run, bits)? - 1;
            break;
        }
        at += usize::from(run);
        if size > 0 {
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
        let (symbol, value) = bits.symbol(table)?;
        let (run, size) = (symbol >> 4, symbol & 15);
        let new = match (run, size) {
            (15, 0) => 0,
            (run, 0) => {
                *ended = end_of_band(run, bits)?;
                break;
            }
            (_, 1) => value as i16 * one,
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
