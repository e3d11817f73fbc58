//! Resolves `--data`: a built-in dataset, CIFAR, a folder, a list or a file of tensors.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::cifar::{Cifar, CifarKind};
use crate::folder::Folder;
use crate::layout::Layout;
use crate::list::{ImageList, ListedImages};
use crate::{DATASETS, DataError, Dataset, HeldOut, Part, Selection, Shapes, Split, TensorFile, stratified_split};

/// A source of data that is opened, but not read yet.
///
/// It may have [splits](Self::splits) of its own; one without is a single set of images, which all belong to the
/// training split. A split that a source lacks is never replaced by another.
#[derive(Clone, Debug)]
pub struct Source {
    name: String,
    kind: Kind,
}

#[derive(Clone, Debug)]
enum Kind {
    Shapes,
    Cifar(CifarKind, PathBuf),
    Folder(Layout),
    List(Arc<ImageList>),
    Tensors(PathBuf),
}

impl Source {
    /// Finds `name`: one of [`DATASETS`], of which `cifar10` and `cifar100` have their files in `data_dir` or its usual
    /// subfolder (official binary or python layout); a folder of class folders, or of splits with class folders in
    /// them; a `.csv` file that lists images, which is read; or a `.safetensors` file. With `data_dir`, a path that does not exist is also looked for there.
    ///
    /// # Errors
    /// [`DataError::Invalid`] if there is no such source, or a CIFAR set has no `data_dir` or its files are not there;
    /// [`DataError::File`] if a folder or a list cannot be read; of a list, the errors of [`ImageList::open`].
    pub fn open(name: &str, data_dir: Option<&Path>) -> Result<Self, DataError> {
        let kind = match name {
            "shapes10" => Kind::Shapes,
            "cifar10" => Self::cifar(CifarKind::Cifar10, data_dir)?,
            "cifar100" => Self::cifar(CifarKind::Cifar100, data_dir)?,
            _ => {
                let places = [Some(PathBuf::from(name)), data_dir.map(|folder| folder.join(name))];
                let Some(path) = places.into_iter().flatten().find(|path| path.exists()) else {
                    let named = DATASETS.map(|set| set.name).join(", ");
                    let expected = format!("{named}, a folder of class folders, a .csv list or a .safetensors file");
                    return Err(DataError::invalid(format!("data {name:?}"), expected, "no such name or path"));
                };
                let has_extension = |name| path.extension().is_some_and(|own| own.eq_ignore_ascii_case(name));
                if path.is_dir() {
                    Kind::Folder(Layout::find(&path)?)
                } else if has_extension("csv") {
                    Kind::List(Arc::new(ImageList::open(&path)?))
                } else if has_extension("safetensors") {
                    Kind::Tensors(path)
                } else {
                    let expected = "a folder, a .csv list or a .safetensors file";
                    return Err(DataError::invalid(path.display(), expected, "another file"));
                }
            }
        };
        Ok(Self { name: name.to_owned(), kind })
    }

    fn cifar(kind: CifarKind, data_dir: Option<&Path>) -> Result<Kind, DataError> {
        let Some(data_dir) = data_dir else {
            let place = kind.name();
            return Err(DataError::invalid(place, format!("--data-dir, required for {place}"), "none"));
        };
        Ok(Kind::Cifar(kind, kind.find(data_dir)?))
    }

    /// The name it was opened with.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The splits of the source, in order; none if it is a single set of images.
    pub fn splits(&self) -> Vec<Split> {
        match &self.kind {
            Kind::Shapes | Kind::Cifar(..) => vec![Split::Train, Split::Test],
            Kind::Folder(layout) => layout.splits().collect(),
            Kind::List(list) => list.splits(),
            Kind::Tensors(_) => Vec::new(),
        }
    }

    /// Whether the source has a validation or test split.
    pub fn has_held_out(&self) -> bool {
        self.splits().iter().any(|&split| split != Split::Train)
    }

    /// Reads a split; of a source without splits, `Train` is everything.
    ///
    /// # Errors
    /// [`DataError::Invalid`] if the source has no such split, with the names of those it has, or the content of its files
    /// is invalid; [`DataError::File`] if they cannot be read; [`DataError::Classes`] if a folder has classes that
    /// the training folder lacks.
    pub fn split(&self, split: Split) -> Result<Arc<dyn Dataset>, DataError> {
        let splits = self.splits();
        let undivided = splits.is_empty() && split == Split::Train;
        if !undivided && !splits.contains(&split) {
            let names: Vec<_> = splits.iter().map(|split| split.name()).collect();
            let got = if names.is_empty() { "images without splits".into() } else { names.join(", ") };
            return Err(DataError::invalid(self.place(), format!("a {split} split"), got));
        }
        match &self.kind {
            Kind::Shapes => Ok(Arc::new(Shapes::new(0, split))),
            Kind::Cifar(kind, folder) => Ok(Arc::new(Cifar::open(*kind, folder, split)?)),
            Kind::Folder(layout) => Ok(Arc::new(Folder::open(layout, split)?)),
            Kind::List(list) => Ok(Arc::new(ListedImages::new(list.clone(), split))),
            Kind::Tensors(path) => Ok(Arc::new(TensorFile::open(path)?)),
        }
    }

    fn place(&self) -> String {
        match &self.kind {
            Kind::Shapes => self.name.clone(),
            Kind::Cifar(_, path) | Kind::Tensors(path) => path.display().to_string(),
            Kind::Folder(layout) => layout.root().display().to_string(),
            Kind::List(list) => list.file().display().to_string(),
        }
    }

    /// The training set and the validation set: the fraction `val_split` of each class of the training images, chosen by
    /// `seed`; without a fraction (`None` or 0) the source's own validation split, else its test split, else nothing.
    /// [`Dataset::describe_set`] describes which images these are.
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
        if let Some(share) = val_split.filter(|&share| share != 0.0) {
            let (train, held_out) = stratified_split(&whole, HeldOut { share, seed })?;
            return Ok((Arc::new(train), Some(Arc::new(held_out))));
        }
        let own = [Split::Val, Split::Test].into_iter().find(|split| self.splits().contains(split));
        Ok((whole, own.map(|split| self.split(split)).transpose()?))
    }

    /// The images to evaluate a model on.
    ///
    /// A given `split` is that split of the source, or, for `Val`, the images that the model's run held out. Without it:
    /// the source's test split, else its validation split, else the images that the run held out, else all images.
    /// `held_out` describes the images that the model's run held out of this source; `None` if it held out nothing or was
    /// trained on other data.
    ///
    /// # Errors
    /// [`DataError::Invalid`] if there is no such split, with the names of the existing ones; else as
    /// [`split`](Self::split) and [`stratified_split`].
    pub fn evaluation(&self, split: Option<Split>, held_out: Option<HeldOut>) -> Result<Selection, DataError> {
        let splits = self.splits();
        let own = [Split::Test, Split::Val].into_iter().find(|own| splits.contains(own));
        let (wanted, replaceable) = match split {
            Some(split) => (split, split == Split::Val && !splits.contains(&split)),
            None => (own.unwrap_or(Split::Train), own.is_none()),
        };
        if let (true, Some(held_out)) = (replaceable, held_out) {
            let (_, images) = stratified_split(&self.split(Split::Train)?, held_out)?;
            return Ok(Selection { dataset: Arc::new(images), part: Part::HeldOut(held_out) });
        }
        let part = if splits.is_empty() { Part::Everything } else { Part::Split(wanted) };
        Ok(Selection { dataset: self.split(wanted)?, part })
    }
}
