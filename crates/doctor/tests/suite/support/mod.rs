//! A folder of images that look like nothing, but different from each other.

#![allow(dead_code, reason = "every test file uses its own part of this")]

use residual_data::Source;
use residual_doctor::{Collection, Examination, ExamineOptions, examine};
use residual_engine::Options;
use residual_preprocess::{Image, Interpolation, resize};
use residual_tensor::Stream;
use std::fs;
use std::path::{Path, PathBuf};

/// A temporary folder with a dataset in its folder `data`.
pub(crate) struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("data")).unwrap();
        Self { folder }
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// A path in the dataset.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.data().join(name)
    }

    pub(crate) fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    /// 60 images for training and 20 for testing, in two classes and of two sizes that tell nothing.
    pub(crate) fn clean(&self) {
        for index in 0..80u64 {
            let split = if index < 60 { "train" } else { "test" };
            let class = ["bridge", "castle"][index as usize % 2];
            let size = [[60, 64], [64, 56]][index as usize / 2 % 2];
            self.write(&format!("{split}/{class}/{}.png", index / 2), photograph(index, size).to_png().unwrap());
        }
    }

    /// The image `name` as it would look in a little more light.
    pub(crate) fn brighter(&self, name: &str) -> Vec<u8> {
        let image = Image::decode(&fs::read(self.path(name)).unwrap()).unwrap();
        let pixels = image.pixels().iter().map(|value| value.saturating_add(9)).collect();
        Image::new(image.height(), image.width(), 3, pixels).unwrap().to_png().unwrap()
    }

    /// A photograph with other values.
    pub(crate) fn changed(&self, seed: u64, change: impl Fn(f32) -> f32) -> Vec<u8> {
        let image = photograph(seed, [60, 60]);
        let pixels = image.pixels().iter().map(|&value| change(value.into()).round() as u8).collect();
        Image::new(60, 60, 3, pixels).unwrap().to_png().unwrap()
    }

    pub(crate) fn with_alpha(&self, seed: u64) -> Vec<u8> {
        let image = photograph(seed, [60, 60]);
        let pixels = image.pixels().chunks_exact(3).flat_map(|pixel| [pixel[0], pixel[1], pixel[2], 200]).collect();
        Image::new(60, 60, 4, pixels).unwrap().to_png().unwrap()
    }

    pub(crate) fn collection(&self) -> Collection {
        Collection::open(&Source::open(self.data().to_str().unwrap(), None).unwrap()).unwrap()
    }

    /// The path of an image in the dataset.
    pub(crate) fn name(&self, image: usize) -> String {
        let place = self.collection().describe(image);
        Path::new(&place).strip_prefix(self.data()).unwrap().to_str().unwrap().to_owned()
    }

    pub(crate) fn examine(&self) -> Examination {
        let options = ExamineOptions::new(Options::threads(2));
        examine(&self.collection(), None, &options, &Default::default(), &mut |_| {}).unwrap().unwrap()
    }
}

/// An image of coarse and fine noise in colour, which no other seed's resembles.
pub(crate) fn photograph(seed: u64, [height, width]: [usize; 2]) -> Image {
    let mut random = Stream::new(seed, &[]);
    let mut noise = |height: usize, width: usize, strength: f32| {
        let value = |_| (128.0 + strength * random.normal()).clamp(0.0, 255.0) as u8;
        Image::new(height, width, 3, (0..height * width * 3).map(value).collect()).unwrap()
    };
    let coarse = resize(&noise(6, 6, 60.0), [height, width], Interpolation::Bicubic);
    let fine = noise(height, width, 18.0);
    let both = coarse.pixels().iter().zip(fine.pixels());
    let pixels = both.map(|(&a, &b)| (f32::from(a) + f32::from(b) - 128.0).clamp(0.0, 255.0) as u8).collect();
    Image::new(height, width, 3, pixels).unwrap()
}

/// A PNG file of colours that change slowly, without an edge.
pub(crate) fn blurry() -> Vec<u8> {
    let pixel = |at: usize| {
        let (y, x) = (3 * (at / 60) as u8, 3 * (at % 60) as u8);
        [x, y, 180 - x]
    };
    Image::new(60, 60, 3, (0..60 * 60).flat_map(pixel).collect()).unwrap().to_png().unwrap()
}

/// A JPEG file that was taken at a time, with a camera's model and, if given, an orientation.
pub(crate) fn exif(time: &str, orientation: Option<u16>, seed: u64) -> Vec<u8> {
    let image = photograph(seed, [60, 60]);
    let mut file = Vec::new();
    let encoder = image::codecs::jpeg::JpegEncoder::new_with_quality(&mut file, 95);
    image::ImageEncoder::write_image(encoder, image.pixels(), 60, 60, image::ExtendedColorType::Rgb8).unwrap();
    let entry = |tag: u16, kind: u16, len: u32, value: u32| {
        [&tag.to_le_bytes()[..], &kind.to_le_bytes(), &len.to_le_bytes(), &value.to_le_bytes()].concat()
    };
    // A main directory of three entries at 8, the other one at 50, texts after it at 68.
    let mut data = [b"II".as_slice(), &42u16.to_le_bytes(), &8u32.to_le_bytes(), &3u16.to_le_bytes()].concat();
    data.extend(entry(0x0110, 2, 6, 88));
    data.extend(entry(0x0112, 3, 1, orientation.unwrap_or(1).into()));
    data.extend(entry(0x8769, 4, 1, 50));
    data.extend([0; 4]);
    data.extend(1u16.to_le_bytes());
    data.extend(entry(0x9003, 2, 20, 68));
    data.extend([0; 4]);
    data.extend(time.bytes().chain([0]));
    data.extend(b"Model\0");
    let header = [b"Exif\0\0".as_slice(), &data].concat();
    let segment = [&[0xff, 0xe1], &(header.len() as u16 + 2).to_be_bytes()[..], &header].concat();
    [&file[..2], &segment, &file[2..]].concat()
}
