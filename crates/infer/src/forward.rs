//! The forward pass over the views of images, whose logits are averaged: test-time augmentation.

use residual_engine::{Engine, EngineError, Mode, Options};
use residual_model::Model;
use residual_preprocess::Views;

/// A compiled network for some [`Views`] of each image. An image's logits are the mean of its views', as in timm's `--tta` and
/// in the example of torchvision's `TenCrop`.
pub(crate) struct Forward {
    engine: Engine,
    views: Views,
    /// Maximum number of inputs in a forward pass.
    batch: usize,
    /// height × width × channels of the network's input.
    input_len: usize,
    /// The logits of the views of a batch, then their means.
    logits: Vec<f32>,
}

impl Forward {
    /// Compiles `model` for forward passes of up to `batch` inputs.
    pub(crate) fn new(model: &Model, batch: usize, views: Views, options: &Options) -> Result<Self, EngineError> {
        let size = model.preprocessing.size;
        let engine = Engine::new(model, Mode::Infer, batch, size, &[], options)?;
        let input_len = size.iter().product::<usize>() * model.preprocessing.channels();
        Ok(Self { engine, views, batch, input_len, logits: Vec::new() })
    }

    /// height × width × channels of the network's input, for each view.
    pub(crate) fn image_len(&self) -> usize {
        self.views.count() * self.input_len
    }

    /// The logits of normalised images, n × views × height × width × channels.
    ///
    /// # Errors
    /// If the number of values is not a whole number of images, or the network cannot be run.
    pub(crate) fn logits(&mut self, images: &[f32]) -> Result<&[f32], EngineError> {
        let views = self.views.count();
        if !images.len().is_multiple_of(self.image_len()) {
            return Err(EngineError::Batch { batch: self.batch, image: self.image_len(), got: images.len() });
        }
        if images.is_empty() {
            return Ok(&[]);
        }
        if views == 1 && images.len() <= self.batch * self.input_len {
            self.engine.forward(images)?;
            return Ok(self.engine.output());
        }
        self.logits.clear();
        for inputs in images.chunks(self.batch * self.input_len) {
            self.engine.forward(inputs)?;
            self.logits.extend_from_slice(self.engine.output());
        }
        let classes = self.logits.len() * self.input_len / images.len();
        for image in 0..images.len() / self.image_len() {
            for class in 0..classes {
                let view = |view: usize| f64::from(self.logits[(image * views + view) * classes + class]);
                // The means of earlier images lie before the views of this one.
                self.logits[image * classes + class] = ((0..views).map(view).sum::<f64>() / views as f64) as f32;
            }
        }
        self.logits.truncate(images.len() / self.image_len() * classes);
        Ok(&self.logits)
    }
}
