//! Request bodies: read up to a limit, or discarded.
//!
//! Stands between the route table and the handlers. What is refused is still read for a while: a server that
//! answers and closes while the caller sends makes the caller's system report a reset instead of the answer.

use std::time::Duration;

use bytes::{Buf, Bytes};
use futures_util::stream::{BoxStream, Stream, StreamExt, TryStreamExt};
use http::header::{CONTENT_LENGTH, EXPECT};
use http::{HeaderMap, StatusCode};
use warp::{Filter, Rejection};

use super::problem::Problem;

/// Time without a byte after which the caller counts as gone.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// Bytes and time spent on a refused body before the connection is closed on the caller.
const DISCARD_BYTES: usize = 32 * 1024 * 1024;
const DISCARD_TIME: Duration = Duration::from_secs(5);

/// Memory taken before the first byte has arrived; a header alone may not claim more.
const FIRST_ALLOCATION: usize = 64 * 1024;

/// A request's body, not read yet.
pub(super) struct Body {
    stream: BoxStream<'static, Result<Bytes, warp::Error>>,
    announced: Option<u64>,
    /// The caller sends nothing before it is asked to, which the first read does (RFC 9110 section 10.1.1).
    waits_to_be_asked: bool,
    ended: bool,
}

/// Why a body was not read to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unread {
    TooBig { limit: usize },
    TooSlow,
    Broken,
}

impl From<Unread> for Problem {
    fn from(unread: Unread) -> Self {
        match unread {
            Unread::TooBig { limit } => Self::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                format!("the body is over server.max_body_bytes, which is {limit}"),
            ),
            Unread::TooSlow => Self::new(
                StatusCode::REQUEST_TIMEOUT,
                "the body did not arrive in time",
            ),
            Unread::Broken => Self::bad_request("the body ended early or is badly framed"),
        }
    }
}

/// Takes a request's body.
pub(super) fn body() -> impl Filter<Extract = (Body,), Error = Rejection> + Clone + Send + Sync {
    warp::header::headers_cloned()
        .and(warp::body::stream())
        .map(|headers: HeaderMap, stream| Body::new(&headers, stream))
}

impl Body {
    fn new<B: Buf>(
        headers: &HeaderMap,
        stream: impl Stream<Item = Result<B, warp::Error>> + Send + 'static,
    ) -> Self {
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
        Self {
            stream: stream
                .map_ok(|mut part| part.copy_to_bytes(part.remaining()))
                .boxed(),
            announced: text(CONTENT_LENGTH).and_then(|length| length.parse().ok()),
            waits_to_be_asked: text(EXPECT)
                .is_some_and(|expected| expected.eq_ignore_ascii_case("100-continue")),
            ended: false,
        }
    }

    /// Reads the whole body, at most `limit` bytes, waiting at most `patience` for each part.
    pub(super) async fn read(
        &mut self,
        limit: usize,
        patience: Duration,
    ) -> Result<Vec<u8>, Unread> {
        let announced = self
            .announced
            .map_or(0, |length| usize::try_from(length).unwrap_or(usize::MAX));
        if announced > limit {
            return Err(Unread::TooBig { limit });
        }
        let mut read = Vec::with_capacity(announced.min(FIRST_ALLOCATION));
        while let Some(part) = self.next(patience).await? {
            if part.len() > limit - read.len() {
                return Err(Unread::TooBig { limit });
            }
            read.extend_from_slice(&part);
        }
        Ok(read)
    }

    /// Reads what is left and forgets it, within bounds.
    pub(super) async fn discard(&mut self) {
        if self.waits_to_be_asked {
            return;
        }
        let all = async {
            let mut discarded = 0;
            while discarded < DISCARD_BYTES {
                match self.next(DISCARD_TIME).await {
                    Ok(Some(part)) => discarded += part.len(),
                    Ok(None) | Err(_) => return,
                }
            }
        };
        // Out of time or not, the answer is due.
        let _ = tokio::time::timeout(DISCARD_TIME, all).await;
    }

    async fn next(&mut self, patience: Duration) -> Result<Option<Bytes>, Unread> {
        if self.ended {
            return Ok(None);
        }
        self.waits_to_be_asked = false;
        let next = tokio::time::timeout(patience, self.stream.next()).await;
        let part = match next {
            Ok(Some(Ok(part))) => return Ok(Some(part)),
            Ok(None) => Ok(None),
            Ok(Some(Err(_))) => Err(Unread::Broken),
            Err(_) => Err(Unread::TooSlow),
        };
        self.ended = true;
        part
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::stream;

    fn parts(parts: &[&'static str]) -> Body {
        let parts: Vec<_> = parts
            .iter()
            .map(|p| Ok(Bytes::from_static(p.as_bytes())))
            .collect();
        Body::new(&HeaderMap::new(), stream::iter(parts))
    }

    #[tokio::test]
    async fn reads_parts_up_to_the_limit() {
        assert_eq!(
            parts(&["ab", "", "c"]).read(3, PATIENCE).await.unwrap(),
            b"abc"
        );
        let mut over = parts(&["ab", "cd", "ef"]);
        assert_eq!(
            over.read(3, PATIENCE).await,
            Err(Unread::TooBig { limit: 3 })
        );
        over.discard().await;
        assert_eq!(over.next(PATIENCE).await, Ok(None), "the rest was read");
    }

    #[tokio::test]
    async fn an_announced_excess_is_refused_unread() {
        let headers = HeaderMap::from_iter([
            (CONTENT_LENGTH, "4".parse().unwrap()),
            (EXPECT, "100-continue".parse().unwrap()),
        ]);
        let mut body = Body::new(&headers, stream::pending::<Result<Bytes, _>>());
        assert_eq!(
            body.read(3, PATIENCE).await,
            Err(Unread::TooBig { limit: 3 })
        );
        // Returns at once: a caller that waits to be asked sends nothing.
        body.discard().await;
    }

    #[tokio::test]
    async fn a_silent_caller_is_not_waited_for() {
        let mut body = Body::new(&HeaderMap::new(), stream::pending::<Result<Bytes, _>>());
        let patience = Duration::from_millis(5);
        assert_eq!(body.read(3, patience).await, Err(Unread::TooSlow));
        let problem = Problem::from(Unread::TooSlow);
        assert_eq!(problem.status(), StatusCode::REQUEST_TIMEOUT);
        // Returns at once: nothing more is expected of it.
        body.discard().await;
    }
}
