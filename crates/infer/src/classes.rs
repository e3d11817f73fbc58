//! Maps a dataset's classes to the outputs of a network.

use crate::{ClassList, InferError};
use residual_data::{ClassMap, Dataset, are_names, match_classes};

/// The output that each class of `dataset` belongs to, of a network with `outputs` outputs called `labels` (empty where
/// their names are not known).
///
/// If both sides have names, classes are matched by name: a subset or a permutation is accepted. A `class_map` gives the
/// outputs of the dataset's names instead. Otherwise class indices are kept: a file of tensors may have fewer classes than
/// the network has outputs, but a dataset with named classes must have the same number.
///
/// # Errors
/// If the dataset has classes that the network or the map does not know, more than there are outputs, or named ones of
/// another number than a network without names has outputs.
pub fn map_classes(
    dataset: &dyn Dataset,
    labels: &[String],
    outputs: usize,
    class_map: Option<&ClassList>,
) -> Result<ClassMap, InferError> {
    let names = dataset.class_names();
    if let Some(list) = class_map {
        return list.map(names, outputs, labels);
    }
    let map = match_classes(names, labels)?;
    if !map.by_name {
        if are_names(names) && !are_names(labels) && names.len() != outputs {
            return Err(InferError::ClassCount { outputs, got: names.len() });
        }
        check_labels(dataset, outputs)?;
    }
    Ok(map)
}

/// Whether a network of `classes` outputs has one for every label of `dataset`.
///
/// # Errors
/// [`InferError::Label`] with the first image whose label is too high.
pub fn check_labels(dataset: &dyn Dataset, classes: usize) -> Result<(), InferError> {
    match (0..dataset.len()).find(|&index| dataset.label(index) as usize >= classes) {
        None => Ok(()),
        Some(index) => Err(InferError::Label { place: dataset.describe(index), classes, label: dataset.label(index) }),
    }
}
