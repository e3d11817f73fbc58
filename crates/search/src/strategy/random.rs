//! Random search.

use super::Strategy;
use crate::space::{first_new, uniform};
use crate::{Candidate, History, SearchError, Space};
use residual_tensor::Stream;

/// Uniform choices, without repeating a network.
#[derive(Clone, Copy, Debug)]
pub struct RandomSearch;

impl Strategy for RandomSearch {
    fn propose(
        &self,
        space: &dyn Space,
        history: &History,
        random: &mut Stream,
    ) -> Result<Option<Candidate>, SearchError> {
        first_new(space, history, |_| uniform(space.sizes(), random))
    }
}
