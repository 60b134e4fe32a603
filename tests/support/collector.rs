//! The collector: decodes real OTLP over HTTP (protocol buffers and JSON) and gRPC, and answers as it is told.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tonic::transport::server::TcpIncoming;

use super::eventually;

/// What becomes of an export.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// It is taken.
    Ok,
    /// It is taken, but for so many spans.
    Partial(i64),
    /// It is refused by this HTTP status, or the gRPC status that stands for it.
    Status(u16),
    /// It is never answered.
    Hang,
}

/// A span as it came in.
#[derive(Debug, Clone)]
pub struct Seen {
    pub name: String,
    pub trace_id: String,
    pub span_id: String,
    /// Empty for none.
    pub parent: String,
    /// As OTLP numbers them: 2 server, 3 client, 4 producer, 5 consumer.
    pub kind: i32,
    pub failed: bool,
    pub attributes: BTreeMap<String, String>,
    pub resource: BTreeMap<String, String>,
    pub span: Span,
}

impl Seen {
    /// An attribute's text; empty if it is not there.
    pub fn attribute(&self, key: &str) -> &str {
        self.attributes.get(key).map_or("", String::as_str)
    }

    /// The context that names the span.
    pub fn traceparent(&self) -> String {
        format!("00-{}-{}-01", self.trace_id, self.span_id)
    }
}

struct Shared {
    answer: Mutex<Answer>,
    spans: Mutex<Vec<Seen>>,
    /// Headers of every export, as text.
    headers: Mutex<Vec<String>>,
}

/// A running collector; stops on drop.
pub struct Collector {
    address: SocketAddr,
    grpc: bool,
    shared: Arc<Shared>,
    serving: JoinHandle<()>,
}

impl Collector {
    /// One that speaks HTTP.
    pub async fn http() -> Self {
        Self::http_at(SocketAddr::from(([127, 0, 0, 1], 0))).await
    }

    /// The same at a given address.
    pub async fn http_at(address: SocketAddr) -> Self {
        Self::start(address, |listener, shared| {
            tokio::spawn(serve_http(listener, shared))
        })
        .await
    }

    /// One that speaks gRPC.
    pub async fn grpc() -> Self {
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut collector = Self::start(address, |listener, shared| {
            let service = TraceServiceServer::new(Grpc(shared));
            let server = tonic::transport::Server::builder().add_service(service);
            tokio::spawn(async move {
                let serving = server.serve_with_incoming(TcpIncoming::from(listener));
                serving.await.unwrap();
            })
        })
        .await;
        collector.grpc = true;
        collector
    }

    async fn start(
        address: SocketAddr,
        serve: impl FnOnce(TcpListener, Arc<Shared>) -> JoinHandle<()>,
    ) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            answer: Mutex::new(Answer::Ok),
            spans: Mutex::default(),
            headers: Mutex::default(),
        });
        let serving = serve(listener, Arc::clone(&shared));
        Self {
            address,
            grpc: false,
            shared,
            serving,
        }
    }

    /// Whether it speaks gRPC.
    pub fn speaks_grpc(&self) -> bool {
        self.grpc
    }

    /// Its base URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Answers like this from now on.
    pub fn answer(&self, answer: Answer) {
        *self.shared.answer.lock().unwrap() = answer;
    }

    /// Every span that was taken so far.
    pub fn spans(&self) -> Vec<Seen> {
        self.shared.spans.lock().unwrap().clone()
    }

    /// The headers of every export so far.
    pub fn headers(&self) -> Vec<String> {
        self.shared.headers.lock().unwrap().clone()
    }

    /// Those of a name.
    pub fn named(&self, name: &str) -> Vec<Seen> {
        let mut spans = self.spans();
        spans.retain(|span| span.name == name);
        spans
    }

    /// Waits for so many spans of a name at least.
    pub async fn wait_for(&self, name: &str, count: usize) -> Vec<Seen> {
        eventually(&format!("{count} spans {name}"), || {
            let spans = self.named(name);
            (spans.len() >= count).then_some(spans)
        })
        .await
    }

    /// Waits for the one span that fits.
    pub async fn wait_for_one(&self, what: &str, fits: impl Fn(&Seen) -> bool) -> Seen {
        eventually(what, || self.spans().into_iter().find(|span| fits(span))).await
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Shared {
    /// What an export is answered; its spans are kept if it is taken.
    async fn take(&self, headers: String, request: ExportTraceServiceRequest) -> Taken {
        self.headers.lock().unwrap().push(headers);
        let answer = *self.answer.lock().unwrap();
        let rejected = match answer {
            Answer::Ok => 0,
            Answer::Partial(rejected) => rejected,
            Answer::Status(status) => return Err(status),
            Answer::Hang => std::future::pending().await,
        };
        let mut spans = self.spans.lock().unwrap();
        for resource_spans in request.resource_spans {
            let resource = resource_spans.resource.unwrap_or_default().attributes;
            for scope_spans in resource_spans.scope_spans {
                assert_eq!(scope_spans.scope.unwrap().name, "wsgw");
                spans.extend(
                    scope_spans
                        .spans
                        .into_iter()
                        .map(|span| seen(&resource, span)),
                );
            }
        }
        let partial = ExportTracePartialSuccess {
            rejected_spans: rejected,
            error_message: String::new(),
        };
        Ok(ExportTraceServiceResponse {
            partial_success: (rejected > 0).then_some(partial),
        })
    }
}

type Taken = Result<ExportTraceServiceResponse, u16>;

fn seen(resource: &[KeyValue], span: Span) -> Seen {
    Seen {
        name: span.name.clone(),
        trace_id: hex(&span.trace_id),
        span_id: hex(&span.span_id),
        parent: hex(&span.parent_span_id),
        kind: span.kind,
        failed: span.status.as_ref().is_some_and(|status| status.code == 2),
        attributes: texts(&span.attributes),
        resource: texts(resource),
        span,
    }
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::new();
    for byte in bytes {
        write!(text, "{byte:02x}").unwrap();
    }
    text
}

fn texts(attributes: &[KeyValue]) -> BTreeMap<String, String> {
    let mut texts = BTreeMap::new();
    for attribute in attributes {
        let text = match attribute.value.clone().unwrap().value.unwrap() {
            Value::StringValue(text) => text,
            Value::IntValue(number) => number.to_string(),
            other => panic!("{other:?}"),
        };
        let before = texts.insert(attribute.key.clone(), text);
        assert_eq!(before, None, "{} is there twice", attribute.key);
    }
    texts
}

async fn serve_http(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            continue;
        };
        let shared = Arc::clone(&shared);
        let service = service_fn(move |request: Request<Incoming>| {
            let shared = Arc::clone(&shared);
            async move { answer(request, &shared).await }
        });
        connections.spawn(async move {
            // The gateway may go away at any time.
            let _ = http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

async fn answer(
    request: Request<Incoming>,
    shared: &Shared,
) -> Result<Response<Full<Bytes>>, hyper::Error> {
    let (head, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    assert_eq!(
        (head.method.as_str(), head.uri.path()),
        ("POST", "/v1/traces")
    );
    let json = head.headers[CONTENT_TYPE] == "application/json";
    let request = if json {
        serde_json::from_slice(&body).unwrap()
    } else {
        assert_eq!(head.headers[CONTENT_TYPE], "application/x-protobuf");
        ExportTraceServiceRequest::decode(body).unwrap()
    };
    let (status, body) = match shared.take(texts_of(&head.headers), request).await {
        Ok(response) if json => (200, serde_json::to_vec(&response).unwrap()),
        Ok(response) => (200, response.encode_to_vec()),
        Err(status) => (status, Vec::new()),
    };
    let response = Response::builder().status(status);
    Ok(response.body(Full::from(body)).unwrap())
}

fn texts_of(headers: &http::HeaderMap) -> String {
    let text = |(name, value): (&http::HeaderName, &http::HeaderValue)| {
        format!("{name}: {}\n", value.to_str().unwrap())
    };
    headers.iter().map(text).collect()
}

struct Grpc(Arc<Shared>);

#[tonic::async_trait]
impl TraceService for Grpc {
    async fn export(
        &self,
        request: tonic::Request<ExportTraceServiceRequest>,
    ) -> Result<tonic::Response<ExportTraceServiceResponse>, tonic::Status> {
        let headers = texts_of(&request.metadata().clone().into_headers());
        let taken = self.0.take(headers, request.into_inner()).await;
        taken
            .map(tonic::Response::new)
            .map_err(|status| match status {
                503 => tonic::Status::unavailable("not now"),
                _ => tonic::Status::invalid_argument("never"),
            })
    }
}
