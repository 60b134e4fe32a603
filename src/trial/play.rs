//! Plays a test: does its steps one after the other, and lets the gateway come to rest after each.
//!
//! Stands where clients, the backend and time stand. The clock only moves while a step lets it.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{FutureExt as _, SinkExt as _, StreamExt as _};
use serde_json::value::RawValue;
use tokio::io::DuplexStream;
use tokio::time::Instant;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message as Frame;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role};

use super::Failure;
use super::judge::{Ended, Judge};
use super::prepare::Prepared;
use super::tokens::renewal;
use crate::clock::VirtualClock;
use crate::close::code;
use crate::config::cases::{Action, Case, Step};
use crate::kept::Kept;
use crate::message::FieldSet;
use crate::pipeline::{Ingredients, compile};
use crate::server::rehearsal::{Admitted, Rehearsal, TurnedAway};
use crate::session::Session;
use crate::sinks::delivery::Outlet;
use crate::sinks::rehearsal::{Record, rehearse};
use crate::telemetry::metrics::Metrics;
use crate::telemetry::traces::Tracer;

/// Rounds of all tasks without anything coming out, after which the gateway is at rest.
///
/// A message is handed from task to task a dozen times at most between two things that can be seen.
const ROUNDS_AT_REST: u32 = 100;

/// Runs a test on a runtime of its own, whose time stands still.
pub(super) fn run(case: &Case, prepared: &Prepared) -> Result<(), Box<Failure>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .map_err(|error| Failure::new(case, case.place, format!("no runtime: {error}")))?;
    runtime.block_on(async {
        let _clock = VirtualClock::start(case.at_ms);
        let mut play = Play::begin(case, prepared).await?;
        for step in &case.steps {
            play.step(step).await?;
        }
        play.judge.end()
    })
}

struct Play<'a> {
    case: &'a Case,
    prepared: &'a Prepared,
    rehearsal: Rehearsal,
    record: Arc<Record>,
    sinks: Vec<&'static str>,
    client: Option<Client>,
    judge: Judge<'a>,
}

struct Client {
    session: Arc<Session>,
    stream: WebSocketStream<DuplexStream>,
    /// The client closed, so that what follows is only the answer.
    leaving: bool,
}

impl<'a> Play<'a> {
    /// Compiles the pipeline and connects the client.
    async fn begin(case: &'a Case, prepared: &'a Prepared) -> Result<Self, Box<Failure>> {
        let failed = |what: &str, error: &dyn std::fmt::Display| {
            Failure::new(case, case.place, format!("{what}: {error}"))
        };
        let record = Arc::new(Record::default());
        let config = Arc::new(prepared.config.clone());
        let metrics = Metrics::new().map_err(|error| failed("no metrics", &error))?;
        let outlets = rehearse(&config, &metrics, &record)
            .map_err(|error| failed("a sink cannot be made", &error))?;
        let sinks = outlets.iter().map(Outlet::name).collect();
        let generation = compile(
            1,
            Ingredients {
                config: &config,
                shared: &Kept::default(),
                metrics: &metrics,
                outlets: &outlets,
                fields: FieldSet::default(),
                tracer: &Tracer::new(&metrics),
                tap: None,
            },
        )
        .map_err(|error| failed("the pipeline cannot be compiled", &error))?;
        let rehearsal = Rehearsal::new(generation, metrics)
            .map_err(|error| failed("the gateway cannot be set up", &error))?;
        let (headers, query) = prepared
            .keys
            .request(case, &config)
            .map_err(|error| failed("no token could be signed", &error))?;
        let mut judge = Judge::new(case);
        let client = match rehearsal.connect(headers, query).await {
            Ok(Admitted { session, wire }) => {
                let stream = WebSocketStream::from_raw_socket(wire, Role::Client, None).await;
                Some(Client {
                    session,
                    stream,
                    leaving: false,
                })
            }
            Err(turned_away) => {
                judge.refused(match turned_away {
                    TurnedAway::Http(refused) => {
                        Ended::new(refused.status().as_u16(), refused.to_string())
                    }
                    TurnedAway::Close(close) => Ended::new(close.code, close.reason),
                });
                None
            }
        };
        let mut play = Self {
            case,
            prepared,
            rehearsal,
            record,
            sinks,
            client,
            judge,
        };
        play.settle().await;
        Ok(play)
    }

    async fn step(&mut self, step: &Step) -> Result<(), Box<Failure>> {
        self.judge.at(step.place);
        if let Some(action) = &step.action {
            for _ in 0..step.times {
                self.act(step, action).await?;
            }
            self.settle().await;
        }
        for expectation in &step.expect {
            self.judge.check(expectation)?;
        }
        Ok(())
    }

    async fn act(&mut self, step: &Step, action: &Action) -> Result<(), Box<Failure>> {
        match action {
            Action::Send(text) => self.send(step, Frame::text(text.as_str())),
            Action::SendBinary(bytes) => self.send(step, Frame::binary(bytes.clone())),
            Action::Renew(claims) => match self.prepared.keys.sign(claims, false) {
                Ok(token) => self.send(step, Frame::text(renewal(&token))),
                Err(error) => Err(self.failed(step, format!("no token could be signed: {error}"))),
            },
            Action::Close { code, reason } => {
                let frame = code.map(|code| CloseFrame {
                    code: code.into(),
                    reason: reason.as_str().into(),
                });
                self.send(step, Frame::Close(frame))?;
                if let Some(client) = &mut self.client {
                    client.leaving = true;
                }
                Ok(())
            }
            Action::Lose => {
                self.connected(step)?;
                self.client = None;
                Ok(())
            }
            Action::Advance(duration) => {
                self.advance(*duration).await;
                Ok(())
            }
            Action::Push { subjects, payload } => {
                let payload = RawValue::from_string(payload.clone())
                    .map_err(|error| self.failed(step, format!("no payload: {error}")))?;
                if subjects.is_empty() {
                    let session = Arc::clone(&self.connected(step)?.session);
                    self.rehearsal
                        .registry()
                        .publish(session.subjects(), &payload);
                } else {
                    self.rehearsal.registry().publish(subjects, &payload);
                }
                Ok(())
            }
            Action::Disconnect(reason) => {
                let session = Arc::clone(&self.connected(step)?.session);
                self.rehearsal.disconnect(&session, reason.clone());
                Ok(())
            }
            Action::Down(names) => self.set_down(step, names, true),
            Action::Up(names) => self.set_down(step, names, false),
        }
    }

    fn set_down(&self, step: &Step, names: &[String], down: bool) -> Result<(), Box<Failure>> {
        for name in names {
            if !self.sinks.contains(&name.as_str()) {
                let sinks = self.sinks.join(", ");
                let message = format!("there is no sink `{name}` in this test; there is: {sinks}");
                return Err(self.failed(step, message));
            }
            self.record.set_down(name, down);
        }
        Ok(())
    }

    /// The client, as long as it is connected.
    fn connected(&mut self, step: &Step) -> Result<&mut Client, Box<Failure>> {
        if self.client.is_none() {
            let message = match self.judge.why_gone() {
                Some(why) => format!("the client is not connected any more: {why}"),
                None => "the client is not connected any more".to_owned(),
            };
            return Err(self.failed(step, message));
        }
        let failed = Failure::new(self.case, step.place, "the client is not connected");
        self.client.as_mut().ok_or(failed)
    }

    fn send(&mut self, step: &Step, frame: Frame) -> Result<(), Box<Failure>> {
        let client = self.connected(step)?;
        // The pipe has room for more than any message, so that this is done at once.
        match client.stream.send(frame).now_or_never() {
            Some(Ok(())) => Ok(()),
            Some(Err(error)) => Err(self.failed(step, format!("the client cannot send: {error}"))),
            None => Err(self.failed(step, "the gateway has stopped reading from the client")),
        }
    }

    fn failed(&self, step: &Step, message: impl Into<String>) -> Box<Failure> {
        Failure::new(self.case, step.place, message)
    }

    /// Lets time go by, timer by timer; the client goes on reading meanwhile, as it has to answer pings.
    async fn advance(&mut self, duration: Duration) {
        self.settle().await;
        let until = Instant::now() + duration;
        loop {
            let frame = async {
                match &mut self.client {
                    Some(client) => client.stream.next().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                frame = frame => self.read(frame.and_then(Result::ok)),
                () = tokio::time::sleep_until(until) => break,
            }
        }
        self.settle().await;
    }

    /// Lets all tasks run until none of them does anything more without time going by.
    async fn settle(&mut self) {
        let mut rounds = 0;
        let mut changes = self.record.changes();
        while rounds < ROUNDS_AT_REST {
            tokio::task::yield_now().await;
            rounds += 1;
            while let Some(client) = &mut self.client
                && let Some(frame) = client.stream.next().now_or_never()
            {
                self.read(frame.and_then(Result::ok));
                rounds = 0;
            }
            if self.record.changes() != changes {
                changes = self.record.changes();
                rounds = 0;
            }
        }
        for delivered in self.record.take_delivered() {
            self.judge.delivered(delivered);
        }
        for letter in self.record.take_letters() {
            self.judge.given_up(letter);
        }
    }

    /// Takes what the client read; nothing at its end.
    fn read(&mut self, frame: Option<Frame>) {
        let Some(client) = &self.client else { return };
        let leaving = client.leaving;
        match frame {
            Some(Frame::Text(text)) => self.judge.reply(&text),
            Some(Frame::Close(frame)) if !leaving => {
                let ended = match frame {
                    Some(frame) => Ended::new(frame.code.into(), frame.reason.to_string()),
                    None => Ended::new(code::NONE, ""),
                };
                self.judge.closed(ended);
                if let Some(client) = &mut self.client {
                    client.leaving = true;
                }
            }
            Some(_) => {}
            None => {
                if !leaving {
                    self.judge.closed(Ended::new(code::LOST, ""));
                }
                self.client = None;
            }
        }
    }
}
