//! Networks with alternative names of tensors (`golden/renamed.py`) are read as torchvision's.

use crate::tiny;
use residual_graph::Graph;
use residual_model::Model;
use residual_preprocess::Preprocessing;
use residual_weights::{Weights, WeightsError, load_into, load_tensors, open, save};
use residual_zoo::{Config, ConvNeXt, DenseNet, Family};

fn network(family: impl Into<Family>) -> Graph {
    Config { num_classes: 3, ..Config::new("tiny", family) }.graph().unwrap()
}

fn convnext() -> Graph {
    network(ConvNeXt::new([1, 2, 1, 1], [2, 3, 4, 5], 0.0))
}

fn read(name: &str, graph: &Graph) -> Result<Model, WeightsError> {
    load_into(&tiny::golden(name), graph, Preprocessing::imagenet(), Vec::new())
}

#[test]
fn a_convnext_of_timm_or_its_authors_is_torchvisions() {
    let (expected, _) = load_tensors(&tiny::golden("convnext.safetensors")).unwrap();
    for name in ["convnext.safetensors", "convnext_timm.pth", "convnext_timm_conv.safetensors", "convnext_authors.pth"]
    {
        let model = read(name, &convnext()).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(model.tensors.len(), expected.len());
        for (key, tensor) in &model.tensors {
            assert_eq!(tensor, &expected[key], "{name}: {key}");
        }
    }
}

#[test]
fn an_old_densenet_is_todays() {
    let tiny = DenseNet { depths: [1; 4], growth_rate: 2, stem_width: 4, bottleneck: 2, dropout: 0.0 };
    let (expected, _) = load_tensors(&tiny::golden("densenet.safetensors")).unwrap();
    let model = read("densenet_old.pth", &network(tiny)).unwrap_or_else(|error| panic!("{error}"));
    for (key, tensor) in &model.tensors {
        // torch had no such counters then.
        let is_counter = key.ends_with("num_batches_tracked");
        assert!(is_counter && tensor.as_i64() == Some(&[0]) || *tensor == expected[key], "{key}");
    }
}

#[test]
fn what_was_read_under_other_names_is_written_under_torchvisions() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.safetensors");
    save(&path, &read("convnext_timm_conv.safetensors", &convnext()).unwrap(), None).unwrap();
    let mut written = load_tensors(&path).unwrap().0;
    let mut expected = load_tensors(&tiny::golden("convnext.safetensors")).unwrap().0;
    written.sort_unstable_keys();
    expected.sort_unstable_keys();
    assert_eq!(written, expected);
}

#[test]
fn outputs_and_channels_are_read_off_whatever_the_names() {
    for name in ["convnext.safetensors", "convnext_timm_conv.safetensors", "convnext_authors.pth"] {
        let Weights::StateDict(state) = open(&tiny::golden(name)).unwrap() else { panic!("a state dict") };
        assert_eq!((state.outputs(&convnext()), state.inputs(&convnext())), (Some(3), Some(3)));
    }
}

#[test]
fn a_shape_that_is_another_is_named_with_the_graphs_key() {
    let wide = network(ConvNeXt::new([1, 2, 1, 1], [2, 3, 4, 6], 0.0));
    let error = read("convnext_timm.pth", &wide).unwrap_err().to_string();
    assert!(error.contains("tensor \"features.6.1.weight\": expected [6, 4, 2, 2], got [5, 4, 2, 2]"), "{error}");
}
