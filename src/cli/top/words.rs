//! Numbers as people read them.

use super::rates::Quantile;

/// What stands where nothing is known.
pub(super) const UNKNOWN: &str = "-";

/// Or `-`.
pub(super) fn or_unknown<T>(value: Option<T>, write: impl Fn(T) -> String) -> String {
    value.map_or_else(|| UNKNOWN.to_owned(), write)
}

/// A count, its thousands apart.
pub(super) fn count(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// How many a second, without the unit.
pub(super) fn rate(rate: f64) -> String {
    match rate {
        ..0.05 => "0".to_owned(),
        ..9.95 => format!("{rate:.1}"),
        ..99_999.5 => count(whole(rate)),
        ..9_999_500.0 => format!("{}k", count(whole(rate / 1e3))),
        _ => format!("{:.1}M", rate / 1e6),
    }
}

/// How many a second, with the unit.
pub(super) fn per_second(per_second: Option<f64>) -> String {
    or_unknown(per_second, |per_second| format!("{}/s", rate(per_second)))
}

/// A share of one whole, which may be more than that.
pub(super) fn percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}

pub(super) fn bytes(bytes: u64) -> String {
    let bytes = bytes as f64;
    let (divided, unit) = match bytes {
        ..1_024.0 => return format!("{bytes:.0} B"),
        ..1_048_576.0 => (bytes / 1_024.0, "KiB"),
        ..1_073_741_824.0 => (bytes / 1_048_576.0, "MiB"),
        _ => (bytes / 1_073_741_824.0, "GiB"),
    };
    format!("{divided:.1} {unit}")
}

/// A short time.
pub(super) fn seconds(seconds: f64) -> String {
    let (number, unit) = match seconds {
        ..9.995e-7 => (seconds * 1e9, "ns"),
        ..9.995e-4 => (seconds * 1e6, "µs"),
        ..0.9995 => (seconds * 1e3, "ms"),
        _ => (seconds, "s"),
    };
    if number < 9.95 {
        format!("{number:.1} {unit}")
    } else {
        format!("{number:.0} {unit}")
    }
}

pub(super) fn quantile(quantile: Quantile) -> String {
    let more = if quantile.or_more { ">" } else { "" };
    format!("{more}{}", seconds(quantile.seconds))
}

/// How long something lasts, in its two greatest units.
pub(super) fn age(seconds: f64) -> String {
    let whole = whole(seconds);
    let (minutes, hours, days) = (whole / 60, whole / 3_600, whole / 86_400);
    match whole {
        ..60 => format!("{whole} s"),
        60..3_600 => format!("{minutes} min {} s", whole % 60),
        3_600..86_400 => format!("{hours} h {} min", minutes % 60),
        _ => format!("{days} d {} h", hours % 24),
    }
}

/// The time of day in UTC.
pub(super) fn clock(unix_seconds: u64) -> String {
    let of_day = unix_seconds % 86_400;
    let (hours, minutes) = (of_day / 3_600, of_day / 60 % 60);
    format!("{hours:02}:{minutes:02}:{:02}", of_day % 60)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "what is negative or too great becomes the nearest that is not"
)]
fn whole(number: f64) -> u64 {
    number.round() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!(
            [0, 999, 1_000, 12_345, 1_234_567].map(count),
            ["0", "999", "1,000", "12,345", "1,234,567"]
        );
        assert_eq!(
            [0.0, 0.04, 0.1, 9.94, 9.96, 1_234.4, 123_456.0, 1e7].map(rate),
            ["0", "0", "0.1", "9.9", "10", "1,234", "123k", "10.0M"]
        );
        assert_eq!(
            [5e-8, 2.5e-7, 1.24e-5, 3.41e-3, 0.25, 0.9999, 60.0].map(seconds),
            [
                "50 ns", "250 ns", "12 µs", "3.4 ms", "250 ms", "1.0 s", "60 s"
            ]
        );
        assert_eq!(
            [0.0, 59.4, 61.0, 7_320.0, 176_400.0].map(age),
            ["0 s", "59 s", "1 min 1 s", "2 h 2 min", "2 d 1 h"]
        );
        assert_eq!(
            [0, 1_023, 1_536, 88_290_099, 3_221_225_472].map(bytes),
            ["0 B", "1023 B", "1.5 KiB", "84.2 MiB", "3.0 GiB"]
        );
        assert_eq!(clock(1_700_000_000), "22:13:20");
        assert_eq!(percent(1.234), "123 %");
    }
}
