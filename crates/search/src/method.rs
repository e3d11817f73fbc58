//! Methods of search by name: a strategy, and how long each trial is trained.

use crate::halving::Halving;
use crate::{Evolution, RandomSearch, SearchError, Strategy, Tpe};
use std::fmt;
use std::str::FromStr;

/// A method of search.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Random networks, each trained to the end.
    Random,
    /// Regularised evolution, each network trained to the end.
    Evolution,
    /// The tree-structured Parzen estimator, each network trained to the end.
    Tpe,
    /// Asynchronous successive halving of random networks.
    Asha,
    /// Hyperband of random networks.
    Hyperband,
    /// Asynchronous successive halving of what the tree-structured Parzen estimator proposes.
    TpeAsha,
    /// One-shot: regularised evolution of networks that share the weights of trained supernets, the best of which are fine-tuned.
    Supernet,
}

/// How many times as long the next budget of a halving is, and as few trials get it.
const ETA: u64 = 3;
/// Budgets of a halving besides the largest.
const RUNGS: u32 = 2;

impl Method {
    /// Every method.
    pub const ALL: [Self; 7] =
        [Self::Evolution, Self::Random, Self::Tpe, Self::Asha, Self::Hyperband, Self::TpeAsha, Self::Supernet];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Random => "random",
            Self::Evolution => "evolution",
            Self::Tpe => "tpe",
            Self::Asha => "asha",
            Self::Hyperband => "hyperband",
            Self::TpeAsha => "tpe-asha",
            Self::Supernet => "supernet",
        }
    }

    /// What proposes the candidates of a search of so many trials, if their number is known.
    pub fn strategy(self, trials: Option<usize>) -> Box<dyn Strategy> {
        match self {
            Self::Random | Self::Asha | Self::Hyperband => Box::new(RandomSearch),
            Self::Evolution | Self::Supernet => Box::new(trials.map_or_else(Evolution::default, Evolution::for_trials)),
            Self::Tpe | Self::TpeAsha => Box::new(Tpe::default()),
        }
    }

    /// Whether trials have smaller budgets than the largest.
    pub fn halves(self) -> bool {
        matches!(self, Self::Asha | Self::Hyperband | Self::TpeAsha)
    }

    /// Whether trials share the weights of supernets.
    pub fn shares_weights(self) -> bool {
        self == Self::Supernet
    }

    /// How long each trial is trained, at most `budget`; not at all if it shares the weights of a supernet.
    pub(crate) fn halving(self, budget: u64) -> Halving {
        let min = (budget / ETA.pow(RUNGS)).max(1);
        let halving = match self {
            Self::Random | Self::Evolution | Self::Tpe => None,
            Self::Supernet => Some(Halving::none(0)),
            Self::Asha | Self::TpeAsha => Halving::asha(min, budget, ETA),
            Self::Hyperband => Halving::hyperband(min, budget, ETA),
        };
        halving.unwrap_or_else(|| Halving::none(budget))
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Method {
    type Err = SearchError;

    fn from_str(text: &str) -> Result<Self, SearchError> {
        Self::ALL.into_iter().find(|method| method.name() == text).ok_or_else(|| SearchError::Field {
            field: "strategy",
            expected: Self::ALL.map(Self::name).join(", "),
            got: format!("\"{text}\""),
        })
    }
}
