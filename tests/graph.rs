//! `wsgw graph` as a user meets it, and the pictures of the shipped pipelines in the documentation.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::process::{Command, Stdio};

use support::gateway::run;
use support::in_crate;

/// Enough variables that every shipped file has all that it can have.
const ENV: [(&str, &str); 5] = [
    ("JWT_PUBLIC_KEY_FILE", "public.pem"),
    ("GATEWAY_API_KEY", "hunter2-hunter2-hunter2"),
    (
        "SYMFONY_WEBHOOK_URL",
        "https://somebody:hunter2@app.example/webhook?key=hunter2#hunter2",
    ),
    ("REDIS_DSN", "redis://somebody:hunter2@redis:6379/0"),
    ("RABBITMQ_DSN", "amqp://somebody:hunter2@rabbitmq"),
];

const SHIPPED: [&str; 6] = [
    "terminator",
    "core",
    "core-rabbitmq",
    "both",
    "routed",
    "acknowledged",
];

#[test]
fn every_shipped_pipeline_has_a_picture_in_the_documentation() {
    let files = fs::read_dir(in_crate("pipelines")).unwrap();
    let names: BTreeSet<_> = files
        .map(|file| file.unwrap().path().file_stem().unwrap().to_owned())
        .collect();
    let shipped: BTreeSet<_> = SHIPPED.into_iter().map(Into::into).collect();
    assert_eq!(names, shipped);
    let page = fs::read_to_string(in_crate("docs/testing.md")).unwrap();
    for name in SHIPPED {
        let picture = format!("](images/pipeline-{name}.svg)");
        assert!(page.contains(&picture), "docs/testing.md lacks {picture}");
    }
}

/// What `wsgw graph` prints of a shipped pipeline, whose file is called as in the documentation.
fn graph(name: &str, args: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_wsgw"))
        .arg("graph")
        .args(args)
        .arg(format!("pipelines/{name}.yaml"))
        .env_clear()
        .envs(ENV)
        .current_dir(in_crate(""))
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_pictures_of_the_documentation_are_fresh() {
    for name in SHIPPED {
        let path = in_crate(&format!("docs/images/pipeline-{name}.svg"));
        let drawn = graph(name, &["--format", "svg"]);
        if std::env::var_os("UPDATE_DOCS").is_some() {
            fs::write(&path, &drawn).unwrap();
        }
        assert!(
            fs::read_to_string(&path).unwrap_or_default() == drawn,
            "{} is stale; refresh it with:\n\n    UPDATE_DOCS=1 cargo test --test graph\n",
            path.display()
        );
    }
}

#[test]
fn pictures_are_the_same_every_time_and_show_no_secret() {
    for name in SHIPPED {
        for format in ["mermaid", "dot", "svg"] {
            let picture = graph(name, &["--format", format]);
            assert_eq!(picture, graph(name, &["--format", format]));
            assert!(
                !picture.contains("hunter2") && !picture.contains("somebody"),
                "{picture}"
            );
        }
    }
}

#[test]
fn everything_of_the_pipeline_is_in_every_picture() {
    let args = [
        "ordering_key.strategy=topic",
        "ordering_key.partition_mode=suffix",
    ];
    for format in ["mermaid", "dot", "svg"] {
        let args = ["--set", args[0], "--set", args[1], "--format", format];
        let picture = graph("both", &args);
        for text in [
            "client",
            "auth",
            "ping_filter",
            "rate_limit",
            "ordering_key",
            "trace",
            "fan_out",
            "rate_limited",
            "pong",
            "4401",
            "10 a second, 20 at once",
            "https://app.example/webhook",
            "ws.inbox.{key}",
            "ws.events",
            "dead letters",
            "ws.dlq",
            "registry",
            "/internal/publish",
            "ws.outbox",
        ] {
            assert!(picture.contains(text), "{format} lacks {text}:\n{picture}");
        }
    }
}

/// What each line from the last stage to a node says, in the order of the picture.
fn labels(dot: &str, to: &str) -> Vec<String> {
    let arrow = format!(" -> {to}");
    let mut lines = dot.lines().filter(|line| line.contains(&arrow));
    let line = lines.find(|line| line.trim_start().starts_with("stage_"));
    let Some((_, label)) = line.unwrap().split_once("label=\"") else {
        return Vec::new();
    };
    let label = label.split('"').next().unwrap();
    label.split("\\n").map(str::to_owned).collect()
}

#[test]
fn routes_are_drawn_to_the_sinks_that_they_lead_to() {
    let dot = graph("routed", &["--format", "dot"]);
    let places: Vec<_> = dot
        .lines()
        .filter(|line| line.contains("shape=cylinder"))
        .filter_map(|line| line.trim().split_once(' ').map(|(node, _)| node))
        .collect();
    assert_eq!(places, ["sink_0", "sink_1", "dead_letters"]);
    let order = "2: type order or payment and /payload/total…";
    let support = "3: event message_received and claim /roles…";
    assert_eq!(labels(&dot, "sink_0"), [order, support]);
    assert_eq!(labels(&dot, "sink_1"), [order, support, "4: otherwise"]);
    assert_eq!(labels(&dot, "nowhere"), ["1: type typing"]);
    for format in ["mermaid", "svg"] {
        let picture = graph("routed", &["--format", format]);
        for text in [order, support, "4: otherwise", "1: type typing", "nowhere"] {
            assert!(picture.contains(text), "{format} lacks {text}:\n{picture}");
        }
    }
    let whole = "3: event message_received and claim /roles has support to webhook, redis";
    let svg = graph("routed", &["--format", "svg"]);
    assert!(svg.contains(whole), "the image in words:\n{svg}");
}

/// A sink that no route names gets nothing, and the archive gets everything; what no route takes goes nowhere.
#[test]
fn sinks_without_a_route_have_no_line() {
    let args = [
        "--set",
        "fan_out.routes=[{when: {type: a}, to: [redis]}]",
        "--set",
        "replay.strategy=durable",
        "--format",
        "dot",
    ];
    let dot = graph("both", &args);
    let leads = |to: &str| dot.lines().any(|line| line.contains(&format!(" -> {to}")));
    for (sink, name) in ["webhook", "redis", "rabbitmq", "archive"]
        .iter()
        .enumerate()
    {
        assert!(
            dot.contains(&format!("sink_{sink} [label=\"{name}\\n")),
            "{dot}"
        );
    }
    assert!(!leads("sink_0") && !leads("sink_2"), "{dot}");
    assert!(
        !dot.contains("sink_0 ->") && !dot.contains("sink_2 ->"),
        "{dot}"
    );
    assert_eq!(labels(&dot, "sink_1"), ["1: type a"]);
    assert_eq!(labels(&dot, "nowhere"), ["otherwise"]);
    assert_eq!(labels(&dot, "sink_3"), [""; 0]);
}

#[test]
fn conditions_and_answers_of_stages_are_drawn() {
    for format in ["mermaid", "dot", "svg"] {
        let picture = graph("routed", &["--format", format]);
        for text in [
            "2 a second, 4 at once",
            "when type typing",
            "10 a second, 20 at once",
            "when not (type typing)",
            "adds fields to the event: client_version, source, tenant",
            "hands the event to the sinks: both, first route",
        ] {
            assert!(picture.contains(text), "{format} lacks {text}:\n{picture}");
        }
        assert!(!picture.contains("undeliverable"), "{picture}");
        let picture = graph("acknowledged", &["--format", format]);
        for text in [
            "schemas/messages",
            "invalid",
            "may not name: topic",
            "forbidden",
            "300 s, by user",
            "ack, duplicate",
            "ack, once all have it",
            "undeliverable",
        ] {
            assert!(picture.contains(text), "{format} lacks {text}:\n{picture}");
        }
    }
}

/// The order of the file is the order of the picture.
#[test]
fn stages_stand_in_the_order_of_the_file() {
    let picture = graph("core", &[]);
    let at = |name: &str| picture.find(&format!("\"{name}<br/>")).unwrap();
    let places: Vec<_> = [
        "auth",
        "ping_filter",
        "rate_limit",
        "ordering_key",
        "trace",
        "fan_out",
    ]
    .into_iter()
    .map(at)
    .collect();
    assert!(places.is_sorted(), "{picture}");
}

/// What Graphviz says of the picture, where it is installed.
fn asked_graphviz(dot: &str) -> bool {
    let Ok(mut child) = Command::new("dot")
        .arg("-Tsvg")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
    else {
        return false;
    };
    child
        .stdin
        .take()
        .unwrap()
        .write_all(dot.as_bytes())
        .unwrap();
    assert!(child.wait().unwrap().success(), "{dot}");
    true
}

/// The identifiers of a line of DOT, and what stands between them; texts in quotes are left out.
fn tokens(line: &str) -> Vec<String> {
    let mut tokens = vec![String::new()];
    let mut characters = line.chars();
    while let Some(character) = characters.next() {
        if character == '"' {
            while let Some(quoted) = characters.next() {
                match quoted {
                    '\\' => drop(characters.next()),
                    '"' => break,
                    _ => {}
                }
            }
            tokens.push("text".into());
        } else if character.is_ascii_alphanumeric() || character == '_' {
            let last = tokens.last_mut().unwrap();
            if last.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
                last.push(character);
            } else {
                tokens.push(character.into());
            }
        } else if character == '>' && tokens.last().is_some_and(|last| last == "-") {
            tokens.last_mut().unwrap().push('>');
        } else if !character.is_whitespace() {
            tokens.push(character.into());
        } else {
            tokens.push(String::new());
        }
    }
    tokens.retain(|token| !token.is_empty());
    tokens
}

/// Each line is a node, an edge or an attribute, and edges run between nodes that there are.
#[test]
fn graphviz_can_read_it() {
    for name in SHIPPED {
        let dot = graph(name, &["--format", "dot"]);
        asked_graphviz(&dot);
        let body = dot.strip_prefix("digraph pipeline {\n").unwrap();
        let body = body.strip_suffix("}\n").unwrap();
        let (mut nodes, mut ends) = (BTreeSet::new(), BTreeSet::new());
        for line in body.lines() {
            let tokens = tokens(line);
            let (last, rest) = tokens.split_last().unwrap();
            assert_eq!(last, ";", "{line}");
            let attributes = match rest.iter().position(|token| token == "[") {
                Some(at) => {
                    assert_eq!(rest.last().unwrap(), "]", "{line}");
                    &rest[at + 1..rest.len() - 1]
                }
                None => &[],
            };
            for (index, attribute) in attributes.iter().enumerate() {
                let wanted = match index % 4 {
                    1 => attribute == "=",
                    3 => attribute == ",",
                    _ => attribute
                        .chars()
                        .all(|c| c.is_ascii_alphanumeric() || c == '_'),
                };
                assert!(wanted, "{line}: {attribute}");
            }
            assert!(attributes.is_empty() || attributes.len() % 4 == 3, "{line}");
            match rest {
                [_, equals, _] if equals == "=" => {}
                [from, arrow, to, ..] if arrow == "->" => {
                    ends.extend([from.clone(), to.clone()]);
                }
                [node, ..] => {
                    nodes.insert(node.clone());
                }
                [] => panic!("{line}"),
            }
        }
        assert!(
            ends.len() >= 10 && ends.is_subset(&nodes),
            "{ends:?} {nodes:?}"
        );
    }
}

/// Every element is closed, attributes are quoted, and no text holds markup.
#[test]
fn the_image_is_well_formed_and_has_words() {
    for name in SHIPPED {
        let svg = graph(name, &["--format", "svg"]);
        let mut open: Vec<&str> = Vec::new();
        for part in svg.split('<').skip(1) {
            let (tag, text) = part.split_once('>').unwrap();
            assert!(
                !text.contains('>') || open.last() == Some(&"style"),
                "{part}"
            );
            if let Some(closed) = tag.strip_prefix('/') {
                assert_eq!(open.pop(), Some(closed));
            } else {
                assert!(tag.matches('"').count() % 2 == 0, "{tag}");
                if !tag.ends_with('/') {
                    open.push(tag.split_whitespace().next().unwrap());
                }
            }
        }
        assert!(open.is_empty(), "{open:?}");
        assert!(svg.contains("role=\"img\" aria-labelledby=\"title description\""));
        assert!(svg.contains("<desc id=\"description\">A client's message passes auth, "));
        assert!(svg.contains("@media (prefers-color-scheme: dark)"));
        assert!(
            !svg.contains("href") && !svg.contains("@import"),
            "it needs nothing else"
        );
    }
}

#[test]
fn an_invalid_file_is_told_and_exits_with_1() {
    let file = in_crate("tests/fixtures/invalid/typo_key.yaml");
    let output = run(&["graph", file.to_str().unwrap()], &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stdout.is_empty());
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.contains("error[unknown_key]"), "{stderr}");
    assert_eq!(run(&["graph", "no/such.yaml"], &[]).status.code(), Some(1));
}
