//! `POST /internal/disconnect`: closes connections by user, by subject, or one.
//!
//! Stands between the backend and the registry; each connection's own task does the closing.

use http::StatusCode;
use serde::Serialize;
use uuid::Uuid;
use warp::reply::Response;

use super::fields::{Field, Fields};
use super::problem::{Problem, json};
use crate::close::Close;
use crate::registry::{Registry, Selector};

#[derive(Serialize)]
struct Disconnected {
    disconnected: usize,
}

pub(super) fn disconnect(registry: &Registry, body: &[u8]) -> Result<Response, Problem> {
    let fields = Fields::parse(body, ["user_id", "connection_id", "subject", "reason"])?;
    let named = ["user_id", "connection_id", "subject"].map(|name| fields.present(name));
    let (by, selector) = match named {
        [Some(user), None, None] => ("user_id", Selector::User(user.id()?.into_owned())),
        [None, Some(id), None] => ("connection_id", Selector::Connection(uuid(id)?)),
        [None, None, Some(subject)] => {
            let subject = subject.filled()?.into_owned();
            ("subject", Selector::Subject(subject))
        }
        _ => {
            return Err(Problem::bad_request(
                "exactly one of `user_id`, `connection_id` and `subject` is needed",
            ));
        }
    };
    let reason = match fields.present("reason") {
        Some(reason) => Some(reason.string()?.into_owned()),
        None => None,
    };
    let disconnected = registry.disconnect(&selector, &Close::by_backend(reason));
    tracing::info!(event = "api_disconnect", by, disconnected);
    Ok(json(StatusCode::OK, &Disconnected { disconnected }))
}

fn uuid(field: Field<'_>) -> Result<Uuid, Problem> {
    Uuid::parse_str(&field.string()?).map_err(|_| field.wrong("expected a UUID").into())
}
