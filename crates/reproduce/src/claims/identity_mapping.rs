//! Identity shortcuts: pre-activation at great depth, and an identity target.

use crate::finding::Measure;
use crate::network::{Network, Training};
use crate::{Claim, Context, Finding, Form, ReproduceError};
use residual_engine::{Engine, Mode};
use residual_graph::{Builder, Conv2d, Graph, GraphError};
use residual_model::{Initialisation, Model, initialise};
use residual_preprocess::Preprocessing;
use residual_report::{Axis, Chart, Paint, Series};
use residual_tensor::Stream;

pub(super) const CLAIM: Claim = Claim {
    name: "identity-mapping",
    title: "Pre-activation eases the training of very deep networks",
    source: "He et al. 2016, arXiv:1603.05027, section 4.1 and figure 1",
    runs: "trains the original and the pre-activation network over the first steps and compares losses and gradients (quick: depth 110, 16 steps; short: depths 110 and 1001, 100 steps)",
    expected: "the deepest pre-activation network has the lower mean loss over the second half of the steps",
    forms: &[(Form::Quick, 1.0), (Form::Short, 60.0)],
    run,
};

pub(super) const TARGET: Claim = Claim {
    name: "identity-target",
    title: "A stack of layers fits the identity far better with shortcuts: F(x) = 0 is easy, H(x) = x is not",
    source: "He et al. 2015, arXiv:1512.03385, section 3.1; lecture notes on ResNet, optimisation",
    runs: "fits ten layers of 3×3 convolutions and ReLUs, with and without shortcuts, to return their input",
    expected: "a tenth of the plain stack's mean squared error, or less",
    forms: &[(Form::Quick, 0.3), (Form::Full, 0.3)],
    run: run_target,
};

fn run(context: &mut Context<'_>) -> Result<Finding, ReproduceError> {
    let (pairs, batch, steps): (&[[&str; 2]], usize, u64) = match context.form {
        Form::Quick => (&[["resnet110", "preact_resnet110"]], 16, 16),
        Form::Short | Form::Full => {
            (&[["resnet110", "preact_resnet110"], ["resnet1001", "preact_resnet1001"]], 16, 100)
        }
    };
    let (mut measures, mut means) = (Vec::new(), [f64::NAN; 2]);
    let mut losses = Chart::new("Loss over the first steps", Axis::new("step").whole(), Axis::new("loss"));
    let y = Axis::new("mean |gradient|").logarithmic();
    let mut flow = Chart::new("Gradients at the first step", Axis::new("depth, first to last"), y);
    for (index, pair) in pairs.iter().enumerate() {
        for (kind, name) in pair.iter().enumerate() {
            let training = Training { side: 32, batch, count: 16, lr: 0.1, seed: 0 };
            let mut network = Network::new(context, residual_zoo::build(name, 10)?, training)?;
            let mut points = Vec::new();
            for step in 0..steps {
                context.progress(name, step, steps)?;
                points.push((step as f64, network.step()?));
                if step == 0 {
                    let gradients = network.gradients();
                    let end = (gradients.len() - 1) as f64;
                    let shown = gradients.iter().enumerate().map(|(layer, gradient)| (layer as f64 / end, *gradient));
                    flow = flow.with(Series::line(*name, Paint::Series(2 * index + kind), shown.collect()));
                }
            }
            let later = &points[points.len() / 2..];
            let mean = later.iter().map(|(_, loss)| loss).sum::<f64>() / later.len() as f64;
            measures.push(Measure::seen(format!("{name}: mean loss of the second half"), format!("{mean:.4}")));
            means[kind] = mean;
            losses = losses.with(Series::line(*name, Paint::Series(2 * index + kind), points));
        }
    }
    let [original, preact] = means;
    let deepest = pairs[pairs.len() - 1];
    measures.push(Measure::judged(
        format!("{} against {}", deepest[1], deepest[0]),
        "a lower loss",
        format!("{preact:.4} against {original:.4}"),
        preact < original,
    ));
    Ok(Finding::of(measures).with_picture("losses", losses.draw()?).with_picture("gradients", flow.draw()?))
}

/// Layers of a stack, their channels, and the side of its values.
const LAYERS: usize = 10;
const CHANNELS: usize = 16;
const SIDE: usize = 8;
const BATCH: usize = 16;
const STEPS: u64 = 300;
const LR: f32 = 0.02;

fn run_target(context: &mut Context<'_>) -> Result<Finding, ReproduceError> {
    let y = Axis::new("mean squared error").logarithmic();
    let mut chart = Chart::new("Fitting the identity", Axis::new("step").whole(), y);
    let mut last = [f64::NAN; 2];
    for (index, name) in ["plain", "residual"].into_iter().enumerate() {
        let errors = fit(context, name, index == 1)?;
        last[index] = errors.last().map_or(f64::NAN, |(_, error)| *error);
        chart = chart.with(Series::line(name, Paint::Series(index), errors));
    }
    let [plain, residual] = last;
    let measures = vec![
        Measure::seen(format!("plain: mean squared error after {STEPS} steps"), format!("{plain:.5}")),
        Measure::seen(format!("residual: mean squared error after {STEPS} steps"), format!("{residual:.5}")),
        Measure::judged(
            "residual against plain",
            "a tenth, or less",
            format!("{:.4} of it", residual / plain),
            residual <= plain / 10.0,
        ),
    ];
    Ok(Finding::of(measures).with_picture("errors", chart.draw()?))
}

/// Two convolutions to a block, each followed by a ReLU, the second after the shortcut if there is one. Without batch norms,
/// which could not return their input whatever their weights.
fn stack(name: &str, with_shortcuts: bool) -> Result<Graph, GraphError> {
    let mut net = Builder::new(name, [CHANNELS, SIDE, SIDE]);
    let mut x = net.input();
    for block in 0..LAYERS / 2 {
        let shortcut = x;
        x = net.conv(format!("{block}.conv1"), x, Conv2d::new(CHANNELS, CHANNELS, 3).padding(1))?;
        x = net.relu(format!("{block}.relu1"), x)?;
        x = net.conv(format!("{block}.conv2"), x, Conv2d::new(CHANNELS, CHANNELS, 3).padding(1))?;
        if with_shortcuts {
            x = net.add(format!("{block}.add"), x, shortcut)?;
        }
        x = net.relu(format!("{block}.relu2"), x)?;
    }
    net.finish(x)
}

/// The mean squared error at each step of gradient descent on random values of 0 to 1, which a ReLU does not change. Inputs have
/// mean 0.5, so that the error of a stack that returns zeros is 0.33.
fn fit(context: &mut Context<'_>, name: &str, with_shortcuts: bool) -> Result<Vec<(f64, f64)>, ReproduceError> {
    let graph = stack(name, with_shortcuts)?;
    let tensors = initialise(&graph, Initialisation::KaimingFanOut { zero_init_residual: false }, 0);
    let half = vec![0.5; CHANNELS];
    let model = Model::new(graph, tensors, Preprocessing::unscaled([SIDE; 2], &half, &half), Vec::new())?;
    let mut engine = Engine::new(&model, Mode::Train, BATCH, [SIDE; 2], &[], context.options)?;
    let mut random = Stream::new(1, &[]);
    let len = BATCH * CHANNELS * SIDE * SIDE;
    let mut errors = Vec::new();
    for step in 0..STEPS {
        context.progress(name, step, STEPS)?;
        let images: Vec<f32> = (0..len).map(|_| random.uniform()).collect();
        engine.forward(&images)?;
        let differences: Vec<f32> = engine.output().iter().zip(&images).map(|(output, input)| output - input).collect();
        errors.push((step as f64, differences.iter().map(|d| f64::from(d * d)).sum::<f64>() / len as f64));
        let seed: Vec<f32> = differences.iter().map(|difference| 2.0 * difference / BATCH as f32).collect();
        engine.backward_output(&seed)?;
        let flat = engine.flat_mut();
        // The norm of the gradient is limited to 1, so that one learning rate suits both stacks.
        let norm = flat.gradients.iter().map(|gradient| f64::from(gradient * gradient)).sum::<f64>().sqrt() as f32;
        let rate = LR / norm.max(1.0);
        flat.values.iter_mut().zip(flat.gradients.iter()).for_each(|(value, gradient)| *value -= rate * gradient);
    }
    Ok(errors)
}
