//! Evaluation scores what prediction says, whatever order the data's classes have.

use residual_data::{DataError, Dataset, Format, Sample};
use residual_engine::Options;
use residual_graph::{Builder, Op};
use residual_infer::{
    ClassList, Classifier, ClassifyError, EvaluateOptions, Evaluation, Evaluator, InferError, evaluate,
};
use residual_model::{Initialisation, Model, initialise};
use residual_preprocess::{Image, Preprocessing, Views};
use residual_tensor::{NamedTensors, Tensor};
use residual_threads::Pool;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

const RED: [u8; 3] = [255, 0, 0];
const GREEN: [u8; 3] = [0, 255, 0];
const BLUE: [u8; 3] = [0, 0, 255];
const GREY: [u8; 3] = [128, 128, 128];

/// Colours with names, in memory.
struct Colours {
    names: Vec<String>,
    samples: Vec<([u8; 3], u32)>,
    format: Format,
}

impl Dataset for Colours {
    fn len(&self) -> usize {
        self.samples.len()
    }

    fn label(&self, index: usize) -> u32 {
        self.samples[index].1
    }

    fn class_names(&self) -> &[String] {
        &self.names
    }

    fn sample(&self, index: usize) -> Result<Sample, DataError> {
        Ok(Sample::Pixels(solid(self.samples[index].0)))
    }

    fn describe(&self, index: usize) -> String {
        format!("colour {index}")
    }

    fn format(&self) -> &Format {
        &self.format
    }
}

fn solid(colour: [u8; 3]) -> Image {
    Image::new(4, 4, 3, colour.repeat(16)).unwrap()
}

fn strings(names: &[&str]) -> Vec<String> {
    names.iter().map(ToString::to_string).collect()
}

fn colours(names: &[&str], samples: &[([u8; 3], u32)]) -> Arc<dyn Dataset> {
    let format =
        Format { image_size: Some([4, 4]), channels: 3, normalized: false, mean: vec![0.0; 3], std: vec![1.0; 3] };
    Arc::new(Colours { names: strings(names), samples: samples.to_vec(), format })
}

/// A network whose outputs are the means of the channels, by these `rows` of its last layer.
fn model(labels: &[&str], rows: &[[f32; 3]]) -> Model {
    let mut net = Builder::new("means", [3, 4, 4]);
    let pooled = net.global_avg_pool("pool", net.input()).unwrap();
    let flat = net.flatten("flatten", pooled).unwrap();
    let head = Op::Linear { in_features: 3, out_features: rows.len(), bias: false, quantized: false };
    let out = net.push("fc", head, &[flat]).unwrap();
    let graph = net.finish(out).unwrap();
    let tensors = NamedTensors::from_iter([("fc.weight".to_owned(), Tensor::f32(&[rows.len(), 3], rows.concat()))]);
    Model::new(graph, tensors, Preprocessing::unscaled([4, 4], &[0.0; 3], &[1.0; 3]), strings(labels)).unwrap()
}

fn primary(labels: &[&str]) -> Model {
    model(labels, &[[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
}

fn judge(model: &Model, data: &Arc<dyn Dataset>, class_map: Option<&str>) -> Result<Evaluation, InferError> {
    let class_map = class_map.map(|text| ClassList::parse(text, "map.txt").unwrap());
    let options = EvaluateOptions { class_map, ..EvaluateOptions::default() };
    Ok(evaluate(model, data, &options, &Default::default(), &mut |_, _| ())?.unwrap())
}

#[test]
fn a_permutation_and_a_subset_of_the_classes_score_what_predict_says() {
    let model = primary(&["red", "green", "blue"]);
    let permuted = colours(&["blue", "green", "red"], &[(RED, 2), (GREEN, 1), (BLUE, 0), (BLUE, 2)]);
    let subset = colours(&["blue", "red"], &[(RED, 1), (BLUE, 0), (GREEN, 0)]);
    for (data, absent) in [(permuted, vec![]), (subset, strings(&["green"]))] {
        let mut classifier = Classifier::new(model.clone()).unwrap();
        let right = (0..data.len()).filter(|&index| {
            let Sample::Pixels(image) = data.sample(index).unwrap() else { unreachable!() };
            classifier.classify(&image).unwrap().top(1)[0].label == data.class_names()[data.label(index) as usize]
        });
        let expected = 100.0 * right.count() as f64 / data.len() as f64;
        let evaluation = judge(&model, &data, None).unwrap();
        assert!(expected > 0.0 && evaluation.classes_by_name);
        assert_eq!((evaluation.top1, evaluation.absent_classes), (expected, absent));
    }
}

#[test]
fn classes_that_the_model_does_not_know_are_refused_by_name() {
    let data = colours(&["red", "wasp"], &[(RED, 0), (BLUE, 1)]);
    let error = judge(&primary(&["red", "green", "blue"]), &data, None).unwrap_err();
    assert_eq!(error.to_string(), "classes: expected classes among \"red\", \"green\", \"blue\", got \"wasp\"");
}

#[test]
fn named_classes_need_as_many_outputs_where_these_have_no_names() {
    let two = colours(&["red", "blue"], &[(RED, 0), (BLUE, 1)]);
    let error = judge(&primary(&[]), &two, None).unwrap_err();
    assert!(matches!(error, InferError::ClassCount { outputs: 3, got: 2 }), "{error}");
    let three = colours(&["a", "b", "c"], &[(RED, 0), (BLUE, 2)]);
    let evaluation = judge(&primary(&[]), &three, None).unwrap();
    assert_eq!((evaluation.top1, evaluation.classes_by_name), (100.0, false));
}

#[test]
fn data_without_class_names_counts_by_index_and_may_have_fewer() {
    let data = colours(&["0", "1"], &[(RED, 0), (GREEN, 1), (BLUE, 1)]);
    for labels in [&["red", "green", "blue"][..], &[]] {
        let evaluation = judge(&primary(labels), &data, None).unwrap();
        assert_eq!((evaluation.top1.round(), evaluation.classes_by_name), (67.0, false));
    }
    let more = colours(&["0", "1", "2", "3"], &[(RED, 0), (RED, 3)]);
    let error = judge(&primary(&["red", "green", "blue"]), &more, None).unwrap_err();
    assert_eq!(error.to_string(), "colour 1: expected a label below num_classes (3), got 3");
}

#[test]
fn a_class_map_says_which_output_a_class_of_another_name_is() {
    let data = colours(&["n01", "n02", "n03"], &[(RED, 0), (BLUE, 1), (BLUE, 2)]);
    let map = "n01 0\nn02 2\nn03 2\nn04 1\n";
    for labels in [&["red", "green", "blue"][..], &[]] {
        assert_eq!(judge(&primary(labels), &data, Some(map)).unwrap().top1, 100.0);
    }
    let error = judge(&primary(&[]), &data, Some("n01 0\nn02 2\n")).unwrap_err();
    assert!(error.to_string().ends_with("got \"n03\""), "{error}");
}

#[test]
fn logits_that_are_not_finite_are_counted_mistakes_and_fail_a_prediction_by_its_index() {
    // A red image has no green: 0 times infinity is not a number.
    let model = model(&["red", "green"], &[[1.0, 0.0, 0.0], [0.0, f32::INFINITY, 0.0]]);
    let data = colours(&["red", "green"], &[(RED, 0), (GREEN, 1), (GREY, 1)]);
    let evaluation = judge(&model, &data, None).unwrap();
    assert_eq!((evaluation.top1, evaluation.top5, evaluation.non_finite), (0.0, 0.0, 3));
    assert!(evaluation.calibration.loss.is_nan());
    assert_eq!(serde_json::to_value(&evaluation).unwrap()["loss"], serde_json::Value::Null);
    let mut classifier = Classifier::new(model).unwrap();
    let error = classifier.classify_batch(&[solid(RED), solid(GREEN)]).unwrap_err();
    assert!(matches!(error, ClassifyError::NotFinite { index: 0, .. }), "{error}");
}

/// Of a flat image both views are the same, of another they are not.
#[test]
fn with_mirror_images_logits_are_the_mean_of_two_views() {
    let graph = residual_zoo::build("resnet20", 4).unwrap();
    let tensors = initialise(&graph, Initialisation::Torch, 1);
    let preprocessing = Preprocessing::unscaled([6, 8], &[0.5; 3], &[0.25; 3]);
    let model = Model::new(graph, tensors, preprocessing, Vec::new()).unwrap();
    let pixels: Vec<u8> = (0..6 * 8 * 3).map(|index| (index * 37 % 251) as u8).collect();
    let mirrored = pixels.chunks_exact(8 * 3).flat_map(|row| row.chunks_exact(3).rev().flatten().copied()).collect();
    let images = [pixels, mirrored].map(|pixels| Image::new(6, 8, 3, pixels).unwrap());
    let mut plain = Classifier::new(model.clone()).unwrap();
    let [image, mirror] = [0, 1].map(|view| plain.classify(&images[view]).unwrap().logits().to_vec());
    assert_ne!(image, mirror);
    let mut averaged = Classifier::with_views(model, 1, Views::Flip, &Options::default()).unwrap();
    for logits in images.iter().map(|image| averaged.classify(image).unwrap().logits().to_vec()) {
        for ((logit, a), b) in logits.iter().zip(&image).zip(&mirror) {
            assert!((logit - 0.5 * (a + b)).abs() < 1e-6, "{logit}, of {a} and {b}");
        }
    }
    // A batch of several images has the logits of each.
    let both = averaged.classify_batch(&images).unwrap();
    assert!(both.len() == 2 && both[0].logits().iter().zip(both[1].logits()).all(|(a, b)| (a - b).abs() < 1e-6));
}

#[test]
fn a_classification_outlives_the_next_image_and_the_classifier() {
    let mut classifier = Classifier::new(primary(&["red", "green", "blue"])).unwrap();
    let [first, second] = [RED, BLUE].map(|colour| classifier.classify(&solid(colour)).unwrap());
    drop(classifier);
    let labels = std::thread::spawn(move || [first, second].map(|output| output.top(1)[0].label.clone()));
    assert_eq!(labels.join().unwrap(), ["red", "blue"]);
}

/// Clones of a classifier share its weights, and classify on threads of their own.
#[test]
fn clones_classify_as_the_first_on_other_threads() {
    let model = model(&["red", "green"], &[[1.0, 0.0, 0.5], [0.0, 1.0, -0.5]]);
    let mut first = Classifier::with_options(model, 2, &Options::threads(1)).unwrap();
    let images = [RED, GREEN, BLUE, GREY].map(solid);
    let expected = first.classify_batch(&images).unwrap();
    let clones: Vec<Classifier> = (0..4).map(|_| first.on_pool(Arc::new(Pool::new(1)))).collect();
    drop(first);
    std::thread::scope(|scope| {
        for mut classifier in clones {
            let (images, expected) = (&images, &expected);
            scope.spawn(move || {
                assert_eq!(classifier.clone().classify_batch(images).unwrap(), *expected);
                assert_eq!(classifier.classify_batch(images).unwrap(), *expected);
            });
        }
    });
}

/// An evaluator that is given one model after another counts what evaluations of each by itself count.
#[test]
fn an_evaluator_follows_the_models_it_is_given() {
    let data = colours(&["red", "green"], &[(RED, 0), (GREEN, 1), (GREY, 0), (GREEN, 0)]);
    let good = model(&["red", "green"], &[[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]);
    let swapped = model(&["red", "green"], &[[0.0, 1.0, 0.0], [1.0, 0.0, 0.0]]);
    let other = model(&["red", "green", "blue"], &[[2.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]);
    let options = EvaluateOptions { engine: Options::threads(1), batch_size: 2, ..EvaluateOptions::default() };
    let stop = AtomicBool::new(false);
    let mut evaluator = Evaluator::new(options.clone());
    for model in [&good, &swapped, &other, &good] {
        let (metrics, _) = evaluator.count(model, &data, &stop, &mut |_, _| ()).unwrap().unwrap();
        let evaluation = evaluate(model, &data, &options, &stop, &mut |_, _| ()).unwrap().unwrap();
        assert_eq!((metrics.top1_percent(), metrics.images), (evaluation.top1, 4));
        assert!((metrics.mean_loss() - evaluation.calibration.loss).abs() < 1e-6);
    }
}
