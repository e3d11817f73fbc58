//! The arguments of `residual inspect`.

use super::{BenchMode, Compute, Download, Format, OUTPUT, at_least_one};
use clap::Args;
use std::num::NonZeroU16;
use std::path::PathBuf;

#[derive(Args, Debug)]
#[command(group = clap::ArgGroup::new("planned").multiple(true), after_help = "Examples:\n  \
    residual inspect resnet50\n  \
    residual inspect runs/1-resnet20-shapes10 --depth 2 -b 128\n  \
    residual inspect resnet152 --svg resnet152.svg\n  \
    residual inspect resnet50 --picture photo.jpg --svg field.svg\n  \
    residual inspect --compare vgg19 googlenet resnet50 densenet121 --measure\n  \
    residual inspect resnet18 --plan --measure -b 8")]
pub(crate) struct Inspect {
    /// The name of a network, a TOML file that describes one, a checkpoint, a run folder, or the name of weights
    #[arg(value_name = "MODEL|WEIGHTS", required_unless_present = "compare")]
    pub(crate) subject: Option<String>,
    /// Compare networks: depth, parameters, cost, memory, receptive field, published accuracies
    #[arg(
        long,
        value_name = "MODEL|WEIGHTS",
        num_args = 1..,
        conflicts_with_all = ["plan", "mode", "depth", "csv", "svg", "picture"]
    )]
    pub(crate) compare: Vec<String>,
    /// The network of a bare state dict
    #[arg(long, value_name = "NAME")]
    pub(crate) model: Option<String>,
    /// Number of classes of a named network [default: as published]
    #[arg(long, value_name = "N")]
    pub(crate) num_classes: Option<usize>,
    /// Image size in pixels [default: the network's own]
    #[arg(long, value_name = "PIXELS")]
    pub(crate) img_size: Option<usize>,
    /// Add up the layers of each module to this depth: 1 for layer1, 2 for layer1.0
    #[arg(long, value_name = "N", conflicts_with = "planned")]
    pub(crate) depth: Option<usize>,
    /// Batch size of memory, plan and latency
    #[arg(
        long,
        short,
        visible_alias = "batch",
        value_name = "N",
        default_value = "1",
        value_parser = at_least_one
    )]
    pub(crate) batch_size: NonZeroU16,
    /// Show the compiled plan: every step with its algorithm, memory and estimated time
    #[arg(long, group = "planned")]
    pub(crate) plan: bool,
    /// Kind of plan: inference or a training step
    #[arg(long, value_enum, default_value_t = BenchMode::Infer, requires = "planned")]
    pub(crate) mode: BenchMode,
    /// Show the plan with the measured time of each step; with --compare measure the latency of each network
    #[arg(long, group = "planned")]
    pub(crate) measure: bool,
    /// Draw the architecture to a file, .svg or .png: stages, blocks (repeated ones once) and shortcuts
    #[arg(long, value_name = "FILE", help_heading = OUTPUT, conflicts_with_all = ["planned", "depth", "csv"])]
    pub(crate) svg: Option<PathBuf>,
    /// Draw receptive fields over this image instead, with --svg
    #[arg(long, value_name = "IMAGE", requires = "svg")]
    pub(crate) picture: Option<PathBuf>,
    /// The node whose receptive field is drawn [default: the last of each stage]
    #[arg(long, value_name = "NAME", requires = "picture")]
    pub(crate) node: Option<String>,
    /// Print the layers as CSV
    #[arg(long, help_heading = OUTPUT, conflicts_with_all = ["json", "planned"])]
    pub(crate) csv: bool,
    #[command(flatten)]
    pub(crate) download: Download,
    #[command(flatten)]
    pub(crate) compute: Compute,
    #[command(flatten)]
    pub(crate) format: Format,
}
