//! Makes one connection to `RabbitMQ`: TCP, TLS, login, within one timeout.
//!
//! Stands below the link, which decides when.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use lapin::tcp::{RustlsConnector, RustlsConnectorConfig};
use lapin::uri::AMQPUri;
use lapin::{AsyncTcpStream, Connection, ConnectionProperties};
use parking_lot::Mutex;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::dsn::RabbitmqDsn;
use super::error::LinkError;
use crate::brokers::{BrokerConfig, BrokerTlsConfig, DsnError};

/// Everything that one try to connect needs.
pub(super) struct Connector {
    uri: AMQPUri,
    name: String,
    tls: Option<RustlsConnector>,
    timeout: Duration,
}

/// A second handle of a connection's socket, to end lapin's thread where the peer does not answer any more.
#[derive(Clone, Default)]
pub(super) struct Socket(Arc<Mutex<Option<socket2::Socket>>>);

impl Socket {
    pub(super) fn shut(&self) {
        if let Some(socket) = self.0.lock().take() {
            // An error says that it is gone already.
            let _ = socket.shutdown(std::net::Shutdown::Both);
        }
    }
}

/// Ends a try to connect that is given up.
struct Trying(Option<Socket>);

impl Drop for Trying {
    fn drop(&mut self) {
        if let Some(socket) = &self.0 {
            socket.shut();
        }
    }
}

impl Connector {
    /// Reads what is needed to connect.
    ///
    /// # Errors
    /// When a certificate cannot be read.
    pub(super) fn new(dsn: RabbitmqDsn, config: &BrokerConfig) -> Result<Self, DsnError> {
        let tls = dsn.is_tls().then(|| tls(&config.tls)).transpose()?;
        let host = gethostname::gethostname();
        Ok(Self {
            uri: dsn.into_uri(heartbeat_seconds(config.response_timeout_seconds)),
            name: format!(
                "wsgw {} (pid {})",
                host.to_string_lossy(),
                std::process::id()
            ),
            tls,
            timeout: crate::clock::seconds(config.connect_timeout_seconds),
        })
    }

    /// Connects once.
    pub(super) async fn connect(&self) -> Result<(Connection, Socket), LinkError> {
        let socket = Socket::default();
        let mut trying = Trying(Some(socket.clone()));
        let (slot, tls, timeout) = (socket.clone(), self.tls.clone(), self.timeout);
        let properties = ConnectionProperties::default()
            .with_client_property("product".into(), "wsgw".into())
            .with_client_property("version".into(), env!("CARGO_PKG_VERSION").into())
            .with_connection_name(self.name.as_str().into());
        let connecting = Connection::connector(
            self.uri.clone(),
            lapin::runtime::default_runtime()?,
            // The library connects on a thread of its own, which only this timeout ends.
            async move |uri: AMQPUri, runtime| {
                let connecting = async {
                    let host = uri.authority.host.as_str();
                    let addresses: Vec<SocketAddr> =
                        tokio::net::lookup_host((host, uri.authority.port))
                            .await?
                            .collect();
                    let stream = AsyncTcpStream::connect(&runtime, addresses).await?;
                    if let AsyncTcpStream::Plain(plain) = &stream {
                        let own = socket2::SockRef::from(plain.get_ref()).try_clone();
                        *slot.0.lock() = own.ok();
                    }
                    match &tls {
                        None => Ok(stream),
                        Some(tls) => stream.into_rustls(tls, host).await,
                    }
                };
                let connected = tokio::time::timeout(timeout, connecting).await;
                Ok(connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))?)
            },
            properties,
        );
        let connected = tokio::time::timeout(self.timeout, connecting).await;
        let connected = connected.map_err(|_| LinkError::Timeout(self.timeout))?;
        match connected.map_err(LinkError::from) {
            Ok(connection) => {
                trying.0 = None;
                Ok((connection, socket))
            }
            Err(LinkError::Lost(reason)) => Err(LinkError::Unreachable(reason)),
            Err(error) => Err(error),
        }
    }
}

/// A peer counts as lost after two heartbeats without a word from it.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the value is within 1 to 3600"
)]
fn heartbeat_seconds(response_timeout_seconds: f64) -> u16 {
    (response_timeout_seconds / 2.0).ceil().clamp(1.0, 3600.0) as u16
}

fn tls(config: &BrokerTlsConfig) -> Result<RustlsConnector, DsnError> {
    let failed = |error: io::Error| DsnError(format!("TLS cannot be set up: {error}"));
    let roots = if config.ca_file.is_empty() {
        RustlsConnectorConfig::new_with_native_certs().map_err(failed)?
    } else {
        let authorities = certificates("brokers.rabbitmq.tls.ca_file", &config.ca_file)?;
        RustlsConnectorConfig::default().with_parsable_certificates(authorities)
    };
    if config.cert_file.is_empty() {
        return roots.connector_with_no_client_auth().map_err(failed);
    }
    let chain = certificates("brokers.rabbitmq.tls.cert_file", &config.cert_file)?;
    let key = PrivateKeyDer::from_pem_file(&config.key_file).map_err(|error| {
        DsnError(format!(
            "`brokers.rabbitmq.tls.key_file`: no private key can be read from `{}`: {error}",
            config.key_file
        ))
    })?;
    roots.connector_with_single_cert(chain, key).map_err(failed)
}

fn certificates(setting: &str, file: &str) -> Result<Vec<CertificateDer<'static>>, DsnError> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_file_iter(file).and_then(Iterator::collect);
    match read {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        Ok(_) => Err(DsnError(format!(
            "`{setting}`: `{file}` holds no certificate"
        ))),
        Err(error) => Err(DsnError(format!(
            "`{setting}`: no certificate can be read from `{file}`: {error}"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_heartbeats_fit_into_the_response_timeout() {
        for (timeout, heartbeat) in [(10.0, 5), (0.1, 1), (3.0, 2), (1e9, 3600)] {
            assert_eq!(heartbeat_seconds(timeout), heartbeat, "{timeout}");
        }
    }

    #[test]
    fn certificates_that_cannot_be_read_are_named_by_their_setting() {
        let config = |ca: &str, cert: &str| BrokerConfig {
            tls: BrokerTlsConfig {
                ca_file: ca.into(),
                cert_file: cert.into(),
                key_file: "tests/keys/rsa.pub.pem".into(),
            },
            ..BrokerConfig::default()
        };
        let fault = |config: &BrokerConfig| {
            let dsn = RabbitmqDsn::parse("amqps://u:hunter2@localhost").unwrap();
            match Connector::new(dsn, config) {
                Ok(_) => panic!("no error"),
                Err(error) => error.to_string(),
            }
        };
        assert!(fault(&config("nowhere.pem", "")).contains("`brokers.rabbitmq.tls.ca_file`"));
        assert!(fault(&config("tests/keys/rsa.pem", "")).contains("holds no certificate"));
        let cert = "tests/keys/rsa.cert.pem";
        assert!(fault(&config(cert, cert)).contains("`brokers.rabbitmq.tls.key_file`"));
    }
}
