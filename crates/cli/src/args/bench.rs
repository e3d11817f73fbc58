//! The arguments of `residual bench`.

use super::{COMPUTE, Compute, Download, Format, OUTPUT, Precision, Threads, at_least_one};
use clap::{Args, ValueEnum};
use std::num::NonZeroU16;
use std::path::PathBuf;

#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  \
    residual bench resnet18 resnet50 -b 1,8 --threads 1,2\n  \
    residual bench resnet20 --mode train -b 128 --layers\n  \
    residual bench resnet50 -b 8 --svg resnet50.svg\n  \
    residual bench resnet18 --vs resnet34 -b 8")]
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
    /// Untimed passes before each measurement
    #[arg(long, value_name = "N", default_value = "3")]
    pub(crate) warmup: u16,
    /// Number of timed passes [default: as many as fit two seconds, 10 to 2000]
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    pub(crate) repeats: Option<NonZeroU16>,
    /// Compare with this one: passes take turns, and the ratio of the times has a 95 % interval
    #[arg(long, value_name = "MODEL|WEIGHTS", conflicts_with_all = ["layers", "svg", "serve"])]
    pub(crate) vs: Option<String>,
    /// The network of bare state dicts among them
    #[arg(long, value_name = "NAME")]
    pub(crate) model: Option<String>,
    /// Show the time of each node
    #[arg(long, conflicts_with = "serve")]
    pub(crate) layers: bool,
    /// Draw the time of each node and a roofline to a file, .svg or .png
    #[arg(long, value_name = "FILE", help_heading = OUTPUT, conflicts_with = "serve")]
    pub(crate) svg: Option<PathBuf>,
    /// Answer lines "run N" on stdin with N times each, for bench/compare.py
    #[arg(long, hide = true, conflicts_with_all = ["json", "repeats"])]
    pub(crate) serve: bool,
    #[command(flatten)]
    pub(crate) download: Download,
    #[command(flatten)]
    pub(crate) compute: BenchCompute,
    #[command(flatten)]
    pub(crate) precision: Precision,
    #[command(flatten)]
    pub(crate) format: Format,
}

/// As [`Compute`], with a measurement for each number of threads.
#[derive(Args, Debug)]
pub(crate) struct BenchCompute {
    /// Compute threads, with a measurement for each number [default: all cores]
    #[arg(
        long,
        value_name = "N,N…",
        value_delimiter = ',',
        help_heading = COMPUTE,
        value_parser = at_least_one
    )]
    threads: Vec<NonZeroU16>,
    /// Store weights in their most compact form: up to four times less memory, but slower
    #[arg(long, help_heading = COMPUTE)]
    low_memory: bool,
    /// Measure the fastest algorithm for each convolution on this machine, and cache the results
    #[arg(long, help_heading = COMPUTE, conflicts_with = "low_memory")]
    pub(crate) autotune: bool,
}

impl BenchCompute {
    /// Those of each measurement.
    pub(crate) fn each(&self) -> Vec<Compute> {
        let one =
            |threads| Compute { threads: Threads { threads }, low_memory: self.low_memory, autotune: self.autotune };
        if self.threads.is_empty() { vec![one(None)] } else { self.threads.iter().map(|&n| one(Some(n))).collect() }
    }
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
