//! Transfer learning: the freezing schedule and per-layer learning rates.

use crate::optimizer::Multipliers;
use crate::recipe::{Recipe, RecipeError};
use residual_engine::{Entry, Frozen};
use residual_graph::{Graph, Op, Part, Role, is_inside};
use std::collections::BTreeSet;

/// Freezing schedule and learning-rate multipliers. Without transfer settings, all layers are trained from the start at one
/// learning rate.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Transfer {
    layers: Vec<Layer>,
    /// Whether batch norms keep their running statistics (`freeze_bn`): those of frozen layers, or all if no layer is
    /// frozen.
    keeps_statistics: bool,
    freezes: bool,
}

/// A node with parameters.
#[derive(Clone, Debug, PartialEq)]
struct Layer {
    name: String,
    is_norm: bool,
    is_head: bool,
    /// The first epoch, from 0, in which it is trained; `None` if it never is.
    from: Option<u64>,
    /// Its learning rate relative to the recipe's.
    rate: f64,
}

impl Transfer {
    /// The transfer settings of `recipe`, applied to the layers of `graph`.
    ///
    /// # Errors
    /// [`RecipeError::Field`] if `freeze` or `unfreeze_at` names nothing in this network, all layers are frozen, or
    /// cached features would change.
    pub(crate) fn new(recipe: &Recipe, graph: &Graph) -> Result<Self, RecipeError> {
        let modules = Modules::of(graph);
        let rates = modules.rates(recipe);
        let mut transfer = Self {
            layers: modules
                .layers
                .iter()
                .zip(rates)
                .map(|(&name, rate)| Layer {
                    name: name.to_owned(),
                    is_norm: graph
                        .nodes
                        .iter()
                        .any(|node| node.name == name && matches!(node.op, Op::BatchNorm2d { .. })),
                    is_head: modules.head == Some(name),
                    from: Some(0),
                    rate,
                })
                .collect(),
            keeps_statistics: recipe.freeze_bn,
            freezes: recipe.freeze.is_some(),
        };
        if let Some(spec) = &recipe.freeze {
            for index in modules.find("freeze", spec)? {
                transfer.layers[index].from = None;
            }
            if transfer.layers.iter().all(|layer| layer.from.is_none()) {
                return fail("freeze", "a part of the network left to train", format!("\"{spec}\", which is all"));
            }
        }
        let mut schedule = recipe.unfreeze_schedule()?;
        schedule.sort();
        for (epoch, spec) in schedule {
            for index in modules.find("unfreeze_at", spec)? {
                transfer.layers[index].from.get_or_insert(epoch - 1);
            }
        }
        if recipe.cache_features {
            transfer.check_cached()?;
        }
        Ok(transfer)
    }

    /// Whether the features of the backbone are constant during the run.
    fn check_cached(&self) -> Result<(), RecipeError> {
        if let Some(layer) = self.layers.iter().find(|layer| !layer.is_head && layer.from.is_some()) {
            let expected = "all layers but the head frozen (freeze \"backbone\")";
            return fail("cache_features", expected, format!("a \"{}\" that is trained", layer.name));
        }
        match self.layers.iter().find(|layer| layer.is_norm && !self.keeps_statistics) {
            Some(_) => fail("cache_features", "freeze_bn with it, as statistics change features", "freeze_bn false"),
            None => Ok(()),
        }
    }

    /// The frozen layers of an epoch, counted from 0.
    pub(crate) fn frozen(&self, epoch: u64) -> Frozen {
        let is_frozen = |layer: &&Layer| layer.from.is_none_or(|from| from > epoch);
        let name = |layer: &Layer| layer.name.clone();
        let norms = self.layers.iter().filter(|layer| layer.is_norm && self.keeps_statistics);
        Frozen {
            parameters: self.layers.iter().filter(is_frozen).map(name).collect(),
            statistics: norms.filter(|layer| !self.freezes || is_frozen(layer)).map(name).collect(),
        }
    }

    /// The layers that are unfrozen at an epoch.
    pub(crate) fn unfrozen(&self, epoch: u64) -> Vec<&str> {
        let unfrozen = self.layers.iter().filter(|layer| epoch > 0 && layer.from == Some(epoch));
        unfrozen.map(|layer| layer.name.as_str()).collect()
    }

    /// The epochs, from 0, at which layers are unfrozen.
    pub(crate) fn unfreeze_epochs(&self) -> BTreeSet<u64> {
        self.layers.iter().filter_map(|layer| layer.from).filter(|&from| from > 0).collect()
    }

    /// A parameter's learning rate and weight decay relative to the recipe.
    pub(crate) fn multipliers(&self, recipe: &Recipe, entry: &Entry) -> Multipliers {
        let node = entry.name.rsplit_once('.').map_or("", |(node, _)| node);
        let rate = self.layers.iter().find(|layer| layer.name == node).map_or(1.0, |layer| layer.rate);
        let decays = recipe.decays_norm_bias() || entry.role == Role::Weight;
        Multipliers { lr: rate, weight_decay: if decays { 1.0 } else { 0.0 } }
    }
}

/// The parts of a network that a user can name.
struct Modules<'a> {
    /// The nodes with parameters, in the order of execution.
    layers: Vec<&'a str>,
    parts: Vec<Part>,
    head: Option<&'a str>,
}

impl<'a> Modules<'a> {
    fn of(graph: &'a Graph) -> Self {
        let layers = graph.nodes.iter().filter(|node| node.op.has_parameters());
        Self {
            layers: layers.map(|node| node.name.as_str()).collect(),
            parts: graph.parts().expect("a model's shapes fit together"),
            head: graph.head().map(|id| graph.node(id).name.as_str()),
        }
    }

    /// Number of parts before the first stage.
    fn stem(&self) -> usize {
        self.parts.iter().position(|part| part.is_stage).unwrap_or(0)
    }

    /// The layers that `spec` selects: a list of `backbone`, numbers, ranges and module paths.
    fn find(&self, field: &'static str, spec: &str) -> Result<BTreeSet<usize>, RecipeError> {
        let mut found = BTreeSet::new();
        for item in spec.split(',').map(str::trim) {
            found.extend(self.find_one(field, item)?);
        }
        Ok(found)
    }

    fn find_one(&self, field: &'static str, item: &str) -> Result<Vec<usize>, RecipeError> {
        let inside = |path: &str| -> Vec<usize> {
            (0..self.layers.len()).filter(|&index| is_inside(self.layers[index], path)).collect()
        };
        if item == "backbone" {
            return match self.head {
                Some(head) => Ok((0..self.layers.len()).filter(|&index| self.layers[index] != head).collect()),
                None => fail(field, "a network with a head", "none"),
            };
        }
        if let Ok(count) = item.parse::<usize>() {
            let first = self.first_parts();
            if count == 0 || count > first.len() {
                let names: Vec<String> = first.iter().map(|paths| paths.join(" and ")).collect();
                return fail(field, format!("1 to {} parts ({})", first.len(), names.join(", ")), item);
            }
            return Ok(first[..count].concat().into_iter().flat_map(inside).collect());
        }
        let known = |path: &str| match inside(path) {
            found if !path.is_empty() && !found.is_empty() => Ok(found),
            _ => {
                let paths: Vec<&str> = self.parts.iter().map(|part| part.path.as_str()).collect();
                let expected = format!("backbone, a number, or modules of the network ({})", paths.join(", "));
                fail(field, expected, format!("\"{path}\""))
            }
        };
        let Some((first, last)) = item.split_once("..") else { return known(item) };
        let is_first_stage = self.parts.get(self.stem()).is_some_and(|part| part.is_stage && part.path == first);
        let start = if is_first_stage { 0 } else { known(first)?[0] };
        let end = *known(last)?.last().expect("a module that is known has layers");
        if start > end {
            return fail(field, format!("\"{first}\" to come before \"{last}\""), format!("\"{item}\""));
        }
        Ok((start..=end).collect())
    }

    /// The parts that a number counts: the stem as one, then each part before the head.
    fn first_parts(&self) -> Vec<Vec<&str>> {
        let holds_head = |part: &&Part| self.head.is_some_and(|head| is_inside(head, &part.path));
        let (stem, others) = self.parts.split_at(self.stem());
        let stem: Vec<&str> = stem.iter().map(|part| part.path.as_str()).collect();
        let others = others.iter().take_while(|part| !holds_head(part)).map(|part| vec![part.path.as_str()]);
        [stem].into_iter().filter(|stem| !stem.is_empty()).chain(others).collect()
    }

    /// The learning rate of each layer relative to the recipe's. As in timm, each block's is `layer_decay` times that of
    /// the next, deeper block: the stem is the first group, each block of a stage is one, and the head, with everything
    /// after the last stage, is the last group. Layers between two stages belong to the next block.
    fn rates(&self, recipe: &Recipe) -> Vec<f64> {
        let last_stage = self.parts.iter().rposition(|part| part.is_stage);
        let stem = usize::from(self.stem() > 0);
        let mut blocks: Vec<String> = Vec::new();
        let mut group = |layer: &str| {
            let at = self.parts.iter().position(|part| is_inside(layer, &part.path)).expect("parts hold all layers");
            let Part { path, is_stage } = &self.parts[at];
            let block = match last_stage {
                None => path,
                Some(_) if at < self.stem() => return Some(0),
                Some(last) if at > last => return None,
                Some(_) if !is_stage => return Some(stem + blocks.len()),
                Some(_) => block_path(layer, path),
            };
            if self.head.is_some_and(|head| is_inside(head, block)) {
                return None;
            }
            let index = blocks.iter().position(|known| known == block).unwrap_or_else(|| {
                blocks.push(block.to_owned());
                blocks.len() - 1
            });
            Some(stem + index)
        };
        let groups: Vec<Option<usize>> = self.layers.iter().map(|layer| group(layer)).collect();
        let last = stem + blocks.len();
        let rate = |(&layer, group): (&&str, &Option<usize>)| {
            let head = if self.head == Some(layer) { recipe.head_lr_mult } else { 1.0 };
            head * recipe.layer_decay.powi((last - group.unwrap_or(last)) as i32)
        };
        self.layers.iter().zip(&groups).map(rate).collect()
    }
}

/// The block of a stage that contains `layer`: its path up to the first number after the stage's.
fn block_path<'a>(layer: &'a str, stage: &str) -> &'a str {
    let ends = layer.match_indices('.').map(|(end, _)| end).chain([layer.len()]);
    let mut blocks = ends.filter(|&end| end > stage.len()).map(|end| &layer[..end]);
    blocks.find(|path| path.ends_with(|last: char| last.is_ascii_digit())).unwrap_or(layer)
}

fn fail<T>(field: &'static str, expected: impl Into<String>, got: impl Into<String>) -> Result<T, RecipeError> {
    Err(RecipeError::field(field, expected, got))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rates(name: &str, recipe: &Recipe) -> Vec<(String, f64)> {
        let graph = residual_zoo::build(name, 10).unwrap();
        let layers = Transfer::new(recipe, &graph).unwrap().layers;
        layers.into_iter().map(|layer| (layer.name, layer.rate)).collect()
    }

    /// `timm.optim.param_groups_layer_decay(timm.create_model("resnet18"), layer_decay=0.5)`.
    #[test]
    fn layer_decay_is_timms() {
        let recipe = Recipe { layer_decay: 0.5, epochs: Some(1), ..Recipe::default() };
        for (layer, rate) in rates("resnet18", &recipe) {
            let power = match &layer[..] {
                "conv1" | "bn1" => 9,
                "fc" => 0,
                _ => {
                    let number = |at: usize| layer.as_bytes()[at] - b'0';
                    10 - i32::from(2 * number(5) + number(7))
                }
            };
            assert_eq!(rate, 0.5f64.powi(power), "{layer}");
        }
    }

    #[test]
    fn every_family_has_rates_that_rise_to_the_head() {
        let recipe = Recipe { layer_decay: 0.9, head_lr_mult: 10.0, epochs: Some(1), ..Recipe::default() };
        for name in ["resnet20", "wrn16_4", "resnetv2_50", "convnext_tiny", "densenet121", "vgg19", "preact_resnet18"] {
            let rates = rates(name, &recipe);
            assert!(rates.is_sorted_by(|a, b| a.1 <= b.1), "{name}: {rates:?}");
            assert_eq!(rates[rates.len() - 1].1, 10.0, "{name}");
            assert!(rates[0].1 < 0.5, "{name}: {rates:?}");
        }
    }
}
