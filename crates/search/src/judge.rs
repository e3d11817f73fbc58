//! Judges members of trained supernets: their tensors are cut from the supernet's, their batch norms get statistics of their own,
//! and they are evaluated on the held-out images.

use crate::one_shot::{OneShot, runs, supernet_name};
use crate::supernet::Part;
use crate::trial::find;
use residual_engine::{Engine, GradientOptions, Mode, Options};
use residual_graph::Op;
use residual_infer::recalibrate_batch_norms;
use residual_model::Model;
use residual_train::{Job, Layer, Recipe, TrainError};
use residual_weights::load;
use residual_zoo::Config;
use std::path::Path;
use std::sync::atomic::AtomicBool;

/// Training images of which a member's batch norms take their statistics, as many as in once-for-all.
const CALIBRATION: usize = 2000;

/// Trained supernets, and the images that members are judged on.
pub(crate) struct Judge {
    /// The job of the first supernet, whose images and recipe are those of all.
    job: Job,
    supernets: Vec<Model>,
}

impl Judge {
    /// Reads the supernets that were trained in the folder of a search.
    ///
    /// # Errors
    /// If a run or the images cannot be read.
    pub(crate) fn open(folder: &Path, one_shot: &OneShot) -> Result<Self, TrainError> {
        let runs = runs(folder);
        let run = |number: usize| {
            let name = supernet_name(number);
            find(&runs, &name)?.ok_or_else(|| TrainError::NoRun { path: runs.join(name) })
        };
        let first = run(0)?;
        let job = Job::resume(Recipe::resolve(&[Layer::run(&first.config())?])?, &first)?;
        let load = |number| Ok(load(&run(number)?.last())?.model);
        let supernets = (0..one_shot.supernets().all().len()).map(load).collect::<Result<_, TrainError>>()?;
        Ok(Self { job, supernets })
    }

    /// The network that `part` is of a supernet, called `name`, with its slice of the weights.
    ///
    /// # Errors
    /// If the network cannot be run, or an image cannot be read.
    pub(crate) fn member(&self, part: Part, name: String, options: &Options) -> Result<Model, TrainError> {
        let Part { supernet, member, slice } = part;
        let Model { tensors, preprocessing, labels, activation, .. } = &self.supernets[supernet];
        let graph = Config { name, ..member.config }.graph().map_err(residual_infer::InferError::from)?;
        let model = Model::new(graph, slice.cut(tensors), preprocessing.clone(), labels.clone())?;
        let model = model.with_activation(*activation);
        if !model.graph.nodes.iter().any(|node| matches!(node.op, Op::BatchNorm2d { .. })) {
            return Ok(model);
        }
        let Job { recipe, train, .. } = &self.job;
        let (batch, size) = (recipe.batch_size.min(train.len()), self.job.train_size(u64::MAX));
        let checkpointing = recipe.grad_checkpointing;
        let gradients = GradientOptions { checkpointing, ..GradientOptions::default() };
        let options = Options { gradients, ..options.clone() };
        let mut engine = Engine::new(&model, Mode::Train, batch, size, &[], &options)?;
        let batches = self.job.loader(0, 0, size)?.take(CALIBRATION.div_ceil(batch));
        let batches = batches.map(|batch| batch.map_err(TrainError::from));
        let tensors = model.tensors.clone();
        let tensors = recalibrate_batch_norms(&mut engine, &model.graph, tensors, batches, recipe.seed)?;
        Ok(model.with_tensors(tensors)?)
    }

    /// Top-1 of a member on the held-out images in percent; `None` if `stop` was set.
    ///
    /// # Errors
    /// If the network cannot be run, or an image cannot be read.
    pub(crate) fn top1(&self, model: &Model, options: &Options, stop: &AtomicBool) -> Result<Option<f64>, TrainError> {
        let images = self.job.held_out.as_ref().expect("a search holds images out");
        let counted = self.job.evaluator(options).count(model, images, stop, &mut |_, _| ())?;
        Ok(counted.map(|(metrics, _)| metrics.top1_percent()))
    }
}
