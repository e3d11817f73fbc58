//! What a built-in recipe promises: the table `verify` of its file.

use super::preset::VERIFY;
use super::{Layer, Origin, Preset, Recipe, RecipeError, Resolved};
use serde::{Deserialize, Serialize};

/// What a built-in recipe promises, to be checked ([`check_trace`](crate::check_trace), [`short_form`](crate::short_form)).
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Contract {
    /// The course of a training in full, which takes no training to check.
    pub trace: Trace,
    /// A training of minutes, if the recipe has one.
    pub short: Option<Short>,
}

/// The course of a training in full: its steps, learning rates and augmented images.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trace {
    /// Number of training images of the source.
    pub images: u64,
    /// Number of training steps.
    pub steps: u64,
    /// Learning rates: (step from 0, rate), worked out by hand from the source.
    pub rates: Vec<(u64, f64)>,
    /// The augmentation, by the names of its operations on images and batches.
    pub augmentation: Vec<String>,
    /// Mean and standard deviation of the normalised pixels of the first batch of 64 training images of shapes10.
    pub pixels: [f64; 2],
}

/// A training of minutes with the recipe, and the results of its five seeds.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Short {
    /// The settings in which it differs from the recipe.
    pub settings: toml::Table,
    /// Top-1 on the held-out images after the last step in percent, of seeds 0 to 4.
    pub top1: [f64; 5],
    /// Mean loss on these images, of the same seeds.
    pub loss: [f64; 5],
}

/// The range in which a result is expected, from those of five seeds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Band {
    /// The mean of the seeds.
    pub mean: f64,
    /// Their sample standard deviation.
    pub sd: f64,
}

impl Band {
    /// The 99.5 % quantile of Student's t distribution with 4 degrees of freedom.
    const T: f64 = 4.604;

    /// The band of these results.
    pub fn of(results: &[f64; 5]) -> Self {
        let mean = results.iter().sum::<f64>() / 5.0;
        let squares: f64 = results.iter().map(|result| (result - mean) * (result - mean)).sum();
        Self { mean, sd: (squares / 4.0).sqrt() }
    }

    /// Half its width: that of the interval which holds the result of another seed with a probability of 99 %.
    pub fn half_width(&self) -> f64 {
        Self::T * self.sd * (1.0f64 + 1.0 / 5.0).sqrt()
    }

    /// Whether `result` lies in it.
    pub fn holds(&self, result: f64) -> bool {
        (result - self.mean).abs() <= self.half_width()
    }
}

impl Preset {
    /// What it promises.
    ///
    /// # Panics
    /// Never: a test reads all of them.
    pub fn contract(&self) -> Contract {
        let mut table: toml::Table = toml::from_str(self.text).expect("built-in recipes are TOML");
        table.remove(VERIFY).and_then(|verify| verify.try_into().ok()).expect("built-in recipes have a contract")
    }

    /// Its recipe with `settings` in place of its own.
    ///
    /// # Errors
    /// If the settings are invalid, or do not go together with those of the recipe.
    pub(crate) fn with(&self, settings: toml::Table) -> Result<Resolved, RecipeError> {
        let changed = Layer::checked(Origin::Preset(format!("{} (verify)", self.name)), settings)?;
        Recipe::resolve(&[Layer::preset(self.name)?, changed])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// For these results `scipy.stats.t.interval(0.99, 4, mean, sd * sqrt(1 + 1 / 5))` is (84.5127, 92.4873).
    #[test]
    fn a_band_is_the_prediction_interval_of_another_seed() {
        let band = Band::of(&[88.0, 88.5, 89.5, 87.5, 89.0]);
        assert!((band.mean - 88.5).abs() < 1e-9 && (band.half_width() - 3.9873).abs() < 1e-3, "{band:?}");
        assert!(band.holds(92.4) && !band.holds(92.6) && !band.holds(84.5));
    }
}
