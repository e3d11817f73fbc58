//! Comparison of two models on the same images.

use super::bootstrap::{Run, resample};
use super::{ImageResult, Interval};
use serde::Serialize;

/// The top-1 accuracies of two models on the same images.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// The accuracy of the first minus that of the second, in percentage points.
    pub difference: f64,
    /// The 95 % confidence interval of the difference: percentile bootstrap over the images, 1000 resamples.
    pub interval: Interval,
    /// Images that only the first classifies correctly.
    pub only_first: u64,
    /// Images that only the second classifies correctly.
    pub only_second: u64,
    /// McNemar's exact test: the probability of a split of these images that is at least as uneven, if both models are
    /// equally good.
    pub p_value: f64,
}

/// Compares results of the same images, in the same order.
///
/// # Panics
/// If the images differ.
pub(crate) fn compare(first: &[ImageResult], second: &[ImageResult], run: Run<'_>) -> Comparison {
    let same = first.len() == second.len() && first.iter().zip(second).all(|(a, b)| a.index == b.index);
    assert!(same, "results of the same images");
    // 1 where only the first is right, −1 where only the second is.
    let differences: Vec<i8> =
        first.iter().zip(second).map(|(a, b)| i8::from(a.correct) - i8::from(b.correct)).collect();
    let percent = |sum: i64| 100.0 * sum as f64 / differences.len() as f64;
    let [interval] =
        resample(differences.len(), run, &|drawn| [percent(drawn.map(|image| i64::from(differences[image])).sum())]);
    let count = |value: i8| differences.iter().filter(|&&difference| difference == value).count() as u64;
    let (only_first, only_second) = (count(1), count(-1));
    Comparison {
        difference: percent(only_first as i64 - only_second as i64),
        interval,
        only_first,
        only_second,
        p_value: binomial_p_value(only_first, only_second),
    }
}

/// The two-sided exact test that `a` of `a + b` throws of a fair coin are heads.
fn binomial_p_value(a: u64, b: u64) -> f64 {
    let (throws, fewer) = (a + b, a.min(b));
    // Terms relative to that of `fewer` heads, which is the largest: others may be too small for a double.
    let mut term = 1.0;
    let mut sum = 1.0;
    for heads in (1..=fewer).rev() {
        term *= heads as f64 / (throws - heads + 1) as f64;
        sum += term;
        if term < 1e-17 * sum {
            break;
        }
    }
    let log_choose: f64 = (1..=fewer).map(|heads| ((throws - fewer + heads) as f64 / heads as f64).ln()).sum();
    let log_largest = log_choose - throws as f64 * std::f64::consts::LN_2;
    (2.0 * sum * log_largest.exp()).min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_test_is_the_one_of_scipy() {
        let golden: serde_json::Value =
            serde_json::from_str(include_str!("../../tests/golden/metrics.json")).expect("golden/metrics.py wrote it");
        for pair in golden["paired"].as_array().unwrap() {
            let count = |key: &str| pair[key].as_u64().unwrap();
            let (got, expected) =
                (binomial_p_value(count("only_a"), count("only_b")), pair["p_value"].as_f64().unwrap());
            assert!((got - expected).abs() <= 1e-9 * expected, "{pair}: {got}");
        }
    }
}
