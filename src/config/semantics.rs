//! Checks what the types cannot say: orders that cannot work, settings that contradict each other.
//!
//! Stands last in validation, on typed settings. It does no I/O: whether a broker answers or a key file can be
//! read is for compiling to find out.

use std::sync::Arc;

use super::document::{KeyPath, Mark, Node};
use super::layers::{Layer, Layers};
use super::model::Config;
use super::problem::Problem;
use super::suggest::{nearest, quoted_list};
use super::validate::Checked;
use crate::stages::StageConfig;
use crate::stages::auth::{AuthConfig, TokenSource};
use crate::stages::fan_out::EventsMode;
use crate::stages::ordering_key::{OrderingStrategy, PartitionMode, Partitions};

mod addresses;
mod admin;
mod authorize;
mod brokers;
mod routing;
mod secrets;
mod tracing;

/// Reports everything about `config` that cannot work or surprises.
pub(super) fn check(
    config: &Config,
    root: &Node,
    layers: &Layers<'_>,
    checked: &Checked,
    problems: &mut Vec<Problem>,
) {
    let mut review = Review {
        config,
        root,
        layers,
        checked,
        problems,
    };
    review.order();
    review.stages();
    review.events();
    addresses::check(&mut review);
    admin::check(&mut review);
    authorize::check(&mut review);
    brokers::check(&mut review);
    routing::check(&mut review);
    secrets::check(&mut review);
    tracing::check(&mut review);
    review.logging();
    if config.subjects.user_prefix.is_empty() {
        review.say(
            "empty_user_prefix",
            "subjects.user_prefix",
            "`subjects.user_prefix` is empty: a user's own subject is the bare user id",
            "set a prefix such as `user:`",
        );
    }
}

/// What the checks share.
struct Review<'a> {
    config: &'a Config,
    root: &'a Node,
    layers: &'a Layers<'a>,
    checked: &'a Checked,
    problems: &'a mut Vec<Problem>,
}

impl<'a> Review<'a> {
    /// Tells whether the value at `path`, or something in or around it, is already known to be wrong.
    fn is_poisoned(&self, path: &KeyPath) -> bool {
        self.checked
            .poisoned
            .iter()
            .any(|poisoned| poisoned.is_within(path) || path.is_within(poisoned))
    }

    /// Reports a problem of the setting `path`, unless its value is already reported.
    fn say(
        &mut self,
        code: &'static str,
        path: &str,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) {
        self.say_at(code, &self.setting(path), message, hint);
    }

    fn say_at(
        &mut self,
        code: &'static str,
        path: &KeyPath,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) {
        if self.is_poisoned(path) {
            return;
        }
        let (layer, origin) = self.layers.trace(path);
        let at = match layer {
            Layer::Override(_) => self.root.nearest_key(path),
            _ => self.place(path),
        };
        self.problems
            .push(Problem::at(at, code, message.into() + &origin).hint(hint));
    }

    /// Gives the value's place, or that of its key's nearest existing parent.
    fn place(&self, path: &KeyPath) -> Mark {
        match self.root.find(path) {
            Some((_, node)) if !node.raw.is_empty() => node.start,
            _ => self.root.nearest_key(path),
        }
    }

    /// Turns `stages.auth.jwt` and the like into a path through the list.
    fn setting(&self, dotted: &str) -> KeyPath {
        let Some(rest) = dotted.strip_prefix("stages.") else {
            return KeyPath::setting(dotted);
        };
        let name = rest.split('.').next().unwrap_or_default();
        let index = self
            .checked
            .stages
            .iter()
            .position(|stage| stage.as_deref() == Some(name))
            .unwrap_or_default();
        rest.split('.').fold(
            KeyPath::setting("stages").child(index.to_string()),
            |path, key| path.child(key),
        )
    }

    /// Gives each stage with its path, which names its place in the list.
    fn stage_paths(&self) -> Vec<(KeyPath, &'a StageConfig)> {
        let list = KeyPath::setting("stages");
        let mut places = self.checked.stages.iter().enumerate();
        let config = self.config;
        let found = config.stages.iter().filter_map(|stage| {
            // A stage that is written wrongly has a place and no settings.
            let (index, _) = places.find(|(_, name)| name.as_deref() == Some(stage.name()))?;
            Some((list.child(index.to_string()).child(stage.name()), stage))
        });
        found.collect()
    }

    fn order(&mut self) {
        if self.checked.stages.is_empty() {
            self.say(
                "no_stages",
                "stages",
                "the pipeline has no stages",
                "write `stages:` with at least `- fan_out: {}` below `snoke_ws`",
            );
            return;
        }
        let mut found = self.repeated_stages();
        found.extend(self.misplaced_stages());
        self.problems.extend(found);
    }

    /// Gives the place of the stage at `index`, or of the list without one.
    fn stage_mark(&self, index: Option<usize>) -> Mark {
        let list = KeyPath::setting("stages");
        self.root.nearest_key(&match index {
            Some(index) => list.child(index.to_string()),
            None => list,
        })
    }

    /// Stages of one name are told apart by their conditions, as is what they keep over a reload.
    fn repeated_stages(&self) -> Vec<Problem> {
        let mut seen: Vec<(&str, Option<Arc<str>>, Mark)> = Vec::new();
        let mut found = Vec::new();
        for (path, stage) in self.stage_paths() {
            if self.is_poisoned(&path.child("when")) {
                continue;
            }
            let (name, when) = (stage.name(), routing::identities(stage));
            let mark = self.root.nearest_key(&path);
            let first = seen
                .iter()
                .find(|(other, its, _)| *other == name && *its == when);
            if let Some((.., first)) = first {
                let (how, hint) = match (&when, stage) {
                    (_, StageConfig::Auth(_) | StageConfig::FanOut(_)) => {
                        ("", "remove one of the two")
                    }
                    (Some(_), _) => (" with one condition", "make one of the two"),
                    (None, _) => ("", "remove one of the two, or tell them apart by `when`"),
                };
                found.push(
                    Problem::at(
                        mark,
                        "duplicate_stage",
                        format!(
                            "the stage `{name}` is listed twice{how}; the first is on line {}",
                            first.line
                        ),
                    )
                    .hint(hint),
                );
            } else {
                seen.push((name, when, mark));
            }
        }
        found
    }

    fn misplaced_stages(&self) -> Vec<Problem> {
        let stages = &self.checked.stages;
        let position = |name: &str| {
            stages
                .iter()
                .position(|stage| stage.as_deref() == Some(name))
        };
        // A stage that is written wrongly may be the one that seems to be missing.
        let whole = stages.iter().all(Option::is_some);
        let mut found = Vec::new();
        let mut say = |index, code, message: &str, hint: &str| {
            found.push(Problem::at(self.stage_mark(index), code, message).hint(hint));
        };
        match position("fan_out") {
            None if whole => say(
                None,
                "missing_fan_out",
                "the pipeline has no `fan_out`: no event would leave the gateway",
                "add `- fan_out: {}` as the last stage",
            ),
            Some(index) if index + 1 < stages.len() => say(
                Some(index),
                "fan_out_not_last",
                "`fan_out` must be the last stage; what stands below it would never be reached",
                "move it to the end of `stages`",
            ),
            _ => {}
        }
        match position("auth") {
            None if whole => say(
                None,
                "missing_auth",
                "the pipeline has no `auth`: anyone may connect",
                "add `- auth: { jwt: { … } }` as the first stage",
            ),
            Some(index) if index > 0 => say(
                Some(index),
                "auth_not_first",
                "`auth` must be the first stage; what stands above it would see clients that nobody has admitted",
                "move it to the top of `stages`",
            ),
            _ => {}
        }
        // A limit with a condition is for some messages only, and pings are hardly among them.
        let limit = self.stage_paths().into_iter().find_map(|(path, stage)| {
            let of_all = stage.name() == "rate_limit" && stage.settings().when().is_none();
            let index = path.segments().get(2).filter(|_| of_all)?;
            index.parse::<usize>().ok()
        });
        if let (Some(limit), Some(filter)) = (limit, position("ping_filter"))
            && limit < filter
        {
            say(
                Some(filter),
                "ping_filter_below_rate_limit",
                "`ping_filter` stands below `rate_limit`: pings count against the limit",
                "move it above `rate_limit`, unless that is meant",
            );
        }
        found
    }

    fn stages(&mut self) {
        let config = self.config;
        for stage in &config.stages {
            match stage {
                StageConfig::Auth(auth) => self.auth(auth),
                StageConfig::OrderingKey(ordering) => {
                    let strategy = self.setting("stages.ordering_key.strategy");
                    if ordering.partition_mode == PartitionMode::Suffix
                        && ordering.strategy == OrderingStrategy::None
                        && !self.is_poisoned(&strategy)
                    {
                        self.say(
                            "partition_without_strategy",
                            "stages.ordering_key.partition_mode",
                            "`partition_mode: suffix` has no effect while `strategy` is `none`",
                            "set `strategy` to `topic` or `subject`, or split by `shards`",
                        );
                    }
                    let partitions = Partitions::of_stage(ordering);
                    let first = Partitions::of(config);
                    if partitions != Partitions::One && partitions != first {
                        self.say(
                            "partitions_differ",
                            "stages.ordering_key.partition_mode",
                            "two `ordering_key` stages split the inbox in two ways, and the first one decides",
                            "give both the same `partition_mode`, `partitions` and `partition_max_len`, or one of them `partition_mode: none`",
                        );
                    }
                }
                _ => {}
            }
        }
    }

    fn auth(&mut self, auth: &AuthConfig) {
        let jwt = &auth.jwt;
        let keys = [
            ("public_key", !jwt.public_key.is_empty()),
            ("public_key_file", !jwt.public_key_file.is_empty()),
            ("jwks_url", !jwt.jwks_url.is_empty()),
        ];
        let set: Vec<_> = keys
            .iter()
            .filter(|(_, set)| *set)
            .map(|(key, _)| *key)
            .collect();
        let any_poisoned = keys
            .iter()
            .any(|(key, _)| self.is_poisoned(&self.setting(&format!("stages.auth.jwt.{key}"))));
        match set.as_slice() {
            [] if !any_poisoned => {
                // The place is the `jwt` key itself, and a problem inside it must not hide this one.
                let at = self.root.nearest_key(&self.setting("stages.auth.jwt"));
                self.problems.push(
                    Problem::at(at, "auth_without_key", "`auth` has no key to verify tokens with: `public_key`, `public_key_file` and `jwks_url` are all empty")
                        .hint("set one of them; in the shipped files by JWT_PUBLIC_KEY, JWT_PUBLIC_KEY_FILE or JWT_JWKS_URL"),
                );
            }
            [_, second, ..] => {
                let listed = quoted_list(set.iter().copied());
                self.say(
                    "auth_with_several_keys",
                    &format!("stages.auth.jwt.{second}"),
                    format!("`auth` has more than one source of keys: {listed}"),
                    "keep one of them and leave the others empty",
                );
            }
            _ => {}
        }
        if jwt.algorithm.is_symmetric()
            && (jwt.public_key.reveal().contains("-----BEGIN") || !jwt.jwks_url.is_empty())
        {
            let what = if jwt.jwks_url.is_empty() {
                "a PEM public key"
            } else {
                "`jwks_url`"
            };
            self.say("hmac_with_public_key", "stages.auth.jwt.algorithm", format!("an HS algorithm takes a shared secret, and here stands {what}: whoever knows the public key could sign tokens"), "set the algorithm the key was made for, such as `RS256` or `ES256`");
        }
        if auth.token_sources.is_empty() {
            self.say(
                "no_token_sources",
                "stages.auth.token_sources",
                "`token_sources` is empty: no client can present a token",
                "name at least one source, or remove the key",
            );
        }
        if auth.token_sources.contains(&TokenSource::Cookie)
            && self.config.server.allowed_origins.is_empty()
            && !self.is_poisoned(&KeyPath::setting("server.allowed_origins"))
        {
            self.say("cookie_without_origins", "stages.auth.token_sources", "tokens are taken from cookies while every origin may connect: any web site could connect as its visitor", "set `server.allowed_origins`");
        }
    }

    fn events(&mut self) {
        let config = self.config;
        let Some(fan_out) = config.fan_out() else {
            return;
        };
        let mode = config.events_mode();
        let path = "stages.fan_out.events_mode";
        let implied = if fan_out.events_mode.is_none() {
            " (which the mode implies)"
        } else {
            ""
        };
        if self.is_poisoned(&self.setting(path))
            || fan_out.events_mode.is_none() && self.is_poisoned(&KeyPath::setting("mode"))
        {
            return;
        }
        let brokers = [
            ("events.redis_stream.dsn", &config.events.redis_stream.dsn),
            ("events.rabbitmq.dsn", &config.events.rabbitmq.dsn),
        ];
        let any_poisoned = brokers
            .iter()
            .any(|(key, _)| self.is_poisoned(&KeyPath::setting(key)));
        if mode.has_broker() && !any_poisoned && brokers.iter().all(|(_, dsn)| dsn.is_empty()) {
            let name = if mode == EventsMode::Both {
                "both"
            } else {
                "broker"
            };
            self.say(
                "broker_not_configured",
                path,
                format!("events mode `{name}`{implied} needs a broker, and `events.redis_stream.dsn` and `events.rabbitmq.dsn` are empty"),
                "set one of them, in the shipped files by REDIS_DSN or RABBITMQ_DSN, or `events_mode: webhook`",
            );
        }
        let webhook = &config.events.webhook;
        let url = KeyPath::setting("events.webhook.url");
        if mode.has_webhook() && !self.is_poisoned(&url) {
            if webhook.url.is_empty() && !config.events.stdout.enabled {
                // Without the key in the file, the stage that selects the sink is the nearest place.
                let place = if self.root.find(&url).is_some() {
                    url
                } else {
                    self.setting("stages.fan_out")
                };
                let (nowhere, name) = if mode == EventsMode::Both {
                    ("no event goes to the webhook", "both")
                } else {
                    ("events go nowhere", "webhook")
                };
                self.say_at("no_sink", &place, format!("{nowhere}: events mode `{name}`{implied} is selected and `events.webhook.url` is empty"), "set the URL, in the shipped files by SYMFONY_WEBHOOK_URL, or `events_mode: none` if that is meant");
            }
            if !webhook.url.is_empty() && webhook.secret.is_empty() {
                self.say("webhook_unsigned", "events.webhook.secret", "the webhook has no secret: the backend cannot tell real events from forged ones", "set it, in the shipped files by SYMFONY_WEBHOOK_SECRET");
            }
        }
    }

    fn logging(&mut self) {
        const LEVELS: [&str; 6] = ["error", "warn", "info", "debug", "trace", "off"];
        let level = &self.config.logging.level;
        // The filter takes a bare word for a module's name, so that a misspelt level would silently mean nothing.
        let stray = level.split(',').map(str::trim).find(|part| {
            !part.contains(['=', '['])
                && !part.contains("::")
                && !LEVELS.contains(&part.to_ascii_lowercase().as_str())
        });
        let valid = tracing_subscriber::EnvFilter::try_new(level).is_ok();
        if stray.is_some() || !valid {
            let word = stray.unwrap_or(level);
            let hint = match nearest(word, LEVELS) {
                Some(near) => format!("did you mean `{near}`?"),
                None => "write a level (`error`, `warn`, `info`, `debug`, `trace`, `off`) or a filter such as `info,wsgw::sinks=debug`".into(),
            };
            self.say(
                "bad_log_filter",
                "logging.level",
                format!("`{}` is not a log level", word.escape_debug()),
                hint,
            );
        }
    }
}
