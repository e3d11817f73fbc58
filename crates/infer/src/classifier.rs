//! Image classification with a compiled model.

use crate::UnknownLayer;
use crate::forward::Forward;
use residual_engine::{EngineError, Options};
use residual_files::one_line;
use residual_kernels::loss::softmax;
use residual_model::{Activation, Model};
use residual_preprocess::{Image, ImageError, PreprocessingError, Preprocessor, Views};
use residual_threads::Pool;
use std::sync::Arc;

/// A compiled model with its preprocessing and labels.
///
/// It is `Send`, and classifying takes `&mut self`: a service has one classifier per thread. A clone shares the compiled network and
/// its packed weights, and allocates its own memory for values when it first classifies. Classifiers with the same thread pool wait
/// for each other: [`on_pool`](Self::on_pool) gives one its own. With `Options::threads(1)` each computes on the calling thread.
///
/// ```
/// use residual_infer::Classifier;
/// use {residual_model as model, residual_preprocess as preprocess, residual_zoo as zoo};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let graph = zoo::build("resnet20", 3)?;
/// # let tensors = model::initialise(&graph, model::Initialisation::Torch, 0);
/// # let preprocessing = preprocess::Preprocessing::unscaled([32, 32], &[0.5; 3], &[0.25; 3]);
/// # let model = model::Model::new(graph, tensors, preprocessing, ["a", "b", "c"].map(String::from).to_vec())?;
/// let mut classifier = Classifier::new(model)?;
/// let image = preprocess::Image::new(32, 32, 3, vec![128; 32 * 32 * 3])?;
/// let output = classifier.classify(&image)?;
/// assert_eq!(output.logits().len(), 3);
/// assert!(output.top(3).iter().map(|prediction| prediction.probability).sum::<f32>() > 0.999);
/// # Ok(())
/// # }
/// ```
pub struct Classifier {
    network: Forward,
    preprocessor: Preprocessor,
    labels: Arc<[String]>,
    activation: Activation,
    temperature: f32,
    views: Views,
    input: Vec<f32>,
}

/// Why images could not be classified. The message is one line and includes the causes.
#[derive(Debug, thiserror::Error)]
pub enum ClassifyError {
    /// The network cannot be run.
    #[error("{}", one_line(.0))]
    Engine(#[from] EngineError),
    /// The image cannot be decoded or prepared.
    #[error("{}", one_line(.0))]
    Image(#[from] ImageError),
    /// The model's preprocessing cannot be carried out.
    #[error("{}", one_line(.0))]
    Preprocessing(#[from] PreprocessingError),
    /// The network has no such layer.
    #[error(transparent)]
    Layer(#[from] UnknownLayer),
    /// The logits of an image are not finite.
    #[error("image {index}: expected finite logits, got {got}")]
    NotFinite {
        /// The index of the image, from 0.
        index: usize,
        /// The first logit that is not finite: `NaN`, `inf` or `-inf`.
        got: f32,
    },
}

impl Clone for Classifier {
    fn clone(&self) -> Self {
        self.on_pool(self.network.pool())
    }
}

impl Classifier {
    /// Compiles `model` for one image at a time, on all cores.
    ///
    /// # Errors
    /// If the model's parts do not fit together.
    pub fn new(model: Model) -> Result<Self, ClassifyError> {
        Self::with_options(model, 1, &Options::default())
    }

    /// Compiles `model` for up to `batch` images at a time. For a single batch, [`InferenceOptions::pack_on_use`](residual_engine::InferenceOptions) has a lower
    /// latency.
    ///
    /// # Errors
    /// If the model's parts do not fit together.
    pub fn with_options(model: Model, batch: usize, options: &Options) -> Result<Self, ClassifyError> {
        Self::with_views(model, batch, Views::Single, options)
    }

    /// As [`with_options`](Self::with_options), with test-time augmentation: an image's logits are the mean of those of its
    /// views. `batch` counts views.
    ///
    /// # Errors
    /// If the model's parts do not fit together.
    pub fn with_views(model: Model, batch: usize, views: Views, options: &Options) -> Result<Self, ClassifyError> {
        let batch = batch.max(1);
        let preprocessor = Preprocessor::new(model.preprocessing.clone())?;
        let network = Forward::new(&model, batch, views, options)?;
        let Model { labels, activation, temperature, .. } = model;
        Ok(Self { network, preprocessor, labels: labels.into(), activation, temperature, views, input: Vec::new() })
    }

    /// A classifier that shares the network and its weights, and computes on the threads of `pool`.
    pub fn on_pool(&self, pool: Arc<Pool>) -> Self {
        let Self { preprocessor, labels, activation, temperature, views, .. } = self;
        Self {
            network: self.network.on_pool(pool),
            preprocessor: preprocessor.clone(),
            labels: Arc::clone(labels),
            activation: *activation,
            temperature: *temperature,
            views: *views,
            input: Vec::new(),
        }
    }

    /// Classifies a decoded image of any size.
    ///
    /// # Errors
    /// If the image has channels that the network does not take, or its logits are not finite.
    pub fn classify(&mut self, image: &Image) -> Result<Classification, ClassifyError> {
        let mut outputs = self.classify_batch(std::slice::from_ref(image))?;
        Ok(outputs.pop().expect("one output for one image"))
    }

    /// Decodes the bytes of an image file (see [`Image::decode`]) and classifies it.
    ///
    /// # Errors
    /// If the bytes cannot be decoded as an image, or as [`Classifier::classify`].
    pub fn classify_bytes(&mut self, bytes: &[u8]) -> Result<Classification, ClassifyError> {
        self.classify(&Image::decode(bytes)?)
    }

    /// Classifies each of some images.
    ///
    /// # Errors
    /// As [`Classifier::classify`]; [`ClassifyError::NotFinite`] says which image.
    pub fn classify_batch(&mut self, images: &[Image]) -> Result<Vec<Classification>, ClassifyError> {
        let len = self.network.image_len();
        let mut input = std::mem::take(&mut self.input);
        input.resize(images.len() * len, 0.0);
        let prepared = images
            .iter()
            .zip(input.chunks_exact_mut(len))
            .try_for_each(|(image, to)| self.preprocessor.run_views(image, self.views, to));
        let outputs = match prepared {
            Ok(()) => self.run(&input),
            Err(error) => Err(error.into()),
        };
        self.input = input;
        outputs
    }

    /// Classifies images that are normalised already: n × height × width × channels (NHWC, channels last; torch's tensors
    /// are NCHW) of the network's input size; with several views those of an image one after another.
    ///
    /// # Errors
    /// If the number of values is not a whole number of images, or logits are not finite.
    pub fn classify_nhwc(&mut self, normalised: &[f32]) -> Result<Vec<Classification>, ClassifyError> {
        self.run(normalised)
    }

    /// The preprocessing of images.
    pub fn preprocessor(&self) -> &Preprocessor {
        &self.preprocessor
    }

    fn run(&mut self, images: &[f32]) -> Result<Vec<Classification>, ClassifyError> {
        let count = images.len() / self.network.image_len();
        let output = self.network.logits(images)?;
        let classes = output.len() / count.max(1);
        let mut outputs = Vec::with_capacity(count);
        for logits in output.chunks_exact(classes.max(1)) {
            if let Some(&got) = logits.iter().find(|logit| !logit.is_finite()) {
                return Err(ClassifyError::NotFinite { index: outputs.len(), got });
            }
            outputs.push(Classification {
                logits: logits.to_vec(),
                labels: self.labels.clone(),
                activation: self.activation,
                temperature: self.temperature,
            });
        }
        Ok(outputs)
    }
}

/// The probabilities of an image's classes, of a model with this activation and temperature.
pub fn probabilities(logits: &[f32], activation: Activation, temperature: f32) -> Vec<f32> {
    let mut values: Vec<f32> = logits.iter().map(|logit| logit / temperature).collect();
    match activation {
        Activation::Softmax => softmax(&mut values, logits.len()),
        Activation::Sigmoid => values.iter_mut().for_each(|value| *value = 1.0 / (1.0 + (-*value).exp())),
    }
    values
}

/// The classification of one image. It owns its data and does not borrow the classifier.
#[derive(Clone, Debug, PartialEq)]
pub struct Classification {
    logits: Vec<f32>,
    labels: Arc<[String]>,
    activation: Activation,
    temperature: f32,
}

/// A class and its probability.
#[derive(Clone, Debug, PartialEq)]
pub struct Prediction {
    /// The number of the class.
    pub index: usize,
    /// Its name, or its number if the model has no names.
    pub label: String,
    /// Its probability, 0 to 1.
    pub probability: f32,
}

impl Classification {
    /// The network's raw outputs, one for each class; all are finite. The model's temperature does not change them.
    pub fn logits(&self) -> &[f32] {
        &self.logits
    }

    /// The names of the classes; empty where they are not known.
    pub fn labels(&self) -> &[String] {
        &self.labels
    }

    /// The softmax of the logits, divided by the model's temperature; of a multi-label model the sigmoid of each.
    pub fn probabilities(&self) -> Vec<f32> {
        probabilities(&self.logits, self.activation, self.temperature)
    }

    /// The `count` most likely classes in descending order; ties are ordered by class index.
    pub fn top(&self, count: usize) -> Vec<Prediction> {
        let probabilities = self.probabilities();
        let mut order: Vec<usize> = (0..probabilities.len()).collect();
        order.sort_by(|&a, &b| self.logits[b].total_cmp(&self.logits[a]).then(a.cmp(&b)));
        let prediction = |index: usize| Prediction {
            index,
            label: self.labels.get(index).cloned().unwrap_or_else(|| index.to_string()),
            probability: probabilities[index],
        };
        order.into_iter().take(count).map(prediction).collect()
    }
}
