//! Axes: their range, ticks and labels.

/// The largest number that is drawn.
const LARGEST: f64 = 1e30;

/// An axis.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Axis {
    pub(crate) label: String,
    logarithmic: bool,
    whole: bool,
    range: Option<(f64, f64)>,
}

impl Axis {
    /// A linear axis that fits its values.
    pub fn new(label: impl Into<String>) -> Self {
        Self { label: label.into(), ..Self::default() }
    }

    /// With a logarithmic scale: values that are not positive are not drawn.
    pub fn logarithmic(self) -> Self {
        Self { logarithmic: true, ..self }
    }

    /// With ticks at whole numbers alone, as for epochs.
    pub fn whole(self) -> Self {
        Self { whole: true, ..self }
    }

    /// With at least this range.
    pub fn between(self, low: f64, high: f64) -> Self {
        Self { range: Some((low, high)), ..self }
    }

    /// Whether a value can be drawn.
    pub(crate) fn can_show(&self, value: f64) -> bool {
        value.abs() <= LARGEST && (!self.logarithmic || value >= 1.0 / LARGEST)
    }

    /// The scale that shows all `values` and the axis's range; `None` if there are neither.
    pub(crate) fn scale(&self, values: impl Iterator<Item = f64>) -> Option<Scale> {
        let fixed = self.range.into_iter().flat_map(|(low, high)| [low, high]);
        let values = values.chain(fixed).filter(|&value| self.can_show(value));
        let (low, high) =
            values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)));
        if low > high {
            return None;
        }
        let (low, high) = if self.logarithmic { widened_logarithmic(low, high) } else { self.widened(low, high) };
        Some(Scale { low, high, logarithmic: self.logarithmic, whole: self.whole })
    }

    /// A linear range a little wider than its values; an end that was fixed stays, unless the range is too narrow.
    fn widened(&self, low: f64, high: f64) -> (f64, f64) {
        let size = low.abs().max(high.abs());
        if size == 0.0 {
            return (-1.0, 1.0);
        }
        if high - low <= 1e-6 * size {
            return (low - size / 2.0, high + size / 2.0);
        }
        let margin = 0.04 * (high - low);
        let (first, last) = self.range.unwrap_or((f64::NAN, f64::NAN));
        (if low == first { low } else { low - margin }, if high == last { high } else { high + margin })
    }
}

fn widened_logarithmic(low: f64, high: f64) -> (f64, f64) {
    if high / low > 1.01 {
        let margin = (high / low).powf(0.03);
        (low / margin, high * margin)
    } else {
        (low / 2.0, high * 2.0)
    }
}

/// A range of values, mapped to 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Scale {
    pub(crate) low: f64,
    pub(crate) high: f64,
    logarithmic: bool,
    whole: bool,
}

impl Scale {
    /// The place of a value, from 0 at the low end to 1 at the high end.
    pub(crate) fn at(&self, value: f64) -> f64 {
        if self.logarithmic {
            (value / self.low).ln() / (self.high / self.low).ln()
        } else {
            (value - self.low) / (self.high - self.low)
        }
    }

    /// About `count` ticks with their labels, at round values inside the range.
    pub(crate) fn ticks(&self, count: usize) -> Vec<(f64, String)> {
        let count = count.max(2);
        if self.logarithmic { self.logarithmic_ticks(count) } else { self.linear_ticks(count) }
    }

    fn linear_ticks(&self, count: usize) -> Vec<(f64, String)> {
        let rough = (self.high - self.low) / count as f64;
        let magnitude = 10f64.powf(rough.log10().floor());
        let step =
            [1.0, 2.0, 5.0, 10.0].map(|factor| factor * magnitude).into_iter().find(|&step| step >= rough * 0.75);
        let mut step = step.unwrap_or(rough);
        if self.whole {
            step = step.max(1.0);
        }
        let first = (self.low / step - 1e-9).ceil() as i64;
        let last = (self.high / step + 1e-9).floor() as i64;
        // Digits that tell the ticks apart.
        let digits = (-step.log10().floor()).clamp(0.0, 12.0) as usize;
        let size = self.low.abs().max(self.high.abs());
        let label = |value: f64| {
            if value == 0.0 || (size < 1e5 && step >= 1e-4) { plain(value, digits) } else { exponential(value, step) }
        };
        (first..=last).map(|index| index as f64 * step).map(|value| (value, label(value))).collect()
    }

    fn logarithmic_ticks(&self, count: usize) -> Vec<(f64, String)> {
        let (first, last) = (self.low.log10(), self.high.log10());
        let decades = last - first;
        if decades < 1.0 {
            // Less than a decade: round values of the linear scale.
            return Self { logarithmic: false, ..*self }.linear_ticks(count.min(5));
        }
        let factors: &[f64] = match (count as f64 / decades) as usize {
            0 | 1 => &[1.0],
            2 => &[1.0, 3.0],
            _ => &[1.0, 2.0, 5.0],
        };
        let every = (decades / count as f64).ceil().max(1.0) as i32;
        let powers = (first.floor() as i32..=last.ceil() as i32).filter(|power| power.rem_euclid(every) == 0);
        let ticks = powers.flat_map(|power| factors.iter().map(move |factor| factor * 10f64.powi(power)));
        let inside = |value: &f64| (self.low * 0.999_999..=self.high * 1.000_001).contains(value);
        ticks.filter(inside).map(|value| (value, short(value))).collect()
    }
}

/// A number with at most three significant digits: `0.001`, `12.3`, `31000`, `2×10⁻⁷`.
pub(crate) fn short(value: f64) -> String {
    significant(value, 3)
}

/// A number with at most so many significant digits.
pub(crate) fn significant(value: f64, digits: usize) -> String {
    let size = value.abs();
    if value == 0.0 || !value.is_finite() {
        return if value == 0.0 { "0".into() } else { value.to_string() };
    }
    // Rounded first, so that 999.9 is 1000.
    let rounded: f64 = format!("{value:.*e}", digits.saturating_sub(1)).parse().unwrap_or(value);
    if (1e-3..1e5).contains(&size) {
        let digits = (digits as i32 - 1 - rounded.abs().log10().floor() as i32).clamp(0, 8) as usize;
        let text = format!("{rounded:.digits$}");
        minus(if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text })
    } else {
        exponential(rounded, 10f64.powi(size.log10().floor() as i32 + 1 - digits as i32))
    }
}

fn plain(value: f64, digits: usize) -> String {
    minus(&format!("{value:.digits$}"))
}

/// A number with an exponent, to the precision `step`: `2×10⁻⁷`.
fn exponential(value: f64, step: f64) -> String {
    let digits = (value.abs().log10().floor() - step.abs().log10().floor()).clamp(0.0, 6.0) as usize;
    let text = format!("{value:.digits$e}");
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let mantissa = if mantissa.contains('.') { mantissa.trim_end_matches('0').trim_end_matches('.') } else { mantissa };
    let exponent: String = exponent.chars().map(superscript).collect();
    match mantissa {
        "1" => format!("10{exponent}"),
        "-1" => format!("−10{exponent}"),
        _ => format!("{}×10{exponent}", minus(mantissa)),
    }
}

fn minus(text: &str) -> String {
    let is_zero = text.chars().all(|c| "-0.".contains(c));
    if is_zero { text.trim_start_matches('-').to_owned() } else { text.replace('-', "−") }
}

fn superscript(digit: char) -> char {
    match digit {
        '-' => '⁻',
        '1' => '¹',
        '2' => '²',
        '3' => '³',
        '4'..='9' => char::from_u32('⁴' as u32 + digit as u32 - '4' as u32).unwrap_or(digit),
        _ => '⁰',
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(axis: &Axis, low: f64, high: f64, count: usize) -> Vec<String> {
        let scale = axis.scale([low, high].into_iter()).unwrap();
        scale.ticks(count).into_iter().map(|(_, label)| label).collect()
    }

    #[test]
    fn ticks_are_round_numbers_in_the_range() {
        let linear = Axis::new("x");
        assert_eq!(labels(&linear, 0.0, 100.0, 5), ["0", "20", "40", "60", "80", "100"]);
        assert_eq!(labels(&linear, 0.12, 0.47, 5), ["0.2", "0.3", "0.4"]);
        assert_eq!(labels(&linear, -1.0, 1.0, 4), ["−1.0", "−0.5", "0.0", "0.5", "1.0"]);
        assert_eq!(labels(&linear, 0.0, 3e6, 4), ["0", "10⁶", "2×10⁶", "3×10⁶"]);
        assert_eq!(labels(&linear.clone().whole(), 1.0, 2.0, 6), ["1", "2"]);
        let log = Axis::new("x").logarithmic();
        assert_eq!(labels(&log, 1e-7, 10.0, 5), ["10⁻⁶", "10⁻⁴", "0.01", "1"]);
        assert_eq!(labels(&log, 0.1, 10.0, 6), ["0.1", "0.3", "1", "3", "10"]);
        assert_eq!(labels(&log, 20.0, 60.0, 5), ["20", "30", "40", "50", "60"]);
    }

    #[test]
    fn numbers_are_short() {
        let cases = [
            (0.0, "0"),
            (0.1, "0.1"),
            (12.345, "12.3"),
            (-0.0025, "−0.0025"),
            (1e-7, "10⁻⁷"),
            (2.34e-7, "2.34×10⁻⁷"),
            (999.9, "1000"),
            (31_000.0, "31000"),
            (1.5e9, "1.5×10⁹"),
        ];
        for (value, text) in cases {
            assert_eq!(short(value), text);
        }
    }

    #[test]
    fn a_scale_maps_its_ends_to_zero_and_one() {
        for axis in [Axis::new("x").between(1.0, 100.0), Axis::new("x").logarithmic()] {
            let scale = axis.scale([1.0, 100.0].into_iter()).unwrap();
            assert!(scale.at(scale.low).abs() < 1e-12 && (scale.at(scale.high) - 1.0).abs() < 1e-12);
        }
        let fixed = Axis::new("x").between(0.0, 1.0).scale([0.5].into_iter()).unwrap();
        assert_eq!((fixed.low, fixed.high), (0.0, 1.0));
        assert_eq!(Axis::new("x").scale(std::iter::empty()), None);
        assert_eq!(Axis::new("x").logarithmic().scale([-1.0, 0.0].into_iter()), None);
    }
}
