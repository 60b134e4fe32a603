//! What the clients of `inbound` send: a text with places for what differs from message to message.
//!
//! Stands before the frame. The same mark that is written here is looked for where messages arrive, as bytes, so that it
//! may stand anywhere in a user's own message.

use std::time::{SystemTime, UNIX_EPOCH};

use super::{BenchError, Result};

/// The message of those who give none.
pub(super) const DEFAULT: &str = r#"{"type":"bench","bench":"{id}","pad":"{pad}"}"#;
const DEFAULT_BYTES: usize = 100;

/// A message's text before the values are put in.
pub(super) struct Template {
    pieces: Vec<Piece>,
    payload_bytes: Option<usize>,
    mark: Mark,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Id,
    Client,
    Number,
    Time,
    Pad,
}

/// Where each placeholder stands for what.
const PLACEHOLDERS: [(&str, Piece); 5] = [
    ("{id}", Piece::Id),
    ("{client}", Piece::Client),
    ("{number}", Piece::Number),
    ("{time}", Piece::Time),
    ("{pad}", Piece::Pad),
];

impl Template {
    /// Reads a text; `payload_bytes` is the size that `{pad}` brings it to.
    pub(super) fn new(text: Option<&str>, payload_bytes: Option<usize>, run: u32) -> Result<Self> {
        let pieces = pieces(text.unwrap_or(DEFAULT));
        if payload_bytes.is_some() && !pieces.contains(&Piece::Pad) {
            return Err(BenchError::usage(
                "--payload-bytes needs {pad} somewhere in --message",
            ));
        }
        Ok(Self {
            pieces,
            payload_bytes: payload_bytes.or(text.is_none().then_some(DEFAULT_BYTES)),
            mark: Mark::new(run),
        })
    }

    /// Whether what arrives can be told apart.
    pub(super) fn is_marked(&self) -> bool {
        self.pieces.contains(&Piece::Id)
    }

    /// Writes message `n` of a client.
    pub(super) fn write(&self, client: usize, n: usize, out: &mut Vec<u8>) {
        let (start, mut pad_at) = (out.len(), None);
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => out.extend_from_slice(text.as_bytes()),
                Piece::Id => {
                    let Mark(mark) = &self.mark;
                    out.extend_from_slice(format!("{mark}{client}-{n}").as_bytes());
                }
                Piece::Client => out.extend_from_slice(client.to_string().as_bytes()),
                Piece::Number => out.extend_from_slice(n.to_string().as_bytes()),
                Piece::Time => out.extend_from_slice(unix_ms().to_string().as_bytes()),
                Piece::Pad => pad_at = Some(out.len()),
            }
        }
        if let (Some(at), Some(wanted)) = (pad_at, self.payload_bytes) {
            let missing = wanted.saturating_sub(out.len() - start);
            out.splice(at..at, std::iter::repeat_n(b'x', missing));
        }
    }
}

fn pieces(mut rest: &str) -> Vec<Piece> {
    let mut pieces = Vec::new();
    loop {
        let found = PLACEHOLDERS
            .iter()
            .filter_map(|(name, piece)| Some((rest.find(name)?, name.len(), piece)))
            .min_by_key(|(at, ..)| *at);
        let Some((at, length, piece)) = found else {
            break;
        };
        pieces.push(Piece::Text(rest[..at].to_owned()));
        pieces.push(piece.clone());
        rest = &rest[at + length..];
    }
    pieces.push(Piece::Text(rest.to_owned()));
    pieces.retain(|piece| !matches!(piece, Piece::Text(text) if text.is_empty()));
    pieces
}

fn unix_ms() -> u128 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_millis())
}

/// What tells this run's messages from those that an earlier one left behind.
#[derive(Clone)]
pub(super) struct Mark(String);

impl Mark {
    /// The mark of one run.
    pub(super) fn new(run: u32) -> Self {
        Self(format!("bench-{run}-"))
    }

    /// Finds the client and the number of a message that was written with this mark.
    pub(super) fn find(&self, message: &[u8]) -> Option<(usize, usize)> {
        let at = memchr::memmem::find(message, self.0.as_bytes())? + self.0.len();
        let mut rest = message.get(at..)?;
        let client = take_number(&mut rest)?;
        rest = rest.strip_prefix(b"-")?;
        Some((client, take_number(&mut rest)?))
    }
}

/// Takes the decimal digits off the front.
pub(super) fn take_number(bytes: &mut &[u8]) -> Option<usize> {
    let digits = bytes
        .iter()
        .take_while(|byte| byte.is_ascii_digit())
        .count();
    let (number, rest) = bytes.split_at_checked(digits)?;
    *bytes = rest;
    std::str::from_utf8(number).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_have_their_size_and_their_mark() {
        let template = Template::new(None, None, 7).unwrap();
        let mut out = b"before".to_vec();
        template.write(3, 12, &mut out);
        assert_eq!(out.len(), 6 + DEFAULT_BYTES);
        assert!(serde_json::from_slice::<serde_json::Value>(&out[6..]).is_ok());
        assert_eq!(Mark::new(7).find(&out), Some((3, 12)));
        assert_eq!(Mark::new(8).find(&out), None);
    }

    #[test]
    fn a_users_message_keeps_what_is_no_placeholder() {
        let text = r#"{"a":{"id":"{id}"},"c":{client},"n":{number},"x":"{other}"}"#;
        let template = Template::new(Some(text), None, 7).unwrap();
        let mut out = Vec::new();
        template.write(1, 2, &mut out);
        let expected = r#"{"a":{"id":"bench-7-1-2"},"c":1,"n":2,"x":"{other}"}"#;
        assert_eq!(String::from_utf8(out).unwrap(), expected);
        assert!(template.is_marked());
        assert!(!Template::new(Some("hello"), None, 7).unwrap().is_marked());
        assert!(Template::new(Some("{id}"), Some(100), 7).is_err());
    }
}
