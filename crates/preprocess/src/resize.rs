//! Antialiased resizing, as Pillow's `Image.resize` does it.

use fast_image_resize::images::{Image as Canvas, ImageRef};
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};

use crate::{Image, Interpolation};

/// `image` at `size` (height, width) pixels, within one grey level of Pillow's `Image.resize` with the same filter.
/// An image that already has the size is returned as it is.
///
/// # Panics
/// If a side of `size` is zero or does not fit 32 bits.
pub fn resize(image: &Image, size: [usize; 2], interpolation: Interpolation) -> Image {
    let [height, width] = size;
    if [image.height(), image.width()] == size {
        return image.clone();
    }
    let channels = image.channels();
    let pixels = match channels {
        1 => convolve(image.pixels(), image, size, PixelType::U8, interpolation),
        2 => convolve(image.pixels(), image, size, PixelType::U8x2, interpolation),
        3 => convolve(image.pixels(), image, size, PixelType::U8x3, interpolation),
        4 => convolve(image.pixels(), image, size, PixelType::U8x4, interpolation),
        _ => by_planes(image, size, interpolation),
    };
    Image::new(height, width, channels, pixels).expect("the canvas has the asked size")
}

/// Any number of channels, one after the other.
fn by_planes(image: &Image, size: [usize; 2], interpolation: Interpolation) -> Vec<u8> {
    let channels = image.channels();
    let mut pixels = vec![0; size[0] * size[1] * channels];
    for channel in 0..channels {
        let plane: Vec<u8> = image.pixels().iter().skip(channel).step_by(channels).copied().collect();
        let resized = convolve(&plane, image, size, PixelType::U8, interpolation);
        for (to, from) in pixels.iter_mut().skip(channel).step_by(channels).zip(resized) {
            *to = from;
        }
    }
    pixels
}

fn convolve(pixels: &[u8], image: &Image, size: [usize; 2], kind: PixelType, interpolation: Interpolation) -> Vec<u8> {
    let side = |value: usize| u32::try_from(value).expect("a side fits 32 bits");
    let filter = match interpolation {
        Interpolation::Bilinear => FilterType::Bilinear,
        Interpolation::Bicubic => FilterType::CatmullRom,
    };
    let source = ImageRef::new(side(image.width()), side(image.height()), pixels, kind).expect("the image's own size");
    let mut target = Canvas::new(side(size[1]), side(size[0]), kind);
    let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(filter)).use_alpha(false);
    Resizer::new().resize(&source, &mut target, &options).expect("both images have one pixel type");
    target.into_vec()
}
