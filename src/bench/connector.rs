//! Opens single sockets: the connection, the upgrade request, and why it was refused.
//!
//! Stands between `net` and the clients of every mode.

use std::time::Duration;

use ::http::{HeaderName, HeaderValue, StatusCode};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

use super::args::{Shared, TokenPlace};
use super::net::Dialer;
use super::socket::{self, Closed, Reader, Scratch, Writer};
use super::target::Target;
use super::{BenchError, Result, http};
use crate::close::code;

/// Bytes of a refusal's body that are shown.
const SHOWN: usize = 200;
/// How long a refusal's body is waited for.
const BODY_WAIT: Duration = Duration::from_millis(200);
/// Bytes after which an answer to the upgrade request is no such answer.
const MAX_ANSWER: usize = 64 << 10;

/// Opens single sockets.
pub(super) struct Connector {
    dialer: Dialer,
    /// The upgrade request up to the token.
    target: String,
    headers: String,
    subprotocols: Vec<String>,
    place: TokenPlace,
    timeout: Duration,
    scratch: Scratch,
}

impl Connector {
    /// Prepares for the gateway that the options name.
    pub(super) fn new(shared: &Shared) -> Result<Self> {
        let target = Target::parse(&shared.url, &["ws", "wss"], shared.allow_remote)
            .map_err(|error| BenchError::usage(format!("--url: {error}")))?;
        // The key is fixed and the answer to it unchecked: what answers here is a gateway under test, and its
        // conformance is tested elsewhere.
        let mut headers = String::from(
            "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
        );
        let mut host = Some(format!("Host: {}\r\n", target.authority));
        for header in &shared.headers {
            let (name, value) = header_of(header)?;
            if name == ::http::header::HOST {
                host = None;
            }
            headers.extend([format!("{name}: {value}\r\n")]);
        }
        headers.push_str(&host.unwrap_or_default());
        for name in &shared.subprotocols {
            if HeaderName::try_from(name.as_str()).is_err() {
                return Err(BenchError::usage(format!(
                    "--subprotocol {name}: not a name"
                )));
            }
        }
        Ok(Self {
            target: target.path.clone(),
            dialer: Dialer::new(target, shared.source_addresses, shared.ca_file.as_deref())?,
            headers,
            subprotocols: shared.subprotocols.clone(),
            place: shared.token_in,
            timeout: Duration::from_secs_f64(shared.stall_seconds.max(1.0)),
            scratch: Scratch::new(),
        })
    }

    /// Opens the socket of client `index`.
    pub(super) async fn open(
        &self,
        index: usize,
        token: Option<&str>,
    ) -> Result<(Reader, Writer), String> {
        match timeout(self.timeout, self.handshake(index, token)).await {
            Ok(result) => result,
            Err(_) => Err("no answer to the handshake in time".to_owned()),
        }
    }

    async fn handshake(
        &self,
        index: usize,
        token: Option<&str>,
    ) -> Result<(Reader, Writer), String> {
        let connected = self.dialer.connect(index).await;
        let (mut read, mut write) = connected.map_err(|error| {
            format!(
                "cannot connect to {}: {error}",
                self.dialer.target().shown()
            )
        })?;
        let request = self.request(token);
        let io = |error: std::io::Error| format!("the handshake broke off: {error}");
        write.write_all(request.as_bytes()).await.map_err(io)?;
        write.flush().await.map_err(io)?;
        let mut answer = Vec::with_capacity(512);
        loop {
            if read.read_buf(&mut answer).await.map_err(io)? == 0 {
                return Err("the server closed the connection during the handshake".to_owned());
            }
            match http::upgrade_response(&answer)? {
                Some(head) if head.status == 101 => {
                    let early = answer.split_off(head.body_at);
                    return Ok(socket::open(read, write, early, self.scratch.clone()));
                }
                Some(head) => {
                    // What explains it is part of the error, if it comes along.
                    if answer.len() == head.body_at {
                        let more = read.read_buf(&mut answer);
                        let _ = timeout(BODY_WAIT, more).await;
                    }
                    let body = answer.get(head.body_at..).unwrap_or_default();
                    return Err(refusal(head.status, body));
                }
                None if answer.len() > MAX_ANSWER => {
                    return Err("the answer to the handshake has no end".to_owned());
                }
                None => {}
            }
        }
    }

    fn request(&self, token: Option<&str>) -> String {
        let mut target = self.target.clone();
        let mut headers = self.headers.clone();
        let mut subprotocols = self.subprotocols.clone();
        if let Some(token) = token {
            match self.place {
                TokenPlace::Header => {
                    headers.extend([format!("Authorization: Bearer {token}\r\n")]);
                }
                TokenPlace::Query => {
                    target.push(if target.contains('?') { '&' } else { '?' });
                    target.push_str("access_token=");
                    target.extend(form_urlencoded::byte_serialize(token.as_bytes()));
                }
                TokenPlace::Subprotocol => {
                    subprotocols.extend(["bearer".to_owned(), token.to_owned()]);
                }
            }
        }
        if !subprotocols.is_empty() {
            let list = subprotocols.join(", ");
            headers.extend([format!("Sec-WebSocket-Protocol: {list}\r\n")]);
        }
        format!("GET {target} HTTP/1.1\r\n{headers}\r\n")
    }
}

fn header_of(text: &str) -> Result<(HeaderName, String)> {
    let pair = text.split_once(':').and_then(|(name, value)| {
        let value = value.trim();
        HeaderValue::try_from(value).ok()?;
        Some((HeaderName::try_from(name.trim()).ok()?, value.to_owned()))
    });
    // The value is not shown: it may be a secret.
    pair.ok_or_else(|| BenchError::usage("--header: expected 'NAME: VALUE'"))
}

/// A refused upgrade in words, and what may help.
fn refusal(status: u16, body: &[u8]) -> String {
    let status = StatusCode::from_u16(status)
        .map_or_else(|_| status.to_string(), |status| status.to_string());
    let body = crate::cli::clean(String::from_utf8_lossy(body).trim());
    let shown: String = body.chars().take(SHOWN).collect();
    let hint = match &status[..status.len().min(3)] {
        "401" | "403" => {
            "; is the token right (--key, --token-file), and does it need an --header 'Origin: …'?"
        }
        "404" => "; is the path of --url right?",
        "429" | "503" => "; are connections coming too fast (--ramp), or is the server not ready?",
        "200" => "; what answers is no WebSocket server",
        _ => "",
    };
    let separator = if shown.is_empty() { "" } else { ": " };
    format!("the server refused the upgrade with HTTP {status}{separator}{shown}{hint}")
}

/// What may help against a close with this code; empty where nothing is known.
pub(super) fn close_hint(closed: &Closed) -> &'static str {
    match closed.code {
        code::UNAUTHORISED => "; is the token right (--key, --alg, --user-claim, --token-file)?",
        code::POLICY | code::DISCONNECTED => "; the server does not want this client",
        code::TRY_AGAIN => "; the server is full: fewer connections, or slower (--ramp)",
        code::TOO_BIG => "; is --payload-bytes above the server's limit?",
        code::TOO_SLOW => {
            "; pushes wait for the clients: a slower --rate, or a larger `backpressure` buffer of the gateway"
        }
        _ => "",
    }
}

/// Whether every further connection will end like this one.
pub(super) fn is_hopeless(closed: &Closed) -> bool {
    matches!(closed.code, code::UNAUTHORISED | code::POLICY)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_checked_and_never_shown() {
        assert_eq!(header_of("X-A: b: c").unwrap().1, "b: c");
        for wrong in ["secret", "bad name: secret", "X: se\ncret"] {
            let error = header_of(wrong).unwrap_err().to_string();
            assert!(!error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn refusals_are_cleaned_and_short() {
        let text = refusal(503, &[b"\x1b[2J".as_slice(), &[b'x'; 500]].concat());
        assert!(
            text.contains("HTTP 503 Service Unavailable: \\u{1b}[2Jxxx"),
            "{text}"
        );
        assert!(text.ends_with("not ready?") && text.len() < 400, "{text}");
        assert!(refusal(999, b"").contains("HTTP 999"));
    }
}
