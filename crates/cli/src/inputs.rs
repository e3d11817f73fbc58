//! The images in a folder on the command line.

use crate::failure::Failure;
use crate::output::{complain, count, path_text};
use residual::files::{IMAGE_EXTENSIONS, images_below};
use std::path::{Path, PathBuf};

/// The images in `folder` and its subfolders, sorted. A note on stderr counts the other files.
pub(crate) fn images_in(folder: &Path) -> Result<Vec<PathBuf>, Failure> {
    let found = images_below(folder)?;
    if let Some(first) = found.ignored.first() {
        let what = count(found.ignored.len() as u64, "file");
        complain(&format!(
            "{}: skipped {what} with another extension, such as {}",
            path_text(folder),
            path_text(first)
        ));
    }
    if found.images.is_empty() {
        let expected = format!("expected images ({})", IMAGE_EXTENSIONS.join(", "));
        return Err(Failure::usage(format!("{}: {expected}, got none", path_text(folder))));
    }
    Ok(found.images)
}
