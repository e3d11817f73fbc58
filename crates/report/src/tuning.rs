//! The page of a search of settings: what was tried, what it reached, and which settings decide.

use crate::html::{Cell, Page, figures, paragraph, table};
use crate::{Axis, Bar, BarChart, Chart, Paint, Point, ReportError, Series, Svg};
use std::collections::BTreeSet;

/// A trial of a search of settings.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Trial {
    /// Its number.
    pub number: usize,
    /// Epochs that it was trained.
    pub epochs: u64,
    /// Top-1 accuracy in percent, of the same images for all.
    pub top1: f64,
    /// Its value of every setting, in the order of [`Tuning::settings`]; `None` where it has no effect.
    pub values: Vec<Option<String>>,
}

/// A setting that was searched.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Searched {
    /// Its name.
    pub name: String,
    /// Whether its values are numbers that rise by a factor.
    pub is_logarithmic: bool,
    /// Its importance, from 0 to 1, if it is known.
    pub importance: Option<f64>,
}

/// A search of settings.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tuning {
    /// The title of the page.
    pub title: String,
    /// How the trials came about, and which images judged them: a paragraph each.
    pub notes: Vec<String>,
    /// The settings.
    pub settings: Vec<Searched>,
    /// The trials with a result, in the order of their proposal.
    pub trials: Vec<Trial>,
    /// The number of the best one.
    pub best: usize,
}

impl Tuning {
    /// The page: one file that loads nothing. `more` are further sections: place in the address, title, HTML.
    ///
    /// # Errors
    /// If a chart cannot be drawn.
    pub fn html(&self, more: &[(&str, &str, String)]) -> Result<String, ReportError> {
        let header: String = self.notes.iter().map(|note| paragraph(note)).collect();
        let mut page = Page::new(&self.title, header);
        more.iter().for_each(|(id, title, body)| page.section(id, title, body.clone()));
        page.section("progress", "Progress", figures(&[self.progress()?.to_html()]));
        let importance = self.importance().map_or_else(
            || paragraph("With fewer than ten trials the importance of the settings is not known."),
            |chart| {
                let what =
                    "How much the best tenth of the trials differs from all of them in the values of a setting alone.";
                paragraph(what) + &figures(&[chart.to_html()])
            },
        );
        page.section("importance", "Importance of the settings", importance);
        let slices = (0..self.settings.len()).map(|index| Ok(self.slice(index)?.map(|chart| chart.to_html())));
        let slices: Vec<Option<String>> = slices.collect::<Result<_, ReportError>>()?;
        let slices: Vec<String> = slices.into_iter().flatten().collect();
        let settings = match slices.is_empty() {
            true => paragraph("No setting has two values whose accuracies could be compared."),
            false => figures(&slices),
        };
        page.section("settings", "Accuracy by setting", settings);
        page.section("trials", "Trials", self.table());
        Ok(page.finish())
    }

    /// The accuracy of every trial, and the best so far of those that were trained the longest.
    fn progress(&self) -> Result<Svg, ReportError> {
        let longest = self.longest();
        let mut best = f64::NEG_INFINITY;
        let mut line = Vec::new();
        for trial in self.trials.iter().filter(|trial| trial.epochs == longest) {
            best = best.max(trial.top1);
            line.push((trial.number as f64, best));
        }
        let mut chart = Chart::new("Accuracy trial by trial", Axis::new("trial").whole(), Axis::new("top-1 in %"));
        if line.len() > 1 {
            chart = chart.with(Series::line("best so far", Paint::Series(0), line));
        }
        self.with_trials(chart, |trial| Some(trial.number as f64)).draw()
    }

    /// `chart` with a point for every trial at the place that `x` says.
    fn with_trials(&self, mut chart: Chart, x: impl Fn(&Trial) -> Option<f64>) -> Chart {
        let longest = self.longest();
        let points = |wanted: &dyn Fn(&Trial) -> bool| -> Vec<Point> {
            let point = |trial: &Trial| {
                let title = format!("trial {}: {:.2} % after {} epochs", trial.number, trial.top1, trial.epochs);
                Some(Point { x: x(trial)?, y: trial.top1, title, label: String::new() })
            };
            self.trials.iter().filter(|trial| wanted(trial)).filter_map(point).collect()
        };
        let series = [
            ("stopped before", Paint::Muted, points(&|trial| trial.epochs < longest)),
            (
                "trained the longest",
                Paint::Series(0),
                points(&|trial| trial.epochs == longest && trial.number != self.best),
            ),
            ("best", Paint::Series(2), points(&|trial| trial.number == self.best)),
        ];
        for (name, paint, points) in series {
            if !points.is_empty() {
                chart = chart.with(Series::points(name, paint, points));
            }
        }
        chart
    }

    fn longest(&self) -> u64 {
        self.trials.iter().map(|trial| trial.epochs).max().unwrap_or(0)
    }

    fn importance(&self) -> Option<Svg> {
        let bar = |setting: &Searched| {
            let value = setting.importance?;
            let text = format!("{:.0} %", 100.0 * value);
            Some(Bar { name: setting.name.clone(), value, text, paint: Paint::Series(0), ..Bar::default() })
        };
        let mut bars: Vec<Bar> = self.settings.iter().map(bar).collect::<Option<_>>()?;
        bars.sort_by(|a, b| b.value.total_cmp(&a.value));
        Some(BarChart::new("Importance", bars).draw())
    }

    /// Accuracy against the values of a setting: numbers, or names in the order of their best accuracy. `None` where there are no two
    /// values to compare: the setting had no effect, or the same value, in all trials.
    fn slice(&self, setting: usize) -> Result<Option<Svg>, ReportError> {
        let Searched { name, is_logarithmic, .. } = &self.settings[setting];
        let values: BTreeSet<&str> =
            self.trials.iter().filter_map(|trial| trial.values.get(setting)?.as_deref()).collect();
        if values.len() < 2 {
            return Ok(None);
        }
        let value = |trial: &Trial| trial.values.get(setting).cloned().flatten();
        let numbers: Option<Vec<f64>> = self.trials.iter().filter_map(value).map(|value| value.parse().ok()).collect();
        if numbers.is_some() {
            let axis = Axis::new(name);
            let axis = if *is_logarithmic { axis.logarithmic() } else { axis };
            let chart = Chart::new(format!("Accuracy by {name}"), axis, Axis::new("top-1 in %"));
            return match self.with_trials(chart, |trial| value(trial)?.parse().ok()).draw() {
                // None of the values has a place on the axis.
                Err(ReportError::Empty { .. }) => Ok(None),
                drawn => drawn.map(Some),
            };
        }
        let longest = self.longest();
        let mut bars: Vec<Bar> = Vec::new();
        for trial in self.trials.iter().filter(|trial| trial.epochs == longest) {
            let Some(name) = value(trial) else { continue };
            match bars.iter_mut().find(|bar| bar.name == name) {
                Some(bar) => bar.value = bar.value.max(trial.top1),
                None => bars.push(Bar { name, value: trial.top1, paint: Paint::Series(0), ..Bar::default() }),
            }
        }
        bars.iter_mut().for_each(|bar| bar.text = format!("{:.2} %", bar.value));
        bars.sort_by(|a, b| b.value.total_cmp(&a.value));
        Ok((bars.len() > 1).then(|| BarChart::new(format!("Best accuracy by {name}"), bars).draw()))
    }

    fn table(&self) -> String {
        let row = |trial: &Trial| {
            let mut cells = vec![
                Cell::number(trial.number as f64, trial.number.to_string()),
                Cell::number(trial.epochs as f64, trial.epochs.to_string()),
                Cell::number(trial.top1, format!("{:.2}", trial.top1)),
            ];
            cells.extend(trial.values.iter().map(|value| match value {
                None => Cell::text("–"),
                Some(text) => text.parse().map_or_else(|_| Cell::text(text), |number| Cell::number(number, text)),
            }));
            cells
        };
        let names = self.settings.iter().map(|setting| setting.name.as_str());
        let head: Vec<&str> = ["trial", "epochs", "top-1 %"].into_iter().chain(names).collect();
        table("Trials and their settings", &head, &self.trials.iter().map(row).collect::<Vec<_>>(), true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tuning() -> Tuning {
        let trial = |number: usize, epochs, top1, lr: &str, sched: Option<&str>| Trial {
            number,
            epochs,
            top1,
            values: vec![Some(lr.into()), sched.map(str::to_owned)],
        };
        let setting =
            |name: &str, is_logarithmic, share| Searched { name: name.into(), is_logarithmic, importance: Some(share) };
        Tuning {
            title: "Settings of <cifar>".into(),
            notes: vec!["Judged on held-out images".into()],
            settings: vec![setting("lr", true, 0.75), setting("sched", false, 0.25)],
            trials: vec![
                trial(0, 1, 40.0, "0.001", Some("cosine")),
                trial(1, 3, 71.0, "0.1", Some("linear")),
                trial(2, 3, 75.5, "0.0316", None),
                trial(3, 3, 75.0, "0.05", Some("cosine")),
            ],
            best: 2,
        }
    }

    #[test]
    fn the_page_names_every_trial_setting_and_importance() {
        let page = tuning().html(&[("next", "Next", "<p>train</p>".into())]).unwrap();
        for text in
            ["Settings of &lt;cifar&gt;", "trial 3: 75.00 % after 3 epochs", "75 %", "0.0316", "cosine", "train"]
        {
            assert!(page.contains(text), "{text}");
        }
        for title in ["Accuracy trial by trial", "Importance", "Accuracy by lr", "Best accuracy by sched"] {
            assert!(page.contains(title), "{title}");
        }
        // The trial without the setting, and the one that was stopped, decide nothing about it.
        let slice = tuning().slice(1).unwrap().unwrap().to_svg();
        assert!(slice.contains("71.00 %") && slice.contains("75.00 %") && !slice.contains("40.00"), "{slice}");
    }

    #[test]
    fn a_setting_without_effect_or_with_one_value_has_no_chart() {
        for (lr, sched) in [(None, None), (Some("0.1"), Some("cosine"))] {
            let mut tuning = tuning();
            tuning
                .trials
                .iter_mut()
                .for_each(|trial| trial.values = vec![lr.map(str::to_owned), sched.map(str::to_owned)]);
            let page = tuning.html(&[]).unwrap();
            assert!(!page.contains("Accuracy by lr") && !page.contains("accuracy by sched"), "{lr:?}");
            assert!(page.contains("No setting has two values"));
        }
        // A logarithmic axis has no place for zero.
        let mut tuning = tuning();
        tuning.trials.iter_mut().for_each(|trial| trial.values[0] = Some(["0", "0.0"][trial.number % 2].into()));
        assert!(tuning.slice(0).unwrap().is_none() && tuning.slice(1).unwrap().is_some());
        // Only the trial that was stopped has another schedule.
        tuning.trials[1].values[1] = Some("cosine".into());
        tuning.trials[0].values[1] = Some("linear".into());
        assert!(tuning.slice(1).unwrap().is_none());
    }

    #[test]
    fn an_unknown_importance_is_said() {
        let mut tuning = tuning();
        tuning.settings[1].importance = None;
        assert!(tuning.html(&[]).unwrap().contains("fewer than ten trials"));
    }
}
