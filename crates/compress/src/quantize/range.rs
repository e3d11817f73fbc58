//! The range of a value that its 256 numbers cover: all of it, or less, so that they lie closer together.

use crate::CompressError;
use residual_model::Quantization;
use std::str::FromStr;

/// Bins of a histogram.
const BINS: usize = 2048;
/// Numbers of a byte.
const LEVELS: usize = 256;
/// Ranges that are tried: these percentages of the whole one.
const TRIED: std::ops::RangeInclusive<usize> = 20..=100;

/// How the range is found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum RangeMethod {
    /// From the least to the greatest value.
    MinMax,
    /// The range that holds so many percent of the values: as many are below it as above.
    Percentile(f64),
    /// The one with the least mean squared error.
    Mse,
    /// The one whose distribution loses the least information: the least Kullback-Leibler divergence, as in TensorRT (Migacz, "8-bit
    /// inference with TensorRT", 2017).
    Entropy,
}

impl FromStr for RangeMethod {
    type Err = CompressError;

    /// `minmax`, `percentile:99.99`, `mse` or `entropy`.
    fn from_str(text: &str) -> Result<Self, CompressError> {
        let fail = || CompressError::Method { got: text.to_owned() };
        match text {
            "minmax" => Ok(Self::MinMax),
            "mse" => Ok(Self::Mse),
            "entropy" => Ok(Self::Entropy),
            _ => {
                let percent = text.strip_prefix("percentile:").and_then(|number| number.parse().ok());
                percent.filter(|percent| (50.0..=100.0).contains(percent)).map(Self::Percentile).ok_or_else(fail)
            }
        }
    }
}

impl std::fmt::Display for RangeMethod {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::MinMax => f.write_str("minmax"),
            Self::Percentile(percent) => write!(f, "percentile:{percent}"),
            Self::Mse => f.write_str("mse"),
            Self::Entropy => f.write_str("entropy"),
        }
    }
}

/// The distribution of a value over the calibration images.
#[derive(Clone, Debug)]
pub(crate) struct Histogram {
    least: f32,
    greatest: f32,
    /// Of values other than zero.
    counts: Vec<u64>,
    /// Zeros, which half of a ReLU's values may be. Every quantisation has them exactly.
    zeros: u64,
}

impl Histogram {
    /// An empty one of values from `least` to `greatest`, extended to include zero.
    pub(crate) fn new(least: f32, greatest: f32) -> Self {
        Self { least: least.min(0.0), greatest: greatest.max(0.0), counts: vec![0; BINS], zeros: 0 }
    }

    pub(crate) fn add(&mut self, values: &[f32]) {
        let Self { least, greatest, counts, zeros } = self;
        let bins = BINS as f32 / (*greatest - *least).max(f32::MIN_POSITIVE);
        for &value in values {
            if value == 0.0 {
                *zeros += 1;
                continue;
            }
            let bin = ((value - *least) * bins) as usize;
            counts[bin.min(BINS - 1)] += 1;
        }
    }

    /// The quantisation of the range that `method` finds.
    pub(crate) fn quantization(&self, method: RangeMethod) -> Quantization {
        let share = |share: f32| Quantization::of_range(share * self.least, share * self.greatest);
        match method {
            RangeMethod::MinMax => share(1.0),
            RangeMethod::Percentile(percent) => self.percentile(percent),
            RangeMethod::Mse => {
                self.least_of(|histogram, percent| histogram.squared_error(share(percent as f32 / 100.0)))
            }
            RangeMethod::Entropy => self.least_of(Self::divergence),
        }
    }

    /// The quantisation of the tried percentage of the range that costs least; of equal ones the widest.
    fn least_of(&self, cost: impl Fn(&Self, usize) -> f64) -> Quantization {
        let costs = TRIED.rev().map(|percent| (percent, cost(self, percent)));
        let (percent, _) = costs.min_by(|a, b| a.1.total_cmp(&b.1)).expect("some percentages are tried");
        let share = percent as f32 / 100.0;
        Quantization::of_range(share * self.least, share * self.greatest)
    }

    fn percentile(&self, percent: f64) -> Quantization {
        let mut counts = self.counts.clone();
        counts[((-self.least / self.width() as f32) as usize).min(BINS - 1)] += self.zeros;
        let total: u64 = counts.iter().sum();
        let outside = (total as f64 * (1.0 - percent / 100.0) / 2.0) as u64;
        // The number of bins at an end that together hold at most so many values.
        let bins = |counts: &mut dyn Iterator<Item = &u64>| {
            let mut sum = 0;
            counts
                .take_while(|&&count| {
                    sum += count;
                    sum <= outside
                })
                .count()
        };
        let (below, above) = (bins(&mut counts.iter()), bins(&mut counts.iter().rev()));
        let width = self.width();
        let least = f64::from(self.least) + below as f64 * width;
        let greatest = f64::from(self.greatest) - above as f64 * width;
        Quantization::of_range(least as f32, greatest as f32)
    }

    fn width(&self) -> f64 {
        (f64::from(self.greatest) - f64::from(self.least)) / BINS as f64
    }

    /// The sum of the squared errors of all values, each in the middle of its bin.
    fn squared_error(&self, quantization: Quantization) -> f64 {
        let width = self.width();
        let error = |(bin, &count): (usize, &u64)| {
            let value = f64::from(self.least) + (bin as f64 + 0.5) * width;
            let rounded = f64::from(quantization.value(quantization.byte(value as f32)));
            count as f64 * (value - rounded).powi(2)
        };
        self.counts.iter().enumerate().filter(|(_, count)| **count > 0).map(error).sum()
    }

    /// The Kullback-Leibler divergence between the distribution clipped to a percentage of the range, and the same in 256 levels.
    fn divergence(&self, percent: usize) -> f64 {
        // The bins that are kept on either side of zero.
        let below = -f64::from(self.least) / self.width().max(f64::MIN_POSITIVE);
        let share = percent as f64 / 100.0;
        let first = (below * (1.0 - share)).round() as usize;
        let end = (below + (BINS as f64 - below) * share).round().max(1.0) as usize;
        let first = first.min(end - 1);
        let kept = &self.counts[first..end];
        let mut clipped: Vec<f64> = kept.iter().map(|&count| count as f64).collect();
        let outside = |counts: &[u64]| counts.iter().sum::<u64>() as f64;
        clipped[0] += outside(&self.counts[..first]);
        *clipped.last_mut().expect("at least one bin is kept") += outside(&self.counts[end..]);
        // Each level shares its values equally among its bins that have any.
        let mut levels = vec![(0.0, 0u32); LEVELS];
        let level = |bin: usize| bin * LEVELS / kept.len().max(LEVELS);
        for (bin, &count) in kept.iter().enumerate().filter(|(_, count)| **count > 0) {
            levels[level(bin)].0 += count as f64;
            levels[level(bin)].1 += 1;
        }
        let (total, total_kept): (f64, f64) = (clipped.iter().sum(), outside(kept));
        let mut divergence = 0.0;
        for (bin, &count) in clipped.iter().enumerate().filter(|(_, count)| **count > 0.0) {
            let (sum, bins) = levels[level(bin)];
            // A bin that only clipping filled has no level of its own.
            let shared = if bins > 0 && kept[bin] > 0 { sum / f64::from(bins) / total_kept } else { 1e-12 };
            divergence += count / total * (count / total / shared).ln();
        }
        divergence
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use residual_tensor::Stream;

    fn normal(outliers: &[f32]) -> Histogram {
        let mut stream = Stream::new(1, &[]);
        let mut values: Vec<f32> = (0..100_000).map(|_| stream.normal()).collect();
        values.extend(outliers);
        let bounds = values.iter().fold((0.0f32, 0.0f32), |(least, greatest), &x| (least.min(x), greatest.max(x)));
        let mut histogram = Histogram::new(bounds.0, bounds.1);
        histogram.add(&values);
        histogram
    }

    fn range(quantization: Quantization) -> [f32; 2] {
        [quantization.value(0), quantization.value(255)]
    }

    #[test]
    fn the_whole_range_is_kept_and_zero_is_exact() {
        let quantization = normal(&[]).quantization(RangeMethod::MinMax);
        let [least, greatest] = range(quantization);
        assert!(least < -3.9 && greatest > 3.9);
        assert_eq!(quantization.value(quantization.zero_point), 0.0);
    }

    #[test]
    fn a_percentile_leaves_out_as_many_values_below_as_above() {
        // 95 % of a normal distribution lie within 1.96.
        let [least, greatest] = range(normal(&[]).quantization(RangeMethod::Percentile(95.0)));
        assert!((least + 1.96).abs() < 0.05 && (greatest - 1.96).abs() < 0.05, "{least} {greatest}");
    }

    #[test]
    fn an_outlier_is_clipped() {
        for (method, most) in
            [(RangeMethod::Percentile(99.99), 5.0), (RangeMethod::Mse, 38.0), (RangeMethod::Entropy, 38.0)]
        {
            let [_, greatest] = range(normal(&[40.0]).quantization(method));
            assert!(greatest > 3.0 && greatest < most, "{method}: {greatest}");
        }
    }

    #[test]
    fn the_zeros_of_a_relu_do_not_narrow_the_range() {
        let mut stream = Stream::new(3, &[]);
        let values: Vec<f32> = (0..100_000).map(|_| stream.normal().max(0.0)).collect();
        let mut histogram = Histogram::new(0.0, values.iter().copied().fold(0.0, f32::max));
        histogram.add(&values);
        for method in [RangeMethod::Mse, RangeMethod::Entropy] {
            let [least, greatest] = range(histogram.quantization(method));
            assert!(least == 0.0 && greatest > 2.5, "{method}: {greatest}");
        }
        // 99 % are below the 0.98 quantile of a normal distribution, or 0.99 of which half are zeros.
        let [_, greatest] = range(histogram.quantization(RangeMethod::Percentile(98.0)));
        assert!((greatest - 2.326).abs() < 0.05, "{greatest}");
    }

    #[test]
    fn the_squared_error_is_least_where_a_search_over_all_values_finds_it() {
        let mut stream = Stream::new(2, &[]);
        let values: Vec<f32> = (0..20_000).map(|_| stream.normal().max(0.0).powi(3)).collect();
        let greatest = values.iter().copied().fold(0.0, f32::max);
        let mut histogram = Histogram::new(0.0, greatest);
        histogram.add(&values);
        let error = |quantization: Quantization| -> f64 {
            values.iter().map(|&x| f64::from(x - quantization.value(quantization.byte(x))).powi(2)).sum()
        };
        let best = (20..=100).map(|percent| Quantization::of_range(0.0, greatest * percent as f32 / 100.0));
        let best = best.map(error).fold(f64::INFINITY, f64::min);
        assert!(error(histogram.quantization(RangeMethod::Mse)) < 1.05 * best);
    }

    #[test]
    fn a_constant_zero_has_a_scale() {
        for method in [RangeMethod::MinMax, RangeMethod::Percentile(99.9), RangeMethod::Mse, RangeMethod::Entropy] {
            let mut histogram = Histogram::new(0.0, 0.0);
            histogram.add(&[0.0; 10]);
            let quantization = histogram.quantization(method);
            assert!(quantization.scale > 0.0 && quantization.value(quantization.byte(0.0)) == 0.0, "{method}");
        }
    }

    #[test]
    fn names_are_read_and_written() {
        for name in ["minmax", "percentile:99.99", "mse", "entropy"] {
            assert_eq!(name.parse::<RangeMethod>().unwrap().to_string(), name);
        }
        for bad in ["", "max", "percentile", "percentile:20", "percentile:nan"] {
            assert!(bad.parse::<RangeMethod>().is_err(), "{bad}");
        }
    }
}
