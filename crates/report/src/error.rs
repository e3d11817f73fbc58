//! Why something cannot be drawn or reported.

use residual_data::DataError;
use residual_files::FileError;
use residual_infer::{ClassifyError, InferError};
use residual_train::TrainError;
use residual_weights::WeightsError;
use std::path::PathBuf;

/// A picture or report that cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// No point has coordinates of at most 1e30 (on a logarithmic axis of 1e-30 to 1e30).
    #[error("chart \"{title}\": expected a point with coordinates that can be drawn, got none")]
    Empty {
        /// The chart's title.
        title: String,
    },
    /// The shapes of a network do not fit together.
    #[error(transparent)]
    Graph(#[from] residual_graph::GraphError),
    /// A network with too many layers for a picture.
    #[error("picture of {network}: expected at most {limit} boxes after equal blocks are joined, got {count}")]
    Boxes {
        /// The network's name.
        network: String,
        /// The boxes.
        count: usize,
        /// The largest number of boxes.
        limit: usize,
    },
    /// An image whose pixels do not fit its size.
    #[error("picture: expected {width}x{height} pixels of 3 bytes, got {bytes} bytes")]
    Pixels {
        /// Its width.
        width: usize,
        /// Its height.
        height: usize,
        /// The bytes it has.
        bytes: usize,
    },
    /// A PNG file of this size cannot be rendered.
    #[error("PNG file: expected at most {limit} pixels, got {width}x{height}")]
    TooLarge {
        /// Its width in pixels.
        width: u32,
        /// Its height in pixels.
        height: u32,
        /// The largest number of pixels.
        limit: u64,
    },
    /// The renderer failed.
    #[error("PNG file of \"{title}\": {message}")]
    Render {
        /// The picture's title.
        title: String,
        /// The cause.
        message: String,
    },
    /// The run cannot be read.
    #[error(transparent)]
    Train(Box<TrainError>),
    /// The model cannot be evaluated.
    #[error(transparent)]
    Infer(Box<InferError>),
    /// The embeddings cannot be computed.
    #[error(transparent)]
    Classify(Box<ClassifyError>),
    /// The data cannot be read.
    #[error(transparent)]
    Dataset(Box<DataError>),
    /// The weights cannot be read.
    #[error(transparent)]
    Weights(Box<WeightsError>),
    /// A file of the report cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The folder of the charts cannot be made.
    #[error("{}", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// A `report.json` that is none.
    #[error("{}: expected the report of a run, got {got}", path.display())]
    Data {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        got: String,
    },
}

/// The larger causes are boxed, so that results stay small.
macro_rules! boxed {
    ($($variant:ident: $error:ty),+) => {
        $(impl From<$error> for ReportError {
            fn from(error: $error) -> Self {
                Self::$variant(Box::new(error))
            }
        })+
    };
}

boxed!(Train: TrainError, Infer: InferError, Classify: ClassifyError, Dataset: DataError, Weights: WeightsError);
