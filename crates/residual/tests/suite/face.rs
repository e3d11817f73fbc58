//! The library's face, as its documentation shows it, on tiny data.

use residual::engine::Options;
use residual::preprocess::{Image, Preprocessing};
use residual::tensor::{NamedTensors, Stream, Tensor};
use residual::train::Event;
use residual::{Classifier, FeatureExtractor, FineTune, model, weights, zoo};
use std::path::Path;

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
    let mut epochs = 0;
    let tuned = FineTune::new(path("start.safetensors"), path("tiny.safetensors"))
        .val_split(0.2)
        .batch_size(4)
        .epochs(3)
        .freeze("backbone")
        .unfreeze_at(3, "layer3")
        .set("augment", "none")
        .runs(folder.path().join("runs"))
        .run(|event| epochs += u64::from(matches!(event, Event::Epoch(_))))
        .unwrap();
    assert_eq!((epochs, tuned.summary.epochs, tuned.interrupted), (3, 3, false));
    assert_eq!(tuned.model, residual::load(tuned.summary.run).unwrap());
    let evaluation = residual::evaluate(&tuned.model, path("tiny.safetensors")).unwrap();
    assert_eq!((evaluation.images, evaluation.data), (12, path("tiny.safetensors")));
    let mut classifier = Classifier::new(tuned.model).unwrap();
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

#[test]
fn a_setting_that_does_not_exist_is_an_error_of_the_run() {
    let error = FineTune::new("a.safetensors", "photos").set("epoch", 3).run(|_| ()).unwrap_err().to_string();
    assert!(error.contains("unknown key \"epoch\""), "{error}");
}

#[test]
fn what_cannot_be_loaded_is_one_line_with_its_cause_and_what_may_have_been_meant() {
    let folder = tempfile::tempdir().unwrap();
    for error in [
        residual::load("nowhere.pth").unwrap_err(),
        residual::pretrained("resnet18").unwrap_err(),
        residual::load("resnet18").unwrap_err(),
        residual::read_image(folder.path().join("none.jpg")).unwrap_err(),
        residual::load(folder.path()).unwrap_err(),
    ] {
        let text = error.to_string();
        assert!(!text.contains('\n') && !text.contains("--"), "{text}");
    }
    assert!(residual::pretrained("resnet18").unwrap_err().to_string().contains("did you mean torchvision:resnet18.v1"));
    let text = residual::read_image(folder.path().join("none.jpg")).unwrap_err().to_string();
    assert!(text.contains("No such file"), "{text}");
}

#[test]
fn bytes_and_pixels_are_classified_alike() {
    let folder = tempfile::tempdir().unwrap();
    files(folder.path());
    let mut classifier = Classifier::new(residual::load(folder.path().join("start.safetensors")).unwrap()).unwrap();
    // A bitmap of 2×2 pixels, blue, green, red, the rows from the bottom up and filled to four bytes.
    let header = [b"BM", &70u32.to_le_bytes()[..], &[0; 4], &54u32.to_le_bytes(), &40u32.to_le_bytes()].concat();
    let size = [2u32.to_le_bytes(), 2u32.to_le_bytes(), [1, 0, 24, 0], [0; 4], 16u32.to_le_bytes()].concat();
    let rows = [[9u8, 8, 7, 6, 5, 4, 0, 0], [3, 2, 1, 30, 20, 10, 0, 0]].concat();
    let bitmap = [header, size, vec![0; 16], rows].concat();
    let image = Image::new(2, 2, 3, vec![1, 2, 3, 10, 20, 30, 7, 8, 9, 4, 5, 6]).unwrap();
    assert_eq!(classifier.classify_bytes(&bitmap).unwrap(), classifier.classify(&image).unwrap());
    assert!(classifier.classify_bytes(b"no image").is_err());
}
