//! Which dimensions of a space decide the score.

use crate::strategy::{by_rank, probabilities};
use crate::{History, Space, Trial};

/// The share of the trials that count as the best.
const BEST: f64 = 0.1;
/// Trials without which nothing is known.
const LEAST: usize = 10;

/// The importance of every dimension, the sum of which is 1: how much the best tenth of the trials, and at least two, differs from all of them in
/// the choices of that dimension alone, by the Pearson divergence of their distributions (PED-ANOVA; Watanabe et al.,
/// arXiv:2304.10255). Trials count by their score after the smallest budget, if they have one. `None` with fewer than ten such scores,
/// or if no dimension differs.
pub(crate) fn importance(space: &dyn Space, history: &History) -> Option<Vec<f64>> {
    let firsts = || history.trials().iter().filter_map(|trial| Some((trial, *trial.scores.first()?)));
    let smallest = firsts().map(|(_, (budget, _))| budget).min()?;
    let scored = firsts().filter(|(_, (budget, _))| *budget == smallest);
    let scored: Vec<Trial> = scored.map(|(trial, score)| Trial { scores: vec![score], ..trial.clone() }).collect();
    if scored.len() < LEAST {
        return None;
    }
    let mut ranked: Vec<&Trial> = scored.iter().collect();
    by_rank(&mut ranked);
    let all = probabilities(&ranked, space);
    ranked.truncate(((ranked.len() as f64 * BEST).ceil() as usize).max(2));
    let best = probabilities(&ranked, space);
    let divergence = |(all, best): (&Vec<f64>, &Vec<f64>)| -> f64 {
        all.iter().zip(best).map(|(all, best)| all * (best / all - 1.0).powi(2)).sum()
    };
    let divergences: Vec<f64> = all.iter().zip(&best).map(divergence).collect();
    let sum: f64 = divergences.iter().sum();
    (sum > 0.0).then(|| divergences.into_iter().map(|divergence| divergence / sum).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Candidate, SearchError};
    use residual_tensor::Stream;

    struct Numbers([usize; 3]);

    impl Space for Numbers {
        fn sizes(&self) -> &[usize] {
            &self.0
        }

        fn identity(&self, candidate: &Candidate) -> Result<Option<String>, SearchError> {
            Ok(Some(format!("{candidate:?}")))
        }

        fn is_ordered(&self, dimension: usize) -> bool {
            dimension < 2
        }
    }

    #[test]
    fn the_dimension_that_decides_the_score_is_the_most_important() {
        let space = Numbers([49, 49, 3]);
        let mut history = History::default();
        assert_eq!(importance(&space, &history), None);
        for number in 0..100 {
            let candidate = crate::space::uniform(space.sizes(), &mut Stream::new(0, &[number]));
            let [a, b, _] = candidate.0[..] else { panic!("three dimensions") };
            let score = -(a as f64 / 48.0 - 0.6).powi(2) - 0.05 * (b as f64 / 48.0 - 0.3).powi(2);
            let trial = history.propose(candidate, number.to_string(), 1);
            history.score(trial, 1, score);
        }
        let importance = importance(&space, &history).unwrap();
        assert!((importance.iter().sum::<f64>() - 1.0).abs() < 1e-12);
        assert!(importance[0] > 0.7 && importance[1] + importance[2] < 0.3, "{importance:?}");
    }
}
