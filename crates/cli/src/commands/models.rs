//! `residual models list`.

use crate::Done;
use crate::args::ListModels;
use crate::failure::Failure;
use crate::output::{grouped, print, print_json, table};
use residual::zoo;
use serde::Serialize;

#[derive(Serialize)]
struct Row {
    name: &'static str,
    family: &'static str,
    /// Channels, height, width.
    input: [usize; 3],
    classes: usize,
    parameters: usize,
    macs: u64,
    receptive_field: usize,
    #[serde(skip_serializing_if = "String::is_empty")]
    paper: String,
    weights: Vec<&'static str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    accuracies: Vec<Accuracy>,
}

/// A published accuracy on ImageNet, in percent.
#[derive(Serialize)]
struct Accuracy {
    source: &'static str,
    top1: f64,
    top5: f64,
}

pub(crate) fn list(arguments: &ListModels) -> Result<Done, Failure> {
    let row = |entry: zoo::Entry| {
        let graph = entry.config.graph()?;
        let input @ [_, height, width] = graph.input_size();
        let analysis = graph.analyse(height, width)?;
        Ok(Row {
            name: entry.name,
            family: entry.family,
            input,
            classes: entry.config.num_classes,
            parameters: analysis.parameters,
            macs: analysis.macs,
            receptive_field: analysis.receptive_field,
            paper: if entry.paper.is_empty() { String::new() } else { format!("arXiv:{}", entry.paper) },
            weights: entry.weights,
            accuracies: entry.accuracies.into_iter().map(Accuracy::from).collect(),
        })
    };
    let filter = arguments.filter.as_deref().unwrap_or_default().to_lowercase();
    let wanted =
        |entry: &zoo::Entry| [entry.name, entry.family].iter().any(|text| text.to_lowercase().contains(&filter));
    let rows = zoo::entries().into_iter().filter(wanted).map(row).collect::<Result<Vec<_>, Failure>>()?;
    if rows.is_empty() {
        return Err(Failure::usage(format!("filter: expected a part of a network's name or family, got \"{filter}\"")));
    }
    if arguments.format.json {
        print_json(&serde_json::json!({ "models": rows }))?;
        return Ok(Done::Finished);
    }
    let head = ["name", "input", "parameters", "MACs", "paper", "weights"].map(String::from);
    let lines = rows.iter().map(|row| {
        let [channels, height, width] = row.input;
        [
            row.name.to_owned(),
            format!("{channels}×{height}×{width}"),
            grouped(row.parameters as u64),
            format!("{:.3} G", row.macs as f64 / 1e9),
            row.paper.clone(),
            short(&row.weights),
        ]
    });
    let mut cells: Vec<Vec<String>> = std::iter::once(head).chain(lines).map(Vec::from).collect();
    // The last column contains words: flush left.
    let width = cells.iter().filter_map(|line| line.last()).map(|cell| cell.chars().count()).max().unwrap_or(0);
    for cell in cells.iter_mut().filter_map(|line| line.last_mut()) {
        *cell = format!("{cell:<width$}");
    }
    print(&table(&cells))?;
    print(
        "\nWeights of torchvision and timm (--weights torchvision:resnet50.v2, timm:resnet50.a1_in1k), all of them with --json.\n\
         A network of your own: --model FILE.toml with a family and the fields that differ, see docs/models.md.\n",
    )?;
    Ok(Done::Finished)
}

impl From<zoo::Accuracy> for Accuracy {
    fn from(zoo::Accuracy { source, top1, top5 }: zoo::Accuracy) -> Self {
        Self { source, top1, top5 }
    }
}

/// torchvision's weights and the first of timm's, without the network's name: `torchvision v1, v2; timm a1_in1k +17`.
fn short(weights: &[&str]) -> String {
    let tags = |source: &str| -> Vec<&str> {
        let of_source = weights.iter().filter_map(|name| name.strip_prefix(source)?.strip_prefix(':'));
        of_source.filter_map(|name| Some(name.split_once('.')?.1)).collect()
    };
    let mut parts = Vec::new();
    let torchvision = tags("torchvision");
    if !torchvision.is_empty() {
        parts.push(format!("torchvision {}", torchvision.join(", ")));
    }
    match &tags("timm")[..] {
        [] => {}
        [only] => parts.push(format!("timm {only}")),
        [first, rest @ ..] => parts.push(format!("timm {first} +{}", rest.len())),
    }
    parts.join("; ")
}

#[cfg(test)]
mod tests {
    use super::short;

    #[test]
    fn weights_are_named_without_their_network() {
        assert_eq!(short(&[]), "");
        assert_eq!(
            short(&["torchvision:a.v1", "torchvision:a.v2", "timm:a.b", "timm:a.c"]),
            "torchvision v1, v2; timm b +1"
        );
        assert_eq!(short(&["timm:a.b"]), "timm b");
    }
}
