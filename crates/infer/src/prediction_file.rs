//! The predictions of an evaluation as a file: a row per image.

#[cfg(feature = "parquet")]
mod parquet;

use crate::{Evaluation, ImageResult, InferError};
use residual_data::Dataset;
use residual_files::{atomic_write, csv_field};
use serde::Serialize;
use std::io::{self, Write};
use std::path::Path;

/// A format of [`write_predictions`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PredictionFileFormat {
    /// Comma-separated values with a heading, as in `predict --csv`: text that a spreadsheet would interpret as a formula
    /// gets an apostrophe before it.
    Csv,
    /// A JSON list of objects, one in each line.
    Json,
    /// Parquet, with the Cargo feature `parquet`.
    Parquet,
}

impl PredictionFileFormat {
    /// The format of a file's extension.
    ///
    /// # Errors
    /// [`InferError::PredictionFormat`] if there is none, or this was built without it.
    pub fn of(path: &Path) -> Result<Self, InferError> {
        let fail = |expected: &str| InferError::PredictionFormat { path: path.into(), expected: expected.into() };
        let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
        match extension.to_ascii_lowercase().as_str() {
            "csv" => Ok(Self::Csv),
            "json" => Ok(Self::Json),
            "parquet" if cfg!(feature = "parquet") => Ok(Self::Parquet),
            "parquet" => Err(fail(".csv or .json, as this was built without the feature \"parquet\"")),
            _ => Err(fail("a name that ends in .csv, .json or .parquet")),
        }
    }
}

/// A row of the file.
#[derive(Serialize)]
struct Row<'a> {
    /// The image's path, or its file and number.
    image: String,
    index: usize,
    label: &'a str,
    predicted: Option<&'a str>,
    probability: f32,
    correct: bool,
    loss: f64,
}

/// Writes a row for each image of an `evaluation` of `dataset`, in its order, in the format of the path's extension.
///
/// The columns are `image` ([`Dataset::describe`]), `index` in the dataset, `label`, `predicted` (empty if a logit is not
/// finite), `probability` of the predicted class, `correct` and `loss`. Classes have the model's names, or their indices if
/// it has none.
///
/// # Errors
/// If there is no such format, or the file cannot be written; a previous file is unchanged.
pub fn write_predictions(path: &Path, evaluation: &Evaluation, dataset: &dyn Dataset) -> Result<(), InferError> {
    let format = PredictionFileFormat::of(path)?;
    let name = |class: u32| evaluation.classes[class as usize].name.as_str();
    let row = |result: &ImageResult| Row {
        image: dataset.describe(result.index),
        index: result.index,
        label: name(result.label),
        predicted: result.predicted.map(name),
        probability: result.probability,
        correct: result.correct,
        loss: result.loss,
    };
    let rows = evaluation.results.iter().map(row);
    match format {
        PredictionFileFormat::Csv => atomic_write(path, |file| write_csv(file, rows))?,
        PredictionFileFormat::Json => atomic_write(path, |file| write_json(file, rows))?,
        #[cfg(feature = "parquet")]
        PredictionFileFormat::Parquet => parquet::write(path, rows)?,
        #[cfg(not(feature = "parquet"))]
        PredictionFileFormat::Parquet => unreachable!("the format was refused"),
    }
    Ok(())
}

fn write_csv<'a>(file: &mut dyn Write, rows: impl Iterator<Item = Row<'a>>) -> io::Result<()> {
    writeln!(file, "image,index,label,predicted,probability,correct,loss")?;
    for Row { image, index, label, predicted, probability, correct, loss } in rows {
        let [image, label, predicted] = [&image, label, predicted.unwrap_or_default()].map(csv_field);
        writeln!(file, "{image},{index},{label},{predicted},{probability},{correct},{loss}")?;
    }
    Ok(())
}

fn write_json<'a>(file: &mut dyn Write, rows: impl Iterator<Item = Row<'a>>) -> io::Result<()> {
    let mut separator = "[\n";
    for row in rows {
        file.write_all(separator.as_bytes())?;
        serde_json::to_writer(&mut *file, &row)?;
        separator = ",\n";
    }
    file.write_all(b"\n]\n")
}
