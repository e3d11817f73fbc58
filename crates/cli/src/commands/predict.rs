//! `residual predict`: decodes images in several threads, classifies them in batches, and prints results as they come.

mod array;
mod decode;
pub(crate) mod picture;
mod report;
mod stdin;

use crate::args::Predict;
use crate::failure::Failure;
use crate::inputs::{Images, images_in};
use crate::output::{complain, count, path_text};
use crate::progress::Progress;
use crate::signals::Stop;
use crate::tuning::tune;
use crate::{Done, machine, weights};
use array::Array;
use decode::{Decoder, Decoding, Prepared, Ready};
use picture::{Pictures, of_input};
use report::Report;
use residual::data::{Loader, LoaderOptions, Transform};
use residual::engine::{Mode, Options};
use residual::model::Model;
use residual::preprocess::Preprocessor;
use residual::{Classifier, ClassifyError, Image};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

/// Something to classify.
pub(crate) enum Input {
    Image(PathBuf),
    /// An image's bytes or a list of paths on stdin, typed as `-`.
    Stdin,
    /// Images in a `.npy` file.
    Array(PathBuf),
}

impl Input {
    /// Its name in results.
    fn name(&self) -> String {
        match self {
            Self::Image(path) | Self::Array(path) => path_text(path),
            Self::Stdin => "-".to_owned(),
        }
    }
}

pub(crate) fn run(arguments: &Predict, stop: &Stop) -> Result<Done, Failure> {
    let mut options = machine::compute_options(arguments.compute)?;
    options.inference.elements = arguments.precision.precision;
    if let Some(images) = Images::open(&arguments.images, None)? {
        let opened = weights::open(&arguments.weights)?;
        let model = weights::resolve(&arguments.weights.weights, opened, Some(images.dataset.format()))?;
        return predict_dataset(arguments, &images, arguments.image.apply(model)?, options, stop);
    }
    let inputs = inputs(&arguments.inputs)?;
    let ready = Ready::new();
    let decoding = Decoding {
        ready: &ready,
        workers: arguments.reading.workers.into(),
        views: arguments.test_time.tta,
        pictures: arguments.save.is_some(),
    };
    std::thread::scope(|scope| {
        // The weights are read while the first images are decoded.
        let decoder = Decoder::start(scope, &inputs, decoding);
        let model = read_model(arguments);
        // Set in any case, so that no thread waits forever.
        let preprocessor = model.as_ref().ok().map(|model| Preprocessor::new(model.preprocessing.clone()));
        let _first = ready.set(preprocessor.and_then(Result::ok));
        let (decoder, model) = (decoder?, model?);
        predict(arguments, &inputs, decoder, decoding, model, options, stop)
    })
}

/// Classifies the typed inputs.
fn predict(
    arguments: &Predict,
    inputs: &[Input],
    decoder: Decoder<'_>,
    decoding: Decoding<'_>,
    model: Model,
    mut options: Options,
    stop: &Stop,
) -> Result<Done, Failure> {
    let most: usize = arguments.batch_size.get().into();
    let mut prepared = inputs.iter().zip(decoder).peekable();
    let images = match (inputs, prepared.peek()) {
        ([_], Some((_, Prepared::Array(array)))) => array.as_ref().map_or(Some(1), |array| Some(array.images())),
        ([_], Some((_, Prepared::Image(_)))) => Some(1),
        _ if inputs.iter().any(|input| !matches!(input, Input::Image(_))) => None,
        _ => Some(inputs.len()),
    };
    // Weights that are used once need not stay packed.
    options.inference.pack_on_use = images.is_some_and(|images| images <= most);
    let mut run = Run::new(arguments, model, images.unwrap_or(most).clamp(1, most), options, stop)?;
    run.total = inputs.len() as u64;
    let mut ended = Ok(run.state());
    for (input, prepared) in prepared {
        if matches!(ended, Ok(Ended::Whole)) {
            ended = run.take(input, prepared, decoding);
        }
        if !matches!(ended, Ok(Ended::Whole)) {
            break;
        }
    }
    run.finish(ended)
}

/// Classifies the images of a dataset.
fn predict_dataset(
    arguments: &Predict,
    images: &Images,
    model: Model,
    mut options: Options,
    stop: &Stop,
) -> Result<Done, Failure> {
    let dataset = &images.dataset;
    let most = usize::from(arguments.batch_size.get()).min(dataset.len().max(1));
    options.inference.pack_on_use = dataset.len() <= most;
    let loading = LoaderOptions {
        batch_size: most,
        workers: arguments.reading.workers.into(),
        skip_bad_images: arguments.reading.skip_bad_images,
        ..LoaderOptions::default()
    };
    let transform = Transform::evaluation(model.preprocessing.clone())?.with_views(arguments.test_time.tta)?;
    let mut loader = Loader::new(dataset.clone(), transform, loading)?;
    let mut run = Run::new(arguments, model, most, options, stop)?;
    run.progress.line(&format!("data  {}", images.description));
    run.total = dataset.len() as u64;
    let mut ended = Ok(run.state());
    while matches!(ended, Ok(Ended::Whole))
        && let Some(batch) = loader.next()
    {
        ended = match batch {
            Ok(batch) => {
                run.names.extend(batch.indices().iter().map(|&index| dataset.describe(index)));
                run.pictures.extend(batch.indices().iter().map(|_| None));
                run.images.extend_from_slice(batch.images());
                run.classify().map(|()| run.state())
            }
            Err(error) => Err(Failure::from(error).or_skip()),
        };
    }
    run.skipped.extend(loader.skipped().iter().map(|skipped| skipped.reason.clone()));
    run.finish(ended)
}

/// How classifying some inputs ended.
enum Ended {
    /// All are classified, or wait for their batch.
    Whole,
    /// By a signal.
    Interrupted,
    /// The reader closed the pipe.
    Unread,
}

/// The state of a prediction.
struct Run<'a> {
    arguments: &'a Predict,
    classifier: Classifier,
    /// Batch size.
    most: usize,
    /// Names and values of the images that wait for their batch, and the images themselves if they are saved and were
    /// decoded here.
    names: Vec<String>,
    images: Vec<f32>,
    pictures: Vec<Option<Image>>,
    report: Report<'a>,
    /// The folder of annotated pictures, if they are saved.
    saved: Option<Pictures>,
    /// Which images were skipped, and why.
    skipped: Vec<String>,
    progress: Progress,
    /// Inputs that were taken, of all that are known.
    done: u64,
    total: u64,
    stop: &'a AtomicBool,
}

impl<'a> Run<'a> {
    fn new(
        arguments: &'a Predict,
        model: Model,
        batch: usize,
        mut options: Options,
        stop: &'a Stop,
    ) -> Result<Self, Failure> {
        if arguments.compute.autotune {
            options = tune(options, &model, &[(Mode::Infer, batch)], model.preprocessing.size)?;
        }
        // On a terminal the results themselves show the progress.
        let is_shown = std::io::IsTerminal::is_terminal(&std::io::stdout());
        Ok(Self {
            arguments,
            classifier: Classifier::with_views(model, batch, arguments.test_time.tta, &options)?,
            most: batch,
            names: Vec::new(),
            images: Vec::new(),
            pictures: Vec::new(),
            report: Report::new(arguments),
            saved: arguments.save.as_deref().map(Pictures::new).transpose()?,
            skipped: Vec::new(),
            progress: if is_shown { Progress::hidden() } else { Progress::new() },
            done: 0,
            total: 0,
            stop: stop.listen(),
        })
    }

    fn take(&mut self, input: &Input, prepared: Prepared, decoding: Decoding<'_>) -> Result<Ended, Failure> {
        match prepared {
            Prepared::Image(Ok(decoded)) => {
                self.names.push(input.name());
                self.images.extend(decoded.values);
                self.pictures.push(decoded.picture);
                if self.names.len() == self.most {
                    self.classify()?;
                }
            }
            Prepared::Image(Err(error)) if self.arguments.reading.skip_bad_images && error.is_bad_image() => {
                self.skipped.push(error.to_string());
            }
            Prepared::Image(Err(error)) => {
                self.classify()?;
                return Err(Failure::from(error).or_skip());
            }
            Prepared::Array(array) => {
                self.classify()?;
                return self.classify_array(&input.name(), array?);
            }
            Prepared::Paths(mut paths) => {
                // It is a list, not an image.
                self.total -= 1;
                loop {
                    let group = paths.group()?;
                    if group.is_empty() {
                        return Ok(self.state());
                    }
                    match self.take_listed(&group, decoding)? {
                        Ended::Whole => {}
                        ended => return Ok(ended),
                    }
                }
            }
        }
        self.done += 1;
        self.progress.images("classifying", self.done, self.total);
        Ok(self.state())
    }

    /// Classifies the inputs at these paths.
    fn take_listed(&mut self, paths: &[PathBuf], decoding: Decoding<'_>) -> Result<Ended, Failure> {
        if paths.iter().any(|path| path == Path::new("-")) {
            return Err(Failure::new("stdin: expected paths, got -"));
        }
        let inputs = inputs(paths)?;
        self.total += inputs.len() as u64;
        std::thread::scope(|scope| {
            for (input, prepared) in inputs.iter().zip(Decoder::start(scope, &inputs, decoding)?) {
                match self.take(input, prepared, decoding)? {
                    Ended::Whole => {}
                    ended => return Ok(ended),
                }
            }
            // Whoever writes the list may wait for the results.
            self.classify()?;
            Ok(self.state())
        })
    }

    /// Classifies the images of an array, batch by batch.
    fn classify_array(&mut self, name: &str, array: Array) -> Result<Ended, Failure> {
        let images = array.images();
        let views = self.arguments.test_time.tta;
        array.check(name, self.classifier.preprocessor(), views)?;
        for start in (0..images).step_by(self.most) {
            let end = (start + self.most).min(images);
            array.prepare(start..end, self.classifier.preprocessor(), views, &mut self.images)?;
            let names =
                (start..end).map(|index| if images == 1 { name.to_owned() } else { format!("{name}[{index}]") });
            self.names.extend(names);
            self.pictures.extend((start..end).map(|_| None));
            self.classify()?;
            if !matches!(self.state(), Ended::Whole) {
                break;
            }
        }
        Ok(self.state())
    }

    /// Classifies the images that wait, and prints their results.
    fn classify(&mut self) -> Result<(), Failure> {
        let outputs = self.classifier.classify_nhwc(&self.images).map_err(|error| match error {
            ClassifyError::NotFinite { index, got } => {
                Failure::new(format!("{}: expected finite logits, got {got}", self.names[index]))
            }
            error => error.into(),
        })?;
        let preprocessing = self.classifier.preprocessor().description();
        let (views, len) = (self.arguments.test_time.tta, self.classifier.preprocessor().output_len());
        // The centre crop.
        let centre = if views.count() > 2 { 4 } else { 0 };
        let inputs = self.images.chunks_exact(views.count() * len).map(|views| &views[centre * len..][..len]);
        for (((name, output), picture), input) in self.names.iter().zip(&outputs).zip(&self.pictures).zip(inputs) {
            self.report.add(name, output)?;
            if let (Some(saved), [top]) = (&mut self.saved, &output.top(1)[..]) {
                match picture {
                    Some(picture) => saved.save(name, picture, top)?,
                    None => saved.save(name, &of_input(input, preprocessing)?, top)?,
                }
            }
        }
        self.names.clear();
        self.images.clear();
        self.pictures.clear();
        self.report.flush()
    }

    fn state(&self) -> Ended {
        if self.stop.load(Ordering::Relaxed) {
            Ended::Interrupted
        } else if self.report.is_unread() {
            Ended::Unread
        } else {
            Ended::Whole
        }
    }

    /// Completes the output, after all inputs or an error.
    fn finish(mut self, ended: Result<Ended, Failure>) -> Result<Done, Failure> {
        // An error or a signal drops only the images that are not classified yet.
        let last = match ended {
            Ok(Ended::Whole) => self.classify().map(|()| Ended::Whole),
            ended => ended,
        };
        self.progress.finish();
        self.report.finish(&self.skipped)?;
        self.skipped.iter().for_each(|reason| complain(&format!("skipped: {reason}")));
        match last? {
            Ended::Interrupted => {
                complain(&format!("interrupted after {}", count(self.report.rows() as u64, "image")));
                Ok(Done::Interrupted)
            }
            Ended::Whole if self.report.rows() == 0 => match self.skipped.len() {
                0 => Err(Failure::usage("stdin: expected an image, or a path a line, got nothing")),
                all => Err(Failure::new(format!("inputs: expected at least one readable image, got none of {all}"))),
            },
            Ended::Whole | Ended::Unread => Ok(Done::Finished),
        }
    }
}

fn read_model(arguments: &Predict) -> Result<Model, Failure> {
    let opened = weights::open(&arguments.weights)?;
    Ok(arguments.image.apply(weights::resolve(&arguments.weights.weights, opened, None)?)?)
}

/// The typed inputs, with folders replaced by the images in them.
fn inputs(typed: &[PathBuf]) -> Result<Vec<Input>, Failure> {
    if typed.iter().filter(|path| *path == Path::new("-")).count() > 1 {
        return Err(Failure::usage("-: expected stdin once, got it several times"));
    }
    let mut inputs = Vec::new();
    for path in typed {
        if path == Path::new("-") {
            inputs.push(Input::Stdin);
        } else if path.is_dir() {
            inputs.extend(images_in(path)?.into_iter().map(Input::Image));
        } else if path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("npy")) {
            inputs.push(Input::Array(path.clone()));
        } else {
            inputs.push(Input::Image(path.clone()));
        }
    }
    Ok(inputs)
}
