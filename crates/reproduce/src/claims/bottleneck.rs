//! A bottleneck block against a block of 3×3 convolutions at the same width.

use crate::finding::Measure;
use crate::{Claim, Context, Finding, Form, ReproduceError};
use residual_engine::{Engine, Mode};
use residual_graph::{Builder, Conv2d, Graph, GraphError, NodeId};
use residual_infer::Latency;
use residual_model::{Initialisation, Model, initialise};
use residual_preprocess::Preprocessing;
use residual_report::{Bar, BarChart, Paint};
use std::time::Instant;

pub(super) const CLAIM: Claim = Claim {
    name: "bottleneck",
    title: "A bottleneck of 1×1, 3×3 and 1×1 convolutions costs a small part of two 3×3 convolutions at 256 channels",
    source: "He et al. 2015, arXiv:1512.03385, figure 5; lecture notes on ResNet, bottleneck design",
    runs: "counts both blocks, and measures four of each on 56×56 values, one after another in turn",
    expected: "16 to 18 times fewer parameters and multiply-accumulates, and less time",
    forms: &[(Form::Quick, 0.2), (Form::Full, 0.2)],
    run,
};

const CHANNELS: usize = 256;
const SIDE: usize = 56;
/// Blocks in a row: what surrounds them weighs less.
const BLOCKS: usize = 4;
const ROUNDS: u64 = 15;

fn run(context: &mut Context<'_>) -> Result<Finding, ReproduceError> {
    let graphs =
        [graph("3×3", &[(CHANNELS, 3), (CHANNELS, 3)])?, graph("bottleneck", &[(64, 1), (64, 3), (CHANNELS, 1)])?];
    let [wide, narrow] = [graphs[0].analyse(SIDE, SIDE)?, graphs[1].analyse(SIDE, SIDE)?];
    let weights = |graph: &Graph| {
        let shapes = graph.parameters().map(|(_, spec)| spec.shape).filter(|shape| shape.len() == 4);
        shapes.map(|shape| shape.iter().product::<usize>()).sum()
    };
    let [wide_weights, narrow_weights]: [usize; 2] = [weights(&graphs[0]), weights(&graphs[1])];
    let fewer = |what: &str, wide: f64, narrow: f64| {
        let (ratio, per) = (wide / narrow, BLOCKS as f64);
        let got =
            format!("{ratio:.2} times fewer ({:.3} M against {:.3} M per block)", narrow / per / 1e6, wide / per / 1e6);
        Measure::judged(what, "16 to 18 times fewer", got, (16.0..18.0).contains(&ratio))
    };
    let mut measures = vec![
        fewer("convolution weights", wide_weights as f64, narrow_weights as f64),
        fewer("multiply-accumulates", wide.macs as f64, narrow.macs as f64),
    ];
    let [wide, narrow] = milliseconds(context, &graphs)?;
    let got = format!("{narrow:.2} ms against {wide:.2} ms per block, {:.1} times less", wide / narrow);
    measures.push(Measure::judged("time of a block", "less", got, narrow < wide));
    let bar = |name: &str, value: f64, index| {
        let text = format!("{value:.2} ms");
        Bar { name: name.into(), value, text, paint: Paint::Series(index), ..Bar::default() }
    };
    let bars = vec![bar("two 3×3 at 256 channels", wide, 0), bar("1×1, 3×3, 1×1 at 64", narrow, 1)];
    Ok(Finding::of(measures).with_picture("time", BarChart::new("Milliseconds per block of 56×56×256", bars).draw()))
}

/// Residual blocks of convolutions (outputs, kernel), each with its batch norm, and a ReLU after the sum.
fn graph(name: &str, convolutions: &[(usize, usize)]) -> Result<Graph, GraphError> {
    let mut net = Builder::new(name, [CHANNELS, SIDE, SIDE]);
    let mut x = net.input();
    for block in 0..BLOCKS {
        let (shortcut, mut channels) = (x, CHANNELS);
        for (index, &(outputs, kernel)) in convolutions.iter().enumerate() {
            if index > 0 {
                x = net.relu(format!("{block}.relu{index}"), x)?;
            }
            x = convolution(
                &mut net,
                &format!("{block}.{index}"),
                x,
                Conv2d::new(channels, outputs, kernel).padding(kernel / 2),
            )?;
            channels = outputs;
        }
        let sum = net.add(format!("{block}.add"), x, shortcut)?;
        x = net.relu(format!("{block}.relu"), sum)?;
    }
    net.finish(x)
}

fn convolution(net: &mut Builder, name: &str, x: NodeId, conv: Conv2d) -> Result<NodeId, GraphError> {
    let x = net.conv(format!("{name}.conv"), x, conv)?;
    net.batch_norm(format!("{name}.bn"), x)
}

/// The median time of a block of each network in milliseconds, measured in turn.
fn milliseconds(context: &mut Context<'_>, graphs: &[Graph; 2]) -> Result<[f64; 2], ReproduceError> {
    let mut engines = Vec::new();
    for graph in graphs {
        let mean = vec![0.5; CHANNELS];
        let preprocessing = Preprocessing::unscaled([SIDE, SIDE], &mean, &mean);
        let tensors = initialise(graph, Initialisation::Torch, 0);
        let model = Model::new(graph.clone(), tensors, preprocessing, Vec::new())?;
        engines.push(Engine::new(&model, Mode::Infer, 1, [SIDE, SIDE], &[], context.options)?);
    }
    let image: Vec<f32> = (0..SIDE * SIDE * CHANNELS).map(|at| (at % 97) as f32 / 97.0).collect();
    let mut times = [Vec::new(), Vec::new()];
    for round in 0..ROUNDS {
        context.progress("time of the blocks", round, ROUNDS)?;
        for (engine, times) in engines.iter_mut().zip(&mut times) {
            let began = Instant::now();
            engine.forward(&image)?;
            times.push(1e3 * began.elapsed().as_secs_f64() / BLOCKS as f64);
        }
    }
    Ok(times.map(|times| Latency::new(times).map_or(f64::NAN, |times| times.median())))
}
