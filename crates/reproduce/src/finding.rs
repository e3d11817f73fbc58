//! The result of a reproduction.

use residual_report::{Svg, grouped};

/// What was measured for a claim, and the verdict.
#[derive(Clone, Debug)]
pub struct Finding {
    /// Whether the claim holds.
    pub verdict: Verdict,
    /// The measurements, in order.
    pub measures: Vec<Measure>,
    /// The pictures of them.
    pub pictures: Vec<Picture>,
    /// What a reader should know besides, one sentence each.
    pub notes: Vec<String>,
}

/// Whether a claim holds.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// All measures that decide are as expected.
    Pass,
    /// At least one is not.
    Fail,
    /// Nothing was run, for this reason.
    NotRun(String),
    /// A training was begun; in full it would take so many hours.
    NotRunInFull {
        /// Hours of the whole training on this machine, by the time of its first steps.
        hours: f64,
    },
}

impl Verdict {
    /// Its name in tables.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Pass => "PASS",
            Self::Fail => "FAIL",
            Self::NotRun(_) => "NOT RUN",
            Self::NotRunInFull { .. } => "NOT RUN IN FULL",
        }
    }
}

/// One measured value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Measure {
    /// What was measured.
    pub what: String,
    /// What is expected; empty where the value decides nothing.
    pub expected: String,
    /// What was found.
    pub got: String,
    /// Whether it is as expected; `None` where it decides nothing.
    pub holds: Option<bool>,
}

impl Measure {
    /// A value that decides nothing.
    pub(crate) fn seen(what: impl Into<String>, got: impl Into<String>) -> Self {
        Self { what: what.into(), expected: String::new(), got: got.into(), holds: None }
    }

    /// A value that decides.
    pub(crate) fn judged(
        what: impl Into<String>,
        expected: impl Into<String>,
        got: impl Into<String>,
        holds: bool,
    ) -> Self {
        Self { what: what.into(), expected: expected.into(), got: got.into(), holds: Some(holds) }
    }

    /// A whole number that must be exactly `expected`.
    pub(crate) fn exact(what: impl Into<String>, expected: u64, got: u64) -> Self {
        Self::judged(what, grouped(expected), grouped(got), expected == got)
    }
}

/// A picture with a name for its file.
#[derive(Clone, Debug)]
pub struct Picture {
    /// The name, without an ending.
    pub name: String,
    /// The drawing.
    pub svg: Svg,
}

impl Finding {
    /// The finding of these measures: it passes if all that decide are as expected.
    pub(crate) fn of(measures: Vec<Measure>) -> Self {
        let fails = measures.iter().any(|measure| measure.holds == Some(false));
        let verdict = if fails { Verdict::Fail } else { Verdict::Pass };
        Self { verdict, measures, pictures: Vec::new(), notes: Vec::new() }
    }

    /// A claim for which nothing was run.
    pub(crate) fn not_run(reason: impl Into<String>) -> Self {
        Self { verdict: Verdict::NotRun(reason.into()), ..Self::of(Vec::new()) }
    }

    pub(crate) fn with_picture(mut self, name: &str, svg: Svg) -> Self {
        self.pictures.push(Picture { name: name.to_owned(), svg });
        self
    }

    pub(crate) fn with_note(mut self, note: impl Into<String>) -> Self {
        self.notes.push(note.into());
        self
    }
}
