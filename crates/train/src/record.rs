//! Runs read back from their folders, and comparisons of them.

use crate::{EvalMetric, GradientRow, Layer, Recipe, Resume, RunFolder, SETTINGS, Schedule, TrainError};
use residual_files::read_text;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::path::Path;

/// Maximum size of a `metrics.csv`, an `events.jsonl` or a `gradients.jsonl` in bytes.
const MAX_BYTES: u64 = 1 << 28;

/// A run as its folder describes it.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// The folder.
    pub folder: RunFolder,
    /// The resolved recipe.
    pub recipe: Recipe,
    /// The rows of `metrics.csv`.
    pub rows: Vec<Row>,
}

/// A row of `metrics.csv`; what was not evaluated is `None`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Row {
    /// The epoch, from 1.
    pub epoch: u64,
    /// Steps taken by its end.
    pub step: u64,
    /// Mean loss of the training images.
    pub train_loss: f64,
    /// Top-1 accuracy on the training images as they were trained on, in percent.
    pub train_top1: f64,
    /// Mean loss of the held-out images.
    pub loss: Option<f64>,
    /// Top-1 accuracy on the held-out images, in percent.
    pub top1: Option<f64>,
    /// Top-5 accuracy on the held-out images, in percent.
    pub top5: Option<f64>,
    /// Top-1 accuracy of the weights without averaging, if they are averaged.
    pub raw_top1: Option<f64>,
    /// Training images per second; `None` in tables without that column.
    pub images_per_second: Option<f64>,
    /// Seconds since the start of the run.
    pub seconds: f64,
}

impl Record {
    /// Reads the run in `folder`.
    ///
    /// # Errors
    /// If it is no run folder, or its recipe or metrics are invalid.
    pub fn read(folder: &Path) -> Result<Self, TrainError> {
        let folder = RunFolder::open(folder)?;
        let recipe = Recipe::resolve(&[Layer::run(&folder.config())?])?.recipe;
        let path = folder.metrics();
        let text = if path.exists() { read_text(&path, MAX_BYTES)? } else { String::new() };
        let rows = rows(&text).map_err(|(line, got)| TrainError::State {
            path,
            what: format!("line {line}"),
            expected: "a row of metrics".into(),
            got,
        })?;
        Ok(Self { folder, recipe, rows })
    }

    /// The runs in the folder `runs`, by their numbers; folders that are no runs are ignored.
    ///
    /// # Errors
    /// If the folder cannot be read, or a run's files are invalid.
    pub fn list(runs: &Path) -> Result<Vec<Self>, TrainError> {
        let mut folders = Vec::new();
        for entry in std::fs::read_dir(runs).map_err(TrainError::io(runs))? {
            let path = entry.map_err(TrainError::io(runs))?.path();
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            let number: u64 = name.split('-').next().and_then(|number| number.parse().ok()).unwrap_or(u64::MAX);
            if path.join("config.toml").is_file() {
                folders.push((number, path));
            }
        }
        folders.sort();
        folders.iter().map(|(_, path)| Self::read(path)).collect()
    }

    /// The logged steps.
    ///
    /// # Errors
    /// If `events.jsonl` cannot be read, or a line of it is none.
    pub fn steps(&self) -> Result<Vec<StepRow>, TrainError> {
        json_lines(&self.folder.events(), "a logged step")
    }

    /// The recorded gradients; none if the run records none.
    ///
    /// # Errors
    /// If `gradients.jsonl` cannot be read, or a line of it is none.
    pub fn gradients(&self) -> Result<Vec<GradientRow>, TrainError> {
        json_lines(&self.folder.gradients(), "a recorded step")
    }

    /// The last row.
    pub fn last(&self) -> Option<&Row> {
        self.rows.last()
    }

    /// The best row by the recipe's `eval_metric`; of equal ones that with the lower loss.
    pub fn best(&self) -> Option<&Row> {
        let key = |row: &Row| {
            let by = match self.recipe.eval_metric {
                EvalMetric::Top1 => row.top1,
                EvalMetric::Top5 => row.top5,
                EvalMetric::Loss => None,
            };
            (by, row.loss.map(|loss| -loss))
        };
        self.rows.iter().filter(|row| row.top1.is_some()).fold(None, |best: Option<&Row>, row| match best {
            Some(best) if key(best) >= key(row) => Some(best),
            _ => Some(row),
        })
    }

    /// The planned number of epochs; `None` before the first has ended.
    pub fn planned_epochs(&self) -> Option<u64> {
        let first = self.rows.first()?;
        let epoch_steps = first.step.max(1);
        Some(Schedule::new(&self.recipe, epoch_steps).total_steps().div_ceil(epoch_steps))
    }

    /// The settings that determine the result, without the seed: a name and a value in TOML for each that has an effect.
    fn method(&self) -> Vec<(&'static str, String)> {
        self.settings(|name, resume| name != "seed" && resume == Resume::Fixed || resume == Resume::Length)
    }

    fn settings(&self, wanted: impl Fn(&str, Resume) -> bool) -> Vec<(&'static str, String)> {
        let of = SETTINGS.iter().filter(|setting| wanted(setting.name, setting.resume));
        let of = of.filter(|setting| setting.applies.holds(&self.recipe));
        of.filter_map(|setting| Some((setting.name, self.recipe.value(setting.name)?.to_string()))).collect()
    }
}

/// The rows after the header, whose columns are found by name; or the line, from 1, that is none, and what it is.
fn rows(text: &str) -> Result<Vec<Row>, (usize, String)> {
    let mut lines = text.lines().enumerate();
    let Some((_, header)) = lines.next() else { return Ok(Vec::new()) };
    let place = |name: &str| header.split(',').position(|column| column == name);
    let column = |name: &str| place(name).ok_or((1, format!("no {name}")));
    let [top5, raw_top1, images_per_second] = ["top5", "raw_top1", "images_per_second"].map(place);
    let [epoch, step, train_loss, train_top1, loss, top1, seconds] =
        ["epoch", "step", "train_loss", "train_top1", "loss", "top1", "seconds"].map(column);
    let [epoch, step, train_loss, train_top1, loss, top1, seconds] =
        [epoch?, step?, train_loss?, train_top1?, loss?, top1?, seconds?];
    lines
        .map(|(number, line)| {
            let cells: Vec<&str> = line.split(',').collect();
            let fail = |at: usize| (number + 1, format!("{:?}", cells.get(at).unwrap_or(&"")));
            let float = |at: usize| cells.get(at).and_then(|cell| cell.parse::<f64>().ok()).ok_or_else(|| fail(at));
            let whole = |at: usize| cells.get(at).and_then(|cell| cell.parse::<u64>().ok()).ok_or_else(|| fail(at));
            let optional = |at: usize| if cells.get(at) == Some(&"") { Ok(None) } else { float(at).map(Some) };
            let extra = |at: Option<usize>| at.map_or(Ok(None), optional);
            Ok(Row {
                epoch: whole(epoch)?,
                step: whole(step)?,
                train_loss: float(train_loss)?,
                train_top1: float(train_top1)?,
                loss: optional(loss)?,
                top1: optional(top1)?,
                top5: extra(top5)?,
                raw_top1: extra(raw_top1)?,
                images_per_second: extra(images_per_second)?,
                seconds: float(seconds)?,
            })
        })
        .collect()
}

/// A logged step, a line of `events.jsonl`.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
pub struct StepRow {
    /// Its number, from 1.
    pub step: u64,
    /// Its epoch, from 1.
    pub epoch: u64,
    /// Mean loss of its images.
    pub loss: f64,
    /// The learning rate it used.
    pub lr: f64,
    /// Images per second of this step.
    pub images_per_second: f64,
}

/// The objects in the lines of a file; none if there is no file.
fn json_lines<T: DeserializeOwned>(path: &Path, expected: &str) -> Result<Vec<T>, TrainError> {
    let text = if path.exists() { read_text(path, MAX_BYTES)? } else { String::new() };
    let read = |(index, line): (usize, &str)| {
        serde_json::from_str(line).map_err(|error| TrainError::State {
            path: path.to_path_buf(),
            what: format!("line {}", index + 1),
            expected: expected.to_owned(),
            got: error.to_string(),
        })
    };
    text.lines().enumerate().map(read).collect()
}

/// The settings in which runs differ, in the order of the recipe: for each run a value in TOML, `None` where the setting
/// has no value or no effect.
pub fn differences(runs: &[Record]) -> Vec<(&'static str, Vec<Option<String>>)> {
    let settings: Vec<_> = runs.iter().map(|run| run.settings(|_, _| true)).collect();
    let value = |settings: &[(&str, String)], name: &str| {
        settings.iter().find(|(each, _)| *each == name).map(|(_, value)| value.clone())
    };
    let of = |name| settings.iter().map(|settings| value(settings, name)).collect::<Vec<_>>();
    let rows = SETTINGS.iter().map(|setting| (setting.name, of(setting.name)));
    rows.filter(|(_, values)| values.iter().any(|value| *value != values[0])).collect()
}

/// Mean and sample standard deviation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// Number of values.
    pub count: usize,
    /// Their mean.
    pub mean: f64,
    /// Their sample standard deviation; `None` of a single value.
    pub sd: Option<f64>,
}

impl Spread {
    /// The spread of `values`; `None` if there are none.
    pub fn of(values: &[f64]) -> Option<Self> {
        let count = values.len();
        let mean = values.iter().sum::<f64>() / count as f64;
        let squares: f64 = values.iter().map(|value| (value - mean) * (value - mean)).sum();
        let sd = (count > 1).then(|| (squares / (count - 1) as f64).sqrt());
        (count > 0).then_some(Self { count, mean, sd })
    }

    /// Half the width of the 95 % confidence interval of the mean, by Student's t distribution.
    pub fn half_width(&self) -> Option<f64> {
        Some(self.sd? * t_95(self.count - 1) / (self.count as f64).sqrt())
    }
}

/// The 97.5 % quantile of Student's t distribution.
fn t_95(degrees: usize) -> f64 {
    const TABLE: [f64; 30] = [
        12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131,
        2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
    ];
    let n = degrees as f64;
    // The first terms of its expansion around the normal distribution's.
    TABLE.get(degrees - 1).copied().unwrap_or(1.959_964 + 2.372 / n + 2.82 / (n * n))
}

/// A comparison of two recipes over runs with the same seeds.
#[derive(Clone, Debug, PartialEq)]
pub struct Paired {
    /// The seeds that both have.
    pub seeds: Vec<u64>,
    /// The last top-1 of the first and of the second recipe.
    pub top1: [Spread; 2],
    /// The second's minus the first's, seed by seed.
    pub difference: Spread,
}

/// Compares two recipes, if the runs are of exactly two (apart from their seeds) that have two or more seeds in common.
pub fn paired(runs: &[Record]) -> Option<Paired> {
    let mut groups: Vec<Vec<&Record>> = Vec::new();
    for run in runs {
        match groups.iter_mut().find(|group| group[0].method() == run.method()) {
            Some(group) => group.push(run),
            None => groups.push(vec![run]),
        }
    }
    let [first, second] = &groups[..] else { return None };
    let of = |group: &[&Record], seed: u64| {
        group.iter().find(|run| run.recipe.seed == seed).and_then(|run| run.last()?.top1)
    };
    let mut seeds: Vec<u64> = first.iter().map(|run| run.recipe.seed).collect();
    seeds.sort_unstable();
    seeds.dedup();
    let (mut common, mut values) = (Vec::new(), [Vec::new(), Vec::new()]);
    for seed in seeds {
        if let (Some(a), Some(b)) = (of(first, seed), of(second, seed)) {
            common.push(seed);
            values[0].push(a);
            values[1].push(b);
        }
    }
    let differences: Vec<f64> = values[0].iter().zip(&values[1]).map(|(a, b)| b - a).collect();
    let difference = Spread::of(&differences).filter(|spread| spread.count > 1)?;
    Some(Paired { seeds: common, top1: [Spread::of(&values[0])?, Spread::of(&values[1])?], difference })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `scipy.stats.t.ppf(0.975, n)` for n of 31, 60 and 1000.
    #[test]
    fn intervals_are_students() {
        for (degrees, expected) in [(1, 12.706), (31, 2.0395), (60, 2.0003), (1000, 1.9623)] {
            assert!((t_95(degrees) - expected).abs() < 5e-4, "{degrees}: {}", t_95(degrees));
        }
        // Of these differences `scipy.stats.ttest_1samp(d, 0).confidence_interval()` is (-0.0017767, 0.9351101).
        let spread = Spread::of(&[0.3, 0.5, 0.2, 0.8666666666666667]).unwrap();
        let half = spread.half_width().unwrap();
        assert!((spread.mean - 0.466_666_7).abs() < 1e-6);
        assert!((half - 0.468_443_4).abs() < 1e-4, "{half}");
        assert_eq!(Spread::of(&[]), None);
        assert_eq!(Spread::of(&[2.0]).unwrap().half_width(), None);
    }

    #[test]
    fn the_best_row_is_that_of_the_recipes_metric() {
        let header = "epoch,step,train_loss,train_top1,loss,top1,top5,seconds\n";
        let table = "1,1,1,1,0.9,50,90,1\n2,2,1,1,0.5,40,80,1\n3,3,1,1,0.7,45,95,1\n4,4,1,1,0.8,50,70,1\n";
        let folder = tempfile::tempdir().unwrap();
        for (metric, epoch) in [("top1", 4), ("top5", 3), ("loss", 2)] {
            let recipe = format!("data = \"shapes10\"\nepochs = 4\neval_metric = \"{metric}\"\n");
            std::fs::write(folder.path().join("config.toml"), recipe).unwrap();
            std::fs::write(folder.path().join("metrics.csv"), format!("{header}{table}")).unwrap();
            assert_eq!(Record::read(folder.path()).unwrap().best().unwrap().epoch, epoch, "{metric}");
        }
    }

    #[test]
    fn a_table_that_is_torn_or_of_another_program_is_refused_by_its_line() {
        assert_eq!(rows("").unwrap(), []);
        let good = "epoch,step,train_loss,train_top1,loss,top1,seconds\n1,10,2.5,30,,,1.5\n2,20,2.0,35,1.5,40,3\n";
        let read = rows(good).unwrap();
        assert_eq!((read[0].top1, read[1].top1, read[1].step), (None, Some(40.0), 20));
        assert_eq!(rows(&format!("{good}3,3")).unwrap_err(), (4, "\"\"".into()));
        assert_eq!(rows("epoch,step\n1,2").unwrap_err(), (1, "no train_loss".into()));
        assert_eq!(rows(&good.replace("20,", "x,")).unwrap_err(), (3, "\"x\"".into()));
    }
}
