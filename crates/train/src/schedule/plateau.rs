//! The reduction of the learning rate when evaluations no longer improve, as torch's `ReduceLROnPlateau`.

use serde::{Deserialize, Serialize};

/// The relative improvement of a metric that counts, torch's default.
const THRESHOLD: f64 = 1e-4;
/// The least reduction of a rate that is made, torch's default.
const LEAST_REDUCTION: f64 = 1e-8;

/// The hyperparameters of a plateau schedule.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Rule {
    /// The factor of a reduction.
    pub(super) gamma: f64,
    /// The least rate.
    pub(super) least: f64,
    /// Evaluations without improvement that are waited for; the next one reduces the rate.
    pub(super) patience: u64,
}

/// What a plateau schedule has observed, a part of the training state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plateau {
    /// The best metric so far.
    best: Option<f64>,
    /// Evaluations since it.
    bad_evaluations: u64,
    /// The rate after the last reduction.
    pub(super) lr: Option<f64>,
}

impl Plateau {
    pub(super) fn observe(&mut self, rule: &Rule, peak: f64, metric: f64, higher: bool) {
        let is_better = |best: f64| {
            if higher { metric > best * (1.0 + THRESHOLD) } else { metric < best * (1.0 - THRESHOLD) }
        };
        if self.best.is_none_or(is_better) {
            self.best = Some(metric).filter(|metric| metric.is_finite());
            self.bad_evaluations = 0;
        } else {
            self.bad_evaluations += 1;
        }
        if self.bad_evaluations > rule.patience {
            self.bad_evaluations = 0;
            let lr = self.lr.unwrap_or(peak);
            let reduced = (lr * rule.gamma).max(rule.least);
            if lr - reduced > LEAST_REDUCTION {
                self.lr = Some(reduced);
            }
        }
    }
}
