//! Admission: whether there is room for one more connection, and time for one more handshake.
//!
//! Stands between the check of an upgrade request and the handshake stack: nothing is spent on a token before.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::time::Instant;

use crate::close::Refused;
use crate::config::ServerConfig;
use crate::rate::{Bucket, Rate};
use crate::registry::{AddressPlace, Registry};

/// What was admitted so far; outlives a reload, whose limits hold from the next request on.
#[derive(Debug)]
pub(super) struct Admission {
    open: Arc<AtomicUsize>,
    handshakes: Bucket,
}

/// One connection's place in `server.max_connections`; given back on drop.
#[derive(Debug)]
struct Place(Arc<AtomicUsize>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What a connection counts for in the limits, from its handshake to its end.
#[derive(Debug)]
pub(super) struct Places {
    _of_all: Place,
    _of_address: AddressPlace,
}

impl Admission {
    pub(super) fn new() -> Self {
        Self {
            open: Arc::default(),
            handshakes: Bucket::new(),
        }
    }

    /// Takes the places of one more connection, unless a limit is reached.
    pub(super) fn admit(
        &self,
        limits: &ServerConfig,
        registry: &Arc<Registry>,
        address: IpAddr,
    ) -> Result<Places, Refused> {
        if !self.has_time(limits.max_handshakes_per_second) {
            return Err(Refused::TooFast);
        }
        Ok(Places {
            _of_all: self
                .take_place(limits.max_connections)
                .ok_or(Refused::TooManyConnections)?,
            _of_address: registry
                .take_address(address, limits.max_connections_per_address)
                .ok_or(Refused::TooManyFromAddress)?,
        })
    }

    fn has_time(&self, per_second: f64) -> bool {
        if per_second <= 0.0 {
            return true;
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "validation bounds it by a million"
        )]
        let burst = per_second.ceil() as u32;
        self.handshakes
            .admits(Rate::new(per_second, burst), Instant::now())
    }

    fn take_place(&self, max: usize) -> Option<Place> {
        if self.open.fetch_add(1, Ordering::Relaxed) >= max && max != 0 {
            self.open.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        Some(Place(Arc::clone(&self.open)))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::BackpressureConfig;
    use crate::telemetry::metrics::Metrics;

    fn registry() -> Arc<Registry> {
        let metrics = Metrics::new().unwrap();
        Arc::new(Registry::new(BackpressureConfig::default(), metrics))
    }

    fn limits(per_second: f64, max_connections: usize) -> ServerConfig {
        ServerConfig {
            max_handshakes_per_second: per_second,
            max_connections,
            ..ServerConfig::default()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_seconds_worth_passes_at_once_and_then_the_rate() {
        let (admission, registry) = (Admission::new(), registry());
        let address = IpAddr::from([127, 0, 0, 1]);
        let admitted = |limits: &ServerConfig| {
            (0..100)
                .take_while(|_| admission.admit(limits, &registry, address).is_ok())
                .count()
        };
        assert_eq!(admitted(&limits(20.0, 0)), 20);
        tokio::time::advance(Duration::from_millis(250)).await;
        assert_eq!(admitted(&limits(20.0, 0)), 5);
        let refused = admission.admit(&limits(20.0, 0), &registry, address);
        assert_eq!(refused.unwrap_err(), Refused::TooFast);
        // A changed limit goes on from there.
        assert_eq!(admitted(&limits(0.0, 0)), 100, "off");
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(admitted(&limits(40.0, 0)), 40);
        tokio::time::advance(Duration::from_hours(1)).await;
        assert_eq!(admitted(&limits(0.5, 0)), 1, "less than one a second");
        tokio::time::advance(Duration::from_millis(1990)).await;
        assert_eq!(admitted(&limits(0.5, 0)), 0);
        tokio::time::advance(Duration::from_millis(10)).await;
        assert_eq!(admitted(&limits(0.5, 0)), 1);
    }

    #[tokio::test]
    async fn what_is_refused_takes_no_place() {
        let (admission, registry) = (Admission::new(), registry());
        let address = IpAddr::from([127, 0, 0, 1]);
        let limits = ServerConfig {
            max_connections_per_address: 1,
            ..limits(0.0, 2)
        };
        let place = admission.admit(&limits, &registry, address).unwrap();
        for _ in 0..3 {
            let refused = admission.admit(&limits, &registry, address);
            assert_eq!(refused.unwrap_err(), Refused::TooManyFromAddress);
        }
        let other = IpAddr::from([127, 0, 0, 2]);
        let second = admission.admit(&limits, &registry, other).unwrap();
        let third = admission.admit(&limits, &registry, IpAddr::from([127, 0, 0, 3]));
        assert_eq!(third.unwrap_err(), Refused::TooManyConnections);
        drop((place, second));
        assert_eq!(admission.open.load(Ordering::Relaxed), 0);
    }
}
