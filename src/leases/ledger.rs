//! Records in the transaction of the Redis sink: event and record are there together or not at all.
//!
//! Stands inside the Redis sink, where events and leases are in the same Redis.

use std::sync::Arc;

use redis::Cmd;

use super::book::{Book, LeftOver};
use super::record::Record;
use crate::event::{Event, EventKind};
use crate::sinks::redis_stream::{Ledger, Xadd};

/// Records in the transaction of the Redis sink.
#[derive(Debug)]
pub(super) struct LeaseLedger(pub(super) Arc<Book>);

impl Ledger for LeaseLedger {
    fn append(&self, event: &Event, xadd: &Xadd<'_>, commands: &mut Vec<Cmd>) {
        let Self(book) = self;
        let id = event.connection_id;
        match event.kind {
            EventKind::MessageReceived => commands.push(xadd.command()),
            EventKind::Connected => {
                if let Some(record) = Record::of_event(event) {
                    // Noted in any case: what Redis refuses now is written once it no longer does.
                    let record = book.record(id, &record);
                    if !book.is_refused() {
                        commands.extend(record);
                    }
                }
                commands.push(xadd.command());
            }
            EventKind::Disconnected if book.is_refused() => {
                book.close(id);
                let lease = event.spoken_for.clone();
                let lease = lease.unwrap_or_else(|| book.lease_of(id));
                book.leave_over(id, LeftOver { lease, event: None });
                commands.push(xadd.command());
            }
            EventKind::Disconnected => {
                let command = xadd.command();
                let command = if let Some(lease) = &event.spoken_for {
                    book.keys.tell(lease, id, true, &command)
                } else {
                    book.close(id);
                    book.keys.tell(&book.lease_of(id), id, false, &command)
                };
                commands.push(command);
            }
        }
    }
}
