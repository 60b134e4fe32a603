//! What the gateway's own HTTP clients share: how they connect, log in, and say why there was no answer.
//!
//! Stands below the webhook and the exporter of spans, which each decide what an answer means.

use std::error::Error as _;
use std::io::ErrorKind;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;
use hyper_util::client::legacy::Error as ClientError;
use hyper_util::client::legacy::connect::HttpConnector;
use percent_encoding::percent_decode_str;
use url::Url;

/// What the gateway calls itself (`User-Agent`, RFC 9110 section 10.1.5).
pub(crate) const AGENT: HeaderValue =
    HeaderValue::from_static(concat!("wsgw/", env!("CARGO_PKG_VERSION")));

/// Connects within a time, for TLS or without.
pub(crate) fn connector(timeout: Duration) -> HttpConnector {
    let mut connector = HttpConnector::new();
    connector.enforce_http(false);
    connector.set_nodelay(true);
    connector.set_connect_timeout(Some(timeout));
    connector
}

/// Moves user name and password from the URL to a header.
pub(crate) fn take_credentials(url: &mut Url) -> Option<HeaderValue> {
    let mut pair: Vec<u8> = percent_decode_str(url.username()).collect();
    pair.push(b':');
    pair.extend(percent_decode_str(url.password().unwrap_or_default()));
    if pair == b":" {
        return None;
    }
    url.set_username("").ok()?;
    url.set_password(None).ok()?;
    let mut value = HeaderValue::try_from(format!("Basic {}", STANDARD.encode(pair))).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// The causes of a failure, from the outermost in.
fn causes(error: &ClientError) -> impl Iterator<Item = &(dyn std::error::Error + 'static)> {
    let mut next = error.source();
    std::iter::from_fn(move || {
        let cause = next?;
        next = cause.source();
        Some(cause)
    })
}

/// Whether connecting took too long.
pub(crate) fn timed_out(error: &ClientError) -> bool {
    causes(error)
        .filter_map(|cause| cause.downcast_ref::<std::io::Error>())
        .any(|io| io.kind() == ErrorKind::TimedOut)
}

/// Why there is no answer, in words that never hold the URL.
pub(crate) fn connection_failure(error: &ClientError) -> &'static str {
    for cause in causes(error) {
        if let Some(io) = cause.downcast_ref::<std::io::Error>() {
            return match io.kind() {
                ErrorKind::ConnectionRefused => "connection refused",
                ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => "connection reset",
                ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => "host unreachable",
                ErrorKind::InvalidData => "TLS failed",
                _ if error.is_connect() => "cannot connect",
                _ => "connection lost",
            };
        }
        if let Some(hyper) = cause.downcast_ref::<hyper::Error>() {
            if hyper.is_incomplete_message() {
                return "connection closed before the answer";
            }
            if hyper.is_parse() {
                return "the answer is no HTTP";
            }
        }
    }
    if error.is_connect() {
        "cannot connect"
    } else {
        "connection lost"
    }
}
