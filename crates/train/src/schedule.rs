//! The learning-rate schedule: the rate of every step, as a pure function of the recipe and, for a plateau, of the evaluations.

mod plateau;

pub use plateau::Plateau;

use crate::recipe::{Recipe, Sched};
use plateau::Rule;
use std::f64::consts::PI;

/// The learning rate over a run of known length. Positions and lengths are in steps.
#[derive(Clone, Debug, PartialEq)]
pub struct Schedule {
    peak: f64,
    total: u64,
    /// Steps with the same rate: 1, or those of an epoch.
    unit: u64,
    epoch_steps: u64,
    warmup: u64,
    /// The rate at the start of the warm-up, if it was given.
    warmup_lr: Option<f64>,
    /// Where the course begins: at the start of training or after the warm-up.
    begin: u64,
    course: Course,
}

/// The rate after the warm-up.
#[derive(Clone, Debug, PartialEq)]
enum Course {
    Constant,
    Multistep { milestones: Vec<u64>, gamma: f64 },
    Step { every: f64, gamma: f64 },
    Linear { least: f64, span: f64 },
    Cosine { least: f64, cycles: Cycles },
    Poly { least: f64, cycles: Cycles, power: f64 },
    OneCycle { rise: f64, div_factor: f64, final_div_factor: f64 },
    Plateau(Rule),
}

/// Cycles of a cosine or polynomial that together fill a span of steps.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Cycles {
    span: f64,
    count: u64,
    /// The length of a cycle, in that of the one before.
    growth: f64,
    /// The peak of a cycle, in that of the one before.
    decay: f64,
    /// The exponent of the position in a cycle.
    k: f64,
}

impl Cycles {
    fn new(recipe: &Recipe, span: f64) -> Self {
        Self {
            span,
            count: recipe.lr_cycle_limit,
            growth: recipe.lr_cycle_mul,
            decay: recipe.lr_cycle_decay,
            k: recipe.lr_k_decay,
        }
    }

    /// The peak's factor at `position` steps, and the share of the cycle that is over; `None` after the last one.
    fn at(&self, position: f64) -> Option<(f64, f64)> {
        let lengths: f64 = (0..self.count).map(|cycle| self.growth.powi(cycle as i32)).sum();
        let (mut start, mut length) = (0.0, self.span / lengths);
        for cycle in 0..self.count {
            if position < start + length {
                return Some((self.decay.powi(cycle as i32), ((position - start) / length).powf(self.k)));
            }
            start += length;
            length *= self.growth;
        }
        None
    }
}

impl Schedule {
    /// The schedule of `recipe`, with `epoch_steps` steps per epoch.
    pub fn new(recipe: &Recipe, epoch_steps: u64) -> Self {
        let total = total_steps(recipe, epoch_steps);
        let in_steps = |epochs: f64| (epochs * epoch_steps as f64).round() as u64;
        let warmup = recipe.warmup_epochs.map_or(recipe.warmup_steps.unwrap_or(0), in_steps);
        let begin = if recipe.is_warmup_prefix() { warmup } else { 0 };
        let end = total.saturating_sub(in_steps(recipe.cooldown_epochs));
        let span = end.saturating_sub(begin).max(1) as f64;
        let (least, gamma) = (recipe.min_lr.unwrap_or(0.0), recipe.gamma.unwrap_or(0.1));
        let course = match recipe.sched {
            Sched::Constant => Course::Constant,
            Sched::Multistep => {
                let epochs = recipe.milestone_epochs.iter().flatten().map(|epoch| epoch.saturating_mul(epoch_steps));
                let steps = recipe.milestone_steps.iter().flatten().copied();
                Course::Multistep { milestones: epochs.chain(steps).collect(), gamma }
            }
            Sched::Step => {
                let epochs = recipe.decay_epochs.map(|epochs| epochs * epoch_steps as f64);
                let every = epochs.or(recipe.decay_steps.map(|steps| steps as f64)).unwrap_or(f64::INFINITY);
                Course::Step { every, gamma }
            }
            Sched::Linear => Course::Linear { least, span },
            Sched::Cosine => Course::Cosine { least, cycles: Cycles::new(recipe, span) },
            Sched::Poly => Course::Poly { least, cycles: Cycles::new(recipe, span), power: recipe.poly_power },
            Sched::OneCycle => Course::OneCycle {
                rise: recipe.pct_start,
                div_factor: recipe.div_factor,
                final_div_factor: recipe.final_div_factor,
            },
            Sched::Plateau => Course::Plateau(Rule { gamma, least, patience: recipe.patience_epochs }),
        };
        let unit = if recipe.sched_on_updates { 1 } else { epoch_steps.max(1) };
        let (peak, warmup_lr) = (recipe.peak_lr(), recipe.warmup_lr);
        Self { peak, total, unit, epoch_steps, warmup, warmup_lr, begin, course }
    }

    /// The number of steps of the run.
    pub fn total_steps(&self) -> u64 {
        self.total
    }

    /// The number of steps of the warm-up, which may be longer than the run.
    pub fn warmup_steps(&self) -> u64 {
        self.warmup
    }

    /// The learning rate of `step`, counted from 0; on a plateau schedule that before its first reduction.
    ///
    /// Step `t` of a warm-up of `w` steps has `lr × (t + 1) / w`, or with `warmup_lr` as in timm
    /// `warmup_lr + (lr − warmup_lr) × t / w`. Where the rate changes with the epoch, `t` is the first step of the epoch and
    /// `t + 1` that of the next one.
    pub fn lr(&self, step: u64) -> f64 {
        self.lr_after(step, &Plateau::default())
    }

    /// The learning rate of `step`, counted from 0, given what a plateau schedule has observed.
    pub fn lr_after(&self, step: u64, plateau: &Plateau) -> f64 {
        let step = step / self.unit * self.unit;
        if step < self.warmup {
            let (from, step) = self.warmup_lr.map_or((0.0, step + self.unit), |from| (from, step));
            return from + (self.peak - from) * (step as f64 / self.warmup as f64).min(1.0);
        }
        let peak = self.peak;
        let position = step.saturating_sub(self.begin) as f64;
        match &self.course {
            Course::Constant => peak,
            Course::Multistep { milestones, gamma } => {
                let passed = milestones.iter().filter(|&&milestone| milestone <= step - self.begin).count();
                peak * gamma.powi(passed as i32)
            }
            Course::Step { every, gamma } => peak * gamma.powf((position / every).floor()),
            Course::Linear { least, span } => peak + (least - peak) * (position / span).min(1.0),
            Course::Cosine { least, cycles } => match cycles.at(position) {
                Some((factor, done)) => least + (peak * factor - least) * 0.5 * (1.0 + (PI * done).cos()),
                None => *least,
            },
            Course::Poly { least, cycles, power } => match cycles.at(position) {
                Some((factor, done)) => least + (peak * factor - least) * (1.0 - done).powf(*power),
                None => *least,
            },
            Course::OneCycle { rise, div_factor, final_div_factor } => {
                let (first, last) = (peak / div_factor, peak / div_factor / final_div_factor);
                let total = self.total.div_ceil(self.unit) as f64;
                let at = (step / self.unit) as f64;
                // As torch has it, the peak is one step before the share of all steps.
                let top = (rise * total - 1.0).max(0.0);
                let [from, to, share] =
                    if at < top { [first, peak, at / top] } else { [peak, last, (at - top) / (total - 1.0 - top)] };
                // A run of a single step has no second part.
                let share = if share.is_nan() { 0.0 } else { share };
                to + (from - to) * 0.5 * (1.0 + (PI * share).cos())
            }
            Course::Plateau(_) => plateau.lr.unwrap_or(peak),
        }
    }

    /// Feeds an evaluation after `epochs` epochs to a plateau schedule, which does not count those of the warm-up; others ignore
    /// it. `higher` says whether a higher metric is a better one.
    pub fn observe(&self, plateau: &mut Plateau, epochs: u64, metric: f64, higher: bool) {
        if let Course::Plateau(rule) = &self.course
            && epochs.saturating_mul(self.epoch_steps) > self.warmup
        {
            plateau.observe(rule, self.peak, metric, higher);
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
