//! `residual predict`.

use crate::args::Predict;
use crate::failure::Failure;
use crate::output::{complain, print, print_json};
use crate::tuning::tune;
use crate::{Done, machine, weights};
use residual::data::{DataError, read_image};
use residual::engine::Mode;
use residual::files::{FileError, NpyArray, NpyValues, load_npy};
use residual::model::Model;
use residual::preprocess::Image;
use residual::{Classifier, Output};
use serde::Serialize;
use std::borrow::Cow;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

/// What counts as an image in a folder.
pub(crate) const EXTENSIONS: [&str; 5] = ["jpg", "jpeg", "png", "webp", "bmp"];

#[derive(Default)]
struct Results {
    rows: Vec<Row>,
    /// Why images were left out.
    left_out: Vec<String>,
}

#[derive(Serialize)]
struct Row {
    input: String,
    top: Vec<Class>,
    logits: Vec<f32>,
}

#[derive(Serialize)]
struct Class {
    label: String,
    index: usize,
    probability: f32,
}

pub(crate) fn run(arguments: &Predict, stop: &AtomicBool) -> Result<Done, Failure> {
    let mut options = machine::compute_options(arguments.compute)?;
    let most: usize = arguments.batch_size.get().into();
    let groups = groups(inputs(arguments)?, most);
    let Some((first, others)) = groups.split_first() else { return Ok(Done::Finished) };
    // The weights and the first inputs are read side by side.
    let (model, first) = std::thread::scope(|scope| {
        let first = scope.spawn(|| read(first));
        let model = read_model(arguments);
        (model, first.join().unwrap_or_else(|panic| resume_unwind(panic)))
    });
    let model = model?;
    // What is used once need not be kept packed.
    options.pack_on_use = others.is_empty() && first.images() <= most;
    let batch = if options.pack_on_use { first.images().max(1) } else { most };
    if arguments.compute.autotune {
        options = tune(options, &model, &[(Mode::Infer, batch)], model.preprocessing.size)?;
    }
    let mut classifier = Classifier::with_options(model, batch, &options)?;
    let mut results = Results::default();
    for loaded in std::iter::once(first).chain(others.iter().map(read)) {
        if stop.load(Ordering::Relaxed) {
            return Ok(Done::Interrupted);
        }
        match loaded {
            Loaded::Array(path, array) => {
                results.rows.extend(classify_array(arguments, &mut classifier, path, array?)?)
            }
            Loaded::Images(images) => classify_images(arguments, &mut classifier, images, &mut results)?,
        }
    }
    let Results { rows, left_out } = results;
    left_out.iter().for_each(|reason| complain(&format!("left out: {reason}")));
    if arguments.format.json {
        print_json(&serde_json::json!({ "predictions": rows, "skipped": left_out }))?;
    } else if arguments.csv {
        print(&csv(arguments, &rows))?;
    } else {
        print(&lines(arguments, &rows))?;
    }
    Ok(Done::Finished)
}

fn read_model(arguments: &Predict) -> Result<Model, Failure> {
    let Model { graph, tensors, preprocessing, labels } =
        weights::read(&arguments.weights, residual::default_preprocessing)?;
    Ok(Model::new(graph, tensors, arguments.image.apply(preprocessing), labels)?)
}

enum Input {
    Images(Vec<PathBuf>),
    Array(PathBuf),
}

/// What was typed, folders replaced by the images in them.
fn inputs(arguments: &Predict) -> Result<Vec<Input>, Failure> {
    let mut inputs = Vec::new();
    for path in &arguments.inputs {
        let input = if path.is_dir() {
            let (mut images, mut ignored) = (Vec::new(), 0);
            walk(path, &mut images, &mut ignored)?;
            if ignored > 0 {
                complain(&format!("{}: {ignored} files that are no images ignored", path.display()));
            }
            if images.is_empty() {
                let expected = format!("expected images ({})", EXTENSIONS.join(", "));
                return Err(Failure::usage(format!("{}: {expected}, got none", path.display())));
            }
            Input::Images(images)
        } else if has_extension(path, &["npy"]) {
            Input::Array(path.clone())
        } else {
            Input::Images(vec![path.clone()])
        };
        match (inputs.last_mut(), input) {
            (Some(Input::Images(list)), Input::Images(more)) => list.extend(more),
            (_, input) => inputs.push(input),
        }
    }
    Ok(inputs)
}

pub(crate) fn walk(folder: &Path, images: &mut Vec<PathBuf>, ignored: &mut usize) -> Result<(), Failure> {
    let read = || -> std::io::Result<Vec<PathBuf>> {
        let entries = std::fs::read_dir(folder)?;
        let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>()?;
        paths.sort_unstable();
        Ok(paths)
    };
    for path in read().map_err(|error| Failure::at(folder.display(), &error))? {
        // A link to a folder could lead back here.
        if path.is_dir() && !path.is_symlink() {
            walk(&path, images, ignored)?;
        } else if has_extension(&path, &EXTENSIONS) {
            images.push(path);
        } else {
            *ignored += 1;
        }
    }
    Ok(())
}

fn has_extension(path: &Path, extensions: &[&str]) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    extensions.iter().any(|known| extension.eq_ignore_ascii_case(known))
}

/// Inputs in parts that are read and classified one after another: some images, or an array.
fn groups(inputs: Vec<Input>, most: usize) -> Vec<Input> {
    let split = |input| match input {
        Input::Images(paths) => paths.chunks(most).map(|paths| Input::Images(paths.to_vec())).collect(),
        array => vec![array],
    };
    inputs.into_iter().flat_map(split).collect()
}

/// Inputs in memory, or why they are not.
enum Loaded<'a> {
    Images(Vec<(&'a Path, Result<Image, DataError>)>),
    Array(&'a Path, Result<NpyArray, FileError>),
}

impl Loaded<'_> {
    /// How many images these are.
    fn images(&self) -> usize {
        match self {
            Loaded::Images(images) => images.len(),
            Loaded::Array(_, Ok(NpyArray { shape, .. })) if shape.len() == 4 => shape[0],
            Loaded::Array(..) => 1,
        }
    }
}

fn read(input: &Input) -> Loaded<'_> {
    match input {
        Input::Images(paths) => Loaded::Images(paths.iter().map(|path| (&**path, read_image(path))).collect()),
        Input::Array(path) => Loaded::Array(path, load_npy(path)),
    }
}

/// Classifies some images; one that cannot be read ends the command or is left out.
fn classify_images(
    arguments: &Predict,
    classifier: &mut Classifier,
    images: Vec<(&Path, Result<Image, DataError>)>,
    Results { rows, left_out }: &mut Results,
) -> Result<(), Failure> {
    let (mut names, mut batch) = (Vec::new(), Vec::new());
    for (path, image) in images {
        let prepared = image.and_then(|image| {
            let converted = classifier.preprocessor().convert(&image).map(Cow::into_owned);
            converted.map_err(|cause| DataError::Image { place: path.display().to_string(), cause })
        });
        match prepared {
            Ok(image) => {
                names.push(path.display().to_string());
                batch.push(image);
            }
            Err(error) if arguments.skip_bad_images => left_out.push(error.to_string()),
            Err(error) => return Err(error.into()),
        }
    }
    let outputs = classifier.classify_batch(&batch)?;
    rows.extend(names.into_iter().zip(outputs).map(|(name, output)| row(arguments, name, &output)));
    Ok(())
}

/// Classifies the images of an array: N×C×H×W or one of C×H×W.
fn classify_array(
    arguments: &Predict,
    classifier: &mut Classifier,
    path: &Path,
    array: NpyArray,
) -> Result<Vec<Row>, Failure> {
    let description = classifier.preprocessor().description();
    let ([height, width], channels) = (description.size, description.channels());
    let is_pixels = matches!(array.values, NpyValues::U8(_));
    let shape = match array.shape[..] {
        [c, h, w] => Some([1, c, h, w]),
        [n, c, h, w] => Some([n, c, h, w]),
        _ => None,
    };
    let fits = |[n, c, h, w]: &[usize; 4]| {
        n * c * h * w > 0 && if is_pixels { [1, 3, 4].contains(c) } else { [*c, *h, *w] == [channels, height, width] }
    };
    let Some([n, c, h, w]) = shape.filter(fits) else {
        return Err(Failure::from(DataError::Invalid {
            place: path.display().to_string(),
            expected: format!("N×{channels}×{height}×{width} normalised f32, or u8 images of N×C×H×W"),
            got: format!("{} of shape {:?}", if is_pixels { "u8" } else { "numbers" }, array.shape),
        }));
    };
    let outputs = match array {
        NpyArray { values: NpyValues::U8(values), .. } => {
            let image = |planes: &[u8]| Image::new(h, w, c, interleave(planes, c));
            let images = values.chunks_exact(c * h * w).map(image).collect::<Result<Vec<_>, _>>()?;
            classifier.classify_batch(&images)?
        }
        array => {
            let values = array.to_f32();
            let rows: Vec<f32> = values.chunks_exact(c * h * w).flat_map(|planes| interleave(planes, c)).collect();
            classifier.classify_normalized(&rows)?
        }
    };
    let name = |index| if n == 1 { path.display().to_string() } else { format!("{}[{index}]", path.display()) };
    Ok(outputs.iter().enumerate().map(|(index, output)| row(arguments, name(index), output)).collect())
}

/// C×H×W as H×W×C.
fn interleave<T: Copy>(planes: &[T], channels: usize) -> Vec<T> {
    let pixels = planes.len() / channels;
    (0..pixels).flat_map(|pixel| (0..channels).map(move |channel| planes[channel * pixels + pixel])).collect()
}

fn row(arguments: &Predict, input: String, output: &Output<'_>) -> Row {
    let top = output.top(arguments.top.get().into()).into_iter();
    let top = top.map(|class| Class { label: class.label, index: class.index, probability: class.probability });
    Row { input, top: top.collect(), logits: output.logits().to_vec() }
}

fn lines(arguments: &Predict, rows: &[Row]) -> String {
    let mut text = String::new();
    for row in rows {
        let cells: Vec<String> = if arguments.logits {
            row.logits.iter().map(ToString::to_string).collect()
        } else {
            row.top.iter().map(|class| format!("{} {:.2} %", class.label, 100.0 * class.probability)).collect()
        };
        text += &format!("{}  {}\n", row.input, cells.join(if arguments.logits { " " } else { ", " }));
    }
    text
}

fn csv(arguments: &Predict, rows: &[Row]) -> String {
    if arguments.logits {
        let classes = rows.first().map_or(0, |row| row.logits.len());
        let mut text = format!("input{}\n", (0..classes).map(|class| format!(",{class}")).collect::<String>());
        for row in rows {
            let logits: String = row.logits.iter().map(|logit| format!(",{logit}")).collect();
            text += &format!("{}{logits}\n", quoted(&row.input));
        }
        return text;
    }
    let mut text = "input,rank,index,label,probability\n".to_owned();
    for row in rows {
        for (rank, Class { label, index, probability }) in row.top.iter().enumerate() {
            text += &format!("{},{},{index},{},{probability}\n", quoted(&row.input), rank + 1, quoted(label));
        }
    }
    text
}

/// A field of a CSV file (RFC 4180).
fn quoted(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text.to_owned() }
}
