//! What a pruned network may cost, as typed.

use super::Pattern;
use crate::CompressError;
use std::fmt;
use std::str::FromStr;

/// What pruning aims at.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Goal {
    /// Multiply-accumulates.
    Macs(MacsTarget),
    /// The latency on this machine.
    Latency(LatencyTarget),
    /// The latency relative to the original's.
    Speedup(SpeedupTarget),
    /// Zeros among weights, in a network of the same shape.
    Unstructured(Pattern),
}

impl Goal {
    /// Whether channels go, and not single weights.
    pub fn is_structured(&self) -> bool {
        !matches!(self, Self::Unstructured(_))
    }

    /// The batch size whose latency is meant.
    pub fn batch(&self) -> Option<usize> {
        match self {
            Self::Latency(LatencyTarget { batch, .. }) | Self::Speedup(SpeedupTarget { batch, .. }) => Some(*batch),
            Self::Macs(_) | Self::Unstructured(_) => None,
        }
    }
}

impl fmt::Display for Goal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Macs(MacsTarget::Share(share)) => write!(f, "{share} of the multiply-accumulates"),
            Self::Macs(MacsTarget::Count(count)) => write!(f, "{count} multiply-accumulates"),
            Self::Latency(LatencyTarget { milliseconds, batch }) => {
                write!(f, "{milliseconds} ms at batch size {batch}")
            }
            Self::Speedup(SpeedupTarget { factor, batch }) => write!(f, "{factor} times as fast at batch size {batch}"),
            Self::Unstructured(pattern) => write!(f, "zeros among weights, {pattern}"),
        }
    }
}

/// Multiply-accumulates for one image.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum MacsTarget {
    /// A share of the original's, below 1: `0.5`.
    Share(f64),
    /// Their number: `62000000`, `62M`, `1.8G`.
    Count(f64),
}

impl MacsTarget {
    /// Their number for a network that has `macs`.
    pub fn count(self, macs: f64) -> f64 {
        match self {
            Self::Share(share) => share * macs,
            Self::Count(count) => count,
        }
    }
}

impl FromStr for MacsTarget {
    type Err = CompressError;

    fn from_str(text: &str) -> Result<Self, CompressError> {
        let factors = [("K", 1e3), ("M", 1e6), ("G", 1e9)];
        let split = factors.iter().find_map(|(suffix, factor)| Some((text.strip_suffix(suffix)?, *factor)));
        let (number, factor) = split.unwrap_or((text, 1.0));
        let count = positive(number).map(|number| number * factor);
        match count {
            Some(share) if share < 1.0 => Ok(Self::Share(share)),
            Some(count) if count > 1.0 => Ok(Self::Count(count)),
            _ => Err(invalid("target-macs", "a share as 0.5, or a number as 62M", text)),
        }
    }
}

/// The latency of a batch: `5ms@1`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LatencyTarget {
    /// Milliseconds.
    pub milliseconds: f64,
    /// Images in a batch.
    pub batch: usize,
}

impl FromStr for LatencyTarget {
    type Err = CompressError;

    fn from_str(text: &str) -> Result<Self, CompressError> {
        let parse = || {
            let (time, batch) = text.split_once('@')?;
            let (milliseconds, batch) = (positive(time.strip_suffix("ms")?)?, whole(batch)?);
            Some(Self { milliseconds, batch })
        };
        parse().ok_or_else(|| invalid("target-latency", "milliseconds and a batch size as 5ms@1", text))
    }
}

/// How many times as fast as the original in batches of a size: `2x@8`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SpeedupTarget {
    /// More than 1.
    pub factor: f64,
    /// Images in a batch.
    pub batch: usize,
}

impl FromStr for SpeedupTarget {
    type Err = CompressError;

    fn from_str(text: &str) -> Result<Self, CompressError> {
        let parse = || {
            let (factor, batch) = text.split_once('@')?;
            let (factor, batch) = (positive(factor.strip_suffix('x')?)?, whole(batch)?);
            (factor > 1.0).then_some(Self { factor, batch })
        };
        parse().ok_or_else(|| invalid("target-speedup", "a factor above 1 and a batch size as 2x@8", text))
    }
}

fn positive(text: &str) -> Option<f64> {
    text.parse().ok().filter(|number: &f64| number.is_finite() && *number > 0.0)
}

fn whole(text: &str) -> Option<usize> {
    text.parse().ok().filter(|batch| (1..=65_535).contains(batch))
}

fn invalid(what: &'static str, expected: &'static str, got: &str) -> CompressError {
    CompressError::Setting { what, expected, got: got.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_read_with_their_units_and_nothing_else() {
        assert_eq!("0.5".parse::<MacsTarget>().unwrap(), MacsTarget::Share(0.5));
        assert_eq!("62M".parse::<MacsTarget>().unwrap(), MacsTarget::Count(62e6));
        assert_eq!("1.5G".parse::<MacsTarget>().unwrap().count(9e9), 1.5e9);
        assert_eq!("2.5ms@8".parse::<LatencyTarget>().unwrap(), LatencyTarget { milliseconds: 2.5, batch: 8 });
        assert_eq!("1.5x@1".parse::<SpeedupTarget>().unwrap(), SpeedupTarget { factor: 1.5, batch: 1 });
        for text in ["", "1", "-1", "0", "nan", "inf", "5X", "M"] {
            assert!(text.parse::<MacsTarget>().is_err(), "{text}");
        }
        for text in ["5@1", "5ms", "0ms@1", "5ms@0", "5ms@", "5s@1"] {
            let error = text.parse::<LatencyTarget>().unwrap_err().to_string();
            assert!(
                error.starts_with("target-latency: expected ") && error.ends_with(&format!("got \"{text}\"")),
                "{error}"
            );
        }
        for text in ["2@8", "1x@8", "0.5x@8", "2x@-1", "2x"] {
            assert!(text.parse::<SpeedupTarget>().is_err(), "{text}");
        }
    }
}
