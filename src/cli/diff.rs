//! `wsgw diff`: what a reload would do with each difference between two pipeline files.
//!
//! Stands beside the data path; the tables are those of a reload ([`crate::config::changes`]).

use std::io::{self, Write};

use super::check::Format;
use super::explain::shown;
use crate::config::Loaded;
use crate::config::changes::{Change, Effect, How, between};

/// Exit code where a difference waits for a restart.
const NEEDS_RESTART: u8 = 3;

/// Prints the differences to `out` and gives the exit code: 0, or 3 if any needs a restart.
///
/// # Errors
///
/// Fails if `out` does.
pub fn run_diff(old: &Loaded, new: &Loaded, format: Format, out: &mut dyn Write) -> io::Result<u8> {
    let changes = between(old, new);
    match format {
        Format::Json => {
            serde_json::to_writer_pretty(&mut *out, &masked(&changes))?;
            writeln!(out)?;
        }
        Format::Text => text(&changes, out)?,
    }
    let restart = changes.iter().any(|c| c.effect == Effect::Restart);
    Ok(if restart { NEEDS_RESTART } else { 0 })
}

fn text(changes: &[Change], out: &mut dyn Write) -> io::Result<()> {
    if changes.is_empty() {
        return writeln!(out, "no difference");
    }
    let width = changes.iter().map(|change| change.path.len()).max();
    let width = width.unwrap_or_default();
    for change in changes {
        let (old, new) = (change.old.as_ref(), change.new.as_ref());
        let value = |value: Option<_>| value.map(shown).unwrap_or_default();
        let what = match change.change {
            How::Changed if old.is_none() => "follows from the above".to_owned(),
            How::Changed => format!("{} -> {}", value(old), value(new)),
            How::Added => format!("added, as number {}", value(new)),
            How::Removed => format!("removed, was number {}", value(old)),
            How::Moved => format!("moved from number {} to {}", value(old), value(new)),
        };
        let reason = change.reason.map(|reason| format!("  ({reason})"));
        writeln!(
            out,
            "{:<7}  {:<width$}  {what}{}",
            change.effect,
            change.path,
            reason.unwrap_or_default()
        )?;
    }
    let count = |effect| changes.iter().filter(|c| c.effect == effect).count();
    writeln!(
        out,
        "\n{} hot, {} drains, {} restart",
        count(Effect::Hot),
        count(Effect::Drains),
        count(Effect::Restart)
    )
}

/// The same without passwords in addresses.
fn masked(changes: &[Change]) -> Vec<Change> {
    let mask = |value: &serde_json::Value| match value {
        serde_json::Value::String(text) => super::explain::without_password(text).into(),
        other => other.clone(),
    };
    let masked = |change: &Change| Change {
        old: change.old.as_ref().map(mask),
        new: change.new.as_ref().map(mask),
        ..change.clone()
    };
    changes.iter().map(masked).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Overrides, load_str};

    fn diff(old: &str, new: &str, format: Format) -> (u8, String) {
        let load = |more: &str| {
            let text = format!(
                "snoke_ws:\n  events: {{ webhook: {{ secret: a-webhook-secret-of-length }} }}\n{more}"
            );
            load_str("p.yaml", &text, &Overrides::default()).unwrap()
        };
        let mut out = Vec::new();
        let code = run_diff(&load(old), &load(new), format, &mut out).unwrap();
        (code, String::from_utf8(out).unwrap())
    }

    const BEFORE: &str = "  server: { api_key: an-api-key-of-some-length, path: /ws }\n  \
        stages: [ping_filter: {}, fan_out: { events_mode: none }]\n";
    const AFTER: &str = "  server: { api_key: another-key-of-some-length, path: /socket, \
        listen: \"127.0.0.1:1\" }\n  stages: [rate_limit: {}, fan_out: { events_mode: none }]\n";

    #[test]
    fn differences_are_listed_with_what_becomes_of_them() {
        let (code, text) = diff(BEFORE, AFTER, Format::Text);
        assert_eq!(code, NEEDS_RESTART);
        insta::assert_snapshot!(text, @r"
        restart  server.listen       0.0.0.0:8000 -> 127.0.0.1:1  (the socket is bound when the gateway starts)
        hot      server.path         /ws -> /socket
        hot      server.api_key      *** -> ***
        hot      stages.ping_filter  removed, was number 1
        hot      stages.rate_limit   added, as number 1

        4 hot, 0 drains, 1 restart
        ");
        assert_eq!(
            diff(BEFORE, BEFORE, Format::Text),
            (0, "no difference\n".to_owned())
        );
    }

    #[test]
    fn json_is_a_list_without_secrets() {
        let (code, text) = diff(BEFORE, AFTER, Format::Json);
        assert_eq!(code, NEEDS_RESTART);
        assert!(!text.contains("-of-some-length"), "{text}");
        let list: serde_json::Value = serde_json::from_str(&text).unwrap();
        let listen = list
            .as_array()
            .unwrap()
            .iter()
            .find(|c| c["path"] == "server.listen");
        let listen = listen.unwrap();
        assert_eq!(listen["effect"], "restart");
        assert_eq!(listen["change"], "changed");
        assert_eq!(listen["new"], "127.0.0.1:1");
    }

    #[test]
    fn what_is_hot_exits_0_and_passwords_in_addresses_are_not_shown() {
        let with = |url: &str| {
            BEFORE
                .replace("path: /ws }", "path: /ws }\n  tracing: { header_name: X }")
                .replace("events_mode: none", "on_full: wait")
                .replace(
                    "  server:",
                    &format!("  transport: {{ redis_stream: {{ stream: \"{url}\" }} }}\n  server:"),
                )
        };
        let (code, text) = diff(
            &with("http://u:hunter2@a/"),
            &with("http://u:hunter3@a/"),
            Format::Json,
        );
        assert_eq!(code, 0, "{text}");
        assert!(!text.contains("hunter"), "{text}");
    }
}
