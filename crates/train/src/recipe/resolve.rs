//! Layers of rising precedence, joined to one recipe.

use super::{Layer, Recipe, RecipeError};

/// Settings that say the same thing in two ways: a layer that gives one replaces both of the layers below.
const ALTERNATIVES: [&[&str]; 3] =
    [&["epochs", "max_steps"], &["milestone_epochs", "milestone_steps"], &["warmup_epochs", "warmup_steps"]];

/// Settings that belong to one kind of schedule: they fall with it when a higher layer chooses another.
const OF_THE_SCHEDULE: [&str; 4] = ["milestone_epochs", "milestone_steps", "gamma", "min_lr"];

impl Recipe {
    /// Joins `layers`, each stronger than the one before, and checks the result.
    ///
    /// Settings that contradict each other are settled in favour of the higher layer: its `max_steps` replaces an
    /// `epochs` below, its `sched` drops the milestones of another one.
    ///
    /// # Errors
    /// [`RecipeError::Field`] with the first field that is out of range.
    pub fn resolve(layers: &[Layer]) -> Result<Self, RecipeError> {
        let mut joined = toml::Table::new();
        for Layer { table } in layers {
            for group in ALTERNATIVES {
                if group.iter().any(|key| table.contains_key(*key)) {
                    group.iter().for_each(|key| drop(joined.remove(*key)));
                }
            }
            if table.get("sched").is_some_and(|sched| joined.get("sched") != Some(sched)) {
                OF_THE_SCHEDULE.iter().for_each(|key| drop(joined.remove(*key)));
            }
            joined.extend(table.clone());
        }
        let recipe: Self = joined.try_into().expect("the values of a layer have the right types");
        recipe.validate()?;
        Ok(recipe)
    }
}
