//! Numbers, times and sizes as text for people.

/// A time: 42 s, 3m 20s, 1h 05m.
pub fn duration(seconds: f64) -> String {
    let whole = seconds.round() as u64;
    match whole {
        0..100 => format!("{whole} s"),
        100..3600 => format!("{}m {:02}s", whole / 60, whole % 60),
        _ => format!("{}h {:02}m", whole / 3600, whole % 3600 / 60),
    }
}

/// 1234567 as 1,234,567.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let first = digits.len() % 3;
    let mut text = digits[..first].to_owned();
    for (index, digit) in digits[first..].chars().enumerate() {
        if index % 3 == 0 && !text.is_empty() {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// 1234567 as 1.2 MB.
pub fn bytes(count: u64) -> String {
    let count = count as f64;
    let (divisor, unit) = match count {
        ..1e6 => (1e3, "kB"),
        ..1e9 => (1e6, "MB"),
        _ => (1e9, "GB"),
    };
    format!("{:.1} {unit}", count / divisor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_grouped_by_threes() {
        let cases = [(0, "0"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567"), (100_000, "100,000")];
        for (number, text) in cases {
            assert_eq!(grouped(number), text);
        }
    }

    #[test]
    fn times_have_two_units_at_most() {
        let cases = [(0.4, "0 s"), (99.4, "99 s"), (100.0, "1m 40s"), (3599.6, "1h 00m"), (7500.0, "2h 05m")];
        for (seconds, text) in cases {
            assert_eq!(duration(seconds), text);
        }
    }

    #[test]
    fn bytes_have_a_unit() {
        let cases = [(0, "0.0 kB"), (1_500, "1.5 kB"), (1_234_567, "1.2 MB"), (25_600_000_000, "25.6 GB")];
        for (count, text) in cases {
            assert_eq!(bytes(count), text);
        }
    }
}
