//! Reads the DSN of a Redis: one server, servers behind Sentinels, or a cluster.
//!
//! Stands first in a link's life. Nothing is resolved or connected to, so that `wsgw check` can read DSNs as well.

use std::path::PathBuf;

use percent_encoding::percent_decode_str;

use crate::brokers::DsnError;
use crate::config::Secret;

/// Port of a server where the DSN names none.
const PORT: u16 = 6379;

/// Port of a Sentinel where the DSN names none.
const SENTINEL_PORT: u16 = 26379;

/// Options of Symfony's DSNs that concern PHP's client alone.
const IGNORED: [&str; 11] = [
    "class",
    "compression",
    "failover",
    "cluster_failover",
    "lazy",
    "persistent",
    "persistent_id",
    "read_timeout",
    "retry_interval",
    "tcp_keepalive",
    "timeout",
];

/// What a DSN of Redis says; neither `Debug` nor an error shows a password.
///
/// `redis://[[user:]password@]host[:port][/database]`, `rediss://…` for TLS and `unix:///path` name one server. As in
/// Symfony, what stands alone before the `@` is the password. Several hosts, separated by commas or written
/// `redis:?host[a:26379]&host[b:26379]` as Symfony has them, need `sentinel_master=NAME` (or `redis_sentinel`), with
/// `sentinel_username` and `sentinel_password` where the Sentinels ask for them, or `cluster=1` (or `redis_cluster`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedisDsn {
    pub(super) nodes: Vec<Node>,
    pub(super) tls: bool,
    pub(super) login: Login,
    pub(super) database: i64,
    pub(super) topology: Topology,
}

/// Where one server or Sentinel listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Node {
    Tcp(String, u16),
    Unix(PathBuf),
}

/// Who the gateway is there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Login {
    pub(super) user: Option<String>,
    pub(super) password: Option<Secret>,
}

/// How the nodes belong together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Topology {
    Single,
    Sentinel { master: String, login: Login },
    Cluster,
}

impl std::fmt::Display for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(host, port) if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp(host, port) => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

/// What the query of a DSN says.
#[derive(Default)]
struct Options {
    hosts: Vec<String>,
    master: Option<String>,
    sentinel: Login,
    login: Login,
    cluster: bool,
    database: Option<String>,
}

impl RedisDsn {
    /// Reads a DSN.
    ///
    /// # Errors
    /// When a part is wrong; the error names the part and never shows the text, which may hold a password.
    pub fn parse(dsn: &str) -> Result<Self, DsnError> {
        let (scheme, rest) = dsn.split_once(':').ok_or_else(|| {
            wrong("it has no scheme; write it like `redis://:password@host:6379/0`")
        })?;
        let (tls, unix) = match scheme {
            "redis" | "valkey" => (false, false),
            "rediss" | "valkeys" => (true, false),
            "unix" => (false, true),
            _ => {
                return Err(wrong(
                    "its scheme is none of `redis`, `rediss` (TLS) and `unix`",
                ));
            }
        };
        if rest.contains('#') {
            return Err(wrong("it holds a `#`; in a password that is written `%23`"));
        }
        let rest = rest.strip_prefix("//").unwrap_or(rest);
        let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
        let options = Options::parse(query)?;
        let (authority, path) = place
            .find('/')
            .map_or((place, ""), |slash| place.split_at(slash));
        let (login, hosts) = match authority.rsplit_once('@') {
            Some((login, hosts)) => (Login::parse(login)?, hosts),
            None => (options.login.clone(), authority),
        };
        if path.contains('@') {
            return Err(wrong(
                "an `@` stands after the first `/`; in a password `/` is written `%2F` and `@` `%40`",
            ));
        }
        let topology = options.topology()?;
        let default_port = match topology {
            Topology::Sentinel { .. } => SENTINEL_PORT,
            Topology::Single | Topology::Cluster => PORT,
        };
        let (nodes, database) = if unix || (hosts.is_empty() && options.hosts.is_empty()) {
            (vec![socket(hosts, path)?], options.database.as_deref())
        } else {
            let nodes = hosts
                .split(',')
                .filter(|_| !hosts.is_empty())
                .chain(options.hosts.iter().map(String::as_str))
                .map(|text| node(text, default_port))
                .collect::<Result<Vec<_>, _>>()?;
            let database = path.trim_start_matches('/');
            let database = Some(database).filter(|text| !text.is_empty());
            (nodes, database.or(options.database.as_deref()))
        };
        let database = database.unwrap_or("0");
        let database = database
            .parse::<u32>()
            .map_err(|_| wrong("its database is not a number"))?;
        let dsn = Self {
            nodes,
            tls,
            login,
            database: database.into(),
            topology,
        };
        dsn.check()?;
        Ok(dsn)
    }

    /// Where it leads, without credentials, for logs.
    #[must_use]
    pub fn address(&self) -> String {
        let nodes: Vec<String> = self.nodes.iter().map(Node::to_string).collect();
        nodes.join(",")
    }

    /// Whether it leads to a cluster.
    #[must_use]
    pub fn is_cluster(&self) -> bool {
        self.topology == Topology::Cluster
    }

    fn check(&self) -> Result<(), DsnError> {
        let unix = matches!(self.nodes[..], [Node::Unix(_)]);
        match self.topology {
            Topology::Single if self.nodes.len() > 1 => Err(wrong(
                "it names several hosts, but neither `sentinel_master=NAME` nor `cluster=1`",
            )),
            Topology::Cluster if self.database != 0 => {
                Err(wrong("a cluster has no database but 0"))
            }
            Topology::Sentinel { .. } | Topology::Cluster if unix => {
                Err(wrong("Sentinels and clusters have hosts, not a socket"))
            }
            _ => Ok(()),
        }
    }
}

impl Options {
    fn parse(query: &str) -> Result<Self, DsnError> {
        let mut options = Self::default();
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            let value = value.into_owned();
            match &*name {
                "sentinel_master" | "redis_sentinel" => options.master = Some(value),
                "sentinel_username" => options.sentinel.user = Some(value),
                "sentinel_password" => options.sentinel.password = Some(value.into()),
                "auth" => options.login.password = Some(value.into()),
                "cluster" | "redis_cluster" => options.cluster = is_on(&value)?,
                "db" | "dbindex" => options.database = Some(value),
                name => match name.strip_prefix("host[").and_then(|n| n.strip_suffix(']')) {
                    Some(host) => options.hosts.push(host.to_owned()),
                    None if IGNORED.contains(&name) => {}
                    None => {
                        return Err(wrong(
                            "it has an unknown option; known are `sentinel_master`, `sentinel_username`, \
                             `sentinel_password`, `cluster`, `db`, `auth` and `host[…]`",
                        ));
                    }
                },
            }
        }
        Ok(options)
    }

    fn topology(&self) -> Result<Topology, DsnError> {
        let master = self.master.clone().filter(|master| !master.is_empty());
        match (master, self.cluster) {
            (Some(_), true) => Err(wrong("it asks for Sentinels and for a cluster at once")),
            (Some(master), false) => Ok(Topology::Sentinel {
                master,
                login: self.sentinel.clone(),
            }),
            (None, true) => Ok(Topology::Cluster),
            (None, false) if self.sentinel != Login::default() => Err(wrong(
                "it has a login for Sentinels, but no `sentinel_master`",
            )),
            (None, false) => Ok(Topology::Single),
        }
    }
}

impl Login {
    fn parse(text: &str) -> Result<Self, DsnError> {
        let (user, password) = match text.split_once(':') {
            Some((user, password)) => (decode(user)?, decode(password)?),
            None => (String::new(), decode(text)?),
        };
        Ok(Self {
            user: Some(user).filter(|user| !user.is_empty()),
            password: Some(password)
                .filter(|password| !password.is_empty())
                .map(Secret::from),
        })
    }
}

fn decode(text: &str) -> Result<String, DsnError> {
    percent_decode_str(text)
        .decode_utf8()
        .map(std::borrow::Cow::into_owned)
        .map_err(|_| wrong("its user name or password is not UTF-8"))
}

fn is_on(value: &str) -> Result<bool, DsnError> {
    match value {
        "1" | "true" | "yes" | "on" => Ok(true),
        "" | "0" | "false" | "no" | "off" => Ok(false),
        _ => Err(wrong("`cluster` is neither `1` nor `0`")),
    }
}

fn socket(host: &str, path: &str) -> Result<Node, DsnError> {
    let path = decode(path)?;
    if !host.is_empty() || path.len() < 2 {
        return Err(wrong(
            "it names no host; write `redis://host:6379/0`, or `unix:///path/to/socket`",
        ));
    }
    Ok(Node::Unix(path.into()))
}

fn node(text: &str, default_port: u16) -> Result<Node, DsnError> {
    let (host, port) = if let Some(rest) = text.strip_prefix('[') {
        let (host, port) = rest
            .split_once(']')
            .ok_or_else(|| wrong("an IPv6 address has no closing `]`"))?;
        (host, port.strip_prefix(':'))
    } else {
        match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        }
    };
    let port = match port {
        None | Some("") => default_port,
        Some(port) => port
            .parse()
            .ok()
            .filter(|port| *port != 0)
            .ok_or_else(|| wrong("a port is not a number from 1 to 65535"))?,
    };
    let strange = |c: char| c.is_whitespace() || c.is_control() || "/\\[]@?#".contains(c);
    if host.is_empty() || host.contains(strange) {
        return Err(wrong("a host is empty or not a name"));
    }
    Ok(Node::Tcp(host.to_owned(), port))
}

fn wrong(what: &str) -> DsnError {
    DsnError(format!("the DSN is not one of Redis: {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(dsn: &str) -> RedisDsn {
        RedisDsn::parse(dsn).unwrap_or_else(|error| panic!("{dsn}: {error}"))
    }

    fn login(dsn: &RedisDsn) -> (Option<&str>, Option<&str>) {
        (
            dsn.login.user.as_deref(),
            dsn.login.password.as_ref().map(Secret::reveal),
        )
    }

    #[test]
    fn one_server() {
        let dsn = parse("redis://localhost");
        assert_eq!(dsn.address(), "localhost:6379");
        assert_eq!((dsn.tls, dsn.database), (false, 0));
        assert_eq!(login(&dsn), (None, None));
        let dsn = parse("rediss://us%3Aer:p%40ss%2F@[::1]:7000/3");
        assert_eq!(dsn.address(), "[::1]:7000");
        assert_eq!((dsn.tls, dsn.database), (true, 3));
        assert_eq!(login(&dsn), (Some("us:er"), Some("p@ss/")));
        assert_eq!(login(&parse("redis://:pw@h")), (None, Some("pw")));
        assert_eq!(login(&parse("redis://pw@h")), (None, Some("pw")));
        assert_eq!(login(&parse("redis:pw@h?timeout=2")), (None, Some("pw")));
        assert_eq!(parse("redis://h/?dbindex=4").database, 4);
        assert_eq!(
            parse("unix:///run/redis.sock?db=2").address(),
            "/run/redis.sock"
        );
        assert_eq!(
            parse("redis:///run/redis.sock").address(),
            "/run/redis.sock"
        );
    }

    #[test]
    fn sentinels_and_clusters_in_both_spellings() {
        let ours = parse("redis://u:p@h1:1,h2/2?sentinel_master=main&sentinel_password=s");
        let theirs = parse(
            "redis:u:p@?host[h1:1]&host[h2]&redis_sentinel=main&dbindex=2&sentinel_password=s&lazy=1",
        );
        assert_eq!(ours, theirs);
        assert_eq!(ours.address(), "h1:1,h2:26379");
        assert!(
            matches!(&ours.topology, Topology::Sentinel { master, login }
            if master == "main" && login.password.as_ref().unwrap().reveal() == "s")
        );
        let ours = parse("redis://h1:7000,h2:7001?cluster=1");
        assert!(ours.is_cluster());
        assert_eq!(
            ours,
            parse("redis:?host[h1:7000]&host[h2:7001]&redis_cluster=1")
        );
    }

    #[test]
    fn what_is_wrong_is_named_and_no_password_is_shown() {
        for (dsn, part) in [
            ("localhost", "scheme"),
            ("http://h", "scheme"),
            ("redis://", "host"),
            ("redis://:hunter2@", "host"),
            ("redis://:hunter2@h:0", "port"),
            ("redis://:hunter2@h:x", "port"),
            ("redis://:hunter2@h:6379/messages", "database"),
            ("redis://:hunter2@h/-1", "database"),
            ("redis://:hun/ter2@h", "%2F"),
            ("redis://:hun#ter2@h", "%23"),
            ("redis://:hunter2@h1,h2", "several hosts"),
            ("redis://h?cluster=1&sentinel_master=m", "at once"),
            ("redis://h/1?cluster=1", "database"),
            ("redis://h?sentinel_password=hunter2", "sentinel_master"),
            ("redis://h?hunter2=1", "option"),
            ("redis://h?cluster=hunter2", "cluster"),
            ("redis://[::1", "IPv6"),
            ("unix://h/x?cluster=1", "host"),
            ("unix:///x?cluster=1", "socket"),
        ] {
            let error = RedisDsn::parse(dsn).unwrap_err().to_string();
            assert!(error.contains(part), "{dsn}: {error}");
            assert!(!error.contains("hunter"), "{dsn}: {error}");
        }
        let shown = format!(
            "{:?}",
            parse("redis://u:hunter2@h?sentinel_master=m&sentinel_password=hunter2")
        );
        assert!(!shown.contains("hunter"), "{shown}");
    }
}
