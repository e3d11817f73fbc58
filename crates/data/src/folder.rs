//! A folder of images, one sub-folder a class, as torchvision's `ImageFolder` reads it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use residual_files::read_file;
use residual_preprocess::{Image, Preprocessing};

use crate::{DataError, Dataset, Format, Sample, Split};

/// The extensions that are taken for images, in any case; the content decides how they are decoded.
const EXTENSIONS: [&str; 5] = ["jpg", "jpeg", "png", "webp", "bmp"];
/// The largest image file that is read.
const MAX_FILE_BYTES: u64 = 256 << 20;
/// How deep folders may lie in a class folder.
const MAX_DEPTH: usize = 16;
/// Labels count to this at most.
const MAX_CLASSES: usize = 65_536;

/// Reads and decodes one image file to RGB.
///
/// # Errors
/// [`DataError::File`] if it cannot be read, is no file or larger than 256 MiB, [`DataError::Image`] if it cannot be decoded.
pub fn read_image(path: &Path) -> Result<Image, DataError> {
    let bytes = read_file(path, MAX_FILE_BYTES)?;
    Image::decode(&bytes).map_err(|cause| DataError::Image { place: path.display().to_string(), cause })
}

/// Where the splits of an image folder lie.
#[derive(Clone, Debug)]
pub(crate) struct FolderLayout {
    train: Option<PathBuf>,
    val: Option<PathBuf>,
    test: Option<PathBuf>,
}

impl FolderLayout {
    /// `train|val|test/<class>/…` if there is a `train`, `val` or `test` folder, else `<class>/…`.
    pub(crate) fn find(root: &Path) -> Result<Self, DataError> {
        let split = |name: &str| Some(root.join(name)).filter(|path| path.is_dir());
        let (train, val, test) = (split("train"), split("val").or_else(|| split("valid")), split("test"));
        if train.is_some() || val.is_some() || test.is_some() {
            return Ok(Self { train, val, test });
        }
        Ok(Self { train: Some(root.to_path_buf()), val: None, test: None })
    }

    /// The folder of a split that is not for training; `Val` and `Test` stand for each other.
    pub(crate) fn held_out(&self, split: Split) -> Option<&Path> {
        let (first, second) = if split == Split::Val { (&self.val, &self.test) } else { (&self.test, &self.val) };
        first.as_deref().or(second.as_deref())
    }

    fn folder(&self, split: Split) -> Result<&Path, DataError> {
        let found = if split == Split::Train { self.train.as_deref() } else { self.held_out(split) };
        let other = || self.train.as_deref().or(self.held_out(Split::Test)).expect("a layout has one split at least");
        found.ok_or_else(|| {
            let place = other().parent().unwrap_or(other()).display().to_string();
            DataError::invalid(place, format!("a {split} folder"), format!("only {}", other().display()))
        })
    }
}

/// Images in class folders. Classes are numbered by name; images are ordered by class, then path.
pub struct Folder {
    names: Vec<String>,
    files: Vec<(PathBuf, u32)>,
    format: Format,
    notes: Vec<String>,
}

impl Folder {
    /// The images of `root/<class>/…`.
    ///
    /// # Errors
    /// [`DataError::Io`] if a folder cannot be read; [`DataError::Invalid`] if there are no class folders, or one has no
    /// images.
    pub fn read(root: &Path) -> Result<Self, DataError> {
        Self::with_classes(root, class_names(root)?)
    }

    /// One split of a layout. All splits have the classes of the training split.
    pub(crate) fn open(layout: &FolderLayout, split: Split) -> Result<Self, DataError> {
        let folder = layout.folder(split)?;
        let names = class_names(layout.train.as_deref().unwrap_or(folder))?;
        if let Some(stray) = class_names(folder)?.iter().find(|name| names.binary_search(name).is_err()) {
            let place = folder.join(stray).display().to_string();
            return Err(DataError::invalid(place, "the classes of the train folder", "another class"));
        }
        Self::with_classes(folder, names)
    }

    fn with_classes(root: &Path, names: Vec<String>) -> Result<Self, DataError> {
        let (mut files, mut ignored) = (Vec::new(), Vec::new());
        for (label, name) in names.iter().enumerate() {
            let folder = root.join(name);
            if !folder.is_dir() {
                continue;
            }
            let mut found = Vec::new();
            walk(&folder, 0, &mut BTreeSet::new(), &mut found, &mut ignored)?;
            if found.is_empty() {
                return Err(DataError::invalid(folder.display(), "images (jpg, jpeg, png, webp, bmp)", "none"));
            }
            found.sort_unstable();
            files.extend(found.into_iter().map(|path| (path, label as u32)));
        }
        let mut notes = Vec::new();
        if let Some(first) = ignored.iter().min() {
            let (count, root) = (ignored.len(), root.display());
            let files = if count == 1 { "file" } else { "files" };
            notes.push(format!("{root}: ignored {count} {files} with another extension, such as {}", first.display()));
        }
        let format = Format {
            image_size: None,
            channels: 3,
            normalized: false,
            mean: Preprocessing::IMAGENET_MEAN.to_vec(),
            std: Preprocessing::IMAGENET_STD.to_vec(),
        };
        Ok(Self { names, files, format, notes })
    }

    /// The file of sample `index`.
    pub fn path(&self, index: usize) -> &Path {
        &self.files[index].0
    }
}

impl Dataset for Folder {
    fn len(&self) -> usize {
        self.files.len()
    }

    fn label(&self, index: usize) -> u32 {
        self.files[index].1
    }

    fn class_names(&self) -> &[String] {
        &self.names
    }

    fn sample(&self, index: usize) -> Result<Sample, DataError> {
        read_image(self.path(index)).map(Sample::Pixels)
    }

    fn describe(&self, index: usize) -> String {
        self.path(index).display().to_string()
    }

    fn format(&self) -> &Format {
        &self.format
    }

    fn notes(&self) -> &[String] {
        &self.notes
    }
}

/// The names of the class folders, sorted.
fn class_names(root: &Path) -> Result<Vec<String>, DataError> {
    let mut names = Vec::new();
    for (path, name) in visible(root)? {
        if path.is_dir() {
            names.push(name);
        }
    }
    if names.is_empty() {
        return Err(DataError::invalid(root.display(), "a folder for each class", "none"));
    }
    if names.len() > MAX_CLASSES {
        return Err(DataError::invalid(root.display(), format!("at most {MAX_CLASSES} classes"), names.len()));
    }
    names.sort_unstable();
    Ok(names)
}

/// Gathers the images below `folder`, following links but no loops.
fn walk(
    folder: &Path,
    depth: usize,
    visited: &mut BTreeSet<PathBuf>,
    found: &mut Vec<PathBuf>,
    ignored: &mut Vec<PathBuf>,
) -> Result<(), DataError> {
    if depth > MAX_DEPTH {
        let expected = format!("at most {MAX_DEPTH} nested folders");
        return Err(DataError::invalid(folder.display(), expected, "more"));
    }
    if !visited.insert(fs::canonicalize(folder).map_err(DataError::io(folder))?) {
        return Ok(());
    }
    for (path, _) in visible(folder)? {
        if path.is_dir() {
            walk(&path, depth + 1, visited, found, ignored)?;
            continue;
        }
        let extension =
            path.extension().and_then(|extension| extension.to_str()).unwrap_or_default().to_ascii_lowercase();
        if EXTENSIONS.contains(&extension.as_str()) { found.push(path) } else { ignored.push(path) }
    }
    Ok(())
}

/// The entries of a folder whose names do not begin with a dot, sorted.
fn visible(folder: &Path) -> Result<Vec<(PathBuf, String)>, DataError> {
    let mut entries = Vec::new();
    for entry in fs::read_dir(folder).map_err(DataError::io(folder))? {
        let entry = entry.map_err(DataError::io(folder))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.starts_with('.') {
            entries.push((entry.path(), name));
        }
    }
    entries.sort_unstable();
    Ok(entries)
}
