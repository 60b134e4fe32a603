//! Metrics by their names, as they stood at one moment.
//!
//! Stands between the metrics, which are written all over the gateway, and the status, which shows a choice of them.

use std::collections::{BTreeMap, HashMap};

use prometheus::proto::{Metric, MetricFamily, MetricType};
use serde::Serialize;

use crate::telemetry::metrics::Metrics;

/// What counts as the label's value where a series does not have the label.
const NO_LABEL: &str = "unknown";

/// A histogram, cumulative as Prometheus has it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Timed {
    count: u64,
    sum_seconds: f64,
    /// Upper bound in seconds, and how many took no longer.
    buckets: Vec<(f64, u64)>,
}

/// Every metric at one moment.
pub(super) struct Reading(HashMap<String, MetricFamily>);

/// The labels that a series must have.
type Labels<'a> = &'a [(&'a str, &'a str)];

impl Reading {
    pub(super) fn take(metrics: &Metrics) -> Self {
        let families = metrics.gather().into_iter();
        Self(
            families
                .map(|family| (family.name().to_owned(), family))
                .collect(),
        )
    }

    /// The sum of the series of a counter or gauge that have these labels; none if there are none.
    pub(super) fn value(&self, name: &str, labels: Labels<'_>) -> Option<f64> {
        self.series(name, labels)
            .map(|(kind, metric)| number(kind, metric))
            .filter(|value| value.is_finite())
            .reduce(|sum, value| sum + value)
    }

    /// As [`Reading::value`], for what is counted.
    pub(super) fn count(&self, name: &str, labels: Labels<'_>) -> Option<u64> {
        self.value(name, labels).map(whole)
    }

    /// As [`Reading::count`], where nothing counted yet is zero.
    pub(super) fn total(&self, name: &str, labels: Labels<'_>) -> u64 {
        self.count(name, labels).unwrap_or_default()
    }

    /// What was counted, apart by the values of one label.
    pub(super) fn totals_by(
        &self,
        name: &str,
        label: &str,
        labels: Labels<'_>,
    ) -> BTreeMap<String, u64> {
        let mut totals = BTreeMap::new();
        for (kind, metric) in self.series(name, labels) {
            let value = value_of(metric, label).unwrap_or(NO_LABEL);
            *totals.entry(value.to_owned()).or_default() += whole(number(kind, metric));
        }
        totals.retain(|_, total| *total > 0);
        totals
    }

    /// The values that one label has, in alphabetical order.
    pub(super) fn values_of(&self, name: &str, label: &str) -> Vec<String> {
        let mut values: Vec<_> = self
            .series(name, &[])
            .filter_map(|(_, metric)| value_of(metric, label))
            .map(str::to_owned)
            .collect();
        values.sort_unstable();
        values.dedup();
        values
    }

    /// The histogram that has these labels.
    pub(super) fn timed(&self, name: &str, labels: Labels<'_>) -> Option<Timed> {
        let (_, metric) = self.series(name, labels).next()?;
        let histogram = metric.get_histogram();
        Some(Timed {
            count: histogram.get_sample_count(),
            sum_seconds: histogram.get_sample_sum(),
            buckets: histogram
                .get_bucket()
                .iter()
                .map(|bucket| (bucket.upper_bound(), bucket.cumulative_count()))
                .collect(),
        })
    }

    fn series(
        &self,
        name: &str,
        labels: Labels<'_>,
    ) -> impl Iterator<Item = (MetricType, &Metric)> {
        let family = self.0.get(name).into_iter();
        family.flat_map(move |family| {
            let kind = family.get_field_type();
            let fits = move |metric: &&Metric| {
                labels
                    .iter()
                    .all(|(label, value)| value_of(metric, label) == Some(value))
            };
            family
                .get_metric()
                .iter()
                .filter(fits)
                .map(move |metric| (kind, metric))
        })
    }
}

fn value_of<'a>(metric: &'a Metric, label: &str) -> Option<&'a str> {
    let mut pairs = metric.get_label().iter();
    let pair = pairs.find(|pair| pair.name() == label)?;
    Some(pair.value())
}

fn number(kind: MetricType, metric: &Metric) -> f64 {
    match kind {
        MetricType::COUNTER => metric.get_counter().get_value(),
        _ => metric.get_gauge().get_value(),
    }
}

/// A count as a whole number; what is negative or no number is none at all.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "counts are whole, not negative and far below 2^53; a cast saturates"
)]
pub(super) fn whole(value: f64) -> u64 {
    value as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_there_is_not_zero() {
        let metrics = Metrics::new().unwrap();
        let closes = |code, count| {
            let closes = metrics.closes_total.with_label_values(&[code]);
            closes.inc_by(count);
        };
        closes("1000", 2);
        closes("1001", 3);
        closes("4401", 0);
        metrics
            .sink_duration_seconds
            .with_label_values(&["redis"])
            .observe(0.002);
        let reading = Reading::take(&metrics);
        assert_eq!(reading.count("wsgw_closes_total", &[]), Some(5));
        assert_eq!(
            reading.count("wsgw_closes_total", &[("code", "1001")]),
            Some(3)
        );
        assert_eq!(reading.count("wsgw_closes_total", &[("code", "9")]), None);
        assert_eq!(reading.value("wsgw_no_such_metric", &[]), None);
        let by_code = reading.totals_by("wsgw_closes_total", "code", &[]);
        assert_eq!(
            by_code,
            BTreeMap::from([("1000".into(), 2), ("1001".into(), 3)])
        );
        assert_eq!(reading.values_of("wsgw_closes_total", "code").len(), 3);
        let timed = reading
            .timed("wsgw_sink_duration_seconds", &[("sink", "redis")])
            .unwrap();
        assert_eq!((timed.count, timed.sum_seconds), (1, 0.002));
        assert_eq!(timed.buckets[..3], [(5e-4, 0), (1e-3, 0), (2.5e-3, 1)]);
        assert_eq!((whole(-1.0), whole(f64::NAN)), (0, 0));
    }
}
