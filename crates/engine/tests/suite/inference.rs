//! What only inference plans have: layers that run depth first, smaller weights, packing on use, and sessions that share weights.

use crate::support;

use residual_engine::{CompiledModel, Engine, EngineError, Mode, Options, Tuned, Tuning};
use residual_graph::{Builder, Conv2d, Graph, Pool2d};
use residual_kernels::Isa;
use residual_kernels::conv::Algorithm;
use residual_threads::Pool;
use std::sync::Arc;
use support::{every_op, images, model, options, packed_on_use, wide};

/// Feature maps of two megabytes per image, then small ones after a pooling.
fn large_maps() -> Graph {
    let mut net = Builder::new("large_maps", [3, 184, 184]);
    let stem = net.conv("stem", net.input(), Conv2d::new(3, 16, 3).padding(1).bias()).unwrap();
    let a = net.conv("a", stem, Conv2d::new(16, 16, 3).padding(1).bias()).unwrap();
    let a = net.add("a_add", a, stem).unwrap();
    let a = net.relu("a_relu", a).unwrap();
    let pooled = net.max_pool("pool", a, Pool2d::new(9, 8, 4)).unwrap();
    let b = net.conv("b", pooled, Conv2d::new(16, 256, 3).padding(1).bias()).unwrap();
    let c = net.conv("c", b, Conv2d::new(256, 256, 3).padding(1)).unwrap();
    let mean = net.global_avg_pool("mean", c).unwrap();
    let flat = net.flatten("flat", mean).unwrap();
    let out = net.linear("fc", flat, 5, true).unwrap();
    net.finish(out).unwrap()
}

#[test]
fn depth_first_execution_changes_no_bit_and_need_less_memory() {
    let model = model(large_maps());
    let [_, height, width] = model.graph.input_size();
    let batch = 7;
    let images = images(&model, batch);
    let len = images.len() / batch;
    let engine = |batch, outputs: &[&str]| {
        Engine::new(&model, Mode::Infer, batch, [height, width], outputs, &options(2)).unwrap()
    };
    let mut whole = engine(batch, &[]);
    // Two maps of seven images that are alive at once are not there in one piece.
    let map = 4 * 16 * height * width;
    assert!(whole.memory().values < batch * map, "{} bytes", whole.memory().values);
    let mut kept = engine(batch, &["a_add", "c"]);
    let mut single = engine(1, &["a_add"]);
    for count in [batch, 3] {
        whole.forward(&images[..count * len]).unwrap();
        kept.forward(&images[..count * len]).unwrap();
        assert_eq!(kept.output(), whole.output());
        for (index, image) in images[..count * len].chunks_exact(len).enumerate() {
            single.forward(image).unwrap();
            assert_eq!(whole.output()[5 * index..][..5], *single.output());
            let map = single.node_value("a_add").unwrap();
            assert_eq!(kept.node_value("a_add").unwrap()[index * map.len()..][..map.len()], *map);
        }
    }
}

#[test]
fn low_memory_keeps_smaller_weights_and_changes_results_by_rounding_only() {
    let model = model(residual_zoo::build("resnet20", 10).unwrap());
    let x = images(&model, 4);
    let run = |low_memory| {
        let options = Options { low_memory, ..options(2) };
        let mut engine = Engine::new(&model, Mode::Infer, 4, [32, 32], &[], &options).unwrap();
        engine.forward(&x).unwrap();
        (engine.output().to_vec(), engine.memory())
    };
    let ((usual, fast), (low, small)) = (run(false), run(true));
    assert!(small.packed < fast.packed / 3 && small.total() < fast.total(), "{small:?}, {fast:?}");
    let scale = usual.iter().fold(0.0f32, |scale, value| scale.max(value.abs()));
    assert!(usual.iter().zip(&low).all(|(a, b)| (a - b).abs() < 1e-4 * scale), "{usual:?} {low:?}");
}

#[test]
fn weights_packed_on_use_change_no_bit_where_the_algorithms_are_the_same() {
    for graph in [every_op(), wide(), residual_zoo::build("resnet20", 10).unwrap()] {
        let model = model(graph);
        let [_, height, width] = model.graph.input_size();
        let x = images(&model, 3);
        for (isa, threads) in Isa::available().into_iter().flat_map(|isa| [(isa, 1), (isa, 3)]) {
            let base = Options::new(isa, Arc::new(Pool::new(threads)));
            let mut known = Tuning::default();
            Engine::tune(
                &model,
                Mode::Infer,
                3,
                [height, width],
                &Options { low_memory: true, ..base.clone() },
                &mut known,
            )
            .unwrap();
            for algorithm in Algorithm::ALL {
                let mut tuning = Tuning::default();
                for &(tuned, _) in known.iter() {
                    tuning.insert(tuned, algorithm);
                    tuning.insert(Tuned { packed_once: false, ..tuned }, algorithm);
                }
                let run = |pack_on_use| {
                    let options =
                        Options { tuning: Some(Arc::new(tuning.clone())), ..packed_on_use(pack_on_use, base.clone()) };
                    let mut engine = Engine::new(&model, Mode::Infer, 3, [height, width], &[], &options).unwrap();
                    // Twice, as packed weights of the first pass must not be left for the second.
                    let mut bits = Vec::new();
                    for images in [&x, &x[..2 * x.len() / 3]] {
                        engine.forward(images).unwrap();
                        bits.extend(engine.output().iter().map(|value| value.to_bits()));
                    }
                    bits
                };
                assert!(run(true) == run(false), "{} {} {algorithm} {threads}", model.graph.name, isa.name());
            }
        }
    }
}

#[test]
fn weights_packed_on_use_take_the_memory_of_one_convolution() {
    let model = model(residual_zoo::build("resnet20", 10).unwrap());
    let plan = |pack_on_use| {
        let options = packed_on_use(pack_on_use, options(2));
        let engine = Engine::new(&model, Mode::Infer, 1, [32, 32], &[], &options).unwrap();
        let required = Engine::required_memory(&model, Mode::Infer, 1, [32, 32], &[], &options).unwrap();
        assert_eq!((required, required.total()), (engine.memory(), engine.bytes()));
        assert!(engine.state_dict().is_empty() && engine.gradients().is_empty());
        engine
    };
    let (mut on_use, ahead) = (plan(true), plan(false));
    let weights = model.tensors.values().filter(|tensor| tensor.shape().len() > 1).map(|tensor| 4 * tensor.len());
    assert_eq!(on_use.memory().parameters, weights.clone().sum::<usize>(), "the model's");
    assert_eq!(ahead.memory().parameters, 0);
    // The longest weight: packed directly, as it has few pixels.
    let longest = weights.max().unwrap();
    let packed = on_use.memory().packed;
    assert!(packed >= longest && packed < 3 * longest && packed < ahead.memory().packed / 4, "{packed}");
    let error = on_use.load_state_dict(&model.tensors).unwrap_err();
    assert!(matches!(error, EngineError::Mode { .. }), "{error}");
}

#[test]
fn a_plan_that_packs_on_use_is_good_for_itself() {
    let model = model(residual_zoo::build("resnet20", 10).unwrap());
    let x = images(&model, 1);
    let options = packed_on_use(true, options(2));
    let mut expected = Engine::new(&model, Mode::Infer, 1, [32, 32], &[], &options).unwrap();
    expected.forward(&x).unwrap();
    let mut engine = Engine::new(&model, Mode::Infer, 1, [32, 32], &[], &options).unwrap();
    drop(model);
    engine.forward(&x).unwrap();
    assert_eq!(engine.output(), expected.output());
}

/// Threads that run sessions of one compiled model, each on a pool of its own, at the same time.
#[test]
fn sessions_on_their_own_threads_compute_the_same_bits() {
    let model = model(every_op());
    let batch = images(&model, 3);
    for pack_on_use in [false, true] {
        let options = packed_on_use(pack_on_use, options(2));
        let mut engine = Engine::new(&model, Mode::Infer, 3, [12, 10], &[], &options).unwrap();
        engine.forward(&batch).unwrap();
        let compiled = CompiledModel::new(&model, 3, [12, 10], &[], &options).unwrap();
        let run = |threads: usize| {
            let mut session = compiled.session(&Arc::new(Pool::new(threads))).unwrap();
            (0..5).for_each(|_| session.forward(&batch).unwrap());
            session.output().to_vec()
        };
        let outputs: Vec<Vec<f32>> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|index| scope.spawn(move || run(1 + index % 2))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(outputs.iter().all(|output| output == engine.output()), "packed on use: {pack_on_use}");
    }
}

#[test]
fn weights_of_the_same_network_are_replaced_without_compiling() {
    let first = model(every_op());
    let mut second = first.clone();
    for tensor in second.tensors.values_mut() {
        tensor.as_f32_mut().into_iter().flatten().for_each(|value| *value *= 1.25);
    }
    let batch = images(&first, 2);
    let output = |engine: &mut Engine| {
        engine.forward(&batch).unwrap();
        engine.output().to_vec()
    };
    for (outputs, pack_on_use) in [(&[][..], false), (&["a_bn", "pre_bn"], false), (&[], true)] {
        let options = packed_on_use(pack_on_use, options(2));
        let compiled = |model| Engine::new(model, Mode::Infer, 2, [12, 10], outputs, &options).unwrap();
        let expected = [&first, &second].map(|model| output(&mut compiled(model)));
        assert_ne!(expected[0], expected[1]);
        let mut engine = compiled(&first);
        let mut other = engine.compiled().unwrap().session(&options.pool).unwrap();
        engine.load_model(&second).unwrap();
        assert!(output(&mut engine) == expected[1] && output(&mut other) == expected[0], "sessions are independent");
        engine.load_model(&first).unwrap();
        assert_eq!(output(&mut engine), expected[0]);
    }
    let mut net = Builder::new("other", [3, 12, 10]);
    let x = net.conv("conv", net.input(), Conv2d::new(3, 4, 3)).unwrap();
    let other = model(net.finish(x).unwrap());
    let mut engine = Engine::new(&first, Mode::Infer, 2, [12, 10], &[], &options(1)).unwrap();
    let error = engine.load_model(&other).unwrap_err().to_string();
    assert_eq!(error, "model: expected the network that the plan was compiled for (every_op), got another (other)");
    let mut training = Engine::new(&first, Mode::Train, 2, [12, 10], &[], &options(1)).unwrap();
    let error = training.load_model(&first).unwrap_err().to_string();
    assert_eq!(error, "loading a model: expected a plan for inference, got one for Train");
    assert!(training.compiled().is_none());
}
