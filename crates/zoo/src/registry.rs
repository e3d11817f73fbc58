//! Networks by name.

use crate::{Block, CifarResNet, ResNet, Shortcut};
use residual_graph::{Graph, GraphError};

/// A named network of the zoo.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its name, as `--model` takes it.
    pub name: &'static str,
    /// Where it comes from.
    pub source: &'static str,
    /// Outputs of the published network.
    pub num_classes: usize,
    family: Family,
}

#[derive(Clone, Copy, Debug)]
enum Family {
    ResNet(Block, [usize; 4], bool),
    CifarResNet(usize, Shortcut),
}

/// A name that is not in the registry.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum UnknownModel {
    /// No such name.
    #[error("model: expected a name from `residual models list`, got \"{name}\"{}", hint(nearest))]
    Name {
        /// The name asked for.
        name: String,
        /// The most similar name, if one is similar at all.
        nearest: Option<&'static str>,
    },
    /// The name is known but the numbers given with it are not possible.
    #[error(transparent)]
    Graph(#[from] GraphError),
}

fn hint(nearest: &Option<&'static str>) -> String {
    nearest.map_or_else(String::new, |name| format!(" (did you mean \"{name}\"?)"))
}

const PAPER: &str = "He et al. 2015, arXiv:1512.03385";

/// Every network of the zoo, family by family.
pub fn entries() -> Vec<Entry> {
    let resnet = |name, block, depths, v1| Entry {
        name,
        source: PAPER,
        num_classes: 1000,
        family: Family::ResNet(block, depths, v1),
    };
    let cifar = |name, blocks, shortcut| Entry {
        name,
        source: PAPER,
        num_classes: 10,
        family: Family::CifarResNet(blocks, shortcut),
    };
    use Block::{Basic, Bottleneck};
    use Shortcut::{Padding, Projection};
    vec![
        resnet("resnet18", Basic, [2, 2, 2, 2], false),
        resnet("resnet34", Basic, [3, 4, 6, 3], false),
        resnet("resnet50", Bottleneck, [3, 4, 6, 3], false),
        resnet("resnet101", Bottleneck, [3, 4, 23, 3], false),
        resnet("resnet152", Bottleneck, [3, 8, 36, 3], false),
        resnet("resnet50_v1", Bottleneck, [3, 4, 6, 3], true),
        resnet("resnet101_v1", Bottleneck, [3, 4, 23, 3], true),
        resnet("resnet152_v1", Bottleneck, [3, 8, 36, 3], true),
        cifar("resnet20", 3, Projection),
        cifar("resnet32", 5, Projection),
        cifar("resnet44", 7, Projection),
        cifar("resnet56", 9, Projection),
        cifar("resnet110", 18, Projection),
        cifar("resnet1202", 200, Projection),
        cifar("resnet20_a", 3, Padding),
        cifar("resnet32_a", 5, Padding),
        cifar("resnet44_a", 7, Padding),
        cifar("resnet56_a", 9, Padding),
        cifar("resnet110_a", 18, Padding),
        cifar("resnet1202_a", 200, Padding),
    ]
}

/// The network called `name`.
///
/// # Errors
/// [`UnknownModel::Name`], with the most similar name.
pub fn find(name: &str) -> Result<Entry, UnknownModel> {
    let all = entries();
    if let Some(entry) = all.iter().find(|entry| entry.name == name) {
        return Ok(entry.clone());
    }
    let nearest = all
        .iter()
        .map(|entry| (strsim::damerau_levenshtein(entry.name, name), entry.name))
        .filter(|(edits, _)| *edits <= 2.max(name.len() / 3))
        .min_by_key(|(edits, _)| *edits)
        .map(|(_, name)| name);
    Err(UnknownModel::Name { name: name.into(), nearest })
}

/// The graph of the network called `name`, with `num_classes` outputs.
///
/// # Errors
/// If the name is unknown or `num_classes` out of range.
pub fn build(name: &str, num_classes: usize) -> Result<Graph, UnknownModel> {
    Ok(find(name)?.graph(num_classes)?)
}

impl Entry {
    /// The network with `num_classes` outputs.
    ///
    /// # Errors
    /// If `num_classes` is out of range.
    pub fn graph(&self, num_classes: usize) -> Result<Graph, GraphError> {
        match self.family {
            Family::ResNet(block, depths, v1_strides) => {
                ResNet { v1_strides, ..ResNet::new(self.name, block, depths, num_classes) }.graph()
            }
            Family::CifarResNet(blocks, shortcut) => {
                CifarResNet { name: self.name.into(), blocks, shortcut, num_classes }.graph()
            }
        }
    }
}
