//! The headers of a JPEG file: number of colours, and when and with which camera it was taken (EXIF 2.32).

/// Maximum number of entries that are read of a directory of EXIF data.
const MAX_ENTRIES: usize = 512;
/// Maximum length of a text of EXIF data.
const MAX_TEXT: usize = 64;

/// Facts of a JPEG file's headers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JpegFacts {
    /// Whether its four colours are those of printing.
    pub is_cmyk: bool,
    /// When and with which camera it was taken; `None` if the file does not say both.
    pub shot: Option<Shot>,
}

/// When and with which camera a photograph was taken.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Shot {
    /// `2024:05:17 10:03:21`, in the camera's time.
    pub time: String,
    /// The camera's serial number, or else its model.
    pub camera: String,
}

/// Reads the segments before the first scan; damaged ones say nothing.
pub fn jpeg_facts(bytes: &[u8]) -> JpegFacts {
    let mut facts = JpegFacts::default();
    let mut rest = bytes.strip_prefix(b"\xff\xd8").unwrap_or_default();
    while let [0xff, marker, following @ ..] = rest {
        if *marker == 0xff {
            rest = &rest[1..];
            continue;
        }
        let Some((&[high, low], following)) = following.split_first_chunk::<2>() else { break };
        let len = usize::from(u16::from_be_bytes([high, low])).saturating_sub(2);
        let Some((segment, next)) = following.split_at_checked(len) else { break };
        match marker {
            // A frame: precision, height, width, number of components.
            0xc0..=0xc3 | 0xc5..=0xc7 | 0xc9..=0xcb | 0xcd..=0xcf => facts.is_cmyk = segment.get(5) == Some(&4),
            0xe1 if facts.shot.is_none() => {
                facts.shot = segment.strip_prefix(b"Exif\0\0").and_then(shot);
            }
            0xda => break,
            _ => {}
        }
        rest = next;
    }
    facts
}

/// The shot of a block of EXIF data, which begins with its byte order.
fn shot(data: &[u8]) -> Option<Shot> {
    const MODEL: u16 = 0x0110;
    const EXIF_DIRECTORY: u16 = 0x8769;
    const TIME: u16 = 0x9003;
    const SERIAL: u16 = 0xa431;
    let exif = Exif { data, is_little: data.starts_with(b"II") };
    let main = exif.word(4)? as usize;
    let directory = exif.find(main, EXIF_DIRECTORY)?;
    let directory = exif.word(directory + 8)? as usize;
    let time = exif.text(directory, TIME).filter(|time| time.bytes().any(|byte| matches!(byte, b'1'..=b'9')))?;
    let camera = exif.text(directory, SERIAL).or_else(|| exif.text(main, MODEL))?;
    Some(Shot { time, camera })
}

struct Exif<'a> {
    data: &'a [u8],
    is_little: bool,
}

impl Exif<'_> {
    fn half(&self, at: usize) -> Option<u16> {
        let bytes = *self.data.get(at..)?.first_chunk()?;
        Some(if self.is_little { u16::from_le_bytes(bytes) } else { u16::from_be_bytes(bytes) })
    }

    fn word(&self, at: usize) -> Option<u32> {
        let bytes = *self.data.get(at..)?.first_chunk()?;
        Some(if self.is_little { u32::from_le_bytes(bytes) } else { u32::from_be_bytes(bytes) })
    }

    /// The offset of a directory's entry.
    fn find(&self, directory: usize, tag: u16) -> Option<usize> {
        let count = usize::from(self.half(directory)?).min(MAX_ENTRIES);
        (0..count).map(|entry| directory + 2 + 12 * entry).find(|&at| self.half(at) == Some(tag))
    }

    /// The text of a directory's entry, which is not empty.
    fn text(&self, directory: usize, tag: u16) -> Option<String> {
        const ASCII: u16 = 2;
        let entry = self.find(directory, tag)?;
        if self.half(entry + 2)? != ASCII {
            return None;
        }
        let len = self.word(entry + 4)? as usize;
        // Up to four bytes are in the entry itself.
        let at = if len <= 4 { entry + 8 } else { self.word(entry + 8)? as usize };
        let bytes = self.data.get(at..)?.get(..len.min(MAX_TEXT))?;
        let text = String::from_utf8_lossy(bytes.split(|&byte| byte == 0).next()?).trim().to_owned();
        (!text.is_empty()).then_some(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// EXIF data with a model, a time and a serial number, in one byte order.
    fn exif(is_little: bool) -> Vec<u8> {
        let half = |value: u16| if is_little { value.to_le_bytes() } else { value.to_be_bytes() };
        let word = |value: u32| if is_little { value.to_le_bytes() } else { value.to_be_bytes() };
        let entry = |tag: u16, kind: u16, len: u32, value: u32| {
            [&half(tag)[..], &half(kind), &word(len), &word(value)].concat()
        };
        let mut data = [if is_little { b"II" } else { b"MM" }.as_slice(), &half(42), &word(8)].concat();
        // The main directory at 8 has two entries and ends at 38; the other one ends at 68.
        data.extend([&half(2)[..], &entry(0x0110, 2, 6, 68), &entry(0x8769, 4, 1, 38), &word(0)].concat());
        data.extend([&half(2)[..], &entry(0x9003, 2, 20, 74), &entry(0xa431, 2, 6, 94), &word(0)].concat());
        data.extend(b"Model\0" as &[u8]);
        data.extend(b"2024:05:17 10:03:21\0" as &[u8]);
        data.extend(b"S-123\0" as &[u8]);
        data
    }

    fn jpeg(exif: &[u8], components: u8) -> Vec<u8> {
        let segment =
            |marker: u8, body: &[u8]| [&[0xff, marker][..], &(body.len() as u16 + 2).to_be_bytes(), body].concat();
        let header = [&b"Exif\0\0"[..], exif].concat();
        [&b"\xff\xd8"[..], &segment(0xe1, &header), &segment(0xc0, &[8, 0, 1, 0, 1, components])].concat()
    }

    #[test]
    fn the_shot_and_the_colours_are_read_in_both_byte_orders() {
        for is_little in [false, true] {
            let shot = Shot { time: "2024:05:17 10:03:21".into(), camera: "S-123".into() };
            assert_eq!(jpeg_facts(&jpeg(&exif(is_little), 4)), JpegFacts { is_cmyk: true, shot: Some(shot) });
        }
    }

    #[test]
    fn cut_or_changed_headers_say_less_and_never_panic() {
        let whole = jpeg(&exif(true), 3);
        for len in 0..whole.len() {
            jpeg_facts(&whole[..len]);
        }
        for at in 0..whole.len() {
            for value in [0, 1, 0x7f, 0xff] {
                let mut changed = whole.clone();
                changed[at] = value;
                jpeg_facts(&changed);
            }
        }
    }
}
