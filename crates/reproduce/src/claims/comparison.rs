//! VGG, Inception, ResNet and DenseNet side by side.

use super::gradient_flow::change_per_layer;
use crate::finding::Measure;
use crate::network::{mean_gradients, weights};
use crate::{Claim, Context, Finding, Form, ReproduceError};
use residual_engine::{Engine, Mode, Options};
use residual_graph::Graph;
use residual_model::{Initialisation, Model, initialise};
use residual_preprocess::Preprocessing;
use residual_report::{Axis, Chart, Paint, Series, grouped};
use residual_tensor::Stream;

pub(super) const CLAIM: Claim = Claim {
    name: "comparison",
    title: "VGG has the most parameters and DenseNet the fewest; gradients flow better in ResNet and DenseNet than in VGG",
    source: "lecture notes on ResNet, comparison with other models",
    runs: "counts layers and parameters, and measures the gradient of every convolution of four new networks on one batch",
    expected: "parameters: VGG > ResNet > DenseNet; gradients change more per layer in VGG",
    forms: &[(Form::Quick, 0.3), (Form::Full, 0.3)],
    run,
};

/// Name, and the depth that the notes list.
const NETWORKS: [(&str, &str); 4] =
    [("vgg19", "19"), ("googlenet", "22"), ("resnet152", "152+"), ("densenet121", "264 (the largest DenseNet)")];
/// Images of random numbers: depth decides about gradients of a new network, not what it sees.
const BATCH: usize = 2;
const SIDE: usize = 96;

fn run(context: &mut Context<'_>) -> Result<Finding, ReproduceError> {
    let (mut measures, mut sizes, mut changes) = (Vec::new(), Vec::new(), Vec::new());
    let y = Axis::new("mean |gradient| relative to the last convolution").logarithmic();
    let mut chart = Chart::new("Gradients by depth, new networks", Axis::new("depth, first to last"), y);
    for (index, (name, listed)) in NETWORKS.into_iter().enumerate() {
        context.progress("gradients of four networks", index as u64, NETWORKS.len() as u64)?;
        let graph = residual_zoo::build(name, 1000)?;
        let analysis = graph.analyse(224, 224)?;
        let (layers, parameters) = (analysis.depth, analysis.parameters as u64);
        let gradients = gradients(graph, context.options)?;
        let last = gradients.last().copied().unwrap_or(f64::NAN);
        let change = change_per_layer(&gradients);
        measures.push(Measure::seen(format!("{name}: weighted layers (the notes list {listed})"), layers.to_string()));
        measures.push(Measure::seen(format!("{name}: parameters"), grouped(parameters)));
        measures.push(Measure::seen(
            format!("{name}: change of gradients per layer, towards the input"),
            format!("× {change:.4}"),
        ));
        let points = gradients.iter().enumerate();
        let points = points.map(|(at, value)| (at as f64 / (gradients.len() - 1) as f64, value / last)).collect();
        chart = chart.with(Series::line(name, Paint::Series(index), points));
        sizes.push(parameters);
        changes.push(change.ln().abs());
    }
    let [vgg, _, resnet, densenet] = sizes[..] else { unreachable!("four networks") };
    let is_ordered = vgg > resnet && resnet > densenet;
    let listed = NETWORKS.iter().zip(&sizes).map(|((name, _), size)| format!("{name} {}", grouped(*size)));
    let listed = listed.collect::<Vec<_>>().join(", ");
    measures.push(Measure::judged("parameters", "VGG > ResNet > DenseNet", listed, is_ordered));
    let [vgg, _, resnet, densenet] = changes[..] else { unreachable!("four networks") };
    measures.push(Measure::judged(
        "|ln(change per layer)|",
        "VGG above ResNet and DenseNet",
        format!("VGG {vgg:.4}, ResNet {resnet:.4}, DenseNet {densenet:.4}"),
        vgg > resnet && vgg > densenet,
    ));
    Ok(Finding::of(measures).with_picture("gradients", chart.draw()?))
}

/// The mean absolute gradient of the weight of each layer but the head, for a random gradient of the logits.
fn gradients(graph: Graph, options: &Options) -> Result<Vec<f64>, ReproduceError> {
    let keys = weights(&graph);
    let tensors = initialise(&graph, Initialisation::usual(&graph), 0);
    let preprocessing = Preprocessing::unscaled([SIDE; 2], &[0.5; 3], &[0.25; 3]);
    let model = Model::new(graph, tensors, preprocessing, Vec::new())?;
    let mut engine = Engine::new(&model, Mode::Train, BATCH, [SIDE; 2], &[], options)?;
    let mut random = Stream::new(0, &[]);
    let images: Vec<f32> = (0..BATCH * SIDE * SIDE * 3).map(|_| random.normal()).collect();
    engine.forward(&images)?;
    let seed: Vec<f32> = engine.output().iter().map(|_| random.normal()).collect();
    engine.backward_output(&seed)?;
    Ok(mean_gradients(&mut engine, &keys))
}
