use super::*;
use crate::event::EventKind;
use bytes::Bytes;
use uuid::Uuid;

/// An event of a numbered connection, `seq` 1 being `connected`.
pub(crate) fn test_event(connection: u128, seq: u64, key: Option<&str>) -> Arc<Event> {
    let kind = match seq {
        1 => EventKind::Connected,
        u64::MAX => EventKind::Disconnected,
        _ => EventKind::MessageReceived,
    };
    Arc::new(Event {
        id: Uuid::now_v7(),
        kind,
        connection_id: Uuid::from_u128(connection),
        seq,
        ordering_key: key.map(Arc::from),
        traceparent: None,
        trace_id: None,
        json: Bytes::from(format!("{{\"connection\":{connection},\"seq\":{seq}}}")),
    })
}
