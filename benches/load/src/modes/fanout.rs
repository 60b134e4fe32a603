//! `fanout`: pushes from the backend to many clients.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use memchr::memmem::Finder;
use serde::Deserialize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;

use super::{finished, run_number};
use crate::args::FanoutArgs;
use crate::client::{self, Fleet};
use crate::outcome::Outcome;
use crate::process::Server;
use crate::tally::{Latencies, Sequence, Totals};
use crate::target::Target;
use crate::{Result, http, pace, progress, redis};

struct Load {
    /// Comes right before a push's number; found as bytes, since parsing every delivery as JSON
    /// would cost more than the gateway spends on it.
    marker: Finder<'static>,
    connections: usize,
    published_at: RefCell<Vec<Option<Instant>>>,
    streams: RefCell<Vec<Sequence>>,
    totals: Cell<Totals>,
    last_arrival: Cell<Option<Instant>>,
    latencies: RefCell<Latencies>,
    /// Publish calls that may still be on the wire.
    room: Semaphore,
    answered: Cell<usize>,
    refused: Cell<usize>,
    short: Cell<usize>,
}

/// The gateway's answer to a publish call.
#[derive(Deserialize)]
struct Published {
    sent: usize,
}

impl Load {
    fn delivered(&self, client: usize, message: &[u8]) {
        let Some(at) = self.marker.find(message) else {
            return;
        };
        let digits = &message[at + self.marker.needle().len()..];
        let number = digits.iter().take_while(|byte| byte.is_ascii_digit()).fold(
            0_usize,
            |number, digit| {
                number
                    .saturating_mul(10)
                    .saturating_add(usize::from(digit - b'0'))
            },
        );
        let Some(Some(published)) = self.published_at.borrow().get(number).copied() else {
            return;
        };
        let now = Instant::now();
        let mut totals = self.totals.get();
        totals.add(self.streams.borrow_mut()[client].note(number));
        self.totals.set(totals);
        self.last_arrival.set(Some(now));
        let latency = now.saturating_duration_since(published);
        self.latencies.borrow_mut().add(latency);
    }

    fn answered(&self) {
        self.answered.set(self.answered.get() + 1);
        self.room.add_permits(1);
    }

    fn answer(&self, status: u16, body: &[u8]) {
        self.answered();
        match serde_json::from_slice::<Published>(body) {
            Ok(Published { sent }) if status == 200 => {
                if sent != self.connections {
                    self.short.set(self.short.get() + 1);
                }
            }
            _ => self.refused.set(self.refused.get() + 1),
        }
    }
}

/// Publishes and checks that every client gets everything, once and in order.
pub(crate) async fn run(args: &FanoutArgs) -> Result<Outcome> {
    let shared = &args.shared;
    let target = Target::parse(&args.publish_url, "http", shared.allow_remote)?;
    let run = run_number();
    let marker = format!(r#""bench_run":{run},"n":"#);
    let load = Rc::new(Load {
        marker: Finder::new(marker.as_bytes()).into_owned(),
        connections: args.connections,
        published_at: RefCell::new(vec![None; args.pushes]),
        streams: RefCell::new((0..args.connections).map(|_| Sequence::default()).collect()),
        totals: Cell::default(),
        last_arrival: Cell::default(),
        latencies: RefCell::new(Latencies::new()),
        room: Semaphore::new(args.window),
        answered: Cell::default(),
        refused: Cell::default(),
        short: Cell::default(),
    });
    let subject = serde_json::to_string(&args.subject)?;
    let claims = format!(r#","subjects":[{subject}]"#);
    let tokens = client::tokens(shared, args.connections, &claims)?;
    let server = Server::new(&shared.server_pids)?;
    let broker = Server::new(&shared.broker_pids)?;
    let receiver = load.clone();
    let on_message = move |client, message: &[u8]| receiver.delivered(client, message);
    let fleet = Fleet::open(shared, tokens, on_message).await?;
    server.quiet().await?;
    let (answers, calls) = connect(args, &target).await?.into_split();
    let (cpu, broker_cpu) = (server.cpu()?, broker.cpu()?);
    let start = Instant::now();
    let mut tasks = JoinSet::new();
    let pacer = args
        .rate
        .map(|rate| pace::start(rate, args.pushes))
        .transpose()?;
    let body = |number| {
        let mut text = format!(r#"{{"subjects":[{subject}],"payload":{{{marker}{number},"pad":""#);
        let head = marker.len() + 20;
        text.extend(std::iter::repeat_n(
            'x',
            args.payload_bytes.saturating_sub(head),
        ));
        text.push_str("\"}}");
        match args.redis {
            Some(_) => entry(&args.stream, &text),
            None => request(&target, &args.api_key, &text),
        }
    };
    let requests = (0..args.pushes).map(body).collect();
    tasks.spawn_local(publish(load.clone(), calls, requests, pacer));
    if args.redis.is_some() {
        tasks.spawn_local(read_replies(load.clone(), answers));
    } else {
        tasks.spawn_local(read_answers(load.clone(), answers));
    }
    wait(args, &load).await;
    let took = load.last_arrival.get().unwrap_or_else(Instant::now) - start;
    server.quiet().await?;
    tasks.abort_all();
    let expected = args.connections * args.pushes;
    let mut outcome = Outcome::new(shared.label.as_deref(), "fanout", "delivery", expected);
    let totals = load.totals.get();
    outcome.arrived(totals.unique, took);
    outcome.cpu(cpu, server.cpu()?);
    outcome.broker_cpu(broker_cpu, broker.cpu()?);
    outcome.check(totals);
    outcome.latency_us = load.latencies.borrow().percentiles();
    outcome.problem(
        args.pushes - load.answered.get(),
        "publish calls were not answered",
    );
    outcome.problem(load.refused.get(), "publish calls were refused");
    outcome.problem(
        load.short.get(),
        "publish calls did not reach every connection",
    );
    if args.redis.is_some() && totals.unique == 0 {
        let stream = &args.stream;
        let problem = format!("nothing arrived: does the gateway read the stream {stream}?");
        outcome.problems.push(problem);
    }
    outcome.closed_early(fleet.closed());
    fleet.close().await;
    Ok(outcome)
}

async fn connect(args: &FanoutArgs, target: &Target) -> Result<TcpStream> {
    if let Some(url) = &args.redis {
        return redis::connect(url, args.shared.allow_remote).await;
    }
    let stream = TcpStream::connect(target.address)
        .await
        .map_err(|error| format!("cannot connect to {}: {error}", args.publish_url))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn entry(stream: &str, body: &str) -> Vec<u8> {
    let command = ["XADD", stream, "*", "data", body].map(str::as_bytes);
    let mut out = Vec::new();
    redis::encode(&command, &mut out);
    out
}

fn request(target: &Target, api_key: &str, body: &str) -> Vec<u8> {
    format!(
        "POST {} HTTP/1.1\r\nHost: {}\r\nX-API-Key: {api_key}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        target.path,
        target.authority,
        body.len()
    )
    .into_bytes()
}

async fn wait(args: &FanoutArgs, load: &Load) {
    let expected = args.connections * args.pushes;
    let bar = progress::bar("deliveries", expected as u64);
    let unique = || load.totals.get().unique;
    let done = || unique() >= expected && load.answered.get() >= args.pushes;
    let progress = || {
        bar.set_position(unique() as u64);
        unique() + load.answered.get()
    };
    // Between two paced pushes nothing moves, and that is no stall.
    let pause = args.rate.map_or(0.0, |rate| 1.0 / rate);
    let stall = Duration::from_secs_f64(args.shared.stall_seconds + pause);
    finished(stall, done, progress).await;
    bar.finish_and_clear();
}

/// Writes the publish calls, on one connection so that their order is defined: paced, whether
/// or not the earlier ones were answered; in a burst, some ahead of the answers.
async fn publish(
    load: Rc<Load>,
    mut calls: OwnedWriteHalf,
    requests: Vec<Vec<u8>>,
    mut pacer: Option<mpsc::UnboundedReceiver<Instant>>,
) {
    for (number, request) in requests.iter().enumerate() {
        let intended = match &mut pacer {
            Some(due) => due.recv().await,
            None => match load.room.acquire().await {
                Ok(room) => {
                    room.forget();
                    Some(Instant::now())
                }
                Err(_) => None,
            },
        };
        if intended.is_none() {
            return;
        }
        load.published_at.borrow_mut()[number] = intended;
        if calls.write_all(request).await.is_err() {
            return;
        }
    }
    // Dropping this half would tell the server that no answer is awaited any more.
    std::future::pending::<()>().await;
}

async fn read_answers(load: Rc<Load>, mut answers: OwnedReadHalf) {
    let mut input = Vec::new();
    loop {
        match answers.read_buf(&mut input).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        loop {
            match http::response(&input) {
                Ok(Some(head)) if input.len() >= head.total() => {
                    load.answer(head.status, &input[head.body_at..head.total()]);
                    input.drain(..head.total());
                }
                Ok(_) => break,
                // Counted as unanswered.
                Err(_) => return,
            }
        }
    }
}

async fn read_replies(load: Rc<Load>, mut replies: OwnedReadHalf) {
    let mut input = Vec::new();
    loop {
        match replies.read_buf(&mut input).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        let mut rest = &input[..];
        while let Ok(Some(reply)) = redis::decode(&mut rest) {
            load.answered();
            if reply.text().is_none() {
                load.refused.set(load.refused.get() + 1);
            }
        }
        let left = rest.len();
        input.drain(..input.len() - left);
    }
}
