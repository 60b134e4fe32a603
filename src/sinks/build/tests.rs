//! What is used again and what is made anew, through several configurations.

use tokio::time::sleep;

use super::*;
use crate::brokers::Brokers;
use crate::config::DeadLettersConfig;
use crate::replay::ReplayStrategy;
use crate::sinks::delivery::test_event;
use crate::sinks::webhook::SignatureForm;
use crate::stages::StageConfig;
use crate::stages::fan_out::{EventsMode, FanOutConfig};
use crate::stages::ordering_key::{OrderingKeyConfig, PartitionMode};
use crate::stages::rate_limit::RateLimitConfig;
use crate::telemetry::metrics::Metrics;

/// Nobody listens there, which no sink minds before it tries.
const NOWHERE: &str = "127.0.0.1:9";

fn full(folder: &std::path::Path) -> Config {
    let mut config = Config::default();
    let events = &mut config.events;
    events.webhook.url = format!("http://{NOWHERE}/");
    events.redis_stream.dsn = format!("redis://{NOWHERE}/0").into();
    events.rabbitmq.dsn = format!("amqp://{NOWHERE}/%2f").into();
    events.stdout.enabled = true;
    let file = folder.join("letters.jsonl");
    events.dead_letters.file.path = file.to_str().unwrap().to_owned();
    config.stages = vec![
        StageConfig::OrderingKey(OrderingKeyConfig::default()),
        StageConfig::RateLimit(RateLimitConfig::default()),
        StageConfig::FanOut(FanOutConfig {
            events_mode: Some(EventsMode::Both),
            ..FanOutConfig::default()
        }),
    ];
    config
}

/// A gateway's sinks through several configurations.
struct Rig {
    links: Brokers,
    memory: MemorySink,
    running: Running,
}

impl Rig {
    fn new() -> Self {
        let metrics = Metrics::new().unwrap();
        Self {
            links: Brokers::new(Config::default().brokers, Arc::default(), metrics),
            memory: MemorySink::new(64),
            running: Running::default(),
        }
    }

    fn prepare(&self, config: &Config, leases: Option<&Arc<Leases>>) -> Sinks {
        let config = Arc::new(config.clone());
        let memory = Some(self.memory.clone());
        build(&config, &self.links, leases, memory, &self.running).unwrap()
    }

    fn reload(&mut self, config: &Config) -> Vec<Outlet> {
        let leases = None;
        let sinks = self.prepare(config, leases);
        self.running = sinks.activation.apply(Instant::now() + DRAIN);
        sinks.outlets
    }
}

const DRAIN: Duration = Duration::from_secs(10);

/// The sinks of which the second has another version; each with whether the sink itself is another one.
fn changed(old: &[Outlet], new: &[Outlet]) -> Vec<&'static str> {
    assert_eq!(old.len(), new.len());
    old.iter()
        .zip(new)
        .filter(|(old, new)| {
            assert!(
                Arc::ptr_eq(old.delivery(), new.delivery()),
                "the buffer stays"
            );
            !Arc::ptr_eq(old.version(), new.version())
        })
        .map(|(old, _)| old.name())
        .collect()
}

type Change = fn(&mut Config);

fn stage(config: &mut Config) -> &mut OrderingKeyConfig {
    match &mut config.stages[0] {
        StageConfig::OrderingKey(stage) => stage,
        _ => unreachable!("the first stage"),
    }
}

/// What changes, and the sinks that have another version then.
const CHANGES: &[(&str, Change, &[&str])] = &[
    ("nothing", |_| (), &[]),
    ("url", |c| c.events.webhook.url += "x", &["webhook"]),
    (
        "secret",
        |c| c.events.webhook.secret = "s".to_owned().into(),
        &["webhook"],
    ),
    (
        "signature",
        |c| c.events.webhook.signature = SignatureForm::Symfony,
        &["webhook"],
    ),
    (
        "attempts",
        |c| c.events.webhook.retry_attempts = 9,
        &["webhook"],
    ),
    (
        "base",
        |c| c.events.webhook.retry_base_seconds = 9.0,
        &["webhook"],
    ),
    (
        "max",
        |c| c.events.webhook.retry_max_seconds = 9.0,
        &["webhook"],
    ),
    (
        "timeout",
        |c| c.events.webhook.timeout_seconds = 9.0,
        &["webhook"],
    ),
    (
        "concurrency",
        |c| c.events.webhook.concurrency = 9,
        &["webhook"],
    ),
    (
        "webhook buffer",
        |c| c.events.webhook.buffer.max_events = 9,
        &[],
    ),
    (
        "trace header",
        |c| c.tracing.header_name = "X".into(),
        &["webhook"],
    ),
    (
        "trace field",
        |c| c.tracing.trace_id_field = "x".into(),
        &[],
    ),
    // The dead letters of others go to Redis first, and their replays to the inbox.
    (
        "stream",
        |c| c.events.redis_stream.stream = "x".into(),
        &["redis"],
    ),
    (
        "inbox stream",
        |c| c.events.redis_stream.inbox_stream = "x".into(),
        &["webhook", "redis", "stdout", "memory"],
    ),
    (
        "dsn of Redis",
        |c| c.events.redis_stream.dsn = format!("redis://{NOWHERE}/1").into(),
        &["webhook", "redis", "stdout", "memory"],
    ),
    (
        "redis buffer",
        |c| c.events.redis_stream.buffer.max_bytes = 9,
        &[],
    ),
    (
        "trimming",
        |c| c.replay.strategy = ReplayStrategy::Bounded,
        &["webhook", "redis", "stdout", "memory"],
    ),
    ("no trimming", |c| c.replay.maxlen = 9, &[]),
    ("snapshots", |c| c.replay.snapshot_seconds = 9.0, &[]),
    (
        "partitions",
        |c| stage(c).partition_mode = PartitionMode::Suffix,
        // Also what declares the inbox, with dead letters behind it.
        &["webhook", "redis", "rabbitmq", "stdout", "memory"],
    ),
    (
        "shards",
        |c| stage(c).partition_mode = PartitionMode::Shards,
        // Also the dead letters, which go back to their shards.
        &["webhook", "redis", "rabbitmq", "stdout", "memory"],
    ),
    ("no partitions", |c| stage(c).partition_max_len = 9, &[]),
    ("no shards", |c| stage(c).partitions = 9, &[]),
    (
        "exchange",
        |c| c.events.rabbitmq.exchange = "x".into(),
        &["rabbitmq"],
    ),
    (
        "queue",
        |c| c.events.rabbitmq.queue = "x".into(),
        &["rabbitmq"],
    ),
    (
        "queue's ttl",
        |c| c.events.rabbitmq.queue_ttl_ms = 9,
        &["rabbitmq"],
    ),
    (
        "routing key",
        |c| c.events.rabbitmq.routing_key = "x".into(),
        &["rabbitmq"],
    ),
    (
        "inbox queue",
        |c| c.events.rabbitmq.inbox_queue = "x".into(),
        &["webhook", "rabbitmq", "stdout", "memory"],
    ),
    (
        "dsn of RabbitMQ",
        |c| c.events.rabbitmq.dsn = format!("amqp://{NOWHERE}/x").into(),
        &["webhook", "rabbitmq", "stdout", "memory"],
    ),
    (
        "dead-letter stream",
        |c| c.events.dead_letters.redis_stream.stream = "x".into(),
        &["webhook", "redis", "stdout", "memory"],
    ),
    (
        "dead-letter queue",
        |c| c.events.dead_letters.rabbitmq.queue = "x".into(),
        &["webhook", "rabbitmq", "stdout", "memory"],
    ),
    (
        "dead-letter file",
        |c| c.events.dead_letters.file.path += "x",
        &["webhook", "redis", "rabbitmq", "stdout", "memory"],
    ),
    (
        "file's limits",
        |c| c.events.dead_letters.file.max_bytes = 9000,
        &[],
    ),
    ("server", |c| c.server.drain_seconds = 1.0, &[]),
    ("presence", |c| c.presence.ttl_seconds = 9, &[]),
    (
        "another stage",
        |c| {
            c.stages[1] = StageConfig::RateLimit(RateLimitConfig {
                burst: 9,
                ..RateLimitConfig::default()
            });
        },
        &[],
    ),
];

#[tokio::test]
async fn a_version_is_another_one_if_something_it_is_made_of_changed() {
    for (what, change, expected) in CHANGES {
        let folder = tempfile::tempdir().unwrap();
        let mut rig = Rig::new();
        let mut config = full(folder.path());
        let old = rig.reload(&config);
        let names: Vec<_> = old.iter().map(Outlet::name).collect();
        assert_eq!(names, ["webhook", "redis", "rabbitmq", "stdout", "memory"]);
        change(&mut config);
        let new = rig.reload(&config);
        assert_eq!(changed(&old, &new), *expected, "{what}");
    }
}

#[tokio::test]
async fn the_role_in_the_records_of_connections_counts() {
    let folder = tempfile::tempdir().unwrap();
    let mut rig = Rig::new();
    let mut config = full(folder.path());
    config.events.redis_stream.dsn = String::new().into();
    config.leases.dsn = format!("redis://{NOWHERE}/0").into();
    let open = || {
        let link = Leases::link(&config, &rig.links).unwrap().unwrap();
        Leases::open(&config, link, "a")
    };
    let (leases, others) = (open(), open());
    let sinks = rig.prepare(&config, Some(&leases));
    rig.running = sinks.activation.apply(Instant::now());
    let old = sinks.outlets;
    let again = rig.prepare(&config, Some(&leases)).outlets;
    assert!(changed(&old, &again).is_empty());
    let far = ["webhook", "rabbitmq"];
    let other = rig.prepare(&config, Some(&others)).outlets;
    assert_eq!(changed(&old, &other), far);
    let none = rig.prepare(&config, None).outlets;
    assert_eq!(changed(&old, &none), far);
    // Without RabbitMQ the webhook decides what became of a connection; its dead letters still may go there.
    config.transport.rabbitmq.dsn = config.events.rabbitmq.dsn.clone();
    config.events.rabbitmq.dsn = String::new().into();
    let alone = rig.prepare(&config, Some(&leases)).outlets;
    assert!(!Arc::ptr_eq(old[0].version(), alone[0].version()));
}

fn webhook_only(folder: &std::path::Path) -> Config {
    let mut config = full(folder);
    config.events.redis_stream.dsn = String::new().into();
    config.events.rabbitmq.dsn = String::new().into();
    config.events.stdout.enabled = false;
    config.events.webhook.retry_attempts = 1_000_000;
    config
}

fn enqueue(outlet: &Outlet, connection: u128) {
    let event = test_event(connection, 1, None);
    let slot = outlet.try_reserve(event.json.len()).unwrap();
    outlet.enqueue(slot, event);
}

fn letters(config: &Config) -> usize {
    let file = std::fs::read_to_string(&config.events.dead_letters.file.path).unwrap();
    file.lines().count()
}

#[tokio::test]
async fn a_sink_that_goes_ends_and_one_that_comes_back_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let mut rig = Rig::new();
    let first = webhook_only(folder.path());
    let old = rig.reload(&first);
    enqueue(&old[0], 1);
    // Gone, and back while it still drains.
    let mut without = first.clone();
    without.events.webhook.url.clear();
    let memory = rig.reload(&without);
    assert_eq!(memory.len(), 1);
    assert_eq!(rig.running.deliveries().count(), 2, "it has an event");
    let trace = old[0].version().trace();
    drop(old);
    let back = rig.reload(&first);
    let webhook = Arc::clone(back[0].delivery());
    let found = webhook.find(&trace).unwrap();
    assert!(Arc::ptr_eq(&found, back[0].version()), "the very same");
    drop((back, found));
    // Another address: what the old one has ends at once, with dead letters.
    let mut other = first.clone();
    other.events.webhook.url += "other";
    let sinks = rig.prepare(&other, None);
    assert!(webhook.find(&trace).is_some());
    rig.running = sinks.activation.apply(Instant::now());
    while letters(&first) == 0 || !trace.is_cold() {
        sleep(Duration::from_millis(5)).await;
    }
    // Gone for good: once nobody holds it, the next configuration forgets it.
    drop((sinks.outlets, memory, webhook));
    rig.reload(&without);
    rig.reload(&without);
    let left: Vec<_> = rig.running.deliveries().map(|d| d.name()).collect();
    assert_eq!(left, ["memory"]);
}

#[tokio::test]
async fn another_way_of_trying_keeps_the_sink_and_its_events() {
    let folder = tempfile::tempdir().unwrap();
    let mut rig = Rig::new();
    let mut config = webhook_only(folder.path());
    let old = rig.reload(&config);
    enqueue(&old[0], 1);
    let trace = old[0].version().trace();
    drop(old);
    config.events.webhook.retry_max_seconds = 30.0;
    let sinks = rig.prepare(&config, None);
    rig.running = sinks.activation.apply(Instant::now());
    sleep(Duration::from_millis(50)).await;
    assert_eq!(letters(&config), 0, "the target was not given up");
    assert!(!trace.is_cold());
    // Another sink, and still the same target.
    enqueue(&sinks.outlets[0], 2);
    config.events.webhook.timeout_seconds = 30.0;
    let sinks = rig.prepare(&config, None);
    rig.running = sinks.activation.apply(Instant::now());
    sleep(Duration::from_millis(50)).await;
    assert_eq!(letters(&config), 0, "nor is it now");
    // The target is given up now, and with it all versions that it has.
    enqueue(&sinks.outlets[0], 3);
    config.events.webhook.url += "other";
    let sinks = rig.prepare(&config, None);
    rig.running = sinks.activation.apply(Instant::now());
    while letters(&config) < 3 {
        sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_configuration_that_is_not_put_in_force_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut rig = Rig::new();
    let config = webhook_only(folder.path());
    let old = rig.reload(&config);
    let mut other = full(folder.path());
    other.events.webhook.url += "other";
    other.events.webhook.buffer.max_events = 1;
    let sinks = rig.prepare(&other, None);
    let trace = sinks.outlets[0].version().trace();
    drop(sinks);
    assert!(trace.is_cold());
    for connection in 0..10 {
        enqueue(&old[0], connection);
    }
    other.events.webhook.timeout_seconds = -1.0;
    other.events.webhook.url = "no url".into();
    let memory = Some(rig.memory.clone());
    assert!(build(&Arc::new(other), &rig.links, None, memory, &rig.running).is_err());
    assert_eq!(rig.running.deliveries().count(), 2);
    assert!(changed(&old, &rig.reload(&config)).is_empty());
}

#[tokio::test]
async fn one_file_has_one_writer_whatever_its_path_looks_like() {
    let folder = tempfile::tempdir().unwrap();
    let mut rig = Rig::new();
    let mut config = webhook_only(folder.path());
    let first = rig.prepare(&config, None);
    let DeadLettersConfig { file, .. } = &mut config.events.dead_letters;
    file.path = file.path.replace("letters.jsonl", "./letters.jsonl");
    file.max_bytes = 1024;
    rig.running = first.activation.apply(Instant::now());
    let again = rig.prepare(&config, None);
    assert!(changed(&first.outlets, &again.outlets).is_empty());
    assert!(Arc::ptr_eq(
        &first.source_dead_letters,
        &again.source_dead_letters
    ));
}
