//! Validates every setting by itself and in combination with the others.

use super::error::show_value;
use super::resolve::requires;
use super::{Augment, KdLoss, Recipe, RecipeError, SETTINGS, Sched, Setting, Tta};
use residual_data::DataError;

impl Recipe {
    /// Checks the range of every setting, that it has an effect unless it has its default, and that it is compatible with
    /// the others.
    ///
    /// # Errors
    /// [`RecipeError::Field`] or [`RecipeError::Requires`] with the first invalid setting.
    pub fn validate(&self) -> Result<(), RecipeError> {
        for setting in SETTINGS {
            let Some(value) = self.value(setting.name) else { continue };
            let got = show_value(&value);
            setting.check(value).map_err(|expected| RecipeError::field(setting.name, expected, got))?;
        }
        for setting in SETTINGS {
            if let Some(broken) = setting.applies.broken(self)
                && self.value(setting.name) != setting.default_value()
            {
                return Err(requires(setting, broken, self, None));
            }
        }
        self.validate_augmentation()?;
        self.validate_schedule()?;
        self.validate_transfer()?;
        self.validate_distillation()
    }

    fn validate_augmentation(&self) -> Result<(), RecipeError> {
        let checked = self.augmentation().and_then(|augmentation| augmentation.validate());
        match checked {
            Err(DataError::Invalid { place, expected, got }) => {
                // The place begins with the name of the setting.
                let name = place.split(' ').next().unwrap_or_default();
                fail(Setting::find(name).map_or("augment", |setting| setting.name), expected, got)
            }
            _ => Ok(()),
        }
    }

    fn validate_schedule(&self) -> Result<(), RecipeError> {
        if self.budget()?.is_none() && self.epochs.is_none() && self.max_steps.is_none() {
            return Err(RecipeError::Missing { either: "epochs", or: "max_steps", purpose: "" });
        }
        let is_multistep = self.sched == Sched::Multistep;
        match (&self.milestone_epochs, &self.milestone_steps) {
            (Some(_), Some(_)) => fail("milestone_steps", "milestones in epochs or in steps", "both")?,
            (None, None) if is_multistep => {
                let purpose = " for sched = \"multistep\"";
                return Err(RecipeError::Missing { either: "milestone_epochs", or: "milestone_steps", purpose });
            }
            _ => {}
        }
        match (self.decay_epochs, self.decay_steps) {
            (Some(_), Some(_)) => fail("decay_steps", "a decay in epochs or in steps", "both")?,
            (None, None) if self.sched == Sched::Step => {
                let purpose = " for sched = \"step\"";
                return Err(RecipeError::Missing { either: "decay_epochs", or: "decay_steps", purpose });
            }
            _ => {}
        }
        if self.sched == Sched::Plateau && self.val_split == Some(0.0) {
            return fail("sched", "held-out images for plateau", "val_split 0");
        }
        if self.warmup_epochs.is_some() && self.warmup_steps.is_some() {
            return fail("warmup_steps", "a warm-up in epochs or in steps", "both");
        }
        let lr = self.peak_lr();
        match self.min_lr {
            Some(min_lr) if min_lr > lr => fail("min_lr", format!("at most lr, {lr}"), min_lr.to_string()),
            _ => Ok(()),
        }
    }

    fn validate_transfer(&self) -> Result<(), RecipeError> {
        self.unfreeze_schedule()?;
        if self.time_budget.is_some() && self.train_img_sizes.as_ref().is_some_and(|sizes| sizes.len() > 1) {
            return fail(
                "train_img_sizes",
                "one size with time_budget, as steps of other sizes take other times",
                "several",
            );
        }
        if !self.cache_features {
            return Ok(());
        }
        if self.freeze.is_none() || self.unfreeze_at.is_some() {
            let got = if self.freeze.is_none() { "no freeze" } else { "unfreeze_at" };
            return fail("cache_features", "a backbone that is frozen to the end (freeze \"backbone\")", got);
        }
        if self.test_size.is_some() {
            return fail("cache_features", "one size of images in training and evaluation", "a test_size");
        }
        if self.tta != Tta::None {
            return fail("cache_features", "one view of each image", "tta");
        }
        if self.time_budget.is_some() {
            return fail("cache_features", "epochs or max_steps", "time_budget");
        }
        if self.augment != Augment::None {
            let got = format!("augment \"{}\"", self.augment.name());
            return fail("cache_features", "augment \"none\", as every epoch sees the same features", got);
        }
        if self.train_img_sizes.is_some() {
            return fail(
                "cache_features",
                "no train_img_sizes, as features are computed at one size",
                "train_img_sizes",
            );
        }
        if self.mixup > 0.0 || self.cutmix > 0.0 {
            return fail("cache_features", "mixup 0 and cutmix 0, as features are not mixed", "one above 0");
        }
        Ok(())
    }

    fn validate_distillation(&self) -> Result<(), RecipeError> {
        if self.teacher.is_none() {
            return Ok(());
        }
        if self.teachers().is_empty() {
            return fail("teacher", "weights", "none");
        }
        if self.bce_loss && self.learns_probabilities() {
            return fail(
                "teacher",
                "no bce_loss, as a teacher's softened probabilities are those of a softmax",
                "both",
            );
        }
        if self.cache_features {
            return fail("teacher", "no cache_features, as a teacher needs the images", "both");
        }
        match self.kd_loss {
            KdLoss::Kd | KdLoss::FitNet | KdLoss::At if self.distillation_alpha() > 1.0 => {
                let expected = format!("at most 1 with {}", self.kd_loss.name());
                fail("kd_alpha", expected, self.distillation_alpha().to_string())
            }
            KdLoss::FitNet | KdLoss::At if self.teachers().len() > 1 => {
                fail("teacher", format!("one with {}", self.kd_loss.name()), self.teachers().len().to_string())
            }
            KdLoss::Dkd if self.mixup > 0.0 || self.cutmix > 0.0 => {
                fail("kd_loss", "kd with mixup or cutmix, as dkd needs one class for each image", "dkd")
            }
            _ => Ok(()),
        }
    }
}

fn fail<T>(setting: &'static str, expected: impl Into<String>, got: impl Into<String>) -> Result<T, RecipeError> {
    Err(RecipeError::field(setting, expected, got))
}
