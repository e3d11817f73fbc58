//! Regularised evolution (Real et al., "Regularized evolution for image classifier architecture search",
//! arXiv:1802.01548): the best of a few members of the population gets a child that differs in one choice, and the oldest
//! member dies.

use super::Strategy;
use crate::space::{first_new, uniform};
use crate::{Candidate, History, SearchError, Space, Trial};
use residual_tensor::Stream;

/// Regularised evolution without repeats: a child whose network was tried, or that is beyond a limit, is drawn anew. On
/// NAS-Bench-201 that gains as much as three times the number of trials.
#[derive(Clone, Copy, Debug)]
pub struct Evolution {
    /// The number of living members: the last trials with a score.
    pub population: usize,
    /// The number of members among which a parent is the best.
    pub sample: usize,
    /// The number of random candidates at the beginning.
    pub initial: usize,
}

impl Default for Evolution {
    fn default() -> Self {
        Self { population: 20, sample: 10, initial: 20 }
    }
}

/// Children of one parent before another parent is drawn, and parents before one more choice is changed.
const CHILDREN: usize = 20;
const PARENTS: usize = 10;

impl Evolution {
    /// The population and initial candidates that suit a search of so many trials.
    pub fn for_trials(trials: usize) -> Self {
        Self { initial: (trials / 3).clamp(5, 20), ..Self::default() }
    }

    /// The best of `sample` members by their first scores, as only the best get others; the younger one of two equals.
    fn parent<'a>(&self, population: &[&'a Trial], random: &mut Stream) -> &'a Candidate {
        let mut members: Vec<usize> = (0..population.len()).collect();
        random.shuffle(&mut members);
        members.truncate(self.sample.max(1));
        let first = |trial: &Trial| trial.scores.first().map_or(f64::NEG_INFINITY, |&(_, score)| score);
        let score = |&member: &usize| (first(population[member]), member);
        let best = members.into_iter().max_by(|a, b| score(a).partial_cmp(&score(b)).expect("scores are numbers"));
        &population[best.expect("a population has members")].candidate
    }
}

/// `parent` with another choice in `count` dimensions that have others.
fn child(parent: &Candidate, sizes: &[usize], count: usize, random: &mut Stream) -> Candidate {
    let mut dimensions: Vec<usize> = (0..sizes.len()).filter(|&dimension| sizes[dimension] > 1).collect();
    random.shuffle(&mut dimensions);
    let mut choices = parent.0.clone();
    for &dimension in dimensions.iter().take(count) {
        let other = random.below(sizes[dimension] as u32 - 1) as usize;
        choices[dimension] = if other < choices[dimension] { other } else { other + 1 };
    }
    Candidate(choices)
}

impl Strategy for Evolution {
    fn propose(
        &self,
        space: &dyn Space,
        history: &History,
        random: &mut Stream,
    ) -> Result<Option<Candidate>, SearchError> {
        let scored: Vec<&Trial> = history.trials().iter().filter(|trial| trial.score().is_some()).collect();
        if history.trials().len() < self.initial || scored.is_empty() {
            return first_new(space, history, |_| uniform(space.sizes(), random));
        }
        let population = &scored[scored.len().saturating_sub(self.population.max(1))..];
        let mut parent = self.parent(population, random);
        first_new(space, history, |draw| {
            if draw > 0 && draw % CHILDREN == 0 {
                parent = self.parent(population, random);
            }
            child(parent, space.sizes(), 1 + draw / (CHILDREN * PARENTS), random)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Candidates with an odd sum are no members, and `[a, b]` is the same as `[b, a]`.
    struct Pairs([usize; 2]);

    impl Space for Pairs {
        fn sizes(&self) -> &[usize] {
            &self.0
        }

        fn identity(&self, candidate: &Candidate) -> Result<Option<String>, SearchError> {
            let [a, b] = candidate.0[..] else { panic!("two dimensions") };
            Ok((a + b).is_multiple_of(2).then(|| format!("{} {}", a.min(b), a.max(b))))
        }
    }

    /// By hand: of 36 pairs 18 have an even sum, 6 of them two equal numbers, so (18 + 6) / 2 are different.
    #[test]
    fn every_member_is_tried_once_and_then_there_is_none() {
        let space = Pairs([6; 2]);
        let strategies: [&dyn Strategy; 3] =
            [&crate::RandomSearch, &Evolution { population: 4, sample: 2, initial: 3 }, &crate::Tpe::default()];
        for strategy in strategies {
            let mut history = History::default();
            for number in 0.. {
                let mut random = Stream::new(1, &[number]);
                let Some(candidate) = strategy.propose(&space, &history, &mut random).unwrap() else { break };
                let identity = space.identity(&candidate).unwrap().expect("a member");
                assert!(!history.has_tried(&identity), "{identity}");
                let trial = history.propose(candidate, identity, 1);
                history.score(trial, 1, number as f64);
            }
            assert_eq!(history.trials().len(), 12);
        }
    }

    #[test]
    fn a_child_differs_from_its_parent_in_one_choice_and_only_the_last_trials_are_parents() {
        let sizes = [3, 1, 4];
        let parent = Candidate(vec![1, 0, 2]);
        let mut seen = std::collections::HashSet::new();
        for number in 0..200 {
            let Candidate(choices) = child(&parent, &sizes, 1, &mut Stream::new(2, &[number]));
            let differing: Vec<usize> = (0..3).filter(|&at| choices[at] != parent.0[at]).collect();
            assert_eq!(differing.len(), 1);
            assert!(choices.iter().zip(sizes).all(|(&choice, size)| choice < size));
            seen.insert(choices);
        }
        assert_eq!(seen.len(), 2 + 3);

        let space = Pairs([40; 2]);
        let mut history = History::default();
        // The best ones are the oldest.
        for number in 0..10 {
            let candidate = Candidate(vec![number, number]);
            let identity = space.identity(&candidate).unwrap().unwrap();
            let trial = history.propose(candidate, identity, 1);
            history.score(trial, 1, -(number as f64));
        }
        let evolution = Evolution { population: 3, sample: 3, initial: 5 };
        let propose = |history: &History, number: u64| {
            evolution.propose(&space, history, &mut Stream::new(3, &[number])).unwrap().unwrap()
        };
        let children: Vec<Candidate> = (0..50).map(|number| propose(&history, number)).collect();
        assert!(children.iter().all(|Candidate(choices)| choices.contains(&7)), "{children:?}");

        // Trials that are judged again, after more training, have the same children.
        for (trial, score) in [(7, -100.0), (8, 100.0)] {
            history.promote(trial, 2);
            history.score(trial, 2, score);
        }
        let again: Vec<Candidate> = (0..50).map(|number| propose(&history, number)).collect();
        assert_eq!(again, children);
    }
}
