//! The operations on 8-bit pixels, as Pillow and torchvision define them.
//!
//! Where Pillow computes with integers or in a fixed order of floating-point operations, the results are equal to the bit.

mod blur;
mod enhance;
mod geometry;
mod tables;

use residual_preprocess::Interpolation;

use super::canvas::Canvas;
pub(super) use enhance::blend;

/// One operation with its argument.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum PixelOperation {
    Identity,
    /// Rotation about the centre by degrees, anticlockwise: `Image.rotate`.
    Rotate(f64),
    /// The row `y` is read from `x + shear · y`: Pillow's affine transform.
    ShearX(f64),
    /// The column `x` is read from `y + shear · x`.
    ShearY(f64),
    /// The column `x` is read from `x + shift`, in pixels.
    TranslateX(f64),
    /// The row `y` is read from `y + shift`, in pixels.
    TranslateY(f64),
    /// Each channel's range becomes 0 to 255: `ImageOps.autocontrast`.
    AutoContrast,
    /// Each channel's histogram becomes even: `ImageOps.equalize`.
    Equalize,
    /// `ImageOps.invert`.
    Invert,
    /// Keeps this many upper bits: `ImageOps.posterize`; 0 gives a black image, as in TensorFlow's models.
    Posterize(u32),
    /// Inverts the values from a threshold on: `ImageOps.solarize`.
    Solarize(f64),
    /// Adds a number to the values below 128: timm's `solarize_add`.
    SolarizeAdd(u32),
    /// 0 is black, 1 the image: `ImageEnhance.Brightness`.
    Brightness(f32),
    /// 0 is the mean grey, 1 the image: `ImageEnhance.Contrast`.
    Contrast(f32),
    /// 0 is grey, 1 the image: `ImageEnhance.Color`, torchvision's `adjust_saturation`.
    Color(f32),
    /// 0 is smoothed, 1 the image: `ImageEnhance.Sharpness`.
    Sharpness(f32),
    /// Turns the hue by this fraction of the circle, −0.5 to 0.5: torchvision's `adjust_hue`.
    Hue(f32),
    /// Grey in all channels: torchvision's `to_grayscale`.
    Grayscale,
    /// `ImageFilter.GaussianBlur` of this radius: three box blurs.
    BoxBlur(f32),
    /// torchvision's `gaussian_blur` with a kernel of 23 values and this standard deviation.
    GaussianBlur(f32),
}

/// How geometric operations read between pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Resampling {
    Nearest,
    Smooth(Interpolation),
}

impl PixelOperation {
    /// Changes an image of 1 (grey) or 3 (RGB) channels; `fill` has the colour of pixels outside it.
    pub(super) fn apply(self, canvas: &mut Canvas, resampling: Resampling, fill: &[u8]) {
        let mut shift = |matrix| geometry::affine(canvas, matrix, resampling, fill);
        match self {
            Self::Identity => {}
            Self::Rotate(degrees) => geometry::rotate(canvas, degrees, resampling, fill),
            Self::ShearX(shear) => shift([1.0, shear, 0.0, 0.0, 1.0, 0.0]),
            Self::ShearY(shear) => shift([1.0, 0.0, 0.0, shear, 1.0, 0.0]),
            Self::TranslateX(pixels) => shift([1.0, 0.0, pixels, 0.0, 1.0, 0.0]),
            Self::TranslateY(pixels) => shift([1.0, 0.0, 0.0, 0.0, 1.0, pixels]),
            Self::AutoContrast => tables::auto_contrast(canvas),
            Self::Equalize => tables::equalize(canvas),
            Self::Invert => tables::map(canvas, |value| 255 - value),
            Self::Posterize(bits) => {
                let mask = if bits == 0 { 0 } else { u8::MAX << (8 - bits.min(8)) };
                tables::map(canvas, |value| value & mask);
            }
            Self::Solarize(threshold) => {
                tables::map(canvas, |value| if f64::from(value) < threshold { value } else { 255 - value });
            }
            Self::SolarizeAdd(add) => tables::map(canvas, |value| match value {
                0..128 => (u32::from(value) + add).min(255) as u8,
                _ => value,
            }),
            Self::Brightness(factor) => tables::map(canvas, |value| blend(0, value, factor)),
            Self::Contrast(factor) => {
                let grey = enhance::mean_grey(canvas);
                tables::map(canvas, |value| blend(grey, value, factor));
            }
            Self::Color(factor) => enhance::color(canvas, factor),
            Self::Sharpness(factor) => enhance::sharpness(canvas, factor),
            Self::Hue(turn) => enhance::hue(canvas, turn),
            Self::Grayscale => enhance::color(canvas, 0.0),
            Self::BoxBlur(radius) => blur::box_blur(canvas, radius),
            Self::GaussianBlur(sigma) => blur::gaussian(canvas, sigma),
        }
    }
}
