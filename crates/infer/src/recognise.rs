//! Which network of the registry some tensors are of, by their names and shapes.

use crate::InferError;
use crate::resolve::{Head, Stored};
use residual_graph::Op;
use residual_weights::StateDict;
use residual_zoo::entries;

/// A network whose tensors differ in more than these is not looked at closely: the first convolution and the last layer, of
/// other numbers of channels and outputs, are fewer.
const FEW: usize = 8;

/// The networks of the registry that some tensors may be of.
pub(crate) struct Candidates {
    /// Those whose tensors have exactly these names and shapes, but for the numbers of outputs and channels.
    pub(crate) fitting: Vec<String>,
    /// Networks without shortcuts that have the tensors of one with shortcuts: they are there to be compared with it.
    pub(crate) without_shortcuts: Vec<String>,
    /// If none fits, the one of which the fewest tensors do not.
    pub(crate) nearest: Option<Nearest>,
}

/// A network that tensors are nearly of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nearest {
    /// Its name.
    pub name: String,
    /// How many tensors do not fit: missing, unexpected or of another shape.
    pub differing: usize,
}

/// Compares `tensors` with every network of the registry. No tensor is made.
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
