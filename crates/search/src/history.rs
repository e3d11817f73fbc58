//! The trials of a search.

use crate::Candidate;
use std::collections::HashSet;

/// A trial: a candidate, and its scores so far.
#[derive(Clone, Debug, PartialEq)]
pub struct Trial {
    /// The candidate.
    pub candidate: Candidate,
    /// Its identity in the space.
    pub identity: String,
    /// The budget that it was given, in the search's unit.
    pub budget: u64,
    /// Budgets that it has spent, in rising order, and its score after each; higher is better.
    pub scores: Vec<(u64, f64)>,
    /// Whether it failed, and gets no more scores.
    pub failed: bool,
}

impl Trial {
    /// The score after the largest budget so far.
    pub fn score(&self) -> Option<f64> {
        self.scores.last().map(|&(_, score)| score)
    }

    /// Whether it has yet to spend its budget.
    pub fn is_running(&self) -> bool {
        !self.failed && self.scores.last().is_none_or(|&(spent, _)| spent < self.budget)
    }
}

/// All trials of a search, in the order of their proposal.
#[derive(Clone, Debug, Default)]
pub struct History {
    trials: Vec<Trial>,
    tried: HashSet<String>,
}

impl History {
    /// The trials; their place is their number.
    pub fn trials(&self) -> &[Trial] {
        &self.trials
    }

    /// Whether a network of this identity was proposed.
    pub fn has_tried(&self, identity: &str) -> bool {
        self.tried.contains(identity)
    }

    /// Adds a trial that is to spend `budget`, and returns its number.
    pub fn propose(&mut self, candidate: Candidate, identity: String, budget: u64) -> usize {
        self.tried.insert(identity.clone());
        self.trials.push(Trial { candidate, identity, budget, scores: Vec::new(), failed: false });
        self.trials.len() - 1
    }

    /// Gives a trial more budget.
    ///
    /// # Panics
    /// If there is no such trial.
    pub fn promote(&mut self, trial: usize, budget: u64) {
        self.trials[trial].budget = budget;
    }

    /// Records the score of a trial after `budget`. A score that is not a number is a failure.
    ///
    /// # Panics
    /// If there is no such trial.
    pub fn score(&mut self, trial: usize, budget: u64, score: f64) {
        if score.is_nan() {
            return self.fail(trial);
        }
        let trial = &mut self.trials[trial];
        if trial.scores.last().is_none_or(|&(spent, _)| spent < budget) {
            trial.scores.push((budget, score));
        }
    }

    /// Records that a trial failed.
    ///
    /// # Panics
    /// If there is no such trial.
    pub fn fail(&mut self, trial: usize) {
        self.trials[trial].failed = true;
    }

    /// The number of the best trial: of those that spent the largest budget, the first with the highest score. `None` before
    /// the first score.
    pub fn best(&self) -> Option<usize> {
        let mut best: Option<(usize, (u64, f64))> = None;
        for (number, trial) in self.trials.iter().enumerate() {
            let Some(&last) = trial.scores.last() else { continue };
            if best.is_none_or(|(_, (budget, score))| last.0 > budget || (last.0 == budget && last.1 > score)) {
                best = Some((number, last));
            }
        }
        best.map(|(number, _)| number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_trial_is_the_first_of_the_highest_score_at_the_largest_budget() {
        let mut history = History::default();
        assert_eq!(history.best(), None);
        for identity in ["a", "b", "c", "d"] {
            history.propose(Candidate(vec![0]), identity.into(), 1);
        }
        for (trial, score) in [(0, 0.5), (1, 0.9), (2, 0.7), (3, f64::NAN)] {
            history.score(trial, 1, score);
        }
        assert_eq!(history.best(), Some(1));
        for (trial, score) in [(0, 0.6), (2, 0.6)] {
            history.promote(trial, 3);
            assert!(history.trials()[trial].is_running());
            history.score(trial, 3, score);
            // A score that was recorded already.
            history.score(trial, 1, 1.0);
        }
        assert_eq!(history.best(), Some(0));
        assert!(history.trials()[3].failed && !history.trials()[3].is_running());
        assert!(history.has_tried("d") && !history.has_tried("e"));
    }
}
