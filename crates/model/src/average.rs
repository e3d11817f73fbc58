//! The average of several models of one network, as timm's `avg_checkpoints.py`.

use crate::{Model, ModelError, TensorProblem};
use residual_tensor::Tensor;

/// The mean of the tensors of models of the same network (summed in f64, in order); counters, preprocessing and labels are
/// the first one's.
///
/// # Errors
/// [`ModelError::Quantized`] if one is quantised, [`ModelError::Tensors`] if a model has other tensors than the first one.
///
/// # Panics
/// If there are no models.
pub fn average(models: &[Model]) -> Result<Model, ModelError> {
    let first = models.first().expect("at least one model");
    if models.iter().any(|model| model.graph.is_quantized()) {
        return Err(ModelError::Quantized);
    }
    let mut tensors = first.tensors.clone();
    for (key, tensor) in &mut tensors {
        let shape = tensor.shape().to_vec();
        let Some(values) = tensor.as_f32() else { continue };
        let mut sums: Vec<f64> = values.iter().map(|&value| value.into()).collect();
        for other in &models[1..] {
            let other = other.tensors.get(key);
            let Some(values) = other.filter(|other| other.shape() == shape).and_then(Tensor::as_f32) else {
                let (key, expected) = (key.clone(), shape);
                let problem = match other {
                    None => TensorProblem::Missing { key, expected },
                    Some(other) => TensorProblem::Shape { key, expected, got: other.shape().to_vec() },
                };
                return Err(ModelError::Tensors { problems: vec![problem] });
            };
            sums.iter_mut().zip(values).for_each(|(sum, &value)| *sum += f64::from(value));
        }
        let count = models.len() as f64;
        *tensor = Tensor::f32(&shape, sums.into_iter().map(|sum| (sum / count) as f32).collect());
    }
    first.with_tensors(tensors)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Initialisation, initialise};
    use residual_graph::{Builder, Conv2d};
    use residual_preprocess::Preprocessing;

    fn model(seed: u64, width: usize) -> Model {
        let mut net = Builder::new("tiny", [3, 8, 8]);
        let x = net.conv("conv1", net.input(), Conv2d::new(3, width, 3)).unwrap();
        let x = net.batch_norm("bn1", x).unwrap();
        let graph = net.finish(x).unwrap();
        let tensors = initialise(&graph, Initialisation::Torch, seed);
        Model::new(graph, tensors, Preprocessing::unscaled([8, 8], &[0.5; 3], &[0.25; 3]), Vec::new()).unwrap()
    }

    #[test]
    fn the_average_is_the_mean_of_each_value() {
        let models = [model(1, 4), model(2, 4), model(3, 4)];
        let mean = average(&models).unwrap();
        for (key, tensor) in &mean.tensors {
            let Some(values) = tensor.as_f32() else { continue };
            for (index, &value) in values.iter().enumerate() {
                let sum: f64 = models.iter().map(|model| f64::from(model.tensors[key].as_f32().unwrap()[index])).sum();
                assert_eq!(value, (sum / 3.0) as f32, "{key}");
            }
        }
        assert_eq!(average(&models[..1]).unwrap(), models[0]);
    }

    #[test]
    fn other_networks_are_refused_by_the_tensor() {
        let error = average(&[model(1, 4), model(1, 5)]).unwrap_err().to_string();
        assert!(error.contains("conv1.weight") && error.contains("[4, 3, 3, 3]"), "{error}");
    }
}
