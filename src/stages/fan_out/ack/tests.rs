use super::*;
use crate::config::BackpressureConfig;
use crate::outbox::{MAX_UNANSWERED, OutboxLimits};
use crate::stages::fan_out::Overloaded;
use crate::stages::rate_limit::RateLimited;
use crate::stages::testing::Inner;

struct Bench {
    acks: Arc<Acks>,
    fields: FieldSet,
    session: Arc<Session>,
    limits: OutboxLimits,
}

impl Bench {
    fn new(mode: AckMode) -> Self {
        let mut fields = FieldSet::default();
        let acks = Acks::new(mode, &mut fields, &Metrics::new().unwrap()).unwrap();
        Self {
            acks: Arc::new(acks),
            fields,
            session: Session::for_tests("42", &[]),
            limits: OutboxLimits::new(BackpressureConfig::default()),
        }
    }

    fn message(&self, text: &str) -> Message {
        Message::text(text, &self.fields)
    }

    fn follow(&self, text: &str, required: usize) -> Option<Arc<Pending>> {
        let sinks = Sinks {
            required,
            optional: ["archive"].into(),
        };
        self.acks
            .follow(&self.session, &self.message(text), || sinks)
    }

    fn answered(&self) -> Vec<String> {
        std::iter::from_fn(|| self.session.outbox().pop(&self.limits))
            .map(|text| text.to_string())
            .collect()
    }
}

const ACK: &str = r#"{"type":"ack","id":"m"}"#;
const NACK: &str = r#"{"type":"nack","id":"m","reason":"undeliverable"}"#;

#[test]
fn the_sinks_that_are_waited_for_decide() {
    // What the sinks say in turn: `+a` delivered, `-a` failed; then after how many words there is which answer.
    for (mode, says, after, answer) in [
        (AckMode::All, "+a +b", 2, ACK),
        (AckMode::All, "-a +b", 1, NACK),
        (AckMode::All, "+a -b", 2, NACK),
        (AckMode::All, "-a -b", 1, NACK),
        (AckMode::Any, "+a +b", 1, ACK),
        (AckMode::Any, "-a +b", 2, ACK),
        (AckMode::Any, "+a -b", 1, ACK),
        (AckMode::Any, "-a -b", 2, NACK),
        (AckMode::All, "+archive +a -archive +b", 4, ACK),
        (AckMode::Any, "-archive +archive -a -b", 4, NACK),
    ] {
        let bench = Bench::new(mode);
        let pending = bench.follow(r#"{"id":"m"}"#, 2).unwrap();
        pending.sent();
        let mut heard = Vec::new();
        for (at, word) in (1..).zip(says.split(' ')) {
            let sink = match &word[1..] {
                "a" => "a",
                "b" => "b",
                _ => "archive",
            };
            if word.starts_with('+') {
                pending.delivered(sink);
            } else {
                pending.failed(sink, "a reason that clients never see");
            }
            heard.extend(bench.answered().into_iter().map(|text| (at, text)));
        }
        assert_eq!(heard, [(after, answer.to_owned())], "{mode:?} {says}");
    }
}

#[test]
fn with_no_sink_to_wait_for_the_answer_comes_at_once() {
    for mode in [AckMode::All, AckMode::Any] {
        let bench = Bench::new(mode);
        let pending = bench.follow(r#"{"id":"m"}"#, 0).unwrap();
        assert_eq!(
            bench.answered(),
            [""; 0],
            "not before the event is on its way"
        );
        pending.sent();
        pending.delivered("archive");
        assert_eq!(bench.answered(), [ACK]);
    }
}

#[test]
fn only_messages_with_an_id_are_followed_and_only_if_asked() {
    let bench = Bench::new(AckMode::All);
    for text in ["{}", "plain", r#"{"id":null}"#, r#"{"meta":{"id":"m"}}"#] {
        assert!(bench.follow(text, 1).is_none(), "{text}");
    }
    assert!(
        Bench::new(AckMode::None)
            .follow(r#"{"id":"m"}"#, 1)
            .is_none()
    );
}

#[test]
fn who_follows_hears_once_even_without_acknowledgements() {
    #[derive(Default)]
    struct Heard(parking_lot::Mutex<Vec<bool>>);
    impl Follower for Heard {
        fn settled(&self, confirmed: bool) {
            self.0.lock().push(confirmed);
        }
    }
    for (mode, expected) in [
        (AckMode::None, false),
        (AckMode::All, false),
        (AckMode::Any, true),
    ] {
        let bench = Bench::new(mode);
        let heard = Arc::new(Heard::default());
        let mut message = bench.message("{}");
        message.follower = Some(heard.clone());
        let sinks = Sinks {
            required: 2,
            optional: Arc::default(),
        };
        let pending = bench
            .acks
            .follow(&bench.session, &message, || sinks)
            .unwrap();
        pending.failed("a", "");
        pending.delivered("b");
        assert_eq!(*heard.0.lock(), [expected], "{mode:?}: as if it were `all`");
        assert_eq!(bench.answered(), [""; 0]);
    }
}

#[test]
fn an_event_that_found_no_room_takes_its_promise_back() {
    let bench = Bench::new(AckMode::All);
    for _ in 1..MAX_UNANSWERED {
        bench.session.outbox().promise_reply();
    }
    let pending = bench.follow(r#"{"id":"m"}"#, 1);
    assert!(bench.session.outbox().owes_many());
    drop(pending);
    assert!(!bench.session.outbox().owes_many());
    assert_eq!(bench.answered(), [""; 0]);
}

#[test]
fn a_connection_that_ended_hears_nothing() {
    let mut bench = Bench::new(AckMode::All);
    let pending = bench.follow(r#"{"id":"m"}"#, 1).unwrap();
    bench.session = Session::for_tests("42", &[]);
    pending.delivered("a");
    assert_eq!(
        bench.acks.acked.get(),
        0,
        "it is gone, and was not kept for this"
    );
}

#[tokio::test]
async fn what_stages_refuse_is_answered_by_the_id() {
    let bench = Bench::new(AckMode::All);
    for (refused, answer) in [
        (Refuse::RateLimit, Some("rate_limited")),
        (Refuse::Overload, Some("overloaded")),
        (Refuse::Close, None),
        (Refuse::Internal, None),
    ] {
        for waits in [false, true] {
            let inner = Refusing { refused, waits };
            let mut stack = AnswersLayer(Arc::clone(&bench.acks))
                .layer(inner)
                .new_service(());
            let told = stack.call(bench.message(r#"{"id":7}"#)).await;
            let expected =
                answer.map(|reason| format!(r#"{{"type":"nack","id":7,"reason":"{reason}"}}"#));
            match (told, expected) {
                (Ok(Outcome::Reply(text)), Some(expected)) => assert_eq!(text.as_str(), expected),
                (Err(_), None) => {}
                (told, expected) => panic!("{refused:?}: {told:?} instead of {expected:?}"),
            }
            let without = stack.call(bench.message("{}")).await;
            assert!(without.is_err(), "without an id all is as ever");
        }
    }
    let mut stack = AnswersLayer(Arc::clone(&bench.acks))
        .layer(Inner::publishes())
        .new_service(());
    let told = stack.call(bench.message(r#"{"id":7}"#)).await.unwrap();
    assert_eq!(told, Outcome::Published);
}

#[derive(Debug, Clone, Copy)]
enum Refuse {
    RateLimit,
    Overload,
    Close,
    Internal,
}

#[derive(Debug, Clone, Copy)]
struct Refusing {
    refused: Refuse,
    waits: bool,
}

impl NewService<()> for Refusing {
    type Service = Self;

    fn new_service(&self, (): ()) -> Self {
        *self
    }
}

impl Service<Message> for Refusing {
    type Response = Outcome;
    type Error = BoxError;
    type Future = MessageFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Message) -> MessageFuture {
        let error: BoxError = match self.refused {
            Refuse::RateLimit => RateLimited.into(),
            Refuse::Overload => Overloaded::Reject.into(),
            Refuse::Close => Overloaded::Close.into(),
            Refuse::Internal => "broken".into(),
        };
        if self.waits {
            return MessageFuture::waiting(async {
                tokio::task::yield_now().await;
                Err(error)
            });
        }
        MessageFuture::ready(Err(error))
    }
}
