//! A model's parts have to fit together, and a new head replaces the old one or keeps some of its outputs.

use residual_graph::{Builder, Conv2d};
use residual_model::{
    Initialisation, Model, ModelError, TensorProblem, check_tensors, initialise, reorder_head, replace_head,
    replace_input,
};
use residual_preprocess::Preprocessing;
use residual_tensor::Tensor;

fn cifar() -> Preprocessing {
    Preprocessing::unscaled([32, 32], &[0.5; 3], &[0.25; 3])
}

fn resnet20(classes: usize) -> Model {
    let graph = residual_zoo::build("resnet20", classes).unwrap();
    let tensors = initialise(&graph, Initialisation::Torch, 1);
    Model::new(graph, tensors, cifar(), (0..classes).map(|class| format!("class {class}")).collect()).unwrap()
}

#[test]
fn every_tensor_that_does_not_fit_is_listed() {
    let model = resnet20(10);
    let mut tensors = model.tensors.clone();
    tensors.shift_remove("bn1.bias");
    tensors.insert("fc.weight".into(), Tensor::full(&[1000, 64], 0.0));
    tensors.insert("bn1.running_var".into(), Tensor::i64(&[16], vec![1; 16]));
    tensors.insert("extra".into(), Tensor::full(&[2], 0.0));
    let error = check_tensors(&model.graph, &tensors).unwrap_err();
    let ModelError::Tensors { problems } = &error else { panic!("{error}") };
    assert_eq!(
        problems,
        &[
            TensorProblem::Missing { key: "bn1.bias".into(), expected: vec![16] },
            TensorProblem::Type { key: "bn1.running_var".into(), expected: "f32", got: "i64".into() },
            TensorProblem::Shape { key: "fc.weight".into(), expected: vec![10, 64], got: vec![1000, 64] },
            TensorProblem::Unexpected { key: "extra".into(), got: vec![2] },
        ]
    );
    assert_eq!(
        error.to_string(),
        "tensor \"bn1.bias\": expected [16], got none; \
         tensor \"bn1.running_var\": expected elements of type f32, got i64; \
         tensor \"fc.weight\": expected [10, 64], got [1000, 64]; \
         tensor \"extra\": expected none, got [2]"
    );
}

#[test]
fn names_under_a_prefix_are_shown_with_it() {
    let model = resnet20(10);
    let tensors = model.tensors.iter().map(|(key, tensor)| (format!("backbone.net.{key}"), tensor.clone())).collect();
    let error = check_tensors(&model.graph, &tensors).unwrap_err().to_string();
    assert_eq!(
        error,
        "tensor \"conv1.weight\": expected [16, 3, 3, 3], got none; \
         tensor \"bn1.weight\": expected [16], got none; \
         tensor \"backbone.net.conv1.weight\": expected none, got [16, 3, 3, 3]; and 253 more \
         (all names that are not expected begin with \"backbone.net.\")"
    );
}

#[test]
fn tensors_come_into_the_graphs_order() {
    let model = resnet20(10);
    let reversed = model.tensors.clone().into_iter().rev().collect();
    let again = Model::new(model.graph.clone(), reversed, cifar(), Vec::new()).unwrap();
    assert!(again.tensors.keys().eq(model.tensors.keys()));
}

#[test]
fn parts_that_disagree_are_refused() {
    let Model { graph, tensors, .. } = resnet20(10);
    let refuse = |preprocessing: Preprocessing, labels: usize| {
        let labels = vec![String::from("x"); labels];
        Model::new(graph.clone(), tensors.clone(), preprocessing, labels).unwrap_err().to_string()
    };
    assert_eq!(refuse(cifar(), 9), "labels: expected one for each of 10 outputs, got 9");
    let gray = Preprocessing::unscaled([32, 32], &[0.5], &[0.5]);
    assert_eq!(refuse(gray, 0), "preprocessing: expected a mean for each of 3 input channels, got 1");
    let crop = Preprocessing { crop_pct: 2.0, ..cifar() };
    assert!(refuse(crop, 0).starts_with("preprocessing: crop_pct: "));

    let mut net = Builder::new("flat", [3, 8, 8]);
    let x = net.flatten("flatten", net.input()).unwrap();
    let x = net.linear("fc", x, 2, true).unwrap();
    let graph = net.finish(x).unwrap();
    let tensors = initialise(&graph, Initialisation::Torch, 0);
    let error = Model::new(graph, tensors, cifar(), Vec::new()).unwrap_err();
    assert_eq!(error.to_string(), "node \"fc\": expected 192 input channels, got 3072");

    let mut broken = resnet20(10);
    broken.graph.nodes.clear();
    assert!(matches!(Model::new(broken.graph, broken.tensors, cifar(), Vec::new()), Err(ModelError::Graph(_))));
}

#[test]
fn a_new_head_changes_the_last_linear_layer_and_nothing_else() {
    let model = resnet20(10);
    let new = replace_head(&model, 3, 5).unwrap();
    assert_eq!(new.graph.output_channels(), Ok(3));
    assert!(new.labels.is_empty());
    for (key, tensor) in &new.tensors {
        if key.starts_with("fc.") {
            assert_eq!(tensor.shape()[0], 3);
            assert!(tensor.as_f32().unwrap().iter().all(|v| v.abs() <= 1.0 / 8.0));
        } else {
            assert_eq!(*tensor, model.tensors[key]);
        }
    }
    assert_ne!(new.tensors["fc.weight"], replace_head(&model, 3, 6).unwrap().tensors["fc.weight"]);
}

#[test]
fn outputs_keep_their_weights_and_labels_in_another_order() {
    let model = resnet20(4);
    let rows = |model: &Model, key: &str| -> Vec<Vec<f32>> {
        let tensor = &model.tensors[key];
        tensor.as_f32().unwrap().chunks(tensor.len() / tensor.shape()[0]).map(<[f32]>::to_vec).collect()
    };
    let fresh = replace_head(&model, 3, 7).unwrap();
    let cases = [
        (vec![Some(2), Some(0), Some(3), Some(1)], vec!["class 2", "class 0", "class 3", "class 1"]),
        (vec![Some(3), Some(1)], vec!["class 3", "class 1"]),
        (vec![Some(1), None, Some(0)], Vec::new()),
    ];
    for (order, labels) in cases {
        let new = reorder_head(&model, &order, 7).unwrap();
        assert_eq!(new.labels, labels);
        for key in ["fc.weight", "fc.bias"] {
            let (old, fresh) = (rows(&model, key), rows(&fresh, key));
            let expected =
                order.iter().enumerate().map(|(index, from)| from.map_or_else(|| &fresh[index], |from| &old[from]));
            assert!(rows(&new, key).iter().eq(expected), "{key} {order:?}");
        }
        assert!(new.tensors.iter().all(|(key, tensor)| key.starts_with("fc.") || *tensor == model.tensors[key]));
    }
}

#[test]
fn another_preprocessing_or_other_labels_have_to_fit_the_graph() {
    let model = resnet20(3);
    let larger = Preprocessing { size: [48, 40], ..cifar() };
    assert_eq!(model.clone().with_preprocessing(larger.clone()).unwrap().preprocessing, larger);
    let gray = Preprocessing::unscaled([32, 32], &[0.5], &[0.5]);
    let error = model.clone().with_preprocessing(gray).unwrap_err().to_string();
    assert_eq!(error, "preprocessing: expected a mean for each of 3 input channels, got 1");
    let labels = ["a", "b", "c"].map(String::from).to_vec();
    assert_eq!(model.clone().with_labels(labels.clone()).unwrap().labels, labels);
    assert!(model.clone().with_labels(Vec::new()).unwrap().labels.is_empty());
    let error = model.with_labels(labels[..2].to_vec()).unwrap_err().to_string();
    assert_eq!(error, "labels: expected one for each of 3 outputs, got 2");
}

#[test]
fn a_head_that_cannot_be_replaced_is_an_error() {
    let model = resnet20(10);
    assert!(matches!(replace_head(&model, 0, 0), Err(ModelError::Graph(_))));

    let mut net = Builder::new("conv head", [3, 8, 8]);
    let x = net.conv("classifier", net.input(), Conv2d::new(3, 4, 1)).unwrap();
    let x = net.global_avg_pool("pool", x).unwrap();
    let graph = net.finish(x).unwrap();
    let tensors = initialise(&graph, Initialisation::Torch, 0);
    let model = Model::new(graph, tensors, cifar(), Vec::new()).unwrap();
    assert_eq!(
        replace_head(&model, 2, 0).unwrap_err().to_string(),
        "head: expected a linear layer of a vector as the last op with parameters, got conv2d \"classifier\""
    );
}

/// A network of the description, with values as torch draws them.
fn described(text: &str) -> Model {
    let graph = residual_zoo::from_toml(text).unwrap().graph().unwrap();
    let tensors = initialise(&graph, Initialisation::Torch, 1);
    let [_, height, width] = graph.input_size();
    let preprocessing = Preprocessing::unscaled([height, width], &[0.1, 0.3, 0.8], &[0.2, 0.3, 0.4]);
    Model::new(graph, tensors, preprocessing, Vec::new()).unwrap()
}

#[test]
fn every_familys_head_is_replaced() {
    let cases = [
        ("family = 'densenet'\ndepths = [1, 1, 1, 1]\ngrowth_rate = 4", "classifier."),
        ("family = 'convnext'\ndepths = [1, 1, 1, 1]\nwidths = [8, 8, 16, 16]", "classifier.2."),
        ("family = 'resnetv2'\ndepths = [1, 1, 1, 1]\nwidths = [32, 32, 32, 64]", "head.fc."),
        ("family = 'wrn'\ndepth = 10\nwidth = 1", "fc."),
    ];
    for (text, head) in cases {
        let model = described(text);
        let new = replace_head(&model, 3, 5).unwrap();
        assert_eq!(new.graph.output_channels(), Ok(3), "{text}");
        for (key, tensor) in &new.tensors {
            assert_eq!(*tensor != model.tensors[key], key.starts_with(head), "{text}: {key}");
        }
    }
}

#[test]
fn a_first_convolution_is_summed_or_repeated_as_timm_does() {
    let model = described("family = 'resnetv2'\ndepths = [1, 1, 1, 1]\nwidths = [32, 32, 32, 64]\nstem_width = 4");
    let weight = model.tensors["stem.conv.weight"].as_f32().unwrap();
    let at = |output: usize, channel: usize, tap: usize| weight[(output * 3 + channel) * 49 + tap];
    for in_chans in [1, 2, 5] {
        let new = replace_input(&model, in_chans).unwrap();
        assert_eq!(new.graph.input_size(), [in_chans, 224, 224]);
        let got = &new.tensors["stem.conv.weight"];
        assert_eq!(got.shape(), [4, in_chans, 7, 7]);
        for (index, value) in got.as_f32().unwrap().iter().enumerate() {
            let (output, channel, tap) = (index / 49 / in_chans, index / 49 % in_chans, index % 49);
            let expected = match in_chans {
                1 => at(output, 0, tap) + at(output, 1, tap) + at(output, 2, tap),
                _ => at(output, channel % 3, tap) * 3.0 / in_chans as f32,
            };
            assert!((value - expected).abs() < 1e-6, "{in_chans} channels, value {index}: {value}, {expected}");
        }
        let others = new.tensors.iter().filter(|(key, _)| *key != "stem.conv.weight");
        others.for_each(|(key, tensor)| assert_eq!(*tensor, model.tensors[key], "{key}"));
    }
    assert_eq!(replace_input(&model, 3).unwrap(), model);
    let gray = replace_input(&model, 1).unwrap();
    assert!((gray.preprocessing.mean[0] - 0.4).abs() < 1e-6 && (gray.preprocessing.std[0] - 0.3).abs() < 1e-6);
    assert_eq!(replace_input(&model, 5).unwrap().preprocessing.mean, [0.1, 0.3, 0.8, 0.1, 0.3]);
    assert!(matches!(replace_input(&model, 0), Err(ModelError::Graph(_))));

    let mut net = Builder::new("no first convolution", [3, 8, 8]);
    let x = net.batch_norm("norm", net.input()).unwrap();
    let graph = net.finish(x).unwrap();
    let tensors = initialise(&graph, Initialisation::Torch, 0);
    let model = Model::new(graph, tensors, cifar(), Vec::new()).unwrap();
    assert_eq!(
        replace_input(&model, 1).unwrap_err().to_string(),
        "input: expected convolutions without groups as the only readers of the image, got batch_norm2d \"norm\""
    );
}
