//! Prepares model and data of a recipe.

use crate::distill::{self, Pair, Teacher, Teachers};
use crate::recipe::{self, Init, KdLoss, Origin, Origins, Recipe, RecipeError, Resolved, SETTINGS};
use crate::state::{DataShape, State};
use crate::transfer::Transfer;
use crate::zeros;
use crate::{Layer, NewHead, RunFolder, Schedule, TrainError};
use residual_data::{
    DataError, Dataset, DecodedImages, Format, ImageMemory, Loader, LoaderOptions, Sampler, Source, Split, Transform,
    are_names, match_classes,
};
use residual_engine::{Mode, Options};
use residual_graph::Graph;
use residual_infer::{
    EvaluateOptions, Evaluator, Head, InferError, ModelRequest, ResolvedModel, check_labels, check_name,
    default_preprocessing, is_description, network,
};
use residual_model::{Activation, Initialisation, Model, ModelError, initialise, reorder_head};
use residual_preprocess::Preprocessing;
use residual_zoo::Config;
use std::path::Path;
use std::sync::Arc;

/// The fraction held out of a dataset without a validation or test split.
const HELD_OUT: f64 = 0.1;

/// The batch size of evaluations.
pub(crate) const EVALUATION_BATCH: usize = 250;

/// A recipe with its model and data, ready to run.
#[derive(Clone)]
pub struct Job {
    /// The recipe, with all fields resolved from data and network.
    pub recipe: Recipe,
    /// The model before the first step.
    pub model: Model,
    /// The training images.
    pub train: Arc<dyn Dataset>,
    /// The held-out images, evaluated after every epoch; `None` if all images are trained on.
    pub held_out: Option<Arc<dyn Dataset>>,
    /// The test images, if there are some besides the held-out ones: evaluated once, after the last step.
    pub test: Option<Arc<dyn Dataset>>,
    /// The new head, if the weights have other classes.
    pub new_head: Option<NewHead>,
    /// The freezing schedule and per-layer learning rates.
    pub(crate) transfer: Transfer,
    /// The source of each setting of the recipe.
    pub(crate) origins: Origins,
    /// How the weights were read.
    pub(crate) weights_notes: Vec<String>,
    /// The teachers, once they are read.
    pub(crate) teachers: Teachers,
    /// The memory of decoded images, if they are kept.
    pub(crate) image_memory: Option<Arc<ImageMemory>>,
}

impl Job {
    /// Opens the recipe's data, builds its network, initialises or loads its weights.
    ///
    /// # Errors
    /// If the data cannot be read, the network is unknown, or they do not fit together.
    pub fn prepare(recipe: impl Into<Resolved>) -> Result<Self, TrainError> {
        let resolved = recipe.into();
        let weights = resolved.recipe.weights.clone();
        let job = Self::open(resolved, weights.as_deref())?;
        if let (Some(path), true) = (weights, is_description(&job.recipe.model)) {
            check_name(&path, &job.recipe.model, &job.model)?;
        }
        Ok(job)
    }

    /// The job of a run to be resumed: its network comes from its last checkpoint, so that the initial weights are no
    /// longer needed.
    ///
    /// # Errors
    /// [`TrainError::OtherRun`] if the recipe differs from that of the run, [`TrainError::NoState`] if its training
    /// state is missing; else as [`Job::prepare`].
    pub fn resume(recipe: impl Into<Resolved>, run: &RunFolder) -> Result<Self, TrainError> {
        let resolved = recipe.into();
        let recipe = &resolved.recipe;
        let began = Recipe::resolve(&[Layer::run(&run.config())?])?.recipe;
        if let Some(difference) = began.difference(recipe) {
            return Err(TrainError::other_run(run.path(), &began, difference));
        }
        let trained = Some(run.last()).filter(|last| last.exists());
        let weights = if run.has_state()? { trained.or(recipe.weights.clone()) } else { recipe.weights.clone() };
        Self::open(resolved, weights.as_deref())
    }

    fn open(resolved: Resolved, weights: Option<&Path>) -> Result<Self, TrainError> {
        let Resolved { mut recipe, origins } = resolved;
        recipe.fill_crop_ranges(|name| origins.get(name).is_some());
        recipe.validate()?;
        let source = Source::open(&recipe.data, recipe.data_dir.as_deref())?;
        if recipe.val_split.is_none() && !source.has_held_out() {
            recipe.val_split = Some(HELD_OUT);
        }
        let (train, held_out) = source.training(recipe.val_split.map(|share| share as f32), recipe.seed)?;
        let image_memory = (recipe.cache_mb > 0).then(|| ImageMemory::new(recipe.cache_mb * 1_000_000));
        let kept = |images: Arc<dyn Dataset>| match &image_memory {
            Some(memory) => Arc::new(DecodedImages::new(images, memory.clone())) as Arc<dyn Dataset>,
            None => images,
        };
        let (train, held_out) = (kept(train), held_out.map(kept));
        let names = train.class_names();
        let classes = *recipe.num_classes.get_or_insert(names.len());
        check_labels(&*train, classes)?;
        if !train.is_empty() && train.soft_label(0).is_some() && classes != names.len() {
            let expected = format!("{}, the classes of the images' targets", names.len());
            return Err(RecipeError::field("num_classes", expected, classes.to_string()).located(&origins).into());
        }
        check_objective(&recipe, &*train, classes).map_err(|error| error.located(&origins))?;
        let has_test = source.splits().contains(&Split::Test);
        let held_out_is_test =
            recipe.val_split.is_none_or(|share| share == 0.0) && !source.splits().contains(&Split::Val);
        let test = if has_test && !held_out_is_test { Some(source.split(Split::Test)?) } else { None };
        held_out.iter().chain(&test).try_for_each(|images| check_labels(&**images, classes))?;

        let model_given = origins.is_given("model");
        let Start { mut model, new_head, notes } =
            start(&recipe, model_given, weights, train.format(), classes, names)?;
        model.preprocessing = preprocessing(&recipe, model.preprocessing)?;
        let train_size = model.preprocessing.size;
        if let Some(side) = recipe.test_size {
            if train_size[0] != train_size[1] {
                let [height, width] = train_size;
                return Err(RecipeError::field(
                    "test_size",
                    "images of training that are square",
                    format!("{height}×{width}"),
                )
                .into());
            }
            model.preprocessing.size = [side; 2];
        }
        // Outputs that the dataset has no class for are named as such, so that none is taken for a class.
        model.labels = names.to_vec();
        model.labels.extend((names.len()..classes).map(|output| format!("(unused {output})")));
        model.labels.truncate(classes);
        // A temperature calibrates the weights that it was fitted for.
        let Model { graph, tensors, preprocessing, labels, activation: _, temperature: _ } = model;
        let activation = if train.is_multi_label() { Activation::Sigmoid } else { Activation::Softmax };
        let model = Model::new(dropped(&recipe, graph)?, tensors, preprocessing, labels)?.with_activation(activation);
        if recipe.keep_zeros && zeros::count(&model)[0] == 0 {
            let expected = "weights of which some are zero";
            return Err(RecipeError::field("keep_zeros", expected, "none that is").located(&origins).into());
        }
        if !is_description(&recipe.model) {
            recipe.model.clone_from(&model.graph.name);
        }
        fill(&mut recipe, &model.preprocessing, train_size);
        // The files were opened; the recipe records absolute paths, which are valid in every working directory.
        recipe.make_paths_absolute();
        let transfer = Transfer::new(&recipe, &model.graph).map_err(|error| error.located(&origins))?;
        let teachers = Teachers::default();
        let job = Self {
            recipe,
            model,
            train,
            held_out,
            test,
            new_head,
            transfer,
            origins,
            weights_notes: notes,
            teachers,
            image_memory,
        };
        job.transform()?.check(&*job.train)?;
        for &side in job.recipe.train_img_sizes.iter().flatten() {
            job.transform()?.with_size([side as usize; 2])?.check(&*job.train)?;
        }
        let evaluation = Transform::evaluation(job.model.preprocessing.clone())?;
        job.held_out.iter().chain(&job.test).try_for_each(|images| evaluation.check(&**images))?;
        Ok(job)
    }

    /// A line for the training and for the held-out images each, if their files or labels have changed since the start of `run`;
    /// none if the run has no checkpoint.
    ///
    /// # Errors
    /// [`TrainError::OtherRun`] if there are other numbers of images, or other classes.
    pub fn changed_images(&self, run: &RunFolder) -> Result<Vec<String>, TrainError> {
        if !run.state().exists() {
            return Ok(Vec::new());
        }
        let state = State::load(&run.state())?;
        state.check(&self.recipe, &DataShape::of(self), run)?;
        Ok(state.progress.changed_images(self))
    }

    /// The transform of training images.
    ///
    /// # Errors
    /// If a field of the augmentation is out of range.
    pub fn transform(&self) -> Result<Transform, TrainError> {
        let preprocessing = Preprocessing { size: self.train_size(0), ..self.model.preprocessing.clone() };
        Ok(Transform::training(preprocessing, self.recipe.augmentation()?)?)
    }

    /// The batches of `epoch` from the one of step `epoch_step` on; both count from 0. Images have `size` (height, width).
    ///
    /// # Errors
    /// If a field of the augmentation is out of range.
    pub fn loader(&self, epoch: u64, epoch_step: u64, size: [usize; 2]) -> Result<Loader, TrainError> {
        let recipe = &self.recipe;
        let options = LoaderOptions {
            batch_size: recipe.batch_size,
            sampler: self.sampler(),
            repeats: self.repeats(),
            drop_last: self.drops_last_batch(),
            seed: recipe.seed,
            epoch,
            start_batch: epoch_step as usize * recipe.grad_accum_steps,
            workers: recipe.workers,
            skip_bad_images: recipe.skip_bad_images,
        };
        Ok(Loader::new(self.train.clone(), self.transform()?.with_size(size)?, options)?)
    }

    /// The settings of the run that have a value and an effect, with their sources.
    pub fn settings(&self) -> Vec<GivenSetting> {
        let of = SETTINGS.iter().filter(|setting| setting.applies.holds(&self.recipe));
        of.filter_map(|setting| {
            let value = self.recipe.value(setting.name)?.to_string();
            let origin = self.origins.get(setting.name).map_or_else(|| "default".to_owned(), Origin::to_string);
            Some(GivenSetting { name: setting.name, value, origin })
        })
        .collect()
    }

    /// The first `count` images of the first epoch as the network sees them, with their labels: augmented and normalised, one
    /// after another; fewer if there are fewer.
    ///
    /// # Errors
    /// If a field of the augmentation is out of range, or an image cannot be read.
    pub fn augmented(&self, count: usize) -> Result<Vec<(Vec<f32>, u32)>, TrainError> {
        let size = self.train_size(0);
        let mut images = Vec::new();
        for batch in self.loader(0, 0, size)? {
            let batch = batch?;
            if let Some(len) = batch.images().len().checked_div(batch.len()) {
                let each = batch.images().chunks_exact(len).zip(batch.labels());
                images.extend(each.map(|(image, &label)| (image.to_vec(), label)).take(count - images.len()));
            }
            if images.len() == count {
                break;
            }
        }
        Ok(images)
    }

    /// What evaluates the run's models.
    pub fn evaluator(&self, options: &Options) -> Evaluator {
        Evaluator::new(EvaluateOptions {
            engine: options.clone(),
            batch_size: EVALUATION_BATCH,
            workers: self.recipe.workers,
            skip_bad_images: self.recipe.skip_bad_images,
            views: self.recipe.tta.views(),
            ..EvaluateOptions::default()
        })
    }

    /// The plans of a run, with the batch size of each: one for training, and one for evaluation if images are held out.
    pub fn plans(&self) -> Vec<(Mode, usize)> {
        [Some(self.train_plan()), self.evaluation_plan()].into_iter().flatten().collect()
    }

    pub(crate) fn train_plan(&self) -> (Mode, usize) {
        (Mode::Train, self.recipe.batch_size.min(self.train.len()))
    }

    pub(crate) fn evaluation_plan(&self) -> Option<(Mode, usize)> {
        let images = self.held_out.as_ref()?.len();
        Some((Mode::Infer, EVALUATION_BATCH.clamp(1, images.max(1))))
    }

    /// Height and width of training images in `epoch`: the sizes of the recipe, one after another in equal parts of the epochs.
    pub fn train_size(&self, epoch: u64) -> [usize; 2] {
        let sizes = self.recipe.train_img_sizes.as_deref().unwrap_or_default();
        let reached = self.size_changes().iter().filter(|&&change| change <= epoch).count();
        let usual = match (self.recipe.test_size, self.recipe.img_size) {
            (Some(_), Some(side)) => [side; 2],
            _ => self.model.preprocessing.size,
        };
        sizes.get(reached).map_or(usual, |&side| [side as usize; 2])
    }

    /// The epochs, from 0, at which each size of training images but the first begins.
    pub(crate) fn size_changes(&self) -> Vec<u64> {
        let sizes = self.recipe.train_img_sizes.as_ref().map_or(1, Vec::len) as u64;
        if sizes == 1 {
            return Vec::new();
        }
        let steps = self.epoch_steps().max(1);
        let epochs = Schedule::new(&self.recipe, steps).total_steps().div_ceil(steps);
        (1..sizes).map(|size| (size * epochs).div_ceil(sizes)).collect()
    }

    /// How the images of an epoch are chosen.
    pub(crate) fn sampler(&self) -> Sampler {
        match self.recipe.sampler {
            _ if !self.recipe.shuffle => Sampler::InOrder,
            recipe::Sampler::Shuffle => Sampler::Shuffle,
            recipe::Sampler::Balanced => Sampler::Balanced,
            recipe::Sampler::SquareRoot => Sampler::SquareRoot,
        }
    }

    /// How often each image of an epoch is repeated.
    pub(crate) fn repeats(&self) -> usize {
        self.recipe.aug_repeats.max(1)
    }

    /// The number of images of an epoch, each as often as it occurs.
    pub(crate) fn epoch_images(&self) -> usize {
        Sampler::epoch_len(self.train.len(), self.repeats())
    }

    /// Forward batches per epoch.
    pub(crate) fn batches(&self) -> usize {
        let (images, size) = (self.epoch_images(), self.recipe.batch_size);
        if self.drops_last_batch() { images / size } else { images.div_ceil(size) }
    }

    /// Whether the last batch of an epoch is dropped if it is incomplete: if the recipe says so, or if it consists of a single
    /// image, for which a batch norm cannot compute a variance. The only batch of an epoch is never dropped.
    pub(crate) fn drops_last_batch(&self) -> bool {
        let (images, size) = (self.epoch_images(), self.recipe.batch_size);
        images > size && (self.recipe.drop_last || images % size == 1)
    }

    /// Steps (updates of the weights) per epoch. The last one may have fewer batches than the others.
    pub(crate) fn epoch_steps(&self) -> u64 {
        self.batches().div_ceil(self.recipe.grad_accum_steps) as u64
    }

    /// The models that the student learns from.
    ///
    /// # Errors
    /// If one cannot be read or does not fit the student.
    pub(crate) fn teachers(&self) -> Result<&[Arc<Teacher>], TrainError> {
        Ok(self.teachers.of(self)?.0)
    }

    /// The nodes of student and teacher whose values its loss compares.
    ///
    /// # Errors
    /// As [`Job::teachers`].
    pub(crate) fn hint_pairs(&self) -> Result<&[Pair], TrainError> {
        Ok(self.teachers.of(self)?.1)
    }

    /// The nodes that the engine of training keeps readable.
    ///
    /// # Errors
    /// As [`Job::teachers`].
    pub(crate) fn kept_nodes(&self) -> Result<Vec<&str>, TrainError> {
        Ok(self.hint_pairs()?.iter().map(|pair| &*pair.student).collect())
    }

    /// Notes for the user about weights, teachers, data and recipe, one line each.
    ///
    /// # Errors
    /// As [`Job::teachers`].
    pub(crate) fn notes(&self) -> Result<Vec<String>, TrainError> {
        let mut notes = self.weights_notes.clone();
        notes.extend(distill::notes(self)?);
        if self.recipe.keep_zeros {
            let [zeros, all] = zeros::count(&self.model);
            notes.push(format!("keep_zeros: {zeros} of {all} weights are zero and stay zero"));
        }
        if self.image_memory.is_some() && !self.train.is_empty() && self.train.encoded(0)?.is_none() {
            notes.push("cache_mb: has no effect, as the dataset's pixels are in memory".into());
        }
        notes.extend_from_slice(self.train.notes());
        for note in self.held_out.iter().flat_map(|images| images.notes()) {
            if !notes.contains(note) {
                notes.push(note.clone());
            }
        }
        let resolved = Resolved { recipe: self.recipe.clone(), origins: self.origins.clone() };
        notes.extend(resolved.notes(self.epoch_steps()));
        Ok(notes)
    }
}

/// A setting of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GivenSetting {
    /// Its name.
    pub name: &'static str,
    /// Its value, in TOML.
    pub value: String,
    /// Its source: a preset, a file, the command line, or `default`.
    pub origin: String,
}

/// Whether the loss fits the targets.
fn check_objective(recipe: &Recipe, images: &dyn Dataset, classes: usize) -> Result<(), RecipeError> {
    if images.is_multi_label() && !recipe.bce_loss {
        return Err(RecipeError::field("bce_loss", "true for images with several labels", "false"));
    }
    let is_soft = !images.is_empty() && images.soft_label(0).is_some();
    if recipe.teacher.is_some() && recipe.kd_loss == KdLoss::Dkd && is_soft {
        let expected = "kd for images with probabilities of classes, as dkd needs one class for each image";
        return Err(RecipeError::field("kd_loss", expected, "dkd"));
    }
    match &recipe.class_weight_values {
        Some(values) if values.len() != classes => {
            let expected = format!("{classes} weights, one for each class");
            Err(RecipeError::field("class_weight_values", expected, values.len().to_string()))
        }
        _ => Ok(()),
    }
}

/// The initial model.
struct Start {
    model: Model,
    /// Its head, if it was replaced.
    new_head: Option<NewHead>,
    /// How the weights were read.
    notes: Vec<String>,
}

/// The initial model. Weights of another network are refused if the user named one (`model_given`); the network of a bare state
/// dict takes precedence over a preset's.
fn start(
    recipe: &Recipe,
    model_given: bool,
    weights: Option<&Path>,
    format: &Format,
    classes: usize,
    names: &[String],
) -> Result<Start, TrainError> {
    if let Some(path) = weights {
        let name = Some(recipe.model.clone());
        let request = ModelRequest {
            model: name.clone().filter(|_| model_given),
            default_model: name,
            in_chans: recipe.in_chans,
            head: Head::Drawn(recipe.seed),
            ..ModelRequest::new(path)
        };
        let ResolvedModel { model, notes, .. } = request.open()?.read(Some(format))?;
        let notes = notes.into_iter().map(|note| format!("{}: {note}", path.display())).collect();
        if model.graph.is_quantized() {
            return Err(ModelError::Quantized.into());
        }
        let old = model.graph.output_channels()?;
        // Where all classes are known by name, each keeps its trained output, whatever its number.
        let order: Vec<Option<usize>> = match match_classes(names, &model.labels) {
            Ok(map) if map.by_name && are_names(names) => map.to.iter().map(|&output| Some(output as usize)).collect(),
            Ok(_) if old == classes => (0..classes).map(Some).collect(),
            Ok(_) | Err(_) => Vec::new(),
        };
        let order: Vec<Option<usize>> = (0..classes).map(|output| order.get(output).copied().flatten()).collect();
        if old == classes && order.iter().enumerate().all(|(output, from)| *from == Some(output)) {
            return Ok(Start { model, new_head: None, notes });
        }
        let kept = order.iter().flatten().count();
        let model = reorder_head(&model, &order, recipe.seed)?;
        let head = model.graph.head().map(|id| model.graph.node(id).name.clone()).unwrap_or_default();
        return Ok(Start { model, new_head: Some(NewHead { layer: head, old, new: classes, kept }), notes });
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
    let model = Model::new(graph, tensors, preprocessing, Vec::new())?;
    Ok(Start { model, new_head: None, notes: Vec::new() })
}

/// The graph with the recipe's rates of dropout and stochastic depth.
fn dropped(recipe: &Recipe, mut graph: Graph) -> Result<Graph, TrainError> {
    if let Some(p) = recipe.drop {
        let fail = || RecipeError::field("drop", "a network with a head", graph.name.clone());
        graph = graph.with_dropout(p as f32).ok_or_else(fail)?;
    }
    if let Some(p) = recipe.drop_path {
        let fail = || RecipeError::field("drop_path", "a network with shortcuts", graph.name.clone());
        graph = graph.with_drop_path(p as f32).ok_or_else(fail)?;
    }
    Ok(graph)
}

/// The given preprocessing, with the values of the recipe.
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
    base.crop_mode = recipe.crop_mode.unwrap_or(base.crop_mode);
    base.exif_orientation = recipe.exif_orientation.unwrap_or(base.exif_orientation);
    base.interpolation = recipe.interpolation.unwrap_or(base.interpolation);
    base.validate().map_err(DataError::from)?;
    Ok(base)
}

/// Records the preprocessing in the recipe, so that it is fully resolved.
fn fill(recipe: &mut Recipe, preprocessing: &Preprocessing, train_size: [usize; 2]) {
    let widen = |value: f32| value.to_string().parse().expect("a float prints as a float");
    recipe.mean = Some(preprocessing.mean.iter().copied().map(widen).collect());
    recipe.std = Some(preprocessing.std.iter().copied().map(widen).collect());
    recipe.crop_pct = Some(widen(preprocessing.crop_pct));
    recipe.crop_mode = Some(preprocessing.crop_mode);
    recipe.exif_orientation = Some(preprocessing.exif_orientation);
    recipe.interpolation = Some(preprocessing.interpolation);
    if train_size[0] == train_size[1] {
        recipe.img_size = Some(train_size[0]);
    }
}
