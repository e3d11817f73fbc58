//! The images that a model is judged on.

use clap::{Args, ValueEnum};
use std::path::PathBuf;

/// The images that a model is judged on.
#[derive(Args, Debug)]
pub(crate) struct Judged {
    /// A named dataset (residual data list), a folder, a list, shards or a file of arrays [default: the dataset of the run]
    #[arg(long, value_name = "DATA")]
    pub(crate) data: Option<String>,
    /// Folder of the CIFAR files
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// The split to evaluate [default: test, else val, else the images that the run held out, else all images]
    #[arg(long, value_enum)]
    pub(crate) split: Option<Split>,
    /// The share that the run held out of its training images, for data that are not where the run found them
    #[arg(long, value_name = "FRACTION")]
    pub(crate) val_split: Option<f32>,
}

#[derive(ValueEnum, Debug, Clone, Copy)]
pub(crate) enum Split {
    Train,
    Val,
    Test,
}

impl From<Split> for residual::data::Split {
    fn from(split: Split) -> Self {
        match split {
            Split::Train => Self::Train,
            Split::Val => Self::Val,
            Split::Test => Self::Test,
        }
    }
}
