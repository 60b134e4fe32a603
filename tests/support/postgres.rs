//! A real `PostgreSQL` server of a test's own, on a private port, that can be stopped and started with its data.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;

use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions as _, Connection as _};
use tempfile::TempDir;

use super::{POLL, within};

/// Where Debian keeps the server's programs.
const PROGRAMS: &str = "/usr/lib/postgresql/15/bin";

/// The password of its one user.
pub const PASSWORD: &str = "s3cret-of-postgres";

/// A server; killed on drop.
pub struct Postgres {
    port: u16,
    directory: TempDir,
    child: Mutex<Option<Child>>,
}

impl Postgres {
    /// Makes a cluster, starts its server and waits until it answers.
    pub async fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let postgres = Self {
            port: super::free_port(),
            directory,
            child: Mutex::new(None),
        };
        // The server refuses to run as root, and its user must reach its files.
        if as_root() {
            let owned = Command::new("chown")
                .arg("postgres:")
                .arg(postgres.directory.path())
                .status()
                .unwrap();
            assert!(owned.success());
        }
        let password = postgres.directory.path().join("password");
        std::fs::write(&password, PASSWORD).unwrap();
        let made = postgres
            .program("initdb")
            .args([
                "--username=wsgw",
                "--auth=scram-sha-256",
                "--encoding=UTF8",
                "--no-sync",
            ])
            .arg(format!("--pwfile={}", password.display()))
            .arg("--pgdata")
            .arg(postgres.data())
            .stdout(Stdio::null())
            .status()
            .unwrap_or_else(|error| panic!("initdb ({error}): ./scripts/test.sh installs it"));
        assert!(made.success(), "initdb");
        postgres.up().await;
        postgres
    }

    fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    /// A program of the server, as the server's user.
    fn program(&self, name: &str) -> Command {
        // The server must not outlive a test program that is killed.
        let mut command = Command::new("setpriv");
        if as_root() {
            command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]);
        }
        command
            .args(["--pdeathsig", "INT"])
            .arg(format!("{PROGRAMS}/{name}"))
            .current_dir(self.directory.path())
            .stdin(Stdio::null());
        command
    }

    /// The address gateways and clients are told.
    pub fn dsn(&self) -> String {
        format!(
            "postgres://wsgw:{PASSWORD}@127.0.0.1:{}/postgres",
            self.port
        )
    }

    /// Starts the server, again after [`Postgres::stop`], and waits until it answers.
    pub async fn up(&self) {
        {
            let mut child = self.child.lock().unwrap();
            assert!(child.is_none(), "the server runs already");
            let log = std::fs::File::create(self.directory.path().join("log")).unwrap();
            let started = self
                .program("postgres")
                .arg("-D")
                .arg(self.data())
                .args(["-p", &self.port.to_string()])
                .args(["-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"])
                .args(["-c", "shared_buffers=16MB", "-c", "max_connections=20"])
                .arg("-c")
                .arg(format!(
                    "unix_socket_directories={}",
                    self.directory.path().display()
                ))
                .stdout(Stdio::null())
                .stderr(log)
                .spawn()
                .unwrap();
            *child = Some(started);
        }
        within("PostgreSQL to answer", async {
            while self.try_connection().await.is_err() {
                tokio::time::sleep(POLL).await;
            }
        })
        .await;
    }

    /// Ends the server at once, in good order: its clients are cut off.
    pub fn stop(&self) {
        if let Some(mut child) = self.child.lock().unwrap().take() {
            let pid = child.id().to_string();
            // A fast shutdown.
            let sent = Command::new("kill").args(["-INT", &pid]).status().unwrap();
            assert!(sent.success());
            child.wait().unwrap();
        }
    }

    async fn try_connection(&self) -> sqlx::Result<PgConnection> {
        self.dsn().parse::<PgConnectOptions>()?.connect().await
    }

    /// Gives the first column of what a query finds.
    pub async fn column(&self, sql: &'static str) -> Vec<String> {
        let mut connection = self.try_connection().await.unwrap();
        let found = sqlx::query_scalar(sql)
            .fetch_all(&mut connection)
            .await
            .unwrap();
        connection.close().await.unwrap();
        found
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let child = self
            .child
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .take();
        if let Some(mut child) = child {
            // An immediate shutdown takes the server's own children along, which killing it would not.
            let pid = child.id().to_string();
            let _ = Command::new("kill").args(["-QUIT", &pid]).status();
            let _ = child.wait();
        }
    }
}

fn as_root() -> bool {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::metadata("/proc/self").unwrap().uid() == 0
}
