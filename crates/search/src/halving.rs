//! Successive halving: every trial gets a small budget, and the best of them more and more.

use crate::{History, Trial};

/// Asynchronous successive halving (ASHA; Li et al., arXiv:1810.05934), in one or several brackets (Hyperband; Li et al.,
/// arXiv:1603.06560).
///
/// A trial of bracket s begins with η^s times the smallest budget. Whenever one of the best 1/η of the trials that have
/// spent a budget has not been given the next larger one, η times as much, it is given it; else a new trial begins. Budgets
/// are whole numbers of any unit, such as epochs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Halving {
    /// The smallest budget.
    min: u64,
    /// The largest.
    max: u64,
    /// How much larger each budget is than the one before.
    eta: u64,
    /// The number of brackets.
    brackets: u32,
}

/// What is done next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// A new trial, with this budget.
    New {
        /// Its budget.
        budget: u64,
    },
    /// More budget for a trial.
    Promote {
        /// The trial's number.
        trial: usize,
        /// Its budget from now on.
        budget: u64,
    },
}

impl Halving {
    /// Every trial gets the same budget.
    pub(crate) fn none(budget: u64) -> Self {
        Self { min: budget, max: budget, eta: 2, brackets: 1 }
    }

    /// ASHA: one bracket that begins with `min`. `None` unless 1 ≤ `min` ≤ `max` and `eta` ≥ 2.
    pub(crate) fn asha(min: u64, max: u64, eta: u64) -> Option<Self> {
        (1 <= min && min <= max && eta >= 2).then_some(Self { min, max, eta, brackets: 1 })
    }

    /// Hyperband: as many brackets as there are budgets. `None` as [`Halving::asha`].
    pub(crate) fn hyperband(min: u64, max: u64, eta: u64) -> Option<Self> {
        let one = Self::asha(min, max, eta)?;
        Some(Self { brackets: one.budgets(0).len() as u32, ..one })
    }

    /// The budgets of a bracket, from the first to `max`.
    fn budgets(&self, bracket: u32) -> Vec<u64> {
        let mut budgets = Vec::new();
        let mut budget = self.eta.saturating_pow(bracket).saturating_mul(self.min);
        while budget < self.max {
            budgets.push(budget);
            budget = budget.saturating_mul(self.eta);
        }
        budgets.push(self.max);
        budgets
    }

    /// The number of trials of each bracket that begin before the brackets take turns again, as in Hyperband's first
    /// algorithm.
    fn sizes(&self) -> Vec<u64> {
        let all = u64::from(self.brackets);
        let size = |bracket: u64| {
            let promotions = all - bracket - 1;
            (all / (promotions + 1)).max(1) * self.eta.saturating_pow(promotions as u32)
        };
        (0..all).map(size).collect()
    }

    /// The bracket of the trial of this number.
    fn bracket(&self, trial: usize) -> u32 {
        let sizes = self.sizes();
        let total = sizes.iter().fold(0u64, |sum, &size| sum.saturating_add(size));
        let mut place = trial as u64 % total;
        for (bracket, &size) in sizes.iter().enumerate() {
            if place < size {
                return bracket as u32;
            }
            place -= size;
        }
        unreachable!("a place is within all brackets together")
    }

    /// What follows the trials so far.
    pub(crate) fn next(&self, history: &History) -> Next {
        for bracket in 0..self.brackets {
            let budgets = self.budgets(bracket);
            // From the largest budget down, so that the most promising trials go on first.
            for (&budget, &more) in budgets.iter().zip(&budgets[1..]).rev() {
                if let Some(trial) = self.promotable(history, bracket, budget) {
                    return Next::Promote { trial, budget: more };
                }
            }
        }
        let bracket = self.bracket(history.trials().len());
        Next::New { budget: self.budgets(bracket)[0] }
    }

    /// The best trial of a bracket that has spent `budget`, was given no more, and is among the best 1/η of those that have
    /// spent it.
    fn promotable(&self, history: &History, bracket: u32, budget: u64) -> Option<usize> {
        let spent = |trial: &Trial| trial.scores.iter().find(|(spent, _)| *spent == budget).map(|&(_, score)| score);
        let of_bracket = history.trials().iter().enumerate().filter(|(number, _)| self.bracket(*number) == bracket);
        let mut scored: Vec<(usize, f64)> =
            of_bracket.filter_map(|(number, trial)| Some((number, spent(trial)?))).collect();
        scored.sort_by(|a, b| b.1.total_cmp(&a.1));
        scored.truncate(scored.len() / self.eta as usize);
        let waits = |&number: &usize| {
            let trial = &history.trials()[number];
            trial.budget == budget && !trial.failed
        };
        scored.into_iter().map(|(number, _)| number).find(waits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Candidate;

    /// Table 1 of Hyperband's paper, for budgets of up to 81 and η = 3.
    #[test]
    fn brackets_are_hyperbands() {
        let halving = Halving::hyperband(1, 81, 3).unwrap();
        assert_eq!(halving.sizes(), [81, 27, 9, 6, 5]);
        let budgets: Vec<Vec<u64>> = (0..5).map(|bracket| halving.budgets(bracket)).collect();
        assert_eq!(budgets, [vec![1, 3, 9, 27, 81], vec![3, 9, 27, 81], vec![9, 27, 81], vec![27, 81], vec![81]]);
        assert_eq!([0, 80, 81, 107, 108, 127, 128].map(|trial| halving.bracket(trial)), [0, 0, 1, 1, 2, 4, 0]);
        assert_eq!(Halving::asha(2, 9, 3).unwrap().budgets(0), [2, 6, 9]);
        assert_eq!([Halving::asha(0, 9, 3), Halving::asha(4, 3, 3), Halving::asha(1, 3, 1)], [None; 3]);
    }

    /// Runs `count` jobs one after another; a trial's score is its number's place in `order`.
    fn run(halving: &Halving, count: usize, score: impl Fn(usize) -> f64) -> (History, Vec<Next>) {
        let (mut history, mut jobs) = (History::default(), Vec::new());
        for _ in 0..count {
            let next = halving.next(&history);
            let (trial, budget) = match next {
                Next::New { budget } => {
                    let number = history.trials().len();
                    (history.propose(Candidate(vec![number]), number.to_string(), budget), budget)
                }
                Next::Promote { trial, budget } => {
                    history.promote(trial, budget);
                    (trial, budget)
                }
            };
            history.score(trial, budget, score(trial));
            jobs.push(next);
        }
        (history, jobs)
    }

    /// By hand, after the second algorithm of ASHA's paper, with scores that fall from trial to trial.
    #[test]
    fn the_best_third_is_promoted_as_soon_as_it_is_known() {
        let (_, jobs) = run(&Halving::asha(1, 9, 3).unwrap(), 13, |trial| -(trial as f64));
        let new = Next::New { budget: 1 };
        let more = |trial, budget| Next::Promote { trial, budget };
        let expected = [new, new, new, more(0, 3), new, new, new, more(1, 3), new, new, new, more(2, 3), more(0, 9)];
        assert_eq!(jobs, expected);
    }

    /// Against a search that gives all trials the full budget: as many trials at the largest budget cost a fraction.
    #[test]
    fn budgets_are_spent_on_the_best_trials() {
        let quality = |trial: usize| ((trial * 7919) % 101) as f64;
        let (history, _) = run(&Halving::asha(1, 27, 3).unwrap(), 200, quality);
        let full: Vec<f64> = history
            .trials()
            .iter()
            .enumerate()
            .filter(|(_, trial)| trial.budget == 27)
            .map(|(at, _)| quality(at))
            .collect();
        assert!(full.len() >= 3 && full.iter().all(|&quality| quality > 80.0), "{full:?}");
        let best = (0..history.trials().len()).max_by(|&a, &b| quality(a).total_cmp(&quality(b))).unwrap();
        assert_eq!(history.best(), Some(best));
        let spent: u64 = history.trials().iter().map(|trial| trial.budget).sum();
        assert!(spent < 27 * history.trials().len() as u64 / 5, "{spent}");
    }

    #[test]
    fn without_halving_every_trial_has_the_whole_budget_and_failed_ones_get_no_more() {
        let (history, jobs) = run(&Halving::none(5), 10, |trial| trial as f64);
        assert!(jobs.iter().all(|job| *job == Next::New { budget: 5 }));
        assert_eq!(history.trials().len(), 10);

        let halving = Halving::asha(1, 3, 3).unwrap();
        let (mut history, _) = run(&halving, 3, |trial| trial as f64);
        assert_eq!(halving.next(&history), Next::Promote { trial: 2, budget: 3 });
        history.fail(2);
        assert_eq!(halving.next(&history), Next::New { budget: 1 });
    }
}
