//! Seconds: the wall clock's in Unix seconds, as events, tokens, presence and dead letters have it, and configured ones.
//!
//! Stands beside the data path. What is measured or waited for goes by tokio's monotonic clock instead, which
//! tests can pause. `wsgw test` has the wall clock follow that one, so that tokens expire when it says so.

use std::cell::Cell;
use std::marker::PhantomData;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

/// Longest time that is ever waited for, in seconds: a year.
const LONGEST: f64 = 31_536_000.0;

/// The current time in whole Unix seconds; a clock before 1970 counts as 1970.
#[must_use]
pub(crate) fn unix_now() -> u64 {
    since_1970().as_secs()
}

/// The current time in whole Unix milliseconds.
#[must_use]
pub(crate) fn unix_millis() -> u64 {
    u64::try_from(since_1970().as_millis()).unwrap_or(u64::MAX)
}

/// The current time in whole Unix nanoseconds.
#[must_use]
pub(crate) fn unix_nanos() -> u64 {
    u64::try_from(since_1970().as_nanos()).unwrap_or(u64::MAX)
}

/// The current time in Unix seconds with their fraction, as tokens write it (RFC 7519 section 2).
#[must_use]
pub(crate) fn numeric_date() -> f64 {
    since_1970().as_secs_f64()
}

/// A time to wait, in seconds: none for what is negative or no number, a year for what is longer.
///
/// Neither this nor adding it to an `Instant` can panic, whatever a configuration or a token says.
#[must_use]
pub(crate) fn seconds(count: f64) -> Duration {
    Duration::try_from_secs_f64(count.clamp(0.0, LONGEST)).unwrap_or_default()
}

/// Milliseconds since 1970 of a time as RFC 3339 writes it, such as `2026-01-31T12:00:00.5+01:00`; none before 1970.
#[must_use]
pub(crate) fn parse_rfc3339_ms(text: &str) -> Option<u64> {
    let (date, rest) = (text.get(..10)?, text.get(10..)?);
    let rest = rest.strip_prefix(['T', 't', ' '])?;
    let (time, zone) = rest.split_at(rest.find(['Z', 'z', '+', '-'])?);
    let (year, month, day) = three(date, '-', [4, 2, 2])?;
    let (clock, fraction) = time.split_once('.').unwrap_or((time, "0"));
    let (hour, minute, second) = three(clock, ':', [2, 2, 2])?;
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days = match month {
        2 => 28 + i64::from(leap),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    // A leap second counts as the first of the next minute.
    if !(1..=days).contains(&day) || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let offset = match zone {
        "Z" | "z" => 0,
        zone => {
            let (hours, minutes) = zone.get(1..)?.split_once(':')?;
            let (hours, minutes) = (digits(hours, 2)?, digits(minutes, 2)?);
            if hours > 23 || minutes > 59 {
                return None;
            }
            let seconds = hours * 3600 + minutes * 60;
            if zone.starts_with('-') {
                -seconds
            } else {
                seconds
            }
        }
    };
    // What is finer than a millisecond is left out.
    let finer = fraction.get(3..).unwrap_or_default();
    digits(finer, finer.len()).or(finer.is_empty().then_some(0))?;
    let ms = digits(&format!("{:0<3}", fraction.get(..3).unwrap_or(fraction)), 3)?;
    if fraction.is_empty() {
        return None;
    }
    // Days since 1970 of a year that begins in March, so that the leap day is its last.
    let (years, months) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let days =
        years * 365 + years / 4 - years / 100 + years / 400 + (153 * months + 2) / 5 + day - 1;
    let seconds = (days - 719_468) * 86_400 + hour * 3600 + minute * 60 + second - offset;
    u64::try_from(seconds * 1000 + ms).ok()
}

/// A time of so many Unix milliseconds as RFC 3339 writes it in UTC, such as `2026-01-31T12:00:00.500Z`.
#[must_use]
pub(crate) fn rfc3339(unix_ms: u64) -> String {
    let (seconds, ms) = (unix_ms / 1000, unix_ms % 1000);
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    // Counted from 0000-03-01, so that the leap day is the last of its year.
    let days = days + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let (year, month) = if month < 10 {
        (year + era * 400, month + 3)
    } else {
        (year + era * 400 + 1, month - 9)
    };
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z")
}

/// Three numbers of fixed widths.
fn three(text: &str, between: char, widths: [usize; 3]) -> Option<(i64, i64, i64)> {
    let mut parts = text
        .split(between)
        .zip(widths)
        .map(|(part, width)| digits(part, width));
    let numbers = (parts.next()??, parts.next()??, parts.next()??);
    (text.len() == widths.iter().sum::<usize>() + 2).then_some(numbers)
}

fn digits(text: &str, width: usize) -> Option<i64> {
    let all = text.len() == width && text.bytes().all(|byte| byte.is_ascii_digit());
    all.then(|| text.parse().ok()).flatten()
}

fn since_1970() -> Duration {
    if let Some(start) = VIRTUAL.get() {
        return start.unix + start.at.elapsed();
    }
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
}

thread_local! {
    /// When the wall clock of this thread is one that follows tokio's: its start on both.
    ///
    /// Of a thread, since whoever asks for the time has nothing at hand that could tell a rehearsal from a gateway, and
    /// a rehearsal is a runtime of one thread.
    static VIRTUAL: Cell<Option<Start>> = const { Cell::new(None) };
}

#[derive(Debug, Clone, Copy)]
struct Start {
    unix: Duration,
    at: Instant,
}

/// Has the wall clock of this thread follow tokio's clock, for as long as it lives.
#[derive(Debug)]
pub(crate) struct VirtualClock {
    before: Option<Start>,
    /// Another thread's clock must not be put back.
    _of_this_thread: PhantomData<*const ()>,
}

impl VirtualClock {
    /// Starts at so many Unix milliseconds; within a runtime whose time is paused, it stands still with that.
    pub(crate) fn start(unix_ms: u64) -> Self {
        let start = Start {
            unix: Duration::from_millis(unix_ms),
            at: Instant::now(),
        };
        Self {
            before: VIRTUAL.replace(Some(start)),
            _of_this_thread: PhantomData,
        }
    }
}

impl Drop for VirtualClock {
    fn drop(&mut self) {
        VIRTUAL.set(self.before);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc_3339_is_read() {
        for (text, ms) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2023-11-14T22:13:20Z", 1_700_000_000_000),
            ("2023-11-14t23:13:20.1234567+01:00", 1_700_000_000_123),
            ("2023-11-14 21:43:20.5-00:30", 1_700_000_000_500),
            ("2000-02-29T00:00:00Z", 951_782_400_000),
            ("2016-12-31T23:59:60Z", 1_483_228_800_000),
            ("9999-12-31T23:59:59.999Z", 253_402_300_799_999),
        ] {
            assert_eq!(parse_rfc3339_ms(text), Some(ms), "{text}");
        }
        for text in [
            "",
            "now",
            "2023-11-14",
            "2023-11-14T22:13:20",
            "2023-11-14T22:13Z",
            "2023-13-14T22:13:20Z",
            "2023-02-29T22:13:20Z",
            "1900-02-29T22:13:20Z",
            "2023-11-14T24:13:20Z",
            "2023-11-14T22:13:20.Z",
            "2023-11-14T22:13:20+0100",
            "2023-11-14T22:13:20+1:00",
            "+023-11-14T22:13:20Z",
            "1969-12-31T23:59:59Z",
            "2023-11-14T22:13:20Zx",
            "2023-11-1\u{e9}T22:13:20Z",
        ] {
            assert_eq!(parse_rfc3339_ms(text), None, "{text}");
        }
    }

    #[test]
    fn rfc_3339_is_written_as_it_is_read() {
        for (text, ms) in [
            ("1970-01-01T00:00:00.000Z", 0),
            ("2000-02-29T00:00:00.001Z", 951_782_400_001),
            ("2000-03-01T00:00:00.000Z", 951_868_800_000),
            ("2023-12-31T23:59:59.999Z", 1_704_067_199_999),
            ("2100-02-28T12:00:00.000Z", 4_107_499_200_000),
            ("9999-12-31T23:59:59.999Z", 253_402_300_799_999),
        ] {
            assert_eq!(rfc3339(ms), text);
        }
        // A prime number of milliseconds, so that every field takes many values.
        for ms in (0..253_402_300_800_000).step_by(86_413_007_921) {
            assert_eq!(parse_rfc3339_ms(&rfc3339(ms)), Some(ms));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_virtual_clock_follows_the_paused_one() {
        let real = unix_now();
        let clock = VirtualClock::start(1_767_225_600_500);
        assert_eq!(
            (unix_now(), unix_millis()),
            (1_767_225_600, 1_767_225_600_500)
        );
        tokio::time::advance(Duration::from_secs(90)).await;
        assert_eq!(unix_millis(), 1_767_225_690_500);
        drop(clock);
        assert!(unix_now() >= real, "the real one is back");
        assert_ne!(unix_now(), 1_767_225_690);
    }

    #[test]
    fn no_number_of_seconds_panics() {
        assert_eq!(seconds(0.25), Duration::from_millis(250));
        for none in [-1.0, f64::NEG_INFINITY, f64::NAN] {
            assert_eq!(seconds(none), Duration::ZERO);
        }
        for long in [1e300, f64::INFINITY] {
            assert_eq!(seconds(long), Duration::from_hours(8760));
        }
    }
}
