//! Merges layers of increasing precedence into one recipe.

use super::condition::Condition;
use super::error::show_value;
use super::{Layer, Origin, Recipe, RecipeError, SETTINGS, Setting};
use std::collections::BTreeMap;

/// A recipe, and the sources of its settings.
#[derive(Clone, Debug, PartialEq)]
pub struct Resolved {
    /// The recipe.
    pub recipe: Recipe,
    /// The source of each of its settings.
    pub origins: Origins,
}

/// The source of each setting; settings without a source have their defaults.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Origins(BTreeMap<&'static str, Origin>);

impl Origins {
    /// The source of `setting`, if it was given.
    pub fn get(&self, setting: &str) -> Option<&Origin> {
        self.0.get(setting)
    }

    /// Whether the user gave `setting`, by flag or file; presets and resumed runs do not count.
    pub fn is_given(&self, setting: &str) -> bool {
        self.get(setting).is_some_and(Origin::is_user)
    }
}

impl Recipe {
    /// Merges `layers`, in increasing precedence, and checks the result.
    ///
    /// A layer's `max_steps` replaces an `epochs` of a lower layer; the same holds for all alternatives. A setting without
    /// effect is dropped if it comes from a preset or a run, or if a higher layer makes it ineffective; otherwise it is an
    /// error.
    ///
    /// # Errors
    /// [`RecipeError::Requires`] with the first setting that was given and has no effect, [`RecipeError::Field`] with the
    /// first that conflicts with another one.
    pub fn resolve(layers: &[Layer]) -> Result<Resolved, RecipeError> {
        let mut table = toml::Table::new();
        let mut givers: BTreeMap<&'static str, usize> = BTreeMap::new();
        for (index, layer) in layers.iter().enumerate() {
            let given = || SETTINGS.iter().filter(|setting| layer.table.contains_key(setting.name));
            for replaced in given().flat_map(|setting| setting.replaces) {
                table.remove(*replaced);
                givers.remove(replaced);
            }
            table.extend(layer.table.clone());
            givers.extend(given().map(|setting| (setting.name, index)));
        }
        let recipe = Self::from_table(table.clone());
        for setting in SETTINGS {
            let (Some(&giver), Some(broken)) = (givers.get(setting.name), setting.applies.broken(&recipe)) else {
                continue;
            };
            let origin = &layers[giver].origin;
            let decided_above = broken.deciders().iter().any(|decider| givers.get(decider) > Some(&giver));
            let says_nothing = *origin != Origin::Flags && table.get(setting.name) == setting.default_value().as_ref();
            if origin.is_user() && !decided_above && !says_nothing {
                return Err(requires(setting, broken, &recipe, Some(origin.clone())));
            }
            table.remove(setting.name);
            givers.remove(setting.name);
        }
        let origins = givers.into_iter().map(|(name, index)| (name, layers[index].origin.clone())).collect();
        let resolved = Resolved { recipe: Self::from_table(table), origins: Origins(origins) };
        resolved.recipe.validate().map_err(|error| error.located(&resolved.origins))?;
        Ok(resolved)
    }

    fn from_table(table: toml::Table) -> Self {
        table.try_into().expect("the values of a layer have the right types")
    }
}

impl From<Recipe> for Resolved {
    /// A recipe that was constructed in code: settings that differ from the default count as given.
    fn from(recipe: Recipe) -> Self {
        let differs = |setting: &&Setting| recipe.value(setting.name) != setting.default_value();
        let origins = SETTINGS.iter().filter(differs).map(|setting| (setting.name, Origin::Code)).collect();
        Self { recipe, origins: Origins(origins) }
    }
}

/// The error of a setting whose condition is broken in `recipe`.
pub(super) fn requires(setting: &Setting, broken: &Condition, recipe: &Recipe, origin: Option<Origin>) -> RecipeError {
    let decider = broken.deciders().first().and_then(|decider| recipe.value(decider));
    let is = match decider {
        Some(toml::Value::String(text)) => text,
        Some(value) => show_value(&value),
        None => "none".into(),
    };
    RecipeError::Requires { origin, setting: setting.name, condition: *broken, is }
}
