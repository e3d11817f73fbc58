//! Gradients by depth in plain and residual networks, at initialisation and after some steps.

use crate::finding::Measure;
use crate::network::{Network, Training};
use crate::{Claim, Context, Finding, Form, ReproduceError};
use residual_report::{Axis, Chart, Paint, Series};

pub(super) const CLAIM: Claim = Claim {
    name: "gradient-flow",
    title: "Gradients change from layer to layer in deep plain networks, and hardly do in residual ones",
    source: "lecture notes on ResNet, success factors (which sketch plain gradients as 0.8ⁿ, residual ones as 1)",
    runs: "trains plain and residual networks of 20, 56 and 110 layers and measures the gradient of every convolution at the first and at the last step (quick: 4 steps, 20 and 56 layers; short: 200 steps)",
    expected: "at the first step of the deepest networks, the gradients of the plain one change more per layer",
    forms: &[(Form::Quick, 0.5), (Form::Short, 15.0)],
    run,
};

fn run(context: &mut Context<'_>) -> Result<Finding, ReproduceError> {
    let (depths, batch, steps): (&[usize], usize, u64) = match context.form {
        Form::Quick => (&[20, 56], 16, 4),
        Form::Short | Form::Full => (&[20, 56, 110], 64, 200),
    };
    let mut measures = Vec::new();
    // At the first and at the last step.
    let mut lines = [Vec::new(), Vec::new()];
    let mut verdict = [f64::NAN; 2];
    for (index, &depth) in depths.iter().enumerate() {
        for (kind, name) in [format!("plain{depth}"), format!("resnet{depth}_a")].into_iter().enumerate() {
            let graph = residual_zoo::build(&name, 10)?;
            let mut network = Network::new(context, graph, Training { side: 32, batch, count: 8, lr: 0.1, seed: 0 })?;
            let mut profiles = Vec::new();
            for step in 0..steps {
                context.progress(&name, step, steps)?;
                network.step()?;
                if step == 0 || step + 1 == steps {
                    profiles.push(network.gradients());
                }
            }
            for (lines, profile) in lines.iter_mut().zip(&profiles) {
                let points = profile.iter().enumerate().map(|(layer, gradient)| (layer as f64, *gradient)).collect();
                lines.push(Series::line(&*name, Paint::Series(2 * index + kind), points));
            }
            let factors: Vec<f64> = profiles.iter().map(|profile| change_per_layer(profile)).collect();
            measures.push(Measure::seen(
                format!("{name}: change per layer, towards the input"),
                format!("× {:.4} at the first step, × {:.4} at step {steps}", factors[0], factors[factors.len() - 1]),
            ));
            verdict[kind] = factors[0].ln().abs();
        }
    }
    let deepest = depths[depths.len() - 1];
    let [plain, residual] = verdict;
    measures.push(Measure::judged(
        format!("|ln(change per layer)| at depth {deepest}, first step"),
        "larger in the plain network",
        format!("{plain:.4} against {residual:.4}"),
        plain > residual,
    ));
    let sketch = "The notes sketch × 0.8 per layer for plain networks without batch norm; with batch norm, as in the paper, gradients are kept from vanishing (He et al., section 4.1), and those of plain networks may grow towards the input.";
    let mut finding = Finding::of(measures).with_note(sketch);
    for (when, lines) in ["first", "last"].into_iter().zip(lines) {
        let y = Axis::new("mean |gradient|").logarithmic();
        let chart = Chart::new(format!("Gradients at the {when} step"), Axis::new("convolution").whole(), y);
        let chart = lines.into_iter().fold(chart, Chart::with);
        finding = finding.with_picture(&format!("{when}-step"), chart.draw()?);
    }
    Ok(finding)
}

/// The factor by which gradients change from a layer to the one before it: the slope of a straight line through their
/// logarithms, without the first convolution and the head.
pub(super) fn change_per_layer(profile: &[f64]) -> f64 {
    let inner = &profile[1..profile.len() - 1];
    let n = inner.len() as f64;
    let mean_x = (n - 1.0) / 2.0;
    let mean_y = inner.iter().map(|value| value.ln()).sum::<f64>() / n;
    let mut sums = (0.0, 0.0);
    for (layer, value) in inner.iter().enumerate() {
        let dx = layer as f64 - mean_x;
        sums = (sums.0 + dx * (value.ln() - mean_y), sums.1 + dx * dx);
    }
    (-sums.0 / sums.1).exp()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_geometric_decay_has_its_own_factor() {
        let sketch: Vec<f64> = (0..20).rev().map(|layer| 0.8f64.powi(layer)).collect();
        assert!((change_per_layer(&sketch) - 0.8).abs() < 1e-12);
        assert!((change_per_layer(&[3.0; 9]) - 1.0).abs() < 1e-12);
    }
}
