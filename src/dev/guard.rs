//! Decides whether a request for a development page comes from this machine's own browser and page.
//!
//! The page hands out tokens and the API key, so another web site must not be able to read it. A browser keeps
//! origins apart by name, and a site can make its own name resolve to 127.0.0.1 (DNS rebinding): what it cannot do
//! is to change the `Host` that the browser sends.

use std::net::{IpAddr, SocketAddr};

use http::HeaderMap;
use http::header::HOST;
use http::uri::Authority;

use crate::api::Problem;

/// Whether a listen address, `host:port`, is reached from this machine only.
pub(super) fn is_local(listen: &str) -> bool {
    match listen.parse::<SocketAddr>() {
        Ok(address) => address.ip().is_loopback(),
        Err(_) => listen
            .rsplit_once(':')
            .is_some_and(|(host, _)| host.eq_ignore_ascii_case("localhost")),
    }
}

/// The host and port that the browser believes to talk to.
pub(super) fn authority(headers: &HeaderMap) -> Option<Authority> {
    let mut hosts = headers.get_all(HOST).iter();
    let host = hosts.next()?;
    if hosts.next().is_some() {
        return None;
    }
    let authority = Authority::try_from(host.as_bytes()).ok()?;
    // User information has no place in a Host header (RFC 9110 section 7.2).
    (!authority.as_str().contains('@')).then_some(authority)
}

/// Refuses a page to a name that is not this machine's.
pub(super) fn check_host(headers: &HeaderMap) -> Result<(), Problem> {
    let refused =
        || Problem::forbidden("this page is served to localhost, 127.0.0.1 and [::1] only");
    let authority = authority(headers).ok_or_else(refused)?;
    let host = authority.host();
    let address = host
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(host);
    let local = host.eq_ignore_ascii_case("localhost")
        || address
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_loopback());
    if local { Ok(()) } else { Err(refused()) }
}

/// Refuses what another site's page asks for; a program that is no browser says nothing about that.
pub(super) fn check_site(headers: &HeaderMap) -> Result<(), Problem> {
    match headers
        .get("sec-fetch-site")
        .map(http::HeaderValue::as_bytes)
    {
        None | Some(b"same-origin" | b"none") => Ok(()),
        Some(_) => Err(Problem::forbidden("only the page itself may ask for this")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(host: &str) -> bool {
        check_host(&HeaderMap::from_iter([(HOST, host.parse().unwrap())])).is_ok()
    }

    #[test]
    fn only_names_of_this_machine_are_served() {
        for ok in [
            "localhost",
            "LOCALHOST:8000",
            "127.0.0.1:1",
            "[::1]:8000",
            "[::1]",
            "127.0.0.2",
        ] {
            assert!(host(ok), "{ok}");
        }
        for bad in [
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil.example:8000",
            "10.0.0.1",
            "0.0.0.0:8000",
            "x@localhost",
            "",
            "local host",
        ] {
            assert!(!host(bad), "{bad}");
        }
        assert!(check_host(&HeaderMap::new()).is_err());
        let mut two = HeaderMap::new();
        two.append(HOST, "localhost".parse().unwrap());
        two.append(HOST, "evil.example".parse().unwrap());
        assert!(check_host(&two).is_err());
    }

    #[test]
    fn loopback_is_told_from_the_rest() {
        for local in ["127.0.0.1:8000", "[::1]:0", "localhost:8000"] {
            assert!(is_local(local), "{local}");
        }
        for open in [
            "0.0.0.0:8000",
            "[::]:8000",
            "192.168.0.2:1",
            "box:8000",
            "localhost",
        ] {
            assert!(!is_local(open), "{open}");
        }
    }
}
