//! Parity with captum, pytorch-grad-cam and scikit-learn: `golden/make_golden.py` says what its files hold.

use residual_engine::Options;
use residual_explain::{
    ExplainError, Explainer, Map, Method, MethodOptions, Occlusion, Target, TsneOptions, default_layer, faithfulness,
    tsne,
};
use residual_infer::probabilities;
use residual_model::Model;
use residual_preprocess::Preprocessing;
use residual_tensor::{NamedTensors, Tensor};
use residual_weights::load_tensors;
use std::path::{Path, PathBuf};

/// Maps, relative to the largest magnitude of the map.
const TOLERANCE: f32 = 1e-4;

const TINY: &str = "family = \"cifar_resnet\"\nname = \"tiny\"\ndepths = [1, 1, 1]\nwidths = [4, 6, 8]\n\
                    shortcut = \"padding\"\nimage_size = [24, 20]\nnum_classes = 5\n";

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

/// Images n × c × h × w as n × h × w × c.
fn nhwc(images: &Tensor) -> Vec<f32> {
    let &[count, channels, height, width] = images.shape() else { panic!("images") };
    let values = images.as_f32().unwrap();
    let pixels = (0..count).flat_map(|n| (0..height * width).map(move |pixel| (n, pixel)));
    let channel = |(n, pixel)| (0..channels).map(move |c| values[(n * channels + c) * height * width + pixel]);
    pixels.flat_map(channel).collect()
}

/// The tiny network, and its images.
fn tiny() -> (Model, Vec<f32>, NamedTensors) {
    let (golden, _) = load_tensors(&golden("tiny.safetensors")).unwrap();
    let graph = residual_zoo::from_toml(TINY).unwrap().graph().unwrap();
    let tensor = |(key, spec): (String, residual_graph::ParameterSpec)| {
        let tensor = golden.get(&format!("weights.{key}")).cloned();
        (key, tensor.unwrap_or_else(|| Tensor::i64(&spec.shape, vec![0])))
    };
    let tensors = graph.parameters().map(tensor).collect();
    let preprocessing = Preprocessing::unscaled([24, 20], &[0.0; 3], &[1.0; 3]);
    let model = Model::new(graph, tensors, preprocessing, Vec::new()).unwrap();
    let images = nhwc(&golden["images"]);
    (model, images, golden)
}

/// Checks every map of the golden file against ours, computed with `batch` images at a time.
fn check(model: &Model, images: &[f32], golden: &NamedTensors, batch: usize) {
    let classes = |name: &str| golden[name].as_f32().unwrap().iter().map(|&class| class as usize).collect::<Vec<_>>();
    let targets: Vec<Target> = classes("targets").into_iter().map(Target::Class).collect();
    let contrasts = targets.iter().zip(classes("against"));
    let contrasts: Vec<Target> =
        contrasts.map(|(target, against)| Target::Contrast { class: target.class(), against }).collect();
    let options = MethodOptions { occlusion: Some(Occlusion { window: 5, stride: 3 }), ..MethodOptions::default() };
    let maps = |name: &str, layers: &[&str], targets: &[Target]| {
        let method = Method::from_name(name).unwrap();
        let mut explainer = Explainer::new(model, method, layers, options, batch, &Options::threads(2)).unwrap();
        let maps = explainer.maps(images, targets).unwrap();
        let logits = explainer.network().logits(images).unwrap();
        close("logits", &logits, golden["logits"].as_f32().unwrap());
        maps
    };
    let compare = |golden_name: &str, maps: &[Map]| {
        let expected = golden[golden_name].as_f32().unwrap();
        assert_eq!(expected.len(), maps.iter().map(|map| map.values.len()).sum::<usize>());
        for (map, expected) in maps.iter().zip(expected.chunks_exact(expected.len() / maps.len())) {
            close(golden_name, &map.values, expected);
        }
    };
    for (_, method) in Method::NAMES.iter().filter(|(_, method)| *method != Method::SmoothGrad) {
        compare(method.name(), &maps(method.name(), &[], &targets));
    }
    compare("grad-cam.layers", &maps("grad-cam", &["layer2", "layer3"], &targets));
    compare("grad-cam.contrast", &maps("grad-cam", &["layer3"], &contrasts));
    // Without noise SmoothGrad is the gradient itself.
    let quiet = MethodOptions { noise: 0.0, samples: 2, ..options };
    let mut smooth = Explainer::new(model, Method::SmoothGrad, &[], quiet, batch, &Options::threads(1)).unwrap();
    compare("saliency", &smooth.maps(images, &targets).unwrap());

    let len = images.len() / targets.len();
    for (index, map) in maps("grad-cam", &[], &targets).iter().enumerate() {
        let &[mean, deviation] = &golden["road"].as_f32().unwrap()[2 * index..2 * index + 2] else { panic!() };
        let image = &images[index * len..][..len];
        let scores = faithfulness(smooth.network(), image, targets[index], map, 16, 3).unwrap();
        let error = (scores.road as f32 - mean).abs();
        assert!(error <= 4.0 * deviation + 1e-3 * mean.abs(), "ROAD {}: {mean} ± {deviation}", scores.road);
        assert!((0.0..=1.0).contains(&scores.insertion) && (0.0..=1.0).contains(&scores.deletion));
    }
}

fn close(what: &str, got: &[f32], expected: &[f32]) {
    assert_eq!(got.len(), expected.len(), "{what}");
    let scale = expected.iter().fold(0.0f32, |max, value| max.max(value.abs()));
    let error = got.iter().zip(expected).fold(0.0f32, |max, (a, b)| max.max((a - b).abs()));
    assert!(scale > 0.0 && error <= TOLERANCE * scale, "{what}: {error} of {scale}");
}

#[test]
fn maps_and_their_scores_are_captums_and_pytorch_grad_cams() {
    let (model, images, golden) = tiny();
    assert_eq!(default_layer(&model).unwrap(), "layer3.0.relu2");
    check(&model, &images, &golden, 16);
    // More points and windows than a batch has room for.
    check(&model, &images, &golden, 1);
}

/// The same on a trained network and photographs, which are not part of this repository.
#[test]
fn maps_of_a_trained_network_are_captums_and_pytorch_grad_cams() {
    let Some(data) = std::env::var_os("RESIDUAL_TEST_DATA").filter(|data| !data.is_empty()) else {
        let required = std::env::var("RESIDUAL_REQUIRE_DATA").is_ok_and(|required| required == "1");
        assert!(!required, "RESIDUAL_REQUIRE_DATA is set, but RESIDUAL_TEST_DATA is not");
        eprintln!("skipped: RESIDUAL_TEST_DATA is not set");
        return;
    };
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(data);
    let mut request = residual_infer::ModelRequest::new(data.join("akamaster/resnet20-12fca82f.th"));
    request.model = Some("resnet20_a".into());
    let model = request.read().unwrap().model;
    let bytes = std::fs::read(data.join("cifar-10-batches-bin/test_batch.bin")).unwrap();
    let preprocessing = Preprocessing::imagenet();
    let mut images = Vec::new();
    for image in bytes.chunks_exact(3073).take(2) {
        for pixel in 0..1024 {
            for channel in 0..3 {
                let value = f32::from(image[1 + channel * 1024 + pixel]) / 255.0;
                images.push((value - preprocessing.mean[channel]) / preprocessing.std[channel]);
            }
        }
    }
    let (golden, _) = load_tensors(&golden("akamaster.safetensors")).unwrap();
    check(&model, &images, &golden, 16);
}

/// The attributions of the parts of an image sum to what the image as a whole changes: the completeness axiom.
#[test]
fn integrated_gradients_sum_to_the_difference_of_the_scores() {
    let (model, images, _) = tiny();
    let image = &images[..24 * 20 * 3];
    let options = MethodOptions { steps: 200, ..MethodOptions::default() };
    let mut explainer =
        Explainer::new(&model, Method::IntegratedGradients, &[], options, 8, &Options::threads(1)).unwrap();
    let target = Target::Contrast { class: 2, against: 0 };
    let sum: f32 = explainer.maps(image, &[target]).unwrap()[0].values.iter().sum();
    let score = |explainer: &mut Explainer, image: &[f32]| target.score(&explainer.network().logits(image).unwrap());
    let difference = score(&mut explainer, image) - score(&mut explainer, &vec![0.0; image.len()]);
    assert!((sum - difference).abs() < 0.01 * difference.abs(), "{sum} {difference}");
}

/// Without noise all samples are the image itself.
#[test]
fn smooth_gradients_are_means_over_noise_that_the_seed_draws() {
    let (model, images, _) = tiny();
    let maps = |name: &str, noise: f32, seed: u64| {
        let options = MethodOptions { noise, seed, samples: 6, ..MethodOptions::default() };
        let method = Method::from_name(name).unwrap();
        let mut explainer = Explainer::new(&model, method, &[], options, 4, &Options::threads(1)).unwrap();
        explainer.maps(&images[..24 * 20 * 3], &[Target::Class(1)])
    };
    let distance = |a: &Map, b: &Map| {
        let scale = b.values.iter().fold(0.0f32, |max, value| max.max(value.abs()));
        a.values.iter().zip(&b.values).fold(0.0f32, |max, (a, b)| max.max((a - b).abs())) / scale
    };
    let gradient = &maps("saliency", 0.0, 0).unwrap()[0];
    assert!(distance(&maps("smooth-grad", 0.0, 3).unwrap()[0], gradient) < 1e-6);
    let [first, again, other] = [3, 3, 4].map(|seed| maps("smooth-grad", 0.2, seed).unwrap().remove(0));
    assert!(first == again && first != other && distance(&first, gradient) > 1e-3);
    for noise in [f32::NAN, -0.1, f32::INFINITY] {
        let error = maps("smooth-grad", noise, 0).unwrap_err().to_string();
        assert_eq!(error, format!("noise: expected a number from 0 on, got {noise}"));
    }
}

/// Two steps by hand: the image without its more relevant half, and with nothing but it.
#[test]
fn deletion_and_insertion_begin_with_the_most_relevant_pixels() {
    let (model, images, _) = tiny();
    let model = Model { temperature: 1.7, ..model };
    let image = &images[..24 * 20 * 3];
    let values: Vec<f32> = (0..480).map(|pixel| (pixel * 7 % 480) as f32).collect();
    let map = Map { height: 24, width: 20, values };
    let options = Options::threads(1);
    let mut explainer =
        Explainer::new(&model, Method::from_name("saliency").unwrap(), &[], MethodOptions::default(), 4, &options)
            .unwrap();
    let target = Target::Class(3);
    let got = faithfulness(explainer.network(), image, target, &map, 2, 0).unwrap();
    let mut half = image.to_vec();
    for (pixel, &value) in half.chunks_exact_mut(3).zip(&map.values) {
        if value >= 240.0 {
            pixel.fill(0.0);
        }
    }
    let mut probability = |image: &[f32]| {
        let logits = explainer.network().logits(image).unwrap();
        f64::from(probabilities(&logits, model.activation, model.temperature)[3])
    };
    let ends = [probability(image), probability(&vec![0.0; image.len()])];
    let expected = (ends[0] + 2.0 * probability(&half) + ends[1]) / 4.0;
    assert!((got.deletion - expected).abs() < 1e-6, "{} {expected}", got.deletion);
    // Insertion begins at the blurred image, which of an image of one colour is the image itself.
    let plain = vec![0.7; image.len()];
    let expected = probability(&plain);
    let got = faithfulness(explainer.network(), &plain, target, &map, 2, 0).unwrap();
    assert!((got.insertion - expected).abs() < 1e-6, "{} {expected}", got.insertion);
}

/// The divergence that scikit-learn reaches; the optimum depends on rounding after a thousand steps, not the quality.
#[test]
fn tsne_is_as_good_as_scikit_learns() {
    let golden: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(golden("tsne.json")).unwrap()).unwrap();
    let [rows, columns] = ["rows", "columns"].map(|key| golden[key].as_u64().unwrap() as usize);
    let value = |(i, j): (usize, usize)| {
        let group = if i % 3 == j { 2.0 } else { 0.0 };
        ((0.37 * (i * (j + 1)) as f64).sin() + group) as f32
    };
    let vectors: Vec<f32> = (0..rows).flat_map(|i| (0..columns).map(move |j| (i, j))).map(value).collect();
    let options = TsneOptions { perplexity: golden["perplexity"].as_f64().unwrap(), ..TsneOptions::default() };
    let found = tsne(&vectors, columns, options, |_| true).unwrap();
    let expected = golden["divergence"].as_f64().unwrap();
    assert!((found.divergence / expected - 1.0).abs() < 0.1, "{} {expected}", found.divergence);
}

#[test]
fn what_does_not_exist_is_refused_by_name() {
    let (model, images, _) = tiny();
    let explainer = |method: &str, layers: &[&str]| {
        let method = Method::from_name(method).unwrap();
        Explainer::new(&model, method, layers, MethodOptions::default(), 4, &Options::threads(1))
    };
    let message = |method: &str, layers: &[&str]| explainer(method, layers).unwrap_err().to_string();
    assert!(
        message("grad-cam", &["layer9"]).starts_with("layers: expected pooled, "),
        "{}",
        message("grad-cam", &["layer9"])
    );
    assert_eq!(
        message("grad-cam", &["pooled"]),
        "layer \"pooled\": expected a feature map of more than one pixel, got 1×1×8"
    );
    assert_eq!(message("occlusion", &["layer1"]), "layers: expected none for occlusion, got layer1");
    let mut grad_cam = explainer("grad-cam", &[]).unwrap();
    let image = &images[..24 * 20 * 3];
    let refused = |result: Result<Vec<Map>, ExplainError>| result.unwrap_err().to_string();
    assert_eq!(refused(grad_cam.maps(image, &[Target::Class(5)])), "class: expected a number below 5, got 5");
    assert_eq!(refused(grad_cam.maps(image, &[])), "images: expected 0 values, got 1440");
    let window = MethodOptions { occlusion: Some(Occlusion { window: 4, stride: 5 }), ..MethodOptions::default() };
    let mut gaps = Explainer::new(&model, Method::Occlusion, &[], window, 4, &Options::threads(1)).unwrap();
    let expected = "stride: expected 1 to 4, the side of the window, got 5";
    assert_eq!(refused(gaps.maps(image, &[Target::Class(0)])), expected);
}
