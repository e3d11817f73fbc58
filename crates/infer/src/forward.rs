//! The forward pass over the views of images, whose logits are averaged: test-time augmentation.

use residual_engine::{CompiledModel, Engine, EngineError, Options};
use residual_model::Model;
use residual_preprocess::Views;
use residual_threads::Pool;
use std::sync::Arc;

/// A compiled network for some [`Views`] of each image. An image's logits are the mean of its views', as in timm's `--tta` and
/// in the example of torchvision's `TenCrop`.
pub(crate) struct Forward {
    network: Network,
    pool: Arc<Pool>,
    views: Views,
    /// Maximum number of inputs in a forward pass.
    batch: usize,
    /// Height and width of the network's input.
    size: [usize; 2],
    /// height × width × channels of the network's input.
    input_len: usize,
    /// The logits of the views of a batch, then their means.
    logits: Vec<f32>,
}

/// A network that has a session, or will have one at its first pass.
enum Network {
    Compiled(CompiledModel),
    Session(Box<Engine>),
}

impl Network {
    fn compiled(&self) -> CompiledModel {
        match self {
            Self::Compiled(compiled) => compiled.clone(),
            Self::Session(engine) => engine.compiled().expect("it was compiled for inference"),
        }
    }

    fn engine(&mut self, pool: &Arc<Pool>) -> Result<&mut Engine, EngineError> {
        if let Self::Compiled(compiled) = self {
            *self = Self::Session(Box::new(compiled.session(pool)?));
        }
        match self {
            Self::Session(engine) => Ok(engine),
            Self::Compiled(_) => unreachable!("it has a session now"),
        }
    }
}

impl Forward {
    /// Compiles `model` for forward passes of up to `batch` inputs.
    pub(crate) fn new(model: &Model, batch: usize, views: Views, options: &Options) -> Result<Self, EngineError> {
        let size = model.preprocessing.size;
        let engine = CompiledModel::new(model, batch, size, &[], options)?.session(&options.pool)?;
        let input_len = size.iter().product::<usize>() * model.preprocessing.channels();
        let pool = Arc::clone(&options.pool);
        Ok(Self {
            network: Network::Session(Box::new(engine)),
            pool,
            views,
            batch,
            size,
            input_len,
            logits: Vec::new(),
        })
    }

    /// The same network with its own session on the threads of `pool`; plan and packed weights are shared.
    pub(crate) fn on_pool(&self, pool: Arc<Pool>) -> Self {
        let Self { views, batch, size, input_len, .. } = *self;
        let network = Network::Compiled(self.network.compiled());
        Self { network, pool, views, batch, size, input_len, logits: Vec::new() }
    }

    /// Replaces the weights by those of `model`, if this network was compiled for such a model, batch and views; else `false`.
    pub(crate) fn load(&mut self, model: &Model, batch: usize, views: Views) -> Result<bool, EngineError> {
        if (self.size, self.batch, self.views) != (model.preprocessing.size, batch, views) {
            return Ok(false);
        }
        match self.network.engine(&self.pool)?.load_model(model) {
            Err(EngineError::OtherGraph { .. }) => Ok(false),
            loaded => loaded.map(|()| true),
        }
    }

    /// The thread pool.
    pub(crate) fn pool(&self) -> Arc<Pool> {
        Arc::clone(&self.pool)
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
        let (views, image_len) = (self.views.count(), self.image_len());
        if !images.len().is_multiple_of(image_len) {
            return Err(EngineError::Batch { batch: self.batch, image: image_len, got: images.len() });
        }
        if images.is_empty() {
            return Ok(&[]);
        }
        let engine = self.network.engine(&self.pool)?;
        if views == 1 && images.len() <= self.batch * self.input_len {
            engine.forward(images)?;
            return Ok(engine.output());
        }
        self.logits.clear();
        for inputs in images.chunks(self.batch * self.input_len) {
            engine.forward(inputs)?;
            self.logits.extend_from_slice(engine.output());
        }
        let classes = self.logits.len() * self.input_len / images.len();
        for image in 0..images.len() / image_len {
            for class in 0..classes {
                let view = |view: usize| f64::from(self.logits[(image * views + view) * classes + class]);
                // The means of earlier images lie before the views of this one.
                self.logits[image * classes + class] = ((0..views).map(view).sum::<f64>() / views as f64) as f32;
            }
        }
        self.logits.truncate(images.len() / image_len * classes);
        Ok(&self.logits)
    }
}
