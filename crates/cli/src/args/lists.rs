//! The arguments of `residual models`, `residual recipes` and `residual runs`.

use super::{Download, Format, Threads};
use clap::{Args, Subcommand};
use std::num::NonZeroU16;
use std::path::PathBuf;

#[derive(Subcommand, Debug)]
pub(crate) enum Models {
    /// List the networks that --model accepts, with their pretrained weights
    List(ListModels),
}

#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  residual models list\n  residual models list resnext --json")]
pub(crate) struct ListModels {
    /// Only networks whose name or family contains this
    pub(crate) filter: Option<String>,
    #[command(flatten)]
    pub(crate) format: Format,
}

#[derive(Args, Debug)]
#[command(
    after_help = "Example:\n  residual average runs/1-resnet20-cifar10/weights/epoch-*.safetensors -o average.safetensors"
)]
pub(crate) struct Average {
    /// Checkpoints, run folders or names of weights of the same network
    #[arg(value_name = "WEIGHTS", required = true, num_args = 2..)]
    pub(crate) weights: Vec<PathBuf>,
    /// The checkpoint to write
    #[arg(long, short, visible_alias = "out", value_name = "FILE")]
    pub(crate) output: PathBuf,
    #[command(flatten)]
    pub(crate) download: Download,
    #[command(flatten)]
    pub(crate) format: Format,
}

#[derive(Subcommand, Debug)]
pub(crate) enum Recipes {
    /// List the built-in recipes, with their sources and results
    List(Format),
    /// Print a built-in recipe, to copy it to a file
    #[command(after_help = "Example:\n  residual recipes show cifar-modern > my.toml")]
    Show {
        /// The recipe
        name: String,
    },
    /// Check built-in recipes: their steps, learning rates and augmentation, and the result of a short training
    Verify(VerifyRecipes),
}

#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  residual recipes verify cifar-modern\n  residual recipes verify rsb-a1 rsb-a2 rsb-a3\n\n\
    The short training takes at most two minutes on two cores and needs no files. Its result must lie in the 99 % prediction\n\
    interval of five seeds. Exit code 1 if a recipe does not keep what it promises."
)]
pub(crate) struct VerifyRecipes {
    /// The recipes
    #[arg(value_name = "NAME", required = true)]
    pub(crate) names: Vec<String>,
    /// Without the short training
    #[arg(long)]
    pub(crate) trace: bool,
    /// Random seed of the short training; the stored results are those of seeds 0 to 4
    #[arg(long, value_name = "N", default_value = "5")]
    pub(crate) seed: u64,
    /// Train so many times, with seeds that count up from --seed
    #[arg(long, value_name = "N", default_value = "1", conflicts_with = "trace")]
    pub(crate) seeds: NonZeroU16,
    /// The folder in which the run folders are created
    #[arg(long, short, visible_alias = "out", value_name = "DIR", default_value = "runs")]
    pub(crate) output: PathBuf,
    #[command(flatten)]
    pub(crate) threads: Threads,
    #[command(flatten)]
    pub(crate) format: Format,
}

#[derive(Subcommand, Debug)]
pub(crate) enum Runs {
    /// List the runs in a folder: network, data, progress, accuracy
    List(ListRuns),
    /// Compare runs: the settings in which they differ, and their accuracies. Runs of two recipes with the same seeds are
    /// compared seed by seed
    Compare(CompareRuns),
}

#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  residual runs list\n  residual runs list elsewhere/runs --json")]
pub(crate) struct ListRuns {
    /// The folder of the runs
    #[arg(value_name = "DIR", default_value = "runs")]
    pub(crate) folder: PathBuf,
    #[command(flatten)]
    pub(crate) format: Format,
}

#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  residual runs compare runs/1-resnet20-shapes10 runs/2-resnet20-shapes10\n  \
    residual runs compare runs/*-resnet20-cifar10")]
pub(crate) struct CompareRuns {
    /// Run folders
    #[arg(value_name = "RUN", required = true, num_args = 2..)]
    pub(crate) runs: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) format: Format,
}
