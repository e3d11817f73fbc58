//! The sandwich rule with in-place distillation (Yu et al., "BigNAS", arXiv:2003.11142): in every step the largest network of a
//! supernet learns from the labels, and the smallest and two random members learn the largest one's outputs on the same batch.

use crate::slice::Slice;
use crate::supernet::Supernet;
use crate::{Candidate, NetworkSpace};
use residual_engine::{Elements, Engine, GradientOptions, Mode, Options};
use residual_kernels::loss::{Targets, cross_entropy, softmax};
use residual_model::Model;
use residual_preprocess::Preprocessing;
use residual_tensor::{NamedTensors, Stream, Tensor};
use residual_train::{Companion, Job, Pass, TrainError};

/// Members of a step besides the largest: the smallest and two random ones, as in BigNAS.
const MEMBERS: usize = 3;
/// Steps before other random members are drawn. BigNAS draws them in every step; a plan takes time to compile, and its memory to be
/// mapped.
const STEPS: u64 = 4;
/// How many times the memory of the largest network's plan the compiled plans of members may take, before the one that was used
/// the longest ago is dropped.
const KEPT: usize = 2;
/// Keeps the choice of members apart from other random numbers.
const SANDWICH: u64 = u64::from_be_bytes(*b"sandwich");

/// The members of a supernet that are trained beside the largest one.
///
/// The gradient of a step is that of the largest network's loss plus the mean of the members'. BigNAS and once-for-all add up
/// all of them, with learning rates made for that sum; here the largest network's keeps the weight that it has alone, so that the
/// recipe's learning rate fits, and the members together weigh as much.
struct Sandwich<'a> {
    space: &'a NetworkSpace,
    supernet: &'a Supernet,
    seed: u64,
    /// The images of the largest batch.
    batch: usize,
    options: Options,
    /// Compiled members, the one that was used last at the end.
    compiled: Vec<Compiled>,
    /// The largest network's probabilities for the batch, and the gradient of a member's loss with respect to its logits.
    probabilities: Vec<f32>,
    gradient: Vec<f32>,
}

/// A member, compiled for training on images of one size.
struct Compiled {
    candidate: Candidate,
    size: [usize; 2],
    slice: Slice,
    engine: Engine,
}

/// The companion of the training of `supernet` by `job`: a function of the batch, the step and the recipe's seed.
pub(crate) fn companion<'a>(
    space: &'a NetworkSpace,
    supernet: &'a Supernet,
    job: &Job,
    options: &Options,
) -> Companion<'a> {
    let mut sandwich = Sandwich::new(space, supernet, job, options);
    let name = format!("the smallest and {} random members of a supernet, drawn every {STEPS} steps", MEMBERS - 1);
    Companion::new(name, move |engine, pass| sandwich.add_gradients(engine, pass))
}

impl<'a> Sandwich<'a> {
    fn new(space: &'a NetworkSpace, supernet: &'a Supernet, job: &Job, options: &Options) -> Self {
        let gradients = GradientOptions {
            checkpointing: job.recipe.grad_checkpointing,
            elements: if job.recipe.amp { Elements::Bf16 } else { Elements::F32 },
            ..GradientOptions::default()
        };
        Self {
            space,
            supernet,
            seed: job.recipe.seed,
            batch: job.recipe.batch_size.min(job.train.len()),
            options: Options { gradients, ..options.clone() },
            compiled: Vec::new(),
            probabilities: Vec::new(),
            gradient: Vec::new(),
        }
    }

    /// Adds the members' gradients to those of the largest network, of which `engine` is.
    fn add_gradients(&mut self, engine: &mut Engine, pass: &Pass<'_>) -> Result<(), TrainError> {
        let weights = engine.state_dict();
        let zeros = |entry: &residual_engine::Entry| (entry.name.clone(), Tensor::full(&entry.shape, 0.0));
        let mut sum: NamedTensors = engine.entries().iter().map(zeros).collect();
        self.probabilities.clear();
        self.probabilities.extend_from_slice(engine.output());
        softmax(&mut self.probabilities, engine.output().len() / pass.batch.len());
        for place in 0..MEMBERS as u64 {
            self.use_member(self.member(pass.step, place), pass.size, &weights)?;
            let dropout = Stream::new(self.seed, &[SANDWICH, pass.step, pass.index as u64, place]).next_u64();
            self.backward(dropout, pass, &mut sum)?;
            self.drop_unused(KEPT * engine.bytes());
        }
        let sum = engine.from_torch(&sum)?;
        engine.flat_mut().gradients.iter_mut().zip(&*sum).for_each(|(gradient, more)| *gradient += more);
        Ok(())
    }

    /// The member in this place of a step: first the smallest, then random ones.
    fn member(&self, step: u64, place: u64) -> Candidate {
        match place {
            0 => self.supernet.smallest.clone(),
            _ => self.supernet.draw(self.space, &mut Stream::new(self.seed, &[SANDWICH, step / STEPS, place])),
        }
    }

    /// Makes a member with its slice of the supernet's weights the last of the compiled ones.
    fn use_member(&mut self, candidate: Candidate, size: [usize; 2], weights: &NamedTensors) -> Result<(), TrainError> {
        let known = self.compiled.iter().position(|known| known.candidate == candidate && known.size == size);
        if let Some(known) = known {
            let mut compiled = self.compiled.remove(known);
            compiled.engine.load_state_dict(&compiled.slice.cut(weights))?;
            self.compiled.push(compiled);
            return Ok(());
        }
        let (member, slice) = self.supernet.slice(self.space, &candidate).expect("members are slices of the supernet");
        let channels = member.graph.input_size()[0];
        let preprocessing = Preprocessing::unscaled(size, &vec![0.0; channels], &vec![1.0; channels]);
        let model = Model::new(member.graph, slice.cut(weights), preprocessing, Vec::new())?;
        let engine = Engine::new(&model, Mode::Train, self.batch, size, &[], &self.options)?;
        self.compiled.push(Compiled { candidate, size, slice, engine });
        Ok(())
    }

    /// Forward and backward pass of the member that is used, towards the largest network's probabilities; its gradient is added
    /// to `sum`, with its share of the mean.
    fn backward(&mut self, seed: u64, pass: &Pass<'_>, sum: &mut NamedTensors) -> Result<(), TrainError> {
        let Self { compiled, probabilities, gradient, .. } = self;
        let Compiled { engine, slice, .. } = compiled.last_mut().expect("a member is used");
        engine.set_seed(seed);
        engine.forward(pass.batch.images())?;
        let classes = probabilities.len() / pass.batch.len();
        gradient.resize(probabilities.len(), 0.0);
        cross_entropy(engine.output(), Targets::Soft(probabilities), classes, 0.0, Some(gradient));
        let share = 1.0 / (MEMBERS * pass.batches) as f32;
        gradient.iter_mut().for_each(|gradient| *gradient *= share);
        engine.backward_output(gradient)?;
        slice.add(&engine.gradients(), sum);
        Ok(())
    }

    /// Drops the members that were used the longest ago while all together take more than so many bytes.
    fn drop_unused(&mut self, bytes: usize) {
        while self.compiled.len() > 1 && self.compiled.iter().map(|known| known.engine.bytes()).sum::<usize>() > bytes {
            self.compiled.remove(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Supernets;
    use residual_tensor::NamedTensors;
    use residual_train::{Recipe, train_with};
    use residual_weights::save_tensors;
    use std::path::Path;
    use std::sync::Arc;

    const SPACE: &str = "
family = 'cifar_resnet'
depths = { each = [[1], [1, 2], [1, 2]] }
widths = { each = [[4, 8], [4, 8], [4, 8]] }
image_size = 8
";

    /// 24 images of 8×8 of three classes.
    fn data(folder: &Path) -> String {
        let mut random = Stream::new(3, &[]);
        let images = (0..24 * 3 * 64).map(|at| random.normal() + 0.3 * ((at / 192) % 3) as f32).collect();
        let labels = (0..24).map(|image| image % 3).collect();
        let tensors = NamedTensors::from_iter([
            ("images".to_owned(), Tensor::f32(&[24, 3, 8, 8], images)),
            ("labels".to_owned(), Tensor::i64(&[24], labels)),
        ]);
        let path = folder.join("tiny.safetensors");
        save_tensors(&path, &tensors, &Default::default()).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// Finite differences of the mean of the members' losses, each computed by an engine of its own for weights that are cut anew,
    /// against the gradient that the companion adds.
    #[test]
    fn the_added_gradient_is_that_of_the_members_mean_loss() {
        let place = tempfile::tempdir().unwrap();
        let space = NetworkSpace::parse("s", SPACE).unwrap().for_images(3, 3);
        let supernets = Supernets::new(&space).unwrap();
        let supernet = &supernets.all()[0];
        let description = place.path().join("net.toml");
        std::fs::write(&description, supernet.network().config.to_toml()).unwrap();
        let recipe = Recipe {
            data: data(place.path()),
            model: description.to_str().unwrap().to_owned(),
            batch_size: 16,
            max_steps: Some(1),
            seed: 5,
            val_split: Some(0.2),
            ..Recipe::default()
        };
        let job = Job::prepare(recipe).unwrap();
        let options = Options::threads(1);
        let mut sandwich = Sandwich::new(&space, supernet, &job, &options);
        let mut checked = 0;
        let around = Companion::new("checked", |engine, pass| {
            let before = engine.gradients();
            sandwich.add_gradients(engine, pass)?;
            let after = engine.gradients();
            let weights = engine.state_dict();
            let mut probabilities = engine.output().to_vec();
            softmax(&mut probabilities, 3);
            let mut members: Vec<(Engine, Slice)> = Vec::new();
            for place in 0..3 {
                let mut random = Stream::new(5, &[SANDWICH, 0, place]);
                let candidate = if place == 0 { supernet.smallest.clone() } else { supernet.draw(&space, &mut random) };
                let (member, slice) = supernet.slice(&space, &candidate).unwrap();
                let preprocessing = Preprocessing::unscaled([8; 2], &[0.0; 3], &[1.0; 3]);
                let model = Model::new(member.graph, slice.cut(&weights), preprocessing, Vec::new()).unwrap();
                members.push((Engine::new(&model, Mode::Train, 16, [8; 2], &[], &options)?, slice));
            }
            let mut loss = |weights: &NamedTensors| {
                let losses = members.iter_mut().map(|(engine, slice)| {
                    engine.load_state_dict(&slice.cut(weights)).unwrap();
                    engine.forward(pass.batch.images()).unwrap();
                    // By hand, in double precision.
                    let rows = engine.output().chunks(3).zip(probabilities.chunks(3));
                    let row = |(row, target): (&[f32], &[f32])| {
                        let sum: f64 = row.iter().map(|&logit| f64::from(logit).exp()).sum();
                        let log = |logit: f32| f64::from(logit) - sum.ln();
                        -row.iter().zip(target).map(|(&logit, &share)| f64::from(share) * log(logit)).sum::<f64>()
                    };
                    rows.map(row).sum::<f64>() / 16.0
                });
                losses.sum::<f64>() / 3.0
            };
            for key in
                ["conv1.weight", "bn1.bias", "layer2.0.downsample.0.weight", "layer3.1.conv2.weight", "fc.weight"]
            {
                let added: Vec<f32> = {
                    let [before, after] = [&before, &after].map(|tensors| tensors[key].as_f32().unwrap());
                    before.iter().zip(after).map(|(before, after)| after - before).collect()
                };
                let (place, &largest) =
                    added.iter().enumerate().max_by(|a, b| a.1.abs().total_cmp(&b.1.abs())).unwrap();
                // A difference may cross the bend of a ReLU.
                for at in [place, 0, added.len() - 1] {
                    let shifted = |by: f32| {
                        let mut weights = weights.clone();
                        weights.get_mut(key).unwrap().as_f32_mut().unwrap()[at] += by;
                        weights
                    };
                    let expected = (loss(&shifted(1e-3)) - loss(&shifted(-1e-3))) / 2e-3;
                    let difference = (f64::from(added[at]) - expected).abs();
                    assert!(
                        difference < 0.05 * f64::from(largest.abs()) + 1e-5,
                        "{key} {at}: {} against {expected}",
                        added[at]
                    );
                    checked += 1;
                }
            }
            Ok(())
        });
        train_with(&job, &place.path().join("runs"), &options, &Arc::default(), Some(around), &mut |_| {}).unwrap();
        assert_eq!(checked, 15);
    }
}
