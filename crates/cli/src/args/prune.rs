//! The arguments of `residual prune`.

use super::{FinetuneSettings, Format, ImageArgs, Judged, OUTPUT, Reading, Threads, Weights, at_least_one};
use clap::Args;
use residual::compress::{Criterion, LatencyTarget, MacsTarget, Pattern, SpeedupTarget};
use std::num::NonZeroU16;
use std::path::PathBuf;

#[derive(Args, Debug)]
#[command(
    override_usage = "residual prune [OPTIONS] --weights <FILE|RUN|NAME> <TARGET>",
    group = clap::ArgGroup::new("target").required(true).args(["target_macs", "target_latency", "target_speedup", "unstructured"]),
    after_help = "Examples:\n  \
        residual prune --weights runs/1-resnet20-shapes10 --target-macs 0.5 -o half.safetensors\n  \
        residual prune --weights runs/1-resnet20-shapes10 --target-speedup 1.5x@8 --blocks\n  \
        residual prune --weights torchvision:resnet50.v2 --data imagenet --target-latency 20ms@1\n  \
        residual prune --weights runs/1-resnet20-shapes10 --target-macs 0.5 --finetune cifar-quick\n  \
        residual prune --weights runs/1-resnet20-shapes10 --unstructured 0.3\n\n\
        The result is a checkpoint like any other: eval, train, predict, bench, quantize and export take it.\n\
        An interrupted fine-tuning is resumed by the same command."
)]
pub(crate) struct Prune {
    #[command(flatten)]
    pub(crate) weights: Weights,
    #[command(flatten)]
    pub(crate) judged: Judged,
    /// Judge the result on so many images at most
    #[arg(long, value_name = "N")]
    pub(crate) limit: Option<usize>,
    /// Remove channels down to this share of the multiply-accumulates, or to this number: 0.5, 62M
    #[arg(long, value_name = "SHARE|NUMBER", help_heading = TARGET)]
    pub(crate) target_macs: Option<MacsTarget>,
    /// Remove channels down to a latency on this machine, in batches of a size: 5ms@1
    #[arg(long, value_name = "MS@BATCH", help_heading = TARGET)]
    pub(crate) target_latency: Option<LatencyTarget>,
    /// Remove channels until the network is so many times as fast on this machine, in batches of a size: 2x@8
    #[arg(long, value_name = "FACTOR@BATCH", help_heading = TARGET)]
    pub(crate) target_speedup: Option<SpeedupTarget>,
    /// Make single weights zero: a share of every layer's (0.3), of all together (global:0.3), or all but 2 of every 4 along the
    /// input channels (2:4). The network becomes no faster
    #[arg(long, value_name = "SHARE|N:M", help_heading = TARGET)]
    #[arg(conflicts_with_all = ["criterion", "uniform", "round", "blocks", "steps"])]
    pub(crate) unstructured: Option<Pattern>,
    /// With --unstructured: write a smaller file, without the zeros. residual reads it like any other, torch does not (residual export
    /// makes one that it reads)
    #[arg(long, conflicts_with_all = ["target_macs", "target_latency", "target_speedup"], help_heading = OUTPUT)]
    pub(crate) sparse: bool,
    /// What scores a channel: l1 (its weights), bn (its batch norm's scale), taylor (what the loss on training images would
    /// change by) or random
    #[arg(long, value_name = "NAME", default_value = "l1", help_heading = SELECTION)]
    pub(crate) criterion: Criterion,
    /// Remove the same share of every group of channels, instead of what has the lowest scores for what it costs
    #[arg(long, help_heading = SELECTION, conflicts_with = "blocks")]
    pub(crate) uniform: bool,
    /// Keep multiples of so many channels where a group has at least twice as many, as vector registers are filled; 1 for any number
    #[arg(long, value_name = "N", default_value = "8", value_parser = at_least_one, help_heading = SELECTION)]
    pub(crate) round: NonZeroU16,
    /// Let whole residual blocks go, where their shortcut is the identity
    #[arg(long, help_heading = SELECTION)]
    pub(crate) blocks: bool,
    /// Number of training images that channels are scored and batch norms recalibrated on
    #[arg(long, value_name = "N", default_value = "1024", value_parser = at_least_one, help_heading = SELECTION)]
    pub(crate) calib: NonZeroU16,
    /// Seed of their choice, of random scores, and of fine-tuning where the weights' run held no images out
    #[arg(long, value_name = "N", default_value = "0", help_heading = SELECTION)]
    pub(crate) seed: u64,
    /// Train the pruned network by this recipe, a preset or a file. The settings of residual train override it: --epochs 10 --lr
    /// 0.01. Weights that --unstructured made zero stay zero. The last weights are kept
    #[arg(long, value_name = "RECIPE", help_heading = FINETUNING)]
    pub(crate) finetune: Option<String>,
    /// Prune and train so many times, each time by the same factor
    #[arg(long, value_name = "N", default_value = "1", value_parser = at_least_one, help_heading = FINETUNING)]
    #[arg(requires = "finetune")]
    pub(crate) steps: NonZeroU16,
    #[command(flatten)]
    pub(crate) settings: FinetuneSettings,
    /// Do not measure latency
    #[arg(long, help_heading = OUTPUT, conflicts_with_all = ["target_latency", "target_speedup"])]
    pub(crate) no_latency: bool,
    /// The checkpoint to write; fine-tuning has its runs in a folder beside it, FILE.steps [default: NETWORK-pruned.safetensors
    /// here]
    #[arg(long, short, visible_alias = "out", value_name = "FILE", help_heading = OUTPUT)]
    pub(crate) output: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) reading: Reading,
    #[command(flatten)]
    pub(crate) image: ImageArgs,
    #[command(flatten)]
    pub(crate) threads: Threads,
    #[command(flatten)]
    pub(crate) format: Format,
}

/// The heading of what the result may cost.
const TARGET: &str = "Target";
/// The heading of what is removed.
const SELECTION: &str = "Selection";
/// The heading of training after pruning.
const FINETUNING: &str = "Fine-tuning";
