//! `residual quantize`.

use super::changed::{Images, Judgement, judge, output, rows};
use super::judged::Found;
use crate::args::Quantize;
use crate::failure::Failure;
use crate::output::{count, facts, path_text, print, print_json};
use crate::progress::Progress;
use crate::signals::Stop;
use crate::{Done, machine, weights};
use residual::compress::{
    Calibration, CalibrationEvent, CalibrationImages, LayerDamage, Outcome, QuantizeOptions, Scheme, check_layers,
};
use residual::engine::Options;
use residual::model::{Model, WeightBits};
use residual::weights::save;
use serde::Serialize;
use std::sync::atomic::AtomicBool;

/// Calibration images that the sensitivity of layers is measured on.
const SENSITIVITY_IMAGES: usize = 64;
/// Layers listed where accuracy dropped too much.
const LISTED: usize = 5;
/// Points that predictions may differ by with `--keep-f32 auto`.
const AUTO_DROP: f64 = 0.5;

#[derive(Serialize)]
struct Document<'a> {
    #[serde(flatten)]
    outcome: &'a Outcome,
    /// Images that it was calibrated on.
    calibrated_on: usize,
    scheme: String,
    rounding: String,
    /// How the ranges of values were found, where these are quantised.
    method: Option<String>,
    /// The layers that stayed in f32.
    kept_f32: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    sensitivity: Option<&'a [LayerDamage]>,
}

pub(crate) fn run(arguments: &Quantize, stop: &Stop) -> Result<Done, Failure> {
    let options = machine::compute_options(arguments.compute)?;
    let opened = weights::open(&arguments.weights)?;
    let recipe = opened.recipe().map(str::to_owned);
    let found = Found::new(&arguments.judged, &arguments.weights.weights, recipe.as_deref())?;
    let images = Images::find(&found, arguments.calib.get().into(), arguments.seed, arguments.limit)?;
    found.check_val_split(images.part)?;
    let model = weights::resolve(&arguments.weights.weights, opened, Some(images.judged.format()))?;
    let model = arguments.image.apply(model)?;
    let scheme = arguments.scheme();
    let name = if scheme == Scheme::WeightsOnly(WeightBits::Four) { "int4" } else { "int8" };
    let file = output(arguments.output.as_deref(), &model, name, &arguments.weights.weights)?;
    let is_auto = arguments.keep_f32 == ["auto"];
    if !is_auto {
        check_layers(&model, &arguments.keep_f32)?;
    }
    let progress = Progress::new();
    facts(&[
        ("network", format!("{} of {}", model.graph.name, path_text(&arguments.weights.weights))),
        (
            "quantization",
            method(arguments).map_or(scheme.to_string(), |method| format!("{scheme}, ranges by {method}")),
        ),
        ("calibration", format!("{} of {}", images.calibration.len(), images.calibrated)),
        ("judged on", images.judged.describe_set()),
        ("compute", format!("{}, {}", count(options.pool.threads() as u64, "thread"), options.isa.name())),
    ])
    .lines()
    .for_each(|line| progress.line(line));
    let stop = stop.listen();
    let done = quantize(arguments, &model, &images, &options, is_auto, stop, &progress);
    let done = done.inspect_err(|_| progress.finish())?;
    let Some(Quantized { model: quantized, kept_f32, damages, measured, calibration }) = done else {
        progress.finish();
        return Ok(Done::Interrupted);
    };
    save(&file, &quantized, recipe.as_deref())?;
    let size = std::fs::metadata(&file).map_err(|error| Failure::at(file.display(), &error))?.len();
    let mut outcome = Outcome::new(path_text(&file), size, &quantized)?;
    let pair = [(&model, "f32"), (&quantized, name)];
    let batch_size = usize::from(arguments.batch_size.get());
    let judged = judge(pair, &images.judged, batch_size, arguments.reading, &options, stop, &progress);
    match judged.inspect_err(|_| progress.finish())? {
        Judgement::Stopped => {
            progress.finish();
            return Ok(Done::Interrupted);
        }
        Judgement::OtherClasses(why) => progress.line(&format!("note: accuracy not judged: {why}")),
        Judgement::Of(evaluations) => {
            let [before, after] = &*evaluations;
            outcome = outcome.judged(before, after, &options);
        }
    }
    if !arguments.no_latency {
        outcome = outcome.timed(&model, &quantized, &options)?;
    }
    progress.finish();
    let listed = damages.as_deref().filter(|_| arguments.sensitivity);
    show(arguments, &outcome, calibration.len(), &kept_f32, listed)?;
    let (Some(most), Some(drop)) = (arguments.max_drop, outcome.drop()) else { return Ok(Done::Finished) };
    if drop <= most {
        return Ok(Done::Finished);
    }
    let damages = match damages {
        Some(damages) => Some(damages),
        None => sensitivity(&measured, &calibration, &options, stop, &progress)?,
    };
    let Some(damages) = damages else { return Ok(Done::Interrupted) };
    let layers: Vec<&str> = damages.iter().take(LISTED).map(|damage| &*damage.layer).collect();
    Err(Failure::new(format!(
        "accuracy: expected a drop of at most {most} points, got {drop:.2}; the layers that cost most: {} (--keep-f32 keeps them in f32)",
        layers.join(", ")
    )))
}

/// A quantised model, its layers of floats, and what the layers cost, if that was measured.
struct Quantized {
    model: Model,
    kept_f32: Vec<String>,
    damages: Option<Vec<LayerDamage>>,
    measured: Calibration,
    calibration: CalibrationImages,
}

/// Calibrates and quantises. `None` if `stop` was set.
fn quantize(
    arguments: &Quantize,
    model: &Model,
    images: &Images,
    options: &Options,
    is_auto: bool,
    stop: &AtomicBool,
    progress: &Progress,
) -> Result<Option<Quantized>, Failure> {
    let show = |what: &str, done: usize, total: usize| progress.images(what, done as u64, total as u64);
    let workers = arguments.reading.workers.into();
    let skips = arguments.reading.skip_bad_images;
    let read = &mut |done, total| show("reading", done, total);
    let calibration = CalibrationImages::load(model, &images.calibration, workers, skips, stop, read);
    let Some(calibration) = calibration.map_err(|error| Failure::from(error).or_skip())? else {
        return Ok(None);
    };
    calibration.skipped().iter().for_each(|reason| progress.line(&format!("skipped: {reason}")));
    let quantize_options = QuantizeOptions {
        scheme: arguments.scheme(),
        rounding: arguments.rounding,
        seed: arguments.seed,
        method: arguments.method,
        bias_correction: arguments.bias_correction,
        equalize: arguments.equalize,
        engine: options.clone(),
    };
    let on_event = &mut |event| match event {
        CalibrationEvent::Images(what, done, total) => show(&format!("calibrating: {what}"), done, total),
        CalibrationEvent::Layers(done, total) => progress.steps("rounding of layers", done, total),
    };
    let Some(measured) = Calibration::new(model, &calibration, &quantize_options, stop, on_event)? else {
        return Ok(None);
    };
    let mut damages = None;
    if is_auto || arguments.sensitivity {
        damages = sensitivity(&measured, &calibration, options, stop, progress)?;
        if damages.is_none() {
            return Ok(None);
        }
    }
    let kept_f32 = match (&damages, is_auto) {
        (Some(damages), true) => {
            let drop = arguments.max_drop.unwrap_or(AUTO_DROP);
            let step = &mut |kept: usize, agreement: f64| {
                let layers = count(kept as u64, "layer");
                progress.line(&format!("predictions agree for {agreement:.2} % with {layers} in f32"));
            };
            match measured.fallback(damages, &calibration, drop, options, stop, step)? {
                Some(kept) => kept,
                None => return Ok(None),
            }
        }
        _ => arguments.keep_f32.clone(),
    };
    Ok(Some(Quantized { model: measured.model(&kept_f32)?, kept_f32, damages, measured, calibration }))
}

/// What each layer costs. `None` if `stop` was set.
fn sensitivity(
    measured: &Calibration,
    calibration: &CalibrationImages,
    options: &Options,
    stop: &AtomicBool,
    progress: &Progress,
) -> Result<Option<Vec<LayerDamage>>, Failure> {
    let step = &mut |done, total| progress.steps("sensitivity of layers", done, total);
    Ok(measured.sensitivity(calibration, SENSITIVITY_IMAGES, options, stop, step)?)
}

/// How the ranges of values are found, where these are quantised.
fn method(arguments: &Quantize) -> Option<String> {
    (arguments.scheme() == Scheme::Static).then(|| arguments.method.to_string())
}

fn show(
    arguments: &Quantize,
    outcome: &Outcome,
    calibrated_on: usize,
    kept_f32: &[String],
    damages: Option<&[LayerDamage]>,
) -> Result<(), Failure> {
    if arguments.format.json {
        let (scheme, rounding) = (arguments.scheme().to_string(), arguments.rounding.to_string());
        let method = method(arguments);
        return print_json(&Document {
            outcome,
            calibrated_on,
            scheme,
            rounding,
            method,
            kept_f32,
            sensitivity: damages,
        });
    }
    let mut rows = rows(outcome);
    if !kept_f32.is_empty() {
        rows.push(("in f32", kept_f32.join(", ")));
    }
    let mut text = facts(&rows);
    for LayerDamage { layer, noise } in damages.unwrap_or_default() {
        text += &format!("\nnoise {noise:.2e}  {layer}");
    }
    print(&(text.trim_end().to_owned() + "\n"))
}
