//! The same file several times: in one class, in several classes, in several splits.

use crate::examine::Context;
use crate::finding::counted;
use crate::{Check, Collection, Group, Severity};
use std::collections::{BTreeMap, BTreeSet, HashMap};

pub(crate) fn check(context: &mut Context<'_>) {
    let images = context.images;
    let (mut contradictory, mut leaked, mut repeated) = (Vec::new(), Vec::new(), Vec::new());
    for members in equal(context) {
        let classes: BTreeSet<u32> = members.iter().map(|&image| images.class(image)).collect();
        let splits: BTreeSet<usize> = members.iter().map(|&image| images.split(image)).collect();
        if classes.len() > 1 && !images.is_multi_label() {
            contradictory.push(Group { detail: class_names(images, &classes), images: members.clone() });
        }
        let mut places: BTreeMap<(usize, Option<u32>), Vec<usize>> = BTreeMap::new();
        for &image in &members {
            let class = (!images.is_multi_label()).then(|| images.class(image));
            places.entry((images.split(image), class)).or_default().push(image);
        }
        let several = places.into_values().filter(|images| images.len() > 1);
        repeated.extend(several.map(|images| Group { images, detail: String::new() }));
        if splits.len() > 1 {
            leaked.push(Group { detail: split_names(images, &splits), images: members });
        }
    }
    if !contradictory.is_empty() {
        let count = counted(contradictory.len(), "file");
        let message = format!("{count} in several classes: at most one of the labels is right");
        context.report(Check::Contradictory, Severity::Error, message, contradictory);
    }
    if !leaked.is_empty() {
        let message = format!("{} in several splits", counted(leaked.len(), "file"));
        context.report(Check::Leakage, Severity::Error, message, leaked);
    }
    if !repeated.is_empty() {
        let more: usize = repeated.iter().map(|group| group.images.len() - 1).sum();
        let message =
            format!("{} several times in a class: {more} more than one each", counted(repeated.len(), "file"));
        context.report(Check::Duplicates, Severity::Warning, message, repeated);
    }
}

/// The images with equal content, where there are several; in order.
fn equal(context: &Context<'_>) -> Vec<Vec<usize>> {
    let mut members: HashMap<[u8; 16], Vec<usize>> = HashMap::new();
    for (index, record) in context.records.iter().enumerate() {
        if let Some(digest) = record.digest {
            members.entry(digest).or_default().push(index);
        }
    }
    let mut groups: Vec<Vec<usize>> = members.into_values().filter(|members| members.len() > 1).collect();
    groups.sort_unstable();
    groups
}

pub(crate) fn class_names(images: &Collection, classes: &BTreeSet<u32>) -> String {
    classes.iter().map(|&class| &*images.classes()[class as usize]).collect::<Vec<_>>().join(", ")
}

pub(crate) fn split_names(images: &Collection, splits: &BTreeSet<usize>) -> String {
    let names = images.split_names();
    splits.iter().map(|&split| names[split]).collect::<Vec<_>>().join(", ")
}
