//! The trials of a search of settings: one recipe, with other settings for every trial.

use crate::importance::importance;
use crate::journal::{Entry, Settings};
use crate::setting_space::line;
use crate::{Candidate, History, SearchError, SettingSpace, Space, Strategy, Trials};
use residual_engine::Options;
use residual_infer::network;
use residual_tensor::Stream;
use residual_train::{Layer, Recipe, RecipeError, Resolved};
use std::path::Path;
use toml::Table;

/// A recipe with the settings of a space. Settings that have no effect with the others are left out, so candidates that differ only in
/// these are the same recipe.
#[derive(Clone, Debug)]
pub struct Recipes {
    space: SettingSpace,
    sizes: Vec<usize>,
    layers: Vec<Layer>,
    recipe: Recipe,
}

/// Random candidates of which one has to be a valid recipe.
const DRAWS: u64 = 100;

impl Recipes {
    /// The recipe of `layers`, with the settings of `space` above them.
    ///
    /// # Errors
    /// If the layers are invalid by themselves, no combination of settings is valid with them, or there is no such network.
    pub fn new(space: SettingSpace, layers: Vec<Layer>) -> Result<Self, SearchError> {
        let recipe = Recipe::resolve(&layers).map_err(invalid)?.recipe;
        // A trial would find out after others had been trained.
        let of = |setting| space.dimensions().iter().find(move |dimension| dimension.setting == setting);
        let names: Vec<&str> = match of("model") {
            Some(models) => models.values.iter().filter_map(|value| value.as_str()).collect(),
            // Weights may be those of a network that only their file describes.
            None if recipe.weights.is_some() || of("weights").is_some() => Vec::new(),
            None => vec![&recipe.model],
        };
        for name in names {
            network(name).map_err(|error| SearchError::Recipe(Box::new(error.into())))?;
        }
        let sizes = space.dimensions().iter().map(|dimension| dimension.values.len()).collect();
        let recipes = Self { space, sizes, layers, recipe };
        let mut error = None;
        for draw in 0..DRAWS {
            let candidate = crate::space::uniform(recipes.sizes(), &mut Stream::new(0, &[draw]));
            match recipes.resolve(&recipes.text(&candidate)) {
                Ok(_) => return Ok(recipes),
                Err(of_this) => error = error.or(Some(of_this)),
            }
        }
        Err(invalid(error.expect("an error for every candidate")))
    }

    /// The space.
    pub fn space(&self) -> &SettingSpace {
        &self.space
    }

    /// The settings of a candidate as a recipe file.
    fn text(&self, candidate: &Candidate) -> String {
        let chosen = self.space.dimensions().iter().zip(&candidate.0);
        chosen.map(|(dimension, &choice)| line(dimension.setting, &dimension.values[choice])).collect()
    }

    /// The settings of the space that have an effect in `recipe`, as a recipe file.
    fn effective(&self, recipe: &Recipe) -> String {
        let text = recipe.to_toml();
        let is_of_space = |line: &&str| {
            let name = line.split(" = ").next();
            self.space.dimensions().iter().any(|dimension| Some(dimension.setting) == name)
        };
        text.lines().filter(is_of_space).map(|line| format!("{line}\n")).collect()
    }

    fn resolve(&self, settings: &str) -> Result<Resolved, RecipeError> {
        let chosen = Layer::chosen("trial", settings)?;
        Recipe::resolve(&[&self.layers[..], &[chosen]].concat())
    }
}

fn invalid(error: RecipeError) -> SearchError {
    SearchError::Recipe(Box::new(error.into()))
}

impl Space for Recipes {
    fn sizes(&self) -> &[usize] {
        &self.sizes
    }

    /// The settings that have an effect; `None` if the settings do not go together.
    fn identity(&self, candidate: &Candidate) -> Result<Option<String>, SearchError> {
        let resolved = self.resolve(&self.text(candidate));
        Ok(resolved.ok().map(|resolved| self.effective(&resolved.recipe)))
    }

    fn is_ordered(&self, dimension: usize) -> bool {
        self.space.dimensions()[dimension].is_range
    }
}

impl Trials for Recipes {
    type Tried = Table;

    fn recipe(&self) -> &Recipe {
        &self.recipe
    }

    fn settings(&self, kept: Settings) -> Settings {
        Settings { space: self.space.text().to_owned(), ..kept }
    }

    fn propose(
        &self,
        strategy: &dyn Strategy,
        history: &History,
        random: &mut Stream,
        _options: &Options,
    ) -> Result<Option<Candidate>, SearchError> {
        strategy.propose(self, history, random)
    }

    fn describe(&self, trial: usize, candidate: &Candidate, epochs: u64) -> Result<(Entry, String), SearchError> {
        let identity = self.identity(candidate)?.expect("strategies propose members");
        let settings = Some(identity.parse().expect("settings have a form in TOML"));
        let entry = Entry::Proposed { trial, candidate: candidate.0.clone(), identity, epochs, cost: None, settings };
        Ok((entry, self.text(candidate)))
    }

    fn tried(&self, proposal: &Entry) -> Option<Table> {
        match proposal {
            Entry::Proposed { settings, .. } => settings.clone(),
            _ => None,
        }
    }

    fn recipe_of(&self, description: &str, _path: &Path) -> Result<Resolved, SearchError> {
        self.resolve(description).map_err(invalid)
    }

    /// The whole recipe, as a file that `train --recipe` takes.
    fn best(&self, description: String) -> Result<String, SearchError> {
        Ok(self.resolve(&description).map_err(invalid)?.recipe.to_toml())
    }

    fn price(&self, _settings: &Table) -> f64 {
        0.0
    }

    fn importance(&self, history: &History) -> Option<Vec<f64>> {
        importance(self, history)
    }
}
