//! Admits connections by their token, and lets a client renew it in-band.
//!
//! Stands first in both stacks: nothing below it meets a client that nobody has admitted.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use prometheus::IntCounterVec;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio_tungstenite::tungstenite::Utf8Bytes;
use tower_layer::Layer;
use tower_service::Service;

use crate::clock::numeric_date;
use crate::config::Secret;
use crate::jwt::{AuthError, Claims, KeySets, Verifier, find_token};
use crate::message::{FieldId, Message};
use crate::pipeline::{Claimed, CompileError, Handshake, Ingredients, Stage, StageLayers};
use crate::session::Session;
use crate::svc::{BoxError, HandshakeLayer, MessageFuture, MessageLayer, NewService, Outcome};

/// Settings of the `auth` stage.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AuthConfig {
    /// How tokens are verified.
    pub jwt: JwtConfig,
    /// Where a token is looked for; the first place that has one decides.
    pub token_sources: Vec<TokenSource>,
    /// Name of the cookie that the source `cookie` reads.
    pub cookie_name: String,
    /// Refuses tokens without `exp`.
    pub require_exp: bool,
}

impl Default for AuthConfig {
    fn default() -> Self {
        Self {
            jwt: JwtConfig::default(),
            token_sources: vec![
                TokenSource::Header,
                TokenSource::Query,
                TokenSource::Subprotocol,
            ],
            cookie_name: "access_token".into(),
            require_exp: false,
        }
    }
}

/// A place in the upgrade request that may hold the token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TokenSource {
    /// `Authorization: Bearer <token>`.
    Header,
    /// The query parameter `access_token`, else `token`.
    Query,
    /// `Sec-WebSocket-Protocol: bearer, <token>`; the server answers with `bearer`.
    Subprotocol,
    /// The cookie named by `cookie_name`. Set `server.allowed_origins` with it: browsers send cookies from any site.
    Cookie,
}

/// How tokens are verified (JSON Web Tokens, RFC 7519).
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct JwtConfig {
    /// The one signature algorithm that is accepted.
    pub algorithm: JwtAlgorithm,
    /// The public key as PEM; literal `\n` count as line ends. With an HS algorithm: the shared secret.
    pub public_key: Secret,
    /// File with the public key as PEM, or with the shared secret of an HS algorithm.
    pub public_key_file: String,
    /// URL of a JSON Web Key Set (RFC 7517), instead of a fixed key.
    pub jwks_url: String,
    /// Seconds after which the key set is fetched again.
    #[schemars(range(min = 1, max = 604_800))]
    pub jwks_refresh_seconds: u64,
    /// Seconds that must pass between two fetches caused by unknown key ids.
    #[schemars(range(min = 1, max = 86_400))]
    pub jwks_min_refetch_seconds: u64,
    /// Claim that holds the user id: a string, or a number that becomes its decimal string.
    pub user_id_claim: String,
    /// Required value of `iss`; empty: not checked.
    pub issuer: String,
    /// Required value in `aud`; empty: not checked.
    pub audience: String,
    /// Seconds of clock difference allowed for `exp` and `nbf`.
    #[schemars(range(min = 0, max = 86_400))]
    pub leeway: u64,
}

impl Default for JwtConfig {
    fn default() -> Self {
        Self {
            algorithm: JwtAlgorithm::Rs256,
            public_key: Secret::default(),
            public_key_file: String::new(),
            jwks_url: String::new(),
            jwks_refresh_seconds: 300,
            jwks_min_refetch_seconds: 10,
            user_id_claim: "user_id".into(),
            issuer: String::new(),
            audience: String::new(),
            leeway: 0,
        }
    }
}

/// A JWS signature algorithm (RFC 7518 section 3.1, RFC 8037).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[expect(missing_docs, reason = "the names are those of RFC 7518")]
pub enum JwtAlgorithm {
    #[serde(rename = "RS256")]
    Rs256,
    #[serde(rename = "RS384")]
    Rs384,
    #[serde(rename = "RS512")]
    Rs512,
    #[serde(rename = "PS256")]
    Ps256,
    #[serde(rename = "PS384")]
    Ps384,
    #[serde(rename = "PS512")]
    Ps512,
    #[serde(rename = "ES256")]
    Es256,
    #[serde(rename = "ES384")]
    Es384,
    #[serde(rename = "ES512")]
    Es512,
    #[serde(rename = "EdDSA")]
    EdDsa,
    #[serde(rename = "HS256")]
    Hs256,
    #[serde(rename = "HS384")]
    Hs384,
    #[serde(rename = "HS512")]
    Hs512,
}

impl Stage for AuthConfig {
    fn acts_on(&self) -> &'static str {
        "the upgrade, message_received of type auth"
    }

    fn does(&self) -> &'static str {
        "admits by token"
    }

    fn layers(&self, with: &mut Ingredients<'_>) -> Result<StageLayers, CompileError> {
        let sets = with.shared.keep(KeySets::default);
        let verifier = Verifier::renewed(self, &sets).map_err(|error| {
            CompileError::setting("stages.auth.jwt", format!("cannot be used: {error}"))
        })?;
        let layer = AuthLayer {
            config: Arc::new(self.clone()),
            verifier,
            token: with.fields.want("token")?,
            failures: with.metrics.auth_failures_total.clone(),
        };
        Ok(StageLayers::both(
            HandshakeLayer::new(layer.clone()),
            MessageLayer::new(layer),
        ))
    }
}

#[derive(Clone)]
struct AuthLayer {
    config: Arc<AuthConfig>,
    verifier: Verifier,
    token: FieldId,
    failures: IntCounterVec,
}

impl AuthLayer {
    fn refused(
        &self,
        error: AuthError,
        address: Option<std::net::IpAddr>,
        session: Option<&Session>,
    ) {
        self.failures.with_label_values(&[error.reason()]).inc();
        tracing::info!(
            event = "ws_auth_failed",
            connection_id = session.map(|session| tracing::field::display(session.id())),
            reason = error.reason(),
            address = address.map(tracing::field::display),
        );
    }
}

impl<S: Clone> Layer<S> for AuthLayer {
    type Service = Auth<S>;

    fn layer(&self, inner: S) -> Auth<S> {
        Auth {
            settings: self.clone(),
            inner,
        }
    }
}

/// The handshake service, and the maker of message services.
#[derive(Clone)]
struct Auth<S> {
    settings: AuthLayer,
    inner: S,
}

impl<S> Service<Handshake> for Auth<S>
where
    S: Service<Handshake, Response = Arc<Session>, Error = BoxError> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = Arc<Session>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Arc<Session>, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut handshake: Handshake) -> Self::Future {
        let settings = self.settings.clone();
        // The service that was polled ready is the one to be called.
        let clone = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, clone);
        Box::pin(async move {
            let found = find_token(
                &handshake.headers,
                handshake.query.as_deref(),
                &settings.config,
            );
            let verified = match found {
                Some(found) => settings.verifier.verify(&found.token, numeric_date()).await,
                None => Err(AuthError::Missing),
            };
            match verified {
                Ok(claims) => {
                    handshake.identity = Some(Claimed {
                        user_id: claims.user_id,
                        subjects: claims.subjects,
                        expires_at: claims.expires_at,
                        claims: Some(claims.raw),
                    });
                    inner.call(handshake).await
                }
                Err(error) => {
                    settings.refused(error, handshake.address, None);
                    Err(error.into())
                }
            }
        })
    }
}

impl<N: NewService<Arc<Session>>> NewService<Arc<Session>> for Auth<N> {
    type Service = Renewal<N::Service>;

    fn new_service(&self, session: Arc<Session>) -> Self::Service {
        Renewal {
            settings: self.settings.clone(),
            inner: self.inner.new_service(Arc::clone(&session)),
            session,
        }
    }
}

/// Takes a client's fresh token; everything else passes.
struct Renewal<S> {
    settings: AuthLayer,
    session: Arc<Session>,
    inner: S,
}

impl<S> Service<Message> for Renewal<S>
where
    S: Service<Message, Response = Outcome, Error = BoxError>,
    S::Future: Into<MessageFuture>,
{
    type Response = Outcome;
    type Error = BoxError;
    type Future = MessageFuture;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, message: Message) -> Self::Future {
        if message.type_name().as_deref() != Some("auth") {
            return self.inner.call(message).into();
        }
        let (settings, session) = (&self.settings, &self.session);
        let Some(token) = message.scalar(settings.token) else {
            return MessageFuture::ready(Ok(renew(settings, session, Err(AuthError::Missing))));
        };
        let now = numeric_date();
        if let Some(verified) = settings.verifier.verify_now(&token, now) {
            MessageFuture::ready(Ok(renew(settings, session, verified)))
        } else {
            let (settings, session) = (settings.clone(), Arc::clone(session));
            let token = token.into_owned();
            MessageFuture::waiting(async move {
                let verified = settings.verifier.verify(&token, now).await;
                Ok(renew(&settings, &session, verified))
            })
        }
    }
}

/// Moves the connection's end if the token is the same user's; a refused one leaves everything as it was.
fn renew(settings: &AuthLayer, session: &Session, verified: Result<Claims, AuthError>) -> Outcome {
    let verified = verified.and_then(|claims| {
        if claims.user_id == **session.user_id() {
            Ok(claims)
        } else {
            Err(AuthError::OtherUser)
        }
    });
    let reply = match verified {
        Ok(claims) => {
            session.set_expires_at(claims.expires_at);
            session.set_claims(Some(claims.raw));
            r#"{"type":"auth_ok"}"#
        }
        Err(error) => {
            settings.refused(error, session.address(), Some(session));
            r#"{"type":"auth_error"}"#
        }
    };
    Outcome::Reply(Utf8Bytes::from_static(reply))
}
