//! What runs: the deliveries, and of what each of their versions was made.
//!
//! Stands between two configurations: the next one's sinks are made from what it remembers.

use std::sync::{Arc, Weak};

use tokio::time::Instant;

use super::{Letters, SinkError};
use crate::brokers::Link;
use crate::config::Config;
use crate::leases::Leases;
use crate::sinks::dead_letter::{DeadLetters, FallbackDeadLetters};
use crate::sinks::delivery::{Delivery, DeliverySettings, Outlet, VersionTrace};
use crate::svc::BoxSink;
use crate::telemetry::metrics::Metrics;

/// The sinks that a gateway has, those among them that only finish what they have.
///
/// There is one value for each configuration that was in force, each made from the one before.
#[derive(Clone, Default)]
#[must_use = "dropping it ends the deliveries that nobody else holds"]
pub struct Running {
    sinks: Vec<Sink>,
    letters: Letters,
}

/// Compares two configurations in what one sink reads of them.
type Compare = fn(&Config, &Config) -> bool;

/// A sink that a configuration asks for.
pub(super) struct Wanted<'a> {
    pub(super) settings: DeliverySettings,
    pub(super) ties: Ties,
    /// Whether two configurations make the same sink, apart from its ties.
    pub(super) same: Compare,
    /// Whether they lead to the same place, apart from the link.
    pub(super) leads: Compare,
    pub(super) make: Box<dyn FnOnce() -> Result<BoxSink, SinkError> + 'a>,
}

/// What a sink is made with that is no setting: the same only if it is the very same.
#[derive(Clone, Default)]
pub(super) struct Ties {
    link: Option<Weak<dyn Link>>,
    /// The records of connections, and whether the sink decides about them.
    leases: Option<(Weak<Leases>, bool)>,
}

impl Ties {
    pub(super) fn new(leases: Option<(&Arc<Leases>, bool)>) -> Self {
        Self {
            link: None,
            leases: leases.map(|(leases, primary)| (Arc::downgrade(leases), primary)),
        }
    }

    /// Adds the link to a broker.
    pub(super) fn with<L: Link + 'static>(self, link: &Arc<L>) -> Self {
        let link: Weak<L> = Arc::downgrade(link);
        Self {
            link: Some(link),
            ..self
        }
    }
}

impl Ties {
    fn has_link_of(&self, other: &Self) -> bool {
        match (&self.link, &other.link) {
            (Some(own), Some(other)) => own.ptr_eq(other),
            (own, other) => own.is_none() && other.is_none(),
        }
    }
}

impl PartialEq for Ties {
    fn eq(&self, other: &Self) -> bool {
        let leases = match (&self.leases, &other.leases) {
            (Some((own, role)), Some((other, other_role))) => {
                own.ptr_eq(other) && role == other_role
            }
            (own, other) => own.is_none() && other.is_none(),
        };
        self.has_link_of(other) && leases
    }
}

/// What there is of one sink.
#[derive(Clone)]
struct Sink {
    delivery: Arc<Delivery>,
    /// The newest configuration's, unless that does not ask for this sink.
    current: Option<Current>,
    /// Every version that is not finished, the newest last.
    made: Vec<Made>,
}

#[derive(Clone)]
struct Current {
    outlet: Outlet,
    settings: DeliverySettings,
    origin: Arc<Origin>,
    leads: Compare,
}

/// Of what a version was made.
#[derive(Clone)]
struct Made {
    version: VersionTrace,
    settings: DeliverySettings,
    /// The very same for versions that share one sink.
    origin: Arc<Origin>,
    dead_letters: Weak<FallbackDeadLetters>,
}

/// Of what a sink was made.
pub(super) struct Origin {
    pub(super) config: Arc<Config>,
    pub(super) ties: Ties,
}

impl Running {
    /// Every delivery that may have events.
    pub fn deliveries(&self) -> impl Iterator<Item = &Arc<Delivery>> {
        self.sinks.iter().map(|sink| &sink.delivery)
    }

    pub(super) fn letters(&self) -> &Letters {
        &self.letters
    }

    /// The same, without sinks and versions that are finished; no sink is asked for yet.
    pub(super) fn without_finished(&self, wanted: &[Wanted<'_>], letters: Letters) -> Self {
        let asked = |name| wanted.iter().any(|wanted| wanted.settings.name == name);
        let finished = |sink: &Sink| {
            // An older generation may still hand events over.
            sink.delivery.is_idle() && Arc::strong_count(&sink.delivery) == 1
        };
        let sinks = self.sinks.iter();
        let sinks = sinks.filter(|sink| asked(sink.delivery.name()) || !finished(sink));
        let sinks = sinks.map(|sink| {
            let made = sink.made.iter().filter(|made| !made.version.is_cold());
            Sink {
                delivery: Arc::clone(&sink.delivery),
                current: None,
                made: made.cloned().collect(),
            }
        });
        Self {
            sinks: sinks.collect(),
            letters,
        }
    }

    /// Finds or makes a sink's delivery and version.
    pub(super) fn want(
        &mut self,
        wanted: Wanted<'_>,
        config: &Arc<Config>,
        dead_letters: &Arc<FallbackDeadLetters>,
        metrics: &Metrics,
    ) -> Result<Outlet, SinkError> {
        let name = wanted.settings.name;
        let at = self.sinks.iter().position(|s| s.delivery.name() == name);
        let mut fresh = None;
        let sink = match at {
            Some(at) => &mut self.sinks[at],
            None => fresh.insert(Sink {
                delivery: Delivery::start(&wanted.settings, metrics),
                current: None,
                made: Vec::new(),
            }),
        };
        let current = sink.want(wanted, config, dead_letters)?;
        let outlet = current.outlet.clone();
        sink.current = Some(current);
        self.sinks.extend(fresh);
        Ok(outlet)
    }

    /// Puts the configuration's versions in force, and ends those with sinks that it does not have.
    pub(super) fn activate(&self, deadline: Instant) {
        for sink in &self.sinks {
            sink.activate(deadline);
        }
    }
}

impl std::fmt::Debug for Running {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.deliveries()).finish()
    }
}

impl Sink {
    fn want(
        &mut self,
        wanted: Wanted<'_>,
        config: &Arc<Config>,
        dead_letters: &Arc<FallbackDeadLetters>,
    ) -> Result<Current, SinkError> {
        let Wanted {
            settings,
            ties,
            same,
            leads,
            make,
        } = wanted;
        let delivery = &self.delivery;
        let kin = self
            .made
            .iter()
            .rev()
            .filter(|made| made.origin.ties == ties && same(&made.origin.config, config));
        // A version may be finished by now, and then is not found.
        let found = kin.filter_map(|made| Some((made, delivery.find(&made.version)?)));
        let mut shares = None;
        for (made, version) in found {
            if made.delivers_as(&settings, dead_letters) {
                return Ok(Current {
                    outlet: Outlet::new(Arc::clone(delivery), version),
                    settings,
                    origin: Arc::clone(&made.origin),
                    leads,
                });
            }
            shares.get_or_insert((version.target().sink, Arc::clone(&made.origin)));
        }
        let (sink, origin) = if let Some(kept) = shares {
            kept
        } else {
            let config = Arc::clone(config);
            (make()?, Arc::new(Origin { config, ties }))
        };
        let letters = Arc::clone(dead_letters) as Arc<dyn DeadLetters>;
        let version = delivery.version(&settings, sink, letters);
        self.made.push(Made {
            version: version.trace(),
            settings: settings.clone(),
            origin: Arc::clone(&origin),
            dead_letters: Arc::downgrade(dead_letters),
        });
        Ok(Current {
            outlet: Outlet::new(Arc::clone(delivery), version),
            settings,
            origin,
            leads,
        })
    }

    fn activate(&self, deadline: Instant) {
        let current = self.current.as_ref();
        for made in &self.made {
            let Some(version) = self.delivery.find(&made.version) else {
                continue;
            };
            if current.is_some_and(|current| current.leads_where(&made.origin)) {
                // Its target is not given up, only the way of reaching it.
                self.delivery.activate(&version);
            } else {
                self.delivery.retire(&version, deadline);
            }
        }
        if let Some(Current {
            outlet,
            settings,
            origin,
            ..
        }) = current
        {
            self.delivery.depend_on(origin.ties.link.clone());
            self.delivery.set_buffer(&settings.buffer);
            self.delivery.activate(outlet.version());
        }
    }
}

impl Current {
    /// Whether something made of this leads to the same place.
    fn leads_where(&self, origin: &Origin) -> bool {
        self.origin.ties.has_link_of(&origin.ties)
            && (self.leads)(&self.origin.config, &origin.config)
    }
}

impl Made {
    /// Whether the version tries in this way and has these dead letters; the buffer is the delivery's.
    fn delivers_as(
        &self,
        settings: &DeliverySettings,
        dead_letters: &Arc<FallbackDeadLetters>,
    ) -> bool {
        let buffer = settings.buffer.clone();
        let own = DeliverySettings {
            buffer,
            ..self.settings.clone()
        };
        own == *settings && self.dead_letters.ptr_eq(&Arc::downgrade(dead_letters))
    }
}
