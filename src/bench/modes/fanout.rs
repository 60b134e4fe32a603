//! `fanout`: pushes from the backend to many clients.
//!
//! Stands on both ends of the way back: it publishes as the backend does, and checks what every client gets.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime};

use memchr::memmem::Finder;
use serde::Deserialize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{Meter, finished, run_number};
use crate::bench::args::FanoutArgs;
use crate::bench::fleet::Fleet;
use crate::bench::lockstep::Lockstep;
use crate::bench::message::take_number;
use crate::bench::net::{Dialer, ReadEnd, WriteEnd};
use crate::bench::outcome::Outcome;
use crate::bench::pace::Pacer;
use crate::bench::redis::{self, Redis};
use crate::bench::tally::{Latencies, Sequence, Totals};
use crate::bench::target::Target;
use crate::bench::token::Tokens;
use crate::bench::{BenchError, Result, http, progress};

/// Where the gateway's internal API takes pushes.
const PUBLISH: &str = "/internal/publish";

/// Characters of a refusal that are shown.
const SHOWN: usize = 200;

/// What stands between a push's number and its time, microseconds since 1970.
const STAMP: &str = r#","at":"#;

struct Load {
    /// Comes right before a push's number; found as bytes, since parsing every delivery as JSON
    /// would cost more than the gateway spends on it.
    marker: Finder<'static>,
    connections: usize,
    /// Whether another tool publishes, so that only the pushes themselves say when.
    receive: bool,
    pushes: usize,
    published_at: RefCell<Vec<Option<Instant>>>,
    streams: RefCell<Vec<Sequence>>,
    totals: Cell<Totals>,
    last_arrival: Cell<Option<Instant>>,
    latencies: RefCell<Latencies>,
    /// Publish calls that may still be on the wire.
    room: Semaphore,
    published: Cell<usize>,
    answered: Cell<usize>,
    refused: Cell<usize>,
    /// What the first refusal said.
    refusal: RefCell<Option<String>>,
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
        let mut digits = message
            .get(at + self.marker.needle().len()..)
            .unwrap_or_default();
        let Some(number) = take_number(&mut digits) else {
            return;
        };
        let now = Instant::now();
        let latency = if self.receive {
            let Some(published) = stamped(digits).filter(|_| number < self.pushes) else {
                return;
            };
            today().saturating_sub(published)
        } else {
            let Some(Some(published)) = self.published_at.borrow().get(number).copied() else {
                return;
            };
            now.saturating_duration_since(published)
        };
        let mut totals = self.totals.get();
        if let Some(stream) = self.streams.borrow_mut().get_mut(client) {
            totals.add(stream.note(number));
        }
        self.totals.set(totals);
        self.last_arrival.set(Some(now));
        self.latencies.borrow_mut().add(latency);
    }

    fn answered(&self) {
        self.answered.set(self.answered.get() + 1);
        self.room.add_permits(1);
    }

    fn refuse(&self, why: String) {
        self.refused.set(self.refused.get() + 1);
        self.refusal.borrow_mut().get_or_insert(why);
    }

    fn answer(&self, status: u16, body: &[u8]) {
        self.answered();
        match serde_json::from_slice::<Published>(body) {
            Ok(Published { sent }) if status == 200 => {
                // Those of other tools may share the subject.
                if sent < self.connections {
                    self.short.set(self.short.get() + 1);
                }
            }
            _ => {
                let body = crate::cli::clean(String::from_utf8_lossy(body).trim());
                let body: String = body.chars().take(SHOWN).collect();
                self.refuse(format!("HTTP {status}: {body}"));
            }
        }
    }
}

/// Publishes and checks that every client gets everything, once and in order.
pub(super) async fn run(args: &FanoutArgs, stop: &CancellationToken) -> Result<Outcome> {
    let (shared, pushes) = (&args.shared, args.pushes());
    let mut meter = Meter::new(shared, args.connections)?;
    let mut lockstep = Lockstep::new(shared)?;
    let target = publish_target(args)?;
    let run = args.run.unwrap_or_else(run_number);
    let marker = format!(r#""bench_run":{run},"n":"#);
    let load = Rc::new(Load {
        marker: Finder::new(marker.as_bytes()).into_owned(),
        connections: args.connections,
        receive: args.receive,
        pushes,
        published_at: RefCell::new(vec![None; pushes]),
        streams: RefCell::new((0..args.connections).map(|_| Sequence::default()).collect()),
        totals: Cell::default(),
        last_arrival: Cell::default(),
        latencies: RefCell::new(Latencies::new()?),
        room: Semaphore::new(args.window),
        published: Cell::default(),
        answered: Cell::default(),
        refused: Cell::default(),
        refusal: RefCell::default(),
        short: Cell::default(),
    });
    let tokens = Tokens::new(shared, args.connections, Some(&args.subject))?;
    let receiver = Rc::clone(&load);
    let on_message = move |client, message: &[u8]| receiver.delivered(client, message);
    let fleet = Fleet::open(shared, args.connections, tokens, stop, on_message).await?;
    lockstep.ready(stop).await;
    meter.start(stop).await;
    let start = Instant::now();
    let mut tasks = JoinSet::new();
    if args.receive {
        load.published.set(pushes);
    } else {
        start_publishing(args, &target, &marker, &load, &mut tasks, stop).await?;
    }
    wait(args, stop, &load, &fleet).await;
    let finish = load.last_arrival.get().unwrap_or_else(Instant::now);
    let after = meter.quiet(stop).await;
    lockstep.done(stop).await;
    tasks.abort_all();
    let published = if stop.is_cancelled() {
        load.published.get()
    } else {
        pushes
    };
    let expected = args.connections * published;
    let mut outcome = Outcome::new(shared.label.as_deref(), "fanout", "delivery", expected);
    outcome.arrived(
        load.totals.get().unique,
        finish.saturating_duration_since(start),
    );
    meter.account(&mut outcome, after);
    outcome.check(load.totals.get());
    outcome.latencies(&load.latencies.borrow(), shared.lockstep);
    describe(args, &load, published, &mut outcome);
    outcome.closed_early(fleet.closed());
    fleet.close().await;
    Ok(outcome)
}

/// Says what else went wrong.
fn describe(args: &FanoutArgs, load: &Load, published: usize, outcome: &mut Outcome) {
    if !args.receive {
        outcome.problem(
            published.saturating_sub(load.answered.get()),
            "publish calls were not answered",
        );
    }
    if let Some(refusal) = load.refusal.borrow_mut().take() {
        let what = format!("publish calls were refused, the first with {refusal}");
        outcome.problem(load.refused.get(), &what);
    }
    let subject = &args.subject;
    let what = format!(
        "publish calls did not reach every connection: do all tokens have the subject {subject}?"
    );
    outcome.problem(load.short.get(), &what);
    if args.redis.is_some() && outcome.count == 0 && published > 0 {
        let stream = &args.stream;
        let problem = format!("nothing arrived: does the gateway read the stream {stream}?");
        outcome.problems.push(problem);
    }
}

/// Where pushes go by HTTP.
fn publish_target(args: &FanoutArgs) -> Result<Target> {
    let shared = &args.shared;
    let url = if let Some(url) = &args.publish_url {
        url.clone()
    } else {
        let gateway = Target::parse(&shared.url, &["ws", "wss"], shared.allow_remote)
            .map_err(|error| BenchError::usage(format!("--url: {error}")))?;
        let scheme = if gateway.tls { "https" } else { "http" };
        format!("{scheme}://{}{PUBLISH}", gateway.authority)
    };
    let target = Target::parse(&url, &["http", "https"], shared.allow_remote)
        .map_err(|error| BenchError::usage(format!("--publish-url: {error}")))?;
    if args.redis.is_none() && ::http::HeaderValue::try_from(&args.api_key).is_err() {
        return Err(BenchError::usage("--api-key: not fit for a header"));
    }
    if args.redis.is_none() && args.api_key.is_empty() {
        return Err(BenchError::usage(
            "publishing needs the key of the internal API: set GATEWAY_API_KEY (or publish through --redis)",
        ));
    }
    Ok(target)
}

/// Connects to where pushes go, and starts the tasks that publish them.
async fn start_publishing(
    args: &FanoutArgs,
    target: &Target,
    marker: &str,
    load: &Rc<Load>,
    tasks: &mut JoinSet<()>,
    stop: &CancellationToken,
) -> Result<()> {
    let (answers, calls) = connect(args, target).await?;
    let requests = requests(args, target, marker);
    let pacer = args
        .rate
        .map(|rate| Pacer::start(rate, args.pushes(), 1))
        .transpose()?;
    tasks.spawn_local(publish(
        Rc::clone(load),
        calls,
        requests,
        pacer,
        stop.clone(),
    ));
    if args.redis.is_some() {
        tasks.spawn_local(read_replies(Rc::clone(load), answers));
    } else {
        tasks.spawn_local(read_answers(Rc::clone(load), answers));
    }
    Ok(())
}

async fn connect(args: &FanoutArgs, target: &Target) -> Result<(ReadEnd, WriteEnd)> {
    if let Some(url) = &args.redis {
        let redis = Redis::connect(url, args.shared.allow_remote).await?;
        return Ok(redis.into_halves());
    }
    let shown = target.shown();
    Dialer::new(target.clone(), 1, args.shared.ca_file.as_deref())?
        .connect(0)
        .await
        .map_err(|error| format!("cannot connect to the internal API at {shown}: {error}").into())
}

/// The time of day, since 1970.
fn today() -> Duration {
    SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default()
}

/// The time of day that stands after a push's number.
fn stamped(after_number: &[u8]) -> Option<Duration> {
    let mut digits = after_number.strip_prefix(STAMP.as_bytes())?;
    let micros = take_number(&mut digits)?;
    Some(Duration::from_micros(micros as u64))
}

/// Writes the time of day into a request, in place of its zeros.
fn stamp(request: &mut [u8], at: Duration) {
    let Some(place) = memchr::memmem::find(request, STAMP.as_bytes()) else {
        return;
    };
    let micros = format!("{:016}", at.as_micros());
    let place = place + STAMP.len();
    if let Some(digits) = request.get_mut(place..place + micros.len()) {
        digits.copy_from_slice(micros.as_bytes());
    }
}

/// Everything to write but the times, ahead of time.
fn requests(args: &FanoutArgs, target: &Target, marker: &str) -> Vec<Vec<u8>> {
    let subject = serde_json::json!(args.subject);
    let body = |number| {
        let mut text = format!(
            r#"{{"subjects":[{subject}],"payload":{{{marker}{number}{STAMP}{:016},"pad":""#,
            0
        );
        let head = marker.len() + STAMP.len() + 36;
        text.extend(std::iter::repeat_n(
            'x',
            args.payload_bytes.saturating_sub(head),
        ));
        text.push_str("\"}}");
        match args.redis {
            Some(_) => entry(&args.stream, &text),
            None => request(target, &args.api_key, &text),
        }
    };
    (0..args.pushes()).map(body).collect()
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

async fn wait(args: &FanoutArgs, stop: &CancellationToken, load: &Load, fleet: &Fleet) {
    let pushes = args.pushes();
    let bar = progress::bar("deliveries", args.connections * pushes);
    let unique = || load.totals.get().unique;
    let done = || {
        let published = if stop.is_cancelled() {
            load.published.get()
        } else {
            pushes
        };
        // Nothing comes of what was refused.
        let wanted = published.saturating_sub(load.refused.get());
        let answered = args.receive || load.answered.get() >= published;
        unique() >= args.connections * wanted && answered
    };
    let progress = || {
        bar.set_position(unique() as u64);
        unique() + load.answered.get()
    };
    // Between two paced pushes nothing moves, and that is no stall.
    let pause = args.rate.map_or(0.0, |rate| 1.0 / rate);
    let stall = Duration::from_secs_f64(args.shared.stall_seconds + pause);
    finished(stop, stall, fleet, done, progress).await;
    bar.finish_and_clear();
}

/// Writes the publish calls, on one connection so that their order is defined: paced, whether
/// or not the earlier ones were answered; in a burst, some ahead of the answers.
async fn publish(
    load: Rc<Load>,
    mut calls: WriteEnd,
    requests: Vec<Vec<u8>>,
    pacer: Option<Pacer>,
    stop: CancellationToken,
) {
    for (number, mut request) in requests.into_iter().enumerate() {
        let intended = match &pacer {
            Some(pacer) => pacer.next(0, number).await,
            None => load.room.acquire().await.ok().map(|room| {
                room.forget();
                Instant::now()
            }),
        };
        let Some(at) = intended.filter(|_| !stop.is_cancelled()) else {
            break;
        };
        // When it should have been published, so that a late start is no one's gain.
        stamp(&mut request, today().saturating_sub(at.elapsed()));
        if let Some(place) = load.published_at.borrow_mut().get_mut(number) {
            *place = intended;
        }
        load.published.set(number + 1);
        if calls.write_all(&request).await.is_err() || calls.flush().await.is_err() {
            break;
        }
    }
    // Dropping this half would tell the server that no answer is awaited any more.
    std::future::pending::<()>().await;
}

async fn read_answers(load: Rc<Load>, mut answers: ReadEnd) {
    let mut input = Vec::new();
    loop {
        match answers.read_buf(&mut input).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        loop {
            match http::response(&input) {
                Ok(Some(head)) if input.len() >= head.total() => {
                    let body = input.get(head.body_at..head.total());
                    load.answer(head.status, body.unwrap_or_default());
                    input.drain(..head.total());
                }
                Ok(_) => break,
                // Counted as unanswered.
                Err(_) => return,
            }
        }
    }
}

async fn read_replies(load: Rc<Load>, mut replies: ReadEnd) {
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
                load.refuse("an error of Redis".to_owned());
            }
        }
        let left = rest.len();
        input.drain(..input.len() - left);
    }
}
