//! Files that cannot be read, and files whose extension says another format than they have.

use super::classes::listed;
use crate::examine::Context;
use crate::finding::counted;
use crate::record::FaultKind;
use crate::{Check, Group, Severity};
use residual_files::{is_image, one_line};
use std::collections::BTreeMap;
use std::path::Path;

pub(crate) fn check(context: &mut Context<'_>) {
    unreadable(context);
    if context.records.iter().any(|record| record.file.is_some()) {
        extension(context);
    } else {
        context.skip(Check::Extension, "the images are no files of their own");
        context.skip(Check::Cmyk, "the images are no files of their own");
    }
}

fn unreadable(context: &mut Context<'_>) {
    let (mut kinds, mut groups) = (BTreeMap::<FaultKind, usize>::new(), Vec::new());
    for (index, record) in context.records.iter().enumerate() {
        if let Some(fault) = &record.fault {
            *kinds.entry(fault.kind).or_default() += 1;
            groups.push(Group::of_one(index, fault.reason.clone()));
        }
    }
    let mut messages = Vec::new();
    if !groups.is_empty() {
        let count = counted(groups.len(), "image");
        let kinds: Vec<String> = match kinds.len() {
            1 => kinds.keys().map(|kind| kind.describe().to_owned()).collect(),
            _ => kinds.iter().map(|(kind, count)| format!("{count} {}", kind.describe())).collect(),
        };
        messages.push(format!("{count} cannot be read: {}", kinds.join(", ")));
    }
    let classes =
        context.images.survey().into_iter().flat_map(|survey| &survey.splits).flat_map(|split| &split.classes);
    let faults: Vec<String> = classes.filter_map(|class| class.fault.as_ref()).map(|fault| one_line(fault)).collect();
    if !faults.is_empty() {
        let faults: Vec<&str> = faults.iter().map(String::as_str).collect();
        let count = counted(faults.len(), "class folder");
        messages.push(format!("{count} of which nothing is known: {}", listed(&faults)));
    }
    if !messages.is_empty() {
        context.report(Check::Unreadable, Severity::Error, messages.join("; "), groups);
    }
}

fn extension(context: &mut Context<'_>) {
    let mut groups = Vec::new();
    for (index, record) in context.records.iter().enumerate() {
        let Some(format) = record.file.as_ref().and_then(|file| file.format) else { continue };
        let place = context.images.describe(index);
        if let Some(own) = stated(&place).filter(|own| canonical(own) != canonical(format)) {
            groups.push(Group::of_one(index, format!("called .{own}, is .{format}")));
        }
    }
    if !groups.is_empty() {
        let count = counted(groups.len(), "file");
        let message = format!("{count} with the extension of another format; they are read by their content here");
        context.report(Check::Extension, Severity::Warning, message, groups);
    }
}

/// The extension of an image file's name, in lower case; `None` of other names, such as those of images in shards.
fn stated(place: &str) -> Option<String> {
    let path = Path::new(place);
    let extension = path.extension()?.to_str()?.to_ascii_lowercase();
    (is_image(path) || extension == "gif").then_some(extension)
}

/// One extension for each format.
fn canonical(extension: &str) -> &str {
    match extension {
        "jpeg" => "jpg",
        "tiff" => "tif",
        // Both hold grey and colour.
        "pgm" => "ppm",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use residual_files::IMAGE_EXTENSIONS;

    #[test]
    fn every_extension_of_an_image_is_one_of_a_format_that_is_decoded() {
        let decoded = ["jpg", "png", "webp", "bmp", "gif", "tif", "ppm"];
        assert!(IMAGE_EXTENSIONS.iter().all(|extension| decoded.contains(&canonical(extension))));
        assert_eq!(stated("a/B.JPEG").as_deref(), Some("jpeg"));
        assert_eq!([stated("shards/0.tar: cat.1"), stated("data_batch_1.bin image 3")], [None, None]);
    }
}
