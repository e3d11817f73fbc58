//! The arguments of `residual tune` besides the settings of a recipe.

use super::{Format, OUTPUT, Settings, Threads};
use clap::Args;
use residual::search::Method;
use std::num::NonZeroU16;
use std::path::PathBuf;
use std::time::Duration;

#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  \
    residual tune --space \"lr=log(1e-3,1),weight_decay=log(1e-5,1e-2)\" --recipe shapes-quick --trials 20\n  \
    residual tune --space \"lr=log(0.01,1),sched=choose(cosine,linear),mixup=uniform(0,0.4)\" --data cifar10 --data-dir cifar-10-batches-bin --recipe cifar-quick --budget 2h -o tunings/quick\n  \
    residual tune --space my-space.toml --data photos --recipe finetune --model resnet18 --trials 40 --strategy random\n\n\
    A space has settings of residual train, each as log(LOW,HIGH) or uniform(LOW,HIGH) for numbers, or choose(A,B,…). In a shell it needs quotes.\n\
    The same command resumes an interrupted search; several processes may share its folder.")]
pub(crate) struct Tune {
    /// The settings to choose and their values, such as lr=log(1e-3,1), or a TOML file; may be given several times
    #[arg(long, value_name = "NAME=VALUES,…|FILE", required = true)]
    pub(crate) space: Vec<String>,
    /// How settings are chosen: tpe, evolution or random, each trained to the end; tpe-asha, asha (at random) or hyperband: only the
    /// better ones are trained on
    #[arg(long, value_name = "NAME", default_value = "tpe-asha")]
    pub(crate) strategy: Method,
    /// Number of settings to try
    #[arg(long, value_name = "N")]
    pub(crate) trials: Option<NonZeroU16>,
    /// Time of training in all trials together, such as 90m or 2h
    #[arg(long, value_name = "TIME", value_parser = super::search::time)]
    pub(crate) budget: Option<Duration>,
    #[arg(long, value_name = "NAME|FILE", help = super::train::recipes())]
    pub(crate) recipe: Vec<String>,
    /// The folder of the search
    #[arg(long, short, visible_alias = "out", value_name = "DIR", default_value = "tuning", help_heading = OUTPUT)]
    pub(crate) output: PathBuf,
    #[command(flatten)]
    pub(crate) settings: Settings,
    #[command(flatten)]
    pub(crate) threads: Threads,
    #[command(flatten)]
    pub(crate) format: Format,
}
