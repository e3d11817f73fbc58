//! The arguments of `residual doctor`.

use super::{Download, Format, OUTPUT, Threads};
use clap::Args;
use residual::doctor::Check;
use std::path::PathBuf;

#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  \
    residual doctor photos\n  \
    residual doctor photos --weights torchvision:resnet18.v1 -o doctor.html\n  \
    residual doctor cifar10 --data-dir cifar-10-batches-bin --skip labels\n  \
    residual doctor photos --checks unreadable,leakage --json\n  \
    residual doctor photos --fix quarantine\n  \
    residual doctor --undo photos-quarantine\n\n\
    Exit codes:\n  0    nothing that makes training wrong\n  1    an error was found: unreadable files, contradictory labels, test images among the\n       training images, classes that differ; or the data cannot be examined")]
pub(crate) struct Doctor {
    /// The dataset: a named one (residual data list), a folder, a list, shards or a file of arrays
    #[arg(value_name = "DATA", required_unless_present = "undo")]
    pub(crate) data: Option<String>,
    /// Folder of the files of a named dataset
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Only these checks: unreadable, classes, leakage, duplicates, labels, … (docs/doctor.md)
    #[arg(long, value_name = "CHECK,…", value_delimiter = ',', conflicts_with = "skip")]
    pub(crate) checks: Vec<Check>,
    /// All checks but these
    #[arg(long, value_name = "CHECK,…", value_delimiter = ',')]
    pub(crate) skip: Vec<Check>,
    /// The limit of a check: near-duplicates=N or near-leakage=N bits, imbalance=RATIO, or aspect, blurry, dark, light or flat=0…1
    #[arg(long, value_name = "CHECK=VALUE", value_parser = threshold)]
    pub(crate) threshold: Vec<(Check, f32)>,
    /// Judge labels and near duplicates by the features of a network: a checkpoint, a run folder, a state dict or a name
    #[arg(long, value_name = "FILE|RUN|NAME")]
    pub(crate) weights: Option<PathBuf>,
    /// The network of a bare state dict: a name, or a TOML file that describes it
    #[arg(long, value_name = "NAME|FILE", requires = "weights")]
    pub(crate) model: Option<String>,
    #[command(flatten)]
    pub(crate) download: Download,
    /// The random seed of the probes' folds and filters, and of the sample of images where there are too many: labels are judged of up to
    /// 50,000 training images, of many classes or features fewer, and shortcuts of up to 20,000
    #[arg(long, value_name = "N", default_value = "0")]
    pub(crate) seed: u64,
    /// Move files at fault to a new folder beside the dataset's, from where --undo moves them back
    #[arg(long, value_name = "HOW", value_enum, help_heading = FIX)]
    pub(crate) fix: Option<Fix>,
    /// The checks whose images are moved [default: unreadable,contradictory,leakage,duplicates]
    #[arg(long, value_name = "CHECK,…", value_delimiter = ',', requires = "fix", help_heading = FIX)]
    pub(crate) fix_kinds: Vec<Check>,
    /// The folder that files are moved to [default: DATA-quarantine beside DATA]
    #[arg(long, value_name = "DIR", requires = "fix", help_heading = FIX)]
    pub(crate) quarantine: Option<PathBuf>,
    /// Move the files of a quarantine back
    #[arg(long, value_name = "DIR", exclusive = true, help_heading = FIX)]
    pub(crate) undo: Option<PathBuf>,
    /// Write a page with the findings and their images
    #[arg(long = "output", short, visible_aliases = ["out", "report"], value_name = "FILE.html", help_heading = OUTPUT)]
    pub(crate) output: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) threads: Threads,
    #[command(flatten)]
    pub(crate) format: Format,
}

/// The heading of flags that change the dataset.
const FIX: &str = "Fix";

/// What is done about files at fault.
#[derive(clap::ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fix {
    Quarantine,
}

fn threshold(text: &str) -> Result<(Check, f32), String> {
    let (check, value) = text.split_once('=').ok_or("expected CHECK=VALUE, such as dark=0.4")?;
    let value = value.parse().map_err(|_| format!("expected a number, got \"{value}\""))?;
    Ok((check.parse()?, value))
}
