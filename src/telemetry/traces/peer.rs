//! The other side of a span, as far as addresses go.
//!
//! Stands beside the spans of sinks and sources, made once with each.

use super::SpanWriter;

/// The other side of a span, as far as addresses go.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Peer {
    host: Box<str>,
    port: Option<u16>,
}

impl Peer {
    /// Of an address such as `localhost:6379`; of several the first.
    pub(crate) fn new(address: &str) -> Self {
        let first = address.split(',').next().unwrap_or_default();
        let split = first.rsplit_once(':');
        let port = split.and_then(|(_, port)| port.parse().ok());
        let host = match split {
            Some((host, _)) if port.is_some() => host,
            _ => first,
        };
        Self {
            host: host.trim_matches(['[', ']']).into(),
            port,
        }
    }

    /// Writes `server.address` and `server.port`.
    pub(crate) fn write(&self, span: &mut SpanWriter) {
        span.text("server.address", &self.host);
        if let Some(port) = self.port {
            span.number("server.port", port.into());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_split() {
        for (address, host, port) in [
            ("localhost:6379", "localhost", Some(6379)),
            ("[::1]:5672", "::1", Some(5672)),
            ("a:1,b:2", "a", Some(1)),
            ("/run/redis.sock", "/run/redis.sock", None),
        ] {
            let host = host.into();
            assert_eq!(Peer::new(address), Peer { host, port }, "{address}");
        }
    }
}
