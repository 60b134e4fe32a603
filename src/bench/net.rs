//! Connections, with TLS or without.
//!
//! Stands below everything that speaks: what is above reads and writes bytes and does not know which it is.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use hyper_rustls::ConfigBuilderExt as _;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;

use super::target::Target;
use super::{BenchError, Result};

/// The receiving half of a connection.
pub(super) type ReadEnd = Box<dyn AsyncRead + Unpin>;
/// The sending half of a connection.
pub(super) type WriteEnd = Box<dyn AsyncWrite + Unpin>;

/// Opens connections to one target.
pub(super) struct Dialer {
    target: Target,
    source_addresses: u8,
    tls: Option<(TlsConnector, ServerName<'static>)>,
}

impl Dialer {
    /// Prepares for a target, whose certificate must come from an authority of the file, or from one that the machine
    /// trusts.
    pub(super) fn new(
        target: Target,
        source_addresses: u8,
        ca_file: Option<&Path>,
    ) -> Result<Self> {
        if source_addresses > 1 && !is_loopback_v4(&target) {
            return Err(BenchError::usage(
                "--source-addresses is for targets on 127.0.0.1 only",
            ));
        }
        let tls = if target.tls {
            let name = ServerName::try_from(target.host.clone())
                .map_err(|_| BenchError::usage(format!("{} is no server's name", target.host)))?;
            Some((TlsConnector::from(Arc::new(tls_config(ca_file)?)), name))
        } else {
            None
        };
        Ok(Self {
            target,
            source_addresses,
            tls,
        })
    }

    /// What it connects to.
    pub(super) fn target(&self) -> &Target {
        &self.target
    }

    /// Opens the connection of client `index`.
    pub(super) async fn connect(&self, index: usize) -> std::io::Result<(ReadEnd, WriteEnd)> {
        let stream = if self.source_addresses > 1 {
            let last = index % usize::from(self.source_addresses) + 1;
            let last = u8::try_from(last).unwrap_or(1);
            let source = IpAddr::V4(Ipv4Addr::new(127, 0, 0, last));
            let socket = TcpSocket::new_v4()?;
            socket.bind(SocketAddr::new(source, 0))?;
            socket.connect(self.target.address).await?
        } else {
            TcpStream::connect(self.target.address).await?
        };
        stream.set_nodelay(true)?;
        Ok(match &self.tls {
            None => {
                let (read, write) = stream.into_split();
                (Box::new(read), Box::new(write))
            }
            Some((connector, name)) => {
                let stream = connector.connect(name.clone(), stream).await?;
                let (read, write) = tokio::io::split(stream);
                (Box::new(read), Box::new(write))
            }
        })
    }
}

fn is_loopback_v4(target: &Target) -> bool {
    target.address.is_ipv4() && target.address.ip().is_loopback()
}

fn tls_config(ca_file: Option<&Path>) -> Result<ClientConfig> {
    let builder = ClientConfig::builder();
    let Some(file) = ca_file else {
        let builder = builder
            .try_with_platform_verifier()
            .map_err(|error| format!("the machine's certificates: {error}"))?;
        return Ok(builder.with_no_client_auth());
    };
    let wrong = |error: &dyn std::fmt::Display| {
        BenchError::usage(format!("--ca-file {}: {error}", file.display()))
    };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(file).map_err(|error| wrong(&error))? {
        let certificate = certificate.map_err(|error| wrong(&error))?;
        roots.add(certificate).map_err(|error| wrong(&error))?;
    }
    if roots.is_empty() {
        return Err(wrong(&"holds no certificate"));
    }
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}
