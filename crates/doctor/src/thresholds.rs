//! Where an image becomes a finding.

use crate::{Check, DoctorError};

/// The limits of the checks that have one. Those of single images are CleanVision's.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Thresholds {
    /// Near duplicates of a split differ in at most so many of the 63 bits of their perceptual hashes.
    pub near_duplicates: u32,
    /// And those of two splits. On CIFAR-10 pairs of training and test images up to 8, which correlate, are all of one class.
    pub near_leakage: u32,
    /// The largest class has at least so many times the images of the smallest.
    pub imbalance: f32,
    /// Aspect ratio (shorter through longer side) below this.
    pub aspect: f32,
    /// Sharpness below this.
    pub blurry: f32,
    /// 99th percentile of brightness below this.
    pub dark: f32,
    /// 1 − the 5th percentile of brightness below this.
    pub light: f32,
    /// Tenths of bits of entropy below this.
    pub flat: f32,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self {
            near_duplicates: 8,
            near_leakage: 8,
            imbalance: 10.0,
            aspect: 0.35,
            blurry: 0.29,
            dark: 0.32,
            light: 0.05,
            flat: 0.3,
        }
    }
}

impl Thresholds {
    /// The largest distance of near duplicates.
    pub const MOST_NEAR: u32 = 16;

    /// Sets the limit of a check.
    ///
    /// # Errors
    /// [`DoctorError::Invalid`] for a check without a limit, and a value that is none.
    pub fn set(&mut self, check: Check, value: f32) -> Result<(), DoctorError> {
        let (limit, range, expected) = match check {
            Check::NearDuplicates | Check::NearLeakage => {
                let most = Self::MOST_NEAR;
                if value < 0.0 || value > most as f32 || value.fract() != 0.0 {
                    return Err(DoctorError::invalid(check, format!("a number of bits of 0 to {most}"), value));
                }
                let limit = match check {
                    Check::NearLeakage => &mut self.near_leakage,
                    _ => &mut self.near_duplicates,
                };
                *limit = value as u32;
                return Ok(());
            }
            Check::Imbalance => (&mut self.imbalance, 1.0..=f32::MAX, "a ratio of at least 1"),
            Check::Aspect => (&mut self.aspect, 0.0..=1.0, SHARE),
            Check::Blurry => (&mut self.blurry, 0.0..=1.0, SHARE),
            Check::Dark => (&mut self.dark, 0.0..=1.0, SHARE),
            Check::Light => (&mut self.light, 0.0..=1.0, SHARE),
            Check::Flat => (&mut self.flat, 0.0..=1.0, SHARE),
            _ => {
                let expected = "near-duplicates, near-leakage, imbalance, aspect, blurry, dark, light or flat";
                return Err(DoctorError::invalid("threshold", expected, check));
            }
        };
        if !range.contains(&value) {
            return Err(DoctorError::invalid(check, expected, value));
        }
        *limit = value;
        Ok(())
    }
}

const SHARE: &str = "a number of 0 to 1";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_set_within_its_range_and_others_are_refused() {
        let mut thresholds = Thresholds::default();
        thresholds.set(Check::NearLeakage, 4.0).unwrap();
        thresholds.set(Check::Dark, 0.5).unwrap();
        assert_eq!(thresholds, Thresholds { near_leakage: 4, dark: 0.5, ..Thresholds::default() });
        for (check, value, message) in [
            (Check::NearDuplicates, 17.0, "near-duplicates: expected a number of bits of 0 to 16, got 17"),
            (Check::NearDuplicates, f32::NAN, "near-duplicates: expected a number of bits of 0 to 16, got NaN"),
            (Check::Imbalance, 0.5, "imbalance: expected a ratio of at least 1, got 0.5"),
            (Check::Flat, f32::NAN, "flat: expected a number of 0 to 1, got NaN"),
            (
                Check::Alpha,
                0.5,
                "threshold: expected near-duplicates, near-leakage, imbalance, aspect, blurry, dark, light or flat, got alpha",
            ),
        ] {
            assert_eq!(thresholds.set(check, value).unwrap_err().to_string(), message);
        }
    }
}
