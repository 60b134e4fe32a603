//! `wsgw bench` with what stands around a gateway: brokers, TLS, and servers that know nothing of gateways.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    missing_docs,
    reason = "a test fails by panicking"
)]

mod support;

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{ChildStderr, Command, Stdio};
use std::sync::Arc;

use futures_util::{SinkExt as _, StreamExt as _};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use support::bench::{bench, fails, key, passed, stderr, url};
use support::{API_KEY, Broker, RedisSetup, Setup, until, within};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_tungstenite::accept_async;

#[tokio::test]
async fn messages_and_pushes_are_followed_through_redis() {
    let redis = RedisSetup::default().password("p@ss").start().await;
    let dsn = format!("redis://:p%40ss@127.0.0.1:{}/3", redis.port());
    let gateway = Setup::default()
        .yaml(include_str!("../pipelines/core.yaml"))
        .env("REDIS_DSN", &dsn)
        .start()
        .await;
    let (url, key) = (url(&gateway), key());
    let run = async |args: &str| {
        let common = ["--url", &url, "--key", &key, "--redis", &dsn, "--json"];
        let args: Vec<&str> = args.split(' ').chain(common).collect();
        bench(&args).await
    };
    for rate in ["burst", "closed", "200"] {
        let result = run(&format!(
            "inbound --connections 3 --messages 60 --rate {rate}"
        ))
        .await;
        let result = passed(&result, 60);
        assert!(result["latency_us"]["max"].is_number(), "{result}");
    }
    passed(&run("fanout --connections 5 --pushes 20").await, 100);
    passed(
        &run("fanout --connections 5 --rate 50 --seconds 0.4").await,
        100,
    );
    let elsewhere = "inbound --connections 1 --messages 5 --stream other --stall-seconds 1";
    fails(&run(elsewhere).await, 1, &["nothing arrived"]);

    let wrong = format!("redis://:wrong@127.0.0.1:{}", redis.port());
    let args = ["inbound", "--url", &url, "--key", &key, "--redis", &wrong];
    fails(&bench(&args).await, 1, &["Redis refuses AUTH"]);
}

#[tokio::test]
async fn messages_are_followed_through_rabbitmq() {
    let vhost = Broker::shared().vhost();
    let gateway = vhost
        .sink()
        .set("events.rabbitmq.queue", "ws.events")
        .set("events.rabbitmq.inbox_queue", "ws.inbox")
        .env("RABBITMQ_INBOX_QUEUE", "ws.inbox")
        .start()
        .await;
    // A gateway declares its queues once it is connected, and may be ready before.
    until("the queue is declared", || async {
        vhost.count("ws.inbox").await.is_some()
    })
    .await;
    let (url, key, dsn) = (url(&gateway), key(), vhost.dsn());
    let common = [
        "inbound",
        "--url",
        &url,
        "--key",
        &key,
        "--rabbitmq",
        &dsn,
        "--connections",
        "3",
    ];
    for rate in ["burst", "100"] {
        let args = ["--messages", "60", "--json", "--rate", rate];
        passed(&bench(&[&common[..], &args].concat()).await, 60);
    }
    let args = [&common[..], &["--queue", "nowhere"]].concat();
    fails(
        &bench(&args).await,
        1,
        &["cannot consume the queue nowhere", "NOT_FOUND"],
    );
}

/// A server that echoes what it gets and knows no tokens.
async fn echo(tls: Option<TlsAcceptor>) -> (u16, tokio::task::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let serving = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let tls = tls.clone();
            tokio::spawn(async move {
                match tls {
                    Some(tls) => {
                        if let Ok(stream) = tls.accept(stream).await {
                            talk(stream).await;
                        }
                    }
                    None => talk(stream).await,
                }
            });
        }
    });
    (port, serving)
}

async fn talk(stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin) {
    let Ok(mut socket) = accept_async(stream).await else {
        return;
    };
    while let Some(Ok(message)) = socket.next().await {
        if message.is_text() && socket.send(message).await.is_err() {
            return;
        }
    }
}

async fn measure_stranger(url: &str, more: &[&str]) {
    let run = async |args: &str| {
        let args: Vec<&str> = args
            .split(' ')
            .chain(["--url", url, "--json"])
            .chain(more.iter().copied())
            .collect();
        bench(&args).await
    };
    passed(&run("idle --connections 5").await, 5);
    passed(&run("churn --rate 50 --seconds 0.2").await, 10);
    let ping = "rtt --connections 2 --seconds 0.5 --rate 40 --ping hello --pong-contains hello";
    passed(&run(ping).await, 20);
}

#[tokio::test]
async fn any_websocket_server_can_be_measured() {
    let (port, serving) = echo(None).await;
    let url = format!("ws://localhost:{port}/");
    measure_stranger(
        &url,
        &[
            "--header",
            "Origin: http://example.com",
            "--subprotocol",
            "chat",
        ],
    )
    .await;
    let wrong = [
        "rtt",
        "--url",
        &url,
        "--connections",
        "1",
        "--seconds",
        "0.3",
        "--stall-seconds",
        "0.2",
    ];
    fails(
        &bench(&wrong).await,
        1,
        &["no ping was answered", "--pong-contains"],
    );
    serving.abort();
}

#[tokio::test]
async fn tls_is_spoken_and_certificates_are_checked() {
    let directory = tempfile::tempdir().unwrap();
    let acceptor = certify(directory.path());
    let (port, serving) = echo(Some(acceptor)).await;
    let url = format!("wss://127.0.0.1:{port}/");
    let ca = directory.path().join("ca.pem");
    measure_stranger(&url, &["--ca-file", ca.to_str().unwrap()]).await;
    let stranger = ["idle", "--url", &url, "--connections", "1"];
    fails(
        &bench(&stranger).await,
        1,
        &["cannot connect", "certificate"],
    );
    serving.abort();
}

/// A CA, and a server at 127.0.0.1 with a certificate of it, by openssl.
fn certify(directory: &Path) -> TlsAcceptor {
    let script = "set -e; cd \"$0\"; new='openssl req -x509 -newkey rsa:2048 -nodes -days 2'; \
        $new -keyout ca.key -out ca.pem -subj /CN=ca -addext basicConstraints=critical,CA:TRUE; \
        $new -keyout key.pem -out cert.pem -subj /CN=server -CA ca.pem -CAkey ca.key \
        -addext basicConstraints=critical,CA:FALSE -addext subjectAltName=IP:127.0.0.1";
    let made = Command::new("sh")
        .args(["-c", script])
        .arg(directory)
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", stderr(&made));
    let certificate = CertificateDer::from_pem_file(directory.join("cert.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_file(directory.join("key.pem")).unwrap();
    let config = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}

#[test]
fn a_run_that_failed_has_failed_though_nobody_reads_its_result() {
    let args = "bench churn --url ws://127.0.0.1:1/ --rate 1 --seconds 1";
    let mut running = Command::new(env!("CARGO_BIN_EXE_wsgw"))
        .args(args.split(' '))
        .env_clear()
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    drop(running.stdout.take());
    assert_eq!(running.wait().unwrap().code(), Some(1));
}

/// Waits until a tool says a word on standard error, and nothing before it.
async fn says(mut errors: BufReader<ChildStderr>, word: &'static str) -> BufReader<ChildStderr> {
    let reading = tokio::task::spawn_blocking(move || {
        let mut line = String::new();
        errors.read_line(&mut line).unwrap();
        assert_eq!(line.trim(), word);
        errors
    });
    within(word, reading).await.unwrap()
}

#[tokio::test]
async fn one_push_reaches_the_clients_of_several_tools_in_lockstep() {
    let gateway = Setup::default().start().await;
    let (url, key) = (url(&gateway), key());
    let shared = "bench fanout --connections 3 --pushes 20 --run 7 --lockstep --json";
    let mut ready = Vec::new();
    for role in [None, Some("--receive")] {
        let mut tool = Command::new(env!("CARGO_BIN_EXE_wsgw"))
            .args(shared.split(' ').chain(role))
            .args(["--url", &url, "--key", &key])
            .env_clear()
            .env("GATEWAY_API_KEY", API_KEY)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let errors = BufReader::new(tool.stderr.take().unwrap());
        ready.push((tool, says(errors, "ready").await));
    }
    assert_eq!(gateway.connections().await.len(), 6);
    // The one that receives first: what the other publishes would be early else.
    for (tool, _) in ready.iter_mut().rev() {
        writeln!(tool.stdin.as_mut().unwrap()).unwrap();
    }
    let mut done = Vec::new();
    for (tool, errors) in ready {
        done.push((tool, says(errors, "done").await));
    }
    assert_eq!(gateway.connections().await.len(), 6, "until all are done");
    for (mut tool, _errors) in done {
        // The end of its standard input has a tool go on too.
        drop(tool.stdin.take());
        let ending = tokio::task::spawn_blocking(|| tool.wait_with_output().unwrap());
        let result = passed(&within("the end of a tool", ending).await.unwrap(), 60);
        let counts = result["latency_counts"].as_array().unwrap();
        let count: u64 = counts.iter().map(|pair| pair[1].as_u64().unwrap()).sum();
        assert_eq!(count, 60, "{result}");
    }
}
