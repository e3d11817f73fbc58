//! The claims of papers and lecture notes about residual networks: what each says, what is run for it, what is expected, and
//! whether the measurement bears it out.
//!
//! A [`Claim`] has up to three [`Form`]s. The quick one needs no files and takes a minute at most, the short one may take an hour
//! and trains on CIFAR, the full one is the source's own training. Trainings leave ordinary run folders: one that was
//! interrupted is resumed by the same call, and a finished one is read instead of being repeated.
#![forbid(unsafe_code)]

mod claims;
mod context;
mod error;
mod finding;
mod network;
mod page;
mod training;

pub use claims::CLAIMS;
pub use context::{Context, Progress};
pub use error::ReproduceError;
pub use finding::{Finding, Measure, Picture, Verdict};
pub use page::page;

use residual_files::nearest;

/// One claim.
#[derive(Clone, Copy, Debug)]
pub struct Claim {
    /// Its name on the command line.
    pub name: &'static str,
    /// The claim, in one sentence.
    pub title: &'static str,
    /// Who makes it, and where.
    pub source: &'static str,
    /// What is run.
    pub runs: &'static str,
    /// What must be measured for it to pass.
    pub expected: &'static str,
    /// The forms that it has, each with the minutes that it takes on two cores.
    pub forms: &'static [(Form, f64)],
    run: fn(&mut Context<'_>) -> Result<Finding, ReproduceError>,
}

/// How much is run for a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Form {
    /// At most a minute or so, without files.
    Quick,
    /// At most 100 minutes, on CIFAR-10 or CIFAR-100.
    Short,
    /// The source's own training.
    Full,
}

impl Form {
    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Quick => "quick",
            Self::Short => "short",
            Self::Full => "full",
        }
    }
}

impl Claim {
    /// The claim of this name.
    ///
    /// # Errors
    /// [`ReproduceError::Unknown`], with the most similar name.
    pub fn find(name: &str) -> Result<&'static Self, ReproduceError> {
        CLAIMS.iter().find(|claim| claim.name == name).ok_or_else(|| ReproduceError::Unknown {
            name: name.into(),
            nearest: nearest(name, CLAIMS.iter().map(|claim| claim.name)).map(str::to_owned),
        })
    }

    /// Whether it has this form.
    pub fn has(&self, form: Form) -> bool {
        self.forms.iter().any(|(each, _)| *each == form)
    }

    /// Runs the form of `context` and judges the claim.
    ///
    /// # Errors
    /// If the claim has no such form, a training or measurement fails, or [`ReproduceError::Interrupted`] if the stop flag was
    /// set.
    pub fn reproduce(&self, context: &mut Context<'_>) -> Result<Finding, ReproduceError> {
        if !self.has(context.form) {
            let forms: Vec<&str> = self.forms.iter().map(|(form, _)| form.name()).collect();
            let (expected, got) = (forms.join(" or "), context.form.name());
            return Err(ReproduceError::Form { claim: self.name, expected, got });
        }
        (self.run)(context)
    }
}
