//! How far the source is behind its stream.
//!
//! Stands beside the source, asked only while somebody looks at the metrics. Redis does not count what follows an entry,
//! but it counts what it ever added: once both are known to stand at the same entry, the rest is a subtraction.

use parking_lot::Mutex;
use redis::Value;

use super::Stream;
use super::entry::{EntryId, StreamState};
use crate::brokers::redis::Atomicity;

/// Entries that are looked at where the stream's count does not help: a lag is at least known up to here.
const LOOKED_AT: u64 = 256;

/// How far the source has come, as it notes after each batch.
#[derive(Debug, Default)]
pub(super) struct Progress(Mutex<State>);

#[derive(Debug, Clone, Copy, Default)]
struct State {
    /// The last entry that was handled; none before the stream was found.
    last: Option<EntryId>,
    /// Entries handled so far.
    handled: u64,
    /// What the stream had added when so many were handled.
    common: Option<Common>,
}

#[derive(Debug, Clone, Copy)]
struct Common {
    added: u64,
    handled: u64,
}

impl Progress {
    /// Notes how far the source has come.
    pub(super) fn note(&self, last: EntryId, handled: usize) {
        let mut state = self.0.lock();
        state.last = Some(last);
        state.handled += handled as u64;
    }

    /// The entries that follow the last one handled; none while Redis does not say.
    pub(super) async fn lag(&self, stream: &Stream) -> Option<u64> {
        let before = *self.0.lock();
        let last = before.last?;
        let mut info = redis::cmd("XINFO");
        info.arg("STREAM").arg(&*stream.name);
        let now = match stream.ask(info).await {
            Ok(answer) => StreamState::read(answer)?,
            Err(error) if error.0.contains("no such key") => return Some(0),
            Err(_) => return None,
        };
        if now.last <= last {
            self.meet(before, now.added);
            return Some(0);
        }
        if let (Some(common), Some(added)) = (before.common, now.added)
            && let Some(added) = added.checked_sub(common.added)
        {
            let handled = before.handled - common.handled;
            // What was trimmed or deleted unread follows no more.
            return Some(added.saturating_sub(handled).min(now.length));
        }
        self.count(stream, before).await
    }

    /// Counts what follows, as far as that is worth it, together with what the stream ever had.
    async fn count(&self, stream: &Stream, before: State) -> Option<u64> {
        let mut info = redis::cmd("XINFO");
        info.arg("STREAM").arg(&*stream.name);
        let mut range = redis::cmd("XRANGE");
        range.arg(&*stream.name);
        range.arg(format!("({}", before.last?)).arg("+");
        range.arg("COUNT").arg(LOOKED_AT);
        let asked = vec![info, range];
        let answers = stream
            .link
            .run_owned(asked, Atomicity::Together)
            .await
            .ok()?;
        let mut answers = answers.into_iter();
        let now = StreamState::read(answers.next()?.ok()?)?;
        let Value::Array(entries) = answers.next()?.ok()? else {
            return None;
        };
        let found = entries.len() as u64;
        if found < LOOKED_AT {
            self.meet(before, now.added.and_then(|added| added.checked_sub(found)));
        }
        Some(found)
    }

    /// Notes what the stream had added when the source was where it was before.
    fn meet(&self, before: State, added: Option<u64>) {
        self.0.lock().common = added.map(|added| Common {
            added,
            handled: before.handled,
        });
    }
}
