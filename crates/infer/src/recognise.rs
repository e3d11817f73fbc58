//! Infers the network of a state dict from tensor names and shapes.

use crate::InferError;
use crate::resolve::{Head, Stored};
use residual_graph::Op;
use residual_weights::StateDict;
use residual_zoo::entries;

/// A network whose tensors differ in more than these is not looked at closely: the first convolution and the last layer, of
/// other numbers of channels and outputs, are fewer.
const FEW: usize = 8;

/// The networks of the registry that match some tensors.
pub(crate) struct Candidates {
    /// Networks with exactly these tensor names and shapes, up to the numbers of outputs and channels.
    pub(crate) fitting: Vec<String>,
    /// Plain networks with the same tensors as a residual one.
    pub(crate) without_shortcuts: Vec<String>,
    /// If none matches, the one with the fewest mismatches.
    pub(crate) nearest: Option<Nearest>,
}

/// A network that nearly matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nearest {
    /// Its name.
    pub name: String,
    /// Number of mismatches: missing, unexpected or mis-shaped tensors.
    pub differing: usize,
}

/// Compares `tensors` with every network of the registry. No tensor is created.
pub(crate) fn candidates(tensors: &StateDict, head: Head) -> Result<Candidates, InferError> {
    let mut fitting = Vec::new();
    let mut nearest: Option<Nearest> = None;
    for entry in entries() {
        let graph = entry.config.graph()?;
        let mut differing = tensors.problems(&graph).len();
        if differing <= FEW {
            // A file may say a number of channels or outputs that no network has.
            differing = match Stored::of(tensors, &entry.config, head).and_then(|stored| stored.problems(tensors)) {
                Ok(differing) => differing,
                Err(_) => differing,
            };
        }
        if differing == 0 {
            let has_shortcuts = graph.nodes.iter().any(|node| node.op == Op::Add);
            fitting.push((entry.name.to_owned(), has_shortcuts));
        }
        let is_nearer = nearest.as_ref().is_none_or(|nearest| differing < nearest.differing);
        if is_nearer && differing < tensors.len() {
            nearest = Some(Nearest { name: entry.name.to_owned(), differing });
        }
    }
    let any_has_shortcuts = fitting.iter().any(|(_, has_shortcuts)| *has_shortcuts);
    let (fitting, without) = fitting.into_iter().partition::<Vec<_>, _>(|(_, has)| *has || !any_has_shortcuts);
    let names = |list: Vec<(String, bool)>| list.into_iter().map(|(name, _)| name).collect::<Vec<_>>();
    let nearest = nearest.filter(|_| fitting.is_empty());
    Ok(Candidates { fitting: names(fitting), without_shortcuts: names(without), nearest })
}
