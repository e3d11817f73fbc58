//! Search: which network of a space is the most accurate within a limit of size or time, and which settings of a recipe are the best.
//!
//! A [`Space`] has a choice for every dimension, and a [`Strategy`] proposes the [`Candidate`] of the next trial from the
//! [`History`] of all trials so far. A strategy has no other state, so a search is resumed from its history alone.
//! [`NetworkSpace`] is a space of the zoo's networks, [`SettingSpace`] one of a recipe's settings. A [`Search`] trains its trials as
//! ordinary runs, and keeps their history in a journal that several processes may share; in a one-shot search they share the weights
//! of trained [`Supernets`] instead. [`CellTable`] is a space whose accuracies are
//! known, on which strategies are compared within seconds.
//!
//! ```no_run
//! use residual_search::{Length, Limits, Method, NetworkSpace, Search, measure_latency};
//! use residual_train::{Layer, Recipe};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let options = residual_engine::Options::default();
//! let latency = |graph: &_, batch| measure_latency(graph, batch, &options);
//! let space = NetworkSpace::open("cifar-resnet")?;
//! let limits = Limits { latency: Some("2ms@1".parse()?), ..Limits::default() };
//! let recipe = Recipe::resolve(&[Layer::parse("mine", "data = 'photos'\nepochs = 8\nimg_size = 32")?])?;
//! let length = Length { trials: Some(30), budget: None };
//! let search = Search::new(space, limits, &latency, Method::Evolution, recipe, length)?;
//! let found = search.run("search".as_ref(), &options, &Default::default(), &mut |_| ())?;
//! println!("{:.2} % in {:?} s: {}", found.best.top1, found.best.tried.latency, found.weights.display());
//! # Ok(())
//! # }
//! ```
#![forbid(unsafe_code)]

mod cell;
mod error;
mod halving;
mod history;
mod importance;
mod journal;
mod judge;
mod latency;
mod limits;
mod method;
mod naswot;
mod networks;
mod one_shot;
mod recipes;
mod sandwich;
mod search;
mod setting_space;
mod slice;
mod space;
mod strategy;
mod supernet;
mod table;
mod template;
mod trial;
mod trials;

pub use error::SearchError;
pub use history::{History, Trial};
pub use journal::{Entry, Journal, Record, Settings};
pub use latency::{LatencyCheck, LatencyPredictor, measure_latency};
pub use limits::{Bounded, Cost, Latency, LatencyLimit, Limits};
pub use method::Method;
pub use naswot::naswot;
pub use networks::{Member, NetworkSpace};
pub use one_shot::OneShot;
pub use recipes::Recipes;
pub use search::{Event, Found, Length, Outcome, Search};
pub use setting_space::{Dimension, SettingSpace};
pub use space::{Candidate, Space};
pub use strategy::{Evolution, RandomSearch, Strategy, Tpe};
pub use supernet::{Supernet, Supernets};
pub use table::{CellTable, TableRow};
pub use trials::{Networks, Trials};
