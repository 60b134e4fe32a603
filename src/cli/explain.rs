//! `wsgw explain`: prints the compiled stack and every effective value with where it came from.
//!
//! Stands beside the data path: it shows the settings that `pipeline` would compile.

use std::borrow::Cow;
use std::io::{self, Write};
use std::path::Path;

use serde_json::Value as Json;

use crate::config::{self, BufferConfig, Config, LoadError, Loaded, Mode, Overrides, Secret};
use crate::replay::ReplayStrategy;
use crate::sinks::dead_letter_routes;
use crate::stages::fan_out::{OnFull, RouteMatch};
use crate::stages::ordering_key::Partitions;

/// Explains the pipeline in `file` to `out` and gives the exit code: 0, or 1 with the problems printed.
///
/// # Errors
///
/// Fails if `out` does.
pub fn run_explain(
    file: &Path,
    overrides: &Overrides,
    color: bool,
    out: &mut dyn Write,
) -> io::Result<u8> {
    match config::load(file, overrides) {
        Ok(loaded) => {
            for warning in &loaded.warnings {
                writeln!(out, "{}", warning.render(color))?;
            }
            explain(&file.display().to_string(), &loaded, out)?;
            Ok(0)
        }
        Err(LoadError::Invalid(problems)) => {
            for problem in &problems {
                writeln!(out, "{}", problem.render(color))?;
            }
            Ok(1)
        }
        Err(error @ LoadError::Unreadable { .. }) => {
            writeln!(out, "{error}")?;
            Ok(1)
        }
    }
}

fn explain(name: &str, loaded: &Loaded, out: &mut dyn Write) -> io::Result<()> {
    let config = &loaded.config;
    let mode = match config.mode {
        Mode::Terminator => "terminator",
        Mode::Core => "core",
    };
    writeln!(out, "{name}: mode {mode}, config {}\n", loaded.hash)?;
    writeln!(out, "stages, in the order a message meets them:")?;
    for (index, stage) in config.stages.iter().enumerate() {
        let settings = stage.settings();
        let (number, name) = (index + 1, stage.name());
        let (acts_on, does) = (settings.acts_on(), settings.does());
        writeln!(out, "  {number}. {name:<13} {acts_on:<44} {does}")?;
        if let Some(when) = settings.when() {
            writeln!(out, "       when {when}")?;
        }
    }
    writeln!(out, "\nsinks:")?;
    sinks(config, out)?;
    routes(config, out)?;
    writeln!(out, "\npushes come from:")?;
    sources(config, out)?;
    writeln!(out, "\nvalues:")?;
    let settings = loaded.origins.settings();
    let rows: Vec<_> = settings
        .iter()
        .map(|setting| {
            (
                format!("{} = {}", setting.path, shown(&setting.value)),
                &setting.origin,
            )
        })
        .collect();
    let width = rows
        .iter()
        .map(|(text, _)| text.chars().count())
        .filter(|width| *width <= 70)
        .max()
        .unwrap_or_default();
    for (text, origin) in rows {
        writeln!(out, "  {text:<width$}   ({origin})")?;
    }
    Ok(())
}

fn sinks(config: &Config, out: &mut dyn Write) -> io::Result<()> {
    let to_webhook = config.events_mode().has_webhook() && !config.events.webhook.url.is_empty();
    let to_stdout = config.events.stdout.enabled;
    let to_broker = |dsn: &Secret| config.events_mode().has_broker() && !dsn.is_empty();
    let (redis, rabbitmq) = (&config.events.redis_stream, &config.events.rabbitmq);
    let durable = config.replay.strategy == ReplayStrategy::Durable;
    let part = Partitions::pattern(config).map_or(String::new(), |part| format!(".{part}"));
    if to_webhook {
        webhook(config, out)?;
    }
    if to_broker(&redis.dsn) {
        writeln!(
            out,
            "  redis: {}, streams {}{part} and {}",
            place(&redis.dsn),
            redis.inbox_stream,
            redis.stream
        )?;
        broker(config, &redis.buffer, out)?;
    }
    if to_broker(&rabbitmq.dsn) {
        writeln!(
            out,
            "  rabbitmq: {}, exchanges {} and {}, confirmed",
            place(&rabbitmq.dsn),
            rabbitmq.inbox_exchange,
            rabbitmq.exchange
        )?;
        broker(config, &rabbitmq.buffer, out)?;
    }
    if durable {
        let archive = &config.replay.archive;
        let buffer = &archive.buffer;
        writeln!(
            out,
            "  archive: {}\n    buffer: {} events, {} bytes; full: the event is not archived, and counted",
            without_password(archive.address()),
            buffer.max_events,
            buffer.max_bytes
        )?;
    }
    if to_stdout {
        writeln!(out, "  stdout: one JSON line an event")?;
    }
    if !to_webhook && !to_stdout && !durable && !to_broker(&redis.dsn) && !to_broker(&rabbitmq.dsn)
    {
        writeln!(out, "  none: events go nowhere")?;
    }
    dead_letters(config, out)
}

fn routes(config: &Config, out: &mut dyn Write) -> io::Result<()> {
    let Some(fan_out) = config
        .fan_out()
        .filter(|fan_out| !fan_out.routes.is_empty())
    else {
        return Ok(());
    };
    let which = match fan_out.route_match {
        RouteMatch::First => "an event takes the first that holds",
        RouteMatch::All => "an event takes all that hold",
    };
    writeln!(out, "\nroutes, {which}:")?;
    for (index, route) in fan_out.routes.iter().enumerate() {
        let to = match route.to.as_deref().unwrap_or_default() {
            [] => "nowhere".to_owned(),
            sinks => sinks.join(", "),
        };
        match &route.when {
            Some(when) => writeln!(out, "  {}. {when} -> {to}", index + 1)?,
            None => writeln!(out, "  {}. everything -> {to}", index + 1)?,
        }
    }
    if fan_out.routes.iter().all(|route| route.when.is_some()) {
        writeln!(out, "  all else -> nowhere, and counted")?;
    }
    Ok(())
}

fn broker(config: &Config, buffer: &BufferConfig, out: &mut dyn Write) -> io::Result<()> {
    writeln!(
        out,
        "    tries: until the gateway stops\n    buffer: {} events, {} bytes; full: {}",
        buffer.max_events,
        buffer.max_bytes,
        when_full(config)
    )
}

fn dead_letters(config: &Config, out: &mut dyn Write) -> io::Result<()> {
    let mut named = dead_letter_routes::brokers(config);
    let file = &config.events.dead_letters.file;
    if !file.path.is_empty() {
        named.push(format!(
            "{}, {} files of {} bytes kept",
            file.path, file.max_files, file.max_bytes
        ));
    }
    if named.is_empty() {
        named.push("only counted and logged".to_owned());
    }
    writeln!(out, "  dead letters: {}", named.join(", else "))
}

fn sources(config: &Config, out: &mut dyn Write) -> io::Result<()> {
    let (redis, rabbitmq) = (&config.transport.redis_stream, &config.transport.rabbitmq);
    writeln!(out, "  http: POST /internal/publish")?;
    if !redis.dsn.is_empty() {
        let from = match config.replay.strategy {
            ReplayStrategy::None => "from its end on",
            ReplayStrategy::Bounded | ReplayStrategy::Durable => "from where this gateway stopped",
        };
        writeln!(
            out,
            "  redis: {}, stream {}, {from}",
            place(&redis.dsn),
            redis.stream
        )?;
    }
    if !rabbitmq.dsn.is_empty() {
        let queue = match rabbitmq.queue.as_str() {
            "" => "a queue of this gateway's own".to_owned(),
            queue => format!("the shared queue {queue}"),
        };
        writeln!(
            out,
            "  rabbitmq: {}, exchange {}, {queue}",
            place(&rabbitmq.dsn),
            rabbitmq.exchange
        )?;
    }
    Ok(())
}

/// Where a DSN leads, without what may be secret.
fn place(dsn: &Secret) -> Cow<'_, str> {
    let dsn = dsn.reveal();
    let end = dsn.find(['?', '#']).unwrap_or(dsn.len());
    if dsn[..end].contains("://") {
        without_password(&dsn[..end])
    } else {
        Cow::Borrowed("(as configured)")
    }
}

fn when_full(config: &Config) -> &'static str {
    let on_full = config.fan_out().map(|fan_out| fan_out.on_full);
    match on_full.unwrap_or_default() {
        OnFull::Wait => "the client's reads pause",
        OnFull::Reject => "the client is answered overloaded",
        OnFull::Close => "the connection is closed with 1013",
    }
}

fn webhook(config: &Config, out: &mut dyn Write) -> io::Result<()> {
    let webhook = &config.events.webhook;
    let signed = if webhook.secret.is_empty() {
        "unsigned"
    } else {
        "signed"
    };
    writeln!(
        out,
        "  webhook: POST {}, {signed}",
        without_password(&webhook.url)
    )?;
    writeln!(
        out,
        "    tries: {} of at most {} s each, {} s before the second, doubled with jitter up to {} s",
        webhook.retry_attempts,
        webhook.timeout_seconds,
        webhook.retry_base_seconds,
        webhook.retry_max_seconds
    )?;
    writeln!(
        out,
        "    buffer: {} events, {} bytes, {} requests at once; full: {}",
        webhook.buffer.max_events,
        webhook.buffer.max_bytes,
        webhook.concurrency,
        when_full(config)
    )
}

/// Shows a value as the file would write it.
pub(super) fn shown(value: &Json) -> String {
    match value {
        Json::Null => "(none)".into(),
        Json::String(text) if text.is_empty() => "\"\"".into(),
        Json::String(text) if !text.contains(|c: char| c.is_control()) => {
            without_password(text).into_owned()
        }
        other => other.to_string(),
    }
}

/// Hides the password of a text that is a URL; anything else stays.
pub(super) fn without_password(text: &str) -> Cow<'_, str> {
    let masked = || {
        let (scheme, rest) = text.split_once("://")?;
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (credentials, host) = rest[..end].rsplit_once('@')?;
        let (user, _) = credentials.split_once(':')?;
        Some(format!("{scheme}://{user}:***@{host}{}", &rest[end..]))
    };
    masked().map_or(Cow::Borrowed(text), Cow::Owned)
}
