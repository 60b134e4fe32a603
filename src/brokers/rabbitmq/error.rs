//! What goes wrong between the gateway and `RabbitMQ`, in words for whoever runs both.
//!
//! Stands below everything that talks to `RabbitMQ`; lapin's own errors go no further than this.

use std::time::Duration;

use lapin::ErrorKind;

/// Why `RabbitMQ` did not do what it was asked; never holds a password or a payload.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    /// There is no connection now.
    #[error("not connected")]
    NotConnected,
    /// No connection could be made.
    #[error("cannot connect: {0}")]
    Unreachable(String),
    /// The connection was lost: whether what was asked took effect is unknown.
    #[error("connection lost: {0}")]
    Lost(String),
    /// The broker refused, and closed the channel.
    #[error("{text}")]
    Refused {
        /// AMQP's code, such as 404.
        code: u16,
        /// The broker's words, and what to do about them.
        text: String,
    },
    /// A name or key is longer than AMQP allows.
    #[error("`{0}…` is longer than 255 bytes, the most that AMQP allows")]
    TooLong(String),
    /// The broker did not answer.
    #[error("no answer within {} s", .0.as_secs_f64())]
    Timeout(Duration),
}

impl LinkError {
    /// Whether the broker itself refused, rather than being away.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::Refused { .. } | Self::TooLong(_))
    }
}

impl From<lapin::Error> for LinkError {
    fn from(error: lapin::Error) -> Self {
        match error.kind() {
            ErrorKind::ProtocolError(error) => Self::Refused {
                code: error.get_id(),
                text: explained(error.get_message().as_str()),
            },
            ErrorKind::IOError(error) => Self::Lost(error.to_string()),
            ErrorKind::MissingHeartbeatError => Self::Lost("no heartbeat".to_owned()),
            ErrorKind::InvalidChannelState(..)
            | ErrorKind::InvalidChannel(_)
            | ErrorKind::InvalidConnectionState(_) => Self::Lost("closed".to_owned()),
            _ => Self::Lost(error.to_string()),
        }
    }
}

/// The broker's words, with what to do where they are known.
fn explained(text: &str) -> String {
    if let Some(advice) = inequivalent(text) {
        return format!("{advice} (RabbitMQ says: {text})");
    }
    let advice = if text.contains("Login was refused") {
        "user or password of the DSN is wrong"
    } else if text.contains("vhost") && text.contains("not found") {
        "the vhost of the DSN does not exist: create it (`rabbitmqctl add_vhost`) or name another"
    } else if text.contains("access to vhost") {
        "the user of the DSN has no permissions in the vhost: grant them (`rabbitmqctl set_permissions`)"
    } else if text.starts_with("ACCESS_REFUSED") {
        "the user of the DSN may not do this: grant it (`rabbitmqctl set_permissions`)"
    } else {
        return text.to_owned();
    };
    format!("{advice} (RabbitMQ says: {text})")
}

/// `… inequivalent arg 'A' for exchange 'E' in vhost 'V': received R but current is C`.
fn inequivalent(text: &str) -> Option<String> {
    let (_, rest) = text.split_once("inequivalent arg '")?;
    let (argument, rest) = rest.split_once("' for ")?;
    let (what, rest) = rest.split_once(" '")?;
    let (name, rest) = rest.split_once("' in vhost ")?;
    let found = rest
        .split_once("but current is ")
        .map_or_else(String::new, |(_, found)| format!(" ({found})"));
    Some(format!(
        "the {what} `{name}` is already there with another `{argument}`{found}: configure the gateway to what is there, \
         name another {what}, or delete this one so that the gateway declares it anew"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_406_says_what_is_there_and_what_to_do() {
        let text = explained(
            "PRECONDITION_FAILED - inequivalent arg 'type' for exchange 'ws.inbox' in vhost '/': received 'topic' but current is 'direct'",
        );
        assert!(
            text.starts_with(
                "the exchange `ws.inbox` is already there with another `type` ('direct'): configure"
            ),
            "{text}"
        );
        let text = explained(
            "PRECONDITION_FAILED - inequivalent arg 'x-message-ttl' for queue 'q' in vhost '/': received the value '9' of type 'signedint' but current is none",
        );
        assert!(
            text.starts_with(
                "the queue `q` is already there with another `x-message-ttl` (none): "
            ),
            "{text}"
        );
    }

    #[test]
    fn what_is_not_known_is_left_in_the_brokers_words() {
        let text = "NOT_FOUND - no exchange 'x' in vhost '/'";
        assert_eq!(explained(text), text);
        let refused =
            explained("ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN");
        assert!(
            refused.starts_with("user or password of the DSN is wrong"),
            "{refused}"
        );
    }
}
