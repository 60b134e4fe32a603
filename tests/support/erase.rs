//! `wsgw erase`, beside gateways that write.

use std::path::Path;
use std::process::Output;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::gateway::run_in;
use super::{API_KEY, Client, Gateway, Redis, Setup, in_crate, within};

/// What the erased user wrote, which must be nowhere in the end.
pub const SECRET: &str = "s3cret-of-42";

/// A gateway of a pipeline file, whose sections are appended to what all have.
pub fn setup(mode: &str, sections: &str) -> Setup {
    Setup::default().yaml(yaml(mode, sections))
}

fn yaml(mode: &str, sections: &str) -> String {
    format!(
        r#"
snoke_ws:
  mode: {mode}
  server: {{ listen: "127.0.0.1:0", api_key: "{API_KEY}", node_id: erase, drain_seconds: 2 }}
  stages:
    - auth: {{ jwt: {{ algorithm: RS256, public_key_file: "{}" }} }}
    - ping_filter: {{}}
    - ordering_key: {{ strategy: topic, partition_mode: suffix }}
    - fan_out: {{}}
{sections}
"#,
        in_crate("tests/keys/rsa.pub.pem").display()
    )
}

/// Everything in one Redis: events, pushes, dead letters, presence, leases.
pub fn core(dsn: &str) -> String {
    format!(
        r#"
  events: {{ redis_stream: {{ dsn: "{dsn}" }} }}
  transport: {{ redis_stream: {{ dsn: "{dsn}" }} }}
  presence: {{ type: redis, redis: {{ dsn: "{dsn}" }} }}
  leases: {{ ttl_seconds: 1 }}
"#
    )
}

/// The names of all streams of a Redis.
pub async fn streams(redis: &Redis) -> Vec<String> {
    let keys: Vec<String> = redis.command("KEYS", &["ws.*"]).await;
    keys
}

/// Runs `wsgw erase` of user 42 to its end, in a folder with `pipeline.yaml`.
pub async fn erase_in(folder: &Path, args: &[&str]) -> Output {
    let folder = folder.to_owned();
    let mut all: Vec<String> = ["erase", "--user", "42"].map(String::from).into();
    all.extend(args.iter().map(|arg| (*arg).to_owned()));
    all.push("pipeline.yaml".into());
    let running = tokio::task::spawn_blocking(move || {
        let all: Vec<&str> = all.iter().map(String::as_str).collect();
        run_in(&folder, &all, &[])
    });
    let output = within("wsgw erase", running).await.unwrap();
    let told = [&output.stdout[..], &output.stderr].concat();
    let told = String::from_utf8_lossy(&told);
    assert!(!told.contains("s3cret"), "a payload or password in {told}");
    output
}

/// Runs `wsgw erase --json` beside a gateway, and gives its exit code and its report.
pub async fn report_in(folder: &Path, args: &[&str]) -> (i32, Value) {
    let args = [args, &["--json"]].concat();
    let output = erase_in(folder, &args).await;
    let report = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error} in {output:?}"));
    (output.status.code().unwrap(), report)
}

/// The same with the gateway's own file, which must succeed.
#[track_caller]
pub fn erased(gateway: &Gateway) -> impl Future<Output = Value> {
    let folder = gateway.directory().to_owned();
    async move {
        let (code, report) = report_in(&folder, &["--yes"]).await;
        assert_eq!((code, &report["complete"]), (0, &json!(true)), "{report:#}");
        report
    }
}

/// What a report says of a store.
#[track_caller]
pub fn store<'a>(report: &'a Value, store: &str, name: &str) -> &'a Value {
    let stores = report["stores"].as_array().unwrap();
    stores
        .iter()
        .find(|one| one["store"] == store && one["name"] == name)
        .unwrap_or_else(|| panic!("no {store} {name} in {report:#}"))
}

/// How many entries were found in all stores.
pub fn found(report: &Value) -> u64 {
    let stores = report["stores"].as_array().unwrap();
    stores
        .iter()
        .map(|one| one["found"].as_u64().unwrap())
        .sum()
}

/// User 7, who writes numbered messages all the time.
pub struct Writer {
    stop: Arc<AtomicBool>,
    writing: JoinHandle<u64>,
}

impl Writer {
    /// Begins to write, and waits until something is written.
    pub async fn start(gateway: &Gateway) -> Self {
        let mut client = Client::connect(gateway, "7").await;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let (begin, first_sent) = tokio::sync::oneshot::channel();
        let writing = tokio::spawn(async move {
            let (mut n, mut begin) = (0, Some(begin));
            while !stopped.load(Ordering::Relaxed) {
                for _ in 0..20 {
                    let message = json!({"topic": format!("t{}", n % 3), "n": n});
                    client.feed(message.to_string()).await;
                    n += 1;
                }
                client.round_trip().await;
                if let Some(begin) = begin.take() {
                    begin.send(()).unwrap();
                }
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
            n
        });
        within("the first messages", first_sent).await.unwrap();
        Self { stop, writing }
    }

    /// Stops, and gives how many messages were written.
    pub async fn stop(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        within("the writer's end", self.writing).await.unwrap()
    }
}

/// Has user 42 connect, write so many messages, and leave.
pub async fn visit(gateway: &Gateway, messages: u64) {
    let mut client = Client::connect(gateway, "42").await;
    for n in 0..messages {
        let topic = if n % 4 == 3 {
            "42".into()
        } else {
            format!("t{}", n % 4)
        };
        let message = json!({"topic": topic, "n": n, "text": SECRET});
        client.feed(message.to_string()).await;
    }
    client.round_trip().await;
    client.close(None).await;
}
