//! A model that is ready to name images.

use crate::UnknownLayer;
use residual_engine::{Engine, EngineError, Mode, Options};
use residual_kernels::loss::softmax;
use residual_model::Model;
use residual_preprocess::{Image, ImageError, PreprocessingError, Preprocessor};

/// A compiled model with its preprocessing and labels.
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
    engine: Engine,
    preprocessor: Preprocessor,
    labels: Vec<String>,
    batch: usize,
    input: Vec<f32>,
}

/// Why images could not be classified.
#[derive(Debug, thiserror::Error)]
pub enum ClassifyError {
    /// The network cannot be run.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The image cannot be prepared.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// The model's preprocessing cannot be carried out.
    #[error(transparent)]
    Preprocessing(#[from] PreprocessingError),
    /// The network has no such layer.
    #[error(transparent)]
    Layer(#[from] UnknownLayer),
}

impl Classifier {
    /// Compiles `model` for one image at a time, on all cores.
    ///
    /// # Errors
    /// If the model's parts do not fit together.
    pub fn new(model: Model) -> Result<Self, ClassifyError> {
        Self::with_options(model, 1, &Options::default())
    }

    /// Compiles `model` for up to `batch` images at a time. For one batch and no more, [`Options::pack_on_use`] is done
    /// sooner.
    ///
    /// # Errors
    /// If the model's parts do not fit together.
    pub fn with_options(model: Model, batch: usize, options: &Options) -> Result<Self, ClassifyError> {
        let batch = batch.max(1);
        let preprocessor = Preprocessor::new(model.preprocessing.clone())?;
        let engine = Engine::new(&model, Mode::Infer, batch, model.preprocessing.size, &[], options)?;
        Ok(Self { engine, preprocessor, labels: model.labels, batch, input: Vec::new() })
    }

    /// Names what is in a decoded image of any size.
    ///
    /// # Errors
    /// If the image has channels that the network does not take.
    pub fn classify(&mut self, image: &Image) -> Result<Output<'_>, ClassifyError> {
        let mut outputs = self.classify_batch(std::slice::from_ref(image))?;
        Ok(outputs.pop().expect("one output for one image"))
    }

    /// Names what is in each of some images.
    ///
    /// # Errors
    /// As [`Classifier::classify`].
    pub fn classify_batch(&mut self, images: &[Image]) -> Result<Vec<Output<'_>>, ClassifyError> {
        let len = self.preprocessor.output_len();
        let mut input = std::mem::take(&mut self.input);
        input.resize(images.len() * len, 0.0);
        let prepared =
            images.iter().zip(input.chunks_exact_mut(len)).try_for_each(|(image, to)| self.preprocessor.run(image, to));
        self.input = input;
        prepared?;
        let logits = Self::run(&mut self.engine, self.batch, &self.input, len)?;
        Ok(self.outputs(logits))
    }

    /// Classifies images that are normalised already: n × height × width × channels (NHWC) of the network's input size.
    ///
    /// # Errors
    /// If the number of values is not a whole number of images.
    pub fn classify_normalized(&mut self, images: &[f32]) -> Result<Vec<Output<'_>>, ClassifyError> {
        let len = self.preprocessor.output_len();
        let logits = Self::run(&mut self.engine, self.batch, images, len)?;
        Ok(self.outputs(logits))
    }

    /// What the network's input is made by.
    pub fn preprocessor(&self) -> &Preprocessor {
        &self.preprocessor
    }

    fn run(engine: &mut Engine, batch: usize, images: &[f32], len: usize) -> Result<Vec<Vec<f32>>, EngineError> {
        let mut logits = Vec::new();
        for images in images.chunks(batch * len) {
            engine.forward(images)?;
            let output = engine.output();
            logits.extend(output.chunks_exact(output.len() / (images.len() / len)).map(<[f32]>::to_vec));
        }
        Ok(logits)
    }

    fn outputs(&self, logits: Vec<Vec<f32>>) -> Vec<Output<'_>> {
        logits.into_iter().map(|logits| Output { logits, labels: &self.labels }).collect()
    }
}

/// What a network says about one image.
#[derive(Clone, Debug, PartialEq)]
pub struct Output<'a> {
    logits: Vec<f32>,
    labels: &'a [String],
}

/// One class and how likely it is.
#[derive(Clone, Debug, PartialEq)]
pub struct Prediction {
    /// The number of the class.
    pub index: usize,
    /// Its name, or its number if the model has no names.
    pub label: String,
    /// Its share of softmax, 0 to 1.
    pub probability: f32,
}

impl Output<'_> {
    /// The network's raw outputs, one a class.
    pub fn logits(&self) -> &[f32] {
        &self.logits
    }

    /// The softmax of the logits.
    pub fn probabilities(&self) -> Vec<f32> {
        let mut probabilities = self.logits.clone();
        softmax(&mut probabilities, self.logits.len());
        probabilities
    }

    /// The `count` likeliest classes, the likeliest first; among equals the lower number first.
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
