//! The arguments of `residual search` besides the settings of a recipe.

use super::{Format, OUTPUT, Settings, Threads};
use clap::Args;
use residual::search::{LatencyLimit, Method};
use std::num::NonZeroU16;
use std::path::PathBuf;
use std::time::Duration;

#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  \
    residual search --space cifar-resnet --max-macs 20M --trials 30\n  \
    residual search --space cifar-resnet --data cifar10 --data-dir cifar-10-batches-bin --recipe cifar-fast --epochs 8 --target-latency 2ms@1 --budget 2h -o searches/2ms\n  \
    residual search --space my-space.toml --data photos --max-params 1M --strategy asha --epochs 27 --trials 60\n  \
    residual search --space my-space.toml --data photos --max-macs 100M --strategy supernet --epochs 40 --trials 500\n  \
    residual search --table nasbench201.csv.gz --strategy evolution --trials 300\n\n\
    The same command resumes an interrupted search; several processes may share its folder.")]
pub(crate) struct Search {
    /// The networks to choose from: cifar-resnet, imagenet-resnet, nasbench201, or a TOML file
    #[arg(long, value_name = "NAME|FILE", required_unless_present = "table")]
    pub(crate) space: Option<String>,
    /// Train nothing, but look accuracies up in a table of NAS-Bench-201 (.csv or .csv.gz)
    #[arg(long, value_name = "FILE", conflicts_with_all = ["space", "max_macs", "max_params", "target_latency", "screen", "budget", "finetune_epochs"])]
    pub(crate) table: Option<PathBuf>,
    /// Only networks of at most so many multiply-accumulates, such as 20M
    #[arg(long, value_name = "N", value_parser = number, help_heading = LIMITS)]
    pub(crate) max_macs: Option<u64>,
    /// Only networks of at most so many parameters, such as 300k
    #[arg(long, value_name = "N", value_parser = number, help_heading = LIMITS)]
    pub(crate) max_params: Option<u64>,
    /// Only networks that take at most this long for a batch of so many images on this machine, such as 2ms@1
    #[arg(long, value_name = "TIME@BATCH", help_heading = LIMITS)]
    pub(crate) target_latency: Option<LatencyLimit>,
    /// How networks are chosen: evolution, random or tpe, each trained to the end; asha or hyperband (at random) or tpe-asha: only the
    /// better ones are trained on; supernet: all share the weights of one training, and the best three are fine-tuned
    #[arg(long, value_name = "NAME", default_value = "evolution")]
    pub(crate) strategy: Method,
    /// Of so many proposed networks try the one with the best score of its untrained activations (NASWOT)
    #[arg(long, value_name = "N", default_value = "1", value_parser = super::at_least_one)]
    pub(crate) screen: NonZeroU16,
    /// Epochs for which the best networks of --strategy supernet are fine-tuned, 0 for none [default: a quarter of --epochs]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(..1 << 32))]
    pub(crate) finetune_epochs: Option<u64>,
    /// Number of networks to try [default with --table: 300]
    #[arg(long, value_name = "N")]
    pub(crate) trials: Option<NonZeroU16>,
    /// Time of training in all trials together, such as 90m or 2h
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub(crate) budget: Option<Duration>,
    #[arg(long, value_name = "NAME|FILE", help = super::train::recipes())]
    pub(crate) recipe: Vec<String>,
    /// The folder of the search
    #[arg(long, short, visible_alias = "out", value_name = "DIR", default_value = "search", help_heading = OUTPUT)]
    pub(crate) output: PathBuf,
    #[command(flatten)]
    pub(crate) settings: Settings,
    #[command(flatten)]
    pub(crate) threads: Threads,
    #[command(flatten)]
    pub(crate) format: Format,
}

/// The heading of flags for limits.
const LIMITS: &str = "Limits";

/// A number with a unit of thousands: 300k, 20M, 1.5G.
fn number(text: &str) -> Result<u64, String> {
    let units = [("k", 1e3), ("M", 1e6), ("G", 1e9)];
    let with_unit = units.iter().find_map(|(name, unit)| Some((text.strip_suffix(name)?, *unit)));
    let (digits, unit) = with_unit.unwrap_or((text, 1.0));
    let number = digits.parse().ok().map(|number: f64| (number * unit).round());
    let number = number.filter(|number| *number >= 1.0 && *number <= 1e15);
    number.map(|number| number as u64).ok_or_else(|| "expected a number such as 300000, 300k, 20M or 1.5G".to_owned())
}

/// A time of hours, minutes and seconds: 90s, 60m, 1h30m.
pub(super) fn time(text: &str) -> Result<Duration, String> {
    let fail = || "expected a time such as 90s, 60m or 1h30m".to_owned();
    let (mut rest, mut seconds) = (text, 0u64);
    for (unit, length) in [('h', 3600), ('m', 60), ('s', 1)] {
        if let Some((digits, after)) = rest.split_once(unit) {
            let number: u64 = digits.parse().map_err(|_| fail())?;
            seconds = number.checked_mul(length).and_then(|more| seconds.checked_add(more)).ok_or_else(fail)?;
            rest = after;
        }
    }
    if rest.is_empty() && (1..=3_600_000).contains(&seconds) { Ok(Duration::from_secs(seconds)) } else { Err(fail()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_times_have_units() {
        assert_eq!(["41", "300k", "20M", "1.5G"].map(number), [41, 300_000, 20_000_000, 1_500_000_000].map(Ok));
        assert_eq!(["90s", "60m", "1h30m", "2h"].map(time), [90, 3600, 5400, 7200].map(Duration::from_secs).map(Ok));
        assert!(["", "M", "-1", "0", "nan", "1e30", "20m"].iter().all(|text| number(text).is_err()));
        assert!(["", "60", "m", "30m1h", "1h1h", "0s", "99999999h"].iter().all(|text| time(text).is_err()));
    }
}
