//! Prunes networks towards a goal, in one step or in several.

use super::{
    Criterion, Goal, LatencyCost, LatencyTarget, Macs, Saliency, SelectOptions, Selection, SpeedupTarget, approach,
    prune_weights, select,
};
use crate::{CompressError, LatencyChange, TrainingImages, compare_latency};
use residual_engine::Options;
use residual_graph::{ChannelGroup, Op};
use residual_infer::{LatencyTable, StepTimes, time_layer};
use residual_model::Model;
use serde::{Deserialize, Serialize};
use std::cell::RefCell;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

/// What was removed of a network.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Pruned {
    /// Units of channels.
    pub units: usize,
    /// Blocks, by their names.
    pub blocks: Vec<String>,
    /// How the last step met its latency.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub search: Option<LatencySearch>,
}

/// The search for a network of a latency. All are shares of the original's.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct LatencySearch {
    /// The latency that was aimed at.
    pub goal: f64,
    /// The one that was predicted.
    pub predicted: f64,
    /// The one that was measured.
    pub measured: f64,
    /// Networks that were measured.
    pub rounds: usize,
}

impl Pruned {
    /// With what a further step removes.
    pub fn then(&self, next: Self) -> Self {
        let blocks = self.blocks.iter().cloned().chain(next.blocks).collect();
        Self { units: self.units + next.units, blocks, search: next.search }
    }
}

/// An event of pruning.
#[derive(Clone, Debug)]
pub enum PruneEvent {
    /// Images that channels were scored on.
    Scored {
        /// So far.
        done: usize,
        /// In all.
        total: usize,
    },
    /// So many layers were measured by themselves.
    Timed(usize),
    /// A pruned network was measured in turns with the original, whose latency it is to have the share `goal` of.
    Measured {
        /// Images in a batch.
        batch: usize,
        /// Both latencies.
        change: LatencyChange,
        /// The share.
        goal: f64,
    },
    /// No network came within 3 % of its goal.
    Missed {
        /// The share of the nearest one.
        measured: f64,
        /// The share that was aimed at.
        goal: f64,
    },
    /// Measured layers cannot be read or kept; a line for the user.
    NotKept(String),
}

/// Prunes networks towards a goal.
pub struct Pruner<'a> {
    /// The network whose cost theirs is compared with.
    pub original: &'a Model,
    /// What they may cost.
    pub goal: Goal,
    /// What scores channels.
    pub criterion: Criterion,
    /// How they are selected.
    pub select: SelectOptions,
    /// The images that they are scored on.
    pub images: &'a TrainingImages,
    /// The seed of random scores.
    pub seed: u64,
    /// The file that keeps the times of single layers, if one does.
    pub measurements: Option<&'a Path>,
    /// Timed passes of each network in a comparison of latencies; by default as many as fit two seconds.
    pub repeats: Option<usize>,
    /// Instruction set and threads.
    pub options: &'a Options,
}

impl Pruner<'_> {
    /// `model`, pruned to the goal of step number `step` of `steps`: each removes the same share of what is left. `None` if `stop` was
    /// set.
    ///
    /// # Errors
    /// If the goal cannot be met, or is met already; if an image cannot be read, or the network cannot be run.
    pub fn prune(
        &self,
        model: &Model,
        [step, steps]: [usize; 2],
        stop: &AtomicBool,
        on_event: &mut dyn FnMut(&PruneEvent),
    ) -> Result<Option<(Model, Pruned)>, CompressError> {
        if let Goal::Unstructured(pattern) = self.goal {
            return Ok(Some((prune_weights(model, pattern)?, Pruned::default())));
        }
        let groups = model.graph.channel_groups()?;
        let show = &mut |done, total| on_event(&PruneEvent::Scored { done, total });
        let scored =
            Saliency::measure(self.criterion, model, &groups, self.images, self.seed, self.options, stop, show)?;
        let Some(saliency) = scored else { return Ok(None) };
        let share = step as f64 / steps as f64;
        let (selection, search) = match self.goal {
            Goal::Macs(target) => {
                let before = macs(self.original)?;
                let budget = before * (target.count(before) / before).powf(share);
                let mut costs = Macs::new(&model.graph, model.preprocessing.size)?;
                (select(&model.graph, &groups, &saliency, &mut costs, budget, &self.select)?, None)
            }
            Goal::Latency(LatencyTarget { milliseconds, batch }) => {
                let now = compare_latency(self.original, self.original, batch, self.repeats, self.options)?.before_ms;
                if milliseconds >= now {
                    return Err(CompressError::Latency { goal: milliseconds, now });
                }
                let goal = (milliseconds / now).powf(share);
                self.meet(model, &groups, &saliency, goal, batch, on_event)?
            }
            Goal::Speedup(SpeedupTarget { factor, batch }) => {
                self.meet(model, &groups, &saliency, (1.0 / factor).powf(share), batch, on_event)?
            }
            Goal::Unstructured(_) => unreachable!("it has returned"),
        };
        if stop.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let blocks = selection.blocks.iter().map(|block| block.name.clone()).collect();
        let pruned = Pruned { units: selection.units.len(), blocks, search };
        Ok(Some((selection.apply(model)?, pruned)))
    }

    /// The selection whose latency is the share `goal` of the original's, measured in turns with it.
    fn meet(
        &self,
        model: &Model,
        groups: &[ChannelGroup],
        saliency: &Saliency,
        goal: f64,
        batch: usize,
        on_event: &mut dyn FnMut(&PruneEvent),
    ) -> Result<(Selection, Option<LatencySearch>), CompressError> {
        let options = self.options;
        let mut table = LatencyTable::open(self.measurements, options, |reason| on_event(&PruneEvent::NotKept(reason)));
        let known = table.len();
        let times = StepTimes::measure(model, batch, options)?.nodes;
        let cost: f64 = times.values().sum();
        let present = match model == self.original {
            true => 1.0,
            false => 1.0 / compare_latency(self.original, model, batch, self.repeats, options)?.ratio,
        };
        let size = model.preprocessing.size;
        // Both closures below report.
        let on_event = RefCell::new(on_event);
        let choose = |share: f64| {
            let mut measured = 0;
            let time = |op: &Op, input, size| {
                measured += 1;
                on_event.borrow_mut()(&PruneEvent::Timed(measured));
                Ok(time_layer(op, input, size, batch, options)?)
            };
            let mut costs = LatencyCost::new(&model.graph, size, batch, times.clone(), &mut table, time)?;
            select(&model.graph, groups, saliency, &mut costs, share * cost, &self.select)
        };
        let measure = |selection: &Selection| {
            let change = compare_latency(self.original, &selection.apply(model)?, batch, self.repeats, options)?;
            on_event.borrow_mut()(&PruneEvent::Measured { batch, change, goal });
            Ok::<_, CompressError>(1.0 / change.ratio)
        };
        let found = approach(goal, present, choose, measure)?;
        let on_event = on_event.into_inner();
        if table.len() > known {
            table.keep(self.measurements, |reason| on_event(&PruneEvent::NotKept(reason)));
        }
        if !found.is_within(goal) {
            on_event(&PruneEvent::Missed { measured: found.measured, goal });
        }
        let search = LatencySearch { goal, predicted: found.predicted, measured: found.measured, rounds: found.rounds };
        Ok((found.selection, Some(search)))
    }
}

/// Multiply-accumulates of `model` for one image.
fn macs(model: &Model) -> Result<f64, CompressError> {
    let [height, width] = model.preprocessing.size;
    Ok(model.graph.analyse(height, width)?.macs as f64)
}
