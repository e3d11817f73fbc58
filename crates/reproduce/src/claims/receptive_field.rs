//! The receptive field of ResNet-50, by the exact rule and by the notes' formula.

use crate::finding::Measure;
use crate::{Claim, Context, Finding, Form, ReproduceError};
use residual_report::{Axis, Chart, Paint, Series};

pub(super) const CLAIM: Claim = Claim {
    name: "receptive-field",
    title: "The last feature map of ResNet-50 sees 483 input pixels with the paper's strides, and 427 with torchvision's",
    source: "lecture notes on ResNet (which compute 75 and quote 483); Araujo et al. 2019, doi:10.23915/distill.00021 (483)",
    runs: "computes the receptive field of every node from the graph, as the largest over all paths",
    expected: "483 for resnet50_v1, 427 for resnet50; 1027 and 1507 for the v1 forms of 101 and 152 layers",
    forms: &[(Form::Quick, 0.01), (Form::Full, 0.01)],
    run,
};

fn run(_: &mut Context<'_>) -> Result<Finding, ReproduceError> {
    let mut measures = Vec::new();
    let mut chart = Chart::new("Receptive field by depth", Axis::new("node").whole(), Axis::new("pixels"));
    let published = [("resnet50_v1", 483), ("resnet50", 427), ("resnet101_v1", 1027), ("resnet152_v1", 1507)];
    for (index, (name, expected)) in published.into_iter().enumerate() {
        let analysis = residual_zoo::build(name, 1000)?.analyse(224, 224)?;
        measures.push(Measure::exact(name, expected, analysis.receptive_field as u64));
        if index < 2 {
            let fields = analysis.nodes.iter().filter_map(|node| node.receptive_field);
            let points = fields.enumerate().map(|(node, field)| (node as f64, field.size as f64)).collect();
            chart = chart.with(Series::line(name, Paint::Series(index), points));
        }
    }
    measures
        .push(Measure::seen("the formula of the notes (one 3×3 convolution per stage)", notes_formula().to_string()));
    Ok(Finding::of(measures).with_picture("receptive-field", chart.draw()?).with_note(
        "The notes' formula has one 3×3 convolution per stage and reaches 75; the figure that they quote beside it is that of the whole network with the paper's strides.",
    ))
}

/// The receptive field of a 7×7 convolution, a 3×3 pool and one 3×3 convolution per stage, with their strides.
fn notes_formula() -> usize {
    let layers = [(7, 2), (3, 2), (3, 1), (3, 2), (3, 2), (3, 2)];
    let step =
        |(field, stride): (usize, usize), &(kernel, by): &(usize, usize)| (field + (kernel - 1) * stride, stride * by);
    layers.iter().fold((1, 1), step).0
}
