//! `residual predict`: decodes images in several threads, classifies them in batches, and prints results as they come.

mod array;
mod decode;
mod report;

use crate::args::Predict;
use crate::failure::Failure;
use crate::inputs::images_in;
use crate::output::{complain, count, path_text};
use crate::progress::Progress;
use crate::signals::Stop;
use crate::tuning::tune;
use crate::{Done, machine, weights};
use array::Array;
use decode::{Decoder, Prepared};
use report::Report;
use residual::engine::Mode;
use residual::model::Model;
use residual::preprocess::Preprocessor;
use residual::{Classifier, ClassifyError};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

/// Something to classify.
pub(crate) enum Input {
    Image(PathBuf),
    /// An image's bytes on stdin, typed as `-`.
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
    let options = machine::compute_options(arguments.compute)?;
    let inputs = inputs(&arguments.inputs)?;
    let preprocessor = OnceLock::new();
    std::thread::scope(|scope| {
        // The weights are read while the first images are decoded.
        let decoder = Decoder::start(scope, &inputs, &preprocessor, arguments.reading.workers.into());
        let model = read_model(arguments);
        // Set in any case, so that no thread waits forever.
        let ready = model.as_ref().ok().map(|model| Preprocessor::new(model.preprocessing.clone()));
        let _first = preprocessor.set(ready.and_then(Result::ok));
        let (decoder, model) = (decoder?, model?);
        predict(arguments, &inputs, decoder, model, options, stop)
    })
}

fn predict(
    arguments: &Predict,
    inputs: &[Input],
    decoder: Decoder<'_>,
    model: Model,
    mut options: residual::engine::Options,
    stop: &Stop,
) -> Result<Done, Failure> {
    let most: usize = arguments.batch_size.get().into();
    let mut prepared = inputs.iter().zip(decoder).peekable();
    let images = match (inputs, prepared.peek()) {
        ([_], Some((_, Prepared::Array(array)))) => array.as_ref().map_or(Some(1), |array| Some(array.images())),
        _ if inputs.iter().any(|input| matches!(input, Input::Array(_))) => None,
        _ => Some(inputs.len()),
    };
    // Weights that are used once need not stay packed.
    options.pack_on_use = images.is_some_and(|images| images <= most);
    let batch = images.unwrap_or(most).clamp(1, most);
    if arguments.compute.autotune {
        options = tune(options, &model, &[(Mode::Infer, batch)], model.preprocessing.size)?;
    }
    let mut run = Run {
        arguments,
        classifier: Classifier::with_options(model, batch, &options)?,
        most: batch,
        names: Vec::new(),
        images: Vec::new(),
        report: Report::new(arguments),
        skipped: Vec::new(),
        stop: stop.listen(),
    };
    // On a terminal the results themselves show the progress.
    let progress =
        if std::io::IsTerminal::is_terminal(&std::io::stdout()) { Progress::hidden() } else { Progress::new() };
    let total = inputs.len() as u64;
    let mut ended = Ok(Ended::Whole);
    for (done, (input, prepared)) in prepared.enumerate() {
        ended = match run.state() {
            Ended::Whole => run.take(input, prepared),
            state => Ok(state),
        };
        if !matches!(ended, Ok(Ended::Whole)) {
            break;
        }
        progress.images("classifying", done as u64 + 1, total);
    }
    let whole = matches!(ended, Ok(Ended::Whole));
    // An error or a signal drops only the images that are not classified yet.
    let last = if whole { run.classify().map(|()| Ended::Whole) } else { ended };
    progress.finish();
    run.report.finish(&run.skipped)?;
    run.skipped.iter().for_each(|reason| complain(&format!("skipped: {reason}")));
    match last? {
        Ended::Interrupted => {
            complain(&format!("interrupted after {}", count(run.report.rows() as u64, "image")));
            Ok(Done::Interrupted)
        }
        Ended::Whole if run.report.rows() == 0 && !run.skipped.is_empty() => {
            Err(Failure::new(format!("inputs: expected at least one readable image, got none of {}", inputs.len())))
        }
        Ended::Whole | Ended::Unread => Ok(Done::Finished),
    }
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
    /// Names and values of the images that wait for their batch.
    names: Vec<String>,
    images: Vec<f32>,
    report: Report<'a>,
    /// Which images were skipped, and why.
    skipped: Vec<String>,
    stop: &'a AtomicBool,
}

impl Run<'_> {
    fn take(&mut self, input: &Input, prepared: Prepared) -> Result<Ended, Failure> {
        match prepared {
            Prepared::Image(Ok(values)) => {
                self.names.push(input.name());
                self.images.extend(values);
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
        }
        Ok(self.state())
    }

    /// Classifies the images of an array, batch by batch.
    fn classify_array(&mut self, name: &str, array: Array) -> Result<Ended, Failure> {
        let images = array.images();
        array.check(name, self.classifier.preprocessor())?;
        for start in (0..images).step_by(self.most) {
            let end = (start + self.most).min(images);
            array.prepare(start..end, self.classifier.preprocessor(), &mut self.images)?;
            let names =
                (start..end).map(|index| if images == 1 { name.to_owned() } else { format!("{name}[{index}]") });
            self.names.extend(names);
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
        for (name, output) in self.names.iter().zip(&outputs) {
            self.report.add(name, output)?;
        }
        self.names.clear();
        self.images.clear();
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
