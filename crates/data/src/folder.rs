//! A folder of images, one subfolder per class, as in torchvision's `ImageFolder`.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use residual_files::{FileCause, FileError, images_below, is_image, printable, read_file, read_part, visible_entries};
use residual_preprocess::Image;
use unicode_normalization::UnicodeNormalization;

use crate::dataset::counted;
use crate::layout::{Layout, data_folders};
use crate::{DataError, Dataset, Format, Sample, Split, UnknownClasses, match_classes};

/// Maximum size of an image file.
const MAX_FILE_BYTES: u64 = 256 << 20;
/// Maximum number of classes.
pub(crate) const MAX_CLASSES: usize = 65_536;

/// Reads an image file and decodes it with [`Image::decode`].
///
/// # Errors
/// [`DataError::File`] if it is not a regular file, cannot be read or is larger than 256 MiB, [`DataError::Image`] if it
/// cannot be decoded.
pub fn read_image(path: &Path) -> Result<Image, DataError> {
    decode_image(&read_image_file(path)?, || path.display().to_string())
}

/// The bytes of an image file.
///
/// # Errors
/// [`DataError::File`] if it is not a regular file, cannot be read or is larger than 256 MiB.
pub fn read_image_file(path: &Path) -> Result<Vec<u8>, DataError> {
    Ok(read_file(path, MAX_FILE_BYTES)?)
}

/// The bytes of an image file in the file at `path`.
pub(crate) fn read_image_part(path: &Path, offset: u64, len: u64) -> Result<Vec<u8>, DataError> {
    if len > MAX_FILE_BYTES {
        return Err(FileError::new(path, FileCause::TooLarge { limit: MAX_FILE_BYTES }).into());
    }
    Ok(read_part(path, offset, len as usize)?)
}

/// Decodes an image; `place` names it in errors.
pub(crate) fn decode_image(bytes: &[u8], place: impl FnOnce() -> String) -> Result<Image, DataError> {
    Image::decode(bytes).map_err(|cause| DataError::Image { place: place(), cause })
}

/// Images in class folders. Classes are numbered by name; images are ordered by class, then path.
pub struct Folder {
    root: PathBuf,
    names: Vec<String>,
    files: Files,
    format: Format,
    notes: Vec<String>,
}

/// A class folder: its name and path.
type ClassFolder = (String, PathBuf);

impl Folder {
    /// The images of `root/<class>/…`.
    ///
    /// # Errors
    /// [`DataError::File`] if a folder cannot be read; [`DataError::Invalid`] if there are no class folders, or one has no
    /// images.
    pub fn read(root: &Path) -> Result<Self, DataError> {
        Self::open(&Layout::without_splits(root)?, Split::Train)
    }

    fn read_classes(root: &Path) -> Result<Self, DataError> {
        let folders = class_folders(root)?;
        let labels: Vec<u32> = (0..folders.len() as u32).collect();
        let names = folders.iter().map(|(name, _)| name.clone()).collect();
        Self::gather(root, names, &folders, &labels, true)
    }

    /// One split of a layout. All splits have the classes of the training split.
    pub(crate) fn open(layout: &Layout, split: Split) -> Result<Self, DataError> {
        let root = layout.folder(split).expect("a split that the layout has");
        let training = layout.folder(Split::Train).filter(|training| *training != root);
        let mut folder = match training {
            None => Self::read_classes(root)?,
            Some(training) => {
                let names: Vec<String> = class_folders(training)?.into_iter().map(|(name, _)| name).collect();
                let folders = class_folders(root)?;
                let own: Vec<String> = folders.iter().map(|(name, _)| name.clone()).collect();
                let unknown = |cause| DataError::Classes { place: root.display().to_string(), cause };
                let map = match_classes(&own, &names).map_err(unknown)?;
                if !map.by_name {
                    return Err(unknown(UnknownClasses { known: names, unknown: own }));
                }
                Self::gather(root, names, &folders, &map.to, false)?
            }
        };
        folder.notes.splice(0..0, layout.notes().iter().cloned());
        Ok(folder)
    }

    /// The images of `folders`, with the label of each folder. If `required`, every folder must contain some.
    fn gather(
        root: &Path,
        names: Vec<String>,
        folders: &[ClassFolder],
        labels: &[u32],
        required: bool,
    ) -> Result<Self, DataError> {
        let (mut files, mut ignored) = (Files::default(), Vec::new());
        let mut folders: Vec<(&Path, u32)> =
            folders.iter().zip(labels).map(|((_, folder), &label)| (&**folder, label)).collect();
        // By label, if the folders' order differs from that of the classes.
        folders.sort_by_key(|(_, label)| *label);
        for (folder, label) in folders {
            let found = images_below(folder)?;
            if found.images.is_empty() && required {
                return Err(DataError::invalid(folder.display(), expected_images(), "none"));
            }
            found.images.iter().for_each(|path| files.push(path.strip_prefix(root).unwrap_or(path), label));
            ignored.extend(found.ignored);
        }
        if files.labels.is_empty() {
            return Err(DataError::invalid(root.display(), expected_images(), "none"));
        }
        let mut notes = Vec::new();
        let place = root.display();
        if let Some(first) = ignored.iter().min() {
            let files = counted(ignored.len(), "file");
            notes.push(format!("{place}: ignored {files} with another extension, such as {}", first.display()));
        }
        let strays = visible_entries(root)?.iter().filter(|path| is_image(path) && !path.is_dir()).count();
        if strays > 0 {
            notes.push(format!("{place}: ignored {} in no class folder", counted(strays, "image")));
        }
        let format = Format::photographs();
        Ok(Self { root: root.to_path_buf(), names, files, format, notes })
    }

    /// The file of sample `index`.
    pub fn path(&self, index: usize) -> PathBuf {
        self.root.join(self.files.path(index))
    }
}

/// Paths below a folder and their labels. Of a million files, paths of their own would take three times the memory.
#[derive(Default)]
struct Files {
    labels: Vec<u32>,
    /// All paths, one after another.
    text: String,
    /// Where each path ends.
    ends: Vec<usize>,
    /// Those that are no text.
    others: HashMap<usize, PathBuf>,
}

impl Files {
    fn push(&mut self, path: &Path, label: u32) {
        match path.to_str() {
            Some(text) => self.text.push_str(text),
            None => drop(self.others.insert(self.labels.len(), path.to_path_buf())),
        }
        self.labels.push(label);
        self.ends.push(self.text.len());
    }

    fn path(&self, index: usize) -> &Path {
        let start = index.checked_sub(1).map_or(0, |before| self.ends[before]);
        let text = || Path::new(&self.text[start..self.ends[index]]);
        self.others.get(&index).map_or_else(text, PathBuf::as_path)
    }
}

impl Dataset for Folder {
    fn len(&self) -> usize {
        self.files.labels.len()
    }

    fn label(&self, index: usize) -> u32 {
        self.files.labels[index]
    }

    fn class_names(&self) -> &[String] {
        &self.names
    }

    fn sample(&self, index: usize) -> Result<Sample, DataError> {
        read_image(&self.path(index)).map(Sample::Pixels)
    }

    fn encoded(&self, index: usize) -> Result<Option<Vec<u8>>, DataError> {
        read_image_file(&self.path(index)).map(Some)
    }

    /// Of the path within the folder, and of the file's length.
    fn fingerprint(&self, index: usize) -> u32 {
        file_fingerprint(self.files.path(index), &self.path(index))
    }

    fn describe(&self, index: usize) -> String {
        self.path(index).display().to_string()
    }

    fn place(&self) -> String {
        self.root.display().to_string()
    }

    fn format(&self) -> &Format {
        &self.format
    }

    fn notes(&self) -> &[String] {
        &self.notes
    }
}

/// A checksum of a file's name and length, for [`Dataset::fingerprint`].
pub(crate) fn file_fingerprint(name: &Path, path: &Path) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    for part in name {
        hasher.update(part.as_encoded_bytes());
        hasher.update(b"/");
    }
    // A file that is missing by now counts as an empty one; reading it is an error of its own.
    let length = std::fs::metadata(path).map_or(0, |metadata| metadata.len());
    hasher.update(&length.to_le_bytes());
    hasher.finalize()
}

/// The class folders in `root`, sorted by name.
fn class_folders(root: &Path) -> Result<Vec<ClassFolder>, DataError> {
    let (paths, _) = data_folders(root)?;
    let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut folders: Vec<ClassFolder> = paths.into_iter().map(|path| (name(&path), path)).collect();
    if folders.is_empty() {
        return Err(DataError::invalid(root.display(), "a folder for each class", "none"));
    }
    if folders.len() > MAX_CLASSES {
        return Err(DataError::invalid(root.display(), format!("at most {MAX_CLASSES} classes"), folders.len()));
    }
    folders.sort_unstable();
    check_distinct(folders.iter().map(|(name, _)| &**name), &root.display().to_string())?;
    Ok(folders)
}

/// Whether no two classes have one name, in Unicode's normal form C.
pub(crate) fn check_distinct<'a>(names: impl Iterator<Item = &'a str>, place: &str) -> Result<(), DataError> {
    let mut seen = std::collections::HashSet::new();
    for name in names {
        if !seen.insert(name.nfc().collect::<String>()) {
            let name = printable(name, 60);
            return Err(DataError::invalid(place, "a name of its own for each class", format!("{name:?} twice")));
        }
    }
    Ok(())
}

fn expected_images() -> String {
    format!("images ({})", residual_files::IMAGE_EXTENSIONS.join(", "))
}
