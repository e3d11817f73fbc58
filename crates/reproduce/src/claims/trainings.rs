//! Whole trainings with published errors.

use crate::finding::{Measure, Verdict};
use crate::training::{hours_in_full, training_errors};
use crate::{Claim, Context, Finding, Form, ReproduceError};
use residual_report::{Axis, Chart, Paint, Series};

/// A training with a published test error on CIFAR-10.
struct Training {
    name: &'static str,
    recipe: &'static str,
    model: &'static str,
    /// The published test error in percent.
    error: f64,
    /// Steps of the short form, whose time gives that of the whole training.
    short_steps: u64,
}

/// How far the test error may be from the published one, in points: runs that differ by their seed differ by 0.2 to 0.3.
const BAND: f64 = 0.5;

macro_rules! training {
    ($name:literal, $recipe:literal, $model:literal, $error:literal, $source:literal,
     $short_steps:literal, $minutes:literal, $hours:literal) => {
        Claim {
            name: $name,
            title: concat!(
                $model,
                " reaches a test error of ",
                stringify!($error),
                " % on CIFAR-10 (recipe ",
                $recipe,
                ")"
            ),
            source: $source,
            runs: concat!(
                "trains the network by the recipe of its source (short: ",
                stringify!($short_steps),
                " steps, to estimate the time of all)"
            ),
            expected: "the published error ± 0.5 points after the last step",
            forms: &[(Form::Short, $minutes), (Form::Full, 60.0 * $hours)],
            run: |context| {
                let (name, recipe, model) = ($name, $recipe, $model);
                run(context, &Training { name, recipe, model, error: $error, short_steps: $short_steps })
            },
        }
    };
}

pub(super) const RESNET20: Claim =
    training!("he2015-resnet20", "he2015-cifar", "resnet20_a", 8.75, "He et al. 2015, table 6", 200, 0.6, 2.0);
pub(super) const RESNET32: Claim =
    training!("he2015-resnet32", "he2015-cifar", "resnet32_a", 7.51, "He et al. 2015, table 6", 200, 1.0, 3.4);
pub(super) const RESNET44: Claim =
    training!("he2015-resnet44", "he2015-cifar", "resnet44_a", 7.17, "He et al. 2015, table 6", 200, 1.4, 4.7);
pub(super) const RESNET56: Claim =
    training!("he2015-resnet56", "he2015-cifar", "resnet56_a", 6.97, "He et al. 2015, table 6", 200, 1.8, 6.0);
pub(super) const RESNET110: Claim = training!(
    "he2015-resnet110",
    "he2015-cifar",
    "resnet110_a",
    6.43,
    "He et al. 2015, table 6 (best of 5)",
    200,
    3.5,
    12.0
);
pub(super) const WIDE: Claim = training!(
    "wrn",
    "wrn",
    "wrn28_10",
    3.89,
    "Zagoruyko and Komodakis 2016, arXiv:1605.07146, table 4, with dropout",
    20,
    6.0,
    400.0
);
pub(super) const PREACT: Claim = training!(
    "preact",
    "preact-cifar",
    "preact_resnet164",
    5.46,
    "He et al. 2016, arXiv:1603.05027, table 4",
    200,
    6.0,
    20.0
);
pub(super) const RESNEXT: Claim = training!(
    "resnext",
    "resnext-cifar",
    "resnext29_8x64d",
    3.65,
    "Xie et al. 2017, arXiv:1611.05431, table 7",
    20,
    6.0,
    600.0
);
pub(super) const LECTURE_CIFAR: Claim = training!(
    "lecture-cifar",
    "lecture-cifar",
    "resnet56",
    6.97,
    "lecture notes on ResNet (their recipe, which names no result; He et al. 2015, table 6)",
    200,
    1.8,
    6.0
);

fn run(context: &mut Context<'_>, training: &Training) -> Result<Finding, ReproduceError> {
    if let Some(missing) = context.missing_cifar("cifar10") {
        return Ok(missing);
    }
    let Training { name, recipe, model, error, short_steps } = training;
    let settings = format!("model = \"{model}\"\n{}", context.cifar("cifar10"));
    if context.form == Form::Short {
        let short = format!("{settings}max_steps = {short_steps}\nval_interval = 1000\nval_split = 0.02\n");
        let run = context.train(&format!("{name}-short"), Some(recipe), &short)?;
        let hours = hours_in_full(&run, recipe, &settings)?;
        let last = run.last().map_or(f64::NAN, |row| row.train_loss);
        let mut finding = Finding::of(vec![
            Measure::seen(format!("mean training loss of {short_steps} steps"), format!("{last:.4}")),
            Measure::seen("published test error", format!("{error:.2} %")),
        ]);
        finding.verdict = Verdict::NotRunInFull { hours };
        return Ok(finding);
    }
    let run = context.train(name, Some(recipe), &settings)?;
    let test: Vec<(f64, f64)> = run.rows.iter().filter_map(|row| Some((row.epoch as f64, 100.0 - row.top1?))).collect();
    let got = test.last().map_or(f64::NAN, |(_, error)| *error);
    let measures = vec![Measure::judged(
        "test error after the last step",
        format!("{error:.2} ± {BAND} %"),
        format!("{got:.2} %"),
        (got - error).abs() <= BAND,
    )];
    let chart = Chart::new(format!("{model}: error"), Axis::new("epoch").whole(), Axis::new("%"))
        .with(Series::line("training", Paint::Series(0), training_errors(&run)))
        .with(Series::line("test", Paint::Series(1), test));
    Ok(Finding::of(measures).with_picture("error", chart.draw()?))
}

pub(super) const LECTURE_RESNET50: Claim = Claim {
    name: "lecture-resnet50",
    title: "The ResNet-50 of the CIFAR-10 notes reaches the training losses of their log: 2.0092, 0.6987 and 0.2491 in epochs 0, 10 and 20",
    source: "lecture notes, ResNet-50 trained with Adam on CIFAR-10",
    runs: "trains lecture_resnet50 by the recipe lecture-adam (short: 200 steps; full: 21 epochs)",
    expected: "each of the three losses ± 25 %",
    forms: &[(Form::Short, 1.0), (Form::Full, 120.0)],
    run: run_lecture,
};

/// Epoch of the log, from 0, and its mean training loss.
const LOG: [(u64, f64); 3] = [(0, 2.0092), (10, 0.6987), (20, 0.2491)];
/// How far a loss may be from the log's: it has one seed, and falls by a factor of 2.8 between epochs 10 and 20.
const LOSS_BAND: f64 = 0.25;
/// Steps of the short form, whose time gives that of the whole training.
const STEPS: u64 = 200;

fn run_lecture(context: &mut Context<'_>) -> Result<Finding, ReproduceError> {
    if let Some(missing) = context.missing_cifar("cifar10") {
        return Ok(missing);
    }
    let recipe = "lecture-adam";
    let settings = context.cifar("cifar10");
    if context.form == Form::Short {
        let short = format!("{settings}max_steps = {STEPS}\nval_interval = 1000\n");
        let run = context.train("lecture-resnet50-short", Some(recipe), &short)?;
        let last = run.last().map_or(f64::NAN, |row| row.train_loss);
        let what = format!("mean training loss of {STEPS} steps");
        let mut finding = Finding::of(vec![Measure::seen(what, format!("{last:.4}"))]);
        let hours = hours_in_full(&run, recipe, &format!("{settings}epochs = 21\n"))?;
        finding.verdict = Verdict::NotRunInFull { hours };
        return Ok(finding);
    }
    let run =
        context.train("lecture-resnet50", Some(recipe), &format!("{settings}epochs = 21\nval_interval = 10\n"))?;
    let losses: Vec<(f64, f64)> = run.rows.iter().map(|row| (row.epoch as f64 - 1.0, row.train_loss)).collect();
    let measure = |(epoch, expected): (u64, f64)| {
        let got = losses.get(epoch as usize).map_or(f64::NAN, |(_, loss)| *loss);
        let holds = (got / expected - 1.0).abs() <= LOSS_BAND;
        Measure::judged(
            format!("training loss of epoch {epoch}"),
            format!("{expected} ± 25 %"),
            format!("{got:.4}"),
            holds,
        )
    };
    let measures = LOG.into_iter().map(measure).collect();
    let log = LOG.iter().map(|&(epoch, loss)| (epoch as f64, loss)).collect();
    let chart = Chart::new("Training loss of lecture_resnet50", Axis::new("epoch").whole(), Axis::new("loss"))
        .with(Series::line("here", Paint::Series(0), losses))
        .with(Series::line("the notes' log", Paint::Series(1), log).dashed());
    Ok(Finding::of(measures).with_picture("loss", chart.draw()?))
}
