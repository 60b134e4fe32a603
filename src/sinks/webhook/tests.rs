use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http_body_util::BodyExt;
use http_body_util::combinators::BoxBody;
use http_body_util::{Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tower::ServiceExt as _;
use uuid::Uuid;

use super::*;
use crate::event::EventKind;
use crate::sinks::dead_letter::NoDeadLetters;
use crate::sinks::delivery::{DeliverySettings, Outlet, WhenFull, test_event};
use crate::telemetry::metrics::Metrics;

/// How the backend of a test answers one request.
#[derive(Debug, Clone)]
enum Answer {
    Status(u16),
    RetryAfter(u16, &'static str),
    /// 302 to another path of the same backend.
    Redirect,
    /// 200, and a body of so many bytes.
    Body(usize),
    /// 200, and a body that never ends.
    SlowBody,
    /// The connection is reset.
    Reset,
    /// No answer, ever.
    Never,
}

#[derive(Default)]
struct Backend {
    answers: Mutex<VecDeque<Answer>>,
    requests: Mutex<Vec<(http::request::Parts, Bytes)>>,
    connections: AtomicUsize,
}

type Body = BoxBody<Bytes, std::io::Error>;

impl Backend {
    async fn start(answers: impl IntoIterator<Item = Answer>) -> (Arc<Self>, SocketAddr) {
        let backend = Arc::new(Self::default());
        backend.answers.lock().extend(answers);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let accepting = Arc::clone(&backend);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                accepting.connections.fetch_add(1, Ordering::SeqCst);
                let backend = Arc::clone(&accepting);
                let service = hyper::service::service_fn(move |request| {
                    let backend = Arc::clone(&backend);
                    async move { backend.answer(request).await }
                });
                let serve = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service);
                tokio::spawn(serve);
            }
        });
        (backend, address)
    }

    async fn answer(&self, request: Request<Incoming>) -> Result<Response<Body>, std::io::Error> {
        let (parts, body) = request.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        self.requests.lock().push((parts, body));
        let answer = self.answers.lock().pop_front();
        let full = |bytes: Vec<u8>| Full::from(bytes).map_err(|e| match e {}).boxed();
        let mut response = Response::new(full(Vec::new()));
        match answer.unwrap_or(Answer::Status(200)) {
            Answer::Status(status) => *response.status_mut() = status.try_into().unwrap(),
            Answer::RetryAfter(status, value) => {
                *response.status_mut() = status.try_into().unwrap();
                let value = HeaderValue::from_static(value);
                response.headers_mut().insert(RETRY_AFTER, value);
            }
            Answer::Redirect => {
                *response.status_mut() = StatusCode::FOUND;
                let to = HeaderValue::from_static("/elsewhere");
                response.headers_mut().insert("location", to);
            }
            Answer::Body(bytes) => *response.body_mut() = full(vec![b'x'; bytes]),
            Answer::SlowBody => {
                let never = futures_util::stream::pending::<Result<Frame<Bytes>, _>>();
                *response.body_mut() = BodyExt::boxed(StreamBody::new(never));
            }
            Answer::Reset => return Err(std::io::Error::other("reset")),
            Answer::Never => std::future::pending().await,
        }
        Ok(response)
    }
}

fn config(address: SocketAddr) -> WebhookConfig {
    WebhookConfig {
        url: format!("http://{address}/ws/webhook?tenant=1"),
        secret: "s3cret".to_owned().into(),
        timeout_seconds: 30.0,
        ..WebhookConfig::default()
    }
}

fn service(config: &WebhookConfig) -> BoxSink {
    Webhook::new(config, "X-Trace-Id").unwrap().into_service()
}

async fn post(sink: &BoxSink) -> Result<(), DeliveryError> {
    sink.clone().oneshot([test_event(1, 2, None)].into()).await
}

async fn outcome(answer: Answer) -> Result<(), (String, Retry)> {
    let (backend, address) = Backend::start([answer.clone()]).await;
    let mut config = config(address);
    if matches!(answer, Answer::Never) {
        config.timeout_seconds = 0.3;
    }
    let result = post(&service(&config)).await;
    assert_eq!(backend.requests.lock().len(), 1, "tried once");
    result.map_err(|error| (error.to_string(), error.failed[0].retry))
}

#[tokio::test]
async fn answers_decide_what_follows() {
    let refused = |status: u16| Err((format!("HTTP {status}"), Retry::Never));
    let again = |status: u16| Err((format!("HTTP {status}"), Retry::Backoff));
    for status in [200, 201, 202, 204] {
        assert_eq!(outcome(Answer::Status(status)).await, Ok(()));
    }
    for status in [304, 400, 401, 404, 406, 410, 422] {
        assert_eq!(outcome(Answer::Status(status)).await, refused(status));
    }
    assert_eq!(outcome(Answer::Redirect).await, refused(302));
    for status in [408, 425, 429, 500, 502, 503, 504] {
        assert_eq!(outcome(Answer::Status(status)).await, again(status));
    }
}

#[tokio::test]
async fn retry_after_counts_on_429_and_503_only() {
    let after = |seconds| Retry::After(Duration::from_secs(seconds));
    for (answer, retry) in [
        (Answer::RetryAfter(429, "7"), after(7)),
        (Answer::RetryAfter(503, " 120 "), after(120)),
        (
            Answer::RetryAfter(503, "Sun, 06 Nov 1994 08:49:37 GMT"),
            after(0),
        ),
        (Answer::RetryAfter(503, "soon"), Retry::Backoff),
        (Answer::RetryAfter(429, "-1"), Retry::Backoff),
        (Answer::RetryAfter(500, "7"), Retry::Backoff),
        (Answer::RetryAfter(408, "7"), Retry::Backoff),
        (Answer::RetryAfter(404, "7"), Retry::Never),
    ] {
        let (_, found) = outcome(answer.clone()).await.unwrap_err();
        assert_eq!(found, retry, "{answer:?}");
    }
    let (_, found) = outcome(Answer::RetryAfter(503, "Fri, 31 Dec 9999 23:59:59 GMT"))
        .await
        .unwrap_err();
    assert!(matches!(found, Retry::After(wait) if wait > Duration::from_hours(1)));
}

#[tokio::test]
async fn broken_and_silent_backends_are_tried_again() {
    let backoff = |reason: &str| Err((reason.to_owned(), Retry::Backoff));
    assert_eq!(
        outcome(Answer::Reset).await,
        backoff("connection closed before the answer")
    );
    assert_eq!(outcome(Answer::Never).await, backoff("timeout after 0.3s"));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let nobody = listener.local_addr().unwrap();
    drop(listener);
    let error = post(&service(&config(nobody))).await.unwrap_err();
    assert_eq!(
        (&*error.to_string(), error.failed[0].retry),
        ("connection refused", Retry::Backoff)
    );
}

#[tokio::test]
async fn the_answer_s_body_is_ignored_and_its_connection_used_again_if_small() {
    let small = [
        Answer::Body(10_000),
        Answer::Status(404),
        Answer::Body(60_000),
    ];
    let (backend, address) = Backend::start(small).await;
    let sink = service(&config(address));
    post(&sink).await.unwrap();
    post(&sink).await.unwrap_err();
    post(&sink).await.unwrap();
    post(&sink).await.unwrap();
    assert_eq!(backend.connections.load(Ordering::SeqCst), 1);

    let (backend, address) = Backend::start([Answer::Body(50_000_000), Answer::SlowBody]).await;
    let sink = service(&config(address));
    let start = Instant::now();
    for _ in 0..3 {
        post(&sink).await.unwrap();
    }
    assert!(
        start.elapsed() < Duration::from_secs(20),
        "a slow body is not waited for to its end"
    );
    assert_eq!(
        backend.requests.lock().len(),
        3,
        "a slow body is no failed try"
    );
    assert_eq!(backend.connections.load(Ordering::SeqCst), 3);
}

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "both requests, whole")]
async fn requests_are_exact() {
    let (backend, address) = Backend::start([]).await;
    let mut config = config(address);
    config.url = format!("http://me:p%40ss@{address}/ws/webhook?tenant=1");
    let event = Arc::new(Event {
        user_id: "1".into(),
        replayed: false,
        spoken_for: None,
        receipt: None,
        id: Uuid::now_v7(),
        kind: EventKind::MessageReceived,
        connection_id: Uuid::nil(),
        seq: 2,
        ordering_key: None,
        traceparent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into()),
        trace_id: Some("abc".into()),
        span: None,
        json: Bytes::from_static(b"{\"type\":\"message_received\"}"),
    });
    let batch: Batch = [event.clone()].into();
    let before = unix_now();
    service(&config).oneshot(batch.clone()).await.unwrap();
    config.signature = SignatureForm::Symfony;
    service(&config).oneshot(batch).await.unwrap();
    config.secret = Secret::default();
    let bad_trace = Arc::new(Event {
        user_id: "1".into(),
        replayed: false,
        spoken_for: None,
        receipt: None,
        traceparent: None,
        trace_id: Some("a\nb".into()),
        span: None,
        json: event.json.clone(),
        id: event.id,
        kind: event.kind,
        connection_id: event.connection_id,
        seq: 3,
        ordering_key: None,
    });
    service(&config).oneshot([bad_trace].into()).await.unwrap();

    let requests = backend.requests.lock();
    let (parts, body) = &requests[0];
    assert_eq!(parts.method, Method::POST);
    assert_eq!(parts.uri, "/ws/webhook?tenant=1");
    assert_eq!(body, &event.json);
    let timestamp = parts.headers["webhook-timestamp"].to_str().unwrap();
    assert!((before..=unix_now()).contains(&timestamp.parse().unwrap()));
    let mut names: Vec<_> = parts.headers.keys().map(HeaderName::as_str).collect();
    names.sort_unstable();
    assert_eq!(
        names,
        [
            "authorization",
            "content-length",
            "content-type",
            "host",
            "traceparent",
            "user-agent",
            "webhook-id",
            "webhook-signature",
            "webhook-timestamp",
            "x-trace-id",
            "x-webhook-signature"
        ]
    );
    assert_eq!(parts.headers["authorization"], "Basic bWU6cEBzcw==");
    assert_eq!(parts.headers["content-type"], "application/json");
    assert_eq!(
        parts.headers["content-length"],
        event.json.len().to_string()
    );
    assert_eq!(
        parts.headers["user-agent"],
        concat!("wsgw/", env!("CARGO_PKG_VERSION"))
    );
    assert_eq!(parts.headers["webhook-id"], event.id.to_string());
    assert_eq!(parts.headers["x-trace-id"], "abc");
    assert_eq!(
        parts.headers["traceparent"],
        &**event.traceparent.as_ref().unwrap()
    );
    // Signatures of both forms are pinned to Python's in `signature`; here that they are made over this try.
    let mut expected = HeaderMap::new();
    Signer::new(&"s3cret".to_owned().into(), SignatureForm::Standard)
        .unwrap()
        .unwrap()
        .sign(&event, timestamp.parse().unwrap(), &mut expected);
    for name in ["webhook-signature", "x-webhook-signature"] {
        assert_eq!(parts.headers[name], expected[name]);
    }

    let headers = &requests[1].0.headers;
    assert_eq!(headers["webhook-event"], "message_received");
    assert_eq!(headers.get_all("webhook-id").iter().count(), 1);
    assert_eq!(headers.get_all("webhook-signature").iter().count(), 1);
    assert!(headers.get("webhook-timestamp").is_none());

    let headers = &requests[2].0.headers;
    assert!(
        headers
            .keys()
            .all(|name| !name.as_str().contains("webhook"))
    );
    assert!(
        headers.get("x-trace-id").is_none(),
        "no header can be made of it"
    );
}

#[tokio::test]
async fn connections_are_used_again() {
    let (backend, address) = Backend::start([]).await;
    let config = WebhookConfig {
        timeout_seconds: 5.0,
        ..config(address)
    };
    let metrics = Metrics::new().unwrap();
    let settings = DeliverySettings {
        name: "webhook",
        buffer: BufferConfig::default(),
        concurrency: 8,
        max_batch: 1,
        retry: config.retry(),
        when_full: WhenFull::Wait,
        linger: Duration::ZERO,
    };
    let outlet = Outlet::start(
        &settings,
        service(&config),
        Arc::new(NoDeadLetters),
        &metrics,
    );
    for number in 0..1000 {
        let event = test_event(number % 50, 2 + u64::try_from(number).unwrap(), None);
        let slot = outlet.reserve(event.json.len()).await;
        outlet.enqueue(slot, event);
    }
    let drained = outlet
        .delivery()
        .drain(Instant::now() + Duration::from_secs(30))
        .await;
    assert_eq!(drained.delivered, 1000);
    assert_eq!(metrics.webhook_publish_total.get(), 1000);
    assert_eq!(backend.requests.lock().len(), 1000);
    let connections = backend.connections.load(Ordering::SeqCst);
    assert!(
        connections <= 8,
        "{connections} connections for 8 tries at once"
    );
}

#[test]
fn what_cannot_work_is_refused() {
    let with_url = |url: &str| {
        let config = WebhookConfig {
            url: url.to_owned(),
            ..WebhookConfig::default()
        };
        Webhook::new(&config, "X-Trace-Id").map(|webhook| webhook.uri.to_string())
    };
    for url in [
        "",
        "nonsense",
        "ftp://backend/",
        "unix:/run/php.sock",
        "/webhook",
    ] {
        assert!(matches!(with_url(url), Err(WebhookError::Url)), "{url}");
    }
    assert_eq!(
        with_url("https://a:b@backend/x").unwrap(),
        "https://backend/x"
    );
    let config = WebhookConfig {
        url: "http://backend/".into(),
        ..WebhookConfig::default()
    };
    let error = Webhook::new(&config, "X Trace").unwrap_err();
    assert!(matches!(error, WebhookError::TraceHeader(_)));
}
