//! Writes an event, or a dead letter's raw event, to the fields of a stream's entry.
//!
//! Stands between an event and the `XADD` that adds it, in the sink and in the replay of dead letters alike.

use redis::Cmd;
use uuid::Uuid;

use super::BrokerFormat;
use crate::event::Event;

/// The fields of one entry.
#[derive(Debug)]
pub(crate) struct Entry<'a> {
    fields: [(&'static str, Value<'a>); 2],
    count: usize,
}

#[derive(Debug)]
enum Value<'a> {
    Borrowed(&'a [u8]),
    Owned(Vec<u8>),
}

impl Value<'_> {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Borrowed(bytes) => bytes,
            Self::Owned(bytes) => bytes,
        }
    }
}

/// What Messenger's headers say of an event.
#[derive(Debug, Default)]
pub(crate) struct Headers<'a> {
    pub(crate) kind: &'a str,
    pub(crate) event_id: Option<Uuid>,
    pub(crate) traceparent: Option<&'a str>,
}

impl<'a> Entry<'a> {
    /// The entry of an event.
    pub(crate) fn of(event: &'a Event, format: BrokerFormat, traceparent: Option<&str>) -> Self {
        let headers = Headers {
            kind: event.kind.as_str(),
            event_id: Some(event.id),
            traceparent,
        };
        Self::new(&event.json, &headers, format, event.replayed)
    }

    /// The entry of an event's JSON.
    pub(crate) fn new(
        json: &'a [u8],
        headers: &Headers<'_>,
        format: BrokerFormat,
        replayed: bool,
    ) -> Self {
        let mut count = 1;
        let first = match format {
            BrokerFormat::Json => {
                count += usize::from(replayed);
                ("data", Value::Borrowed(json))
            }
            BrokerFormat::Messenger => {
                ("message", Value::Owned(messenger(json, headers, replayed)))
            }
        };
        Self {
            fields: [first, ("replayed", Value::Borrowed(b"1"))],
            count,
        }
    }

    /// The fields and their values.
    pub(crate) fn fields(&self) -> impl Iterator<Item = (&'static str, &[u8])> {
        self.fields[..self.count]
            .iter()
            .map(|(name, value)| (*name, value.bytes()))
    }

    /// The command that adds the entry to a stream.
    pub(crate) fn xadd<'b>(&'b self, stream: &'b str, maxlen: Option<u64>) -> Xadd<'b> {
        Xadd {
            stream,
            maxlen,
            entry: self,
        }
    }
}

/// An `XADD` that is not written yet.
#[derive(Debug)]
pub struct Xadd<'a> {
    /// The stream.
    pub stream: &'a str,
    /// About how many entries the stream is to keep, where it is bounded.
    pub maxlen: Option<u64>,
    entry: &'a Entry<'a>,
}

impl Xadd<'_> {
    /// The entry's fields and their values.
    pub fn fields(&self) -> impl Iterator<Item = (&'static str, &[u8])> {
        self.entry.fields()
    }

    /// The command.
    #[must_use]
    pub fn command(&self) -> Cmd {
        let payload: usize = self
            .fields()
            .map(|(name, value)| name.len() + value.len())
            .sum();
        let mut command = Cmd::with_capacity(10, self.stream.len() + payload + 48);
        command.arg("XADD").arg(self.stream);
        if let Some(maxlen) = self.maxlen {
            command.arg("MAXLEN").arg("~").arg(maxlen);
        }
        command.arg("*");
        for (name, value) in self.fields() {
            command.arg(name).arg(value);
        }
        command
    }
}

/// The one field that Messenger's Redis transport reads.
fn messenger(json: &[u8], headers: &Headers<'_>, replayed: bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(json.len() * 5 / 4 + 256);
    out.extend_from_slice(b"{\"body\":");
    string(&mut out, &String::from_utf8_lossy(json));
    out.extend_from_slice(b",\"headers\":{\"Content-Type\":\"application/json\",\"type\":");
    string(&mut out, headers.kind);
    if let Some(id) = headers.event_id {
        let mut buffer = Uuid::encode_buffer();
        out.extend_from_slice(b",\"event_id\":");
        string(&mut out, id.hyphenated().encode_lower(&mut buffer));
    }
    if let Some(traceparent) = headers.traceparent {
        out.extend_from_slice(b",\"traceparent\":");
        string(&mut out, traceparent);
    }
    if replayed {
        out.extend_from_slice(b",\"replayed\":\"1\"");
    }
    out.extend_from_slice(b"}}");
    out
}

fn string(out: &mut Vec<u8>, text: &str) {
    let written = serde_json::to_writer(out, text);
    debug_assert!(written.is_ok(), "strings always serialise");
}
