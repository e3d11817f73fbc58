//! What the engine promises beyond parity: every op has a gradient, results do not depend on threads, batch size or what
//! is kept, and misuse is answered.

use crate::support;

use residual_engine::{Engine, EngineError, Memory, Mode, Options, PlanSummary, Tuning};
use residual_graph::{Builder, Conv2d, NodeId, Op, Pool2d, Role};
use residual_kernels::conv::Algorithm;
use residual_kernels::loss::{Targets, cross_entropy};
use residual_kernels::optim::{Sgd, sgd};
use residual_model::{Initialisation, Model, initialise};
use residual_tensor::{NamedTensors, Stream, Tensor};
use std::collections::BTreeSet;
use std::sync::Arc;
use support::{checkpointed, every_op, images, model, options, wide};

/// `(loss(θ + εd) − loss(θ − εd)) / 2ε` against the gradient along `d`, one parameter tensor at a time.
#[test]
fn every_op_has_the_gradient_of_finite_differences() {
    for mode in [Mode::Train, Mode::Eval] {
        let model = model(every_op());
        let x = images(&model, 6);
        let mut engine = Engine::new(&model, mode, 6, [12, 10], &["b_add", "joined"], &options(2)).unwrap();
        engine.set_seed(11);
        let seeds: Vec<(&str, Vec<f32>)> = [("fc", 5), ("b_add", 12 * 10 * 8)]
            .into_iter()
            .map(|(name, len)| {
                let mut stream = Stream::new(4, &[len as u64]);
                (name, (0..6 * len).map(|_| stream.range(-1.0, 1.0) / (len as f32).sqrt()).collect())
            })
            .collect();
        let seed_views: Vec<(&str, &[f32])> = seeds.iter().map(|(name, seed)| (*name, &seed[..])).collect();
        let loss = |engine: &mut Engine, tensors: &NamedTensors| -> f64 {
            engine.load_state_dict(tensors).unwrap();
            engine.forward(&x).unwrap();
            let dot = |(name, seed): &(&str, Vec<f32>)| -> f64 {
                let value = engine.node_value(name).unwrap();
                value.iter().zip(seed).map(|(v, s)| f64::from(*v) * f64::from(*s)).sum()
            };
            seeds.iter().map(dot).sum()
        };
        loss(&mut engine, &model.tensors);
        engine.backward(&seed_views).unwrap();
        let gradients = engine.gradients();
        for (index, (key, gradient)) in gradients.iter().enumerate() {
            let gradient = gradient.as_f32().unwrap();
            let mut stream = Stream::new(5, &[index as u64]);
            let direction: Vec<f32> = gradient.iter().map(|_| stream.range(-1.0, 1.0)).collect();
            let step = 2e-3 / (direction.len() as f32).sqrt();
            let moved = |sign: f32| {
                let mut tensors = model.tensors.clone();
                let values = tensors[key.as_str()].as_f32_mut().unwrap();
                values.iter_mut().zip(&direction).for_each(|(value, d)| *value += sign * step * d);
                tensors
            };
            let numeric = (loss(&mut engine, &moved(1.0)) - loss(&mut engine, &moved(-1.0))) / (2.0 * f64::from(step));
            let along: f64 = gradient.iter().zip(&direction).map(|(g, d)| f64::from(*g) * f64::from(*d)).sum();
            let scale = norm(gradient) * norm(&direction) / (gradient.len() as f64).sqrt();
            assert!((numeric - along).abs() < 0.03 * scale.max(0.05), "{mode:?} {key}: {numeric}, got {along}");
        }
    }
}

fn norm(values: &[f32]) -> f64 {
    values.iter().map(|&v| f64::from(v) * f64::from(v)).sum::<f64>().sqrt()
}

#[test]
fn the_gradient_of_a_kept_node_is_that_of_finite_differences() {
    let mut net = Builder::new("tail", [4, 5, 5]);
    let x = net.relu("relu", net.input()).unwrap();
    let y = net.conv("conv", x, Conv2d::new(4, 6, 3).padding(1)).unwrap();
    let y = net.batch_norm("bn", y).unwrap();
    let y = net.relu("relu2", y).unwrap();
    let y = net.global_avg_pool("mean", y).unwrap();
    let model = model(net.finish(y).unwrap());
    let x = images(&model, 2);
    let mut engine = Engine::new(&model, Mode::Eval, 2, [5, 5], &["input", "relu2"], &options(1)).unwrap();
    let seed: Vec<f32> = (0..12).map(|i| i as f32 / 10.0 - 0.5).collect();
    let loss = |engine: &mut Engine, x: &[f32]| -> f64 {
        engine.forward(x).unwrap();
        engine.output().iter().zip(&seed).map(|(v, s)| f64::from(*v) * f64::from(*s)).sum()
    };
    loss(&mut engine, &x);
    engine.backward(&[("mean", &seed)]).unwrap();
    let gradient = engine.node_gradient("input").unwrap().to_vec();
    assert_eq!(engine.node_gradient("relu2").unwrap()[..6], seed[..6].iter().map(|s| s / 25.0).collect::<Vec<_>>());
    for index in (0..x.len()).step_by(7).filter(|&index| x[index].abs() > 0.05) {
        let moved = |step: f32| {
            let mut x = x.clone();
            x[index] += step;
            x
        };
        let numeric = (loss(&mut engine, &moved(0.01)) - loss(&mut engine, &moved(-0.01))) / 0.02;
        assert!((numeric - f64::from(gradient[index])).abs() < 2e-3, "{index}: {numeric}, got {}", gradient[index]);
    }
}

#[test]
fn kept_nodes_change_no_result_and_folding_changes_it_by_rounding_only() {
    let model = model(every_op());
    let x = images(&model, 3);
    let run = |mode, outputs: &[&str]| {
        let mut engine = Engine::new(&model, mode, 3, [12, 10], outputs, &options(2)).unwrap();
        engine.forward(&x).unwrap();
        let outputs: Vec<Vec<f32>> = outputs.iter().map(|output| engine.node_value(output).unwrap().to_vec()).collect();
        (engine.output().to_vec(), outputs)
    };
    let outputs = [
        "a", "a_bn", "pre_bn", "b", "b_add", "norm", "gelu", "down", "layer", "se_gate", "se", "path", "dropped",
        "three", "adapted", "flat", "hidden", "sum",
    ];
    let (frozen, values) = run(Mode::Eval, &outputs);
    for (output, others) in [run(Mode::Eval, &[]), run(Mode::Infer, &[]), run(Mode::Infer, &outputs)] {
        close(&output, &frozen);
        others.iter().zip(&values).for_each(|(got, expected)| close(got, expected));
    }
}

fn close(got: &[f32], expected: &[f32]) {
    assert_eq!(got.len(), expected.len());
    let scale = expected.iter().fold(1e-3f32, |scale, value| scale.max(value.abs()));
    assert!(got.iter().zip(expected).all(|(got, expected)| (got - expected).abs() < 1e-5 * scale));
}

#[test]
fn an_image_has_the_same_result_alone_and_in_any_batch() {
    let model = model(residual_zoo::build("resnet20", 10).unwrap());
    let x = images(&model, 5);
    let mut engine = Engine::new(&model, Mode::Infer, 5, [32, 32], &[], &options(2)).unwrap();
    engine.forward(&x).unwrap();
    let together = engine.output().to_vec();
    for (image, expected) in x.chunks(32 * 32 * 3).zip(together.chunks(10)) {
        engine.forward(image).unwrap();
        assert_eq!(engine.output(), expected);
    }
}

#[test]
fn weights_after_twenty_steps_are_bit_identical_for_any_number_of_threads() {
    let model = model(residual_zoo::build("resnet20", 10).unwrap());
    let train = |threads: usize| -> Vec<u32> {
        let options = options(threads);
        let mut engine = Engine::new(&model, Mode::Train, 24, [32, 32], &[], &options).unwrap();
        let mut velocity = vec![0.0; engine.parameter_len()];
        let step = Sgd { lr: 0.05, momentum: 0.9, weight_decay: 5e-4, nesterov: true };
        let mut stream = Stream::new(9, &[]);
        for _ in 0..20 {
            let x: Vec<f32> = (0..24 * 3072).map(|_| stream.normal()).collect();
            let labels: Vec<u32> = (0..24).map(|_| stream.below(10)).collect();
            let mut seed = vec![0.0; 240];
            engine.forward(&x).unwrap();
            cross_entropy(engine.output(), Targets::Hard(&labels), 10, 0.1, Some(&mut seed));
            engine.backward_output(&seed).unwrap();
            let flat = engine.flat_mut();
            sgd(options.isa, &options.pool, flat.values, flat.gradients, &mut velocity, &step);
        }
        let state = engine.state_dict();
        state.values().filter_map(Tensor::as_f32).flatten().map(|value| value.to_bits()).collect()
    };
    let one = train(1);
    for threads in [2, 3] {
        assert!(train(threads) == one, "{threads} threads");
    }
}

#[test]
fn every_op_of_the_graph_crate_is_among_them() {
    let seen: BTreeSet<&str> = every_op().nodes.iter().map(|node| node.op.name()).collect();
    // Rounded values have no gradients: quantized.rs has them.
    let rounds = |name: &&str| [Op::Quantize.name(), Op::QuantizeDynamic.name()].contains(name);
    let all = Op::NAMES.iter().copied().filter(|name| !rounds(name));
    assert_eq!(seen, all.collect());
}

/// Wide layers, whose filters are transposed in several blocks by several tasks.
#[test]
fn a_state_dict_comes_back_with_every_bit_on_any_number_of_threads() {
    let mut net = Builder::new("transposed", [5, 3, 3]);
    let x = net.conv("a", net.input(), Conv2d::new(5, 150, 3).padding(1).bias()).unwrap();
    let x = net.conv("b", x, Conv2d::new(150, 202, 3).padding(1).groups(2)).unwrap();
    let x = net.conv("c", x, Conv2d::new(202, 202, 2).groups(202)).unwrap();
    let x = net.flatten("flat", x).unwrap();
    let x = net.linear("fc", x, 1031, true).unwrap();
    for graph in [net.finish(x).unwrap(), wide()] {
        let model = model(graph);
        let [_, height, width] = model.graph.input_size();
        for threads in [1, 3] {
            let options = options(threads);
            let engine = Engine::new(&model, Mode::Train, 1, [height, width], &[], &options).unwrap();
            assert!(engine.state_dict() == model.tensors, "{threads} threads");
        }
    }
}

/// Every node costs the same; with a cost in the square of their number these plans would take hours.
#[test]
fn a_network_of_many_thousands_of_nodes_compiles() {
    let mut net = Builder::new("deep", [2, 1, 1]);
    let mut x = net.input();
    for index in 0..20_000 {
        let y = net.conv(format!("{index}.conv"), x, Conv2d::new(2, 2, 1).bias()).unwrap();
        let y = net.batch_norm(format!("{index}.bn"), y).unwrap();
        x = net.add(format!("{index}.add"), y, x).unwrap();
        x = net.push(format!("{index}.gelu"), Op::Gelu, &[x]).unwrap();
    }
    let model = model(net.finish(x).unwrap());
    let mut infer = Engine::new(&model, Mode::Infer, 2, [1, 1], &[], &options(1)).unwrap();
    infer.forward(&[0.5; 4]).unwrap();
    let least = |grad_checkpointing| {
        let options = checkpointed(grad_checkpointing, options(1));
        PlanSummary::new(&model, Mode::Train, 2, [1, 1], &[], &options).unwrap().memory().values
    };
    assert!(least(true) < least(false) / 20);
}

#[test]
fn buckets_go_to_torch_and_back() {
    let model = model(every_op());
    let mut engine = Engine::new(&model, Mode::Train, 1, [12, 10], &[], &options(1)).unwrap();
    assert_eq!(engine.state_dict(), model.tensors);
    let values = engine.flat_mut().values.to_vec();
    let torch = engine.to_torch(&values);
    assert_eq!(*engine.from_torch(&torch).unwrap(), values);
    assert!(torch.iter().all(|(key, tensor)| model.tensors[key.as_str()] == *tensor));
    let mut missing = torch.clone();
    missing.swap_remove("fc.weight");
    let message = engine.from_torch(&missing).unwrap_err().to_string();
    assert_eq!(message, "tensor \"fc.weight\": expected [5, 9], got none");
}

#[test]
fn misuse_is_an_error_that_says_what_was_expected() {
    let model = model(every_op());
    let new = |mode, outputs: &[&str]| Engine::new(&model, mode, 2, [12, 10], outputs, &options(1));
    let message = |error: EngineError| error.to_string();
    let unknown = new(Mode::Infer, &["nope"]).unwrap_err();
    assert_eq!(message(unknown), "node \"nope\": expected a node of the graph");
    let mut engine = new(Mode::Train, &[]).unwrap();
    let batch = "batch: expected 1 to 2 images of 360 values, got ";
    for count in [0, 359, 361, 3 * 360] {
        assert_eq!(message(engine.forward(&vec![0.0; count]).unwrap_err()), format!("{batch}{count} values"));
    }
    assert_eq!(
        message(engine.forward(&[0.0; 360]).unwrap_err()),
        "node \"narrow_bn\": expected more than one value per channel to train a batch norm on"
    );
    engine.forward(&[0.0; 720]).unwrap();
    let wrong: [(&str, &[f32], &str); 2] = [
        ("stem", &[], "node \"stem\": expected an output of this plan"),
        ("fc", &[0.0; 3], "seed of node \"fc\": expected 10 values, got 3"),
    ];
    for (name, seed, expected) in wrong {
        assert_eq!(message(engine.backward(&[(name, seed)]).unwrap_err()), expected);
    }
    let short = engine.backward_output(&[0.0; 3]).unwrap_err();
    assert_eq!(message(short), "seed of node \"fc\": expected 10 values, got 3");
    engine.backward(&[]).unwrap();
    assert!(engine.gradients().values().all(|g| g.as_f32().unwrap().iter().all(|&g| g == 0.0)));
    let again = "backward: expected a forward pass since the last one";
    assert_eq!(message(engine.backward(&[]).unwrap_err()), again);
    assert_eq!(message(engine.backward_output(&[0.0; 10]).unwrap_err()), again);
    let mut infer = new(Mode::Infer, &[]).unwrap();
    // What is refused changes nothing: the plan still runs.
    infer.load_state_dict(&model.tensors).unwrap_err();
    infer.forward(&[0.0; 720]).unwrap();
    let mode = "backward: expected a plan for training or evaluation, got one for Infer";
    assert_eq!(message(infer.backward(&[]).unwrap_err()), mode);
    let too_small = Engine::new(&model, Mode::Train, 2, [1, 1], &[], &options(1)).unwrap_err();
    assert!(message(too_small).starts_with("node \"ceil_max\": expected "));
}

#[test]
fn the_outputs_gradient_needs_no_name() {
    let model = model(every_op());
    let gradients = |backward: &dyn Fn(&mut Engine, &[f32])| {
        let mut engine = Engine::new(&model, Mode::Train, 2, [12, 10], &["joined"], &options(2)).unwrap();
        engine.forward(&images(&model, 2)).unwrap();
        let seed: Vec<f32> = engine.output().iter().map(|value| value.cos()).collect();
        backward(&mut engine, &seed);
        engine.gradients()
    };
    let named = gradients(&|engine, seed| engine.backward(&[("fc", seed)]).unwrap());
    assert_eq!(gradients(&|engine, seed| engine.backward_output(seed).unwrap()), named);
    assert!(named["stem.weight"].as_f32().unwrap().iter().any(|&value| value != 0.0));
}

/// A flatten shares the value of the node before it, and the gradient of that value.
#[test]
fn seeds_of_nodes_that_share_a_value_are_added() {
    let model = model(every_op());
    let gradients = |seeds: &[(&str, &[f32])]| {
        let mut engine = Engine::new(&model, Mode::Eval, 2, [12, 10], &["mean", "mean_flat"], &options(2)).unwrap();
        engine.forward(&images(&model, 2)).unwrap();
        engine.backward(seeds).unwrap();
        engine.gradients()
    };
    let (whole, half) = ([1.0; 2 * 28], [0.5; 2 * 28]);
    let expected = gradients(&[("mean", &whole[..])]);
    assert!(expected["stem.weight"].as_f32().unwrap().iter().any(|&value| value != 0.0));
    assert_eq!(gradients(&[("mean_flat", &whole[..])]), expected);
    assert_eq!(gradients(&[("mean", &half[..]), ("mean_flat", &half[..])]), expected);
}

#[test]
fn entries_have_torchs_shapes_and_what_they_are_to_their_ops() {
    let model = model(every_op());
    let mut engine = Engine::new(&model, Mode::Train, 1, [12, 10], &[], &options(1)).unwrap();
    let entries = engine.entries();
    assert!(entries.iter().all(|entry| entry.shape == model.tensors[entry.name.as_str()].shape()));
    let role = |name: &str| entries.iter().find(|entry| entry.name == name).unwrap().role;
    let names = ["stem.weight", "stem.bias", "up.weight", "up.bias", "a_bn.weight", "a_bn.bias", "norm.weight"];
    assert_eq!(
        names.map(role),
        [Role::Weight, Role::Bias, Role::Weight, Role::Bias, Role::NormWeight, Role::NormBias, Role::NormWeight]
    );
    assert_eq!(["norm.bias", "layer.layer_scale"].map(role), [Role::NormBias, Role::LayerScale]);
    let names: Vec<String> = entries.iter().map(|entry| entry.name.clone()).collect();
    let len = engine.parameter_len();
    let flat = engine.flat_mut();
    assert!(flat.entries.iter().map(|entry| &entry.name).eq(&names));
    assert_eq!((flat.values.len(), flat.gradients.len()), (len, len));
    let infer = Engine::new(&model, Mode::Infer, 1, [12, 10], &[], &options(1)).unwrap();
    assert_eq!((infer.entries().len(), infer.parameter_len()), (0, 0));
}

#[test]
fn memory_that_no_machine_has_is_refused_with_its_amount() {
    let model = model(residual_zoo::build("resnet20", 10).unwrap());
    let refuse = |batch: usize| {
        let new = |mode| Engine::new(&model, mode, batch, [32, 32], &[], &options(1)).unwrap_err();
        [Mode::Train, Mode::Infer].map(new)
    };
    // A petabyte, and more than can be counted.
    for batch in [1 << 30, usize::MAX] {
        for error in refuse(batch) {
            let EngineError::Memory { required, .. } = error else { panic!("{error}") };
            assert!(required.total() > 1 << 40, "{required}");
            let text = error.to_string();
            assert!(text.starts_with(&format!("memory: expected {required}, got ")), "{text}");
            assert!(text.ends_with("; a smaller batch size or image size takes less"), "{text}");
        }
    }
    let mib = Memory { values: 3 << 20, packed: 0, workspace: 1500, parameters: 2_500_000_000 };
    assert_eq!(mib.to_string(), "2.5 GB (values 3.1 MB, packed weights 0.0 kB, workspace 1.5 kB, parameters 2.5 GB)");
}

#[test]
fn a_summary_is_that_of_the_engine_and_takes_no_memory() {
    let model = model(every_op());
    for mode in [Mode::Train, Mode::Infer] {
        let summary = PlanSummary::new(&model, mode, 3, [12, 10], &["joined"], &options(2)).unwrap();
        let engine = Engine::new(&model, mode, 3, [12, 10], &["joined"], &options(2)).unwrap();
        assert!(summary.steps().eq(engine.steps()) && summary.steps().count() > 20);
        assert_eq!(summary.memory(), engine.memory());
    }
    let petabyte = PlanSummary::new(&model, Mode::Train, 1 << 34, [12, 10], &[], &options(1)).unwrap();
    assert!(petabyte.memory().total() > 1 << 48);
}

#[test]
fn memory_of_dead_values_is_used_again() {
    let model = model(residual_zoo::build("resnet56", 10).unwrap());
    let bytes = |name: &str, mode| {
        let graph = residual_zoo::build(name, 10).unwrap();
        let tensors = initialise(&graph, Initialisation::Torch, 0);
        let model = Model::new(graph, tensors, model.preprocessing.clone(), Vec::new()).unwrap();
        Engine::new(&model, mode, 64, [32, 32], &[], &options(1)).unwrap().bytes()
    };
    // Inference keeps a few feature maps at a time, however deep the network; its weights, four times as large when
    // transformed, are all that grows.
    let growth = bytes("resnet56", Mode::Infer) - bytes("resnet20", Mode::Infer);
    assert!(growth < 4 * 5 * (855_770 - 272_474), "{growth}");
    assert!(bytes("resnet56", Mode::Train) > 5 * bytes("resnet56", Mode::Infer));
}

#[test]
fn memory_is_known_before_it_is_taken() {
    let model = model(every_op());
    for mode in [Mode::Train, Mode::Eval, Mode::Infer] {
        let outputs = ["joined"];
        let required = Engine::required_memory(&model, mode, 3, [12, 10], &outputs, &options(2)).unwrap();
        let engine = Engine::new(&model, mode, 3, [12, 10], &outputs, &options(2)).unwrap();
        assert_eq!((required, required.total()), (engine.memory(), engine.bytes()));
    }
}

/// Parameters, statistics and gradients after two steps, as bits, and the bytes that took.
fn two_steps(model: &Model, mode: Mode, batch: usize, outputs: &[&str], options: &Options) -> (Vec<u32>, usize) {
    let [_, height, width] = model.graph.input_size();
    let mut engine = Engine::new(model, mode, batch, [height, width], outputs, options).unwrap();
    let mut bits: Vec<u32> = Vec::new();
    for step in 0..2 {
        engine.set_seed(step);
        engine.forward(&images(model, batch)).unwrap();
        let seed: Vec<f32> = engine.output().iter().map(|value| value.sin()).collect();
        engine.backward_output(&seed).unwrap();
        bits.extend(
            outputs.iter().flat_map(|output| engine.node_gradient(output).unwrap()).map(|value| value.to_bits()),
        );
        let flat = engine.flat_mut();
        bits.extend(flat.gradients.iter().map(|value| value.to_bits()));
        flat.values.iter_mut().zip(flat.gradients).for_each(|(value, gradient)| *value -= 1e-3 * *gradient);
    }
    let state = engine.state_dict();
    bits.extend(state.values().filter_map(Tensor::as_f32).flatten().map(|value| value.to_bits()));
    bits.extend(state.values().filter_map(Tensor::as_i64).flatten().map(|&count| count as u32));
    (bits, engine.bytes())
}

#[test]
fn gradient_checkpointing_changes_no_bit() {
    let usual = options(2);
    let again = checkpointed(true, usual.clone());
    let every_op = model(every_op());
    for mode in [Mode::Train, Mode::Eval] {
        for outputs in [&[][..], &["b_add", "joined"], &["a_bn", "gelu", "se", "path", "dropped", "hidden"]] {
            let run = |options| two_steps(&every_op, mode, 4, outputs, options).0;
            assert!(run(&usual) == run(&again), "{mode:?} {outputs:?}");
        }
    }
    for name in ["resnet20", "resnet20_a"] {
        let model = model(residual_zoo::build(name, 10).unwrap());
        let run = |options| two_steps(&model, Mode::Train, 8, &[], options);
        let ((expected, most), (got, least)) = (run(&usual), run(&again));
        assert!(expected == got, "{name}");
        assert!(least < most, "{name}: {least} and {most}");
    }
}

#[test]
fn gradient_checkpointing_takes_less_memory() {
    for (name, batch, share) in [("resnet20", 128, 0.6), ("resnet50", 16, 0.6)] {
        let graph = residual_zoo::build(name, 10).unwrap();
        let [_, height, width] = graph.input_size();
        let model = model(graph);
        let values = |grad_checkpointing| {
            let options = checkpointed(grad_checkpointing, options(1));
            Engine::required_memory(&model, Mode::Train, batch, [height, width], &[], &options).unwrap().values
        };
        let (least, most) = (values(true), values(false));
        assert!((least as f64) < share * most as f64, "{name}: {least} of {most}");
    }
}

#[test]
fn what_was_tuned_decides_the_algorithms_and_results_stay_reproducible() {
    let model = model(residual_zoo::build("resnet20", 10).unwrap());
    let mut tuning = Tuning::default();
    for mode in [Mode::Train, Mode::Infer] {
        Engine::tune(&model, mode, 2, [32, 32], &options(2), &mut tuning).unwrap();
    }
    // Eight different convolutions and a linear layer; three passes of each in training.
    assert_eq!(tuning.iter().count(), 4 * 9);
    let known = tuning.clone();
    Engine::tune(&model, Mode::Train, 2, [32, 32], &options(1), &mut tuning).unwrap();
    assert_eq!(tuning, known, "what is known is not measured again");
    let tuned = |threads| Options { tuning: Some(Arc::new(known.clone())), ..options(threads) };
    let run = |options: &Options| two_steps(&model, Mode::Train, 2, &[], options).0;
    assert!(run(&tuned(1)) == run(&tuned(3)));

    let mut direct = Tuning::default();
    known.iter().for_each(|&(tuned, _)| direct.insert(tuned, Algorithm::Direct));
    let low = Options { low_memory: true, ..options(2) };
    let direct = Options { tuning: Some(Arc::new(direct)), ..options(2) };
    assert!(run(&direct) == run(&low));
    let bytes = |options| Engine::required_memory(&model, Mode::Infer, 2, [32, 32], &[], options).unwrap();
    assert_eq!(bytes(&direct), bytes(&low));
}

#[test]
fn what_would_be_read_in_the_wrong_order_is_refused() {
    let mut net = Builder::new("flat", [3, 4, 4]);
    let flat = net.flatten("flatten", net.input()).unwrap();
    let flat = net.relu("relu", flat).unwrap();
    let norm = net.batch_norm("norm", flat).unwrap();
    let model = model(net.finish(norm).unwrap());
    let error = Engine::new(&model, Mode::Infer, 1, [4, 4], &[], &options(1)).unwrap_err().to_string();
    let got = "batch_norm2d of a flattened feature map";
    assert_eq!(error, format!("node \"norm\": expected an op that the engine can run, got {got}"));
}

#[test]
fn windows_whose_places_fit_no_byte_run_forward_only() {
    let mut net = Builder::new("large_window", [2, 20, 20]);
    let pooled = net.max_pool("pool", net.input(), Pool2d::new(17, 1, 0)).unwrap();
    let model = model(net.finish(pooled).unwrap());
    let new = |mode| Engine::new(&model, mode, 1, [20, 20], &[], &options(1));
    new(Mode::Infer).unwrap().forward(&[0.0; 800]).unwrap();
    assert!(new(Mode::Train).unwrap_err().to_string().contains("windows of more than 256 pixels"));
}

/// A chain that ends in a max pooling of a large map, and what comes before it.
#[test]
fn a_max_pooling_keeps_a_byte_an_output_instead_of_its_input() {
    let mut net = Builder::new("pooled", [4, 32, 32]);
    let x = net.conv("a", net.input(), Conv2d::new(4, 4, 1)).unwrap();
    let x = net.push("sigmoid", Op::Sigmoid, &[x]).unwrap();
    let y = net.add("twice", x, x).unwrap();
    let y = net.max_pool("pool", y, Pool2d::new(2, 2, 0)).unwrap();
    let y = net.conv("b", y, Conv2d::new(4, 4, 1)).unwrap();
    let model = model(net.finish(y).unwrap());
    let memory = Engine::required_memory(&model, Mode::Train, 1, [32, 32], &[], &options(1)).unwrap();
    // In the backward pass there are the image, the sigmoid's value and the gradients of both; never the sum too.
    let map = 4 * 4 * 32 * 32;
    assert!(memory.values < 5 * map, "{} of {map}", memory.values);
}

#[test]
fn kept_nodes_report_their_shape() {
    let model = model(every_op());
    let engine = Engine::new(&model, Mode::Infer, 1, [12, 10], &["joined"], &options(1)).unwrap();
    let shape = engine.node_shape("joined").unwrap();
    assert_eq!([shape.height, shape.width, shape.channels], [6, 5, 28]);
    assert_eq!(engine.node_value("max"), None);
    assert_eq!(model.graph.find("input"), Some(NodeId(0)));
}
