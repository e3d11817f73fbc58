//! The five ResNets of the paper's table 1: depth, blocks, output sizes, parameters.

use crate::finding::Measure;
use crate::{Claim, Context, Finding, Form, ReproduceError};
use residual_report::{Bar, BarChart, Paint};

pub(super) const CLAIM: Claim = Claim {
    name: "architectures",
    title: "Five depths share one scheme: four stages at 56, 28, 14 and 7 pixels, with 11.7 to 60.2 M parameters",
    source: "He et al. 2015, arXiv:1512.03385, table 1; torchvision's counts",
    runs: "counts layers and parameters of the five graphs, and the sizes of their stages",
    expected: "layers, parameters and sizes exactly as published",
    forms: &[(Form::Quick, 0.01), (Form::Full, 0.01)],
    run,
};

/// Name, weighted layers and parameters.
const NETWORKS: [(&str, u64, u64); 5] = [
    ("resnet18", 18, 11_689_512),
    ("resnet34", 34, 21_797_672),
    ("resnet50", 50, 25_557_032),
    ("resnet101", 101, 44_549_160),
    ("resnet152", 152, 60_192_808),
];

fn run(_: &mut Context<'_>) -> Result<Finding, ReproduceError> {
    let (mut measures, mut bars) = (Vec::new(), Vec::new());
    for (name, layers, parameters) in NETWORKS {
        let analysis = residual_zoo::build(name, 1000)?.analyse(224, 224)?;
        measures.push(Measure::exact(format!("{name}: weighted layers"), layers, analysis.depth as u64));
        measures.push(Measure::exact(format!("{name}: parameters"), parameters, analysis.parameters as u64));
        let height = |stage: &str| {
            let last = analysis.nodes.iter().rev().find(|node| node.name.starts_with(stage));
            last.map_or_else(String::new, |node| node.output.height.to_string())
        };
        let sizes = ["conv1", "layer1", "layer2", "layer3", "layer4"].map(height).join(" ");
        measures.push(Measure::judged(
            format!("{name}: output sizes"),
            "112 56 28 14 7",
            &*sizes,
            sizes == "112 56 28 14 7",
        ));
        bars.push(Bar {
            name: name.into(),
            value: analysis.parameters as f64,
            text: format!("{:.1} M, {:.2} GMACs", analysis.parameters as f64 / 1e6, analysis.macs as f64 / 1e9),
            paint: Paint::Series(0),
            ..Bar::default()
        });
    }
    Ok(Finding::of(measures).with_picture("parameters", BarChart::new("Parameters", bars).draw()))
}
