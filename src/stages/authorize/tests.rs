use super::*;
use crate::message::FieldSet;
use crate::stages::testing::Inner;
use crate::telemetry::metrics::Metrics;

const CLAIMS: &str =
    r#"{"user_id":"42","tenant":"acme","topics":["news:*","one",5,{"x":1}],"single":"s:*"}"#;

fn rule(field: &str, allow: &[&str], allow_claim: &str) -> AuthorizeRule {
    AuthorizeRule {
        field: field.into(),
        allow: allow.iter().map(|pattern| (*pattern).into()).collect(),
        allow_claim: allow_claim.into(),
    }
}

struct Bench {
    new: NewAuthorize<Inner>,
    fields: FieldSet,
    session: Arc<Session>,
}

impl Bench {
    fn new(rules: &[AuthorizeRule], on_missing: Unchecked, close_after: u32) -> Self {
        let mut fields = FieldSet::default();
        let rules = rules
            .iter()
            .map(|rule| Rule::compile(rule, &mut fields).unwrap())
            .collect();
        let session = Session::for_tests("42", &[]);
        session.set_claims(Some(CLAIMS.into()));
        let settings = Arc::new(Settings {
            rules,
            on_missing,
            close_after,
            identity: None,
            forbidden: Metrics::new().unwrap().forbidden_messages_total,
        });
        Self {
            new: AuthorizeLayer { settings }.layer(Inner::publishes()),
            fields,
            session,
        }
    }

    fn stage(&self) -> Authorize<Inner> {
        self.new.new_service(Arc::clone(&self.session))
    }

    async fn passes(&self, stage: &mut Authorize<Inner>, text: &str) -> bool {
        match stage.call(Message::text(text, &self.fields)).await {
            Ok(_) => true,
            Err(error) => {
                let forbidden = error.downcast_ref::<Forbidden>().unwrap();
                assert!(matches!(forbidden, Forbidden::Reply { field } if **field == *"\"topic\""));
                false
            }
        }
    }
}

#[tokio::test]
async fn every_name_at_every_place_must_be_allowed() {
    let rules = [rule(
        "topic",
        &["room:{user_id}:*", "{claim:/tenant}"],
        "/topics",
    )];
    let bench = Bench::new(&rules, Unchecked::Pass, 0);
    let mut stage = bench.stage();
    for (text, passes) in [
        (r#"{"topic":"room:42:a"}"#, true),
        (r#"{"topic":"room:43:a"}"#, false),
        (r#"{"topic":"acme"}"#, true),
        (r#"{"topic":"news:today"}"#, true),
        (r#"{"topic":"one"}"#, true),
        (r#"{"topic":"onetwo"}"#, false),
        (r#"{"topic":5}"#, true),
        (r#"{"topic":6}"#, false),
        (r#"{"topic":["one","news:x"]}"#, true),
        (r#"{"topic":["one","two"]}"#, false),
        (r#"{"topic":["one",["one"]]}"#, false),
        (r#"{"topic":["one",null]}"#, false),
        (r#"{"topic":{"a":"one"}}"#, false),
        (r#"{"topic":true}"#, false),
        (r#"{"topic":"r\u006fom:42:a"}"#, true),
        (r#"{"topic":"one","meta":{"topic":"two"}}"#, false),
        (r#"{"meta":{"topic":"two"}}"#, false),
        (r#"{"meta":{"topic":"one"}}"#, true),
        (r#"{"topic":"two","topic":"one"}"#, true),
        (r#"{"topic":"one","top\u0069c":"two"}"#, false),
        (r#"{"topic":" one"}"#, false),
        (r#"{"topic":null}"#, true),
        (r#"{"topic":""}"#, true),
        (r#"{"topic":[]}"#, true),
        ("{}", true),
        ("plain", true),
    ] {
        assert_eq!(bench.passes(&mut stage, text).await, passes, "{text}");
    }
}

#[tokio::test]
async fn a_message_that_names_nothing_is_refused_if_asked() {
    let bench = Bench::new(&[rule("topic", &["*"], "")], Unchecked::Reject, 0);
    let mut stage = bench.stage();
    for text in [
        "{}",
        "plain",
        r#"{"topic":null}"#,
        r#"{"topic":""}"#,
        r#"{"topic":[]}"#,
    ] {
        assert!(!bench.passes(&mut stage, text).await, "{text}");
    }
    assert!(bench.passes(&mut stage, r#"{"topic":"a"}"#).await);
    assert!(stage.call(Message::binary(&[1])).await.is_err());
    assert_eq!(stage.inner.calls(), 1);
    stage.call(Message::connected()).await.unwrap();
    stage.call(Message::disconnected(1000, "")).await.unwrap();
}

#[tokio::test]
async fn a_user_called_star_is_not_everybody() {
    let mut bench = Bench::new(
        &[rule("topic", &["room:{user_id}"], "")],
        Unchecked::Pass,
        0,
    );
    bench.session = Session::for_tests("*", &[]);
    let mut stage = bench.stage();
    assert!(!bench.passes(&mut stage, r#"{"topic":"room:42"}"#).await);
    assert!(bench.passes(&mut stage, r#"{"topic":"room:*"}"#).await);
}

#[tokio::test]
async fn a_renewed_token_changes_what_is_allowed() {
    let bench = Bench::new(
        &[rule("topic", &["{claim:/tenant}:*"], "/single")],
        Unchecked::Pass,
        0,
    );
    let mut stage = bench.stage();
    assert!(bench.passes(&mut stage, r#"{"topic":"acme:1"}"#).await);
    assert!(bench.passes(&mut stage, r#"{"topic":"s:1"}"#).await);
    bench
        .session
        .set_claims(Some(r#"{"tenant":"other"}"#.into()));
    assert!(!bench.passes(&mut stage, r#"{"topic":"acme:1"}"#).await);
    assert!(!bench.passes(&mut stage, r#"{"topic":"s:1"}"#).await);
    assert!(bench.passes(&mut stage, r#"{"topic":"other:1"}"#).await);
    bench.session.set_claims(None);
    assert!(!bench.passes(&mut stage, r#"{"topic":"other:1"}"#).await);
}

#[tokio::test]
async fn closes_after_so_many_even_over_a_reload() {
    let bench = Bench::new(&[rule("topic", &["a"], "")], Unchecked::Pass, 3);
    let mut stage = bench.stage();
    let bad = r#"{"topic":"b"}"#;
    assert!(!bench.passes(&mut stage, bad).await);
    assert!(bench.passes(&mut stage, r#"{"topic":"a"}"#).await);
    assert!(!bench.passes(&mut stage, bad).await);
    let mut new = bench.stage();
    let error = new
        .call(Message::text(bad, &bench.fields))
        .await
        .unwrap_err();
    assert!(matches!(error.downcast_ref(), Some(Forbidden::Close)));
    assert_eq!(new.settings.forbidden.get(), 3);
}

#[tokio::test]
async fn errors_below_pass_through() {
    let bench = Bench::new(&[rule("topic", &["a"], "")], Unchecked::Pass, 0);
    let mut stage = bench.stage();
    stage.inner = Inner::fails();
    let error = stage
        .call(Message::text("{}", &bench.fields))
        .await
        .unwrap_err();
    assert_eq!(error.to_string(), "inner error");
}

#[test]
fn rules_that_cannot_be_are_found() {
    for (rule, key, fault) in [
        (rule(" ", &["a"], ""), "field", "names no field"),
        (
            rule("a", &["a", "{b}"], ""),
            "allow.1",
            "has a brace that belongs to no placeholder",
        ),
        (
            rule("a", &[], "topics"),
            "allow_claim",
            "names a claim by a pointer that does not begin with `/`",
        ),
        (
            rule("a", &["{claim:b}"], ""),
            "allow.0",
            "names a claim by a pointer that does not begin with `/`",
        ),
        (rule("a", &[], ""), "allow", "allows nothing"),
    ] {
        assert_eq!(rule.fault(), Some((key.into(), fault.into())));
    }
    assert_eq!(rule("a", &["{claim:/b}"], "").fault(), None);
}
