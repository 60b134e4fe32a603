//! The pipeline file as a user meets it: what `check` says about mistakes, which layer wins, and whether the
//! generated files are fresh.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::too_many_lines,
    clippy::float_cmp,
    missing_docs,
    reason = "a test fails by panicking, and reads best in one piece"
)]

use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use wsgw::cli::check::{Format, run_check};
use wsgw::cli::{explain, schema};
use wsgw::config::shape::Shape;
use wsgw::config::{
    self, EnvVars, LoadError, Loaded, Origin, Overrides, Severity, codes, reference,
};

fn env(pairs: &[(&str, &str)]) -> EnvVars {
    pairs
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

fn overrides(sets: &[&str], pairs: &[(&str, &str)]) -> Overrides {
    Overrides {
        sets: sets.iter().map(|set| (*set).to_owned()).collect(),
        env: env(pairs),
    }
}

fn files(folder: &str) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(folder)
        .expect("the folder exists")
        .map(|entry| entry.expect("readable").path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "yaml")
        })
        .collect();
    files.sort();
    files
}

fn terminator(overrides: &Overrides) -> Result<Loaded, LoadError> {
    config::load(Path::new("pipelines/terminator.yaml"), overrides)
}

fn snapshot(name: &str, text: &str) {
    let mut settings = insta::Settings::clone_current();
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(name, text));
}

/// The diagnostics as lines `code: message`.
fn said(result: Result<Loaded, LoadError>) -> Vec<String> {
    let diagnostics = match result {
        Ok(loaded) => loaded.warnings,
        Err(LoadError::Invalid(diagnostics)) => diagnostics,
        Err(error) => panic!("{error}"),
    };
    diagnostics
        .iter()
        .map(|diagnostic| {
            format!(
                "{}:{}: {}: {}",
                diagnostic.line, diagnostic.column, diagnostic.code, diagnostic.message
            )
        })
        .collect()
}

const KEY: (&str, &str) = ("JWT_PUBLIC_KEY_FILE", "public.pem");

/// Enough variables that the shipped file gives no warning either.
const CLEAN: [(&str, &str); 4] = [
    KEY,
    ("GATEWAY_API_KEY", "0123456789abcdef0123"),
    ("SYMFONY_WEBHOOK_URL", "https://app.example/webhook"),
    ("SYMFONY_WEBHOOK_SECRET", "0123456789abcdef0123"),
];

/// What the fixtures need of the environment.
const FIXTURES: [(&str, &str); 3] = [
    ("ORDERING_STRATEGY", "banana"),
    ("SYMFONY_WEBHOOK_SECRET", "tiny-secret"),
    ("CHAT_API_KEY_FILE", "/nowhere/chat.key"),
];

#[test]
fn every_invalid_fixture_is_explained() {
    let overrides = overrides(&[], &FIXTURES);
    for file in files("tests/fixtures/invalid") {
        let mut out = Vec::new();
        let code = run_check(
            std::slice::from_ref(&file),
            None,
            Format::Text,
            true,
            &overrides,
            false,
            &mut out,
        )
        .expect("printed");
        let text = String::from_utf8(out).expect("UTF-8");
        assert_eq!(code, 1, "{} is valid:\n{text}", file.display());
        for secret in ["hunter2", "tiny-secret", "c2VjcmV0"] {
            assert!(!text.contains(secret), "a secret shows:\n{text}");
        }
        let name = file
            .file_stem()
            .expect("a name")
            .to_string_lossy()
            .into_owned();
        snapshot(&format!("check_{name}"), &text);
    }
}

#[test]
fn every_code_that_a_file_can_cause_has_a_fixture() {
    let overrides = overrides(&[], &FIXTURES);
    let mut seen = std::collections::BTreeSet::new();
    for file in files("tests/fixtures/invalid") {
        let (Ok(Loaded {
            warnings: diagnostics,
            ..
        })
        | Err(LoadError::Invalid(diagnostics))) = config::load(&file, &overrides)
        else {
            panic!("{} is unreadable", file.display());
        };
        seen.extend(diagnostics.iter().map(|diagnostic| diagnostic.code));
    }
    for code in &seen {
        assert!(
            codes::TABLE.iter().any(|row| row.name == *code),
            "{code} is not in the table"
        );
    }
    // These come from outside the file, and have tests of their own.
    let elsewhere = [
        "unreadable_file",
        "unknown_override",
        "override_missing_stage",
        "bad_override",
    ];
    let missing: Vec<_> = codes::TABLE
        .iter()
        .map(|row| row.name)
        .filter(|name| !seen.contains(name) && !elsewhere.contains(name))
        .filter(|name| !name.starts_with("symfony_"))
        .collect();
    assert_eq!(missing, Vec::<&str>::new(), "codes without a fixture");
}

#[test]
fn every_secret_of_the_shipped_files_can_stand_in_a_file_of_its_own() {
    let secrets = regex::Regex::new(r"\$\{([A-Z_]+(?:_DSN|_KEY|_SECRET|_URL))(?::-|\})").unwrap();
    let folder = tempfile::tempdir().unwrap();
    for file in files("pipelines") {
        let text = fs::read_to_string(&file).unwrap();
        let values: EnvVars = secrets
            .captures_iter(&text)
            .map(|found| {
                let value = match &found[1] {
                    name if name.starts_with("RABBITMQ") => {
                        "amqp://user:hunter2@broker.example/%2f"
                    }
                    name if name.ends_with("_DSN") => "redis://user:hunter2@broker.example:6379",
                    name if name.ends_with("_URL") => "https://app.example/path",
                    _ => "0123456789abcdef0123",
                };
                (found[1].to_owned(), value.to_owned())
            })
            .filter(|(name, _)| !["JWT_JWKS_URL", "REPLAY_RATE_LIMIT_KEY"].contains(&name.as_str()))
            // Some files are settings of their own.
            .filter(|(name, _)| !text.contains(&format!("${{{name}_FILE")))
            .collect();
        assert!(values.len() > 2, "{} names secrets", file.display());
        let hash = |mut env: EnvVars| {
            env.insert("JWT_PUBLIC_KEY_FILE".into(), "public.pem".into());
            let overrides = Overrides {
                sets: Vec::new(),
                env,
            };
            config::load(&file, &overrides)
                .unwrap_or_else(|error| panic!("{error}"))
                .hash
        };
        let in_files = values
            .iter()
            .map(|(name, value)| {
                let path = folder.path().join(name);
                fs::write(&path, format!("{value}\n")).unwrap();
                (format!("{name}_FILE"), path.display().to_string())
            })
            .collect();
        assert_eq!(hash(in_files), hash(values), "{}", file.display());
    }
}

#[test]
fn a_bad_variable_is_named() {
    let said = said(terminator(&overrides(
        &[],
        &[
            KEY,
            ("ORDERING_STRATEGY", "banana"),
            ("WS_RATE_LIMIT_BURST", "x"),
            ("PRESENCE_REFRESH_ON_MESSAGE", "maybe"),
        ],
    )));
    assert!(said.iter().any(|line| line.ends_with("`banana` is not one of `none`, `topic`, `subject` (from environment variable ORDERING_STRATEGY)")), "{said:#?}");
    assert!(said.iter().any(|line| line.ends_with("`stages.rate_limit.burst` expects a whole number, found `x` (from environment variable WS_RATE_LIMIT_BURST)")), "{said:#?}");
    assert!(
        said.iter()
            .any(|line| line
                .contains("`maybe` (from environment variable PRESENCE_REFRESH_ON_MESSAGE)")),
        "{said:#?}"
    );
}

#[test]
fn the_last_layer_wins() {
    let text = |listen: &str| {
        format!(
            "snoke_ws:\n  server: {{ api_key: 0123456789abcdef-x{listen} }}\n  stages: [ {{ fan_out: {{ events_mode: none }} }} ]\n"
        )
    };
    let load = |text: &str, sets: &[&str], pairs: &[(&str, &str)]| {
        let loaded = config::load_str("p.yaml", text, &overrides(sets, pairs)).expect("valid");
        (
            loaded.config.server.listen.clone(),
            loaded.origins.get("server.listen").cloned().expect("known"),
        )
    };
    let file = text(", listen: \"f:1\"");
    let variable = ("wsgw__Server__LISTEN", "e:1");
    assert_eq!(
        load(&text(""), &[], &[]),
        ("0.0.0.0:8000".into(), Origin::Default)
    );
    assert_eq!(
        load(&file, &[], &[]),
        (
            "f:1".into(),
            Origin::File {
                line: 2,
                column: 50
            }
        )
    );
    assert_eq!(
        load(&text(", listen: \"${L:-d:1}\""), &[], &[("L", "v:1")]),
        (
            "v:1".into(),
            Origin::Expanded {
                line: 2,
                column: 50,
                variables: vec!["L".into()]
            }
        )
    );
    assert_eq!(
        load(&file, &[], &[variable]),
        ("e:1".into(), Origin::Env("wsgw__Server__LISTEN".into()))
    );
    assert_eq!(
        load(&file, &["server.listen=s:1"], &[variable]),
        ("s:1".into(), Origin::Flag)
    );
    assert_eq!(
        load(&file, &["server.listen=s:1", "server.listen=s:2"], &[]),
        ("s:2".into(), Origin::Flag)
    );
}

#[test]
fn stages_are_addressed_by_name() {
    let loaded = terminator(&overrides(
        &[
            "stages.rate_limit.burst=7",
            "auth.require_exp=yes",
            "fan_out.events_mode=none",
            "server.allowed_origins=[https://a.example, https://b.example]",
        ],
        &[
            KEY,
            ("WSGW__RATE_LIMIT__PER_SECOND", "2.5"),
            ("WSGW__STAGES__ORDERING_KEY__STRATEGY", "topic"),
        ],
    ))
    .expect("valid");
    let json = serde_json::to_value(&loaded.config).expect("JSON");
    assert_eq!(json["stages"][2]["rate_limit"]["burst"], 7);
    assert_eq!(json["stages"][2]["rate_limit"]["per_second"], 2.5);
    assert_eq!(json["stages"][0]["auth"]["require_exp"], true);
    assert_eq!(json["stages"][3]["ordering_key"]["strategy"], "topic");
    assert_eq!(json["stages"][5]["fan_out"]["events_mode"], "none");
    assert_eq!(
        json["server"]["allowed_origins"],
        serde_json::json!(["https://a.example", "https://b.example"])
    );
    assert_eq!(
        loaded.origins.get("stages.rate_limit.burst"),
        Some(&Origin::Flag)
    );
    assert_eq!(
        loaded.origins.get("stages.rate_limit.per_second"),
        Some(&Origin::Env("WSGW__RATE_LIMIT__PER_SECOND".into()))
    );
}

#[test]
fn bad_overrides_are_named() {
    let text = "snoke_ws:\n  server:\n    api_key: 0123456789abcdef-x\n  stages:\n    - fan_out: { events_mode: none }\n";
    let load = |sets: &[&str], pairs: &[(&str, &str)]| match config::load_str(
        "p.yaml",
        text,
        &overrides(sets, pairs),
    ) {
        Err(LoadError::Invalid(diagnostics)) => diagnostics
            .iter()
            .filter(|diagnostic| diagnostic.severity == Severity::Error)
            .map(|diagnostic| {
                format!(
                    "{}:{} {} {} / {}",
                    diagnostic.line,
                    diagnostic.column,
                    diagnostic.code,
                    diagnostic.message,
                    diagnostic.hint.as_deref().unwrap_or("-")
                )
            })
            .collect::<Vec<_>>(),
        other => panic!("{other:?}"),
    };
    let said: Vec<_> = [
        load(&["server.lisen=x:1"], &[]),
        load(&[], &[("WSGW__SEVER__LISTEN", "x:1")]),
        load(&["rate_limit.burst=1"], &[]),
        load(&["stages.ratelimit.burst=1"], &[]),
        load(&["stages=[]"], &[]),
        load(&["server.listen"], &[]),
        load(&["snoke_ws.server.listen=x:1"], &[]),
        load(&["server.allowed_origins=[a"], &[]),
        load(&["server={listn: 1}"], &[]),
        load(&["server.max_connections=many"], &[]),
        load(&[], &[("WSGW__SERVER__LISTEN", "nowhere")]),
        load(&["server.api_key={a: 1}", "server=hunter2"], &[]),
    ]
    .concat();
    assert!(!said.concat().contains("hunter2"), "{said:#?}");
    snapshot("overrides", &said.join("\n"));
}

#[test]
fn the_hash_follows_secrets_but_never_shows_them() {
    let hash = |secret| {
        terminator(&overrides(&[], &[KEY, ("SYMFONY_WEBHOOK_SECRET", secret)]))
            .expect("valid")
            .hash
    };
    assert_eq!(hash("0123456789abcdef-1"), hash("0123456789abcdef-1"));
    assert_ne!(hash("0123456789abcdef-1"), hash("0123456789abcdef-2"));
}

#[test]
fn the_hash_leaves_out_what_tells_one_gateway_from_the_next() {
    let hash = |set: &[&str]| terminator(&overrides(set, &[KEY])).expect("valid").hash;
    let own = [
        "server.listen=127.0.0.1:1",
        "server.internal_listen=127.0.0.1:2",
        "server.node_id=gateway-7",
    ];
    assert_eq!(hash(&own), hash(&[]));
    assert_ne!(hash(&["server.max_connections=7"]), hash(&[]));
}

#[test]
fn explain_shows_brokers_but_not_their_passwords() {
    let mut pairs = CLEAN.to_vec();
    pairs.extend([
        (
            "REDIS_DSN",
            "redis://app:hunter2@redis:6379/0?sentinel_master=main&sentinel_password=hunter2",
        ),
        ("RABBITMQ_DSN", "amqp://app:hunter2@rabbit/%2f"),
        ("REPLAY_STRATEGY", "durable"),
        ("REPLAY_ARCHIVE_DSN", "postgres://app:hunter2@db/events"),
    ]);
    let mut out = Vec::new();
    let overrides = overrides(&[], &pairs);
    let file = Path::new("pipelines/both.yaml");
    let code = explain::run_explain(file, &overrides, false, &mut out).expect("printed");
    let text = String::from_utf8(out).expect("UTF-8");
    assert_eq!(code, 0, "{text}");
    assert!(!text.contains("hunter2"), "{text}");
    let values = text.find("\nvalues:").expect("a list of values");
    snapshot("explain_both", &text[..values]);
}

#[test]
fn explain_shows_routes_and_conditions_in_a_line() {
    let mut out = Vec::new();
    let mut pairs = CLEAN.to_vec();
    pairs.push(("REDIS_DSN", "redis://redis"));
    let file = Path::new("pipelines/routed.yaml");
    let code = explain::run_explain(file, &overrides(&[], &pairs), false, &mut out);
    let text = String::from_utf8(out).expect("UTF-8");
    assert_eq!(code.expect("printed"), 0, "{text}");
    let values = text.find("\nvalues:").expect("a list of values");
    snapshot("explain_routed", &text[..values]);
    let limit = |place, value| format!("stages[{place}].rate_limit.burst = {value}");
    for line in [limit(2, 4), limit(3, 20)] {
        assert!(text.contains(&line), "{line} in {text}");
    }
}

#[test]
fn a_stage_that_stands_twice_is_not_overridden() {
    let mut pairs = CLEAN.to_vec();
    pairs.push(("REDIS_DSN", "redis://redis"));
    let load = |sets: &[&str], pairs: &[(&str, &str)]| {
        said(config::load(
            Path::new("pipelines/routed.yaml"),
            &overrides(sets, pairs),
        ))
    };
    let refused = load(&["stages.rate_limit.burst=5"], &pairs);
    assert!(
        refused
            .iter()
            .any(|line| line.contains("bad_override: the file has several stages `rate_limit`")),
        "{refused:#?}"
    );
    assert_eq!(
        load(&["set.when.type=[a, b]", "trace.when.type=c,d"], &pairs),
        Vec::<String>::new()
    );
}

#[test]
fn explain_shows_everything_but_secrets() {
    let mut out = Vec::new();
    let mut pairs = CLEAN.to_vec();
    pairs.extend([
        ("WS_RATE_LIMIT_BURST", "50"),
        ("WSGW__SERVER__DRAIN_SECONDS", "3"),
    ]);
    let overrides = overrides(&["presence.ttl_seconds=60"], &pairs);
    let code = explain::run_explain(
        Path::new("pipelines/terminator.yaml"),
        &overrides,
        false,
        &mut out,
    )
    .expect("printed");
    let text = String::from_utf8(out).expect("UTF-8");
    assert_eq!(code, 0);
    assert!(!text.contains("0123456789abcdef0123"), "{text}");
    snapshot("explain_terminator", &text);
}

/// Compares a generated file, or writes it where `UPDATE_DOCS` asks for that.
fn assert_fresh(path: &str, generated: &str, refresh: &str) {
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(path, generated).expect("written");
    }
    let found = fs::read_to_string(path).unwrap_or_default();
    assert!(
        found == generated,
        "{path} is stale; refresh it with:\n\n    {refresh}\n"
    );
}

#[test]
fn generated_files_are_fresh() {
    let refresh = "UPDATE_DOCS=1 cargo test --test config";
    assert_fresh(
        "schemas/pipeline.schema.json",
        &schema::render(),
        "cargo run -- schema > schemas/pipeline.schema.json",
    );
    assert_fresh(
        "docs/configuration.md",
        &reference::render(&Shape::of_document()),
        refresh,
    );
    assert_fresh("docs/diagnostics.md", &codes::render(), refresh);
}

fn never_panics(text: &str) {
    let pairs = overrides(
        &["server.listen=a:1", "rate_limit.burst=3"],
        &[("WSGW__SERVER__PATH", "/x")],
    );
    if let Err(LoadError::Invalid(diagnostics)) = config::load_str("p.yaml", text, &pairs) {
        assert!(!diagnostics.is_empty());
        for diagnostic in diagnostics {
            assert!(diagnostic.line > 0 && diagnostic.column > 0);
            let _ = diagnostic.render(true);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(192) })]

    #[test]
    fn arbitrary_text_never_panics(text in any::<String>()) {
        never_panics(&text);
    }

    #[test]
    fn text_that_looks_like_yaml_never_panics(text in "(snoke_ws: ?\n)?([ \t]{0,5}[-a-z_]{0,9}:? ?[]\\[{}\"'|>&*!%@#$,:0-9.eé~-]{0,6}\r?\n){0,12}") {
        never_panics(&text);
    }

    #[test]
    fn mutated_pipelines_never_panic(from in 0usize..4000, length in 0usize..60, insert in "[ \t\n:{}\\[\\]\"'#$a-z0-9-]{0,8}") {
        let text = fs::read_to_string("pipelines/terminator.yaml").expect("readable");
        let mut characters: Vec<char> = text.chars().collect();
        let from = from.min(characters.len());
        let to = (from + length).min(characters.len());
        characters.splice(from..to, insert.chars());
        never_panics(&characters.into_iter().collect::<String>());
    }

    #[test]
    fn mutations_never_show_a_secret(from in 0usize..4000, length in 0usize..40, insert in "[ \t\n:{}\\[\\]'#$a-z0-9-]{0,8}") {
        let text = fs::read_to_string("pipelines/terminator.yaml").expect("readable");
        let text = text.replace("\"${GATEWAY_API_KEY:-}\"", "hunter2-hunter2");
        let secret = text.find("api_key:").expect("there");
        let mut characters: Vec<char> = text.chars().collect();
        let from = from.min(characters.len());
        let to = (from + length).min(characters.len());
        // The secret and its key stay whole; everything around may change.
        prop_assume!(to <= secret || from > secret + "api_key: hunter2-hunter2".len());
        characters.splice(from..to, insert.chars());
        let text: String = characters.into_iter().collect();
        if let Err(LoadError::Invalid(diagnostics)) = config::load_str("p.yaml", &text, &Overrides::default()) {
            for diagnostic in diagnostics {
                assert!(!diagnostic.to_string().contains("hunter2"), "{diagnostic}");
            }
        }
    }
}
