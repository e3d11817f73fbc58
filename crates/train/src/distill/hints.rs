//! Feature losses: hints of FitNets and attention transfer, between nodes of the student and of a teacher.

use super::teacher::Teacher;
use crate::TrainError;
use crate::hooks::{self, GradientHook};
use crate::optimizer::{Device, Multipliers, Optimizer};
use crate::prepare::Job;
use crate::recipe::{KdLoss, Recipe, RecipeError};
use residual_engine::{Engine, EngineError, Mode, Options};
use residual_graph::{Builder, Conv2d, Graph, GraphError, NodeId, Op, Shape};
use residual_infer::layer_node;
use residual_kernels::loss::{attention_transfer, mean_squared_error};
use residual_kernels::optim::scale;
use residual_model::{Initialisation, Model, initialise};
use residual_preprocess::Preprocessing;
use residual_tensor::NamedTensors;

/// The name of an adapter's input, as [`Builder`] gives it.
const INPUT: &str = "input";
/// The name of the regressor's node.
const REGRESSOR: &str = "regressor";
/// The keys of a regressor's parameters, after the student's node.
const PARAMETER: &str = "parameter.";
/// The keys of its optimiser's state.
const OPTIMIZER: &str = "optimizer.";

/// A node of the student and the node of the teacher that it learns from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pair {
    pub(crate) student: String,
    pub(crate) teacher: String,
}

/// The pairs of a job: those of its recipe, or else the last nodes of the stages of both networks.
///
/// # Errors
/// If a layer is not there, or there are no stages to pair.
pub(super) fn pairs(job: &Job, teacher: &Teacher) -> Result<Vec<Pair>, TrainError> {
    let (student, other) = (&job.model.graph, &teacher.model.graph);
    let pair =
        |[own, of]: [NodeId; 2]| Pair { student: student.node(own).name.clone(), teacher: other.node(of).name.clone() };
    let Some(texts) = &job.recipe.hint_layers else {
        let size = job.train_size(0);
        let [own, of] = [stages(student, size)?, stages(other, size)?];
        if own.is_empty() || own.len() != of.len() {
            let names = |graph: &Graph, ends: &[NodeId]| {
                let names: Vec<&str> = ends.iter().map(|&id| graph.node(id).name.as_str()).collect();
                format!("{} ({})", names.len(), names.join(", "))
            };
            let expected =
                format!("as many stages of blocks as the student's {}, or hint_layers", names(student, &own));
            return Err(teacher.unfit("stages", expected, names(other, &of)));
        }
        return Ok(own.into_iter().zip(of).map(|(own, of)| pair([own, of])).collect());
    };
    let mut pairs: Vec<Pair> = Vec::new();
    for text in texts.iter().flat_map(|text| text.split(',')).map(str::trim) {
        let (own, of) = text.split_once(':').unwrap_or((text, text));
        let own = layer(student, own, "the student")?;
        if own == student.output || pairs.iter().any(|pair| pair.student == student.node(own).name) {
            return Err(fail("each layer of the student before its output once", text));
        }
        pairs.push(pair([own, layer(other, of, "the teacher")?]));
    }
    Ok(pairs)
}

fn fail(expected: impl Into<String>, got: &str) -> TrainError {
    RecipeError::field("hint_layers", expected, format!("\"{got}\"")).into()
}

fn layer(graph: &Graph, name: &str, of: &str) -> Result<NodeId, TrainError> {
    layer_node(graph, name)
        .map_err(|_| fail(format!("a layer of {of}, {} (residual inspect lists them)", graph.name), name))
}

/// The last nodes of the stages that consist of blocks.
fn stages(graph: &Graph, [height, width]: [usize; 2]) -> Result<Vec<NodeId>, GraphError> {
    let stages = graph.stages(height, width)?.into_iter().filter(|stage| stage.has_blocks);
    Ok(stages.map(|stage| NodeId(stage.nodes.end - 1)).collect())
}

/// A pair with the networks between its feature maps and the loss. Feature maps of different sizes are averaged to the smaller
/// one, and where the loss compares channels a trained 1×1 convolution, the regressor, gives the student as many as the teacher.
struct Plan {
    pair: Pair,
    /// The shape in which the two are compared; the student's channels.
    shape: Shape,
    /// Pooling and regressor of the student's feature map, if it needs one of them.
    student: Option<Model>,
    /// The pooling of the teacher's.
    teacher: Option<Model>,
    /// Whether the student's has a regressor.
    has_regressor: bool,
}

/// The plans of `job` for images of `size`, with new regressors.
fn plans(job: &Job, [height, width]: [usize; 2]) -> Result<Vec<Plan>, TrainError> {
    let Some(teacher) = job.teachers()?.first() else { return Ok(Vec::new()) };
    let graphs = [&job.model.graph, &teacher.model.graph];
    let [own_shapes, shapes] = [graphs[0].shapes(height, width)?, graphs[1].shapes(height, width)?];
    let of =
        |graph: &Graph, shapes: &[Shape], node: &str| graph.find(node).map(|id| shapes[id.0]).expect("a pair's node");
    let mut plans = Vec::new();
    for (index, pair) in job.hint_pairs()?.iter().enumerate() {
        let own = of(graphs[0], &own_shapes, &pair.student);
        let target = of(graphs[1], &shapes, &pair.teacher);
        let size = [own.height.min(target.height), own.width.min(target.width)];
        let regressor =
            (job.recipe.kd_loss == KdLoss::FitNet && own.channels != target.channels).then_some(target.channels);
        let seed = job.recipe.seed.wrapping_add(1 + index as u64);
        plans.push(Plan {
            pair: pair.clone(),
            shape: Shape { height: size[0], width: size[1], channels: regressor.unwrap_or(own.channels) },
            student: adapter(own, size, regressor, seed)?,
            teacher: adapter(target, size, None, seed)?,
            has_regressor: regressor.is_some(),
        });
    }
    Ok(plans)
}

/// A network that averages a feature map to `size` and maps it to `channels`; `None` if there is nothing to do.
fn adapter(map: Shape, size: [usize; 2], channels: Option<usize>, seed: u64) -> Result<Option<Model>, TrainError> {
    let own = [map.height, map.width];
    let mut builder = Builder::new("hint", [map.channels, map.height, map.width]);
    let mut x = builder.input();
    if own != size {
        x = builder.push("pool", Op::AdaptiveAvgPool2d { output: size }, &[x])?;
    }
    if let Some(channels) = channels {
        x = builder.conv(REGRESSOR, x, Conv2d::new(map.channels, channels, 1).bias())?;
    }
    if x == builder.input() {
        return Ok(None);
    }
    let graph = builder.finish(x)?;
    let tensors = initialise(&graph, Initialisation::Torch, seed);
    let preprocessing = Preprocessing::unscaled(own, &vec![0.0; map.channels], &vec![1.0; map.channels]);
    Ok(Some(Model::new(graph, tensors, preprocessing, Vec::new())?))
}

/// The hints of a run at work.
pub(crate) struct Hints {
    hints: Vec<Hint>,
    kind: KdLoss,
    beta: f64,
}

/// One pair at work.
struct Hint {
    pair: Pair,
    /// The shape in which the two are compared; the student's channels.
    shape: Shape,
    /// Pooling and regressor of the student's feature map, if it needs one of them.
    student: Option<Engine>,
    /// The optimiser of the regressor, if there is one.
    regressor: Option<Regressor>,
    /// The pooling of the teacher's.
    teacher: Option<Engine>,
    /// The gradient of the loss with respect to what is compared with the teacher.
    gradient: Vec<f32>,
    /// Workspace of attention maps.
    maps: Vec<f64>,
}

/// What updates the parameters of a regressor, as those of the student are.
struct Regressor {
    optimizer: Optimizer,
    hooks: Vec<Box<dyn GradientHook>>,
}

impl Hints {
    /// The hints of `job` on images of `size`; `None` if its loss has none.
    ///
    /// # Errors
    /// If the system has no memory.
    pub(crate) fn new(job: &Job, options: &Options, size: [usize; 2]) -> Result<Option<Self>, TrainError> {
        let Recipe { kd_loss: kind, .. } = job.recipe;
        if !kind.has_hints() {
            return Ok(None);
        }
        let hints = plans(job, size)?.into_iter().map(|plan| Hint::new(job, plan, options));
        Ok(Some(Self { hints: hints.collect::<Result<_, _>>()?, kind, beta: job.recipe.distillation_beta() }))
    }

    /// The bytes that [`new`](Self::new) allocates, without the optimisers' state of the regressors' few parameters.
    ///
    /// # Errors
    /// If a plan cannot be compiled.
    pub(crate) fn required_memory(job: &Job, options: &Options, size: [usize; 2]) -> Result<usize, TrainError> {
        let (_, batch) = job.train_plan();
        let mut bytes = 0;
        for Plan { shape, student, teacher, .. } in plans(job, size)? {
            for (model, mode) in
                student.iter().map(|model| (model, Mode::Train)).chain(teacher.iter().map(|model| (model, Mode::Infer)))
            {
                let memory = Engine::required_memory(model, mode, batch, model.preprocessing.size, &[INPUT], options)?;
                bytes += memory.total();
            }
            bytes += 4 * batch * shape.len() + 16 * shape.height * shape.width;
        }
        Ok(bytes)
    }

    /// The loss of the last batch of the student's engine against the values of the teacher's.
    ///
    /// # Errors
    /// If the batch does not fit the plan.
    pub(crate) fn loss(&mut self, student: &Engine, teacher: &Engine) -> Result<f64, TrainError> {
        let Self { hints, kind, beta } = self;
        hints.iter_mut().map(|hint| hint.loss(*kind, *beta, student, teacher)).sum()
    }

    /// The backward pass of the last loss, divided by `batches`, to the student's nodes.
    ///
    /// # Errors
    /// If there was no loss before.
    pub(crate) fn backward(&mut self, device: &Device, batches: usize) -> Result<(), TrainError> {
        for Hint { student, regressor, gradient, .. } in &mut self.hints {
            if batches > 1 {
                scale(device.isa, &device.pool, gradient, 1.0 / batches as f32);
            }
            if let Some(engine) = student {
                engine.backward_output(gradient)?;
                if let Some(Regressor { hooks, .. }) = regressor {
                    let flat = engine.flat_mut();
                    hooks.iter_mut().for_each(|hook| hook.after_backward(device, flat.gradients));
                }
            }
        }
        Ok(())
    }

    /// The gradients of the last backward pass at the student's nodes.
    pub(crate) fn seeds(&self) -> impl Iterator<Item = (&str, &[f32])> {
        self.hints.iter().map(|Hint { pair, student, gradient, .. }| {
            let own = student.as_ref().map(|engine| engine.node_gradient(INPUT).expect("the input is kept"));
            (&*pair.student, own.unwrap_or(gradient))
        })
    }

    /// Updates the regressors by the gradients since the last update.
    pub(crate) fn update(&mut self, device: &Device, lr: f64) {
        for Hint { student, regressor, .. } in &mut self.hints {
            if let (Some(engine), Some(Regressor { optimizer, hooks })) = (student, regressor) {
                let mut flat = engine.flat_mut();
                hooks.iter_mut().for_each(|hook| hook.before_update(device, &mut flat));
                optimizer.step(flat, lr);
            }
        }
    }

    /// Parameters and optimiser state of the regressors, under the names of the student's nodes.
    pub(crate) fn state(&self) -> NamedTensors {
        let mut state = NamedTensors::new();
        for Hint { pair, student, regressor, .. } in &self.hints {
            if let (Some(engine), Some(regressor)) = (student, regressor) {
                for (kind, tensors) in
                    [(PARAMETER, engine.state_dict()), (OPTIMIZER, regressor.optimizer.to_torch(engine))]
                {
                    let named =
                        tensors.into_iter().map(|(key, tensor)| (format!("{}.{kind}{key}", pair.student), tensor));
                    state.extend(named);
                }
            }
        }
        state
    }

    /// Loads what [`state`](Self::state) returned.
    ///
    /// # Errors
    /// If it is of other regressors or of another optimiser.
    pub(crate) fn load(&mut self, state: &NamedTensors) -> Result<(), TrainError> {
        for Hint { pair, student, regressor, .. } in &mut self.hints {
            if let (Some(engine), Some(regressor)) = (student, regressor) {
                let of = |kind: &str| {
                    let prefix = format!("{}.{kind}", pair.student);
                    let own = state
                        .iter()
                        .filter_map(|(key, tensor)| Some((key.strip_prefix(&prefix)?.to_owned(), tensor.clone())));
                    own.collect::<NamedTensors>()
                };
                engine.load_state_dict(&of(PARAMETER))?;
                regressor.optimizer.load(engine, &of(OPTIMIZER))?;
            }
        }
        Ok(())
    }
}

impl Hint {
    fn new(job: &Job, plan: Plan, options: &Options) -> Result<Self, TrainError> {
        let (_, batch) = job.train_plan();
        let engine = |model: &Option<Model>, mode, outputs: &[&str]| {
            let engine =
                model.as_ref().map(|model| Engine::new(model, mode, batch, model.preprocessing.size, outputs, options));
            engine.transpose()
        };
        let student = engine(&plan.student, Mode::Train, &[INPUT])?;
        let regressor = match &student {
            Some(engine) if plan.has_regressor => Some(Regressor {
                optimizer: Optimizer::new(&job.recipe, engine, Device::of(options), |_| Multipliers::ONE)?,
                hooks: hooks::hooks(&job.recipe, engine)?,
            }),
            _ => None,
        };
        let teacher = engine(&plan.teacher, Mode::Infer, &[])?;
        let maps = vec![0.0; 2 * plan.shape.height * plan.shape.width];
        Ok(Self { pair: plan.pair, shape: plan.shape, student, regressor, teacher, gradient: Vec::new(), maps })
    }

    fn loss(&mut self, kind: KdLoss, beta: f64, student: &Engine, teacher: &Engine) -> Result<f64, TrainError> {
        let Self { pair, shape, student: own_adapter, teacher: adapter, gradient, maps, .. } = self;
        let own = adapted(own_adapter, student.node_value(&pair.student).expect("a hint's node is kept"))?;
        let target = adapted(adapter, teacher.node_value(&pair.teacher).expect("a hint's node is kept"))?;
        gradient.resize(own.len(), 0.0);
        Ok(match kind {
            KdLoss::At => {
                let extents = [own.len() / shape.len(), shape.height * shape.width];
                attention_transfer(own, target, extents, beta, gradient, maps)
            }
            _ => mean_squared_error(own, target, beta, gradient),
        })
    }
}

/// A feature map after its adapter, if there is one.
fn adapted<'a>(adapter: &'a mut Option<Engine>, map: &'a [f32]) -> Result<&'a [f32], EngineError> {
    match adapter {
        Some(engine) => {
            engine.forward(map)?;
            Ok(engine.output())
        }
        None => Ok(map),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use residual_engine::Flat;
    use residual_tensor::{Stream, Tensor};
    use residual_weights::{save, save_tensors};
    use std::path::Path;

    /// A job with a student for images of 12×12 and a teacher of other channels.
    fn job(folder: &Path, kd_loss: KdLoss, hint_layers: Option<&str>) -> Job {
        let (n, side) = (8, 12);
        let mut random = Stream::new(3, &[]);
        let images = (0..n * 3 * side * side).map(|_| random.normal()).collect();
        let tensors = NamedTensors::from_iter([
            ("images".to_owned(), Tensor::f32(&[n, 3, side, side], images)),
            ("labels".to_owned(), Tensor::i64(&[n], (0..n as i64).map(|index| index % 2).collect())),
        ]);
        let [data, teacher] = ["tiny.safetensors", "teacher.safetensors"].map(|name| folder.join(name));
        save_tensors(&data, &tensors, &Default::default()).unwrap();
        let graph = residual_zoo::build("wrn16_4", 2).unwrap();
        let tensors = initialise(&graph, Initialisation::Torch, 1);
        let preprocessing = Preprocessing::unscaled([side; 2], &[0.5; 3], &[0.25; 3]);
        save(&teacher, &Model::new(graph, tensors, preprocessing, Vec::new()).unwrap(), None).unwrap();
        let text = |path: &Path| path.to_str().unwrap().to_owned();
        Job::prepare(Recipe {
            data: text(&data),
            teacher: Some(vec![text(&teacher)]),
            kd_loss,
            hint_layers: hint_layers.map(|layers| vec![layers.to_owned()]),
            val_split: Some(0.0),
            epochs: Some(1),
            ..Recipe::default()
        })
        .unwrap()
    }

    /// Student, teacher and hints on one batch.
    struct Bench {
        images: Vec<f32>,
        student: Engine,
        teacher: Engine,
        hints: Hints,
    }

    impl Bench {
        fn loss(&mut self) -> f64 {
            self.student.forward(&self.images).unwrap();
            self.hints.loss(&self.student, &self.teacher).unwrap()
        }

        /// The norm of the gradient of the parameters that `flat` returns, and the central difference of the loss along it.
        fn slopes(&mut self, flat: impl Fn(&mut Self) -> Flat<'_>) -> [f64; 2] {
            const STEP: f64 = 1.0 / 4096.0;
            let Flat { values, gradients, .. } = flat(self);
            let (values, gradients) = (values.to_vec(), gradients.to_vec());
            let norm = gradients.iter().map(|&g| f64::from(g) * f64::from(g)).sum::<f64>().sqrt();
            let mut at = |step: f64| {
                let moved = flat(self).values.iter_mut().zip(values.iter().zip(&gradients));
                moved.for_each(|(to, (&value, &g))| *to = (f64::from(value) + step / norm * f64::from(g)) as f32);
                self.loss()
            };
            let difference = (at(STEP) - at(-STEP)) / (2.0 * STEP);
            at(0.0);
            [norm, difference]
        }
    }

    #[test]
    fn gradients_are_finite_differences_through_pooling_and_regressors() {
        let folder = tempfile::tempdir().unwrap();
        for (kind, layers) in [
            (KdLoss::FitNet, None),
            (KdLoss::FitNet, Some("layer1:layer2,layer3")),
            (KdLoss::At, None),
            (KdLoss::At, Some("layer1:layer3")),
        ] {
            let what = format!("{kind:?}, {layers:?}");
            let job = job(folder.path(), kind, layers);
            let (options, size) = (Options::threads(1), [12; 2]);
            let engine = |model, mode, kept: &[&str]| Engine::new(model, mode, 8, size, kept, &options).unwrap();
            let taught: Vec<&str> = job.hint_pairs().unwrap().iter().map(|pair| &*pair.teacher).collect();
            let mut bench = Bench {
                images: job.loader(0, 0, size).unwrap().next().unwrap().unwrap().images().to_vec(),
                student: engine(&job.model, Mode::Train, &job.kept_nodes().unwrap()),
                teacher: engine(&job.teachers().unwrap()[0].model, Mode::Infer, &taught),
                hints: Hints::new(&job, &options, size).unwrap().unwrap(),
            };
            bench.teacher.forward(&bench.images).unwrap();
            bench.loss();
            bench.hints.backward(&Device::of(&options), 1).unwrap();
            let seeds: Vec<(&str, &[f32])> = bench.hints.seeds().collect();
            bench.student.backward(&seeds).unwrap();

            let check = |of: &str, [norm, difference]: [f64; 2]| {
                assert!((difference / norm - 1.0).abs() < 0.02, "{what}: {of}: {norm}, got {difference}");
            };
            check("student", bench.slopes(|bench| bench.student.flat_mut()));
            if kind == KdLoss::FitNet {
                check("regressor", bench.slopes(|bench| bench.hints.hints[0].student.as_mut().unwrap().flat_mut()));
            }
        }
    }
}
