//! Datasets, augmentation and a deterministic parallel loader. Independent of networks.
//!
//! A [`Source`] is given by name or path (`shapes10`, `cifar10`, a folder, a list, a file); its [splits](Source::split) are
//! [`Dataset`]s; a [`Transform`] turns a sample into the network's input; a [`Loader`] does that in parallel and
//! yields batches that are the same for any number of workers.
//!
//! ```
//! use residual_data::{Loader, LoaderOptions, Source, Split, Transform};
//! let source = Source::open("shapes10", None)?;
//! let test = source.split(Split::Test)?;
//! let transform = Transform::evaluation(test.format().preprocessing().expect("all images have one size"))?;
//! let options = LoaderOptions { batch_size: 100, ..LoaderOptions::default() };
//! let batch = Loader::new(test, transform, options)?.next().expect("the set is not empty")?;
//! assert_eq!(batch.images().len(), 100 * 32 * 32 * 3);
//! assert_eq!(batch.labels()[3], 3);
//! # Ok::<(), residual_data::DataError>(())
//! ```
#![forbid(unsafe_code)]

mod augment;
mod beta;
mod cache;
mod cifar;
mod class_list;
mod class_numbers;
mod classes;
mod convert;
mod dataset;
mod error;
mod folder;
mod idx;
mod layout;
mod list;
mod loader;
mod mix;
mod mnist;
mod npz;
mod official;
#[cfg(feature = "parquet")]
mod parquet_shards;
mod pixel_arrays;
mod registry;
mod sampler;
mod shapes;
mod shards;
mod source;
mod split;
mod subset;
mod survey;
mod tar_shards;
mod targets;
mod tensors;
mod transform;

pub use augment::{
    Augmentation, AutoAugment, ColorJitter, ErasingMode, GaussianBlur, Grayscale, HorizontalFlip, Operation,
    PadAndCrop, Padding, RandomErasing, RandomResizedCrop, ResizeKeepRatio, Rotation, SampleRandom, TrainInterpolation,
    VerticalFlip,
};
pub use cache::{DecodedImages, ImageMemory};
pub use cifar::{Cifar, CifarKind};
pub use classes::{ClassMap, UnknownClasses, are_names, match_classes};
pub use convert::{Container, Converted, convert, export};
pub use dataset::{Dataset, Format, Sample};
pub use error::DataError;
pub use folder::{Folder, read_image, read_image_file};
pub use list::{ImageList, ListedImages};
pub use loader::{Batch, Loader, LoaderOptions, Skipped};
pub use mix::Mix;
pub use mnist::MnistKind;
pub use official::{OFFICIAL, OfficialDataset, OfficialFile};
#[cfg(feature = "parquet")]
pub use parquet_shards::ParquetShards;
pub use registry::{DATASETS, NamedDataset};
pub use sampler::Sampler;
pub use shapes::Shapes;
pub use source::Source;
pub use split::{HeldOut, Part, Selection, Split};
pub use subset::{Subset, stratified_split};
pub use survey::{Survey, SurveyedClass, SurveyedSplit};
pub use tar_shards::TarShards;
pub use targets::Targets;
pub use tensors::TensorFile;
pub use transform::Transform;

/// The readers of foreign bytes, as fuzz targets call them.
pub mod parse {
    pub use crate::cifar::{parse_binary, parse_python};
    pub use crate::class_list::parse_class_list;
    pub use crate::idx::parse_idx;
    pub use crate::list::parse_image_list;
    pub use crate::npz::parse_npz;
    pub use crate::tar_shards::parse_tar_shard;
    pub use crate::tensors::parse_tensor_file;
}
