//! The one table from errors to what the outside sees: WebSocket close codes, HTTP statuses, replies.
//!
//! Stands at every exit of the data path: nothing else in the gateway names a close code.

use std::borrow::Cow;
use std::num::NonZeroU32;

use http::header::{CONNECTION, RETRY_AFTER, SEC_WEBSOCKET_VERSION, UPGRADE};
use http::{HeaderValue, StatusCode};
use tokio_tungstenite::tungstenite::Utf8Bytes;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;

use crate::api::Problem;
use crate::jwt::AuthError;
use crate::message::MessageId;
use crate::registry::TooManyOfUser;
use crate::stages::authorize::Forbidden;
use crate::stages::fan_out::Overloaded;
use crate::stages::rate_limit::RateLimited;
use crate::stages::validate::Invalid;
use crate::svc::BoxError;

/// Close codes (RFC 6455 section 7.4; 4000–4999 are the application's own).
pub mod code {
    /// The peer closed as planned.
    pub const NORMAL: u16 = 1000;
    /// The gateway stops.
    pub const GOING_AWAY: u16 = 1001;
    /// The peer broke the WebSocket protocol.
    pub const PROTOCOL: u16 = 1002;
    /// The peer's close frame had no code; never sent.
    pub const NONE: u16 = 1005;
    /// The connection was lost; never sent.
    pub const LOST: u16 = 1006;
    /// The client may not do what it keeps doing.
    pub const POLICY: u16 = 1008;
    /// A text message was not UTF-8.
    pub const BAD_UTF8: u16 = 1007;
    /// A message was over `server.max_message_bytes`.
    pub const TOO_BIG: u16 = 1009;
    /// Something broke inside the gateway.
    pub const INTERNAL: u16 = 1011;
    /// Try again later.
    pub const TRY_AGAIN: u16 = 1013;
    /// No valid token, or it expired.
    pub const UNAUTHORISED: u16 = 4401;
    /// The backend disconnected the client.
    pub const DISCONNECTED: u16 = 4403;
    /// The client reads too slowly.
    pub const TOO_SLOW: u16 = 4408;
}

/// Bytes a close reason may have (RFC 6455 section 5.5: a control frame carries 125, two of them the code).
const MAX_REASON: usize = 123;

/// Longest time after which a client that found the gateway full or stopping may try again, in seconds. Each is told a
/// random time up to it, so that those who were refused together do not come back together.
const RETRY_AFTER_SECONDS: u64 = 10;

/// How the gateway ends a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Close {
    /// The code, one of [`code`].
    pub code: u16,
    /// A short sentence for the client's developer.
    pub reason: Cow<'static, str>,
    /// Milliseconds after which the client should reconnect, told before the close frame.
    pub reconnect_after_ms: Option<NonZeroU32>,
}

impl Close {
    /// A close with a code of [`code`] and a reason, cut to what a close frame may carry.
    #[must_use]
    pub fn new(code: u16, reason: impl Into<Cow<'static, str>>) -> Self {
        let mut reason = reason.into();
        if reason.len() > MAX_REASON {
            let mut end = MAX_REASON;
            while !reason.is_char_boundary(end) {
                end -= 1;
            }
            reason = Cow::Owned(reason[..end].to_owned());
        }
        Self {
            code,
            reason,
            reconnect_after_ms: None,
        }
    }

    /// The gateway stops; the client should reconnect after so many milliseconds, if it is to be told.
    #[must_use]
    pub fn stopping(reconnect_after_ms: Option<NonZeroU32>) -> Self {
        Self {
            reconnect_after_ms,
            ..Self::new(code::GOING_AWAY, "gateway stopping")
        }
    }

    /// The message that tells the client when to reconnect.
    #[must_use]
    pub fn reconnect_hint(&self) -> Option<Utf8Bytes> {
        let after_ms = self.reconnect_after_ms?;
        Some(format!(r#"{{"type":"reconnect","after_ms":{after_ms}}}"#).into())
    }

    /// The gateway cannot take the connection now.
    #[must_use]
    pub fn try_again() -> Self {
        Self::new(code::TRY_AGAIN, "try again later")
    }

    /// Something broke inside the gateway.
    #[must_use]
    pub fn internal() -> Self {
        Self::new(code::INTERNAL, "internal error")
    }

    /// The client reads too slowly.
    #[must_use]
    pub fn too_slow() -> Self {
        Self::new(code::TOO_SLOW, "too slow a reader")
    }

    /// The token the connection lives on has expired.
    #[must_use]
    pub fn expired() -> Self {
        Self::new(code::UNAUTHORISED, AuthError::Expired.to_string())
    }

    /// The backend asked for it.
    #[must_use]
    pub fn by_backend(reason: Option<String>) -> Self {
        Self::new(
            code::DISCONNECTED,
            reason.map_or(Cow::Borrowed("disconnected by the backend"), Cow::Owned),
        )
    }

    /// Whether nobody planned for what ends the connection, so that it is worth a log line.
    #[must_use]
    pub fn is_internal(&self) -> bool {
        self.code == code::INTERNAL
    }
}

impl From<TooManyOfUser> for Close {
    fn from(too_many: TooManyOfUser) -> Self {
        Self::new(code::TRY_AGAIN, too_many.to_string())
    }
}

/// How a connection ended, as the backend and the metrics hear of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// The close code that either side sent, or [`code::NONE`] or [`code::LOST`].
    pub code: u16,
    /// The peer's reason, or empty.
    pub reason: String,
    /// The peer closed first, so that the code is what it chose to say.
    pub by_peer: bool,
}

impl Ended {
    /// The connection was lost without a word.
    #[must_use]
    pub fn lost() -> Self {
        Self {
            code: code::LOST,
            reason: String::new(),
            by_peer: false,
        }
    }

    /// The peer closed; its frame may have had no code.
    #[must_use]
    pub fn by_peer(frame: Option<CloseFrame>) -> Self {
        frame.map_or(
            Self {
                code: code::NONE,
                reason: String::new(),
                by_peer: true,
            },
            |frame| Self {
                by_peer: true,
                code: frame.code.into(),
                reason: match frame.reason.as_str() {
                    // The library's own words for a code that no peer may send.
                    "Protocol violation" => String::new(),
                    reason => reason.to_owned(),
                },
            },
        )
    }

    /// The code as a metric's label; a client's own inventions share one, and so do those that are the gateway's to give,
    /// so that no client looks like a fault of the gateway.
    #[must_use]
    pub fn label(&self) -> Cow<'static, str> {
        match self.code {
            code::INTERNAL.. if self.by_peer => Cow::Borrowed("other"),
            code::NORMAL..=code::TRY_AGAIN
            | code::UNAUTHORISED
            | code::DISCONNECTED
            | code::TOO_SLOW => Cow::Owned(self.code.to_string()),
            _ => Cow::Borrowed("other"),
        }
    }
}

/// Every label that a close code can have.
pub fn labels() -> impl Iterator<Item = Cow<'static, str>> {
    let own = [code::UNAUTHORISED, code::DISCONNECTED, code::TOO_SLOW, 0];
    let codes = (code::NORMAL..=code::TRY_AGAIN).chain(own);
    let reason = String::new();
    codes.map(move |code| {
        let reason = reason.clone();
        let by_peer = false;
        Ended {
            code,
            reason,
            by_peer,
        }
        .label()
    })
}

/// What a message's error means for its client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The client is answered and the connection goes on.
    Reply(Utf8Bytes),
    /// The connection ends.
    Close(Close),
}

/// What an error of the message stack means for the client, where it gets no acknowledgements.
#[must_use]
pub fn answer(error: &BoxError) -> Answer {
    if let Some(nack) = Nack::of(error) {
        let id = error.downcast_ref::<Invalid>().and_then(|e| e.id.as_ref());
        return Answer::Reply(nack.without_ack(id));
    }
    if let Some(Overloaded::Close) = error.downcast_ref() {
        return Answer::Close(Close::try_again());
    }
    match error.downcast_ref::<Forbidden>() {
        Some(_) => Answer::Close(Close::new(code::POLICY, "forbidden")),
        None => Answer::Close(Close::internal()),
    }
}

/// Why a message was not taken or not delivered, and what its client is told beside the reason.
#[derive(Debug, Clone, Copy)]
pub struct Nack<'a> {
    reason: &'static str,
    /// A further member, its value as JSON.
    member: Option<(&'static str, &'a str)>,
}

impl<'a> Nack<'a> {
    /// The sinks that had to take the message's event finally did not.
    pub const UNDELIVERABLE: Self = Self::new("undeliverable");

    /// The id was seen before, and the message that bears it is not finished.
    pub const DUPLICATE: Self = Self::new("duplicate");

    const fn new(reason: &'static str) -> Self {
        Self {
            reason,
            member: None,
        }
    }

    /// What an error of the message stack tells the client, if the connection goes on.
    #[must_use]
    pub fn of(error: &'a BoxError) -> Option<Self> {
        if error.is::<RateLimited>() {
            return Some(Self::new("rate_limited"));
        }
        if let Some(Overloaded::Reject) = error.downcast_ref() {
            return Some(Self::new("overloaded"));
        }
        if let Some(invalid) = error.downcast_ref::<Invalid>() {
            return Some(Self {
                reason: "invalid",
                member: Some(("errors", &invalid.errors)),
            });
        }
        match error.downcast_ref::<Forbidden>() {
            Some(Forbidden::Reply { field }) => Some(Self {
                reason: "forbidden",
                member: Some(("field", field)),
            }),
            _ => None,
        }
    }

    /// The answer to a message that bears an id, where clients get acknowledgements.
    #[must_use]
    pub fn text(&self, id: &MessageId) -> Utf8Bytes {
        let (id, reason, member) = (id.as_json(), self.reason, self.member());
        format!(r#"{{"type":"nack","id":{id},"reason":"{reason}"{member}}}"#).into()
    }

    /// The answer where they get none.
    fn without_ack(&self, id: Option<&MessageId>) -> Utf8Bytes {
        let (reason, member) = (self.reason, self.member());
        match id.map(MessageId::as_json) {
            Some(id) => format!(r#"{{"type":"{reason}","id":{id}{member}}}"#).into(),
            None => format!(r#"{{"type":"{reason}"{member}}}"#).into(),
        }
    }

    fn member(&self) -> String {
        self.member
            .map(|(name, value)| format!(",\"{name}\":{value}"))
            .unwrap_or_default()
    }
}

/// The acknowledgement of a message.
#[must_use]
pub fn ack(id: &MessageId) -> Utf8Bytes {
    format!(r#"{{"type":"ack","id":{}}}"#, id.as_json()).into()
}

/// Why an upgrade request gets an HTTP answer instead of a WebSocket.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The `Origin` is not in `server.allowed_origins`.
    #[error("the origin is not allowed")]
    Origin,
    /// `server.max_connections` are open.
    #[error("the gateway holds as many connections as it may")]
    TooManyConnections,
    /// `server.max_connections_per_address` are open.
    #[error("this address holds as many connections as it may")]
    TooManyFromAddress,
    /// Upgrade requests come faster than `server.max_handshakes_per_second`.
    #[error("the gateway takes no more connections at this moment")]
    TooFast,
    /// The gateway stops.
    #[error("the gateway is stopping")]
    Draining,
    /// The request asks for no WebSocket.
    #[error("this path speaks WebSocket: send an upgrade request")]
    NotAnUpgrade,
    /// The request asks for a WebSocket version other than 13.
    #[error("only WebSocket version 13 is spoken")]
    Version,
    /// The request lacks a well-formed `Sec-WebSocket-Key`.
    #[error("the Sec-WebSocket-Key is missing or malformed")]
    Key,
}

impl Refused {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Origin,
        Self::TooManyConnections,
        Self::TooManyFromAddress,
        Self::TooFast,
        Self::Draining,
        Self::NotAnUpgrade,
        Self::Version,
        Self::Key,
    ];

    /// The reason as a metric's label.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Origin => "origin",
            Self::TooManyConnections => "connections",
            Self::TooManyFromAddress => "address",
            Self::TooFast => "rate",
            Self::Draining => "draining",
            Self::NotAnUpgrade => "not_an_upgrade",
            Self::Version => "version",
            Self::Key => "key",
        }
    }

    /// The answer's status.
    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Self::Origin => StatusCode::FORBIDDEN,
            Self::TooManyConnections | Self::TooFast | Self::Draining => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::TooManyFromAddress => StatusCode::TOO_MANY_REQUESTS,
            Self::NotAnUpgrade | Self::Version => StatusCode::UPGRADE_REQUIRED,
            Self::Key => StatusCode::BAD_REQUEST,
        }
    }
}

impl From<&Refused> for Problem {
    fn from(refused: &Refused) -> Self {
        let status = refused.status();
        let problem = Self::new(status, refused.to_string());
        match status {
            StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS => {
                let seconds = rand::random_range(1..=RETRY_AFTER_SECONDS);
                problem.with_header(RETRY_AFTER, HeaderValue::from(seconds))
            }
            // A 426 must say what to upgrade to (RFC 9110 section 15.5.22), and RFC 6455 section 4.4 the version.
            StatusCode::UPGRADE_REQUIRED => problem
                .with_header(CONNECTION, HeaderValue::from_static("Upgrade"))
                .with_header(UPGRADE, HeaderValue::from_static("websocket"))
                .with_header(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13")),
            _ => problem,
        }
    }
}

/// What an error of the handshake stack means: the upgrade succeeds and the socket is closed at once, since
/// browsers tell a page the close code but not an HTTP status.
#[must_use]
pub fn admission(error: &BoxError) -> Close {
    match error.downcast_ref::<AuthError>() {
        Some(refused) if refused.is_client_fault() => {
            Close::new(code::UNAUTHORISED, refused.to_string())
        }
        Some(unavailable) => Close::new(code::TRY_AGAIN, unavailable.to_string()),
        None => Close::internal(),
    }
}

/// What a broken WebSocket stream means: the close to send, or nothing when the connection is already lost.
#[must_use]
pub fn stream(error: &tokio_tungstenite::tungstenite::Error) -> Option<Close> {
    use tokio_tungstenite::tungstenite::Error;
    match error {
        Error::Capacity(_) => Some(Close::new(code::TOO_BIG, "message too big")),
        Error::Utf8(_) => Some(Close::new(code::BAD_UTF8, "text is not UTF-8")),
        Error::Protocol(
            tokio_tungstenite::tungstenite::error::ProtocolError::ResetWithoutClosingHandshake,
        ) => None,
        Error::Protocol(_) => Some(Close::new(code::PROTOCOL, "protocol error")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clients_own_inventions_share_a_label() {
        let label = |code: u16| {
            let frame = CloseFrame {
                code: code.into(),
                reason: "".into(),
            };
            Ended::by_peer(Some(frame)).label()
        };
        assert_eq!(label(1000), "1000");
        assert_eq!(label(1001), "1001");
        for code in [code::INTERNAL, code::TRY_AGAIN, code::TOO_SLOW, 3000, 4999] {
            assert_eq!(label(code), "other");
        }
        assert_eq!(Ended::by_peer(None).label(), "1005");
    }
}
