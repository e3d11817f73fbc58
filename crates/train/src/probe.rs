//! Linear probing: features of a frozen backbone are computed once, and only the head is trained on them.

use crate::prepare::{EVALUATION_BATCH, Job};
use crate::recipe::RecipeError;
use crate::{Event, TrainError};
use residual_data::{DataError, Dataset, Format, Loader, LoaderOptions, Sample, Skipped, Transform};
use residual_engine::{Engine, Mode, Options};
use residual_graph::{Graph, Node, NodeId, Op};
use residual_model::Model;
use residual_preprocess::Preprocessing;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Maximum size of the cached features of training and held-out images together.
const MAX_BYTES: usize = 4 << 30;

/// A compiled backbone, and the head that reads its features.
pub(crate) struct Probe<'a> {
    job: &'a Job,
    backbone: Engine,
    head: Model,
    /// Height, width and channels of an image's features.
    shape: [usize; 3],
}

/// A job on features instead of images.
pub(crate) struct Cached {
    pub(crate) job: Job,
    /// Skipped images.
    pub(crate) skipped: Vec<Skipped>,
    /// Size in bytes of the features and of the plan that computed them.
    pub(crate) bytes: [usize; 2],
}

impl<'a> Probe<'a> {
    /// Splits the job's network before the head and the flatten or dropout nodes that precede it.
    ///
    /// # Errors
    /// If the head reads more than one value of the backbone, the features take too much memory, or the backbone
    /// cannot be run.
    pub(crate) fn new(job: &'a Job, options: &Options) -> Result<Self, TrainError> {
        let model = &job.model;
        let size = model.preprocessing.size;
        let cut = cut(&model.graph)?;
        let shape = model.graph.shapes(size[0], size[1])?[cut.0];
        let shape = [shape.height, shape.width, shape.channels];
        let images = job.train.len() + job.held_out.as_ref().map_or(0, |images| images.len());
        let bytes = shape.iter().product::<usize>().saturating_mul(4 * images);
        if bytes > MAX_BYTES {
            return Err(fail(format!("features of at most {} GiB", MAX_BYTES >> 30), format!("{} MiB", bytes >> 20)));
        }
        let backbone = part(model, model.graph.until(&[cut]), model.preprocessing.clone())?;
        let head = head(model, cut, shape)?;
        let engine = Engine::new(&backbone, Mode::Infer, EVALUATION_BATCH.min(images.max(1)), size, &[], options)?;
        Ok(Self { job, backbone: engine, head, shape })
    }

    /// Computes the features of all images; `None` if `stop` was set before the end.
    ///
    /// # Errors
    /// If an image cannot be read and bad images are not skipped, or all images of a set are skipped.
    pub(crate) fn run(
        mut self,
        stop: &AtomicBool,
        on_event: &mut dyn FnMut(&Event),
    ) -> Result<Option<Cached>, TrainError> {
        let (mut sets, mut skipped, mut bytes) = (Vec::new(), Vec::new(), 0);
        let of_job = [(Some(&self.job.train), "training"), (self.job.held_out.as_ref(), "evaluation")];
        let of_job = of_job.into_iter().filter_map(|(images, what)| Some((images?, what)));
        let total: u64 = of_job.clone().map(|(images, _)| images.len() as u64).sum();
        let mut done = 0;
        for (images, what) in of_job {
            let transform = Transform::evaluation(self.job.model.preprocessing.clone())?;
            let options = LoaderOptions {
                batch_size: EVALUATION_BATCH.min(total as usize),
                workers: self.job.recipe.workers,
                skip_bad_images: self.job.recipe.skip_bad_images,
                ..LoaderOptions::default()
            };
            let mut loader = Loader::new(images.clone(), transform, options)?;
            let mut features = Features::new(images.clone(), self.shape);
            for batch in loader.by_ref() {
                let batch = batch?;
                if stop.load(Ordering::Relaxed) {
                    return Ok(None);
                }
                if !batch.is_empty() {
                    self.backbone.forward(batch.images())?;
                    features.values.extend_from_slice(self.backbone.output());
                    features.indices.extend_from_slice(batch.indices());
                }
                done += batch.len() as u64;
                on_event(&Event::Features { done, total });
            }
            if features.is_empty() {
                return Err(TrainError::NoImages { what: what.into() });
            }
            bytes += 4 * features.values.len();
            skipped.extend_from_slice(loader.skipped());
            sets.push(Arc::new(features));
        }
        let mut sets = sets.into_iter().map(|set| set as Arc<dyn Dataset>);
        let train = sets.next().expect("there are training images");
        let held_out = sets.next();
        let bytes = [bytes, self.backbone.bytes()];
        let job = Job { model: self.head, train, held_out, ..self.job.clone() };
        Ok(Some(Cached { job, skipped, bytes }))
    }
}

fn fail(expected: impl Into<String>, got: impl Into<String>) -> TrainError {
    RecipeError::field("cache_features", expected, got).into()
}

/// The node whose value the head reads, before flatten and dropout.
fn cut(graph: &Graph) -> Result<NodeId, TrainError> {
    let one = || fail("a head that reads one value of the backbone", "another network");
    let mut cut = graph.node(graph.head().ok_or_else(one)?).inputs[0];
    while matches!(graph.node(cut).op, Op::Flatten | Op::Dropout { .. }) {
        cut = graph.node(cut).inputs[0];
    }
    let after = &graph.nodes[cut.0 + 1..];
    match after.iter().all(|node| node.inputs.iter().all(|input| *input >= cut)) {
        true => Ok(cut),
        false => Err(one()),
    }
}

/// The head as a separate network, whose images are features.
fn head(model: &Model, cut: NodeId, [height, width, channels]: [usize; 3]) -> Result<Model, TrainError> {
    let input =
        Node { name: model.graph.nodes[0].name.clone(), op: Op::Input { channels, height, width }, inputs: Vec::new() };
    let after = model.graph.nodes[cut.0 + 1..].iter().cloned().map(|mut node| {
        node.inputs.iter_mut().for_each(|id| id.0 -= cut.0);
        node
    });
    let preprocessing = Preprocessing::unscaled([height, width], &vec![0.0; channels], &vec![1.0; channels]);
    let nodes = std::iter::once(input).chain(after).collect();
    let output = NodeId(model.graph.output.0 - cut.0);
    part(model, Graph { name: model.graph.name.clone(), nodes, output }, preprocessing)
}

/// A part of a model, with its tensors.
fn part(model: &Model, graph: Graph, preprocessing: Preprocessing) -> Result<Model, TrainError> {
    let tensors = graph.parameters().map(|(key, _)| (key.clone(), model.tensors[key.as_str()].clone())).collect();
    Ok(Model::new(graph, tensors, preprocessing, Vec::new())?)
}

/// The features of a dataset's images.
struct Features {
    images: Arc<dyn Dataset>,
    /// The index of each image's features.
    indices: Vec<usize>,
    values: Vec<f32>,
    format: Format,
}

impl Features {
    fn new(images: Arc<dyn Dataset>, [height, width, channels]: [usize; 3]) -> Self {
        let format = Format {
            image_size: Some([height, width]),
            channels,
            normalized: true,
            mean: vec![0.0; channels],
            std: vec![1.0; channels],
        };
        Self { images, indices: Vec::new(), values: Vec::new(), format }
    }
}

impl Dataset for Features {
    fn len(&self) -> usize {
        self.indices.len()
    }

    fn label(&self, index: usize) -> u32 {
        self.images.label(self.indices[index])
    }

    fn is_multi_label(&self) -> bool {
        self.images.is_multi_label()
    }

    fn soft_label(&self, index: usize) -> Option<&[f32]> {
        self.images.soft_label(self.indices[index])
    }

    fn class_names(&self) -> &[String] {
        self.images.class_names()
    }

    fn sample(&self, index: usize) -> Result<Sample, DataError> {
        let len = self.values.len() / self.indices.len();
        let [height, width] = self.format.image_size.expect("features have one shape");
        let values = self.values[index * len..][..len].to_vec();
        Ok(Sample::Normalized { height, width, channels: self.format.channels, values })
    }

    fn fingerprint(&self, index: usize) -> u32 {
        self.images.fingerprint(self.indices[index])
    }

    fn describe(&self, index: usize) -> String {
        self.images.describe(self.indices[index])
    }

    fn place(&self) -> String {
        self.images.place()
    }

    fn format(&self) -> &Format {
        &self.format
    }

    fn notes(&self) -> &[String] {
        self.images.notes()
    }
}
