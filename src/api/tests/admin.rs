//! The operator's calls: where they are served, with which key, and what they tell.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::StreamExt as _;
use http_body_util::BodyDataStream;
use serde_json::{json, value::RawValue};

use super::*;
use crate::config::TailMode;
use crate::event::Event;
use crate::message::Message;

const OPERATOR: &str = "operator-key";

/// A gateway whose page is served.
fn served(tail: TailMode) -> Api {
    let api = Api::new();
    serve(&api, tail, OPERATOR);
    api
}

fn serve(api: &Api, tail: TailMode, key: &str) {
    let mut next = InForce::clone(&api.in_force.load());
    let mut config = Config::clone(&next.config);
    config.admin.tail = tail;
    next.config = Arc::new(config);
    next.admin_key = Some(Secret::from(key.to_owned()));
    api.in_force.store(Arc::new(next));
}

/// Reads server-sent events by their names and data.
struct Stream(BodyDataStream<Response>);

impl Stream {
    async fn open(api: &Api, user: &str) -> Self {
        let request = http::Request::get(format!("/admin/api/tail?user_id={user}"))
            .header(API_KEY_HEADER, OPERATOR)
            .body(Full::new(Bytes::new()))
            .unwrap();
        let service = warp::service(routes(Arc::clone(&api.state), Surface::Internal, None));
        let response = service.oneshot(request).await.unwrap();
        assert_eq!(response.status(), 200);
        Self(BodyDataStream::new(response))
    }

    /// The next one; none once the stream has ended.
    async fn next(&mut self) -> Option<(String, Value)> {
        let waited = tokio::time::timeout(Duration::from_secs(20), self.0.next()).await;
        let part = waited.expect("a stream that goes on")?.unwrap();
        let text = String::from_utf8(part.to_vec()).unwrap();
        let field = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            line.unwrap_or_else(|| panic!("no {name} in {text:?}"))
                .to_owned()
        };
        let data = serde_json::from_str(&field("data:")).unwrap();
        Some((field("event:"), data))
    }
}

#[tokio::test]
async fn the_operators_calls_are_on_the_internal_listener_alone_and_off_by_default() {
    let off = Api::new();
    let on = served(TailMode::Metadata);
    for route in ROUTES {
        let Some(path) = route.operator else { continue };
        let path = path.replace("{user_id}", "42");
        for key in [OPERATOR, KEY, ""] {
            let key = [(API_KEY_HEADER, key)];
            for method in ["GET", "POST"] {
                for surface in [Surface::All, Surface::Public] {
                    on.send_to(surface, method, &path, &key, b"{}")
                        .await
                        .problem(404);
                }
                off.send_to(Surface::Internal, method, &path, &key, b"{}")
                    .await
                    .problem(404);
            }
        }
    }
    assert_eq!(off.metrics.replay_api_requests_total.get(), 0);
}

#[tokio::test]
async fn each_key_opens_its_own_calls() {
    let api = served(TailMode::Metadata);
    let mut tried = BTreeSet::new();
    for route in ROUTES {
        let Some(path) = route.operator else { continue };
        let method = if route.verb == Verb::Act {
            "POST"
        } else {
            "GET"
        };
        let path = path.replace("{user_id}", "42");
        let send = async |path: &str, key: &str| {
            let key = [(API_KEY_HEADER, key)];
            let answer = api
                .send_to(Surface::Internal, method, path, &key, b"{}")
                .await;
            answer.status
        };
        assert_eq!(send(&path, KEY).await, 401, "{path}");
        assert_eq!(send(&path, "").await, 401, "{path}");
        let with_key = send(&path, OPERATOR).await;
        assert!(![401, 403, 404].contains(&with_key), "{path}: {with_key}");
        let template = route.template.replace("{user_id}", "42");
        assert_eq!(send(&template, OPERATOR).await, 401, "{template}");
        tried.insert(route.template);
    }
    assert_eq!(
        tried.len(),
        ROUTES.len() - 4,
        "all but publish and what needs no key"
    );
    let key = [(API_KEY_HEADER, OPERATOR)];
    for path in ["/admin/api/publish", "/admin/api", "/admin/api/x"] {
        let answer = api
            .send_to(Surface::Internal, "POST", path, &key, b"{}")
            .await;
        answer.problem(404);
    }
    // In a body as well, as everywhere.
    let body = json!({"api_key": OPERATOR, "user_id": "1"}).to_string();
    let answer = api
        .send_to(
            Surface::Internal,
            "POST",
            "/admin/api/disconnect",
            &[],
            body.as_bytes(),
        )
        .await;
    assert_eq!(answer.json(), json!({"disconnected": 0}));
}

#[tokio::test]
async fn the_key_of_replays_is_none_of_the_operators() {
    let api = served(TailMode::Metadata);
    let store = Arc::new(Store::with(3).named(crate::brokers::rabbitmq::NAME));
    api.set_replays(
        |config| config.replay.api.api_key = Secret::from("replay-key".to_owned()),
        &[&store],
    );
    let send = async |key: &str| {
        let key = [(API_KEY_HEADER, key)];
        api.send_to(
            Surface::Internal,
            "POST",
            "/admin/api/replay/rabbitmq",
            &key,
            b"",
        )
        .await
    };
    assert_eq!(send("replay-key").await.status, 401);
    assert_eq!(send(OPERATOR).await.json(), json!({"replayed": 3}));
}

#[tokio::test]
async fn calls_are_counted_by_the_path_that_was_called() {
    let api = served(TailMode::Metadata);
    let key = [(API_KEY_HEADER, OPERATOR)];
    api.send_to(Surface::Internal, "GET", "/admin/api/status", &key, b"")
        .await;
    let counted = |route| {
        let labels = [route, "200"];
        api.metrics
            .api_requests_total
            .with_label_values(&labels)
            .get()
    };
    assert_eq!(
        (counted("/admin/api/status"), counted("/internal/status")),
        (1, 0)
    );
}

#[tokio::test]
async fn the_status_tells_what_the_metrics_count() {
    let api = Api::new();
    api.connect("42", &["user:42"]);
    api.publish(r#"{"subjects":["user:42"],"payload":"canary"}"#)
        .await;
    let labels = ["webhook", "exhausted", "kept"];
    api.metrics
        .dead_letters_total
        .with_label_values(&labels)
        .inc_by(2);
    api.metrics
        .dead_letter_queue_depth
        .with_label_values(&["redis"])
        .set(7);
    api.metrics.sink_up.with_label_values(&["webhook"]).set(0);
    let mut config = Config::clone(&api.in_force.load().config);
    config.events.webhook.url = "http://user:canary@backend/webhook?token=canary".into();
    config.stages = serde_json::from_value(json!([
        {"auth": {}}, {"ping_filter": {"when": {"type": ["ping"]}}}, {"fan_out": {}}
    ]))
    .unwrap();
    api.set_config(Arc::new(config));
    let answer = api.call("GET", "/internal/status", "").await;
    let text = String::from_utf8(answer.body.to_vec()).unwrap();
    assert!(!text.contains("canary") && !text.contains(KEY), "{text}");
    let status = answer.json();
    assert_eq!(status["pushes"]["accepted_total"], 1);
    assert_eq!(status["pushes"]["queued_total"], 1);
    assert_eq!(status["pushes"]["waiting"], 1);
    assert_eq!(
        status["dead_letters"],
        json!({"redis": 7, "rabbitmq": null, "file": null})
    );
    let sinks = status["sinks"].as_array().unwrap();
    assert_eq!(sinks.len(), 1, "{status}");
    assert_eq!(
        (&sinks[0]["name"], &sinks[0]["up"]),
        (&json!("webhook"), &json!(false))
    );
    assert_eq!(sinks[0]["dead_letters_total"], json!({"exhausted": 2}));
    let stages: Vec<_> = status["pipeline"]["stages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|stage| (stage["name"].as_str().unwrap(), stage["when"].as_str()))
        .collect();
    assert_eq!(
        stages,
        [
            ("auth", None),
            ("ping_filter", Some("type ping")),
            ("fan_out", None)
        ]
    );
}

#[tokio::test]
async fn a_sink_that_was_removed_is_shown_while_it_has_events() {
    let api = Api::new();
    let buffered = api.metrics.sink_buffer_events.with_label_values(&["redis"]);
    let names = async || {
        let status = api.call("GET", "/internal/status", "").await.json();
        let sinks = status["sinks"].as_array().unwrap().clone();
        sinks
            .iter()
            .map(|sink| (sink["name"].clone(), sink["configured"].clone()))
            .collect::<Vec<_>>()
    };
    buffered.set(3);
    assert_eq!(names().await, [(json!("redis"), json!(false))]);
    buffered.set(0);
    assert!(names().await.is_empty());
}

#[tokio::test]
async fn a_tail_shows_what_the_setting_allows() {
    for (mode, full) in [(TailMode::Metadata, false), (TailMode::Full, true)] {
        let api = served(mode);
        let session = api.connect("42", &["user:42"]);
        let mut stream = Stream::open(&api, "42").await;
        let (name, data) = stream.next().await.unwrap();
        assert_eq!((name.as_str(), &data), ("open", &json!({"mode": mode})));

        let payload = RawValue::from_string(r#"{"text":"canary"}"#.into()).unwrap();
        api.registry.publish(&["user:42"], &payload);
        let (name, data) = stream.next().await.unwrap();
        assert_eq!(name, "push");
        assert_eq!(data["connection_id"], json!(session.id()));
        assert_eq!(data["queued"], true);
        assert_eq!(data["bytes"], 44);
        let pushed = json!({"type": "event", "payload": {"text": "canary"}});
        assert_eq!(data.get("push"), full.then_some(&pushed));

        let message = Message::text(
            r#"{"type":"chat","text":"canary"}"#,
            &crate::message::FieldSet::default(),
        );
        let event = Arc::new(Event::new(&session, &message, "trace_id"));
        api.registry.tails().event(&event);
        let (name, data) = stream.next().await.unwrap();
        assert_eq!(
            (name.as_str(), &data["type"]),
            ("event", &json!("message_received"))
        );
        assert_eq!(data["event_id"], json!(event.id));
        assert_eq!(
            (&data["seq"], &data["bytes"]),
            (&json!(1), &json!(event.json.len()))
        );
        assert_eq!(data.get("event").is_some(), full, "{data}");
        assert_eq!(data.to_string().contains("canary"), full, "{data}");
    }
}

#[tokio::test]
async fn a_tail_ends_with_its_key_and_its_setting_before_it_tells_more() {
    for change in [
        |api: &Api| serve(api, TailMode::Full, "another-key"),
        |api: &Api| serve(api, TailMode::Off, OPERATOR),
        |api: &Api| {
            let mut next = InForce::clone(&api.in_force.load());
            next.admin_key = None;
            api.in_force.store(Arc::new(next));
        },
    ] {
        let api = served(TailMode::Full);
        let mut stream = Stream::open(&api, "7").await;
        assert_eq!(stream.next().await.unwrap().0, "open");
        change(&api);
        api.connect("7", &["user:7"]);
        api.registry
            .publish(&["user:7"], &RawValue::from_string("1".into()).unwrap());
        assert!(stream.next().await.is_none());
        drop(stream);
        assert!(!api.registry.tails().are_open());
    }
}

#[tokio::test]
async fn a_tail_needs_a_user_and_is_off_when_it_is_off() {
    let api = served(TailMode::Off);
    let key = [(API_KEY_HEADER, OPERATOR)];
    let get = async |path: &str| api.send_to(Surface::Internal, "GET", path, &key, b"").await;
    assert!(
        get("/admin/api/tail")
            .await
            .problem(400)
            .contains("user_id")
    );
    assert!(
        get("/admin/api/tail?user_id=")
            .await
            .problem(400)
            .contains("user_id")
    );
    let told = get("/admin/api/tail?user_id=1").await.problem(403);
    assert!(told.contains("admin.tail"), "{told}");
    assert!(!api.registry.tails().are_open());
}

#[tokio::test]
async fn the_page_is_served_with_its_files_and_a_strict_policy() {
    let api = served(TailMode::Metadata);
    let get = async |method: &str, path: &str| {
        let pages = Some(api.state.admin_pages());
        let request = http::Request::builder().method(method).uri(path);
        let request = request.body(Full::new(Bytes::new())).unwrap();
        let service = warp::service(routes(Arc::clone(&api.state), Surface::Internal, pages));
        let (parts, body) = service.oneshot(request).await.unwrap().into_parts();
        let text = String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap();
        (parts.status.as_u16(), parts.headers, text)
    };
    let (status, headers, page) = get("GET", "/admin/").await;
    assert_eq!(status, 200);
    let policy = headers["content-security-policy"].to_str().unwrap();
    assert!(
        policy.contains("default-src 'none'") && !policy.contains("unsafe"),
        "{policy}"
    );
    assert!(
        !page.contains("http://")
            || page.matches("http://").count() == page.matches("http://www.w3.org").count()
    );
    for (part, _) in page.match_indices(".js\"") {
        let start = page[..part].rfind('"').unwrap() + 1;
        let (status, headers, text) =
            get("GET", &format!("/admin/{}.js", &page[start..part])).await;
        assert_eq!(
            (status, &headers["content-type"]),
            (200, &"text/javascript; charset=utf-8".parse().unwrap())
        );
        // Every module that it imports is there.
        for import in text
            .lines()
            .filter_map(|line| line.split_once(" from \"./"))
        {
            let name = import.1.trim_end_matches("\";");
            let (status, ..) = get("GET", &format!("/admin/{name}")).await;
            assert_eq!(status, 200, "{name}");
        }
    }
    let (status, headers, _) = get("GET", "/admin").await;
    assert_eq!(
        (status, &headers["location"]),
        (308, &"admin/".parse().unwrap())
    );
    assert_eq!(get("HEAD", "/admin/").await.0, 200);
    assert_eq!(get("POST", "/admin/").await.0, 405);
    for path in [
        "/admin/nothing.js",
        "/admin/../Cargo.toml",
        "/admin//",
        "/adminx",
    ] {
        assert_eq!(get("GET", path).await.0, 404, "{path}");
    }
    let mut next = InForce::clone(&api.in_force.load());
    next.admin_key = None;
    api.in_force.store(Arc::new(next));
    for path in ["/admin", "/admin/", "/admin/main.js"] {
        assert_eq!(get("GET", path).await.0, 404, "{path}");
    }
}
