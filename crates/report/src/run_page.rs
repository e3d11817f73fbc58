//! The page of one run.

use crate::curves::{Curves, charts, gradient_flow, throughput};
use crate::held_out::{HeldOut, SHOWN, Shown};
use crate::html::{Cell, Page, details, facts, figures, paragraph, table};
use crate::run_report::RunReport;
use crate::{Cell as Square, HeatMap, Paint, Picture, Svg, bytes, duration, escape, grouped};
use residual_infer::Evaluation;

/// A confusion matrix of more classes shows those with the most errors.
const MATRIX: usize = 40;
/// Most confused pairs in the list.
const PAIRS: usize = 12;
/// Rows of the table of slices.
const SLICES: usize = 12;

pub(crate) fn page(run: &RunReport) -> String {
    let recipe = &run.record.recipe;
    let data = data_name(&recipe.data);
    let mut page = Page::new(format!("{} on {data}", recipe.model), header(run));
    page.section("curves", "Curves", curves(run));
    if let Some(held_out) = &run.held_out {
        let evaluation = &held_out.evaluation;
        page.section("metrics", "Metrics", metrics(held_out));
        if let Some(confusion) = evaluation.confusion() {
            page.section("confusion", "Confusion", confused(evaluation, &confusion));
        }
        page.section("classes", "Classes", classes(evaluation));
        page.section("calibration", "Calibration", calibration(held_out));
        page.section("mistakes", "Mistakes", mistakes(held_out));
        if evaluation.multi_label.is_none() {
            page.section("labels", "Label issues", label_issues(held_out));
            page.section("slices", "Slices", slices(held_out));
        }
        if let Some(embedding) = &held_out.embedding {
            let text = "The vectors that the head reads: on their two directions of largest variance, and with neighbours kept together \
                        (t-SNE). A class that lies apart is easy for the network; a point far from its colour is worth a look.";
            let maps: Vec<String> = embedding.draw().into_iter().map(|(_, map)| map.to_html()).collect();
            page.section("embeddings", "Embeddings", paragraph(text) + &figures(&maps));
        }
    }
    page.section("augmentation", "Training images", augmented(run));
    page.section("gradients", "Gradient flow", gradients(run));
    page.section("settings", "Settings", settings(run));
    page.section("resources", "Resources and environment", resources(run));
    page.finish()
}

/// The charts that are also written as PNG files.
pub(crate) fn plots(run: &RunReport) -> Vec<(&'static str, Svg)> {
    let mut plots = charts(&[curves_of(run)]);
    plots.extend(throughput(&[curves_of(run)]).map(|chart| ("throughput", chart)));
    if let Some(held_out) = &run.held_out {
        if let Some(confusion) = held_out.evaluation.confusion() {
            plots.push(("confusion", matrix(&held_out.evaluation, &confusion, true)));
        }
        if let Some(reliability) = &held_out.reliability {
            let [before, after] = reliability.draw();
            plots.extend([("reliability-before", before), ("reliability-after", after)]);
        }
        plots.extend(held_out.embedding.iter().flat_map(|embedding| embedding.draw()));
    }
    plots.extend(gradient_flow(&run.gradients));
    plots
}

fn curves_of(run: &RunReport) -> Curves<'_> {
    Curves { name: String::new(), record: &run.record, steps: &run.steps }
}

/// The last part of a path, or a name.
pub(crate) fn data_name(data: &str) -> &str {
    data.rsplit(['/', '\\']).find(|part| !part.is_empty()).unwrap_or(data)
}

pub(crate) fn percent(value: f64) -> String {
    format!("{value:.2} %")
}

fn header(run: &RunReport) -> String {
    let recipe = &run.record.recipe;
    let (last, best) = (run.record.last(), run.record.best());
    let done = last.map_or(0, |row| row.epoch);
    let planned = run.record.planned_epochs().unwrap_or(done);
    let mut verdict = String::new();
    match &run.held_out {
        Some(HeldOut { evaluation, .. }) => {
            let [low, high] = evaluation.top1_interval;
            let what = match &evaluation.multi_label {
                Some(_) => "have one of their classes in first place",
                None => "are classified correctly",
            };
            let epoch = best.map(|best| format!(", epoch {}", best.epoch)).unwrap_or_default();
            verdict = format!(
                "<p class=\"verdict\"><strong>{:.2} %</strong> of {} held-out images {what} (95 % interval {low:.2} to \
                 {high:.2}; {} weights{epoch})</p>\n",
                evaluation.top1,
                grouped(evaluation.images),
                run.weights,
            );
        }
        None => {
            verdict += "<p class=\"verdict\">All images were trained on; nothing was held out to judge the model.</p>\n"
        }
    }
    if let Some(test) = &run.facts.test {
        let loss = test.loss.map_or_else(|| "not a number".to_owned(), |loss| format!("{loss:.4}"));
        let when = match run.facts.step {
            Some(step) if last.is_some_and(|row| row.step != step) => {
                format!(", after {} steps; the run has been prolonged since", grouped(step))
            }
            _ => String::new(),
        };
        verdict += &format!(
            "<p>On {} test images, which chose nothing: top-1 <b>{:.2} %</b>, top-5 {:.2} %, loss {loss} ({} weights{when}).</p>\n",
            grouped(test.images),
            test.top1,
            test.top5,
            escape(&test.weights)
        );
    }
    verdict += &run.changed.iter().map(|note| format!("<p class=\"bad\">Note: {note}.</p>\n")).collect::<String>();
    let state = match planned {
        1 if done == 1 => "finished, 1 epoch".to_owned(),
        _ if done >= planned => format!("finished, {done} epochs"),
        _ if is_out_of_patience(run) => format!("stopped early, after {done} of {planned} epochs"),
        _ => format!("{done} of {planned} epochs"),
    };
    let [channels, height, width] = run.input;
    let rows = [
        ("run", state),
        ("network", format!("{}, {} parameters", escape(&recipe.model), grouped(run.parameters))),
        ("input", format!("{channels}×{height}×{width}, batch size {}", recipe.batch_size)),
        ("training data", escape(&run.train)),
        ("held out", run.held_out.as_ref().map_or_else(|| "nothing".into(), |held_out| escape(&held_out.data))),
        ("seed", recipe.seed.to_string()),
    ];
    format!("{verdict}{}<p class=\"muted\">The same run again:</p><pre>{}</pre>\n", facts(&rows), escape(&command(run)))
}

/// Whether early stopping has ended the run.
fn is_out_of_patience(run: &RunReport) -> bool {
    let (Some(last), Some(best), Some(patience)) = (run.record.last(), run.record.best(), run.record.recipe.patience)
    else {
        return false;
    };
    last.epoch >= best.epoch + patience
}

/// The command that trains the same weights again, to the bit.
fn command(run: &RunReport) -> String {
    let folder = &run.facts.wall_clock.folder;
    let config = std::path::Path::new(folder).join("config.toml").display().to_string();
    let is_plain = |c: char| c.is_alphanumeric() || "/._-+=:,@%".contains(c);
    let config = if config.chars().all(is_plain) { config } else { format!("'{}'", config.replace('\'', r"'\''")) };
    match &run.facts.environment {
        Some(environment) => format!("RESIDUAL_ISA={} residual train --recipe {config}", environment.isa),
        None => format!("residual train --recipe {config}"),
    }
}

fn curves(run: &RunReport) -> String {
    let charts: Vec<String> = charts(&[curves_of(run)]).into_iter().map(|(_, svg)| svg.to_html()).collect();
    if charts.is_empty() {
        return paragraph("No epoch was finished.");
    }
    let number = |value: Option<f64>, digits: usize| {
        value.map_or_else(|| Cell::text("–"), |value| Cell::number(value, format!("{value:.digits$}")))
    };
    let best = run.record.best().map(|best| best.epoch);
    let rows: Vec<Vec<Cell>> = run
        .record
        .rows
        .iter()
        .map(|row| {
            let epoch = Cell::number(row.epoch as f64, row.epoch.to_string());
            vec![
                if best == Some(row.epoch) { epoch.marked("good") } else { epoch },
                Cell::number(row.step as f64, row.step.to_string()),
                number(Some(row.train_loss), 4),
                number(Some(row.train_top1), 2),
                number(row.loss, 4),
                number(row.top1, 2),
            ]
        })
        .collect();
    let head = ["epoch", "step", "training loss", "training top-1 %", "held-out loss", "held-out top-1 %"];
    let text = "The training accuracy is the running average over an epoch, on augmented images; it may be below that of the \
                held-out images.";
    figures(&charts)
        + &paragraph(text)
        + &details("Values of all epochs", &table("Epochs; the best one is marked", &head, &rows, true))
}

fn metrics(held_out: &HeldOut) -> String {
    let Evaluation { top1_interval: [low, high], calibration, macro_average, .. } = &held_out.evaluation;
    let evaluation = &held_out.evaluation;
    let mut rows = vec![
        ("top-1", format!("{} ({low:.2} to {high:.2})", percent(evaluation.top1))),
        ("top-5", percent(evaluation.top5)),
        ("loss", format!("{:.4}", calibration.loss)),
        (
            "macro F1",
            match evaluation.macro_f1_interval {
                Some([low, high]) => format!("{:.4} ({low:.4} to {high:.4})", macro_average.f1),
                None => format!("{:.4}", macro_average.f1),
            },
        ),
        ("macro precision", format!("{:.4}", macro_average.precision)),
        ("macro recall", format!("{:.4}", macro_average.recall)),
        ("ECE", format!("{:.4}", calibration.ece)),
        ("Brier score", format!("{:.4}", calibration.brier)),
    ];
    if let Some(multi_label) = &evaluation.multi_label {
        rows.retain(|(name, _)| !name.starts_with("top-"));
        rows.splice(
            0..0,
            [
                ("mAP", format!("{:.4}", multi_label.mean_average_precision)),
                ("macro AUROC", format!("{:.4}", multi_label.macro_auroc)),
                ("micro F1", format!("{:.4}", multi_label.micro_f1)),
                ("exact match", percent(100.0 * multi_label.exact_match)),
                ("one of the classes in first place", format!("{} ({low:.2} to {high:.2})", percent(evaluation.top1))),
            ],
        );
    }
    if evaluation.non_finite > 0 {
        rows.push(("not finite", format!("{} images have no logits", evaluation.non_finite)));
    }
    facts(&rows) + &paragraph("Intervals are 95 % bootstrap intervals over the images.")
}

/// The classes that a matrix shows: all, or those with the most errors.
fn shown_classes(confusion: &[Vec<u64>]) -> Vec<usize> {
    let mut classes: Vec<usize> = (0..confusion.len()).collect();
    if classes.len() > MATRIX {
        let errors = |class: usize| {
            let row: u64 = confusion[class].iter().sum();
            let column: u64 = confusion.iter().map(|row| row[class]).sum();
            row + column - 2 * confusion[class][class]
        };
        classes.sort_by_key(|&class| std::cmp::Reverse(errors(class)));
        classes.truncate(MATRIX);
        classes.sort_unstable();
    }
    classes
}

/// The confusion matrix in numbers, or in percent of each class's images.
fn matrix(evaluation: &Evaluation, confusion: &[Vec<u64>], normalised: bool) -> Svg {
    let shown = shown_classes(confusion);
    let name = |class: usize| evaluation.classes[class].name.clone();
    let largest = confusion.iter().flatten().copied().max().unwrap_or(1).max(1) as f64;
    let cell = |row: usize, column: usize| {
        let (count, sum) = (confusion[row][column], confusion[row].iter().sum::<u64>().max(1));
        if count == 0 {
            return Square::default();
        }
        let share = count as f64 / sum as f64;
        let text = if normalised { format!("{:.0}", 100.0 * share) } else { count.to_string() };
        Square {
            strength: if normalised { share } else { count as f64 / largest }.max(0.04),
            text,
            title: format!("{count} images of {} ({:.1} %) predicted as {}", name(row), 100.0 * share, name(column)),
        }
    };
    let title = if normalised { "In % of each class's images" } else { "Number of images" };
    HeatMap {
        title: title.to_owned(),
        axes: ["class".to_owned(), "predicted class".to_owned()],
        rows: shown.iter().map(|&class| name(class)).collect(),
        columns: shown.iter().map(|&class| name(class)).collect(),
        cells: shown.iter().map(|&row| shown.iter().map(|&column| cell(row, column)).collect()).collect(),
        paint: Paint::Series(0),
        width: 520.0,
    }
    .draw()
}

fn confused(evaluation: &Evaluation, confusion: &[Vec<u64>]) -> String {
    let matrices = [false, true].map(|normalised| matrix(evaluation, confusion, normalised).to_html());
    let mut pairs: Vec<(u64, usize, usize)> = Vec::new();
    for (class, row) in confusion.iter().enumerate() {
        let wrong = row.iter().enumerate().filter(|(predicted, count)| *predicted != class && **count > 0);
        pairs.extend(wrong.map(|(predicted, &count)| (count, class, predicted)));
    }
    pairs.sort_by_key(|&(count, class, predicted)| (std::cmp::Reverse(count), class, predicted));
    let rows: Vec<Vec<Cell>> = pairs
        .iter()
        .take(PAIRS)
        .map(|&(count, class, predicted)| {
            let support = evaluation.classes[class].support.max(1);
            let share = 100.0 * count as f64 / support as f64;
            vec![
                Cell::text(&evaluation.classes[class].name),
                Cell::text(&evaluation.classes[predicted].name),
                Cell::number(count as f64, grouped(count)),
                Cell::number(share, format!("{share:.1}")),
            ]
        })
        .collect();
    let mut body = String::new();
    if confusion.len() > MATRIX {
        body += &paragraph(&format!("The {MATRIX} classes with the most errors, of {}.", confusion.len()));
    }
    body += &figures(&matrices);
    match rows.is_empty() {
        true => body + &paragraph("No image was misclassified."),
        false => {
            body + &table("Most confused pairs", &["class", "predicted as", "images", "% of the class"], &rows, true)
        }
    }
}

fn classes(evaluation: &Evaluation) -> String {
    let fraction = |value: f64| Cell::number(value, format!("{value:.3}"));
    let rows: Vec<Vec<Cell>> = evaluation
        .classes
        .iter()
        .filter(|class| class.occurs())
        .map(|class| {
            vec![
                Cell::text(&class.name),
                fraction(class.values.precision),
                fraction(class.values.recall),
                fraction(class.values.f1),
                Cell::number(class.support as f64, grouped(class.support)),
                Cell::number(class.predicted as f64, grouped(class.predicted)),
            ]
        })
        .collect();
    let head = ["class", "precision", "recall", "F1", "images", "predicted"];
    table("Classes; a click on a heading sorts them", &head, &rows, true)
}

fn calibration(held_out: &HeldOut) -> String {
    let Some(reliability) = &held_out.reliability else {
        return paragraph(match &held_out.evaluation.multi_label {
            Some(_) => "A temperature is fitted for images of one class each only.",
            None => "No temperature can be fitted: there are too few images, or too few of them are misclassified.",
        });
    };
    let diagrams = reliability.draw().map(|svg| svg.to_html());
    let (before, after) = (&reliability.calibration_before, &reliability.calibration_after);
    let row = |name: &str, before: f64, after: f64| {
        vec![Cell::text(name), Cell::number(before, format!("{before:.4}")), Cell::number(after, format!("{after:.4}"))]
    };
    let rows = [
        row("expected calibration error", before.ece, after.ece),
        row("loss", before.loss, after.loss),
        row("Brier score", before.brier, after.brier),
    ];
    let text = format!(
        "A temperature of {:.3} fits these images best; residual eval --fit-temperature stores it in the weights. The values after it \
         are honest: each half of the images has the temperature of the other half.",
        reliability.temperature
    );
    figures(&diagrams) + &paragraph(&text) + &table("Calibration", &["", "before", "after"], &rows, false)
}

fn mistakes(held_out: &HeldOut) -> String {
    if held_out.worst.is_empty() {
        return paragraph("No image was misclassified.");
    }
    let worst = pictures(&held_out.worst, &|_| String::new());
    if held_out.worst.len() < SHOWN {
        return format!("<h3>All mistakes, by loss</h3>\n{worst}");
    }
    let confident = pictures(&held_out.confident, &|_| String::new());
    format!("<h3>Highest loss</h3>\n{worst}<h3>Most confident errors</h3>\n{confident}")
}

fn label_issues(held_out: &HeldOut) -> String {
    let text = format!(
        "{} of {} held-out images probably have a wrong label, by confident learning: the network is as sure of another class as it \
         usually is of that class's own images. They are sorted by margin: the probability of the label less that of the best \
         other class, from 0 (surely wrong) to 1.",
        grouped(held_out.issue_count as u64),
        grouped(held_out.evaluation.images)
    );
    // Labels are rarely that bad; networks are.
    let text = match held_out.issue_count as u64 > held_out.evaluation.images / 4 {
        true => format!("{text} So many say more about the network than about the labels."),
        false => text,
    };
    let score = |shown: &Shown| {
        shown.score.map_or_else(String::new, |score| {
            format!("<br/>margin {:.3}, label {:.1} %", score.normalized_margin, 100.0 * score.self_confidence)
        })
    };
    paragraph(&text) + &if held_out.issues.is_empty() { String::new() } else { pictures(&held_out.issues, &score) }
}

fn pictures(shown: &[Shown], more: &dyn Fn(&Shown) -> String) -> String {
    let item = |shown: &Shown| {
        let caption = format!(
            "<span class=\"good\">{}</span><br/><span class=\"bad\">{} {:.1} %</span>",
            escape(&shown.label),
            escape(&shown.predicted),
            100.0 * shown.probability
        );
        let text =
            format!("{}: {}, predicted as {}, loss {:.3}", shown.place, shown.label, shown.predicted, shown.loss);
        format!("<li>{}{caption}{}</li>\n", image(shown.picture.as_ref(), &text), more(shown))
    };
    format!("<ul class=\"pictures\">\n{}</ul>\n", shown.iter().map(item).collect::<String>())
}

/// A list entry's picture, or a word if there is none; `text` is shown on hover.
pub(crate) fn image(picture: Option<&Picture>, text: &str) -> String {
    let text = escape(text);
    let Some(picture) = picture else {
        return format!("<span class=\"muted\" data-tip=\"{text}\">no picture</span><br/>");
    };
    let class = if picture.width().max(picture.height()) < 64 { " class=\"small\"" } else { "" };
    format!(
        "<img{class} src=\"{}\" alt=\"{text}\" data-tip=\"{text}\" width=\"96\" height=\"96\"/>",
        picture.data_uri()
    )
}

fn slices(held_out: &HeldOut) -> String {
    let top1 = held_out.evaluation.top1;
    let rows: Vec<Vec<Cell>> = held_out
        .slices
        .iter()
        .take(SLICES)
        .map(|slice| {
            let accuracy = Cell::number(slice.top1, format!("{:.1}", slice.top1));
            vec![
                Cell::text(format!("{}: {}", slice.by, slice.name)),
                Cell::number(slice.images as f64, grouped(slice.images)),
                if slice.is_weak(top1) { accuracy.marked("bad") } else { accuracy },
                Cell::text(format!("{:.1} to {:.1}", slice.interval[0], slice.interval[1])),
                Cell::number(slice.gap, format!("{:+.1}", slice.gap).replace('-', "−")),
            ]
        })
        .collect();
    if rows.is_empty() {
        return paragraph("No part of the images is large enough to be judged: 20 images at least.");
    }
    let weak = held_out.slices.iter().filter(|slice| slice.is_weak(top1)).count();
    let text = format!(
        "Parts of the held-out images by class, and of {} of them by size, brightness and sharpness (variance of the \
         Laplacian), the weakest first. {} below the accuracy of all images by more than chance: the 95 % interval ends \
         below it.",
        grouped(held_out.sliced as u64),
        match weak {
            0 => "None is".to_owned(),
            1 => "One is".to_owned(),
            many => format!("{many} are"),
        }
    );
    paragraph(&text) + &table("Slices", &["slice", "images", "top-1 %", "interval", "gap to the others"], &rows, true)
}

fn augmented(run: &RunReport) -> String {
    let item =
        |(picture, class): &(Picture, String)| format!("<li>{}{}</li>\n", image(Some(picture), class), escape(class));
    let items: String = run.augmented.iter().map(item).collect();
    paragraph("The first training images as the network sees them: augmented, resized and cropped.")
        + &format!("<ul class=\"pictures\">\n{items}</ul>\n")
}

fn gradients(run: &RunReport) -> String {
    let charts: Vec<String> = gradient_flow(&run.gradients).into_iter().map(|(_, svg)| svg.to_html()).collect();
    if charts.is_empty() {
        return paragraph("Not recorded; residual train --log-gradients N records the gradients of every N-th step.");
    }
    let number = |value: Option<f64>| {
        value.map_or_else(|| Cell::text("–"), |value| Cell::number(value, crate::axis::short(value)))
    };
    let last = run.gradients.last();
    let rows: Vec<Vec<Cell>> = last
        .iter()
        .flat_map(|row| row.layers.iter().enumerate())
        .map(|(index, layer)| {
            vec![
                Cell::text(&layer.name),
                Cell::number(index as f64 + 1.0, (index + 1).to_string()),
                number(layer.mean),
                number(layer.max),
                number(layer.update_ratio),
            ]
        })
        .collect();
    let text = "A mean that falls from layer to layer towards the input vanishes; one that grows explodes. Updates of about a thousandth \
                of the weights are usual.";
    let caption = last.map_or_else(String::new, |row| format!("Layers at step {}", row.step));
    let head = ["layer", "number", "mean |gradient|", "maximum |gradient|", "update ratio"];
    paragraph(text)
        + &figures(&charts)
        + &details("Values of the last recorded step", &table(&caption, &head, &rows, true))
}

fn settings(run: &RunReport) -> String {
    let rows: Vec<Vec<Cell>> = match run.facts.settings.is_empty() {
        false => run
            .facts
            .settings
            .iter()
            .map(|setting| {
                let value = Cell::text(&setting.value);
                let value = if setting.origin == "default" { value.marked("muted") } else { value };
                vec![Cell::text(&setting.name), value, Cell::text(&setting.origin)]
            })
            .collect(),
        true => {
            let line = |line: &str| line.split_once(" = ").map(|(name, value)| (name.to_owned(), value.to_owned()));
            let text = run.record.recipe.to_toml();
            text.lines()
                .filter_map(line)
                .map(|(name, value)| vec![Cell::text(name), Cell::text(value), Cell::text("config.toml")])
                .collect()
        }
    };
    table("Settings and where they come from", &["setting", "value", "source"], &rows, true)
}

fn resources(run: &RunReport) -> String {
    let wall = &run.facts.wall_clock;
    let last = run.record.last();
    let unknown = || "not recorded".to_owned();
    let mut rows = vec![
        ("time", duration(if wall.seconds > 0.0 { wall.seconds } else { last.map_or(0.0, |row| row.seconds) })),
        (
            "images/s",
            match wall.images_per_second > 0.0 {
                true => format!("{:.0} in training, without evaluations", wall.images_per_second),
                false => unknown(),
            },
        ),
        ("processor time", wall.cpu_seconds.map_or_else(unknown, duration)),
        ("peak memory", wall.peak_memory.map_or_else(unknown, bytes)),
        ("weights", format!("{} ({})", bytes(run.weights_bytes), run.weights)),
        ("folder", escape(&wall.folder)),
    ];
    if let Some(environment) = &run.facts.environment {
        rows.extend([
            ("program", format!("residual {}", escape(&environment.version))),
            ("processor", escape(&environment.processor)),
            ("compute", format!("{} threads, {}", environment.threads, escape(&environment.isa))),
            ("system", escape(&environment.system)),
        ]);
    }
    let mut body = facts(&rows);
    body += &throughput(&[curves_of(run)]).map_or_else(String::new, |chart| figures(&[chart.to_html()]));
    if !run.facts.skipped.is_empty() {
        let items: String = run.facts.skipped.iter().map(|reason| format!("<li>{}</li>\n", escape(reason))).collect();
        body += &details(&format!("{} skipped images", run.facts.skipped.len()), &format!("<ul>{items}</ul>\n"));
    }
    body
}
