//! Inference with trained models: resolving `--model` and `--weights`, classifying images, extracting features, evaluating
//! on a dataset. Prediction, evaluation, serving and training are built on it; nothing here trains.
//!
//! - [`ModelRequest`] and [`network()`]: a model from weights, a network from its name or description.
//! - [`Classifier`]: a compiled model with its preprocessing and labels.
//! - [`FeatureExtractor`] and [`FeatureFile`]: feature maps and embedding vectors, in memory and as files.
//! - [`evaluate`] and [`Evaluation`]: accuracy, loss, precision and recall, calibration on a dataset, whose classes
//!   [`map_classes`] matches by name; [`Metrics`]: totals without results per image.
//! - [`GradientStatistics`]: how large the gradients of each layer are.
//! - [`ClassList`]: class names for models without names.
//! - [`recalibrate_batch_norms`]: running statistics of the weights as they are.
//! - [`measure`] and [`take_turns`]: the latency of a pass, and of two passes in turns.
//! - [`read_tuning`] and [`write_tuning`]: measured algorithms as a file.
#![forbid(unsafe_code)]

mod class_list;
mod classes;
mod classifier;
mod error;
mod evaluate;
mod feature_file;
mod features;
mod forward;
mod gradient_statistics;
mod latency;
mod layer_times;
mod metrics;
mod missing;
mod network;
mod prediction_file;
mod recalibrate;
mod recognise;
mod resolve;
mod tuning_file;

pub use class_list::ClassList;
pub use classes::{check_labels, map_classes};
pub use classifier::{Classification, Classifier, ClassifyError, Prediction, probabilities};
pub use error::InferError;
pub use evaluate::{EvaluateOptions, Evaluation, Evaluator, calibrate, evaluate, evaluate_with};
pub use feature_file::{FeatureFile, FeatureFileError, FeatureRow, FeatureTable};
pub use features::{FeatureExtractor, LayerFeatures, UnknownLayer, layer_node};
pub use gradient_statistics::GradientStatistics;
pub use latency::{Latency, Repeats, Turns, measure, take_turns};
pub use layer_times::{LatencyTable, StepTimes, time_layer};
pub use metrics::{
    Calibration, ClassMetrics, Comparison, ImageResult, Interval, Metrics, MultiLabelMetrics, PrecisionRecall, Ranking,
    TemperatureError, fit_temperature, wilson,
};
pub use missing::no_weights;
pub use network::{is_description, network};
pub use prediction_file::{PredictionFileFormat, write_predictions};
pub use recalibrate::recalibrate_batch_norms;
pub use recognise::Nearest;
pub use resolve::{Head, ModelRequest, OpenedModel, ResolvedModel, check_name, default_preprocessing};
pub use tuning_file::{read_tuning, write_tuning};
