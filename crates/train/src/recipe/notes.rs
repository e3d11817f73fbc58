//! Notes about settings of a recipe that its run never reaches.

use super::{KdLoss, Resolved};
use crate::Schedule;

impl Resolved {
    /// Settings given by the user that have no effect because the run ends earlier, for `epoch_steps` steps per epoch: one
    /// line each. A warm-up as long as the run is reported for any source.
    pub(crate) fn notes(&self, epoch_steps: u64) -> Vec<String> {
        let recipe = &self.recipe;
        let schedule = Schedule::new(recipe, epoch_steps);
        let total = schedule.total_steps();
        let epochs = total.div_ceil(epoch_steps.max(1));
        let mut notes = Vec::new();
        let warmup = schedule.warmup_steps();
        if warmup >= total && warmup > 0 {
            notes.push(format!(
                "the warm-up of {warmup} steps fills the run of {total}: the learning rate only rises, to {}",
                schedule.lr(total.saturating_sub(1))
            ));
        }
        let late_epochs =
            recipe.milestone_epochs.iter().flatten().filter(|&&epoch| epoch.saturating_mul(epoch_steps) >= total);
        let late_steps = recipe.milestone_steps.iter().flatten().filter(|&&step| step >= total);
        for (setting, late) in [
            ("milestone_epochs", late_epochs.copied().collect::<Vec<_>>()),
            ("milestone_steps", late_steps.copied().collect()),
        ] {
            if !late.is_empty() && self.origins.is_given(setting) {
                let late: Vec<String> = late.iter().map(u64::to_string).collect();
                notes.push(format!("{setting}: the run of {total} steps ends before {}", late.join(", ")));
            }
        }
        let in_steps = recipe.decay_epochs.map(|epochs| epochs * epoch_steps as f64);
        for (setting, first) in
            [("decay_epochs", in_steps), ("decay_steps", recipe.decay_steps.map(|steps| steps as f64))]
        {
            if first.is_some_and(|first| first >= total as f64) && self.origins.is_given(setting) {
                notes.push(format!("{setting}: the run of {total} steps ends before the first decay"));
            }
        }
        let rising = recipe.kd_warmup_epochs;
        if recipe.teacher.is_some() && recipe.kd_loss == KdLoss::Dkd && rising > epochs {
            notes.push(format!(
                "kd_warmup_epochs: the run of {epochs} epochs ends before the {rising} after which dkd has its full weight"
            ));
        }
        for (epoch, spec) in recipe.unfreeze_schedule().unwrap_or_default() {
            if epoch > epochs && self.origins.is_given("unfreeze_at") {
                notes.push(format!("unfreeze_at: the run of {epochs} epochs ends before {epoch}:{spec}"));
            }
        }
        notes
    }
}

#[cfg(test)]
mod tests {
    use crate::recipe::{Layer, Recipe};

    fn notes(text: &str) -> Vec<String> {
        let layers = [Layer::preset("folder-quick").unwrap(), Layer::parse("my.toml", text).unwrap()];
        Recipe::resolve(&layers).unwrap().notes(10)
    }

    #[test]
    fn what_a_run_is_too_short_for_is_told() {
        assert_eq!(notes("epochs = 2"), Vec::<String>::new());
        let warmup = "the warm-up of 10 steps fills the run of 10: the learning rate only rises, to 0.02";
        assert_eq!(notes("epochs = 1"), [warmup]);
        let warmup = "the warm-up of 100 steps fills the run of 30: the learning rate only rises, to 0.006";
        assert_eq!(notes("epochs = 3\nwarmup_epochs = 10"), [warmup]);
        let milestones = "sched = \"multistep\"\nepochs = 3\n";
        let late = "milestone_epochs: the run of 30 steps ends before 3, 9";
        assert_eq!(notes(&format!("{milestones}milestone_epochs = [2, 3, 9]")), [late]);
        let late = "milestone_steps: the run of 30 steps ends before 30";
        assert_eq!(notes(&format!("{milestones}milestone_steps = [29, 30]")), [late]);
        let late = "decay_epochs: the run of 30 steps ends before the first decay";
        assert_eq!(notes("sched = \"step\"\nepochs = 3\ndecay_epochs = 3"), [late]);
        let rising = "kd_warmup_epochs: the run of 3 epochs ends before the 20 after which dkd has its full weight";
        assert_eq!(notes("epochs = 3\nteacher = [\"t.safetensors\"]\nkd_loss = \"dkd\""), [rising]);
        let late = "unfreeze_at: the run of 3 epochs ends before 4:fc";
        assert_eq!(notes("epochs = 3\nfreeze = \"2\"\nunfreeze_at = [\"3:layer4\", \"4:fc\"]"), [late]);
    }

    #[test]
    fn milestones_of_a_preset_are_not_told() {
        let layers = [Layer::preset("he2015-cifar").unwrap(), Layer::parse("my.toml", "max_steps = 20").unwrap()];
        assert_eq!(Recipe::resolve(&layers).unwrap().notes(10), Vec::<String>::new());
    }
}
