//! What is measured: a network with a batch of noise.

use crate::args::{Bench, BenchMode};
use crate::failure::Failure;
use crate::noise::noise;
use crate::tuning::tune;
use residual::data::Targets;
use residual::engine::{Engine, Mode, Options};
use residual::files::load_npy;
use residual::graph::Shape;
use residual::model::Model;
use residual::tensor::Stream;
use residual::train::{Recipe, TrainStep};
use std::collections::HashMap;
use std::path::Path;
use std::time::Instant;

/// A network with a batch of noise.
pub(super) struct Subject {
    pub(super) name: String,
    pub(super) mode: BenchMode,
    pub(super) batch: usize,
    /// Multiply-accumulates of each node for one image.
    pub(super) macs: HashMap<String, u64>,
    size: [usize; 2],
    runner: Runner,
    images: Vec<f32>,
    labels: Vec<u32>,
    /// Multiplications and additions of one pass, if every convolution were computed directly.
    pub(super) flops: f64,
    /// Peak memory in bytes: the engine's plan, and in training the optimiser's state.
    pub(super) memory: usize,
}

impl Subject {
    pub(super) fn new(
        arguments: &Bench,
        name: &str,
        model: &Model,
        batch: usize,
        options: &Options,
    ) -> Result<Self, Failure> {
        let [height, width] = arguments.img_size.map_or(model.preprocessing.size, |side| [side; 2]);
        let plan = match arguments.mode {
            BenchMode::Infer => Mode::Infer,
            BenchMode::Train => Mode::Train,
        };
        let output = model.graph.shapes(height, width)?[model.graph.output.0];
        if arguments.mode == BenchMode::Train && [output.height, output.width] != [1, 1] {
            let Shape { height, width, channels } = output;
            return Err(Failure::new(format!(
                "{name}: expected a result of one value per class to train, got a map of {height}×{width}×{channels}"
            )));
        }
        let mut options = options.clone();
        if arguments.compute.autotune {
            options = tune(options, model, &[(plan, batch)], [height, width])?;
        }
        let engine = Engine::new(model, plan, batch, [height, width], &[], &options)?;
        let classes = model.graph.output_channels()?;
        let [channels, ..] = model.graph.input_size();
        let mut random = Stream::new(0, &[]);
        let analysis = model.graph.analyse(height, width)?;
        let (runner, passes, memory) = match arguments.mode {
            BenchMode::Infer => {
                let memory = engine.memory().total();
                (Runner::Infer(Box::new(engine)), 1.0, memory)
            }
            // The data gradients take as many multiply-accumulates as the forward pass, and so do the weight gradients.
            BenchMode::Train => {
                let recipe = Recipe { weight_decay: 1e-4, ..Recipe::default() };
                let memory = TrainStep::required_memory(&recipe, model, batch, [height, width], &options)?;
                (Runner::Train(Box::new(TrainStep::new(&recipe, engine, &options)?)), 3.0, memory)
            }
        };
        Ok(Self {
            name: model.graph.name.clone(),
            mode: arguments.mode,
            batch,
            runner,
            images: noise(&mut random, batch * height * width * channels)?,
            labels: (0..batch).map(|_| random.below(classes as u32)).collect(),
            flops: 2.0 * passes * analysis.macs as f64 * batch as f64,
            macs: analysis.nodes.into_iter().map(|node| (node.name, node.macs)).collect(),
            size: [height, width],
            memory,
        })
    }

    /// The outputs for a batch in a file (N×C×H×W, normalised).
    pub(super) fn logits(&mut self, path: &Path) -> Result<Vec<Vec<f32>>, Failure> {
        let array = load_npy(path)?;
        let [height, width] = self.size;
        let pixels = height * width;
        let channels = self.images.len() / (self.batch * pixels);
        let expected = [self.batch, channels, height, width];
        if array.shape != expected {
            return Err(Failure::usage(format!("{}: expected {expected:?}, got {:?}", path.display(), array.shape)));
        }
        for (image, planes) in
            self.images.chunks_exact_mut(channels * pixels).zip(array.to_f32().chunks_exact(channels * pixels))
        {
            for (at, value) in image.iter_mut().enumerate() {
                *value = planes[at % channels * pixels + at / channels];
            }
        }
        let engine = self.runner.engine_mut();
        engine.forward(&self.images)?;
        let outputs = engine.output();
        Ok(outputs.chunks_exact(outputs.len() / self.batch).map(<[f32]>::to_vec).collect())
    }

    /// The seconds of one forward pass or training step.
    pub(super) fn pass(&mut self) -> Result<f64, Failure> {
        let start = Instant::now();
        match &mut self.runner {
            Runner::Infer(engine) => engine.forward(&self.images)?,
            // A learning rate of zero takes the same time and leaves the weights as they are.
            Runner::Train(step) => drop(step.step(&self.images, Targets::Hard(&self.labels), 0.0)?),
        }
        Ok(start.elapsed().as_secs_f64())
    }

    pub(super) fn engine(&self) -> &Engine {
        match &self.runner {
            Runner::Infer(engine) => engine,
            Runner::Train(step) => step.engine(),
        }
    }

    pub(super) fn engine_mut(&mut self) -> &mut Engine {
        self.runner.engine_mut()
    }
}

/// What is timed: an engine for inference, or a training step.
enum Runner {
    Infer(Box<Engine>),
    Train(Box<TrainStep>),
}

impl Runner {
    fn engine_mut(&mut self) -> &mut Engine {
        match self {
            Self::Infer(engine) => engine,
            Self::Train(step) => step.engine_mut(),
        }
    }
}
