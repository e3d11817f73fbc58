//! The images that are explained.

use super::Context;
use crate::commands::predict::picture::of_input;
use crate::failure::Failure;
use crate::inputs::{Images, Inputs, Listed};
use crate::progress::Progress;
use residual::Image;
use residual::data::{Dataset, Loader, LoaderOptions, Subset, Transform, match_classes};
use residual::model::Model;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Images with their names and classes.
pub(super) struct Subjects {
    dataset: Arc<dyn Dataset>,
    transform: Transform,
    names: Vec<String>,
    /// The name of each image's class, where it has one.
    classes: Vec<Option<String>>,
    /// The model's output for it, where the model knows the class.
    outputs: Vec<Option<usize>>,
}

/// Some of the images, read into memory.
pub(super) struct Loaded {
    /// Their indices.
    pub(super) indices: Vec<usize>,
    /// n × height × width × channels, normalised.
    pub(super) values: Vec<f32>,
}

impl Subjects {
    pub(super) fn new(images: Option<Images>, typed: Option<Listed>, model: &Model) -> Result<Self, Failure> {
        let inputs = match (images, typed) {
            (Some(images), _) => Inputs::of_dataset(images),
            (None, Some(typed)) => typed.into_inputs(model.preprocessing.channels()),
            (None, None) => return Err(Failure::usage("inputs: expected images, got none")),
        };
        Self::of(inputs, model)
    }

    /// The images of `inputs`, whose classes are matched with the model's by name.
    pub(super) fn of(inputs: Inputs, model: &Model) -> Result<Self, Failure> {
        let Inputs { dataset, sources, classes, description } = inputs;
        let outputs = model.graph.output_channels()?;
        let to = match_classes(&classes, &model.labels).map(|map| map.to).unwrap_or_default();
        let output = |label: Option<usize>| to.get(label?).map(|&output| output as usize).filter(|&k| k < outputs);
        let name =
            |label: Option<usize>| Some(classes.get(label?).cloned().unwrap_or_else(|| label.unwrap_or(0).to_string()));
        if let Some(text) = description {
            Progress::new().line(&format!("data  {text}"));
        }
        Ok(Self {
            dataset,
            transform: Transform::evaluation(model.preprocessing.clone())?,
            classes: sources.iter().map(|source| name(source.label)).collect(),
            outputs: sources.iter().map(|source| output(source.label)).collect(),
            names: sources.into_iter().map(|source| source.path).collect(),
        })
    }

    pub(super) fn len(&self) -> usize {
        self.names.len()
    }

    /// The name of an image.
    pub(super) fn name(&self, index: usize) -> &str {
        &self.names[index]
    }

    /// The name of its class, where it is known.
    pub(super) fn class(&self, index: usize) -> Option<&str> {
        self.classes[index].as_deref()
    }

    /// The model's output for its class, where it is known.
    pub(super) fn output(&self, index: usize) -> Option<usize> {
        self.outputs[index]
    }

    /// Reads all images, batch by batch; `false` if a signal ended it.
    pub(super) fn each(
        &self,
        context: &Context<'_>,
        what: &str,
        mut each: impl FnMut(&[usize], &[f32]) -> Result<(), Failure>,
    ) -> Result<bool, Failure> {
        let loading = LoaderOptions {
            batch_size: context.batch().min(self.len()),
            workers: context.arguments.reading.workers.into(),
            skip_bad_images: context.arguments.reading.skip_bad_images,
            ..LoaderOptions::default()
        };
        let progress = Progress::new();
        let mut loader = Loader::new(self.dataset.clone(), self.transform.clone(), loading)?;
        let stop = context.stop.listen();
        let (mut done, total) = (0, self.len() as u64);
        for batch in loader.by_ref() {
            let batch = batch.map_err(|error| Failure::from(error).or_skip())?;
            if stop.load(Ordering::Relaxed) {
                progress.finish();
                return Ok(false);
            }
            if !batch.is_empty() {
                each(batch.indices(), batch.images())?;
            }
            done += batch.len() as u64;
            progress.images(what, done, total);
        }
        progress.finish();
        loader.skipped().iter().for_each(|skipped| progress.line(&format!("skipped: {}", skipped.reason)));
        if done == 0 {
            return Err(Failure::new(format!("inputs: expected at least one readable image, got none of {total}")));
        }
        Ok(true)
    }

    /// Reads all images into memory; `None` if a signal ended it.
    pub(super) fn load(&self, context: &Context<'_>) -> Result<Option<Loaded>, Failure> {
        let mut loaded = Loaded { indices: Vec::new(), values: Vec::new() };
        let len = self.transform.output_len();
        let bytes = self.len().saturating_mul(len).saturating_mul(size_of::<f32>());
        let room = loaded.values.try_reserve_exact(self.len().saturating_mul(len));
        room.map_err(|_| Failure::new(format!("memory: expected {bytes} bytes for the images, got less")))?;
        let whole = self.each(context, "reading", |indices, images| {
            loaded.indices.extend_from_slice(indices);
            loaded.values.extend_from_slice(images);
            Ok(())
        })?;
        Ok(whole.then_some(loaded))
    }

    /// The pictures of some images as the network sees them, by index.
    pub(super) fn pictures(&self, context: &Context<'_>, indices: &[usize]) -> Result<Vec<Image>, Failure> {
        let part: Arc<dyn Dataset> = Arc::new(Subset::new(self.dataset.clone(), indices.to_vec()));
        let loading = LoaderOptions { batch_size: 1, ..LoaderOptions::default() };
        let loader = Loader::new(part, self.transform.clone(), loading)?;
        loader.map(|batch| of_input(batch?.images(), &context.model.preprocessing)).collect()
    }
}

impl Loaded {
    /// The values of the image at `place`.
    pub(super) fn image(&self, place: usize) -> &[f32] {
        let len = self.values.len() / self.indices.len().max(1);
        &self.values[place * len..][..len]
    }
}
