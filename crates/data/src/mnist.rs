//! MNIST and Fashion-MNIST: IDX files with known classes and statistics.

use std::path::{Path, PathBuf};

use crate::idx::IdxFiles;
use crate::pixel_arrays::PixelArrays;
use crate::{DataError, Split};

/// A dataset of the form of MNIST: 60,000 and 10,000 grey images of 28×28 in ten classes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MnistKind {
    /// Handwritten digits.
    Mnist,
    /// Articles of clothing.
    Fashion,
}

impl MnistKind {
    /// The name as a source: `mnist` or `fashion-mnist`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Mnist => "mnist",
            Self::Fashion => "fashion-mnist",
        }
    }

    /// The class names, as in torchvision but for digits, which are numbers alone.
    pub fn class_names(self) -> [&'static str; 10] {
        match self {
            Self::Mnist => ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"],
            Self::Fashion => [
                "T-shirt/top",
                "Trouser",
                "Pullover",
                "Dress",
                "Coat",
                "Sandal",
                "Shirt",
                "Sneaker",
                "Bag",
                "Ankle boot",
            ],
        }
    }

    /// Mean and standard deviation of the training images.
    fn statistics(self) -> [f32; 2] {
        match self {
            Self::Mnist => [0.1307, 0.3081],
            Self::Fashion => [0.2860, 0.3530],
        }
    }

    /// The files in `data_dir`, or in the subfolder of its name, or of torchvision's name.
    pub(crate) fn find(self, data_dir: &Path) -> Result<IdxFiles, DataError> {
        let theirs = match self {
            Self::Mnist => "MNIST/raw",
            Self::Fashion => "FashionMNIST/raw",
        };
        for folder in [data_dir.join(self.name()), data_dir.join(theirs), PathBuf::from(data_dir)] {
            if folder.is_dir()
                && let Some(files) = IdxFiles::find(&folder)?
            {
                return Ok(files);
            }
        }
        let expected = format!("train-images-idx3-ubyte, here or in {} or {theirs}", self.name());
        Err(DataError::invalid(data_dir.display(), expected, "no such file"))
    }

    /// A split of these files.
    pub(crate) fn open(self, files: &IdxFiles, split: Split) -> Result<PixelArrays, DataError> {
        let mut images = files.open(split)?;
        let names = self.class_names();
        if images.names.len() > names.len() || images.size[2] != 1 {
            let got = format!("{} and {} channels", images.names.len(), images.size[2]);
            return Err(DataError::invalid(&images.place, "grey images of at most ten classes", got));
        }
        images.names = names.map(String::from).to_vec();
        images.notes.clear();
        let [mean, std] = self.statistics();
        (images.format.mean, images.format.std) = (vec![mean], vec![std]);
        Ok(images)
    }
}
