//! Strategies: which candidate is tried next.

mod evolution;
mod random;
mod screened;
mod tpe;

pub use evolution::Evolution;
pub use random::RandomSearch;
pub(crate) use screened::Screened;
pub use tpe::Tpe;
pub(crate) use tpe::{by_rank, probabilities};

use crate::{Candidate, History, SearchError, Space};
use residual_tensor::Stream;

/// Proposes candidates. All that it knows is in the history, which others may add to as well.
pub trait Strategy {
    /// A candidate that was not tried, as a function of history and random numbers; `None` if none was found.
    ///
    /// # Errors
    /// As [`Space::identity`].
    fn propose(
        &self,
        space: &dyn Space,
        history: &History,
        random: &mut Stream,
    ) -> Result<Option<Candidate>, SearchError>;
}
