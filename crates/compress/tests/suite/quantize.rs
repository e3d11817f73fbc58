//! Quantised networks keep what the ones of floats compute, on a real network where there is one.

use residual_compress::{
    Calibration, CalibrationImages, CompressError, Outcome, QuantizeOptions, RangeMethod, Rounding, Scheme,
};
use residual_data::{Dataset, Source, Split, Subset};
use residual_engine::{Engine, Mode, Options};
use residual_graph::Op;
use residual_infer::{EvaluateOptions, evaluate};
use residual_kernels::Isa;
use residual_model::{Initialisation, Model, WeightBits, initialise};
use residual_preprocess::Preprocessing;
use residual_tensor::{Stream, Tensor};
use residual_threads::Pool;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

fn options(threads: usize) -> QuantizeOptions {
    QuantizeOptions {
        scheme: Scheme::Static,
        rounding: Rounding::Nearest,
        seed: 0,
        method: RangeMethod::Mse,
        bias_correction: false,
        equalize: false,
        engine: Options::new(Isa::detect(), Arc::new(Pool::new(threads))),
    }
}

/// A small network with uneven channels.
fn model() -> Model {
    let graph = residual_zoo::build("resnet20", 10).unwrap();
    let mut tensors = initialise(&graph, Initialisation::Torch, 1);
    for (index, (_, tensor)) in tensors.iter_mut().filter(|(key, _)| key.ends_with("bn1.weight")).enumerate() {
        let mut stream = Stream::new(2, &[index as u64]);
        tensor.as_f32_mut().unwrap().iter_mut().for_each(|weight| *weight = (3.0 * stream.normal()).exp2());
    }
    Model::new(graph, tensors, Preprocessing::unscaled([32, 32], &[0.5; 3], &[0.25; 3]), Vec::new()).unwrap()
}

fn noise(images: usize) -> CalibrationImages {
    let mut stream = Stream::new(4, &[]);
    let len = 32 * 32 * 3;
    CalibrationImages::new((0..images * len).map(|_| stream.normal()).collect(), len).unwrap()
}

fn calibrate(model: &Model, images: &CalibrationImages, options: &QuantizeOptions) -> Calibration {
    Calibration::new(model, images, options, &AtomicBool::new(false), &mut |_| ()).unwrap().unwrap()
}

fn logits(model: &Model) -> Vec<f32> {
    let options = options(2).engine;
    let mut engine = Engine::new(model, Mode::Infer, 16, [32, 32], &[], &options).unwrap();
    let mut stream = Stream::new(5, &[]);
    engine.forward(&(0..16 * 32 * 32 * 3).map(|_| stream.normal()).collect::<Vec<f32>>()).unwrap();
    engine.output().to_vec()
}

/// The squared error of the logits over their variance.
fn error(exact: &[f32], other: &[f32]) -> f32 {
    let mean = exact.iter().sum::<f32>() / exact.len() as f32;
    let variance: f32 = exact.iter().map(|x| (x - mean).powi(2)).sum();
    exact.iter().zip(other).map(|(x, y)| (x - y).powi(2)).sum::<f32>() / variance
}

#[test]
fn every_method_keeps_the_logits_and_the_number_of_threads_changes_nothing() {
    let (model, images) = (model(), noise(32));
    let exact = logits(&model);
    for method in [RangeMethod::MinMax, RangeMethod::Percentile(99.99), RangeMethod::Mse, RangeMethod::Entropy] {
        let [one, two] = [1, 3].map(|threads| {
            let options = QuantizeOptions { method, bias_correction: true, equalize: true, ..options(threads) };
            calibrate(&model, &images, &options).model(&[]).unwrap()
        });
        assert_eq!(one, two, "{method}");
        let error = error(&exact, &logits(&one));
        assert!(error < 0.03, "{method}: {error}");
    }
}

#[test]
fn weights_alone_leave_values_in_f32_and_need_no_ranges() {
    let (model, images) = (model(), noise(8));
    let exact = logits(&model);
    let quantized = |bits, keep: &[String]| {
        let options = QuantizeOptions { scheme: Scheme::WeightsOnly(bits), ..options(2) };
        let model = calibrate(&model, &images, &options).model(keep).unwrap();
        assert!(model.graph.nodes.iter().all(|node| node.op != Op::Quantize));
        model
    };
    let [eight, four] = [WeightBits::Eight, WeightBits::Four].map(|bits| quantized(bits, &[]));
    assert_eq!(eight.graph.nodes.iter().filter(|node| node.op.is_quantized()).count(), 22);
    assert!(four.tensors.values().filter_map(Tensor::as_i8).flatten().all(|value| (-8..8).contains(value)));
    let [eight, four] = [eight, four].map(|model| error(&exact, &logits(&model)));
    assert!(eight < 1e-3 && four < 0.1 && eight < four, "{eight} and {four}");
    let kept = quantized(WeightBits::Four, &["layer1".to_owned(), "conv1".to_owned()]);
    assert!(error(&exact, &logits(&kept)) < four);
}

/// Learning is on other noise than the judgement.
#[test]
fn learned_rounding_keeps_more_than_nearest_on_other_images_and_threads_change_nothing() {
    let (model, images) = (model(), noise(16));
    let exact = logits(&model);
    let quantized = |rounding, threads| {
        let scheme = Scheme::WeightsOnly(WeightBits::Four);
        let options = QuantizeOptions { scheme, rounding, ..options(threads) };
        calibrate(&model, &images, &options).model(&[]).unwrap()
    };
    let nearest = quantized(Rounding::Nearest, 2);
    let [one, two] = [1, 2].map(|threads| quantized(Rounding::AdaRound { steps: 200 }, threads));
    assert_eq!(one, two);
    let [nearest, learned] = [nearest, one].map(|model| error(&exact, &logits(&model)));
    assert!(learned < 0.7 * nearest, "{learned} against {nearest}");
}

#[test]
fn dynamic_quantisation_is_of_linear_layers() {
    let (model, images) = (model(), noise(8));
    let options = QuantizeOptions { scheme: Scheme::Dynamic, ..options(2) };
    let quantized = calibrate(&model, &images, &options).model(&[]).unwrap();
    let nodes = |wanted: fn(&Op) -> bool| -> Vec<&str> {
        let nodes = quantized.graph.nodes.iter().filter(|node| wanted(&node.op));
        nodes.map(|node| node.name.as_str()).collect()
    };
    assert_eq!(nodes(Op::is_quantized), ["fc"]);
    assert_eq!(nodes(Op::quantizes), ["avgpool.quantize"]);
    let error = error(&logits(&model), &logits(&quantized));
    assert!(error > 0.0 && error < 1e-3, "{error}");
}

#[test]
fn equalised_layers_lose_less_where_channels_are_uneven() {
    let (model, images) = (model(), noise(32));
    let exact = logits(&model);
    let [plain, equal] = [false, true].map(|equalize| {
        let options = QuantizeOptions { equalize, method: RangeMethod::MinMax, ..options(2) };
        error(&exact, &logits(&calibrate(&model, &images, &options).model(&[]).unwrap()))
    });
    assert!(equal < plain, "{equal} against {plain}");
}

#[test]
fn the_layers_that_cost_most_come_first_and_cost_nothing_in_f32() {
    let (model, images) = (model(), noise(16));
    let options = options(2);
    let calibration = calibrate(&model, &images, &options);
    let stop = AtomicBool::new(false);
    let damages = calibration.sensitivity(&images, 16, &options.engine, &stop, &mut |_, _| ()).unwrap().unwrap();
    assert_eq!(damages.len(), calibration.layers().len());
    assert!(damages.windows(2).all(|pair| pair[0].noise >= pair[1].noise));
    let exact = logits(&model);
    let kept: Vec<String> = damages.iter().take(10).map(|damage| damage.layer.clone()).collect();
    let [all, some] = [&[][..], &kept].map(|keep| error(&exact, &logits(&calibration.model(keep).unwrap())));
    assert!(some < all, "{some} against {all}");
    let mut steps = Vec::new();
    let note = &mut |count, agreement| steps.push((count, agreement));
    let fallback = calibration.fallback(&damages, &images, 0.0, &options.engine, &stop, note).unwrap().unwrap();
    // As few as agree most, of those that were tried one after the other.
    let best = steps.iter().map(|(_, agreement)| *agreement).fold(0.0, f64::max);
    assert_eq!(steps.iter().find(|(_, agreement)| *agreement == best).unwrap().0, fallback.len());
    assert!(fallback.iter().zip(&damages).all(|(name, damage)| *name == damage.layer));
}

#[test]
fn what_cannot_be_quantised_is_refused() {
    let (model, images) = (model(), noise(2));
    let calibration = calibrate(&model, &images, &options(1));
    let refused = |keep: &[&str]| {
        let keep: Vec<String> = keep.iter().map(|name| (*name).to_owned()).collect();
        calibration.model(&keep).unwrap_err()
    };
    assert_eq!(
        refused(&["layer9"]).to_string(),
        "keep in f32: expected a layer or module of the network, got \"layer9\""
    );
    assert!(matches!(refused(&["conv1", "layer1", "layer2", "layer3", "fc"]), CompressError::NoLayers));
    let again = calibration.model(&["layer1".to_owned()]).unwrap();
    let refused = Calibration::new(&again, &images, &options(1), &AtomicBool::new(false), &mut |_| ());
    assert!(matches!(refused, Err(CompressError::Quantized)));
    let stopped = Calibration::new(&model, &images, &options(1), &AtomicBool::new(true), &mut |_| ());
    assert!(stopped.unwrap().is_none());
    let infinite = CalibrationImages::new(vec![f32::INFINITY; 32 * 32 * 3], 32 * 32 * 3).unwrap();
    let refused = Calibration::new(&model, &infinite, &options(1), &AtomicBool::new(false), &mut |_| ());
    assert!(refused.unwrap_err().to_string().starts_with("node \"input\": expected finite values"));
}

/// The published network of `akamaster`, calibrated on 512 training images, on the first 2,000 test images.
#[test]
fn a_published_network_keeps_its_accuracy() {
    let Some(data) = std::env::var_os("RESIDUAL_TEST_DATA").map(PathBuf::from) else {
        assert!(std::env::var_os("RESIDUAL_REQUIRE_DATA").is_none(), "RESIDUAL_TEST_DATA is required");
        eprintln!("skipped: RESIDUAL_TEST_DATA is not set");
        return;
    };
    let file = data.join("akamaster/resnet20-12fca82f.th");
    let graph = residual_zoo::build("resnet20_a", 10).unwrap();
    let preprocessing = Preprocessing::unscaled([32, 32], &[0.485, 0.456, 0.406], &[0.229, 0.224, 0.225]);
    let model = residual_weights::load_into(&file, &graph, preprocessing, Vec::new()).unwrap();
    let source = Source::open("cifar10", Some(&data.join("cifar-10-batches-bin"))).unwrap();
    let part = |split, count: usize| -> Arc<dyn Dataset> {
        Arc::new(Subset::new(source.split(split).unwrap(), (0..count).collect()))
    };
    let stop = AtomicBool::new(false);
    let images =
        CalibrationImages::load(&model, &part(Split::Train, 512), 0, false, &stop, &mut |_, _| ()).unwrap().unwrap();
    let options = options(2);
    let quantized = calibrate(&model, &images, &options).model(&[]).unwrap();
    let evaluate_options = EvaluateOptions { engine: options.engine.clone(), ..EvaluateOptions::default() };
    let test = part(Split::Test, 2000);
    let judge = |model| evaluate(model, &test, &evaluate_options, &stop, &mut |_, _| ()).unwrap().unwrap();
    let [before, after] = [&model, &quantized].map(judge);
    let outcome = Outcome::new("w".into(), 1, &quantized).unwrap().judged(&before, &after, &options.engine);
    let drop = outcome.drop().unwrap();
    assert!(drop < 0.5 && outcome.images == 2000, "{outcome:?}");
    let [low, high] = outcome.interval.unwrap();
    assert!(low <= -drop && -drop <= high, "{outcome:?}");
}
