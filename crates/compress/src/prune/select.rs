//! Which units of channels and which blocks go, so that the network costs no more than it may.

use super::{LayerCost, Saliency};
use crate::CompressError;
use residual_graph::{ChannelGroup, Graph, NodeId, ResidualBlock, UnitId};

/// How what is removed is divided among groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allocation {
    /// What has the least saliency for the cost that it saves goes first, wherever it is.
    Global,
    /// Every group loses the same share.
    Uniform,
}

/// How channels are selected.
#[derive(Clone, Copy, Debug)]
pub struct SelectOptions {
    /// How they are divided among groups.
    pub allocation: Allocation,
    /// The remaining channels of a group are a multiple of this where there are at least twice as many; 1 for any number.
    pub round: usize,
    /// Whether whole residual branches may go too. A uniform allocation keeps them.
    pub blocks: bool,
}

/// What is removed from a network.
#[derive(Clone, Debug, PartialEq)]
pub struct Selection {
    /// Units of the graph's channel groups.
    pub units: Vec<UnitId>,
    /// Blocks of the graph.
    pub blocks: Vec<ResidualBlock>,
    /// What the network costs without them.
    pub cost: f64,
    /// What it costs with them.
    pub cost_before: f64,
}

/// Steps of a group that are looked ahead: where a step saves nothing, such as the first of two that fill a vector register, both
/// together may.
const LOOK_AHEAD: usize = 4;

/// Selects what to remove of a network with these channel groups, so that it costs at most `budget`. Within a group, units of the least
/// saliency go first; at least one step of each remains.
///
/// # Errors
/// [`CompressError::Budget`] if the network costs more whatever is removed; if a cost cannot be measured.
pub fn select(
    graph: &Graph,
    groups: &[ChannelGroup],
    saliency: &Saliency,
    costs: &mut dyn LayerCost,
    budget: f64,
    options: &SelectOptions,
) -> Result<Selection, CompressError> {
    let blocks = if options.blocks { graph.residual_blocks() } else { Vec::new() };
    let mut network = Network::new(graph, groups, saliency, costs, options.round)?;
    let cost_before = network.cost();
    let removed = match options.allocation {
        Allocation::Global => network.remove_cheapest(&blocks, budget)?,
        Allocation::Uniform => {
            network.remove_equally(budget)?;
            Vec::new()
        }
    };
    network.restore(budget)?;
    let units = network.removed_units();
    let cost = network.cost();
    let blocks = removed.into_iter().map(|index| blocks[index].clone()).collect();
    Ok(Selection { units, blocks, cost, cost_before })
}

/// A group while its units are removed.
struct Group {
    /// Its units, the least salient first.
    order: Vec<usize>,
    /// The saliency of the first 0, 1, 2, … of them.
    sums: Vec<f64>,
    /// The numbers of units that may remain, all of them first.
    steps: Vec<usize>,
    /// The step that it is at.
    at: usize,
    /// Channels of a unit, by node.
    widths: Vec<(NodeId, usize)>,
    /// Nodes whose cost depends on it.
    affected: Vec<NodeId>,
}

impl Group {
    fn removed(&self) -> usize {
        self.order.len() - self.steps[self.at]
    }
}

/// The network that is left.
struct Network<'a> {
    graph: &'a Graph,
    saliency: &'a Saliency,
    costs: &'a mut dyn LayerCost,
    groups: Vec<Group>,
    /// Output channels of every node.
    widths: Vec<usize>,
    /// The cost of every node; 0 in a removed branch.
    node_costs: Vec<f64>,
    is_removed: Vec<bool>,
    /// For every output channel of a node with scores, its group and its place in the group's order.
    places: Vec<Vec<Option<(usize, usize)>>>,
}

impl<'a> Network<'a> {
    fn new(
        graph: &'a Graph,
        groups: &[ChannelGroup],
        saliency: &'a Saliency,
        costs: &'a mut dyn LayerCost,
        round: usize,
    ) -> Result<Self, CompressError> {
        let [_, height, width] = graph.input_size();
        let widths: Vec<usize> = graph.shapes(height, width)?.iter().map(|shape| shape.channels).collect();
        let consumers = graph.consumers();
        let mut places: Vec<Vec<Option<(usize, usize)>>> =
            (0..graph.nodes.len()).map(|index| vec![None; saliency.of_node(NodeId(index)).len()]).collect();
        let mut states = Vec::with_capacity(groups.len());
        for (number, group) in groups.iter().enumerate() {
            let scores: Vec<f64> = group.units.iter().map(|unit| saliency.of_unit(unit)).collect();
            let mut order: Vec<usize> = (0..scores.len()).collect();
            order.sort_by(|&a, &b| scores[a].total_cmp(&scores[b]));
            for (place, &unit) in order.iter().enumerate() {
                for channel in &group.units[unit].channels {
                    if let Some(slot) = places[channel.node.0].get_mut(channel.index) {
                        *slot = Some((number, place));
                    }
                }
            }
            let mut sums = vec![0.0];
            sums.extend(order.iter().scan(0.0, |sum, &unit| {
                *sum += scores[unit];
                Some(*sum)
            }));
            let mut affected: Vec<NodeId> = group.widths.iter().map(|(id, _)| *id).collect();
            let readers: Vec<NodeId> = affected.iter().flat_map(|id| consumers[id.0].iter().copied()).collect();
            affected.extend(readers);
            affected.sort_unstable();
            affected.dedup();
            let steps = steps(order.len(), group.unit_width(), round);
            states.push(Group { order, sums, steps, at: 0, widths: group.widths.clone(), affected });
        }
        let count = graph.nodes.len();
        let mut network = Self {
            graph,
            saliency,
            costs,
            groups: states,
            widths,
            node_costs: vec![0.0; count],
            is_removed: vec![false; count],
            places,
        };
        for index in 0..count {
            network.node_costs[index] = network.node_cost(NodeId(index))?;
        }
        Ok(network)
    }

    fn cost(&self) -> f64 {
        self.node_costs.iter().sum()
    }

    /// What a node costs at its present widths.
    fn node_cost(&mut self, id: NodeId) -> Result<f64, CompressError> {
        if self.is_removed[id.0] {
            return Ok(0.0);
        }
        let input = self.graph.node(id).inputs.first().map_or(0, |input| self.widths[input.0]);
        self.costs.cost(id, input, self.widths[id.0])
    }

    /// Puts a group at another step, as far as widths go.
    fn shift(&mut self, group: usize, step: usize) {
        let state = &mut self.groups[group];
        let (from, to) = (state.steps[state.at], state.steps[step]);
        state.at = step;
        for &(id, width) in &state.widths {
            self.widths[id.0] = self.widths[id.0] + to * width - from * width;
        }
    }

    /// What a group's nodes cost at another step, less what they cost now.
    fn change(&mut self, group: usize, step: usize) -> Result<f64, CompressError> {
        let at = self.groups[group].at;
        self.shift(group, step);
        let mut change = 0.0;
        for index in 0..self.groups[group].affected.len() {
            let id = self.groups[group].affected[index];
            change += self.node_cost(id)? - self.node_costs[id.0];
        }
        self.shift(group, at);
        Ok(change)
    }

    /// Puts a group at another step.
    fn set(&mut self, group: usize, step: usize) -> Result<(), CompressError> {
        self.shift(group, step);
        for index in 0..self.groups[group].affected.len() {
            let id = self.groups[group].affected[index];
            self.node_costs[id.0] = self.node_cost(id)?;
        }
        Ok(())
    }

    /// Removes steps of groups and whole blocks, each time what has the least saliency for its cost. Returns the indices of the blocks.
    fn remove_cheapest(&mut self, blocks: &[ResidualBlock], budget: f64) -> Result<Vec<usize>, CompressError> {
        let stages = stages(self.graph, blocks);
        let mut removed = Vec::new();
        loop {
            let cost = self.cost();
            if cost <= budget {
                return Ok(removed);
            }
            let mut best: Option<(f64, Item)> = None;
            let mut offer = |saliency: f64, saved: f64, item: Item| {
                if saved > 0.0 && best.as_ref().is_none_or(|(least, _)| saliency / saved < *least) {
                    best = Some((saliency / saved, item));
                }
            };
            for group in 0..self.groups.len() {
                let Group { at, ref steps, .. } = self.groups[group];
                for step in (at + 1..steps.len()).take(LOOK_AHEAD) {
                    let saved = -self.change(group, step)?;
                    let Group { order, sums, steps, .. } = &self.groups[group];
                    let saliency = sums[order.len() - steps[step]] - sums[order.len() - steps[at]];
                    offer(saliency, saved, Item::Step { group, step });
                }
            }
            for (index, block) in blocks.iter().enumerate() {
                if !self.is_removed[block.sum.0] {
                    // The blocks of a stage share what they do: each that goes leaves more of it to the others. Otherwise a whole
                    // stage would go before any block of another.
                    let stage = || stages.iter().zip(blocks).filter(|(stage, _)| **stage == stages[index]);
                    let left = stage().filter(|(_, other)| !self.is_removed[other.sum.0]).count();
                    let share = stage().count() as f64 / left as f64;
                    offer(self.block_saliency(block) * share, self.block_cost(block), Item::Block(index));
                }
            }
            match best {
                Some((_, Item::Step { group, step })) => self.set(group, step)?,
                Some((_, Item::Block(index))) => {
                    for id in blocks[index].branch.iter().chain([&blocks[index].sum]) {
                        (self.is_removed[id.0], self.node_costs[id.0]) = (true, 0.0);
                    }
                    removed.push(index);
                }
                None => return Err(CompressError::Budget { least: cost, got: budget }),
            }
        }
    }

    /// The saliency of a block's filters that are left, in the mean of its layers: without the filters of one of them, the branch is
    /// gone.
    fn block_saliency(&self, block: &ResidualBlock) -> f64 {
        let is_left =
            |place: &Option<(usize, usize)>| place.is_none_or(|(group, place)| place >= self.groups[group].removed());
        let of_node = |id: &NodeId| {
            let scores = self.saliency.of_node(*id).iter().zip(&self.places[id.0]);
            scores.filter(|(_, place)| is_left(place)).map(|(score, _)| score).sum::<f64>()
        };
        let layers = || block.branch.iter().filter(|id| !self.saliency.of_node(**id).is_empty());
        layers().map(of_node).sum::<f64>() / layers().count().max(1) as f64
    }

    fn block_cost(&self, block: &ResidualBlock) -> f64 {
        block.branch.iter().chain([&block.sum]).map(|id| self.node_costs[id.0]).sum()
    }

    /// Removes the least equal share of every group that is enough, by bisection.
    fn remove_equally(&mut self, budget: f64) -> Result<(), CompressError> {
        let (mut too_little, mut enough) = (0.0, 1.0);
        self.set_share(enough)?;
        if self.cost() > budget {
            return Err(CompressError::Budget { least: self.cost(), got: budget });
        }
        // Shares that differ by less are the same numbers of units of any group.
        while enough - too_little > 1e-6 {
            let share = (too_little + enough) / 2.0;
            self.set_share(share)?;
            *if self.cost() <= budget { &mut enough } else { &mut too_little } = share;
        }
        self.set_share(enough)
    }

    /// Puts every group at the step whose share of removed units is nearest to `share`.
    fn set_share(&mut self, share: f64) -> Result<(), CompressError> {
        for group in 0..self.groups.len() {
            let Group { steps, order, .. } = &self.groups[group];
            let left = (1.0 - share) * order.len() as f64;
            let distance = |step: &usize| (steps[*step] as f64 - left).abs();
            let nearest = (0..steps.len()).min_by(|a, b| distance(a).total_cmp(&distance(b))).unwrap_or(0);
            self.set(group, nearest)?;
        }
        Ok(())
    }

    /// Takes back steps that the budget allows, the most salient first: the last step removed may have saved more than was needed.
    fn restore(&mut self, budget: f64) -> Result<(), CompressError> {
        loop {
            let room = budget - self.cost();
            let mut best: Option<(f64, usize)> = None;
            for group in 0..self.groups.len() {
                let at = self.groups[group].at;
                let is_left = self.groups[group].widths.iter().any(|(id, _)| !self.is_removed[id.0]);
                if at == 0 || !is_left || self.change(group, at - 1)? > room {
                    continue;
                }
                let Group { order, sums, steps, .. } = &self.groups[group];
                let gained = sums[order.len() - steps[at]] - sums[order.len() - steps[at - 1]];
                if best.is_none_or(|(most, _)| gained > most) {
                    best = Some((gained, group));
                }
            }
            let Some((_, group)) = best else { return Ok(()) };
            self.set(group, self.groups[group].at - 1)?;
        }
    }

    fn removed_units(&self) -> Vec<UnitId> {
        let of = |(group, state): (usize, &Group)| {
            state.order[..state.removed()].iter().map(|&unit| UnitId { group, unit }).collect::<Vec<_>>()
        };
        self.groups.iter().enumerate().flat_map(of).collect()
    }
}

/// The number of each block's stage: the block before it belongs to the same if nothing but activations is between them.
fn stages(graph: &Graph, blocks: &[ResidualBlock]) -> Vec<usize> {
    let mut stages: Vec<usize> = Vec::with_capacity(blocks.len());
    for (index, block) in blocks.iter().enumerate() {
        let mut from = block.identity;
        while let ([input], false) = (&graph.node(from).inputs[..], graph.node(from).op.is_layer()) {
            from = *input;
        }
        let follows = index > 0 && blocks[index - 1].sum == from;
        stages.push(stages.last().map_or(0, |last| last + usize::from(!follows)));
    }
    stages
}

/// What is removed at once.
enum Item {
    Step { group: usize, step: usize },
    Block(usize),
}

/// The numbers of units that may remain of `units` with `width` channels each, all of them first.
fn steps(units: usize, width: usize, round: usize) -> Vec<usize> {
    let multiple = if units * width >= 2 * round { round / gcd(round, width) } else { 1 };
    let mut steps: Vec<usize> = (1..units).filter(|left| left.is_multiple_of(multiple)).collect();
    steps.push(units);
    steps.reverse();
    steps
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remaining_widths_are_multiples_where_there_are_enough() {
        assert_eq!(steps(32, 1, 8), [32, 24, 16, 8]);
        assert_eq!(steps(20, 1, 8), [20, 16, 8]);
        // Four channels each, as in the groups of a ResNeXt.
        assert_eq!(steps(8, 4, 8), [8, 6, 4, 2]);
        assert_eq!(steps(4, 3, 8), [4, 3, 2, 1], "12 channels are fewer than 16");
        assert_eq!(steps(16, 3, 8), [16, 8], "only 8 times 3 is a multiple of 8");
        assert_eq!(steps(3, 1, 1), [3, 2, 1]);
    }
}
