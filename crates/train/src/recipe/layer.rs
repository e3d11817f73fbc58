//! One source of settings: a preset, a file, or the flags of a command.

use super::error::show_value;
use super::preset::{ABOUT, VERIFY};
use super::{PRESETS, RecipeError, SETTINGS, Setting};
use residual_files::{nearest, read_text};
use std::fmt;
use std::path::Path;

/// Maximum length of a recipe file, in bytes.
const MAX_BYTES: u64 = 1 << 20;

/// The source of a setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A built-in recipe, by its name.
    Preset(String),
    /// The resumed run, by the path of its `config.toml`.
    Run(String),
    /// A recipe file, by its path, or a text, by the name that its author gave it.
    File(String),
    /// The command line.
    Flags,
    /// A [`Recipe`](super::Recipe) that was constructed in code.
    Code,
}

impl Origin {
    /// Whether the user gave the single setting: presets and earlier runs are chosen as a whole.
    pub fn is_user(&self) -> bool {
        matches!(self, Self::File(_) | Self::Flags | Self::Code)
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Preset(name) | Self::Run(name) | Self::File(name) => f.write_str(name),
            Self::Flags => f.write_str("command line"),
            Self::Code => f.write_str("code"),
        }
    }
}

/// Settings from one source. Keys are known, and values have the right types and are in range.
#[derive(Clone, Debug, PartialEq)]
pub struct Layer {
    pub(super) origin: Origin,
    pub(super) table: toml::Table,
}

impl Layer {
    /// The built-in recipe called `name`.
    ///
    /// # Errors
    /// [`RecipeError::UnknownPreset`], with the most similar name.
    pub fn preset(name: &str) -> Result<Self, RecipeError> {
        match PRESETS.iter().find(|preset| preset.name == name) {
            Some(preset) => Self::read(Origin::Preset(name.into()), preset.text),
            None => Err(RecipeError::UnknownPreset {
                name: name.into(),
                nearest: nearest(name, PRESETS.iter().map(|preset| preset.name)).map(str::to_owned),
            }),
        }
    }

    /// A recipe file.
    ///
    /// # Errors
    /// If it cannot be read, is not TOML, has an unknown key, or a value of the wrong type or out of range.
    pub fn file(path: &Path) -> Result<Self, RecipeError> {
        Self::read(Origin::File(path.display().to_string()), &read_text(path, MAX_BYTES)?)
    }

    /// The `config.toml` of the run that is resumed.
    ///
    /// # Errors
    /// As [`Layer::file`].
    pub fn run(path: &Path) -> Result<Self, RecipeError> {
        Self::read(Origin::Run(path.display().to_string()), &read_text(path, MAX_BYTES)?)
    }

    /// The text of settings that a program chose; `name` identifies it in errors. As with those of a preset or a run, settings that
    /// have no effect with the others are dropped.
    ///
    /// # Errors
    /// As [`Layer::file`].
    pub fn chosen(name: &str, text: &str) -> Result<Self, RecipeError> {
        Self::read(Origin::Run(name.into()), text)
    }

    /// The text of a recipe file; `name` identifies it in errors.
    ///
    /// # Errors
    /// As [`Layer::file`].
    pub fn parse(name: &str, text: &str) -> Result<Self, RecipeError> {
        Self::read(Origin::File(name.into()), text)
    }

    /// Flags: settings, each with the texts typed after its flag, one per occurrence.
    ///
    /// # Errors
    /// [`RecipeError::Field`] with the first flag whose value is of the wrong type or out of range.
    pub fn flags<'a>(typed: impl IntoIterator<Item = (&'a Setting, Vec<String>)>) -> Result<Self, RecipeError> {
        let values = typed.into_iter().map(|(setting, texts)| (setting.name.to_owned(), setting.kind.read(&texts)));
        Self::checked(Origin::Flags, values.collect())
    }

    /// This layer's value for `key`, if any.
    pub fn value(&self, key: &str) -> Option<&toml::Value> {
        self.table.get(key)
    }

    /// This layer's text for `key`, if any.
    pub fn text(&self, key: &str) -> Option<&str> {
        self.value(key).and_then(toml::Value::as_str)
    }

    /// Replaces this layer's value for `key` by a text.
    pub fn set_text(&mut self, key: &'static str, text: impl Into<String>) {
        self.table.insert(key.into(), text.into().into());
    }

    /// Removes `key`; returns whether it was present.
    pub fn remove(&mut self, key: &str) -> bool {
        self.table.remove(key).is_some()
    }

    fn read(origin: Origin, text: &str) -> Result<Self, RecipeError> {
        let mut table: toml::Table = toml::from_str(text).map_err(|error: toml::de::Error| {
            let before = text.get(..error.span().map_or(0, |span| span.start)).unwrap_or("");
            let line = before.matches('\n').count() + 1;
            RecipeError::Syntax { origin: origin.clone(), line, message: error.message().replace('\n', ", ") }
        })?;
        // The recipe may be a built-in one that was copied.
        for described in [ABOUT, VERIFY] {
            if table.get(described).is_some_and(toml::Value::is_table) {
                table.remove(described);
            }
        }
        Self::checked(origin, table)
    }

    pub(super) fn checked(origin: Origin, table: toml::Table) -> Result<Self, RecipeError> {
        let check = |(key, value): (String, toml::Value)| {
            let Some(setting) = Setting::find(&key) else {
                let nearest = nearest_setting(&key);
                return Err(RecipeError::UnknownKey { origin: origin.clone(), key, nearest });
            };
            let got = show_value(&value);
            let fail =
                |expected| RecipeError::Field { origin: Some(origin.clone()), setting: setting.name, expected, got };
            Ok((key, setting.check(value).map_err(fail)?))
        };
        let table = table.into_iter().map(check).collect::<Result<_, _>>()?;
        Ok(Self { origin, table })
    }
}

/// The setting with the alias `key`, or else the one with the most similar name.
fn nearest_setting(key: &str) -> Option<String> {
    let underscored = key.replace('-', "_").to_lowercase();
    let is_called = |setting: &&Setting| setting.name == underscored || setting.aliases.contains(&underscored.as_str());
    let called = SETTINGS.iter().find(is_called).map(|setting| setting.name);
    called.or_else(|| nearest(key, SETTINGS.iter().map(|setting| setting.name))).map(str::to_owned)
}
