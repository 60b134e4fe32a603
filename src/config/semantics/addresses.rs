//! Checks addresses, paths, URLs and origins.
//!
//! Part of the checks of meaning; nothing is resolved or connected to.

use super::Review;
use crate::brokers::redis::RedisDsn;
use crate::config::Secret;
use crate::config::document::KeyPath;
use crate::stages::StageConfig;

/// Paths of the gateway's own HTTP API.
const RESERVED: [&str; 4] = ["/internal", "/health", "/ready", "/metrics"];

pub(super) fn check(review: &mut Review<'_>) {
    let config = review.config;
    let server = &config.server;
    let hint = "write `0.0.0.0:8000`, `127.0.0.1:8000` or `[::]:8000`";
    let listen = host_and_port(&server.listen);
    if listen.is_none() {
        review.say(
            "bad_address",
            "server.listen",
            format!("`{}` is not an address with a port", server.listen),
            hint,
        );
    }
    if !server.internal_listen.is_empty() {
        match host_and_port(&server.internal_listen) {
            None => review.say(
                "bad_address",
                "server.internal_listen",
                format!("`{}` is not an address with a port", server.internal_listen),
                hint,
            ),
            Some((_, 0)) => {}
            same if same == listen => {
                review.say(
                    "same_address",
                    "server.internal_listen",
                    "`server.internal_listen` is the same address as `server.listen`",
                    "give it another port, or leave it empty to serve both on one",
                );
            }
            Some(_) => {}
        }
    }
    path(review, &server.path);
    for (index, origin) in server.allowed_origins.iter().enumerate() {
        if let Some((message, hint)) = origin_fault(origin) {
            let path = KeyPath::setting("server.allowed_origins").child(index.to_string());
            review.say_at("bad_origin", &path, message, hint);
        }
    }
    url(review, "events.webhook.url", &config.events.webhook.url);
    let collector = &config.tracing.otlp.endpoint;
    url(review, "tracing.otlp.endpoint", collector);
    for (key, dsn) in [
        (
            "transport.redis_stream.dsn",
            &config.transport.redis_stream.dsn,
        ),
        ("events.redis_stream.dsn", &config.events.redis_stream.dsn),
        ("presence.redis.dsn", &config.presence.redis.dsn),
        (
            "replay.api.rate_limit.redis_dsn",
            &config.replay.api.rate_limit.redis_dsn,
        ),
        (
            "replay.api.idempotency.redis_dsn",
            &config.replay.api.idempotency.redis_dsn,
        ),
    ] {
        redis_dsn(review, key, dsn);
    }
    for stage in &config.stages {
        if let StageConfig::Auth(auth) = stage {
            url(review, "stages.auth.jwt.jwks_url", &auth.jwt.jwks_url);
        }
    }
}

fn host_and_port(address: &str) -> Option<(&str, u16)> {
    let (host, port) = address.rsplit_once(':')?;
    let port = port
        .bytes()
        .all(|byte| byte.is_ascii_digit())
        .then(|| port.parse().ok())??;
    let bracketed = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    let valid = if let Some(host) = bracketed {
        host.parse::<std::net::Ipv6Addr>().is_ok()
    } else if host
        .bytes()
        .all(|byte| byte.is_ascii_digit() || byte == b'.')
    {
        host.parse::<std::net::Ipv4Addr>().is_ok()
    } else {
        host.bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_'))
    };
    valid.then_some((host, port))
}

fn path(review: &mut Review<'_>, path: &str) {
    let strange = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '?' | '#');
    if !path.starts_with('/') || path.contains(strange) {
        review.say(
            "bad_path",
            "server.path",
            format!("`{}` is not a path", path.escape_debug()),
            "it begins with `/` and holds no spaces, `?` or `#`, as in `/ws`",
        );
    } else if let Some(reserved) = RESERVED.into_iter().find(|reserved| {
        path.strip_prefix(reserved)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }) {
        review.say(
            "reserved_path",
            "server.path",
            format!("`{path}` belongs to the gateway's own `{reserved}`"),
            "choose another path, such as `/ws`",
        );
    }
}

fn url(review: &mut Review<'_>, key: &str, text: &str) {
    if text.is_empty() {
        return;
    }
    let hint = match url::Url::parse(text) {
        Ok(url)
            if matches!(url.scheme(), "http" | "https")
                && url.has_host()
                && has_authority(text) =>
        {
            return;
        }
        Err(url::ParseError::InvalidPort) => "the port must be a number up to 65535",
        _ if text.starts_with('/') => {
            "write it in full, with scheme and host: `https://app.example/webhook`"
        }
        _ if !text.contains("://") => "begin it with `https://` or `http://`",
        _ => "write it like `https://app.example/webhook`",
    };
    // A URL may hold a password, so that the message does not repeat it.
    review.say(
        "bad_url",
        key,
        format!("`{key}` is not an absolute http or https URL"),
        hint,
    );
}

fn redis_dsn(review: &mut Review<'_>, key: &str, dsn: &Secret) {
    if dsn.is_empty() {
        return;
    }
    if let Err(error) = RedisDsn::parse(dsn.reveal()) {
        review.say(
            "bad_dsn",
            key,
            format!("`{key}`: {error}"),
            "write it like `redis://user:password@host:6379/0`",
        );
    }
}

/// The URL standard reads `http:app.example` as `http://app.example`; nobody means that.
fn has_authority(text: &str) -> bool {
    text.split_once("://")
        .is_some_and(|(_, rest)| !rest.starts_with('/'))
}

fn origin_fault(origin: &str) -> Option<(String, String)> {
    let fault =
        |what: &str, hint: String| Some((format!("`{}` {what}", origin.escape_debug()), hint));
    if origin == "*" {
        return fault(
            "is not an origin",
            "to allow any origin, leave the list empty".into(),
        );
    }
    let Some((scheme, host)) = origin.split_once("://") else {
        return fault(
            "is not an origin: it has no scheme",
            format!("write `https://{}`", origin.trim_matches('/')),
        );
    };
    let bad_scheme = scheme.is_empty()
        || !scheme
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.'));
    if let Some((host, rest)) = host.split_once('/') {
        let what = if rest.is_empty() {
            "ends with a slash; browsers send origins without"
        } else {
            "has a path; an origin ends after host and port"
        };
        return fault(what, format!("write `{scheme}://{host}`"));
    }
    let name = host.strip_prefix("*.").unwrap_or(host);
    let (name, port) = match name.rsplit_once(':') {
        Some((name, port)) if !port.ends_with(']') => (name, Some(port)),
        _ => (name, None),
    };
    let bad_port = port.is_some_and(|port| port.parse::<u16>().is_err());
    let bad_name = name.is_empty()
        || name.contains(|c: char| c.is_whitespace() || matches!(c, '*' | '?' | '#' | '@' | ','));
    if bad_scheme || bad_port || bad_name {
        return fault(
            "is not an origin",
            "write it like `https://app.example`, `http://localhost:3000` or `https://*.example`"
                .into(),
        );
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for good in [
            "0.0.0.0:8000",
            "[::]:0",
            "localhost:8000",
            "gateway_1.internal:1",
        ] {
            assert!(host_and_port(good).is_some(), "{good}");
        }
        for bad in [
            "",
            "8000",
            ":8000",
            "0.0.0.0",
            "0.0.0.0:",
            "0.0.0.0:99999",
            "::1:80",
            "300.1.1.1:1",
            "http://x:1",
            "a:+1",
            "a b:1",
        ] {
            assert!(host_and_port(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn origins() {
        for good in [
            "https://app.example",
            "http://localhost:3000",
            "https://*.example",
            "capacitor://localhost",
            "http://[::1]:80",
        ] {
            assert_eq!(origin_fault(good), None, "{good}");
        }
        for bad in [
            "*",
            "app.example",
            "https://app.example/",
            "https://app.example/x",
            "https://",
            "https://a:b",
            "https://a.*.b",
            "://x",
        ] {
            assert!(origin_fault(bad).is_some(), "{bad}");
        }
    }
}
