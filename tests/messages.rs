//! What becomes of a client's messages: replies, events, and the close codes of broken streams.

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

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use support::raw::{masked, op, unmasked};
use support::{Client, Gateway, Raw, Setup, Webhook, in_crate, now};

const PONG: &str = r#"{"type":"pong"}"#;
const RATE_LIMITED: &str = r#"{"type":"rate_limited"}"#;

async fn with_webhook() -> (Webhook, Gateway) {
    let webhook = Webhook::start().await;
    let gateway = Setup::default().webhook(&webhook).start().await;
    (webhook, gateway)
}

/// Takes out of an event what differs from run to run, having checked its form.
fn still(mut event: Value) -> Value {
    let map = event.as_object_mut().unwrap();
    for name in ["connection_id", "event_id"] {
        let id = map.remove(name).unwrap();
        uuid::Uuid::parse_str(id.as_str().unwrap()).unwrap();
    }
    let at = map.remove("connected_at").unwrap().as_u64().unwrap();
    assert!(
        now().abs_diff(at) < 60,
        "connected_at is Unix seconds: {at}"
    );
    event
}

fn assert_valid(event: &Value) {
    let schema = std::fs::read_to_string(in_crate("schemas/event.schema.json")).unwrap();
    let schema = jsonschema::validator_for(&serde_json::from_str(&schema).unwrap()).unwrap();
    if let Err(error) = schema.validate(event) {
        panic!("{error} in {event}");
    }
}

/// The events of these messages, sent by one connection.
async fn events_of(messages: &[&str]) -> Vec<Value> {
    let (webhook, gateway) = with_webhook().await;
    let mut client = Client::connect(&gateway, "42").await;
    for message in messages {
        client.send(*message).await;
    }
    client.close(Some((1000, "done"))).await;
    let events = webhook.wait_for(messages.len() + 2).await;
    assert_eq!(events.len(), messages.len() + 2);
    events[1..=messages.len()].to_vec()
}

#[tokio::test]
async fn ping_and_heartbeat_are_answered_and_not_published() {
    let (webhook, gateway) = with_webhook().await;
    let mut client = Client::connect(&gateway, "42").await;
    for ping in [
        r#"{"type":"ping"}"#,
        r#" { "x":[1,{}] , "type" : "ping" } "#,
        r#"{"type":"\u0070ing"}"#,
    ] {
        assert_eq!(client.ask(ping).await, PONG, "{ping}");
    }
    assert_eq!(
        client.ask(r#"{"type":"heartbeat"}"#).await,
        r#"{"type":"heartbeat_ack"}"#
    );
    let others = [
        r#"{"type":"Ping"}"#,
        r#"{"type":"pings"}"#,
        r#"{"type":["ping"]}"#,
        r#"{"message":{"type":"ping"}}"#,
        "ping",
        r#"[{"type":"ping"}]"#,
    ];
    for other in others {
        client.send(other).await;
    }
    client.round_trip().await;
    let events = webhook.wait_for(1 + others.len()).await;
    let raw: Vec<_> = events
        .iter()
        .skip(1)
        .map(|event| event["raw"].as_str().unwrap())
        .collect();
    assert_eq!(raw, others, "what only looks like a ping is published");
}

#[tokio::test]
async fn events_are_exactly_as_the_contract_has_them() {
    let (webhook, gateway) = with_webhook().await;
    let mut client = Client::connect(&gateway, "42").await;
    client.round_trip().await;
    let listed = gateway.connections().await[0].clone();
    let text = r#"{"type":"chat","payload":"hello world"}"#;
    client.send(text).await;
    client.send("no JSON").await;
    client.send_binary(vec![0, 255, 16, 62, 63]).await;
    client.close(Some((4321, "see you"))).await;
    let events = webhook.wait_for(5).await;
    for event in &events {
        assert_valid(event);
        assert_eq!(event["connection_id"], listed["connection_id"]);
        assert_eq!(event["connected_at"], listed["connected_at"]);
    }
    let mut ids: Vec<_> = events
        .iter()
        .map(|event| event["event_id"].as_str().unwrap())
        .collect();
    assert!(ids.is_sorted(), "event ids are ordered by time: {ids:?}");
    ids.dedup();
    assert_eq!(ids.len(), 5);
    let events: Vec<Value> = events.into_iter().map(still).collect();
    let expected = json!([
        {"type": "connected", "user_id": "42", "subjects": ["user:42"], "seq": 1},
        {"type": "message_received", "user_id": "42", "subjects": ["user:42"], "seq": 2,
         "message": {"type": "chat", "payload": "hello world"}, "raw": text},
        {"type": "message_received", "user_id": "42", "subjects": ["user:42"], "seq": 3,
         "message": {"type": "raw", "payload": "no JSON"}, "raw": "no JSON"},
        {"type": "message_received", "user_id": "42", "subjects": ["user:42"], "seq": 4,
         "message": {"type": "binary", "encoding": "base64", "payload": STANDARD.encode([0, 255, 16, 62, 63])}},
        {"type": "disconnected", "user_id": "42", "subjects": ["user:42"], "seq": 5,
         "close_code": 4321, "reason": "see you"},
    ]);
    assert_eq!(json!(events), expected);
}

#[tokio::test]
async fn text_that_is_no_json_object_becomes_a_raw_message() {
    let texts = [
        "",
        " ",
        "hello",
        "42",
        "null",
        "true",
        "\"text\"",
        "[1,2]",
        "[{\"type\":\"ping\"}]",
        "{",
        "{\"a\":1",
        "{\"a\":1}}",
        "{\"a\":1} {\"b\":2}",
        "{a:1}",
        "{'a':1}",
        "{\"a\":01}",
        "{\"a\":NaN}",
        "\u{feff}{\"a\":1}",
        "line\nbreak\r\n\ttab \"quoted\" \\",
        "\u{0}\u{1f}\u{7f}",
        "żółć 😀 \u{2028}",
    ];
    for (text, event) in texts.iter().zip(events_of(&texts).await) {
        assert_valid(&event);
        assert_eq!(
            event["message"],
            json!({"type": "raw", "payload": text}),
            "{text:?}"
        );
        assert_eq!(event["raw"], *text);
    }
}

#[tokio::test]
async fn any_json_object_becomes_the_message_and_raw_keeps_its_text() {
    let texts = [
        "{}",
        " {\"a\" : [ 1 , null ] }\n",
        "{\"\":0}",
        "{\"type\":7}",
        "{\"type\":null,\"meta\":[]}",
        "{\"meta\":{\"topic\":{}}}",
        "{\"a\":\"\\u0000\\ud83d\\ude00\\/\"}",
        "{\"connection_id\":\"forged\",\"event_id\":\"forged\",\"seq\":0,\"user_id\":\"1\"}",
        "{\"żółć\":\"😀\"}",
    ];
    for (at, (text, event)) in texts.iter().zip(events_of(&texts).await).enumerate() {
        assert_valid(&event);
        assert_eq!(
            event["message"],
            serde_json::from_str::<Value>(text).unwrap()
        );
        assert_eq!(event["raw"], *text);
        assert_eq!(
            (&event["seq"], &event["user_id"]),
            (&json!(at + 2), &json!("42")),
            "nothing of a message leaks out of it"
        );
    }
}

#[tokio::test]
async fn numbers_are_kept_as_written() {
    let numbers = r"[1.0,1.10,-0,-0.0,1e400,1E+2,0.1e-7,123456789012345678901234567890,3.14159265358979323846264338327950288]";
    let text = format!(r#"{{"type":"n","n":{numbers}}}"#);
    let (webhook, gateway) = with_webhook().await;
    let mut client = Client::connect(&gateway, "42").await;
    client.send(text.as_str()).await;
    // Compared as text: the test's own parser has no number as large as one of these.
    let event = webhook.wait_for_requests(2).await[1].text().to_owned();
    assert!(event.contains(&format!(r#""message":{text},"#)), "{event}");
}

#[tokio::test]
async fn json_of_a_hundred_thousand_levels_hurts_nobody() {
    let webhook = Webhook::start().await;
    let gateway = Setup::default()
        .webhook(&webhook)
        .env("ORDERING_STRATEGY", "topic")
        .set("server.max_message_bytes", 1_000_000)
        .start()
        .await;
    let mut client = Client::connect(&gateway, "42").await;
    let levels = 100_000;
    let arrays = format!(
        "{{\"type\":\"deep\",\"a\":{}{}}}",
        "[".repeat(levels),
        "]".repeat(levels)
    );
    let objects = format!("{}1{}", "{\"meta\":".repeat(levels), "}".repeat(levels));
    let bare = format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    for text in [&arrays, &objects, &bare] {
        client.send(text.as_str()).await;
    }
    client.send(r#"{"type":"after"}"#).await;
    client.round_trip().await;
    let events = webhook.wait_for_requests(5).await;
    for text in [arrays.as_str(), &objects, &bare, r#"{"type":"after"}"#] {
        let raw = format!(r#""raw":{}"#, serde_json::to_string(text).unwrap());
        assert!(
            events.iter().any(|event| event.text().contains(&raw)),
            "the text is published whole"
        );
    }
    let mut other = Client::connect(&gateway, "43").await;
    other.round_trip().await;
}

#[tokio::test]
async fn messages_over_the_rate_limit_are_answered_and_not_published() {
    let webhook = Webhook::start().await;
    let gateway = Setup::default()
        .webhook(&webhook)
        .env("WS_RATE_LIMIT_PER_SEC", "0.001")
        .env("WS_RATE_LIMIT_BURST", 3)
        .start()
        .await;
    let mut client = Client::connect(&gateway, "42").await;
    // Pings are free, since ping_filter stands above rate_limit.
    for _ in 0..10 {
        client.round_trip().await;
    }
    for n in 0..3 {
        client.send(format!("{{\"n\":{n}}}")).await;
    }
    for over in ["{\"n\":3}", "text", ""] {
        assert_eq!(client.ask(over).await, RATE_LIMITED, "{over:?}");
    }
    client.send_binary(vec![1]).await;
    assert_eq!(client.text().await, RATE_LIMITED);
    client.round_trip().await;
    let mut other = Client::connect(&gateway, "43").await;
    other.send("{\"n\":0}").await;
    other.close(None).await;
    client.close(None).await;
    let events = webhook.wait_for(8).await;
    let of = |user: &str, kind: &str| {
        events
            .iter()
            .filter(|e| e["user_id"] == user && e["type"] == kind)
            .count()
    };
    assert_eq!(of("42", "message_received"), 3, "{events:?}");
    assert_eq!(
        of("43", "message_received"),
        1,
        "each connection has a limit of its own"
    );
    assert_eq!(
        of("42", "disconnected"),
        1,
        "the end is told in spite of the limit"
    );
    let last = events
        .iter()
        .find(|e| e["user_id"] == "42" && e["type"] == "disconnected")
        .unwrap();
    assert_eq!(last["seq"], 5, "refused messages leave no gap in seq");
    assert_eq!(gateway.metric("ws_rate_limited_total", &[]).await, 4.0);
}

#[tokio::test]
async fn the_rate_limit_refills() {
    let webhook = Webhook::start().await;
    let gateway = Setup::default()
        .webhook(&webhook)
        .env("WS_RATE_LIMIT_PER_SEC", 5)
        .env("WS_RATE_LIMIT_BURST", 1)
        .start()
        .await;
    let mut client = Client::connect(&gateway, "42").await;
    let mut sent = 0;
    while webhook.events().len() < 4 {
        client.send("{\"type\":\"m\"}").await;
        sent += 1;
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        assert!(sent < 3000);
    }
    assert!(sent > 4, "some were refused in between");
}

#[tokio::test]
async fn with_rate_limit_above_ping_filter_pings_count() {
    let text = std::fs::read_to_string(in_crate("pipelines/terminator.yaml")).unwrap();
    let limit = "    - rate_limit: { per_second: 0.001, burst: 3 }\n    - ping_filter: {}\n";
    let lines: Vec<&str> = text.lines().collect();
    let start = lines
        .iter()
        .position(|line| line.trim() == "- ping_filter: {}")
        .unwrap();
    let end = lines
        .iter()
        .position(|line| line.trim() == "- ordering_key:")
        .unwrap();
    let yaml = format!(
        "{}\n{limit}{}\n",
        lines[..start].join("\n"),
        lines[end..].join("\n")
    );
    let gateway = Setup::default().yaml(yaml).start().await;
    let mut client = Client::connect(&gateway, "42").await;
    for _ in 0..3 {
        client.round_trip().await;
    }
    assert_eq!(client.ask(r#"{"type":"ping"}"#).await, RATE_LIMITED);
    assert_eq!(client.ask(r#"{"type":"heartbeat"}"#).await, RATE_LIMITED);
}

#[tokio::test]
async fn a_message_of_exactly_max_message_bytes_passes_and_one_more_closes_with_1009() {
    let (webhook, gateway) = with_webhook().await;
    for (user, binary) in [("text", false), ("binary", true)] {
        let mut client = Client::connect(&gateway, user).await;
        for length in [65_536, 65_537] {
            let message = "x".repeat(length);
            if binary {
                client.send_binary(message).await;
            } else {
                client.send(message).await;
            }
        }
        assert_eq!(client.closed().await.code, 1009);
        let end = webhook.wait_for_type(user, "disconnected").await;
        assert_eq!((&end["close_code"], &end["seq"]), (&json!(1009), &json!(3)));
        let event = webhook.wait_for_type(user, "message_received").await;
        let payload = event["message"]["payload"].as_str().unwrap();
        let bytes = if binary {
            STANDARD.decode(payload).unwrap()
        } else {
            payload.into()
        };
        assert_eq!(bytes, vec![b'x'; 65_536]);
    }
}

#[tokio::test]
async fn fragments_count_together_and_an_announced_length_counts_at_once() {
    let gateway = Setup::default()
        .set("server.max_message_bytes", 1000)
        .start()
        .await;
    let mut raw = Raw::upgraded(&gateway, "1").await;
    for first in [op::TEXT, op::CONTINUATION, op::CONTINUATION] {
        raw.frame(first, &[b'x'; 400]).await;
    }
    assert_eq!(raw.close_code().await, Some(1009));
    let mut raw = Raw::upgraded(&gateway, "1").await;
    // The head of a frame of 2^62 bytes, and nothing of it.
    let mut head = vec![op::FIN | op::BINARY, 0x80 | 127];
    head.extend_from_slice(&(1_u64 << 62).to_be_bytes());
    head.extend_from_slice(&[0; 4]);
    raw.write(&head).await;
    assert_eq!(raw.close_code().await, Some(1009));
}

#[tokio::test]
async fn fragmented_messages_are_put_together() {
    let (webhook, gateway) = with_webhook().await;
    let mut raw = Raw::upgraded(&gateway, "42").await;
    let text = "{\"type\":\"żółć\"}";
    // Byte by byte, so that characters are torn; with a ping in between, as RFC 6455 section 5.4 allows.
    let bytes = text.as_bytes();
    for (at, byte) in bytes.iter().enumerate() {
        let opcode = if at == 0 { op::TEXT } else { op::CONTINUATION };
        let fin = if at + 1 == bytes.len() { op::FIN } else { 0 };
        raw.frame(fin | opcode, &[*byte]).await;
        if at == 10 {
            raw.frame(op::FIN | op::PING, b"between").await;
            assert_eq!(raw.next().await.unwrap().payload, b"between");
        }
    }
    raw.frame(op::BINARY, &[]).await;
    raw.frame(op::CONTINUATION, &[1, 2]).await;
    raw.frame(op::FIN | op::CONTINUATION, &[]).await;
    let events = webhook.wait_for(3).await;
    assert_eq!(events[1]["raw"], text);
    assert_eq!(events[2]["message"]["payload"], STANDARD.encode([1, 2]));
}

#[tokio::test]
async fn frames_that_arrive_in_pieces_or_many_at_once_are_read() {
    let (webhook, gateway) = with_webhook().await;
    let mut raw = Raw::upgraded(&gateway, "42").await;
    for byte in masked(op::FIN | op::TEXT, b"slowly") {
        raw.write(&[byte]).await;
    }
    let many: Vec<u8> = (0..200)
        .flat_map(|n| masked(op::FIN | op::TEXT, format!("m{n}").as_bytes()))
        .collect();
    raw.write(&many).await;
    let events = webhook.wait_for(202).await;
    let texts: Vec<_> = events
        .iter()
        .skip(1)
        .map(|event| event["raw"].as_str().unwrap().to_owned())
        .collect();
    let expected: Vec<String> = std::iter::once("slowly".into())
        .chain((0..200).map(|n| format!("m{n}")))
        .collect();
    assert_eq!(texts, expected);
}

#[tokio::test]
async fn text_that_is_not_utf8_closes_with_1007() {
    let (webhook, gateway) = with_webhook().await;
    for (user, text) in [
        ("stray", &b"\xff"[..]),
        ("torn", b"ab\xc5"),
        ("overlong", b"\xc0\xaf"),
        ("surrogate", b"\xed\xa0\x80"),
        ("too high", b"\xf4\x90\x80\x80"),
    ] {
        let mut raw = Raw::upgraded(&gateway, user).await;
        raw.frame(op::FIN | op::TEXT, text).await;
        assert_eq!(raw.close_code().await, Some(1007), "{user}");
        let end = webhook.wait_for_type(user, "disconnected").await;
        assert_eq!(
            (&end["close_code"], &end["seq"]),
            (&json!(1007), &json!(2)),
            "nothing is published"
        );
    }
    let mut raw = Raw::upgraded(&gateway, "fragments").await;
    raw.frame(op::TEXT, b"fine so far \xc5").await;
    raw.frame(op::FIN | op::CONTINUATION, b"x").await;
    assert_eq!(raw.close_code().await, Some(1007));
    let mut raw = Raw::upgraded(&gateway, "binary").await;
    raw.frame(op::FIN | op::BINARY, b"\xff").await;
    let event = webhook.wait_for_type("binary", "message_received").await;
    assert_eq!(event["message"]["payload"], "/w==", "binary needs no UTF-8");
}

#[tokio::test]
async fn a_broken_frame_closes_the_connection_and_nothing_else() {
    let (webhook, gateway) = with_webhook().await;
    let mut bystander = Client::connect(&gateway, "bystander").await;
    let long_ping = masked(op::FIN | op::PING, &[b'x'; 126]);
    for (user, bytes) in [
        ("unmasked", unmasked(op::FIN | op::TEXT, b"hello")),
        (
            "garbage",
            b"GET /internal/connections HTTP/1.1\r\n\r\n".to_vec(),
        ),
        ("rsv1", masked(op::FIN | 0x40 | op::TEXT, b"hello")),
        ("rsv2", masked(op::FIN | 0x20 | op::TEXT, b"hello")),
        ("rsv3", masked(op::FIN | 0x10 | op::TEXT, b"hello")),
        ("opcode 3", masked(op::FIN | 3, b"hello")),
        ("opcode 15", masked(op::FIN | 15, b"hello")),
        (
            "stray continuation",
            masked(op::FIN | op::CONTINUATION, b"hello"),
        ),
        (
            "text within text",
            [masked(op::TEXT, b"a"), masked(op::FIN | op::TEXT, b"b")].concat(),
        ),
        ("fragmented ping", masked(op::PING, b"a")),
        ("long ping", long_ping),
        ("close of one byte", masked(op::FIN | op::CLOSE, &[3])),
    ] {
        let mut raw = Raw::upgraded(&gateway, user).await;
        raw.write(&bytes).await;
        assert_eq!(raw.close_code().await, Some(1002), "{user}");
        let end = webhook.wait_for_type(user, "disconnected").await;
        assert_eq!(end["seq"], 2, "{user}: nothing is published: {end}");
        assert_eq!(end["close_code"], 1002, "{user}");
    }
    bystander.round_trip().await;
}

#[tokio::test]
async fn the_peers_close_code_and_reason_are_told() {
    let (webhook, gateway) = with_webhook().await;
    for (user, frame, code, reason) in [
        ("planned", Some((1000, "")), 1000, ""),
        ("with a reason", Some((1000, "żółć 😀")), 1000, "żółć 😀"),
        ("own code", Some((4999, "mine")), 4999, "mine"),
        ("going away", Some((1001, "")), 1001, ""),
        ("none", None, 1005, ""),
    ] {
        let mut client = Client::connect(&gateway, user).await;
        client.send("last words").await;
        client.close(frame).await;
        let end = webhook.wait_for_type(user, "disconnected").await;
        assert_valid(&end);
        assert_eq!(
            (&end["close_code"], &end["reason"]),
            (&json!(code), &json!(reason)),
            "{user}"
        );
        assert_eq!(
            end["seq"], 3,
            "what was sent before the close is published: {end}"
        );
    }
}

#[tokio::test]
async fn a_close_code_that_no_peer_may_send_is_1002_and_its_reason_is_nobodys() {
    let (webhook, gateway) = with_webhook().await;
    for code in [999_u16, 1005, 1006, 1015, 2000, 5000] {
        let user = code.to_string();
        let mut raw = Raw::upgraded(&gateway, &user).await;
        let frame = [&code.to_be_bytes()[..], b"mine"].concat();
        raw.frame(op::FIN | op::CLOSE, &frame).await;
        assert_eq!(raw.close_code().await, Some(1002), "{user}");
        let end = webhook.wait_for_type(&user, "disconnected").await;
        assert_eq!(
            (&end["close_code"], &end["reason"]),
            (&json!(1002), &json!("")),
            "{user}"
        );
    }
}

#[tokio::test]
async fn what_a_client_sent_is_published_although_it_left_without_reading_its_answers() {
    const MESSAGES: usize = 100;
    let webhook = Webhook::start().await;
    let gateway = Setup::default()
        .webhook(&webhook)
        .env("WS_RATE_LIMIT_PER_SEC", 0)
        .start()
        .await;
    let mut bytes = Vec::new();
    for n in 0..MESSAGES {
        bytes.extend(masked(op::FIN | op::TEXT, br#"{"type":"ping"}"#));
        let text = json!({ "n": n }).to_string();
        bytes.extend(masked(op::FIN | op::TEXT, text.as_bytes()));
    }
    bytes.extend(masked(op::FIN | op::CLOSE, &1000_u16.to_be_bytes()));
    let mut raw = Raw::upgraded(&gateway, "hasty").await;
    raw.write(&bytes).await;
    // The answers that arrive from now on make its system reset the connection.
    drop(raw);
    let end = webhook.wait_for_type("hasty", "disconnected").await;
    assert_eq!(end["seq"], MESSAGES + 2, "all were published: {end}");
    assert_eq!(end["close_code"], 1000);
    gateway.wait_for_connections(0).await;
}

#[tokio::test]
async fn the_gateway_answers_a_close_frame() {
    let gateway = Gateway::start().await;
    let mut raw = Raw::upgraded(&gateway, "42").await;
    raw.frame(op::FIN | op::CLOSE, &4000_u16.to_be_bytes())
        .await;
    let answer = raw.next().await.unwrap();
    assert_eq!(answer.close_code(), Some(4000));
    assert_eq!(
        raw.next().await,
        None,
        "the server closes the TCP connection first (RFC 6455 section 7.1.1)"
    );
}

#[tokio::test]
async fn a_lost_tcp_connection_is_told_as_1006() {
    let (webhook, gateway) = with_webhook().await;
    Client::connect(&gateway, "reset").await.reset();
    drop(Client::connect(&gateway, "closed").await);
    let mut half = Raw::upgraded(&gateway, "half").await;
    half.write(&masked(op::FIN | op::TEXT, b"a frame that never ends")[..10])
        .await;
    half.finish().await;
    for user in ["reset", "closed", "half"] {
        let end = webhook.wait_for_type(user, "disconnected").await;
        assert_valid(&end);
        assert_eq!(
            (&end["close_code"], &end["reason"], &end["seq"]),
            (&json!(1006), &json!(""), &json!(2)),
            "{user}"
        );
    }
    gateway.wait_for_connections(0).await;
}
