//! The arguments of `residual bench`.

use super::{Compute, Download, Format, at_least_one};
use clap::{Args, ValueEnum};
use std::num::NonZeroU16;

#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  \
    residual bench resnet18 resnet50 -b 1,8\n  \
    residual bench resnet20 --mode train -b 128 --layers")]
pub(crate) struct Bench {
    /// Names of networks, TOML files that describe them, checkpoints, run folders, or names of weights
    #[arg(value_name = "MODEL|WEIGHTS", required = true)]
    pub(crate) models: Vec<String>,
    /// What to measure: inference, or a training step (forward, loss, backward, SGD)
    #[arg(long, value_enum, default_value_t = BenchMode::Infer)]
    pub(crate) mode: BenchMode,
    /// Batch sizes
    #[arg(
        long,
        short,
        visible_alias = "batch",
        value_name = "N,N…",
        value_delimiter = ',',
        default_value = "1",
        value_parser = at_least_one
    )]
    pub(crate) batch_size: Vec<NonZeroU16>,
    /// Image size in pixels [default: the network's own]
    #[arg(long, value_name = "PIXELS")]
    pub(crate) img_size: Option<usize>,
    /// Number of timed passes [default: as many as fit two seconds, at least 10]
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    pub(crate) repeats: Option<NonZeroU16>,
    /// The network of bare state dicts among them
    #[arg(long, value_name = "NAME")]
    pub(crate) model: Option<String>,
    /// Show the time of each node
    #[arg(long, conflicts_with = "serve")]
    pub(crate) layers: bool,
    /// Answer lines "run N" on stdin with N times each, for bench/compare.py
    #[arg(long, hide = true, conflicts_with_all = ["json", "repeats"])]
    pub(crate) serve: bool,
    #[command(flatten)]
    pub(crate) download: Download,
    #[command(flatten)]
    pub(crate) compute: Compute,
    #[command(flatten)]
    pub(crate) format: Format,
}

// The help texts of the flags say what the modes are: with texts of their own, clap's help takes another layout.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BenchMode {
    Infer,
    Train,
}

impl BenchMode {
    /// As it is typed.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Infer => "infer",
            Self::Train => "train",
        }
    }
}
