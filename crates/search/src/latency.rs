//! Latency: the time of inference, measured on this machine.

use crate::SearchError;
use residual_engine::{Engine, Mode, Options};
use residual_graph::Graph;
use residual_infer::{Repeats, measure};
use residual_model::{Initialisation, Model, initialise};
use residual_preprocess::Preprocessing;
use residual_tensor::Stream;
use std::time::Instant;

/// Passes of a measurement.
const REPEATS: Repeats = Repeats { warm_up: 3, timed: Some(15) };

/// The median seconds of inference of a whole network with new weights, on a batch of noise.
///
/// # Errors
/// If the network cannot be run, for instance for lack of memory.
pub fn measure_latency(graph: &Graph, batch: usize, options: &Options) -> Result<f64, SearchError> {
    let [channels, height, width] = graph.input_size();
    let tensors = initialise(graph, Initialisation::usual(graph), 0);
    let preprocessing = Preprocessing::unscaled([height, width], &vec![0.0; channels], &vec![1.0; channels]);
    let model = Model::new(graph.clone(), tensors, preprocessing, Vec::new())?;
    let mut engine = Engine::new(&model, Mode::Infer, batch, [height, width], &[], options)?;
    let mut random = Stream::new(0, &[]);
    let images: Vec<f32> = (0..batch * channels * height * width).map(|_| random.normal()).collect();
    let latency = measure(REPEATS, || {
        let start = Instant::now();
        engine.forward(&images)?;
        Ok::<_, SearchError>(start.elapsed().as_secs_f64())
    })?;
    Ok(latency.median())
}
