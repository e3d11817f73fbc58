//! A linear probe: multinomial logistic regression, and what it says of rows that it was not trained on.

use residual_engine::Options;
use residual_tensor::Stream;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

/// The number of folds.
pub(crate) const FOLDS: usize = 5;
/// Parts of the rows whose gradients are summed one after another, so that the sum does not depend on the number of threads.
const PARTS: usize = 32;
/// Steps and their gradients that the next direction is made of.
const MEMORY: usize = 8;
const MOST_STEPS: usize = 80;
/// Of the gradient, for the mean loss of a row.
const TOLERANCE: f64 = 1e-4;
/// Salt of the folds' random numbers.
const FOLD: u64 = u64::from_be_bytes(*b"probfold");

/// Rows of features with their labels.
pub(crate) struct Rows {
    /// Rows × features.
    pub(crate) values: Vec<f32>,
    pub(crate) features: usize,
    pub(crate) labels: Vec<u32>,
    pub(crate) classes: usize,
}

impl Rows {
    pub(crate) fn len(&self) -> usize {
        self.labels.len()
    }

    fn row(&self, index: usize) -> &[f32] {
        &self.values[index * self.features..][..self.features]
    }

    /// Shifts and scales each feature to mean 0 and variance 1 / features, so that the length of a row does not depend on their number.
    pub(crate) fn standardise(&mut self) {
        let count = self.len().max(1) as f64;
        let (mut means, mut squares) = (vec![0.0f64; self.features], vec![0.0f64; self.features]);
        for row in self.values.chunks_exact(self.features) {
            for ((mean, square), &value) in means.iter_mut().zip(&mut squares).zip(row) {
                *mean += f64::from(value) / count;
                *square += f64::from(value) * f64::from(value) / count;
            }
        }
        let scales: Vec<f64> = means
            .iter()
            .zip(&squares)
            .map(|(mean, square)| {
                let variance = square - mean * mean;
                // A feature that hardly varies has nothing to say.
                if variance > 1e-9 * (1.0 + square) { 1.0 / (variance * self.features as f64).sqrt() } else { 0.0 }
            })
            .collect();
        for row in self.values.chunks_exact_mut(self.features) {
            for ((value, mean), scale) in row.iter_mut().zip(&means).zip(&scales) {
                *value = ((f64::from(*value) - mean) * scale) as f32;
            }
        }
    }
}

/// The probabilities of every row's classes (rows × classes) by a probe that was trained on the other folds; a fold has its share of
/// each class. `None` if `stop` was set.
pub(crate) fn out_of_fold(
    rows: &Rows,
    seed: u64,
    options: &Options,
    stop: &AtomicBool,
    on_fold: &mut dyn FnMut(usize),
) -> Option<Vec<f32>> {
    let folds = folds(rows, seed);
    let mut probabilities = vec![0.0; rows.len() * rows.classes];
    for fold in 0..FOLDS {
        on_fold(fold);
        let trained_on: Vec<usize> = (0..rows.len()).filter(|&row| folds[row] != fold).collect();
        let probe = Probe::train(rows, &trained_on, options, stop)?;
        for row in (0..rows.len()).filter(|&row| folds[row] == fold) {
            let output = &mut probabilities[row * rows.classes..][..rows.classes];
            probe.logits(rows.row(row), output);
            softmax(output);
        }
    }
    on_fold(FOLDS);
    Some(probabilities)
}

/// The share of rows whose label is the most probable class.
pub(crate) fn accuracy(probabilities: &[f32], labels: &[u32], classes: usize) -> f64 {
    let right = probabilities.chunks_exact(classes).zip(labels).filter(|(row, label)| highest(row) == **label as usize);
    right.count() as f64 / labels.len().max(1) as f64
}

/// The place of the highest value, the first of equal ones.
pub(crate) fn highest(row: &[f32]) -> usize {
    (1..row.len()).fold(0, |best, at| if row[at] > row[best] { at } else { best })
}

/// The fold of each row.
fn folds(rows: &Rows, seed: u64) -> Vec<usize> {
    let mut members = vec![Vec::new(); rows.classes];
    rows.labels.iter().enumerate().for_each(|(row, &label)| members[label as usize].push(row));
    let (mut folds, mut next) = (vec![0; rows.len()], 0);
    for (class, members) in members.iter_mut().enumerate() {
        Stream::new(seed, &[FOLD, class as u64]).shuffle(members);
        for &row in &*members {
            folds[row] = next % FOLDS;
            next += 1;
        }
    }
    folds
}

/// The weights of each class, then its bias.
struct Probe {
    values: Vec<f32>,
    features: usize,
    classes: usize,
}

/// A loss and its gradient.
struct Loss {
    value: f64,
    gradient: Vec<f32>,
}

impl Probe {
    /// Minimises the mean cross-entropy plus ½ ‖weights‖² / rows, which is scikit-learn's `LogisticRegression(C=1)`, by L-BFGS (Nocedal and
    /// Wright, "Numerical Optimization", algorithm 7.5).
    fn train(rows: &Rows, trained_on: &[usize], options: &Options, stop: &AtomicBool) -> Option<Self> {
        let (features, classes) = (rows.features, rows.classes);
        let mut probe = Self { values: vec![0.0; classes * (features + 1)], features, classes };
        let mut loss = probe.loss(rows, trained_on, options);
        let mut history: Vec<(Vec<f32>, Vec<f32>, f64)> = Vec::new();
        for _ in 0..MOST_STEPS {
            if stop.load(Ordering::Relaxed) {
                return None;
            }
            if loss.gradient.iter().all(|&value| f64::from(value.abs()) < TOLERANCE) {
                break;
            }
            let direction = direction(&loss.gradient, &history);
            let slope = dot(&direction, &loss.gradient);
            let mut rate = if history.is_empty() { 1.0 / dot(&direction, &direction).sqrt().max(1.0) } else { 1.0 };
            let (next, after) = loop {
                let step = |(value, direction): (&f32, &f32)| value + rate as f32 * direction;
                let values = probe.values.iter().zip(&direction).map(step).collect();
                let next = Self { values, features, classes };
                let after = next.loss(rows, trained_on, options);
                // Armijo's condition; the loss is convex, so that a small enough step meets it.
                if after.value <= loss.value + 1e-4 * rate * slope || rate < 1e-8 {
                    break (next, after);
                }
                rate /= 2.0;
            };
            let difference = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a - b).collect::<Vec<f32>>();
            let step = difference(&next.values, &probe.values);
            let change = difference(&after.gradient, &loss.gradient);
            let curvature = dot(&step, &change);
            (probe, loss) = (next, after);
            if curvature > 1e-12 {
                if history.len() == MEMORY {
                    history.remove(0);
                }
                history.push((step, change, curvature));
            }
        }
        Some(probe)
    }

    fn weights(&self, class: usize) -> (&[f32], f32) {
        let (weights, bias) = self.values[class * (self.features + 1)..][..self.features + 1].split_at(self.features);
        (weights, bias[0])
    }

    fn logits(&self, row: &[f32], logits: &mut [f32]) {
        for (class, logit) in logits.iter_mut().enumerate() {
            let (weights, bias) = self.weights(class);
            *logit = dot_f32(row, weights) + bias;
        }
    }

    fn loss(&self, rows: &Rows, trained_on: &[usize], options: &Options) -> Loss {
        let count = trained_on.len() as f64;
        let part_len = trained_on.len().div_ceil(PARTS).max(1);
        let parts: Vec<&[usize]> = trained_on.chunks(part_len).collect();
        let sums: Vec<Mutex<Loss>> =
            parts.iter().map(|_| Mutex::new(Loss { value: 0.0, gradient: Vec::new() })).collect();
        options.pool.run(parts.len(), |part, _| {
            *sums[part].lock().expect("no task panics") = self.partial_loss(rows, parts[part]);
        });
        let mut total = Loss { value: 0.0, gradient: vec![0.0; self.values.len()] };
        for sum in sums {
            let sum = sum.into_inner().expect("no task panics");
            total.value += sum.value;
            total.gradient.iter_mut().zip(&sum.gradient).for_each(|(total, &value)| *total += value);
        }
        total.value /= count;
        total.gradient.iter_mut().for_each(|value| *value /= count as f32);
        for class in 0..self.classes {
            let (weights, _) = self.weights(class);
            total.value += dot(weights, weights) / (2.0 * count);
            let gradient = &mut total.gradient[class * (self.features + 1)..][..self.features];
            gradient.iter_mut().zip(weights).for_each(|(gradient, &weight)| *gradient += weight / count as f32);
        }
        total
    }

    /// The sum over some rows, without the penalty.
    fn partial_loss(&self, rows: &Rows, trained_on: &[usize]) -> Loss {
        let mut loss = Loss { value: 0.0, gradient: vec![0.0; self.values.len()] };
        let mut output = vec![0.0; self.classes];
        for &index in trained_on {
            let (row, label) = (rows.row(index), rows.labels[index] as usize);
            self.logits(row, &mut output);
            softmax(&mut output);
            loss.value -= f64::from(output[label].max(f32::MIN_POSITIVE)).ln();
            output[label] -= 1.0;
            for (&error, gradient) in output.iter().zip(loss.gradient.chunks_exact_mut(self.features + 1)) {
                let (gradient, bias) = gradient.split_at_mut(self.features);
                gradient.iter_mut().zip(row).for_each(|(gradient, &value)| *gradient += error * value);
                bias[0] += error;
            }
        }
        loss
    }
}

/// The quasi-Newton direction of descent.
fn direction(gradient: &[f32], history: &[(Vec<f32>, Vec<f32>, f64)]) -> Vec<f32> {
    let mut direction: Vec<f32> = gradient.iter().map(|value| -value).collect();
    let mut shares = Vec::with_capacity(history.len());
    let add = |to: &mut [f32], scale: f64, from: &[f32]| {
        to.iter_mut().zip(from).for_each(|(to, &from)| *to += scale as f32 * from);
    };
    for (step, change, curvature) in history.iter().rev() {
        let share = dot(step, &direction) / curvature;
        add(&mut direction, -share, change);
        shares.push(share);
    }
    if let Some((_, change, curvature)) = history.last() {
        let scale = (curvature / dot(change, change)) as f32;
        direction.iter_mut().for_each(|value| *value *= scale);
    }
    for ((step, change, curvature), share) in history.iter().zip(shares.into_iter().rev()) {
        let scale = share - dot(change, &direction) / curvature;
        add(&mut direction, scale, step);
    }
    direction
}

fn softmax(logits: &mut [f32]) {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    logits.iter_mut().for_each(|value| *value = (*value - largest).exp());
    let sum: f32 = logits.iter().sum();
    logits.iter_mut().for_each(|value| *value /= sum);
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
}

/// The product in eight independent sums, which the compiler turns into vectors.
fn dot_f32(a: &[f32], b: &[f32]) -> f32 {
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<8>(), b.as_chunks::<8>());
    let mut sums = [0.0; 8];
    for (a, b) in a.iter().zip(b) {
        for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
            *sum += a * b;
        }
    }
    sums.iter().sum::<f32>() + a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum::<f32>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(serde::Deserialize)]
    struct Golden {
        values: Vec<f32>,
        labels: Vec<u32>,
        features: usize,
        classes: usize,
        probabilities: Vec<f32>,
    }

    #[test]
    fn the_probe_is_scikit_learns_logistic_regression() {
        let golden: Golden = serde_json::from_str(include_str!("../tests/golden/probe.json")).unwrap();
        let Golden { values, labels, features, classes, probabilities } = golden;
        let mut rows = Rows { values, labels, features, classes };
        rows.standardise();
        let all: Vec<usize> = (0..rows.len()).collect();
        for threads in [1, 3] {
            let probe = Probe::train(&rows, &all, &Options::threads(threads), &AtomicBool::new(false)).unwrap();
            for (index, expected) in probabilities.chunks_exact(classes).enumerate() {
                let mut output = vec![0.0; classes];
                probe.logits(rows.row(index), &mut output);
                softmax(&mut output);
                let worst = output.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                assert!(worst < 2e-3, "row {index}: {output:?}, {expected:?}");
            }
        }
    }

    #[test]
    fn a_row_is_judged_by_a_probe_that_has_not_seen_it() {
        // Labels at random: a probe that had seen a row would know it, as there are as many features as rows.
        let mut random = Stream::new(5, &[]);
        let (count, features) = (100, 100);
        let mut rows = Rows {
            values: (0..count * features).map(|_| random.normal()).collect(),
            labels: (0..count).map(|_| random.below(2)).collect(),
            features,
            classes: 2,
        };
        rows.standardise();
        let out = |threads| {
            let stop = AtomicBool::new(false);
            out_of_fold(&rows, 1, &Options::threads(threads), &stop, &mut |_| {}).unwrap()
        };
        let probabilities = out(1);
        let share = accuracy(&probabilities, &rows.labels, 2);
        assert!((0.3..0.7).contains(&share), "{share}");
        assert_eq!(out(2), probabilities);
        assert!(out_of_fold(&rows, 1, &Options::threads(1), &AtomicBool::new(true), &mut |_| {}).is_none());
    }

    #[test]
    fn each_fold_has_its_share_of_every_class() {
        let labels: Vec<u32> = (0..103).map(|row| u32::from(row % 10 == 0)).collect();
        let rows = Rows { values: vec![0.0; 103], features: 1, labels, classes: 2 };
        let folds = folds(&rows, 3);
        for fold in 0..FOLDS {
            let members = |class: u32| (0..103).filter(|&row| folds[row] == fold && rows.labels[row] == class).count();
            assert!((2..=3).contains(&members(1)) && (18..=19).contains(&members(0)), "{fold}");
        }
    }
}
