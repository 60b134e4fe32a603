//! The address of a `RabbitMQ` as it is configured.
//!
//! Read by the link, and by `wsgw check`, which connects to nothing. No error holds any part of the text: what looks
//! like a host or an option may be half of a password that was not percent-encoded.

use std::str::FromStr as _;

use lapin::uri::{AMQPAuthority, AMQPQueryString, AMQPScheme, AMQPUri, AMQPUserInfo};
use percent_encoding::percent_decode_str;
use url::Url;

use crate::brokers::DsnError;

/// The largest frame, in bytes. lapin keeps 32 of them as its reading buffer and as many to write, so that the
/// server's own 128 KiB would be 8 MB a connection.
const FRAME_BYTES: u32 = 16 * 1024;

/// Where a `RabbitMQ` is and who asks, as `amqp://user:password@host:5672/vhost` says.
#[derive(Clone, PartialEq, Eq)]
pub struct RabbitmqDsn {
    uri: AMQPUri,
}

impl RabbitmqDsn {
    /// Reads a DSN, without connecting to anything.
    ///
    /// User, password and vhost are percent-decoded; no vhost, and the empty one, is `/`. The only option is
    /// `heartbeat`, in seconds.
    ///
    /// # Errors
    /// When it is no DSN of `RabbitMQ`; the error never holds a part of it.
    pub fn parse(text: &str) -> Result<Self, DsnError> {
        let url = Url::parse(text).map_err(|error| {
            wrong(match error {
                url::ParseError::InvalidPort => {
                    "the port is not a number up to 65535, or the password needs percent-encoding"
                }
                _ => "it is not of the form `amqp://user:password@host:5672/vhost`",
            })
        })?;
        let scheme = AMQPScheme::from_str(url.scheme())
            .map_err(|_| wrong("it does not begin with `amqp://` or `amqps://`"))?;
        let host = match url.host_str() {
            None | Some("") => return Err(wrong("it names no host")),
            Some(host) => host.trim_start_matches('[').trim_end_matches(']'),
        };
        if url.fragment().is_some() {
            return Err(wrong("it holds a `#`, which is written `%23`"));
        }
        let path = url.path().strip_prefix('/').unwrap_or_default();
        if path.contains(['/', '@']) {
            return Err(wrong(
                "what follows the host is a vhost, in which `/` is written `%2F` and `@` `%40`",
            ));
        }
        let vhost = match decoded(path)? {
            empty if empty.is_empty() => "/".to_owned(),
            vhost => vhost,
        };
        let login = |given: Option<&str>| given.map_or_else(|| Ok("guest".to_owned()), decoded);
        let user = Some(url.username()).filter(|user| !user.is_empty());
        let port = url.port().unwrap_or(match scheme {
            AMQPScheme::AMQP => 5672,
            AMQPScheme::AMQPS => 5671,
        });
        Ok(Self {
            uri: AMQPUri {
                authority: AMQPAuthority {
                    userinfo: AMQPUserInfo {
                        username: login(user)?,
                        password: login(url.password())?,
                    },
                    host: decoded(host)?,
                    port,
                },
                vhost,
                query: AMQPQueryString {
                    frame_max: Some(FRAME_BYTES),
                    heartbeat: heartbeat(&url)?,
                    ..AMQPQueryString::default()
                },
                scheme,
            },
        })
    }

    /// Where it leads, as `host:5672/vhost`, without credentials.
    #[must_use]
    pub fn address(&self) -> String {
        let AMQPAuthority { host, port, .. } = &self.uri.authority;
        let vhost = match self.uri.vhost.as_str() {
            "/" => String::new(),
            vhost => format!("/{vhost}"),
        };
        if host.contains(':') {
            format!("[{host}]:{port}{vhost}")
        } else {
            format!("{host}:{port}{vhost}")
        }
    }

    /// Whether it asks for TLS.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        self.uri.scheme == AMQPScheme::AMQPS
    }

    /// What lapin connects to; heartbeats go by the given seconds unless the DSN says otherwise.
    pub(super) fn into_uri(self, heartbeat_seconds: u16) -> AMQPUri {
        let mut uri = self.uri;
        uri.query.heartbeat.get_or_insert(heartbeat_seconds);
        uri
    }
}

impl std::fmt::Debug for RabbitmqDsn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("RabbitmqDsn").field(&self.address()).finish()
    }
}

fn wrong(what: &str) -> DsnError {
    DsnError(format!("the DSN is not one of RabbitMQ: {what}"))
}

fn decoded(text: &str) -> Result<String, DsnError> {
    let decoded = percent_decode_str(text)
        .decode_utf8()
        .map_err(|_| wrong("a percent-encoded part of it is not UTF-8"))?;
    // Names are short strings of AMQP, which lapin refuses by a panic.
    if decoded.len() > 255 {
        return Err(wrong("a part of it is longer than 255 bytes"));
    }
    Ok(decoded.into_owned())
}

fn heartbeat(url: &Url) -> Result<Option<u16>, DsnError> {
    let mut heartbeat = None;
    for (name, value) in url.query_pairs() {
        if name != "heartbeat" {
            return Err(wrong(
                "it has an option that the gateway does not know (only `heartbeat` is one), or a `?` that is written `%3F`",
            ));
        }
        let seconds = value
            .parse()
            .ok()
            .filter(|seconds| (1..=3600).contains(seconds));
        heartbeat =
            Some(seconds.ok_or_else(|| wrong("`heartbeat` is a number of seconds, 1 to 3600"))?);
    }
    Ok(heartbeat)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uri(text: &str) -> AMQPUri {
        RabbitmqDsn::parse(text).unwrap().into_uri(5)
    }

    #[test]
    fn every_part_is_percent_decoded() {
        let uri = uri("amqps://us%40er:p%2Fa%3Ass%23@rabbit.example:5999/my%2Fvhost?heartbeat=30");
        assert_eq!(uri.scheme, AMQPScheme::AMQPS);
        assert_eq!(uri.authority.userinfo.username, "us@er");
        assert_eq!(uri.authority.userinfo.password, "p/a:ss#");
        assert_eq!(
            (uri.authority.host.as_str(), uri.authority.port),
            ("rabbit.example", 5999)
        );
        assert_eq!(
            (uri.vhost.as_str(), uri.query.heartbeat),
            ("my/vhost", Some(30))
        );
    }

    #[test]
    fn what_is_left_out_has_the_usual_default() {
        for text in [
            "amqp://localhost",
            "amqp://localhost/",
            "amqp://guest:guest@localhost/%2f",
        ] {
            let uri = uri(text);
            assert_eq!(
                (uri.vhost.as_str(), uri.authority.port),
                ("/", 5672),
                "{text}"
            );
            assert_eq!(uri.authority.userinfo.username, "guest");
            assert_eq!(uri.authority.userinfo.password, "guest");
            assert_eq!(uri.query.heartbeat, Some(5));
        }
        assert_eq!(uri("amqps://[::1]/v").authority.port, 5671);
        assert_eq!(uri("amqps://[::1]/v").authority.host, "::1");
        assert_eq!(uri("amqp://user:@h").authority.userinfo.password, "guest");
    }

    #[test]
    fn addresses_hold_no_credentials() {
        let address = |text| RabbitmqDsn::parse(text).unwrap().address();
        assert_eq!(address("amqp://u:hunter2@h/v"), "h:5672/v");
        assert_eq!(address("amqp://u:hunter2@[::1]:1"), "[::1]:1");
        let debug = format!("{:?}", RabbitmqDsn::parse("amqp://u:hunter2@h").unwrap());
        assert!(!debug.contains("hunter2"), "{debug}");
    }

    #[test]
    fn what_is_wrong_is_said_without_any_part_of_it() {
        for text in [
            "",
            "hunter2",
            "redis://:hunter2@localhost",
            "amqp:hunter2",
            "amqp://:hunter2@",
            "amqp://user:hunter2@host:70000",
            "amqp://user:hunter2@host:x",
            "amqp://user:12#hunter2@host",
            "amqp://user:12?hunter2@host",
            "amqp://user:12/hunter2@host",
            "amqp://user:hunter2@host/a/b",
            "amqp://user:hunter2%ff@host",
            "amqp://user:hunter2@host/?heartbeat=hunter2",
            "amqp://user:hunter2@host/?heartbeat=0",
            "amqp://user:hunter2@host/?hunter2=1",
            &format!("amqp://host/{}", "hunter2".repeat(40)),
        ] {
            let error = RabbitmqDsn::parse(text).unwrap_err().to_string();
            assert!(
                error.starts_with("the DSN is not one of RabbitMQ: "),
                "{error}"
            );
            assert!(!error.contains("hunter2"), "{text}: {error}");
        }
    }
}
