//! Values of settings that depend on other settings where they are not given.

use super::{KdLoss, LrScale, Opt, Recipe, Sched};

impl Recipe {
    /// `opt_betas`, or timm's default for the optimiser.
    pub fn betas(&self) -> [f64; 2] {
        self.opt_betas.unwrap_or(match self.opt {
            Opt::Lion => [0.9, 0.99],
            Opt::Muon => [0.9, 0.95],
            _ => [0.9, 0.999],
        })
    }

    /// `opt_eps`, or timm's default for the optimiser.
    pub fn eps(&self) -> f64 {
        self.opt_eps.unwrap_or(match self.opt {
            Opt::Lamb => 1e-6,
            Opt::Muon => 1e-7,
            Opt::RmsPropTf => 1e-10,
            _ => 1e-8,
        })
    }

    /// `nesterov`, or torch's default for the optimiser.
    pub fn is_nesterov(&self) -> bool {
        match self.opt {
            Opt::Momentum => false,
            Opt::Muon => self.nesterov.unwrap_or(true),
            _ => self.nesterov.unwrap_or(false),
        }
    }

    /// The learning rate after the warm-up: `lr`, or `lr_base` scaled from `lr_base_size` to the images of an update.
    pub fn peak_lr(&self) -> f64 {
        let Some(base) = self.lr_base else { return self.lr };
        let images = self.batch_size.saturating_mul(self.grad_accum_steps);
        let ratio = images as f64 / self.lr_base_size as f64;
        let is_adam = matches!(self.opt, Opt::Adam | Opt::AdamW | Opt::NAdam | Opt::Lamb);
        let usual = if is_adam { LrScale::Sqrt } else { LrScale::Linear };
        base * match self.lr_base_scale.unwrap_or(usual) {
            LrScale::Linear => ratio,
            LrScale::Sqrt => ratio.sqrt(),
        }
    }

    /// `warmup_prefix`, or the schedule's default.
    pub(crate) fn is_warmup_prefix(&self) -> bool {
        self.warmup_prefix.unwrap_or(!matches!(self.sched, Sched::Multistep | Sched::Step))
    }

    /// `kd_alpha`, or the default of `kd_loss`.
    pub(crate) fn distillation_alpha(&self) -> f64 {
        self.kd_alpha.unwrap_or(match self.kd_loss {
            KdLoss::Kd => 0.7,
            KdLoss::Dkd => 1.0,
            KdLoss::FitNet | KdLoss::At => 0.0,
        })
    }

    /// `kd_beta`, or the default of `kd_loss`.
    pub(crate) fn distillation_beta(&self) -> f64 {
        self.kd_beta.unwrap_or(match self.kd_loss {
            KdLoss::Kd => 0.0,
            KdLoss::Dkd => 8.0,
            KdLoss::FitNet => 100.0,
            KdLoss::At => 1000.0,
        })
    }

    /// Whether a student learns the teachers' probabilities.
    pub(crate) fn learns_probabilities(&self) -> bool {
        !self.kd_loss.has_hints() || self.distillation_alpha() > 0.0
    }

    /// `decay_norm_bias`, or the default of the optimiser: torch's for SGD, timm's for the others.
    pub fn decays_norm_bias(&self) -> bool {
        self.decay_norm_bias.unwrap_or(matches!(self.opt, Opt::Sgd | Opt::Momentum))
    }
}
