//! Where a span stands: W3C `traceparent`, ids, and which traces are recorded.
//!
//! Stands first in tracing: the stage `trace`, the sources and the API read what came in by it, and write what goes on.

use std::fmt;
use std::hash::BuildHasher as _;
use std::sync::Arc;

use foldhash::fast::RandomState;

use crate::config::{ClientSampling, TracingConfig};

/// Length of the `traceparent`s that the gateway writes, in bytes.
const LEN: usize = 55;

/// The longest `traceparent` of a later version that is read, in bytes.
const MAX_LEN: usize = 256;

/// Names a trace; never all zero.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceId(pub [u8; 16]);

/// Names a span within its trace; never all zero.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SpanId(pub [u8; 8]);

impl TraceId {
    /// A random id.
    #[must_use]
    pub fn random() -> Self {
        // Zero is not a valid id; the lowest bit costs nothing of the randomness that matters.
        let mut id: [u8; 16] = rand::random();
        id[0] |= 1;
        Self(id)
    }

    /// The id in hexadecimal digits.
    #[must_use]
    pub fn to_text(self) -> Arc<str> {
        let mut text = [0; 32];
        write_hex(&mut text, &self.0);
        shared(&text)
    }
}

impl SpanId {
    /// A random id.
    #[must_use]
    pub fn random() -> Self {
        let mut id: [u8; 8] = rand::random();
        id[0] |= 1;
        Self(id)
    }
}

impl fmt::Debug for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_text())
    }
}

impl fmt::Debug for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [0; 16];
        write_hex(&mut text, &self.0);
        f.write_str(&shared(&text))
    }
}

/// What a `traceparent` says: the span that a further one is a child of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Traceparent {
    /// The trace.
    pub trace_id: TraceId,
    /// The span within it.
    pub span_id: SpanId,
    /// Whether whoever sent it records the trace.
    pub sampled: bool,
}

impl Traceparent {
    /// Reads one: version 00 exactly, later versions by the part that is known of them (W3C Trace Context, section 3.2).
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = text.as_bytes();
        if bytes.len() < LEN || bytes.len() > MAX_LEN || !bytes.iter().all(u8::is_ascii_graphic) {
            return None;
        }
        let (version, flags): ([u8; 1], [u8; 1]) = (hex(&bytes[..2])?, hex(&bytes[53..55])?);
        let dashes = [2, 35, 52].iter().all(|at| bytes[*at] == b'-');
        let ends = match version[0] {
            0 => bytes.len() == LEN,
            0xff => false,
            _ => bytes.len() == LEN || bytes[LEN] == b'-',
        };
        let (trace_id, span_id): ([u8; 16], [u8; 8]) = (hex(&bytes[3..35])?, hex(&bytes[36..52])?);
        let valid = dashes && ends && trace_id != [0; 16] && span_id != [0; 8];
        valid.then_some(Self {
            trace_id: TraceId(trace_id),
            span_id: SpanId(span_id),
            sampled: flags[0] & 1 == 1,
        })
    }

    /// Writes it, by version 00.
    #[must_use]
    pub fn to_text(&self) -> Arc<str> {
        shared(&self.to_bytes())
    }

    /// Writes it to ASCII digits and dashes.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; LEN] {
        let mut text = *b"00-                                -                -00";
        write_hex(&mut text[3..35], &self.trace_id.0);
        write_hex(&mut text[36..52], &self.span_id.0);
        text[54] = b'0' + u8::from(self.sampled);
        text
    }
}

/// Bytes of lower-case hexadecimal digits; nothing if there is another character.
fn hex<const N: usize>(digits: &[u8]) -> Option<[u8; N]> {
    let nibble = |digit: u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
    }
    Some(bytes)
}

/// Writes bytes as lower-case hexadecimal digits, two for each.
pub(super) fn write_hex(out: &mut [u8], bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for (pair, byte) in out.chunks_exact_mut(2).zip(bytes) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 15)];
    }
}

/// ASCII as text.
fn shared(ascii: &[u8]) -> Arc<str> {
    std::str::from_utf8(ascii).unwrap_or_default().into()
}

/// Decides which traces are recorded.
#[derive(Debug, Clone)]
pub struct Sampler {
    /// The rate as a part of 2^63.
    bound: u64,
    client: ClientSampling,
    /// Clients choose their trace ids, but not what this makes of them.
    secret: RandomState,
}

impl Sampler {
    /// That of a configuration.
    #[must_use]
    pub fn new(config: &TracingConfig) -> Self {
        Self {
            bound: bound(config.sample_rate),
            client: config.client_sampling,
            secret: RandomState::default(),
        }
    }

    /// Whether a new trace is recorded: as OpenTelemetry's `TraceIdRatioBased`, so that all who go by one rate agree.
    #[must_use]
    pub fn root(&self, trace_id: TraceId) -> bool {
        let low = trace_id.0.last_chunk().copied().unwrap_or_default();
        u64::from_be_bytes(low) >> 1 < self.bound
    }

    /// Whether a client's trace is recorded.
    #[must_use]
    pub fn client(&self, parent: &Traceparent) -> bool {
        let within_rate = || self.secret.hash_one(parent.trace_id) >> 1 < self.bound;
        match self.client {
            ClientSampling::Follow => parent.sampled,
            ClientSampling::Limit => parent.sampled && within_rate(),
            ClientSampling::Ignore => within_rate(),
        }
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the rate is within 0 and 1"
)]
fn bound(rate: f64) -> u64 {
    (rate.clamp(0.0, 1.0) * (1_u64 << 63) as f64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn what_is_read_is_written_again() {
        let parent = Traceparent::parse(PARENT).unwrap();
        assert_eq!(&*parent.to_text(), PARENT);
        assert_eq!(
            format!("{:?} {:?}", parent.trace_id, parent.span_id),
            "4bf92f3577b34da6a3ce929d0e0e4736 00f067aa0ba902b7"
        );
        for (flags, sampled) in [("00", false), ("01", true), ("02", false), ("ff", true)] {
            let text = format!("{}{flags}", &PARENT[..53]);
            assert_eq!(Traceparent::parse(&text).unwrap().sampled, sampled);
        }
        let later = Traceparent::parse(&format!("cc{}-what-the-future-adds", &PARENT[2..]));
        assert_eq!(later, Some(parent), "by the part that is known");
        for _ in 0..100 {
            let made = Traceparent {
                trace_id: TraceId::random(),
                span_id: SpanId::random(),
                sampled: false,
            };
            assert_eq!(Traceparent::parse(&made.to_text()), Some(made));
        }
    }

    #[test]
    fn malformed_context_is_none() {
        let long = format!("01{}-{}", &PARENT[2..], "x".repeat(256));
        for bad in [
            "",
            "00",
            &PARENT[..54],
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "0g-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4BF92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00F067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0A",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-extra",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-",
            "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01x",
            "00_4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736 00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e47é-00f067aa0ba902b7-01",
            "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01 x",
            " 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            &long,
        ] {
            assert_eq!(Traceparent::parse(bad), None, "{bad}");
        }
    }

    fn sampler(rate: f64, client: ClientSampling) -> Sampler {
        Sampler::new(&TracingConfig {
            sample_rate: rate,
            client_sampling: client,
            ..TracingConfig::default()
        })
    }

    fn parent(sampled: bool) -> Traceparent {
        Traceparent {
            trace_id: TraceId::random(),
            span_id: SpanId::random(),
            sampled,
        }
    }

    fn share(of: impl Fn() -> bool) -> f64 {
        f64::from((0..10_000).map(|_| u32::from(of())).sum::<u32>()) / 10_000.0
    }

    #[test]
    fn a_rate_is_the_share_of_new_traces() {
        for (rate, least, most) in [(0.0, 0.0, 0.0), (0.5, 0.45, 0.55), (1.0, 1.0, 1.0)] {
            let sampler = sampler(rate, ClientSampling::Limit);
            let share = share(|| sampler.root(TraceId::random()));
            assert!((least..=most).contains(&share), "{rate}: {share}");
        }
        // The same trace ids as with any other implementation.
        let half = sampler(0.5, ClientSampling::Limit);
        let id = |last: [u8; 8]| {
            let mut id = [1; 16];
            id[8..].copy_from_slice(&last);
            TraceId(id)
        };
        assert!(half.root(id([0x7f, 255, 255, 255, 255, 255, 255, 255])));
        assert!(!half.root(id([0x80, 0, 0, 0, 0, 0, 0, 0])));
    }

    #[test]
    fn a_client_cannot_have_more_recorded_than_the_rate_unless_it_is_followed() {
        let chosen = |rate, client, sampled| {
            let sampler = sampler(rate, client);
            // The ids that a ratio of the trace id takes first.
            share(|| {
                let mut parent = parent(sampled);
                parent.trace_id.0[8..].fill(0);
                sampler.client(&parent)
            })
        };
        let close = |share: f64, to: f64| (share - to).abs() < 0.05;
        assert!(close(chosen(0.3, ClientSampling::Limit, true), 0.3));
        assert!(close(chosen(0.3, ClientSampling::Limit, false), 0.0));
        assert!(close(chosen(0.3, ClientSampling::Ignore, false), 0.3));
        assert!(close(chosen(0.0, ClientSampling::Follow, true), 1.0));
        assert!(close(chosen(1.0, ClientSampling::Follow, false), 0.0));
        assert!(close(chosen(1.0, ClientSampling::Limit, true), 1.0));
        assert!(close(chosen(0.0, ClientSampling::Limit, true), 0.0));
        let limited = sampler(0.5, ClientSampling::Limit);
        let parent = parent(true);
        let first = limited.client(&parent);
        assert!(
            (0..100).all(|_| limited.client(&parent) == first),
            "a trace is whole"
        );
    }
}
