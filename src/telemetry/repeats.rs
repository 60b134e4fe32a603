//! Leaves out the lines of one event that come too often, so that nothing can flood the log.
//!
//! Stands before the lines are written, behind the level. What fails over and over for an outsider's sake is kept to a line
//! a second where it is logged (`throttle`); this is for all that nobody thought of. The lines of one place in the code
//! are counted, a second at a time; whatever is left out is told in one line once that second is over.

use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Instant;

use foldhash::fast::RandomState;
use parking_lot::{Mutex, RwLock};
use tracing::callsite::Identifier;
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use super::throttle;

/// Lines of one place in the code that are written in a second.
const MOST: u32 = 500;

/// Counts the lines of each place in the code.
#[derive(Debug, Clone)]
pub(super) struct Repeats(Arc<Known>);

#[derive(Debug)]
struct Known {
    began: Instant,
    places: RwLock<HashMap<Identifier, Arc<Mutex<Second>>, RandomState>>,
}

/// The newest second of a place in which there was a line.
#[derive(Debug, Default)]
struct Second {
    number: u64,
    lines: u32,
    left_out: u64,
    /// What the lines are about.
    event: String,
}

impl Default for Repeats {
    fn default() -> Self {
        Self(Arc::new(Known {
            began: Instant::now(),
            places: RwLock::default(),
        }))
    }
}

impl Second {
    /// Whether a line is written.
    fn pass(&mut self, now: u64, name: impl FnOnce() -> String) -> bool {
        if self.number != now {
            self.number = now;
            self.lines = 0;
        }
        self.lines = self.lines.saturating_add(1);
        if self.lines <= MOST {
            return true;
        }
        if self.left_out == 0 {
            self.event = name();
        }
        self.left_out += 1;
        false
    }

    /// What was left out, once its second is over.
    fn tell(&mut self, now: u64) -> Option<(String, u64)> {
        let over = self.left_out > 0 && self.number < now;
        over.then(|| {
            (
                std::mem::take(&mut self.event),
                std::mem::take(&mut self.left_out),
            )
        })
    }
}

impl Repeats {
    fn place(&self, identifier: Identifier) -> Arc<Mutex<Second>> {
        if let Some(known) = self.0.places.read().get(&identifier) {
            return Arc::clone(known);
        }
        Arc::clone(self.0.places.write().entry(identifier).or_default())
    }

    /// Tells what was left out; says whether there is more to tell once the current second is over. Where that is not
    /// waited for, all is told now.
    pub(super) fn tell(&self, now_or_never: bool) -> bool {
        let second = self.0.began.elapsed().as_secs();
        let until = if now_or_never { u64::MAX } else { second };
        let places: Vec<_> = self.0.places.read().values().cloned().collect();
        let mut more = false;
        for place in places {
            let told = {
                let mut place = place.lock();
                let told = place.tell(until);
                more |= place.left_out > 0;
                told
            };
            if let Some((of, count)) = told {
                tracing::warn!(event = "log_lines_suppressed", of, count);
            }
        }
        more
    }
}

impl<S: Subscriber> Layer<S> for Repeats {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        let metadata = event.metadata();
        let second = self.0.began.elapsed().as_secs();
        let passes = self.place(metadata.callsite()).lock().pass(second, || {
            let mut name = Name(metadata.target().to_owned());
            event.record(&mut name);
            name.0
        });
        if !passes {
            throttle::left_out();
        }
        passes
    }
}

/// The field `event` of a line.
struct Name(String);

impl Visit for Name {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "event" {
            value.clone_into(&mut self.0);
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn Debug) {}
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    /// Counts the lines that are written.
    #[derive(Clone, Default)]
    struct Written(Arc<AtomicUsize>);

    impl<S: Subscriber> Layer<S> for Written {
        fn on_event(&self, _: &Event<'_>, _: Context<'_, S>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_flood_of_one_event_leaves_others_alone_and_is_told_of() {
        let (repeats, written) = (Repeats::default(), Written::default());
        let subscriber = tracing_subscriber::registry()
            .with(repeats.clone())
            .with(written.clone());
        tracing::subscriber::with_default(subscriber, || {
            let most = MOST as usize;
            for number in 0..4 * most {
                tracing::info!(number, "a flood");
            }
            // It may have lasted into another second, which has lines of its own.
            let passed = written.0.swap(0, Ordering::Relaxed);
            assert!((most..4 * most).contains(&passed), "{passed}");
            tracing::error!("another");
            assert_eq!(written.0.swap(0, Ordering::Relaxed), 1);
            assert!(!repeats.tell(true), "all is told");
            assert_eq!(written.0.load(Ordering::Relaxed), 1);
        });
    }

    #[test]
    fn lines_are_counted_by_the_second() {
        let mut second = Second::default();
        let mut pass = |now, count: u32| {
            (0..count)
                .filter(|_| second.pass(now, || "x".into()))
                .count()
        };
        assert_eq!(pass(7, MOST + 3), MOST as usize);
        assert_eq!(pass(8, 2), 2);
        assert_eq!(
            second.tell(8),
            None,
            "its line comes when the second is over"
        );
        assert_eq!(second.tell(9), Some(("x".into(), 3)));
        assert_eq!(second.tell(10), None);
    }
}
