//! The images of a command: those in a folder, or those of a dataset.

use crate::args;
use crate::commands::data::open;
use crate::failure::Failure;
use crate::output::{complain, count, path_text};
use residual::data::{Dataset, Part, Selection, Subset};
use residual::files::{IMAGE_EXTENSIONS, images_below};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The images of a dataset that was typed in place of files.
pub(crate) struct Images {
    pub(crate) dataset: Arc<dyn Dataset>,
    /// Which images these are, in one line.
    pub(crate) description: String,
}

impl Images {
    /// Opens the dataset, if one was typed.
    pub(crate) fn open(arguments: &args::Images) -> Result<Option<Self>, Failure> {
        let Some(name) = &arguments.data else {
            let args::Images { data_dir, split, limit, .. } = arguments;
            let given =
                [("--data-dir", data_dir.is_some()), ("--split", split.is_some()), ("--limit", limit.is_some())];
            return match given.into_iter().find(|(_, is_given)| *is_given) {
                Some((flag, _)) => Err(Failure::usage(format!("--data is required for {flag}"))),
                None => Ok(None),
            };
        };
        let source = open(name, arguments.data_dir.as_deref())?;
        let Selection { mut dataset, part } = source.evaluation(arguments.split.map(Into::into), None)?;
        let mut description = match part {
            // The description of the set says which split it is.
            Part::Split(_) | Part::HeldOut(_) => dataset.describe_set(),
            Part::Everything => format!("{} ({part})", dataset.describe_set()),
        };
        if let Some(limit) = arguments.limit.filter(|&limit| limit < dataset.len()) {
            if limit == 0 {
                return Err(Failure::usage("limit: expected at least 1, got 0"));
            }
            description = format!("the first {limit} of {description}");
            dataset = Arc::new(Subset::new(dataset, (0..limit).collect()));
        }
        Ok(Some(Self { dataset, description }))
    }
}

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
