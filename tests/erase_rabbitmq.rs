//! `wsgw erase` against a real `RabbitMQ`: the dead letters' queue is searched, the others are named.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod support;

use serde_json::json;
use support::erase::{SECRET, erased, found, report_in, setup, store, visit};
use support::{Broker, until};

#[tokio::test]
async fn letters_of_one_user_go_and_queues_that_are_not_searched_are_named() {
    let vhost = Broker::shared().vhost();
    let sections = format!(
        r#"
  events: {{ rabbitmq: {{ dsn: "{}", inbox_queue: app.inbox }} }}
"#,
        vhost.dsn()
    );
    let gateway = setup("core", &sections).start().await;
    // Nobody has bound a queue to `ws.events`: what goes there comes back, and is a dead letter.
    visit(&gateway, 5).await;
    until("two letters and five messages", || async {
        vhost.count("ws.dlq").await == Some(2) && vhost.count("app.inbox").await == Some(5)
    })
    .await;
    let others: Vec<String> = (0..300)
        .map(|n| json!({"connection_id": "c", "user_id": "7", "n": n}).to_string())
        .collect();
    vhost.publish("ws.dlq", "ws.dlq", &others).await;
    let pushes = [
        json!({"subjects": ["user:42"], "payload": SECRET}).to_string(),
        "no JSON".to_owned(),
    ];
    vhost.publish("ws.dlq", "ws.dlq", &pushes).await;

    let (code, counted) = report_in(gateway.directory(), &["--dry-run"]).await;
    let queue = store(&counted, "rabbitmq_queue", "ws.dlq");
    assert_eq!((code, &queue["examined"]), (0, &json!(304)), "{counted:#}");
    assert_eq!(
        (&queue["found"], &queue["unreadable"]),
        (&json!(3), &json!(1))
    );
    until("all to be given back", || async {
        vhost.count("ws.dlq").await == Some(304)
    })
    .await;

    let report = erased(&gateway).await;
    assert_eq!(store(&report, "rabbitmq_queue", "ws.dlq")["erased"], 3);
    let remains = report["remains"].to_string();
    assert!(remains.contains("messages that others hold"), "{remains}");
    assert!(
        remains.contains("app.inbox") && remains.contains("5 messages"),
        "{remains}"
    );
    until("the others to be given back", || async {
        vhost.count("ws.dlq").await == Some(301)
    })
    .await;
    assert_eq!(found(&erased(&gateway).await), 0);
    let left = vhost.take_count("ws.dlq", 301).await;
    let left: Vec<String> = left
        .into_iter()
        .map(|message| String::from_utf8(message.body).unwrap())
        .collect();
    assert_eq!(left[..300], others, "in their order");
    assert_eq!(left[300], "no JSON");
}
