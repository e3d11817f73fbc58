//! `residual doctor`.

use crate::args::Doctor;
use crate::failure::Failure;
use crate::output::{complain, count, facts, grouped, line, path_text, print, print_json, quoted_path};
use crate::progress::Progress;
use crate::signals::Stop;
use crate::{Done, commands, machine, weights};
use residual::doctor::{
    Check, Collection, Examination, ExamineOptions, Finding, Group, Kept, LabelCheck, Quarantine, QuarantineFolder,
    Severity, ShortcutCheck, examine,
};
use residual::files::AtomicFile;
use residual::infer::{Head, ModelRequest};
use residual::model::Model;
use residual::report::dataset_page;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};

/// Images of each finding in the table.
const SHOWN: usize = 3;

pub(crate) fn run(arguments: &Doctor, stop: &Stop) -> Result<Done, Failure> {
    if let Some(folder) = &arguments.undo {
        return undo(folder);
    }
    let Some(name) = &arguments.data else {
        return Err(Failure::usage("DATA or --undo is required"));
    };
    let options = options(arguments)?;
    let kinds: BTreeSet<Check> = match arguments.fix_kinds.is_empty() {
        true => Quarantine::DEFAULT.into(),
        false => arguments.fix_kinds.iter().copied().collect(),
    };
    Quarantine::check_kinds(&arguments.fix_kinds).map_err(|error| Failure::usage(format!("--{error}")))?;
    if arguments.fix.is_some() {
        if let Some(check) = arguments.fix_kinds.iter().find(|check| !options.checks.contains(check)) {
            return Err(Failure::usage(format!("--fix-kinds: expected checks that are made, got {check}")));
        }
        if kinds.is_disjoint(&options.checks) {
            let names: Vec<&str> = kinds.iter().map(|check| check.name()).collect();
            let expected = format!("one of the checks {}, or --fix-kinds", names.join(", "));
            return Err(Failure::usage(format!("--fix: expected {expected}, got none of them")));
        }
    }
    let source = commands::data::open(name, arguments.data_dir.as_deref())?;
    let images = Collection::open(&source)?;
    if arguments.fix.is_some() && images.survey().is_none() {
        return Err(Failure::usage(format!("--fix: expected a folder of class folders, got {name}")));
    }
    let model = arguments.weights.as_deref().map(|path| model(path, arguments)).transpose()?;
    let folder = match (arguments.fix, &arguments.quarantine) {
        (None, _) => None,
        (Some(_), Some(folder)) => Some(QuarantineFolder::create(&images, folder)?),
        (Some(_), None) => Some(QuarantineFolder::beside(&images)?),
    };
    let page = arguments.output.as_deref().map(AtomicFile::create).transpose()?;

    let progress = Progress::new();
    images.notes().iter().for_each(|note| progress.line(&format!("note: {note}")));
    let on_progress = &mut |at: residual::doctor::Progress| {
        if at.what == "reading" || at.what == "features" {
            progress.images(at.what, at.done as u64, at.total as u64);
        } else {
            progress.steps(at.what, at.done, at.total);
        }
    };
    let examined = examine(&images, model.as_ref(), &options, stop.listen(), on_progress);
    progress.finish();
    let Some(examination) = examined? else { return Ok(Done::Interrupted) };
    if let Some(mut page) = page {
        page.write_all(dataset_page(&images, &examination).as_bytes())?;
        page.finish()?;
    }
    let moved = folder.map(|folder| quarantine(&images, &examination, &kinds, folder)).transpose()?;
    match arguments.format.json {
        true => print_json(&document(&images, &examination, arguments, moved.as_ref()))?,
        false => table(&images, &examination, arguments, moved.as_ref())?,
    }
    let is_left = |finding: &&Finding| {
        finding.severity == Severity::Error && !moved.as_ref().is_some_and(|moved| moved.plan.settles(finding))
    };
    let errors = examination.findings.iter().filter(is_left).count();
    let emptied = moved.as_ref().and_then(|moved| moved.plan.emptied());
    match emptied.filter(|finding| finding.severity == Severity::Error) {
        Some(finding) => Err(Failure::new(format!("{name}: training on it would be wrong: {}", finding.message))),
        None if errors == 0 => Ok(Done::Finished),
        None => Err(Failure::new(format!("{name}: training on it would be wrong: {}", count(errors as u64, "error")))),
    }
}

/// What is looked for.
fn options(arguments: &Doctor) -> Result<ExamineOptions, Failure> {
    let mut options = ExamineOptions::new(machine::options(arguments.threads)?);
    if !arguments.checks.is_empty() {
        options.checks = arguments.checks.iter().copied().collect();
    }
    arguments.skip.iter().for_each(|check| {
        options.checks.remove(check);
    });
    for (at, &(check, value)) in arguments.threshold.iter().enumerate() {
        if arguments.threshold[..at].iter().any(|(other, _)| *other == check) {
            return Err(Failure::usage(format!("--threshold: expected one limit of {check}, got two")));
        }
        options.thresholds.set(check, value).map_err(|error| Failure::usage(format!("--threshold: {error}")))?;
        if !options.checks.contains(&check) {
            return Err(Failure::usage(format!("--threshold: expected a check that is made, got {check}")));
        }
    }
    let by_features = [Check::Labels, Check::NearDuplicates, Check::NearLeakage];
    if arguments.weights.is_some() && !by_features.iter().any(|check| options.checks.contains(check)) {
        let expected = "one of the checks labels, near-duplicates and near-leakage, which use them";
        return Err(Failure::usage(format!("--weights: expected {expected}, got none")));
    }
    options.seed = arguments.seed;
    Ok(options)
}

/// The network whose features are used; it needs no head.
fn model(path: &Path, arguments: &Doctor) -> Result<Model, Failure> {
    weights::fetch(path, arguments.download)?;
    let request = ModelRequest { model: arguments.model.clone(), head: Head::Optional, ..ModelRequest::new(path) };
    weights::resolve(path, request.open()?, None)
}

/// Files that were moved away; the folder is gone if there were none.
struct Moved {
    folder: PathBuf,
    plan: Quarantine,
}

impl Moved {
    fn files(&self) -> u64 {
        self.plan.files().len() as u64
    }
}

/// Moves the files of some findings away.
fn quarantine(
    images: &Collection,
    examination: &Examination,
    kinds: &BTreeSet<Check>,
    folder: QuarantineFolder,
) -> Result<Moved, Failure> {
    let plan = Quarantine::plan(images, examination, kinds)?;
    if !plan.files().is_empty() {
        let undo = format!("residual doctor --undo {}", quoted_path(folder.path()));
        plan.apply(&folder).inspect_err(|_| complain(&format!("note: {undo} moves back what was moved")))?;
    }
    Ok(Moved { folder: folder.path().to_path_buf(), plan })
}

fn undo(folder: &Path) -> Result<Done, Failure> {
    let files = Quarantine::undo(folder)?;
    print(&facts(&[("moved back", count(files as u64, "file"))]))?;
    Ok(Done::Finished)
}

fn table(
    images: &Collection,
    examination: &Examination,
    arguments: &Doctor,
    moved: Option<&Moved>,
) -> Result<(), Failure> {
    let splits = images.split_sizes().into_iter().map(|(name, len)| format!("{} {name}", grouped(len as u64)));
    let mut rows = vec![
        ("data", format!("{}, {}", images.name(), count(images.classes().len() as u64, "class"))),
        ("images", splits.collect::<Vec<_>>().join(", ")),
    ];
    if let Some(LabelCheck { features, images, of, classes, top1, .. }) = &examination.labels {
        let judged = match images < of {
            true => format!("a sample of {} of {}", grouped(*images as u64), count(*of as u64, "image")),
            false => count(*images as u64, "image"),
        };
        let classes = count(*classes as u64, "class");
        rows.push(("labels", format!("{judged}, {classes}: a linear probe of {features} is right for {top1:.1} %")));
    }
    rows.extend(examination.shortcut.as_ref().map(|shortcut| ("shortcut", shortcut.describe())));
    print(&facts(&rows))?;
    for finding in &examination.findings {
        let Finding { check, severity, message, groups } = finding;
        print(&format!("\n{:<8} {check}: {}\n", severity.name(), line(message)))?;
        for group in groups.iter().take(SHOWN) {
            let more = group.images.len().saturating_sub(SHOWN);
            // The last one is of another split, if there are several.
            let shown = group.images.iter().take(SHOWN - 1).chain(group.images.iter().skip(SHOWN - 1 + more));
            let places: Vec<String> = shown.map(|&image| images.describe(image)).collect();
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            let detail = if group.detail.is_empty() { String::new() } else { format!("  ({})", group.detail) };
            let between = match check {
                Check::Duplicates | Check::Leakage | Check::Contradictory => " = ",
                // Near is not transitive.
                Check::NearDuplicates | Check::NearLeakage if group.images.len() == 2 => " ~ ",
                _ => ", ",
            };
            print(&format!("         {}\n", line(&format!("{}{more}{detail}", places.join(between)))))?;
        }
        if groups.len() > SHOWN {
            let what = if groups.iter().any(|group| group.images.len() > 1) { "group" } else { "image" };
            print(&format!("         and {} more\n", count((groups.len() - SHOWN) as u64, what)))?;
        }
    }
    for (number, (reason, checks)) in skipped(examination).into_iter().enumerate() {
        let gap = if number == 0 { "\n" } else { "" };
        print(&format!("{gap}skipped  {}: {}\n", checks.join(", "), line(reason)))?;
    }
    let counted = [(Severity::Error, "error"), (Severity::Warning, "warning"), (Severity::Note, "note")]
        .map(|(severity, name)| count(examination.count(severity) as u64, name));
    let mut rows = vec![("result", counted.join(", "))];
    rows.extend(arguments.output.as_deref().map(|page| ("page", path_text(page))));
    if let Some(moved) = moved {
        if moved.files() == 0 {
            rows.push(("moved", "no files: none is at fault that can be moved".into()));
        } else {
            rows.push(("moved", format!("{} to {}", count(moved.files(), "file"), path_text(&moved.folder))));
        }
        if let Some(kept) = moved.plan.kept().first() {
            let files = count(moved.plan.kept().len() as u64, "file");
            let first = images.describe(kept.image);
            rows.push(("stays", line(&format!("{files} at fault, such as {first}: {}", kept.reason))));
        }
        rows.extend(moved.plan.emptied().map(|finding| ("emptied", line(&finding.message))));
        if moved.files() > 0 {
            rows.push(("undo", format!("residual doctor --undo {}", quoted_path(&moved.folder))));
        }
    }
    print(&format!("\n{}", facts(&rows)))
}

/// The checks that were skipped, by the reason.
fn skipped(examination: &Examination) -> Vec<(&str, Vec<&'static str>)> {
    let mut reasons: Vec<(&str, Vec<&'static str>)> = Vec::new();
    for (check, reason) in &examination.skipped {
        match reasons.iter_mut().find(|(other, _)| other == reason) {
            Some((_, checks)) => checks.push(check.name()),
            None => reasons.push((reason, vec![check.name()])),
        }
    }
    reasons
}

fn document(images: &Collection, examination: &Examination, arguments: &Doctor, moved: Option<&Moved>) -> Value {
    let names = images.split_names();
    let image = |&image: &usize| {
        let class = &images.classes()[images.class(image) as usize];
        json!({ "image": images.describe(image), "split": names[images.split(image)], "class": class })
    };
    let group = |Group { images, detail }: &Group| json!({ "images": images.iter().map(image).collect::<Vec<_>>(), "detail": detail });
    let finding = |finding: &Finding| {
        json!({
            "check": finding.check.name(),
            "severity": finding.severity.name(),
            "message": finding.message,
            "images": finding.images(),
            "groups": finding.groups.iter().map(group).collect::<Vec<_>>(),
        })
    };
    let skipped = |(check, reason): &(Check, String)| json!({ "check": check.name(), "reason": reason });
    let labels = |check: &LabelCheck| {
        json!({
            "features": check.features,
            "images": check.images,
            "of": check.of,
            "classes": check.classes,
            "probe_top1": check.top1,
            "suspects": check.suspects,
        })
    };
    let shortcut = |check: &ShortcutCheck| {
        let score = |score: &residual::doctor::ShortcutScore| json!({ "property": score.property, "top1": score.top1, "interval": score.interval });
        json!({
            "images": check.images,
            "of": check.of,
            "chance": check.chance,
            "scores": check.scores.iter().map(score).collect::<Vec<_>>(),
        })
    };
    let kept = |kept: &Kept| json!({ "image": images.describe(kept.image), "reason": kept.reason });
    let quarantine = |moved: &Moved| {
        json!({
            "folder": (moved.files() > 0).then(|| path_text(&moved.folder)),
            "files": moved.files(),
            "stays": moved.plan.kept().iter().map(kept).collect::<Vec<_>>(),
            "emptied": moved.plan.emptied().map(|finding| &finding.message),
        })
    };
    json!({
        "data": images.name(),
        "images": images.len(),
        "classes": images.classes(),
        "splits": images.split_sizes().into_iter().map(|(name, len)| json!({ "split": name, "images": len })).collect::<Vec<_>>(),
        "errors": examination.count(Severity::Error),
        "warnings": examination.count(Severity::Warning),
        "notes": examination.count(Severity::Note),
        "findings": examination.findings.iter().map(finding).collect::<Vec<_>>(),
        "skipped": examination.skipped.iter().map(skipped).collect::<Vec<_>>(),
        "labels": examination.labels.as_ref().map(labels),
        "shortcut": examination.shortcut.as_ref().map(shortcut),
        "report": arguments.output.as_deref().map(path_text),
        "quarantine": moved.map(quarantine),
    })
}
