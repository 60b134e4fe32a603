//! Addresses of what is measured, and the promise to load only this machine.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};

use percent_encoding::percent_decode_str;
use url::{Host, Url};

use super::{BenchError, Result};

/// A parsed address such as `ws://HOST:PORT/PATH`.
#[derive(Clone)]
pub(super) struct Target {
    /// Where to connect.
    pub(super) address: SocketAddr,
    /// Whether by TLS.
    pub(super) tls: bool,
    /// The host's name or address, as certificates have it.
    pub(super) host: String,
    /// Value of the `Host` header.
    pub(super) authority: String,
    /// Path and query.
    pub(super) path: String,
    /// User name and password, decoded.
    pub(super) login: Option<(String, String)>,
}

impl Target {
    /// Parses an address of one of the given schemes and resolves its host.
    pub(super) fn parse(text: &str, schemes: &[&str], allow_remote: bool) -> Result<Self> {
        let expected = || {
            BenchError::usage(format!(
                "expected an address such as {}://HOST:PORT/PATH",
                schemes.first().unwrap_or(&"ws")
            ))
        };
        let url = Url::parse(text).map_err(|_| expected())?;
        if !schemes.contains(&url.scheme()) {
            return Err(expected());
        }
        let (host, name) = match url.host().ok_or_else(expected)? {
            Host::Ipv6(ip) => (ip.to_string(), format!("[{ip}]")),
            Host::Ipv4(ip) => (ip.to_string(), ip.to_string()),
            Host::Domain(name) => (name.to_owned(), name.to_owned()),
        };
        let port = url
            .port_or_known_default()
            .unwrap_or(if url.scheme() == "redis" { 6379 } else { 5672 });
        let mut addresses: Vec<SocketAddr> = (host.as_str(), port)
            .to_socket_addrs()
            .map_err(|error| BenchError::usage(format!("{name}:{port}: {error}")))?
            .collect();
        // `localhost` may resolve to ::1 first, where a server on 0.0.0.0 does not listen.
        addresses.sort_by_key(SocketAddr::is_ipv6);
        let address = *addresses
            .first()
            .ok_or_else(|| BenchError::usage(format!("{name} has no address")))?;
        require_loopback(address.ip(), allow_remote)?;
        let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        let login = (!url.username().is_empty() || url.password().is_some()).then(|| {
            let password = url.password().unwrap_or_default();
            (decoded(url.username()), decoded(password))
        });
        let query = url.query().map(|query| format!("?{query}"));
        Ok(Self {
            address,
            tls: matches!(url.scheme(), "wss" | "https"),
            host,
            authority: match url.port() {
                Some(port) => format!("{name}:{port}"),
                None => name,
            },
            path: url.path().to_owned() + &query.unwrap_or_default(),
            login,
        })
    }

    /// The host and port, which unlike the whole address hold no secret.
    pub(super) fn shown(&self) -> String {
        let port = self.address.port();
        if self.host.contains(':') {
            format!("[{}]:{port}", self.host)
        } else {
            format!("{}:{port}", self.host)
        }
    }
}

/// Refuses to load, or to listen for, other machines unless told so.
pub(super) fn require_loopback(ip: IpAddr, allow_remote: bool) -> Result<()> {
    if allow_remote || ip.to_canonical().is_loopback() {
        return Ok(());
    }
    Err(BenchError::usage(format!(
        "{ip} is not this machine; add --allow-remote if you may put load on it"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_addresses() {
        let target = Target::parse("ws://127.0.0.1:8000/ws?a=/b", &["ws"], false).unwrap();
        assert_eq!(target.address, "127.0.0.1:8000".parse().unwrap());
        assert_eq!(
            (&*target.authority, &*target.path, target.tls),
            ("127.0.0.1:8000", "/ws?a=/b", false)
        );
        let target = Target::parse("wss://[::1]", &["ws", "wss"], false).unwrap();
        assert_eq!(target.address, "[::1]:443".parse().unwrap());
        assert_eq!(target.shown(), "[::1]:443");
        assert_eq!(
            (&*target.authority, &*target.path, target.tls),
            ("[::1]", "/", true)
        );
        let target = Target::parse("redis://u:p%40@127.0.0.1/2", &["redis"], false).unwrap();
        assert_eq!(target.shown(), "127.0.0.1:6379");
        assert_eq!(target.login, Some(("u".into(), "p@".into())));
        assert_eq!(target.path, "/2");
    }

    #[test]
    fn refuses_other_schemes_and_other_machines() {
        let parse = |url, remote| Target::parse(url, &["ws"], remote).map(|_| ());
        assert!(parse("wss://127.0.0.1/ws", false).is_err());
        assert!(parse("127.0.0.1/ws", false).is_err());
        let refused = parse("ws://192.0.2.1/ws", false).unwrap_err();
        assert!(refused.to_string().contains("--allow-remote"), "{refused}");
        assert!(parse("ws://192.0.2.1/ws", true).is_ok());
        assert!(require_loopback("::ffff:127.0.0.1".parse().unwrap(), false).is_ok());
    }
}
