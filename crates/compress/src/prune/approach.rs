//! Meets a latency by measuring: the prediction is corrected by what the whole network takes.

use super::Selection;
use crate::CompressError;

/// Networks that are measured, at most.
const ROUNDS: usize = 8;
/// Selections, at most, of which many may be the same.
const CHOICES: usize = 24;
/// How near to the goal is near enough.
const TOLERANCE: f64 = 0.03;

/// The pruning that came nearest to a latency.
#[derive(Clone, Debug, PartialEq)]
pub struct Approach {
    /// What is removed.
    pub selection: Selection,
    /// The latency that was predicted, as a share of the original's.
    pub predicted: f64,
    /// The one that was measured.
    pub measured: f64,
    /// Networks that were measured.
    pub rounds: usize,
}

impl Approach {
    /// Whether the measured latency is within 3 % of `goal`.
    pub fn is_within(&self, goal: f64) -> bool {
        distance(self.measured, goal) <= TOLERANCE
    }
}

/// Looks for a pruned network with the latency `goal`, a share of the original's. `present` is that of the network to be pruned: 1
/// for the original itself. `choose` selects what to remove so that the predicted share of its cost that is left is at most a number;
/// `measure` says which share of the original's latency is left. The prediction of each round is corrected by the ratio of measured
/// and predicted in the round before, or halves the interval between a network that is too slow and one that is too fast, when it
/// leaves that. The nearest of up to eight networks is returned: within 3 %, if the steps of widths allow it.
///
/// # Errors
/// Those of `measure`, and of the first `choose`.
pub fn approach(
    goal: f64,
    present: f64,
    mut choose: impl FnMut(f64) -> Result<Selection, CompressError>,
    mut measure: impl FnMut(&Selection) -> Result<f64, CompressError>,
) -> Result<Approach, CompressError> {
    let mut tried: Vec<Approach> = Vec::new();
    let mut correction = present;
    let mut budget = goal / present;
    // The greatest budget that was too small, and the least that was too great.
    let (mut low, mut high) = (0.0, f64::INFINITY);
    for _ in 0..CHOICES {
        let selection = match choose(budget) {
            Ok(selection) => selection,
            Err(error) if tried.is_empty() => return Err(error),
            Err(_) => break,
        };
        let share = selection.cost / selection.cost_before;
        let known = tried.iter().find(|found| found.selection == selection).map(|found| found.measured);
        let measured = match known {
            Some(measured) => measured,
            None if tried.len() == ROUNDS => break,
            None => {
                let measured = measure(&selection)?;
                tried.push(Approach { selection, predicted: correction * share, measured, rounds: 0 });
                measured
            }
        };
        if distance(measured, goal) <= TOLERANCE {
            break;
        }
        *if measured < goal { &mut low } else { &mut high } = budget;
        correction = measured / share;
        budget = goal / correction;
        // Measurements are not exact, so that the two may have changed places.
        if known.is_some() || !(low.min(high)..low.max(high)).contains(&budget) {
            budget = (low + high) / 2.0;
        }
        if !budget.is_finite() {
            break;
        }
    }
    let rounds = tried.len();
    let nearer = |a: &Approach, b: &Approach| distance(a.measured, goal).total_cmp(&distance(b.measured, goal));
    let nearest = tried.into_iter().min_by(nearer).expect("the first round has a result or an error");
    Ok(Approach { rounds, ..nearest })
}

fn distance(measured: f64, goal: f64) -> f64 {
    (measured / goal - 1.0).abs()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selection(cost: f64) -> Selection {
        Selection { units: Vec::new(), blocks: Vec::new(), cost, cost_before: 100.0 }
    }

    /// Costs in steps of 1 %; the network takes a constant besides them.
    #[test]
    fn a_prediction_that_is_wrong_is_corrected_until_the_goal_is_met() {
        let choose = |budget: f64| Ok(selection((100.0 * budget).floor()));
        let measure = |selection: &Selection| Ok(0.2 + 0.8 * selection.cost / 100.0);
        let found = approach(0.5, 1.0, choose, measure).unwrap();
        assert!(found.is_within(0.5) && found.rounds > 1, "{found:?}");
        assert_eq!(found.measured, 0.2 + 0.8 * found.selection.cost / 100.0);
        let right = approach(0.5, 1.0, choose, |selection| Ok(selection.cost / 100.0)).unwrap();
        assert_eq!((right.rounds, right.predicted, right.measured), (1, 0.5, 0.5));
    }

    /// Only two networks are possible: 0.4 and 0.9.
    #[test]
    fn of_steps_that_are_too_coarse_the_nearest_is_kept() {
        let choose = |budget: f64| Ok(selection(if budget < 0.9 { 40.0 } else { 90.0 }));
        let found = approach(0.6, 1.0, choose, |selection| Ok(selection.cost / 100.0)).unwrap();
        assert_eq!((found.measured, found.is_within(0.6)), (0.4, false));
        // Each correction alone would go from one of two networks to the other, past the one between.
        let choose = |budget: f64| {
            Ok(selection(if budget < 0.45 {
                40.0
            } else if budget < 0.55 {
                60.0
            } else {
                90.0
            }))
        };
        let measure = |selection: &Selection| Ok(if selection.cost == 90.0 { 0.95 } else { selection.cost / 100.0 });
        let found = approach(0.6, 1.0, choose, measure).unwrap();
        assert_eq!((found.measured, found.rounds), (0.6, 3));
        let failing = |_| Err(CompressError::Budget { least: 2.0, got: 1.0 });
        assert!(matches!(approach(0.6, 1.0, failing, |_| Ok(1.0)), Err(CompressError::Budget { .. })));
    }
}
