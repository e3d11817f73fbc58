//! Networks without a training run: gradients and losses of a few steps on the built-in shapes or on CIFAR-10.

use crate::{Context, Form, ReproduceError};
use residual_data::{Dataset, Loader, LoaderOptions, Sampler, Source, Split, Targets, Transform};
use residual_engine::{Engine, Mode};
use residual_graph::{Graph, Op};
use residual_infer::GradientStatistics;
use residual_model::{Initialisation, Model, initialise};
use residual_preprocess::Preprocessing;
use residual_train::{Recipe, TrainStep};
use std::sync::Arc;

/// A training step of a new network, and the batches that it is trained on.
pub(crate) struct Network {
    step: TrainStep,
    batches: Vec<Batch>,
    /// The weights of its convolutions and its head, in the graph's order.
    weights: Vec<String>,
    lr: f64,
    taken: usize,
}

/// Normalised images (NHWC) and their labels.
type Batch = (Vec<f32>, Vec<u32>);

/// How a network is trained.
#[derive(Clone, Copy)]
pub(crate) struct Training {
    /// Side of the images in pixels.
    pub(crate) side: usize,
    /// Batch size.
    pub(crate) batch: usize,
    /// Number of batches, after which they repeat.
    pub(crate) count: usize,
    /// Learning rate.
    pub(crate) lr: f64,
    /// Of initial weights and the choice of images.
    pub(crate) seed: u64,
}

/// Images of a quick or short form.
pub(crate) fn training_images(context: &Context<'_>) -> Result<Arc<dyn Dataset>, ReproduceError> {
    let source = match context.form {
        Form::Quick => Source::open("shapes10", None)?,
        Form::Short | Form::Full => Source::open("cifar10", context.data_dir)?,
    };
    Ok(source.split(Split::Train)?)
}

impl Network {
    /// A network in ten classes, initialised as He et al. and trained by SGD with momentum 0.9 and weight decay 1e-4.
    pub(crate) fn new(
        context: &Context<'_>,
        graph: Graph,
        Training { side, batch, count, lr, seed }: Training,
    ) -> Result<Self, ReproduceError> {
        let images = training_images(context)?;
        let preprocessing = Preprocessing { size: [side; 2], ..images.format().default_preprocessing([3, side, side]) };
        let weights = weights(&graph);
        let tensors = initialise(&graph, Initialisation::KaimingFanOut { zero_init_residual: false }, seed);
        let model = Model::new(graph, tensors, preprocessing.clone(), Vec::new())?;
        let engine = Engine::new(&model, Mode::Train, batch, [side; 2], &[], context.options)?;
        let recipe = Recipe { lr, momentum: 0.9, weight_decay: 1e-4, epochs: Some(1), ..Recipe::default() };
        let step = TrainStep::new(&recipe, engine, context.options)?;
        let batches = first_batches(&images, preprocessing, batch, count, seed)?;
        Ok(Self { step, batches, weights, lr, taken: 0 })
    }

    /// Takes a step; its loss. The gradients stay readable.
    pub(crate) fn step(&mut self) -> Result<f64, ReproduceError> {
        let (images, labels) = &self.batches[self.taken % self.batches.len()];
        self.taken += 1;
        Ok(self.step.step(images, Targets::Hard(labels), self.lr)?)
    }

    /// The mean absolute gradient of each weight in the last step, in the graph's order.
    pub(crate) fn gradients(&mut self) -> Vec<f64> {
        mean_gradients(self.step.engine_mut(), &self.weights)
    }
}

/// The keys of the weights of convolutions and linear layers, without those of projection shortcuts.
pub(crate) fn weights(graph: &Graph) -> Vec<String> {
    let is_weighted = |op: &Op| matches!(op, Op::Conv2d(_) | Op::Linear { .. });
    let nodes = graph.nodes.iter().filter(|node| is_weighted(&node.op) && !node.name.contains("downsample"));
    nodes.map(|node| node.key("weight")).collect()
}

/// The mean absolute gradient of these tensors after a backward pass.
pub(crate) fn mean_gradients(engine: &mut Engine, keys: &[String]) -> Vec<f64> {
    let entries = engine.entries().to_vec();
    let flat = engine.flat_mut();
    let statistics = GradientStatistics::of(&entries, flat.values, flat.gradients);
    let mean = |key: &String| statistics.iter().find(|tensor| tensor.name == *key).map(|tensor| tensor.mean);
    keys.iter().filter_map(mean).collect()
}

/// The first batches of an epoch, normalised and not augmented.
fn first_batches(
    images: &Arc<dyn Dataset>,
    preprocessing: Preprocessing,
    batch_size: usize,
    count: usize,
    seed: u64,
) -> Result<Vec<Batch>, ReproduceError> {
    let transform = Transform::evaluation(preprocessing)?;
    let options =
        LoaderOptions { batch_size, sampler: Sampler::Shuffle, seed, drop_last: true, ..LoaderOptions::default() };
    let loader = Loader::new(images.clone(), transform, options)?;
    let batches = loader.take(count).map(|batch| batch.map(|batch| (batch.images().to_vec(), batch.labels().to_vec())));
    Ok(batches.collect::<Result<_, _>>()?)
}
