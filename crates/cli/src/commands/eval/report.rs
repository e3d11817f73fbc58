//! The result of an evaluation: a table, or one JSON document.

use crate::args::Eval;
use crate::failure::Failure;
use crate::output::{count, facts, path_text, print, print_json, table};
use residual::data::Dataset;
use residual::infer::{Calibration, ClassMetrics, Comparison, Evaluation, ImageResult, Interval, MultiLabelMetrics};
use serde::Serialize;
use std::path::Path;

/// With so many classes or fewer, top-5 accuracy is always 100 %.
const FIVE: usize = 5;
/// Up to so many classes are shown in the table.
const SHOWN_CLASSES: usize = 20;
/// Up to so many classes have their confusion matrix in the JSON document.
const CONFUSED_CLASSES: usize = 100;

/// How a temperature was fitted.
#[derive(Serialize)]
pub(super) struct Fit {
    pub(super) temperature: f32,
    /// The images that it was fitted on.
    pub(super) images: u64,
    pub(super) data: String,
}

/// Another model on the same images.
#[derive(Serialize)]
pub(super) struct Compared {
    pub(super) weights: String,
    pub(super) top1: f64,
    /// The evaluated model minus this one.
    #[serde(flatten)]
    pub(super) comparison: Comparison,
}

#[derive(Serialize)]
struct Document<'a> {
    #[serde(flatten)]
    evaluation: &'a Evaluation,
    #[serde(skip_serializing_if = "Option::is_none")]
    confusion: Option<Vec<Vec<u64>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    wrong: Option<Vec<Listed<'a>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    uncertain: Option<Vec<Listed<'a>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fitted: Option<Fit>,
    #[serde(skip_serializing_if = "Option::is_none")]
    vs: Option<Compared>,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<String>,
}

/// An image in a list.
#[derive(Serialize)]
struct Listed<'a> {
    image: String,
    index: usize,
    label: &'a str,
    predicted: Option<&'a str>,
    probability: f32,
}

pub(super) fn print_report(
    arguments: &Eval,
    evaluation: &Evaluation,
    dataset: &dyn Dataset,
    fitted: Option<Fit>,
    vs: Option<Compared>,
) -> Result<(), Failure> {
    let list = |results: Vec<&ImageResult>, most: usize| -> Vec<Listed<'_>> {
        results.into_iter().take(most).map(|result| listed(evaluation, dataset, result)).collect()
    };
    let wrong = arguments.wrong.map(|most| list(evaluation.wrong(), most));
    let uncertain = arguments.uncertain.map(|most| list(evaluation.uncertain(), most));
    let wanted = arguments.confusion || (arguments.format.json && evaluation.classes.len() <= CONFUSED_CLASSES);
    let confusion = if wanted { evaluation.confusion() } else { None };
    if arguments.confusion && confusion.is_none() {
        return Err(confusion_failure(evaluation));
    }
    if arguments.format.json {
        let file = arguments.output.as_deref().map(path_text);
        return print_json(&Document { evaluation, confusion, wrong, uncertain, fitted, vs, file });
    }
    let mut text = facts(&rows(evaluation, fitted.as_ref(), arguments.output.as_deref()));
    if let Some(vs) = &vs {
        text += &comparison(vs);
    }
    let occurring = evaluation.classes.iter().filter(|class| class.occurs()).count();
    if arguments.per_class || occurring <= SHOWN_CLASSES {
        text += &classes(evaluation);
    }
    if let Some(confusion) = confusion {
        text += &matrix(evaluation, &confusion);
    }
    for (heading, images) in [("wrong, most certain first", wrong), ("least certain", uncertain)] {
        if let Some(images) = images {
            text += &images_table(heading, &images);
        }
    }
    print(&text)
}

fn confusion_failure(evaluation: &Evaluation) -> Failure {
    match &evaluation.multi_label {
        Some(_) => Failure::new("confusion: expected images of one class each, got multi-label data"),
        None => {
            let classes = evaluation.classes.len();
            Failure::new(format!("confusion: expected memory for {classes}×{classes} counts, got less"))
        }
    }
}

fn rows(evaluation: &Evaluation, fitted: Option<&Fit>, output: Option<&Path>) -> Vec<(&'static str, String)> {
    let Evaluation { data, split, images, top1, top1_interval, top5, calibration, .. } = evaluation;
    let Evaluation { images_per_second, skipped, non_finite, absent_classes, temperature, .. } = evaluation;
    let mut rows = vec![
        ("data", format!("{data}, {split}")),
        ("images", images.to_string()),
        ("Acc@1", format!("{top1:.2}{}", interval(*top1_interval, 2))),
    ];
    if evaluation.classes.len() > FIVE {
        rows.push(("Acc@5", format!("{top5:.2}")));
    }
    let Calibration { loss, ece, brier } = calibration;
    let before = |value: fn(&Calibration) -> f64| match &evaluation.uncalibrated {
        Some(uncalibrated) => format!(" ({:.4} at temperature 1)", value(uncalibrated)),
        None => String::new(),
    };
    rows.push(("loss", format!("{loss:.4}{}", before(|calibration| calibration.loss))));
    if let Some(MultiLabelMetrics { mean_average_precision, macro_auroc, micro_f1, exact_match }) =
        &evaluation.multi_label
    {
        rows.extend([
            ("mAP", format!("{mean_average_precision:.4}")),
            ("macro AUROC", format!("{macro_auroc:.4}")),
            ("micro F1", format!("{micro_f1:.4}")),
            ("exact match", format!("{exact_match:.4}")),
        ]);
    }
    let macro_interval = evaluation.macro_f1_interval.map_or_else(String::new, |ends| interval(ends, 4));
    rows.extend([
        ("macro F1", format!("{:.4}{macro_interval}", evaluation.macro_average.f1)),
        ("weighted F1", format!("{:.4}", evaluation.weighted_average.f1)),
        ("ECE", format!("{ece:.4}{}", before(|calibration| calibration.ece))),
        ("Brier score", format!("{brier:.4}{}", before(|calibration| calibration.brier))),
    ]);
    match fitted {
        Some(Fit { temperature, images, data }) => {
            let images = count(*images, "image");
            rows.push(("temperature", format!("{temperature:.4}, fitted on {images}: {data}")));
        }
        None if *temperature != 1.0 => rows.push(("temperature", format!("{temperature:.4}, of the weights"))),
        None => {}
    }
    rows.push(("images/s", format!("{images_per_second:.0}")));
    if *non_finite > 0 {
        let images = count(*non_finite, "image");
        rows.push(("not finite", format!("logits of {images}, counted as misclassified")));
    }
    if !absent_classes.is_empty() {
        let classes = count(absent_classes.len() as u64, "class");
        rows.push(("absent", format!("{classes} of the model: {}", first(absent_classes))));
    }
    if !skipped.is_empty() {
        rows.push(("skipped", count(skipped.len() as u64, "image")));
    }
    if let Some(output) = output {
        rows.push(("file", path_text(output)));
    }
    rows
}

/// The comparison with another model, in a block of its own.
fn comparison(Compared { weights, top1, comparison }: &Compared) -> String {
    let Comparison { difference, interval: ends, only_first, only_second, p_value } = comparison;
    let p_value = if *p_value < 1e-4 { format!("{p_value:.1e}") } else { format!("{p_value:.4}") };
    let block = facts(&[
        ("vs", format!("{weights}: Acc@1 {top1:.2}")),
        ("difference", format!("{difference:+.2}{}", interval(*ends, 2))),
        ("McNemar", format!("p = {p_value}; right in one only: {only_first}, in the other only: {only_second}")),
    ]);
    format!("\n{block}")
}

fn interval([low, high]: Interval, digits: usize) -> String {
    format!(" (95 % interval {low:.digits$} to {high:.digits$})")
}

/// The first few of some names.
fn first(names: &[String]) -> String {
    const SHOWN: usize = 5;
    let shown = names[..SHOWN.min(names.len())].join(", ");
    if names.len() > SHOWN { format!("{shown}, …") } else { shown }
}

/// A row for each class that occurs, and the means.
fn classes(evaluation: &Evaluation) -> String {
    let is_ranked = evaluation.multi_label.is_some();
    let mut heading: Vec<String> = ["class", "precision", "recall", "F1"].map(String::from).to_vec();
    if is_ranked {
        heading.extend(["AP", "AUROC"].map(String::from));
    }
    heading.push("support".into());
    let row = |class: &ClassMetrics| {
        let values = [class.values.precision, class.values.recall, class.values.f1].map(Some);
        let ranking = class.ranking.iter().flat_map(|ranking| [ranking.average_precision, ranking.auroc]);
        let cells = values.into_iter().chain(ranking).map(|value| value.map_or("-".into(), fraction));
        let name = std::iter::once(class.name.clone());
        name.chain(cells).chain([class.support.to_string()]).collect()
    };
    let means = [("macro mean", evaluation.macro_average), ("weighted mean", evaluation.weighted_average)];
    let mean = |(name, values): (&str, residual::infer::PrecisionRecall)| {
        vec![name.to_owned(), fraction(values.precision), fraction(values.recall), fraction(values.f1)]
    };
    let occurring: Vec<&ClassMetrics> = evaluation.classes.iter().filter(|class| class.occurs()).collect();
    let others = evaluation.classes.len() - occurring.len();
    let rows: Vec<Vec<String>> =
        std::iter::once(heading).chain(occurring.into_iter().map(row)).chain(means.into_iter().map(mean)).collect();
    let others = match others {
        0 => String::new(),
        others => format!("{} neither occur nor are predicted\n", count(others as u64, "other class")),
    };
    format!("\n{}{others}", table(&rows))
}

fn fraction(value: f64) -> String {
    format!("{value:.4}")
}

/// The confusion matrix of the classes that occur, columns numbered as the rows.
fn matrix(evaluation: &Evaluation, confusion: &[Vec<u64>]) -> String {
    let occurring: Vec<usize> = (0..confusion.len()).filter(|&class| evaluation.classes[class].occurs()).collect();
    let numbered = |class: usize| format!("{class} {}", evaluation.classes[class].name);
    let named = |class: usize| {
        let name = &evaluation.classes[class].name;
        if *name == class.to_string() { name.clone() } else { numbered(class) }
    };
    let heading =
        std::iter::once("true \\ predicted".to_owned()).chain(occurring.iter().map(usize::to_string)).collect();
    let row = |&class: &usize| {
        let counts = occurring.iter().map(|&predicted| confusion[class][predicted].to_string());
        std::iter::once(named(class)).chain(counts).collect()
    };
    let rows: Vec<Vec<String>> = std::iter::once(heading).chain(occurring.iter().map(row)).collect();
    format!("\n{}", table(&rows))
}

fn listed<'a>(evaluation: &'a Evaluation, dataset: &dyn Dataset, result: &ImageResult) -> Listed<'a> {
    let name = |class: u32| evaluation.classes[class as usize].name.as_str();
    Listed {
        image: dataset.describe(result.index),
        index: result.index,
        label: name(result.label),
        predicted: result.predicted.map(name),
        probability: result.probability,
    }
}

fn images_table(heading: &str, images: &[Listed<'_>]) -> String {
    if images.is_empty() {
        return format!("\n{heading}: none\n");
    }
    let heading = [heading, "true", "predicted", "probability"].map(String::from).to_vec();
    let row = |listed: &Listed<'_>| {
        let predicted = listed.predicted.unwrap_or("-").to_owned();
        vec![listed.image.clone(), listed.label.to_owned(), predicted, fraction(listed.probability.into())]
    };
    let rows: Vec<Vec<String>> = std::iter::once(heading).chain(images.iter().map(row)).collect();
    format!("\n{}", table(&rows))
}
