//! The arguments of `residual reproduce`.

use super::{Format, OUTPUT, Threads};
use clap::Args;
use residual::reproduce::Form;
use std::path::PathBuf;

#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  \
    residual reproduce list\n  \
    residual reproduce bottleneck receptive-field\n  \
    residual reproduce --quick\n  \
    residual reproduce degradation --short --data-dir cifar-10-batches-bin\n\n\
    Trainings leave run folders: the same command resumes one that was interrupted, and reads one that is finished.\n\
    Exit code 1 if a claim is not borne out.")]
pub(crate) struct Reproduce {
    /// Claims, or list to show all of them; without names every claim that has the form
    #[arg(value_name = "NAME", required_unless_present_any = ["quick", "short", "full"])]
    pub(crate) names: Vec<String>,
    /// The quick form: no files, a minute or less [default, if the claim has one]
    #[arg(long, conflicts_with_all = ["short", "full"])]
    pub(crate) quick: bool,
    /// The short form: up to 100 minutes, on CIFAR
    #[arg(long, conflicts_with = "full")]
    pub(crate) short: bool,
    /// The source's own training
    #[arg(long)]
    pub(crate) full: bool,
    /// Folder of the CIFAR files
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Images of ImageNet, val/<class>/…
    #[arg(long, value_name = "DIR")]
    pub(crate) imagenet: Option<PathBuf>,
    /// The folder of the run folders
    #[arg(long, short, visible_alias = "out", value_name = "DIR", default_value = "runs", help_heading = OUTPUT)]
    pub(crate) output: PathBuf,
    /// Write the measurements and their pictures as a page
    #[arg(long, value_name = "FILE.html", help_heading = OUTPUT)]
    pub(crate) report: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) threads: Threads,
    #[command(flatten)]
    pub(crate) format: Format,
}

impl Reproduce {
    /// The form of the flags.
    pub(crate) fn form(&self) -> Option<Form> {
        [(self.quick, Form::Quick), (self.short, Form::Short), (self.full, Form::Full)]
            .into_iter()
            .find_map(|(is_wanted, form)| is_wanted.then_some(form))
    }
}
