//! What a user names as data: a built-in set, CIFAR, a folder or a file.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::cifar::{Cifar, CifarKind};
use crate::folder::{Folder, FolderLayout};
use crate::{DATASETS, DataError, Dataset, Shapes, TensorFile, stratified_split};

/// A part of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Split {
    /// To learn from.
    Train,
    /// To choose by, while training.
    Val,
    /// To be judged by, at the end.
    Test,
}

impl std::fmt::Display for Split {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::Train => "train",
            Self::Val => "val",
            Self::Test => "test",
        })
    }
}

/// A source of data that was found, but not read yet.
#[derive(Clone, Debug)]
pub struct Source {
    name: String,
    kind: Kind,
}

#[derive(Clone, Debug)]
enum Kind {
    Shapes,
    Cifar(CifarKind, PathBuf),
    Folder(FolderLayout),
    Tensors(PathBuf),
}

impl Source {
    /// Finds `name`: `shapes10`; `cifar10` or `cifar100`, whose files lie in `data_dir` or its usual sub-folder (official
    /// binary or python layout); a folder of class folders, or of `train`, `val` and `test` with class folders in them; or a
    /// `.safetensors` file. With `data_dir`, a path that does not exist is also looked for there.
    ///
    /// # Errors
    /// [`DataError::Invalid`] if there is no such source, or a CIFAR set has no `data_dir` or its files are not there.
    pub fn open(name: &str, data_dir: Option<&Path>) -> Result<Self, DataError> {
        let kind = match name {
            "shapes10" => Kind::Shapes,
            "cifar10" => Self::cifar(CifarKind::Cifar10, data_dir)?,
            "cifar100" => Self::cifar(CifarKind::Cifar100, data_dir)?,
            _ => {
                let places = [Some(PathBuf::from(name)), data_dir.map(|folder| folder.join(name))];
                let Some(path) = places.into_iter().flatten().find(|path| path.exists()) else {
                    let named = DATASETS.map(|set| set.name).join(", ");
                    let expected = format!("{named}, a folder of class folders or a .safetensors file");
                    return Err(DataError::invalid(format!("data {name:?}"), expected, "no such name or path"));
                };
                if path.is_dir() {
                    Kind::Folder(FolderLayout::find(&path)?)
                } else if path.extension().is_some_and(|extension| extension == "safetensors") {
                    Kind::Tensors(path)
                } else {
                    return Err(DataError::invalid(path.display(), "a folder or a .safetensors file", "another file"));
                }
            }
        };
        Ok(Self { name: name.to_owned(), kind })
    }

    fn cifar(kind: CifarKind, data_dir: Option<&Path>) -> Result<Kind, DataError> {
        let Some(data_dir) = data_dir else {
            return Err(DataError::invalid(kind.name(), "--data-dir with its files", "none"));
        };
        Ok(Kind::Cifar(kind, kind.find(data_dir)?))
    }

    /// The name it was opened with.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether some of the data is set apart from the training data. Where it is not, see
    /// [`training`](Self::training).
    pub fn has_held_out(&self) -> bool {
        match &self.kind {
            Kind::Shapes | Kind::Cifar(..) => true,
            Kind::Folder(layout) => layout.held_out(Split::Test).is_some(),
            Kind::Tensors(_) => false,
        }
    }

    /// Reads a split. `Val` and `Test` stand for each other where there is only one of them, and `Train` is everything in
    /// a source without splits.
    ///
    /// # Errors
    /// [`DataError::Invalid`] if the source has no such split or its files do not hold what they should,
    /// [`DataError::Io`] if they cannot be read.
    pub fn split(&self, split: Split) -> Result<Arc<dyn Dataset>, DataError> {
        match &self.kind {
            Kind::Shapes => Ok(Arc::new(Shapes::new(0, split))),
            Kind::Cifar(kind, folder) => Ok(Arc::new(Cifar::open(*kind, folder, split)?)),
            Kind::Folder(layout) => Ok(Arc::new(Folder::open(layout, split)?)),
            Kind::Tensors(path) if split == Split::Train => Ok(Arc::new(TensorFile::open(path)?)),
            Kind::Tensors(path) => {
                Err(DataError::invalid(path.display(), format!("a {split} split"), "one set of images"))
            }
        }
    }

    /// What to train on and what to watch while training. With `val_split` that share of each class, drawn
    /// by `seed`, is held out of the training data; without, the source's own `Val` split is, if there is one.
    ///
    /// # Errors
    /// As [`split`](Self::split) and [`stratified_split`].
    #[expect(clippy::type_complexity, reason = "two datasets, the second of which may be missing")]
    pub fn training(
        &self,
        val_split: Option<f32>,
        seed: u64,
    ) -> Result<(Arc<dyn Dataset>, Option<Arc<dyn Dataset>>), DataError> {
        let whole = self.split(Split::Train)?;
        if let Some(fraction) = val_split {
            let (train, held_out) = stratified_split(&whole, fraction, seed)?;
            return Ok((Arc::new(train), Some(Arc::new(held_out))));
        }
        let held_out = if self.has_held_out() { Some(self.split(Split::Val)?) } else { None };
        Ok((whole, held_out))
    }

    /// What to judge a model by: the split asked for, or everything in a source without splits.
    ///
    /// # Errors
    /// As [`split`](Self::split).
    pub fn evaluation(&self, split: Split) -> Result<Arc<dyn Dataset>, DataError> {
        self.split(if self.has_held_out() { split } else { Split::Train })
    }
}
