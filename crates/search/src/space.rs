//! Spaces: a choice for every dimension.

use crate::{History, SearchError};
use residual_tensor::Stream;

/// A member of a space: the place of the choice that it takes in each dimension.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Candidate(pub Vec<usize>);

/// A set of networks or settings that strategies choose from.
pub trait Space {
    /// The number of choices in each dimension, at least one.
    fn sizes(&self) -> &[usize];

    /// What distinguishes the candidate: candidates of one identity are the same network, or the same recipe, and only one of
    /// them is tried. `None` if it is none, or is beyond the limits of the search.
    ///
    /// # Errors
    /// If the candidate cannot be judged.
    ///
    /// # Panics
    /// If the candidate has other dimensions.
    fn identity(&self, candidate: &Candidate) -> Result<Option<String>, SearchError>;

    /// Whether neighbouring choices of a dimension are alike, as those of a number are.
    fn is_ordered(&self, _dimension: usize) -> bool {
        false
    }
}

/// Draws of a new candidate before a strategy gives up.
const DRAWS: usize = 2000;

/// A candidate with a uniform choice in every dimension, given their sizes.
pub(crate) fn uniform(sizes: &[usize], random: &mut Stream) -> Candidate {
    Candidate(sizes.iter().map(|&size| random.below(size as u32) as usize).collect())
}

/// The first candidate that is a member and was not tried; `draw` gets the number of the draw, from 0. `None` after so many
/// draws that there is hardly another one.
///
/// # Errors
/// As [`Space::identity`].
pub(crate) fn first_new(
    space: &dyn Space,
    history: &History,
    mut draw: impl FnMut(usize) -> Candidate,
) -> Result<Option<Candidate>, SearchError> {
    for number in 0..DRAWS {
        let candidate = draw(number);
        if space.identity(&candidate)?.is_some_and(|identity| !history.has_tried(&identity)) {
            return Ok(Some(candidate));
        }
    }
    Ok(None)
}
