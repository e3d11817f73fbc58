//! Checks a built-in recipe against its [`Contract`](crate::Contract).
//!
//! The trace takes seconds. The short form is an ordinary training: the caller runs it, and [`check_results`] compares what it
//! reached.

use crate::recipe::{Band, Trace};
use crate::{Job, Layer, Preset, Recipe, Resolved, Schedule, Summary, TrainError};
use residual_data::Augmentation;
use serde::Serialize;

/// The images of the batch whose pixels are compared.
const BATCH: i64 = 64;
/// Greatest difference of their mean and standard deviation; instruction sets differ by rounding.
const PIXELS: f64 = 1e-3;
/// Greatest relative difference of learning rates.
const RATES: f64 = 1e-5;

/// One promise of a recipe, and what it does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What is compared.
    pub what: String,
    /// The promise.
    pub expected: String,
    /// What was found.
    pub got: String,
    /// Whether they agree.
    pub holds: bool,
}

impl Check {
    fn new(what: impl Into<String>, expected: impl ToString, got: impl ToString, holds: bool) -> Self {
        Self { what: what.into(), expected: expected.to_string(), got: got.to_string(), holds }
    }
}

/// Compares the steps, learning rates and augmented images of a recipe with those that its file states.
///
/// # Errors
/// If the first batch cannot be made.
pub fn check_trace(preset: &Preset) -> Result<Vec<Check>, TrainError> {
    let Trace { images, steps, rates, augmentation, pixels } = preset.contract().trace;
    let recipe = Recipe::resolve(&[Layer::preset(preset.name)?])?.recipe;
    let batch = (recipe.batch_size * recipe.grad_accum_steps) as u64;
    let schedule = Schedule::new(&recipe, if recipe.drop_last { images / batch } else { images.div_ceil(batch) });
    let got = schedule.total_steps();
    let mut checks = vec![Check::new(format!("steps with {images} images"), steps, got, got == steps)];
    checks.extend(rates.iter().map(|&(step, rate)| {
        let got = schedule.lr(step);
        let digits = |rate: f64| format!("{rate:.6e}");
        Check::new(
            format!("learning rate of step {step}"),
            digits(rate),
            digits(got),
            (got - rate).abs() <= RATES * rate,
        )
    }));
    let names = names(&recipe.augmentation()?, recipe.aug_repeats);
    checks.push(Check::new("augmentation", listed(&augmentation), listed(&names), names == augmentation));
    let got = first_pixels(preset)?;
    let agree = pixels.iter().zip(&got).all(|(a, b)| (a - b).abs() <= PIXELS);
    let digits = |[mean, sd]: [f64; 2]| format!("{mean:.4} ± {sd:.4}");
    checks.push(Check::new(format!("pixels of {BATCH} images"), digits(pixels), digits(got), agree));
    Ok(checks)
}

/// The short form of a recipe, if it has one, to be trained with `seed`.
///
/// # Errors
/// Never for a built-in recipe: a test resolves all of them.
pub fn short_form(preset: &Preset, seed: u64) -> Result<Option<Resolved>, TrainError> {
    let Some(short) = preset.contract().short else { return Ok(None) };
    let mut resolved = preset.with(short.settings)?;
    resolved.recipe.seed = seed;
    resolved.recipe.experiment = Some(format!("verify-{}", preset.name));
    Ok(Some(resolved))
}

/// Compares the results of a short form with the band of its seeds.
pub fn check_results(preset: &Preset, summary: &Summary) -> Vec<Check> {
    let Some(short) = preset.contract().short else { return Vec::new() };
    let check = |what: &str, results: &[f64; 5], got: Option<f64>, digits: usize| {
        let band = Band::of(results);
        let (mean, half, got) = (band.mean, band.half_width(), got.unwrap_or(f64::NAN));
        Check::new(what, format!("{mean:.digits$} ± {half:.digits$}"), format!("{got:.digits$}"), band.holds(got))
    };
    vec![
        check("top-1 of held-out images", &short.top1, summary.top1, 2),
        check("loss of held-out images", &short.loss, summary.loss, 4),
    ]
}

/// The names of the operations on images and batches.
fn names(augmentation: &Augmentation, repeats: usize) -> Vec<String> {
    let operations = augmentation.operations.iter().map(|operation| operation.name().to_owned());
    let mix = [("mixup", augmentation.mix.mixup), ("cutmix", augmentation.mix.cutmix)];
    let mixed = mix.into_iter().filter(|(_, alpha)| *alpha > 0.0).map(|(name, _)| name.to_owned());
    let repeated = (repeats > 1).then(|| format!("{repeats} versions of each image"));
    operations.chain(mixed).chain(repeated).collect()
}

fn listed(names: &[String]) -> String {
    if names.is_empty() { "none".into() } else { names.join(", ") }
}

/// Mean and standard deviation of the first batch of training images, of the built-in shapes.
fn first_pixels(preset: &Preset) -> Result<[f64; 2], TrainError> {
    let texts = [("data", "shapes10"), ("model", "resnet20")].map(|(key, text)| (key.to_owned(), text.into()));
    let numbers = [("batch_size", BATCH), ("workers", 0)].map(|(key, number)| (key.to_owned(), number.into()));
    let job = Job::prepare(preset.with(texts.into_iter().chain(numbers).collect())?)?;
    let mut loader = job.loader(0, 0, job.train_size(0))?;
    let batch = loader.next().transpose()?;
    let pixels: Vec<f64> = batch.iter().flat_map(|batch| batch.images()).map(|&pixel| f64::from(pixel)).collect();
    let mean = pixels.iter().sum::<f64>() / pixels.len() as f64;
    let squares: f64 = pixels.iter().map(|pixel| (pixel - mean) * (pixel - mean)).sum();
    Ok([mean, (squares / pixels.len() as f64).sqrt()])
}
