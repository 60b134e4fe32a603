//! What came of a test's steps so far, and whether it is what the test expects.
//!
//! Stands behind the play, which tells it everything that comes out of the gateway. What is expected is taken off;
//! what is left over at the end was not expected.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use uuid::Uuid;

use super::Failure;
use super::compare::{Difference, differences, shown};
use super::seen::Seen;
use crate::config::cases::{Case, Closing, Expectation, Located, Place, Published, Want, Wanted};
use crate::event::{Event, EventKind};
use crate::sinks::dead_letter::DeadLetter;
use crate::sinks::rehearsal::Delivered;

/// Bytes of a value that a message shows.
const SHOWN: usize = 600;

/// How a connection ended, or was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ended {
    code: u16,
    reason: String,
}

impl Ended {
    pub(super) fn new(code: u16, reason: impl Into<Cow<'static, str>>) -> Self {
        Self {
            code,
            reason: reason.into().into_owned(),
        }
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.code)?;
        if !self.reason.is_empty() {
            write!(f, " ({})", self.reason)?;
        }
        Ok(())
    }
}

/// Something that came out, and the step that it came of.
#[derive(Debug)]
struct Came<T> {
    what: T,
    of: Place,
}

/// An event, and the sinks that took it since it was last expected.
#[derive(Debug)]
struct Out {
    event: Arc<Event>,
    at: Vec<Delivered>,
}

pub(super) struct Judge<'a> {
    case: &'a Case,
    step: Place,
    replies: VecDeque<Came<String>>,
    events: VecDeque<Came<Out>>,
    /// Those that were expected: a sink that takes one later adds nothing new.
    known: Vec<Uuid>,
    letters: VecDeque<Came<DeadLetter>>,
    refused: Option<Came<Ended>>,
    closed: Option<Came<Ended>>,
    gone: Option<String>,
}

impl<'a> Judge<'a> {
    pub(super) fn new(case: &'a Case) -> Self {
        Self {
            case,
            step: case.place,
            replies: VecDeque::new(),
            events: VecDeque::new(),
            known: Vec::new(),
            letters: VecDeque::new(),
            refused: None,
            closed: None,
            gone: None,
        }
    }

    /// What comes now, comes of this step.
    pub(super) fn at(&mut self, step: Place) {
        self.step = step;
    }

    fn came<T>(&self, what: T) -> Came<T> {
        Came {
            what,
            of: self.step,
        }
    }

    pub(super) fn reply(&mut self, text: &str) {
        self.replies.push_back(self.came(text.to_owned()));
    }

    pub(super) fn refused(&mut self, ended: Ended) {
        self.gone = Some(format!("it was refused with {ended}"));
        self.refused = Some(self.came(ended));
    }

    pub(super) fn closed(&mut self, ended: Ended) {
        self.gone = Some(format!("it was closed with {ended}"));
        self.closed = Some(self.came(ended));
    }

    pub(super) fn delivered(&mut self, delivered: Delivered) {
        let id = delivered.event.id;
        if let Some(out) = self.events.iter_mut().find(|out| out.what.event.id == id) {
            out.what.at.push(delivered);
            return;
        }
        let event = Arc::clone(&delivered.event);
        let at = vec![delivered];
        self.events.push_back(self.came(Out { event, at }));
    }

    pub(super) fn given_up(&mut self, letter: DeadLetter) {
        self.letters.push_back(self.came(letter));
    }

    /// Why the client is no longer connected, if it is not of its own accord.
    pub(super) fn why_gone(&self) -> Option<&str> {
        self.gone.as_deref()
    }

    /// Checks that something came, and takes it off.
    pub(super) fn check(&mut self, expectation: &Expectation) -> Result<(), Box<Failure>> {
        for time in 1..=expectation.times {
            self.check_once(expectation).map_err(|mut failure| {
                if expectation.times > 1 {
                    failure.message =
                        format!("{} (time {time} of {})", failure.message, expectation.times);
                }
                failure
            })?;
        }
        Ok(())
    }

    fn check_once(&mut self, expectation: &Expectation) -> Result<(), Box<Failure>> {
        match &expectation.wanted {
            Wanted::Reply(wanted) => {
                let Some(reply) = self.replies.pop_front() else {
                    return Err(self.missing(wanted, "a reply was expected, and there is none"));
                };
                let got = Seen::parse(&reply.what);
                self.judge(wanted, &got, "reply", "the reply is not as expected")
            }
            Wanted::Published(published) => self.published(expectation.place, published),
            Wanted::DeadLetter {
                event,
                sink,
                reason,
            } => self.dead_letter(event, sink.as_deref(), reason.as_ref()),
            Wanted::Close(closing) => {
                let closed = self.closed.take();
                let none = "the connection was expected to be closed, and is open";
                self.ended(expectation.place, closing, closed, none)
            }
            Wanted::Refused(closing) => {
                let refused = self.refused.take();
                let none = "the client was expected to be refused, and was admitted";
                self.ended(expectation.place, closing, refused, none)
            }
            Wanted::Nothing => match self.left_over() {
                None => Ok(()),
                Some((what, _)) => {
                    let message = "nothing was expected, and something happened";
                    let mut failure = self.failure(expectation.place, message);
                    failure.expected = Some("nothing".into());
                    failure.got = Some(what);
                    Err(failure)
                }
            },
        }
    }

    fn published(&mut self, place: Place, wanted: &Published) -> Result<(), Box<Failure>> {
        self.skip_lifecycle(&wanted.event);
        let Some(out) = self.events.pop_front() else {
            return Err(self.missing(&wanted.event, "an event was expected, and none went out"));
        };
        let Out { event, at } = out.what;
        self.known.push(event.id);
        let json = String::from_utf8_lossy(&event.json);
        let got = Seen::parse(&json);
        self.judge(&wanted.event, &got, "event", "the event is not as expected")?;
        let mut sinks: Vec<&str> = at.iter().map(|delivered| delivered.sink).collect();
        sinks.sort_unstable();
        let mut to: Vec<&str> = wanted.to.iter().map(String::as_str).collect();
        to.sort_unstable();
        to.dedup();
        if !to.is_empty() && to != sinks {
            let (to, sinks) = (to.join(", "), sinks.join(", "));
            let mut failure = self.failure(place, "the event went to other sinks than expected");
            failure.diff = vec![format!("- to: {to}"), format!("+ to: {sinks}")];
            (failure.expected, failure.got) = (Some(to), Some(sinks));
            return Err(failure);
        }
        for (part, wanted) in &wanted.target {
            let found = at.iter().find_map(|delivered| {
                let found = delivered.target.iter().find(|(name, _)| name == part);
                found.map(|(_, value)| Seen::Text(value.clone()))
            });
            let found = differences(wanted, found.as_ref(), part);
            if !found.is_empty() {
                let message = format!("the event's {} is not as expected", part.replace('_', " "));
                return Err(self.differs(found, message, None));
            }
        }
        Ok(())
    }

    /// `connected` and `disconnected` only count where they are asked for.
    fn skip_lifecycle(&mut self, wanted: &Located) {
        let asked = match &wanted.want {
            Want::Map(members) => members.iter().find(|(key, _)| key == "type"),
            _ => None,
        };
        let asked = match asked.map(|(_, wanted)| &wanted.want) {
            Some(Want::Text(kind)) => EventKind::from_name(kind),
            _ => None,
        };
        while self.events.front().is_some_and(|out| {
            let kind = out.what.event.kind;
            kind != EventKind::MessageReceived && Some(kind) != asked
        }) {
            self.events.pop_front();
        }
    }

    fn dead_letter(
        &mut self,
        wanted: &Located,
        sink: Option<&str>,
        reason: Option<&Located>,
    ) -> Result<(), Box<Failure>> {
        let Some(letter) = self.letters.pop_front() else {
            return Err(self.missing(wanted, "a dead letter was expected, and there is none"));
        };
        let letter = letter.what;
        let got = Seen::parse(&String::from_utf8_lossy(&letter.raw));
        self.judge(wanted, &got, "event", "the dead letter is not as expected")?;
        if let Some(sink) = sink
            && sink != letter.sink
        {
            let mut failure = self.failure(wanted.place, "another sink gave the event up");
            failure.diff = vec![
                format!("- sink: {sink}"),
                format!("+ sink: {}", letter.sink),
            ];
            (failure.expected, failure.got) = (Some(sink.into()), Some(letter.sink.into()));
            return Err(failure);
        }
        if let Some(reason) = reason {
            let got = Seen::Text(letter.reason);
            self.judge(reason, &got, "reason", "the reason is not as expected")?;
        }
        Ok(())
    }

    fn ended(
        &self,
        place: Place,
        wanted: &Closing,
        got: Option<Came<Ended>>,
        none: &str,
    ) -> Result<(), Box<Failure>> {
        let Some(got) = got else {
            let mut failure = self.failure(place, none);
            failure.expected = Some(wanted.code.to_string());
            failure.got = self.left_over().map(|(what, _)| what);
            return Err(failure);
        };
        let got = got.what;
        if got.code != wanted.code {
            let mut failure = self.failure(place, "the code is not as expected");
            failure.diff = vec![
                format!("- code: {}", wanted.code),
                format!("+ code: {}", got.code),
            ];
            failure.expected = Some(wanted.code.to_string());
            failure.got = Some(got.to_string());
            return Err(failure);
        }
        match &wanted.reason {
            Some(reason) => {
                let got = Seen::Text(got.reason);
                self.judge(reason, &got, "reason", "the reason is not as expected")
            }
            None => Ok(()),
        }
    }

    /// Checks at the end that everything that came was expected.
    pub(super) fn end(&self) -> Result<(), Box<Failure>> {
        match self.left_over() {
            None => Ok(()),
            Some((what, place)) => {
                let message = "something happened that no step expects";
                let mut failure = self.failure(place, message);
                failure.got = Some(what);
                Err(failure)
            }
        }
    }

    /// What came first of that which is not expected so far, and the step that it came of.
    fn left_over(&self) -> Option<(String, Place)> {
        let mut all = Vec::new();
        if let Some(refused) = &self.refused {
            all.push((
                format!("the client was refused with {}", refused.what),
                refused.of,
            ));
        }
        if let Some(reply) = self.replies.front() {
            all.push((format!("a reply: {}", cut(&reply.what)), reply.of));
        }
        let is_new = |out: &&Came<Out>| {
            let event = &out.what.event;
            event.kind == EventKind::MessageReceived && !self.known.contains(&event.id)
        };
        if let Some(out) = self.events.iter().find(is_new) {
            let json = String::from_utf8_lossy(&out.what.event.json);
            let sinks: Vec<&str> = out.what.at.iter().map(|delivered| delivered.sink).collect();
            all.push((
                format!("an event to {}: {}", sinks.join(", "), cut(&json)),
                out.of,
            ));
        }
        if let Some(letter) = self.letters.front() {
            let json = String::from_utf8_lossy(&letter.what.raw);
            let (sink, reason) = (letter.what.sink, &letter.what.reason);
            all.push((
                format!("a dead letter of {sink} ({reason}): {}", cut(&json)),
                letter.of,
            ));
        }
        if let Some(closed) = &self.closed {
            all.push((
                format!("the connection was closed with {}", closed.what),
                closed.of,
            ));
        }
        all.into_iter().min_by_key(|(_, place)| *place)
    }

    fn judge(
        &self,
        wanted: &Located,
        got: &Seen,
        name: &str,
        message: &str,
    ) -> Result<(), Box<Failure>> {
        let found = differences(wanted, Some(got), name);
        if found.is_empty() {
            return Ok(());
        }
        let whole = (shown(&wanted.want), got.to_string());
        Err(self.differs(found, message, Some(whole)))
    }

    fn differs(
        &self,
        found: Vec<Difference>,
        message: impl Into<String>,
        whole: Option<(String, String)>,
    ) -> Box<Failure> {
        let place = found.iter().map(|difference| difference.place).min();
        let mut failure = self.failure(place.unwrap_or(self.step), message);
        if let Some((expected, got)) = whole {
            failure.expected = Some(expected);
            failure.got = Some(cut(&got));
        } else if let Some(first) = found.first() {
            failure.expected = Some(first.wanted.clone());
            failure.got = Some(first.got.clone());
        }
        for difference in found {
            let path = difference.path;
            failure
                .diff
                .push(format!("- {path}: {}", cut(&difference.wanted)));
            failure
                .diff
                .push(format!("+ {path}: {}", cut(&difference.got)));
        }
        failure
    }

    fn missing(&self, wanted: &Located, message: &str) -> Box<Failure> {
        let mut failure = self.failure(wanted.place, message);
        failure.expected = Some(shown(&wanted.want));
        failure.got = self.left_over().map(|(what, _)| what);
        failure
    }

    fn failure(&self, place: Place, message: impl Into<String>) -> Box<Failure> {
        Failure::new(self.case, place, message)
    }
}

/// A value, cut to what fits into a message.
fn cut(text: &str) -> String {
    if text.len() <= SHOWN {
        return text.to_owned();
    }
    let mut end = SHOWN;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}… ({} bytes)", &text[..end], text.len())
}
