//! Maps alternative module names to torchvision's: timm's ConvNeXt and VGG, the ConvNeXt of its authors, and the
//! DenseNet of torchvision's own old files.

/// Candidate names in the graph for `name`, the most likely first.
pub(crate) fn torchvision_names(name: &str) -> Vec<String> {
    let parts: Vec<&str> = name.split('.').collect();
    match parts.as_slice() {
        // ConvNeXt: timm's stem, and the authors'.
        ["stem", index, parameter] | ["downsample_layers", "0", index, parameter] => {
            vec![format!("features.0.{index}.{parameter}")]
        }
        ["stages", stage, "downsample", index, parameter] | ["downsample_layers", stage, index, parameter] => {
            numbered(stage, |stage| format!("features.{}.{index}.{parameter}", 2 * stage))
        }
        ["stages", stage, "blocks", block, inside @ ..] | ["stages", stage, block, inside @ ..] => {
            let Some(inside) = convnext_block(inside) else { return Vec::new() };
            numbered(stage, |stage| format!("features.{}.{block}.{inside}", 2 * stage + 1))
        }
        ["head", "norm", parameter] | ["norm", parameter] => vec![format!("classifier.0.{parameter}")],
        ["head", parameter] => vec![format!("classifier.2.{parameter}")],
        // ConvNeXt's, VGG's, and a ResNet's in mmpretrain, whose trunk is `backbone`.
        ["head", "fc", parameter] => {
            ["classifier.2", "classifier.6", "fc"].map(|head| format!("{head}.{parameter}")).to_vec()
        }
        ["pre_logits", "fc1", parameter] => vec![format!("classifier.0.{parameter}")],
        ["pre_logits", "fc2", parameter] => vec![format!("classifier.3.{parameter}")],
        // DenseNet, from before names could not hold points.
        [path @ .., layer, kind @ ("norm" | "conv"), index @ ("1" | "2"), parameter]
            if layer.starts_with("denselayer") =>
        {
            let path: String = path.iter().flat_map(|part| [*part, "."]).collect();
            vec![format!("{path}{layer}.{kind}{index}.{parameter}")]
        }
        _ => Vec::new(),
    }
}

fn numbered(stage: &str, name: impl Fn(usize) -> String) -> Vec<String> {
    // Two digits are enough for any network, and twice as many fit.
    let stage = if stage.len() <= 2 { stage.parse().ok() } else { None };
    stage.map(name).into_iter().collect()
}

/// The path inside a block of ConvNeXt.
fn convnext_block(inside: &[&str]) -> Option<String> {
    let (place, parameter) = match inside {
        ["gamma"] => return Some("layer_scale".into()),
        ["conv_dw" | "dwconv", parameter] => (0, parameter),
        ["norm", parameter] => (2, parameter),
        ["mlp", "fc1", parameter] | ["pwconv1", parameter] => (3, parameter),
        ["mlp", "fc2", parameter] | ["pwconv2", parameter] => (5, parameter),
        _ => return None,
    };
    Some(format!("block.{place}.{parameter}"))
}
