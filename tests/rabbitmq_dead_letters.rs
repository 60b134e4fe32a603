//! Dead letters in `RabbitMQ`: kept, looked at, moved back; and the link that they share, with TLS and without.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    missing_docs,
    reason = "a test fails by panicking"
)]

mod support;

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use bytes::Bytes;
use lapin::options::QueueDeleteOptions;
use serde_json::json;
use support::rabbitmq::{Vhost, YAML};
use support::{Broker, BrokerSetup, Client, Setup, eventually, within};
use wsgw::api::Readiness;
use wsgw::brokers::BrokerConfig;
use wsgw::brokers::rabbitmq::RabbitmqLink;
use wsgw::config::{Config, Secret};
use wsgw::replay::DeadLetterStore as _;
use wsgw::sinks::dead_letter::{DeadLetter, DeadLetters as _};
use wsgw::sinks::dead_letter_rabbitmq::RabbitmqDeadLetters;
use wsgw::sinks::rabbitmq::ExchangeType;

const EVENT_ID: &str = "0190a5a0-0000-7000-8000-000000000001";

fn connects() -> prometheus::IntCounter {
    prometheus::IntCounter::new("connects", "Connections.").unwrap()
}

fn link(vhost: &Vhost<'_>) -> Arc<RabbitmqLink> {
    let readiness = Arc::new(Readiness::default());
    RabbitmqLink::open(
        &Secret::from(vhost.dsn()),
        "test",
        &BrokerConfig::default(),
        (&readiness, connects()),
    )
    .unwrap()
}

async fn letters(vhost: &Vhost<'_>) -> Arc<RabbitmqDeadLetters> {
    let link = link(vhost);
    within("the link", link.connected()).await;
    Arc::new(RabbitmqDeadLetters::new(&Config::default(), link).unwrap())
}

fn letter(n: usize) -> DeadLetter {
    DeadLetter {
        reason: format!("HTTP 400 ({n})"),
        raw: Bytes::from(format!("{{\"n\":{n}}}")),
        event_id: Some(EVENT_ID.parse().unwrap()),
        sink: "webhook",
        failed_at: 1_700_000_000,
    }
}

/// Makes the default target, which in a gateway is the sink's part.
async fn with_target(vhost: &Vhost<'_>) {
    let (_connection, channel) = vhost.channel().await;
    let declare = channel.exchange_declare(
        "ws.inbox".into(),
        lapin::ExchangeKind::Direct,
        lapin::options::ExchangeDeclareOptions {
            durable: true,
            ..Default::default()
        },
        lapin::types::FieldTable::default(),
    );
    declare.await.unwrap();
    vhost.bind("target", "ws.inbox", "ws.inbox").await;
}

#[tokio::test]
async fn letters_are_listed_without_being_taken() {
    let vhost = Broker::shared().vhost();
    let letters = letters(&vhost).await;
    assert!(letters.list(10).await.unwrap().is_empty());
    for n in 0..5 {
        letters.store(letter(n)).await.unwrap();
    }
    for limit in [3, 10] {
        let listed = letters.list(limit).await.unwrap();
        assert_eq!(listed.len(), limit.min(5));
        let reasons: Vec<_> = listed.iter().map(|letter| letter.reason.clone()).collect();
        let expected: Vec<_> = (0..limit.min(5))
            .map(|n| format!("HTTP 400 ({n})"))
            .collect();
        assert_eq!(
            reasons, expected,
            "the oldest, in their order, also when they were looked at before"
        );
        assert_eq!(listed[0].raw, r#"{"n":0}"#);
        assert_eq!(listed[0].event_id.as_deref(), Some(EVENT_ID));
        assert_eq!(
            (listed[0].store, listed[0].sink.as_deref()),
            ("rabbitmq", Some("webhook"))
        );
        assert_eq!(listed[0].failed_at, Some(1_700_000_000));
    }
    assert_eq!(vhost.take_count("ws.dlq", 5).await.len(), 5);
}

#[tokio::test]
async fn letters_are_moved_with_all_that_they_bear() {
    let vhost = Broker::shared().vhost();
    let letters = letters(&vhost).await;
    with_target(&vhost).await;
    for n in 0..5 {
        letters.store(letter(n)).await.unwrap();
    }
    assert_eq!(letters.replay(0).await, Ok(0));
    assert_eq!(letters.replay(2).await, Ok(2));
    assert_eq!(letters.replay(10).await, Ok(3), "there are no more");
    assert_eq!(letters.replay(10).await, Ok(0));
    let moved = vhost.take_count("target", 5).await;
    for (n, message) in moved.iter().enumerate() {
        assert_eq!(message.body, format!("{{\"n\":{n}}}").as_bytes());
        let headers = message.headers();
        assert_eq!(headers["replayed"], "true");
        assert_eq!(headers["reason"], format!("HTTP 400 ({n})"));
        assert_eq!(headers["event_id"], EVENT_ID);
        assert_eq!(*message.properties.delivery_mode(), Some(2));
        assert_eq!(
            message.properties.message_id().as_ref().unwrap().as_str(),
            EVENT_ID
        );
    }
    assert_eq!(vhost.count("ws.dlq").await, Some(0));
}

#[tokio::test]
async fn a_target_that_nobody_is_bound_to_loses_nothing() {
    let vhost = Broker::shared().vhost();
    let letters = letters(&vhost).await;
    letters.store(letter(0)).await.unwrap();
    // The inbox is declared, but nobody is bound to it.
    let error = letters.replay(10).await.unwrap_err();
    assert!(
        error.reason.starts_with("unroutable: ") && error.reason.contains("`ws.inbox`"),
        "{error:?}"
    );
    with_target(&vhost).await;
    letters.store(letter(1)).await.unwrap();
    assert_eq!(letters.replay(1).await, Ok(1));
    let (_connection, channel) = vhost.channel().await;
    channel
        .queue_delete("target".into(), QueueDeleteOptions::default())
        .await
        .unwrap();
    let error = letters.replay(10).await.unwrap_err();
    assert_eq!(error.replayed, 0);
    assert!(error.reason.starts_with("unroutable: "), "{error:?}");
    let left = vhost.take_count("ws.dlq", 1).await;
    assert_eq!(left[0].body, br#"{"n":1}"#);
}

#[tokio::test]
async fn a_missing_inbox_is_declared_as_the_sink_would_and_another_target_is_not() {
    let vhost = Broker::shared().vhost();
    let link = link(&vhost);
    within("the link", link.connected()).await;
    let mut config = Config::default();
    config.events.rabbitmq.inbox_queue = "inbox".into();
    config.events.rabbitmq.inbox_exchange_type = Some(ExchangeType::Topic);
    let letters = RabbitmqDeadLetters::new(&config, Arc::clone(&link)).unwrap();
    letters.store(letter(0)).await.unwrap();
    assert_eq!(letters.replay(10).await, Ok(1));
    assert_eq!(vhost.take_count("inbox", 1).await[0].body, br#"{"n":0}"#);
    // What is there is used, although it was declared with another type.
    config.events.rabbitmq.inbox_exchange_type = Some(ExchangeType::Fanout);
    let letters = RabbitmqDeadLetters::new(&config, Arc::clone(&link)).unwrap();
    letters.store(letter(1)).await.unwrap();
    assert_eq!(letters.replay(10).await, Ok(1));

    config.replay.rabbitmq.target_exchange = "elsewhere".into();
    let letters = RabbitmqDeadLetters::new(&config, link).unwrap();
    letters.store(letter(2)).await.unwrap();
    let error = letters.replay(10).await.unwrap_err();
    assert_eq!(error.replayed, 0);
    assert!(
        error.reason.contains("no exchange 'elsewhere'"),
        "{error:?}"
    );
    assert_eq!(
        vhost.take_count("ws.dlq", 1).await[0].body,
        br#"{"n":2}"#,
        "it stays"
    );
    let exchanges = vhost.ctl(&["list_exchanges", "name"]);
    assert!(!exchanges.contains("elsewhere"), "{exchanges}");
}

#[tokio::test]
async fn of_a_window_only_what_is_refused_stays() {
    const LETTERS: usize = 700;
    let vhost = Broker::shared().vhost();
    let link = link(&vhost);
    within("the link", link.connected()).await;
    let mut config = Config::default();
    config.replay.rabbitmq.target_exchange = "amq.headers".into();
    config.replay.rabbitmq.max_batch = LETTERS;
    let letters = RabbitmqDeadLetters::new(&config, link).unwrap();
    // Bound to what bears one reason, so that the broker returns one of many, all of one `message_id`.
    let (_connection, channel) = vhost.channel().await;
    let queue = lapin::options::QueueDeclareOptions {
        durable: true,
        ..Default::default()
    };
    let none = lapin::types::FieldTable::default();
    channel
        .queue_declare("target".into(), queue, none)
        .await
        .unwrap();
    let mut arguments = lapin::types::FieldTable::default();
    let good = lapin::types::AMQPValue::LongString("good".into());
    arguments.insert("reason".into(), good);
    let bind = channel.queue_bind(
        "target".into(),
        "amq.headers".into(),
        "".into(),
        lapin::options::QueueBindOptions::default(),
        arguments,
    );
    bind.await.unwrap();
    let bad = 300;
    for n in 0..LETTERS {
        let reason = if n == bad { "bad" } else { "good" };
        let letter = DeadLetter {
            reason: reason.into(),
            ..letter(n)
        };
        letters.store(letter).await.unwrap();
    }
    let error = letters.replay(LETTERS).await.unwrap_err();
    assert_eq!(
        error.replayed, 511,
        "two windows, but for one letter: {error:?}"
    );
    assert!(error.reason.starts_with("unroutable: "), "{error:?}");
    let moved = vhost.take_count("target", 511).await;
    let body = |n: usize| format!("{{\"n\":{n}}}").into_bytes();
    let expected: Vec<_> = (0..512).filter(|n| *n != bad).map(body).collect();
    let bodies: Vec<_> = moved.iter().map(|message| message.body.clone()).collect();
    assert_eq!(bodies, expected);
    let left = vhost.take_count("ws.dlq", LETTERS - 511).await;
    let bodies: Vec<_> = left.iter().map(|message| message.body.clone()).collect();
    let expected: Vec<_> = std::iter::once(bad).chain(512..LETTERS).map(body).collect();
    assert_eq!(bodies, expected, "what was returned stays, in its place");
}

#[tokio::test]
async fn replays_at_once_move_each_letter_once() {
    const LETTERS: usize = 60;
    let vhost = Broker::shared().vhost();
    with_target(&vhost).await;
    // Of several gateways, each with a link of its own.
    let gateways = [
        letters(&vhost).await,
        letters(&vhost).await,
        letters(&vhost).await,
    ];
    for n in 0..LETTERS {
        gateways[0].store(letter(n)).await.unwrap();
    }
    let mut replays = tokio::task::JoinSet::new();
    for gateway in gateways.iter().chain(&gateways) {
        let gateway = Arc::clone(gateway);
        replays.spawn(async move { gateway.replay(LETTERS).await.unwrap() });
    }
    let mut sum = 0;
    while let Some(moved) = replays.join_next().await {
        sum += moved.unwrap();
    }
    assert_eq!(sum, LETTERS);
    let moved = vhost.take_count("target", LETTERS).await;
    let bodies: std::collections::BTreeSet<_> =
        moved.iter().map(|message| message.body.clone()).collect();
    assert_eq!((moved.len(), bodies.len()), (LETTERS, LETTERS));
    assert_eq!(vhost.count("ws.dlq").await, Some(0));
}

#[tokio::test]
async fn a_deleted_queue_is_declared_again_for_the_next_letter() {
    let vhost = Broker::shared().vhost();
    let letters = letters(&vhost).await;
    letters.store(letter(0)).await.unwrap();
    let (_connection, channel) = vhost.channel().await;
    let options = lapin::options::ExchangeDeleteOptions::default();
    channel
        .exchange_delete("ws.dlq".into(), options)
        .await
        .unwrap();
    letters.store(letter(1)).await.unwrap();
    assert_eq!(vhost.take_count("ws.dlq", 2).await.len(), 2);
}

#[tokio::test]
async fn without_a_connection_it_fails_at_once() {
    let vhost = Broker::shared().vhost();
    let dsn = Secret::from(format!(
        "amqp://guest:hunter2@127.0.0.1:{}",
        support::free_port()
    ));
    let link = RabbitmqLink::open(
        &dsn,
        "test",
        &BrokerConfig::default(),
        (&Arc::default(), connects()),
    )
    .unwrap();
    let letters = RabbitmqDeadLetters::new(&Config::default(), link).unwrap();
    let error = letters.store(letter(0)).await.unwrap_err();
    assert_eq!(error.to_string(), "not connected");
    let error = letters.replay(10).await.unwrap_err();
    assert_eq!(
        (error.replayed, error.reason.as_str()),
        (0, "not connected")
    );
    assert!(vhost.count("ws.dlq").await.is_none());
}

#[tokio::test]
async fn a_link_ends_its_connection_with_its_last_holder() {
    let vhost = Broker::shared().vhost();
    let readiness = Arc::new(Readiness::default());
    let link = RabbitmqLink::open(
        &Secret::from(vhost.dsn()),
        "test",
        &BrokerConfig::default(),
        (&readiness, connects()),
    )
    .unwrap();
    link.require();
    assert_eq!(readiness.report().checks["rabbitmq"], "not connected yet");
    within("the link", link.connected()).await;
    let channel = link.channel().await.unwrap();
    assert_eq!(readiness.report().checks["rabbitmq"], "ok");
    let connections = || {
        let all = Broker::shared().ctl(&["list_connections", "vhost"]);
        all.lines().filter(|line| *line == vhost.name).count()
    };
    eventually("the connection", || (connections() == 1).then_some(())).await;
    drop(link);
    assert!(!readiness.report().checks.contains_key("rabbitmq"));
    assert!(
        !channel.is_usable(),
        "the channel is not kept alive by its holder"
    );
    drop(channel);
    eventually("the connection's end", || {
        (connections() == 0).then_some(())
    })
    .await;
}

/// A CA, and certificates of a server at 127.0.0.1 and of a client, by openssl.
fn certificates(directory: &Path) {
    let openssl = |arguments: &str| {
        let output = Command::new("openssl")
            .args(arguments.split_whitespace())
            .current_dir(directory)
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{arguments}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    };
    openssl(
        "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=test-ca -keyout ca.key -out ca.pem",
    );
    openssl(
        "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=other-ca -keyout other.key -out other.pem",
    );
    std::fs::write(
        directory.join("server.ext"),
        "subjectAltName=IP:127.0.0.1\n",
    )
    .unwrap();
    std::fs::write(
        directory.join("client.ext"),
        "extendedKeyUsage=clientAuth\n",
    )
    .unwrap();
    for name in ["server", "client"] {
        openssl(&format!(
            "req -newkey rsa:2048 -nodes -subj /CN={name} -keyout {name}.key -out {name}.csr"
        ));
        openssl(&format!(
            "x509 -req -days 2 -in {name}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -extfile {name}.ext -out {name}.pem"
        ));
    }
}

#[tokio::test]
async fn tls_takes_its_own_authority_and_a_clients_certificate() {
    let directory = tempfile::tempdir().unwrap();
    certificates(directory.path());
    let file = |name: &str| directory.path().join(name).display().to_string();
    let broker = BrokerSetup {
        tls: Some(directory.path().to_owned()),
        ..BrokerSetup::default()
    }
    .start();
    let dsn = format!("amqps://guest:guest@127.0.0.1:{}/t1", broker.tls_port());
    let setup = |ca: &str| {
        Setup::default()
            .yaml(YAML)
            .env("SINK_DSN", &dsn)
            .set("events.rabbitmq.queue", "ws.events")
            .set("brokers.rabbitmq.tls.ca_file", ca)
            .set("brokers.rabbitmq.tls.cert_file", file("client.pem"))
            .set("brokers.rabbitmq.tls.key_file", file("client.key"))
    };
    let vhost = broker.vhost();
    assert_eq!(vhost.name, "t1");
    let gateway = setup(&file("ca.pem")).start().await;
    let _client = Client::connect(&gateway, "42").await;
    assert_eq!(
        vhost.take_count("ws.events", 1).await[0].json()["type"],
        "connected"
    );
    let ssl = broker.ctl(&["list_connections", "ssl", "peer_cert_subject"]);
    assert!(ssl.contains("true\tCN=client"), "{ssl}");
    for ca in [file("other.pem"), String::new()] {
        let gateway = setup(&ca).spawn();
        eventually("the broker's certificate to be refused", || {
            let logs = gateway.logs();
            let line = logs
                .iter()
                .find(|line| line["event"] == "broker_unreachable")?;
            let reason = line["reason"].as_str().unwrap();
            assert!(reason.contains("certificate"), "{reason}");
            Some(())
        })
        .await;
    }
    let gateway = setup(&file("server.ext")).spawn();
    assert!(!gateway.ended().await.success());
    assert!(
        gateway.stderr().contains("`brokers.rabbitmq.tls.ca_file`"),
        "{}",
        gateway.stderr()
    );
}

#[tokio::test]
async fn a_webhooks_dead_letters_go_to_the_broker() {
    let vhost = Broker::shared().vhost();
    let webhook = support::Webhook::scripted(|_| support::Reply::Status(400)).await;
    let yaml = YAML.replace(
        "  events: { rabbitmq",
        "  events:\n    webhook: { url: \"${SYMFONY_WEBHOOK_URL}\" }\n    rabbitmq: { dsn: \"\" }\n  # { rabbitmq",
    );
    let gateway = Setup::default()
        .yaml(yaml)
        .webhook(&webhook)
        .env("EVENTS_MODE", "webhook")
        .env("SOURCE_DSN", vhost.dsn())
        .start()
        .await;
    let mut client = Client::connect(&gateway, "42").await;
    client.send_json(&json!({"n": 1})).await;
    let letters = vhost.take_count("ws.dlq", 2).await;
    assert_eq!(letters[1].json()["message"]["n"], 1);
    assert_eq!(letters[1].headers()["sink"], "webhook");
    assert!(letters[1].headers()["reason"].contains("400"));
    assert!(gateway.dead_letters().is_empty());
}
