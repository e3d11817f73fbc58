//! Every network of the zoo runs and trains. The list is the registry's, so that a new name is held to it.

use residual_engine::{Engine, Mode, Options};
use residual_graph::Graph;
use residual_kernels::Isa;
use residual_kernels::loss::{Targets, cross_entropy};
use residual_kernels::optim::{Sgd, sgd};
use residual_model::{Initialisation, Model, initialise};
use residual_preprocess::Preprocessing;
use residual_tensor::Stream;
use residual_threads::Pool;
use residual_zoo::{Config, Entry};
use std::sync::Arc;
use std::time::Instant;

const CLASSES: usize = 5;
const BATCH: usize = 4;

/// The network for the smallest images that it allows, but at least a seventh of those it is made for: many would take a
/// single pixel, and batch norms over a few values, one after the other, make gradients of any size.
fn smallest(entry: &Entry) -> (Graph, usize) {
    let at = |size: usize| Config { num_classes: CLASSES, image_size: [size; 2], ..entry.config.clone() }.graph();
    let sizes = ((entry.config.image_size[0] / 7).max(8)..=entry.config.image_size[0])
        .filter_map(|size| Some((at(size).ok()?, size)));
    sizes.take(1).next().unwrap_or_else(|| panic!("{}: no size fits", entry.name))
}

/// Whether a network takes seconds.
fn is_large(graph: &Graph) -> bool {
    graph.parameter_count() > 12_000_000 || graph.nodes.len() > 600
}

fn steps(entry: &Entry, graph: Graph, size: usize) {
    let name = entry.name;
    let tensors = initialise(&graph, Initialisation::usual(&graph), 1);
    let preprocessing = Preprocessing::unscaled([size; 2], &[0.0; 3], &[1.0; 3]);
    let model = Model::new(graph, tensors, preprocessing, Vec::new()).unwrap();
    let options = Options::new(Isa::detect(), Arc::new(Pool::new(2)));
    let engine = |model: &Model, mode| Engine::new(model, mode, BATCH, [size; 2], &[], &options).unwrap();
    let mut random = Stream::new(2, &[]);
    let images: Vec<f32> = (0..BATCH * size * size * 3).map(|_| random.normal()).collect();

    let mut train = engine(&model, Mode::Train);
    train.set_seed(3);
    train.forward(&images).unwrap();
    let mut seed = vec![0.0; BATCH * CLASSES];
    let loss = cross_entropy(train.output(), Targets::Hard(&[1, 3, 0, 4]), CLASSES, 0.1, Some(&mut seed));
    assert!(loss.is_finite(), "{name}: {loss}");
    train.backward_output(&seed).unwrap();
    let flat = train.flat_mut();
    assert!(flat.gradients.iter().all(|gradient| gradient.is_finite()), "{name}");
    let moved = flat.entries.iter().filter(|entry| flat.gradients[entry.range.clone()].iter().any(|g| *g != 0.0));
    // Stochastic depth may have dropped a block for all images, and dropout every input of a small layer.
    assert!(moved.count() * 2 > flat.entries.len(), "{name}: gradients of most parameters are zero");
    // Small enough for a gradient of any size.
    let largest = flat.gradients.iter().fold(1.0f32, |largest, gradient| largest.max(gradient.abs()));
    let step = Sgd { lr: 1e-3 / largest, momentum: 0.0, weight_decay: 0.0, nesterov: false };
    let mut velocity = vec![0.0; flat.values.len()];
    sgd(options.isa, &options.pool, flat.values, flat.gradients, &mut velocity, &step);
    let trained = Model { tensors: train.state_dict(), ..model };
    drop((train, velocity));

    let run = |mode| {
        let mut engine = engine(&trained, mode);
        engine.forward(&images).unwrap();
        engine.output().to_vec()
    };
    let (infer, frozen) = (run(Mode::Infer), run(Mode::Eval));
    let scale = frozen.iter().fold(1e-3f32, |scale, value| scale.max(value.abs()));
    let close = infer.iter().zip(&frozen).all(|(a, b)| (a - b).abs() <= 1e-3 * scale);
    assert!(close, "{name}: {frozen:?}, got {infer:?}");
}

fn all(large: bool) {
    let mut count = 0;
    for entry in residual_zoo::entries() {
        let (graph, size) = smallest(&entry);
        if is_large(&graph) == large {
            let start = Instant::now();
            steps(&entry, graph, size);
            eprintln!("{} at {size}: {:.1} s", entry.name, start.elapsed().as_secs_f64());
            count += 1;
        }
    }
    assert!(count > 0);
}

#[test]
fn every_small_network_trains_and_predicts() {
    all(false);
}

#[test]
#[ignore = "takes minutes: networks of up to 200 million parameters or a thousand layers"]
fn every_large_network_trains_and_predicts() {
    all(true);
}
