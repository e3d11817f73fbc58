//! The arguments of `residual features`.

use super::{Compute, Format, ImageArgs, Images, OUTPUT, Precision, Reading, Weights, at_least_one};
use clap::Args;
use std::num::NonZeroU16;
use std::path::PathBuf;

#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  \
    residual features --weights runs/1-resnet20-shapes10 photos -o vectors.npy\n  \
    residual features --weights torchvision:resnet50.v2 photos --layers pooled,layer1,C4 -o maps.safetensors\n  \
    residual features --weights runs/1-resnet20-shapes10 --data shapes10 --split train -o train.npy")]
pub(crate) struct Features {
    #[command(flatten)]
    pub(crate) weights: Weights,
    /// Images or folders of images; their subfolders are the classes
    #[arg(required_unless_present = "data", value_name = "IMAGE|DIR")]
    pub(crate) inputs: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) images: Images,
    /// pooled (the vector before the head), C2 to C5 (the last feature maps of stride 4 to 32), modules or nodes
    #[arg(long, value_name = "NAME,NAME…", value_delimiter = ',', default_value = "pooled")]
    pub(crate) layers: Vec<String>,
    /// Batch size
    #[arg(long, short, visible_alias = "batch", value_name = "N", default_value = "16", value_parser = at_least_one)]
    pub(crate) batch_size: NonZeroU16,
    #[command(flatten)]
    pub(crate) reading: Reading,
    #[command(flatten)]
    pub(crate) image: ImageArgs,
    #[command(flatten)]
    pub(crate) compute: Compute,
    #[command(flatten)]
    pub(crate) precision: Precision,
    /// The file to write: .npy (one layer), .safetensors or .parquet
    #[arg(long, short, visible_alias = "out", value_name = "FILE", help_heading = OUTPUT)]
    pub(crate) output: PathBuf,
    #[command(flatten)]
    pub(crate) format: Format,
}
