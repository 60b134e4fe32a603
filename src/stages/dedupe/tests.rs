use super::*;
use crate::config::BackpressureConfig;
use crate::message::FieldSet;
use crate::outbox::OutboxLimits;
use crate::stages::fan_out::AckMode;
use crate::stages::testing::Kept;
use crate::telemetry::metrics::Metrics;

struct Bench {
    new: NewDedupe<Kept>,
    fields: FieldSet,
    below: Kept,
    limits: OutboxLimits,
}

impl Bench {
    fn with(ack: AckMode, config: &DedupeConfig) -> Self {
        let (mut fields, metrics) = (FieldSet::default(), Metrics::new().unwrap());
        let below = Kept::default();
        let duplicate = |first| metrics.duplicate_messages_total.with_label_values(&[first]);
        let settings = Settings {
            acks: Arc::new(Acks::new(ack, &mut fields, &metrics).unwrap()),
            id: fields.want(&config.id_field).unwrap(),
            bounds: Bounds {
                window: Duration::from_secs(config.window_seconds),
                of_a_user: config.max_ids_per_user,
                of_all: config.max_ids,
            },
            of_users: (config.scope == DedupeScope::User).then(Arc::default),
            identity: None,
            pending: duplicate("pending"),
            confirmed: duplicate("confirmed"),
            forgotten: metrics.dedupe_forgotten_total.clone(),
        };
        let layer = DedupeLayer {
            settings: Arc::new(settings),
        };
        Self {
            new: layer.layer(below.clone()),
            fields,
            below,
            limits: OutboxLimits::new(BackpressureConfig::default()),
        }
    }

    fn new(ack: AckMode) -> Self {
        Self::with(ack, &DedupeConfig::default())
    }

    fn connect(&self, user: &str) -> Dedupe<Kept> {
        self.new.new_service(Session::for_tests(user, &[]))
    }

    async fn send(&self, stage: &mut Dedupe<Kept>, text: &str) -> Outcome {
        stage.call(Message::text(text, &self.fields)).await.unwrap()
    }

    /// Settles the oldest message that passed.
    fn settle(&self, confirmed: bool) {
        let mut message = self.below.first();
        message.follower.take().unwrap().settled(confirmed);
    }

    fn passed(&self) -> usize {
        self.below.count()
    }

    fn answered(&self, stage: &Dedupe<Kept>) -> Vec<String> {
        std::iter::from_fn(|| stage.session.outbox().pop(&self.limits))
            .map(|text| text.to_string())
            .collect()
    }
}

const M: &str = r#"{"id":"m"}"#;
const ACK: &str = r#"{"type":"ack","id":"m"}"#;
const NACK: &str = r#"{"type":"nack","id":"m","reason":"undeliverable"}"#;

#[tokio::test(start_paused = true)]
async fn a_confirmed_message_passes_once_within_the_window() {
    let bench = Bench::new(AckMode::All);
    let mut stage = bench.connect("1");
    assert_eq!(bench.send(&mut stage, M).await, Outcome::Published);
    tokio::time::advance(Duration::from_secs(10_000)).await;
    assert_eq!(
        bench.send(&mut stage, M).await,
        Outcome::Ignored,
        "not finished yet"
    );
    bench.settle(true);
    for _ in 0..2 {
        assert_eq!(bench.send(&mut stage, M).await, Outcome::Reply(ACK.into()));
        tokio::time::advance(Duration::from_secs(149)).await;
    }
    assert_eq!(bench.passed(), 0);
    tokio::time::advance(Duration::from_secs(2)).await;
    assert_eq!(bench.send(&mut stage, M).await, Outcome::Published);
    let settings = &stage.settings;
    assert_eq!((settings.pending.get(), settings.confirmed.get()), (1, 2));
}

#[tokio::test(start_paused = true)]
async fn a_failed_or_refused_message_may_come_again() {
    let bench = Bench::new(AckMode::All);
    let mut stage = bench.connect("1");
    assert_eq!(bench.send(&mut stage, M).await, Outcome::Published);
    bench.settle(false);
    assert_eq!(bench.send(&mut stage, M).await, Outcome::Published);
    // A stage below refused it: dropped, and nobody is told.
    bench.below.clear();
    assert_eq!(bench.send(&mut stage, M).await, Outcome::Published);
    assert_eq!(bench.passed(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_reconnected_client_hears_when_its_first_message_is_finished() {
    for (confirmed, answer) in [(true, ACK), (false, NACK)] {
        let bench = Bench::new(AckMode::All);
        let (mut old, mut new, mut third) =
            (bench.connect("1"), bench.connect("1"), bench.connect("1"));
        assert_eq!(bench.send(&mut old, M).await, Outcome::Published);
        for stage in [&mut new, &mut third] {
            for _ in 0..3 {
                assert_eq!(bench.send(stage, M).await, Outcome::Ignored);
            }
        }
        bench.settle(confirmed);
        assert_eq!(
            bench.answered(&old),
            [""; 0],
            "its answer is that of the message itself"
        );
        assert_eq!(
            bench.answered(&new),
            [answer],
            "once, however often it asked"
        );
        assert_eq!(bench.answered(&third), [answer]);
        let again = bench.send(&mut new, M).await;
        assert_eq!(again == Outcome::Published, !confirmed);
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_dropped_on_its_way_frees_those_who_wait() {
    let bench = Bench::new(AckMode::All);
    let (mut old, mut new) = (bench.connect("1"), bench.connect("1"));
    bench.send(&mut old, M).await;
    bench.send(&mut new, M).await;
    bench.below.clear();
    assert_eq!(bench.answered(&new), [NACK]);
    assert_eq!(bench.send(&mut new, M).await, Outcome::Published);
}

#[tokio::test(start_paused = true)]
async fn only_so_many_wait_for_one_message() {
    let bench = Bench::new(AckMode::All);
    let mut first = bench.connect("1");
    bench.send(&mut first, M).await;
    let mut others: Vec<_> = (0..9).map(|_| bench.connect("1")).collect();
    let mut told = Vec::new();
    for stage in &mut others {
        told.push(bench.send(stage, M).await);
    }
    let full = Outcome::Reply(r#"{"type":"nack","id":"m","reason":"duplicate"}"#.into());
    assert_eq!(told[7..], [Outcome::Ignored, full]);
}

#[tokio::test(start_paused = true)]
async fn without_acknowledgements_repetitions_are_silent() {
    let bench = Bench::new(AckMode::None);
    let mut stage = bench.connect("1");
    assert_eq!(bench.send(&mut stage, M).await, Outcome::Published);
    assert_eq!(bench.send(&mut stage, M).await, Outcome::Ignored);
    bench.settle(true);
    assert_eq!(bench.send(&mut stage, M).await, Outcome::Ignored);
    assert_eq!(bench.answered(&stage), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn ids_are_of_one_user_and_of_one_kind() {
    let bench = Bench::new(AckMode::All);
    let (mut a, mut b) = (bench.connect("1"), bench.connect("1m"));
    for text in [
        r#"{"id":"m"}"#,
        r#"{"id":"1"}"#,
        r#"{"id":1}"#,
        r#"{"id":"M"}"#,
    ] {
        assert_eq!(bench.send(&mut a, text).await, Outcome::Published, "{text}");
    }
    assert_eq!(bench.send(&mut b, M).await, Outcome::Published);
    assert_eq!(
        bench.send(&mut a, r#"{"id":"\u006d"}"#).await,
        Outcome::Ignored,
        "the same text"
    );
    let before = bench.passed();
    for text in ["{}", "plain", r#"{"id":null}"#, r#"{"id":""}"#] {
        for _ in 0..2 {
            bench.send(&mut a, text).await;
        }
    }
    a.call(Message::connected()).await.unwrap();
    a.call(Message::disconnected(1000, "")).await.unwrap();
    assert_eq!(bench.passed(), before + 10, "without an id all pass");
}

#[tokio::test(start_paused = true)]
async fn the_scope_is_the_user_or_the_connection() {
    for (scope, passes_again) in [(DedupeScope::User, false), (DedupeScope::Connection, true)] {
        let config = DedupeConfig {
            scope,
            ..DedupeConfig::default()
        };
        let bench = Bench::with(AckMode::All, &config);
        let (mut a, mut b) = (bench.connect("1"), bench.connect("1"));
        bench.send(&mut a, M).await;
        assert_ne!(bench.send(&mut a, M).await, Outcome::Published);
        let passed = bench.send(&mut b, M).await == Outcome::Published;
        assert_eq!(passed, passes_again, "{scope:?}");
        let mut reloaded = bench.new.new_service(Arc::clone(&a.session));
        assert_ne!(
            bench.send(&mut reloaded, M).await,
            Outcome::Published,
            "{scope:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_remembered_is_bounded() {
    let config = DedupeConfig {
        max_ids_per_user: 3,
        max_ids: 5,
        ..DedupeConfig::default()
    };
    let bench = Bench::with(AckMode::All, &config);
    let (mut a, mut b) = (bench.connect("a"), bench.connect("b"));
    for n in 0..4 {
        bench.send(&mut a, &format!("{{\"id\":{n}}}")).await;
        bench.settle(true);
    }
    assert_eq!(a.seen.len(), 3);
    assert_eq!(
        bench.send(&mut a, r#"{"id":0}"#).await,
        Outcome::Published,
        "forgotten"
    );
    assert_ne!(bench.send(&mut a, r#"{"id":3}"#).await, Outcome::Published);
    for n in 0..3 {
        bench.send(&mut b, &format!("{{\"id\":{n}}}")).await;
    }
    assert_eq!(a.seen.len(), 5);
    assert_eq!(a.settings.forgotten.get(), 3);
}

#[tokio::test(start_paused = true)]
async fn what_is_past_its_window_goes_without_a_task() {
    let bench = Bench::new(AckMode::All);
    let mut stage = bench.connect("1");
    for n in 0..100 {
        bench.send(&mut stage, &format!("{{\"id\":{n}}}")).await;
    }
    // Half of them are never finished, and stay.
    for _ in 0..50 {
        bench.settle(true);
    }
    tokio::time::advance(Duration::from_secs(301)).await;
    for n in 0..10 {
        bench
            .send(&mut stage, &format!("{{\"id\":\"new {n}\"}}"))
            .await;
    }
    assert_eq!(stage.seen.len(), 60);
    assert_eq!(
        bench.send(&mut stage, r#"{"id":99}"#).await,
        Outcome::Ignored
    );
    assert_eq!(stage.settings.forgotten.get(), 0);
}

#[tokio::test(start_paused = true)]
async fn one_forgotten_early_does_not_disturb_its_successor() {
    let config = DedupeConfig {
        max_ids_per_user: 1,
        ..DedupeConfig::default()
    };
    let bench = Bench::with(AckMode::All, &config);
    let mut stage = bench.connect("1");
    for text in [M, r#"{"id":"other"}"#, M] {
        assert_eq!(bench.send(&mut stage, text).await, Outcome::Published);
    }
    bench.settle(false);
    assert_eq!(
        bench.send(&mut stage, M).await,
        Outcome::Ignored,
        "the second is on its way"
    );
}

#[tokio::test(start_paused = true)]
async fn two_stages_follow_one_message() {
    let bench = Bench::new(AckMode::All);
    let session = Session::for_tests("1", &[]);
    let mut below = bench.new.new_service(Arc::clone(&session));
    let outer = Bench::new(AckMode::All);
    let mut above = outer.new.new_service(session);
    above.call(Message::text(M, &bench.fields)).await.unwrap();
    let message = outer.below.first();
    below.call(message).await.unwrap();
    bench.settle(true);
    for seen in [&above, &below] {
        let key = seen.key(&Message::text(M, &bench.fields)).unwrap();
        let answer = (&seen.settings.acks, None);
        let known = seen.seen.look(
            key,
            &seen.session,
            answer,
            &seen.settings.bounds,
            &seen.settings.forgotten,
        );
        assert!(matches!(known, Known::Confirmed));
    }
}
