//! Candidates that are screened before they are tried.

use super::Strategy;
use crate::{Candidate, History, SearchError, Space};
use residual_tensor::Stream;

/// Proposes the best of several proposals of another strategy, by a score that takes no training.
pub(crate) struct Screened<'a> {
    /// The other strategy.
    pub(crate) strategy: &'a dyn Strategy,
    /// The number of its proposals.
    pub(crate) count: usize,
    /// The score of a candidate; higher is better.
    pub(crate) score: &'a dyn Fn(&Candidate) -> Result<f64, SearchError>,
}

impl Strategy for Screened<'_> {
    fn propose(
        &self,
        space: &dyn Space,
        history: &History,
        random: &mut Stream,
    ) -> Result<Option<Candidate>, SearchError> {
        let mut best: Option<(f64, Candidate)> = None;
        for _ in 0..self.count {
            let mut own = Stream::new(random.next_u64(), &[]);
            let Some(candidate) = self.strategy.propose(space, history, &mut own)? else { break };
            let score = (self.score)(&candidate)?;
            if best.as_ref().is_none_or(|(known, _)| score > *known) {
                best = Some((score, candidate));
            }
        }
        Ok(best.map(|(_, candidate)| candidate))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::RandomSearch;

    struct Line([usize; 1]);

    impl Space for Line {
        fn sizes(&self) -> &[usize] {
            &self.0
        }

        fn identity(&self, candidate: &Candidate) -> Result<Option<String>, SearchError> {
            Ok(Some(candidate.0[0].to_string()))
        }
    }

    #[test]
    fn the_proposal_of_the_highest_score_is_tried() {
        let seen = std::cell::RefCell::new(Vec::new());
        let score = |candidate: &Candidate| {
            seen.borrow_mut().push(candidate.0[0]);
            Ok(-(candidate.0[0] as f64))
        };
        let strategy = Screened { strategy: &RandomSearch, count: 5, score: &score };
        let space = Line([1000]);
        let chosen = strategy.propose(&space, &History::default(), &mut Stream::new(1, &[])).unwrap().unwrap();
        let mut seen = seen.into_inner();
        assert_eq!((seen.len(), seen.iter().min()), (5, Some(&chosen.0[0])));
        seen.dedup();
        assert_eq!(seen.len(), 5, "the proposals are different ones");
    }
}
