//! The arguments of `residual compress`.

use super::{FinetuneSettings, Format, ImageArgs, OUTPUT, Reading, Threads, Weights, at_least_one};
use clap::Args;
use residual::compress::{Budget, Criterion};
use std::num::NonZeroU16;
use std::path::PathBuf;

#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  \
    residual compress --weights runs/1-resnet20-shapes10 --val-split 0.1 --budget \"latency<=1ms@1, drop<=1\" --finetune shapes-quick --epochs 4\n  \
    residual compress --weights runs/1-resnet20-shapes10 --val-split 0.1 --budget \"size<=200KB\" --macs 0.5 --finetune shapes-quick\n  \
    residual compress --weights runs/2-resnet50-photos --budget \"drop<=0.5\" --finetune folder-quick --img-sizes 160,192\n\n\
    Of the networks within the budget the most accurate is chosen; the fastest, if the only limit is the accuracy limit. If none is\n\
    within it, the exit code is 1. Another --budget chooses anew among the networks that there are.\n\
    The same command goes on with interrupted work.")]
pub(crate) struct Compress {
    #[command(flatten)]
    pub(crate) weights: Weights,
    /// A named dataset (residual data list), a folder, a list, shards or a file of arrays [default: the dataset of the run]
    #[arg(long, value_name = "DATA")]
    pub(crate) data: Option<String>,
    /// Folder of the CIFAR files
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// The share of the training images to choose by, where the data have no validation images and the run held none out
    #[arg(long, value_name = "FRACTION")]
    pub(crate) val_split: Option<f32>,
    /// Judge networks on so many images at most
    #[arg(long, value_name = "N")]
    pub(crate) limit: Option<usize>,
    /// What the chosen network may cost: latency<=3ms@1 (on this machine, in batches of a size), drop<=0.5 (points of accuracy),
    /// size<=2MB (its file), macs<=60M, or several, joined by commas
    #[arg(long, value_name = "LIMITS")]
    pub(crate) budget: Budget,
    /// Prune until networks are so many times as fast, in batches of the budget's size or else of 1 [default: 1.5,2,3, and what a
    /// limit of the latency asks for]
    #[arg(long, value_name = "FACTOR,…", value_delimiter = ',', conflicts_with = "macs", help_heading = NETWORKS)]
    pub(crate) speedups: Vec<f64>,
    /// Prune to these shares of the multiply-accumulates instead
    #[arg(long, value_name = "SHARE,…", value_delimiter = ',', help_heading = NETWORKS)]
    pub(crate) macs: Vec<f64>,
    /// Judge all networks on images of these sizes too, where they take them
    #[arg(long, value_name = "PIXELS,…", value_delimiter = ',', value_parser = at_least_one, help_heading = NETWORKS)]
    pub(crate) img_sizes: Vec<NonZeroU16>,
    /// Distil a network first, which takes the original's place in pruning: a name, or a TOML file that describes one
    #[arg(long, value_name = "NAME|FILE", requires = "distill", help_heading = NETWORKS)]
    pub(crate) student: Option<String>,
    /// The recipe of the student, a preset or a file
    #[arg(long, value_name = "RECIPE", requires = "student", help_heading = NETWORKS)]
    pub(crate) distill: Option<String>,
    /// What scores a channel: l1, bn, taylor or random
    #[arg(long, value_name = "NAME", default_value = "l1", help_heading = NETWORKS)]
    pub(crate) criterion: Criterion,
    /// Number of training images that channels are scored and networks calibrated on
    #[arg(long, value_name = "N", default_value = "1024", value_parser = at_least_one, help_heading = NETWORKS)]
    pub(crate) calib: NonZeroU16,
    /// Seed of their choice, and of training where the weights' run held no images out
    #[arg(long, value_name = "N", default_value = "0", help_heading = NETWORKS)]
    pub(crate) seed: u64,
    /// Train pruned networks by this recipe, a preset or a file, with the original as their teacher. The settings of residual train
    /// override it: --epochs 10 --lr 0.01
    #[arg(long, value_name = "RECIPE", help_heading = NETWORKS)]
    pub(crate) finetune: String,
    #[command(flatten)]
    pub(crate) settings: FinetuneSettings,
    /// Timed passes of each network in a comparison of latencies [default: as many as fit two seconds, 10 to 2000]
    #[arg(long, value_name = "N", value_parser = at_least_one, help_heading = NETWORKS)]
    pub(crate) repeats: Option<NonZeroU16>,
    /// The folder of all networks, and of the work
    #[arg(long, short, visible_alias = "out", value_name = "DIR", default_value = "compressed", help_heading = OUTPUT)]
    pub(crate) output: PathBuf,
    #[command(flatten)]
    pub(crate) reading: Reading,
    #[command(flatten)]
    pub(crate) image: ImageArgs,
    #[command(flatten)]
    pub(crate) threads: Threads,
    #[command(flatten)]
    pub(crate) format: Format,
}

/// The heading of what networks are made.
const NETWORKS: &str = "Networks";
