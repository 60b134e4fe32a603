//! Codes about conditions, the fields of `set`, and routes.
//!
//! Part of the table of codes.

use super::{Code, Error, Warning, code};

pub(super) const ROUTING: &[Code] = &[
    code(
        "bad_pointer",
        Error,
        "A text is not a JSON pointer (RFC 6901).",
        "Write `/meta/room` for the key `room` in `meta`; `~1` is a slash and `~0` a tilde within a key.",
    ),
    code(
        "bad_pattern",
        Error,
        "A regular expression is wrong or too large.",
        "Use the syntax of https://docs.rs/regex, which has no look-around and no backreferences.",
    ),
    code(
        "bad_test",
        Error,
        "A test of a condition does not ask exactly one thing, or asks a header for what is no text.",
        "Give one of `equals`, `in`, `contains`, `matches`, `exists`.",
    ),
    code(
        "bad_source",
        Error,
        "A field of `set` does not have exactly one source.",
        "Give one of `claim`, `header`, `value`.",
    ),
    code(
        "reserved_field",
        Error,
        "`set` names a field that events have already.",
        "Choose a name of its own.",
    ),
    code(
        "secret_header",
        Error,
        "A condition or `set` asks for a header that holds what proves who the client is.",
        "Ask for a claim of the token instead.",
    ),
    code(
        "empty_condition",
        Warning,
        "A condition asks for nothing and always holds.",
        "Say what must hold, or remove it.",
    ),
    code(
        "condition_never_holds",
        Warning,
        "A condition tests the message of events that have none.",
        "Leave `event` out, or split the condition.",
    ),
    code(
        "route_without_to",
        Error,
        "A route does not say which sinks it leads to.",
        "Write `to` with the sinks; `to: []` where events are to go nowhere.",
    ),
    code(
        "unknown_sink",
        Error,
        "A route names a sink that does not exist.",
        "Take the name the hint suggests.",
    ),
    code(
        "sink_off",
        Warning,
        "A route leads to a sink that gets no events, since it has no address or `events_mode` leaves it out.",
        "Configure the sink, or take it out of the route.",
    ),
    code(
        "unreachable_route",
        Warning,
        "A route stands below one that takes every event.",
        "Move the route without `when` to the end.",
    ),
    code(
        "unrouted_events",
        Warning,
        "Every route has a condition, so that an event may go nowhere.",
        "End with a route without `when`; `{ to: [] }` says that this is meant.",
    ),
    code(
        "lifecycle_parted",
        Warning,
        "A sink hears of only one end of a connection, since `connected` and `disconnected` take different routes.",
        "Let both take the same routes.",
    ),
    code(
        "lost_unannounced",
        Warning,
        "The sink that keeps the record of connections never gets `connected`, so that nobody tells of the connections of a lost gateway.",
        "Route `connected` and `disconnected` to that sink, too.",
    ),
];
