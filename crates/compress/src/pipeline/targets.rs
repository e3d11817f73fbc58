//! How much is pruned.

use super::{Budget, Point};
use crate::{CompressError, Goal, MacsTarget, SpeedupTarget};
use serde::{Deserialize, Serialize};
use std::fmt;

/// The size of a pruned network.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum PruningTarget {
    /// So many times as fast as the original, in batches of a size.
    Speedup {
        /// Above 1.
        factor: f64,
        /// Images in a batch.
        batch: usize,
    },
    /// This share of the original's multiply-accumulates.
    Macs(f64),
}

impl PruningTarget {
    /// What pruning aims at.
    pub(super) fn goal(self) -> Goal {
        match self {
            Self::Speedup { factor, batch } => Goal::Speedup(SpeedupTarget { factor, batch }),
            Self::Macs(share) => Goal::Macs(MacsTarget::Share(share)),
        }
    }

    /// Whether a network is about as small already.
    pub(super) fn is_met(self, point: &Point, original: &Point) -> bool {
        match self {
            Self::Speedup { factor, batch } => {
                point.latency_ms(batch, original) <= original.latency_ms(batch, original) / (0.97 * factor)
            }
            Self::Macs(share) => point.outcome.macs as f64 <= share * original.outcome.macs as f64,
        }
    }
}

impl fmt::Display for PruningTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Speedup { factor, .. } => write!(f, "{factor}x"),
            Self::Macs(share) => write!(f, "to {share} MACs"),
        }
    }
}

/// The sizes that were asked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PruningTargets {
    /// 1.5, 2 and 3 times as fast, and with a limit of the latency as fast as it asks for.
    Usual,
    /// So many times as fast.
    Speedups(Vec<f64>),
    /// These shares of the multiply-accumulates.
    Macs(Vec<f64>),
}

/// Factors that are tried unless others are given.
const USUAL: [f64; 3] = [1.5, 2.0, 3.0];
/// How near a factor may be to another one.
const NEAR: f64 = 1.05;

impl PruningTargets {
    /// Checks the numbers.
    ///
    /// # Errors
    /// [`CompressError::Setting`] with one that is none.
    pub fn check(&self) -> Result<(), CompressError> {
        let (what, expected, numbers, is_valid): (_, _, &[f64], fn(f64) -> bool) = match self {
            Self::Usual => return Ok(()),
            Self::Speedups(factors) => {
                ("speedups", "factors above 1, as 1.5,2,3", factors, |factor| factor > 1.0 && factor.is_finite())
            }
            Self::Macs(shares) => ("macs", "shares below 1, as 0.7,0.5", shares, |share| share > 0.0 && share < 1.0),
        };
        match numbers.iter().find(|number| !is_valid(**number)) {
            Some(number) => Err(CompressError::Setting { what, expected, got: number.to_string() }),
            None => Ok(()),
        }
    }

    /// The sizes for this budget, from the largest network to the smallest.
    pub(super) fn resolve(&self, budget: &Budget, original: &Point) -> Vec<PruningTarget> {
        let batch = budget.batch();
        let speedups = |mut factors: Vec<f64>| {
            factors.sort_by(f64::total_cmp);
            factors.into_iter().map(|factor| PruningTarget::Speedup { factor, batch }).collect()
        };
        match self {
            Self::Usual => speedups(USUAL.into_iter().chain(limit(budget, original)).collect()),
            Self::Speedups(factors) => speedups(factors.clone()),
            Self::Macs(shares) => {
                let mut shares = shares.clone();
                shares.sort_by(|a, b| b.total_cmp(a));
                shares.into_iter().map(PruningTarget::Macs).collect()
            }
        }
    }
}

/// The factor that meets the limit of the latency with a margin for pruning, which meets a latency within 3 %; `None` if there is no
/// such limit, or one of the usual factors is near.
fn limit(budget: &Budget, original: &Point) -> Option<f64> {
    let latency = budget.latency?;
    let factor = original.latency_ms(latency.batch, original) / (0.97 * latency.milliseconds);
    let factor = (100.0 * factor).ceil() / 100.0;
    let is_near = |usual: &f64| (factor / usual).max(usual / factor) < NEAR;
    (factor >= NEAR && factor.is_finite() && !USUAL.iter().any(is_near)).then_some(factor)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{LatencyChange, Outcome};

    fn original(ms: f64) -> Point {
        let change = LatencyChange { before_ms: ms, after_ms: ms, ratio: 1.0, interval: [1.0; 2] };
        let outcome = Outcome {
            file: String::new(),
            images: 0,
            top1_before: None,
            top1: None,
            interval: None,
            parameters: 0,
            macs: 1000,
            bytes: 0,
            latency: [(1, change)].into(),
        };
        Point { name: "original".into(), image_size: [32; 2], outcome }
    }

    #[test]
    fn a_limit_of_the_latency_is_among_the_sizes_unless_one_is_near() {
        let factors = |budget: &str, ms: f64| -> Vec<f64> {
            let sizes = PruningTargets::Usual.resolve(&budget.parse().unwrap(), &original(ms));
            let factor = |size: &PruningTarget| match size {
                PruningTarget::Speedup { factor, batch: 1 } => *factor,
                other => panic!("{other:?}"),
            };
            sizes.iter().map(factor).collect()
        };
        assert_eq!(factors("drop<=1", 4.0), [1.5, 2.0, 3.0]);
        // 4 / (0.97 · 1.6) = 2.577…
        assert_eq!(factors("latency<=1.6ms@1", 4.0), [1.5, 2.0, 2.58, 3.0]);
        assert_eq!(factors("latency<=2ms@1", 4.0), [1.5, 2.0, 3.0]);
        assert_eq!(factors("latency<=5ms@1", 4.0), [1.5, 2.0, 3.0]);
    }

    #[test]
    fn sizes_go_from_the_largest_network_to_the_smallest_and_are_checked() {
        let of = |sizes: PruningTargets| sizes.resolve(&Budget::default(), &original(4.0));
        assert_eq!(of(PruningTargets::Macs(vec![0.3, 0.6])), [PruningTarget::Macs(0.6), PruningTarget::Macs(0.3)]);
        let factors: Vec<String> =
            of(PruningTargets::Speedups(vec![2.0, 1.25])).iter().map(PruningTarget::to_string).collect();
        assert_eq!(factors, ["1.25x", "2x"]);
        assert!(PruningTarget::Macs(0.5).is_met(
            &original(4.0),
            &Point { outcome: Outcome { macs: 2000, ..original(4.0).outcome }, ..original(4.0) }
        ));
        assert!(!PruningTarget::Macs(0.5).is_met(&original(4.0), &original(4.0)));
        let error = PruningTargets::Speedups(vec![2.0, 1.0]).check().unwrap_err().to_string();
        assert_eq!(error, "speedups: expected factors above 1, as 1.5,2,3, got \"1\"");
        assert!(PruningTargets::Macs(vec![1.0]).check().is_err() && PruningTargets::Usual.check().is_ok());
    }
}
