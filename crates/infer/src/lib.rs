//! What is done with a finished model: resolving what `--model` and `--weights` name, classifying images, extracting
//! features, evaluating on a dataset. Prediction, evaluation, serving and training stand on it; nothing here trains.
//!
//! - [`read_model`] and [`network()`]: a model from weights, a network from its name or description.
//! - [`Classifier`]: a compiled model with its preprocessing and labels.
//! - [`FeatureExtractor`] and [`FeatureFile`]: feature maps and embedding vectors, in memory and as files.
//! - [`evaluate`] and [`Metrics`]: accuracy and loss on a dataset.
//! - [`read_tuning`] and [`write_tuning`]: measured algorithms as a file.
#![forbid(unsafe_code)]

mod classifier;
mod error;
mod evaluate;
mod feature_file;
mod features;
mod metrics;
mod model_file;
mod network;
mod tuning_file;

pub use classifier::{Classifier, ClassifyError, Output, Prediction};
pub use error::InferError;
pub use evaluate::{EvaluateOptions, Evaluation, check_labels, count, evaluate};
pub use feature_file::{Contents, FeatureFile, FeatureFileError, Source};
pub use features::{Feature, FeatureExtractor, UnknownLayer, layer_node};
pub use metrics::Metrics;
pub use model_file::{check_name, default_preprocessing, read_model, read_model_noting, read_model_or};
pub use network::{is_description, network};
pub use tuning_file::{read_tuning, write_tuning};
