//! Times as they are typed: 90s, 30m, 1h30m.

/// The seconds of a time in hours, minutes and seconds, in this order and each at most once; `None` for any other text.
pub(super) fn parse(text: &str) -> Option<u64> {
    let (mut rest, mut seconds) = (text.trim(), 0_u64);
    for (unit, length) in [('h', 3600), ('m', 60), ('s', 1)] {
        if let Some((number, after)) = rest.split_once(unit) {
            seconds = seconds.checked_add(number.parse::<u32>().ok()? as u64 * length)?;
            rest = after;
        }
    }
    (rest.is_empty() && !text.trim().is_empty()).then_some(seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units() {
        for (text, seconds) in [("90s", 90), ("30m", 1800), ("1h", 3600), (" 1h30m5s ", 5405), ("0s", 0)] {
            assert_eq!(parse(text), Some(seconds), "{text}");
        }
        for text in ["", "30", "m", "5m3h", "1.5h", "-3m", "3 m", "99999999999h", "1h1h", "1d"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
