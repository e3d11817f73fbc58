//! The interval of a share.

/// The 97.5th percentile of the normal distribution.
const Z: f64 = 1.959_964;

/// The 95 % interval of the share of `right` ones of `all`, in percent (Wilson, "Probable inference, the law of succession, and
/// statistical inference", 1927). Of none it is everything.
pub fn wilson(right: u64, all: u64) -> [f64; 2] {
    if all == 0 {
        return [0.0, 100.0];
    }
    let (count, share) = (all as f64, right as f64 / all as f64);
    let middle = share + Z * Z / (2.0 * count);
    let half = Z * (share * (1.0 - share) / count + Z * Z / (4.0 * count * count)).sqrt();
    [-1.0, 1.0].map(|sign| (100.0 * (middle + sign * half) / (1.0 + Z * Z / count)).clamp(0.0, 100.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of statsmodels' `proportion_confint(right, all, method="wilson")`.
    #[test]
    fn intervals_are_wilsons() {
        for (right, all, expected) in [
            (45, 50, [78.639_8, 95.652_4]),
            (30, 100, [21.894_9, 39.584_9]),
            (0, 20, [0.0, 16.112_5]),
            (0, 0, [0.0, 100.0]),
        ] {
            let got = wilson(right, all);
            assert!((got[0] - expected[0]).abs() < 1e-3 && (got[1] - expected[1]).abs() < 1e-3, "{got:?}");
        }
    }
}
