//! Measured algorithms as a JSON file.

use crate::InferError;
use residual_engine::{Tuned, Tuning};
use residual_files::{atomic_write, read_text};
use residual_kernels::conv::{Algorithm, ConvShape, Direction};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// The largest file that is read: some thousand networks' choices.
const MAX_BYTES: u64 = 16 << 20;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    choices: Vec<Choice>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Choice {
    input: [usize; 2],
    channels: [usize; 2],
    kernel: [usize; 2],
    stride: [usize; 2],
    padding: [usize; 2],
    dilation: [usize; 2],
    groups: usize,
    images: usize,
    pass: Pass,
    algorithm: String,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Pass {
    /// Forward with weights packed in advance.
    Infer,
    Forward,
    Data,
    Weights,
}

/// Reads what [`write_tuning`] wrote.
///
/// # Errors
/// If the file cannot be read, is too large, or is not such a document.
pub fn read_tuning(path: &Path) -> Result<Tuning, InferError> {
    let fail = |got: String| InferError::Tuning { path: path.to_path_buf(), got };
    let text = read_text(path, MAX_BYTES)?;
    let document: Document = serde_json::from_str(&text).map_err(|error| fail(error.to_string()))?;
    let mut tuning = Tuning::default();
    for choice in document.choices {
        let algorithm = Algorithm::ALL.into_iter().find(|algorithm| algorithm.name() == choice.algorithm);
        let algorithm = algorithm.ok_or_else(|| fail(format!("algorithm \"{}\"", choice.algorithm)))?;
        tuning.insert(choice.tuned(), algorithm);
    }
    Ok(tuning)
}

/// Writes a tuning atomically.
///
/// # Errors
/// If the file cannot be written.
pub fn write_tuning(path: &Path, tuning: &Tuning) -> Result<(), InferError> {
    let choices = tuning.iter().map(|(tuned, algorithm)| Choice::new(tuned, *algorithm)).collect();
    let text = serde_json::to_string_pretty(&Document { choices }).expect("numbers and names have a JSON form");
    Ok(atomic_write(path, |file| file.write_all(text.as_bytes()))?)
}

impl Choice {
    fn new(tuned: &Tuned, algorithm: Algorithm) -> Self {
        let Tuned { shape, images, direction, packed_once } = *tuned;
        Self {
            input: shape.input,
            channels: [shape.in_channels, shape.out_channels],
            kernel: shape.kernel,
            stride: shape.stride,
            padding: shape.padding,
            dilation: shape.dilation,
            groups: shape.groups,
            images,
            pass: match direction {
                Direction::Forward if packed_once => Pass::Infer,
                Direction::Forward => Pass::Forward,
                Direction::BackwardData => Pass::Data,
                Direction::BackwardWeights => Pass::Weights,
            },
            algorithm: algorithm.name().to_owned(),
        }
    }

    fn tuned(&self) -> Tuned {
        let [in_channels, out_channels] = self.channels;
        let &Self { input, kernel, stride, padding, dilation, groups, images, pass, .. } = self;
        let shape = ConvShape { input, in_channels, out_channels, kernel, stride, padding, dilation, groups };
        let (direction, packed_once) = match pass {
            Pass::Infer => (Direction::Forward, true),
            Pass::Forward => (Direction::Forward, false),
            Pass::Data => (Direction::BackwardData, false),
            Pass::Weights => (Direction::BackwardWeights, false),
        };
        Tuned { shape, images, direction, packed_once }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tuning_survives_its_file_and_anything_else_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tuning.json");
        let shape = ConvShape {
            input: [7, 9],
            in_channels: 3,
            out_channels: 5,
            kernel: [3, 1],
            stride: [1, 2],
            padding: [1, 0],
            dilation: [2, 1],
            groups: 1,
        };
        let mut tuning = Tuning::default();
        for (direction, packed_once) in [
            (Direction::Forward, true),
            (Direction::Forward, false),
            (Direction::BackwardData, false),
            (Direction::BackwardWeights, false),
        ] {
            for (images, algorithm) in Algorithm::ALL.into_iter().enumerate() {
                tuning.insert(Tuned { shape, images, direction, packed_once }, algorithm);
            }
        }
        write_tuning(&path, &tuning).unwrap();
        assert_eq!(read_tuning(&path).unwrap(), tuning);
        let text = std::fs::read_to_string(&path).unwrap();
        for wrong in [text.replace("winograd2", "magic"), text.replace("groups", "gruppen"), String::new()] {
            std::fs::write(&path, wrong).unwrap();
            let error = read_tuning(&path).unwrap_err().to_string();
            assert!(error.contains("tuning.json: choices: expected measured algorithms, got "), "{error}");
        }
    }
}
