//! Architecture search: which network of a space is the most accurate within a limit of size or time.
//!
//! A [`Space`] has a choice for every dimension, and a [`Strategy`] proposes the [`Candidate`] of the next trial from the
//! [`History`] of all trials so far. A strategy has no other state, so a search goes on from its history alone.
//! [`NetworkSpace`] is a space of the zoo's networks. A [`Search`] trains its trials as ordinary runs, and keeps their history in
//! a journal that several processes may share. [`CellTable`] is a space whose accuracies are known, on which strategies are
//! compared within seconds.
#![forbid(unsafe_code)]

mod cell;
mod error;
mod halving;
mod history;
mod journal;
mod latency;
mod limits;
mod method;
mod networks;
mod search;
mod space;
mod strategy;
mod table;
mod template;
mod trial;

pub use error::SearchError;
pub use halving::{Halving, Next};
pub use history::{History, Trial};
pub use journal::{Entry, Journal, Record, Settings};
pub use latency::measure_latency;
pub use limits::{Bounded, Cost, Latency, LatencyLimit, Limits};
pub use method::Method;
pub use networks::{Member, NetworkSpace};
pub use search::{Event, Found, Length, Outcome, Search};
pub use space::{Candidate, Space};
pub use strategy::{Evolution, RandomSearch, Strategy, Tpe};
pub use table::{CellTable, TableRow};
