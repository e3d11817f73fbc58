//! `residual export`.

mod verify;

use crate::args::{ExportWeights, FileFormat};
use crate::failure::Failure;
use crate::output::{bytes, facts, path_text, print, print_json};
use crate::{Done, weights};
use residual::files::atomic_write;
use residual::model::{Model, fold_batch_norm};
use residual::onnx::{Input, OnnxModel};
use residual::weights::{save, weights_file};
use serde::Serialize;
use std::path::{Path, PathBuf};

#[derive(Serialize)]
struct Document<'a> {
    file: String,
    format: &'static str,
    model: &'a str,
    bytes: u64,
    folded: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    opset: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    verified: Option<Verified>,
}

/// The result of running the file in another engine.
#[derive(Serialize)]
struct Verified {
    program: &'static str,
    images: usize,
    /// The largest difference of two logits, relative to the largest logit.
    difference: f32,
    tolerance: f32,
}

pub(crate) fn run(arguments: &ExportWeights) -> Result<Done, Failure> {
    let format = format(arguments)?;
    check(arguments, format)?;
    let opened = weights::open(&arguments.weights)?;
    let recipe = opened.recipe().map(str::to_owned);
    let model = arguments.image.apply(weights::resolve(&arguments.weights.weights, opened, None)?)?;
    let output = output(arguments, format, &model)?;
    let mut document = Document {
        file: path_text(&output),
        format: format.name(),
        model: &model.graph.name,
        bytes: 0,
        folded: arguments.fold,
        opset: None,
        verified: None,
    };
    let folded = arguments.fold.then(|| fold_batch_norm(&model, &[]));
    let written = folded.as_ref().unwrap_or(&model);
    match format {
        FileFormat::Onnx => {
            let onnx = OnnxModel::with_input(written, input(arguments))?;
            atomic_write(&output, |file| onnx.write(file))?;
            document.opset = Some(onnx.opset());
        }
        FileFormat::Safetensors => save(&output, written, recipe.as_deref())?,
    }
    document.bytes = std::fs::metadata(&output).map_err(|error| Failure::at(output.display(), &error))?.len();
    drop(folded);
    if arguments.verify {
        document.verified = Some(verify::run(&output, &model, &arguments.inputs)?);
    }
    if arguments.print.json {
        print_json(&document)?;
    } else {
        print(&facts(&lines(&document, &model, input(arguments))))?;
    }
    Ok(Done::Finished)
}

/// The format that was typed, or that of the output's name.
fn format(arguments: &ExportWeights) -> Result<FileFormat, Failure> {
    let named = arguments.output.as_deref().and_then(FileFormat::of_file);
    arguments.format.or(named).ok_or_else(|| {
        Failure::usage("--format is required for an output whose name does not end in .onnx or .safetensors")
    })
}

/// Refuses flags that do not fit together before anything is read.
fn check(arguments: &ExportWeights, format: FileFormat) -> Result<(), Failure> {
    let ExportWeights { preprocess, dynamic_size, verify, .. } = *arguments;
    for (flag, is_set) in [("preprocess", preprocess), ("dynamic-size", dynamic_size), ("verify", verify)] {
        if is_set && format != FileFormat::Onnx {
            let got = format.name();
            return Err(Failure::usage(format!("{flag}: expected --format onnx, got {got}")));
        }
    }
    if verify && preprocess {
        return Err(Failure::usage(
            "verify: expected a file for normalised images, got --preprocess: rten has no antialiased resizing",
        ));
    }
    if verify { verify::available() } else { Ok(()) }
}

/// What the ONNX file reads.
fn input(arguments: &ExportWeights) -> Input {
    match (arguments.preprocess, arguments.dynamic_size) {
        (true, _) => Input::Images,
        (false, true) => Input::AnySize,
        (false, false) => Input::Normalized,
    }
}

/// The file to write, which must not be the weights' file.
fn output(arguments: &ExportWeights, format: FileFormat, model: &Model) -> Result<PathBuf, Failure> {
    let named = || PathBuf::from(format!("{}.{}", file_name(&model.graph.name), format.name()));
    let output = arguments.output.clone().unwrap_or_else(named);
    let real = |path: &Path| path.canonicalize().ok();
    let read = weights_file(&arguments.weights.weights);
    if real(&output).is_some_and(|output| real(&read) == Some(output)) {
        let output = output.display();
        return Err(Failure::usage(format!(
            "output: expected another file than the weights', got {output}: use --output"
        )));
    }
    Ok(output)
}

/// A network's name as a file name: the name in a checkpoint may be any text.
fn file_name(name: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' };
    let name: String = name.trim_start_matches('.').chars().take(64).map(plain).collect();
    if name.is_empty() { "model".to_owned() } else { name }
}

fn lines(document: &Document<'_>, model: &Model, input: Input) -> Vec<(&'static str, String)> {
    let ([height, width], channels) = (model.preprocessing.size, model.preprocessing.channels());
    let upright = if model.preprocessing.exif_orientation { ", upright" } else { "" };
    let images = match input {
        Input::Normalized => format!("N×{channels}×{height}×{width}, normalised"),
        Input::AnySize => format!("N×{channels}×height×width, normalised"),
        Input::Images => format!("N×height×width×{channels} in bytes{upright}"),
    };
    let mut lines = vec![
        ("file", document.file.clone()),
        ("network", document.model.to_owned()),
        ("size", bytes(document.bytes)),
        ("input", images),
    ];
    if let Some(opset) = document.opset {
        lines.push(("opset", opset.to_string()));
    }
    if let Some(Verified { program, images, difference, tolerance }) = &document.verified {
        let text =
            format!("{program} on {images} images: {difference:.1e} of the largest logit (tolerance {tolerance:.0e})");
        lines.push(("verified", text));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_networks_name_leads_to_no_other_folder() {
        let cases = [("resnet50", "resnet50"), ("../../etc/x", "_.._etc_x"), ("a b\\c:d", "a_b_c_d"), ("..", "model")];
        for (name, expected) in cases {
            assert_eq!(file_name(name), expected);
        }
        assert_eq!(file_name(&"a".repeat(300)).len(), 64);
    }
}
