//! The learning-rate schedule: the rate of every step, as a pure function of the recipe.

use crate::recipe::{Recipe, Sched};

/// The learning rate over a run of known length.
#[derive(Clone, Debug, PartialEq)]
pub struct Schedule {
    peak: f64,
    warmup: u64,
    total: u64,
    course: Course,
}

#[derive(Clone, Debug, PartialEq)]
enum Course {
    Constant,
    Multistep { milestones: Vec<u64>, gamma: f64 },
    Cosine { least: f64 },
    Linear { least: f64 },
}

impl Schedule {
    /// The schedule of `recipe`, with `epoch_steps` steps per epoch.
    pub fn new(recipe: &Recipe, epoch_steps: u64) -> Self {
        let total = total_steps(recipe, epoch_steps);
        let warmup = match (recipe.warmup_epochs, recipe.warmup_steps) {
            (Some(epochs), _) => (epochs * epoch_steps as f64).round() as u64,
            (None, steps) => steps.unwrap_or(0),
        };
        let least = recipe.min_lr.unwrap_or(0.0);
        let course = match recipe.sched {
            Sched::Constant => Course::Constant,
            Sched::Cosine => Course::Cosine { least },
            Sched::Linear => Course::Linear { least },
            Sched::Multistep => {
                let epochs = recipe.milestone_epochs.iter().flatten().map(|epoch| epoch.saturating_mul(epoch_steps));
                let steps = recipe.milestone_steps.iter().flatten().copied();
                Course::Multistep { milestones: epochs.chain(steps).collect(), gamma: recipe.gamma.unwrap_or(0.1) }
            }
        };
        Self { peak: recipe.lr, warmup, total, course }
    }

    /// The number of steps of the run.
    pub fn total_steps(&self) -> u64 {
        self.total
    }

    /// The number of steps of the warm-up, which may be longer than the run.
    pub fn warmup_steps(&self) -> u64 {
        self.warmup
    }

    /// The learning rate of `step`, counted from 0.
    ///
    /// Step `t` of a warm-up of `w` steps has `lr × (t + 1) / w`. After it, torch's closed form applies to the
    /// remaining steps, except that milestones count from the start of training.
    pub fn lr(&self, step: u64) -> f64 {
        if step < self.warmup {
            return self.peak * (step + 1) as f64 / self.warmup as f64;
        }
        let done = (step - self.warmup) as f64 / self.total.saturating_sub(self.warmup).max(1) as f64;
        let done = done.min(1.0);
        match &self.course {
            Course::Constant => self.peak,
            Course::Multistep { milestones, gamma } => {
                let passed = milestones.iter().filter(|&&milestone| milestone <= step).count();
                self.peak * gamma.powi(passed as i32)
            }
            Course::Cosine { least } => least + (self.peak - least) * 0.5 * (1.0 + (std::f64::consts::PI * done).cos()),
            Course::Linear { least } => self.peak + (least - self.peak) * done,
        }
    }
}

/// The length of the run in steps.
fn total_steps(recipe: &Recipe, epoch_steps: u64) -> u64 {
    let by_epochs = recipe.epochs.map_or(u64::MAX, |epochs| epochs.saturating_mul(epoch_steps));
    by_epochs.min(recipe.max_steps.unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assert_course(recipe: Recipe, epoch_steps: u64, expected: &[f64]) {
        let schedule = Schedule::new(&recipe, epoch_steps);
        for (step, expected) in expected.iter().enumerate() {
            let lr = schedule.lr(step as u64);
            assert!((lr - expected).abs() <= 1e-12 * recipe.lr, "step {step}: {lr} against {expected}");
        }
    }

    /// `torch.optim.lr_scheduler.MultiStepLR(SGD(lr=0.1), [2, 5], gamma=0.1)`.
    #[test]
    fn multistep_is_torchs() {
        let recipe = Recipe {
            sched: Sched::Multistep,
            milestone_epochs: Some(vec![2, 5]),
            gamma: Some(0.1),
            epochs: Some(8),
            ..Recipe::default()
        };
        let torch = [0.1, 0.1, 0.01, 0.01, 0.01, 0.001, 0.001, 0.001];
        assert_course(recipe.clone(), 1, &torch);
        let twice: Vec<f64> = torch.iter().flat_map(|&lr| [lr; 2]).collect();
        assert_course(recipe, 2, &twice);
        let steps = Recipe {
            sched: Sched::Multistep,
            milestone_steps: Some(vec![2, 5]),
            max_steps: Some(8),
            ..Recipe::default()
        };
        assert_course(steps, 100, &torch);
    }

    /// `torch.optim.lr_scheduler.CosineAnnealingLR(SGD(lr=0.1), T_max=5, eta_min=0.001)`.
    #[test]
    fn cosine_is_torchs() {
        let recipe =
            Recipe { sched: Sched::Cosine, min_lr: Some(0.001), max_steps: Some(5), epochs: None, ..Recipe::default() };
        let torch = [0.1, 0.09054634122155991, 0.06579634122155992, 0.03520365877844011, 0.01045365877844011];
        assert_course(recipe, 3, &torch);
    }

    #[test]
    fn a_warm_up_rises_in_equal_steps_to_the_peak_and_the_rest_spans_what_is_left() {
        let recipe =
            Recipe { sched: Sched::Linear, lr: 0.4, warmup_epochs: Some(2.0), epochs: Some(4), ..Recipe::default() };
        assert_course(recipe.clone(), 2, &[0.1, 0.2, 0.3, 0.4, 0.4, 0.3, 0.2, 0.1]);
        assert_eq!(Schedule::new(&recipe, 2).total_steps(), 8);
        let constant = Recipe { warmup_steps: Some(4), max_steps: Some(9), ..Recipe::default() };
        assert_course(constant, 2, &[0.025, 0.05, 0.075, 0.1, 0.1, 0.1]);
    }

    #[test]
    fn milestones_count_from_the_start_also_after_a_warm_up() {
        let recipe = Recipe {
            sched: Sched::Multistep,
            milestone_steps: Some(vec![3]),
            warmup_steps: Some(2),
            max_steps: Some(5),
            ..Recipe::default()
        };
        assert_course(recipe, 1, &[0.05, 0.1, 0.1, 0.01, 0.01]);
    }

    #[test]
    fn the_shorter_of_two_lengths_counts() {
        let recipe = Recipe { epochs: Some(2), max_steps: Some(15), ..Recipe::default() };
        assert_eq!(Schedule::new(&recipe, 10).total_steps(), 15);
        assert_eq!(Schedule::new(&recipe, 7).total_steps(), 14);
    }
}
