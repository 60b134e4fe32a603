//! Delivers events as signed HTTP POSTs, one event a request.
//!
//! Stands behind a delivery, which decides about order, retries and dead letters; this sink tries once. Requests
//! go over kept-alive HTTP/1.1 connections, as many as there are tries at once. Proxies named in the environment
//! are not used: the gateway posts to the URL it is given, and to nothing else. Redirects are not followed.
//!
//! The client is hyper-util's own, one layer below reqwest's: a POST is most of what an event costs here, and
//! reqwest parses the URL again for each and wraps it in layers that a webhook has no use for.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{
    AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER, USER_AGENT,
};
use http::{Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use url::Url;

use self::signature::Signer;
use super::dead_letter::Cause;
use super::delivery::{DeliverySettings, RetryPolicy, WhenFull};
use super::{Batch, DeliveryError, Failure, Retry, traced};
use crate::clock::{seconds, unix_now};
use crate::config::{BufferConfig, Config, Secret};
use crate::event::Event;
use crate::outgoing::{self, connection_failure, take_credentials, timed_out};
use crate::svc::BoxSink;
use crate::telemetry::traces::{Kind, OpenSpan, Peer};

mod signature;
#[cfg(test)]
mod tests;

/// The sink's name.
const NAME: &str = "webhook";

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// Bytes of an answer that are read, so that its connection can be used again.
const MAX_ANSWER_BYTES: usize = 64 * 1024;

/// Time that reading an answer's body may hold up the next event; the connection is closed after it.
const MAX_ANSWER_TIME: Duration = Duration::from_secs(1);

/// Time after which an idle connection is closed: before the backend closes it while it is being used again, which
/// Apache and Node do after five seconds, and soon enough to leave the file descriptors to clients.
const POOL_IDLE: Duration = Duration::from_secs(4);

/// Settings of the webhook sink.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct WebhookConfig {
    /// URL that events are posted to; empty switches the sink off.
    pub url: String,
    /// Key of the signatures; empty: unsigned.
    pub secret: Secret,
    /// Which signature headers accompany `X-Webhook-Signature`.
    pub signature: SignatureForm,
    /// Tries in all, the first one among them.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub retry_attempts: u32,
    /// Seconds before the first retry; doubled, with jitter, for each further one.
    #[schemars(range(min = 0.0, max = 3600.0))]
    pub retry_base_seconds: f64,
    /// Seconds between two tries at most, a `Retry-After` of the backend included.
    #[schemars(range(min = 0.0, max = 86400.0))]
    pub retry_max_seconds: f64,
    /// Seconds one try may take.
    #[schemars(range(min = 0.01, max = 3600.0))]
    pub timeout_seconds: f64,
    /// Requests under way at once; those of one ordering key never overlap.
    #[schemars(range(min = 1, max = 65_536))]
    pub concurrency: usize,
    /// The bounded buffer in front of the sink.
    pub buffer: BufferConfig,
}

impl Default for WebhookConfig {
    fn default() -> Self {
        Self {
            url: String::new(),
            secret: Secret::default(),
            signature: SignatureForm::Standard,
            retry_attempts: 3,
            retry_base_seconds: 0.5,
            retry_max_seconds: 60.0,
            timeout_seconds: 5.0,
            concurrency: 64,
            buffer: BufferConfig::default(),
        }
    }
}

impl WebhookConfig {
    /// How the sink is delivered to.
    #[must_use]
    pub fn delivery(&self) -> DeliverySettings {
        DeliverySettings {
            name: NAME,
            buffer: self.buffer.clone(),
            concurrency: self.concurrency,
            max_batch: 1,
            retry: self.retry(),
            when_full: WhenFull::Wait,
            linger: Duration::ZERO,
        }
    }

    /// How often and when a failed POST is repeated.
    #[must_use]
    pub fn retry(&self) -> RetryPolicy {
        RetryPolicy {
            attempts: Some(self.retry_attempts),
            base: seconds(self.retry_base_seconds),
            max: seconds(self.retry_max_seconds),
        }
    }
}

/// Which signature headers a webhook carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SignatureForm {
    /// `webhook-id`, `webhook-timestamp`, `webhook-signature` of the Standard Webhooks specification.
    Standard,
    /// `Webhook-Event`, `Webhook-Id`, `Webhook-Signature` as Symfony's `webhook.request_parser` verifies them.
    Symfony,
}

/// Why a webhook sink cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum WebhookError {
    /// The URL is none, or not of HTTP.
    #[error("the webhook's URL is no http or https URL")]
    Url,
    /// The secret promises base64 and is not.
    #[error("the webhook's secret starts with `whsec_`, but what follows is not base64")]
    Secret,
    /// The trace header's name is no header name.
    #[error("`{0}` is no name of an HTTP header")]
    TraceHeader(String),
    /// TLS could not be set up.
    #[error("TLS cannot be set up: {0}")]
    Tls(#[from] rustls::Error),
}

/// Posts events to the backend.
#[derive(Debug)]
pub struct Webhook {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    uri: Uri,
    /// The URL without credentials and query, for spans.
    shown: Box<str>,
    peer: Peer,
    /// Headers that every request carries.
    headers: HeaderMap,
    trace_header: HeaderName,
    signer: Option<Signer>,
    timeout: Duration,
}

/// What [`Webhook::new`] reads of a configuration.
pub(super) fn made_of(config: &Config) -> impl PartialEq {
    let WebhookConfig {
        url,
        secret,
        signature,
        timeout_seconds,
        concurrency,
        // The delivery's.
        retry_attempts: _,
        retry_base_seconds: _,
        retry_max_seconds: _,
        buffer: _,
    } = &config.events.webhook;
    let trace_header = &config.tracing.header_name;
    (
        (url, secret, signature),
        (timeout_seconds, concurrency, trace_header),
    )
}

/// Where the events go, as a configuration says.
pub(super) fn leads_to(config: &Config) -> impl PartialEq {
    &config.events.webhook.url
}

impl Webhook {
    /// Makes the client; connects to nothing yet.
    ///
    /// # Errors
    /// When the URL, the secret or the trace header's name is none.
    pub fn new(config: &WebhookConfig, trace_header: &str) -> Result<Self, WebhookError> {
        let timeout = seconds(config.timeout_seconds);
        let mut url = Url::parse(&config.url).map_err(|_| WebhookError::Url)?;
        if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
            return Err(WebhookError::Url);
        }
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(USER_AGENT, outgoing::AGENT);
        if let Some(authorization) = take_credentials(&mut url) {
            headers.insert(AUTHORIZATION, authorization);
        }
        let connector = outgoing::connector(timeout);
        let tls = HttpsConnectorBuilder::new();
        let tls = if url.scheme() == "https" {
            tls.try_with_platform_verifier()?
        } else {
            // A container that posts in the clear may well have no certificates to load.
            let roots = rustls::RootCertStore::empty();
            tls.with_tls_config(
                rustls::ClientConfig::builder()
                    .with_root_certificates(roots)
                    .with_no_client_auth(),
            )
        };
        let connector = tls.https_or_http().enable_http1().wrap_connector(connector);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_max_idle_per_host(config.concurrency)
            .pool_idle_timeout(POOL_IDLE)
            .build(connector);
        let mut shown = url.clone();
        shown.set_query(None);
        shown.set_fragment(None);
        let port = url.port_or_known_default().unwrap_or_default();
        let peer = Peer::new(&format!("{}:{port}", url.host_str().unwrap_or_default()));
        Ok(Self {
            client,
            shown: shown.as_str().into(),
            peer,
            uri: url.as_str().parse().map_err(|_| WebhookError::Url)?,
            headers,
            trace_header: HeaderName::try_from(trace_header)
                .map_err(|_| WebhookError::TraceHeader(trace_header.to_owned()))?,
            signer: Signer::new(&config.secret, config.signature)?,
            timeout,
        })
    }

    /// The sink as a delivery takes it, for batches of one event.
    #[must_use]
    pub fn into_service(self) -> BoxSink {
        let webhook = Arc::new(self);
        BoxSink::new(tower::service_fn(move |batch: Batch| {
            let webhook = Arc::clone(&webhook);
            async move {
                for (delivered, event) in batch.iter().enumerate() {
                    let posted = webhook.post(event).await;
                    posted.map_err(|failure| DeliveryError {
                        failed: vec![Failure {
                            index: delivered,
                            ..failure
                        }],
                        tried: delivered + 1,
                    })?;
                }
                Ok(())
            }
        }))
    }

    /// Tries to deliver an event, as the first of a batch.
    async fn post(&self, event: &Event) -> Result<(), Failure> {
        let span = traced::begin(event, NAME);
        let (status, result) = self.exchange(event, span.as_ref()).await;
        if let Some(span) = &span {
            self.end(span, event, status, result.as_ref().err());
        }
        result
    }

    /// Ends the span of a request.
    fn end(
        &self,
        span: &OpenSpan,
        event: &Event,
        status: Option<StatusCode>,
        refusal: Option<&Failure>,
    ) {
        span.end("webhook.publish", Kind::Client, |span| {
            span.text("http.request.method", "POST");
            span.text("url.full", &self.shown);
            self.peer.write(span);
            span.text("network.protocol.name", "http");
            span.number("http.request.body.size", event.json.len() as u64);
            traced::event(span, event);
            if let Some(status) = status {
                span.number("http.response.status_code", status.as_u16().into());
            }
            match (refusal, status) {
                (None, _) => {}
                (Some(_), Some(status)) => {
                    span.failed(status.as_str(), "the backend did not take the event");
                }
                (Some(failure), None) => {
                    let class = if failure.reason.starts_with("timeout") {
                        "timeout"
                    } else {
                        &failure.reason
                    };
                    span.failed(class, "the backend did not answer");
                }
            }
        });
    }

    async fn exchange(
        &self,
        event: &Event,
        span: Option<&OpenSpan>,
    ) -> (Option<StatusCode>, Result<(), Failure>) {
        let deadline = Instant::now() + self.timeout;
        let sent = self.client.request(self.request(event, span));
        let response = match tokio::time::timeout_at(deadline, sent).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) if timed_out(&error) => return (None, Err(self.timed_out())),
            Ok(Err(error)) => {
                let failure = Failure::new(0, connection_failure(&error), Retry::Backoff);
                return (None, Err(failure));
            }
            Err(_) => return (None, Err(self.timed_out())),
        };
        let (status, result) = (response.status(), judge(&response));
        read_to_the_end(response, deadline).await;
        (Some(status), result)
    }

    fn request(&self, event: &Event, span: Option<&OpenSpan>) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(event.json.clone()));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.uri.clone();
        let headers = request.headers_mut();
        *headers = self.headers.clone();
        if let Some(signer) = &self.signer {
            signer.sign(event, unix_now(), headers);
        }
        // What a client sent as its trace may be no header value; it is in the event all the same.
        let mut insert = |name: &HeaderName, text: &Option<Arc<str>>| {
            if let Some(Ok(value)) = text.as_deref().map(HeaderValue::from_str) {
                headers.insert(name, value);
            }
        };
        insert(&self.trace_header, &event.trace_id);
        insert(&TRACEPARENT, &traced::traceparent(event, span));
        request
    }

    fn timed_out(&self) -> Failure {
        let reason = format!("timeout after {}s", self.timeout.as_secs_f64());
        Failure::new(0, reason, Retry::Backoff)
    }
}

/// What the backend's answer means for the event.
fn judge(response: &Response<Incoming>) -> Result<(), Failure> {
    let status = response.status();
    if status.is_success() {
        return Ok(());
    }
    let retry = match status {
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
            retry_after(response.headers()).map_or(Retry::Backoff, Retry::After)
        }
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY => Retry::Backoff,
        status if status.is_server_error() => Retry::Backoff,
        _ => Retry::Never,
    };
    let failure = Failure::new(0, format!("HTTP {}", status.as_u16()), retry);
    Err(match status {
        StatusCode::PAYLOAD_TOO_LARGE => failure.because(Cause::TooLarge),
        _ => failure,
    })
}

/// The wait that `Retry-After` asks for, in seconds or until a date (RFC 9110, section 10.2.3).
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let until = httpdate::parse_http_date(text).ok()?;
    Some(until.duration_since(SystemTime::now()).unwrap_or_default())
}

/// Reads what is left of a small answer, so that its connection can be used again.
async fn read_to_the_end(response: Response<Incoming>, deadline: Instant) {
    let deadline = deadline.min(Instant::now() + MAX_ANSWER_TIME);
    let mut body = response.into_body();
    let mut left = MAX_ANSWER_BYTES;
    let read = async {
        while let Some(Ok(frame)) = body.frame().await {
            let bytes = frame.data_ref().map_or(0, Bytes::len);
            let Some(less) = left.checked_sub(bytes) else {
                return;
            };
            left = less;
        }
    };
    // Dropping an unread answer closes its connection, which is all that is left to do.
    let _ = tokio::time::timeout_at(deadline, read).await;
}
