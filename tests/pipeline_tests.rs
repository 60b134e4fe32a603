//! `wsgw test` as a user meets it: what passes, what fails and how that is told; and the tests of the shipped pipelines.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use support::gateway::{run, run_in};
use support::in_crate;
use wsgw::config::cases::{Case, load_cases};
use wsgw::config::{Config, Overrides};
use wsgw::stages::StageConfig;
use wsgw::stages::fan_out::{AckMode, EventsMode, FanOutConfig};
use wsgw::trial;

fn shipped() -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(in_crate("pipelines"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    assert!(files.len() >= 6);
    files
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[track_caller]
fn assert_code(output: &Output, code: i32) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    let stdout = stdout(output);
    assert_eq!(output.status.code(), Some(code), "{stdout}{stderr}");
}

/// A folder with files in it.
fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        fs::write(folder.path().join(name), text).unwrap();
    }
    folder
}

/// Runs `wsgw test` with a file of the folder; what it prints, without the folder's path.
fn wsgw_test(folder: &tempfile::TempDir, args: &[&str], env: &[(&str, &str)]) -> (Output, String) {
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let args: Vec<String> = std::iter::once("test".to_owned())
        .chain(args.iter().map(|arg| {
            if Path::new(arg).extension().is_some_and(|end| end == "yaml") {
                path(arg)
            } else {
                (*arg).to_owned()
            }
        }))
        .collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let output = run(&args, env);
    let text = stdout(&output).replace(&format!("{}/", folder.path().display()), "");
    (output, text)
}

/// The text without what differs from run to run: ids and durations.
fn normal(text: &str) -> String {
    let is_id = |word: &str| uuid::Uuid::try_parse(word).is_ok();
    let words = text.split_inclusive(|c: char| !c.is_ascii_alphanumeric() && c != '-');
    let words = words.map(|word| {
        let id = word.get(..36).filter(|id| is_id(id));
        id.map_or_else(|| word.to_owned(), |id| word.replace(id, "<uuid>"))
    });
    let text = words.collect::<String>();
    let mut parts = text.split(" time=\"");
    let first = parts.next().unwrap().to_owned();
    parts.fold(first, |text, part| {
        format!(
            "{text} time=\"…{}",
            part.trim_start_matches(|c: char| c == '.' || c.is_ascii_digit())
        )
    })
}

fn snapshot(name: &str, text: &str) {
    let mut settings = insta::Settings::clone_current();
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(name, normal(text)));
}

const PIPELINE: &str = "snoke_ws:
  stages:
    - auth: { jwt: { public_key_file: \"${JWT_PUBLIC_KEY_FILE:-}\" } }
    - ping_filter: {}
    - rate_limit: { per_second: 10, burst: \"${BURST:-3}\" }
    - fan_out: { events_mode: none }
";

/// The pipeline with tests.
fn with(tests: &str) -> String {
    format!("{PIPELINE}tests:\n{tests}")
}

#[test]
fn the_shipped_pipelines_pass_their_tests() {
    let files = shipped();
    let mut args = vec!["test"];
    args.extend(files.iter().map(|file| file.to_str().unwrap()));
    let output = run_in(&in_crate(""), &args, &[]);
    assert_code(&output, 0);
    let text = stdout(&output);
    let passed = text.lines().filter(|line| line.starts_with("ok ")).count();
    assert!(passed >= 4 * files.len(), "{text}");
    assert!(text.starts_with(&format!("TAP version 14\n1..{passed}\n")));
    assert!(text.ends_with(&format!("# {passed} passed, 0 failed\n")));
}

/// Every way in which the settings could lack something that they have: a stage, its condition, a route, answers.
fn lacks(config: &Config) -> Vec<(String, Config)> {
    let mut lacks = Vec::new();
    let mut lack = |what: String, change: &dyn Fn(&mut Config)| {
        let mut changed = config.clone();
        change(&mut changed);
        lacks.push((what, changed));
    };
    for (index, stage) in config.stages.iter().enumerate() {
        let name = format!("stages[{index}], `{}`", stage.name());
        let StageConfig::FanOut(fan_out) = stage else {
            lack(name.clone(), &|config| drop(config.stages.remove(index)));
            if stage.settings().when().is_some() {
                let mut bare = serde_json::to_value(stage).unwrap();
                bare[stage.name()].as_object_mut().unwrap().remove("when");
                let bare: StageConfig = serde_json::from_value(bare).unwrap();
                assert!(bare.settings().when().is_none());
                lack(format!("{name}: `when`"), &|config| {
                    config.stages[index] = bare.clone();
                });
            }
            continue;
        };
        // Without the stage itself nothing can be compiled.
        let mut less = |what: String, change: &dyn Fn(&mut FanOutConfig)| {
            lack(format!("{name}: {what}"), &|config| {
                let StageConfig::FanOut(fan_out) = &mut config.stages[index] else {
                    unreachable!();
                };
                change(fan_out);
            });
        };
        less("sinks".into(), &|fan_out| {
            fan_out.events_mode = Some(EventsMode::None);
        });
        for (index, route) in fan_out.routes.iter().enumerate() {
            let route_of = format!("routes[{index}]");
            less(route_of.clone(), &|fan_out| {
                drop(fan_out.routes.remove(index));
            });
            for place in 0..route.to.as_ref().unwrap().len() {
                less(format!("{route_of}.to[{place}]"), &|fan_out| {
                    drop(fan_out.routes[index].to.as_mut().unwrap().remove(place));
                });
            }
        }
        if fan_out.ack != AckMode::None {
            less("`ack`".into(), &|fan_out| fan_out.ack = AckMode::None);
        }
        if fan_out.ack == AckMode::All {
            less("`ack: all`".into(), &|fan_out| fan_out.ack = AckMode::Any);
        }
    }
    lacks
}

/// A part that no test misses is one that no test is about.
#[test]
fn every_part_of_a_shipped_pipeline_is_missed_by_a_test_of_it() {
    let mut parts = 0;
    for file in shipped() {
        let cases = load_cases(&file).unwrap();
        let prepare = |case: &Case| {
            trial::prepare(case, &file, &Overrides::default())
                .unwrap_or_else(|failure| panic!("{failure:?}"))
        };
        let mut missed = BTreeMap::<String, bool>::new();
        for case in &cases {
            let mut prepared = prepare(case);
            let passed = trial::run(case, &prepared).is_ok();
            assert!(passed, "{}: {}", file.display(), case.name);
            for (part, without) in lacks(prepared.config()) {
                let missed = missed.entry(part).or_default();
                if !*missed {
                    *prepared.config_mut() = without;
                    *missed = trial::run(case, &prepared).is_err();
                }
            }
        }
        parts += missed.len();
        let unmissed: Vec<_> = missed.iter().filter(|(_, missed)| !**missed).collect();
        assert!(
            unmissed.is_empty(),
            "{}: all tests still pass without each of {unmissed:?}",
            file.display()
        );
    }
    assert!(parts >= 50, "{parts} parts");
}

#[test]
fn nothing_is_connected_to_and_nothing_is_written() {
    let far = TcpListener::bind("127.0.0.1:0").unwrap();
    far.set_nonblocking(true).unwrap();
    let address = far.local_addr().unwrap();
    let shipped = fs::read_to_string(in_crate("pipelines/both.yaml")).unwrap();
    let settings = shipped.split("\ntests:\n").next().unwrap();
    let test = format!(
        "tests:
  - name: all of it
    env:
      REDIS_DSN: redis://{address}
      RABBITMQ_DSN: amqp://{address}
      SYMFONY_WEBHOOK_URL: http://{address}/
      JWT_JWKS_URL: http://{address}/keys
      REPLAY_STRATEGY: durable
      REPLAY_RATE_LIMIT_STRATEGY: redis
    steps:
      - send: {{ type: chat }}
        expect: {{ published: {{ message: {{ type: chat }} }}, to: [redis, rabbitmq, webhook] }}
      - down: webhook
      - send: {{ type: chat }}
        expect: {{ published: {{}}, to: [redis, rabbitmq] }}
      - advance: 10m
        expect: {{ dead_letter: {{}} }}
"
    );
    let folder = folder(&[("p.yaml", settings), ("p.test.yaml", &test)]);
    let directory = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_wsgw"))
        .arg("test")
        .arg(folder.path().join("p.yaml"))
        .env_clear()
        .current_dir(directory.path())
        .output()
        .unwrap();
    assert_code(&output, 0);
    let called = far.accept().map(|(_, peer)| peer);
    assert_eq!(called.unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
}

const FAILING: &str = "  - name: 'an event differs # in \\ two places'
    steps:
      - send: { type: chat, n: 1.0, who: { id: 7 } }
        expect:
          published: { message: { n: 1, who: { id: \"7\" } }, seq: 2 }
  - name: no reply comes
    steps:
      - send: { type: chat }
        expect: { reply: { type: pong } }
  - name: something is left over
    steps:
      - send: { type: ping }
        times: 2
        expect: { reply: { type: pong } }
  - name: one too many
    steps:
      - send: { type: chat }
        times: 4
        expect: { published: {}, times: 4 }
  - name: the wrong code
    anonymous: true
    steps:
      - expect: { refused: 4403 }
  - name: a refused client cannot send
    anonymous: true
    steps:
      - send: { type: chat }
  - name: nobody was refused
    steps:
      - expect: { refused: 4401 }
  - name: another sink
    steps:
      - send: \"<a> & \\\"b\\\"\"
        expect: { published: {}, to: redis }
  - name: an unknown sink
    steps:
      - down: redis
  - name: the pipeline is not valid then
    env: { BURST: many }
    steps: []
  - name: this one passes
    steps:
      - send: { type: ping }
        expect: [{ reply: { type: pong } }, nothing]
";

#[test]
fn failures_say_where_and_how() {
    let folder = folder(&[("p.yaml", &with(FAILING))]);
    let (output, text) = wsgw_test(&folder, &["p.yaml"], &[]);
    assert_code(&output, 1);
    snapshot("test_failures_tap", &text);
    let (output, text) = wsgw_test(&folder, &["--format", "junit", "p.yaml"], &[]);
    assert_code(&output, 1);
    snapshot("test_failures_junit", &text);
}

#[test]
fn malformed_tests_are_told_as_check_tells_them() {
    let file = in_crate("tests/fixtures/invalid/bad_tests.yaml");
    let output = run(&["test", file.to_str().unwrap()], &[]);
    assert_code(&output, 1);
    let text = stdout(&output);
    for place in [
        ":7:5: ", ":9:9: ", ":10:17: ", ":11:48: ", ":12:5: ", ":16:18: ",
    ] {
        let line = format!("{}{place}error[bad_case]: ", file.display());
        assert!(text.contains(&line), "{line}\n{text}");
    }
    assert!(text.contains("did you mean `claims`?") && text.contains("did you mean `send`?"));
    assert!(!text.contains("hunter2"), "a secret shows:\n{text}");
    let check = run(&["check", file.to_str().unwrap()], &[]);
    assert_code(&check, 0);
    assert!(stdout(&check).contains(":7:5: warning[bad_case]: "));
}

#[test]
fn the_environment_counts_only_if_asked_for() {
    let one_too_many = "  - name: burst\n    steps:
      - send: { type: chat }\n        times: 4\n        expect: { published: {}, times: 4 }\n";
    let own = one_too_many.replace("burst\n", "own burst\n    env: { BURST: \"4\" }\n");
    let folder = folder(&[("p.yaml", &with(&format!("{one_too_many}{own}")))]);
    let env = [("BURST", "4"), ("WSGW__SERVER__PATH", "nonsense")];
    let (output, text) = wsgw_test(&folder, &["p.yaml"], &env);
    assert_code(&output, 1);
    assert!(
        text.contains("\nnot ok 1 - burst\n") && text.contains("\nok 2 - own burst\n"),
        "{text}"
    );
    let (output, _) = wsgw_test(&folder, &["--env", "p.yaml"], &env[..1]);
    assert_code(&output, 0);
    let (output, _) = wsgw_test(&folder, &["--set", "rate_limit.burst=4", "p.yaml"], &[]);
    assert_code(&output, 0);
}

#[test]
fn tests_may_stand_beside_the_pipeline() {
    let ping = |name: &str| {
        format!(
            "  - name: {name}\n    steps:\n      - send: {{ type: ping }}\n        \
             expect: {{ reply: {{ type: pong }} }}\n"
        )
    };
    let beside = format!("tests:\n{}", ping("beside"));
    let folder = folder(&[
        ("p.yaml", &with(&ping("inside"))),
        ("p.test.yaml", &beside),
        ("lone.test.yaml", &beside),
    ]);
    let (output, text) = wsgw_test(&folder, &["p.test.yaml"], &[]);
    assert_code(&output, 0);
    assert_eq!(
        text,
        "TAP version 14\n1..1\n# p.test.yaml\nok 1 - beside\n# 1 passed, 0 failed\n"
    );
    let (output, text) = wsgw_test(&folder, &["p.test.yaml", "p.yaml"], &[]);
    assert_code(&output, 0);
    assert!(
        text.contains("\n# 2 passed, 0 failed\n"),
        "each once: {text}"
    );
    let (output, text) = wsgw_test(&folder, &["lone.test.yaml"], &[]);
    assert_code(&output, 2);
    assert!(
        text.contains("lone.yaml that the tests are about cannot be read"),
        "{text}"
    );
    let path = folder.path().join("p.test.yaml");
    assert_code(&run(&["check", path.to_str().unwrap()], &[]), 0);
}

#[test]
fn a_file_without_tests_is_a_failure_unless_it_is_meant() {
    let folder = folder(&[("p.yaml", PIPELINE), ("q.yaml", &with("  []\n"))]);
    for file in ["p.yaml", "q.yaml"] {
        let (output, text) = wsgw_test(&folder, &[file], &[]);
        assert_code(&output, 1);
        assert!(text.contains("the file has no tests"), "{text}");
        let (output, text) = wsgw_test(&folder, &["--allow-empty", file], &[]);
        assert_code(&output, 0);
        assert!(text.contains("1..0\n"), "{text}");
    }
}

#[test]
fn only_wanted_tests_run() {
    let folder = folder(&[("p.yaml", &with(FAILING))]);
    let (output, text) = wsgw_test(&folder, &["--filter", "passes", "p.yaml"], &[]);
    assert_code(&output, 0);
    assert!(
        text.contains("1..1\n") && text.contains("ok 1 - this one passes"),
        "{text}"
    );
    let (output, _) = wsgw_test(&folder, &["--filter", "no such", "p.yaml"], &[]);
    assert_code(&output, 2);
}

/// Paths in a pipeline begin where the command was started, as those of `wsgw run`.
#[test]
fn what_is_missing_where_it_was_started_is_said() {
    let file = in_crate("pipelines/acknowledged.yaml");
    let args = ["test", file.to_str().unwrap()];
    let elsewhere = tempfile::tempdir().unwrap();
    let output = run_in(elsewhere.path(), &args, &[]);
    assert_code(&output, 1);
    let missing = elsewhere.path().canonicalize().unwrap();
    let missing = missing.join("schemas/messages");
    let said = format!(
        "the pipeline cannot be compiled: `stages.validate.schemas` cannot be used: \
         `schemas/messages`, which is `{}` here, cannot be read: ",
        missing.display()
    );
    assert!(stdout(&output).contains(&said), "{}", stdout(&output));
    fs::create_dir_all(&missing).unwrap();
    fs::copy(
        in_crate("schemas/messages/chat.json"),
        missing.join("chat.json"),
    )
    .unwrap();
    assert_code(&run_in(elsewhere.path(), &args, &[]), 0);
}

#[test]
fn unreadable_files_and_usage_exit_with_2() {
    let output = run(&["test", "no/such.yaml"], &[]);
    assert_code(&output, 2);
    assert!(stdout(&output).contains("not ok 1 - no/such.yaml"));
    assert_code(&run(&["test"], &[]), 2);
}
