//! Parity with PyTorch: logits, loss, gradients, running statistics and ten training steps of networks whose weights a
//! formula gives. `golden/make_golden.py` states the formula and made the files.
//!
//! An instruction set that this machine lacks is skipped, and says so, unless `RESIDUAL_REQUIRE_ISA` names it.

use residual_engine::{Engine, Mode, Options};
use residual_graph::{Graph, Op, Role};
use residual_kernels::Isa;
use residual_kernels::loss::{Targets, cross_entropy};
use residual_kernels::optim::{Sgd, sgd};
use residual_model::Model;
use residual_preprocess::Preprocessing;
use residual_tensor::{NamedTensors, Tensor};
use residual_threads::Pool;
use serde_json::Value;
use std::path::Path;
use std::sync::Arc;

/// Logits and losses, relative to the largest logit or to the loss.
const VALUE: f64 = 1e-4;
/// Gradients whose norm is below this share of the largest are held to it instead.
const ZERO: f64 = 1e-3;
/// Gradients, relative to their norm (entries: to the norm over the root of their number, times four). A ReLU's input within rounding of
/// zero may fall on the other side. With FMA one of ResNet-50's does, which moves its layer's own gradients by 1.1e-3. With AVX-512
/// some of GoogLeNet's do: noise of the size of rounding moves its gradients by 1.2e-2, says its file under `deviation`.
fn gradient_tolerance(model: &str, isa: Isa) -> f64 {
    match (model, isa.name()) {
        ("resnet50", _) => 2e-3,
        ("googlenet", "avx512") => 2e-2,
        _ => 1e-3,
    }
}

macro_rules! stamp {
    ($($model:ident)*) => {
        stamp!(@ portable $($model)*);
        stamp!(@ avx2 $($model)*);
        stamp!(@ avx512 $($model)*);
    };
    (@ $isa:ident $($model:ident)*) => {
        /// Is PyTorch's: the network of this name, or a small one of the family.
        mod $isa {
            $(#[test]
            fn $model() {
                super::on(stringify!($isa), stringify!($model));
            })*
        }
    };
}
stamp!(
    resnet20 resnet20_a resnet18 resnet50
    resnet_d seresnet resnext wide_resnet resnetv2 convnext vgg_bn densenet googlenet
    preact_resnet wrn plain cifar_resnext lecture_resnet nasbench201
);

fn on(isa: &str, model: &str) {
    match Isa::from_name(isa) {
        Ok(isa) => Golden::read(model).check(isa),
        Err(error) => {
            let required = std::env::var("RESIDUAL_REQUIRE_ISA").unwrap_or_default();
            assert!(!required.split(',').any(|required| required == isa), "{error}");
            eprintln!("skipped: {error}");
        }
    }
}

fn hash(tensor: u64, index: u64) -> u64 {
    splitmix64(tensor << 32 | index)
}

fn splitmix64(x: u64) -> u64 {
    let z = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}

/// Uniform in [-1, 1), exact.
fn uniform(tensor: u64, index: u64) -> f32 {
    (hash(tensor, index) >> 40) as f32 * (1.0 / (1 << 23) as f32) - 1.0
}

/// The formula's weights.
fn formula(graph: &Graph, level: f32) -> NamedTensors {
    let mut tensors = NamedTensors::new();
    for node in graph.state_order().into_iter().map(|id| graph.node(id)) {
        for spec in node.op.parameters() {
            let t = tensors.len() as u64;
            let len: usize = spec.shape.iter().product();
            let fan_in = spec.shape[1.min(spec.shape.len())..].iter().product::<usize>() as f64;
            let element = |i: u64| -> f32 {
                let u = uniform(t, i);
                match (&node.op, spec.name) {
                    (Op::Conv2d(_), "weight") => u * (6.0 / fan_in).sqrt() as f32,
                    (Op::Conv2d(conv), _) => {
                        let fan_in = conv.in_channels / conv.groups * conv.kernel[0] * conv.kernel[1];
                        u * (1.0 / (fan_in as f64).sqrt()) as f32
                    }
                    (Op::Linear { .. }, "weight") => u * (4.0 / fan_in.sqrt()) as f32,
                    (Op::Linear { in_features, .. }, _) => u * (1.0 / (*in_features as f64).sqrt()) as f32,
                    (Op::LayerNorm { .. }, "weight") => 1.0 + 0.25 * u,
                    (Op::LayerNorm { .. }, _) => 0.25 * u,
                    (Op::LayerScale { .. }, _) => 0.5 + 0.125 * u,
                    (_, "weight") => 0.0625 + 0.015_625 * u,
                    (_, "bias") => (if i % 8 == 7 { -level } else { level }) + 0.015_625 * u,
                    (_, "running_mean") => 0.015_625 * u,
                    (_, "running_var") => 0.03125 + 0.007_812_5 * u,
                    (op, name) => panic!("no formula for {name} of {op:?}"),
                }
            };
            let tensor = match spec.role {
                Role::Counter => Tensor::i64(&[], vec![0]),
                _ => Tensor::f32(&spec.shape, (0..len as u64).map(element).collect()),
            };
            tensors.insert(node.key(spec.name), tensor);
        }
    }
    tensors
}

fn floats(value: &Value) -> Vec<f64> {
    value.as_array().expect("a list").iter().map(|v| v.as_f64().expect("a number")).collect()
}

fn norm(values: &[f32]) -> f64 {
    values.iter().map(|&v| f64::from(v) * f64::from(v)).sum::<f64>().sqrt()
}

struct Golden {
    file: Value,
    model: Model,
    images: Vec<f32>,
    labels: Vec<u32>,
    batch: usize,
    size: [usize; 2],
    classes: usize,
}

impl Golden {
    fn read(name: &str) -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/{name}.json"));
        let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let file: Value = serde_json::from_str(&text).expect("JSON");
        let classes = file["classes"].as_u64().expect("a number") as usize;
        let [batch, channels, height, width] = floats(&file["batch"])[..] else { panic!("four extents") };
        let [n, c, h, w] = [batch as usize, channels as usize, height as usize, width as usize];
        let graph = match file["description"].as_str() {
            None => residual_zoo::build(name, classes).expect("a known model"),
            Some(text) => {
                let mut config = residual_zoo::from_toml(text).expect("a description");
                (config.num_classes, config.image_size) = (classes, [h, w]);
                config.graph().expect("a network")
            }
        };
        let tensors = formula(&graph, file["bn_bias_level"].as_f64().expect("a number") as f32);
        let preprocessing = Preprocessing::unscaled([h, w], &[0.0; 3], &[1.0; 3]);
        let model = Model::new(graph, tensors, preprocessing, Vec::new()).expect("the formula gives every tensor");
        // NCHW indices in NHWC order.
        let mut images = Vec::with_capacity(n * c * h * w);
        for image in 0..n {
            for pixel in 0..h * w {
                for channel in 0..c {
                    let i = ((image * c + channel) * h * w + pixel) as u64;
                    images.push(0.125 * uniform(1 << 20, i) + 0.25 * uniform((1 << 20) + 1, i >> 8));
                }
            }
        }
        let labels = (0..n).map(|i| ((7 * i + 3) % classes) as u32).collect();
        Self { file, model, images, labels, batch: n, size: [h, w], classes }
    }

    fn engine(&self, isa: Isa, mode: Mode, model: &Model) -> Engine {
        let options = Options::new(isa, Arc::new(Pool::new(2)));
        Engine::new(model, mode, self.batch, self.size, &[], &options).expect("a plan")
    }

    fn check(&self, isa: Isa) {
        let mut infer = self.engine(isa, Mode::Infer, &self.model);
        infer.forward(&self.images).unwrap();
        self.check_logits(&infer, "eval", "folded and fused");

        let mut frozen = self.engine(isa, Mode::Eval, &self.model);
        self.check_pass(isa, &mut frozen, "eval", "frozen_gradients");

        let mut train = self.engine(isa, Mode::Train, &self.model);
        self.check_pass(isa, &mut train, "train", "train_gradients");
        self.check_running(&train.state_dict());

        for run in self.file["steps"].as_array().expect("a list") {
            self.check_steps(isa, run);
        }
    }

    fn check_logits(&self, engine: &Engine, mode: &str, what: &str) {
        let expected = floats(&self.file[format!("{mode}_logits")]);
        close(engine.output(), &expected, VALUE, &format!("{mode} logits, {what}"));
    }

    /// Forward, loss and backward against the file.
    fn check_pass(&self, isa: Isa, engine: &mut Engine, mode: &str, gradients: &str) {
        let start = engine.state_dict();
        for (key, smoothing) in [("smoothing_0.1", 0.1), ("smoothing_0", 0.0)] {
            engine.load_state_dict(&start).unwrap();
            engine.forward(&self.images).unwrap();
            self.check_logits(engine, mode, "as trained");
            let loss = self.backward(engine, smoothing);
            let expected = self.file[format!("{mode}_loss")][key].as_f64().expect("a number");
            assert!((loss - expected).abs() <= VALUE * expected, "{mode} loss, {key}: {expected}, got {loss}");
        }
        let got = engine.gradients();
        let expected = self.file[gradients].as_object().expect("a map");
        let norms = expected.values().map(|gradient| gradient["norm"].as_f64().expect("a number"));
        // Biases that a batch norm takes away again have a gradient of zero, and rounding in its place.
        let least = ZERO * norms.fold(0.0, f64::max);
        for (name, expected) in expected {
            let tolerance = gradient_tolerance(&self.model.graph.name, isa);
            check_gradient(&format!("{gradients}: {name}"), expected, &got[name.as_str()], tolerance, least);
        }
        assert_eq!(got.len(), self.file[gradients].as_object().expect("a map").len());
    }

    fn backward(&self, engine: &mut Engine, smoothing: f32) -> f64 {
        let mut seed = vec![0.0; engine.output().len()];
        let loss =
            cross_entropy(engine.output(), Targets::Hard(&self.labels), self.classes, smoothing, Some(&mut seed));
        let output = engine.output_name().to_owned();
        engine.backward(&[(&output, &seed)]).unwrap();
        loss
    }

    fn check_running(&self, state: &NamedTensors) {
        for (name, expected) in self.file["running"].as_object().expect("a map") {
            let got = state[name.as_str()].as_f32().expect("floats");
            let expected_norm = expected["norm"].as_f64().expect("a number");
            assert!((norm(got) - expected_norm).abs() <= VALUE * expected_norm, "{name}: {expected_norm}");
            close(&got[..4], &floats(&expected["first"]), VALUE, name);
        }
    }

    /// Ten steps of gradient descent on the one batch.
    fn check_steps(&self, isa: Isa, run: &Value) {
        let number = |key: &str| run[key].as_f64().expect("a number") as f32;
        let step = Sgd {
            lr: number("lr"),
            momentum: number("momentum"),
            weight_decay: number("weight_decay"),
            nesterov: run["nesterov"].as_bool().expect("a truth value"),
        };
        let mut engine = self.engine(isa, Mode::Train, &self.model);
        let mut velocity = vec![0.0; engine.flat_mut().values.len()];
        for (index, expected) in floats(&run["losses"]).into_iter().enumerate() {
            engine.forward(&self.images).unwrap();
            let loss = self.backward(&mut engine, 0.0);
            assert!((loss - expected).abs() <= VALUE * expected, "loss {index} of {step:?}: {expected}, got {loss}");
            let flat = engine.flat_mut();
            sgd(isa, &Pool::new(1), flat.values, flat.gradients, &mut velocity, &step);
        }
        let state = engine.state_dict();
        assert!(state.values().filter_map(Tensor::as_i64).all(|counter| counter == [10]));
        let trained = Model { tensors: state, ..self.model.clone() };
        let mut infer = self.engine(isa, Mode::Infer, &trained);
        infer.forward(&self.images).unwrap();
        let stride = run["class_stride"].as_u64().expect("a number") as usize;
        let logits: Vec<f32> =
            infer.output().chunks(self.classes).flat_map(|row| row.iter().step_by(stride)).copied().collect();
        close(&logits, &floats(&run["eval_logits"]), VALUE, &format!("logits after ten steps of {step:?}"));
        let expected = run["logits_norm"].as_f64().expect("a number");
        assert!((norm(infer.output()) - expected).abs() <= VALUE * expected);
    }
}

/// Holds values against the file's, relative to the largest.
#[track_caller]
fn close(got: &[f32], expected: &[f64], tolerance: f64, what: &str) {
    assert_eq!(got.len(), expected.len(), "{what}");
    let scale = expected.iter().fold(0.0f64, |scale, value| scale.max(value.abs()));
    for (index, (&got, expected)) in got.iter().zip(expected).enumerate() {
        let error = (f64::from(got) - expected).abs();
        assert!(error <= tolerance * scale, "{what}: at {index}: expected {expected}, got {got}");
    }
}

/// `tolerance` is relative to the gradient's norm, or to `least` if that is more.
fn check_gradient(what: &str, expected: &Value, got: &Tensor, tolerance: f64, least: f64) {
    let (t, got) = (expected["index"].as_u64().expect("a number"), got.as_f32().expect("floats"));
    let expected_norm = expected["norm"].as_f64().expect("a number");
    let scale = expected_norm.max(least);
    let error = (norm(got) - expected_norm).abs();
    assert!(error <= tolerance * scale, "{what}: norm {expected_norm}, got {}", norm(got));
    let typical = 4.0 * scale / (got.len() as f64).sqrt();
    for (k, expected) in floats(&expected["entries"]).into_iter().enumerate() {
        let index = splitmix64(t << 32 | (0xfeed_0000 + k as u64)) % got.len() as u64;
        let got = f64::from(got[index as usize]);
        assert!((got - expected).abs() <= tolerance * typical, "{what}[{index}]: {expected}, got {got}");
    }
    for (k, expected) in floats(&expected["projections"]).into_iter().enumerate() {
        let sign = |i: usize| if hash(t, i as u64) >> k & 1 == 1 { 1.0 } else { -1.0 };
        let got: f64 = got.iter().enumerate().map(|(i, &g)| f64::from(g) * sign(i)).sum();
        assert!((got - expected).abs() <= tolerance * scale, "{what}: projection {k}: {expected}, got {got}");
    }
}
