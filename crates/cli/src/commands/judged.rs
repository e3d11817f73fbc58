//! Finds the images that a model is judged on.

use crate::args::Judged;
use crate::commands;
use crate::failure::Failure;
use crate::output::path_text;
use residual::data::{self, HeldOut, Part, Selection, Source, Split};
use residual::train::{Layer, Recipe};
use std::path::{Path, PathBuf};

/// The data that were typed, or that a run was trained on.
pub(super) struct Found {
    pub(super) source: Source,
    /// Name and folder of the source, as settings of training have them.
    pub(super) data: (String, Option<PathBuf>),
    /// The split that was typed.
    pub(super) split: Option<data::Split>,
    /// The images that the weights' run held out of these data.
    pub(super) held_out: Option<HeldOut>,
    /// Whether `--val-split` was typed.
    is_val_split_typed: bool,
}

impl Found {
    /// The data of `arguments`, or of the recipe in the checkpoint at `weights`.
    pub(super) fn new(arguments: &Judged, weights: &Path, recipe: Option<&str>) -> Result<Self, Failure> {
        let recipe = recipe.and_then(|text| Recipe::resolve(&[Layer::parse("recipe", text).ok()?]).ok());
        let recipe = recipe.map(|resolved| resolved.recipe);
        let (name, data_dir) = data_of(arguments, weights, recipe.as_ref())?;
        Ok(Self {
            source: commands::data::open(&name, data_dir.as_deref())?,
            data: (name, data_dir),
            split: arguments.split.map(data::Split::from),
            held_out: held_out(arguments, recipe.as_ref()),
            is_val_split_typed: arguments.val_split.is_some(),
        })
    }

    /// The images to judge a model on.
    pub(super) fn selection(&self) -> Result<Selection, Failure> {
        Ok(self.source.evaluation(self.split, self.held_out)?)
    }

    /// Refuses a `--val-split` that has no part in what is done: that judges on `part`, and neither trains nor fits anything.
    pub(super) fn check_val_split(&self, part: Part) -> Result<(), Failure> {
        match part {
            Part::Split(Split::Test) if self.is_val_split_typed && self.split.is_none() => {
                Err(Failure::usage("--val-split: expected --split val beside it, as the data have test images"))
            }
            Part::Split(part) if self.is_val_split_typed => {
                let part = part.name();
                Err(Failure::usage(format!("--val-split: expected none, as the data's {part} images are judged on")))
            }
            _ => Ok(()),
        }
    }
}

/// The dataset that was typed, or the one that a checkpoint says it was trained on.
fn data_of(arguments: &Judged, weights: &Path, recipe: Option<&Recipe>) -> Result<(String, Option<PathBuf>), Failure> {
    if let Some(name) = &arguments.data {
        return Ok((name.clone(), arguments.data_dir.clone()));
    }
    let Some(recipe) = recipe else {
        let path = path_text(weights);
        return Err(Failure::usage(format!(
            "--data is required for {path}, which does not say what it was trained on"
        )));
    };
    Ok((recipe.data.clone(), arguments.data_dir.clone().or_else(|| recipe.data_dir.clone())))
}

/// The fraction that the weights' run held out of the evaluated data.
fn held_out(arguments: &Judged, recipe: Option<&Recipe>) -> Option<HeldOut> {
    let seed = recipe.map_or(0, |recipe| recipe.seed);
    if let Some(share) = arguments.val_split {
        return Some(HeldOut { share, seed });
    }
    let same = |recipe: &&Recipe| arguments.data.as_ref().is_none_or(|data| same_data(data, &recipe.data));
    let share = recipe.filter(same)?.val_split.filter(|&share| share > 0.0)?;
    Some(HeldOut { share: share as f32, seed })
}

/// Whether two names of data are one, or paths to one folder or file.
fn same_data(a: &str, b: &str) -> bool {
    let path = |name: &str| std::fs::canonicalize(name).ok();
    a == b || path(a).is_some_and(|a| path(b) == Some(a))
}
