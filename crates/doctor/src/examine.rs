//! The examination of a dataset: one pass over its images, then the checks. Those of labels, and of near duplicates by a network, read the
//! images that they judge again.

use crate::checks::{appearance, classes, duplicates, files, groups, labels, near, shortcut};
use crate::features::Features;
use crate::record::{FaultKind, Record};
use crate::scan::scan;
use crate::{Check, Collection, DoctorError, Finding, Group, LabelCheck, Severity, ShortcutCheck, Thresholds};
use residual_engine::Options;
use residual_model::Model;
use std::collections::BTreeSet;
use std::sync::atomic::AtomicBool;

/// What is looked for, and how.
#[derive(Clone)]
pub struct ExamineOptions {
    /// The checks.
    pub checks: BTreeSet<Check>,
    /// Their limits.
    pub thresholds: Thresholds,
    /// Of the folds of the linear probes, and of the images that they take where there are too many.
    pub seed: u64,
    /// Instruction set and threads.
    pub engine: Options,
}

impl ExamineOptions {
    /// All checks with their default limits.
    pub fn new(engine: Options) -> Self {
        Self { checks: Check::ALL.into(), thresholds: Thresholds::default(), seed: 0, engine }
    }
}

/// How far an examination has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// What is being done.
    pub what: &'static str,
    /// How much of it.
    pub done: usize,
    /// All of it.
    pub total: usize,
}

/// What is wrong with a dataset.
#[derive(Debug)]
pub struct Examination {
    /// The findings, the more serious ones first.
    pub findings: Vec<Finding>,
    /// Checks that were asked for and do not apply, and why.
    pub skipped: Vec<(Check, String)>,
    /// How labels were checked.
    pub labels: Option<LabelCheck>,
    /// How well properties of the files tell the class.
    pub shortcut: Option<ShortcutCheck>,
    /// The images' records, in order.
    pub(crate) records: Vec<Record>,
}

impl Examination {
    /// The number of findings of a severity.
    pub fn count(&self, severity: Severity) -> usize {
        self.findings.iter().filter(|finding| finding.severity == severity).count()
    }

    /// The finding of a check.
    pub fn finding(&self, check: Check) -> Option<&Finding> {
        self.findings.iter().find(|finding| finding.check == check)
    }

    /// Whether image `index` cannot be read, and that is the system's fault and not its own.
    pub(crate) fn is_fault_of_system(&self, index: usize) -> bool {
        self.records[index].fault.as_ref().is_some_and(|fault| fault.kind == FaultKind::System)
    }
}

/// What the checks know, and what they found.
pub(crate) struct Context<'a> {
    pub(crate) images: &'a Collection,
    pub(crate) records: &'a [Record],
    pub(crate) options: &'a ExamineOptions,
    findings: Vec<Finding>,
    skipped: Vec<(Check, String)>,
}

impl Context<'_> {
    pub(crate) fn wants(&self, check: Check) -> bool {
        self.options.checks.contains(&check)
    }

    /// Adds a finding, if its check is wanted.
    pub(crate) fn report(&mut self, check: Check, severity: Severity, message: impl Into<String>, groups: Vec<Group>) {
        if self.wants(check) {
            self.findings.push(Finding { check, severity, message: message.into(), groups });
        }
    }

    /// Says why a check was not made, if it is wanted.
    pub(crate) fn skip(&mut self, check: Check, reason: &str) {
        if self.wants(check) {
            self.skipped.push((check, reason.to_owned()));
        }
    }

    /// The name of image `index`'s class.
    pub(crate) fn class_name(&self, index: usize) -> &str {
        &self.images.classes()[self.images.class(index) as usize]
    }
}

/// Examines a dataset; with `model` near duplicates and labels are judged by its features. `None` if `stop` was set.
///
/// Images that cannot be read are findings, not errors.
///
/// # Errors
/// If the model cannot be run.
pub fn examine(
    images: &Collection,
    model: Option<&Model>,
    options: &ExamineOptions,
    stop: &AtomicBool,
    on_progress: &mut dyn FnMut(Progress),
) -> Result<Option<Examination>, DoctorError> {
    let total = images.len();
    let mut on_images = |done| on_progress(Progress { what: "reading", done, total });
    let Some(records) = scan(images, &options.engine, stop, &mut on_images) else { return Ok(None) };
    let mut features = Features::new(model, options.seed, &options.engine)?;
    let mut context = Context { images, records: &records, options, findings: Vec::new(), skipped: Vec::new() };
    files::check(&mut context);
    classes::check(&mut context);
    duplicates::check(&mut context);
    groups::check(&mut context);
    appearance::check(&mut context);
    if near::check(&mut context, &mut features, stop, on_progress)?.is_none() {
        return Ok(None);
    }
    let Some(labels) = labels::check(&mut context, &mut features, stop, on_progress)? else { return Ok(None) };
    let Some(shortcut) = shortcut::check(&mut context, stop) else { return Ok(None) };
    let Context { mut findings, mut skipped, .. } = context;
    findings.sort_by_key(|finding| (finding.severity, finding.check));
    skipped.sort();
    Ok(Some(Examination { findings, skipped, labels, shortcut, records }))
}
