//! The table of diagnostic codes: the one place that says which there are, how bad each is and what it means.
//!
//! `docs/diagnostics.md` is generated from it, and every problem takes its severity from it.

use super::diagnostic::Severity;
use Severity::{Error, Warning};

mod page;
mod routing;
mod symfony;
#[cfg(test)]
mod tests;

pub use page::render;
use routing::ROUTING;
use symfony::SYMFONY;

/// A row of the table of codes.
#[derive(Debug, Clone, Copy)]
pub struct Code {
    /// The code, which never changes its meaning.
    pub name: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// What it means.
    pub meaning: &'static str,
    /// What to do about it.
    pub action: &'static str,
}

const fn code(
    name: &'static str,
    severity: Severity,
    meaning: &'static str,
    action: &'static str,
) -> Code {
    Code {
        name,
        severity,
        meaning,
        action,
    }
}

/// All codes: first those about the text, then about keys and values, then about their meaning, then about
/// the Symfony bundle's side.
pub const TABLE: &[Code] =
    &joined::<{ FILE.len() + ROUTING.len() + SYMFONY.len() }>(&[FILE, ROUTING, SYMFONY]);

const FILE: &[Code] = &[
    code(
        "unreadable_file",
        Error,
        "The file is missing, is a directory, may not be read or is not UTF-8.",
        "Check the path and the file's permissions. `check` exits with 2.",
    ),
    code(
        "empty_file",
        Error,
        "The file holds nothing, or only comments.",
        "Write at least `snoke_ws:` with its `stages`.",
    ),
    code(
        "yaml_syntax",
        Error,
        "The text is not YAML.",
        "Look at the line and the one above it: a missing colon, quote or bracket, or wrong indentation.",
    ),
    code(
        "tab_indentation",
        Error,
        "A tab is used for indentation.",
        "Replace it by spaces.",
    ),
    code(
        "duplicate_key",
        Error,
        "A key is written twice in one map.",
        "Remove one of the two.",
    ),
    code(
        "second_document",
        Error,
        "A `---` begins a second YAML document.",
        "Keep one document a file.",
    ),
    code(
        "not_a_map",
        Error,
        "The file's outermost value is not a map.",
        "Write everything below `snoke_ws:`.",
    ),
    code(
        "bad_key",
        Error,
        "A key is a list, a map or an alias, or `<<` merges something that is no map.",
        "Quote texts that begin with `{`, `[` or `*`.",
    ),
    code(
        "unsupported_tag",
        Error,
        "A value has a tag (`!name`).",
        "Quote texts that begin with `!`.",
    ),
    code(
        "too_large",
        Error,
        "The file is too long, nests too deeply or grows too much by its aliases.",
        "Write values out instead of nesting aliases.",
    ),
    code(
        "missing_env",
        Error,
        "`${NAME}` names an environment variable that is not set.",
        "Set it, or give a default: `${NAME:-value}`.",
    ),
    code(
        "bad_env_file",
        Error,
        "`NAME_FILE` names a file that cannot be read, or `NAME` is set too.",
        "Set one of them; the file holds the value of `NAME`.",
    ),
    code(
        "bad_expansion",
        Error,
        "A `${…}` is malformed.",
        "Write `${NAME}` or `${NAME:-default}`; a literal `$` is `$$`.",
    ),
    code(
        "unknown_key",
        Error,
        "There is no such key at this place.",
        "Take the key the hint suggests, or look it up in the configuration reference.",
    ),
    code(
        "unknown_stage",
        Error,
        "There is no stage of this name.",
        "Take the name the hint suggests.",
    ),
    code(
        "bad_stage_item",
        Error,
        "An item of `stages` is not a map with one key, the stage's name.",
        "Write `- name: { … }`.",
    ),
    code(
        "wrong_type",
        Error,
        "The value is of another type than the key expects.",
        "Follow the hint; texts that look like numbers need quotes, numbers must have none.",
    ),
    code(
        "unknown_value",
        Error,
        "The value is not one of the key's words.",
        "Take one of the words listed.",
    ),
    code(
        "out_of_range",
        Error,
        "The number is too small or too large.",
        "Stay within the bounds named.",
    ),
    code(
        "invalid_value",
        Error,
        "The value has the right type but not the right form.",
        "Follow the message.",
    ),
    code(
        "unknown_override",
        Error,
        "A `--set` flag or a `WSGW__` variable addresses a key that does not exist.",
        "Take the key the hint suggests; paths begin below `snoke_ws`.",
    ),
    code(
        "override_missing_stage",
        Error,
        "A `--set` flag or a `WSGW__` variable addresses a stage that the file does not have.",
        "Add the stage to the file, or drop the override.",
    ),
    code(
        "bad_override",
        Error,
        "A `--set` flag or a `WSGW__` variable is malformed.",
        "Write `--set path.to.key=value`.",
    ),
    code(
        "no_stages",
        Error,
        "The pipeline has no stages.",
        "Write `stages:` with at least `- fan_out: {}`.",
    ),
    code(
        "missing_fan_out",
        Error,
        "The pipeline has no `fan_out`, so that no event would leave the gateway.",
        "Add `- fan_out: {}` as the last stage.",
    ),
    code(
        "fan_out_not_last",
        Error,
        "A stage stands below `fan_out` and would never be reached.",
        "Move `fan_out` to the end.",
    ),
    code(
        "auth_not_first",
        Error,
        "A stage stands above `auth` and would see clients that nobody has admitted.",
        "Move `auth` to the top.",
    ),
    code(
        "missing_auth",
        Warning,
        "The pipeline has no `auth`: anyone may connect.",
        "Add `- auth: …` as the first stage, unless that is meant.",
    ),
    code(
        "ping_filter_below_rate_limit",
        Warning,
        "Pings count against the rate limit, because `rate_limit` stands above `ping_filter`.",
        "Move `ping_filter` above `rate_limit`, unless that is meant.",
    ),
    code(
        "duplicate_stage",
        Error,
        "A stage is listed twice with one condition, or both times without any.",
        "Remove one of the two, or tell them apart by `when`.",
    ),
    code(
        "partition_without_strategy",
        Warning,
        "`partition_mode: suffix` has no effect without an ordering strategy.",
        "Set `strategy` to `topic` or `subject`, or split by `shards`, which need none.",
    ),
    code(
        "partitions_differ",
        Error,
        "Two `ordering_key` stages split the inbox in two ways.",
        "Give both the same `partition_mode`, `partitions` and `partition_max_len`, or leave the splitting to one of them.",
    ),
    code(
        "no_api_key",
        Warning,
        "`server.api_key` is empty, so that every call to `/internal/*` is refused.",
        "Set a key, in the shipped files by GATEWAY_API_KEY.",
    ),
    code(
        "auth_without_key",
        Error,
        "`auth` has nothing to verify tokens with.",
        "Set one of `public_key`, `public_key_file` and `jwks_url`, in the shipped files by JWT_PUBLIC_KEY, JWT_PUBLIC_KEY_FILE or JWT_JWKS_URL.",
    ),
    code(
        "auth_with_several_keys",
        Error,
        "`auth` has more than one source of keys, and would have to ignore one.",
        "Keep one of `public_key`, `public_key_file` and `jwks_url`.",
    ),
    code(
        "hmac_with_public_key",
        Error,
        "An HS algorithm is set beside a public key. Whoever knows the public key could then sign tokens.",
        "Set the algorithm the key was made for, such as RS256 or ES256.",
    ),
    code(
        "no_token_sources",
        Warning,
        "`auth.token_sources` is empty, so that no client can present a token.",
        "Name at least one source, or remove the key.",
    ),
    code(
        "no_sink",
        Warning,
        "Events go nowhere: the selected sink has no address.",
        "Set `events.webhook.url`, in the shipped files by SYMFONY_WEBHOOK_URL, or `events_mode: none` if that is meant.",
    ),
    code(
        "broker_not_configured",
        Error,
        "`events_mode` selects brokers, and none is configured.",
        "Set `events_mode` to `webhook`, or configure a broker.",
    ),
    code(
        "bad_url",
        Error,
        "The value is not an absolute http or https URL.",
        "Write it in full: `https://app.example/webhook`.",
    ),
    code(
        "webhook_unsigned",
        Warning,
        "The webhook has no secret, so that the backend cannot tell real events from forged ones.",
        "Set `events.webhook.secret`, in the shipped files by SYMFONY_WEBHOOK_SECRET.",
    ),
    code(
        "bad_address",
        Error,
        "The value is not an address with a port.",
        "Write `0.0.0.0:8000`, `127.0.0.1:8000` or `[::]:8000`.",
    ),
    code(
        "same_address",
        Error,
        "`listen` and `internal_listen` are the same address.",
        "Give one another port, or leave `internal_listen` empty.",
    ),
    code(
        "bad_path",
        Error,
        "The path does not begin with `/` or holds characters a path cannot have.",
        "Write it like `/ws`.",
    ),
    code(
        "reserved_path",
        Error,
        "The path belongs to the gateway's own HTTP API.",
        "Choose another path, such as `/ws`.",
    ),
    code(
        "bad_origin",
        Error,
        "An entry of `allowed_origins` is not an origin: scheme and host, perhaps a port, nothing else.",
        "Write it like `https://app.example` or `https://*.example`.",
    ),
    code(
        "cookie_without_origins",
        Warning,
        "Tokens are taken from cookies while every origin may connect: any web site could connect as its visitor.",
        "Set `server.allowed_origins`.",
    ),
    code(
        "short_secret",
        Warning,
        "A secret is shorter than 16 characters and can be guessed.",
        "Take a longer one, for instance from `openssl rand -hex 32`.",
    ),
    code(
        "bad_whsec",
        Error,
        "A secret begins with `whsec_`, and what follows is not base64.",
        "Copy the secret again, or drop the prefix.",
    ),
    code(
        "empty_user_prefix",
        Warning,
        "`subjects.user_prefix` is empty, so that a user's own subject is the bare user id and may equal another subject.",
        "Set a prefix such as `user:`.",
    ),
    code(
        "bad_log_filter",
        Error,
        "The log level is neither a level nor a filter.",
        "Write `error`, `warn`, `info`, `debug`, `trace`, `off` or a filter such as `info,wsgw::sinks=debug`.",
    ),
    code(
        "bad_header_name",
        Error,
        "The value is not a name an HTTP header can have.",
        "Use letters, digits and `-`, as in `X-Trace-Id`.",
    ),
    code(
        "bad_authorize_rule",
        Error,
        "A rule of `authorize` names no field, allows nothing, or has a pattern or a pointer that cannot be read.",
        "Write a field, and patterns with `*`, `{user_id}` and `{claim:/path}`, or `allow_claim: /path`.",
    ),
    code(
        "authorize_without_rules",
        Warning,
        "An `authorize` stage has no rules, so that every message passes.",
        "Add rules, or remove the stage.",
    ),
    code(
        "admin_without_listener",
        Error,
        "The operator's page is enabled, and there is no listener apart from the clients'.",
        "Set `server.internal_listen` to an address that only operators reach.",
    ),
    code(
        "admin_without_key",
        Error,
        "The operator's page is enabled without a key.",
        "Set `admin.api_key` or `admin.api_key_file`, in the shipped files by ADMIN_API_KEY or ADMIN_API_KEY_FILE.",
    ),
    code(
        "admin_key_shared",
        Error,
        "The operator's key is the gateway's, which the backend knows.",
        "Take another key, for instance from `openssl rand -hex 32`.",
    ),
    code(
        "two_admin_keys",
        Error,
        "The operator's key is given twice, as text and by a file.",
        "Keep one of `admin.api_key` and `admin.api_key_file`.",
    ),
    code(
        "trace_field_taken",
        Error,
        "The trace id's field has the name of another member of an event.",
        "Choose a name of its own, such as `trace_id`.",
    ),
    code(
        "bad_otlp_headers",
        Error,
        "The headers for the collector are not a list of names and values, or name one of HTTP's own.",
        "Write them like `api-key=secret,x-tenant=one`, with values percent-encoded.",
    ),
    code(
        "stdout_taken",
        Error,
        "Spans and events are both to be written to standard output, where nobody could tell them apart.",
        "Send one of them elsewhere.",
    ),
    code(
        "exporter_idle",
        Warning,
        "An exporter of spans is configured, and no strategy is `full`, so that there are none.",
        "Set `tracing.strategy: full`, or `exporter: none`.",
    ),
    code(
        "bad_dsn",
        Error,
        "The value is not the address of a broker or database that the gateway can connect to.",
        "Write it like `redis://user:password@host:6379/0` (Sentinels and clusters: docs/brokers.md), `amqp://user:password@host:5672/vhost`, `sqlite://file.db` or `postgres://user:password@host/database`.",
    ),
    code(
        "replay_without_redis",
        Error,
        "Replay calls are to be counted or remembered in Redis, and no Redis is configured.",
        "Set the `redis_dsn` beside it, or `strategy: in_memory`.",
    ),
    code(
        "several_gateways_one_file",
        Warning,
        "Events go to brokers, as several gateways share them, and the archive is a file that only one gateway can write.",
        "Name a PostgreSQL database in `replay.archive.dsn` once there is more than one gateway.",
    ),
    code(
        "ttl_without_queue",
        Warning,
        "A queue's TTL is set and the queue is not named: the gateway declares none, so that nothing has that TTL.",
        "Name the queue beside it, or remove the TTL.",
    ),
    code(
        "bad_case",
        Warning,
        "A test below `tests` is malformed. The gateway does not mind; `wsgw test` refuses the file.",
        "Take the key the hint suggests, or look it up in docs/testing.md.",
    ),
];

const fn joined<const N: usize>(parts: &[&[Code]]) -> [Code; N] {
    let mut table = [code("", Error, "", ""); N];
    let (mut at, mut part) = (0, 0);
    while part < parts.len() {
        let mut row = 0;
        while row < parts[part].len() {
            table[at] = parts[part][row];
            at += 1;
            row += 1;
        }
        part += 1;
    }
    table
}

/// Gives the severity of the code `name`; one that the table lacks counts as an error.
#[must_use]
pub fn severity(name: &str) -> Severity {
    TABLE
        .iter()
        .find(|code| code.name == name)
        .map_or(Error, |code| code.severity)
}
