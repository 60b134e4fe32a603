//! A real Redis server of a test's own, on a private port, that can be killed and started again with its data.

use std::fmt::Write as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use redis::{AsyncCommands, FromRedisValue, RedisResult};
use tempfile::TempDir;

use super::{PATIENCE, POLL, Setup, within};

impl Setup {
    /// Sends the events to a Redis, and to nothing else.
    pub fn redis(self, dsn: impl AsRef<str>) -> Self {
        self.env("EVENTS_MODE", "broker")
            .set("events.redis_stream.dsn", dsn.as_ref())
    }
}

/// How a server is to be started.
#[derive(Default)]
pub struct RedisSetup {
    settings: Vec<String>,
    password: Option<String>,
}

impl RedisSetup {
    /// Adds a line of `redis.conf`.
    pub fn line(mut self, line: &str) -> Self {
        self.settings.push(line.into());
        self
    }

    /// Asks every client for this password.
    pub fn password(mut self, password: &str) -> Self {
        self.password = Some(password.into());
        self.line(&format!("requirepass {password}"))
    }

    /// Writes every command to disk before it is answered, so that a killed server comes back with all it confirmed.
    pub fn durable(self) -> Self {
        self.line("appendonly yes").line("appendfsync always")
    }

    /// Starts the server and waits until it answers.
    pub async fn start(self) -> Redis {
        let redis = self.prepare();
        redis.up().await;
        redis
    }

    /// Chooses a port without starting the server yet.
    pub fn prepare(self) -> Redis {
        self.line("save \"\"")
            .line("enable-debug-command yes")
            .prepare_sentinel()
    }

    /// The same for a Sentinel, which does not know all settings of a server.
    pub fn prepare_sentinel(self) -> Redis {
        let directory = tempfile::tempdir().unwrap();
        let port = super::free_port();
        let mut conf = format!(
            "bind 127.0.0.1\nport {port}\ndir {}\n",
            directory.path().display()
        );
        for line in &self.settings {
            writeln!(conf, "{line}").unwrap();
        }
        std::fs::write(directory.path().join("redis.conf"), conf).unwrap();
        Redis {
            port,
            password: self.password,
            directory,
            child: Mutex::new(None),
        }
    }
}

/// A Redis server; killed on drop.
pub struct Redis {
    port: u16,
    password: Option<String>,
    directory: TempDir,
    child: Mutex<Option<Child>>,
}

impl Redis {
    /// A server that keeps nothing on disk.
    pub async fn start() -> Self {
        RedisSetup::default().start().await
    }

    /// The address gateways and clients are told.
    pub fn dsn(&self) -> String {
        let login = self
            .password
            .as_ref()
            .map_or(String::new(), |password| format!(":{password}@"));
        format!("redis://{login}127.0.0.1:{}/0", self.port)
    }

    /// The server's port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Where the server keeps its files.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Starts the server, again after [`Redis::kill`], and waits until it answers.
    pub async fn up(&self) {
        self.spawn(&[]);
        self.answers().await;
    }

    fn spawn(&self, arguments: &[&str]) {
        let mut child = self.child.lock().unwrap();
        assert!(child.is_none(), "the server runs already");
        // The server must not outlive a test program that is killed.
        let started = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "redis-server"])
            .arg(self.directory.path().join("redis.conf"))
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| {
                panic!("redis-server ({error}): ./scripts/test.sh installs it")
            });
        *child = Some(started);
    }

    async fn answers(&self) {
        within("Redis to answer", async {
            while self.try_command::<String>("PING", &[]).await.is_err() {
                tokio::time::sleep(POLL).await;
            }
        })
        .await;
    }

    /// Starts the server as a Sentinel.
    pub async fn up_as_sentinel(&self) {
        self.spawn(&["--sentinel"]);
        self.answers().await;
    }

    /// Kills the server (-9).
    pub fn kill(&self) {
        if let Some(mut child) = self.child.lock().unwrap().take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Stops the server's process without ending it, as a machine that hangs.
    pub fn freeze(&self) {
        self.signal("STOP");
    }

    /// Lets a frozen server go on.
    pub fn thaw(&self) {
        self.signal("CONT");
    }

    fn signal(&self, name: &str) {
        let child = self.child.lock().unwrap();
        let pid = child.as_ref().unwrap().id().to_string();
        let sent = Command::new("kill")
            .args([&format!("-{name}"), &pid])
            .status()
            .unwrap();
        assert!(sent.success());
    }

    /// A connection of the test's own.
    pub async fn connection(&self) -> redis::aio::MultiplexedConnection {
        self.try_connection().await.unwrap()
    }

    async fn try_connection(&self) -> RedisResult<redis::aio::MultiplexedConnection> {
        let client = redis::Client::open(self.dsn())?;
        // The library would give up after half a second, which a machine that is busy with tests may need.
        let patient = redis::AsyncConnectionConfig::new().set_response_timeout(Some(PATIENCE));
        client
            .get_multiplexed_async_connection_with_config(&patient)
            .await
    }

    /// Sends a command.
    pub async fn try_command<T: FromRedisValue>(
        &self,
        name: &str,
        arguments: &[&str],
    ) -> RedisResult<T> {
        let mut connection = self.try_connection().await?;
        let mut command = redis::cmd(name);
        for argument in arguments {
            command.arg(*argument);
        }
        command.query_async(&mut connection).await
    }

    /// Sends a command that must succeed.
    #[track_caller]
    pub fn command<T: FromRedisValue>(
        &self,
        name: &str,
        arguments: &[&str],
    ) -> impl Future<Output = T> {
        let what = format!("{name} {arguments:?} ({})", std::panic::Location::caller());
        async move {
            self.try_command(name, arguments)
                .await
                .unwrap_or_else(|error| panic!("{what}: {error}"))
        }
    }

    /// All entries of a stream: their ids and fields.
    pub async fn stream(&self, stream: &str) -> Vec<(String, Vec<(String, String)>)> {
        let mut connection = self.connection().await;
        let read: redis::streams::StreamRangeReply = connection.xrange_all(stream).await.unwrap();
        read.ids
            .into_iter()
            .map(|entry| {
                let fields = entry
                    .map
                    .iter()
                    .map(|(name, value)| {
                        (name.clone(), redis::from_redis_value_ref(value).unwrap())
                    })
                    .collect();
                (entry.id, fields)
            })
            .collect()
    }

    /// The events of a stream, from the field `data`.
    pub async fn events(&self, stream: &str) -> Vec<serde_json::Value> {
        let entries = self.stream(stream).await;
        let event = |(_, fields): (String, Vec<(String, String)>)| {
            let (_, data) = fields.into_iter().find(|(name, _)| name == "data").unwrap();
            serde_json::from_str(&data).unwrap()
        };
        entries.into_iter().map(event).collect()
    }

    /// Waits until a stream has so many events, and gives them.
    pub async fn wait_for_events(&self, stream: &str, count: usize) -> Vec<serde_json::Value> {
        within(&format!("{count} events in {stream}"), async {
            loop {
                let length: usize = self
                    .try_command("XLEN", &[stream])
                    .await
                    .unwrap_or_default();
                if length >= count {
                    return self.events(stream).await;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await
    }

    /// Adds a push to an outbox stream.
    pub async fn push(
        &self,
        stream: &str,
        subjects: &[&str],
        payload: serde_json::Value,
    ) -> String {
        let push = serde_json::json!({"subjects": subjects, "payload": payload}).to_string();
        self.command("XADD", &[stream, "*", "data", &push]).await
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.kill();
    }
}
