//! What the trials of a search are: networks of a space, or a recipe with other settings.

use crate::journal::{Entry, Settings};
use crate::limits::Bounded;
use crate::strategy::Screened;
use crate::{Candidate, Cost, History, Limits, NetworkSpace, OneShot, SearchError, Space, Strategy, naswot};
use residual_engine::Options;
use residual_tensor::Stream;
use residual_train::{Recipe, Resolved};
use residual_zoo::Config;
use std::path::Path;

/// The candidates of a search, and the training that each of them is.
pub trait Trials: Space {
    /// What is known of a trial before its training.
    type Tried: Clone + std::fmt::Debug;

    /// The recipe without any candidate's choices.
    fn recipe(&self) -> &Recipe;

    /// `kept` with what decides the trials besides.
    fn settings(&self, kept: Settings) -> Settings;

    /// The next candidate.
    ///
    /// # Errors
    /// As [`Space::identity`].
    fn propose(
        &self,
        strategy: &dyn Strategy,
        history: &History,
        random: &mut Stream,
        options: &Options,
    ) -> Result<Option<Candidate>, SearchError>;

    /// A candidate that is within the limits if any is and was not tried, found without chance; `None` if there is none, or trials
    /// have no costs.
    ///
    /// # Errors
    /// As [`Space::identity`].
    fn smallest(&self, _history: &History) -> Result<Option<Candidate>, SearchError> {
        Ok(None)
    }

    /// The proposal of a member, and the description of its trial: a TOML file.
    ///
    /// # Errors
    /// As [`Space::identity`].
    fn describe(&self, trial: usize, candidate: &Candidate, epochs: u64) -> Result<(Entry, String), SearchError>;

    /// What the proposal of a trial says; `None` if it is no proposal of such a trial.
    fn tried(&self, proposal: &Entry) -> Option<Self::Tried>;

    /// The recipe of the trial that `description` describes, which is in the file `path`.
    ///
    /// # Errors
    /// If its settings do not go together.
    fn recipe_of(&self, description: &str, path: &Path) -> Result<Resolved, SearchError>;

    /// The description that a user is given of the best trial, which has this one.
    ///
    /// # Errors
    /// As [`Trials::recipe_of`].
    fn best(&self, description: String) -> Result<String, SearchError>;

    /// The costs of trials are compared by this; equal for all if none is cheaper than another.
    fn price(&self, tried: &Self::Tried) -> f64;

    /// The importance of every dimension for the score, if it is known and says something.
    fn importance(&self, _history: &History) -> Option<Vec<f64>> {
        None
    }

    /// The supernets whose weights the trials share, if they do.
    fn one_shot(&self) -> Option<&OneShot> {
        None
    }
}

/// Networks of a space within limits, trained by one recipe.
pub struct Networks<'a> {
    pub(crate) members: Bounded<'a>,
    pub(crate) recipe: Resolved,
    /// The number of proposals of which the one with the best score is tried.
    pub(crate) screen: usize,
    /// The supernets of a one-shot search.
    pub(crate) one_shot: Option<OneShot>,
}

impl Networks<'_> {
    /// The space, with networks for the images of the recipe.
    pub fn space(&self) -> &NetworkSpace {
        self.members.space()
    }

    /// The network with the fewest multiply-accumulates of each of the space's networks; where weights are shared, of each supernet.
    fn smallest_of_each(&self) -> Result<Vec<Candidate>, SearchError> {
        if let Some(one_shot) = &self.one_shot {
            return Ok(one_shot.supernets().all().iter().map(|supernet| supernet.smallest.clone()).collect());
        }
        let space = self.space();
        let networks = (0..space.networks()).filter_map(|network| Some((network, space.start(network)?)));
        networks.map(|(network, start)| Ok(space.climb(start, space.dimensions(network), false)?.0)).collect()
    }
}

impl Space for Networks<'_> {
    fn sizes(&self) -> &[usize] {
        self.members.sizes()
    }

    /// As that of the members within the limits; of a one-shot search, `None` if the candidate shares no weights.
    fn identity(&self, candidate: &Candidate) -> Result<Option<String>, SearchError> {
        match &self.one_shot {
            Some(one_shot) if one_shot.supernets().part(candidate).is_none() => Ok(None),
            _ => self.members.identity(candidate),
        }
    }
}

impl Trials for Networks<'_> {
    type Tried = Cost;

    fn recipe(&self) -> &Recipe {
        &self.recipe.recipe
    }

    fn settings(&self, kept: Settings) -> Settings {
        let Limits { macs, parameters, latency } = *self.members.limits();
        let target_latency = latency.map(|limit| limit.to_string());
        let space = self.space().text().to_owned();
        let finetune_epochs = self.one_shot.as_ref().map(OneShot::finetune_epochs);
        let (max_macs, max_params) = (macs, parameters);
        Settings { space, screen: self.screen, max_macs, max_params, target_latency, finetune_epochs, ..kept }
    }

    fn propose(
        &self,
        strategy: &dyn Strategy,
        history: &History,
        random: &mut Stream,
        options: &Options,
    ) -> Result<Option<Candidate>, SearchError> {
        if self.screen <= 1 {
            return strategy.propose(self, history, random);
        }
        let score = |candidate: &Candidate| naswot(&self.space().member(candidate)?.graph, options);
        Screened { strategy, count: self.screen, score: &score }.propose(self, history, random)
    }

    fn smallest(&self, history: &History) -> Result<Option<Candidate>, SearchError> {
        for candidate in self.smallest_of_each()? {
            if self.identity(&candidate)?.is_some_and(|identity| !history.has_tried(&identity)) {
                return Ok(Some(candidate));
            }
        }
        Ok(None)
    }

    fn describe(&self, trial: usize, candidate: &Candidate, epochs: u64) -> Result<(Entry, String), SearchError> {
        let (identity, cost) = self.members.cost(candidate)?.expect("strategies propose members");
        let config = Config { name: name(trial), ..self.space().member(candidate)?.config };
        let candidate = candidate.0.clone();
        let entry = Entry::Proposed { trial, candidate, identity, epochs, cost: Some(cost), settings: None };
        Ok((entry, config.to_toml()))
    }

    fn tried(&self, proposal: &Entry) -> Option<Cost> {
        let Entry::Proposed { identity, cost: Some(cost), .. } = proposal else { return None };
        // A network is measured once.
        if let Some(latency) = cost.latency {
            self.members.remember(identity, latency);
        }
        Some(cost.clone())
    }

    fn recipe_of(&self, _description: &str, path: &Path) -> Result<Resolved, SearchError> {
        let mut resolved = self.recipe.clone();
        resolved.recipe.model = path.to_string_lossy().into_owned();
        Ok(resolved)
    }

    fn best(&self, description: String) -> Result<String, SearchError> {
        Ok(description)
    }

    /// The latency, if it has a limit, else the multiply-accumulates.
    fn price(&self, cost: &Cost) -> f64 {
        cost.latency.unwrap_or(cost.macs as f64)
    }

    fn one_shot(&self) -> Option<&OneShot> {
        self.one_shot.as_ref()
    }
}

/// The name of a trial.
pub(crate) fn name(trial: usize) -> String {
    format!("trial-{trial}")
}
