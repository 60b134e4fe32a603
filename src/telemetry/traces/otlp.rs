//! Sends spans to an OpenTelemetry collector: protocol buffers over HTTP/1.1, or gRPC.
//!
//! Stands behind the task that exports, which decides about batches, back-off and what is dropped; this tries once. The
//! client is the webhook's, hyper-util's own: the spans are bytes already, so that nothing is left for a gRPC library
//! to do but five bytes before them and a trailer after the answer. Proxies named in the environment are not used, and
//! redirects are not followed.

use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER, TE, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use percent_encoding::percent_decode_str;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use url::Url;

use super::encode::{varint, varint_len};
use super::queue::Batch;
use super::resource::Resource;
use crate::clock::seconds;
use crate::config::{OtlpConfig, OtlpProtocol};
use crate::outgoing::{self, connection_failure, take_credentials, timed_out};

/// Path of the gRPC call.
const GRPC_PATH: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";

/// Bytes of an answer that are read.
const MAX_ANSWER_BYTES: usize = 64 * 1024;

/// Time after which a silent gRPC connection is asked whether it lives, and how long it has to answer.
const KEEP_ALIVE: Duration = Duration::from_secs(5);

/// gRPC's codes after which an export may be repeated, as the OTLP specification has them.
const GRPC_RETRYABLE: [u32; 6] = [1, 4, 10, 11, 14, 15];

/// gRPC's code of a collector that asks for less; it may be repeated.
const GRPC_EXHAUSTED: u32 = 8;

/// Why a batch did not arrive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failure {
    /// Never holds a secret, nor what the collector said.
    pub(super) reason: String,
    pub(super) then: Then,
}

/// What may follow a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Then {
    /// The batch may be sent again, after this time if the collector asked for one.
    Retry(Option<Duration>),
    /// The same, but the collector did not answer in time: it is not to be asked often.
    Hangs,
    /// The collector does not want this batch.
    Drop,
}

/// Why no collector can be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OtlpError {
    /// The endpoint is none.
    #[error("`tracing.otlp.endpoint` is not an absolute http or https URL")]
    Endpoint,
    /// A header is none.
    #[error(
        "`tracing.otlp.headers` is not a list like `name=value,name=value`, or names one of HTTP's own"
    )]
    Headers,
    /// The file of authorities cannot be used.
    #[error("`tracing.otlp.ca_file`: {0}")]
    Authorities(String),
    /// TLS could not be set up.
    #[error("TLS cannot be set up: {0}")]
    Tls(String),
}

/// A collector.
#[derive(Debug)]
pub(super) struct Otlp {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    uri: Uri,
    headers: HeaderMap,
    protocol: OtlpProtocol,
    timeout: Duration,
    resource: Resource,
}

/// Headers that say how a request is sent: with another value, nobody could read it.
#[rustfmt::skip]
const OF_HTTP: [&str; 8] = [
    "connection", "content-length", "content-type", "expect", "host", "te", "transfer-encoding", "upgrade",
];

/// The headers of a setting, as `OTEL_EXPORTER_OTLP_HEADERS` has them.
///
/// # Errors
/// When it is no such list, or names a header that is HTTP's own.
pub(crate) fn headers(text: &str) -> Result<HeaderMap, OtlpError> {
    let mut headers = HeaderMap::new();
    for pair in text
        .split(',')
        .map(str::trim)
        .filter(|pair| !pair.is_empty())
    {
        let (name, value) = pair.split_once('=').ok_or(OtlpError::Headers)?;
        let value: Vec<u8> = percent_decode_str(value.trim()).collect();
        let name = HeaderName::try_from(name.trim()).map_err(|_| OtlpError::Headers)?;
        let mut value = HeaderValue::try_from(value).map_err(|_| OtlpError::Headers)?;
        if OF_HTTP.contains(&name.as_str()) {
            return Err(OtlpError::Headers);
        }
        value.set_sensitive(true);
        headers.append(name, value);
    }
    Ok(headers)
}

impl Otlp {
    /// Makes the client; connects to nothing yet.
    ///
    /// # Errors
    /// When a setting cannot be used.
    pub(super) fn new(config: &OtlpConfig, resource: Resource) -> Result<Self, OtlpError> {
        let grpc = config.protocol == OtlpProtocol::Grpc;
        let mut url = endpoint(config)?;
        let mut headers = headers(config.headers.reveal())?;
        if let Some(authorization) = take_credentials(&mut url) {
            headers.insert(AUTHORIZATION, authorization);
        }
        let (kind, path) = if grpc {
            headers.insert(TE, HeaderValue::from_static("trailers"));
            ("application/grpc", GRPC_PATH)
        } else {
            ("application/x-protobuf", "/v1/traces")
        };
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        headers.insert(USER_AGENT, outgoing::AGENT);
        let path = format!("{}{path}", url.path().trim_end_matches('/'));
        url.set_path(&path);
        let timeout = seconds(config.timeout_seconds);
        Ok(Self {
            client: client(config, url.scheme() == "https", grpc, timeout)?,
            uri: url.as_str().parse().map_err(|_| OtlpError::Endpoint)?,
            headers,
            protocol: config.protocol,
            timeout,
            resource,
        })
    }

    /// What the collector is sent for a batch, framed as the protocol wants it.
    pub(super) fn body(&self, batch: &Batch) -> Bytes {
        let Resource { resource, scope } = &self.resource;
        let scope_spans = scope.len() + batch.bytes.len();
        let resource_spans = resource.len() + 1 + varint_len(scope_spans) + scope_spans;
        let message = 1 + varint_len(resource_spans) + resource_spans;
        let mut out = Vec::with_capacity(message + 5);
        if self.protocol == OtlpProtocol::Grpc {
            out.push(0);
            let length = u32::try_from(message).unwrap_or(u32::MAX);
            out.extend_from_slice(&length.to_be_bytes());
        }
        out.push(1 << 3 | 2);
        varint(&mut out, resource_spans);
        out.extend_from_slice(resource);
        out.push(2 << 3 | 2);
        varint(&mut out, scope_spans);
        out.extend_from_slice(scope);
        out.extend_from_slice(&batch.bytes);
        out.into()
    }

    /// Sends a batch once; gives how many of its spans the collector rejected all the same.
    ///
    /// # Errors
    /// When the collector does not take it.
    pub(super) async fn send(&self, body: Bytes) -> Result<u64, Failure> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = self.headers.clone();
        if self.protocol == OtlpProtocol::Grpc {
            *request.version_mut() = http::Version::HTTP_2;
        }
        let exchange = async {
            let response = self.client.request(request).await.map_err(|error| {
                let (reason, then) = if timed_out(&error) {
                    ("timeout", Then::Hangs)
                } else {
                    (connection_failure(&error), Then::Retry(None))
                };
                failure(reason, then)
            })?;
            match self.protocol {
                OtlpProtocol::HttpProtobuf => http_answer(response).await,
                OtlpProtocol::Grpc => grpc_answer(response).await,
            }
        };
        let timed_out = || {
            let reason = format!("timeout after {}s", self.timeout.as_secs_f64());
            failure(reason, Then::Hangs)
        };
        tokio::time::timeout(self.timeout, exchange)
            .await
            .unwrap_or_else(|_| Err(timed_out()))
    }
}

fn failure(reason: impl Into<String>, then: Then) -> Failure {
    Failure {
        reason: reason.into(),
        then,
    }
}

/// The endpoint, or where collectors listen by default.
fn endpoint(config: &OtlpConfig) -> Result<Url, OtlpError> {
    let text = match (config.endpoint.as_str(), config.protocol) {
        ("", OtlpProtocol::HttpProtobuf) => "http://localhost:4318",
        ("", OtlpProtocol::Grpc) => "http://localhost:4317",
        (text, _) => text,
    };
    let mut url = Url::parse(text).map_err(|_| OtlpError::Endpoint)?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return Err(OtlpError::Endpoint);
    }
    url.set_fragment(None);
    Ok(url)
}

fn client(
    config: &OtlpConfig,
    tls: bool,
    grpc: bool,
    timeout: Duration,
) -> Result<Client<HttpsConnector<HttpConnector>, Full<Bytes>>, OtlpError> {
    let connector = outgoing::connector(timeout);
    let builder = HttpsConnectorBuilder::new();
    let builder = if tls && config.ca_file.is_empty() {
        builder
            .try_with_platform_verifier()
            .map_err(|error| OtlpError::Tls(error.to_string()))?
    } else {
        let roots = authorities(if tls { &config.ca_file } else { "" })?;
        builder.with_tls_config(
            rustls::ClientConfig::builder()
                .with_root_certificates(roots)
                .with_no_client_auth(),
        )
    };
    let builder = builder.https_or_http();
    let connector = if grpc {
        builder.enable_http2().wrap_connector(connector)
    } else {
        builder.enable_http1().wrap_connector(connector)
    };
    let mut client = Client::builder(TokioExecutor::new());
    client
        .timer(TokioTimer::new())
        .pool_timer(TokioTimer::new())
        .pool_max_idle_per_host(1);
    if grpc {
        client
            .http2_only(true)
            .http2_keep_alive_interval(KEEP_ALIVE)
            .http2_keep_alive_timeout(KEEP_ALIVE);
    }
    Ok(client.build(connector))
}

fn authorities(file: &str) -> Result<rustls::RootCertStore, OtlpError> {
    let mut roots = rustls::RootCertStore::empty();
    if file.is_empty() {
        return Ok(roots);
    }
    let failed = |what: String| OtlpError::Authorities(format!("`{file}` {what}"));
    let certificates = CertificateDer::pem_file_iter(file)
        .map_err(|error| failed(format!("cannot be read: {error}")))?;
    for certificate in certificates {
        let certificate =
            certificate.map_err(|error| failed(format!("is no PEM file: {error}")))?;
        roots
            .add(certificate)
            .map_err(|error| failed(format!("holds a certificate that cannot be used: {error}")))?;
    }
    if roots.is_empty() {
        return Err(failed("holds no certificate".into()));
    }
    Ok(roots)
}

async fn http_answer(response: Response<Incoming>) -> Result<u64, Failure> {
    let status = response.status();
    let retry_after = retry_after(response.headers());
    let body = Limited::new(response.into_body(), MAX_ANSWER_BYTES)
        .collect()
        .await;
    if status.is_success() {
        return Ok(body.map_or(0, |body| rejected(&body.to_bytes())));
    }
    let then = match status {
        StatusCode::TOO_MANY_REQUESTS
        | StatusCode::BAD_GATEWAY
        | StatusCode::SERVICE_UNAVAILABLE
        | StatusCode::GATEWAY_TIMEOUT => Then::Retry(retry_after),
        _ => Then::Drop,
    };
    Err(failure(format!("HTTP {}", status.as_u16()), then))
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?;
    text.trim().parse().ok().map(Duration::from_secs)
}

async fn grpc_answer(response: Response<Incoming>) -> Result<u64, Failure> {
    let (parts, body) = response.into_parts();
    if parts.status != StatusCode::OK {
        let reason = format!("HTTP {}", parts.status.as_u16());
        return Err(failure(reason, Then::Retry(None)));
    }
    let code = |headers: &HeaderMap| -> Option<u32> {
        headers.get("grpc-status")?.to_str().ok()?.parse().ok()
    };
    let lost = || failure("connection lost", Then::Retry(None));
    let body = Limited::new(body, MAX_ANSWER_BYTES)
        .collect()
        .await
        .map_err(|_| lost())?;
    // An answer without a body has its status among the headers.
    let code = body
        .trailers()
        .and_then(code)
        .or_else(|| code(&parts.headers));
    match code {
        Some(0) => Ok(rejected(body.to_bytes().get(5..).unwrap_or_default())),
        Some(code) => {
            let retryable = GRPC_RETRYABLE.contains(&code) || code == GRPC_EXHAUSTED;
            let then = if retryable {
                Then::Retry(None)
            } else {
                Then::Drop
            };
            Err(failure(format!("gRPC status {code}"), then))
        }
        None => Err(lost()),
    }
}

/// How many spans an `ExportTraceServiceResponse` says were rejected: field 1 of its field 1.
fn rejected(response: &[u8]) -> u64 {
    let partial = find(response, 1).and_then(|found| match found {
        Found::Bytes(bytes) => find(bytes, 1),
        Found::Number(_) => None,
    });
    match partial {
        Some(Found::Number(count)) => count,
        _ => 0,
    }
}

enum Found<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

/// The first field of a number in a message; nothing where the message is malformed before it.
fn find(mut message: &[u8], wanted: u64) -> Option<Found<'_>> {
    while !message.is_empty() {
        let tag = read_varint(&mut message)?;
        let found = match tag & 7 {
            0 => Found::Number(read_varint(&mut message)?),
            1 => Found::Bytes(take(&mut message, 8)?),
            2 => {
                let length = usize::try_from(read_varint(&mut message)?).ok()?;
                Found::Bytes(take(&mut message, length)?)
            }
            5 => Found::Bytes(take(&mut message, 4)?),
            _ => return None,
        };
        if tag >> 3 == wanted {
            return Some(found);
        }
    }
    None
}

fn take<'a>(message: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, rest) = message.split_at_checked(length)?;
    *message = rest;
    Some(taken)
}

fn read_varint(message: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = message.split_first()?;
        *message = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if *byte < 0x80 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::collector::trace::v1::{
        ExportTracePartialSuccess, ExportTraceServiceResponse,
    };
    use prost::Message as _;

    use super::*;

    #[test]
    fn what_a_collector_rejected_is_found() {
        let response = |rejected_spans| {
            let partial_success = Some(ExportTracePartialSuccess {
                rejected_spans,
                error_message: "too long a text".into(),
            });
            ExportTraceServiceResponse { partial_success }.encode_to_vec()
        };
        assert_eq!(rejected(&response(0)), 0);
        assert_eq!(rejected(&response(300)), 300);
        assert_eq!(rejected(b""), 0);
        let whole = response(300);
        for end in 0..whole.len() {
            assert_eq!(rejected(&whole[..end]), 0, "cut off at {end}");
        }
        assert_eq!(rejected(&[0xff; 32]), 0);
    }

    #[test]
    fn headers_are_those_of_the_variable() {
        let found = headers("api-key=a%20b, x-tenant = one,, a=b=c").unwrap();
        assert_eq!(found["api-key"], "a b");
        assert_eq!(found["x-tenant"], "one");
        assert_eq!(found["a"], "b=c");
        assert!(headers("").unwrap().is_empty());
        for bad in [
            "api-key",
            "a b=c",
            "=x",
            "a=%0A",
            "Content-Length=0",
            "host=x",
        ] {
            assert_eq!(headers(bad).unwrap_err(), OtlpError::Headers, "{bad}");
        }
        assert!(!format!("{found:?}").contains("a b"), "they are secrets");
    }

    #[test]
    fn the_endpoint_is_a_base() {
        let uri = |endpoint: &str, protocol| {
            let config = OtlpConfig {
                endpoint: endpoint.into(),
                protocol,
                ..OtlpConfig::default()
            };
            Otlp::new(&config, Resource::default()).map(|otlp| otlp.uri.to_string())
        };
        let (http, grpc) = (OtlpProtocol::HttpProtobuf, OtlpProtocol::Grpc);
        for (endpoint, protocol, expected) in [
            ("", http, "http://localhost:4318/v1/traces".to_owned()),
            ("http://c:1/", http, "http://c:1/v1/traces".to_owned()),
            (
                "http://u:p@c/otlp",
                http,
                "http://c/otlp/v1/traces".to_owned(),
            ),
            ("", grpc, format!("http://localhost:4317{GRPC_PATH}")),
            ("http://c:1", grpc, format!("http://c:1{GRPC_PATH}")),
        ] {
            assert_eq!(uri(endpoint, protocol).unwrap(), expected);
        }
        for bad in ["c:4318", "ftp://c", "http:", "x"] {
            assert_eq!(uri(bad, http).unwrap_err(), OtlpError::Endpoint, "{bad}");
        }
    }
}
