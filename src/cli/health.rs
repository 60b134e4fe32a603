//! `wsgw health`: asks a running gateway how it is, as container images without a shell need it.
//!
//! Stands outside the gateway: it reads the pipeline file for the address, calls `/ready` or `/health` there, and says
//! the answer by its exit code.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use http::{StatusCode, Uri};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;

use super::{clean, complain, fail, innermost, load};
use crate::config::{Config, Overrides};

/// What the help ends with.
pub(super) const EXAMPLES: &str = "Examples:\n  \
    wsgw health                                  whether the gateway of this machine serves\n  \
    wsgw health pipelines/core.yaml              where that file has it listen\n  \
    wsgw health --live                           only whether its process lives\n  \
    wsgw health --url http://10.0.0.7:9000       any other one\n\n\
    In a Dockerfile: HEALTHCHECK CMD [\"/wsgw\", \"health\"]";

/// Bytes of an answer that are read; `/ready` has a line for each dependency.
const MAX_ANSWER: usize = 64 * 1024;

/// Whom to ask, and what.
#[derive(Debug, Clone, Args)]
pub struct HealthArgs {
    /// Pipeline file of the gateway, by which its address is found; by default the one that `wsgw run` takes.
    pub file: Option<PathBuf>,
    /// Address of the gateway's internal API, instead of the file.
    #[arg(long, value_name = "URL")]
    pub url: Option<String>,
    /// Asks only whether the process lives, not whether it serves and reaches what it depends on.
    #[arg(long)]
    pub live: bool,
    /// Seconds to wait for the answer.
    #[arg(long, value_name = "SECONDS", default_value_t = 3.0, value_parser = seconds)]
    pub timeout: f64,
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if seconds > 0.0 && seconds <= 3600.0 => Ok(seconds),
        _ => Err("expected seconds, more than 0 and at most 3600".to_owned()),
    }
}

/// Asks; the exit code is 0 if the gateway is well, 1 otherwise.
pub(super) fn run(args: &HealthArgs, overrides: &Overrides) -> ExitCode {
    let base = if let Some(url) = &args.url {
        url.trim_end_matches('/').to_owned()
    } else {
        let file = super::run::file_or_default(args.file.clone(), overrides);
        match load(&file, overrides) {
            Ok(loaded) => format!("http://{}", address(&loaded.config)),
            Err(code) => return code,
        }
    };
    let path = if args.live { "/health" } else { "/ready" };
    let uri = match format!("{base}{path}").parse::<Uri>() {
        Ok(uri) if is_plain(&uri) => uri,
        _ => {
            complain("wsgw: --url: expected an address such as http://127.0.0.1:8000");
            return super::USAGE.into();
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let answer = match runtime {
        Ok(runtime) => runtime.block_on(ask(uri.clone(), args.timeout)),
        Err(error) => return fail(&error),
    };
    match answer {
        Ok((StatusCode::OK, _)) => {
            // The exit code says it all; a reader that went away is no failure.
            let _ = std::io::Write::write_all(&mut std::io::stdout(), b"ok\n");
            ExitCode::SUCCESS
        }
        Ok((status, body)) => fail(&format!("{uri} answered {status}: {}", clean(&body))),
        Err(problem) => fail(&format!("{uri}: {problem}")),
    }
}

/// Whether an address has a host and no more: a password is of no use here, and would be shown where it fails.
fn is_plain(uri: &Uri) -> bool {
    let authority = uri.authority().map_or("@", |authority| authority.as_str());
    uri.scheme_str() == Some("http") && !authority.contains('@') && uri.query().is_none()
}

/// Where a gateway's internal API listens, as seen from its own machine.
fn address(config: &Config) -> String {
    let server = &config.server;
    let listen = match server.internal_listen.as_str() {
        "" => server.listen.as_str(),
        internal => internal,
    };
    match listen.parse::<SocketAddr>() {
        Ok(mut address) if address.ip().is_unspecified() => {
            address.set_ip(match address.ip() {
                IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
                IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
            });
            address.to_string()
        }
        _ => listen.to_owned(),
    }
}

/// Sends the request; the error is in words.
async fn ask(uri: Uri, timeout_seconds: f64) -> Result<(StatusCode, String), String> {
    let client = Client::builder(TokioExecutor::new()).build_http::<Empty<Bytes>>();
    let answered = async {
        let answer = client
            .get(uri)
            .await
            .map_err(|error| innermost(&error).to_string())?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), MAX_ANSWER)
            .collect()
            .await
            .map_err(|error| error.to_string())?;
        let body = String::from_utf8_lossy(&body.to_bytes()).trim().to_owned();
        Ok((status, body))
    };
    tokio::time::timeout(Duration::from_secs_f64(timeout_seconds), answered)
        .await
        .unwrap_or_else(|_| Err(format!("no answer within {timeout_seconds} s")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(listen: &str, internal_listen: &str) -> String {
        let mut config = Config::default();
        config.server.listen = listen.to_owned();
        config.server.internal_listen = internal_listen.to_owned();
        address(&config)
    }

    #[test]
    fn the_address_is_that_of_the_internal_listener_on_this_machine() {
        assert_eq!(seen("0.0.0.0:8000", ""), "127.0.0.1:8000");
        assert_eq!(seen("[::]:8000", ""), "[::1]:8000");
        assert_eq!(seen("0.0.0.0:8000", "10.0.0.7:9000"), "10.0.0.7:9000");
        assert_eq!(seen("gateway.internal:8000", ""), "gateway.internal:8000");
    }
}
