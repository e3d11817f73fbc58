//! Published weights on ImageNet.

use crate::finding::Measure;
use crate::{Claim, Context, Finding, Form, ReproduceError};
use residual_data::{Source, Split};
use residual_infer::{EvaluateOptions, ModelRequest, evaluate};

pub(super) const CLAIM: Claim = Claim {
    name: "published-weights",
    title: "torchvision's weights have their published accuracies: ResNet-18 69.758 and 89.078 %, ResNet-50 76.130 and 92.862 %",
    source: "docs.pytorch.org/vision, table of classification weights; the table of the lecture notes (69.8 and 89.1, 76.2 and 92.9)",
    runs: "evaluates the weights on the validation images of ImageNet, a folder val/<class>/…",
    expected: "top-1 and top-5 within 0.1 points",
    forms: &[(Form::Full, 60.0)],
    run,
};

/// Weights, and their published top-1 and top-5.
const WEIGHTS: [(&str, f64, f64); 2] =
    [("torchvision:resnet18.v1", 69.758, 89.078), ("torchvision:resnet50.v1", 76.130, 92.862)];
const BAND: f64 = 0.1;

fn run(context: &mut Context<'_>) -> Result<Finding, ReproduceError> {
    let Some(folder) = context.imagenet else {
        return Ok(Finding::not_run("no images of ImageNet were given (--imagenet DIR)"));
    };
    let images = Source::open(&folder.display().to_string(), None)?.split(Split::Val)?;
    let mut measures = Vec::new();
    for (name, top1, top5) in WEIGHTS {
        let model = ModelRequest::new(name).open()?.read(None)?.model;
        let options = EvaluateOptions { engine: context.options.clone(), workers: 2, ..EvaluateOptions::default() };
        let (stop, on_progress) = (context.stop, &mut *context.on_progress);
        let mut show = |done, total| on_progress(&crate::Progress { what: name, done, total });
        let evaluation = evaluate(&model, &images, &options, stop, &mut show)?;
        let Some(evaluation) = evaluation else { return Err(ReproduceError::Interrupted { training: None }) };
        for (what, expected, got) in [("top-1", top1, evaluation.top1), ("top-5", top5, evaluation.top5)] {
            let (text, got_text) =
                (format!("{expected:.3} ± {BAND} %"), format!("{got:.3} % of {} images", evaluation.images));
            measures.push(Measure::judged(format!("{name}: {what}"), text, got_text, (got - expected).abs() <= BAND));
        }
    }
    Ok(Finding::of(measures))
}
