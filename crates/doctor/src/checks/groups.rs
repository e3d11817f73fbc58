//! Images of several splits that seem to belong together: by the names of their files, and by when and with which camera they were
//! taken. A suspicion, as names may mean something else.

use super::duplicates::split_names;
use crate::examine::Context;
use crate::finding::counted;
use crate::jpeg::Shot;
use crate::{Check, Group, Severity};
use residual_files::is_image;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

/// Names with more images than this begin alike for another reason.
const MOST_MEMBERS: usize = 20;
/// Words after the name of a subject that tell its images apart.
const VIEWS: [&str; 19] = [
    "left",
    "right",
    "front",
    "back",
    "top",
    "bottom",
    "side",
    "rear",
    "upper",
    "lower",
    "copy",
    "crop",
    "cropped",
    "flip",
    "flipped",
    "rotated",
    "aug",
    "augmented",
    "edited",
];

pub(crate) fn check(context: &mut Context<'_>) {
    if context.images.split_names().len() < 2 {
        context.skip(Check::Groups, "there is one split only");
        return;
    }
    if context.records.iter().all(|record| record.file.is_none()) {
        context.skip(Check::Groups, "the images are no files of their own");
        return;
    }
    let (mut subjects, mut shots) = (HashMap::new(), HashMap::new());
    for (index, record) in context.records.iter().enumerate() {
        if let Some(subject) = subject(&context.images.describe(index)) {
            subjects.entry(subject.to_owned()).or_insert_with(Vec::new).push(index);
        }
        if let Some(shot) = record.file.as_ref().and_then(|file| file.jpeg.shot.as_ref()) {
            shots.entry(shot).or_insert_with(Vec::new).push(index);
        }
    }
    let mut of_class = vec![0; context.images.classes().len()];
    (0..context.images.len()).for_each(|image| of_class[context.images.class(image) as usize] += 1);
    let mut groups = BTreeMap::new();
    for (subject, members) in subjects {
        if members.len() <= MOST_MEMBERS && !is_prefix_of_class(context, &members, &of_class) {
            add(context, &mut groups, members, format!("named {subject}"));
        }
    }
    for (Shot { time, camera }, members) in shots {
        add(context, &mut groups, members, format!("taken {time} with {camera}"));
    }
    if !groups.is_empty() {
        let count = counted(groups.len(), "group");
        let message = format!("{count} of images that seem to be of one subject or series, in several splits");
        context.report(Check::Groups, Severity::Warning, message, groups.into_values().collect());
    }
}

/// Adds images of several splits that are not equal, unless the same ones are there.
fn add(context: &Context<'_>, groups: &mut BTreeMap<Vec<usize>, Group>, members: Vec<usize>, why: String) {
    let splits: BTreeSet<usize> = members.iter().map(|&image| context.images.split(image)).collect();
    let contents: BTreeSet<_> = members.iter().map(|&image| context.records[image].digest).collect();
    if splits.len() > 1 && contents.len() > 1 {
        let detail = format!("{why}; {}", split_names(context.images, &splits));
        groups.entry(members.clone()).or_insert(Group { images: members, detail });
    }
}

/// Whether images of one name are half of their class or more: then it is the class that is named.
fn is_prefix_of_class(context: &Context<'_>, members: &[usize], of_class: &[usize]) -> bool {
    let class = context.images.class(members[0]);
    members.iter().all(|&image| context.images.class(image) == class) && 2 * members.len() >= of_class[class as usize]
}

/// What a file's name says about its subject: the part before a letter, a number of up to two digits or a view, if there is a number in
/// it. `patient_12_a.jpg` and `patient_12_b.jpg` are of `patient_12`.
fn subject(place: &str) -> Option<&str> {
    let path = Path::new(place);
    if !is_image(path) {
        return None;
    }
    let stem = path.file_stem()?.to_str()?;
    let (subject, view) = stem.rsplit_once(['_', '-', '.', ' '])?;
    let view = view.trim_matches(['(', ')']).to_ascii_lowercase();
    let is_number = (1..=2).contains(&view.len()) && view.bytes().all(|byte| byte.is_ascii_digit());
    let is_letter = view.len() == 1 && view.bytes().all(|byte| byte.is_ascii_lowercase());
    let tells_views = is_number || is_letter || VIEWS.contains(&&*view);
    let names_subject = subject.len() >= 3 && subject.bytes().any(|byte| byte.is_ascii_digit());
    (tells_views && names_subject).then_some(subject)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_is_what_names_share_before_the_view() {
        for (place, expected) in [
            ("train/x/patient_12_a.jpg", Some("patient_12")),
            ("val/y/patient_12-b.PNG", Some("patient_12")),
            ("IMG_2041 (1).jpg", Some("IMG_2041")),
            ("scan7-left.png", Some("scan7")),
            ("0031_02.png", Some("0031")),
            // A running number, an identifier, a class.
            ("IMG_2041.jpg", None),
            ("1030023514_aad5c608f9.jpg", None),
            ("cat_12.jpg", None),
            ("cat.4012.jpg", None),
            ("shard-0.tar: 12_a", None),
        ] {
            assert_eq!(subject(place), expected, "{place}");
        }
    }
}
