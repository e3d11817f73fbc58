//! The arguments of `residual eval`.

use super::{Compute, Format, ImageArgs, Reading, Weights, at_least_one};
use clap::{Args, ValueEnum};
use std::num::NonZeroU16;
use std::path::PathBuf;

#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  \
    residual eval --weights runs/1-resnet20-shapes10\n  \
    residual eval --weights torchvision:resnet18.v1 --data photos --split val\n  \
    residual eval --weights resnet20.th --model resnet20_a --data cifar10 --data-dir cifar-10-batches-bin")]
pub(crate) struct Eval {
    #[command(flatten)]
    pub(crate) weights: Weights,
    /// shapes10, cifar10, cifar100, a folder or a .safetensors file [default: the dataset of the run]
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
    /// What the dataset's classes are called in the model: one name a line by output, or lines of a name and an output
    #[arg(long, value_name = "FILE")]
    pub(crate) class_map: Option<PathBuf>,
    /// Batch size
    #[arg(long, short, visible_alias = "batch", value_name = "N", default_value = "100", value_parser = at_least_one)]
    pub(crate) batch_size: NonZeroU16,
    #[command(flatten)]
    pub(crate) reading: Reading,
    #[command(flatten)]
    pub(crate) image: ImageArgs,
    #[command(flatten)]
    pub(crate) compute: Compute,
    #[command(flatten)]
    pub(crate) format: Format,
}

#[derive(ValueEnum, Debug, Clone, Copy)]
pub(crate) enum Split {
    Train,
    Val,
    Test,
}
