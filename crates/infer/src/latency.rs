//! Latency: passes that were timed, and how two of them compare.

use crate::metrics::bootstrap::{Interval, quantile, resample};
use std::time::{Duration, Instant};

/// How often a pass is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Repeats {
    /// Passes before the first timed one.
    pub warm_up: usize,
    /// Timed passes: exactly as many, or as fit two seconds, at least ten and at most two thousand.
    pub timed: Option<usize>,
}

/// Time of a measurement without a number of passes.
const TIME: Duration = Duration::from_secs(2);
/// Fewest and most passes of such a measurement. More would make no median more certain, but take longer to resample than to run.
const FEWEST: usize = 10;
const MOST: usize = 2000;

/// The times of a pass.
#[derive(Clone, Debug, PartialEq)]
pub struct Latency {
    /// In seconds, from the shortest to the longest; at least one.
    sorted: Vec<f64>,
}

impl Latency {
    /// The quantiles of times in seconds; `None` if there are none.
    pub fn new(mut seconds: Vec<f64>) -> Option<Self> {
        seconds.sort_unstable_by(f64::total_cmp);
        (!seconds.is_empty()).then_some(Self { sorted: seconds })
    }

    /// The quantile in seconds at a share of 0 to 1, interpolated linearly between the times as in NumPy.
    pub fn quantile(&self, share: f64) -> f64 {
        quantile(&self.sorted, share)
    }

    /// The median in seconds.
    pub fn median(&self) -> f64 {
        self.quantile(0.5)
    }

    /// The distance in seconds between the first and the third quartile.
    pub fn interquartile_range(&self) -> f64 {
        self.quantile(0.75) - self.quantile(0.25)
    }

    /// The number of passes.
    pub fn count(&self) -> usize {
        self.sorted.len()
    }
}

/// Two passes that took turns.
#[derive(Clone, Debug, PartialEq)]
pub struct Turns {
    /// The times of the two.
    pub latencies: [Latency; 2],
    /// The median time of the first divided by that of the second: below 1 where the first is faster.
    pub ratio: f64,
    /// The 95 % interval of the ratio: percentile bootstrap over turns.
    pub interval: Interval,
}

/// Runs `pass`, which returns the seconds it took.
///
/// # Errors
/// Those of `pass`.
pub fn measure<E>(repeats: Repeats, mut pass: impl FnMut() -> Result<f64, E>) -> Result<Latency, E> {
    for _ in 0..repeats.warm_up {
        pass()?;
    }
    let mut times = Vec::new();
    let start = Instant::now();
    while repeats.continues(times.len(), start) {
        times.push(pass()?);
    }
    Ok(Latency::new(times).expect("at least one pass is timed"))
}

/// Runs two passes in turns, each first in every second turn, so that both meet the same state of the machine. `pass` gets 0
/// or 1 and returns the seconds it took.
///
/// # Errors
/// Those of `pass`.
pub fn take_turns<E>(repeats: Repeats, mut pass: impl FnMut(usize) -> Result<f64, E>) -> Result<Turns, E> {
    for _ in 0..repeats.warm_up {
        pass(0)?;
        pass(1)?;
    }
    let mut times = [Vec::new(), Vec::new()];
    let start = Instant::now();
    while repeats.continues(times[0].len(), start) {
        let turn = times[0].len();
        for which in [turn % 2, 1 - turn % 2] {
            times[which].push(pass(which)?);
        }
    }
    Ok(Turns::of(times))
}

impl Turns {
    fn of(times: [Vec<f64>; 2]) -> Self {
        let one_by_one = |count: usize, task: &(dyn Fn(usize) + Sync)| (0..count).for_each(task);
        let [interval] = resample(times[0].len(), &one_by_one, &|drawn| {
            let drawn: Vec<usize> = drawn.collect();
            [ratio(times.each_ref().map(|times| drawn.iter().map(|&turn| times[turn]).collect()))]
        });
        let ratio = ratio(times.clone());
        let latencies = times.map(|times| Latency::new(times).expect("at least one turn is timed"));
        Self { latencies, ratio, interval }
    }
}

impl Repeats {
    fn continues(self, count: usize, start: Instant) -> bool {
        match self.timed {
            Some(timed) => count < timed.max(1),
            None => count < FEWEST || count < MOST && start.elapsed() < TIME,
        }
    }
}

/// The quotient of two medians.
fn ratio(times: [Vec<f64>; 2]) -> f64 {
    let [first, second] = times.map(|times| Latency::new(times).map_or(0.0, |latency| latency.median()));
    first / second
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_the_sorted_times() {
        let latency = Latency::new((0..101).rev().map(f64::from).collect()).unwrap();
        assert_eq!([0.0, 0.5, 0.95, 1.0].map(|share| latency.quantile(share)), [0.0, 50.0, 95.0, 100.0]);
        assert_eq!((latency.interquartile_range(), latency.count()), (50.0, 101));
        // numpy.quantile([1, 3], 0.5), numpy.quantile(range(12), 0.95)
        assert_eq!(Latency::new(vec![3.0, 1.0]).unwrap().median(), 2.0);
        assert!((Latency::new((0..12).map(f64::from).collect()).unwrap().quantile(0.95) - 10.45).abs() < 1e-12);
        assert_eq!(Latency::new(Vec::new()), None);
    }

    #[test]
    fn as_many_passes_run_as_were_requested_and_the_first_ones_do_not_count() {
        let mut calls = 0;
        let repeats = Repeats { warm_up: 3, timed: Some(2) };
        let latency = measure(repeats, || {
            calls += 1;
            Ok::<_, ()>(f64::from(calls))
        });
        assert_eq!((latency.unwrap().quantile(0.0), calls), (4.0, 5));
        // Passes that take no time at all.
        let latency = measure(Repeats { warm_up: 0, timed: None }, || Ok::<_, ()>(0.0));
        assert_eq!(latency.unwrap().count(), MOST);
        let mut order = Vec::new();
        take_turns(Repeats { warm_up: 0, timed: Some(3) }, |which| {
            order.push(which);
            Ok::<_, ()>(1.0)
        })
        .unwrap();
        assert_eq!(order, [0, 1, 1, 0, 0, 1]);
    }

    /// Two passes that differ by a constant factor, under a load that changes from turn to turn.
    #[test]
    fn the_interval_of_a_ratio_is_around_it_and_excludes_a_difference_that_is_not_there() {
        let load = |turn: usize| 1.0 + 0.1 * (turn as f64 * 0.7).sin();
        let [fast, slow] = [0.8, 1.0].map(|factor| (0..40).map(|turn| factor * load(turn)).collect::<Vec<f64>>());
        let turns = Turns::of([fast.clone(), slow]);
        assert!((turns.ratio - 0.8).abs() < 1e-12);
        assert!(turns.interval[0] <= turns.ratio && turns.ratio <= turns.interval[1] && turns.interval[1] < 1.0);
        let same = Turns::of([fast.clone(), fast]);
        assert_eq!((same.ratio, same.interval), (1.0, [1.0; 2]));
    }
}
