//! The arguments of `residual predict`.

use super::{Compute, Format, ImageArgs, Images, OUTPUT, Precision, Reading, TestTime, Weights, at_least_one};
use clap::Args;
use std::num::NonZeroU16;
use std::path::PathBuf;

#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  \
    residual predict --weights runs/1-resnet20-shapes10 photo.jpg\n  \
    residual predict --weights torchvision:resnet50.v2 photos -k 3 --csv > classes.csv\n  \
    residual predict --weights runs/1-resnet20-shapes10 --data shapes10 --limit 20 --save pictures\n  \
    curl -s https://example.org/cat.jpg | residual predict --weights torchvision:resnet18.v1 -\n  \
    find photos -name '*.jpg' | residual predict --weights torchvision:resnet18.v1 - --csv\n\n\
    Results are printed as they come, in the order of the inputs.")]
pub(crate) struct Predict {
    #[command(flatten)]
    pub(crate) weights: Weights,
    /// Images, folders of images, .npy files (N×3×H×W: normalised f32, or u8), or - for stdin: an image, or a list of these
    /// with one path a line
    #[arg(required_unless_present = "data", value_name = "IMAGE|DIR|FILE.npy|-")]
    pub(crate) inputs: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) images: Images,
    /// Batch size
    #[arg(long, short, visible_alias = "batch", value_name = "N", default_value = "16", value_parser = at_least_one)]
    pub(crate) batch_size: NonZeroU16,
    #[command(flatten)]
    pub(crate) reading: Reading,
    #[command(flatten)]
    pub(crate) image: ImageArgs,
    #[command(flatten)]
    pub(crate) test_time: TestTime,
    #[command(flatten)]
    pub(crate) compute: Compute,
    #[command(flatten)]
    pub(crate) precision: Precision,
    /// Classes to show for each image
    #[arg(long, short = 'k', value_name = "K", default_value = "5", help_heading = OUTPUT, value_parser = at_least_one)]
    pub(crate) top: NonZeroU16,
    /// Print the logits of all classes instead of the top classes
    #[arg(long, help_heading = OUTPUT)]
    pub(crate) logits: bool,
    /// Print the result as comma-separated values
    #[arg(long, conflicts_with = "json", help_heading = OUTPUT)]
    pub(crate) csv: bool,
    /// Write each image into this folder as a PNG file with its most likely class and its probability below it
    #[arg(long, value_name = "DIR", help_heading = OUTPUT)]
    pub(crate) save: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) format: Format,
}
