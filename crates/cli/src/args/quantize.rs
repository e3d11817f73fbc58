//! The arguments of `residual quantize`.

use super::{Compute, Format, ImageArgs, Judged, OUTPUT, Reading, Weights, at_least_one};
use clap::Args;
use residual::compress::{RangeMethod, Rounding, Scheme};
use residual::model::WeightBits;
use std::num::NonZeroU16;
use std::path::PathBuf;

#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  \
    residual quantize --weights runs/1-resnet20-shapes10 -o int8.safetensors\n  \
    residual quantize --weights runs/2-resnet18-photos --method entropy --bias-correction --max-drop 0.3\n  \
    residual quantize --weights torchvision:resnet50.v2 --data imagenet --keep-f32 conv1,fc\n  \
    residual quantize --weights runs/2-resnet18-photos --keep-f32 auto --sensitivity\n  \
    residual quantize --weights runs/2-resnet18-photos --weights-only 4\n\n\
    The result is a checkpoint like any other: eval, predict, bench and export take it.")]
pub(crate) struct Quantize {
    #[command(flatten)]
    pub(crate) weights: Weights,
    #[command(flatten)]
    pub(crate) judged: Judged,
    /// Judge the result on so many images at most
    #[arg(long, value_name = "N")]
    pub(crate) limit: Option<usize>,
    /// Quantize the weights alone, to 8 or 4 bits: the network computes in f32, and only its file is smaller
    #[arg(long, value_name = "BITS", value_parser = weight_bits, conflicts_with = "method")]
    pub(crate) weights_only: Option<WeightBits>,
    /// Quantize linear layers alone, and what they read by its range in each batch, as torch's quantize_dynamic does
    #[arg(long, conflicts_with_all = ["method", "weights_only"])]
    pub(crate) dynamic: bool,
    /// How weights become integers: nearest, or adaround or adaround:STEPS, learned so that the results of layers are kept
    #[arg(long, value_name = "ROUNDING", default_value = "nearest")]
    pub(crate) rounding: Rounding,
    /// Number of training images to calibrate on; their labels are not read
    #[arg(long, value_name = "N", default_value = "512", value_parser = at_least_one, help_heading = CALIBRATION)]
    pub(crate) calib: NonZeroU16,
    /// Seed of their choice, and of learned rounding
    #[arg(long, value_name = "N", default_value = "0", help_heading = CALIBRATION)]
    pub(crate) seed: u64,
    /// How the ranges of values are found: minmax, percentile:99.99, mse or entropy
    #[arg(long, value_name = "METHOD", default_value = "mse", help_heading = CALIBRATION)]
    pub(crate) method: RangeMethod,
    /// Take the mean error of rounded weights out of the biases
    #[arg(long, help_heading = CALIBRATION)]
    pub(crate) bias_correction: bool,
    /// Equalize the ranges of weights across layers first
    #[arg(long, help_heading = CALIBRATION)]
    pub(crate) equalize: bool,
    /// Layers or modules that stay in f32, or auto: the most sensitive ones, until the predictions agree up to --max-drop
    #[arg(long, value_name = "NODE,NODE…|auto", value_delimiter = ',', help_heading = CALIBRATION)]
    pub(crate) keep_f32: Vec<String>,
    /// Fail, and list the layers that cost most, if accuracy drops by more points [default with auto: 0.5]
    #[arg(long, value_name = "POINTS")]
    pub(crate) max_drop: Option<f64>,
    /// Show what each layer costs
    #[arg(long, help_heading = OUTPUT)]
    pub(crate) sensitivity: bool,
    /// Do not measure latency
    #[arg(long, help_heading = OUTPUT)]
    pub(crate) no_latency: bool,
    /// The checkpoint to write [default: NETWORK-int8.safetensors here, or -int4]
    #[arg(long, short, visible_alias = "out", value_name = "FILE", help_heading = OUTPUT)]
    pub(crate) output: Option<PathBuf>,
    /// Batch size of the evaluation
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

/// The heading of flags for calibration.
const CALIBRATION: &str = "Calibration";

impl Quantize {
    pub(crate) fn scheme(&self) -> Scheme {
        match self.weights_only {
            Some(bits) => Scheme::WeightsOnly(bits),
            None if self.dynamic => Scheme::Dynamic,
            None => Scheme::Static,
        }
    }
}

fn weight_bits(text: &str) -> Result<WeightBits, String> {
    match text {
        "8" => Ok(WeightBits::Eight),
        "4" => Ok(WeightBits::Four),
        _ => Err("expected 8 or 4".into()),
    }
}
