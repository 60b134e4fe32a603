//! Writes spans as OTLP has them: protocol buffers for a collector, JSON for standard output.
//!
//! Stands between whoever finishes a span and the queue. A span is written at once and only once: nothing is kept of it
//! but these bytes. Through the SDK's types each attribute would be several allocations, and a span several
//! microseconds.
//!
//! Field numbers are those of `opentelemetry/proto/trace/v1/trace.proto`.

use std::cell::Cell;

use super::context::{SpanId, TraceId, write_hex};

/// Longest text of an attribute, in bytes; what is longer is cut.
const MAX_TEXT: usize = 256;

/// Room for most spans, which is kept.
const MOST: usize = 1024;

/// Flags of a span that is recorded, and for which it is known whether its parent is in another process.
const FLAGS: u32 = 0x101;

/// Set beside [`FLAGS`] where the parent is in another process.
const REMOTE_PARENT: u32 = 0x200;

thread_local! {
    /// Where a thread writes its spans, one at a time, instead of asking for memory for each.
    static SCRATCH: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// What kind of thing a span is, with OTLP's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Serves someone's request.
    Server = 2,
    /// Asks someone.
    Client = 3,
    /// Hands a message to a broker.
    Producer = 4,
    /// Takes a message from a broker.
    Consumer = 5,
}

/// How spans are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Protobuf,
    Json,
}

/// What every span has.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Head {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) trace_id: TraceId,
    pub(crate) span_id: SpanId,
    pub(crate) parent: Option<SpanId>,
    /// Whether the parent is in another process.
    pub(crate) remote: bool,
    /// Unix nanoseconds.
    pub(crate) began: u64,
    /// Unix nanoseconds.
    pub(crate) ended: u64,
}

/// A span that is being written.
#[derive(Debug)]
pub(crate) struct SpanWriter {
    out: Vec<u8>,
    format: Format,
    /// JSON: whether an attribute was written.
    some: bool,
    failed: Option<&'static str>,
}

impl SpanWriter {
    pub(super) fn begin(format: Format, head: &Head) -> Self {
        let mut writer = Self {
            out: SCRATCH.take(),
            format,
            some: false,
            failed: None,
        };
        let flags = FLAGS | if head.remote { REMOTE_PARENT } else { 0 };
        let out = &mut writer.out;
        match format {
            Format::Protobuf => {
                field(out, 1, &head.trace_id.0);
                field(out, 2, &head.span_id.0);
                if let Some(parent) = head.parent {
                    field(out, 4, &parent.0);
                }
                field(out, 5, head.name.as_bytes());
                out.extend_from_slice(&[6 << 3, head.kind as u8]);
                fixed64(out, 7, head.began);
                fixed64(out, 8, head.ended);
                // The key of field 16 takes two bytes.
                out.extend_from_slice(&[0x85, 0x01]);
                out.extend_from_slice(&flags.to_le_bytes());
            }
            Format::Json => {
                out.extend_from_slice(b"{\"traceId\":\"");
                hex(out, &head.trace_id.0);
                out.extend_from_slice(b"\",\"spanId\":\"");
                hex(out, &head.span_id.0);
                if let Some(parent) = head.parent {
                    out.extend_from_slice(b"\",\"parentSpanId\":\"");
                    hex(out, &parent.0);
                }
                let Head {
                    name, began, ended, ..
                } = head;
                let kind = head.kind as u8;
                let rest = format!(
                    "\",\"flags\":{flags},\"name\":\"{name}\",\"kind\":{kind},\"startTimeUnixNano\":\"{began}\",\"endTimeUnixNano\":\"{ended}\",\"attributes\":["
                );
                out.extend_from_slice(rest.as_bytes());
            }
        }
        writer
    }

    /// Adds a text.
    pub(crate) fn text(&mut self, key: &str, value: &str) {
        let mut end = value.len().min(MAX_TEXT);
        while !value.is_char_boundary(end) {
            end -= 1;
        }
        let value = &value.as_bytes()[..end];
        match self.format {
            Format::Protobuf => {
                let any = 1 + varint_len(value.len()) + value.len();
                self.attribute(key, any);
                field(&mut self.out, 1, value);
            }
            Format::Json => {
                self.json_attribute(key, "stringValue");
                string(
                    &mut self.out,
                    std::str::from_utf8(value).unwrap_or_default(),
                );
                self.out.extend_from_slice(b"}}");
            }
        }
    }

    /// Adds a number.
    pub(crate) fn number(&mut self, key: &str, value: u64) {
        match self.format {
            Format::Protobuf => {
                self.attribute(key, 1 + varint64_len(value));
                self.out.push(3 << 3);
                varint64(&mut self.out, value);
            }
            Format::Json => {
                self.json_attribute(key, "intValue");
                // 64-bit integers are strings in protobuf's JSON.
                self.out
                    .extend_from_slice(format!("\"{value}\"}}}}").as_bytes());
            }
        }
    }

    /// Marks the span as failed, by the class of what went wrong.
    pub(crate) fn failed(&mut self, class: &str, message: &'static str) {
        self.text("error.type", class);
        self.failed = Some(message);
    }

    /// Finishes the span, and hands it over.
    pub(super) fn finish<T>(mut self, take: impl FnOnce(&[u8]) -> T) -> T {
        match self.format {
            Format::Protobuf => {
                if let Some(message) = self.failed {
                    let status = 2 + 1 + varint_len(message.len()) + message.len();
                    self.out.push(15 << 3 | 2);
                    varint(&mut self.out, status);
                    field(&mut self.out, 2, message.as_bytes());
                    self.out.extend_from_slice(&[3 << 3, 2]);
                }
            }
            Format::Json => {
                self.out.push(b']');
                if let Some(message) = self.failed {
                    self.out
                        .extend_from_slice(b",\"status\":{\"code\":2,\"message\":");
                    string(&mut self.out, message);
                    self.out.push(b'}');
                }
                self.out.push(b'}');
            }
        }
        let taken = take(&self.out);
        self.out.clear();
        self.out.shrink_to(MOST);
        SCRATCH.set(self.out);
        taken
    }

    /// Begins an attribute whose value takes so many bytes.
    fn attribute(&mut self, key: &str, any: usize) {
        let pair = 1 + varint_len(key.len()) + key.len() + 1 + varint_len(any) + any;
        self.out.push(9 << 3 | 2);
        varint(&mut self.out, pair);
        field(&mut self.out, 1, key.as_bytes());
        self.out.push(2 << 3 | 2);
        varint(&mut self.out, any);
    }

    fn json_attribute(&mut self, key: &str, kind: &str) {
        if std::mem::replace(&mut self.some, true) {
            self.out.push(b',');
        }
        self.out
            .extend_from_slice(format!("{{\"key\":\"{key}\",\"value\":{{\"{kind}\":").as_bytes());
    }
}

/// Writes a field of bytes, text or another message.
pub(super) fn field(out: &mut Vec<u8>, number: u8, bytes: &[u8]) {
    out.push(number << 3 | 2);
    varint(out, bytes.len());
    out.extend_from_slice(bytes);
}

fn fixed64(out: &mut Vec<u8>, number: u8, value: u64) {
    out.push(number << 3 | 1);
    out.extend_from_slice(&value.to_le_bytes());
}

/// Writes a length.
pub(super) fn varint(out: &mut Vec<u8>, value: usize) {
    varint64(out, value as u64);
}

fn varint64(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push((value & 0x7f) as u8);
}

/// Bytes that a length takes.
pub(super) fn varint_len(value: usize) -> usize {
    varint64_len(value as u64)
}

fn varint64_len(value: u64) -> usize {
    (64 - (value | 1).leading_zeros() as usize).div_ceil(7)
}

fn hex(out: &mut Vec<u8>, bytes: &[u8]) {
    let start = out.len();
    out.resize(start + bytes.len() * 2, 0);
    write_hex(&mut out[start..], bytes);
}

pub(super) fn string(out: &mut Vec<u8>, text: &str) {
    crate::event::write_string(out, text);
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::common::v1::any_value::Value;
    use opentelemetry_proto::tonic::trace::v1::Span;
    use prost::Message as _;

    use super::*;

    fn head(parent: Option<SpanId>) -> Head {
        Head {
            name: "ws.message",
            kind: Kind::Server,
            trace_id: TraceId([7; 16]),
            span_id: SpanId([8; 8]),
            parent,
            remote: parent.is_some(),
            began: 1_700_000_000_000_000_001,
            ended: 1_700_000_000_000_000_900,
        }
    }

    fn written(format: Format, parent: Option<SpanId>) -> Vec<u8> {
        let mut writer = SpanWriter::begin(format, &head(parent));
        writer.text("a", "é\"\n");
        writer.text("long", &"ü".repeat(300));
        for number in [
            0,
            127,
            128,
            16_383,
            16_384,
            u64::from(u32::MAX),
            i64::MAX as u64,
        ] {
            writer.number("n", number);
        }
        writer.failed("503", "the backend answered by an error");
        writer.finish(<[u8]>::to_vec)
    }

    #[test]
    fn a_collectors_own_types_read_what_is_written() {
        for parent in [None, Some(SpanId([9; 8]))] {
            let binary = Span::decode(&written(Format::Protobuf, parent)[..]).unwrap();
            let json: Span = serde_json::from_slice(&written(Format::Json, parent)).unwrap();
            assert_eq!(binary, json);
            assert_eq!(binary.trace_id, [7; 16]);
            assert_eq!(binary.span_id, [8; 8]);
            assert_eq!(binary.parent_span_id.is_empty(), parent.is_none());
            assert_eq!(binary.flags, if parent.is_some() { 0x301 } else { 0x101 });
            assert_eq!((&*binary.name, binary.kind), ("ws.message", 2));
            assert_eq!(
                (binary.start_time_unix_nano, binary.end_time_unix_nano),
                (1_700_000_000_000_000_001, 1_700_000_000_000_000_900)
            );
            let status = binary.status.unwrap();
            assert_eq!(status.code, 2);
            assert_eq!(status.message, "the backend answered by an error");
            let value = |at: usize| {
                let attribute = &binary.attributes[at];
                attribute.value.clone().unwrap().value.unwrap()
            };
            assert_eq!(value(0), Value::StringValue("é\"\n".into()));
            assert_eq!(value(1), Value::StringValue("ü".repeat(128)));
            for (at, number) in [(2, 0), (4, 128), (6, 16_384), (8, i64::MAX)] {
                assert_eq!(value(at), Value::IntValue(number));
            }
            assert_eq!(binary.attributes[9].key, "error.type");
        }
    }
}
