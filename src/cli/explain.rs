//! `wsgw explain`: prints the compiled stack and every effective value with where it came from.
//!
//! Stands beside the data path: it shows the settings that `pipeline` would compile.

use std::borrow::Cow;
use std::io::{self, Write};
use std::path::Path;

use serde_json::Value as Json;

use crate::config::{self, Config, LoadError, Loaded, Mode, Overrides};
use crate::stages::fan_out::OnFull;

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
    }
    writeln!(out, "\nsinks:")?;
    sinks(config, out)?;
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
    if to_webhook {
        webhook(config, out)?;
    }
    if to_stdout {
        writeln!(out, "  stdout: one JSON line an event")?;
    }
    if !to_webhook && !to_stdout {
        writeln!(out, "  none: events go nowhere")?;
    }
    let file = &config.events.dead_letters.file;
    if file.path.is_empty() {
        writeln!(out, "  dead letters: only counted and logged")
    } else {
        writeln!(
            out,
            "  dead letters: {}, {} files of {} bytes kept",
            file.path, file.max_files, file.max_bytes
        )
    }
}

fn webhook(config: &Config, out: &mut dyn Write) -> io::Result<()> {
    let webhook = &config.events.webhook;
    let signed = if webhook.secret.is_empty() {
        "unsigned"
    } else {
        "signed"
    };
    let on_full = config.fan_out().map(|fan_out| fan_out.on_full);
    let full = match on_full.unwrap_or_default() {
        OnFull::Wait => "the client's reads pause",
        OnFull::Reject => "the client is answered overloaded",
        OnFull::Close => "the connection is closed with 1013",
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
        "    buffer: {} events, {} bytes, {} requests at once; full: {full}",
        webhook.buffer.max_events, webhook.buffer.max_bytes, webhook.concurrency
    )
}

/// Shows a value as the file would write it.
fn shown(value: &Json) -> String {
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
fn without_password(text: &str) -> Cow<'_, str> {
    let masked = || {
        let (scheme, rest) = text.split_once("://")?;
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (credentials, host) = rest[..end].rsplit_once('@')?;
        let (user, _) = credentials.split_once(':')?;
        Some(format!("{scheme}://{user}:***@{host}{}", &rest[end..]))
    };
    masked().map_or(Cow::Borrowed(text), Cow::Owned)
}
