//! What shortcuts cost in memory.

use crate::finding::Measure;
use crate::{Claim, Context, Finding, Form, ReproduceError};
use residual_engine::{Engine, Memory, Mode};
use residual_model::{Initialisation, Model, initialise};
use residual_preprocess::Preprocessing;
use residual_report::{Bar, BarChart, Paint};

pub(super) const CLAIM: Claim = Claim {
    name: "shortcut-memory",
    title: "Shortcuts need additional memory",
    source: "lecture notes on ResNet, disadvantages",
    runs: "compiles ResNet-34 and its plain twin for inference and training, and compares the memory of their values",
    expected: "more bytes with shortcuts than without in training; inference, whose peak lies before the first shortcut, decides nothing",
    forms: &[(Form::Quick, 0.1), (Form::Full, 0.1)],
    run,
};

fn run(context: &mut Context<'_>) -> Result<Finding, ReproduceError> {
    let (mut measures, mut bars) = (Vec::new(), Vec::new());
    for (mode, what, batch) in [(Mode::Infer, "inference, batch 1", 1), (Mode::Train, "training, batch 16", 16)] {
        let [plain, residual] = ["plain34", "resnet34"].map(|name| memory(context, name, mode, batch));
        let [plain, residual] = [plain?.values, residual?.values].map(|bytes| bytes as f64 / 1e6);
        let change = 100.0 * (residual / plain - 1.0);
        let what_for = format!("values of resnet34 against plain34, {what}");
        let got = format!("{residual:.1} MB against {plain:.1} MB ({change:+.1} %)");
        measures.push(match mode {
            Mode::Train => Measure::judged(what_for, "more", got, residual > plain),
            _ => Measure::seen(what_for, got),
        });
        for (index, (name, megabytes)) in [("plain34", plain), ("resnet34", residual)].into_iter().enumerate() {
            let (name, text) = (format!("{name}, {what}"), format!("{megabytes:.1} MB"));
            bars.push(Bar { name, value: megabytes, text, paint: Paint::Series(index), ..Bar::default() });
        }
    }
    let chart = BarChart { width: 640.0, ..BarChart::new("Memory of values", bars) };
    Ok(Finding::of(measures).with_picture("memory", chart.draw()))
}

fn memory(context: &Context<'_>, name: &str, mode: Mode, batch: usize) -> Result<Memory, ReproduceError> {
    let graph = residual_zoo::build(name, 1000)?;
    let preprocessing = Preprocessing::unscaled([224, 224], &[0.5; 3], &[0.25; 3]);
    let tensors = initialise(&graph, Initialisation::Torch, 0);
    let model = Model::new(graph, tensors, preprocessing, Vec::new())?;
    Ok(Engine::required_memory(&model, mode, batch, [224, 224], &[], context.options)?)
}
