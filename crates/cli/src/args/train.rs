//! The arguments of `residual train` besides the settings of a recipe.

use super::{COMPUTE, Download, Format, Settings, Threads};
use clap::Args;
use residual::train::PRESETS;
use std::num::NonZeroU16;
use std::path::PathBuf;

#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  \
    residual train\n  \
    residual train --data photos --model resnet18 --val-split 0.2\n  \
    residual train --data photos --weights torchvision:resnet18.v1 --freeze backbone --unfreeze-at 10:layer4\n  \
    residual train --data cifar10 --data-dir cifar-10-batches-bin --recipe cifar-quick\n  \
    residual train --resume runs/1-resnet20-shapes10\n\n\
    Settings that are not given come from the recipe; precedence: flags, then files, then the preset.\n\
    Switches are turned off by --no-NAME or --NAME=false. docs/settings.md lists all settings; --show-config prints those of a run.\n\
    Ctrl-C, SIGTERM, SIGHUP and SIGUSR1 end the run after a checkpoint, which --resume continues.")]
pub(crate) struct Train {
    /// The dataset, as in --data
    #[arg(value_name = "DATA", conflicts_with = "data")]
    pub(crate) dataset: Option<String>,
    #[arg(long, value_name = "NAME|FILE", help = recipes())]
    pub(crate) recipe: Vec<String>,
    /// Print the settings as a recipe, each with its source, instead of training
    #[arg(long, visible_alias = "show")]
    pub(crate) show_config: bool,
    /// Resume the run in this folder from its last checkpoint
    #[arg(long, value_name = "RUN")]
    pub(crate) resume: Option<PathBuf>,
    /// The folder in which the run folder is created
    #[arg(long, short, visible_alias = "out", value_name = "DIR", default_value = "runs", conflicts_with = "resume")]
    pub(crate) output: PathBuf,
    /// Start from the most common published weights of the network (--model), as --weights with their name does
    #[arg(long, conflicts_with_all = ["resume", "weights"], help_heading = "Model")]
    pub(crate) pretrained: bool,
    /// Instead of training, run a learning-rate range test: up to 100 steps at rates from 1e-7 to 10; write its picture to
    /// FILE (.svg or .png) [default: lr.svg] and suggest a rate
    #[arg(long, value_name = "FILE", num_args = 0..=1, require_equals = true, default_missing_value = "lr.svg")]
    #[arg(conflicts_with_all = ["resume", "seeds", "autotune"])]
    pub(crate) find_lr: Option<PathBuf>,
    /// Train so many times, with seeds that count up from --seed, and print the mean and standard deviation
    #[arg(long, value_name = "N", default_value = "1", conflicts_with = "resume", help_heading = "Run")]
    pub(crate) seeds: NonZeroU16,
    /// Write no report.html at the end of the run (residual report RUN writes it later)
    #[arg(long, help_heading = "Run")]
    pub(crate) no_report: bool,
    #[command(flatten)]
    pub(crate) settings: Settings,
    #[command(flatten)]
    pub(crate) download: Download,
    /// Measure the fastest algorithm for each convolution on this machine; cached, and stored with the run
    #[arg(long, conflicts_with = "resume", help_heading = COMPUTE)]
    pub(crate) autotune: bool,
    #[command(flatten)]
    pub(crate) threads: Threads,
    #[command(flatten)]
    pub(crate) format: Format,
}

/// What `--recipe` takes.
pub(super) fn recipes() -> String {
    let presets: Vec<&str> = PRESETS.iter().map(|preset| preset.name).collect();
    let presets = presets.join(", ");
    format!(
        "A preset ({presets}; see residual recipes list) or a TOML file; may be repeated, later ones override earlier ones"
    )
}
