//! Resolves `--data`: a named dataset, a folder, a list, shards or a file of arrays.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::cifar::{Cifar, CifarKind};
use crate::folder::Folder;
use crate::idx::IdxFiles;
use crate::layout::Layout;
use crate::list::{ImageList, ListedImages};
use crate::mnist::MnistKind;
use crate::npz::Npz;
#[cfg(feature = "parquet")]
use crate::parquet_shards::ParquetShards;
use crate::shards::{Shards, is_pattern};
use crate::tar_shards::TarShards;
use crate::{DATASETS, DataError, Dataset, HeldOut, Part, Selection, Shapes, Split, TensorFile, stratified_split};

/// What a path may be, for messages.
const PATHS: &str = "a folder, a .csv or .jsonl list, .tar or .parquet shards, a .npz or a .safetensors file";

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
    Tar(Shards),
    Parquet(Shards),
    Idx(IdxFiles),
    Mnist(MnistKind, IdxFiles),
    Npz(Npz),
    Tensors(PathBuf),
}

impl Source {
    /// Finds `name`: one of [`DATASETS`], of which all but `shapes10` have their files in `data_dir` or its usual subfolder;
    /// or a path:
    ///
    /// - a folder of class folders, or of splits with class folders in them; with `metadata.csv` or `metadata.jsonl` beside the
    ///   images, which is read; of tar or parquet shards; or of IDX files;
    /// - a `.csv` or `.jsonl` file that lists images, which is read;
    /// - a `.tar` or (with the Cargo feature `parquet`) `.parquet` shard, or several: `train-{000..012}.tar`;
    /// - a `.npz` or `.safetensors` file of arrays.
    ///
    /// With `data_dir`, a path that does not exist is also looked for there.
    ///
    /// # Errors
    /// [`DataError::Invalid`] if there is no such source, or the files of a named set are not there; [`DataError::File`] if a
    /// folder or a list cannot be read; of a list, the errors of [`ImageList::open`].
    pub fn open(name: &str, data_dir: Option<&Path>) -> Result<Self, DataError> {
        let kind = match name {
            "shapes10" => Kind::Shapes,
            "cifar10" => Self::cifar(CifarKind::Cifar10, data_dir)?,
            "cifar100" => Self::cifar(CifarKind::Cifar100, data_dir)?,
            "mnist" => Self::mnist(MnistKind::Mnist, data_dir)?,
            "fashion-mnist" => Self::mnist(MnistKind::Fashion, data_dir)?,
            _ => match find_path(name, data_dir) {
                Some(path) => Self::of_path(&path)?,
                None => match Shards::pattern(name)? {
                    Some(shards) if shards.have_extension("tar") => Kind::Tar(shards),
                    Some(shards) if shards.have_extension("parquet") => Kind::Parquet(shards),
                    Some(_) => {
                        return Err(DataError::invalid(name, "the names of .tar or of .parquet files", "other files"));
                    }
                    None => {
                        let named = DATASETS.map(|set| set.name).join(", ");
                        let expected = format!("{named}, {PATHS}");
                        return Err(DataError::invalid(format!("data {name:?}"), expected, "no such name or path"));
                    }
                },
            },
        };
        Ok(Self { name: name.to_owned(), kind })
    }

    /// Whether `name` is that of a dataset, or of a path that exists, or a pattern of shards.
    pub fn is_known(name: &str, data_dir: Option<&Path>) -> bool {
        DATASETS.iter().any(|set| set.name == name) || find_path(name, data_dir).is_some() || is_pattern(name)
    }

    fn of_path(path: &Path) -> Result<Kind, DataError> {
        if path.is_dir() {
            return Self::of_folder(path);
        }
        let extension = path.extension().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
        match &*extension {
            "csv" | "jsonl" => Ok(Kind::List(Arc::new(ImageList::open(path)?))),
            "tar" => Ok(Kind::Tar(Shards::file(path))),
            "parquet" => Ok(Kind::Parquet(Shards::file(path))),
            "npz" => Ok(Kind::Npz(Npz::open(path)?)),
            "safetensors" => Ok(Kind::Tensors(path.to_path_buf())),
            "gz" | "tgz" | "zip" | "bz2" | "xz" | "zst" => {
                Err(DataError::invalid(path.display(), PATHS, "a compressed file (unpack it first)"))
            }
            _ => Err(DataError::invalid(path.display(), PATHS, "another file")),
        }
    }

    fn of_folder(path: &Path) -> Result<Kind, DataError> {
        let mut notes = Vec::new();
        if let Some(list) = ImageList::beside_images(path, &mut notes)? {
            return Ok(Kind::List(Arc::new(list)));
        }
        match (Shards::find(path, "tar")?, Shards::find(path, "parquet")?) {
            (Some(shards), None) => return Ok(Kind::Tar(shards)),
            (None, Some(shards)) => return Ok(Kind::Parquet(shards)),
            (Some(_), Some(_)) => return Err(DataError::invalid(path.display(), "tar or parquet shards", "both")),
            (None, None) => {}
        }
        if let Some(files) = IdxFiles::find(path)? {
            return Ok(Kind::Idx(files));
        }
        Ok(Kind::Folder(Layout::find(path)?.with_notes(notes)))
    }

    fn mnist(kind: MnistKind, data_dir: Option<&Path>) -> Result<Kind, DataError> {
        Ok(Kind::Mnist(kind, kind.find(required(data_dir, kind.name())?)?))
    }

    fn cifar(kind: CifarKind, data_dir: Option<&Path>) -> Result<Kind, DataError> {
        Ok(Kind::Cifar(kind, kind.find(required(data_dir, kind.name())?)?))
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
            Kind::Tar(shards) | Kind::Parquet(shards) => shards.splits(),
            Kind::Idx(files) | Kind::Mnist(_, files) => files.splits(),
            Kind::Npz(archive) => archive.splits(),
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
            Kind::Tar(shards) => Ok(Arc::new(TarShards::open(shards, split)?)),
            #[cfg(feature = "parquet")]
            Kind::Parquet(shards) => Ok(Arc::new(ParquetShards::open(shards, split)?)),
            #[cfg(not(feature = "parquet"))]
            Kind::Parquet(shards) => {
                let expected = "other files, as this was built without the feature \"parquet\"";
                Err(DataError::invalid(shards.describe(None), expected, "parquet files"))
            }
            Kind::Idx(files) => Ok(Arc::new(files.open(split)?)),
            Kind::Mnist(kind, files) => Ok(Arc::new(kind.open(files, split)?)),
            Kind::Npz(archive) => Ok(Arc::new(archive.split(split)?)),
            Kind::Tensors(path) => Ok(Arc::new(TensorFile::open(path)?)),
        }
    }

    /// The layout of a folder of class folders.
    pub(crate) fn layout(&self) -> Option<&Layout> {
        match &self.kind {
            Kind::Folder(layout) => Some(layout),
            _ => None,
        }
    }

    fn place(&self) -> String {
        match &self.kind {
            Kind::Shapes => self.name.clone(),
            Kind::Cifar(_, path) | Kind::Tensors(path) => path.display().to_string(),
            Kind::Folder(layout) => layout.root().display().to_string(),
            Kind::List(list) => list.file().display().to_string(),
            Kind::Tar(shards) | Kind::Parquet(shards) => shards.describe(None),
            Kind::Idx(files) | Kind::Mnist(_, files) => files.folder().display().to_string(),
            Kind::Npz(archive) => archive.path().display().to_string(),
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

/// The path `name`, or that in `data_dir`, if there is one.
fn find_path(name: &str, data_dir: Option<&Path>) -> Option<PathBuf> {
    let places = [Some(PathBuf::from(name)), data_dir.map(|folder| folder.join(name))];
    places.into_iter().flatten().find(|path| path.exists())
}

/// The folder of a dataset's files.
fn required<'a>(data_dir: Option<&'a Path>, name: &str) -> Result<&'a Path, DataError> {
    data_dir.ok_or_else(|| DataError::invalid(name, format!("--data-dir, required for {name}"), "none"))
}
