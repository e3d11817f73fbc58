//! Image preprocessing: decode, resize, crop, normalise.
//!
//! One [`Preprocessing`] is stored in a checkpoint and used by training, evaluation, prediction and serving;
//! a [`Preprocessor`] applies it to an [`Image`]. Augmentation is built on the same steps: [`resize`],
//! [`Window`] and [`Normalizer`].
#![forbid(unsafe_code)]

mod decode;
mod decoding;
mod description;
mod encode;
mod execute;
mod image;
mod instructions;
mod jpeg;
mod memory;
mod normalize;
mod orientation;
mod resize;
mod views;

pub use self::image::{Image, ImageError, luma};
pub use decoding::{Decoding, SixteenBit};
pub use description::{CropMode, Interpolation, Preprocessing, PreprocessingError};
pub use execute::Preprocessor;
pub use instructions::use_instructions;
pub use normalize::{Normalizer, Window};
pub use orientation::Orientation;
pub use resize::resize;
pub use views::Views;
