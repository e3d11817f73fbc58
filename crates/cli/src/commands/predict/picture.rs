//! `--save`: each image with its class and probability in a bar below it.

use crate::failure::Failure;
use noto_sans_mono_bitmap::{FontWeight, RasterHeight, get_raster, get_raster_width};
use residual::files::atomic_write;
use residual::preprocess::{Preprocessing, resize};
use residual::{Image, Prediction};
use std::borrow::Cow;
use std::path::{Path, PathBuf};

/// The longest side of a picture in pixels; longer ones are reduced.
const LONGEST: usize = 1024;
/// The shortest width of a picture; narrower ones are enlarged, pixel by pixel.
const NARROWEST: usize = 256;
const FONT: RasterHeight = RasterHeight::Size20;
const WEIGHT: FontWeight = FontWeight::Regular;
/// Pixels around the text.
const MARGIN: usize = 6;

/// The folder of annotated pictures.
pub(super) struct Pictures {
    folder: PathBuf,
    saved: usize,
}

impl Pictures {
    pub(super) fn new(folder: &Path) -> Result<Self, Failure> {
        std::fs::create_dir_all(folder).map_err(|error| Failure::at(folder.display(), &error))?;
        Ok(Self { folder: folder.to_owned(), saved: 0 })
    }

    /// Writes the image called `name` as `<number>-<name>.png`, numbered from 1.
    pub(super) fn save(&mut self, name: &str, image: &Image, top: &Prediction) -> Result<(), Failure> {
        self.saved += 1;
        let path = self.folder.join(format!("{:05}-{}.png", self.saved, file_name(name)));
        let png = annotated(image, &top.label, top.probability)?.to_png()?;
        Ok(atomic_write(&path, |file| file.write_all(&png))?)
    }
}

/// An image of a size that a picture has: at most [`LONGEST`] pixels on its longer side.
pub(super) fn reduced(image: Image, preprocessing: &Preprocessing) -> Image {
    let (height, width) = (image.height(), image.width());
    let longest = height.max(width);
    if longest <= LONGEST {
        return image;
    }
    let size = [height, width].map(|side| (side * LONGEST / longest).max(1));
    resize(&image, size, preprocessing.interpolation)
}

/// The 8-bit image of a network's input, height × width × channels.
pub(crate) fn of_input(values: &[f32], preprocessing: &Preprocessing) -> Result<Image, Failure> {
    let channels = preprocessing.channels();
    let pixel = |(index, &value): (usize, &f32)| {
        let channel = index % channels;
        // Casting saturates.
        (255.0 * (value * preprocessing.std[channel] + preprocessing.mean[channel])).round() as u8
    };
    let [height, width] = preprocessing.size;
    Ok(Image::new(height, width, channels, values.iter().enumerate().map(pixel).collect())?)
}

/// The image in colour, with a bar below it that shows `label` and `probability`.
fn annotated(image: &Image, label: &str, probability: f32) -> Result<Image, Failure> {
    let image = image.with_channels(3)?;
    let factor = NARROWEST.div_ceil(image.width()).max(1);
    let image = enlarged(&image, factor);
    let (height, width) = (image.height(), image.width());
    let bar = FONT.val() + 2 * MARGIN;
    let mut pixels = image.pixels().to_vec();
    pixels.resize((height + bar) * width * 3, 255);
    let step = get_raster_width(WEIGHT, FONT);
    let text = fitted(label, probability, (width - 2 * MARGIN) / step);
    for (column, char) in text.chars().enumerate() {
        let glyph = get_raster(char, WEIGHT, FONT).or_else(|| get_raster('?', WEIGHT, FONT));
        let glyph = glyph.expect("the font has a question mark");
        for (y, row) in glyph.rows().enumerate() {
            for (x, &ink) in row.iter().enumerate() {
                let at = ((height + MARGIN + y) * width + MARGIN + column * step + x) * 3;
                pixels[at..at + 3].fill(255 - ink);
            }
        }
    }
    Ok(Image::new(height + bar, width, 3, pixels)?)
}

/// Label and probability in at most `most` characters: a longer label is cut.
fn fitted(label: &str, probability: f32, most: usize) -> String {
    let probability = format!(" {:.1} %", 100.0 * probability);
    let room = most.saturating_sub(probability.chars().count());
    match label.chars().count() <= room {
        true => format!("{label}{probability}"),
        false => format!("{}..{probability}", label.chars().take(room.saturating_sub(2)).collect::<String>()),
    }
}

/// Every pixel as `factor` × `factor` pixels.
fn enlarged(image: &Image, factor: usize) -> Cow<'_, Image> {
    if factor == 1 {
        return Cow::Borrowed(image);
    }
    let row =
        |row: &[u8]| row.chunks_exact(3).flat_map(|pixel| pixel.repeat(factor)).collect::<Vec<u8>>().repeat(factor);
    let pixels = image.pixels().chunks_exact(3 * image.width()).flat_map(row).collect();
    let enlarged = Image::new(image.height() * factor, image.width() * factor, 3, pixels);
    Cow::Owned(enlarged.expect("every row and column has its pixels"))
}

/// The last part of an image's name as a file name, which leads to no other folder.
fn file_name(name: &str) -> String {
    let last = name.rsplit(['/', '\\']).next().unwrap_or(name);
    let last = last.rsplit_once('.').map_or(last, |(stem, _)| stem);
    let plain = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' };
    let name: String = last.chars().take(64).map(plain).collect();
    if name.is_empty() { "image".to_owned() } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_is_the_image_with_dark_text_on_a_white_bar() {
        let image = Image::new(40, 300, 1, vec![200; 40 * 300]).unwrap();
        let picture = annotated(&image, "tench, Tinca tinca", 0.987).unwrap();
        assert_eq!((picture.height(), picture.width(), picture.channels()), (40 + 32, 300, 3));
        let (above, bar) = picture.pixels().split_at(40 * 300 * 3);
        assert!(above.iter().all(|&value| value == 200));
        let dark = bar.iter().filter(|&&value| value < 64).count();
        assert!(dark > 500 && dark < bar.len() / 5, "{dark} of {}", bar.len());
        assert!(bar[..300 * 3].iter().all(|&value| value == 255));
    }

    #[test]
    fn small_images_are_enlarged_and_large_ones_reduced() {
        let small = Image::new(2, 3, 3, (0..18).collect()).unwrap();
        let picture = annotated(&small, "a", 1.0).unwrap();
        assert_eq!(picture.width(), 3 * 86);
        let pixel = |y: usize, x: usize| picture.pixels()[(y * picture.width() + x) * 3];
        assert_eq!([pixel(0, 0), pixel(85, 85), pixel(86, 0), pixel(86, 86)], [0, 0, 9, 12]);
        let large = Image::new(1500, 3000, 3, vec![7; 3 * 1500 * 3000]).unwrap();
        let reduced = reduced(large, &Preprocessing::imagenet());
        assert_eq!((reduced.height(), reduced.width()), (512, 1024));
    }

    #[test]
    fn a_label_is_cut_and_the_probability_stays() {
        assert_eq!(fitted("ants", 0.5, 20), "ants 50.0 %");
        assert_eq!(fitted("a long name of a class", 0.5, 20), "a long name.. 50.0 %");
        assert_eq!(fitted("ants", 0.5, 3), ".. 50.0 %");
    }

    #[test]
    fn an_input_is_the_pixels_that_were_normalised() {
        let preprocessing = Preprocessing::unscaled([1, 2], &[0.5, 0.25, 0.0], &[0.25, 0.5, 1.0]);
        let pixels = vec![0, 100, 255, 3, 77, 128];
        let normalised = |(index, &pixel): (usize, &u8)| {
            (f32::from(pixel) / 255.0 - preprocessing.mean[index % 3]) / preprocessing.std[index % 3]
        };
        let values: Vec<f32> = pixels.iter().enumerate().map(normalised).collect();
        assert_eq!(of_input(&values, &preprocessing).unwrap().pixels(), pixels);
    }

    #[test]
    fn a_name_leads_to_no_other_folder() {
        let cases = [("a/b/c.jpg", "c"), ("../..", "."), ("two.npy[0]", "two"), ("x 1", "x_1"), ("", "image")];
        for (name, expected) in cases {
            assert_eq!(file_name(name), expected);
        }
    }
}
