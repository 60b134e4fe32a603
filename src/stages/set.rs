//! Adds fields to the event: from claims of the token, headers of the upgrade request, or constants.
//!
//! Stands anywhere above `fan_out`, and sees every event, so that `connected` bears a tenant as messages do. The
//! values are looked up once a connection, claims again after a renewed token; a message only takes a pointer along.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::HeaderName;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tower_layer::Layer;
use tower_service::Service;

use crate::condition::{Condition, Fault, Free, Pointer, absent, is_secret_header, present};
use crate::event::{MEMBERS, write_string};
use crate::message::{Extra, Message};
use crate::pipeline::{ALL_EVENTS, CompileError, Ingredients, Stage, StageLayers};
use crate::session::Session;
use crate::svc::{BoxError, MessageLayer, NewService, Outcome};

/// Settings of the `set` stage.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SetConfig {
    /// The fields by name, each with where its value comes from: one of `claim`, `header`, `value`.
    pub fields: BTreeMap<String, FieldSource>,
    /// Which messages meet the stage; the others pass by it to the next. Empty: all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub when: Option<Condition>,
}

/// Where a field's value comes from: exactly one of `claim`, `header`, `value`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct FieldSource {
    /// A claim of the connection's token, by JSON pointer (RFC 6901), as it is written there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub claim: Option<String>,
    /// A header of the upgrade request, as text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub header: Option<String>,
    /// This value.
    #[serde(deserialize_with = "present", skip_serializing_if = "absent")]
    #[schemars(with = "Free")]
    pub value: Option<Free>,
    /// The value where there is no such claim or header; without it the field is left out.
    #[serde(deserialize_with = "present", skip_serializing_if = "absent")]
    #[schemars(with = "Free")]
    pub default: Option<Free>,
}

impl SetConfig {
    /// Everything wrong with the fields; `trace_id_field` is the configured name of the trace id.
    #[must_use]
    pub fn faults(&self, trace_id_field: &str) -> Vec<Fault> {
        let mut faults = Vec::new();
        for (name, source) in &self.fields {
            let mut say = |below: &[&str], code, message: String, hint: &str| {
                let path = ["fields", name.as_str()]
                    .into_iter()
                    .chain(below.iter().copied());
                faults.push(Fault {
                    path: path.map(str::to_owned).collect(),
                    code,
                    is_error: true,
                    message,
                    hint: hint.to_owned(),
                });
            };
            if MEMBERS.contains(&name.as_str())
                || [trace_id_field, "trace_id"].contains(&name.as_str())
            {
                say(
                    &[],
                    "reserved_field",
                    format!("`{name}` is a field that events have already"),
                    "choose a name of its own",
                );
            }
            let given = [
                source.claim.is_some(),
                source.header.is_some(),
                source.value.is_some(),
            ];
            if given.into_iter().filter(|given| *given).count() != 1 {
                say(
                    &[],
                    "bad_source",
                    format!(
                        "the field `{}` needs exactly one source",
                        name.escape_debug()
                    ),
                    "give one of `claim`, `header`, `value`; `default` stands in for a claim or a header that is not there",
                );
            }
            if let Some(Err(error)) = source.claim.as_deref().map(Pointer::parse) {
                say(
                    &["claim"],
                    "bad_pointer",
                    format!("the claim's place is no JSON pointer: it {error}"),
                    "write `/tenant` for the claim `tenant`",
                );
            }
            match source.header.as_deref().map(HeaderName::try_from) {
                Some(Err(_)) => say(
                    &["header"],
                    "bad_header_name",
                    "this is not a name an HTTP header can have".into(),
                    "use letters, digits and `-`, as in `X-Tenant`",
                ),
                Some(Ok(header)) if is_secret_header(&header) => say(
                    &["header"],
                    "secret_header",
                    format!("the header `{header}` holds what proves who the client is"),
                    "take a claim of the token instead",
                ),
                _ => {}
            }
        }
        faults
    }
}

impl Stage for SetConfig {
    fn acts_on(&self) -> &'static str {
        ALL_EVENTS
    }

    fn does(&self) -> &'static str {
        "adds fields to the event"
    }

    fn when(&self) -> Option<&Condition> {
        self.when.as_ref()
    }

    fn headers(&self, wanted: &mut Vec<HeaderName>) {
        let sources = self.fields.values();
        wanted.extend(sources.filter_map(|source| {
            let name = source.header.as_deref()?;
            HeaderName::try_from(name).ok()
        }));
        if let Some(when) = &self.when {
            when.headers(wanted);
        }
    }

    fn layers(&self, with: &mut Ingredients<'_>) -> Result<StageLayers, CompileError> {
        if let Some(fault) = self.faults(&with.config.tracing.trace_id_field).first() {
            let path = format!("stages.set.{}", fault.path.join("."));
            return Err(CompileError::setting(
                path,
                format!("cannot be used: {fault}"),
            ));
        }
        let fields = self.fields.iter().filter_map(|(name, source)| {
            let field = Field {
                name: name.as_str().into(),
                origin: Origin::of(source)?,
                default: source.default.as_ref().map(json),
            };
            Some(field)
        });
        let layer = SetLayer(fields.collect());
        Ok(StageLayers::messages(MessageLayer::new(layer)))
    }
}

/// A compiled field.
#[derive(Debug)]
struct Field {
    name: Box<str>,
    origin: Origin,
    default: Option<Box<str>>,
}

#[derive(Debug)]
enum Origin {
    Claim(Pointer),
    Header(HeaderName),
    Value(Box<str>),
}

impl Origin {
    fn of(source: &FieldSource) -> Option<Self> {
        if let Some(claim) = &source.claim {
            return Pointer::parse(claim).ok().map(Self::Claim);
        }
        if let Some(header) = &source.header {
            return HeaderName::try_from(header.as_str()).ok().map(Self::Header);
        }
        source.value.as_ref().map(json).map(Self::Value)
    }

    /// The value as JSON.
    fn find(&self, session: &Session, claims: Option<&str>) -> Option<Box<str>> {
        match self {
            Self::Claim(pointer) => pointer.find(claims?).map(Into::into),
            Self::Header(name) => {
                let mut text = Vec::new();
                write_string(&mut text, session.header(name)?);
                String::from_utf8(text).ok().map(Into::into)
            }
            Self::Value(json) => Some(json.clone()),
        }
    }
}

fn json(value: &Free) -> Box<str> {
    value.0.to_string().into()
}

#[derive(Debug, Clone)]
struct SetLayer(Arc<[Field]>);

impl SetLayer {
    fn extra(&self, session: &Session) -> Arc<Extra> {
        let claims = session.claims();
        let fields = self.0.iter().filter_map(|field| {
            let found = field.origin.find(session, claims.as_deref());
            Some((field.name.clone(), found.or_else(|| field.default.clone())?))
        });
        Arc::new(Extra::new(fields))
    }
}

impl<N> Layer<N> for SetLayer {
    type Service = NewSet<N>;

    fn layer(&self, inner: N) -> NewSet<N> {
        NewSet {
            settings: self.clone(),
            inner,
        }
    }
}

#[derive(Debug)]
struct NewSet<N> {
    settings: SetLayer,
    inner: N,
}

impl<N: NewService<Arc<Session>>> NewService<Arc<Session>> for NewSet<N> {
    type Service = Set<N::Service>;

    fn new_service(&self, session: Arc<Session>) -> Self::Service {
        let version = session.claims_version();
        Set {
            settings: self.settings.clone(),
            version,
            extra: self.settings.extra(&session),
            inner: self.inner.new_service(Arc::clone(&session)),
            session,
        }
    }
}

#[derive(Debug)]
struct Set<S> {
    settings: SetLayer,
    session: Arc<Session>,
    /// The claims that `extra` is made of.
    version: u64,
    extra: Arc<Extra>,
    inner: S,
}

impl<S> Service<Message> for Set<S>
where
    S: Service<Message, Response = Outcome, Error = BoxError>,
{
    type Response = Outcome;
    type Error = BoxError;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut message: Message) -> S::Future {
        let version = self.session.claims_version();
        if version != self.version {
            self.version = version;
            self.extra = self.settings.extra(&self.session);
        }
        message.extra = Some(match message.extra.take() {
            None => Arc::clone(&self.extra),
            // Two stages `set` met the message: the lower one has the last word.
            Some(above) => Arc::new(above.with(&self.extra)),
        });
        self.inner.call(message)
    }
}

#[cfg(test)]
mod tests;
