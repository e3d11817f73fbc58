//! Files written by PyTorch and safetensors (`golden/make.py`) are read as they were meant.

use crate::tiny;
use residual_model::{ModelError, TensorProblem};
use residual_weights::{Cause, Weights, WeightsError, load, load_into, open, parse_state_dict};
use std::error::Error;

fn read(name: &str) -> Result<residual_tensor::NamedTensors, WeightsError> {
    load_into(&tiny::golden(name), &tiny::graph(), tiny::preprocessing(), Vec::new()).map(|model| model.tensors)
}

#[test]
fn every_way_to_save_a_state_dict_gives_the_same_tensors() {
    for name in [
        "zip.pth",
        "legacy.pth",
        "wrapped.pth",
        "wrapped_legacy.pth",
        "averaged.pth",
        "half.pth",
        "double.pth",
        "bfloat16.safetensors",
        "plain.safetensors",
        "views.pth",
        "views_legacy.pth",
    ] {
        let tensors = read(name).unwrap_or_else(|error| panic!("{error}: {:?}", error.source()));
        assert_eq!(tensors, tiny::tensors(), "{name}");
        assert!(tensors.keys().eq(tiny::tensors().keys()), "{name}: order");
    }
}

#[test]
fn the_content_decides_what_a_file_is_and_not_its_name() {
    let folder = tempfile::tempdir().unwrap();
    for (name, other) in [("legacy.pth", "a.safetensors"), ("plain.safetensors", "b.pth"), ("zip.pth", "c")] {
        let path = folder.path().join(other);
        std::fs::copy(tiny::golden(name), &path).unwrap();
        let model = load_into(&path, &tiny::graph(), tiny::preprocessing(), Vec::new()).unwrap();
        assert_eq!(model.tensors, tiny::tensors());
    }
    let path = folder.path().join("d.pth");
    for (content, expected) in [
        (&b"hello, world"[..], "expected a safetensors file or a torch checkpoint, got bytes \"hello, w\""),
        (b"", "expected a safetensors file or a torch checkpoint, got an empty file"),
        (b"\x80\x02}q\x00.", "torch checkpoint: expected torch's magic number, got another pickle"),
    ] {
        std::fs::write(&path, content).unwrap();
        assert_eq!(open(&path).unwrap_err().to_string(), format!("{}: {expected}", path.display()));
    }
}

#[test]
fn what_does_not_fit_is_listed_in_one_line_with_the_file_before_it() {
    let path = tiny::golden("wrapped.pth");
    let error = load_into(&path, &tiny::graph_with_outputs(7), tiny::preprocessing(), Vec::new()).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "{}: tensor \"fc.weight\": expected [7, 2], got [3, 2]; tensor \"fc.bias\": expected [7], got [3]",
            path.display()
        )
    );
    let Cause::Model(ModelError::Tensors { problems }) = error.cause else { panic!("{:?}", error.cause) };
    assert_eq!(problems[1], TensorProblem::Shape { key: "fc.bias".into(), expected: vec![7], got: vec![3] });
}

#[test]
fn a_state_dict_without_a_graph_says_what_is_missing() {
    let path = tiny::golden("legacy.pth");
    let error = load(&path).unwrap_err();
    let expected = format!("{}: a state dict without a graph: name the network with --model", path.display());
    assert_eq!(error.to_string(), expected);
    let Weights::StateDict(state) = open(&path).unwrap() else { panic!("a state dict") };
    assert_eq!(state.outputs(&tiny::graph_with_outputs(10)), Some(3));
    assert_eq!(state.into_model(&tiny::graph(), tiny::preprocessing(), Vec::new()).unwrap().0.tensors, tiny::tensors());
}

#[test]
fn tensors_of_a_kind_that_is_not_read_are_an_error_only_where_they_are_needed() {
    let error = read("sparse.pth").unwrap_err();
    let Cause::Model(ModelError::Tensors { problems }) = error.cause else { panic!("{:?}", error.cause) };
    let sparse = TensorProblem::Type { key: "fc.weight".into(), expected: "f32", got: "_rebuild_sparse_tensor".into() };
    assert!(problems.contains(&sparse), "{problems:?}");
    assert_eq!(
        read("module.pth").unwrap_err().to_string(),
        format!(
            "{}: torch checkpoint: expected a dictionary of tensors, got a pickled torch.nn.modules.linear.Linear (save its \
             state_dict())",
            tiny::golden("module.pth").display()
        )
    );
}

#[test]
fn a_checkpoint_shows_every_tensor_by_its_path() {
    let bytes = std::fs::read(tiny::golden("wrapped.pth")).unwrap();
    let (views, metadata) = parse_state_dict(&bytes).unwrap();
    let names: Vec<&str> = views.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names[0], "state_dict.module.conv1.weight");
    assert_eq!(views[0].1.shape(), [2, 1, 3, 3]);
    assert!(names.contains(&"state_dict.module.linear.bias"));
    assert_eq!(names.len(), 8);
    assert!(metadata.is_empty());
}

#[test]
fn what_torchs_tools_leave_is_read_as_torch_reads_it() {
    for name in [
        "counter_double.pth",
        "counter_half.pth",
        "attributes.pth",
        "legacy_protocol4.pth",
        "legacy_protocol5.pth",
        "legacy_complex.pth",
        "ema.pth",
        "profiled.pth",
    ] {
        let tensors = read(name).unwrap_or_else(|error| panic!("{error}: {:?}", error.source()));
        assert_eq!(tensors, tiny::tensors(), "{name}");
    }
    let expanded = &read("expanded.pth").unwrap()["fc.weight"];
    assert_eq!(*expanded, residual_tensor::Tensor::f32(&[3, 2], vec![0.5, 0.5, 1.0, 1.0, 1.5, 1.5]));
    assert_eq!(read("pruned.pth").unwrap(), read("pruned_removed.pth").unwrap());
}

#[test]
fn what_was_decided_for_the_user_is_told() {
    let notes = |name: &str| {
        let Weights::StateDict(state) = open(&tiny::golden(name)).unwrap() else { panic!("a state dict") };
        state.into_model(&tiny::graph(), tiny::preprocessing(), Vec::new()).unwrap().1
    };
    assert!(notes("zip.pth").is_empty());
    assert_eq!(notes("ema.pth"), ["the averaged weights, under \"ema\", are read, not those under \"state_dict\""]);
    assert_eq!(notes("profiled.pth"), ["6 counts of a profiler are ignored, such as \"total_ops\""]);
}

#[test]
fn what_cannot_be_read_is_called_what_it_is() {
    let refused = |name: &str| {
        let path = tiny::golden(name);
        let error = read(name).unwrap_err().to_string();
        error.strip_prefix(&format!("{}: ", path.display())).unwrap_or_else(|| panic!("{error}")).to_owned()
    };
    assert_eq!(
        refused("not_finite.pth"),
        "tensor \"fc.weight\": expected finite values, got 3 of 6 that are NaN or infinite in 32 bits"
    );
    assert_eq!(
        refused("module_inside.pth"),
        "torch checkpoint: expected tensors, got none but \"model\", a pickled torch.nn.modules.linear.Linear (save its \
         state_dict())"
    );
    assert_eq!(
        refused("torchscript.pt"),
        "torch checkpoint: expected a state dict, got a TorchScript archive (save its state_dict())"
    );
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a");
    for (content, expected) in [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a".to_vec(), "got a git-lfs pointer"),
        (b"<!DOCTYPE html><html>".to_vec(), "got a web page"),
        (b"\x1f\x8b\x08\x00\x00".to_vec(), "got a compressed file"),
        (b"\x08\x08\x12\x07pytorch".to_vec(), "got an ONNX model"),
        (std::fs::read(tiny::golden("zip.pth")).unwrap()[..1500].to_vec(), "got one that was cut off after "),
        (std::fs::read(tiny::golden("plain.safetensors")).unwrap()[..40].to_vec(), "got one that was cut off after "),
        (std::fs::read(tiny::golden("plain.safetensors")).unwrap()[..700].to_vec(), "if it was cut off)"),
    ] {
        std::fs::write(&path, content).unwrap();
        let error = open(&path).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}
