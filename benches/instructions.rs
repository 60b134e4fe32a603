//! How many instructions the hot pieces take, counted by Callgrind: the same on a busy machine as on an idle one.
//!
//! `cargo bench --bench instructions` needs `valgrind`, and `gungraun-runner` of the version in Cargo.lock. Each figure is of
//! a hundred calls, after others that filled caches and buffers. It fails where a piece takes more than its limit says:
//! whoever makes one dearer on purpose raises that, and says why.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::exit,
    clippy::must_use_candidate,
    missing_docs,
    unused_qualifications,
    reason = "a benchmark that cannot be set up fails by panicking; what the macros write is not ours"
)]

mod support;

use std::hint::black_box;
use std::sync::Arc;

use futures_util::FutureExt as _;
use gungraun::{
    Callgrind, EventKind, LibraryBenchmarkConfig, library_benchmark, library_benchmark_group, main,
};
use serde_json::value::RawValue;
use tokio::runtime::Runtime;
use tower_service::Service;
use wsgw::config::Config;
use wsgw::event::Event;
use wsgw::message::{FieldSet, Message};
use wsgw::pipeline::Generation;
use wsgw::registry::Registry;
use wsgw::session::Session;
use wsgw::sinks::memory::MemorySink;
use wsgw::stages::ordering_key::partition;
use wsgw::svc::{BoxMessageService, NewService as _, Outcome};

use support::{CHAT, gateway, room_of_1000, session, six_stages};

const CALLS: usize = 100;

/// Fails where the calls take more than so many instructions each: about a tenth above what they took.
fn at_most(each: u64) -> LibraryBenchmarkConfig {
    let mut callgrind = Callgrind::default();
    callgrind.hard_limits([(EventKind::Ir, each * CALLS as u64)]);
    let mut config = LibraryBenchmarkConfig::default();
    config.tool(callgrind);
    config
}

/// A connection's stages, and the runtime that their sinks need; nothing runs on it.
struct Stages {
    service: BoxMessageService,
    generation: Generation,
    _runtime: Runtime,
}

impl Stages {
    fn of(config: &Config, memory: Option<MemorySink>) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        let (generation, _) = runtime.block_on(async { gateway(config, memory) });
        let service = generation.messages.new_service(session());
        let mut stages = Self {
            service,
            generation,
            _runtime: runtime,
        };
        stages.publish();
        stages
    }

    fn publish(&mut self) {
        for _ in 0..CALLS {
            let message = Message::text(CHAT, &self.generation.fields);
            let called = self.service.call(message).now_or_never();
            let outcome = called.expect("at once").expect("no stage refuses");
            assert_eq!(outcome, Outcome::Published);
        }
    }
}

/// Messages that are classified already, and what is to be done with them.
struct Classified {
    stages: Stages,
    messages: Vec<Message>,
}

fn classified() -> Classified {
    let stages = all_stages();
    let text = || Message::text(CHAT, &stages.generation.fields);
    let messages = std::iter::repeat_with(text).take(CALLS).collect();
    Classified { stages, messages }
}

#[library_benchmark]
#[bench::six_stages(setup = classified, config = at_most(4_800))]
fn stack(mut classified: Classified) -> Classified {
    for message in classified.messages.drain(..) {
        let called = classified.stages.service.call(message).now_or_never();
        black_box(called.expect("at once").expect("no stage refuses"));
    }
    classified
}

fn all_stages() -> Stages {
    Stages::of(&six_stages(), None)
}

fn all_stages_and_a_sink() -> Stages {
    Stages::of(&six_stages(), Some(MemorySink::new(64)))
}

/// Without one of the six, to see by the difference what it takes.
fn without(stage: &str) -> Stages {
    let mut config = six_stages();
    config.stages.retain(|known| known.name() != stage);
    Stages::of(&config, None)
}

fn without_rate_limit() -> Stages {
    without("rate_limit")
}

fn without_ordering_key() -> Stages {
    without("ordering_key")
}

#[library_benchmark]
#[bench::six_stages(setup = all_stages, config = at_most(7_300))]
#[bench::without_rate_limit(setup = without_rate_limit, config = at_most(7_300))]
#[bench::without_ordering_key(setup = without_ordering_key, config = at_most(6_600))]
#[bench::and_a_sink(setup = all_stages_and_a_sink, config = at_most(8_000))]
fn message(mut stages: Stages) -> Stages {
    stages.publish();
    stages
}

fn fields() -> FieldSet {
    let mut fields = FieldSet::default();
    for name in ["topic", "traceparent", "trace_id"] {
        fields.want(name).expect("there is room");
    }
    fields
}

/// With a payload of a kilobyte, of which no stage wants anything.
fn long() -> (String, FieldSet) {
    let words = "opaque, as what clients encrypt; ".repeat(31);
    let text = format!(r#"{{"type":"chat","topic":"room:123","payload":"{words}"}}"#);
    (text, fields())
}

fn short() -> (String, FieldSet) {
    (CHAT.to_owned(), fields())
}

#[library_benchmark]
#[bench::short(setup = short, config = at_most(2_800))]
#[bench::a_kilobyte(setup = long, config = at_most(5_700))]
fn classify((text, fields): (String, FieldSet)) -> (String, FieldSet) {
    for _ in 0..CALLS {
        // Copying the text is part of it, which a gateway is spared.
        black_box(Message::text(text.as_str(), &fields));
    }
    (text, fields)
}

fn to_serialise((text, fields): (String, FieldSet)) -> (Arc<Session>, Message) {
    (session(), Message::text(text, &fields))
}

fn short_message() -> (Arc<Session>, Message) {
    to_serialise(short())
}

fn long_message() -> (Arc<Session>, Message) {
    to_serialise(long())
}

#[library_benchmark]
#[bench::short(setup = short_message, config = at_most(2_200))]
#[bench::a_kilobyte(setup = long_message, config = at_most(3_500))]
fn serialise_event((session, message): (Arc<Session>, Message)) -> (Arc<Session>, Message) {
    for _ in 0..CALLS {
        black_box(Event::new(&session, &message, "trace_id"));
    }
    (session, message)
}

#[library_benchmark]
#[bench::replaced(args = ("room:123/é"), config = at_most(1_400))]
#[bench::kept(args = ("room:123"), config = at_most(700))]
fn partition_key(key: &str) {
    for _ in 0..CALLS {
        black_box(partition(black_box(key), 64));
    }
}

struct Room {
    registry: Registry,
    _sessions: Vec<Arc<Session>>,
    payload: Box<RawValue>,
    subjects: [String; 1],
}

fn room(subject: &str) -> Room {
    let (registry, sessions) = room_of_1000();
    let payload = RawValue::from_string(r#"{"text":"hello"}"#.into()).expect("valid JSON");
    let room = Room {
        registry,
        _sessions: sessions,
        payload,
        subjects: [subject.to_owned()],
    };
    room.registry.publish(&room.subjects, &room.payload);
    room
}

fn everybody() -> Room {
    room("room:1")
}

fn nobody() -> Room {
    room("room:2")
}

#[library_benchmark]
#[bench::to_1000(setup = everybody, config = at_most(485_000))]
#[bench::to_nobody(setup = nobody, config = at_most(700))]
fn push(room: Room) -> Room {
    for _ in 0..CALLS {
        black_box(room.registry.publish(&room.subjects, &room.payload));
    }
    room
}

library_benchmark_group!(
    name = pieces,
    benchmarks = [
        message,
        stack,
        classify,
        serialise_event,
        partition_key,
        push
    ]
);

main!(library_benchmark_groups = pieces);
