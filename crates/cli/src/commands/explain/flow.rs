//! Gradients and activations of every layer.

use super::Context;
use super::images::Subjects;
use super::output::write_picture;
use crate::Done;
use crate::failure::Failure;
use crate::output::{path_text, print, print_json, table};
use residual::explain::{ActivationRecorder, ActivationStatistics, GradientFlow, GradientStatistics, gradient_flow};
use residual::report::layer_gradients;
use serde::Serialize;

/// The learning rate of the update that is compared with the weights.
const LEARNING_RATE: f64 = 0.1;

#[derive(Serialize)]
struct TensorRow<'a> {
    #[serde(flatten)]
    statistics: &'a GradientStatistics,
    /// The norm of a step of plain SGD, divided by that of the tensor.
    update_ratio: Option<f64>,
}

/// Gradient flow for one batch.
pub(super) fn gradients(context: &Context<'_>, subjects: &Subjects) -> Result<Done, Failure> {
    let Context { arguments, model, options, .. } = *context;
    let lr = arguments.lr.unwrap_or(LEARNING_RATE);
    if !(lr.is_finite() && lr > 0.0) {
        return Err(Failure::usage(format!("lr: expected a number above 0, got {lr}")));
    }
    let Some(loaded) = subjects.load(context)? else { return Ok(Done::Interrupted) };
    let label = |&index: &usize| {
        let missing = || {
            let got = subjects.class(index).map_or("none".to_owned(), |class| format!("\"{class}\""));
            Failure::usage(format!(
                "{}: expected a class of the model for --gradients, got {got}",
                subjects.name(index)
            ))
        };
        subjects.output(index).map(|output| output as u32).ok_or_else(missing)
    };
    let labels = loaded.indices.iter().map(label).collect::<Result<Vec<u32>, Failure>>()?;
    let GradientFlow { loss, tensors } = gradient_flow(model, &loaded.values, &labels, arguments.seed, options)?;
    let ratio = |statistics: &GradientStatistics| statistics.update_ratio(lr * statistics.norm);
    if let Some(path) = &arguments.output {
        let filters: Vec<GradientStatistics> = tensors.iter().filter(|tensor| tensor.is_filter()).cloned().collect();
        write_picture(path, || Ok(layer_gradients(&format!("Gradients of {}", model.graph.name), &filters)?))?;
    }
    let file = arguments.output.as_deref().map(path_text);
    if arguments.format.json {
        let row = |statistics| TensorRow { statistics, update_ratio: ratio(statistics) };
        let rows: Vec<TensorRow<'_>> = tensors.iter().map(row).collect();
        let document = serde_json::json!({
            "model": model.graph.name, "images": labels.len(), "loss": loss, "lr": lr, "tensors": rows, "file": file,
        });
        print_json(&document)?;
        return Ok(Done::Finished);
    }
    let head = ["tensor", "mean |gradient|", "max |gradient|", "update / weight"].map(String::from).to_vec();
    let line = |tensor: &GradientStatistics| {
        let ratio = ratio(tensor).map_or("-".to_owned(), |ratio| format!("{ratio:.2e}"));
        vec![tensor.name.clone(), format!("{:.2e}", tensor.mean), format!("{:.2e}", tensor.max), ratio]
    };
    let filters = tensors.iter().filter(|tensor| tensor.is_filter());
    print(&table(&std::iter::once(head).chain(filters.map(line)).collect::<Vec<_>>()))?;
    print(&format!(
        "loss {loss:.4} of {} images; updates are those of SGD at a learning rate of {lr}\n",
        labels.len()
    ))?;
    Ok(Done::Finished)
}

/// Activation statistics, and dead channels.
pub(super) fn activations(context: &Context<'_>, subjects: &Subjects) -> Result<Done, Failure> {
    let Context { arguments, model, options, .. } = *context;
    let mut recorder = ActivationRecorder::new(model, context.batch().min(subjects.len()), options)?;
    let mut images = 0;
    let whole = subjects.each(context, "activations", |indices, values| {
        images += indices.len();
        Ok(recorder.record(values)?)
    })?;
    if !whole {
        return Ok(Done::Interrupted);
    }
    let nodes = recorder.finish();
    let relus = || nodes.iter().filter_map(|node| Some((node.dead?, node.shape[2])));
    let (dead, channels) = relus().fold((0, 0), |(dead, all), (d, channels)| (dead + d, all + channels));
    let share = (channels > 0).then(|| dead as f64 / channels as f64);
    if arguments.format.json {
        let document = serde_json::json!({
            "model": model.graph.name, "images": images, "dead_channels": dead, "relu_channels": channels,
            "dead_share": share, "nodes": nodes,
        });
        print_json(&document)?;
        return Ok(Done::Finished);
    }
    let head = ["node", "op", "output", "mean", "deviation", "min", "max", "zeros", "dead channels"];
    let line = |node: &ActivationStatistics| {
        let [height, width, channels] = node.shape;
        vec![
            node.node.clone(),
            node.op.to_owned(),
            format!("{height}×{width}×{channels}"),
            format!("{:.3}", node.mean),
            format!("{:.3}", node.deviation),
            format!("{:.2}", node.min),
            format!("{:.2}", node.max),
            format!("{:.1} %", 100.0 * node.zeros),
            node.dead.map_or_else(String::new, |dead| format!("{dead} of {channels}")),
        ]
    };
    let head = head.map(String::from).to_vec();
    print(&table(&std::iter::once(head).chain(nodes.iter().map(line)).collect::<Vec<_>>()))?;
    if let Some(share) = share {
        print(&format!("{dead} of {channels} ReLU channels are dead ({:.1} %) on {images} images\n", 100.0 * share))?;
    }
    Ok(Done::Finished)
}
