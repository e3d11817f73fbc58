//! Markers and their segments, between the scans.

use super::Fault;
use super::entropy::Huffman;
use crate::Decoding;

/// The order in which a block's 64 coefficients are stored.
pub(super) const ZIGZAG: [u8; 64] = [
    0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5, 12, 19, 26, 33, 40, 48, 41, 34, 27, 20, 13, 6, 7, 14, 21,
    28, 35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51, 58, 59, 52, 45, 38, 31, 39, 46, 53, 60, 61, 54,
    47, 55, 62, 63,
];

/// A frame header.
#[derive(Clone, Debug)]
pub(super) struct Frame {
    pub(super) progressive: bool,
    pub(super) height: usize,
    pub(super) width: usize,
    pub(super) components: Vec<Component>,
}

/// A colour component: its identifier, its sampling factors and the number of its quantisation table.
#[derive(Clone, Copy, Debug)]
pub(super) struct Component {
    pub(super) id: u8,
    pub(super) h: usize,
    pub(super) v: usize,
    pub(super) table: usize,
}

/// A scan header. The components are given by their place in the frame, with the numbers of their two Huffman tables.
#[derive(Clone, Debug)]
pub(super) struct Scan {
    pub(super) components: Vec<(usize, usize, usize)>,
    /// First and last coefficient.
    pub(super) band: [usize; 2],
    /// Bits that earlier scans sent down to (0: none did), and that this one sends down to.
    pub(super) high: u8,
    pub(super) low: u8,
}

/// The definitions of the segments between scans.
#[derive(Debug, Default)]
pub(super) struct Tables {
    pub(super) quantisation: [Option<[u16; 64]>; 4],
    pub(super) dc: [Option<Huffman>; 4],
    pub(super) ac: [Option<Huffman>; 4],
    /// MCUs between restart markers; 0 for none.
    pub(super) restart: usize,
}

/// A segment that needs further decoding.
pub(super) enum Segment {
    Frame(Frame),
    Scan(Scan),
    End,
}

/// The colour model of a frame's components.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Colours {
    Grey,
    YCbCr,
    Rgb,
    /// Both as Adobe stores them, 255 for no ink.
    Cmyk,
    Ycck,
}

/// Iterates over a file's markers.
pub(super) struct Parser<'a> {
    bytes: &'a [u8],
    decoding: Decoding,
    pub(super) tables: Tables,
    ids: Vec<u8>,
    jfif: bool,
    adobe: Option<u8>,
    /// The first block of EXIF data, from its byte order on.
    pub(super) exif: Option<&'a [u8]>,
}

impl<'a> Parser<'a> {
    pub(super) fn new(bytes: &'a [u8], decoding: Decoding) -> Result<Self, Fault> {
        let bytes = bytes.strip_prefix(b"\xff\xd8").ok_or(Fault::Broken("no start of image"))?;
        Ok(Self { bytes, decoding, tables: Tables::default(), ids: Vec::new(), jfif: false, adobe: None, exif: None })
    }

    /// The bytes after the last segment.
    pub(super) fn rest(&self) -> &'a [u8] {
        self.bytes
    }

    /// Skips `count` bytes of it.
    pub(super) fn skip(&mut self, count: usize) {
        self.bytes = self.bytes.get(count..).unwrap_or_default();
    }

    /// Reads on to the next frame, scan or end. Bytes between segments that are no marker are skipped.
    pub(super) fn next_segment(&mut self) -> Result<Segment, Fault> {
        loop {
            let marker = self.marker()?;
            match marker {
                0xd9 => return Ok(Segment::End),
                // Markers without a segment: TEM, restarts, another start.
                0x01 | 0xd0..=0xd8 => continue,
                _ => {}
            }
            let segment = self.segment()?;
            match marker {
                0xc0..=0xc2 => return self.frame(segment, marker == 0xc2).map(Segment::Frame),
                0xc4 => self.huffman(segment)?,
                0xc3 | 0xf7 => return Err(Fault::Unsupported("lossless coding")),
                0xc5..=0xc7 => return Err(Fault::Unsupported("hierarchical coding")),
                0xc8..=0xcf => return Err(Fault::Unsupported("arithmetic coding")),
                0xda => return self.scan(segment).map(Segment::Scan),
                0xdb => self.quantisation(segment)?,
                0xdd => {
                    let interval = segment.first_chunk().ok_or(Fault::Broken("a short restart interval"))?;
                    self.tables.restart = u16::from_be_bytes(*interval).into();
                }
                0xe0 => self.jfif |= segment.starts_with(b"JFIF\0"),
                0xe1 if self.exif.is_none() => self.exif = segment.strip_prefix(b"Exif\0\0"),
                0xee if segment.starts_with(b"Adobe") => self.adobe = segment.get(11).copied(),
                _ => {}
            }
        }
    }

    /// The colour model, by libjpeg's rules (`default_decompress_parms`).
    pub(super) fn colours(&self, frame: &Frame) -> Colours {
        match frame.components[..] {
            [_] => Colours::Grey,
            [_, _, _] => {
                let rgb = frame.components.iter().map(|component| component.id).eq(*b"RGB");
                let ycc = self.jfif || self.adobe.map_or(!rgb, |transform| transform != 0);
                if ycc { Colours::YCbCr } else { Colours::Rgb }
            }
            _ => match self.adobe {
                None | Some(0) => Colours::Cmyk,
                Some(_) => Colours::Ycck,
            },
        }
    }

    fn marker(&mut self) -> Result<u8, Fault> {
        loop {
            let at = self.bytes.windows(2).position(|pair| pair[0] == 0xff && !matches!(pair[1], 0 | 0xff));
            let at = at.ok_or(Fault::Broken("no end of image"))?;
            let marker = self.bytes[at + 1];
            self.bytes = &self.bytes[at + 2..];
            if marker >= 0xc0 || marker == 0x01 {
                return Ok(marker);
            }
        }
    }

    fn segment(&mut self) -> Result<&'a [u8], Fault> {
        let cut = Fault::Broken("a truncated segment");
        let Some((len, rest)) = self.bytes.split_first_chunk() else { return Err(cut) };
        let Some(len) = usize::from(u16::from_be_bytes(*len)).checked_sub(2) else { return Err(cut) };
        let Some((segment, rest)) = rest.split_at_checked(len) else { return Err(cut) };
        self.bytes = rest;
        Ok(segment)
    }

    fn frame(&mut self, segment: &[u8], progressive: bool) -> Result<Frame, Fault> {
        let Some((&[precision, h1, h0, w1, w0, count], rest)) = segment.split_first_chunk() else {
            return Err(Fault::Broken("a short frame header"));
        };
        let [height, width] = [[h1, h0], [w1, w0]].map(|side| usize::from(u16::from_be_bytes(side)));
        match precision {
            8 => {}
            12 => return Err(Fault::Unsupported("samples of 12 bits")),
            _ => return Err(Fault::Unsupported("samples of other than 8 bits")),
        }
        if height == 0 {
            return Err(Fault::Unsupported("a height that follows the image"));
        }
        if !matches!(count, 1 | 3 | 4) {
            return Err(Fault::Unsupported("other than 1, 3 or 4 components"));
        }
        if self.decoding.refuses(height as u64, width as u64) {
            return Err(Fault::TooLarge { height: height as u64, width: width as u64 });
        }
        let (parts, []) = rest.as_chunks::<3>() else { return Err(Fault::Broken("a frame header of odd length")) };
        if width == 0 || parts.len() != usize::from(count) {
            return Err(Fault::Broken("a frame header that contradicts itself"));
        }
        let component = |&[id, sampling, table]: &[u8; 3]| {
            let [h, v] = [sampling >> 4, sampling & 15].map(usize::from);
            let valid = (1..=4).contains(&h) && (1..=4).contains(&v) && table < 4;
            let component = Component { id, h, v, table: table.into() };
            valid.then_some(component).ok_or(Fault::Broken("sampling factors out of range"))
        };
        let mut components = parts.iter().map(component).collect::<Result<Vec<_>, _>>()?;
        if let [alone] = &mut components[..] {
            // The sampling factors of a single component have no meaning.
            (alone.h, alone.v) = (1, 1);
        }
        self.ids = components.iter().map(|component| component.id).collect();
        Ok(Frame { progressive, height, width, components })
    }

    fn scan(&self, segment: &[u8]) -> Result<Scan, Fault> {
        let broken = Fault::Broken("a scan header that contradicts itself");
        let Some((&count, rest)) = segment.split_first() else { return Err(broken) };
        let Some((parts, &[first, last, bits])) = rest.split_last_chunk::<3>() else { return Err(broken) };
        let (parts, []) = parts.as_chunks::<2>() else { return Err(broken) };
        if parts.is_empty() || parts.len() != usize::from(count) || last > 63 || first > last || bits & 15 > 13 {
            return Err(broken);
        }
        let mut components: Vec<(usize, usize, usize)> = Vec::new();
        for &[id, tables] in parts {
            let place = self.ids.iter().position(|&known| known == id);
            let place = place.filter(|place| components.iter().all(|(other, ..)| other != place));
            let [dc, ac] = [tables >> 4, tables & 15].map(usize::from);
            match place {
                Some(place) if dc < 4 && ac < 4 => components.push((place, dc, ac)),
                _ => return Err(broken),
            }
        }
        Ok(Scan { components, band: [first, last].map(usize::from), high: bits >> 4, low: bits & 15 })
    }

    fn quantisation(&mut self, mut segment: &[u8]) -> Result<(), Fault> {
        while let Some((&kind, rest)) = segment.split_first() {
            let (wide, place) = (kind >> 4, usize::from(kind & 15));
            let len = if wide == 0 { 64 } else { 128 };
            let (Some((values, rest)), true) = (rest.split_at_checked(len), wide < 2 && place < 4) else {
                return Err(Fault::Broken("a truncated quantisation table"));
            };
            let mut table = [0; 64];
            for (at, &to) in ZIGZAG.iter().enumerate() {
                table[usize::from(to)] = match wide {
                    0 => values[at].into(),
                    _ => u16::from_be_bytes([values[2 * at], values[2 * at + 1]]),
                };
            }
            self.tables.quantisation[place] = Some(table);
            segment = rest;
        }
        Ok(())
    }

    fn huffman(&mut self, mut segment: &[u8]) -> Result<(), Fault> {
        while let Some((&kind, rest)) = segment.split_first() {
            let broken = Fault::Broken("a truncated Huffman table");
            let Some((counts, rest)) = rest.split_first_chunk::<16>() else { return Err(broken) };
            let len = counts.iter().map(|&count| usize::from(count)).sum();
            let Some((symbols, rest)) = rest.split_at_checked(len) else { return Err(broken) };
            let tables = if kind < 16 { &mut self.tables.dc } else { &mut self.tables.ac };
            let (0..=3 | 16..=19) = kind else { return Err(broken) };
            tables[usize::from(kind & 15)] = Some(Huffman::new(counts, symbols)?);
            segment = rest;
        }
        Ok(())
    }
}
