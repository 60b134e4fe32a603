//! `check --symfony`: the gateway's side against the Symfony bundle's, and what is said where they contradict.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "a test fails by panicking"
)]

use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use wsgw::cli::check::{Format, run_check};
use wsgw::config::{self, LoadError, Overrides, Symfony, codes};

const FIXTURES: &str = "tests/fixtures/symfony";

fn overrides(sets: &[&str]) -> Overrides {
    let env = [
        ("BUNDLE_MODE", "terminator"),
        ("BUNDLE_OTHER_MODE", "core"),
        ("BUNDLE_TRANSPORT", "http"),
        ("BUNDLE_INTERNAL", "internal"),
        ("BUNDLE_API_KEY", "hunter2-gateway-key"),
        ("BUNDLE_SECRET", " hunter2-webhook-secret\n"),
        ("BUNDLE_ON", "1"),
        ("BUNDLE_OFF", "off"),
        ("BUNDLE_EMPTY", ""),
    ];
    Overrides {
        sets: sets.iter().map(|set| (*set).to_owned()).collect(),
        env: env
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into(),
    }
}

/// The pipeline file that belongs to a fixture: the one of its name, else the plain one.
fn gateway(name: &str) -> PathBuf {
    let own = Path::new(FIXTURES)
        .join("gateway")
        .join(format!("{name}.yaml"));
    if own.exists() {
        own
    } else {
        Path::new(FIXTURES).join("gateway/terminator.yaml")
    }
}

fn fixtures() -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(FIXTURES)
        .expect("the folder exists")
        .map(|entry| entry.expect("readable").path())
        .filter(|path| path.is_file())
        .map(|path| {
            path.file_stem()
                .expect("a name")
                .to_string_lossy()
                .into_owned()
        })
        .collect();
    names.sort();
    names
}

fn check(name: &str, format: Format, deny_warnings: bool, sets: &[&str]) -> (u8, String) {
    let mut out = Vec::new();
    let code = run_check(
        &[gateway(name)],
        Some(&Path::new(FIXTURES).join(format!("{name}.yaml"))),
        format,
        deny_warnings,
        &overrides(sets),
        false,
        &mut out,
    )
    .expect("printed");
    let text = String::from_utf8(out).expect("UTF-8");
    assert!(!text.contains("hunter2"), "a secret shows:\n{text}");
    (code, text)
}

fn snapshot(name: &str, text: &str) {
    let mut settings = insta::Settings::clone_current();
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(name, text));
}

#[test]
fn every_contradiction_is_explained() {
    for name in fixtures() {
        let (code, text) = check(&name, Format::Text, false, &[]);
        let failed = text.contains("error[");
        assert_eq!(code, u8::from(failed), "{name}:\n{text}");
        snapshot(&format!("symfony_{name}"), &text);
    }
}

#[test]
fn sides_that_agree_or_cannot_be_known_cause_no_output() {
    for name in [
        "agrees",
        "agrees_by_variables",
        "unknown_values",
        "all_defaults",
    ] {
        let (code, text) = check(name, Format::Text, true, &[]);
        assert_eq!(
            (code, text.as_str()),
            (0, "tests/fixtures/symfony/gateway/terminator.yaml: ok\n"),
            "{name}"
        );
        assert_eq!(check(name, Format::Json, true, &[]), (0, "[]\n".into()));
    }
}

#[test]
fn every_code_of_the_comparison_has_a_fixture() {
    let all: String = fixtures()
        .iter()
        .map(|name| check(name, Format::Text, false, &[]).1)
        .collect();
    for code in codes::TABLE {
        assert!(
            !code.name.starts_with("symfony_") || all.contains(&format!("[{}]", code.name)),
            "{} has no fixture",
            code.name
        );
    }
}

#[test]
fn warnings_count_only_when_denied() {
    let sets = ["tracing.trace_id_field=other"];
    assert_eq!(check("agrees", Format::Text, false, &sets).0, 0);
    assert_eq!(check("agrees", Format::Text, true, &sets).0, 1);
}

#[test]
fn the_hint_names_what_overrides_the_pipeline() {
    let (_, text) = check("agrees", Format::Text, false, &["subjects.user_prefix=u:"]);
    assert!(
        text.contains("`subjects.user_prefix` (set by --set)"),
        "{text}"
    );
}

#[test]
fn problems_are_json_with_places_in_the_bundles_file() {
    let (code, text) = check("everything_differs", Format::Json, false, &[]);
    let list: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(code, 1);
    assert_eq!(
        list[0]["file"],
        "tests/fixtures/symfony/everything_differs.yaml"
    );
    assert_eq!(list[0]["code"], "symfony_mode");
    assert_eq!(list[0]["line"], 2);
    assert_eq!(list[0]["column"], 3);
}

#[test]
fn every_pipeline_is_compared() {
    let mut out = Vec::new();
    let code = run_check(
        &[gateway("agrees"), gateway("internal_port")],
        Some(&Path::new(FIXTURES).join("internal_port.yaml")),
        Format::Text,
        true,
        &overrides(&[]),
        false,
        &mut out,
    )
    .expect("printed");
    let text = String::from_utf8(out).expect("UTF-8");
    assert_eq!(code, 1);
    assert!(text.starts_with("tests/fixtures/symfony/gateway/terminator.yaml: ok\ntests/fixtures/symfony/gateway/internal_port.yaml: ok\n"), "{text}");
    assert!(text.contains("warning[symfony_base_url]"), "{text}");
}

#[test]
fn an_unreadable_file_exits_with_2_and_the_pipeline_is_still_checked() {
    let (code, text) = check("no/such", Format::Text, false, &[]);
    assert_eq!(code, 2);
    assert!(
        text.contains("error[unreadable_file]: the file cannot be read: there is no such file"),
        "{text}"
    );
    assert!(text.ends_with("gateway/terminator.yaml: ok\n"), "{text}");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn mutated_files_never_panic_or_show_a_secret(from in 0usize..1000, length in 0usize..40, insert in "[ \t\n:{}\\[\\]'#%$a-z0-9-]{0,8}") {
        let text = fs::read_to_string(format!("{FIXTURES}/everything_differs.yaml")).expect("readable");
        let mut characters: Vec<char> = text.chars().collect();
        let from = from.min(characters.len());
        let to = (from + length).min(characters.len());
        // The secrets and their keys stay whole; everything around may change.
        for secret in ["api_key: hunter2-other-key", "secret: hunter2-other-secret"] {
            let at = text.find(secret).expect("there");
            prop_assume!(to <= at || from > at + secret.len());
        }
        characters.splice(from..to, insert.chars());
        let overrides = overrides(&[]);
        let gateway = config::load(&gateway("plain"), &overrides).expect("valid");
        let found = match Symfony::parse("s.yaml", characters.into_iter().collect(), &overrides.env) {
            Ok(symfony) => symfony.compare("p.yaml", &gateway),
            Err(LoadError::Invalid(found)) => found,
            Err(error) => panic!("{error}"),
        };
        for diagnostic in found {
            prop_assert!(!diagnostic.render(true).contains("hunter2"), "{diagnostic}");
        }
    }
}
