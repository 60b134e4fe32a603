//! An identity provider for the tests of key sets.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::Full;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::*;
use crate::jwt::jwks::{KeySets, Patience};

#[derive(Clone)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) body: String,
    pub(super) delay: Duration,
}

/// An identity provider that counts the requests it gets.
pub(super) struct Provider {
    url: String,
    pub(super) answer: Arc<Mutex<Answer>>,
    pub(super) hits: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Drop for Provider {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Provider {
    pub(super) async fn start(keys: &[&TestKey]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/keys", listener.local_addr().unwrap());
        let answer = Arc::new(Mutex::new(Answer {
            status: StatusCode::OK,
            body: set_of(keys),
            delay: Duration::ZERO,
        }));
        let hits = Arc::new(AtomicUsize::new(0));
        let task = tokio::spawn(serve(listener, Arc::clone(&answer), Arc::clone(&hits)));
        Self {
            url,
            answer,
            hits,
            task,
        }
    }

    pub(super) fn publish(&self, keys: &[&TestKey]) {
        self.answer.lock().body = set_of(keys);
    }

    pub(super) fn break_down(&self) {
        self.answer.lock().status = StatusCode::INTERNAL_SERVER_ERROR;
    }

    pub(super) fn recover(&self) {
        self.answer.lock().status = StatusCode::OK;
    }

    pub(super) fn hits(&self) -> usize {
        self.hits.load(Ordering::SeqCst)
    }

    pub(super) fn verifier(&self) -> Verifier {
        self.patient_verifier(Patience::default())
    }

    pub(super) fn patient_verifier(&self, patience: Patience) -> Verifier {
        let mut config = AuthConfig::default();
        config.jwt.algorithm = JwtAlgorithm::Es256;
        config.jwt.jwks_url.clone_from(&self.url);
        Verifier::with_patience(&config, patience, &KeySets::default()).unwrap()
    }
}

async fn serve(listener: TcpListener, answer: Arc<Mutex<Answer>>, hits: Arc<AtomicUsize>) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let (answer, hits) = (Arc::clone(&answer), Arc::clone(&hits));
        tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(
            TokioIo::new(stream),
            service_fn(move |_| {
                hits.fetch_add(1, Ordering::SeqCst);
                let answer = answer.lock().clone();
                async move {
                    tokio::time::sleep(answer.delay).await;
                    let mut response = Response::new(Full::new(Bytes::from(answer.body)));
                    *response.status_mut() = answer.status;
                    response
                        .headers_mut()
                        .insert("location", "/elsewhere".parse().unwrap());
                    Ok::<_, Infallible>(response)
                }
            }),
        ));
    }
}

pub(super) struct TestKey {
    pub(super) kid: &'static str,
    pub(super) private: String,
    pub(super) jwk: Value,
}

impl TestKey {
    pub(super) fn new(kid: &'static str) -> Self {
        let pair = generate_dev_key().unwrap();
        let der = pem::parse(&pair.public_pem).unwrap().into_contents();
        // The document ends with the point: a byte 4, then both coordinates.
        let (x, y) = der[der.len() - 64..].split_at(32);
        Self {
            kid,
            private: pair.private_pem.reveal().to_owned(),
            jwk: json!({"kty": "EC", "crv": "P-256", "kid": kid, "use": "sig", "alg": "ES256",
                "x": URL_SAFE_NO_PAD.encode(x), "y": URL_SAFE_NO_PAD.encode(y)}),
        }
    }

    pub(super) fn token(&self) -> String {
        let key = SigningKey::from_bytes(self.private.as_bytes(), None).unwrap();
        let claims = object(json!({"user_id": self.kid}));
        sign_token(&key.with_kid(self.kid), &claims).unwrap()
    }

    pub(super) fn token_without_kid(&self) -> String {
        sign(&self.private, None, json!({"user_id": self.kid}))
    }

    pub(super) fn changed(&self, name: &str, value: Value) -> Value {
        let mut jwk = self.jwk.clone();
        jwk[name] = value;
        jwk
    }
}

pub(super) fn set_of(keys: &[&TestKey]) -> String {
    json!({"keys": keys.iter().map(|key| &key.jwk).collect::<Vec<_>>()}).to_string()
}
