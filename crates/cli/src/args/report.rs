//! The arguments of `residual report`.

use super::{Format, Threads};
use clap::Args;
use std::path::PathBuf;

#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  residual report runs/1-resnet20-shapes10\n  \
    residual report runs/1-resnet20-shapes10 runs/2-resnet20-shapes10 -o comparison.html\n\n\
    The report of one run judges its best weights on its held-out images again. A comparison reads the runs' folders alone.")]
pub(crate) struct Report {
    /// Run folders: one for its report, several for a comparison
    #[arg(value_name = "RUN", required = true)]
    pub(crate) runs: Vec<PathBuf>,
    /// The page to write [default: report.html in the run's folder; comparison.html for several runs]
    #[arg(long, short, visible_alias = "out", value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) threads: Threads,
    #[command(flatten)]
    pub(crate) format: Format,
}
