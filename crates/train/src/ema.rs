//! The exponential moving average of the weights (Polyak averaging), as timm's `ModelEmaV3`.

use crate::TrainError;
use crate::optimizer::Device;
use crate::recipe::Recipe;
use residual_engine::Engine;
use residual_kernels::optim::lerp;
use residual_tensor::{AlignedBuffer, NamedTensors};

/// The average of the trainable parameters and running statistics of one engine.
pub(crate) struct Ema {
    decay: f64,
    /// Whether the decay rises to `decay` during the run.
    warmup: bool,
    /// Updates of the weights per update of the average.
    interval: u64,
    /// Parameters and running statistics, in the engine's layout.
    weights: [AlignedBuffer; 2],
    /// Updates of the weights so far.
    steps: u64,
}

impl Ema {
    /// The average of a recipe, which starts as a copy of the engine's weights; `None` if it has none.
    ///
    /// # Errors
    /// If the system has no memory for it.
    pub(crate) fn new(recipe: &Recipe, engine: &Engine) -> Result<Option<Self>, TrainError> {
        if !recipe.model_ema {
            return Ok(None);
        }
        let copy = |values: &[f32]| {
            let bytes = 4 * values.len() as u64;
            let memory = || TrainError::Memory { what: "averaged weights".into(), bytes };
            let mut buffer = AlignedBuffer::try_zeros(values.len()).ok_or_else(memory)?;
            buffer.copy_from_slice(values);
            Ok::<_, TrainError>(buffer)
        };
        let [parameters, statistics] = engine.weights();
        Ok(Some(Self {
            decay: recipe.model_ema_decay,
            warmup: recipe.model_ema_warmup,
            interval: recipe.model_ema_steps,
            weights: [copy(parameters)?, copy(statistics)?],
            steps: 0,
        }))
    }

    /// Averages the weights after an update.
    pub(crate) fn update(&mut self, device: &Device, engine: &Engine) {
        self.steps += 1;
        if !self.steps.is_multiple_of(self.interval) {
            return;
        }
        let weight = (1.0 - self.decay(self.steps / self.interval)) as f32;
        for (average, values) in self.weights.iter_mut().zip(engine.weights()) {
            lerp(device.isa, &device.pool, average, values, weight);
        }
    }

    /// The decay of update `count`, from 1: the first copies the weights.
    fn decay(&self, count: u64) -> f64 {
        match count - 1 {
            0 => 0.0,
            // timm's warmup_gamma 1 and warmup_power 2/3.
            earlier if self.warmup => self.decay.min(1.0 - (1.0 + earlier as f64).powf(-2.0 / 3.0)),
            _ => self.decay,
        }
    }

    /// The averaged model as a state dict.
    pub(crate) fn state_dict(&self, engine: &Engine) -> NamedTensors {
        let [parameters, statistics] = &self.weights;
        engine.state_dict_of([parameters, statistics])
    }

    /// Loads the average after `steps` updates of the weights.
    ///
    /// # Errors
    /// If it belongs to another network.
    pub(crate) fn load(&mut self, engine: &Engine, state_dict: &NamedTensors, steps: u64) -> Result<(), TrainError> {
        self.weights = engine.weights_of(state_dict)?;
        self.steps = steps;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `ModelEmaV3(decay=0.99, use_warmup=warmup).get_decay(step)` of timm 1.0.31 for steps 1 to 5 and 2000.
    #[test]
    fn the_decay_is_timms() {
        let decays = |warmup| {
            let ema = Ema {
                decay: 0.99,
                warmup,
                interval: 1,
                weights: [AlignedBuffer::zeros(0), AlignedBuffer::zeros(0)],
                steps: 0,
            };
            [1, 2, 3, 4, 5, 2000].map(|count| ema.decay(count))
        };
        assert_eq!(decays(false), [0.0, 0.99, 0.99, 0.99, 0.99, 0.99]);
        for (got, expected) in decays(true).into_iter().zip(WARMUP) {
            assert!((got - expected).abs() < 1e-15, "expected {expected}, got {got}");
        }
    }

    const WARMUP: [f64; 6] =
        [0.0, 0.3700394750525634, 0.5192501432308638, 0.6031497370079502, 0.6580048106646605, 0.99];
}
