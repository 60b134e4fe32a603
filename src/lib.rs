//! wsgw: a WebSocket gateway that holds connections for a backend that should not.
//!
//! Clients connect with a token; their messages pass the stages of a YAML pipeline and reach the backend as events, by
//! webhook or brokers, in order and retried; the backend pushes to clients by HTTP or brokers. This crate is the `wsgw`
//! command, and a library so that tests and benchmarks can run a gateway, or a part of one, in their own process. What
//! is public is so for them alone, and not stable.
//!
//! # The data path
//!
//! A message crosses the program once; nothing flows back but replies to the same client.
//!
//! 1. [`config`] reads the pipeline file: positions, `${NAME}`, layers, validation, all problems at once.
//! 2. [`pipeline`] compiles it into a generation: a stack for handshakes, and a maker of stacks for messages.
//! 3. [`server`] accepts a socket and checks the upgrade request. The handshake stack admits it, by [`jwt`], and
//!    makes a [`session`], which the [`registry`] and [`presence`] learn of.
//! 4. The connection's task reads a frame and classifies it as a [`message`], once.
//! 5. The message passes the [`stages`] top to bottom. Each is a tower service made for this connection, its type
//!    forgotten by [`svc`]. A stage answers, refuses, annotates, or hands on.
//! 6. The last stage, `fan_out`, makes an [`event`], takes room for it in every sink's buffer, and enqueues it.
//! 7. [`sinks::delivery`] orders, tries, retries, and at last keeps a dead letter; a sink only tries once.
//!
//! Pushes come the other way: the [`api`] or one of the [`sources`] takes one, the registry finds its connections, each
//! connection's [`outbox`] holds it, and the connection's task writes it.
//!
//! # Layout
//!
//! | module | what |
//! |---|---|
//! | [`cli`] | the commands; all of `main` |
//! | [`config`] | from the file to typed settings, and diagnostics that point at lines |
//! | [`pipeline`], [`svc`], [`stages`] | the stacks: compiling them, their erased types, what is in them |
//! | [`condition`] | what `when` asks of a message and its connection |
//! | [`server`] | accepting, upgrading, the connection's task, starting, reloading and draining |
//! | [`session`], [`message`], [`event`] | what passes through: a connection, what it said, what the backend hears |
//! | [`brokers`] | links to Redis and `RabbitMQ`, which everything below shares, and which reconnect for ever |
//! | [`sinks`] | webhook, Redis, `RabbitMQ`, standard output, memory; delivery; dead letters |
//! | [`sources`], [`push`] | pushes from Redis and `RabbitMQ`, paced by the clients that read |
//! | [`registry`], [`outbox`], [`presence`] | the way back: who listens to what, what waits for whom, who is there |
//! | [`leases`] | each gateway says that it lives; the others speak for one that no longer does |
//! | [`replay`] | dead letters given back, the archive of every event, and the guard in front of both |
//! | [`erase`] | `wsgw erase`: what the stores keep of one user is found and erased |
//! | [`api`] | the internal HTTP API, health and metrics |
//! | [`jwt`] | verifying tokens, key sets, signing for development |
//! | [`close`] | the one table from errors to close codes and HTTP statuses |
//! | [`kept`], `rate`, `clock` | what outlives a reload; how fast something may come; the wall clock and configured seconds |
//! | [`telemetry`] | logs, metrics and traces |
//! | [`trial`] | `wsgw test`: the compiled pipeline against the tests in its file, without a socket and without waiting |
//! | [`graph`] | `wsgw graph`: the compiled pipeline as a picture |
//! | `bench` | `wsgw bench`: load on a running gateway, from outside |
//! | `outgoing` | what the webhook and the exporter of spans share as HTTP clients |
//! | `xml` | texts as XML takes them, for pictures and reports |
//! | [`dev`] | `wsgw dev`: the gateway that needs nothing, and its page |
//!
//! `docs/architecture.md` says why it is built like this, and how to add a stage.

pub mod api;
pub(crate) mod bench;
pub mod brokers;
pub mod cli;
pub(crate) mod clock;
pub mod close;
pub mod condition;
pub mod config;
pub mod dev;
pub mod erase;
pub mod event;
pub mod graph;
mod intake;
pub mod jwt;
pub mod kept;
pub mod leases;
pub mod message;
pub mod outbox;
pub(crate) mod outgoing;
pub mod pipeline;
pub mod presence;
pub mod push;
pub(crate) mod rate;
pub mod registry;
pub mod replay;
pub mod server;
pub mod session;
pub mod sinks;
pub mod sources;
pub(crate) mod sparse;
pub mod stages;
pub mod svc;
pub mod tail;
pub mod telemetry;
pub mod trial;
pub(crate) mod xml;

/// The examples of `docs/architecture.md`, compiled by `cargo test --doc`.
#[cfg(doctest)]
#[doc = include_str!("../docs/architecture.md")]
pub struct ArchitectureExamples;
