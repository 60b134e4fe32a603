//! `wsgw dev`: a gateway that needs nothing, and says at once how to use it.
//!
//! Stands around `dev`, as `run` stands around `server`.

use std::fmt::Write as _;
use std::io::{ErrorKind, IsTerminal as _, Write as _};
use std::net::SocketAddr;
use std::process::{Command, ExitCode, Stdio};

use clap::Args;

use super::run::{on_runtime, serve};
use super::{fail, printed};
use crate::clock::unix_now;
use crate::config::{LogFormat, LoggingConfig};
use crate::dev::{DevError, DevGateway, DevOptions, PIPELINE, TokenRequest};
use crate::server::StartError;
use crate::telemetry::logs;

/// How to start the development gateway.
#[derive(Debug, Clone, Args)]
pub struct DevArgs {
    /// Address and port to listen on; port 0 picks a free one.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8000")]
    pub listen: String,
    /// User of the token that is printed.
    #[arg(long, value_name = "ID", default_value = "demo")]
    pub user: String,
    /// Opens the page in the browser.
    #[arg(long)]
    pub open: bool,
    /// What is logged to standard error: `error`, `warn`, `info`, `debug`, or a filter.
    #[arg(long, value_name = "LEVEL", default_value = "warn")]
    pub log_level: String,
    /// Prints the pipeline file that this command runs, as a start for one of your own, and exits.
    #[arg(long)]
    pub print_pipeline: bool,
}

/// Serves until Ctrl-C; the exit code is 0 after a clean stop, 1 otherwise.
pub(super) fn run(args: &DevArgs) -> ExitCode {
    if args.print_pipeline {
        return printed(|out| out.write_all(PIPELINE.as_bytes()).map(|()| 0));
    }
    if args.user.trim().is_empty() {
        return fail(&"--user: the user id is blank");
    }
    let logging = LoggingConfig {
        level: args.log_level.clone(),
        format: LogFormat::Text,
    };
    if let Err(error) = logs::start(&logging) {
        return fail(&format_args!("--log-level: {error}"));
    }
    on_runtime(async |signals| {
        let options = DevOptions {
            listen: args.listen.clone(),
            user: args.user.clone(),
        };
        let gateway = match DevGateway::start(options).await {
            Ok(gateway) => gateway,
            Err(error) => return fail(&explained(&error, &args.listen)),
        };
        match welcome(args, &gateway) {
            Ok(()) => serve(gateway.into_gateway(), signals, None).await,
            Err(code) => code,
        }
    })
}

/// The error, and what to do about it where that is known.
fn explained(error: &DevError, listen: &str) -> String {
    let DevError::Start(StartError::Bind { reason, .. }) = error else {
        return error.to_string();
    };
    match reason.kind() {
        ErrorKind::AddrInUse => format!(
            "cannot listen on {listen}: the port is taken\n  \
             hint: stop what runs there, or choose another port: wsgw dev --listen 127.0.0.1:0 (any free one)"
        ),
        ErrorKind::PermissionDenied => format!(
            "cannot listen on {listen}: permission denied\n  hint: ports below 1024 are the system's: \
             wsgw dev --listen 127.0.0.1:8000"
        ),
        _ => format!(
            "cannot listen on {listen}: {reason}\n  hint: --listen takes ADDRESS:PORT, such as 127.0.0.1:8000"
        ),
    }
}

/// Prints how to use the gateway, and opens the page if asked to.
fn welcome(args: &DevArgs, gateway: &DevGateway) -> Result<(), ExitCode> {
    let token = gateway
        .token(&TokenRequest::for_user(gateway.user()), unix_now())
        .map_err(|error| fail(&error))?;
    let banner = Banner {
        address: gateway.address(),
        local: gateway.is_local(),
        user: gateway.user(),
        token: &token,
        api_key: gateway.api_key(),
    };
    let color = std::io::stdout().is_terminal();
    let mut out = std::io::stdout().lock();
    // Someone who closed the output has no use for the banner, but perhaps for the gateway.
    let _ = out
        .write_all(banner.render(color).as_bytes())
        .and_then(|()| out.flush());
    if !banner.local {
        let _ = writeln!(
            std::io::stderr(),
            "wsgw: warning: {} is not this machine alone: anyone who reaches it gets the API key and tokens",
            banner.address,
        );
    }
    if args.open {
        open(&banner.page());
    }
    Ok(())
}

/// Opens an address in the browser; a machine without one still has the banner.
fn open(url: &str) {
    let opener = if cfg!(target_os = "macos") {
        "open"
    } else {
        "xdg-open"
    };
    let started = Command::new(opener)
        .arg(url)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    if let Err(error) = started {
        let _ = writeln!(
            std::io::stderr(),
            "wsgw: --open: cannot start {opener} ({error}); open {url} yourself"
        );
    }
}

/// What is printed once the gateway listens.
struct Banner<'a> {
    address: SocketAddr,
    local: bool,
    user: &'a str,
    token: &'a str,
    api_key: &'a str,
}

impl Banner<'_> {
    /// Host and port to reach the gateway by from this machine.
    fn host(&self) -> String {
        if self.address.ip().is_unspecified() {
            format!("localhost:{}", self.address.port())
        } else {
            self.address.to_string()
        }
    }

    fn page(&self) -> String {
        format!("http://{}/", self.host())
    }

    fn render(&self, color: bool) -> String {
        let paint = |code: &str, text: &str| {
            if color {
                format!("\u{1b}[{code}m{text}\u{1b}[0m")
            } else {
                text.to_owned()
            }
        };
        let (host, token, key, user) = (self.host(), self.token, self.api_key, self.user);
        let push = serde_json::json!({
            "subjects": [format!("user:{user}")],
            "payload": {"hello": "from the backend"},
        });
        let title = paint("1", concat!("wsgw dev ", env!("CARGO_PKG_VERSION")));
        let mut text = format!("\n  {title}   no broker, no PHP, throw-away keys\n\n");
        let rows = [
            ("Page", paint("1;36", &self.page())),
            ("WebSocket", paint("36", &format!("ws://{host}/ws"))),
            (
                "Token",
                format!(
                    "{token}\n             {}",
                    paint("2", &format!("user {user}, good for 24 hours"))
                ),
            ),
            ("", String::new()),
            ("Listen", format!("websocat 'ws://{host}/ws?token={token}'")),
            ("", String::new()),
            (
                "Push",
                format!(
                    "curl -s http://{host}/internal/publish -H 'X-API-Key: {key}' \\\n               -d {}",
                    quoted(&push.to_string()),
                ),
            ),
        ];
        for (label, value) in rows {
            if label.is_empty() {
                text.push('\n');
            } else {
                // Writing to a string cannot fail.
                let _ = writeln!(text, "  {}{value}", paint("2", &format!("{label:<11}")));
            }
        }
        let _ = writeln!(text, "\n  {}\n", paint("2", "Ctrl-C stops"));
        text
    }
}

/// The text as one word of a POSIX shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn banner(address: &str, user: &'static str) -> String {
        let banner = Banner {
            address: address.parse().unwrap(),
            local: true,
            user,
            token: "TOKEN",
            api_key: "KEY",
        };
        assert!(banner.render(true).contains("\u{1b}["));
        banner.render(false)
    }

    #[test]
    fn the_banner_is_plain_and_aligned_off_a_terminal() {
        let text = banner("127.0.0.1:8000", "demo");
        assert!(!text.contains('\u{1b}'));
        for line in [
            "  Page       http://127.0.0.1:8000/\n",
            "  WebSocket  ws://127.0.0.1:8000/ws\n",
            "  Token      TOKEN\n",
            "  Listen     websocat 'ws://127.0.0.1:8000/ws?token=TOKEN'\n",
            "  Push       curl -s http://127.0.0.1:8000/internal/publish -H 'X-API-Key: KEY' \\\n",
            "-d '{\"subjects\":[\"user:demo\"],\"payload\":{\"hello\":\"from the backend\"}}'\n",
            "  Ctrl-C stops\n",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
    }

    #[test]
    fn commands_survive_odd_users_and_addresses() {
        assert!(banner("0.0.0.0:9000", "demo").contains("http://localhost:9000/"));
        assert!(banner("[::1]:9000", "demo").contains("ws://[::1]:9000/ws"));
        assert!(banner("127.0.0.1:1", "o'neil").contains(r"user:o'\''neil"));
    }

    #[test]
    fn a_taken_port_comes_with_a_way_out() {
        let error = DevError::Start(StartError::Bind {
            address: "127.0.0.1:8000".into(),
            setting: "server.listen",
            reason: ErrorKind::AddrInUse.into(),
        });
        let text = explained(&error, "127.0.0.1:8000");
        assert!(
            text.contains("127.0.0.1:8000: the port is taken")
                && text.contains("--listen 127.0.0.1:0")
        );
    }
}
