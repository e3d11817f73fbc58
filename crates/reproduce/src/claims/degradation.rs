//! Degradation: deeper plain networks have the higher training error, deeper residual ones do not.

use crate::finding::Measure;
use crate::network::{Network, Training};
use crate::training::training_errors;
use crate::{Claim, Context, Finding, Form, ReproduceError};
use residual_report::{Axis, Chart, Paint, Series};
use residual_train::Spread;
use residual_zoo::{CifarResNet, Config, Family, Plain, Shortcut};

pub(super) const CLAIM: Claim = Claim {
    name: "degradation",
    title: "A plain network of 56 layers trains worse than one of 20; a residual one does not",
    source: "He et al. 2015, arXiv:1512.03385, figures 1 and 6",
    runs: "trains plain20, plain56, resnet20_a and resnet56_a with two seeds and compares the training error (quick: 8 and 32 layers, 320 steps on the built-in shapes at 16 pixels; short: 10 epochs of CIFAR-10; full: 64,000 steps)",
    expected: "depth raises the training error of the plain networks by more than that of the residual ones, by more than the spread of the seeds",
    forms: &[(Form::Quick, 2.0), (Form::Short, 95.0), (Form::Full, 2400.0)],
    run,
};

pub(super) const NETWORKS: [&str; 4] = ["plain20", "plain56", "resnet20_a", "resnet56_a"];
pub(super) const SEEDS: u64 = 2;
/// The networks of the quick form: shallower, for images of 16 pixels.
const QUICK: [&str; 4] = ["plain8", "plain32", "resnet8_a", "resnet32_a"];
const STEPS: u64 = 320;

/// Name and settings of the training of a network, over the recipe of the paper.
pub(super) fn training(context: &Context<'_>, network: &str, seed: u64) -> (String, String) {
    let length = match context.form {
        Form::Full => "",
        Form::Quick | Form::Short => "epochs = 10\nmilestone_epochs = [5, 8]\n",
    };
    let settings = format!("model = \"{network}\"\nseed = {seed}\n{}{length}", context.cifar("cifar10"));
    (format!("degradation-{}-{network}-{seed}", context.form.name()), settings)
}

fn run(context: &mut Context<'_>) -> Result<Finding, ReproduceError> {
    if let Some(missing) = context.missing_cifar("cifar10") {
        return Ok(missing);
    }
    let quick = context.form == Form::Quick;
    let (unit, what, x) = match quick {
        true => ("", "training loss of the last 40 steps", "step"),
        false => (" %", "training error of the last epoch", "epoch"),
    };
    let mut chart =
        Chart::new(if quick { "Training loss" } else { "Training error, %" }, Axis::new(x).whole(), Axis::new(""));
    let (mut measures, mut reached) = (Vec::new(), Vec::new());
    for (index, network) in (if quick { QUICK } else { NETWORKS }).into_iter().enumerate() {
        let mut last = Vec::new();
        for seed in 0..SEEDS {
            let points = match quick {
                true => quick_losses(context, network, seed)?,
                false => {
                    let (name, settings) = training(context, network, seed);
                    training_errors(&context.train(&name, Some("he2015-cifar"), &settings)?)
                }
            };
            last.push(points.last().map_or(f64::NAN, |(_, value)| *value));
            let series = Series::line(format!("{network}, seed {seed}"), Paint::Series(index), points);
            chart = chart.with(if seed == 0 { series } else { series.dashed() });
        }
        let listed = last.iter().map(|value| format!("{value:.2}{unit}")).collect::<Vec<_>>().join(", ");
        measures.push(Measure::seen(format!("{network}: {what}, seed by seed"), listed));
        reached.push(last);
    }
    // What depth adds, seed by seed.
    let added = |shallow: usize| {
        let pairs = reached[shallow].iter().zip(&reached[shallow + 1]);
        Spread::of(&pairs.map(|(shallow, deep)| deep - shallow).collect::<Vec<_>>())
    };
    let (Some(plain), Some(residual)) = (added(0), added(2)) else { unreachable!("there are two seeds") };
    let spread = plain.sd.unwrap_or(0.0).max(residual.sd.unwrap_or(0.0));
    measures.push(Measure::judged(
        format!("what depth adds to the {what}"),
        "more in plain networks, by more than the seeds differ",
        format!("plain {:+.2}{unit}, residual {:+.2}{unit}; seeds differ by {spread:.2}", plain.mean, residual.mean),
        plain.mean - residual.mean > spread,
    ));
    Ok(Finding::of(measures).with_picture("degradation", chart.draw()?))
}

/// The mean loss of every 40 steps.
fn quick_losses(context: &mut Context<'_>, network: &str, seed: u64) -> Result<Vec<(f64, f64)>, ReproduceError> {
    let blocks = if network.contains("32") { 5 } else { 1 };
    let family = match network.starts_with("plain") {
        true => Family::Plain(Plain::cifar(blocks)),
        false => Family::CifarResNet(CifarResNet::new(blocks, Shortcut::Padding)),
    };
    let graph = Config { num_classes: 10, image_size: [16; 2], ..Config::new(network, family) }.graph()?;
    let mut trained = Network::new(context, graph, Training { side: 16, batch: 32, count: 80, lr: 0.05, seed })?;
    let (mut points, mut sum) = (Vec::new(), 0.0);
    for step in 1..=STEPS {
        context.progress(network, step, STEPS)?;
        sum += trained.step()?;
        if step % 40 == 0 {
            points.push((step as f64, sum / 40.0));
            sum = 0.0;
        }
    }
    Ok(points)
}
