//! `wsgw replay`: brings dead letters, or what the archive has, back by way of a running gateway.
//!
//! Stands outside the gateway: it calls the replay API, in batches, and says what comes of it.

use std::fmt::Display;
use std::io::Write as _;
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use serde_json::{Map, Value, json};

use self::client::{Client, Failed};
use self::progress::Progress;
use super::{USAGE, fail};

mod client;
mod progress;
mod table;

/// What the help ends with.
pub(super) const EXAMPLES: &str = "Examples:\n  \
    wsgw replay --dry-run                          look at the dead letters\n  \
    wsgw replay --dry-run --show-raw --limit 1     and at what was to be delivered\n  \
    wsgw replay --from rabbitmq --limit 1000       bring back up to a thousand from RabbitMQ\n  \
    wsgw replay                                    bring back up to a hundred, wherever they are\n  \
    wsgw replay --from archive --since 2026-01-31T12:00:00Z --user 42 --limit 500\n\n\
    The key is taken from --key, else REPLAY_API_KEY, else GATEWAY_API_KEY; prefer a variable, as\n\
    others on the machine can read the arguments of a command.";

/// Most that one call asks for, so that a call is answered soon; the gateway may do less at once.
const BATCH: u64 = 1_000;

/// Most dead letters that one call lists.
const LIST: u64 = 1_000;

/// Where to replay from, and how much.
#[derive(Debug, Clone, Args)]
pub struct ReplayArgs {
    /// Address of the gateway's internal API.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8000")]
    pub url: String,
    /// What to replay from; by default every broker that has dead letters.
    #[arg(long, value_enum)]
    pub from: Option<From>,
    /// How much to replay, or to list, at most.
    #[arg(long, default_value_t = 100)]
    pub limit: u64,
    /// Prints the dead letters and leaves them where they are.
    #[arg(long)]
    pub dry_run: bool,
    /// With --dry-run: prints what was to be delivered too; it may be confidential.
    #[arg(long, requires = "dry_run")]
    pub show_raw: bool,
    /// The key of the replay API.
    #[arg(long)]
    pub key: Option<String>,
    /// With --from archive: the earliest time, in Unix seconds or as 2026-01-31T12:00:00Z.
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    /// With --from archive: the time at which to end.
    #[arg(long, value_name = "TIME")]
    pub until: Option<String>,
    /// With --from archive: only events of this user.
    #[arg(long, value_name = "ID")]
    pub user: Option<String>,
    /// With --from archive: only events with this ordering key.
    #[arg(long, value_name = "KEY")]
    pub ordering_key: Option<String>,
    /// With --from archive: only events of this type, such as `message_received`.
    #[arg(long = "type", value_name = "TYPE")]
    pub kind: Option<String>,
    /// With --from archive: the sink that gets the events.
    #[arg(long, value_name = "SINK")]
    pub target: Option<String>,
    /// With --from archive: where to go on, as an earlier run told.
    #[arg(long, value_name = "CURSOR")]
    pub cursor: Option<String>,
}

/// What can be replayed from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum From {
    /// The queue of dead letters.
    Rabbitmq,
    /// The stream of dead letters.
    Redis,
    /// The database of every event.
    Archive,
}

impl From {
    fn name(self) -> &'static str {
        match self {
            Self::Rabbitmq => "rabbitmq",
            Self::Redis => "redis",
            Self::Archive => "archive",
        }
    }
}

impl ReplayArgs {
    /// The members of a call that only the archive takes.
    fn filters(&self) -> Map<String, Value> {
        let time = |text: &String| match text.parse::<i64>() {
            Ok(seconds) => json!(seconds),
            Err(_) => json!(text),
        };
        let text = |text: &String| json!(text);
        [
            ("since", self.since.as_ref().map(time)),
            ("until", self.until.as_ref().map(time)),
            ("user_id", self.user.as_ref().map(text)),
            ("ordering_key", self.ordering_key.as_ref().map(text)),
            ("type", self.kind.as_ref().map(text)),
            ("target", self.target.as_ref().map(text)),
            ("cursor", self.cursor.as_ref().map(text)),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_owned(), value?)))
        .collect()
    }

    /// What makes no sense, if anything.
    fn mistake(&self) -> Option<&'static str> {
        let archive = self.from == Some(From::Archive);
        if !archive && !self.filters().is_empty() {
            return Some(
                "--since, --until, --user, --ordering-key, --type, --target and --cursor need --from archive",
            );
        }
        if archive && self.since.is_none() {
            return Some("--from archive needs --since");
        }
        if archive && self.dry_run {
            return Some("--dry-run lists dead letters, which the archive has none of");
        }
        None
    }

    fn api_key(&self) -> Option<String> {
        let filled = |name| std::env::var(name).ok().filter(|key| !key.is_empty());
        self.key
            .clone()
            .or_else(|| filled("REPLAY_API_KEY"))
            .or_else(|| filled("GATEWAY_API_KEY"))
    }
}

/// Runs the command.
pub(super) fn run(args: &ReplayArgs) -> ExitCode {
    let usage = |mistake: &dyn Display| {
        fail(mistake);
        ExitCode::from(USAGE)
    };
    if let Some(mistake) = args.mistake() {
        return usage(&mistake);
    }
    let Some(key) = args.api_key() else {
        return usage(&"no key: give --key, or set REPLAY_API_KEY or GATEWAY_API_KEY");
    };
    let client = match Client::new(&args.url, &key) {
        Ok(client) => client,
        Err(mistake) => return usage(&mistake),
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error),
    };
    let done = runtime.block_on(async {
        match (args.dry_run, args.from) {
            (true, _) => look(&client, args).await,
            (false, Some(from)) => {
                let mut left = args.limit;
                replay(&client, from, args, &mut left).await
            }
            (false, None) => replay_all(&client, args).await,
        }
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failed) => fail(&failed),
    }
}

/// Prints the dead letters.
async fn look(client: &Client, args: &ReplayArgs) -> Result<(), Failed> {
    // Those of one store are chosen from all that a call lists.
    let asked = match args.from {
        Some(_) => LIST,
        None => args.limit.clamp(1, LIST),
    };
    let mut listed = client.dead_letters(asked).await?;
    if let Some(from) = args.from {
        listed.of_store(from.name());
    }
    listed
        .letters
        .truncate(usize::try_from(args.limit).unwrap_or(usize::MAX));
    let now = crate::clock::unix_now();
    print(&table::render(&listed.letters, args.show_raw, now));
    if args.limit > LIST {
        note(format_args!("no more than {LIST} dead letters are listed"));
    }
    for store in &listed.unavailable {
        note(format_args!(
            "{store} did not answer: its dead letters are missing above"
        ));
    }
    Ok(())
}

/// Replays from each broker that has dead letters.
async fn replay_all(client: &Client, args: &ReplayArgs) -> Result<(), Failed> {
    let listed = client.dead_letters(LIST).await?;
    let mut left = args.limit;
    let mut found = false;
    for from in [From::Redis, From::Rabbitmq] {
        let count = listed.count(from.name());
        if count > 0 {
            found = true;
            let more = if listed.letters.len() as u64 >= LIST {
                " or more"
            } else {
                ""
            };
            note(format_args!("{}: {count}{more} dead letters", from.name()));
            if left > 0 {
                replay(client, from, args, &mut left).await?;
            }
        }
    }
    let in_file = listed.count("file");
    if in_file > 0 {
        found = true;
        note(format_args!(
            "file: {in_file} dead letters, which no gateway can replay; see them with --dry-run"
        ));
    }
    if let Some(store) = listed.unavailable.first() {
        return Err(Failed::new(format!(
            "{store} did not answer: its dead letters, if it has any, were not replayed"
        )));
    }
    if !found {
        print("no dead letters\n");
    }
    Ok(())
}

/// Replays from one place in batches, until `left` is used up or nothing is left.
async fn replay(
    client: &Client,
    from: From,
    args: &ReplayArgs,
    left: &mut u64,
) -> Result<(), Failed> {
    let progress = Progress::start(from.name(), *left);
    let (mut total, mut refused, mut largest) = (0, 0, 0);
    let mut body = args.filters();
    let mut more = None;
    let ended = loop {
        if *left == 0 {
            break Ok(());
        }
        let asked = (*left).min(BATCH);
        body.insert("limit".into(), json!(asked));
        let came = match client.replay(from.name(), &body, &progress).await {
            Ok(came) => came,
            Err(mut failed) => {
                total += failed.replayed;
                more = failed.next_cursor.take().or(more);
                break Err(failed);
            }
        };
        total += came.replayed;
        refused += came.refused;
        *left = left.saturating_sub(came.replayed + came.refused);
        progress.at(total);
        if from == From::Archive {
            more = came.next_cursor;
            match &more {
                Some(cursor) => body.insert("cursor".into(), json!(cursor)),
                None => break Ok(()),
            };
        } else if came.replayed == 0 || came.replayed < asked.min(largest) {
            // Less than it did before: there was no more.
            break Ok(());
        }
        largest = largest.max(came.replayed);
    };
    progress.finish();
    let what = if from == From::Archive {
        "events"
    } else {
        "dead letters"
    };
    print(&format!("{}: {total} {what} replayed\n", from.name()));
    if refused > 0 {
        note(format_args!(
            "{}: {refused} {what} were refused by the target",
            from.name()
        ));
    }
    if let Some(cursor) = more {
        note(format_args!("there is more: go on with --cursor {cursor}"));
    }
    ended
}

/// Prints to standard output; a reader that went away is no failure.
fn print(text: &str) {
    let _ = std::io::stdout().write_all(text.as_bytes());
}

/// Says something that is no result.
fn note(text: std::fmt::Arguments<'_>) {
    // Nowhere is left to say that standard error is closed.
    let _ = writeln!(std::io::stderr(), "{text}");
}
