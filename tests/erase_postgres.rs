//! `wsgw erase` against the archive in `PostgreSQL`, which two gateways write to.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod support;

use serde_json::json;
use support::erase::{SECRET, Writer, erased, report_in, setup, store, visit};
use support::postgres::{PASSWORD, Postgres};
use support::{Webhook, until};

#[tokio::test]
async fn events_of_one_user_go_while_two_gateways_write() {
    let postgres = Postgres::start().await;
    let webhook = Webhook::start().await;
    let sections = format!(
        r#"
  events: {{ webhook: {{ url: "{}" }} }}
  replay: {{ strategy: durable, archive: {{ dsn: "{}" }} }}
"#,
        webhook.url(),
        postgres.dsn()
    );
    let gateways = [
        setup("terminator", &sections).start().await,
        setup("terminator", &sections).start().await,
    ];
    let writer = Writer::start(&gateways[1]).await;
    for gateway in &gateways {
        visit(gateway, 300).await;
    }
    let theirs = "SELECT event FROM wsgw_events WHERE user_id = '42'";
    until("604 events of user 42", || async {
        postgres.column(theirs).await.len() == 604
    })
    .await;
    let (code, counted) = report_in(gateways[0].directory(), &["--dry-run"]).await;
    assert_eq!(code, 0);
    assert_eq!(store(&counted, "archive", "postgres")["found"], 604);
    let report = erased(&gateways[0]).await;
    assert_eq!(store(&report, "archive", "postgres")["erased"], 604);
    assert!(!report.to_string().contains(PASSWORD), "{report:#}");
    assert!(report["remains"].to_string().contains("VACUUM"));
    assert_eq!(postgres.column(theirs).await, Vec::<String>::new());
    let written = usize::try_from(writer.stop().await).unwrap();
    let others = "SELECT event FROM wsgw_events";
    until("the writer's events", || async {
        postgres.column(others).await.len() == written + 2
    })
    .await;
    let left = postgres.column(others).await;
    assert!(left.iter().all(|event| !event.contains(SECRET)));

    postgres.stop();
    let (code, report) = report_in(gateways[0].directory(), &["--yes"]).await;
    let archive = store(&report, "archive", "postgres");
    assert_eq!((code, &archive["erased"]), (1, &json!(0)), "{report:#}");
    assert_eq!(archive["error"], "`replay.archive.dsn`: connection refused");
}
