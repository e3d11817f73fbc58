//! A checkpoint of ours says all that is needed to run it, and comes back as it went.

use crate::tiny;
use residual_graph::{NodeId, Op};
use residual_model::{
    Initialisation, Model, Quantization, QuantizedWeight, WeightBits, dequantize, fold_batch_norm, initialise,
    quantize, quantized_values,
};
use residual_preprocess::Preprocessing;
use residual_tensor::{NamedTensors, Tensor};
use residual_weights::{
    Checkpoint, Metadata, Weights, load, load_into, load_tensors, open, save, save_sparse, save_tensors, weights_file,
};
use std::collections::HashSet;
use std::error::Error;
use std::path::Path;

fn model() -> Model {
    let labels = ["cat", "dog", "\"quoted\" ünï"].map(String::from).to_vec();
    Model::new(tiny::graph(), tiny::tensors(), tiny::preprocessing(), labels).unwrap()
}

#[test]
fn a_checkpoint_comes_back_as_it_went() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.safetensors");
    for recipe in [None, Some("epochs = 3\n[optimiser]\nlr = 0.1\n")] {
        save(&path, &model(), recipe).unwrap();
        let expected = Checkpoint { model: model(), recipe: recipe.map(String::from) };
        assert_eq!(load(&path).unwrap(), expected);
        assert!(matches!(open(&path).unwrap(), Weights::Checkpoint(checkpoint) if *checkpoint == expected));
    }
    let bare = load_into(&path, &tiny::graph(), tiny::preprocessing(), Vec::new()).unwrap();
    assert_eq!(bare.tensors, tiny::tensors());
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "no temporary file is left");
}

#[test]
fn a_temperature_comes_back_and_is_1_in_files_without_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.safetensors");
    for expected in [1.37, 1.0, 0.1] {
        save(&path, &model().with_temperature(expected).unwrap(), None).unwrap();
        assert_eq!(load(&path).unwrap().model.temperature, expected);
        let (_, metadata) = load_tensors(&path).unwrap();
        assert_eq!(metadata.contains_key("residual.temperature"), expected != 1.0);
    }
    assert!(model().with_temperature(f32::NAN).is_err());
    assert_eq!(
        with_metadata(&path, "residual.temperature", Some("-2.0")),
        "temperature: expected a positive number, got -2"
    );
}

#[test]
fn a_network_of_the_zoo_comes_back_bit_for_bit() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("resnet20.safetensors");
    let graph = residual_zoo::build("resnet20", 10).unwrap();
    let tensors = initialise(&graph, Initialisation::Torch, 3);
    let preprocessing = Preprocessing::unscaled([32, 32], &[0.4914, 0.4822, 0.4465], &[0.247, 0.2435, 0.2616]);
    let model = Model::new(graph, tensors, preprocessing, Vec::new()).unwrap();
    save(&path, &model, None).unwrap();
    let loaded = load(&path).unwrap().model;
    assert_eq!(loaded, model);
    assert!(loaded.tensors.keys().eq(model.tensors.keys()));
}

#[test]
fn equal_models_give_equal_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let [a, b] = ["a", "b"].map(|name| folder.path().join(name));
    save(&a, &model(), Some("x = 1")).unwrap();
    save(&b, &model(), Some("x = 1")).unwrap();
    assert_eq!(std::fs::read(a).unwrap(), std::fs::read(b).unwrap());
}

#[test]
fn the_file_is_aligned_safetensors_with_torchs_keys_and_a_format() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.safetensors");
    save(&path, &model(), None).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    let (header, info) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
    assert_eq!(header % 8, 0);
    let metadata = info.metadata().as_ref().unwrap();
    assert_eq!(metadata["format"], "pt");
    assert_eq!(metadata["residual.labels"], r#"["cat","dog","\"quoted\" ünï"]"#);
    let mut keys: Vec<String> = info.tensors().into_keys().collect();
    let mut expected: Vec<String> = tiny::tensors().into_keys().collect();
    keys.sort();
    expected.sort();
    assert_eq!(keys, expected);
    for tensor in info.tensors().values() {
        assert_eq!(tensor.data_offsets.0 % (tensor.dtype.bitsize() / 8), 0);
    }
}

#[test]
fn a_run_folder_stands_for_its_best_weights() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("weights")).unwrap();
    let best = folder.path().join("weights/best.safetensors");
    assert_eq!(weights_file(folder.path()), best);
    let error = load(folder.path()).unwrap_err();
    assert_eq!(
        (error.path.as_path(), error.to_string()),
        (best.as_path(), format!("{}: cannot be read", best.display()))
    );
    save(&best, &model(), None).unwrap();
    assert_eq!(load(folder.path()).unwrap().model, model());
}

/// The checkpoint with one entry of its metadata changed or removed.
fn with_metadata(path: &Path, key: &str, value: Option<&str>) -> String {
    save(path, &model(), None).unwrap();
    let (tensors, mut metadata) = load_tensors(path).unwrap();
    match value {
        Some(value) => metadata.insert(key.into(), value.into()),
        None => metadata.remove(key),
    };
    save_tensors(path, &tensors, &metadata).unwrap();
    let error = load(path).unwrap_err();
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text += &format!(": {error}");
        source = error.source();
    }
    text.strip_prefix(&format!("{}: ", path.display())).expect("the file stands first").to_owned()
}

#[test]
fn damaged_metadata_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.safetensors");
    let error = |key, value| with_metadata(&path, key, value);
    assert_eq!(error("residual.graph", None), "a state dict without a graph: name the network with --model");
    assert!(error("residual.graph", Some("{}")).starts_with("metadata \"residual.graph\": node \"graph\": JSON: "));
    let missing = error("residual.preprocessing", None);
    assert_eq!(missing, "metadata \"residual.preprocessing\": expected JSON, got none");
    let two = r#"{"size":[4,4],"crop_pct":2.0,"interpolation":"bilinear","mean":[0.5],"std":[0.5]}"#;
    assert_eq!(
        error("residual.preprocessing", Some(two)),
        "metadata \"residual.preprocessing\": preprocessing: crop_pct: expected a fraction in (0, 1], got 2"
    );
    assert!(error("residual.labels", Some("[1]")).starts_with("metadata \"residual.labels\": invalid type"));
    assert_eq!(error("residual.labels", Some(r#"["one"]"#)), "labels: expected one for each of 3 outputs, got 1");
    let other = residual_zoo::build("resnet20", 10).unwrap().to_json();
    assert!(
        error("residual.graph", Some(&other))
            .starts_with("tensor \"conv1.weight\": expected [16, 3, 3, 3], got [2, 1, 3, 3]; ")
    );
}

#[test]
fn state_comes_back_with_its_metadata_integers_first() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("last.safetensors");
    let tensors = NamedTensors::from([
        ("momentum.conv1.weight".into(), Tensor::f32(&[2, 2], vec![0.1, f32::MIN_POSITIVE, -0.0, f32::MAX])),
        ("position".into(), Tensor::i64(&[2], vec![i64::MIN, i64::MAX])),
        ("empty".into(), Tensor::f32(&[0, 3], Vec::new())),
        ("large".into(), Tensor::f32(&[3, 4321], (0..3 * 4321).map(|i| i as f32).collect())),
    ]);
    let metadata = Metadata::from([("step".into(), "17".into()), ("schedule".into(), "{\"a\": [1]}".into())]);
    save_tensors(&path, &tensors, &metadata).unwrap();
    let (loaded, loaded_metadata) = load_tensors(&path).unwrap();
    assert_eq!((&loaded, loaded_metadata), (&tensors, metadata));
    assert_eq!(loaded.keys().collect::<Vec<_>>(), ["position", "momentum.conv1.weight", "empty", "large"]);

    let diverged = NamedTensors::from([("momentum.fc.bias".into(), Tensor::f32(&[2], vec![0.0, f32::NAN]))]);
    save_tensors(&path, &diverged, &Metadata::new()).unwrap();
    let error = load_tensors(&path).unwrap_err().to_string();
    assert!(error.contains("tensor \"momentum.fc.bias\": expected finite values, got 1 of 2"), "{error}");

    save_tensors(&path, &NamedTensors::new(), &Metadata::new()).unwrap();
    assert_eq!(load_tensors(&path).unwrap(), (NamedTensors::new(), Metadata::new()));

    let reserved = NamedTensors::from([("__metadata__".into(), Tensor::full(&[1], 0.0))]);
    let error = save_tensors(&path, &reserved, &Metadata::new()).unwrap_err().to_string();
    assert!(error.ends_with("safetensors: expected tensor names other than \"__metadata__\""), "{error}");
}

#[test]
fn a_model_whose_parts_no_longer_fit_is_not_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.safetensors");
    let mut model = model();
    model.tensors.shift_remove("fc.bias");
    let error = save(&path, &model, None).unwrap_err();
    assert_eq!(error.to_string(), format!("{}: tensor \"fc.bias\": expected [3], got none", path.display()));
    assert!(!path.exists());
}

/// Bytes are stored as bytes, behind what must be aligned, and only bytes are read for them.
#[test]
fn a_quantised_network_comes_back_bit_for_bit_in_a_quarter_of_the_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let [floats, bytes] = ["floats", "bytes"].map(|name| folder.path().join(name).with_extension("safetensors"));
    let graph = residual_zoo::build("resnet20", 10).unwrap();
    let tensors = initialise(&graph, Initialisation::Torch, 3);
    let preprocessing = Preprocessing::unscaled([32, 32], &[0.5; 3], &[0.25; 3]);
    let model = fold_batch_norm(&Model::new(graph, tensors, preprocessing, Vec::new()).unwrap(), &[]);
    let is_layer = |id: &NodeId| matches!(model.graph.node(*id).op, Op::Conv2d(_) | Op::Linear { .. });
    let layers: HashSet<NodeId> = (0..model.graph.nodes.len()).map(NodeId).filter(is_layer).collect();
    let name = |id: &NodeId| model.graph.node(*id).name.clone();
    let weight = |id: &NodeId| {
        QuantizedWeight::nearest(&model.tensors[format!("{}.weight", name(id)).as_str()], WeightBits::Eight)
    };
    let weights = layers.iter().map(|id| (name(id), weight(id))).collect();
    let values = quantized_values(&model.graph, &layers);
    let values = values.iter().map(|id| (name(id), Quantization::of_range(-1.0, 2.0))).collect();
    let quantized = quantize(&model, &weights, &values).unwrap();
    save(&floats, &model, None).unwrap();
    save(&bytes, &quantized, None).unwrap();
    assert_eq!(load(&bytes).unwrap().model, quantized);
    let [floats, small] = [&floats, &bytes].map(|path| std::fs::metadata(path).unwrap().len());
    assert!(small * 3 < floats, "{small} of {floats} bytes");
    let (mut tensors, metadata) = load_tensors(&bytes).unwrap();
    let shape = tensors["conv1.weight"].shape().to_vec();
    tensors.insert("conv1.weight".into(), Tensor::full(&shape, 0.5));
    save_tensors(&bytes, &tensors, &metadata).unwrap();
    let error = load(&bytes).unwrap_err().to_string();
    assert!(error.contains("tensor \"conv1.weight\": expected elements of type i8, got f32"), "{error}");
}

#[test]
fn four_bits_come_back_in_an_eighth_of_the_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let [floats, small] = ["floats", "small"].map(|name| folder.path().join(name).with_extension("safetensors"));
    let model = tiny::four_bits();
    save(&floats, &dequantize(&model), Some("a = 1")).unwrap();
    save(&small, &model, Some("a = 1")).unwrap();
    assert_eq!(load(&small).unwrap(), Checkpoint { model: model.clone(), recipe: Some("a = 1".into()) });
    let (tensors, metadata) = load_tensors(&small).unwrap();
    let len = |layer: &str| tensors[&format!("{layer}.weight_4bit")].len();
    assert_eq!(["conv1", "conv2", "fc"].map(len), [144, 12, 5]);
    assert!(!tensors.contains_key("conv1.weight"));
    let shapes: serde_json::Value = serde_json::from_str(&metadata["residual.four_bits"]).unwrap();
    assert_eq!(shapes["conv1.weight"], serde_json::json!(model.tensors["conv1.weight"].shape()));
    let stored = |path| load_tensors(path).unwrap().0;
    let bytes = |tensors: &NamedTensors, key: &str, size: usize| tensors[key].len() * size;
    let [before, after] = [bytes(&stored(&floats), "conv1.weight", 4), bytes(&stored(&small), "conv1.weight_4bit", 1)];
    assert_eq!(before, 8 * after);
}

#[test]
fn a_weight_in_four_bits_that_does_not_fit_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.safetensors");
    save(&path, &tiny::four_bits(), None).unwrap();
    let (mut good, metadata) = load_tensors(&path).unwrap();
    // It reads integers of any width as i64.
    for (key, tensor) in good.iter_mut().filter(|(key, _)| key.ends_with("_4bit")) {
        let bytes = tensor.as_i64().unwrap_or_else(|| panic!("{key} has integers")).iter().map(|&value| value as u8);
        *tensor = Tensor::u8(&[tensor.len()], bytes.collect());
    }
    let error = |key: &str, stored: Option<Tensor>| {
        let mut tensors = good.clone();
        tensors.shift_remove(key);
        tensors.extend(stored.map(|tensor| (key.to_owned(), tensor)));
        save_tensors(&path, &tensors, &metadata).unwrap();
        load(&path).unwrap_err().to_string().strip_prefix(&format!("{}: ", path.display())).unwrap().to_owned()
    };
    let bytes = |len: usize| Some(Tensor::u8(&[len], vec![0xf0; len]));
    assert_eq!(error("conv1.weight_4bit", None), "tensor \"conv1.weight\": expected [8, 4, 3, 3], got none");
    assert_eq!(
        error("conv1.weight_4bit", bytes(143)),
        "tensor \"conv1.weight_4bit\": expected [144] of type u8, got [143] of type u8"
    );
    assert_eq!(
        error("conv1.weight_4bit", Some(Tensor::full(&[144], 1.0))),
        "tensor \"conv1.weight_4bit\": expected [144] of type u8, got [144] of type f32"
    );
    assert_eq!(
        error("fc.weight_4bit", bytes(5)),
        "tensor \"fc.weight_4bit\": expected 9 integers, and zero to fill up the last byte, got another"
    );
}

/// The file in which numpy packed the bits.
#[test]
fn a_weight_without_its_zeros_is_read_as_it_was() {
    let path = tiny::golden("sparse_weight.safetensors");
    let read = load_into(&path, &tiny::graph(), tiny::preprocessing(), Vec::new()).unwrap().tensors;
    let mut expected = tiny::tensors();
    let weight = expected["conv1.weight"].as_f32_mut().unwrap();
    weight.iter_mut().step_by(3).for_each(|value| *value = 0.0);
    assert_eq!(read, expected);
}

#[test]
fn zeros_are_not_stored_where_that_saves_space_and_every_bit_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    let [dense, sparse] = ["dense", "sparse"].map(|name| folder.path().join(name).with_extension("safetensors"));
    let model = tiny::sparse();
    save(&dense, &model, Some("a = 1")).unwrap();
    save_sparse(&sparse, &model, Some("a = 1")).unwrap();
    let (loaded, expected) = (load(&sparse).unwrap(), load(&dense).unwrap());
    assert_eq!(loaded, expected);
    assert!(loaded.model.tensors["conv1.weight"].as_f32().unwrap()[0].is_sign_negative());
    // Of 288 weights 72 and the negative zero are kept: four bytes each, and 36 of bits.
    let (tensors, metadata) = load_tensors(&sparse).unwrap();
    let len = |key: &str| tensors[key].len();
    assert_eq!([len("conv1.weight_values"), len("conv1.weight_bits"), len("fc.weight")], [73, 36, 24]);
    assert!(!tensors.contains_key("conv1.weight"));
    assert_eq!(metadata["residual.sparse"], r#"{"conv1.weight":[8,4,3,3]}"#);
    let [dense, compact] = [&dense, &sparse].map(|path| std::fs::metadata(path).unwrap().len());
    assert!(compact + 600 < dense, "{compact} of {dense} bytes");
    // A network without zeros is the same file.
    save(&sparse, &self::model(), None).unwrap();
    let bytes = std::fs::read(&sparse).unwrap();
    save_sparse(&sparse, &self::model(), None).unwrap();
    assert!(std::fs::read(&sparse).unwrap() == bytes);
}

#[test]
fn parts_of_a_weight_that_do_not_fit_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.safetensors");
    save_sparse(&path, &tiny::sparse(), None).unwrap();
    let (good, metadata) = load_tensors(&path).unwrap();
    let bits: Vec<u8> = good["conv1.weight_bits"].as_i64().unwrap().iter().map(|&byte| byte as u8).collect();
    let error = |values: Option<Tensor>, bits: Option<Tensor>| {
        let mut tensors = good.clone();
        for (key, part) in [("conv1.weight_values", values), ("conv1.weight_bits", bits)] {
            tensors.shift_remove(key);
            tensors.extend(part.map(|part| (key.to_owned(), part)));
        }
        save_tensors(&path, &tensors, &metadata).unwrap();
        load(&path).unwrap_err().to_string().strip_prefix(&format!("{}: ", path.display())).unwrap().to_owned()
    };
    let values = |len: usize| Some(Tensor::full(&[len], 1.0));
    let mask = |bytes: &[u8]| Some(Tensor::u8(&[bytes.len()], bytes.to_vec()));
    assert_eq!(
        error(values(73), None),
        "tensor \"conv1.weight_bits\": expected it beside \"conv1.weight_values\", got none"
    );
    assert_eq!(
        error(None, mask(&bits)),
        "tensor \"conv1.weight_values\": expected it beside \"conv1.weight_bits\", got none"
    );
    assert_eq!(
        error(values(72), mask(&bits)),
        "tensor \"conv1.weight_values\": expected [73] of type f32, as the bits say, got [72] of type f32"
    );
    assert_eq!(
        error(values(73), mask(&bits[1..])),
        "tensor \"conv1.weight_bits\": expected [36] of type u8, got [35] of type u8"
    );
    assert_eq!(
        error(values(73), Some(Tensor::full(&[36], 1.0))),
        "tensor \"conv1.weight_bits\": expected [36] of type u8, got [36] of type f32"
    );
    let not_finite = Some(Tensor::full(&[73], f32::NAN));
    assert!(error(not_finite, mask(&bits)).starts_with("tensor \"conv1.weight_values\": expected finite values"));
}
