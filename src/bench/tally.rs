//! Counts what arrived, twice, late or out of order.
//!
//! Stands where messages arrive.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use super::Result;

/// Checks one numbered stream (0, 1, 2 …).
#[derive(Debug, Default)]
pub(crate) struct Sequence {
    seen: Vec<u64>,
    next: usize,
}

/// What a number in a stream turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// New, and later than all before.
    InOrder,
    /// New, but a later one was there first.
    Late,
    /// Seen before.
    Again,
}

impl Sequence {
    /// Notes one arrival.
    pub(crate) fn note(&mut self, number: usize) -> Arrival {
        let (word, bit) = (number / 64, 1 << (number % 64));
        if word >= self.seen.len() {
            self.seen.resize(word + 1, 0);
        }
        if self.seen[word] & bit != 0 {
            return Arrival::Again;
        }
        self.seen[word] |= bit;
        if number < self.next {
            return Arrival::Late;
        }
        self.next = number + 1;
        Arrival::InOrder
    }
}

/// Sums of arrivals.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    /// Different messages that arrived.
    pub(crate) unique: usize,
    /// Messages that arrived again.
    pub(crate) duplicate: usize,
    /// Messages that arrived after a later one.
    pub(crate) reordered: usize,
}

impl Totals {
    /// Adds one arrival.
    pub(crate) fn add(&mut self, arrival: Arrival) {
        match arrival {
            Arrival::InOrder => self.unique += 1,
            Arrival::Late => {
                self.unique += 1;
                self.reordered += 1;
            }
            Arrival::Again => self.duplicate += 1,
        }
    }
}

/// Latencies, to three digits.
#[derive(Debug)]
pub(crate) struct Latencies(Histogram<u64>);

/// Latencies in microseconds.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Percentiles {
    /// What half of them stay below.
    pub(crate) p50: f64,
    /// What nine in ten stay below.
    #[serde(default)]
    pub(crate) p90: f64,
    /// What 99 in a hundred stay below.
    pub(crate) p99: f64,
    /// What 999 in a thousand stay below.
    pub(crate) p999: f64,
    /// The longest.
    pub(crate) max: f64,
}

impl Latencies {
    /// An empty histogram for up to an hour; what takes longer counts as that.
    pub(crate) fn new() -> Result<Self> {
        const HOUR_NANOS: u64 = 3_600_000_000_000;
        Histogram::new_with_max(HOUR_NANOS, 3)
            .map(Self)
            .map_err(|error| error.to_string().into())
    }

    /// Adds one latency.
    pub(crate) fn add(&mut self, latency: Duration) {
        let nanos = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
        self.0.saturating_record(nanos);
    }

    /// The figures to report; `None` when nothing was recorded.
    pub(crate) fn percentiles(&self) -> Option<Percentiles> {
        let micros = |nanos: u64| nanos as f64 / 1000.0;
        (!self.0.is_empty()).then(|| Percentiles {
            p50: micros(self.0.value_at_quantile(0.5)),
            p90: micros(self.0.value_at_quantile(0.9)),
            p99: micros(self.0.value_at_quantile(0.99)),
            p999: micros(self.0.value_at_quantile(0.999)),
            max: micros(self.0.max()),
        })
    }

    /// How often each latency was seen, in microseconds, to add up several runs; `None` when nothing was recorded.
    pub(crate) fn counts(&self) -> Option<Vec<(f64, u64)>> {
        (!self.0.is_empty()).then(|| {
            let recorded = self.0.iter_recorded();
            recorded
                .map(|step| {
                    let micros = step.value_iterated_to() as f64 / 1000.0;
                    (micros, step.count_at_value())
                })
                .collect()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_late_from_again() {
        let mut sequence = Sequence::default();
        let mut totals = Totals::default();
        for number in [0, 1, 70, 69, 70, 1, 71] {
            totals.add(sequence.note(number));
        }
        let expected = Totals {
            unique: 5,
            duplicate: 2,
            reordered: 1,
        };
        assert_eq!(totals, expected);
    }

    #[test]
    fn latencies_of_any_size_are_kept() {
        let mut latencies = Latencies::new().unwrap();
        assert!(latencies.percentiles().is_none());
        latencies.add(Duration::from_micros(5));
        latencies.add(Duration::from_mins(2));
        let counts = latencies.counts().unwrap();
        assert_eq!(counts.iter().map(|(_, count)| count).sum::<u64>(), 2);
        assert!((counts[0].0 - 5.0).abs() < 0.1, "{counts:?}");
        let found = latencies.percentiles().unwrap();
        assert!((found.p50 - 5.0).abs() < 0.1, "{found:?}");
        assert!((found.max / 120e6 - 1.0).abs() < 0.01, "{found:?}");
    }
}
