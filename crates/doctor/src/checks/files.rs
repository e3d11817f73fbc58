//! Files that cannot be read, and files whose extension says another format than they have.

use crate::examine::Context;
use crate::finding::counted;
use crate::{Check, Group, Severity};
use residual_files::is_image;
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
    let faults = context.records.iter().enumerate();
    let groups: Vec<Group> = faults
        .filter_map(|(index, record)| Some(Group::of_one(index, record.fault.as_ref()?.reason.clone())))
        .collect();
    if groups.is_empty() {
        return;
    }
    let count = counted(groups.len(), "image");
    context.report(Check::Unreadable, Severity::Error, format!("{count} cannot be read"), groups);
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
