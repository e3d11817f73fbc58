//! The library's face, as its documentation shows it, on tiny data.

use residual::engine::Options;
use residual::preprocess::{Image, Preprocessing};
use residual::tensor::{NamedTensors, Stream, Tensor};
use residual::train::{Event, Job, Layer, Outcome, Recipe, train};
use residual::{Classifier, FeatureExtractor, model, weights, zoo};
use std::path::Path;
use std::sync::Arc;

fn images(count: u8) -> Vec<Image> {
    (0..count).map(|value| Image::new(16, 16, 3, vec![40 * value; 16 * 16 * 3]).unwrap()).collect()
}

/// `start.safetensors`: a new resnet20 of five classes; `tiny.safetensors`: 12 images of two.
fn files(folder: &Path) {
    let graph = zoo::build("resnet20", 5).unwrap();
    let tensors = model::initialise(&graph, model::Initialisation::Torch, 0);
    let preprocessing = Preprocessing::unscaled([16, 16], &[0.5; 3], &[0.25; 3]);
    let model = model::Model::new(graph, tensors, preprocessing, Vec::new()).unwrap();
    weights::save(&folder.join("start.safetensors"), &model, None).unwrap();
    let mut random = Stream::new(1, &[]);
    let values = (0..12 * 3 * 16 * 16).map(|index| random.normal() + (index / 768 % 2) as f32).collect();
    let tensors = NamedTensors::from_iter([
        ("images".to_owned(), Tensor::f32(&[12, 3, 16, 16], values)),
        ("labels".to_owned(), Tensor::i64(&[12], (0..12).map(|index| index % 2).collect())),
    ]);
    weights::save_tensors(&folder.join("tiny.safetensors"), &tensors, &Default::default()).unwrap();
}

#[test]
fn a_checkpoint_is_fine_tuned_and_then_classifies() {
    let folder = tempfile::tempdir().unwrap();
    files(folder.path());
    let path = |name: &str| folder.path().join(name).display().to_string();
    let own = format!(
        "weights = {:?}\ndata = {:?}\nval_split = 0.2\nbatch_size = 4\nepochs = 3\naugment = \"none\"\n\
         freeze = \"backbone\"\nfreeze_bn = true\nunfreeze_at = [\"3:layer3\"]",
        path("start.safetensors"),
        path("tiny.safetensors")
    );
    let recipe =
        Recipe::resolve(&[Layer::preset("folder-quick").unwrap(), Layer::parse("own", &own).unwrap()]).unwrap().recipe;
    let job = Job::prepare(recipe).unwrap();
    let mut epochs = 0;
    let outcome = train(&job, &folder.path().join("runs"), &Options::default(), &Arc::default(), &mut |event| {
        epochs += u64::from(matches!(event, Event::Epoch(_)));
    });
    let Outcome::Finished(summary) = outcome.unwrap() else { panic!("interrupted") };
    assert_eq!((epochs, summary.epochs), (3, 3));
    let mut classifier = Classifier::new(residual::load(summary.run).unwrap()).unwrap();
    assert_eq!(classifier.classify(&images(1)[0]).unwrap().top(5).len(), 2);
}

#[test]
fn features_are_the_layers_that_were_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    files(folder.path());
    let model = residual::load(folder.path().join("start.safetensors")).unwrap();
    let head = model.tensors["fc.weight"].as_f32().unwrap().to_vec();
    let bias = model.tensors["fc.bias"].as_f32().unwrap().to_vec();
    let mut classifier = Classifier::new(model.clone()).unwrap();
    let mut extractor = FeatureExtractor::with_options(model, 2, &Options::default()).unwrap();
    let images = images(3);
    let features = extractor.features(&images, &["layer1", "pooled", "layer3.0.conv2", "C1"]).unwrap();
    let extents: Vec<[usize; 3]> =
        features.iter().map(|feature| [feature.shape.height, feature.shape.width, feature.shape.channels]).collect();
    assert_eq!(extents, [[16, 16, 16], [1, 1, 64], [4, 4, 64], [8, 8, 32]]);
    assert!(features.iter().all(|feature| feature.values.len() == 3 * feature.shape.len()));
    let logits: Vec<Vec<f32>> =
        classifier.classify_batch(&images).unwrap().iter().map(|output| output.logits().to_vec()).collect();
    for (vector, logits) in features[1].values.chunks(64).zip(logits) {
        for (class, logit) in logits.iter().enumerate() {
            let dot: f32 = vector.iter().zip(&head[64 * class..]).map(|(x, w)| x * w).sum();
            assert!((dot + bias[class] - logit).abs() < 1e-4);
        }
    }
    let error = extractor.features(&images, &["layer7"]).unwrap_err().to_string();
    assert!(error.starts_with("layers: expected pooled, C0, C1, C2, a module of the network (conv1, bn1, "), "{error}");
}
