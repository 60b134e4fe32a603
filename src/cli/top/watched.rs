//! One gateway as it is watched: its last answers, what they come to, and since when it gives none.

use std::collections::VecDeque;

use super::rates::{Rates, same_process};
use super::status::Status;

/// Points of a curve that are kept.
const CURVE: usize = 120;

/// Answers over which quantiles are taken: of one second alone there are often too few observations.
const QUANTILES: usize = 15;

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Trouble {
    /// Unix seconds of the first try that failed.
    pub(super) since: u64,
    /// What is wrong now.
    pub(super) text: String,
}

/// One gateway.
#[derive(Debug, Default)]
pub(super) struct Watched {
    /// Its address, as it is shown.
    pub(super) url: String,
    /// What it answered last.
    pub(super) rates: Rates,
    /// Why it gives no answer now.
    pub(super) trouble: Option<Trouble>,
    /// Unix seconds at which it was found to be another process than before.
    pub(super) restarted: Option<u64>,
    pub(super) messages: Curve,
    pub(super) pushes: Curve,
    answers: VecDeque<Status>,
}

/// The last points of a rate; none where it was not known.
#[derive(Debug, Default)]
pub(super) struct Curve(Vec<Option<f64>>);

impl Curve {
    fn push(&mut self, point: Option<f64>) {
        if self.0.len() == CURVE {
            self.0.remove(0);
        }
        self.0.push(point);
    }

    pub(super) fn points(&self) -> &[Option<f64>] {
        &self.0
    }
}

impl Watched {
    pub(super) fn new(url: String) -> Self {
        Self {
            url,
            ..Self::default()
        }
    }

    /// The last answer, which is old while there is trouble.
    pub(super) fn status(&self) -> Option<&Status> {
        self.answers.back()
    }

    /// The address without what is the same for all.
    pub(super) fn name(&self) -> &str {
        self.url.strip_prefix("http://").unwrap_or(&self.url)
    }

    /// Takes an answer, or why there was none.
    pub(super) fn take(&mut self, answer: Result<Status, String>, now: u64) {
        match answer {
            Ok(status) => {
                self.trouble = None;
                self.took(status, now);
            }
            Err(text) => {
                let since = self.trouble.as_ref().map_or(now, |trouble| trouble.since);
                self.trouble = Some(Trouble { since, text });
                self.rates = Rates::default();
            }
        }
        self.messages.push(self.rates.messages_per_second);
        self.pushes.push(self.rates.pushes_per_second);
    }

    fn took(&mut self, status: Status, now: u64) {
        if let Some(before) = self.answers.back()
            && !same_process(before, &status)
        {
            self.restarted = Some(now);
            self.answers.clear();
        }
        self.rates = match (self.answers.back(), self.answers.front()) {
            (Some(before), Some(earlier)) => Rates::between(before, &status, earlier),
            _ => Rates::default(),
        };
        if self.answers.len() == QUANTILES {
            self.answers.pop_front();
        }
        self.answers.push_back(status);
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

    #[test]
    fn a_gateway_that_goes_and_comes_back_as_another_process() {
        let mut watched = Watched::new("http://a:1".into());
        assert_eq!(watched.name(), "a:1");
        watched.take(Ok(status("x", 1.0, 10)), 100);
        assert_eq!(watched.rates.messages_per_second, None, "one is no change");
        watched.take(Ok(status("x", 2.0, 30)), 101);
        assert_eq!(watched.rates.messages_per_second, Some(20.0));
        watched.take(Err("refused".into()), 102);
        watched.take(Err("timed out".into()), 103);
        let trouble = watched.trouble.clone().unwrap();
        assert_eq!((trouble.since, trouble.text.as_str()), (102, "timed out"));
        assert_eq!(watched.rates, Rates::default(), "old rates are not shown");
        assert_eq!(watched.status().unwrap().messages.received_total, 30);

        watched.take(Ok(status("y", 0.5, 4)), 104);
        assert_eq!(
            (watched.restarted, watched.trouble.as_ref()),
            (Some(104), None)
        );
        assert_eq!(watched.rates.messages_per_second, None);
        watched.take(Ok(status("y", 1.5, 6)), 105);
        assert_eq!(watched.rates.messages_per_second, Some(2.0));
        let curve = [None, Some(20.0), None, None, None, Some(2.0)];
        assert_eq!(watched.messages.points(), curve);
    }

    #[test]
    fn an_interruption_of_the_network_is_no_restart() {
        let mut watched = Watched::new("http://a:1".into());
        watched.take(Ok(status("x", 1.0, 10)), 100);
        watched.take(Err("timed out".into()), 101);
        watched.take(Ok(status("x", 5.0, 50)), 104);
        assert_eq!(watched.restarted, None);
        assert_eq!(watched.rates.messages_per_second, Some(10.0));
    }

    #[test]
    fn memory_is_bounded() {
        let mut watched = Watched::new(String::new());
        for second in 0..1_000_u32 {
            watched.take(Ok(status("x", second.into(), second.into())), 0);
        }
        assert_eq!(watched.messages.points().len(), CURVE);
        assert_eq!(watched.answers.len(), QUANTILES);
    }
}
