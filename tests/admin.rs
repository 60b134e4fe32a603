//! The operator's page and its calls, at a real gateway.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::too_many_lines,
    clippy::float_cmp,
    missing_docs,
    reason = "a test fails by panicking, and reads best in one piece"
)]

mod support;

use reqwest::Method;
use serde_json::{Value, json};
use support::gateway::{Answer, run};
use support::reload::pipeline;
use support::{Client, Gateway, Setup, Webhook, in_crate, within};

const KEY: &str = "operator-key-canary-41c5";

/// A gateway with a listener of its own for operators.
fn internal() -> Setup {
    Setup::default().set("server.internal_listen", "127.0.0.1:0")
}

/// The same with the page.
fn with_page() -> Setup {
    internal()
        .env("ADMIN_ENABLED", "true")
        .env("ADMIN_API_KEY", KEY)
}

async fn ask(gateway: &Gateway, method: Method, path: &str, key: &str, body: &str) -> Answer {
    let headers = [("x-api-key", key)];
    gateway
        .request(method, path, &headers, body.as_bytes().to_vec())
        .await
}

async fn get(gateway: &Gateway, path: &str, key: &str) -> Answer {
    ask(gateway, Method::GET, path, key, "").await
}

/// A gateway that runs a file of its own, with the page.
async fn from_file(more: &str) -> Gateway {
    let mut gateway = Setup::default().yaml(file(more)).start_unready().await;
    let line = gateway.wait_for_log("listening", "internal").await;
    gateway.internal_address = Some(line["address"].as_str().unwrap().parse().unwrap());
    gateway.ready().await;
    gateway
}

fn file(more: &str) -> String {
    let more = format!("  events: {{ stdout: {{ enabled: true }} }}\n{more}");
    pipeline(
        ", internal_listen: \"127.0.0.1:0\"",
        "- fan_out: { events_mode: none }",
        &more,
    )
}

/// Server-sent events, as they come.
struct Stream {
    response: reqwest::Response,
    read: String,
}

impl Stream {
    async fn open(gateway: &Gateway, path: &str, key: &str) -> Self {
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let request = client
            .get(format!("{}{path}", gateway.api_url()))
            .header("x-api-key", key);
        let response = within("the head of a stream", request.send())
            .await
            .unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self {
            response,
            read: String::new(),
        }
    }

    /// The next event's name and data; none once the stream has ended.
    async fn next(&mut self) -> Option<(String, Value)> {
        loop {
            if let Some((block, rest)) = self.read.split_once("\n\n") {
                let (block, rest) = (block.to_owned(), rest.to_owned());
                self.read = rest;
                let field = |name| block.lines().find_map(|line: &str| line.strip_prefix(name));
                if let (Some(name), Some(data)) = (field("event:"), field("data:")) {
                    return Some((name.to_owned(), serde_json::from_str(data).unwrap()));
                }
                continue;
            }
            match within("more of a stream", self.response.chunk()).await {
                Ok(Some(part)) => self.read += std::str::from_utf8(&part).unwrap(),
                _ => return None,
            }
        }
    }

    /// The next one of a name.
    async fn next_of(&mut self, name: &str) -> Value {
        loop {
            let (found, data) = self.next().await.expect("a stream that goes on");
            if found == name {
                return data;
            }
        }
    }
}

#[tokio::test]
async fn the_page_is_off_by_default_and_never_where_clients_connect() {
    let off = internal().start().await;
    for path in ["/admin", "/admin/", "/admin/main.js", "/admin/api/status"] {
        assert_eq!(get(&off, path, KEY).await.status, 404, "{path}");
    }
    let on = with_page().start().await;
    assert_eq!(get(&on, "/admin/", "").await.status, 200);
    assert_eq!(get(&on, "/admin/api/status", KEY).await.status, 200);
    assert_eq!(
        get(&on, "/admin/api/status", "itest-api-key").await.status,
        401
    );
    assert_eq!(get(&on, "/internal/status", KEY).await.status, 401);
    let public = reqwest::Client::builder().no_proxy().build().unwrap();
    for path in ["/admin/", "/admin/api/status", "/internal/status"] {
        let url = format!("http://{}{path}", on.address);
        let answer = public
            .get(url)
            .header("x-api-key", KEY)
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), 404, "{path}");
    }
}

#[tokio::test]
async fn without_a_listener_or_a_key_of_its_own_the_gateway_does_not_start() {
    let refused = |setup: Setup, code: &str| {
        let gateway = setup.spawn();
        let code = code.to_owned();
        async move {
            assert_eq!(gateway.ended().await.code(), Some(1));
            assert!(gateway.stderr().contains(&code), "{}", gateway.stderr());
            assert!(!gateway.stderr().contains(KEY));
        }
    };
    let page = || Setup::default().env("ADMIN_ENABLED", "true");
    refused(page().env("ADMIN_API_KEY", KEY), "admin_without_listener").await;
    let own = || page().set("server.internal_listen", "127.0.0.1:0");
    refused(own(), "admin_without_key").await;
    let shared = own().env("ADMIN_API_KEY", KEY).env("GATEWAY_API_KEY", KEY);
    refused(shared, "admin_key_shared").await;
    let missing = own().env("ADMIN_API_KEY_FILE", "/nonexistent/key");
    refused(missing, "admin.api_key_file").await;
}

#[tokio::test]
async fn a_key_file_is_read_again_with_a_reload() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("key");
    std::fs::write(&path, format!("{KEY}\n")).unwrap();
    let more = format!(
        "  admin: {{ enabled: true, api_key_file: {} }}\n",
        path.display()
    );
    let gateway = from_file(&more).await;
    assert_eq!(get(&gateway, "/admin/api/status", KEY).await.status, 200);
    let mut quiet = Stream::open(&gateway, "/admin/api/tail?user_id=nobody", KEY).await;
    quiet.next_of("open").await;
    std::fs::write(&path, "another-key-for-operators").unwrap();
    gateway.hang_up("reloaded").await;
    // Nothing happens to its user, and yet it ends.
    assert_eq!(quiet.next().await, None);
    assert_eq!(get(&gateway, "/admin/api/status", KEY).await.status, 401);
    let status = get(&gateway, "/admin/api/status", "another-key-for-operators").await;
    assert_eq!(status.status, 200);
    for wrong in ["", " \n", "itest-api-key\n", "two\nlines"] {
        std::fs::write(&path, wrong).unwrap();
        let line = gateway.hang_up("reload_failed").await;
        assert!(
            line["reason"]
                .as_str()
                .unwrap()
                .contains("admin.api_key_file"),
            "{line}"
        );
    }
    assert_eq!(
        get(&gateway, "/admin/api/status", "another-key-for-operators")
            .await
            .status,
        200
    );
    gateway.reload(&file("")).await;
    assert_eq!(get(&gateway, "/admin/", "").await.status, 404);
}

#[tokio::test]
async fn the_status_tells_of_reloads_and_of_nothing_secret() {
    let admin = format!("  admin: {{ enabled: true, api_key: {KEY} }}\n");
    let gateway = from_file(&admin).await;
    let first = gateway.get_with_key("/internal/status").await.json();
    assert_eq!(first["state"], "ready");
    assert_eq!(first["pipeline"]["generation"], 1);
    assert_eq!(first["reloads"], json!([]));
    assert!(
        first["pipeline"]["file"]
            .as_str()
            .unwrap()
            .ends_with("pipeline.yaml")
    );
    assert!(
        first["process"]["resident_bytes"].as_u64() > Some(1_000_000),
        "{first}"
    );
    let names = |status: &Value, list: &str| {
        let list = status.pointer(list).unwrap().as_array().unwrap().clone();
        list.iter()
            .map(|item| item["name"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(names(&first, "/pipeline/stages"), ["auth", "fan_out"]);
    assert_eq!(names(&first, "/sinks"), ["stdout"]);

    let changed = file(&admin).replace("- fan_out", "- ping_filter: {}\n    - fan_out");
    gateway.reload(&changed).await;
    gateway.write_pipeline(&changed.replace("ping_filter", "ping_filtre"));
    gateway.hang_up("reload_failed").await;
    let webhook = "canary-webhook-secret-0b7f4e11";
    let bad = format!(
        "{changed}  tracing: {{ strategy: {webhook} }}\n  presence: {{ ttl_seconds: -1 }}\n"
    );
    gateway.write_pipeline(&bad);
    gateway.hang_up("reload_failed").await;
    let answer = gateway.get_with_key("/internal/status").await;
    for secret in [KEY, "itest-api-key"] {
        assert!(!answer.text.contains(secret), "{}", answer.text);
    }
    let status = answer.json();
    assert_eq!(status["pipeline"]["generation"], 2);
    assert_eq!(
        names(&status, "/pipeline/stages"),
        ["auth", "ping_filter", "fan_out"]
    );
    let reloads = status["reloads"].as_array().unwrap();
    let results: Vec<_> = reloads
        .iter()
        .map(|reload| reload["result"].as_str().unwrap())
        .collect();
    assert_eq!(results, ["failure", "failure", "success"]);
    assert_eq!(
        reloads[0]["errors"].as_array().unwrap().len(),
        2,
        "{status}"
    );
    let told = reloads[1]["errors"][0].as_str().unwrap();
    assert!(
        told.contains("pipeline.yaml:5:") && told.contains("ping_filtre"),
        "{told}"
    );
    assert_eq!(reloads[2]["changed"], json!(["stages.ping_filter"]));
    assert!(reloads[2]["seconds"].as_f64().unwrap() > 0.0);
    assert_ne!(status["pipeline"]["hash"], first["pipeline"]["hash"]);
}

#[tokio::test]
async fn the_status_follows_connections_messages_and_pushes() {
    let webhook = Webhook::start().await;
    let gateway = with_page().webhook(&webhook).start().await;
    let status = async || get(&gateway, "/admin/api/status", KEY).await.json();
    let mut client = Client::connect(&gateway, "canary-user").await;
    client.ask(r#"{"type":"ping"}"#).await;
    client.send(r#"{"type":"chat","text":"canary"}"#).await;
    assert_eq!(
        gateway
            .publish(&["user:canary-user"], json!("canary"))
            .await,
        1
    );
    client.text().await;
    within("two delivered events", async {
        while status().await["sinks"][0]["delivered_total"] != 2 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let now = status().await;
    assert_eq!(now["connections"]["open"], 1);
    assert_eq!(now["messages"]["received_total"], 2);
    assert_eq!(now["pushes"]["accepted_total"], 1);
    assert_eq!(now["sinks"][0]["timed"]["count"], 2);
    assert!(!now.to_string().contains("canary"), "{now}");
    client.close(Some((1000, ""))).await;
    within("the close to be counted", async {
        while status().await["connections"]["closed_total"] != json!({"1000": 1}) {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_tail_shows_one_user_and_ends_with_the_gateway() {
    let webhook = Webhook::start().await;
    let gateway = with_page()
        .webhook(&webhook)
        .set("admin.tail", "full")
        .start()
        .await;
    let mut ann = Client::connect(&gateway, "ann").await;
    let mut bob = Client::connect(&gateway, "bob").await;
    ann.round_trip().await;
    bob.round_trip().await;
    let mut stream = Stream::open(&gateway, "/admin/api/tail?user_id=ann", KEY).await;
    assert_eq!(
        stream.next().await.unwrap(),
        ("open".into(), json!({"mode": "full"}))
    );
    bob.send(r#"{"type":"chat","text":"of bob"}"#).await;
    bob.round_trip().await;
    gateway
        .publish(&["user:bob", "user:ann"], json!({"n": 1.50}))
        .await;
    ann.send(r#"{"type":"chat","text":"of ann"}"#).await;
    let push = stream.next_of("push").await;
    assert_eq!(
        push["push"],
        json!({"type": "event", "payload": {"n": 1.50}})
    );
    let event = stream.next_of("event").await;
    assert_eq!(event["event"]["message"]["text"], "of ann");
    assert_eq!(event["event"]["event_id"], event["event_id"]);

    let opened = gateway.wait_for_log("tail_opened", "ann").await;
    assert!(!opened.to_string().contains(KEY), "{opened}");
    gateway.signal("TERM");
    let told = stream.next_of("event").await;
    assert_eq!(
        (&told["type"], &told["event"]["close_code"]),
        (&json!("disconnected"), &json!(1001))
    );
    assert!(stream.next().await.is_none(), "the end of the stream");
    assert_eq!(gateway.ended().await.code(), Some(0));
    assert!(!gateway.stderr().contains("of ann"));
}

#[tokio::test]
async fn a_viewer_who_does_not_read_costs_a_bounded_queue_and_holds_up_nobody() {
    let gateway = with_page().set("admin.tail", "full").start().await;
    let mut ann = Client::connect(&gateway, "ann").await;
    ann.round_trip().await;
    let mut stream = Stream::open(&gateway, "/admin/api/tail?user_id=ann", KEY).await;
    assert_eq!(stream.next().await.unwrap().0, "open");
    let payload = "x".repeat(100_000);
    for _ in 0..300 {
        assert_eq!(gateway.publish(&["user:ann"], json!(payload)).await, 1);
        ann.text().await;
    }
    let mut seen = 0;
    let missed = loop {
        match stream.next().await.unwrap() {
            (name, _) if name == "push" => seen += 1,
            (name, data) if name == "missed" => break data["count"].as_u64().unwrap(),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(seen + missed, 300);
    assert!(missed > 100, "{missed} missed");
}

#[tokio::test]
async fn there_are_only_so_many_tails_and_a_viewer_who_leaves_makes_room() {
    let gateway = with_page().start().await;
    let path = "/admin/api/tail?user_id=ann";
    let mut open = Vec::new();
    for _ in 0..8 {
        let mut stream = Stream::open(&gateway, path, KEY).await;
        assert_eq!(stream.next().await.unwrap().1, json!({"mode": "metadata"}));
        open.push(stream);
    }
    let refused = get(&gateway, path, KEY).await;
    assert_eq!(refused.status, 429);
    assert!(
        refused.text.contains("which is the most"),
        "{}",
        refused.text
    );
    open.pop();
    within("room for another tail", async {
        loop {
            // The gateway hears of it from the connection's end.
            let headers = [("x-api-key", KEY)];
            let asked = gateway.request(Method::HEAD, path, &headers, Vec::new());
            if asked.await.status == 200 {
                return;
            }
        }
    })
    .await;
}

#[tokio::test]
async fn bad_calls_of_the_operator_are_problems() {
    let gateway = with_page().start().await;
    for (method, path, body, status) in [
        (Method::GET, "/admin/api/tail", "", 400),
        (Method::GET, "/admin/api/pipeline.svg?theme=red", "", 400),
        (Method::GET, "/admin/api/connections?limit=0", "", 400),
        (Method::GET, "/admin/api/dead-letters?limit=x", "", 400),
        (Method::POST, "/admin/api/disconnect", "{", 400),
        (Method::POST, "/admin/api/status", "", 405),
        (Method::GET, "/admin/api/publish", "", 404),
        (Method::POST, "/admin/api/publish", "{}", 404),
        (Method::GET, "/admin/api/%2e%2e/status", "", 404),
        (Method::POST, "/admin/", "", 405),
        (Method::GET, "/admin/no.js", "", 404),
    ] {
        let answer = ask(&gateway, method, path, KEY, body).await;
        assert_eq!(answer.status, status, "{path}");
        assert!(
            answer.header("content-type").contains("problem+json"),
            "{path}"
        );
        assert!(!answer.text.contains(KEY), "{path}");
    }
    let picture = get(&gateway, "/admin/api/pipeline.svg?theme=light", KEY).await;
    assert!(picture.text.starts_with("<svg") && picture.text.contains("@media not all"));
}

#[test]
fn check_tells_of_both_keys_without_showing_one() {
    let file = in_crate("pipelines/terminator.yaml");
    let output = run(
        &["check", file.to_str().unwrap()],
        &[
            ("ADMIN_ENABLED", "true"),
            ("ADMIN_API_KEY", KEY),
            ("ADMIN_API_KEY_FILE", "/run/secrets/admin"),
            ("WSGW_INTERNAL_LISTEN", "127.0.0.1:8001"),
        ],
    );
    let told = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert!(told.contains("two_admin_keys"), "{told}");
    assert!(!told.contains(KEY), "{told}");
}
