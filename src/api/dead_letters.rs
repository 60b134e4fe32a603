//! `GET /internal/dead-letters`: what could not be delivered, of all stores together.
//!
//! Stands between an operator and the stores, which keep what they list.

use http::StatusCode;
use warp::reply::Response;

use super::problem::{Problem, json};
use crate::replay::{Caller, Replays};

/// Letters that are listed unless the caller says otherwise.
const DEFAULT_LIMIT: usize = 100;

/// Letters that are listed at most, and letters of each store that are looked at for those of one sink.
const MAX_LIMIT: usize = 1_000;

/// What is to be listed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Query {
    sink: Option<String>,
    limit: usize,
}

/// Reads the query parameters; of a repeated one the last counts, unknown ones are ignored.
pub(super) fn query(parameters: Vec<(String, String)>) -> Result<Query, Problem> {
    let mut query = Query {
        sink: None,
        limit: DEFAULT_LIMIT,
    };
    for (name, value) in parameters {
        match name.as_str() {
            "sink" => query.sink = Some(value).filter(|sink| !sink.is_empty()),
            "limit" => {
                let limit = value.parse().ok();
                query.limit = limit
                    .filter(|limit| (1..=MAX_LIMIT).contains(limit))
                    .ok_or_else(|| {
                        Problem::bad_request(format!(
                            "`limit`: expected an integer from 1 to {MAX_LIMIT}"
                        ))
                    })?;
            }
            _ => {}
        }
    }
    Ok(query)
}

pub(super) async fn list(replays: &Replays, caller: &Caller, query: &Query) -> Response {
    let depth = if query.sink.is_some() {
        MAX_LIMIT
    } else {
        query.limit
    };
    let listed = replays
        .list(query.sink.as_deref(), query.limit, depth)
        .await;
    tracing::info!(
        event = "dead_letters_listed",
        address = caller.address.map(tracing::field::display),
        key = caller.short_key(),
        listed = listed.dead_letters.len(),
        unavailable = listed.unavailable.len(),
    );
    json(StatusCode::OK, &listed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(pairs: &[(&str, &str)]) -> Result<Query, Problem> {
        let owned = |(name, value): &(&str, &str)| ((*name).into(), (*value).into());
        query(pairs.iter().map(owned).collect())
    }

    #[test]
    fn reads_parameters() {
        let (sink, limit) = (None, DEFAULT_LIMIT);
        assert_eq!(
            parsed(&[("sink", ""), ("x", "y")]),
            Ok(Query { sink, limit })
        );
        let query = parsed(&[("sink", "webhook"), ("limit", "1000")]).unwrap();
        assert_eq!(
            (query.sink.as_deref(), query.limit),
            (Some("webhook"), 1000)
        );
        for limit in ["0", "1001", "-1", "", "1e2", "99999999999999999999"] {
            let problem = parsed(&[("limit", limit)]).unwrap_err();
            assert!(problem.detail().starts_with("`limit`:"), "{limit}");
        }
    }
}
