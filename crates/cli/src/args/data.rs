//! The arguments of `residual data`.

use super::{Download, Format};
use clap::{Args, Subcommand, ValueEnum};
use residual::data::Container;
use std::num::NonZeroU32;
use std::path::PathBuf;

#[derive(Subcommand, Debug)]
pub(crate) enum Data {
    /// List the datasets that --data accepts
    List(Format),
    /// Download a well-known dataset from its official page
    Fetch(FetchData),
    /// Copy a dataset to class folders, tar shards or parquet files; image files are copied as they are
    Convert(ConvertData),
    /// Write a dataset as PNG files: DIR/train/<class>/… and DIR/test/<class>/…
    Export(ExportData),
}

#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  residual data fetch cifar10\n  residual data fetch mnist --data-dir sets\n\n\
    An interrupted download is resumed. Files are checked by their SHA-256, and kept in the cache.")]
pub(crate) struct FetchData {
    /// cifar10, cifar100, mnist or fashion-mnist
    pub(crate) name: String,
    /// The folder in which the dataset's folder is created
    #[arg(long, value_name = "DIR", default_value = "data")]
    pub(crate) data_dir: PathBuf,
    #[command(flatten)]
    pub(crate) download: Download,
    #[command(flatten)]
    pub(crate) format: Format,
}

#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  residual data convert photos shards --to tar\n  \
    residual data convert 'shards/train-{000000..000012}.tar' unpacked --to folder\n\n\
    The images keep their order, but in class folders, where they are ordered by class first.")]
pub(crate) struct ConvertData {
    /// The dataset, as in --data
    #[arg(value_name = "DATA")]
    pub(crate) name: String,
    /// A new or empty folder
    pub(crate) folder: PathBuf,
    /// What is written: image files in class folders, shards of the WebDataset layout, or files of the Hugging Face layout
    #[arg(long, value_enum)]
    pub(crate) to: To,
    /// The largest shard, in MiB of images
    #[arg(long, value_name = "N", default_value = "512")]
    pub(crate) shard_size: NonZeroU32,
    /// Folder of the files of a named dataset
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) format: Format,
}

/// What `residual data convert` writes.
#[derive(ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum To {
    Folder,
    Tar,
    Parquet,
}

impl From<To> for Container {
    fn from(to: To) -> Self {
        match to {
            To::Folder => Self::Folder,
            To::Tar => Self::Tar,
            To::Parquet => Self::Parquet,
        }
    }
}

#[derive(Args, Debug)]
#[command(after_help = "Example:\n  residual data export shapes10 shapes")]
pub(crate) struct ExportData {
    /// The dataset, as in --data
    pub(crate) name: String,
    /// A new or empty folder
    pub(crate) folder: PathBuf,
    /// Folder of the files of a named dataset
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) format: Format,
}
