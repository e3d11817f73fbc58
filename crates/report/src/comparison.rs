//! The page that compares several runs.

use crate::ReportError;
use crate::curves::{Curves, charts, throughput};
use crate::duration;
use crate::html::{Cell, Page, figures, paragraph, table};
use crate::run_page::data_name;
use residual_train::{Paired, Record, differences, paired};
use serde_json::{Value, json};

/// A comparison of runs, from their folders alone.
pub struct RunComparison {
    runs: Vec<Record>,
    steps: Vec<Vec<residual_train::StepRow>>,
}

impl RunComparison {
    /// Reads the steps of the runs.
    ///
    /// # Errors
    /// If a file of a run cannot be read.
    pub fn new(runs: Vec<Record>) -> Result<Self, ReportError> {
        let steps = runs.iter().map(Record::steps).collect::<Result<_, _>>()?;
        Ok(Self { runs, steps })
    }

    /// The page: one file that loads nothing.
    pub fn html(&self) -> String {
        let names: Vec<String> = self.runs.iter().map(name).collect();
        let header = paragraph(&format!("{} runs: {}", names.len(), names.join(", ")));
        let mut page = Page::new("Comparison of runs", header);
        page.section("metrics", "Metrics", self.metrics(&names));
        let curves = self.runs.iter().zip(&self.steps).zip(&names);
        let curves: Vec<Curves<'_>> =
            curves.map(|((record, steps), name)| Curves { name: name.clone(), record, steps }).collect();
        let charts = charts(&curves).into_iter().map(|(_, svg)| svg).chain(throughput(&curves));
        let charts: Vec<String> = charts.map(|svg| svg.to_html()).collect();
        page.section(
            "curves",
            "Curves",
            match charts.is_empty() {
                true => paragraph("No run has finished an epoch."),
                false => figures(&charts),
            },
        );
        page.section("settings", "Different settings", self.settings(&names));
        page.finish()
    }

    /// The numbers of the page.
    pub fn json(&self) -> Value {
        let run = |run: &Record| {
            let (last, best) = (run.last(), run.best());
            json!({
                "run": name(run), "model": run.recipe.model, "data": run.recipe.data, "seed": run.recipe.seed,
                "epochs": last.map(|row| row.epoch), "top1": last.and_then(|row| row.top1), "loss": last.and_then(|row| row.loss),
                "best_top1": best.and_then(|row| row.top1), "best_epoch": best.map(|row| row.epoch),
                "seconds": last.map(|row| row.seconds),
            })
        };
        let differences: serde_json::Map<String, Value> =
            differences(&self.runs).into_iter().map(|(name, values)| (name.to_owned(), json!(values))).collect();
        json!({
            "schema": crate::SCHEMA,
            "runs": self.runs.iter().map(run).collect::<Vec<_>>(),
            "differences": differences,
            "paired": paired(&self.runs).map(|Paired { seeds, top1: [first, second], difference }| json!({
                "seeds": seeds,
                "first": first.mean,
                "second": second.mean,
                "difference": difference.mean,
                "half_width_95": difference.half_width(),
            })),
        })
    }

    fn metrics(&self, names: &[String]) -> String {
        let number = |value: Option<f64>, digits: usize| {
            value.map_or_else(|| Cell::text("–"), |value| Cell::number(value, format!("{value:.digits$}")))
        };
        let first = self.runs.first();
        let baseline = first.and_then(|run| run.best()?.top1);
        let rows: Vec<Vec<Cell>> = self
            .runs
            .iter()
            .zip(names)
            .map(|(run, name)| {
                let (last, best) = (run.last(), run.best());
                let best_top1 = best.and_then(|best| best.top1);
                // Accuracies on other data are not comparable.
                let comparable = first.is_some_and(|first| first != run && first.recipe.data == run.recipe.data);
                let difference = best_top1.zip(baseline).filter(|_| comparable).map(|(own, first)| own - first);
                let seconds = last.map_or(0.0, |row| row.seconds);
                vec![
                    Cell::text(name),
                    Cell::text(&run.recipe.model),
                    Cell::text(data_name(&run.recipe.data)),
                    Cell::number(run.recipe.seed as f64, run.recipe.seed.to_string()),
                    number(last.map(|row| row.epoch as f64), 0),
                    number(last.and_then(|row| row.top1), 2),
                    number(best_top1, 2),
                    match difference {
                        Some(value) => Cell::number(value, format!("{value:+.2}").replace('-', "−")),
                        None => Cell::text("–"),
                    },
                    number(last.and_then(|row| row.loss), 4),
                    Cell::number(seconds, duration(seconds)),
                ]
            })
            .collect();
        let head = [
            "run",
            "network",
            "data",
            "seed",
            "epochs",
            "last top-1 %",
            "best top-1 %",
            "best − first run's",
            "held-out loss",
            "time",
        ];
        table("Metrics on the held-out images", &head, &rows, true) + &self.paired()
    }

    /// The paired difference of two recipes, if the runs are of two with common seeds.
    fn paired(&self) -> String {
        let Some(Paired { seeds, top1: [first, second], difference }) = paired(&self.runs) else {
            return paragraph(
                "Two recipes with two common seeds or more would have a paired interval here (residual train --seeds N).",
            );
        };
        let half = difference.half_width().unwrap_or(f64::INFINITY);
        let (low, high) = (difference.mean - half, difference.mean + half);
        let verdict = if difference.mean.abs() > half { "the recipes differ" } else { "no difference is shown" };
        paragraph(&format!(
            "Paired by {} seeds: the last top-1 of the first recipe is {:.2} %, that of the second {:.2} %; second − first {:+.2} \
             percentage points, 95 % interval {low:+.2} to {high:+.2}: {verdict}.",
            seeds.len(),
            first.mean,
            second.mean,
            difference.mean
        ))
    }

    fn settings(&self, names: &[String]) -> String {
        let differences = differences(&self.runs);
        if differences.is_empty() {
            return paragraph("Their settings are equal.");
        }
        let row = |(name, values): (&str, Vec<Option<String>>)| {
            let values = values.into_iter().map(|value| Cell::text(value.unwrap_or_else(|| "–".into())));
            std::iter::once(Cell::text(name)).chain(values).collect::<Vec<_>>()
        };
        let rows: Vec<Vec<Cell>> = differences.into_iter().map(row).collect();
        let head: Vec<&str> = std::iter::once("setting").chain(names.iter().map(String::as_str)).collect();
        table("Settings that differ", &head, &rows, false)
    }
}

/// The name of a run's folder.
fn name(run: &Record) -> String {
    let path = run.folder.path();
    let name = path.file_name().or_else(|| path.as_os_str().into());
    name.map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}
