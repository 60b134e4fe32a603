//! Addresses of what is measured, and the promise to load only this machine.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};

use crate::Result;

/// A parsed address such as `ws://HOST:PORT/PATH`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    /// Where to connect.
    pub(crate) address: SocketAddr,
    /// Value of the `Host` header.
    pub(crate) authority: String,
    /// Path and query.
    pub(crate) path: String,
}

impl Target {
    /// Parses an address of the given scheme and resolves its host.
    pub(crate) fn parse(url: &str, scheme: &str, allow_remote: bool) -> Result<Self> {
        let rest = url
            .strip_prefix(scheme)
            .and_then(|rest| rest.strip_prefix("://"))
            .ok_or_else(|| format!("{url}: expected {scheme}://HOST[:PORT]/PATH"))?;
        let (authority, path) = match rest.find('/') {
            Some(at) => (&rest[..at], &rest[at..]),
            None => (rest, "/"),
        };
        let has_port = authority
            .rsplit_once(':')
            .is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        let with_port = if has_port {
            authority.to_owned()
        } else {
            let port = match scheme {
                "redis" => 6379,
                "amqp" => 5672,
                _ => 80,
            };
            format!("{authority}:{port}")
        };
        let mut addresses: Vec<SocketAddr> = with_port
            .to_socket_addrs()
            .map_err(|error| format!("{url}: {error}"))?
            .collect();
        // `localhost` may resolve to ::1 first, where a server on 0.0.0.0 does not listen.
        addresses.sort_by_key(SocketAddr::is_ipv6);
        let address = *addresses
            .first()
            .ok_or_else(|| format!("{url}: the host has no address"))?;
        require_loopback(address.ip(), allow_remote)?;
        Ok(Self {
            address,
            authority: authority.to_owned(),
            path: path.to_owned(),
        })
    }
}

/// Refuses to load, or to listen for, other machines unless told so.
pub(crate) fn require_loopback(ip: IpAddr, allow_remote: bool) -> Result<()> {
    if allow_remote || ip.to_canonical().is_loopback() {
        Ok(())
    } else {
        Err(format!("{ip} is not this machine; --allow-remote if you may load it").into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_addresses() {
        let target = Target::parse("ws://127.0.0.1:8000/ws?a=/b", "ws", false).unwrap();
        assert_eq!(target.address, "127.0.0.1:8000".parse().unwrap());
        assert_eq!(
            (&*target.authority, &*target.path),
            ("127.0.0.1:8000", "/ws?a=/b")
        );
        let target = Target::parse("http://[::1]", "http", false).unwrap();
        assert_eq!(target.address, "[::1]:80".parse().unwrap());
        assert_eq!(target.path, "/");
    }

    #[test]
    fn refuses_other_schemes_and_other_machines() {
        assert!(Target::parse("wss://127.0.0.1/ws", "ws", false).is_err());
        assert!(Target::parse("127.0.0.1/ws", "ws", false).is_err());
        assert!(Target::parse("ws://192.0.2.1/ws", "ws", false).is_err());
        assert!(Target::parse("ws://192.0.2.1/ws", "ws", true).is_ok());
        assert!(require_loopback("::ffff:127.0.0.1".parse().unwrap(), false).is_ok());
    }
}
