//! The arguments of `residual eval`.

use super::{Compute, Format, ImageArgs, Judged, OUTPUT, Precision, Reading, TestTime, Weights, at_least_one};
use clap::Args;
use std::num::NonZeroU16;
use std::path::PathBuf;

#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  \
    residual eval --weights runs/1-resnet20-shapes10\n  \
    residual eval --weights runs/2-resnet18-photos --confusion --wrong 10 --predictions predictions.csv\n  \
    residual eval --weights runs/2-resnet18-photos --fit-temperature -o calibrated.safetensors\n  \
    residual eval --weights runs/2-resnet18-photos --vs runs/1-resnet18-photos\n  \
    residual eval --weights torchvision:resnet18.v1 --data photos --split val\n  \
    residual eval --weights resnet20.th --model resnet20_a --data cifar10 --data-dir cifar-10-batches-bin")]
pub(crate) struct Eval {
    #[command(flatten)]
    pub(crate) weights: Weights,
    #[command(flatten)]
    pub(crate) judged: Judged,
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
    pub(crate) test_time: TestTime,
    #[command(flatten)]
    pub(crate) compute: Compute,
    #[command(flatten)]
    pub(crate) precision: Precision,
    /// Other weights to compare with on the same images: the difference, its interval and McNemar's test
    #[arg(long, value_name = "FILE|RUN|NAME", conflicts_with = "fit_temperature")]
    pub(crate) vs: Option<PathBuf>,
    /// Show precision, recall, F1 and support of every class [default: of up to 20 classes]
    #[arg(long, help_heading = OUTPUT)]
    pub(crate) per_class: bool,
    /// Show the confusion matrix: a row per class, a column per predicted class [default: in JSON, of up to 100 classes]
    #[arg(long, help_heading = OUTPUT)]
    pub(crate) confusion: bool,
    /// List the N misclassified images with the highest probabilities
    #[arg(long, value_name = "N", help_heading = OUTPUT)]
    pub(crate) wrong: Option<usize>,
    /// List the N images with the lowest probabilities of their predicted class
    #[arg(long, value_name = "N", help_heading = OUTPUT)]
    pub(crate) uncertain: Option<usize>,
    /// Write a row for each image: image, label, predicted class, probability, loss (.csv, .json or .parquet)
    #[arg(long, value_name = "FILE", help_heading = OUTPUT)]
    pub(crate) predictions: Option<PathBuf>,
    /// Fit the temperature of the probabilities on the validation images; without other images to evaluate, on half of
    /// these, and the other half is evaluated
    #[arg(long, help_heading = CALIBRATION)]
    pub(crate) fit_temperature: bool,
    /// Write the weights with the fitted temperature as a checkpoint
    #[arg(long, short, visible_alias = "out", value_name = "FILE", requires = "fit_temperature", help_heading = CALIBRATION)]
    pub(crate) output: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) format: Format,
}

/// The heading of flags for calibration.
const CALIBRATION: &str = "Calibration";
