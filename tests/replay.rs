//! Replay of dead letters from real brokers, and `wsgw replay`.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::too_many_lines,
    clippy::float_cmp,
    missing_docs,
    reason = "a test fails by panicking, and reads best in one piece"
)]

mod support;

use std::collections::BTreeSet;
use std::process::Output;

use lapin::options::{BasicPublishOptions, ConfirmSelectOptions, ExchangeDeclareOptions};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Confirmation, ExchangeKind};
use reqwest::Method;
use serde_json::{Value, json};
use support::gateway::{Answer, run};
use support::rabbitmq::Vhost;
use support::{
    API_KEY, Broker, BrokerSetup, Gateway, Redis, Reply, Setup, Webhook, eventually, within,
};

const YAML: &str = r#"
snoke_ws:
  mode: core
  server: { listen: "127.0.0.1:0", api_key: "${GATEWAY_API_KEY}", drain_seconds: 1 }
  stages:
    - auth: { jwt: { algorithm: RS256, public_key_file: "${JWT_PUBLIC_KEY_FILE}" } }
    - fan_out: {}
  events:
    stdout: { enabled: true }
    redis_stream: { dsn: "${REDIS_DSN:-}" }
    rabbitmq: { dsn: "${RABBITMQ_DSN:-}" }
  replay:
    api: { rate_limit: { strategy: "${LIMIT:-none}" } }
"#;

const RABBITMQ: &str = "/internal/replay/rabbitmq";
const REDIS: &str = "/internal/replay/redis";

fn setup() -> Setup {
    Setup::default().yaml(YAML)
}

fn with_rabbitmq(vhost: &Vhost<'_>) -> Setup {
    setup()
        .env("RABBITMQ_DSN", vhost.dsn())
        .set("replay.rabbitmq.max_batch", 100_000)
}

fn with_redis(redis: &Redis) -> Setup {
    setup().env("REDIS_DSN", redis.dsn())
}

/// Fills the queue of dead letters, which the gateway declares, with numbered bodies, and makes an inbox.
async fn fill(gateway: &Gateway, vhost: &Vhost<'_>, numbers: std::ops::Range<usize>) {
    let listed = gateway.get_with_key("/internal/dead-letters").await.json();
    assert!(listed.get("unavailable").is_none(), "{listed}");
    let (connection, channel) = vhost.channel().await;
    let durable = ExchangeDeclareOptions {
        durable: true,
        ..ExchangeDeclareOptions::default()
    };
    let inbox = channel.exchange_declare(
        "ws.inbox".into(),
        ExchangeKind::Direct,
        durable,
        FieldTable::default(),
    );
    inbox.await.unwrap();
    vhost.bind("ws.inbox", "ws.inbox", "ws.inbox").await;
    let options = ConfirmSelectOptions::default();
    channel.confirm_select(options).await.unwrap();
    let mut confirmations = Vec::new();
    for number in numbers {
        let body = json!({"n": number}).to_string();
        let publishing = channel.basic_publish(
            "ws.dlq".into(),
            "ws.dlq".into(),
            BasicPublishOptions::default(),
            body.as_bytes(),
            BasicProperties::default().with_delivery_mode(2),
        );
        confirmations.push(publishing.await.unwrap());
    }
    for confirmation in confirmations {
        assert!(matches!(confirmation.await.unwrap(), Confirmation::Ack(_)));
    }
    connection.close(200, "OK".into()).await.unwrap();
}

async fn fill_redis(redis: &Redis, count: usize) {
    for number in 0..count {
        let raw = json!({"n": number}).to_string();
        let fields = [
            "reason",
            "HTTP 400",
            "raw",
            &raw,
            "sink",
            "webhook",
            "failed_at",
            "1700000000",
        ];
        let mut arguments = vec!["ws.dlq", "*"];
        arguments.extend(fields);
        let _: String = redis.command("XADD", &arguments).await;
    }
}

async fn length(redis: &Redis, stream: &str) -> usize {
    redis.command("XLEN", &[stream]).await
}

/// The numbers in a queue, which is emptied.
async fn numbers(vhost: &Vhost<'_>, queue: &str) -> Vec<u64> {
    let messages = vhost.take(queue).await;
    messages
        .iter()
        .map(|message| message.json()["n"].as_u64().unwrap())
        .collect()
}

async fn replay_as(gateway: &Gateway, path: &str, key: &str, body: &str) -> Answer {
    let headers = [("x-api-key", API_KEY), ("idempotency-key", key)];
    gateway
        .request(Method::POST, path, &headers, body.into())
        .await
}

async fn replay(gateway: &Gateway, path: &str, body: &str) -> (u16, Value) {
    let answer = gateway.post_text(path, body).await;
    (answer.status.as_u16(), answer.json())
}

fn audited(gateway: &Gateway, event: &str) -> Vec<Value> {
    let mut logs = gateway.logs();
    logs.retain(|line| line["event"] == event);
    logs
}

#[tokio::test]
async fn the_oldest_letters_of_rabbitmq_move_to_the_inbox() {
    let vhost = Broker::shared().vhost();
    let gateway = with_rabbitmq(&vhost).start().await;
    assert_eq!(
        replay(&gateway, RABBITMQ, "{}").await,
        (200, json!({"replayed": 0})),
        "nothing yet"
    );
    fill(&gateway, &vhost, 0..10).await;
    for (body, replayed) in [
        ("{\"limit\":0}", 0),
        ("{\"limit\":-3}", 0),
        ("{\"limit\":4}", 4),
    ] {
        let expected = (200, json!({"replayed": replayed}));
        assert_eq!(replay(&gateway, RABBITMQ, body).await, expected, "{body}");
    }
    let moved = vhost.take_count("ws.inbox", 4).await;
    for (number, message) in moved.iter().enumerate() {
        assert_eq!(message.json()["n"], number);
        assert_eq!(message.headers()["replayed"], "true");
        assert_eq!(*message.properties.delivery_mode(), Some(2), "persistent");
    }
    assert_eq!(
        replay(&gateway, RABBITMQ, "").await,
        (200, json!({"replayed": 6}))
    );
    assert_eq!(numbers(&vhost, "ws.inbox").await, [4, 5, 6, 7, 8, 9]);
    assert_eq!(vhost.count("ws.dlq").await, Some(0));
    assert_eq!(gateway.metric("rabbitmq_replay_total", &[]).await, 10.0);
    assert_eq!(
        gateway.metric("wsgw_replayed_total", &["rabbitmq"]).await,
        10.0
    );
    assert_eq!(gateway.metric("replay_api_success_total", &[]).await, 5.0);
}

#[tokio::test]
async fn the_letters_of_redis_move_to_the_inbox() {
    let redis = Redis::start().await;
    let gateway = with_redis(&redis).start().await;
    fill_redis(&redis, 250).await;
    let (status, listed) = {
        let answer = gateway
            .get_with_key("/internal/dead-letters?sink=webhook&limit=2")
            .await;
        (answer.status, answer.json())
    };
    assert_eq!(status, 200, "{listed}");
    let letters = listed["dead_letters"].as_array().unwrap();
    assert_eq!(letters.len(), 2);
    assert_eq!(letters[0]["raw"], "{\"n\":0}");
    assert_eq!(
        (letters[0]["store"].as_str(), letters[0]["sink"].as_str()),
        (Some("redis"), Some("webhook"))
    );
    assert_eq!(
        replay(&gateway, REDIS, "{\"limit\":1000}").await,
        (200, json!({"replayed": 100})),
        "a batch"
    );
    assert_eq!(
        replay(&gateway, REDIS, "{\"limit\":30}").await,
        (200, json!({"replayed": 30}))
    );
    assert_eq!(
        (
            length(&redis, "ws.dlq").await,
            length(&redis, "ws.inbox").await
        ),
        (120, 130)
    );
    assert_eq!(redis.events("ws.inbox").await[129]["n"], 129);

    redis.kill();
    let (status, problem) = replay(&gateway, REDIS, "{}").await;
    assert_eq!(
        (status, &problem["replayed"]),
        (503, &json!(0)),
        "{problem}"
    );
    let listed = gateway.get_with_key("/internal/dead-letters").await.json();
    assert_eq!(listed["unavailable"], json!(["redis"]));
    let (status, problem) = replay(&gateway, RABBITMQ, "{}").await;
    assert_eq!(status, 503, "{problem}");
    assert!(
        problem["detail"]
            .as_str()
            .unwrap()
            .contains("no rabbitmq is configured")
    );
}

#[tokio::test]
async fn a_broker_that_is_lost_half_way_loses_nothing_and_is_counted_right() {
    const COUNT: usize = 2_000;
    let broker = BrokerSetup::default().start();
    let vhost = broker.vhost();
    let gateway = with_rabbitmq(&vhost)
        .set("replay.api.idempotency.strategy", "in_memory")
        .start()
        .await;
    fill(&gateway, &vhost, 0..COUNT).await;
    let calling = replay_as(&gateway, RABBITMQ, "a", "{}");
    let killing = async {
        within("letters to move", async {
            while vhost.count("ws.inbox").await.unwrap() < 300 {
                tokio::task::yield_now().await;
            }
        })
        .await;
        broker.kill();
    };
    let (answer, ()) = tokio::join!(calling, killing);
    let problem = answer.json();
    assert_eq!(answer.status, 503, "{problem}");
    let told = usize::try_from(problem["replayed"].as_u64().unwrap()).unwrap();
    assert!((300..COUNT).contains(&told), "{problem}");
    assert_eq!(
        gateway.metric("rabbitmq_replay_total", &[]).await,
        told as f64
    );
    assert_eq!(gateway.metric("replay_api_errors_total", &[]).await, 1.0);
    let failed = audited(&gateway, "replay_api_error");
    assert_eq!(failed[0]["replayed"], told);

    broker.start_again();
    broker.wait_until_up();
    // The link comes back by itself.
    let rest = within("the rest to be replayed", async {
        loop {
            let headers = [("x-api-key", API_KEY), ("idempotency-key", "a")];
            let body = b"{}".to_vec();
            let answer = gateway
                .try_request(Method::POST, RABBITMQ, &headers, body)
                .await;
            // The HTTP connection was idle for so long that the gateway may have closed it.
            if let Ok(answer) = answer
                && answer.status == 200
            {
                return answer.json();
            }
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    })
    .await;
    assert!(
        rest.get("idempotent").is_none(),
        "a failed call is not remembered: {rest}"
    );
    let rest = usize::try_from(rest["replayed"].as_u64().unwrap()).unwrap();
    let inbox = numbers(&vhost, "ws.inbox").await;
    let unique: BTreeSet<u64> = inbox.iter().copied().collect();
    assert_eq!(unique.len(), COUNT, "nothing is lost");
    // The one letter under way may have been kept without the gateway's hearing of it.
    assert!(
        (told + rest..=told + rest + 1).contains(&inbox.len()),
        "{told} + {rest}, {}",
        inbox.len()
    );
    // A broker that is killed may bring back what was acknowledged, so that letters can be there twice.
    assert_eq!(vhost.count("ws.dlq").await, Some(0));
}

#[tokio::test]
async fn gateways_share_a_rate_limit_in_redis_and_stand_still_without_it() {
    let (redis, counts) = (Redis::start().await, Redis::start().await);
    let start = async || {
        with_redis(&redis)
            .env("LIMIT", "redis")
            .set("replay.api.rate_limit.redis_dsn", counts.dsn())
            .set("replay.api.rate_limit.per_minute", 6)
            .start()
            .await
    };
    let (one, two) = (start().await, start().await);
    fill_redis(&redis, 20).await;
    let call = async |gateway: &Gateway| gateway.post_text(REDIS, "{\"limit\":1}").await;
    // Until both have connected to the Redis of the counts, calls are refused.
    for gateway in [&one, &two] {
        within("the counts", async {
            while gateway.post_text(REDIS, "{\"limit\":0}").await.status == 503 {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
    let calls: Vec<_> = [&one, &two]
        .into_iter()
        .cycle()
        .take(10)
        .map(call)
        .collect();
    let answers = futures_util::future::join_all(calls).await;
    let passed = answers.iter().filter(|answer| answer.status == 200).count();
    assert_eq!(passed, 4, "beside the two above");
    for refused in answers.iter().filter(|answer| answer.status != 200) {
        assert_eq!(refused.status, 429, "{refused:?}");
        let wait: u64 = refused.header("retry-after").parse().unwrap();
        assert!((1..=60).contains(&wait), "{wait}");
    }
    assert_eq!(length(&redis, "ws.inbox").await, 4);
    let keys: Vec<String> = counts.command("KEYS", &["*"]).await;
    assert!(
        keys.iter()
            .all(|key| key.starts_with("wsgw:replay:rate:") && !key.contains(API_KEY))
    );

    counts.kill();
    let answer = call(&one).await;
    assert_eq!(answer.status, 503);
    assert!(
        answer.json()["detail"]
            .as_str()
            .unwrap()
            .contains("counts calls")
    );
    assert_eq!(
        length(&redis, "ws.inbox").await,
        4,
        "nothing moves uncounted"
    );
}

#[tokio::test]
async fn of_calls_at_once_at_two_gateways_with_one_key_one_acts() {
    let redis = Redis::start().await;
    let start = async || {
        with_redis(&redis)
            .set("replay.api.idempotency.strategy", "redis")
            .start()
            .await
    };
    let gateways = [start().await, start().await];
    fill_redis(&redis, 300).await;
    for round in 0..100 {
        let key = format!("round {round}");
        let [one, two] = &gateways;
        let call = |gateway| replay_as(gateway, REDIS, &key, "{\"limit\":3}");
        let answers = tokio::join!(call(one), call(two), call(one), call(two));
        let answers: [Answer; 4] = answers.into();
        let first = answers.iter().filter(|answer| {
            let json = answer.json();
            assert_eq!(
                (answer.status.as_u16(), &json["replayed"]),
                (200, &json!(3)),
                "{json}"
            );
            json.get("idempotent").is_none()
        });
        assert_eq!(first.count(), 1, "{answers:?}");
    }
    assert_eq!(
        (
            length(&redis, "ws.dlq").await,
            length(&redis, "ws.inbox").await
        ),
        (0, 300)
    );
    let later = replay_as(&gateways[1], REDIS, "round 7", "{\"limit\":99}")
        .await
        .json();
    assert_eq!(later, json!({"replayed": 3, "idempotent": true}));
    redis.kill();
    let answer = replay_as(&gateways[0], REDIS, "round 7", "{}").await;
    assert_eq!(answer.status, 503);
}

#[tokio::test]
async fn the_key_of_a_gateway_that_dies_is_free_again() {
    const COUNT: usize = 2_000;
    let (redis, vhost) = (Redis::start().await, Broker::shared().vhost());
    let start = async || {
        with_rabbitmq(&vhost)
            .set("replay.api.idempotency.strategy", "redis")
            .set("replay.api.idempotency.redis_dsn", redis.dsn())
            .start()
            .await
    };
    let (dies, lives) = (start().await, start().await);
    fill(&dies, &vhost, 0..COUNT).await;
    let body = b"{}".to_vec();
    let headers = [("x-api-key", API_KEY), ("idempotency-key", "a")];
    let calling = dies.try_request(Method::POST, RABBITMQ, &headers, body);
    let killing = async {
        within("letters to move", async {
            while vhost.count("ws.inbox").await.unwrap() < 100 {
                tokio::task::yield_now().await;
            }
        })
        .await;
        dies.signal("KILL");
    };
    let (answer, ()) = tokio::join!(calling, killing);
    assert!(answer.is_err(), "{answer:?}");
    let answer = replay_as(&lives, RABBITMQ, "a", "{}").await.json();
    assert!(answer.get("idempotent").is_none(), "{answer}");
    assert!(answer["replayed"].as_u64().unwrap() > 0);
    let unique: BTreeSet<u64> = numbers(&vhost, "ws.inbox").await.into_iter().collect();
    assert_eq!(unique.len(), COUNT, "nothing is lost");
}

#[tokio::test]
async fn every_attempt_is_audited_without_its_key() {
    const WRONG: &str = "wrong-key-s3cret";
    let redis = Redis::start().await;
    let gateway = with_redis(&redis)
        .env("LIMIT", "in_memory")
        .set("replay.api.rate_limit.per_minute", 2)
        .set("replay.api.idempotency.strategy", "in_memory")
        .set("server.trusted_proxies", "[127.0.0.1/32]")
        .start()
        .await;
    fill_redis(&redis, 3).await;
    for _ in 0..3 {
        let headers = [("x-api-key", WRONG), ("x-forwarded-for", "203.0.113.9")];
        let answer = gateway
            .request(Method::POST, REDIS, &headers, Vec::new())
            .await;
        assert_eq!(answer.status, 401);
    }
    assert_eq!(replay(&gateway, REDIS, "{\"limit\":\"5\"}").await.0, 400);
    assert_eq!(
        replay_as(&gateway, REDIS, "idem-s3cret", "{\"limit\":2}")
            .await
            .status,
        200
    );
    assert_eq!(
        replay_as(&gateway, REDIS, "idem-s3cret", "{}").await.status,
        200
    );
    assert_eq!(
        replay_as(&gateway, REDIS, "idem-s3cret", "{}").await.status,
        429
    );
    let lines = eventually("the audit log", || {
        let lines = ["denied", "error", "success", "idempotent", "rate_limited"]
            .map(|result| audited(&gateway, &format!("replay_api_{result}")));
        (lines.each_ref().map(Vec::len) == [3, 1, 1, 1, 1]).then_some(lines)
    })
    .await;
    let [denied, error, success, idempotent, limited] = &lines;
    assert_eq!(denied[0]["address"], "203.0.113.9", "who, behind the proxy");
    assert_eq!(success[0]["address"], "127.0.0.1");
    assert_eq!(
        (&success[0]["store"], &success[0]["replayed"]),
        (&json!("redis"), &json!(2))
    );
    assert_ne!(denied[0]["key"], success[0]["key"]);
    assert_eq!(idempotent[0]["key"], success[0]["key"]);
    assert_eq!(success[0]["key"].as_str().unwrap().len(), 12);
    assert!(error[0]["reason"].as_str().unwrap().starts_with("`limit`:"));
    assert!(limited[0]["retry_after_seconds"].as_f64().unwrap() > 0.0);
    let stderr = gateway.stderr();
    assert!(
        !stderr.contains(API_KEY) && !stderr.contains("s3cret"),
        "{stderr}"
    );
    for (name, count) in [
        ("replay_api_requests_total", 7.0),
        ("replay_api_denied_total", 3.0),
        ("replay_api_rate_limited_total", 1.0),
        ("replay_api_idempotent_total", 1.0),
        ("replay_api_success_total", 1.0),
        ("replay_api_errors_total", 1.0),
        ("rabbitmq_replay_total", 0.0),
    ] {
        assert_eq!(gateway.metric(name, &[]).await, count, "{name}");
    }
}

/// Runs `wsgw replay` to its end.
async fn wsgw(url: &str, args: &[&str], key: &str) -> Output {
    let mut all: Vec<String> = ["replay", "--url", url].map(String::from).into();
    all.extend(args.iter().map(|arg| (*arg).to_owned()));
    let key = key.to_owned();
    let running = tokio::task::spawn_blocking(move || {
        let all: Vec<&str> = all.iter().map(String::as_str).collect();
        run(&all, &[("REPLAY_API_KEY", &key)])
    });
    within("wsgw replay", running).await.unwrap()
}

#[track_caller]
fn assert_output(output: &Output, code: i32, stdout: &str, stderr: &[&str]) {
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{output:?}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), stdout, "{told}");
    for part in stderr {
        assert!(told.contains(part), "{part:?} is not in {told:?}");
    }
}

#[tokio::test]
async fn the_command_looks_and_replays_in_batches() {
    let redis = Redis::start().await;
    let gateway = with_redis(&redis)
        .env("LIMIT", "in_memory")
        .set("replay.api.rate_limit.per_minute", 3)
        .set("replay.api.rate_limit.window_seconds", 2)
        .set("replay.redis_stream.max_batch", 2)
        .start()
        .await;
    let url = gateway.api_url();
    let nothing = wsgw(&url, &[], API_KEY).await;
    assert_output(&nothing, 0, "no dead letters\n", &[]);
    assert_output(
        &wsgw(&url, &["--dry-run"], API_KEY).await,
        0,
        "no dead letters\n",
        &[],
    );
    fill_redis(&redis, 9).await;

    let looked = wsgw(&url, &["--dry-run", "--limit", "2"], API_KEY).await;
    let table = String::from_utf8_lossy(&looked.stdout).into_owned();
    let lines: Vec<Vec<&str>> = table
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(lines[0], ["STORE", "AGE", "SINK", "REASON", "EVENT", "ID"]);
    assert_eq!(lines.len(), 3, "{table}");
    assert_eq!(
        (lines[1][0], lines[1][2], &lines[1][3..]),
        ("redis", "d", &["webhook", "HTTP", "400", "-"][..])
    );
    assert!(!table.contains("{\"n\""), "no payload unless asked for");
    let looked = wsgw(
        &url,
        &["--dry-run", "--show-raw", "--from", "redis"],
        API_KEY,
    )
    .await;
    assert!(String::from_utf8_lossy(&looked.stdout).contains("{\"n\":8}"));
    assert_eq!(length(&redis, "ws.dlq").await, 9, "looking moves nothing");

    let some = wsgw(&url, &["--from", "redis", "--limit", "5"], API_KEY).await;
    assert_output(
        &some,
        0,
        "redis: 5 dead letters replayed\n",
        &["redis: 4 of at most 5"],
    );
    assert_eq!(length(&redis, "ws.inbox").await, 5);
    let all = wsgw(&url, &["--limit", "1000"], API_KEY).await;
    let waits = [
        "redis: 4 dead letters",
        "the rate limit is reached, waiting ",
    ];
    assert_output(&all, 0, "redis: 4 dead letters replayed\n", &waits);
    assert_eq!(
        (
            length(&redis, "ws.dlq").await,
            length(&redis, "ws.inbox").await
        ),
        (0, 9)
    );
}

#[tokio::test]
async fn the_command_says_what_is_wrong() {
    let gateway = setup()
        .set("stages.fan_out.events_mode", "none")
        .start()
        .await;
    let url = gateway.api_url();
    let wrong = wsgw(&url, &["--from", "redis"], "wrong").await;
    let nothing = "redis: 0 dead letters replayed\n";
    assert_output(
        &wrong,
        1,
        nothing,
        &["answered 401: the API key is wrong", "REPLAY_API_KEY"],
    );
    let missing = wsgw(&url, &["--from", "redis"], API_KEY).await;
    assert_output(
        &missing,
        1,
        nothing,
        &["answered 503: no redis is configured"],
    );
    let elsewhere = format!("{url}/elsewhere");
    assert_output(
        &wsgw(&elsewhere, &[], API_KEY).await,
        1,
        "",
        &["answered 404", "internal_listen"],
    );
    let nobody = format!("http://127.0.0.1:{}", support::free_port());
    let refused = wsgw(&nobody, &[], API_KEY).await;
    assert_output(
        &refused,
        1,
        "",
        &[&nobody, "cannot be reached", "Connection refused"],
    );
    for (args, told) in [
        (&["--since", "0"][..], "need --from archive"),
        (&["--from", "archive"], "needs --since"),
        (
            &["--from", "archive", "--since", "0", "--dry-run"],
            "has none of",
        ),
        (&["--show-raw"], "--dry-run"),
        (&["--limit=-1"], "--limit"),
        (&["--from", "kafka"], "rabbitmq, redis, archive"),
    ] {
        assert_output(&wsgw(&url, args, API_KEY).await, 2, "", &[told]);
    }
    assert_output(&wsgw("ftp://x", &[], API_KEY).await, 2, "", &["--url"]);
    assert_output(&wsgw(&url, &[], "").await, 2, "", &["GATEWAY_API_KEY"]);
    let keyless = Setup::default()
        .yaml(YAML)
        .env("GATEWAY_API_KEY", "")
        .set("stages.fan_out.events_mode", "none");
    let keyless = keyless.start().await;
    let off = wsgw(&keyless.api_url(), &["--dry-run"], API_KEY).await;
    assert_output(&off, 1, "", &["answered 403", "server.api_key"]);
}

#[tokio::test]
async fn a_lost_answer_is_asked_for_again_with_the_same_key() {
    let gateway = Webhook::scripted(|request| match request.index {
        1 => Reply::With(429, vec![("retry-after", "1".into())]),
        0 | 2 => Reply::Reset,
        _ => Reply::Status(503),
    })
    .await;
    let url = format!("http://{}", gateway.address());
    let args = [
        "--from",
        "archive",
        "--since",
        "5",
        "--user",
        "42",
        "--type",
        "connected",
    ];
    let output = wsgw(&url, &args, API_KEY).await;
    let told = ["the answer was lost", "waiting 1 s", "answered 503"];
    assert_output(&output, 1, "archive: 0 events replayed\n", &told);
    let received = gateway.received();
    assert_eq!(received.len(), 4);
    let key = received[0].header("idempotency-key");
    for request in &received {
        assert_eq!(
            (request.path.as_str(), request.header("x-api-key")),
            ("/internal/replay/archive", API_KEY)
        );
        let expected = json!({"since": 5, "user_id": "42", "type": "connected", "limit": 100,
                              "idempotency_key": key});
        assert_eq!(request.event(), expected);
        assert_eq!(request.header("idempotency-key"), key);
    }
}
