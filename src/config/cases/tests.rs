use super::*;

fn read(text: &str) -> (Vec<Case>, Vec<String>) {
    let root = yaml::parse(text).root.expect("YAML");
    let mut problems = Vec::new();
    let cases = read::cases(
        "p.yaml",
        &root.entry(KEY).expect("tests").node,
        &mut problems,
    );
    let problems = problems
        .iter()
        .map(|problem| {
            format!(
                "{}:{}: {}",
                problem.at.line, problem.at.column, problem.message
            )
        })
        .collect();
    (cases, problems)
}

fn steps(steps: &str) -> (Vec<Step>, Vec<String>) {
    let (mut cases, problems) = read(&format!("tests:\n- name: a\n  steps:\n  {steps}\n"));
    (cases.remove(0).steps, problems)
}

#[test]
fn messages_are_sent_as_they_are_written() {
    let (steps, problems) = steps(
        r#"- send: { n: 1.10, big: 12345678901234567890123, t: "x\"y", l: [1, null, true] }
  - send: "[1]"
  - send: { binary: AAH+/w== }"#,
    );
    assert_eq!(problems, Vec::<String>::new());
    let actions: Vec<_> = steps.into_iter().filter_map(|step| step.action).collect();
    let sent = r#"{"n":1.10,"big":12345678901234567890123,"t":"x\"y","l":[1,null,true]}"#;
    assert_eq!(
        actions,
        [
            Action::Send(sent.into()),
            Action::Send("[1]".into()),
            Action::SendBinary(vec![0, 1, 254, 255]),
        ]
    );
}

#[test]
fn times_have_units() {
    for (text, ms) in [
        ("500ms", 500),
        ("1s", 1000),
        ("1.5s", 1500),
        ("2h", 7_200_000),
    ] {
        let (steps, _) = steps(&format!("- advance: {text}"));
        let advance = Action::Advance(Duration::from_millis(ms));
        assert_eq!(steps[0].action, Some(advance), "{text}");
    }
    for text in ["1", "s", "-1s", "1w", "1e9d", "inf s", "'1 s'"] {
        let (_, problems) = steps(&format!("- advance: {text}"));
        assert_eq!(problems.len(), 1, "{text}: {problems:?}");
    }
}

#[test]
fn claims_count_from_now_where_they_are_times() {
    let (cases, problems) = read(
        "tests:\n- name: a\n  claims: { sub: +60s, exp: +60s, nbf: -5m, iat: 7 }\n  steps: []\n",
    );
    assert_eq!(problems, Vec::<String>::new());
    let claim = |name: &str, claim| (name.to_owned(), claim);
    let claims = vec![
        claim("sub", Claim::Is("+60s".into())),
        claim("exp", Claim::In(60_000)),
        claim("nbf", Claim::In(-300_000)),
        claim("iat", Claim::Is(7.into())),
    ];
    let forged = false;
    assert_eq!(cases[0].who, Who::Claims { claims, forged });
}

#[test]
fn matchers_match() {
    let (steps, problems) =
        steps(r"- expect: { reply: { a: { $matches: '^\d+é$' }, b: { $exists: false } } }");
    assert_eq!(problems, Vec::<String>::new());
    let Wanted::Reply(reply) = &steps[0].expect[0].wanted else {
        panic!("a reply");
    };
    let Want::Map(map) = &reply.want else {
        panic!("a map");
    };
    let Want::Matches(pattern) = &map[0].1.want else {
        panic!("a pattern");
    };
    assert!(pattern.is_in("12é") && !pattern.is_in("12") && !pattern.is_in("x1é"));
    assert!(matches!(map[1].1.want, Want::Exists(false)));
}

#[test]
fn every_mistake_is_reported_where_it_is() {
    let (_, problems) = read(
        "tests:
- nam: a
  steps:
  - sned: {}
  - send: {}
    advance: 1s
  - expect: { reply: {}, close: 1000 }
  - expect: { published: {}, strem: x }
  - expect: { reply: { $matches: '(' } }
  - close: 1006
  - {}
- name: b
  claims: {}
  anonymous: true
  at: tomorrow
  steps: {}
- name: b
  steps:
  - expect: { close: x }
  - send: { n: 0x1f }
    times: 0
",
    );
    let expected = [
        "2:3: a test has no key `nam`",
        "4:5: a step has no key `sned`",
        "4:5: a step must do or expect something",
        "6:5: one step does two things, `send` and `advance`",
        "7:26: `expect` needs exactly one of the things that can happen",
        "8:30: what is expected of `published` has no key `strem`",
        "9:34: `$matches` expects a regular expression, and this is none",
        "10:12: a client cannot send this close code or reason",
        "2:3: a test needs a name",
        "15:7: `at` expects a moment as RFC 3339 writes it",
        "16:10: `steps` expects a list",
        "14:3: `claims` and `anonymous` exclude each other",
        "19:22: `close` expects a code",
        "21:12: `times` expects a whole number from 1 to 100000",
        "20:16: JSON cannot have a number that is written like this",
        "17:3: a second test is called `b`; the first is on line 12",
    ];
    assert_eq!(problems, expected);
}

#[test]
fn files_of_tests_know_their_pipeline() {
    let path = |text: &str| Some(PathBuf::from(text));
    assert_eq!(pipeline_of(Path::new("a/b.test.yaml")), path("a/b.yaml"));
    assert_eq!(pipeline_of(Path::new("a/b.yaml")), None);
    assert_eq!(beside(Path::new("a/b.yaml")), path("a/b.test.yaml"));
    assert_eq!(beside(Path::new("a/b.test.yaml")), None);
}

#[test]
fn the_schema_is_json_and_names_every_key() {
    let text = schema().to_string();
    assert!(text.len() > 100, "it is read");
    for key in ["forged", "dead_letter", "routing_key", "disconnect"] {
        assert!(text.contains(&format!("\"{key}\":")), "{key}");
    }
}
