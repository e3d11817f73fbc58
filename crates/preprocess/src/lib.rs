//! Image preprocessing: decode, resize, crop, normalise.
//!
//! One [`Preprocessing`] is stored in a checkpoint and used by training, evaluation, prediction and serving;
//! a [`Preprocessor`] applies it to an [`Image`]. Augmentation is built on the same steps: [`resize`],
//! [`Window`] and [`Normalizer`].
#![forbid(unsafe_code)]

mod decode;
mod description;
mod execute;
mod image;
mod jpeg;
mod normalize;
mod resize;

pub use self::image::{Image, ImageError, luma};
pub use description::{Interpolation, Preprocessing, PreprocessingError};
pub use execute::Preprocessor;
pub use normalize::{Normalizer, Window};
pub use resize::resize;
