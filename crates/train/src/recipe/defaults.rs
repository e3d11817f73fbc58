//! Values of settings that depend on the optimiser where they are not given.

use super::{Opt, Recipe};

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

    /// `decay_norm_bias`, or the default of the optimiser: torch's for SGD, timm's for the others.
    pub fn decays_norm_bias(&self) -> bool {
        self.decay_norm_bias.unwrap_or(matches!(self.opt, Opt::Sgd | Opt::Momentum))
    }
}
