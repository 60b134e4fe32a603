//! The sinks of a configuration without their far sides: what would have been sent is written down, for `wsgw test`.
//!
//! Stands where `build` and the sinks stand in a gateway. The deliveries in front, with their buffers, order, retries
//! and dead letters, are the same; so is what chooses an event's stream, exchange and routing key.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use url::Url;

use super::build::local;
use super::dead_letter::{DeadLetter, DeadLetters, StoreFuture};
use super::delivery::{DeliverySettings, Outlet};
use super::rabbitmq::{RabbitmqSink, Routing};
use super::redis_stream::Streams;
use super::{Batch, DeliveryError, Retry, SinkError};
use crate::config::Config;
use crate::event::Event;
use crate::svc::BoxSink;
use crate::telemetry::metrics::Metrics;

/// The name of what takes events where no sink is configured.
pub(crate) const NONE: &str = "none";

/// Where an event went within a sink: the names of the parts and their values.
pub(crate) type Target = Vec<(&'static str, String)>;

/// An event that a sink took.
#[derive(Debug, Clone)]
pub(crate) struct Delivered {
    /// The sink.
    pub(crate) sink: &'static str,
    /// Where it went there.
    pub(crate) target: Target,
    /// The event.
    pub(crate) event: Arc<Event>,
}

/// What came out, and which sinks fail.
#[derive(Debug, Default)]
pub(crate) struct Record {
    delivered: Mutex<Vec<Delivered>>,
    letters: Mutex<Vec<DeadLetter>>,
    down: Mutex<HashSet<String>>,
    changes: AtomicUsize,
}

impl Record {
    /// How often anything came out or failed to.
    pub(crate) fn changes(&self) -> usize {
        self.changes.load(Ordering::Relaxed)
    }

    /// Takes what was delivered since the last time.
    pub(crate) fn take_delivered(&self) -> Vec<Delivered> {
        std::mem::take(&mut self.delivered.lock())
    }

    /// Takes what was given up since the last time.
    pub(crate) fn take_letters(&self) -> Vec<DeadLetter> {
        std::mem::take(&mut self.letters.lock())
    }

    /// Has a sink fail from now on, or work again.
    pub(crate) fn set_down(&self, sink: &str, down: bool) {
        let mut all = self.down.lock();
        if down {
            all.insert(sink.to_owned());
        } else {
            all.remove(sink);
        }
    }

    fn changed(&self) {
        self.changes.fetch_add(1, Ordering::Relaxed);
    }
}

/// Keeps dead letters where the test can see them.
struct Letters(Arc<Record>);

impl DeadLetters for Letters {
    fn store(&self, letter: DeadLetter) -> StoreFuture<'_> {
        self.0.letters.lock().push(letter);
        self.0.changed();
        Box::pin(std::future::ready(Ok(())))
    }
}

/// Starts a delivery for each sink that gets events, as `build` does, on the runtime of the caller.
///
/// Without any sink, one called `none` takes what would go nowhere.
///
/// # Errors
/// When a sink's settings cannot be used.
pub(crate) fn rehearse(
    config: &Config,
    metrics: &Metrics,
    record: &Arc<Record>,
) -> Result<Vec<Outlet>, SinkError> {
    let events = &config.events;
    let mode = config.events_mode();
    let mut sinks: Vec<(DeliverySettings, BoxSink)> = Vec::new();
    let mut add = |settings: DeliverySettings,
                   target: Box<dyn Fn(&Event) -> Target + Send + Sync>| {
        let sink = sink(settings.name, target, record);
        sinks.push((settings, sink));
    };
    if mode.has_webhook() && !events.webhook.url.is_empty() {
        let url = shown_url(&events.webhook.url);
        add(
            events.webhook.delivery(),
            Box::new(move |_| vec![("url", url.clone())]),
        );
    }
    if mode.has_broker() && !events.redis_stream.dsn.is_empty() {
        let streams = Streams::new(config);
        add(
            events.redis_stream.delivery_of(1),
            Box::new(move |event| vec![("stream", streams.of(event).into_owned())]),
        );
    }
    if mode.has_broker() && !events.rabbitmq.dsn.is_empty() {
        let routing = Routing::new(config)?;
        add(
            RabbitmqSink::settings(&events.rabbitmq),
            Box::new(move |event| {
                let (exchange, routing_key) = routing.of(event);
                vec![
                    ("exchange", exchange.to_string()),
                    ("routing_key", routing_key.to_string()),
                ]
            }),
        );
    }
    if events.stdout.enabled {
        add(local("stdout"), Box::new(|_| Vec::new()));
    }
    if sinks.is_empty() {
        let settings = local(NONE);
        let sink = sink(NONE, Box::new(|_| Vec::new()), record);
        sinks.push((settings, sink));
    }
    let letters: Arc<dyn DeadLetters> = Arc::new(Letters(Arc::clone(record)));
    let start = |(settings, sink): (DeliverySettings, BoxSink)| {
        Outlet::start(&settings, sink, Arc::clone(&letters), metrics)
    };
    Ok(sinks.into_iter().map(start).collect())
}

/// A sink that writes down what it takes, unless it is down.
fn sink(
    name: &'static str,
    target: Box<dyn Fn(&Event) -> Target + Send + Sync>,
    record: &Arc<Record>,
) -> BoxSink {
    let (record, target) = (Arc::clone(record), Arc::new(target));
    BoxSink::new(tower::service_fn(move |batch: Batch| {
        let result = if record.down.lock().contains(name) {
            Err(DeliveryError::all(
                batch.len(),
                "the sink is down",
                Retry::Backoff,
            ))
        } else {
            let taken = batch.iter().map(|event| Delivered {
                sink: name,
                target: target(event),
                event: Arc::clone(event),
            });
            record.delivered.lock().extend(taken);
            Ok(())
        };
        record.changed();
        std::future::ready(result)
    }))
}

/// A URL without what may be secret: user name, password, query and fragment.
pub(crate) fn shown_url(url: &str) -> String {
    let Ok(mut url) = Url::parse(url) else {
        return "(no URL)".into();
    };
    url.set_query(None);
    url.set_fragment(None);
    // Only a URL that cannot have them refuses this.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.into()
}
