//! The real binary, in a directory and an environment of its own.

use std::collections::BTreeMap;
use std::io::Read;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{Webhook, eventually, in_crate, within};

/// The key of the internal API, unless a test sets another.
pub const API_KEY: &str = "itest-api-key";

/// How a gateway is to be started.
pub struct Setup {
    yaml: Option<String>,
    env: BTreeMap<String, String>,
    sets: Vec<String>,
}

impl Default for Setup {
    fn default() -> Self {
        let env = [
            ("WSGW_LISTEN", "127.0.0.1:0"),
            ("GATEWAY_API_KEY", API_KEY),
            ("WEBHOOK_RETRY_BASE_SECONDS", "0.02"),
            ("WS_RATE_LIMIT_PER_SEC", "0"),
        ];
        let mut env: BTreeMap<String, String> = env
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        let key = in_crate("tests/keys/rsa.pub.pem");
        env.insert("JWT_PUBLIC_KEY_FILE".into(), key.to_str().unwrap().into());
        Self {
            yaml: None,
            env,
            sets: Vec::new(),
        }
    }
}

impl Setup {
    /// Sets an environment variable.
    pub fn env(mut self, name: &str, value: impl ToString) -> Self {
        self.env.insert(name.into(), value.to_string());
        self
    }

    /// Removes an environment variable.
    pub fn without(mut self, name: &str) -> Self {
        self.env.remove(name);
        self
    }

    /// Adds `--set path=value`.
    pub fn set(mut self, path: &str, value: impl ToString) -> Self {
        self.sets.push(format!("{path}={}", value.to_string()));
        self
    }

    /// Sends the events to a receiver.
    pub fn webhook(self, webhook: &Webhook) -> Self {
        self.env("SYMFONY_WEBHOOK_URL", webhook.url())
    }

    /// Runs this pipeline file instead of `pipelines/terminator.yaml`.
    pub fn yaml(mut self, yaml: impl Into<String>) -> Self {
        self.yaml = Some(yaml.into());
        self
    }

    /// Runs `pipelines/terminator.yaml` with a piece of its text replaced.
    pub fn edited(self, find: &str, replacement: &str) -> Self {
        let text = std::fs::read_to_string(in_crate("pipelines/terminator.yaml")).unwrap();
        assert!(
            text.contains(find),
            "pipelines/terminator.yaml has no {find:?}"
        );
        let edited = text.replacen(find, replacement, 1);
        self.yaml(edited)
    }

    /// Starts the process, without waiting for anything.
    pub fn spawn(self) -> Gateway {
        let directory = tempfile::tempdir().unwrap();
        let file = match self.yaml {
            Some(yaml) => {
                let file = directory.path().join("pipeline.yaml");
                std::fs::write(&file, yaml).unwrap();
                file
            }
            None => in_crate("pipelines/terminator.yaml"),
        };
        let mut command = Command::new(env!("CARGO_BIN_EXE_wsgw"));
        command
            .arg("run")
            .arg(&file)
            .env_clear()
            .envs(&self.env)
            .current_dir(directory.path());
        for set in &self.sets {
            command.arg("--set").arg(set);
        }
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        Gateway {
            stdout: Output::read(child.stdout.take().unwrap()),
            stderr: Output::read(child.stderr.take().unwrap()),
            child: Mutex::new(child),
            address: SocketAddr::from(([0, 0, 0, 0], 0)),
            internal_address: None,
            api_key: self.env.get("GATEWAY_API_KEY").cloned().unwrap_or_default(),
            http: reqwest::Client::builder().no_proxy().build().unwrap(),
            directory,
        }
    }

    /// Starts the process and waits until it is ready, where its logs may not be JSON.
    pub async fn start_in_any_format(self) -> Gateway {
        let mut gateway = self.spawn();
        gateway.address = eventually("a line that says where it listens", || {
            gateway.assert_running();
            let stderr = gateway.stderr();
            let line = stderr
                .lines()
                .find(|line| line.contains("listening") && line.contains("public"))?;
            let port = line.split_once("127.0.0.1:")?.1;
            let digits = port.find(|c: char| !c.is_ascii_digit())?;
            Some(SocketAddr::from((
                [127, 0, 0, 1],
                port[..digits].parse().ok()?,
            )))
        })
        .await;
        eventually_ready(&gateway).await;
        gateway
    }

    /// Starts the process and waits until it listens, ready or not.
    pub async fn start_unready(self) -> Gateway {
        let mut gateway = self.spawn();
        gateway.address = gateway.listening("public").await;
        gateway
    }

    /// Starts the process and waits until it is ready.
    pub async fn start(self) -> Gateway {
        let internal = self
            .sets
            .iter()
            .any(|set| set.starts_with("server.internal_listen="));
        let mut gateway = self.spawn();
        gateway.address = gateway.listening("public").await;
        if internal {
            gateway.internal_address = Some(gateway.listening("internal").await);
        }
        eventually_ready(&gateway).await;
        gateway
    }
}

async fn eventually_ready(gateway: &Gateway) {
    within("the gateway to be ready", async {
        while gateway.get("/ready").await.status != StatusCode::OK {
            tokio::time::sleep(super::POLL).await;
        }
    })
    .await;
}

/// What a process has written to one of its outputs.
#[derive(Clone, Default)]
struct Output(Arc<Mutex<Vec<u8>>>);

impl Output {
    fn read(mut from: impl Read + Send + 'static) -> Self {
        let output = Self::default();
        let lines = output.clone();
        std::thread::spawn(move || {
            let mut chunk = [0; 8192];
            while let Ok(n @ 1..) = from.read(&mut chunk) {
                lines.0.lock().unwrap().extend_from_slice(&chunk[..n]);
            }
        });
        output
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }
}

/// A running gateway; killed on drop.
pub struct Gateway {
    child: Mutex<Child>,
    stdout: Output,
    stderr: Output,
    /// Where clients connect.
    pub address: SocketAddr,
    /// Where the internal API is, when it has an address of its own.
    pub internal_address: Option<SocketAddr>,
    api_key: String,
    http: reqwest::Client,
    directory: TempDir,
}

/// An HTTP answer, read to its end.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: reqwest::header::HeaderMap,
    pub text: String,
}

impl Answer {
    /// The body as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error} in {self:?}"))
    }

    /// A header as text; empty if it is not there.
    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }
}

impl Gateway {
    /// A gateway as `pipelines/terminator.yaml` has it, without a rate limit.
    pub async fn start() -> Self {
        Setup::default().start().await
    }

    async fn listening(&self, surface: &str) -> SocketAddr {
        eventually(&format!("the {surface} listener"), || {
            self.assert_running();
            let logs = self.logs();
            let line = logs
                .iter()
                .find(|line| line["event"] == "listening" && line["surface"] == surface)?;
            Some(line["address"].as_str()?.parse().unwrap())
        })
        .await
    }

    fn assert_running(&self) {
        let ended = self.child.lock().unwrap().try_wait().unwrap();
        assert!(
            ended.is_none(),
            "the gateway ended ({ended:?}): {}",
            self.stderr()
        );
    }

    /// Waits until `/ready` answers 200.
    pub async fn ready(&self) {
        eventually_ready(self).await;
    }

    /// Waits until `/ready` answers 503 with a check that holds a text.
    pub async fn wait_for_check(&self, name: &str, text: &str) {
        within(&format!("{name} to say {text:?} in /ready"), async {
            loop {
                let answer = self.get("/ready").await;
                let found = answer.json()["checks"][name].to_string();
                if answer.status == StatusCode::SERVICE_UNAVAILABLE && found.contains(text) {
                    return;
                }
                tokio::time::sleep(super::POLL).await;
            }
        })
        .await;
    }

    /// Waits for a log line of an event that holds a text.
    pub async fn wait_for_log(&self, event: &str, text: &str) -> Value {
        eventually(&format!("a line {event} with {text:?}"), || {
            let fits = |line: &Value| line["event"] == event && line.to_string().contains(text);
            self.logs().into_iter().find(fits)
        })
        .await
    }

    /// Everything written to standard error so far.
    pub fn stderr(&self) -> String {
        self.stderr.text()
    }

    /// Everything written to standard output so far.
    pub fn stdout(&self) -> String {
        self.stdout.text()
    }

    /// The log lines so far; what is no JSON is left out.
    pub fn logs(&self) -> Vec<Value> {
        self.stderr()
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect()
    }

    /// The directory the process runs in.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The dead letters in the file so far.
    pub fn dead_letters(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.directory().join("wsgw-dead-letters.jsonl"))
            .unwrap_or_default();
        // A last line without its end is still being written.
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.lock().unwrap().id()
    }

    /// Resident memory in bytes.
    pub fn resident_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status
            .lines()
            .find(|line| line.starts_with("VmRSS:"))
            .unwrap();
        line.split_whitespace()
            .nth(1)
            .unwrap()
            .parse::<u64>()
            .unwrap()
            * 1024
    }

    /// Sends a signal by its name, as `TERM`.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("sh")
            .args(["-c", &format!("kill -{name} {}", self.pid())])
            .status()
            .unwrap();
        assert!(sent.success(), "kill -{name}");
    }

    /// Waits for the end of the process.
    pub async fn ended(&self) -> ExitStatus {
        eventually("the gateway's end", || {
            self.child.lock().unwrap().try_wait().unwrap()
        })
        .await
    }

    /// Base URL of the internal API.
    pub fn api_url(&self) -> String {
        format!("http://{}", self.internal_address.unwrap_or(self.address))
    }

    /// Sends any HTTP request to the internal API's address, without a key of its own accord.
    pub async fn request(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Vec<u8>,
    ) -> Answer {
        self.try_request(method, path, headers, body)
            .await
            .unwrap_or_else(|error| panic!("{path}: {error:?}; {}", self.stderr()))
    }

    /// The same, where the gateway may be gone.
    pub async fn try_request(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Vec<u8>,
    ) -> reqwest::Result<Answer> {
        let mut request = self
            .http
            .request(method, format!("{}{path}", self.api_url()))
            .body(body);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = within("an answer of the API", request.send()).await?;
        let (status, headers) = (response.status(), response.headers().clone());
        let text = within("the body of an answer", response.text()).await?;
        Ok(Answer {
            status,
            headers,
            text,
        })
    }

    /// `GET` without a key.
    pub async fn get(&self, path: &str) -> Answer {
        self.request(Method::GET, path, &[], Vec::new()).await
    }

    /// `GET` with the key.
    pub async fn get_with_key(&self, path: &str) -> Answer {
        self.request(
            Method::GET,
            path,
            &[("x-api-key", &self.api_key)],
            Vec::new(),
        )
        .await
    }

    /// `POST` of JSON with the key.
    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        self.post_text(path, &body.to_string()).await
    }

    /// `POST` of any text with the key.
    pub async fn post_text(&self, path: &str, body: &str) -> Answer {
        let headers = [
            ("x-api-key", self.api_key.as_str()),
            ("content-type", "application/json"),
        ];
        self.request(Method::POST, path, &headers, body.as_bytes().to_vec())
            .await
    }

    /// Publishes and gives the count of `sent`.
    pub async fn publish(&self, subjects: &[&str], payload: Value) -> u64 {
        let answer = self
            .post(
                "/internal/publish",
                &json!({"subjects": subjects, "payload": payload}),
            )
            .await;
        assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
        answer.json()["sent"].as_u64().unwrap()
    }

    /// The open connections.
    pub async fn connections(&self) -> Vec<Value> {
        let answer = self.get_with_key("/internal/connections").await;
        assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
        answer.json()["connections"].as_array().unwrap().clone()
    }

    /// Waits until so many connections are listed.
    pub async fn wait_for_connections(&self, count: usize) -> Vec<Value> {
        within(&format!("{count} connections"), async {
            loop {
                let connections = self.connections().await;
                if connections.len() == count {
                    return connections;
                }
                tokio::time::sleep(super::POLL).await;
            }
        })
        .await
    }

    /// The metrics' text.
    pub async fn metrics(&self) -> String {
        let answer = self.get("/metrics").await;
        assert_eq!(answer.status, StatusCode::OK);
        answer.text
    }

    /// The sum of a metric's samples whose labels contain all of some texts.
    pub async fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        sum(&self.metrics().await, name, labels)
    }

    /// Waits until a metric is at least so high.
    pub async fn wait_for_metric(&self, name: &str, labels: &[&str], least: f64) {
        within(&format!("{name} {labels:?} >= {least}"), async {
            while self.metric(name, labels).await < least {
                tokio::time::sleep(super::POLL).await;
            }
        })
        .await;
    }
}

fn sum(text: &str, name: &str, labels: &[&str]) -> f64 {
    text.lines()
        .filter_map(|line| line.strip_prefix(name))
        .filter(|rest| rest.starts_with(['{', ' ']))
        .filter_map(|rest| rest.rsplit_once(' '))
        .filter(|(found, _)| labels.iter().all(|label| found.contains(label)))
        .map(|(_, value)| value.parse::<f64>().unwrap())
        .sum()
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let mut child = self
            .child
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let _ = child.kill();
        let _ = child.wait();
        if std::thread::panicking() {
            let lines: Vec<String> = self.stderr.text().lines().map(str::to_owned).collect();
            let last = lines.len().saturating_sub(30);
            eprintln!(
                "--- the gateway's last log lines\n{}",
                lines[last..].join("\n")
            );
        }
    }
}

/// Runs the binary to its end, in a clean environment and an empty directory.
pub fn run(args: &[&str], env: &[(&str, &str)]) -> std::process::Output {
    let directory = tempfile::tempdir().unwrap();
    run_in(directory.path(), args, env)
}

/// The same in a folder, for files that name others by relative paths.
pub fn run_in(directory: &Path, args: &[&str], env: &[(&str, &str)]) -> std::process::Output {
    Command::new(env!("CARGO_BIN_EXE_wsgw"))
        .args(args)
        .env_clear()
        .envs(env.iter().copied())
        .current_dir(directory)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}
