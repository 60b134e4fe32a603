//! The API behind a real HTTP connection: what a caller reads when its body is refused.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::*;

/// Serves the API on a port of its own until dropped.
async fn serve(api: &Api) -> (std::net::SocketAddr, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let filter = routes(Arc::clone(&api.state), Surface::All, None);
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            let service = warp::service(filter.clone());
            connections.spawn(hyper::server::conn::http1::Builder::new().serve_connection(
                hyper_util::rt::TokioIo::new(stream),
                hyper_util::service::TowerToHyperService::new(service),
            ));
        }
    });
    (address, tasks)
}

/// Sends everything before reading anything, as simple callers do.
async fn exchange(api: &Api, head: &str, body: &[u8]) -> String {
    let (address, _tasks) = serve(api).await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream
        .write_all(head.replace('\n', "\r\n").as_bytes())
        .await
        .unwrap();
    stream.write_all(body).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

fn chunked(part: &[u8], times: usize) -> Vec<u8> {
    let mut body = Vec::new();
    for _ in 0..times {
        body.extend_from_slice(format!("{:x}\r\n", part.len()).as_bytes());
        body.extend_from_slice(part);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(b"0\r\n\r\n");
    body
}

const HEAD: &str = "POST /internal/publish HTTP/1.1\nHost: x\nConnection: close\n";

#[tokio::test]
async fn the_answer_to_ten_megabytes_can_be_read() {
    let api = Api::new();
    let body = vec![b' '; 10_000_000];
    let sized = format!("{HEAD}X-API-Key: {KEY}\nContent-Length: {}\n\n", body.len());
    let answer = exchange(&api, &sized, &body).await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    assert!(answer.contains("application/problem+json"));

    let unkeyed = format!("{HEAD}X-API-Key: wrong\nContent-Length: {}\n\n", body.len());
    assert!(
        exchange(&api, &unkeyed, &body)
            .await
            .starts_with("HTTP/1.1 401 ")
    );

    let nowhere = format!(
        "POST /nowhere HTTP/1.1\nHost: x\nConnection: close\nContent-Length: {}\n\n",
        body.len()
    );
    assert!(
        exchange(&api, &nowhere, &body)
            .await
            .starts_with("HTTP/1.1 404 ")
    );
}

#[tokio::test]
async fn chunked_bodies_are_read_to_the_limit() {
    let api = Api::new();
    let head = format!("{HEAD}X-API-Key: {KEY}\nTransfer-Encoding: chunked\n\n");
    let body = chunked(br#"{"subjects":["a"],"#, 1);
    let unfinished = exchange(&api, &head, &body).await;
    assert!(unfinished.starts_with("HTTP/1.1 400 "), "{unfinished}");

    let mut body = chunked(br#"{"subjects":["a"],"#, 1);
    body.truncate(body.len() - 5);
    body.extend(chunked(br#""payload":1}"#, 1));
    let answer = exchange(&api, &head, &body).await;
    assert!(
        answer.starts_with("HTTP/1.1 200 ") && answer.ends_with(r#"{"sent":0}"#),
        "{answer}"
    );

    let over = exchange(&api, &head, &chunked(&[b' '; 1000], 10_000)).await;
    assert!(over.starts_with("HTTP/1.1 413 "), "{over}");

    let broken = exchange(&api, &head, b"zz\r\n").await;
    assert!(
        broken.starts_with("HTTP/1.1 400 ") || broken.is_empty(),
        "{broken}"
    );
}

#[tokio::test]
async fn a_caller_that_waits_to_be_asked_is_refused_unasked() {
    let api = Api::new();
    let head =
        format!("{HEAD}X-API-Key: {KEY}\nExpect: 100-continue\nContent-Length: 10000000\n\n");
    let answer = exchange(&api, &head, b"").await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    assert!(!answer.contains("100 Continue"));
}

#[tokio::test]
async fn head_answers_headers_alone() {
    let api = Api::new();
    let answer = exchange(
        &api,
        "HEAD /health HTTP/1.1\nHost: x\nConnection: close\n\n",
        b"",
    )
    .await;
    assert!(
        answer.starts_with("HTTP/1.1 200 ") && answer.contains("content-length: 11"),
        "{answer}"
    );
    assert!(answer.ends_with("\r\n\r\n"));
}
