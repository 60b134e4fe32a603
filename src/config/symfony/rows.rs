//! The table of keys that must agree on both sides: the one place a new pair is added to.
//!
//! Stands between the two files' values and the diagnostics: each row reads both sides.

use super::{Comparison, Reading, kinds, quoted};
use crate::config::{Config, Mode, PresenceKind, PresenceStrategy};

/// One pair of keys.
struct Row {
    /// The bundle's key.
    symfony: &'static str,
    /// The gateway's key; none where its side is fixed.
    gateway: Option<&'static str>,
    /// The code of a difference.
    code: &'static str,
    /// When the pair matters.
    when: When,
    /// The gateway's value; none if it has nothing to compare with.
    value: fn(&Config) -> Option<String>,
    /// What agreeing means.
    how: How,
}

/// When a pair matters.
#[derive(Clone, Copy)]
enum When {
    Always,
    /// The bundle pushes by HTTP.
    HttpTransport,
    /// The bundle takes webhooks and the gateway sends them.
    Webhooks,
    /// The bundle traces.
    Tracing,
    /// The bundle pushes to the broker of this type and the gateway reads there.
    PushesBy(&'static str),
    /// The bundle reads events from the broker of this type and the gateway sends there.
    EventsBy(&'static str),
    /// Both sides keep presence in Redis.
    RedisPresence,
}

/// What agreeing means, and what follows from a difference.
#[derive(Clone, Copy)]
enum How {
    /// The same text.
    Same(&'static str),
    /// The same path of a URL, however it is escaped.
    Path(&'static str),
    /// Set on both sides or on neither, and the same. No value is shown.
    Secret {
        only_bundle: &'static str,
        only_gateway: &'static str,
        different: &'static str,
    },
}

const TABLE: &[Row] = &[
    Row {
        symfony: "mode",
        gateway: Some("mode"),
        code: "symfony_mode",
        when: When::Always,
        value: |config| {
            Some(match config.mode {
                Mode::Terminator => "terminator".into(),
                Mode::Core => "core".into(),
            })
        },
        how: How::Same("one side talks by webhooks and HTTP, the other by brokers"),
    },
    Row {
        symfony: "subjects.user_prefix",
        gateway: Some("subjects.user_prefix"),
        code: "symfony_user_prefix",
        when: When::Always,
        value: |config| Some(config.subjects.user_prefix.clone()),
        how: How::Same("pushes to a user reach nobody"),
    },
    Row {
        symfony: "transport.http.publish_path",
        gateway: None,
        code: "symfony_publish_path",
        when: When::HttpTransport,
        value: |_| Some(kinds::PUBLISH_PATH.into()),
        how: How::Path("every push is answered 404"),
    },
    Row {
        symfony: "transport.http.api_key",
        gateway: Some("server.api_key"),
        code: "symfony_api_key",
        when: When::HttpTransport,
        value: |config| Some(config.server.api_key.reveal().to_owned()),
        how: How::Secret {
            only_bundle: "every push is answered 403",
            only_gateway: "every push is answered 401",
            different: "every push is answered 401",
        },
    },
    Row {
        symfony: "events.webhook.path",
        gateway: Some("events.webhook.url"),
        code: "symfony_webhook_path",
        when: When::Webhooks,
        value: |config| {
            let url = url::Url::parse(&config.events.webhook.url).ok()?;
            Some(url.path().to_owned())
        },
        how: How::Path("events arrive where nothing takes them"),
    },
    Row {
        symfony: "events.webhook.secret",
        gateway: Some("events.webhook.secret"),
        code: "symfony_webhook_secret",
        when: When::Webhooks,
        value: |config| Some(config.events.webhook.secret.reveal().to_owned()),
        how: How::Secret {
            only_bundle: "events come unsigned, and the bundle refuses them",
            only_gateway: "events come signed, and the bundle does not verify them",
            different: "the bundle refuses every event",
        },
    },
    Row {
        symfony: "transport.redis_stream.stream",
        gateway: Some("transport.redis_stream.stream"),
        code: "symfony_stream",
        when: When::PushesBy("redis_stream"),
        value: |config| Some(config.transport.redis_stream.stream.clone()),
        how: How::Same("no push is ever read"),
    },
    Row {
        symfony: "transport.rabbitmq.exchange",
        gateway: Some("transport.rabbitmq.exchange"),
        code: "symfony_exchange",
        when: When::PushesBy("rabbitmq"),
        value: |config| Some(config.transport.rabbitmq.exchange.clone()),
        how: How::Same("no push ever arrives"),
    },
    Row {
        symfony: "transport.rabbitmq.routing_key",
        gateway: Some("transport.rabbitmq.routing_key"),
        code: "symfony_exchange",
        when: When::PushesBy("rabbitmq"),
        value: |config| Some(config.transport.rabbitmq.routing_key.clone()),
        how: How::Same("no push ever arrives"),
    },
    Row {
        symfony: "events.redis_stream.stream",
        gateway: Some("events.redis_stream.stream"),
        code: "symfony_stream",
        when: When::EventsBy("redis_stream"),
        value: |config| Some(config.events.redis_stream.stream.clone()),
        how: How::Same("the bundle reads a stream that stays empty"),
    },
    Row {
        symfony: "events.rabbitmq.exchange",
        gateway: Some("events.rabbitmq.exchange"),
        code: "symfony_exchange",
        when: When::EventsBy("rabbitmq"),
        value: |config| Some(config.events.rabbitmq.exchange.clone()),
        how: How::Same("the bundle hears nothing"),
    },
    Row {
        symfony: "events.rabbitmq.routing_key",
        gateway: Some("events.rabbitmq.routing_key"),
        code: "symfony_exchange",
        when: When::EventsBy("rabbitmq"),
        value: |config| Some(config.events.rabbitmq.routing_key.clone()),
        how: How::Same("the bundle hears nothing"),
    },
    Row {
        symfony: "events.rabbitmq.queue",
        gateway: Some("events.rabbitmq.queue"),
        code: "symfony_exchange",
        when: When::EventsBy("rabbitmq"),
        value: |config| {
            Some(config.events.rabbitmq.queue.clone()).filter(|queue| !queue.is_empty())
        },
        how: How::Same("the bundle reads another queue than the one the gateway declares"),
    },
    Row {
        symfony: "presence.redis.prefix",
        gateway: Some("presence.redis.prefix"),
        code: "symfony_presence",
        when: When::RedisPresence,
        value: |config| Some(config.presence.redis.prefix.clone()),
        how: How::Same("the bundle finds nobody online"),
    },
    Row {
        symfony: "tracing.trace_id_field",
        gateway: Some("tracing.trace_id_field"),
        code: "symfony_trace_field",
        when: When::Tracing,
        value: |config| Some(config.tracing.trace_id_field.clone()),
        how: How::Same("the bundle does not find an event's trace id"),
    },
    Row {
        symfony: "tracing.traceparent_field",
        gateway: None,
        code: "symfony_trace_field",
        when: When::Tracing,
        value: |_| Some("traceparent".into()),
        how: How::Same("the bundle does not find an event's trace context"),
    },
];

/// Compares every pair that matters.
pub(super) fn check(comparison: &mut Comparison<'_>) {
    for row in TABLE {
        if row.when.holds(comparison) {
            row.compare(comparison);
        }
    }
}

impl When {
    fn holds(self, comparison: &Comparison<'_>) -> bool {
        match self {
            Self::Always => true,
            Self::HttpTransport => comparison.is("transport.type", "http"),
            Self::Webhooks => {
                kinds::sends_webhooks(&comparison.gateway.config)
                    && comparison.is("events.type", "webhook")
                    && comparison.read("events.webhook.enabled").switch(true) == Some(true)
            }
            Self::PushesBy(kind) => {
                comparison.is("transport.type", kind)
                    && kinds::reads_pushes(&comparison.gateway.config, kind)
            }
            Self::EventsBy(kind) => {
                comparison.is("events.type", kind)
                    && kinds::sends_events(&comparison.gateway.config, kind)
            }
            Self::RedisPresence => {
                let presence = &comparison.gateway.config.presence;
                comparison.is("presence.type", "redis")
                    && presence.kind == Some(PresenceKind::Redis)
                    && presence.strategy != PresenceStrategy::None
                    && !presence.redis.dsn.is_empty()
            }
            Self::Tracing => comparison.read("tracing.enabled").switch(true) == Some(true),
        }
    }
}

impl Row {
    fn compare(&self, comparison: &mut Comparison<'_>) {
        let Some(theirs) = (self.value)(&comparison.gateway.config) else {
            return;
        };
        let reading = comparison.read(self.symfony);
        let message = match self.how {
            How::Same(consequence) => differing(&reading, &theirs, consequence, str::to_owned),
            How::Path(consequence) => differing(&reading, &theirs, consequence, path),
            How::Secret {
                only_bundle,
                only_gateway,
                different,
            } => {
                let origin = reading.provenance();
                let ours = match &reading {
                    Reading::Unknown => return,
                    Reading::Unset => "",
                    Reading::Text { text, .. } => text,
                };
                match (ours.is_empty(), theirs.is_empty()) {
                    (false, true) => Some(format!(
                        "is set{origin}, and the gateway has none: {only_bundle}"
                    )),
                    (true, false) => Some(format!(
                        "is not set{origin}, and the gateway has one: {only_gateway}"
                    )),
                    _ if ours != theirs => {
                        Some(format!("is not the gateway's{origin}: {different}"))
                    }
                    _ => None,
                }
            }
        };
        if let Some(message) = message {
            let hint = match self.gateway {
                Some(key) => format!(
                    "give both sides the same; the gateway's is {}",
                    comparison.place(key)
                ),
                None => format!("write {}; the gateway's side is fixed", quoted(&theirs)),
            };
            let message = format!("`{}` {message}", self.symfony);
            comparison.say(self.code, self.symfony, message, hint);
        }
    }
}

/// Says how two texts differ once both are in the form that `normal` gives; what is not known does not differ.
fn differing(
    reading: &Reading,
    theirs: &str,
    consequence: &str,
    normal: fn(&str) -> String,
) -> Option<String> {
    let ours = reading.text()?;
    (normal(ours) != normal(theirs)).then(|| {
        format!(
            "is {}{}, and the gateway's is {}: {consequence}",
            quoted(ours),
            reading.provenance(),
            quoted(theirs)
        )
    })
}

/// Gives a path its leading slash, as Symfony's router does, and the escapes of a URL.
fn path(text: &str) -> String {
    let Ok(mut url) = url::Url::parse("http://gateway/") else {
        return text.to_owned();
    };
    url.set_path(text);
    url.path().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::codes;
    use crate::config::shape::Shape;

    #[test]
    fn rows_name_codes_and_gateway_keys_that_exist() {
        let document = Shape::of_document();
        for row in TABLE {
            assert!(
                codes::TABLE.iter().any(|code| code.name == row.code),
                "{}",
                row.code
            );
            let Some(key) = row.gateway else { continue };
            let mut shape = &document.fields().first().expect("a root").shape;
            for segment in key.split('.') {
                shape = &shape
                    .fields()
                    .iter()
                    .find(|field| field.name == segment)
                    .unwrap_or_else(|| panic!("no key {key}"))
                    .shape;
            }
            assert_eq!(shape.secret, matches!(row.how, How::Secret { .. }), "{key}");
        }
    }

    #[test]
    fn paths_are_compared_as_urls_have_them() {
        assert_eq!(path("ws/events"), path("/ws/events"));
        assert_eq!(path("/é"), path("/%C3%A9"));
        assert_ne!(path("/ws/events"), path("/ws/events/"));
        assert_ne!(path("//ws/events"), path("/ws/events"));
        assert_ne!(path("/internal/publish?x=1"), path("/internal/publish"));
    }
}
