//! The classes: those of each split, empty ones, their sizes, and names that are nearly the same.

use crate::examine::Context;
use crate::finding::counted;
use crate::{Check, Finding, Severity};
use residual_data::{Split, Survey, SurveyedClass, SurveyedSplit};
use residual_files::printable;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use unicode_normalization::UnicodeNormalization;

/// Names in a message.
const SHOWN: usize = 5;

pub(crate) fn check(context: &mut Context<'_>) {
    let counts = counts(context);
    if context.images.is_multi_label() {
        for check in [Check::Classes, Check::EmptyClasses, Check::Imbalance, Check::Contradictory] {
            context.skip(check, "an image may have several labels");
        }
    } else {
        differing(context, &counts);
        empty(context, &counts);
        imbalance(context, &counts);
    }
    match context.images.survey() {
        Some(survey) => names(context, survey),
        None => context.skip(Check::Names, "the data are no class folders"),
    }
}

/// For each split the number of images of each class.
fn counts(context: &Context<'_>) -> Vec<Vec<usize>> {
    let images = context.images;
    let mut counts = vec![vec![0; images.classes().len()]; images.split_names().len()];
    (0..images.len()).for_each(|image| counts[images.split(image)][images.class(image) as usize] += 1);
    counts
}

/// Classes that a split has and the training split lacks, which training refuses; and those that it lacks itself.
fn differing(context: &mut Context<'_>, counts: &[Vec<usize>]) {
    let images = context.images;
    let (names, classes) = (images.split_names(), images.classes());
    let Some(training) = images.training_split().filter(|_| names.len() > 1) else {
        context.skip(Check::Classes, "there is one split only, or none for training");
        return;
    };
    // Of a folder that cannot be read it is not known whether it has images.
    let folders = images.survey().into_iter().flat_map(|survey| &survey.splits).flat_map(|split| &split.classes);
    let unread = folders.filter(|folder| folder.fault.is_some()).map(|folder| folder.name.nfc().collect::<String>());
    let unread: BTreeSet<String> = unread.collect();
    let is_known = |class: usize| unread.is_empty() || !unread.contains(&classes[class].nfc().collect::<String>());
    let (mut unknown, mut absent) = (Vec::new(), Vec::new());
    for (split, own) in counts.iter().enumerate().filter(|(split, _)| *split != training) {
        let of = |is_one: &dyn Fn(usize) -> bool| -> Vec<&str> {
            (0..classes.len()).filter(|&class| is_one(class) && is_known(class)).map(|class| &*classes[class]).collect()
        };
        let extra = of(&|class| own[class] > 0 && counts[training][class] == 0);
        if !extra.is_empty() {
            let known = of(&|class| counts[training][class] > 0);
            let hints = extra.iter().filter_map(|name| known.iter().find(|other| folded(other) == folded(name)));
            let hints: Vec<String> = hints.map(|name| format!("\"{}\"", printable(name, 60))).collect();
            let hint = if hints.is_empty() { String::new() } else { format!(" (train has {})", hints.join(", ")) };
            unknown.push(format!(
                "{} has {} that train lacks: {}{hint}",
                names[split],
                classes_of(&extra),
                listed(&extra)
            ));
        }
        let missing = of(&|class| own[class] == 0 && counts[training][class] > 0);
        if !missing.is_empty() {
            absent.push(format!("{} lacks {} of train: {}", names[split], classes_of(&missing), listed(&missing)));
        }
    }
    match (unknown.is_empty(), absent.is_empty()) {
        (true, true) => {}
        (true, false) => context.report(Check::Classes, Severity::Warning, absent.join("; "), Vec::new()),
        (false, _) => {
            unknown.extend(absent);
            context.report(Check::Classes, Severity::Error, unknown.join("; "), Vec::new());
        }
    }
}

fn classes_of(names: &[&str]) -> String {
    counted(names.len(), "class")
}

/// Empty class folders: of the training split training refuses them, and of another one if all are empty.
fn empty(context: &mut Context<'_>, counts: &[Vec<usize>]) {
    let Some(survey) = context.images.survey() else {
        let classes = context.images.classes();
        let Some(training) = context.images.training_split() else { return };
        let empty: Vec<&str> =
            (0..classes.len()).filter(|&class| counts[training][class] == 0).map(|class| &*classes[class]).collect();
        if !empty.is_empty() {
            let message = format!("{} without training images: {}", classes_of(&empty), listed(&empty));
            context.report(Check::EmptyClasses, Severity::Warning, message, Vec::new());
        }
        return;
    };
    let (mut severity, mut folders) = (Severity::Warning, Vec::new());
    for split in &survey.splits {
        let is_empty = |class: &SurveyedClass| class.images.is_empty() && class.fault.is_none();
        let refused = if is_needed(split, is_empty) { Severity::Error } else { Severity::Warning };
        for class in split.classes.iter().filter(|class| is_empty(class)) {
            severity = severity.min(refused);
            let path = class.folder.display().to_string();
            folders.push(match class.ignored.len() {
                0 => path,
                ignored => format!("{path} (with {} that are no images)", counted(ignored, "file")),
            });
        }
    }
    if !folders.is_empty() {
        let names: Vec<&str> = folders.iter().map(String::as_str).collect();
        let message = format!("{} without images: {}", counted(folders.len(), "class folder"), listed(&names));
        context.report(Check::EmptyClasses, severity, message, Vec::new());
    }
}

/// Whether training refuses a split some of whose classes are empty.
fn is_needed(split: &SurveyedSplit, is_empty: impl Fn(&SurveyedClass) -> bool) -> bool {
    matches!(split.split, None | Some(Split::Train)) || split.classes.iter().all(is_empty)
}

/// The class folders that have images, and none without the files that are `moved`; as a finding.
pub(crate) fn emptied(survey: &Survey, moved: &BTreeSet<&Path>) -> Option<Finding> {
    let is_left = |path: &PathBuf| !moved.contains(&**path);
    let is_empty = |class: &SurveyedClass| class.fault.is_none() && !class.images.iter().any(is_left);
    let (mut severity, mut folders) = (Severity::Warning, Vec::new());
    for split in &survey.splits {
        let refused = if is_needed(split, is_empty) { Severity::Error } else { Severity::Warning };
        for class in split.classes.iter().filter(|class| !class.images.is_empty() && is_empty(class)) {
            severity = severity.min(refused);
            folders.push(class.folder.display().to_string());
        }
    }
    let names: Vec<&str> = folders.iter().map(String::as_str).collect();
    let message = format!("{} left without images: {}", counted(names.len(), "class folder"), listed(&names));
    (!names.is_empty()).then(|| Finding { check: Check::EmptyClasses, severity, message, groups: Vec::new() })
}

fn imbalance(context: &mut Context<'_>, counts: &[Vec<usize>]) {
    let Some(training) = context.images.training_split() else {
        context.skip(Check::Imbalance, "there is no training split");
        return;
    };
    let present = || (0..counts[training].len()).filter(|&class| counts[training][class] > 0);
    let size = |class: &usize| counts[training][*class];
    let (Some(small), Some(large)) = (present().min_by_key(size), present().max_by_key(size)) else { return };
    let (least, most) = (size(&small), size(&large));
    if most as f32 >= context.options.thresholds.imbalance * least as f32 {
        let name = |class: usize| format!("\"{}\"", printable(&context.images.classes()[class], 60));
        let message = format!(
            "class {} has {} for training and class {} has {most}, {:.0} times as many",
            name(small),
            counted(least, "image"),
            name(large),
            most as f64 / least as f64
        );
        context.report(Check::Imbalance, Severity::Warning, message, Vec::new());
    }
}

/// Names that differ in case or composition only, of class folders and of files in one folder.
fn names(context: &mut Context<'_>, survey: &Survey) {
    let mut found = Vec::new();
    let mut severity = Severity::Warning;
    for SurveyedSplit { classes, .. } in &survey.splits {
        for equal in alike(classes.iter().map(|class| &*class.name)) {
            // Of names that are equal but for their composition training refuses one.
            let composed: BTreeSet<String> = equal.iter().map(|name| name.nfc().collect()).collect();
            if composed.len() < equal.len() {
                severity = Severity::Error;
            }
            found.push(format!("classes {}", shown(&equal)));
        }
        for class in classes {
            let mut folders: BTreeMap<Option<&Path>, Vec<&str>> = BTreeMap::new();
            for path in &class.images {
                let name = path.file_name().and_then(|name| name.to_str());
                folders.entry(path.parent()).or_default().extend(name);
            }
            for names in folders.into_values() {
                found.extend(alike(names.into_iter()).iter().map(|equal| format!("files {}", shown(equal))));
            }
        }
    }
    if !found.is_empty() {
        let found: Vec<&str> = found.iter().map(String::as_str).collect();
        let more = if found.len() > SHOWN { format!(" and {} more", found.len() - SHOWN) } else { String::new() };
        let list = found[..found.len().min(SHOWN)].join("; ");
        let message = format!("names that differ in case or composition only: {list}{more}");
        context.report(Check::Names, severity, message, Vec::new());
    }
}

/// Those of some different names that are equal when folded, in groups of two or more.
fn alike<'a>(names: impl Iterator<Item = &'a str>) -> Vec<Vec<&'a str>> {
    let mut by_fold: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    names.for_each(|name| by_fold.entry(folded(name)).or_default().push(name));
    by_fold.into_values().filter(|names| names.len() > 1).collect()
}

fn folded(name: &str) -> String {
    name.nfkc().flat_map(char::to_lowercase).collect()
}

/// Names with everything but ASCII escaped, as names that look alike would be.
fn shown(names: &[&str]) -> String {
    names.iter().map(|name| format!("\"{}\"", printable(name, 60).escape_default())).collect::<Vec<_>>().join(" and ")
}

pub(crate) fn listed(names: &[&str]) -> String {
    let shown: Vec<String> = names.iter().take(SHOWN).map(|name| printable(name, 200)).collect();
    let more = names.len().saturating_sub(SHOWN);
    let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{rest}", shown.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_alike_whatever_their_case_and_composition() {
        let names = ["Cat", "cat", "dog", "caf\u{e9}", "cafe\u{301}", "Dogs"];
        assert_eq!(alike(names.into_iter()), [vec!["caf\u{e9}", "cafe\u{301}"], vec!["Cat", "cat"]]);
        assert_eq!(shown(&["caf\u{e9}", "cafe\u{301}"]), "\"caf\\u{e9}\" and \"cafe\\u{301}\"");
    }
}
