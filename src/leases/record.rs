//! The record of one open connection: what another gateway must know to speak for it.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::event::Event;
use crate::session::Session;

/// A connection's identity, as every event of it has it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) connection_id: Uuid,
    pub(super) user_id: String,
    pub(super) subjects: Vec<String>,
    connected_at: u64,
}

impl Record {
    /// The record of an event's connection, as JSON.
    pub(super) fn of_event(event: &Event) -> Option<String> {
        let record: Self = serde_json::from_slice(&event.json).ok()?;
        serde_json::to_string(&record).ok()
    }

    /// The record of a connection, as JSON.
    pub(super) fn of_session(session: &Session) -> String {
        format!("{{{}}}", session.identity_json())
    }

    /// Reads a record; none if another program wrote it.
    pub(super) fn parse(json: &str) -> Option<Self> {
        serde_json::from_str(json).ok()
    }

    /// As [`Session::identity_json`].
    pub(super) fn identity_json(&self) -> String {
        let json = serde_json::to_string(self).unwrap_or_default();
        let inner = json.strip_prefix('{').and_then(|j| j.strip_suffix('}'));
        inner.unwrap_or_default().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Message;

    #[test]
    fn a_record_is_the_identity_of_events_whoever_writes_it() {
        let session = Session::for_tests("a\"b", &["user:é", "room\n1"]);
        let event = Event::new(&session, &Message::connected(), "trace_id");
        let record = Record::of_event(&event).unwrap();
        assert_eq!(record, Record::of_session(&session));
        let record = Record::parse(&record).unwrap();
        assert_eq!(record.identity_json(), session.identity_json());
        assert_eq!(record.connection_id, session.id());
        assert!(Record::parse("{}").is_none());
    }
}
