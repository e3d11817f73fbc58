//! From a recipe to a model and the data it is trained on.

use crate::recipe::{Augment, Difference, Init, Recipe};
use crate::transfer::Transfer;
use crate::{Layer, NewHead, RunFolder, TrainError};
use residual_data::{
    Augmentation, DataError, Dataset, Format, HorizontalFlip, Operation, PadAndCrop, RandomResizedCrop, Source,
    Transform, are_names,
};
use residual_engine::Mode;
use residual_infer::{
    Head, InferError, ModelRequest, check_labels, check_name, default_preprocessing, is_description, network,
};
use residual_model::{Initialisation, Model, initialise, replace_head};
use residual_preprocess::Preprocessing;
use residual_zoo::Config;
use std::path::Path;
use std::sync::Arc;

/// The share that is held out of a dataset that sets nothing apart.
const HELD_OUT: f64 = 0.1;

/// Images at a time when a run evaluates.
pub(crate) const EVALUATION_BATCH: usize = 250;

/// A recipe with everything it speaks of: ready to be run.
#[derive(Clone)]
pub struct Job {
    /// The recipe with every field that data and network decide filled in.
    pub recipe: Recipe,
    /// The model before its first step.
    pub model: Model,
    /// What is trained on.
    pub train: Arc<dyn Dataset>,
    /// What is evaluated on after every epoch.
    pub held_out: Arc<dyn Dataset>,
    /// The head that replaced that of weights of other classes.
    pub new_head: Option<NewHead>,
}

impl Job {
    /// Opens the recipe's data, builds its network, draws or loads its weights.
    ///
    /// # Errors
    /// If the data cannot be read, the network is not known, or one does not fit the other.
    pub fn prepare(recipe: Recipe) -> Result<Self, TrainError> {
        let weights = recipe.weights.clone();
        let job = Self::open(recipe, weights.as_deref())?;
        if let (Some(path), true) = (weights, is_description(&job.recipe.model)) {
            check_name(&path, &job.recipe.model, &job.model)?;
        }
        Ok(job)
    }

    /// The job of a run that is to go on: its network comes from its last checkpoint, so that the weights it began
    /// with need not be there any more.
    ///
    /// # Errors
    /// [`TrainError::OtherRun`] if the recipe is not the one that the run began with; else as [`Job::prepare`].
    pub fn resume(recipe: Recipe, run: &RunFolder) -> Result<Self, TrainError> {
        let began = Recipe::resolve(&[Layer::run(&run.config())?])?.recipe;
        if let Some(Difference { setting, expected, got }) = began.difference(&recipe) {
            return Err(TrainError::OtherRun { path: run.path().to_path_buf(), what: setting.into(), expected, got });
        }
        let weights = if run.last().exists() { Some(run.last()) } else { recipe.weights.clone() };
        Self::open(recipe, weights.as_deref())
    }

    fn open(mut recipe: Recipe, weights: Option<&Path>) -> Result<Self, TrainError> {
        recipe.validate()?;
        let source = Source::open(&recipe.data, recipe.data_dir.as_deref())?;
        if recipe.val_split.is_none() && !source.has_held_out() {
            recipe.val_split = Some(HELD_OUT);
        }
        let (train, held_out) = source.training(recipe.val_split.map(|share| share as f32), recipe.seed)?;
        let held_out = held_out.ok_or_else(|| DataError::Invalid {
            place: recipe.data.clone(),
            expected: "images held out of training".into(),
            got: "none".into(),
        })?;
        let names = train.class_names();
        let classes = *recipe.num_classes.get_or_insert(names.len());
        check_labels(&*train, classes)?;
        check_labels(&*held_out, classes)?;

        let (mut model, new_head) = start(&recipe, weights, train.format(), classes, names)?;
        model.preprocessing = preprocessing(&recipe, model.preprocessing)?;
        model.labels = if names.len() == classes { names.to_vec() } else { Vec::new() };
        let Model { graph, tensors, preprocessing, labels } = model;
        let model = Model::new(graph, tensors, preprocessing, labels)?;
        if !is_description(&recipe.model) {
            recipe.model.clone_from(&model.graph.name);
        }
        fill(&mut recipe, &model.preprocessing);
        Transfer::new(&recipe, &model.graph)?;
        let job = Self { recipe, model, train, held_out, new_head };
        job.transform()?.check(&*job.train)?;
        Transform::evaluation(job.model.preprocessing.clone())?.check(&*job.held_out)?;
        Ok(job)
    }

    /// How training images become the network's input.
    ///
    /// # Errors
    /// If a field of the augmentation is out of range.
    pub fn transform(&self) -> Result<Transform, TrainError> {
        let recipe = &self.recipe;
        let narrow = |[low, high]: [f64; 2]| [low as f32, high as f32];
        let mut operations = match recipe.augment {
            Augment::None => Vec::new(),
            Augment::Crop => vec![Operation::PadAndCrop(PadAndCrop { padding: recipe.crop_padding })],
            Augment::ResizedCrop => {
                let (scale, ratio) = (narrow(recipe.scale), narrow(recipe.ratio));
                vec![Operation::RandomResizedCrop(RandomResizedCrop { scale, ratio })]
            }
        };
        if recipe.augment != Augment::None {
            operations.push(Operation::HorizontalFlip(HorizontalFlip { probability: recipe.hflip as f32 }));
        }
        Ok(Transform::training(self.model.preprocessing.clone(), Augmentation::new(operations))?)
    }

    /// What a run compiles, for how many images at a time: a plan to train, and one to evaluate.
    pub fn plans(&self) -> [(Mode, usize); 2] {
        let batch = self.recipe.batch_size.min(self.train.len());
        [(Mode::Train, batch), (Mode::Infer, EVALUATION_BATCH.clamp(1, self.held_out.len().max(1)))]
    }

    /// The number of batches of an epoch, and whether the last one is left out: it is if it would hold a single
    /// image, of which a batch norm cannot take a variance.
    pub(crate) fn batches(&self) -> (u64, bool) {
        let (images, size) = (self.train.len(), self.recipe.batch_size);
        let drop_last = images > size && images % size == 1;
        (if drop_last { images / size } else { images.div_ceil(size) } as u64, drop_last)
    }
}

/// The model that training starts from, and its head if it is another than the weights'.
fn start(
    recipe: &Recipe,
    weights: Option<&Path>,
    format: &Format,
    classes: usize,
    names: &[String],
) -> Result<(Model, Option<NewHead>), TrainError> {
    if let Some(path) = weights {
        let request = ModelRequest {
            default_model: Some(recipe.model.clone()),
            in_chans: recipe.in_chans,
            head: Head::Drawn(recipe.seed),
            ..ModelRequest::new(path)
        };
        let model = request.open()?.read(Some(format))?.model;
        let old = model.graph.output_channels()?;
        let others = are_names(&model.labels) && are_names(names) && model.labels != names;
        if old == classes && !others {
            return Ok((model, None));
        }
        let model = replace_head(&model, classes, recipe.seed)?;
        let head = model.graph.head().map(|id| model.graph.node(id).name.clone()).unwrap_or_default();
        return Ok((model, Some(NewHead { layer: head, old, new: classes })));
    }
    let config = network(&recipe.model)?;
    let in_chans = recipe.in_chans.unwrap_or(config.in_chans);
    let graph = Config { num_classes: classes, in_chans, ..config }.graph().map_err(InferError::from)?;
    let how = match recipe.init {
        Init::He => match Initialisation::usual(&graph) {
            Initialisation::KaimingFanOut { .. } => {
                Initialisation::KaimingFanOut { zero_init_residual: recipe.zero_init }
            }
            usual => usual,
        },
        Init::Torch => Initialisation::Torch,
    };
    let tensors = initialise(&graph, how, recipe.seed);
    let preprocessing = default_preprocessing(&graph, Some(format));
    Ok((Model::new(graph, tensors, preprocessing, Vec::new())?, None))
}

/// The preprocessing that is there, with what the recipe says instead.
fn preprocessing(recipe: &Recipe, mut base: Preprocessing) -> Result<Preprocessing, TrainError> {
    let narrow = |values: &[f64]| values.iter().map(|&value| value as f32).collect();
    if let Some(mean) = &recipe.mean {
        base.mean = narrow(mean);
    }
    if let Some(std) = &recipe.std {
        base.std = narrow(std);
    }
    if let Some(side) = recipe.img_size {
        base.size = [side; 2];
    }
    base.crop_pct = recipe.crop_pct.map_or(base.crop_pct, |share| share as f32);
    base.interpolation = recipe.interpolation.unwrap_or(base.interpolation);
    base.validate().map_err(DataError::from)?;
    Ok(base)
}

/// Writes the preprocessing down in the recipe, so that it says all that was decided.
fn fill(recipe: &mut Recipe, preprocessing: &Preprocessing) {
    let widen = |value: f32| value.to_string().parse().expect("a float prints as a float");
    recipe.mean = Some(preprocessing.mean.iter().copied().map(widen).collect());
    recipe.std = Some(preprocessing.std.iter().copied().map(widen).collect());
    recipe.crop_pct = Some(widen(preprocessing.crop_pct));
    recipe.interpolation = Some(preprocessing.interpolation);
    if preprocessing.size[0] == preprocessing.size[1] {
        recipe.img_size = Some(preprocessing.size[0]);
    }
}
