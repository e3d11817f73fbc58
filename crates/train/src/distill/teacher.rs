//! A teacher: another model, adapted to the batches and the classes of the student.

use super::hints::{self, Pair};
use crate::TrainError;
use crate::prepare::Job;
use crc::{CRC_32_ISO_HDLC, Crc};
use residual_data::match_classes;
use residual_engine::{Engine, EngineError, Mode, Options};
use residual_infer::{ModelRequest, ResolvedModel};
use residual_model::{Activation, Model};
use residual_preprocess::Preprocessing;
use residual_tensor::{Elements, Tensor};
use std::sync::{Arc, OnceLock};

/// The teachers of a job, which are read when they are first needed: a report of the run needs none.
#[derive(Clone, Debug, Default)]
pub(crate) struct Teachers(OnceLock<Read>);

#[derive(Clone, Debug)]
struct Read {
    teachers: Vec<Arc<Teacher>>,
    pairs: Vec<Pair>,
}

impl Teachers {
    /// The teachers of `job`, and the nodes of student and teacher that its loss compares.
    ///
    /// # Errors
    /// If one cannot be read or does not fit the student.
    pub(crate) fn of(&self, job: &Job) -> Result<(&[Arc<Teacher>], &[Pair]), TrainError> {
        let Read { teachers, pairs } = self.read(job)?;
        Ok((teachers, pairs))
    }

    fn read(&self, job: &Job) -> Result<&Read, TrainError> {
        if let Some(read) = self.0.get() {
            return Ok(read);
        }
        let names = job.recipe.teachers();
        let read = names.iter().map(|name| Ok(Arc::new(Teacher::read(name, job)?)));
        let teachers = read.collect::<Result<Vec<_>, TrainError>>()?;
        let pairs = match teachers.first() {
            Some(teacher) if job.recipe.kd_loss.has_hints() => hints::pairs(job, teacher)?,
            _ => Vec::new(),
        };
        Ok(self.0.get_or_init(|| Read { teachers, pairs }))
    }
}

/// A model that a student learns from.
#[derive(Debug)]
pub(crate) struct Teacher {
    /// Its weights, as the recipe names them.
    pub(crate) name: String,
    /// The model, with the preprocessing of the student but for mean and standard deviation.
    pub(crate) model: Model,
    /// The number of its outputs.
    outputs: usize,
    /// The output of each of the student's classes; `None` if they are all outputs in their order.
    of_classes: Option<Vec<usize>>,
    /// Factor and summand of each channel, from the student's normalised images to the teacher's; `None` if they are the same.
    affine: Option<Vec<[f32; 2]>>,
    /// What the user should know about it, one line each.
    pub(crate) notes: Vec<String>,
    /// A checksum of all that determines its outputs.
    pub(crate) fingerprint: u32,
}

impl Teacher {
    /// Reads the weights `name` and matches classes, channels, size and normalisation with those of the student of `job`.
    fn read(name: &str, job: &Job) -> Result<Self, TrainError> {
        let unread = |source| TrainError::TeacherWeights { source: Box::new(source) };
        let opened = ModelRequest::new(name).open().map_err(unread)?;
        let has_preprocessing = opened.has_preprocessing();
        let ResolvedModel { model, notes, .. } = opened.read(Some(job.train.format())).map_err(unread)?;
        let mut teacher = Self {
            name: name.into(),
            outputs: model.graph.output_channels()?,
            model,
            of_classes: None,
            affine: None,
            notes: Vec::new(),
            fingerprint: 0,
        };
        notes.iter().for_each(|note| teacher.note(note));
        teacher.match_images(job, has_preprocessing)?;
        if job.recipe.learns_probabilities() {
            teacher.match_outputs(job)?;
        } else {
            teacher.note(&format!("{}, whose classes do not matter", teacher.model.graph.name));
        }
        teacher.fingerprint = fingerprint(&teacher.model);
        Ok(teacher)
    }

    fn note(&mut self, note: &str) {
        self.notes.push(format!("teacher {}: {note}", self.name));
    }

    pub(super) fn unfit(&self, what: &'static str, expected: impl Into<String>, got: impl Into<String>) -> TrainError {
        TrainError::Teacher { name: self.name.clone(), what, expected: expected.into(), got: got.into() }
    }

    /// Channels, size and normalisation.
    fn match_images(&mut self, job: &Job, has_preprocessing: bool) -> Result<(), TrainError> {
        let student = &job.model.preprocessing;
        let [channels, ..] = self.model.graph.input_size();
        if channels != student.channels() {
            let expected = format!("images of {} channels, the student's", student.channels());
            return Err(self.unfit("input", expected, format!("a network for {channels}")));
        }
        let sizes = job.size_changes().into_iter().chain([0]).map(|epoch| job.train_size(epoch));
        for [height, width] in sizes.chain([student.size]) {
            if let Err(error) = self.model.graph.shapes(height, width) {
                let expected = format!("a network for images of {height}x{width}, the student's");
                return Err(self.unfit("input", expected, format!("{}: {error}", self.model.graph.name)));
            }
        }
        let own = std::mem::replace(&mut self.model.preprocessing, student.clone());
        if !has_preprocessing {
            self.note("its file says nothing of preprocessing: it sees images normalised as the student's");
            return Ok(());
        }
        let [[height, width], [own_height, own_width]] = [job.train_size(0), own.size];
        if [height, width] != own.size {
            self.note(&format!(
                "it sees images of {height}x{width}, as the student; it was made for {own_height}x{own_width}"
            ));
        }
        if own.mean == student.mean && own.std == student.std {
            return Ok(());
        }
        if job.train.format().normalized {
            self.note("the images are already normalised: it sees them as they are, whatever its mean and deviation");
            return Ok(());
        }
        self.note("its mean and standard deviation are not the student's: images are normalised again for it");
        self.affine = Some(affine(student, &own));
        self.model.preprocessing.mean = own.mean;
        self.model.preprocessing.std = own.std;
        Ok(())
    }

    /// Classes, by their names.
    fn match_outputs(&mut self, job: &Job) -> Result<(), TrainError> {
        if self.model.activation != Activation::Softmax {
            return Err(self.unfit("output", "one class for each image", "several (sigmoids)"));
        }
        let (outputs, classes) = (self.outputs, &job.model.labels);
        let map = match_classes(classes, &self.model.labels)
            .map_err(|source| TrainError::TeacherClasses { name: self.name.clone(), source })?;
        if !map.by_name && outputs != classes.len() {
            let expected = format!("{} outputs, as classes without names are matched by their numbers", classes.len());
            return Err(self.unfit("output", expected, outputs.to_string()));
        }
        let how = if map.by_name { "by name" } else { "by number, as one side has no names" };
        let of = if outputs == classes.len() { String::new() } else { format!(" of its {outputs}") };
        let network = self.model.graph.name.clone();
        self.note(&format!("{network}, {} classes{of} matched {how}", classes.len()));
        if !(map.is_identity() && outputs == classes.len()) {
            self.of_classes = Some(map.to.iter().map(|&output| output as usize).collect());
        }
        Ok(())
    }
}

/// (x − m) / s of a pixel x in terms of (x − mₛ) / sₛ.
fn affine(student: &Preprocessing, own: &Preprocessing) -> Vec<[f32; 2]> {
    let channels = student.mean.iter().zip(&student.std).zip(own.mean.iter().zip(&own.std));
    let each = channels.map(|((&mean, &std), (&own_mean, &own_std))| {
        let [mean, std, own_mean, own_std] = [mean, std, own_mean, own_std].map(f64::from);
        [(std / own_std) as f32, ((mean - own_mean) / own_std) as f32]
    });
    each.collect()
}

/// A checksum of network, tensors, normalisation and classes.
fn fingerprint(model: &Model) -> u32 {
    const CRC: Crc<u32> = Crc::<u32>::new(&CRC_32_ISO_HDLC);
    let mut digest = CRC.digest();
    let Model { graph, tensors, preprocessing, labels, .. } = model;
    digest.update(&serde_json::to_vec(graph).expect("a graph has a JSON form"));
    for (key, tensor) in tensors {
        digest.update(key.as_bytes());
        match tensor.elements() {
            Elements::F32(values) => values.iter().for_each(|value| digest.update(&value.to_le_bytes())),
            Elements::I64(values) => values.iter().for_each(|value| digest.update(&value.to_le_bytes())),
            Elements::I8(values) => values.iter().for_each(|value| digest.update(&value.to_le_bytes())),
            Elements::U8(values) => digest.update(values),
        }
    }
    [&preprocessing.mean, &preprocessing.std]
        .into_iter()
        .flatten()
        .for_each(|value| digest.update(&value.to_le_bytes()));
    labels.iter().for_each(|label| digest.update(label.as_bytes()));
    digest.finalize()
}

/// A teacher compiled for the student's batches.
pub(crate) struct Session {
    teacher: Arc<Teacher>,
    engine: Engine,
    /// The batch, normalised for the teacher.
    images: Vec<f32>,
    /// Logits of the student's classes.
    logits: Vec<f32>,
}

impl Session {
    pub(crate) fn new(
        teacher: &Arc<Teacher>,
        batch: usize,
        size: [usize; 2],
        outputs: &[&str],
        options: &Options,
    ) -> Result<Self, EngineError> {
        let engine = Engine::new(&teacher.model, Mode::Infer, batch, size, outputs, options)?;
        Ok(Self { teacher: Arc::clone(teacher), engine, images: Vec::new(), logits: Vec::new() })
    }

    /// At most the bytes of such a session and of the teacher's own tensors.
    pub(crate) fn required_memory(
        teacher: &Teacher,
        batch: usize,
        size: [usize; 2],
        outputs: &[&str],
        options: &Options,
    ) -> Result<usize, EngineError> {
        let plan = Engine::required_memory(&teacher.model, Mode::Infer, batch, size, outputs, options)?;
        let renormalised = match teacher.affine {
            Some(_) => 4 * batch * size[0] * size[1] * teacher.model.preprocessing.channels(),
            None => 0,
        };
        let values: usize = teacher.model.tensors.values().map(Tensor::len).sum();
        Ok(plan.total() + renormalised + 4 * values)
    }

    /// Runs the teacher on the student's normalised images.
    ///
    /// # Errors
    /// If the batch does not fit the plan.
    pub(crate) fn forward(&mut self, images: &[f32]) -> Result<(), EngineError> {
        let Self { teacher, engine, images: own, .. } = self;
        let images = match &teacher.affine {
            None => images,
            Some(affine) => {
                own.clear();
                let pixels = images.chunks_exact(affine.len());
                own.extend(
                    pixels.flat_map(|pixel| pixel.iter().zip(affine).map(|(x, [factor, sum])| x * factor + sum)),
                );
                own
            }
        };
        engine.forward(images)
    }

    /// The engine, with the values of the last pass.
    pub(crate) fn engine(&self) -> &Engine {
        &self.engine
    }

    /// The teacher's logits for the student's normalised images: images × the student's classes.
    ///
    /// # Errors
    /// If the batch does not fit the plan.
    pub(crate) fn logits(&mut self, images: &[f32]) -> Result<&[f32], EngineError> {
        self.forward(images)?;
        let Self { teacher, engine, logits, .. } = self;
        let Some(of_classes) = &teacher.of_classes else { return Ok(engine.output()) };
        logits.clear();
        let rows = engine.output().chunks_exact(teacher.outputs);
        logits.extend(rows.flat_map(|row| of_classes.iter().map(|&output| row[output])));
        Ok(logits)
    }
}
