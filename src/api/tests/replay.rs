//! Replays and the list of dead letters, with stores of the tests' own; `tests/replay.rs` has the real ones.

use std::net::{IpAddr, Ipv4Addr};

use parking_lot::Mutex;
use serde_json::json;
use tokio::sync::Semaphore;

use super::*;
use crate::replay::{CountStrategy, RateLimitKey, ReplayError, StoredLetter};

const REDIS: &str = "/internal/replay/redis";

/// Dead letters that are only counted.
pub(super) struct Store {
    name: &'static str,
    letters: Mutex<usize>,
    /// How many more letters are moved before the store fails.
    works_for: Mutex<usize>,
    /// Calls that may act.
    gate: Semaphore,
    calls: Mutex<usize>,
}

impl Store {
    pub(super) fn with(letters: usize) -> Self {
        Self {
            name: crate::brokers::redis::NAME,
            letters: Mutex::new(letters),
            works_for: Mutex::new(usize::MAX),
            gate: Semaphore::new(1_000),
            calls: Mutex::default(),
        }
    }

    pub(super) fn named(mut self, name: &'static str) -> Self {
        self.name = name;
        self
    }

    pub(super) fn fail_after(&self, letters: usize) {
        *self.works_for.lock() = letters;
    }
}

impl DeadLetterStore for Store {
    fn depth(&self) -> BoxFuture<'_, Result<u64, ReplayError>> {
        Box::pin(std::future::ready(Ok(0)))
    }

    fn name(&self) -> &'static str {
        self.name
    }

    fn list(&self, limit: usize) -> BoxFuture<'_, Result<Vec<StoredLetter>, ReplayError>> {
        let failed = ReplayError {
            replayed: 0,
            reason: "not connected".into(),
        };
        let letter = |n: usize| StoredLetter {
            store: self.name(),
            id: Some(n.to_string()),
            event_id: None,
            sink: Some(
                if n.is_multiple_of(2) {
                    "webhook"
                } else {
                    "redis"
                }
                .into(),
            ),
            reason: "HTTP 400".into(),
            failed_at: Some(1_700_000_000 - n as u64),
            raw: "{}".into(),
        };
        let letters = (0..*self.letters.lock()).rev().take(limit).map(letter);
        let works = *self.works_for.lock() > 0;
        future::ready(if works {
            Ok(letters.collect())
        } else {
            Err(failed)
        })
        .boxed()
    }

    fn replay(&self, limit: usize) -> BoxFuture<'_, Result<usize, ReplayError>> {
        async move {
            self.gate.acquire().await.unwrap().forget();
            *self.calls.lock() += 1;
            let (mut letters, mut works_for) = (self.letters.lock(), self.works_for.lock());
            let wanted = limit.min(*letters);
            let replayed = wanted.min(*works_for);
            *letters -= replayed;
            *works_for -= replayed.min(*works_for);
            if replayed < wanted {
                return Err(ReplayError {
                    replayed,
                    reason: "connection lost".into(),
                });
            }
            Ok(replayed)
        }
        .boxed()
    }
}

/// An API with a store of letters, and no limit on calls but what `change` sets.
fn with(letters: usize, change: impl FnOnce(&mut Config)) -> (Arc<Api>, Arc<Store>) {
    let (api, store) = (Api::new(), Arc::new(Store::with(letters)));
    api.set_replays(
        |config| {
            config.replay.api.rate_limit.strategy = CountStrategy::None;
            change(config);
        },
        &[&store],
    );
    (Arc::new(api), store)
}

fn remembering(config: &mut Config) {
    config.replay.api.idempotency.strategy = CountStrategy::InMemory;
}

impl Api {
    async fn replay_as(&self, key: &str, body: &str) -> Answer {
        let headers = [(API_KEY_HEADER, KEY), ("idempotency-key", key)];
        self.send("POST", REDIS, &headers, body.as_bytes()).await
    }

    /// Calls, denied, rate limited, idempotent, successes, errors.
    fn counts(&self) -> [u64; 6] {
        let metrics = &self.metrics;
        [
            &metrics.replay_api_requests_total,
            &metrics.replay_api_denied_total,
            &metrics.replay_api_rate_limited_total,
            &metrics.replay_api_idempotent_total,
            &metrics.replay_api_success_total,
            &metrics.replay_api_errors_total,
        ]
        .map(prometheus::core::GenericCounter::get)
    }
}

#[tokio::test]
async fn a_limit_is_an_integer_and_bounded_by_the_batch() {
    let (api, store) = with(1_000, |config| config.replay.redis_stream.max_batch = 7);
    for (body, replayed) in [
        ("", 7),
        (" \n", 7),
        ("{}", 7),
        (r#"{"limit":3}"#, 3),
        (r#"{"limit":7000}"#, 7),
        (r#"{"limit":99999999999999999999999999}"#, 7),
        (r#"{"limit":0}"#, 0),
        (r#"{"limit":-0}"#, 0),
        (r#"{"limit":-1}"#, 0),
        (r#"{"limit":-99999999999999999999999999}"#, 0),
    ] {
        let answer = api.call("POST", REDIS, body).await;
        let told = (answer.status, answer.json());
        assert_eq!(told, (200, json!({"replayed": replayed})), "{body}");
    }
    let before = *store.letters.lock();
    for body in [
        r#"{"limit":"5"}"#,
        r#"{"limit":1e3}"#,
        r#"{"limit":5.0}"#,
        r#"{"limit":null}"#,
        r#"{"limit":true}"#,
        r#"{"limit":[5]}"#,
        r#"{"limit":5,"limit":6}"#,
    ] {
        let told = api.call("POST", REDIS, body).await.problem(400);
        assert!(told.starts_with("`limit`:"), "{body}: {told}");
    }
    for body in ["{", "[]", "5", "limit=5"] {
        api.call("POST", REDIS, body).await.problem(400);
    }
    assert_eq!(*store.letters.lock(), before);
    assert_eq!(api.counts(), [21, 0, 0, 0, 10, 11]);
    let replayed = api.metrics.replayed_total.with_label_values(&["redis"]);
    assert_eq!(replayed.get(), 1_000 - before as u64);
}

#[tokio::test]
async fn a_store_that_is_not_there_is_unavailable() {
    let (api, _) = with(1, |_| {});
    let answer = api.call("POST", "/internal/replay/rabbitmq", "{}").await;
    let told = answer.problem(503);
    assert!(told.contains("no rabbitmq is configured"), "{told}");
    assert!(answer.json().get("replayed").is_none());
    api.call("POST", "/internal/replay/file", "{}")
        .await
        .problem(404);
}

#[tokio::test]
async fn a_store_that_fails_half_way_tells_what_it_moved_and_may_be_asked_again() {
    let (api, store) = with(10, remembering);
    store.fail_after(4);
    let answer = api.replay_as("a", r#"{"limit":9}"#).await;
    assert_eq!(answer.problem(503), "connection lost");
    assert_eq!(answer.json()["replayed"], 4);
    store.fail_after(usize::MAX);
    let again = api.replay_as("a", r#"{"limit":9}"#).await;
    assert_eq!((again.status, again.json()), (200, json!({"replayed": 6})));
    assert_eq!(api.counts(), [2, 0, 0, 0, 1, 1]);
    assert_eq!(
        api.metrics
            .replayed_total
            .with_label_values(&["redis"])
            .get(),
        10
    );
}

#[tokio::test]
async fn the_key_of_replays_stands_in_the_place_of_the_gateways() {
    let (api, _) = with(5, |config| {
        config.replay.api.api_key = Secret::from("replay-key".to_owned());
    });
    let send = async |path, key: &str| {
        let method = if path == REDIS { "POST" } else { "GET" };
        api.send(method, path, &[(API_KEY_HEADER, key)], b"").await
    };
    for path in [REDIS, "/internal/dead-letters"] {
        send(path, KEY).await.problem(401);
        send(path, "").await.problem(401);
        assert_eq!(send(path, "replay-key").await.status, 200);
    }
    send("/internal/connections", "replay-key")
        .await
        .problem(401);
    assert_eq!(send("/internal/connections", KEY).await.status, 200);
    let in_body = br#"{"api_key":"replay-key"}"#;
    assert_eq!(api.send("POST", REDIS, &[], in_body).await.status, 200);
    let wrong = br#"{"api_key":"right-key"}"#;
    api.send("POST", REDIS, &[], wrong).await.problem(401);
    assert_eq!(api.counts(), [5, 3, 0, 0, 2, 0]);

    api.set_replays(|config| config.server.api_key = Secret::default(), &[]);
    api.send("POST", REDIS, &[(API_KEY_HEADER, "replay-key")], b"")
        .await
        .problem(503);
    send("/internal/connections", KEY).await.problem(403);
    api.set_replays(|config| config.replay.api.api_key = Secret::default(), &[]);
    api.send("POST", REDIS, &[(API_KEY_HEADER, "replay-key")], b"")
        .await
        .problem(403);
    assert_eq!(api.counts(), [7, 4, 0, 0, 2, 1]);
}

#[tokio::test(start_paused = true)]
async fn too_many_calls_are_told_when_to_come_again() {
    let (api, store) = with(100, |config| {
        remembering(config);
        let limit = &mut config.replay.api.rate_limit;
        limit.strategy = CountStrategy::InMemory;
        (limit.per_minute, limit.window_seconds) = (3, 60);
    });
    for _ in 0..5 {
        api.send("POST", REDIS, &[(API_KEY_HEADER, "wrong")], b"")
            .await
            .problem(401);
        api.call("POST", REDIS, r#"{"limit":"5"}"#)
            .await
            .problem(400);
    }
    assert_eq!(
        api.replay_as("a", r#"{"limit":2}"#).await.json(),
        json!({"replayed": 2})
    );
    tokio::time::advance(Duration::from_millis(20_500)).await;
    let idempotent = json!({"replayed": 2, "idempotent": true});
    assert_eq!(api.replay_as("a", "{}").await.json(), idempotent);
    assert_eq!(
        api.replay_as("b", r#"{"limit":0}"#).await.json(),
        json!({"replayed": 0})
    );
    for key in ["a", "c"] {
        let answer = api.replay_as(key, "").await;
        assert!(
            answer.problem(429).contains("40 s"),
            "idempotent hits count too"
        );
        assert_eq!(answer.header("retry-after"), Some("40"));
    }
    tokio::time::advance(Duration::from_secs(40)).await;
    assert_eq!(
        api.replay_as("c", r#"{"limit":1}"#).await.json(),
        json!({"replayed": 1})
    );
    assert_eq!(*store.letters.lock(), 97);
    assert_eq!(api.counts(), [16, 5, 2, 1, 3, 5]);
}

#[tokio::test]
async fn callers_are_limited_by_address_where_that_is_asked_for() {
    let (api, _) = with(0, |config| {
        let limit = &mut config.replay.api.rate_limit;
        (limit.strategy, limit.key) = (CountStrategy::InMemory, RateLimitKey::Ip);
        limit.per_minute = 1;
    });
    let call = async |last: u8| {
        let address = IpAddr::from(Ipv4Addr::new(192, 0, 2, last));
        let request = http::Request::post(REDIS)
            .header(API_KEY_HEADER, KEY)
            .extension(CallerAddress(address))
            .body(Full::<Bytes>::default())
            .unwrap();
        let service = warp::service(routes(Arc::clone(&api.state), Surface::All, None));
        service.oneshot(request).await.unwrap().status().as_u16()
    };
    assert_eq!([call(1).await, call(2).await], [200, 200]);
    assert_eq!(
        [call(1).await, call(2).await, call(3).await],
        [429, 429, 200]
    );
}

#[tokio::test]
async fn a_key_is_taken_from_the_header_or_the_body() {
    let (api, _) = with(100, |config| {
        remembering(config);
        config.replay.api.idempotency.header = "X-Once".into();
        config.replay.api.idempotency.payload_field = "once".into();
    });
    let send = async |header: Option<&str>, body: &str| {
        let mut headers = vec![(API_KEY_HEADER, KEY)];
        headers.extend(header.map(|key| ("x-once", key)));
        api.send("POST", REDIS, &headers, body.as_bytes()).await
    };
    let first = json!({"replayed": 3});
    let again = json!({"replayed": 3, "idempotent": true});
    assert_eq!(send(Some("a"), r#"{"limit":3}"#).await.json(), first);
    assert_eq!(
        send(Some("a"), r#"{"limit":9,"once":"other"}"#)
            .await
            .json(),
        again
    );
    assert_eq!(send(None, r#"{"once":"a"}"#).await.json(), again);
    assert_eq!(send(None, r#"{"limit":3,"once":7}"#).await.json(), first);
    assert_eq!(send(Some("7"), "").await.json(), again);
    assert_eq!(send(None, r#"{"limit":3,"once":null}"#).await.json(), first);
    assert_eq!(
        send(None, r#"{"limit":3,"idempotency_key":"a"}"#)
            .await
            .json(),
        first
    );
    let long = "x".repeat(256);
    for (header, body) in [
        (Some(""), "{}"),
        (Some(&*long), "{}"),
        (None, r#"{"once":" "}"#),
        (None, r#"{"once":["a"]}"#),
        (None, r#"{"once":1.5}"#),
    ] {
        send(header, body).await.problem(400);
    }
    let twice = [(API_KEY_HEADER, KEY), ("x-once", "a"), ("x-once", "b")];
    api.send("POST", REDIS, &twice, b"").await.problem(400);
}

#[tokio::test]
async fn of_two_calls_at_once_with_one_key_one_acts() {
    let (api, store) = with(1_000_000, remembering);
    for round in 0..300 {
        let key = round.to_string();
        let call = || {
            let (api, key) = (Arc::clone(&api), key.clone());
            tokio::spawn(async move { api.replay_as(&key, r#"{"limit":3}"#).await.json() })
        };
        let answers = future::join_all([call(), call(), call()]).await;
        let again = answers.into_iter().map(|answer| answer.unwrap());
        let again: Vec<bool> = again
            .map(|answer| {
                assert_eq!(answer["replayed"], 3);
                answer["idempotent"] == true
            })
            .collect();
        assert_eq!(
            again.iter().filter(|again| !**again).count(),
            1,
            "{again:?}"
        );
        assert_eq!(*store.letters.lock(), 1_000_000 - 3 * (round + 1));
    }
    assert_eq!(api.counts(), [900, 0, 0, 600, 300, 0]);
}

#[tokio::test]
async fn a_replay_goes_on_when_its_caller_hangs_up() {
    let (api, store) = with(10, remembering);
    store.gate.forget_permits(1_000);
    let first = {
        let api = Arc::clone(&api);
        tokio::spawn(async move { api.replay_as("a", r#"{"limit":4}"#).await })
    };
    while api.counts()[0] == 0 {
        tokio::task::yield_now().await;
    }
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    first.abort();
    assert!(first.await.unwrap_err().is_cancelled());
    store.gate.add_permits(1);
    let again = api.replay_as("a", "{}").await.json();
    assert_eq!(again, json!({"replayed": 4, "idempotent": true}));
    assert_eq!((*store.calls.lock(), *store.letters.lock()), (1, 6));
    assert_eq!(api.counts(), [2, 0, 0, 1, 1, 0]);
}

#[tokio::test]
async fn dead_letters_are_listed_oldest_first_and_filtered() {
    let (api, store) = with(300, |_| {});
    let list = async |query: &str| {
        let answer = api
            .call("GET", &format!("/internal/dead-letters{query}"), "")
            .await;
        assert_eq!(answer.status, 200, "{query}");
        answer.json()
    };
    let ids = |listed: &Value| -> Vec<u64> {
        let letters = listed["dead_letters"].as_array().unwrap().iter();
        letters
            .map(|letter| letter["id"].as_str().unwrap().parse().unwrap())
            .collect()
    };
    let all = list("").await;
    assert_eq!(ids(&all), (200..300).rev().collect::<Vec<_>>());
    assert!(all.get("unavailable").is_none());
    assert_eq!(
        all["dead_letters"][1],
        json!({"store": "redis", "id": "298", "sink": "webhook", "reason": "HTTP 400",
               "failed_at": 1_700_000_000 - 298, "raw": "{}"})
    );
    assert_eq!(ids(&list("?sink=webhook&limit=3").await), [298, 296, 294]);
    assert_eq!(ids(&list("?limit=1000").await).len(), 300);
    assert!(ids(&list("?sink=nothing").await).is_empty());
    for limit in ["0", "1001", "x"] {
        let told = api
            .call("GET", &format!("/internal/dead-letters?limit={limit}"), "")
            .await;
        assert!(told.problem(400).starts_with("`limit`:"));
    }
    store.fail_after(0);
    assert_eq!(
        list("").await,
        json!({"dead_letters": [], "unavailable": ["redis"]})
    );
}
