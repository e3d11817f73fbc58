//! What is wrong with a dataset of images, before anything is trained on it.
//!
//! A [`Collection`] is the images of a source as they are, also where training would refuse them. [`examine`] reads them
//! and reports [`Finding`]s: unreadable files, duplicates within and across splits, classes that differ, labels that are probably wrong,
//! images that look unlike others, properties of the files that tell the class. [`Quarantine`] moves files at fault away, and back.
//!
//! ```
//! use residual_data::Source;
//! use residual_doctor::{Check, Collection, ExamineOptions, examine};
//! use residual_engine::Options;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let images = Collection::open(&Source::open("shapes10", None)?)?;
//! let mut options = ExamineOptions::new(Options::threads(1));
//! options.checks = [Check::Leakage, Check::Imbalance].into();
//! let found = examine(&images, None, &options, &Default::default(), &mut |_| {})?.expect("nothing stops it");
//! assert!(found.findings.is_empty());
//! # Ok(())
//! # }
//! ```
#![forbid(unsafe_code)]

mod appearance;
mod checks;
mod collection;
mod confident_learning;
mod error;
mod examine;
mod features;
mod finding;
mod histograms;
mod jpeg;
mod patches;
mod perceptual_hash;
mod probe;
mod quarantine;
mod record;
mod scan;
mod thresholds;

pub use checks::labels::LabelCheck;
pub use checks::shortcut::{ShortcutCheck, ShortcutScore};
pub use collection::Collection;
pub use confident_learning::{LabelScore, label_scores, prune_by_noise_rate};
pub use error::DoctorError;
pub use examine::{Examination, ExamineOptions, Progress, examine};
pub use finding::{Check, Finding, Group, Severity};
pub use quarantine::{Kept, MANIFEST, Quarantine, QuarantineFolder, Quarantined};
pub use thresholds::Thresholds;

/// The reader of foreign bytes, as a fuzz target calls it.
pub mod parse {
    pub use crate::jpeg::{JpegFacts, Shot, jpeg_facts};
}
