//! The standard deviations of layer responses.

use super::degradation::{SEEDS, training};
use crate::finding::Measure;
use crate::network::training_images;
use crate::{Claim, Context, Finding, Form, ReproduceError};
use residual_data::{Loader, LoaderOptions, Transform};
use residual_explain::ActivationRecorder;
use residual_graph::Op;
use residual_report::{Axis, Chart, Paint, Series};
use std::path::Path;

pub(super) const CLAIM: Claim = Claim {
    name: "layer-responses",
    title: "Residual networks have smaller layer responses than plain ones, and deeper ones smaller still",
    source: "He et al. 2015, arXiv:1512.03385, section 4.2 and figure 7",
    runs: "measures the output of every 3×3 convolution's batch norm, before ReLU and sum, in the networks of `degradation`, which are trained first where they are missing",
    expected: "the mean standard deviation is smaller in resnet20_a than in plain20, smaller in resnet56_a than in plain56, and smaller in resnet56_a than in resnet20_a",
    forms: &[(Form::Short, 50.0), (Form::Full, 1200.0)],
    run,
};

const BATCH: usize = 128;

fn run(context: &mut Context<'_>) -> Result<Finding, ReproduceError> {
    if let Some(missing) = context.missing_cifar("cifar10") {
        return Ok(missing);
    }
    let mut chart = Chart::new("Layer responses", Axis::new("convolution").whole(), Axis::new("standard deviation"));
    let (mut measures, mut means) = (Vec::new(), Vec::new());
    for (index, network) in super::degradation::NETWORKS.into_iter().enumerate() {
        // One of the seeds of `degradation`.
        let (name, settings) = training(context, network, SEEDS - 1);
        let run = context.train(&name, Some("he2015-cifar"), &settings)?;
        let deviations = responses(context, &run.folder.last())?;
        let mean = deviations.iter().sum::<f64>() / deviations.len() as f64;
        measures.push(Measure::seen(format!("{network}: mean standard deviation"), format!("{mean:.4}")));
        means.push(mean);
        let points = deviations.into_iter().enumerate().map(|(layer, deviation)| (layer as f64, deviation)).collect();
        chart = chart.with(Series::line(network, Paint::Series(index), points));
    }
    let [plain20, plain56, resnet20, resnet56] = means[..] else { unreachable!("four networks") };
    for (what, smaller, larger) in [
        ("resnet20_a against plain20", resnet20, plain20),
        ("resnet56_a against plain56", resnet56, plain56),
        ("resnet56_a against resnet20_a", resnet56, resnet20),
    ] {
        let got = format!("{smaller:.4} against {larger:.4}");
        measures.push(Measure::judged(what, "smaller", got, smaller < larger));
    }
    Ok(Finding::of(measures).with_picture("responses", chart.draw()?))
}

/// The standard deviation of each batch norm's output on a batch of training images.
fn responses(context: &Context<'_>, weights: &Path) -> Result<Vec<f64>, ReproduceError> {
    let model = residual_weights::load(weights)?.model;
    let mut recorder = ActivationRecorder::new(&model, BATCH, context.options)?;
    let transform = Transform::evaluation(model.preprocessing.clone())?;
    let options = LoaderOptions { batch_size: BATCH, ..LoaderOptions::default() };
    if let Some(batch) = Loader::new(training_images(context)?, transform, options)?.next() {
        recorder.record(batch?.images())?;
    }
    let is_norm = |op: &Op| matches!(op, Op::BatchNorm2d { .. });
    let norms = model.graph.nodes.iter().filter(|node| is_norm(&node.op) && !node.name.contains("downsample"));
    let norms: Vec<&str> = norms.map(|node| node.name.as_str()).collect();
    let statistics = recorder.finish().into_iter().filter(|node| norms.contains(&node.node.as_str()));
    Ok(statistics.map(|node| node.deviation).collect())
}
