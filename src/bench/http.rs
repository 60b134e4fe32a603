//! HTTP/1.1 message boundaries, for the handshake, the publish calls and the webhook.

/// The head of a message, and where its body lies.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Head {
    /// Status of a response, 0 for a request.
    pub(crate) status: u16,
    /// Where the body starts.
    pub(crate) body_at: usize,
    /// How long the body is.
    pub(crate) body_length: usize,
}

impl Head {
    /// Length of head and body together.
    pub(crate) fn total(&self) -> usize {
        self.body_at + self.body_length
    }
}

/// Parses the head of a request; `None` when more bytes are needed.
pub(crate) fn request(bytes: &[u8]) -> Result<Option<Head>, String> {
    let mut headers = [httparse::EMPTY_HEADER; 48];
    let mut request = httparse::Request::new(&mut headers);
    match request.parse(bytes).map_err(|error| error.to_string())? {
        httparse::Status::Complete(body_at) => head(0, body_at, request.headers).map(Some),
        httparse::Status::Partial => Ok(None),
    }
}

/// Parses the head of a response; `None` when more bytes are needed.
pub(crate) fn response(bytes: &[u8]) -> Result<Option<Head>, String> {
    let mut headers = [httparse::EMPTY_HEADER; 48];
    let mut response = httparse::Response::new(&mut headers);
    match response.parse(bytes).map_err(|error| error.to_string())? {
        httparse::Status::Complete(body_at) => {
            head(response.code.unwrap_or(0), body_at, response.headers).map(Some)
        }
        httparse::Status::Partial => Ok(None),
    }
}

/// Parses the head of the answer to an upgrade request, whatever its body; `None` when more bytes are needed.
pub(crate) fn upgrade_response(bytes: &[u8]) -> Result<Option<Head>, String> {
    let mut headers = [httparse::EMPTY_HEADER; 48];
    let mut response = httparse::Response::new(&mut headers);
    let parsed = response
        .parse(bytes)
        .map_err(|_| "what answers is no HTTP server".to_owned())?;
    Ok(match parsed {
        httparse::Status::Complete(body_at) => Some(Head {
            status: response.code.unwrap_or(0),
            body_at,
            body_length: 0,
        }),
        httparse::Status::Partial => None,
    })
}

fn head(status: u16, body_at: usize, headers: &[httparse::Header<'_>]) -> Result<Head, String> {
    let mut body_length = 0;
    for header in headers {
        if header.name.eq_ignore_ascii_case("content-length") {
            body_length = std::str::from_utf8(header.value)
                .ok()
                .and_then(|value| value.trim().parse().ok())
                .filter(|length| *length <= 64 << 20)
                .ok_or("unreadable Content-Length")?;
        } else if header.name.eq_ignore_ascii_case("transfer-encoding") {
            return Err("chunked bodies are not supported by `wsgw bench`".to_owned());
        }
    }
    Ok(Head {
        status,
        body_at,
        body_length,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_bodies() {
        let bytes = b"POST / HTTP/1.1\r\ncontent-LENGTH: 3\r\n\r\nabcPOST";
        let head = request(bytes).unwrap().unwrap();
        assert_eq!(&bytes[head.body_at..head.total()], b"abc");
        assert_eq!(request(&bytes[..20]), Ok(None));
        let head = response(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")
            .unwrap()
            .unwrap();
        assert_eq!((head.status, head.body_length), (101, 0));
    }

    #[test]
    fn refuses_what_it_would_misread() {
        assert!(request(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n").is_err());
        assert!(request(b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n").is_err());
    }
}
