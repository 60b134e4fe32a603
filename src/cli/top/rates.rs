//! What changed between two answers of a gateway: rates and quantiles.
//!
//! Counters begin anew with the process, so two answers are compared only if one process gave them; and a counter that
//! went down, as that of a sink that was removed and came back, has no rate until the next answer.

use serde::Serialize;

use super::status::{Sink, Source, Stage, Status, Timed};

/// A time that a share of observations stayed within.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct Quantile {
    /// Seconds, interpolated within a bucket.
    pub(super) seconds: f64,
    /// Whether it was more than that, which is the last bound.
    pub(super) or_more: bool,
}

/// What one gateway did between two answers; none where it cannot be told.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(super) struct Rates {
    /// Seconds between the two.
    pub(super) seconds: f64,
    pub(super) messages_per_second: Option<f64>,
    pub(super) rate_limited_per_second: Option<f64>,
    pub(super) pushes_per_second: Option<f64>,
    pub(super) queued_per_second: Option<f64>,
    pub(super) dropped_per_second: Option<f64>,
    pub(super) opened_per_second: Option<f64>,
    pub(super) closed_per_second: Option<f64>,
    pub(super) spans_per_second: Option<f64>,
    /// Share of one core.
    pub(super) cpu: Option<f64>,
    pub(super) stages: Vec<StageRates>,
    pub(super) sinks: Vec<SinkRates>,
    pub(super) sources: Vec<SourceRates>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(super) struct StageRates {
    pub(super) name: String,
    pub(super) messages_per_second: Option<f64>,
    pub(super) ended_per_second: Option<f64>,
    pub(super) p50: Option<Quantile>,
    pub(super) p99: Option<Quantile>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(super) struct SinkRates {
    pub(super) name: String,
    pub(super) delivered_per_second: Option<f64>,
    pub(super) retries_per_second: Option<f64>,
    pub(super) p50: Option<Quantile>,
    pub(super) p99: Option<Quantile>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(super) struct SourceRates {
    pub(super) name: String,
    pub(super) pushes_per_second: Option<f64>,
    pub(super) malformed_per_second: Option<f64>,
}

impl Rates {
    /// From the answers before and after; quantiles since `earlier`, which may be further back, as few observations
    /// make poor ones.
    pub(super) fn between(before: &Status, after: &Status, earlier: &Status) -> Self {
        let Some(change) = Change::of(before, after) else {
            return Self::default();
        };
        let quantiles = Change::of(earlier, after).unwrap_or(change);
        let per_second =
            |count: fn(&Status) -> u64| change.per_second(|status| Some(count(status)));
        Self {
            seconds: change.seconds,
            messages_per_second: per_second(|status| status.messages.received_total),
            rate_limited_per_second: per_second(|status| status.messages.rate_limited_total),
            pushes_per_second: per_second(|status| status.pushes.accepted_total),
            queued_per_second: per_second(|status| status.pushes.queued_total),
            dropped_per_second: per_second(|status| status.pushes.dropped_total.values().sum()),
            opened_per_second: per_second(|status| status.connections.opened_total),
            closed_per_second: per_second(|status| status.connections.closed_total.values().sum()),
            spans_per_second: per_second(|status| status.traces.exported_total),
            cpu: change.cpu(),
            stages: stages(after, change, quantiles),
            sinks: sinks(after, change, quantiles),
            sources: sources(after, change),
        }
    }
}

fn stages(after: &Status, change: Change<'_>, quantiles: Change<'_>) -> Vec<StageRates> {
    // What reaches a stage is what came in and did not end above it.
    let mut left = change.per_second(|status| Some(status.messages.received_total));
    let all = &after.pipeline.stages;
    let of = |(index, stage): (usize, &Stage)| {
        let name = stage.name.as_str();
        let timed = quantiles.timed(|status| Some(&find_stage(status, name)?.timed));
        let quantile = |share| timed.as_ref().and_then(|timed| timed.quantile(share));
        // A gateway counts from the first on.
        let ended = change
            .per_second(|status| Some(find_stage(status, name)?.ended_total.unwrap_or_default()));
        let counted = change.per_second(|status| find_stage(status, name)?.messages_total);
        let rates = StageRates {
            name: name.to_owned(),
            messages_per_second: counted.or(left),
            ended_per_second: ended,
            p50: quantile(0.5),
            p99: quantile(0.99),
        };
        // Stages of one name are counted together.
        if all[..index].iter().all(|above| above.name != name) {
            left = left.zip(ended).map(|(left, ended)| (left - ended).max(0.0));
        }
        rates
    };
    all.iter().enumerate().map(of).collect()
}

fn sinks(after: &Status, change: Change<'_>, quantiles: Change<'_>) -> Vec<SinkRates> {
    let of = |sink: &Sink| {
        let name = sink.name.as_str();
        let timed = quantiles.timed(|status| Some(&find_sink(status, name)?.timed));
        let quantile = |share| timed.as_ref().and_then(|timed| timed.quantile(share));
        SinkRates {
            name: name.to_owned(),
            delivered_per_second: change
                .per_second(|status| Some(find_sink(status, name)?.delivered_total)),
            retries_per_second: change
                .per_second(|status| Some(find_sink(status, name)?.retries_total)),
            p50: quantile(0.5),
            p99: quantile(0.99),
        }
    };
    after.sinks.iter().map(of).collect()
}

fn sources(after: &Status, change: Change<'_>) -> Vec<SourceRates> {
    let of = |source: &Source| {
        let name = source.name.as_str();
        SourceRates {
            name: name.to_owned(),
            pushes_per_second: change
                .per_second(|status| Some(find_source(status, name)?.pushes_total)),
            malformed_per_second: change
                .per_second(|status| Some(find_source(status, name)?.malformed_total)),
        }
    };
    after.sources.iter().map(of).collect()
}

fn find_stage<'a>(status: &'a Status, name: &str) -> Option<&'a Stage> {
    let mut stages = status.pipeline.stages.iter();
    stages.find(|stage| stage.name == name)
}

fn find_sink<'a>(status: &'a Status, name: &str) -> Option<&'a Sink> {
    status.sinks.iter().find(|sink| sink.name == name)
}

fn find_source<'a>(status: &'a Status, name: &str) -> Option<&'a Source> {
    status.sources.iter().find(|source| source.name == name)
}

/// Two answers of one process, the second later than the first.
#[derive(Debug, Clone, Copy)]
struct Change<'a> {
    before: &'a Status,
    after: &'a Status,
    seconds: f64,
}

impl<'a> Change<'a> {
    fn of(before: &'a Status, after: &'a Status) -> Option<Self> {
        // The gateway's own time: what the network took is no part of it.
        let seconds = after.uptime_seconds - before.uptime_seconds;
        (same_process(before, after) && seconds > 0.0).then_some(Self {
            before,
            after,
            seconds,
        })
    }

    fn per_second(self, count: impl Fn(&Status) -> Option<u64>) -> Option<f64> {
        let more = count(self.after)?.checked_sub(count(self.before)?)?;
        Some(more as f64 / self.seconds)
    }

    fn cpu(self) -> Option<f64> {
        let spent = self.after.process.cpu_seconds? - self.before.process.cpu_seconds?;
        (spent >= 0.0).then_some(spent / self.seconds)
    }

    fn timed(self, of: impl Fn(&Status) -> Option<&Option<Timed>>) -> Option<Timed> {
        let after = of(self.after)?.as_ref()?;
        match of(self.before)? {
            Some(before) => after.since(before),
            // Nothing had been observed.
            None => Some(after.clone()),
        }
    }
}

/// Whether one process gave both answers.
pub(super) fn same_process(before: &Status, after: &Status) -> bool {
    before.started_at == after.started_at
        && before.node_id == after.node_id
        && before.uptime_seconds <= after.uptime_seconds
}

impl Timed {
    /// What was observed since; none if it is another histogram.
    fn since(&self, before: &Self) -> Option<Self> {
        if self.buckets.len() != before.buckets.len() {
            return None;
        }
        let buckets = self.buckets.iter().zip(&before.buckets);
        let buckets = buckets.map(|((bound, count), (was, counted))| {
            // Bounds come from the same text.
            let same = bound.to_bits() == was.to_bits();
            Some((*bound, same.then(|| count.checked_sub(*counted))??))
        });
        Some(Self {
            count: self.count.checked_sub(before.count)?,
            sum_seconds: self.sum_seconds - before.sum_seconds,
            buckets: buckets.collect::<Option<_>>()?,
        })
    }

    /// The time that this share of the observations stayed within, as `histogram_quantile` of Prometheus has it;
    /// none without any.
    fn quantile(&self, share: f64) -> Option<Quantile> {
        let wanted = share * self.count as f64;
        let (last, _) = self.buckets.last()?;
        if self.count == 0 {
            return None;
        }
        let (mut bound_below, mut count_below) = (0.0, 0);
        for &(bound, count) in &self.buckets {
            if count as f64 >= wanted && count > count_below {
                let within = (wanted - count_below as f64) / (count - count_below) as f64;
                return Some(Quantile {
                    seconds: bound_below + (bound - bound_below) * within.max(0.0),
                    or_more: false,
                });
            }
            (bound_below, count_below) = (bound, count);
        }
        Some(Quantile {
            seconds: *last,
            or_more: true,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(started_at: &str, uptime_seconds: f64, received_total: u64) -> Status {
        let mut status = Status {
            started_at: started_at.into(),
            uptime_seconds,
            ..Status::default()
        };
        status.messages.received_total = received_total;
        status
    }

    fn timed(buckets: &[(f64, u64)], count: u64) -> Timed {
        Timed {
            count,
            sum_seconds: 0.0,
            buckets: buckets.to_vec(),
        }
    }

    #[test]
    fn a_rate_is_the_change_by_the_gateways_own_time() {
        let (mut before, mut after) = (status("a", 10.0, 100), status("a", 12.0, 350));
        before.process.cpu_seconds = Some(1.0);
        after.process.cpu_seconds = Some(1.5);
        before.connections.closed_total = [("1000".to_owned(), 1)].into();
        after.connections.closed_total = [("1000".to_owned(), 2), ("1006".to_owned(), 3)].into();
        let rates = Rates::between(&before, &after, &before);
        assert_eq!(rates.messages_per_second, Some(125.0));
        assert_eq!(rates.closed_per_second, Some(2.0));
        assert_eq!(rates.cpu, Some(0.25));
        assert_eq!(rates.pushes_per_second, Some(0.0));
    }

    #[test]
    fn a_restart_makes_no_rate_at_all() {
        let before = status("a", 10.0, 100);
        for after in [
            status("b", 2.0, 5),
            // Has counted more already, and is up for longer.
            status("b", 20.0, 500),
            // A clock that was put back.
            status("a", 2.0, 5),
            // The same answer again.
            status("a", 10.0, 100),
        ] {
            let rates = Rates::between(&before, &after, &before);
            assert_eq!(rates, Rates::default(), "{after:?}");
        }
    }

    #[test]
    fn a_counter_that_went_down_has_no_rate_and_others_have() {
        let sink = |name: &str, delivered_total| Sink {
            name: name.into(),
            delivered_total,
            ..Sink::default()
        };
        let (mut before, mut after) = (status("a", 1.0, 0), status("a", 2.0, 7));
        before.sinks = vec![sink("redis", 50), sink("webhook", 1)];
        after.sinks = vec![sink("webhook", 4), sink("redis", 3), sink("rabbitmq", 9)];
        let rates = Rates::between(&before, &after, &before);
        let delivered: Vec<_> = rates
            .sinks
            .iter()
            .map(|sink| (sink.name.as_str(), sink.delivered_per_second))
            .collect();
        assert_eq!(
            delivered,
            [("webhook", Some(3.0)), ("redis", None), ("rabbitmq", None)]
        );
        assert_eq!(rates.messages_per_second, Some(7.0));
    }

    #[test]
    fn what_reaches_a_stage_did_not_end_above_it() {
        let stage = |name: &str, ended_total| Stage {
            name: name.into(),
            ended_total,
            ..Stage::default()
        };
        let names = ["rate_limit", "validate", "rate_limit", "fan_out"];
        let (mut before, mut after) = (status("a", 1.0, 0), status("a", 2.0, 100));
        before.pipeline.stages = names.map(|name| stage(name, None)).to_vec();
        after.pipeline.stages = names.map(|name| stage(name, None)).to_vec();
        for index in [0, 2] {
            after.pipeline.stages[index].ended_total = Some(10);
        }
        after.pipeline.stages[1].ended_total = Some(30);
        after.pipeline.stages[3].timed = Some(timed(&[(0.1, 4)], 4));
        let rates = Rates::between(&before, &after, &before);
        let flow: Vec<_> = rates
            .stages
            .iter()
            .map(|stage| (stage.messages_per_second, stage.ended_per_second))
            .collect();
        let expected = [(100.0, 10.0), (90.0, 30.0), (60.0, 10.0), (60.0, 0.0)];
        assert_eq!(
            flow,
            expected.map(|(came, ended)| (Some(came), Some(ended)))
        );
        assert!(
            rates.stages[3].p50.is_some(),
            "the first observations count"
        );
    }

    #[test]
    fn quantiles_are_of_what_was_observed_in_between() {
        let before = timed(&[(0.001, 1_000), (0.01, 1_000), (0.1, 1_000)], 1_000);
        let after = timed(&[(0.001, 1_000), (0.01, 1_090), (0.1, 1_099)], 1_100);
        let since = after.since(&before).unwrap();
        let close = |share: f64, seconds: f64, or_more: bool| {
            let quantile = since.quantile(share).unwrap();
            assert!((quantile.seconds - seconds).abs() < 1e-9, "{quantile:?}");
            assert_eq!(quantile.or_more, or_more, "{quantile:?}");
        };
        // 90 between 1 and 10 ms: the fiftieth is five ninths of the way.
        close(0.5, 0.001 + 0.009 * 50.0 / 90.0, false);
        close(0.9, 0.01, false);
        close(0.99, 0.1, false);
        close(1.0, 0.1, true);
        close(0.0, 0.001, false);
        let nothing = after.since(&after).unwrap();
        assert_eq!(nothing.quantile(0.5), None);
        assert_eq!(timed(&[], 3).quantile(0.5), None);
    }

    #[test]
    fn another_histogram_is_not_compared() {
        let one = timed(&[(0.1, 5)], 5);
        assert_eq!(timed(&[(0.1, 4)], 5).since(&one), None, "began anew");
        assert_eq!(timed(&[(0.1, 6)], 4).since(&one), None, "began anew");
        assert_eq!(timed(&[(0.2, 6)], 6).since(&one), None, "other bounds");
        assert_eq!(timed(&[(0.1, 6), (1.0, 6)], 6).since(&one), None);
    }
}
