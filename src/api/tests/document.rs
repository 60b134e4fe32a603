//! `schemas/openapi.yaml` says what the API does, all of it and nothing else.

use std::collections::BTreeSet;

use serde_json::json;

use super::replay::Store;
use super::*;
use crate::replay::CountStrategy;

/// One documented answer: route template, method, status.
type Told = (String, String, String);

/// Answers that no call of these tests can provoke: 10 s of silence (tested beside the body reader), and metrics that
/// cannot be written.
const NOT_PROVOKED: [&str; 2] = ["408", "500"];

fn document() -> Value {
    serde_saphyr::from_str(include_str!("../../../schemas/openapi.yaml")).unwrap()
}

/// Follows a reference within the document, if the value is one.
fn resolved<'a>(document: &'a Value, value: &'a Value) -> &'a Value {
    match value["$ref"].as_str() {
        Some(reference) => document.pointer(&reference[1..]).unwrap(),
        None => value,
    }
}

/// A validator of one of the document's schemas, whose references point into the document.
fn validator(document: &Value, schema: &Value) -> jsonschema::Validator {
    let mut schema = schema.clone();
    schema["components"] = document["components"].clone();
    jsonschema::options()
        .with_draft(jsonschema::Draft::Draft202012)
        .should_validate_formats(true)
        .build(&schema)
        .unwrap()
}

#[track_caller]
fn assert_valid(validator: &jsonschema::Validator, value: &Value) {
    let errors: Vec<_> = validator
        .iter_errors(value)
        .map(|e| e.to_string())
        .collect();
    assert!(errors.is_empty(), "{value}: {errors:?}");
}

/// Asserts that an answer is one the document tells, and gives its place in it.
fn check(document: &Value, template: &str, method: &str, answer: &Answer) -> Told {
    let status = answer.status.to_string();
    let place = format!("{method} {template} {status}");
    let operation = &document["paths"][template][method.to_lowercase()];
    let told = resolved(document, &operation["responses"][&status]);
    assert!(told.is_object(), "{place} is not in the document");
    for (name, header) in told["headers"].as_object().into_iter().flatten() {
        let value = json!(answer.header(name).expect(&place));
        assert_valid(&validator(document, &header["schema"]), &value);
    }
    if let Some(content) = told["content"].as_object() {
        let (media_type, content) = content.iter().next().unwrap();
        let sent = answer.header("content-type").unwrap();
        assert_eq!(sent.split(';').next(), Some(media_type.as_str()), "{place}");
        if media_type.ends_with("json") {
            assert_valid(&validator(document, &content["schema"]), &answer.json());
        }
    }
    (template.into(), method.to_lowercase(), status)
}

#[test]
fn the_document_and_the_route_table_have_the_same_routes() {
    let document = document();
    let mut documented = BTreeSet::new();
    for (path, operations) in document["paths"].as_object().unwrap() {
        for method in operations.as_object().unwrap().keys() {
            documented.insert((path.clone(), method.to_uppercase()));
        }
    }
    let mut routed = BTreeSet::new();
    for route in ROUTES {
        for method in route.verb.allow().split(", ") {
            routed.insert((route.template.to_owned(), method.to_owned()));
        }
    }
    assert_eq!(documented, routed);
}

#[tokio::test]
async fn every_documented_answer_is_given_as_documented() {
    let document = document();
    let mut given = BTreeSet::new();
    for route in ROUTES {
        for method in route.verb.allow().split(", ") {
            for answer in answers(*route, method).await {
                let told = check(&document, route.template, method, &answer);
                if method != "HEAD" {
                    given.insert(told);
                }
            }
        }
    }
    let mut told = BTreeSet::new();
    for (path, operations) in document["paths"].as_object().unwrap() {
        for (method, operation) in operations.as_object().unwrap() {
            for status in operation["responses"].as_object().unwrap().keys() {
                if method != "head" && !NOT_PROVOKED.contains(&status.as_str()) {
                    told.insert((path.clone(), method.clone(), status.clone()));
                }
            }
        }
    }
    assert_eq!(given, told);
}

/// Provokes each of a route's answers.
async fn answers(route: Route, method: &str) -> Vec<Answer> {
    let path = route.template.replace("{user_id}", "42");
    let internal = path.starts_with("/internal/");
    let (api, _directory) = Api::with_archive().await;
    let stores = ["redis", "rabbitmq"].map(|name| Arc::new(Store::with(300).named(name)));
    api.set_replays(
        |config| config.replay.api.rate_limit.per_minute = 2,
        &[&stores[0], &stores[1]],
    );
    api.connect("42", &["user:42"]);
    api.connect("42", &["user:42"]);
    let good = match route.template {
        "/internal/publish" => r#"{"subjects":["user:42"],"payload":1}"#,
        "/internal/disconnect" => r#"{"user_id":"42"}"#,
        "/internal/replay/archive" => r#"{"since":0}"#,
        "/internal/log-level" => r#"{"level":"info"}"#,
        _ => "",
    };
    let mut answers = vec![api.call(method, &path, good).await];
    if method == "HEAD" {
        return answers;
    }
    answers.push(api.call("PATCH", &path, "").await);
    if route.template == "/ready" {
        api.state.readiness().set_phase(Phase::Draining);
        answers.push(api.call(method, &path, "").await);
    }
    if !internal {
        return answers;
    }
    if route.template == "/internal/replay/archive" {
        answers.push(Api::new().call(method, &path, good).await);
    }
    answers.push(api.send(method, &path, &[], b"").await);
    answers.push(api.send(method, &path, &[], &[b' '; LIMIT + 1]).await);
    if route.verb == Verb::Read {
        answers.push(api.call(method, &format!("{path}?limit=1"), "").await);
        answers.push(api.call(method, &format!("{path}?limit=0"), "").await);
        api.lose_presence();
        answers.push(api.call(method, &path, "").await);
    } else if method == "GET" {
        // It has no parameters.
    } else if route.template.starts_with("/internal/replay/") {
        answers.push(api.call(method, &path, r#"{"limit":"5"}"#).await);
        stores[0].fail_after(1);
        stores[1].fail_after(1);
        for _ in 0..2 {
            let body = match good {
                "" => r#"{"limit":2}"#,
                good => good,
            };
            answers.push(api.call(method, &path, body).await);
        }
    } else {
        answers.push(api.call(method, &path, "{").await);
    }
    api.set_config(config("", LIMIT));
    answers.push(api.call(method, &path, good).await);
    answers
}

/// Asserts that every example that stands beside a schema fits it.
fn check_examples(document: &Value, value: &Value, seen: &mut usize) {
    let Value::Object(members) = value else {
        if let Value::Array(items) = value {
            for item in items {
                check_examples(document, item, seen);
            }
        }
        return;
    };
    if let Some(schema) = members.get("schema") {
        let several = members.get("examples").and_then(Value::as_object);
        let several = several.into_iter().flat_map(|examples| examples.values());
        let examples = several
            .map(|example| &example["value"])
            .chain(members.get("example"));
        let validator = validator(document, schema);
        for example in examples {
            assert_valid(&validator, example);
            *seen += 1;
        }
    }
    for member in members.values() {
        check_examples(document, member, seen);
    }
}

#[test]
fn the_documents_examples_fit_its_schemas() {
    let document = document();
    let mut seen = 0;
    check_examples(&document, &document, &mut seen);
    assert!(seen > 15, "{seen} examples found");
}

#[expect(clippy::too_many_lines, reason = "one list of bodies for each call")]
#[tokio::test]
async fn request_schemas_agree_with_the_code() {
    let document = document();
    let (api, _directory) = Api::with_archive().await;
    let store = Arc::new(Store::with(3));
    api.set_replays(
        |config| {
            config.replay.api.idempotency.strategy = CountStrategy::InMemory;
            config.replay.api.rate_limit.strategy = CountStrategy::None;
        },
        &[&store],
    );
    for (path, schema, bodies) in [
        (
            "/internal/replay/archive",
            "ReplayArchive",
            vec![
                json!({"since": 0}),
                json!({"since": 1.5, "until": "2026-01-31T12:00:00Z", "user_id": 7}),
                json!({"since": "1700000000", "target": "webhook", "limit": -1}),
                json!({"since": 0, "ordering_key": "a", "type": "connected", "user_id": null}),
                json!({"since": 0, "idempotency_key": 7, "limit": 1}),
                json!({"since": 0, "idempotency_key": ["a"]}),
                json!({"since": 0, "limit": null}),
                json!({"since": 0, "cursor": "0192f5a8-3c1e-7b42-9d6f-2a8e5c7b1d30"}),
                json!({"until": 0}),
                json!({"since": null}),
                json!({"since": -1}),
                json!({"since": 0, "until": []}),
                json!({"since": 0, "cursor": "next"}),
                json!({"since": 0, "user_id": " "}),
                json!({"since": 0, "ordering_key": 1.5}),
                json!({"since": 0, "type": "message"}),
                json!({"since": 0, "limit": 1.5}),
                json!({"since": 0, "limit": "1"}),
                json!({"since": 0, "target": "stdout"}),
            ],
        ),
        (
            "/internal/publish",
            "Push",
            vec![
                json!({"subjects": ["a"], "payload": null}),
                json!({"subjects": ["a"], "payload": 1, "api_key": "x", "more": 1}),
                json!({"subjects": ["a"]}),
                json!({"subjects": [], "payload": 1}),
                json!({"subjects": ["a", " "], "payload": 1}),
                json!({"subjects": [7], "payload": 1}),
                json!({"subjects": "a", "payload": 1}),
                json!({"payload": 1}),
                json!([]),
            ],
        ),
        (
            "/internal/disconnect",
            "Disconnect",
            vec![
                json!({"user_id": "1"}),
                json!({"user_id": 1, "connection_id": null, "reason": null}),
                json!({"subject": "a", "reason": "b"}),
                json!({"connection_id": "0192f5a8-3c1e-7b42-9d6f-2a8e5c7b1d30"}),
                json!({"connection_id": "7"}),
                json!({"user_id": "1", "subject": "a"}),
                json!({"user_id": null}),
                json!({"user_id": "1", "reason": 7}),
                json!({"user_id": [1]}),
                json!({}),
            ],
        ),
        (
            "/internal/log-level",
            "NewLogLevel",
            vec![
                json!({"level": "debug"}),
                json!({"level": "info,wsgw::sinks=debug", "for_seconds": 60, "more": 1}),
                json!({"level": "off", "for_seconds": null}),
                json!({"level": " "}),
                json!({"level": null}),
                json!({"level": "info", "for_seconds": 0}),
                json!({"level": "info", "for_seconds": 86_401}),
                json!({"level": "info", "for_seconds": "60"}),
                json!({"for_seconds": 60}),
                json!({}),
            ],
        ),
        (
            "/internal/replay/redis",
            "Replay",
            vec![
                json!({}),
                json!({"limit": 1, "idempotency_key": null, "more": 1}),
                json!({"limit": -5, "idempotency_key": "a"}),
                json!({"limit": 1.5}),
                json!({"limit": "1"}),
                json!({"limit": null}),
                json!({"idempotency_key": ["a"]}),
                json!([]),
            ],
        ),
    ] {
        let validator = validator(&document, &document["components"]["schemas"][schema]);
        for body in bodies {
            let method = if path == "/internal/log-level" {
                "PUT"
            } else {
                "POST"
            };
            let answer = api.call(method, path, body.to_string()).await;
            assert_eq!(
                validator.is_valid(&body),
                answer.status == 200,
                "{path} {body}"
            );
        }
    }
}
