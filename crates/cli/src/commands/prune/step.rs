//! One step of pruning: scores, the selection for the step's target, and the pruned network.

use crate::args::Prune;
use crate::failure::Failure;
use crate::output::complain;
use crate::progress::Progress;
use crate::tuning::measurements;
use residual::compress::{
    Allocation, CompressError, LatencyCost, LatencyTable, LatencyTarget, Macs, MacsTarget, Pattern, Saliency,
    SelectOptions, Selection, SpeedupTarget, StepTimes, TrainingImages, approach, compare_latency, prune_weights,
    select, time_layer,
};
use residual::engine::Options;
use residual::graph::{ChannelGroup, Op};
use residual::model::Model;
use serde::{Deserialize, Serialize};
use std::sync::atomic::{AtomicBool, Ordering};

/// What the result may cost.
#[derive(Clone, Copy, Debug)]
pub(super) enum Goal {
    Macs(MacsTarget),
    Latency(LatencyTarget),
    Speedup(SpeedupTarget),
    Unstructured(Pattern),
}

impl Goal {
    /// The one that was typed.
    pub(super) fn of(arguments: &Prune) -> Self {
        let Prune { target_macs, target_latency, target_speedup, unstructured, .. } = arguments;
        let goals = [
            target_macs.map(Self::Macs),
            target_latency.map(Self::Latency),
            target_speedup.map(Self::Speedup),
            unstructured.map(Self::Unstructured),
        ];
        goals.into_iter().flatten().next().expect("one target is required")
    }

    pub(super) fn is_structured(&self) -> bool {
        !matches!(self, Self::Unstructured(_))
    }

    /// The batch size whose latency is meant.
    pub(super) fn batch(&self) -> Option<usize> {
        match self {
            Self::Latency(LatencyTarget { batch, .. }) | Self::Speedup(SpeedupTarget { batch, .. }) => Some(*batch),
            Self::Macs(_) | Self::Unstructured(_) => None,
        }
    }
}

impl std::fmt::Display for Goal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Macs(MacsTarget::Share(share)) => write!(f, "{share} of the multiply-accumulates"),
            Self::Macs(MacsTarget::Count(count)) => write!(f, "{count} multiply-accumulates"),
            Self::Latency(LatencyTarget { milliseconds, batch }) => {
                write!(f, "{milliseconds} ms at batch size {batch}")
            }
            Self::Speedup(SpeedupTarget { factor, batch }) => write!(f, "{factor} times as fast at batch size {batch}"),
            Self::Unstructured(pattern) => write!(f, "zeros among weights, {pattern}"),
        }
    }
}

/// What was removed of a network.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Pruned {
    /// Units of channels.
    pub(super) units: usize,
    /// Blocks, by their names.
    pub(super) blocks: Vec<String>,
    /// How the last step met its latency.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) search: Option<Search>,
}

/// The search for a network of a latency. All are shares of the original's.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Search {
    pub(super) goal: f64,
    pub(super) predicted: f64,
    pub(super) measured: f64,
    /// Networks that were measured.
    pub(super) rounds: usize,
}

impl Pruned {
    /// With what a further step removes.
    pub(super) fn then(&self, next: Self) -> Self {
        let blocks = self.blocks.iter().cloned().chain(next.blocks).collect();
        Self { units: self.units + next.units, blocks, search: next.search }
    }
}

/// Prunes networks towards the goal of the command.
pub(super) struct Pruner<'a> {
    pub(super) arguments: &'a Prune,
    pub(super) goal: Goal,
    pub(super) original: &'a Model,
    pub(super) images: TrainingImages,
    pub(super) options: &'a Options,
}

impl Pruner<'_> {
    /// `model`, pruned to the goal of step number `step` of `steps`: each removes the same share of what is left. `None` if `stop` was
    /// set.
    pub(super) fn prune(
        &self,
        model: &Model,
        step: usize,
        steps: usize,
        stop: &AtomicBool,
        progress: &Progress,
    ) -> Result<Option<(Model, Pruned)>, Failure> {
        if let Goal::Unstructured(pattern) = self.goal {
            return Ok(Some((prune_weights(model, pattern)?, Pruned::default())));
        }
        let groups = model.graph.channel_groups()?;
        let show = &mut |done, total| progress.images("scoring channels", done as u64, total as u64);
        let Prune { criterion, seed, .. } = *self.arguments;
        let scored = Saliency::measure(criterion, model, &groups, &self.images, seed, self.options, stop, show);
        let Some(saliency) = scored.map_err(|error| Failure::from(error).or_skip())? else { return Ok(None) };
        let share = step as f64 / steps as f64;
        let (selection, search) = match self.goal {
            Goal::Macs(target) => {
                let before = self.macs(self.original)?;
                let budget = before * (target.count(before) / before).powf(share);
                let mut costs = Macs::new(&model.graph, model.preprocessing.size)?;
                (select(&model.graph, &groups, &saliency, &mut costs, budget, &self.select_options())?, None)
            }
            Goal::Latency(LatencyTarget { milliseconds, batch }) => {
                let now = compare_latency(self.original, self.original, batch, self.options)?;
                let goal = (milliseconds / now.before_ms).powf(share);
                if goal >= 1.0 {
                    let got = format!("{milliseconds} ms, and the network takes {:.2} ms", now.before_ms);
                    return Err(Failure::usage(format!("target-latency: expected less than it takes, got {got}")));
                }
                self.meet(model, &groups, &saliency, goal, batch, progress)?
            }
            Goal::Speedup(SpeedupTarget { factor, batch }) => {
                self.meet(model, &groups, &saliency, (1.0 / factor).powf(share), batch, progress)?
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
        progress: &Progress,
    ) -> Result<(Selection, Option<Search>), Failure> {
        let options = self.options;
        let path = measurements(options, "latency");
        let mut table = match path.as_deref().filter(|path| path.exists()).map(|path| LatencyTable::read(path, options))
        {
            Some(Ok(table)) => table,
            Some(Err(error)) => {
                complain(&format!("warning: {}; measuring again", Failure::from(error)));
                LatencyTable::new(options)
            }
            None => LatencyTable::new(options),
        };
        let known = table.len();
        let times = StepTimes::measure(model, batch, options)?.nodes;
        let cost: f64 = times.values().sum();
        let present = match model == self.original {
            true => 1.0,
            false => 1.0 / compare_latency(self.original, model, batch, options)?.ratio,
        };
        let size = model.preprocessing.size;
        let choose = |share: f64| {
            let mut measured = 0;
            let time = |op: &Op, input, size| {
                measured += 1;
                progress.images("measuring layers", measured, measured);
                time_layer(op, input, size, batch, options)
            };
            let mut costs = LatencyCost::new(&model.graph, size, batch, times.clone(), &mut table, time)?;
            select(&model.graph, groups, saliency, &mut costs, share * cost, &self.select_options())
        };
        let measure = |selection: &Selection| {
            let change = compare_latency(self.original, &selection.apply(model)?, batch, options)?;
            progress.line(&format!(
                "measured: {:.2} ms -> {:.2} ms at batch size {batch}, {:.3} of the latency for a target of {goal:.3}",
                change.before_ms,
                change.after_ms,
                1.0 / change.ratio
            ));
            Ok::<_, CompressError>(1.0 / change.ratio)
        };
        let found = approach(goal, present, choose, measure)?;
        if let (Some(path), true) = (path, table.len() > known) {
            let folder = path.parent().map_or(Ok(()), std::fs::create_dir_all);
            let written = folder.map_err(|error| Failure::at(path.display(), &error));
            if let Err(failure) = written.and_then(|()| Ok(table.write(&path)?)) {
                complain(&format!("warning: {failure}; the measurements are not cached"));
            }
        }
        if !found.is_within(goal) {
            let steps = "finer steps of widths (--round 1) or another target may come nearer";
            progress.line(&format!(
                "note: the nearest network takes {:.3} of the latency, not {goal:.3}; {steps}",
                found.measured
            ));
        }
        let search = Search { goal, predicted: found.predicted, measured: found.measured, rounds: found.rounds };
        Ok((found.selection, Some(search)))
    }

    fn select_options(&self) -> SelectOptions {
        SelectOptions {
            allocation: if self.arguments.uniform { Allocation::Uniform } else { Allocation::Global },
            round: self.arguments.round.get().into(),
            blocks: self.arguments.blocks,
        }
    }

    /// Multiply-accumulates of `model` for one image.
    pub(super) fn macs(&self, model: &Model) -> Result<f64, Failure> {
        let [height, width] = model.preprocessing.size;
        Ok(model.graph.analyse(height, width)?.macs as f64)
    }
}
