//! Weights that stay zero while the others are trained: those of a pruned network.

use crate::TrainError;
use crate::recipe::Recipe;
use residual_engine::{Engine, Entry};
use residual_graph::Role;
use residual_model::Model;
use residual_tensor::{NamedTensors, Tensor, pack_bits, unpack_bits};

/// The weights of convolutions and linear layers that were zero when their training started.
pub(crate) struct Zeros {
    /// A bit for each element of the trained weights, set where it is zero: packed, in torch's order, by state-dict key.
    masks: NamedTensors,
    /// The same in the order of the engine's parameters.
    bits: Vec<u8>,
}

impl Zeros {
    /// The zeros of the weights that `engine` has now, if `recipe` keeps them.
    ///
    /// # Errors
    /// If the system has no memory for a copy of the parameters.
    pub(crate) fn new(recipe: &Recipe, engine: &Engine) -> Result<Option<Self>, TrainError> {
        if !recipe.keep_zeros {
            return Ok(None);
        }
        let values = engine.to_torch(engine.weights()[0]);
        let mask = |entry: &Entry| (entry.name.clone(), mask(&values[entry.name.as_str()]));
        let masks: NamedTensors = weights(engine).map(mask).collect();
        Ok(Some(Self { bits: bits(engine, &masks)?, masks }))
    }

    /// Makes the elements zero of a buffer with the layout of the engine's parameters: their values or gradients.
    pub(crate) fn apply(&self, bucket: &mut [f32]) {
        // Without a branch, so that eight values at a time are one vector.
        for (values, &bits) in bucket.chunks_mut(8).zip(&self.bits) {
            for (place, value) in values.iter_mut().enumerate() {
                let keep = u32::from(bits >> place & 1).wrapping_sub(1);
                *value = f32::from_bits(value.to_bits() & keep);
            }
        }
    }

    /// The masks, for a checkpoint or another engine.
    pub(crate) fn masks(&self) -> &NamedTensors {
        &self.masks
    }

    /// Takes `masks` instead of those of the present weights, in which others may be zero by chance. Weights that were frozen when they
    /// were made, which have none, keep their own.
    ///
    /// # Errors
    /// If a mask is of no weight of the engine, or of one with another number of elements.
    pub(crate) fn load(&mut self, engine: &Engine, masks: &NamedTensors) -> Result<(), TrainError> {
        for (key, mask) in masks {
            let expected = self.masks.get(key).map(Tensor::len);
            let got = mask.as_u8().map(<[u8]>::len);
            if expected.is_none() || expected != got {
                let show = |len: Option<usize>| len.map_or_else(|| "none".into(), |len| format!("{len} bytes"));
                return Err(TrainError::Mask { key: key.clone(), expected: show(expected), got: show(got) });
            }
            self.masks.insert(key.clone(), mask.clone());
        }
        self.bits = bits(engine, &self.masks)?;
        Ok(())
    }
}

/// How many weights of convolutions and linear layers of `model` are zero, and how many there are.
pub(crate) fn count(model: &Model) -> [usize; 2] {
    let weights = model.graph.parameters().filter(|(_, spec)| spec.role == Role::Weight);
    let values = weights.filter_map(|(key, _)| model.tensors.get(&key)?.as_f32());
    values.fold([0; 2], |[zeros, all], values| {
        [zeros + values.iter().filter(|value| **value == 0.0).count(), all + values.len()]
    })
}

fn weights(engine: &Engine) -> impl Iterator<Item = &Entry> {
    engine.entries().iter().filter(|entry| entry.role == Role::Weight)
}

fn mask(values: &Tensor) -> Tensor {
    let bytes = pack_bits(values.as_f32().unwrap_or_default().iter().map(|value| *value == 0.0));
    Tensor::u8(&[bytes.len()], bytes)
}

/// `masks` in the order of the engine's parameters.
fn bits(engine: &Engine, masks: &NamedTensors) -> Result<Vec<u8>, TrainError> {
    let indicator = |entry: &Entry| {
        let mut indicator = Tensor::full(&entry.shape, 0.0);
        let mask = masks.get(&entry.name).and_then(Tensor::as_u8).unwrap_or_default();
        let values = indicator.as_f32_mut().unwrap_or_default();
        values.iter_mut().zip(unpack_bits(mask)).for_each(|(value, zero)| *value = f32::from(u8::from(zero)));
        (entry.name.clone(), indicator)
    };
    let indicators: NamedTensors = engine.entries().iter().map(indicator).collect();
    let bucket = engine.from_torch(&indicators)?;
    Ok(pack_bits(bucket.iter().map(|&value| value != 0.0)))
}
