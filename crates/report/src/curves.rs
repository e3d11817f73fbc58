//! Curves of a training run: loss, accuracy, learning rate, throughput and gradient flow.

use crate::{Axis, Chart, Paint, Series, Svg};
use residual_train::{GradientRow, Record, Row, StepRow};

/// A line has at most so many points; of more, the means of equal parts are drawn.
const POINTS: usize = 250;

/// A run in a comparison, or the only one of a page.
pub(crate) struct Curves<'a> {
    /// Its name in legends; empty for the only run of a page.
    pub(crate) name: String,
    pub(crate) record: &'a Record,
    pub(crate) steps: &'a [StepRow],
}

/// The charts of runs, whose lines lie over each other; those that no run has values for are left out.
pub(crate) fn charts(runs: &[Curves<'_>]) -> Vec<(&'static str, Svg)> {
    let charts = [("loss", loss(runs)), ("accuracy", accuracy(runs)), ("learning-rate", learning_rate(runs))];
    charts.into_iter().filter_map(|(name, chart)| Some((name, chart.draw().ok()?))).collect()
}

/// The epoch after `step` steps, with the part of it that is done; rows are the ends of epochs.
fn epoch_of(step: u64, rows: &[Row]) -> f64 {
    let epoch = rows.iter().position(|row| step <= row.step).unwrap_or(rows.len());
    let begin = epoch.checked_sub(1).map_or(0, |before| rows[before].step);
    // An epoch without an end has the length of the one before it.
    let length = match (rows.get(epoch), epoch.checked_sub(1)) {
        (Some(row), _) => row.step - begin,
        (None, Some(last)) => begin - last.checked_sub(1).map_or(0, |before| rows[before].step),
        (None, None) => 1,
    };
    epoch as f64 + (step - begin) as f64 / length.max(1) as f64
}

/// A line's name and colour: of one run by what it shows, of several by the run.
fn line(runs: &[Curves<'_>], index: usize, what: &str, paint: usize, points: Vec<(f64, f64)>) -> Series {
    match runs.len() {
        1 => Series::line(what, Paint::Series(paint), points),
        _ => Series::line(format!("{} {what}", runs[index].name).trim_end(), Paint::Series(index), points),
    }
}

fn epoch_axis() -> Axis {
    Axis::new("epoch").whole()
}

fn loss(runs: &[Curves<'_>]) -> Chart {
    let mut chart = Chart::new("Loss", epoch_axis(), Axis::new("loss"));
    for (index, run) in runs.iter().enumerate() {
        let rows = &run.record.rows;
        if runs.len() == 1 {
            let steps: Vec<(f64, f64)> = run.steps.iter().map(|step| (epoch_of(step.step, rows), step.loss)).collect();
            chart = chart.with(line(runs, index, "of training steps", 5, thinned(&steps)));
        }
        let train = rows.iter().map(|row| (row.epoch as f64, row.train_loss)).collect();
        let held_out = rows.iter().filter_map(|row| Some((row.epoch as f64, row.loss?))).collect();
        chart = chart.with(line(runs, index, "training", 0, train).dashed());
        chart = chart.with(line(runs, index, "held out", 1, held_out));
    }
    marked_best(chart, runs)
}

fn accuracy(runs: &[Curves<'_>]) -> Chart {
    let mut chart = Chart::new("Top-1 accuracy", epoch_axis(), Axis::new("top-1 in %"));
    for (index, run) in runs.iter().enumerate() {
        let rows = &run.record.rows;
        let of = |value: fn(&Row) -> Option<f64>| -> Vec<(f64, f64)> {
            rows.iter().filter_map(|row| Some((row.epoch as f64, value(row)?))).collect()
        };
        chart = chart.with(line(runs, index, "training", 0, of(|row| Some(row.train_top1))).dashed());
        chart = chart.with(line(runs, index, "held out", 1, of(|row| row.top1)));
        let raw = of(|row| row.raw_top1);
        if !raw.is_empty() && runs.len() == 1 {
            chart = chart.with(line(runs, index, "held out, without averaging", 2, raw));
        }
    }
    marked_best(chart, runs)
}

/// With the best epoch of the only run.
fn marked_best(chart: Chart, runs: &[Curves<'_>]) -> Chart {
    match runs {
        [run] => match run.record.best() {
            Some(best) => chart.with(
                Series::vertical(format!("best epoch: {}", best.epoch), Paint::Muted, best.epoch as f64).dashed(),
            ),
            None => chart,
        },
        _ => chart,
    }
}

fn learning_rate(runs: &[Curves<'_>]) -> Chart {
    let mut chart =
        Chart::new("Learning rate", Axis::new("step").whole(), Axis::new("learning rate").between(0.0, 0.0));
    for (index, run) in runs.iter().enumerate() {
        let points: Vec<(f64, f64)> = run.steps.iter().map(|step| (step.step as f64, step.lr)).collect();
        chart = chart.with(line(runs, index, "", 0, thinned(&points)));
    }
    chart
}

/// The speed of training; `None` if no epoch was finished.
pub(crate) fn throughput(runs: &[Curves<'_>]) -> Option<Svg> {
    let axis = Axis::new("images per second").between(0.0, 0.0);
    let mut chart = Chart::new("Training speed", epoch_axis(), axis);
    for (index, run) in runs.iter().enumerate() {
        let of = |row: &Row| Some((row.epoch as f64, row.images_per_second?));
        chart = chart.with(line(runs, index, "", 3, run.record.rows.iter().filter_map(of).collect()));
    }
    chart.draw().ok()
}

/// The mean |gradient| and the update ratio of each layer at some recorded steps, on logarithmic axes: the first, the last, and
/// three between.
pub(crate) fn gradient_flow(rows: &[GradientRow]) -> Vec<(&'static str, Svg)> {
    let Some(last) = rows.len().checked_sub(1) else { return Vec::new() };
    let mut chosen: Vec<usize> = (0..5).map(|part| part * last / 4).collect();
    chosen.dedup();
    let axis = |label: &str| Axis::new(label).logarithmic();
    let layers = || Axis::new("layer, from the input").whole();
    let mut mean = Chart::new("Mean |gradient| by layer", layers(), axis("mean |gradient|"));
    let mut max = Chart::new("Maximum |gradient| by layer", layers(), axis("maximum |gradient|"));
    let mut ratio = Chart::new("Update ratio by layer", layers(), axis("|update| / |weight|"));
    for (colour, &index) in chosen.iter().enumerate() {
        let row = &rows[index];
        let of = |value: fn(&residual_train::LayerGradient) -> Option<f64>| -> Series {
            let layers = row.layers.iter().enumerate();
            let points = layers.filter_map(|(layer, flow)| Some((layer as f64 + 1.0, value(flow)?)));
            Series::line(format!("step {}", row.step), Paint::Series(colour), points.collect())
        };
        mean = mean.with(of(|layer| layer.mean));
        max = max.with(of(|layer| layer.max));
        ratio = ratio.with(of(|layer| layer.update_ratio));
    }
    let usual = |value| Series::horizontal("usual: 0.001", Paint::Muted, value).dashed();
    let charts = [("gradient-mean", mean), ("gradient-max", max), ("update-ratio", ratio.with(usual(1e-3)))];
    charts.into_iter().filter_map(|(name, chart)| Some((name, chart.draw().ok()?))).collect()
}

/// At most [`POINTS`] points: the means of equal parts of the points.
fn thinned(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    if points.len() <= POINTS {
        return points.to_vec();
    }
    let part = |index: usize| {
        let part = &points[index * points.len() / POINTS..(index + 1) * points.len() / POINTS];
        let mean = |value: fn(&(f64, f64)) -> f64| part.iter().map(value).sum::<f64>() / part.len() as f64;
        (mean(|point| point.0), mean(|point| point.1))
    };
    (0..POINTS).map(part).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_placed_between_the_ends_of_epochs() {
        let row = |epoch, step| Row {
            epoch,
            step,
            train_loss: 0.0,
            train_top1: 0.0,
            top5: None,
            loss: None,
            top1: None,
            raw_top1: None,
            images_per_second: None,
            seconds: 0.0,
        };
        let rows = [row(1, 80), row(2, 100)];
        let places = [1, 40, 80, 90, 100, 110].map(|step| epoch_of(step, &rows));
        assert_eq!(places, [1.0 / 80.0, 0.5, 1.0, 1.5, 2.0, 2.5]);
    }

    #[test]
    fn thinned_lines_keep_their_mean() {
        let points: Vec<(f64, f64)> = (0..10_000).map(|step| (f64::from(step), f64::from(step % 7))).collect();
        let thin = thinned(&points);
        assert_eq!(thin.len(), POINTS);
        let mean = |points: &[(f64, f64)]| points.iter().map(|point| point.1).sum::<f64>() / points.len() as f64;
        assert!((mean(&points) - mean(&thin)).abs() < 1e-9);
        assert_eq!(thinned(&points[..9]), points[..9]);
    }
}
