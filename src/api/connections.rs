//! `GET /internal/connections` and `GET /internal/users/{user_id}/connections`: who is online.
//!
//! Stands between the backend and the presence store.

use http::StatusCode;
use percent_encoding::percent_decode_str;
use uuid::Uuid;
use warp::reply::Response;

use super::problem::{Problem, json};
use crate::presence::{Presence, Query};

/// Connections a page has unless the caller says otherwise.
pub const DEFAULT_LIMIT: usize = 1_000;

/// Connections a page may have.
pub const MAX_LIMIT: usize = 10_000;

/// The user id of a path.
pub(super) fn user_id(segment: &str) -> Result<String, Problem> {
    percent_decode_str(segment)
        .decode_utf8()
        .map(Into::into)
        .map_err(|_| {
            Problem::bad_request("`user_id`: is not UTF-8 once its %-escapes are resolved")
        })
}

/// Reads the query parameters; of a repeated one the last counts, unknown ones are ignored.
pub(super) fn query(parameters: Vec<(String, String)>) -> Result<Query, Problem> {
    let mut query = Query {
        limit: DEFAULT_LIMIT,
        ..Query::default()
    };
    let mut limit = None;
    for (name, value) in parameters {
        // A parameter left empty filters nothing: no subject, user or cursor is blank.
        let value = Some(value).filter(|value| !value.is_empty());
        match name.as_str() {
            "subject" => query.subject = value,
            "user_id" => query.user_id = value,
            "cursor" => query.after = value,
            "limit" => limit = Some(value.unwrap_or_default()),
            _ => {}
        }
    }
    if let Some(limit) = limit {
        query.limit = limit
            .parse()
            .ok()
            .filter(|limit| (1..=MAX_LIMIT).contains(limit))
            .ok_or_else(|| {
                Problem::bad_request(format!(
                    "`limit`: expected an integer from 1 to {MAX_LIMIT}"
                ))
            })?;
    }
    if let Some(cursor) = &query.after {
        // Stores compare ids as text, so the cursor takes the one form they write.
        let cursor = Uuid::parse_str(cursor).map_err(|_| {
            Problem::bad_request(
                "`cursor`: expected the `next_cursor` of an earlier answer, a UUID",
            )
        })?;
        query.after = Some(cursor.to_string());
    }
    Ok(query)
}

pub(super) async fn list(presence: &dyn Presence, query: Query) -> Result<Response, Problem> {
    match presence.list(query).await {
        Ok(page) => Ok(json(StatusCode::OK, &page)),
        Err(error) => {
            tracing::warn!(event = "presence_failed", %error, "presence could not be read");
            Err(Problem::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "the presence store does not answer",
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(pairs: &[(&str, &str)]) -> Result<Query, Problem> {
        query(
            pairs
                .iter()
                .map(|(n, v)| ((*n).into(), (*v).into()))
                .collect(),
        )
    }

    #[test]
    fn reads_parameters() {
        let query = parsed(&[]).unwrap();
        assert_eq!((query.limit, query.after), (1_000, None));
        let query = parsed(&[
            ("limit", "x"),
            ("limit", "10000"),
            ("cursor", "018F0000-0000-7000-8000-00000000000A"),
            ("subject", ""),
            ("user_id", "a/b"),
            ("sort", "up"),
        ])
        .unwrap();
        assert_eq!(query.limit, 10_000);
        assert_eq!(
            query.after.as_deref(),
            Some("018f0000-0000-7000-8000-00000000000a")
        );
        assert_eq!(
            (query.subject, query.user_id.as_deref()),
            (None, Some("a/b"))
        );
    }

    #[test]
    fn refuses_bad_parameters_by_name() {
        for limit in ["0", "10001", "-1", "ten", "", "1.5", "99999999999999999999"] {
            let problem = parsed(&[("limit", limit)]).unwrap_err();
            assert!(problem.detail().starts_with("`limit`:"), "{limit}");
        }
        let problem = parsed(&[("cursor", "17")]).unwrap_err();
        assert!(problem.detail().starts_with("`cursor`:"));
        assert!(user_id("%ff").is_err());
        assert_eq!(user_id("a%2Fb%20c+d").unwrap(), "a/b c+d");
    }
}
