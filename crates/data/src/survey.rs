//! What lies in a folder of class folders, whether or not it can be trained on: for those who judge the folder itself.

use std::path::{Path, PathBuf};

use residual_files::{FileError, Images, images_below, is_image, visible_entries};

use crate::layout::{Layout, data_folders};
use crate::{DataError, Source, Split};

/// A folder of class folders. Nothing is required of it: classes may be empty, unreadable, or differ between splits.
#[derive(Debug)]
pub struct Survey {
    /// The folder.
    pub root: PathBuf,
    /// Its splits, in order; one without a name if it has none.
    pub splits: Vec<SurveyedSplit>,
    /// Notes for the user, one line each, such as ignored folders.
    pub notes: Vec<String>,
}

/// The folder of a split.
#[derive(Debug)]
pub struct SurveyedSplit {
    /// Which one; `None` if the folder has no splits.
    pub split: Option<Split>,
    /// The folder with the class folders.
    pub folder: PathBuf,
    /// The class folders, sorted by name.
    pub classes: Vec<SurveyedClass>,
    /// Image files in no class folder, which nothing reads.
    pub strays: Vec<PathBuf>,
}

/// The folder of a class.
#[derive(Debug)]
pub struct SurveyedClass {
    /// Its name, as it is written.
    pub name: String,
    /// The folder.
    pub folder: PathBuf,
    /// The image files in it and its subfolders, sorted.
    pub images: Vec<PathBuf>,
    /// Files with another extension, which nothing reads, sorted.
    pub ignored: Vec<PathBuf>,
    /// Why the folder cannot be read; then nothing of it is known.
    pub fault: Option<FileError>,
}

impl Source {
    /// What lies in the folder, of a source that is a folder of class folders; else `None`.
    ///
    /// # Errors
    /// If the folder of a split cannot be read.
    pub fn survey(&self) -> Result<Option<Survey>, DataError> {
        self.layout().map(survey).transpose()
    }
}

fn survey(layout: &Layout) -> Result<Survey, DataError> {
    let named: Vec<Split> = layout.splits().collect();
    let splits = match named.is_empty() {
        true => vec![surveyed(None, layout.root())?],
        false => {
            let folder = |split| layout.folder(split).expect("a split that the layout has");
            named.into_iter().map(|split| surveyed(Some(split), folder(split))).collect::<Result<_, _>>()?
        }
    };
    Ok(Survey { root: layout.root().to_path_buf(), splits, notes: layout.notes().to_vec() })
}

fn surveyed(split: Option<Split>, folder: &Path) -> Result<SurveyedSplit, DataError> {
    let (folders, _) = data_folders(folder)?;
    let mut classes: Vec<SurveyedClass> = folders.into_iter().map(class).collect();
    classes.sort_by(|a, b| a.name.cmp(&b.name));
    let strays = visible_entries(folder)?.into_iter().filter(|path| is_image(path) && !path.is_dir()).collect();
    Ok(SurveyedSplit { split, folder: folder.to_path_buf(), classes, strays })
}

fn class(folder: PathBuf) -> SurveyedClass {
    let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let (Images { images, ignored }, fault) = match images_below(&folder) {
        Ok(found) => (found, None),
        Err(error) => (Images::default(), Some(error)),
    };
    SurveyedClass { name, folder, images, ignored, fault }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_cannot_be_trained_on_is_surveyed_all_the_same() {
        let root = tempfile::tempdir().unwrap();
        for path in ["train/cat/1.png", "train/cat/notes.txt", "train/stray.png", "val/dog/2.png"] {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, []).unwrap();
        }
        std::fs::create_dir(root.path().join("train/empty")).unwrap();
        let source = Source::open(root.path().to_str().unwrap(), None).unwrap();
        assert!(source.split(Split::Train).is_err());
        let survey = source.survey().unwrap().unwrap();
        let names = |at: usize| survey.splits[at].classes.iter().map(|class| &*class.name).collect::<Vec<_>>();
        assert_eq!((names(0), names(1)), (vec!["cat", "empty"], vec!["dog"]));
        let [train, _] = &survey.splits[..] else { panic!("two splits") };
        let counts = |class: &SurveyedClass| [class.images.len(), class.ignored.len()];
        assert_eq!((counts(&train.classes[0]), counts(&train.classes[1]), train.strays.len()), ([1, 1], [0, 0], 1));
        assert!(Source::open("shapes10", None).unwrap().survey().unwrap().is_none());
    }
}
