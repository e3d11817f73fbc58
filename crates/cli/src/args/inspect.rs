//! The arguments of `residual inspect`.

use super::{BenchMode, Compute, Download, Format, at_least_one};
use clap::Args;
use std::num::NonZeroU16;

#[derive(Args, Debug)]
#[command(group = clap::ArgGroup::new("planned").multiple(true), after_help = "Examples:\n  \
    residual inspect resnet50\n  \
    residual inspect runs/1-resnet20-shapes10 --json\n  \
    residual inspect resnet18 --measure -b 8")]
pub(crate) struct Inspect {
    /// The name of a network, a TOML file that describes one, a checkpoint, a run folder, or the name of weights
    #[arg(value_name = "MODEL|WEIGHTS")]
    pub(crate) subject: String,
    /// The network of a bare state dict
    #[arg(long, value_name = "NAME")]
    pub(crate) model: Option<String>,
    /// Number of classes of a named network [default: as published]
    #[arg(long, value_name = "N")]
    pub(crate) num_classes: Option<usize>,
    /// Image size in pixels [default: the network's own]
    #[arg(long, value_name = "PIXELS")]
    pub(crate) img_size: Option<usize>,
    /// Show the compiled plan: every step with its algorithm, memory and estimated time
    #[arg(long, group = "planned")]
    pub(crate) plan: bool,
    /// Batch size of the plan
    #[arg(
        long,
        short,
        visible_alias = "batch",
        value_name = "N",
        default_value = "1",
        requires = "planned",
        value_parser = at_least_one
    )]
    pub(crate) batch_size: NonZeroU16,
    /// Kind of plan: inference or a training step
    #[arg(long, value_enum, default_value_t = BenchMode::Infer, requires = "planned")]
    pub(crate) mode: BenchMode,
    /// Show the plan with the measured time of each step
    #[arg(long, group = "planned")]
    pub(crate) measure: bool,
    #[command(flatten)]
    pub(crate) download: Download,
    #[command(flatten)]
    pub(crate) compute: Compute,
    #[command(flatten)]
    pub(crate) format: Format,
}
