//! Every field held against its range.

use super::{Augment, Recipe, RecipeError, Sched};
use residual_data::{PadAndCrop, RandomResizedCrop};
use std::fmt::Debug;

impl Recipe {
    /// Holds every field against its range, and against the fields it must go with.
    ///
    /// # Errors
    /// [`RecipeError::Field`] with the first field at fault.
    pub fn validate(&self) -> Result<(), RecipeError> {
        self.validate_data()?;
        self.validate_optimiser()?;
        self.validate_schedule()?;
        self.validate_transfer()?;
        whole("workers", self.workers as u64, 1, 256)?;
        whole("log_every", self.log_every, 1, u32::MAX.into())?;
        whole("checkpoint_every", self.checkpoint_every.unwrap_or(1), 1, u32::MAX.into())?;
        whole("seed", self.seed, 0, i64::MAX as u64)
    }

    fn validate_data(&self) -> Result<(), RecipeError> {
        if self.model.is_empty() {
            return fail("model", "the name of a network", "nothing");
        }
        if self.data.is_empty() {
            return fail("data", "a dataset", "nothing");
        }
        whole("num_classes", self.num_classes.unwrap_or(1) as u64, 1, 1 << 20)?;
        number("val_split", self.val_split.unwrap_or(0.1), 1e-6..=0.999_999, "a share above 0, below 1")?;
        whole("batch_size", self.batch_size as u64, 1, 1 << 16)?;
        whole("crop_padding", self.crop_padding as u64, 0, PadAndCrop::MAX_PADDING as u64)?;
        whole("img_size", self.img_size.unwrap_or(1) as u64, 1, 16_384)?;
        number("hflip", self.hflip, 0.0..=1.0, "a probability of 0 to 1")?;
        let interval = |field, [low, high]: [f64; 2], most: f64| match low > 0.0 && low <= high && high <= most {
            true => Ok(()),
            false => fail(field, "two rising positive numbers in range", format!("{:?}", [low, high])),
        };
        interval("scale", self.scale, 1.0)?;
        interval("ratio", self.ratio, RandomResizedCrop::MAX_RATIO.into())?;
        number("crop_pct", self.crop_pct.unwrap_or(1.0), 1e-3..=1.0, "a share of 0.001 to 1")?;
        if self.mean.iter().flatten().any(|value| !value.is_finite()) {
            return fail(
                "mean",
                "one finite number a channel",
                format!("{:?}", self.mean.as_deref().unwrap_or_default()),
            );
        }
        if self.std.iter().flatten().any(|&value| !(value.is_finite() && value > 0.0)) {
            return fail(
                "std",
                "one positive number a channel",
                format!("{:?}", self.std.as_deref().unwrap_or_default()),
            );
        }
        Ok(())
    }

    fn validate_optimiser(&self) -> Result<(), RecipeError> {
        number("lr", self.lr, 0.0..=1e6, "a number of 0 to 1e6")?;
        number("momentum", self.momentum, 0.0..=0.999_999, "a number of 0 to below 1")?;
        number("weight_decay", self.weight_decay, 0.0..=1e3, "a number of 0 to 1000")?;
        number("smoothing", self.smoothing, 0.0..=0.999_999, "a share of 0 to below 1")?;
        if self.nesterov && self.momentum == 0.0 {
            return fail("nesterov", "a momentum above 0 with it", "momentum 0");
        }
        Ok(())
    }

    fn validate_schedule(&self) -> Result<(), RecipeError> {
        if self.epochs.is_none() && self.max_steps.is_none() {
            return fail("epochs", "a length in epochs or max_steps", "neither");
        }
        whole("epochs", self.epochs.unwrap_or(1), 1, 1 << 20)?;
        whole("max_steps", self.max_steps.unwrap_or(1), 1, 1 << 40)?;
        let multistep = self.sched == Sched::Multistep;
        match (&self.milestone_epochs, &self.milestone_steps) {
            (Some(_), Some(_)) => fail("milestone_steps", "milestones in epochs or in steps", "both")?,
            (None, None) if multistep => fail("milestone_epochs", "milestones for sched \"multistep\"", "none")?,
            (Some(_), None) if !multistep => {
                fail("milestone_epochs", "them with sched \"multistep\" only", self.sched())?
            }
            (None, Some(_)) if !multistep => {
                fail("milestone_steps", "them with sched \"multistep\" only", self.sched())?
            }
            _ => {}
        }
        for (field, milestones) in
            [("milestone_epochs", &self.milestone_epochs), ("milestone_steps", &self.milestone_steps)]
        {
            if milestones.as_ref().is_some_and(|list| list.is_empty() || !list.is_sorted_by(|a, b| a < b)) {
                fail(field, "a rising list", format!("{:?}", milestones.as_deref().unwrap_or_default()))?;
            }
        }
        if self.gamma.is_some() && !multistep {
            return fail("gamma", "it with sched \"multistep\" only", self.sched());
        }
        number("gamma", self.gamma.unwrap_or(0.1), 1e-6..=1.0, "a number above 0, at most 1")?;
        if self.min_lr.is_some() && !matches!(self.sched, Sched::Cosine | Sched::Linear) {
            return fail("min_lr", "it with sched \"cosine\" or \"linear\" only", self.sched());
        }
        number("min_lr", self.min_lr.unwrap_or(0.0), 0.0..=self.lr, "a number of 0 to lr")?;
        if self.warmup_epochs.is_some() && self.warmup_steps.is_some() {
            return fail("warmup_steps", "a warm-up in epochs or in steps", "both");
        }
        number("warmup_epochs", self.warmup_epochs.unwrap_or(0.0), 0.0..=1e6, "a number of epochs from 0")?;
        whole("warmup_steps", self.warmup_steps.unwrap_or(0), 0, 1 << 40)
    }

    fn validate_transfer(&self) -> Result<(), RecipeError> {
        if self.freeze.as_ref().is_some_and(|spec| spec.trim().is_empty()) {
            return fail("freeze", "a part of the network", "nothing");
        }
        if self.unfreeze_at.is_some() && self.freeze.is_none() {
            return fail("unfreeze_at", "freeze with it", "none");
        }
        self.thaws()?;
        number("head_lr_mult", self.head_lr_mult, 1e-6..=1e6, "a number above 0, at most 1e6")?;
        number("layer_decay", self.layer_decay, 1e-6..=1.0, "a number above 0, at most 1")?;
        if !self.cache_features {
            return Ok(());
        }
        if self.freeze.is_none() || self.unfreeze_at.is_some() {
            let got = if self.freeze.is_none() { "no freeze" } else { "unfreeze_at" };
            return fail("cache_features", "a backbone that is frozen to the end (freeze \"backbone\")", got);
        }
        if self.augment != Augment::None {
            let got = format!("augment {}", toml::Value::try_from(self.augment).expect("a name"));
            return fail("cache_features", "augment \"none\", as every epoch sees the same features", got);
        }
        Ok(())
    }

    fn sched(&self) -> String {
        format!("sched {}", toml::Value::try_from(self.sched).expect("a name"))
    }
}

fn fail<T>(field: &'static str, expected: impl Into<String>, got: impl Into<String>) -> Result<T, RecipeError> {
    Err(RecipeError::Field { field, expected: expected.into(), got: got.into() })
}

fn whole(field: &'static str, value: u64, least: u64, most: u64) -> Result<(), RecipeError> {
    if (least..=most).contains(&value) { Ok(()) } else { fail(field, format!("{least} to {most}"), value.to_string()) }
}

fn number<R>(field: &'static str, value: f64, range: R, expected: &str) -> Result<(), RecipeError>
where
    R: std::ops::RangeBounds<f64> + Debug,
{
    if range.contains(&value) { Ok(()) } else { fail(field, expected, value.to_string()) }
}
