//! Features as files, written while they are computed: numpy arrays, safetensors, Parquet.
//!
//! Feature maps are written as N×C×H×W, as in torch; vectors as N×C.

#[cfg(feature = "parquet")]
mod parquet;
mod tensors;

use crate::LayerFeatures;
use residual_files::{AtomicFile, FileError, one_line};
use residual_graph::Shape;
use std::io;
use std::path::{Path, PathBuf};

/// An image whose features are written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeatureRow {
    /// Its source.
    pub path: String,
    /// Its class index, if images have classes.
    pub label: Option<usize>,
}

/// The contents of a feature file: rows, some of which may be skipped, and columns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeatureTable {
    /// The images, in the order of the rows.
    pub sources: Vec<FeatureRow>,
    /// The names of the classes; empty where images have none.
    pub classes: Vec<String>,
    /// The layers and the shapes of their values.
    pub layers: Vec<(String, Shape)>,
}

/// A file of features that grows batch by batch. It replaces an existing file only when it is
/// [finished](Self::finish).
///
/// - `.npy`: the values of one layer, one row per image.
/// - `.safetensors`: a tensor for each layer, `labels` (i64) where images have classes, and in the metadata `paths` and
///   `classes` as JSON lists. Paths are omitted if they exceed 64 MiB in total.
/// - `.parquet` (with the Cargo feature `parquet`): the columns `path`, `label` (null where there is none), and a list
///   of floats named `vector`, or, for several layers, one per layer with its name. Shapes and classes are in the metadata.
pub struct FeatureFile {
    path: PathBuf,
    writer: Box<dyn Writer>,
    written: Vec<usize>,
    contents: FeatureTable,
}

/// Why features could not be written.
#[derive(Debug, thiserror::Error)]
pub enum FeatureFileError {
    /// A file extension without a supported format.
    #[error("{}: expected {expected}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// The supported formats.
        expected: String,
    },
    /// The file cannot be written.
    #[error("{}", one_line(.0))]
    File(#[from] FileError),
}

/// A writer of one format.
trait Writer {
    /// Writes rows for these images, features in the order of the layers.
    fn push(&mut self, contents: &FeatureTable, indices: &[usize], features: &[LayerFeatures]) -> io::Result<()>;

    /// Writes the rest. All rows are those of the images `written`.
    fn finish(self: Box<Self>, contents: &FeatureTable, written: &[usize]) -> io::Result<AtomicFile>;
}

impl FeatureFile {
    /// Creates a file in the format of its extension.
    ///
    /// # Errors
    /// [`FeatureFileError::Format`] if there is no such format, or it holds one layer and there are more;
    /// [`FeatureFileError::File`] if the file cannot be created.
    pub fn create(path: &Path, contents: FeatureTable) -> Result<Self, FeatureFileError> {
        let file = || AtomicFile::create(path);
        let fail = FileError::write(path);
        let format = |expected: &str| FeatureFileError::Format { path: path.to_path_buf(), expected: expected.into() };
        let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
        let writer: Box<dyn Writer> = match extension.to_ascii_lowercase().as_str() {
            "npy" if contents.layers.len() != 1 => {
                return Err(format("one layer in a .npy file (.safetensors takes several)"));
            }
            "npy" => Box::new(tensors::Tensors::npy(file()?, &contents)),
            "safetensors" => Box::new(tensors::Tensors::safetensors(file()?, &contents).map_err(fail)?),
            #[cfg(feature = "parquet")]
            "parquet" => Box::new(parquet::Parquet::new(file()?, &contents).map_err(fail)?),
            #[cfg(not(feature = "parquet"))]
            "parquet" => return Err(format(".npy or .safetensors, as this was built without the feature \"parquet\"")),
            _ => return Err(format("a name that ends in .npy, .safetensors or .parquet")),
        };
        Ok(Self { path: path.to_path_buf(), writer, written: Vec::new(), contents })
    }

    /// Adds the features of the images at `indices` of the contents.
    ///
    /// # Errors
    /// If the file cannot be written.
    ///
    /// # Panics
    /// If the features are not those of `indices.len()` images and of the file's layers.
    pub fn push(&mut self, indices: &[usize], features: &[LayerFeatures]) -> Result<(), FeatureFileError> {
        assert_eq!(features.len(), self.contents.layers.len(), "a feature for each layer");
        for (feature, (_, shape)) in features.iter().zip(&self.contents.layers) {
            assert_eq!(feature.values.len(), indices.len() * shape.len(), "values of {}", feature.layer);
        }
        self.written.extend_from_slice(indices);
        Ok(self.writer.push(&self.contents, indices, features).map_err(FileError::write(&self.path))?)
    }

    /// Completes the file, syncs it and renames it; returns its number of rows.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn finish(self) -> Result<usize, FeatureFileError> {
        let Self { path, writer, written, contents } = self;
        writer.finish(&contents, &written).map_err(FileError::write(&path))?.finish()?;
        Ok(written.len())
    }
}

/// Calls `take` with every value of some images' feature, N×C×H×W.
fn each_in_torch_order(values: &[f32], shape: Shape, mut take: impl FnMut(f32)) {
    let pixels = shape.height * shape.width;
    for image in values.chunks_exact(shape.len()) {
        for channel in 0..shape.channels {
            (0..pixels).for_each(|pixel| take(image[pixel * shape.channels + channel]));
        }
    }
}

/// A row's extents as torch has them: C×H×W, or C of a vector.
fn extents(shape: Shape) -> Vec<usize> {
    match [shape.height, shape.width] {
        [1, 1] => vec![shape.channels],
        [height, width] => vec![shape.channels, height, width],
    }
}
