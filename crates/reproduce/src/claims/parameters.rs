//! Where the parameters are: a ResNet's head is small, a VGG's is not.

use crate::finding::Measure;
use crate::{Claim, Context, Finding, Form, ReproduceError};
use residual_graph::{Graph, Op};
use residual_report::{Bar, BarChart, Paint, grouped};

pub(super) const CLAIM: Claim = Claim {
    name: "parameters",
    title: "The fully connected layer of ResNet-50 holds 8 % of its parameters, those of VGG-19 most of them",
    source: "lecture notes on ResNet, analysis of parameters",
    runs: "counts the parameters of every stage and of the linear layers",
    expected: "7.5 to 8.5 % for ResNet-50, above 80 % for VGG-19",
    forms: &[(Form::Quick, 0.01), (Form::Full, 0.01)],
    run,
};

fn run(_: &mut Context<'_>) -> Result<Finding, ReproduceError> {
    let (mut measures, mut bars) = (Vec::new(), Vec::new());
    for (name, paint) in [("resnet50", Paint::Series(0)), ("vgg19", Paint::Series(1))] {
        let graph = residual_zoo::build(name, 1000)?;
        let total = graph.analyse(224, 224)?.parameters;
        for (stage, parameters) in stages(&graph)? {
            let share = 100.0 * parameters as f64 / total as f64;
            let text = format!("{} ({share:.1} %)", grouped(parameters as u64));
            measures.push(Measure::seen(format!("{name}: {stage}"), &*text));
            bars.push(Bar { name: format!("{name} {stage}"), value: share, text, paint, ..Bar::default() });
        }
        let linear = 100.0 * linear_parameters(&graph)? as f64 / total as f64;
        let (expected, holds) = match name {
            "resnet50" => ("7.5 to 8.5 %", (7.5..8.5).contains(&linear)),
            _ => ("above 80 %", linear > 80.0),
        };
        measures.push(Measure::judged(
            format!("{name}: share of linear layers"),
            expected,
            format!("{linear:.2} %"),
            holds,
        ));
    }
    Ok(Finding::of(measures).with_picture("shares", BarChart::new("Share of the parameters, %", bars).draw()))
}

/// The parameters of each first part of the nodes' names, in the graph's order.
fn stages(graph: &Graph) -> Result<Vec<(String, usize)>, ReproduceError> {
    let mut stages: Vec<(String, usize)> = Vec::new();
    for node in graph.analyse(224, 224)?.nodes.iter().filter(|node| node.parameters > 0) {
        let stage = node.name.split('.').next().unwrap_or_default();
        match stages.iter_mut().find(|(name, _)| name == stage) {
            Some((_, parameters)) => *parameters += node.parameters,
            None => stages.push((stage.to_owned(), node.parameters)),
        }
    }
    Ok(stages)
}

fn linear_parameters(graph: &Graph) -> Result<usize, ReproduceError> {
    let analysis = graph.analyse(224, 224)?;
    let nodes = graph.nodes.iter().zip(&analysis.nodes);
    Ok(nodes.filter(|(node, _)| matches!(node.op, Op::Linear { .. })).map(|(_, node)| node.parameters).sum())
}
