//! Inference and training with bf16: close to floats on every graph, the same bits for any number of threads, in half the memory.

use crate::support;

use residual_engine::{Elements, Engine, GradientOptions, InferenceOptions, Mode, Options};
use residual_kernels::Isa;
use residual_model::Model;
use residual_threads::Pool;
use std::sync::Arc;
use support::{checkpointed, every_op, images, model, options, wide};

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

fn trained_in_bf16(options: Options) -> Options {
    let gradients = GradientOptions { elements: Elements::Bf16, ..options.gradients };
    Options { gradients, ..options }
}

/// The option of inference is of inference alone.
#[test]
fn plans_with_gradients_have_their_own_option() {
    let model = model(residual_zoo::build("resnet20", 10).unwrap());
    let x = images(&model, 2);
    let run = |options: Options| {
        let mut engine = Engine::new(&model, Mode::Eval, 2, [32, 32], &[], &options).unwrap();
        engine.forward(&x).unwrap();
        engine.output().to_vec()
    };
    assert_eq!(run(options(1)), run(in_bf16(options(1))));
    assert_ne!(run(options(1)), run(trained_in_bf16(options(1))));
}

/// The gradients of two steps, the loss being a fixed product of the outputs.
fn gradients(model: &Model, mode: Mode, batch: usize, outputs: &[&str], options: &Options) -> Vec<f32> {
    let [_, height, width] = model.graph.input_size();
    let mut engine = Engine::new(model, mode, batch, [height, width], outputs, options).unwrap();
    let mut all = Vec::new();
    for step in 0..2 {
        engine.set_seed(step);
        engine.forward(&images(model, batch)).unwrap();
        let seed = |len: usize| (0..len).map(|i| ((i * 7 + 3) % 11) as f32 / 11.0 - 0.4).collect::<Vec<_>>();
        let mut seeds = vec![(engine.output_name().to_owned(), seed(engine.output().len()))];
        seeds.extend(outputs.iter().map(|&name| (name.to_owned(), seed(engine.node_value(name).unwrap().len()))));
        let seeds: Vec<(&str, &[f32])> = seeds.iter().map(|(name, seed)| (name.as_str(), &seed[..])).collect();
        engine.backward(&seeds).unwrap();
        all.extend_from_slice(engine.flat_mut().gradients);
        outputs.iter().for_each(|name| all.extend_from_slice(engine.node_gradient(name).unwrap()));
    }
    all
}

/// A small network of every family: those whose gradients are compared with PyTorch's.
fn families(size: usize) -> Vec<Model> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let descriptions = files.filter(|path| path.extension().is_some_and(|extension| extension == "json"));
    let family = |path: std::path::PathBuf| {
        let golden: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        let text = format!("{}image_size = {size}\nnum_classes = 5\n", golden["description"].as_str()?);
        Some(model(residual_zoo::from_toml(&text).unwrap().graph().unwrap()))
    };
    descriptions.filter_map(family).collect()
}

/// With running statistics each gradient has the error of its roundings. Batch statistics of a few values amplify any rounding from
/// layer to layer, which leaves the direction.
#[test]
fn gradients_are_those_of_floats_within_the_rounding() {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    for model in families(64).into_iter().chain([model(every_op()), model(wide())]) {
        let name = &model.graph.name;
        let least = if name == "googlenet" { 0.4 } else { 0.85 };
        for (mode, batch) in [(Mode::Eval, 2), (Mode::Train, 8)] {
            let floats = gradients(&model, mode, batch, &[], &options(2));
            let halves = gradients(&model, mode, batch, &[], &trained_in_bf16(options(2)));
            let error: Vec<f32> = floats.iter().zip(&halves).map(|(a, b)| a - b).collect();
            let relative = (dot(&error, &error) / dot(&floats, &floats)).sqrt();
            let cosine = dot(&floats, &halves) / (dot(&floats, &floats) * dot(&halves, &halves)).sqrt();
            assert!(relative > 0.0, "{name} {mode:?}");
            assert!(mode == Mode::Train || relative < 0.04, "{name}: {relative}");
            assert!(cosine > least, "{name} {mode:?}: {cosine}");
        }
    }
}

#[test]
fn every_instruction_set_has_these_gradients() {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    let wrn = residual_zoo::build("wrn16_4", 10).unwrap();
    for model in [model(every_op()), model(wide()), model(wrn)] {
        for isa in Isa::available() {
            let on = |threads: usize| Options::new(isa, Arc::new(Pool::new(threads)));
            let floats = gradients(&model, Mode::Eval, 2, &[], &on(2));
            let halves = gradients(&model, Mode::Eval, 2, &[], &trained_in_bf16(on(2)));
            let error: Vec<f32> = floats.iter().zip(&halves).map(|(a, b)| a - b).collect();
            let relative = (dot(&error, &error) / dot(&floats, &floats)).sqrt();
            let name = &model.graph.name;
            assert!(relative > 0.0 && relative < 0.04, "{name} on {}: {relative}", isa.name());
            let one = gradients(&model, Mode::Eval, 2, &[], &trained_in_bf16(on(1)));
            assert!(halves == one, "{name} on {}: two threads against one", isa.name());
        }
    }
}

#[test]
fn gradients_are_the_same_bits_on_any_number_of_threads_and_with_recomputation() {
    let mut models = families(32);
    models.extend([model(every_op()), model(wide())]);
    for model in models {
        let bits = |options: Options| {
            let all = gradients(&model, Mode::Train, 4, &[], &trained_in_bf16(options));
            all.iter().map(|value| value.to_bits()).collect::<Vec<_>>()
        };
        let expected = bits(options(1));
        let name = &model.graph.name;
        assert!(bits(options(3)) == expected, "{name}: three threads against one");
        assert!(bits(checkpointed(true, options(2))) == expected, "{name}: recomputed");
    }
}

/// A kept value and its gradient are floats.
#[test]
fn nodes_that_are_kept_have_values_and_gradients() {
    let model = model(every_op());
    let kept = ["pre_bn", "b", "max", "joined", "gelu", "d"];
    let floats = gradients(&model, Mode::Eval, 4, &kept, &options(2));
    let halves = gradients(&model, Mode::Eval, 4, &kept, &trained_in_bf16(options(2)));
    let again = gradients(&model, Mode::Eval, 4, &kept, &checkpointed(true, trained_in_bf16(options(2))));
    assert!(halves == again, "recomputed");
    let scale = floats.iter().fold(0.0f32, |scale, value| scale.max(value.abs()));
    assert!(floats.iter().zip(&halves).all(|(a, b)| (a - b).abs() < 0.05 * scale));
}

#[test]
fn training_in_bf16_takes_less_memory() {
    let model = model(residual_zoo::build("resnet18", 10).unwrap());
    let memory = |options: Options| Engine::required_memory(&model, Mode::Train, 8, [96, 96], &[], &options).unwrap();
    let (floats, halves) = (memory(options(1)), memory(trained_in_bf16(options(1))));
    assert!(halves.values < floats.values * 55 / 100, "{halves:?}, {floats:?}");
}
