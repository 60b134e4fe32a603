//! What passes the handshake stack: an upgrade request on its way to a session.
//!
//! Stands between the upgrade, which makes a [`Handshake`], and the registry, which takes the session.

use std::future::{Ready, ready};
use std::net::IpAddr;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{HeaderMap, HeaderName};
use tower_service::Service;

use crate::config::Config;
use crate::message::TraceContext;
use crate::session::{Identity, Session, WantedHeaders};
use crate::svc::BoxError;

/// An upgrade request, and what the stages found out about it.
#[derive(Debug, Clone)]
pub struct Handshake {
    /// The request's headers.
    pub headers: HeaderMap,
    /// The request's query, without the question mark.
    pub query: Option<String>,
    /// The client's address.
    pub address: Option<IpAddr>,
    /// Who connects; set by `auth`.
    pub identity: Option<Claimed>,
    /// Trace context of the request; set by `trace`.
    pub trace: TraceContext,
    /// When the request came, in Unix nanoseconds.
    pub began: u64,
}

/// Who a token says connects.
#[derive(Debug, Clone)]
pub struct Claimed {
    /// The user's id.
    pub user_id: String,
    /// Subjects beside the user's own.
    pub subjects: Vec<String>,
    /// Unix seconds at which the connection must end, if ever.
    pub expires_at: Option<f64>,
    /// The token's claims as one compact JSON object.
    pub claims: Option<Arc<str>>,
}

/// User id of every connection where no `auth` stage stands in the pipeline.
pub const ANONYMOUS: &str = "anonymous";

/// The headers of upgrade requests that the pipeline's stages want to know, each once.
fn wanted_headers(config: &Config) -> Vec<HeaderName> {
    let mut wanted = Vec::new();
    for stage in &config.stages {
        stage.settings().headers(&mut wanted);
    }
    wanted.sort_unstable_by(|a, b| a.as_str().cmp(b.as_str()));
    wanted.dedup();
    wanted
}

/// The bottom of the handshake stack: makes the session.
#[derive(Debug, Clone)]
pub(super) struct MakeSession {
    user_prefix: Arc<str>,
    /// The headers that the stages want to know.
    headers: Arc<[HeaderName]>,
}

impl MakeSession {
    pub(super) fn new(config: &Config) -> Self {
        Self {
            user_prefix: config.subjects.user_prefix.as_str().into(),
            headers: wanted_headers(config).into(),
        }
    }

    fn wanted(&self, headers: &HeaderMap) -> WantedHeaders {
        let wanted = self.headers.iter().filter_map(|name| {
            // Of several with one name the first, as with claims and fields there is one value.
            let value = std::str::from_utf8(headers.get(name)?.as_bytes()).ok()?;
            Some((name.clone(), value.into()))
        });
        wanted.collect()
    }
}

impl Service<Handshake> for MakeSession {
    type Response = Arc<Session>;
    type Error = BoxError;
    type Future = Ready<Result<Arc<Session>, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, handshake: Handshake) -> Self::Future {
        let claimed = handshake.identity.unwrap_or_else(|| Claimed {
            user_id: ANONYMOUS.into(),
            subjects: Vec::new(),
            expires_at: None,
            claims: None,
        });
        let mut subjects = vec![format!("{}{}", self.user_prefix, claimed.user_id)];
        for subject in claimed.subjects {
            if subject != subjects[0] {
                subjects.push(subject);
            }
        }
        let identity = Identity {
            user_id: claimed.user_id,
            subjects,
            expires_at: claimed.expires_at,
        };
        let session = Session::new(identity, handshake.address, handshake.trace)
            .with_upgrade(claimed.claims, self.wanted(&handshake.headers));
        ready(Ok(Arc::new(session)))
    }
}
