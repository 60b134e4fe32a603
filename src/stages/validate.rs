//! Refuses messages that do not fit the JSON Schema of their type.
//!
//! Stands above `fan_out`, so that the backend only meets messages of a form that it knows. The one stage that reads a
//! whole message into memory as values.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::task::{Context, Poll};

use jsonschema::error::ValidationErrorKind as Kind;
use jsonschema::{ValidationError, Validator};
use prometheus::IntCounter;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tower_layer::Layer;
use tower_service::Service;

use self::schemas::Schemas;
use crate::condition::Condition;
use crate::event::EventKind;
use crate::message::{Body, FieldId, ID_FIELD, Message, MessageId};
use crate::pipeline::{CompileError, Ingredients, MESSAGES, Stage, StageLayers};
use crate::svc::{BoxError, MessageFuture, MessageLayer, NewService, Outcome};
use crate::telemetry::metrics::Metrics;

mod schemas;

/// Problems named in one answer.
const MAX_ERRORS: usize = 8;

/// Characters of a problem's place, and of its text.
const MAX_TEXT: usize = 200;

/// Settings of the `validate` stage.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ValidateConfig {
    /// Which messages the stage meets; all of them without a condition.
    #[serde(
        skip_serializing_if = "crate::condition::absent",
        deserialize_with = "crate::condition::present"
    )]
    #[schemars(with = "Condition")]
    pub when: Option<Condition>,
    /// Folder with a JSON Schema `<type>.json` for each message type; read when the pipeline is compiled.
    pub schemas: String,
    /// What happens to an object whose `type` has no schema, or that has none.
    pub on_unknown: Unchecked,
    /// What happens to a message that is no JSON object.
    pub on_raw: Unchecked,
}

impl Default for ValidateConfig {
    fn default() -> Self {
        Self {
            when: None,
            schemas: "schemas/messages".into(),
            on_unknown: Unchecked::Reject,
            on_raw: Unchecked::Reject,
        }
    }
}

/// What happens to a message that there is no rule for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Unchecked {
    /// It goes on to the next stage.
    Pass,
    /// It is refused.
    Reject,
}

/// A message does not fit its schema.
#[derive(Debug, thiserror::Error)]
#[error("the message does not fit the schema of its type")]
pub struct Invalid {
    /// The message's own id.
    pub id: Option<MessageId>,
    /// A JSON list of `{"path":…,"message":…}`, short and without the message's values.
    pub errors: Box<str>,
}

impl Stage for ValidateConfig {
    fn acts_on(&self) -> &'static str {
        MESSAGES
    }

    fn does(&self) -> &'static str {
        "refuses what does not fit its schema"
    }

    fn when(&self) -> Option<&Condition> {
        self.when.as_ref()
    }

    fn layers(&self, with: &mut Ingredients<'_>) -> Result<StageLayers, CompileError> {
        let schemas = Schemas::read(Path::new(&self.schemas)).map_err(|error| {
            CompileError::setting(
                "stages.validate.schemas",
                format!("cannot be used: {error}"),
            )
        })?;
        Ok(StageLayers::messages(MessageLayer::new(ValidateLayer {
            checks: Arc::new(Checks {
                schemas,
                on_unknown: self.on_unknown,
                on_raw: self.on_raw,
                refused: Refused::new(with.metrics),
            }),
            id: with.fields.want(ID_FIELD)?,
        })))
    }
}

/// Counts of what was refused.
#[derive(Debug)]
struct Refused {
    schema: IntCounter,
    unknown: IntCounter,
    raw: IntCounter,
}

impl Refused {
    fn new(metrics: &Metrics) -> Self {
        let by = |reason| metrics.invalid_messages_total.with_label_values(&[reason]);
        Self {
            schema: by("schema"),
            unknown: by("unknown_type"),
            raw: by("raw"),
        }
    }
}

#[derive(Debug)]
struct Checks {
    schemas: Schemas,
    on_unknown: Unchecked,
    on_raw: Unchecked,
    refused: Refused,
}

impl Checks {
    /// What is wrong with a message, as a JSON list.
    fn problems(&self, message: &Message) -> Option<Box<str>> {
        let Body::Text { text, object: true } = &message.body else {
            return (self.on_raw == Unchecked::Reject).then(|| {
                self.refused.raw.inc();
                one("", "the message is no JSON object")
            });
        };
        let schema = message.type_name().and_then(|name| self.schemas.of(&name));
        let Some(schema) = schema else {
            return (self.on_unknown == Unchecked::Reject).then(|| {
                self.refused.unknown.inc();
                one("/type", "no known type")
            });
        };
        let found = match serde_json::from_str::<Value>(text.as_str()) {
            Ok(value) if schema.is_valid(&value) => return None,
            Ok(value) => list(schema, &value),
            // The text was found to be an object before; numbers out of every range are left.
            Err(_) => one("", "a number is out of range"),
        };
        self.refused.schema.inc();
        Some(found)
    }
}

fn one(path: &str, message: &str) -> Box<str> {
    Value::from(vec![problem(path, message)]).to_string().into()
}

fn list(schema: &Validator, value: &Value) -> Box<str> {
    let problems: Vec<Value> = schema
        .iter_errors(value)
        .take(MAX_ERRORS)
        .map(|error| problem(error.instance_path().as_str(), &describe(&error)))
        .collect();
    Value::from(problems).to_string().into()
}

fn problem(path: &str, message: &str) -> Value {
    serde_json::json!({"path": cut(path, MAX_TEXT), "message": cut(message, MAX_TEXT)})
}

/// Says what a schema asks for, and nothing of what the message has instead.
fn describe(error: &ValidationError<'_>) -> String {
    let extra = |count: usize| {
        let plural = if count == 1 { "y" } else { "ies" };
        format!("has {count} propert{plural} that the schema does not allow")
    };
    match error.kind() {
        // The library's texts of these repeat names and values of the message.
        Kind::AdditionalProperties { unexpected } | Kind::UnevaluatedProperties { unexpected } => {
            extra(unexpected.len())
        }
        Kind::PropertyNames { .. } => "has a property whose name the schema does not allow".into(),
        Kind::BacktrackLimitExceeded { .. }
        | Kind::RegexEngineFailure { .. }
        | Kind::FromUtf8 { .. }
        | Kind::Referencing(_)
        | Kind::Custom { .. } => format!("does not fit `{}`", error.kind().keyword()),
        _ => error.masked().to_string(),
    }
}

/// Cuts a text that is too long.
fn cut(text: &str, max_chars: usize) -> String {
    match text.char_indices().nth(max_chars) {
        None => text.to_owned(),
        Some((end, _)) => {
            let mut cut = text[..end].to_owned();
            // Writing to a string cannot fail.
            let _ = write!(cut, "…");
            cut
        }
    }
}

#[derive(Debug, Clone)]
struct ValidateLayer {
    checks: Arc<Checks>,
    id: FieldId,
}

impl<N> Layer<N> for ValidateLayer {
    type Service = NewValidate<N>;

    fn layer(&self, inner: N) -> NewValidate<N> {
        NewValidate {
            settings: self.clone(),
            inner,
        }
    }
}

#[derive(Debug)]
struct NewValidate<N> {
    settings: ValidateLayer,
    inner: N,
}

impl<T, N: NewService<T>> NewService<T> for NewValidate<N> {
    type Service = Validate<N::Service>;

    fn new_service(&self, target: T) -> Self::Service {
        Validate {
            settings: self.settings.clone(),
            inner: self.inner.new_service(target),
        }
    }
}

#[derive(Debug)]
struct Validate<S> {
    settings: ValidateLayer,
    inner: S,
}

impl<S> Service<Message> for Validate<S>
where
    S: Service<Message, Response = Outcome, Error = BoxError>,
    S::Future: Into<MessageFuture>,
{
    type Response = Outcome;
    type Error = BoxError;
    type Future = MessageFuture;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, message: Message) -> Self::Future {
        if message.kind() != EventKind::MessageReceived {
            return self.inner.call(message).into();
        }
        match self.settings.checks.problems(&message) {
            None => self.inner.call(message).into(),
            Some(errors) => MessageFuture::ready(Err(Box::new(Invalid {
                id: message.id(self.settings.id),
                errors,
            }))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::FieldSet;
    use crate::stages::testing::Inner;

    fn stage(
        on_unknown: Unchecked,
        on_raw: Unchecked,
        schema: &str,
    ) -> (Validate<Inner>, FieldSet) {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("chat.json"), schema).unwrap();
        let mut fields = FieldSet::default();
        let layer = ValidateLayer {
            checks: Arc::new(Checks {
                schemas: Schemas::read(folder.path()).unwrap(),
                on_unknown,
                on_raw,
                refused: Refused::new(&Metrics::new().unwrap()),
            }),
            id: fields.want(ID_FIELD).unwrap(),
        };
        (layer.layer(Inner::publishes()).new_service(()), fields)
    }

    const CHAT: &str = r#"{"type":"object","required":["payload"],"additionalProperties":false,
        "properties":{"type":true,"id":true,"payload":{"type":"object","properties":{"n":{"type":"integer","maximum":5}},
        "propertyNames":{"maxLength":3}}}}"#;

    /// The errors that a message is refused with.
    async fn refused(text: &str, schema: &str) -> Option<Value> {
        let (mut stage, fields) = stage(Unchecked::Reject, Unchecked::Reject, schema);
        match stage.call(Message::text(text, &fields)).await {
            Ok(outcome) => {
                assert_eq!(outcome, Outcome::Published);
                None
            }
            Err(error) => {
                assert_eq!(stage.inner.calls(), 0);
                let invalid = error.downcast_ref::<Invalid>().unwrap();
                Some(serde_json::from_str(&invalid.errors).unwrap())
            }
        }
    }

    #[tokio::test]
    async fn passes_what_fits_and_names_what_does_not() {
        assert_eq!(
            refused(r#"{"type":"chat","payload":{"n":5}}"#, CHAT).await,
            None
        );
        for (text, path, message) in [
            (
                r#"{"type":"chat"}"#,
                "",
                r#""payload" is a required property"#,
            ),
            (
                r#"{"type":"chat","payload":{"n":"s3cret"}}"#,
                "/payload/n",
                r#"value is not of type "integer""#,
            ),
            (
                r#"{"type":"chat","payload":{"n":7654321}}"#,
                "/payload/n",
                "value is greater than the maximum of 5",
            ),
            (
                r#"{"type":"chat","payload":{},"s3cret":1}"#,
                "",
                "has 1 property that the schema does not allow",
            ),
            (
                r#"{"type":"chat","payload":{"s3cret":1}}"#,
                "/payload",
                "has a property whose name the schema does not allow",
            ),
            (r#"{"type":"other"}"#, "/type", "no known type"),
            (r#"{"type":1}"#, "/type", "no known type"),
            ("{}", "/type", "no known type"),
            ("[]", "", "the message is no JSON object"),
        ] {
            let errors = refused(text, CHAT).await.unwrap();
            assert_eq!(
                errors[0],
                serde_json::json!({"path": path, "message": message}),
                "{text}"
            );
            assert!(!errors.to_string().contains("s3cret"), "{errors}");
        }
    }

    #[tokio::test]
    async fn answers_are_bounded() {
        let fields: Vec<String> = (0..50)
            .map(|n| format!("\"{n}{}\"", "k".repeat(500)))
            .collect();
        let text = format!(
            "{{\"type\":\"chat\",{}}}",
            fields
                .iter()
                .map(|f| format!("{f}:1"))
                .collect::<Vec<_>>()
                .join(",")
        );
        let errors = refused(
            &text,
            r#"{"properties":{"type":true},"additionalProperties":{"type":"string"}}"#,
        )
        .await
        .unwrap();
        assert_eq!(errors.as_array().unwrap().len(), MAX_ERRORS);
        assert!(errors.to_string().len() < MAX_ERRORS * (2 * MAX_TEXT + 50));
    }

    #[tokio::test]
    async fn what_there_is_no_schema_for_passes_if_asked() {
        let (mut stage, fields) = stage(Unchecked::Pass, Unchecked::Pass, CHAT);
        for message in [
            Message::text(r#"{"type":"other"}"#, &fields),
            Message::text("plain", &fields),
            Message::binary(&[1]),
            Message::connected(),
            Message::disconnected(1000, ""),
        ] {
            assert_eq!(stage.call(message).await.unwrap(), Outcome::Published);
        }
        assert_eq!(stage.inner.calls(), 5);
    }

    #[tokio::test]
    async fn the_lifecycle_and_inner_errors_pass() {
        let (mut stage, fields) = stage(Unchecked::Reject, Unchecked::Reject, CHAT);
        assert_eq!(
            stage.call(Message::connected()).await.unwrap(),
            Outcome::Published
        );
        let refused = stage.call(Message::binary(&[1])).await.unwrap_err();
        assert!(refused.is::<Invalid>());
        stage.inner = Inner::fails();
        let message = Message::text(r#"{"type":"chat","payload":{}}"#, &fields);
        assert_eq!(
            stage.call(message).await.unwrap_err().to_string(),
            "inner error"
        );
    }

    #[tokio::test]
    async fn the_id_of_what_is_refused_is_kept() {
        let (mut stage, fields) = stage(Unchecked::Reject, Unchecked::Reject, CHAT);
        let error = stage
            .call(Message::text(r#"{"id":"a\u0062"}"#, &fields))
            .await
            .unwrap_err();
        let id = error.downcast_ref::<Invalid>().unwrap().id.clone();
        assert_eq!(id.unwrap().as_json(), r#""a\u0062""#);
    }
}
