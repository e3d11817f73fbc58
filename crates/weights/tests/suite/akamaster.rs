//! The widespread CIFAR-10 checkpoints of github.com/akamaster/pytorch_resnet_cifar10 load: legacy format, `state_dict`,
//! `module.`, `linear`, no `num_batches_tracked`, option-A shortcuts.

use residual_preprocess::Preprocessing;
use residual_tensor::Tensor;
use residual_weights::load_into;
use std::path::PathBuf;

/// The folder of test data, or `None` (said on stderr) where there is none.
fn data() -> Option<PathBuf> {
    match std::env::var_os("RESIDUAL_TEST_DATA") {
        Some(folder) => Some(PathBuf::from(folder).join("akamaster")),
        None if std::env::var_os("RESIDUAL_REQUIRE_DATA").is_some_and(|required| required == "1") => {
            panic!("RESIDUAL_REQUIRE_DATA=1, but RESIDUAL_TEST_DATA is not set")
        }
        None => {
            eprintln!("skipped: RESIDUAL_TEST_DATA is not set");
            None
        }
    }
}

#[test]
fn akamasters_checkpoints_load_into_option_a_networks() {
    let Some(folder) = data() else { return };
    for (file, model) in [("resnet20-12fca82f.th", "resnet20_a"), ("resnet56-4bfd9763.th", "resnet56_a")] {
        let graph = residual_zoo::build(model, 10).unwrap();
        let mean = Preprocessing::unscaled([32, 32], &Preprocessing::IMAGENET_MEAN, &Preprocessing::IMAGENET_STD);
        let model = load_into(&folder.join(file), &graph, mean, Vec::new()).unwrap();
        assert_eq!(model.tensors["bn1.num_batches_tracked"], Tensor::i64(&[], vec![0]));
        let variances = model.tensors.iter().filter(|(key, _)| key.ends_with("running_var"));
        assert!(variances.flat_map(|(_, tensor)| tensor.as_f32().unwrap()).all(|&v| v > 0.0 && v.is_finite()));
    }
}

#[test]
fn a_projection_network_is_told_what_akamasters_file_lacks() {
    let Some(folder) = data() else { return };
    let path = folder.join("resnet20-12fca82f.th");
    let graph = residual_zoo::build("resnet20", 10).unwrap();
    let mean = Preprocessing::unscaled([32, 32], &Preprocessing::IMAGENET_MEAN, &Preprocessing::IMAGENET_STD);
    let error = load_into(&path, &graph, mean, Vec::new()).unwrap_err();
    let expected = "tensor \"layer2.0.downsample.0.weight\": expected [32, 16, 1, 1], got none; ";
    assert!(error.to_string().starts_with(&format!("{}: {expected}", path.display())), "{error}");
}
