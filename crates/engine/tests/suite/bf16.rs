//! Inference with bf16: close to floats on every graph, the same bits for any number of threads, in half the memory.

use crate::support;

use residual_engine::{Elements, Engine, InferenceOptions, Mode, Options};
use residual_kernels::Isa;
use residual_threads::Pool;
use std::sync::Arc;
use support::{every_op, images, model, options, wide};

fn in_bf16(options: Options) -> Options {
    Options { inference: InferenceOptions { elements: Elements::Bf16, ..options.inference }, ..options }
}

#[test]
fn logits_are_those_of_floats_within_the_rounding() {
    let names = ["resnet20_a", "wrn16_4", "plain20"];
    let zoo = names.into_iter().map(|name| residual_zoo::build(name, 10).unwrap());
    for graph in [every_op(), wide()].into_iter().chain(zoo) {
        let model = model(graph);
        let [_, height, width] = model.graph.input_size();
        let x = images(&model, 3);
        for isa in Isa::available() {
            let run = |options: Options| {
                let mut engine = Engine::new(&model, Mode::Infer, 3, [height, width], &[], &options).unwrap();
                engine.forward(&x).unwrap();
                engine.output().to_vec()
            };
            let on = |threads: usize| Options::new(isa, Arc::new(Pool::new(threads)));
            let (floats, halves) = (run(on(1)), run(in_bf16(on(1))));
            let name = &model.graph.name;
            let size = |values: &[f32]| values.iter().map(|x| x * x).sum::<f32>().sqrt();
            let error: Vec<f32> = floats.iter().zip(&halves).map(|(a, b)| a - b).collect();
            let relative = size(&error) / size(&floats);
            assert!(relative > 0.0 && relative < 0.03, "{name} on {}: {relative}", isa.name());
            assert_eq!(halves, run(in_bf16(on(3))), "{name} on {}: three threads against one", isa.name());
        }
    }
}

#[test]
fn weights_packed_on_use_and_without_transforms_are_close_too() {
    let model = model(residual_zoo::build("wrn16_4", 10).unwrap());
    let x = images(&model, 2);
    let run = |options: Options| {
        let mut engine = Engine::new(&model, Mode::Infer, 2, [32, 32], &["layer1.0.conv1"], &options).unwrap();
        engine.forward(&x).unwrap();
        assert_eq!(engine.node_value("layer1.0.conv1").unwrap().len(), 2 * 32 * 32 * 64, "a kept value is floats");
        engine.output().to_vec()
    };
    let expected = run(options(2));
    let scale = expected.iter().fold(0.0f32, |scale, value| scale.max(value.abs()));
    let on_use = InferenceOptions { elements: Elements::Bf16, pack_on_use: true };
    for options in [Options { inference: on_use, ..options(2) }, Options { low_memory: true, ..in_bf16(options(2)) }] {
        assert!(run(options).iter().zip(&expected).all(|(a, b)| (a - b).abs() < 0.03 * scale));
    }
}

#[test]
fn values_and_weights_take_half_the_memory() {
    let model = model(residual_zoo::build("resnet18", 10).unwrap());
    let memory = |options: Options| {
        let options = Options { low_memory: true, ..options };
        Engine::new(&model, Mode::Infer, 2, [96, 96], &[], &options).unwrap().memory()
    };
    let (floats, halves) = (memory(options(1)), memory(in_bf16(options(1))));
    assert!(halves.packed < floats.packed * 51 / 100, "{halves:?}, {floats:?}");
    assert!(halves.values < floats.values * 6 / 10, "{halves:?}, {floats:?}");
}

/// Gradients need floats: the option is of inference alone.
#[test]
fn plans_with_gradients_stay_in_floats() {
    let model = model(residual_zoo::build("resnet20", 10).unwrap());
    let x = images(&model, 2);
    let run = |options: Options| {
        let mut engine = Engine::new(&model, Mode::Eval, 2, [32, 32], &[], &options).unwrap();
        engine.forward(&x).unwrap();
        engine.output().to_vec()
    };
    assert_eq!(run(options(1)), run(in_bf16(options(1))));
}
