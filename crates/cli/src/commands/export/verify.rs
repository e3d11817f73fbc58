//! Runs a written ONNX file in rten.

use super::Verified;
use crate::failure::Failure;
use residual::data::{DataError, Sample, Source, Split};
use residual::engine::Options;
use residual::model::Model;
use residual::preprocess::{Image, Preprocessor};
use residual::tensor::Stream;
use residual::{Classifier, read_image};
use std::path::{Path, PathBuf};

/// Number of images of `shapes10` where none are given.
const IMAGES: usize = 4;
/// The largest difference of logits that rounding may cause, relative to the largest logit.
const TOLERANCE: f32 = 1e-4;
/// The same for quantised networks: a value that rounding moves to the next byte moves by a 255th of its range.
const QUANTIZED_TOLERANCE: f32 = 0.05;

/// Runs the file at `path` on images, as one batch and the first image alone, and compares the logits with the engine's.
pub(super) fn run(path: &Path, model: &Model, inputs: &[PathBuf]) -> Result<Verified, Failure> {
    let images = prepared(model, inputs)?;
    let [height, width] = model.preprocessing.size;
    let channels = model.preprocessing.channels();
    let image_len = channels * height * width;
    let count = images.len() / image_len;

    let mut classifier = Classifier::with_options(model.clone(), count, &Options::default())?;
    let outputs = classifier.classify_nhwc(&images)?;
    let expected: Vec<f32> = outputs.iter().flat_map(|output| output.logits()).copied().collect();
    let shape = model.graph.shapes(height, width)?[model.graph.output.0];
    let expected = planes(&expected, shape.channels, shape.height * shape.width);

    let images = planes(&images, channels, height * width);
    let batches =
        [count, 1].map(|count| Batch { shape: [count, channels, height, width], values: &images[..count * image_len] });
    let largest = expected.iter().fold(f32::MIN_POSITIVE, |most, value| most.max(value.abs()));
    let mut difference = 0.0f32;
    for (Batch { shape: [count, ..], .. }, got) in batches.iter().zip(run_file(path, &batches)?) {
        let expected = &expected[..count * shape.len()];
        if got.len() != expected.len() {
            return Err(differs(path, format!("{} logits from rten", expected.len()), got.len().to_string()));
        }
        for (got, expected) in got.iter().zip(expected) {
            let one = (got - expected).abs() / largest;
            // NaN counts as the largest difference.
            difference = if one.is_nan() { f32::INFINITY } else { difference.max(one) };
        }
    }
    let tolerance = if model.graph.is_quantized() { QUANTIZED_TOLERANCE } else { TOLERANCE };
    if difference > tolerance {
        let expected = format!("rten's logits within {tolerance:.0e} of ours, on a scale where the largest is 1");
        return Err(differs(path, expected, format!("a difference of {difference:.1e}")));
    }
    Ok(Verified { program: "rten", images: count, difference, tolerance })
}

fn differs(path: &Path, expected: String, got: String) -> Failure {
    DataError::Invalid { place: path.display().to_string(), expected, got }.into()
}

/// Normalised images: N×C×H×W.
struct Batch<'a> {
    shape: [usize; 4],
    #[cfg_attr(not(feature = "verify"), expect(dead_code, reason = "only the other program reads it"))]
    values: &'a [f32],
}

/// rten's logits for each batch.
#[cfg(feature = "verify")]
fn run_file(path: &Path, batches: &[Batch<'_>]) -> Result<Vec<Vec<f32>>, Failure> {
    let fail = |error: &dyn std::error::Error| Failure::at(path.display(), error);
    let network = rten::Model::load_file(path).map_err(|error| fail(&error))?;
    let run = |Batch { shape, values }: &Batch<'_>| {
        let input = rten::Value::from_shape(shape, values.to_vec()).map_err(|error| fail(&error))?;
        let output = network.run_one(input.into(), None).map_err(|error| fail(&error))?;
        Ok(output.into_tensor::<f32>().map(|tensor| tensor.into_data()).unwrap_or_default())
    };
    batches.iter().map(run).collect()
}

/// Whether there is another engine to run files in.
#[cfg(feature = "verify")]
pub(super) fn available() -> Result<(), Failure> {
    Ok(())
}

#[cfg(not(feature = "verify"))]
fn run_file(_: &Path, _: &[Batch<'_>]) -> Result<Vec<Vec<f32>>, Failure> {
    available().map(|()| Vec::new())
}

/// Whether there is another engine to run files in.
#[cfg(not(feature = "verify"))]
pub(super) fn available() -> Result<(), Failure> {
    Err(Failure::usage(
        "verify: expected a program that was built with it, got one without: cargo install --path crates/cli --features \
         verify",
    ))
}

/// Normalised images, height × width × channels: those given, or some of `shapes10`, or noise if the network takes
/// neither 1 nor 3 channels.
fn prepared(model: &Model, inputs: &[PathBuf]) -> Result<Vec<f32>, Failure> {
    let preprocessor = Preprocessor::new(model.preprocessing.clone())?;
    let mut images: Vec<Image> = Vec::new();
    if !inputs.is_empty() {
        images = inputs.iter().map(read_image).collect::<Result<_, _>>()?;
    } else if [1, 3].contains(&model.preprocessing.channels()) {
        let shapes = Source::open("shapes10", None)?.split(Split::Test)?;
        for index in 0..IMAGES {
            if let Sample::Pixels(image) = shapes.sample(index)? {
                images.push(image);
            }
        }
    }
    let len = preprocessor.output_len();
    if images.is_empty() {
        let mut stream = Stream::new(0, &[]);
        return Ok((0..IMAGES * len).map(|_| stream.normal()).collect());
    }
    let mut values = vec![0.0; images.len() * len];
    for (image, to) in images.iter().zip(values.chunks_exact_mut(len)) {
        preprocessor.run(image, to)?;
    }
    Ok(values)
}

/// Each image's height × width × channels as channels × height × width.
fn planes(images: &[f32], channels: usize, pixels: usize) -> Vec<f32> {
    let one = |image: &[f32]| -> Vec<f32> {
        (0..channels).flat_map(|channel| image.iter().copied().skip(channel).step_by(channels)).collect()
    };
    images.chunks_exact(channels * pixels).flat_map(one).collect()
}
