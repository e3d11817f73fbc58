//! The tree-structured Parzen estimator (Bergstra et al., "Algorithms for hyper-parameter optimization", 2011) over
//! choices: candidates are drawn from the choices of the best trials, and the one is tried that is the most likely among them
//! compared with the other trials.

use super::Strategy;
use crate::space::{first_new, uniform};
use crate::{Candidate, History, SearchError, Space, Trial};
use residual_tensor::Stream;

/// A tree-structured Parzen estimator with independent dimensions.
#[derive(Clone, Copy, Debug)]
pub struct Tpe {
    /// The number of random candidates at the beginning.
    pub initial: usize,
    /// The share of the trials that count as the best.
    pub best: f64,
    /// The number of candidates that are drawn and compared.
    pub drawn: usize,
}

impl Default for Tpe {
    fn default() -> Self {
        Self { initial: 10, best: 0.1, drawn: 24 }
    }
}

/// For every dimension, the probability of each of its choices among `trials`, each choice counted once more in all.
fn probabilities(trials: &[&Trial], sizes: &[usize]) -> Vec<Vec<f64>> {
    let of_dimension = |(dimension, &size): (usize, &usize)| {
        let mut counts = vec![1.0 / size as f64; size];
        trials.iter().for_each(|trial| counts[trial.candidate.0[dimension]] += 1.0);
        let total = trials.len() as f64 + 1.0;
        counts.into_iter().map(|count| count / total).collect()
    };
    sizes.iter().enumerate().map(of_dimension).collect()
}

/// A candidate with a choice of these probabilities in every dimension.
fn draw(probabilities: &[Vec<f64>], random: &mut Stream) -> Candidate {
    let choose = |probabilities: &Vec<f64>| {
        let mut left = f64::from(random.uniform());
        let last = probabilities.len() - 1;
        probabilities[..last]
            .iter()
            .position(|probability| {
                left -= probability;
                left < 0.0
            })
            .unwrap_or(last)
    };
    Candidate(probabilities.iter().map(choose).collect())
}

impl Strategy for Tpe {
    fn propose(
        &self,
        space: &dyn Space,
        history: &History,
        random: &mut Stream,
    ) -> Result<Option<Candidate>, SearchError> {
        let mut scored: Vec<&Trial> = history.trials().iter().filter(|trial| trial.score().is_some()).collect();
        if history.trials().len() < self.initial || scored.is_empty() {
            return first_new(space, history, |_| uniform(space, random));
        }
        scored.sort_by(|a, b| b.score().partial_cmp(&a.score()).expect("scores are numbers"));
        let best = ((scored.len() as f64 * self.best).ceil() as usize).clamp(1, scored.len());
        let (good, rest) = scored.split_at(best);
        let [good, rest] = [good, rest].map(|trials| probabilities(trials, space.sizes()));
        let gain = |candidate: &Candidate| -> f64 {
            let choices = candidate.0.iter().enumerate();
            choices.map(|(dimension, &choice)| (good[dimension][choice] / rest[dimension][choice]).ln()).sum()
        };
        let mut drawn: Vec<Candidate> = (0..self.drawn).map(|_| draw(&good, random)).collect();
        // From the best to the worst, and others if they were all tried.
        drawn.sort_by(|a, b| gain(a).total_cmp(&gain(b)));
        let mut wide = 0;
        first_new(space, history, |_| {
            drawn.pop().unwrap_or_else(|| {
                wide += 1;
                if wide <= self.drawn { draw(&good, random) } else { uniform(space, random) }
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By hand: of three trials with choices 0, 0 and 2 of three, each choice counted a third time more.
    #[test]
    fn probabilities_are_shares_with_a_prior() {
        let trial = |choice| Trial {
            candidate: Candidate(vec![choice]),
            identity: String::new(),
            budget: 1,
            scores: Vec::new(),
            failed: false,
        };
        let trials = [trial(0), trial(0), trial(2)];
        let probabilities = probabilities(&trials.iter().collect::<Vec<_>>(), &[3]);
        let expected = [7.0 / 12.0, 1.0 / 12.0, 4.0 / 12.0];
        assert!(probabilities[0].iter().zip(expected).all(|(got, expected)| (got - expected).abs() < 1e-12));
        let mut counts = [0; 3];
        for number in 0..12_000 {
            counts[draw(&probabilities, &mut Stream::new(1, &[number])).0[0]] += 1;
        }
        let close =
            counts.iter().zip(expected).all(|(&got, expected)| (f64::from(got) / 12_000.0 - expected).abs() < 0.02);
        assert!(close, "{counts:?}");
    }
}
