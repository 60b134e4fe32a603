//! Makes connections: to one server, to the master that Sentinels name, to a cluster.
//!
//! Stands below the link, which decides when; here is how, and what the failure is called.

use std::time::Duration;

use redis::aio::{ConnectionLike as _, MultiplexedConnection};
use redis::cluster::{ClusterClient, ClusterClientBuilder};
use redis::cluster_async::ClusterConnection;
use redis::cluster_routing::{RoutingInfo, SingleNodeRoutingInfo};
use redis::io::tcp::TcpSettings;
use redis::{
    AsyncConnectionConfig, Client, ClientTlsConfig, ConnectionAddr, ErrorKind,
    IntoConnectionInfo as _, RedisConnectionInfo, RedisError, TlsCertificates, TlsMode, Value,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use super::LinkError;
use super::answers;
use super::dsn::{Login, Node, RedisDsn, Topology};
use crate::brokers::{BrokerConfig, BrokerTlsConfig, DsnError};
use crate::clock::seconds;
use crate::config::Secret;

/// Longer than any command blocks.
const FOR_EVER: Duration = Duration::from_hours(24 * 365);

/// Tries of the cluster's client itself, for redirections; what fails for longer is the caller's to repeat.
const CLUSTER_RETRIES: u32 = 3;

/// A connection of whichever kind.
#[derive(Clone)]
pub(super) enum Connection {
    Single(MultiplexedConnection),
    Cluster(ClusterConnection),
}

/// Makes connections to what one DSN names.
pub(super) struct Connector {
    dsn: RedisDsn,
    certificates: TlsCertificates,
    connect_timeout: Duration,
    pub(super) response_timeout: Duration,
}

impl Connector {
    pub(super) fn new(dsn: RedisDsn, config: &BrokerConfig) -> Result<Self, DsnError> {
        let certificates = if dsn.tls {
            // Fails only where there is one already, which is as good.
            let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
            certificates(&config.tls)?
        } else {
            TlsCertificates {
                client_tls: None,
                root_cert: None,
            }
        };
        let connector = Self {
            dsn,
            certificates,
            connect_timeout: seconds(config.connect_timeout_seconds),
            response_timeout: seconds(config.response_timeout_seconds),
        };
        // What is wrong with a certificate shows here.
        for node in &connector.dsn.nodes {
            connector
                .client(node, &connector.dsn.login, 0)
                .map_err(|error| DsnError(reason(&error)))?;
        }
        Ok(connector)
    }

    pub(super) fn dsn(&self) -> &RedisDsn {
        &self.dsn
    }

    /// The connection that all share.
    ///
    /// With `primary`, a server that is a replica is refused.
    pub(super) async fn shared(&self, primary: bool) -> Result<Connection, LinkError> {
        let mut connection = self.connect(Some(self.response_timeout)).await?;
        ping(&mut connection).await.map_err(LinkError)?;
        if primary && let Connection::Single(single) = &mut connection {
            self.within(expect_primary(single)).await?;
        }
        Ok(connection)
    }

    /// A connection whose commands may block for as long as they like.
    pub(super) async fn dedicated(&self) -> Result<Connection, LinkError> {
        self.connect(None).await
    }

    async fn connect(&self, response_timeout: Option<Duration>) -> Result<Connection, LinkError> {
        match &self.dsn.topology {
            Topology::Single => {
                let client = self.client(&self.dsn.nodes[0], &self.dsn.login, self.dsn.database);
                self.open(&client.map_err(failed)?, response_timeout).await
            }
            Topology::Sentinel { master, login } => {
                let node = self.master(master, login).await?;
                let client = self.client(&node, &self.dsn.login, self.dsn.database);
                let connection = self
                    .open(&client.map_err(failed)?, response_timeout)
                    .await?;
                if let Connection::Single(mut single) = connection.clone() {
                    self.within(expect_primary(&mut single)).await?;
                }
                Ok(connection)
            }
            Topology::Cluster => {
                let client = self.cluster(response_timeout).map_err(failed)?;
                let connecting = async { client.get_async_connection().await.map_err(failed) };
                self.within(connecting).await.map(Connection::Cluster)
            }
        }
    }

    async fn open(
        &self,
        client: &Client,
        response_timeout: Option<Duration>,
    ) -> Result<Connection, LinkError> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.connect_timeout))
            .set_response_timeout(response_timeout);
        let connecting = async {
            client
                .get_multiplexed_async_connection_with_config(&config)
                .await
                .map_err(failed)
        };
        self.within(connecting).await.map(Connection::Single)
    }

    /// Asks one Sentinel after the other for the master.
    async fn master(&self, name: &str, login: &Login) -> Result<Node, LinkError> {
        let mut last = LinkError("no Sentinel answers".to_owned());
        let share = self.connect_timeout / u32::try_from(self.dsn.nodes.len()).unwrap_or(1);
        for sentinel in &self.dsn.nodes {
            let asked = tokio::time::timeout(share, self.ask(sentinel, name, login)).await;
            match asked.unwrap_or_else(|_| Err(timeout())) {
                Ok(node) => return Ok(node),
                Err(error) => last = LinkError(format!("Sentinel {sentinel}: {error}")),
            }
        }
        Err(last)
    }

    async fn ask(&self, sentinel: &Node, name: &str, login: &Login) -> Result<Node, LinkError> {
        let client = self.client(sentinel, login, 0).map_err(failed)?;
        let Connection::Single(mut connection) =
            self.open(&client, Some(self.connect_timeout)).await?
        else {
            return Err(LinkError("no connection".to_owned()));
        };
        let found: Option<(String, u16)> = redis::cmd("SENTINEL")
            .arg("get-master-addr-by-name")
            .arg(name)
            .query_async(&mut connection)
            .await
            .map_err(failed)?;
        found
            .map(|(host, port)| Node::Tcp(host, port))
            .ok_or_else(|| LinkError(format!("knows no master `{name}`")))
    }

    async fn within<T>(
        &self,
        connecting: impl Future<Output = Result<T, LinkError>>,
    ) -> Result<T, LinkError> {
        tokio::time::timeout(self.connect_timeout, connecting)
            .await
            .unwrap_or_else(|_| Err(timeout()))
    }

    fn client(&self, node: &Node, login: &Login, database: i64) -> redis::RedisResult<Client> {
        let address = self.address(node);
        let info = address
            .into_connection_info()?
            .set_tcp_settings(TcpSettings::default().set_nodelay(true))
            .set_redis_settings(settings(login, database));
        if self.dsn.tls {
            Client::build_with_tls(info, self.certificates.clone())
        } else {
            Client::open(info)
        }
    }

    fn address(&self, node: &Node) -> ConnectionAddr {
        match node {
            Node::Tcp(host, port) if self.dsn.tls => ConnectionAddr::TcpTls {
                host: host.clone(),
                port: *port,
                insecure: false,
                tls_params: None,
            },
            Node::Tcp(host, port) => ConnectionAddr::Tcp(host.clone(), *port),
            Node::Unix(path) => ConnectionAddr::Unix(path.clone()),
        }
    }

    fn cluster(&self, response_timeout: Option<Duration>) -> redis::RedisResult<ClusterClient> {
        let nodes = self.dsn.nodes.iter().map(|node| {
            let info = self.address(node).into_connection_info();
            info.map(|info| info.set_redis_settings(settings(&self.dsn.login, 0)))
        });
        let nodes = nodes.collect::<redis::RedisResult<Vec<_>>>()?;
        let mut builder = ClusterClientBuilder::new(nodes)
            .connection_timeout(self.connect_timeout)
            .response_timeout(response_timeout.unwrap_or(FOR_EVER))
            .overall_response_timeout(response_timeout)
            .retries(CLUSTER_RETRIES)
            .tcp_settings(TcpSettings::default().set_nodelay(true));
        if self.dsn.tls {
            builder = builder
                .tls(TlsMode::Secure)
                .certs(self.certificates.clone());
        }
        builder.build()
    }
}

/// Whether the other side answers; a refusal for lack of permission is an answer.
pub(super) async fn ping(connection: &mut Connection) -> Result<(), String> {
    let ping = redis::cmd("PING");
    let answer = match connection {
        Connection::Single(single) => single.send_packed_command(&ping).await,
        Connection::Cluster(cluster) => {
            let any = RoutingInfo::SingleNode(SingleNodeRoutingInfo::RandomPrimary);
            cluster.route_command(ping, any).await
        }
    };
    match answer.and_then(Value::extract_error) {
        Ok(_) => Ok(()),
        Err(error) if error.code() == Some("NOPERM") => Ok(()),
        Err(error) => Err(reason(&error)),
    }
}

/// Fails if the server says that it is a replica.
async fn expect_primary(connection: &mut MultiplexedConnection) -> Result<(), LinkError> {
    let answer = connection.req_packed_command(&redis::cmd("ROLE")).await;
    let Ok(Value::Array(role)) = answer else {
        // Whoever may not ask takes it as it is.
        return Ok(());
    };
    match role.first() {
        Some(Value::BulkString(role)) if role == b"master" => Ok(()),
        Some(Value::BulkString(_)) => Err(LinkError(
            "READONLY the server is a replica and takes no writes".to_owned(),
        )),
        _ => Ok(()),
    }
}

/// What went wrong, without anything that was sent.
pub(super) fn reason(error: &RedisError) -> String {
    if error.is_timeout() {
        return timeout().0;
    }
    match error.kind() {
        ErrorKind::AuthenticationFailed => {
            "the user name or password of the DSN is refused (WRONGPASS)".to_owned()
        }
        ErrorKind::Io => error.to_string(),
        ErrorKind::Server(_) | ErrorKind::Extension => {
            let code = error.code().unwrap_or("ERR");
            let text = answers::text(code, error.detail());
            if code == "NOAUTH" {
                "the server asks for a password, and the DSN has none (NOAUTH)".to_owned()
            } else {
                text
            }
        }
        _ => error.category().to_owned(),
    }
}

#[expect(clippy::needless_pass_by_value, reason = "made for map_err")]
fn failed(error: RedisError) -> LinkError {
    LinkError(reason(&error))
}

fn timeout() -> LinkError {
    LinkError("no answer in time".to_owned())
}

fn settings(login: &Login, database: i64) -> RedisConnectionInfo {
    let mut settings = RedisConnectionInfo::default()
        .set_db(database)
        .set_lib_name("wsgw", env!("CARGO_PKG_VERSION"));
    if let Some(user) = &login.user {
        settings = settings.set_username(user);
    }
    if let Some(password) = &login.password {
        settings = settings.set_password(Secret::reveal(password));
    }
    settings
}

fn certificates(config: &BrokerTlsConfig) -> Result<TlsCertificates, DsnError> {
    let root_cert = match config.ca_file.as_str() {
        "" => None,
        file => {
            let pem = read(file, "ca_file")?;
            let count = CertificateDer::pem_slice_iter(&pem)
                .filter(Result::is_ok)
                .count();
            if count == 0 {
                return Err(DsnError(format!(
                    "`tls.ca_file` {file} holds no certificate"
                )));
            }
            Some(pem)
        }
    };
    let client_tls = match (config.cert_file.as_str(), config.key_file.as_str()) {
        ("", "") => None,
        ("", _) | (_, "") => {
            return Err(DsnError(
                "`tls.cert_file` and `tls.key_file` go together".to_owned(),
            ));
        }
        (cert, key) => Some(ClientTlsConfig {
            client_cert: read(cert, "cert_file")?,
            client_key: read(key, "key_file")?,
        }),
    };
    Ok(TlsCertificates {
        client_tls,
        root_cert,
    })
}

fn read(file: &str, setting: &str) -> Result<Vec<u8>, DsnError> {
    std::fs::read(file).map_err(|error| DsnError(format!("`tls.{setting}` {file}: {error}")))
}
