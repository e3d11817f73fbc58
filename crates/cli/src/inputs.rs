//! The images of a command: those in a folder, or those of a dataset.

use crate::args;
use crate::commands::data::open;
use crate::failure::Failure;
use crate::output::{complain, count, path_text};
use residual::FeatureRow;
use residual::data::{DataError, Dataset, Format, Part, Sample, Selection, Split, Subset, read_image};
use residual::files::{IMAGE_EXTENSIONS, images_below};
use residual::preprocess::Preprocessing;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The images of a dataset that was typed in place of files.
pub(crate) struct Images {
    pub(crate) dataset: Arc<dyn Dataset>,
    /// Which images these are, in one line.
    pub(crate) description: String,
}

impl Images {
    /// Opens the dataset, if one was typed. Without `--limit` it has at most `usual` images, evenly spaced.
    pub(crate) fn open(arguments: &args::Images, usual: Option<usize>) -> Result<Option<Self>, Failure> {
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
        if let Some(limit) = arguments.limit.or(usual).filter(|&limit| limit < dataset.len()) {
            if limit == 0 {
                return Err(Failure::usage("limit: expected at least 1, got 0"));
            }
            // A folder lists one class after another: the usual number of images is spread over all of them.
            let (which, all) = (arguments.limit.map_or("", |_| "the first "), dataset.len());
            description = format!("{which}{limit} of {description}");
            let chosen = (0..limit).map(|image| if arguments.limit.is_some() { image } else { image * all / limit });
            let chosen = chosen.collect();
            dataset = Arc::new(Subset::new(dataset, chosen));
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

/// The images that a command reads, from files or from a dataset.
pub(crate) struct Inputs {
    pub(crate) dataset: Arc<dyn Dataset>,
    /// Their sources, with their classes.
    pub(crate) sources: Vec<FeatureRow>,
    pub(crate) classes: Vec<String>,
    /// Which images of a dataset these are.
    pub(crate) description: Option<String>,
}

impl Inputs {
    pub(crate) fn of_dataset(Images { dataset, description }: Images) -> Self {
        // An image of multi-label data has no class of its own.
        let label = |index| (!dataset.is_multi_label()).then(|| dataset.label(index) as usize);
        let row = |index| FeatureRow { path: dataset.describe(index), label: label(index) };
        let sources = (0..dataset.len()).map(row).collect();
        let classes = dataset.class_names().to_vec();
        Self { dataset, sources, classes, description: Some(description) }
    }
}

/// Typed images, with folders replaced by the images in them.
pub(crate) struct Listed {
    paths: Vec<PathBuf>,
    /// The paths as text, with their classes: the class folders in a typed folder.
    sources: Vec<FeatureRow>,
    classes: Vec<String>,
}

impl Listed {
    /// The images, for a network with so many input channels.
    pub(crate) fn into_inputs(self, channels: usize) -> Inputs {
        let Self { paths, sources, classes } = self;
        Inputs { dataset: Arc::new(Files::new(paths, channels)), sources, classes, description: None }
    }
}

/// The images that were typed.
pub(crate) fn listed(inputs: &[PathBuf]) -> Result<Listed, Failure> {
    let mut found: Vec<(PathBuf, Option<String>)> = Vec::new();
    for input in inputs {
        if !input.is_dir() {
            found.push((input.clone(), None));
            continue;
        }
        found.extend(images_in(input)?.into_iter().map(|image| {
            let class = class(input, &image);
            (image, class)
        }));
    }
    let all_have = found.iter().all(|(_, class)| class.is_some());
    let classes: BTreeSet<&String> =
        found.iter().filter_map(|(_, class)| class.as_ref()).filter(|_| all_have).collect();
    let classes: Vec<String> = classes.into_iter().cloned().collect();
    let label = |class: &Option<String>| class.as_ref().and_then(|class| classes.binary_search(class).ok());
    let sources = found.iter().map(|(path, class)| FeatureRow { path: path_text(path), label: label(class) }).collect();
    Ok(Listed { paths: found.into_iter().map(|(path, _)| path).collect(), sources, classes })
}

/// The class folder of an image below `root`: the first folder, or the one in a split.
fn class(root: &Path, image: &Path) -> Option<String> {
    let below = image.parent()?.strip_prefix(root).ok()?;
    let mut names = below.iter().map(|name| path_text(Path::new(name)));
    names.find(|name| Split::from_name(name).is_none())
}

/// Image files, in order, without classes.
struct Files {
    paths: Vec<PathBuf>,
    format: Format,
}

impl Files {
    fn new(paths: Vec<PathBuf>, channels: usize) -> Self {
        let (mean, std) = (Preprocessing::IMAGENET_MEAN.to_vec(), Preprocessing::IMAGENET_STD.to_vec());
        Self { paths, format: Format { image_size: None, channels, normalized: false, mean, std } }
    }
}

impl Dataset for Files {
    fn len(&self) -> usize {
        self.paths.len()
    }

    fn label(&self, _index: usize) -> u32 {
        0
    }

    fn class_names(&self) -> &[String] {
        &[]
    }

    fn sample(&self, index: usize) -> Result<Sample, DataError> {
        read_image(&self.paths[index]).map(Sample::Pixels)
    }

    fn describe(&self, index: usize) -> String {
        path_text(&self.paths[index])
    }

    fn format(&self) -> &Format {
        &self.format
    }
}
