//! Limits of a search, and the members of a space within them.

use crate::{Candidate, NetworkSpace, SearchError, Space};
use residual_graph::Graph;
use serde::{Deserialize, Serialize};
use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;

/// What a network may cost at most. Without limits, the largest network of a space tends to be the best.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Limits {
    /// Multiply-accumulates for one image.
    pub macs: Option<u64>,
    /// Trainable values.
    pub parameters: Option<usize>,
    /// Latency.
    pub latency: Option<LatencyLimit>,
}

/// A latency limit, written `2ms@8`: 2 milliseconds for a batch of 8 images. Without a batch size it is 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LatencyLimit {
    /// In seconds.
    pub seconds: f64,
    /// Images in a batch.
    pub batch: usize,
}

impl FromStr for LatencyLimit {
    type Err = SearchError;

    fn from_str(text: &str) -> Result<Self, SearchError> {
        let fail = || SearchError::Field {
            field: "latency",
            expected: "a time and a batch size such as 2ms@1, 500us@8 or 0.1s".into(),
            got: format!("\"{text}\""),
        };
        let (time, batch) = text.split_once('@').unwrap_or((text, "1"));
        let units = [("ms", 1e-3), ("us", 1e-6), ("s", 1.0)];
        let (number, unit) =
            units.iter().find_map(|(name, unit)| Some((time.strip_suffix(name)?, unit))).ok_or_else(fail)?;
        let seconds =
            number.parse().ok().map(|number: f64| number * unit).filter(|seconds| *seconds > 0.0 && *seconds < 1e6);
        let batch = batch.parse().ok().filter(|batch| (1..=4096).contains(batch));
        Ok(Self { seconds: seconds.ok_or_else(fail)?, batch: batch.ok_or_else(fail)? })
    }
}

impl fmt::Display for LatencyLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}ms@{}", 1e3 * self.seconds, self.batch)
    }
}

/// The cost of a network.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cost {
    /// Trainable values.
    pub parameters: usize,
    /// Multiply-accumulates for one image.
    pub macs: u64,
    /// Seconds of inference, if they have a limit.
    pub latency: Option<f64>,
}

/// Tells the seconds of inference of a network with a batch of so many images.
pub type Latency<'a> = &'a dyn Fn(&Graph, usize) -> Result<f64, SearchError>;

/// The members of a space that are within limits.
pub struct Bounded<'a> {
    space: NetworkSpace,
    limits: Limits,
    latency: Latency<'a>,
    /// Seconds by identity: a network is measured once.
    measured: RefCell<HashMap<String, f64>>,
}

impl<'a> Bounded<'a> {
    /// The members of `space` within `limits`; `latency` is asked about networks that are within the other limits.
    pub fn new(space: NetworkSpace, limits: Limits, latency: Latency<'a>) -> Self {
        Self { space, limits, latency, measured: RefCell::default() }
    }

    /// The space without limits.
    pub fn space(&self) -> &NetworkSpace {
        &self.space
    }

    /// The limits.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Takes the seconds of a network from an earlier measurement.
    pub(crate) fn remember(&self, identity: &str, seconds: f64) {
        self.measured.borrow_mut().insert(identity.into(), seconds);
    }

    /// The identity and the cost of a candidate's network; `None` if it is no network, or beyond a limit.
    ///
    /// # Errors
    /// If the latency cannot be told.
    ///
    /// # Panics
    /// If the candidate is of another space.
    pub fn cost(&self, candidate: &Candidate) -> Result<Option<(String, Cost)>, SearchError> {
        // Fields that do not go together are no member.
        let Ok(member) = self.space.member(candidate) else { return Ok(None) };
        let (parameters, macs) = (member.parameters, member.macs);
        if self.limits.macs.is_some_and(|most| macs > most)
            || self.limits.parameters.is_some_and(|most| parameters > most)
        {
            return Ok(None);
        }
        let identity = member.identity();
        let Some(limit) = self.limits.latency else {
            return Ok(Some((identity, Cost { parameters, macs, latency: None })));
        };
        let known = self.measured.borrow().get(&identity).copied();
        let seconds = match known {
            Some(seconds) => seconds,
            None => (self.latency)(&member.graph, limit.batch)?,
        };
        self.remember(&identity, seconds);
        let cost = Cost { parameters, macs, latency: Some(seconds) };
        Ok((seconds <= limit.seconds).then_some((identity, cost)))
    }
}

impl Space for Bounded<'_> {
    fn sizes(&self) -> &[usize] {
        self.space.sizes()
    }

    fn identity(&self, candidate: &Candidate) -> Result<Option<String>, SearchError> {
        Ok(self.cost(candidate)?.map(|(identity, _)| identity))
    }
}
