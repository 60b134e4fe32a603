//! `GET` and `PUT /internal/log-level`: what is logged, changed while the gateway runs.
//!
//! Stands between the operator and the log; the pipeline file's own level changes with a reload.

use std::time::Duration;

use http::StatusCode;
use serde::Serialize;
use warp::reply::Response;

use super::fields::Fields;
use super::problem::{Problem, json};
use crate::telemetry::logs::{InForce, LogLevel};

/// Longest time for which a level can be asked for, in seconds: a day.
const LONGEST: i64 = 86_400;

/// Longest level that is read, in bytes.
const MAX_LEVEL: usize = 1024;

#[derive(Serialize)]
struct Answer {
    level: String,
    configured: String,
    /// Until the configured one is in force again.
    #[serde(skip_serializing_if = "Option::is_none")]
    for_seconds: Option<u64>,
}

pub(super) fn get(log: &LogLevel) -> Response {
    answer(log.in_force())
}

pub(super) fn set(log: &LogLevel, body: &[u8]) -> Result<Response, Problem> {
    let fields = Fields::parse(body, ["level", "for_seconds"])?;
    let field = fields.required("level")?;
    let level = field.filled()?;
    if level.len() > MAX_LEVEL {
        return Err(field.wrong("is too long").into());
    }
    let level =
        LogLevel::prepare_strictly(&level).map_err(|wrong| field.wrong(&wrong.to_string()))?;
    let lasts = match fields.present("for_seconds") {
        Some(field) => {
            let seconds = field.integer()?;
            if !(1..=LONGEST).contains(&seconds) {
                let expected = format!("expected an integer from 1 to {LONGEST}");
                return Err(field.wrong(&expected).into());
            }
            Some(Duration::from_secs(seconds.unsigned_abs()))
        }
        None => None,
    };
    log.set(level, lasts);
    Ok(answer(log.in_force()))
}

fn answer(in_force: InForce) -> Response {
    let InForce {
        level,
        configured,
        left,
    } = in_force;
    // A second that has begun counts.
    let for_seconds = left.map(|left| left.as_secs() + u64::from(left.subsec_nanos() > 0));
    json(
        StatusCode::OK,
        &Answer {
            level,
            configured,
            for_seconds,
        },
    )
}
