//! One source of settings: a preset, a file, or the flags of a command.

use super::{Recipe, RecipeError};
use residual_files::{nearest, read_text};
use serde::Serialize;
use std::path::Path;

/// A recipe that is built in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Preset {
    /// Its name, as `--recipe` takes it.
    pub name: &'static str,
    /// The text of its file.
    pub text: &'static str,
}

/// Every built-in recipe.
pub const PRESETS: [Preset; 6] = [
    Preset { name: "shapes-quick", text: include_str!("../../../../recipes/shapes-quick.toml") },
    Preset { name: "cifar-quick", text: include_str!("../../../../recipes/cifar-quick.toml") },
    Preset { name: "folder-quick", text: include_str!("../../../../recipes/folder-quick.toml") },
    Preset { name: "he2015-cifar", text: include_str!("../../../../recipes/he2015-cifar.toml") },
    Preset { name: "lecture-cifar", text: include_str!("../../../../recipes/lecture-cifar.toml") },
    Preset { name: "imagenet-100", text: include_str!("../../../../recipes/imagenet-100.toml") },
];

/// The longest recipe that is read, in bytes.
const MAX_BYTES: u64 = 1 << 20;

/// What other programs call a setting, for the hint that goes with an unknown key.
const ALIASES: [(&str, &str); 10] = [
    ("learning_rate", "lr"),
    ("batch", "batch_size"),
    ("scheduler", "sched"),
    ("schedule", "sched"),
    ("label_smoothing", "smoothing"),
    ("dataset", "data"),
    ("milestones", "milestone_epochs"),
    ("max_epochs", "epochs"),
    ("num_workers", "workers"),
    ("unfreeze", "unfreeze_at"),
];

/// Some settings and where they come from. Its keys are known and its values have the right types.
#[derive(Clone, Debug, PartialEq)]
pub struct Layer {
    pub(super) table: toml::Table,
}

impl Layer {
    /// The built-in recipe called `name`.
    ///
    /// # Errors
    /// [`RecipeError::UnknownPreset`], with the most similar name.
    pub fn preset(name: &str) -> Result<Self, RecipeError> {
        match PRESETS.iter().find(|preset| preset.name == name) {
            Some(preset) => Self::parse(preset.name, preset.text),
            None => Err(RecipeError::UnknownPreset {
                name: name.into(),
                nearest: nearest(name, PRESETS.iter().map(|preset| preset.name)).map(str::to_owned),
            }),
        }
    }

    /// A recipe file.
    ///
    /// # Errors
    /// If it cannot be read, is not TOML, or has an unknown key or a value of the wrong type.
    pub fn file(path: &Path) -> Result<Self, RecipeError> {
        let text = read_text(path, MAX_BYTES)?;
        Self::parse(&path.display().to_string(), &text)
    }

    /// The text of a recipe file; `origin` is what errors call it.
    ///
    /// # Errors
    /// As [`Layer::file`].
    pub fn parse(origin: &str, text: &str) -> Result<Self, RecipeError> {
        let syntax = |error: toml::de::Error| {
            let start = error.span().map_or(0, |span| span.start);
            let before = text.get(..start).unwrap_or("");
            let line = before.matches('\n').count() + 1;
            let key = text.lines().nth(line - 1).and_then(|line| line.split_once('=')).map(|(key, _)| key.trim());
            let message = error.message().replace('\n', ", ");
            let message = match key.filter(|key| keys().iter().any(|known| known == key)) {
                Some(key) => format!("{key}: {message}"),
                None => message,
            };
            RecipeError::Syntax { origin: origin.into(), line, message }
        };
        let table: toml::Table = toml::from_str(text).map_err(syntax)?;
        let known = keys();
        for key in table.keys() {
            if !known.contains(key) {
                let alias = ALIASES.iter().find(|(alias, _)| alias == key).map(|(_, name)| (*name).to_string());
                let nearest = alias.or_else(|| nearest(key, known.iter().map(String::as_str)).map(str::to_owned));
                return Err(RecipeError::UnknownKey { origin: origin.into(), key: key.clone(), nearest });
            }
        }
        toml::from_str::<Recipe>(text).map_err(syntax)?;
        Ok(Self { table })
    }

    /// Settings given as any structure whose fields bear the names of a recipe's and whose absent fields are
    /// `None`, such as the flags of a command.
    ///
    /// # Errors
    /// If a value has no TOML form, or a field is not one of a recipe's.
    pub fn settings<T: Serialize>(origin: &str, settings: &T) -> Result<Self, RecipeError> {
        let text = toml::to_string(settings).map_err(|error| RecipeError::Syntax {
            origin: origin.into(),
            line: 1,
            message: error.to_string(),
        })?;
        Self::parse(origin, &text)
    }

    /// The text that this layer gives for `key`, if it gives one.
    pub fn text(&self, key: &str) -> Option<&str> {
        self.table.get(key).and_then(toml::Value::as_str)
    }
}

/// The keys of a recipe, in the order of its fields.
pub(super) fn keys() -> Vec<String> {
    let full = Recipe {
        num_classes: Some(1),
        in_chans: Some(1),
        weights: Some("w".into()),
        data_dir: Some("d".into()),
        val_split: Some(0.1),
        img_size: Some(1),
        crop_pct: Some(1.0),
        interpolation: Some(residual_preprocess::Interpolation::Bilinear),
        mean: Some(vec![]),
        std: Some(vec![]),
        epochs: Some(1),
        max_steps: Some(1),
        milestone_epochs: Some(vec![]),
        milestone_steps: Some(vec![]),
        freeze: Some("f".into()),
        unfreeze_at: Some(vec![]),
        gamma: Some(1.0),
        min_lr: Some(0.0),
        warmup_epochs: Some(0.0),
        warmup_steps: Some(0),
        checkpoint_every: Some(1),
        ..Recipe::default()
    };
    let text = full.to_toml();
    text.lines().filter_map(|line| line.split_once(" = ")).map(|(key, _)| key.to_string()).collect()
}
