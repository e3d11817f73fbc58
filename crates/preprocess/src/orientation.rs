//! The orientation of a photograph, as cameras store it in EXIF data.

use image::metadata::Orientation as Exif;

use crate::Image;

/// How stored pixels have to be turned to be upright: EXIF's tag 274.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Orientation {
    /// Whether rows become columns; the flips come after that.
    transpose: bool,
    flip: bool,
    vertical_flip: bool,
}

impl Orientation {
    /// The orientation of EXIF's number: 1 (upright) to 8; `None` for any other.
    pub fn from_exif(number: u8) -> Option<Self> {
        let [transpose, flip, vertical_flip] = match number {
            1 => [false, false, false],
            2 => [false, true, false],
            3 => [false, true, true],
            4 => [false, false, true],
            5 => [true, false, false],
            6 => [true, true, false],
            7 => [true, true, true],
            8 => [true, false, true],
            _ => return None,
        };
        Some(Self { transpose, flip, vertical_flip })
    }

    /// The orientation of a block of EXIF data, which begins with the byte order; upright where it says nothing valid.
    pub(crate) fn from_exif_data(bytes: &[u8]) -> Self {
        Exif::from_exif_chunk(bytes).map(Self::from).unwrap_or_default()
    }

    /// Whether the pixels are upright as they are.
    pub fn is_upright(self) -> bool {
        self == Self::default()
    }

    /// The upright image of `image`'s pixels.
    pub(crate) fn apply(self, image: &Image) -> Image {
        let (height, width, channels) = (image.height(), image.width(), image.channels());
        let [rows, columns] = if self.transpose { [width, height] } else { [height, width] };
        let mut pixels = Vec::with_capacity(image.pixels().len());
        for y in 0..rows {
            let y = if self.vertical_flip { rows - 1 - y } else { y };
            for x in 0..columns {
                let x = if self.flip { columns - 1 - x } else { x };
                let at = if self.transpose { x * width + y } else { y * width + x };
                pixels.extend_from_slice(&image.pixels()[at * channels..][..channels]);
            }
        }
        Image::new(rows, columns, channels, pixels).expect("as many values as before")
    }
}

impl From<Exif> for Orientation {
    fn from(orientation: Exif) -> Self {
        Self::from_exif(orientation.to_exif()).unwrap_or_default()
    }
}
