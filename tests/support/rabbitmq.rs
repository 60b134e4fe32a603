//! A real `RabbitMQ` of a test program's own, with a vhost for each test.
//!
//! `rabbitmq.sh` beside this file runs the server and ends it when this program ends, however that happens.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read as _, Write as _};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

use lapin::options::{
    BasicAckOptions, BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions, QueueBindOptions,
    QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};
use serde_json::{Value, json};

use super::{POLL, Setup, in_crate, within};

/// The password of the user `odd`, as it is and as a DSN writes it.
pub const ODD_PASSWORD: &str = "s3cret/pa:ss@#?%";
pub const ODD_PASSWORD_ENCODED: &str = "s3cret%2Fpa%3Ass%40%23%3F%25";

/// Vhosts made when a server starts; a test takes one.
const VHOSTS: usize = 24;

/// A core pipeline that talks to nothing but `RabbitMQ`; without pings, since some clients here only write for long.
pub const YAML: &str = r#"
snoke_ws:
  mode: core
  server: { listen: "127.0.0.1:0", api_key: "${GATEWAY_API_KEY}", drain_seconds: 2, ping_interval_seconds: 600 }
  stages:
    - auth: { jwt: { algorithm: RS256, public_key_file: "${JWT_PUBLIC_KEY_FILE}" } }
    - ping_filter: {}
    - ordering_key:
        strategy: "${ORDERING_STRATEGY:-none}"
        partition_mode: "${ORDERING_PARTITION_MODE:-none}"
    - trace: {}
    - fan_out: { events_mode: "${EVENTS_MODE:-}" }
  events: { rabbitmq: { dsn: "${SINK_DSN:-}" } }
  transport: { rabbitmq: { dsn: "${SOURCE_DSN:-}" } }
"#;

/// A `RabbitMQ` server; ended when the program ends.
pub struct Broker {
    directory: PathBuf,
    ports: [u16; 3],
    tls_port: Option<u16>,
    script: Mutex<(Child, BufReader<ChildStdout>)>,
    vhosts: AtomicUsize,
}

/// How a server is to be started.
#[derive(Default)]
pub struct BrokerSetup<'a> {
    /// Certificates' directory with `ca.pem`, `server.pem` and `server.key`.
    pub tls: Option<PathBuf>,
    /// The node whose cluster it joins.
    pub joins: Option<&'a Broker>,
}

impl Broker {
    /// The server that the tests of one program share.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Broker> = OnceLock::new();
        SHARED.get_or_init(|| BrokerSetup::default().start())
    }

    /// A vhost that no other test uses.
    pub fn vhost(&self) -> Vhost<'_> {
        let number = self.vhosts.fetch_add(1, Ordering::Relaxed) + 1;
        assert!(number <= VHOSTS, "more tests than vhosts");
        Vhost {
            broker: self,
            name: format!("t{number}"),
        }
    }

    /// Runs `rabbitmqctl` and gives its output.
    pub fn ctl(&self, arguments: &[&str]) -> String {
        let output = self.command().arg("ctl").args(arguments).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {text} {errors}");
        text
    }

    fn command(&self) -> Command {
        let mut command = Command::new("sh");
        command.arg(in_crate("tests/support/rabbitmq.sh"));
        command.arg(&self.directory);
        command.args(self.ports.map(|port| port.to_string()));
        command
    }

    fn say(&self, command: &str) {
        let mut script = self.script.lock().unwrap();
        writeln!(script.0.stdin.as_mut().unwrap(), "{command}").unwrap();
        let mut answer = String::new();
        script.1.read_line(&mut answer).unwrap();
        assert_eq!(answer.trim(), "done");
    }

    /// Kills the server (-9).
    pub fn kill(&self) {
        self.say("kill");
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
        let pid = std::fs::read_to_string(self.directory.join("rabbit.pid")).unwrap();
        let sent = Command::new("kill")
            .args([&format!("-{name}"), pid.trim()])
            .status()
            .unwrap();
        assert!(sent.success());
    }

    /// Starts it again, without waiting.
    pub fn start_again(&self) {
        self.say("start");
    }

    /// Waits until it takes connections.
    pub fn wait_until_up(&self) {
        let deadline = Instant::now() + super::PATIENCE * 2;
        while self.greets().is_err() {
            let log = || std::fs::read_to_string(self.directory.join("out")).unwrap_or_default();
            assert!(
                Instant::now() < deadline,
                "RabbitMQ does not start: {}",
                log()
            );
            std::thread::sleep(POLL * 10);
        }
    }

    /// What a connection is greeted with says that all of it runs.
    fn greets(&self) -> std::io::Result<()> {
        let mut stream = std::net::TcpStream::connect(("127.0.0.1", self.ports[0]))?;
        stream.set_read_timeout(Some(super::PATIENCE))?;
        stream.write_all(b"AMQP\x00\x00\x09\x01")?;
        stream.read_exact(&mut [0])
    }

    /// The AMQP port.
    pub fn port(&self) -> u16 {
        self.ports[0]
    }

    /// The AMQPS port.
    pub fn tls_port(&self) -> u16 {
        self.tls_port.unwrap()
    }

    /// Closes every client's connection.
    pub fn close_all_connections(&self) {
        self.ctl(&["close_all_connections", "a test"]);
    }
}

impl BrokerSetup<'_> {
    /// Starts the server and waits until it takes connections.
    pub fn start(self) -> Broker {
        let directory = tempfile::tempdir().unwrap().keep();
        let mut ports = [(); 3].map(|()| super::free_port());
        let tls_port = self.tls.as_ref().map(|_| super::free_port());
        let write = |name: &str, text: String| std::fs::write(directory.join(name), text).unwrap();
        let mut conf = format!(
            "listeners.tcp.1 = 127.0.0.1:{}\ndisk_free_limit.absolute = 50MB\nload_definitions = {}\n",
            ports[0],
            directory.join("definitions.json").display(),
        );
        if let Some(first) = self.joins {
            // They find each other by one register of nodes, and trust each other by one cookie.
            ports[2] = first.ports[2];
            let cookie = ".erlang.cookie";
            std::fs::copy(first.directory.join(cookie), directory.join(cookie)).unwrap();
            let node = |number: u8, port| {
                format!("cluster_formation.classic_config.nodes.{number} = t{port}@localhost\n")
            };
            conf += "cluster_formation.peer_discovery_backend = classic_config\n";
            conf += &[node(1, first.ports[0]), node(2, ports[0])].concat();
        }
        if let (Some(port), Some(tls)) = (tls_port, &self.tls) {
            let file = |name: &str| tls.join(name).display().to_string();
            let lines = [
                format!("listeners.ssl.1 = 127.0.0.1:{port}"),
                format!("ssl_options.cacertfile = {}", file("ca.pem")),
                format!("ssl_options.certfile = {}", file("server.pem")),
                format!("ssl_options.keyfile = {}", file("server.key")),
                "ssl_options.verify = verify_peer".to_owned(),
                "ssl_options.fail_if_no_peer_cert = true\n".to_owned(),
            ];
            conf += &lines.join("\n");
        }
        write("rabbitmq.conf", conf);
        write("enabled_plugins", "[].\n".into());
        write("definitions.json", definitions().to_string());
        let mut broker = Command::new("sh");
        broker.arg(in_crate("tests/support/rabbitmq.sh"));
        broker
            .arg(&directory)
            .args(ports.map(|port| port.to_string()));
        let mut script = broker
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let answers = BufReader::new(script.stdout.take().unwrap());
        let broker = Broker {
            directory,
            ports,
            tls_port,
            script: Mutex::new((script, answers)),
            vhosts: AtomicUsize::new(0),
        };
        broker.wait_until_up();
        broker
    }
}

/// Users and vhosts; the passwords are salted hashes of `guest` and [`ODD_PASSWORD`].
fn definitions() -> Value {
    let user = |name: &str, hash: &str| {
        json!({"name": name, "password_hash": hash, "tags": "administrator",
               "hashing_algorithm": "rabbit_password_hashing_sha256"})
    };
    let mut vhosts = vec![String::from("/"), String::from("odd/vhost")];
    vhosts.extend((1..=VHOSTS).map(|number| format!("t{number}")));
    let permission = |user: &str, vhost: &String| json!({"user": user, "vhost": vhost, "configure": ".*", "write": ".*", "read": ".*"});
    let mut permissions: Vec<Value> = vhosts.iter().map(|v| permission("guest", v)).collect();
    permissions.push(permission("odd", &vhosts[1]));
    json!({
        "users": [
            user("guest", "d3Nnd7wfR/jEBErgB2ZXYVR8zDoy2sNI2nv/yCTr4eIkBog1"),
            user("odd", "d3Nnd38+8YHpIvygFZ+0+uPdv5YZhgen5gJmO4Kqk4sGZsqv"),
        ],
        "vhosts": vhosts.iter().map(|name| json!({"name": name})).collect::<Vec<_>>(),
        "permissions": permissions,
    })
}

/// A message as a consumer sees it.
#[derive(Debug, Clone)]
pub struct Message {
    pub exchange: String,
    pub routing_key: String,
    pub properties: BasicProperties,
    pub body: Vec<u8>,
}

impl Message {
    /// The body as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// The headers that are text, numbers or booleans, as text.
    pub fn headers(&self) -> BTreeMap<String, String> {
        let headers = self.properties.headers().clone().unwrap_or_default();
        headers
            .inner()
            .iter()
            .filter_map(|(name, value)| {
                let value = match value {
                    AMQPValue::LongString(text) => text.to_string(),
                    AMQPValue::LongLongInt(number) => number.to_string(),
                    AMQPValue::Boolean(value) => value.to_string(),
                    _ => return None,
                };
                Some((name.to_string(), value))
            })
            .collect()
    }
}

/// A vhost of a test's own.
pub struct Vhost<'a> {
    broker: &'a Broker,
    pub name: String,
}

impl Vhost<'_> {
    /// The address that gateways are told.
    pub fn dsn(&self) -> String {
        format!(
            "amqp://guest:guest@127.0.0.1:{}/{}",
            self.broker.port(),
            self.name
        )
    }

    /// A gateway with the sink.
    pub fn sink(&self) -> Setup {
        Setup::default().yaml(YAML).env("SINK_DSN", self.dsn())
    }

    /// A gateway with the source.
    pub fn source(&self) -> Setup {
        Setup::default()
            .yaml(YAML)
            .env("EVENTS_MODE", "none")
            .env("SOURCE_DSN", self.dsn())
    }

    /// A channel of the test's own, and the connection that it lives on.
    pub async fn channel(&self) -> (Connection, Channel) {
        self.try_channel().await.unwrap()
    }

    async fn try_channel(&self) -> lapin::Result<(Connection, Channel)> {
        let dsn = self.dsn();
        let connection = Connection::connect(&dsn, ConnectionProperties::default());
        let connection = within("a connection to RabbitMQ", connection).await?;
        let channel = connection.create_channel().await?;
        Ok((connection, channel))
    }

    /// Declares a durable queue and binds it.
    pub async fn bind(&self, queue: &str, exchange: &str, key: &str) {
        let (_connection, channel) = self.channel().await;
        let options = QueueDeclareOptions {
            durable: true,
            ..QueueDeclareOptions::default()
        };
        let none = FieldTable::default;
        channel
            .queue_declare(queue.into(), options, none())
            .await
            .unwrap();
        let options = QueueBindOptions::default();
        channel
            .queue_bind(queue.into(), exchange.into(), key.into(), options, none())
            .await
            .unwrap();
    }

    /// Takes everything out of a queue; nothing where it is not there.
    pub async fn take(&self, queue: &str) -> Vec<Message> {
        let mut messages = Vec::new();
        let Ok((connection, channel)) = self.try_channel().await else {
            return messages;
        };
        while let Ok(Some(got)) = channel
            .basic_get(queue.into(), BasicGetOptions { no_ack: false })
            .await
        {
            let delivery = got.delivery;
            if delivery
                .acker
                .ack(BasicAckOptions::default())
                .await
                .is_err()
            {
                break;
            }
            messages.push(Message {
                exchange: delivery.exchange.to_string(),
                routing_key: delivery.routing_key.to_string(),
                properties: delivery.properties,
                body: delivery.data,
            });
        }
        let _ = connection.close(200, "OK".into()).await;
        messages
    }

    /// Takes messages out of a queue until there were so many.
    pub async fn take_count(&self, queue: &str, count: usize) -> Vec<Message> {
        let mut messages = Vec::new();
        within(&format!("{count} messages in {queue}"), async {
            while messages.len() < count {
                messages.extend(self.take(queue).await);
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await;
        messages
    }

    /// Takes messages out of a queue as long as they come, until they hold the event ids that are asked for.
    pub async fn take_until(&self, queue: &str, done: impl Fn(&[Message]) -> bool) -> Vec<Message> {
        let mut messages = Vec::new();
        within(&format!("the messages of {queue}"), async {
            while !done(&messages) {
                messages.extend(self.take(queue).await);
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        })
        .await;
        messages
    }

    /// Messages in a queue now; absent where it is not there.
    pub async fn count(&self, queue: &str) -> Option<u32> {
        let (_connection, channel) = self.try_channel().await.ok()?;
        let options = QueueDeclareOptions {
            passive: true,
            ..QueueDeclareOptions::default()
        };
        let declared = channel
            .queue_declare(queue.into(), options, FieldTable::default())
            .await;
        declared.ok().map(|queue| queue.message_count())
    }

    /// Publishes bodies in order, each confirmed.
    pub async fn publish(&self, exchange: &str, key: &str, bodies: &[String]) {
        let (connection, channel) = self.channel().await;
        let confirm = ConfirmSelectOptions::default();
        channel.confirm_select(confirm).await.unwrap();
        for body in bodies {
            let options = BasicPublishOptions {
                mandatory: true,
                ..BasicPublishOptions::default()
            };
            let properties = BasicProperties::default().with_delivery_mode(2);
            let publishing = channel.basic_publish(
                exchange.into(),
                key.into(),
                options,
                body.as_bytes(),
                properties,
            );
            let confirmation = publishing.await.unwrap().await.unwrap();
            assert!(
                confirmation.is_ack() && confirmation.take_message().is_none(),
                "unroutable"
            );
        }
        connection.close(200, "OK".into()).await.unwrap();
    }

    /// Pushes to subjects, by the exchange of pushes.
    pub async fn push(&self, subject: &str, payloads: impl IntoIterator<Item = Value>) {
        let bodies: Vec<_> = payloads
            .into_iter()
            .map(|payload| json!({"subjects": [subject], "payload": payload}).to_string())
            .collect();
        self.publish("ws.outbox", "ws.outbox", &bodies).await;
    }

    /// Runs `rabbitmqctl … -p vhost`.
    pub fn ctl(&self, arguments: &[&str]) -> String {
        let mut all = arguments.to_vec();
        all.extend(["-p", &self.name]);
        self.broker.ctl(&all)
    }
}
