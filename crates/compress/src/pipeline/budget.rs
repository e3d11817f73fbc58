//! What the chosen network may cost, and which one is chosen.

use super::Point;
use crate::{CompressError, LatencyTarget, MacsTarget};
use std::fmt;
use std::str::FromStr;

/// Points of accuracy that are rounding.
const ROUNDING: f64 = 1e-9;

/// Limits of latency, accuracy and size: `latency<=3ms@1, drop<=0.5, size<=2MB, macs<=60M`. At least one is given.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Budget {
    /// The latency of a batch on this machine.
    pub latency: Option<LatencyTarget>,
    /// How many points of accuracy may be lost.
    pub drop: Option<f64>,
    /// Bytes of the file.
    pub bytes: Option<f64>,
    /// Multiply-accumulates for one image.
    pub macs: Option<MacsTarget>,
}

impl Budget {
    /// The batch size whose latency decides: that of the limit, else 1.
    pub fn batch(&self) -> usize {
        self.latency.map_or(1, |latency| latency.batch)
    }

    /// The place of the chosen one of `points`, the first of which is the original: of those within the budget the most accurate; the
    /// fastest, if the accuracy limit is the only one. Of equal ones it is the faster or the more accurate one.
    ///
    /// # Errors
    /// If none is within the budget, the place of the one that exceeds it least: the least sum of excesses relative to the limits.
    pub fn choose(&self, points: &[Point]) -> Result<usize, usize> {
        let excess = |place: &usize| self.excess(&points[*place], &points[0]);
        let ms = |place: &usize| points[*place].latency_ms(self.batch(), &points[0]);
        let top1 = |place: &usize| points[*place].top1();
        let is_only_accuracy = *self == Self { drop: self.drop, ..Self::default() };
        let order = |a: &usize, b: &usize| {
            let (accuracy, speed) = (top1(a).total_cmp(&top1(b)), ms(b).total_cmp(&ms(a)));
            if is_only_accuracy { speed.then(accuracy) } else { accuracy.then(speed) }
        };
        let within = (0..points.len()).filter(|place| excess(place) == 0.0);
        // Of equal ones the first, which was changed least.
        let nearest = || (0..points.len()).rev().min_by(|a, b| excess(a).total_cmp(&excess(b))).unwrap_or(0);
        within.rev().max_by(order).ok_or_else(nearest)
    }

    /// The sum of what `point` has above each limit, relative to the limit; 0 within the budget.
    fn excess(&self, point: &Point, original: &Point) -> f64 {
        let over = |limit: Option<f64>, value: f64| limit.map_or(0.0, |limit| (value / limit - 1.0).max(0.0));
        let latency = over(
            self.latency.map(|latency| latency.milliseconds),
            self.latency.map_or(0.0, |latency| point.latency_ms(latency.batch, original)),
        );
        let macs = over(self.macs.map(|macs| macs.count(original.outcome.macs as f64)), point.outcome.macs as f64);
        // Accuracies in percent are no exact decimals: 93 - 92.4 is a little more than 0.6. A limit of 0 points has no relative excess.
        let lost = self.drop.map_or(0.0, |drop| match original.top1() - point.top1() - drop {
            over if over <= ROUNDING => 0.0,
            over => over / drop.max(0.1),
        });
        latency + macs + lost + over(self.bytes, point.outcome.bytes as f64)
    }
}

impl fmt::Display for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let macs = |macs: MacsTarget| match macs {
            MacsTarget::Share(number) | MacsTarget::Count(number) => number,
        };
        let limits = [
            self.latency.map(|latency| format!("latency<={}ms@{}", latency.milliseconds, latency.batch)),
            self.drop.map(|drop| format!("drop<={drop}")),
            self.bytes.map(|bytes| format!("size<={}MB", bytes / 1e6)),
            self.macs.map(|limit| format!("macs<={}", macs(limit))),
        ];
        f.write_str(&limits.into_iter().flatten().collect::<Vec<_>>().join(", "))
    }
}

impl FromStr for Budget {
    type Err = CompressError;

    fn from_str(text: &str) -> Result<Self, CompressError> {
        let mut budget = Self::default();
        for limit in text.split(',').map(str::trim) {
            budget.add(limit).ok_or_else(|| CompressError::Setting {
                what: "budget",
                expected: "latency<=3ms@1, drop<=0.5, size<=2MB or macs<=60M, each at most once, joined by commas",
                got: limit.to_owned(),
            })?;
        }
        Ok(budget)
    }
}

impl Budget {
    /// With another limit; `None` if it is none, or there is one of its kind.
    fn add(&mut self, limit: &str) -> Option<()> {
        let (name, value) = limit.split_once("<=")?;
        let value = value.trim();
        let is_new = match name.trim() {
            "latency" => self.latency.replace(value.parse().ok()?).is_none(),
            "drop" => {
                let drop = value.parse().ok().filter(|drop: &f64| drop.is_finite() && *drop >= 0.0)?;
                self.drop.replace(drop).is_none()
            }
            "size" => {
                let units = [("KB", 1e3), ("MB", 1e6), ("GB", 1e9)];
                let (number, unit) = units.iter().find_map(|(name, unit)| Some((value.strip_suffix(name)?, unit)))?;
                let number = number.trim().parse().ok().filter(|size: &f64| size.is_finite() && *size > 0.0)?;
                self.bytes.replace(number * unit).is_none()
            }
            "macs" => self.macs.replace(value.parse().ok()?).is_none(),
            _ => false,
        };
        is_new.then_some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{LatencyChange, Outcome};
    use std::collections::BTreeMap;

    /// A network of this accuracy, times as fast as the original (4 ms and 20 ms), of so many thousand multiply-accumulates and bytes.
    fn point(name: &str, top1: f64, ratio: f64, macs: u64, bytes: u64) -> Point {
        let change =
            |before_ms: f64| LatencyChange { before_ms, after_ms: before_ms / ratio, ratio, interval: [ratio; 2] };
        let outcome = Outcome {
            file: format!("{name}.safetensors"),
            images: 100,
            top1_before: Some(93.0),
            top1: Some(top1),
            interval: Some([0.0; 2]),
            parameters: 1,
            macs: 1000 * macs,
            bytes: 1000 * bytes,
            latency: BTreeMap::from([(1, change(4.0)), (8, change(20.0))]),
        };
        Point { name: name.to_owned(), image_size: [32; 2], outcome }
    }

    fn points() -> Vec<Point> {
        vec![
            point("original", 93.0, 1.0, 1000, 3400),
            point("int8", 92.9, 1.6, 1000, 900),
            point("pruned", 92.6, 2.0, 500, 1700),
            point("pruned int8", 92.4, 3.2, 500, 450),
            point("smaller", 90.0, 4.0, 250, 850),
        ]
    }

    #[test]
    fn the_most_accurate_within_the_limits_is_chosen() {
        let choose = |budget: &str| budget.parse::<Budget>().unwrap().choose(&points());
        assert_eq!(choose("latency<=3ms@1"), Ok(1));
        assert_eq!(choose("latency<=3ms@1, macs<=0.5"), Ok(2));
        assert_eq!(choose("latency<=7ms@8"), Ok(3));
        assert_eq!(choose("size<=0.5MB"), Ok(3));
        assert_eq!(choose("macs<=300K, size<=1MB"), Ok(4));
        assert_eq!(choose("latency<=5ms@1"), Ok(0));
    }

    #[test]
    fn with_a_limit_of_the_accuracy_alone_the_fastest_is_chosen() {
        let choose = |budget: &str| budget.parse::<Budget>().unwrap().choose(&points());
        assert_eq!([choose("drop<=0.5"), choose("drop<=5"), choose("drop<=0")], [Ok(2), Ok(4), Ok(0)]);
        // 93 - 92.4 is a little more than 0.6.
        assert_eq!([choose("drop<=0.6"), choose("drop<=0.59")], [Ok(3), Ok(2)]);
    }

    #[test]
    fn if_none_fits_the_nearest_is_told() {
        let choose = |budget: &str| budget.parse::<Budget>().unwrap().choose(&points());
        assert_eq!(choose("latency<=0.9ms@1"), Err(4));
        // 1.5 times too slow, or 1.2 and 20 % more lost than allowed.
        assert_eq!(choose("latency<=1.2ms@1, drop<=0.5"), Err(3));
        assert_eq!(choose("size<=100KB, drop<=0.5"), Err(3));
    }

    #[test]
    fn a_budget_is_read_with_its_units_and_nothing_else() {
        let budget: Budget = "latency<=2.5ms@8 , drop <= 0.5,size<=2MB, macs<=60M".parse().unwrap();
        assert_eq!(budget.to_string(), "latency<=2.5ms@8, drop<=0.5, size<=2MB, macs<=60000000");
        assert_eq!(budget.to_string().parse::<Budget>().unwrap(), budget);
        assert_eq!((budget.batch(), "drop<=0".parse::<Budget>().unwrap().batch()), (8, 1));
        for (text, got) in [
            ("", ""),
            ("latency<3ms@1", "latency<3ms@1"),
            ("latency<=3", "latency<=3"),
            ("drop<=-1", "drop<=-1"),
            ("drop<=1,", ""),
            ("drop<=1, drop<=2", "drop<=2"),
            ("size<=2", "size<=2"),
            ("macs<=0", "macs<=0"),
            ("speed<=2", "speed<=2"),
        ] {
            let error = text.parse::<Budget>().unwrap_err().to_string();
            assert!(error.starts_with("budget: expected latency<=3ms@1, "), "{error}");
            assert!(error.ends_with(&format!("got \"{got}\"")), "{error}");
        }
    }
}
