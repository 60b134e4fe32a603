//! Sends commands in one go, and finds each one's answer among what comes back.
//!
//! Stands between the link and a connection. `MULTI` and `EXEC` are sent as commands of their own, because what
//! Redis answers to each tells which command made a transaction fail, and whether there was one at all.

use redis::aio::ConnectionLike;
use redis::cluster_async::ClusterConnection;
use redis::cluster_routing::{Route, RoutingInfo, SingleNodeRoutingInfo, Slot, SlotAddr};
use redis::{Arg, Cmd, ErrorKind, Pipeline, RedisError, RedisResult, ServerError, Value};

use super::{Atomicity, CommandError};

/// One answer for each command.
pub(super) type Answers = Vec<Result<Value, CommandError>>;

/// The answer of a command that was fine, but whose transaction was given up because of another.
const DISCARDED: &str = "EXECABORT not done because of another command";

impl CommandError {
    /// The error's code, such as `OOM`, `WRONGTYPE` or `NOPERM`.
    #[must_use]
    pub fn code(&self) -> &str {
        self.0.split(' ').next().unwrap_or_default()
    }

    /// Whether the command was not done only because another one of its transaction was refused.
    #[must_use]
    pub fn is_discarded(&self) -> bool {
        self.0 == DISCARDED
    }
}

/// Whether nothing is known of the commands, because the connection failed.
pub(super) fn is_lost(error: &RedisError) -> bool {
    error.is_unrecoverable_error()
        || error.is_timeout()
        || matches!(
            error.kind(),
            ErrorKind::Io | ErrorKind::ClusterConnectionNotFound
        )
}

/// An error's text as logs may have it: Redis repeats the arguments of a command it does not know.
pub(super) fn text(code: &str, detail: Option<&str>) -> String {
    let detail = detail.unwrap_or_default();
    let detail = detail
        .split("with args beginning with")
        .next()
        .unwrap_or_default();
    let hint = match code {
        "MOVED" | "ASK" => " (this is a node of a cluster: add `cluster=1` to the DSN)",
        _ => "",
    };
    format!("{code} {}{hint}", detail.trim_end_matches([' ', ',']))
        .trim_end()
        .to_owned()
}

pub(super) fn refused(error: &ServerError) -> CommandError {
    CommandError(text(error.code(), error.details()))
}

pub(super) fn refused_by(error: &RedisError) -> CommandError {
    CommandError(text(error.code().unwrap_or("ERR"), error.detail()))
}

/// Sends commands to one server.
pub(super) async fn run_single(
    connection: &mut impl ConnectionLike,
    commands: Vec<Cmd>,
    atomicity: Atomicity,
) -> RedisResult<Answers> {
    let count = commands.len();
    let request = Request::new(commands, atomicity);
    let replies = connection.req_packed_commands(&request.pipeline, 0, request.replies);
    request.sort(replies.await, count)
}

/// Sends commands to a cluster: those of one hash slot together, the slots side by side.
pub(super) async fn run_cluster(
    connection: &ClusterConnection,
    commands: Vec<Cmd>,
    atomicity: Atomicity,
) -> RedisResult<Answers> {
    let count = commands.len();
    let mut groups: Vec<(Option<Slot>, Vec<usize>, Vec<Cmd>)> = Vec::new();
    for (index, command) in commands.into_iter().enumerate() {
        let slot = key(&command).map(Slot::for_key);
        let group = groups
            .iter()
            .position(|(other, ..)| slot.is_some() && *other == slot);
        let group = group.unwrap_or_else(|| {
            groups.push((slot, Vec::new(), Vec::new()));
            groups.len() - 1
        });
        groups[group].1.push(index);
        groups[group].2.push(command);
    }
    let running = groups.into_iter().map(async |(slot, places, commands)| {
        let answers = run_slot(connection.clone(), slot, commands, atomicity).await;
        (places, answers)
    });
    let mut all: Vec<Option<Result<Value, CommandError>>> = (0..count).map(|_| None).collect();
    let (mut lost, mut answered) = (None, false);
    for (places, answers) in futures_util::future::join_all(running).await {
        match answers {
            Ok(answers) => {
                answered = true;
                for (place, answer) in places.into_iter().zip(answers) {
                    all[place] = Some(answer);
                }
            }
            Err(error) => lost = Some(error),
        }
    }
    match lost {
        Some(error) if !answered => Err(error),
        lost => {
            let missing = || {
                let lost = lost.as_ref().map_or("no answer", RedisError::category);
                Err(CommandError(format!("LOST {lost}")))
            };
            Ok(all
                .into_iter()
                .map(|answer| answer.unwrap_or_else(missing))
                .collect())
        }
    }
}

async fn run_slot(
    mut connection: ClusterConnection,
    slot: Option<Slot>,
    commands: Vec<Cmd>,
    atomicity: Atomicity,
) -> RedisResult<Answers> {
    let Some(slot) = slot else {
        return one_by_one(&mut connection, None, commands).await;
    };
    let route = SingleNodeRoutingInfo::SpecificNode(Route::with_slot(slot, SlotAddr::Master));
    if commands.len() == 1 {
        return one_by_one(&mut connection, Some(route), commands).await;
    }
    let count = commands.len();
    let request = Request::new(commands.clone(), atomicity);
    let (pipeline, replies) = (request.pipeline.clone(), request.replies);
    let replies = connection.route_pipeline(pipeline, 0, replies, route.clone());
    match replies.await {
        // While a slot moves, only a single command can be redirected.
        Err(error) if error.is_cluster_error() => {
            one_by_one(&mut connection, Some(route), commands).await
        }
        replies => request.sort(replies, count),
    }
}

/// Runs commands one after the other up to the first that fails.
async fn one_by_one(
    connection: &mut ClusterConnection,
    route: Option<SingleNodeRoutingInfo>,
    commands: Vec<Cmd>,
) -> RedisResult<Answers> {
    let mut answers = Vec::with_capacity(commands.len());
    let mut failed = false;
    for command in commands {
        if failed {
            answers.push(Err(CommandError(DISCARDED.to_owned())));
            continue;
        }
        let answer = match &route {
            Some(route) => {
                let route = RoutingInfo::SingleNode(route.clone());
                connection.route_command(command, route).await
            }
            None => connection.req_packed_command(&command).await,
        };
        let answer = match answer.and_then(Value::extract_error) {
            Ok(value) => Ok(value),
            Err(error) if is_lost(&error) => return Err(error),
            Err(error) => Err(refused_by(&error)),
        };
        failed = answer.is_err();
        answers.push(answer);
    }
    Ok(answers)
}

/// Commands as they are sent.
struct Request {
    pipeline: Pipeline,
    replies: usize,
    transaction: bool,
}

impl Request {
    fn new(commands: Vec<Cmd>, atomicity: Atomicity) -> Self {
        // A single command is a transaction anyway.
        let transaction = atomicity == Atomicity::Together && commands.len() > 1;
        let replies = commands.len() + if transaction { 2 } else { 0 };
        let mut pipeline = Pipeline::with_capacity(replies);
        if transaction {
            pipeline.cmd("MULTI");
        }
        for command in commands {
            pipeline.add_command(command);
        }
        if transaction {
            pipeline.cmd("EXEC");
        }
        Self {
            pipeline,
            replies,
            transaction,
        }
    }

    fn sort(&self, replies: RedisResult<Vec<Value>>, count: usize) -> RedisResult<Answers> {
        let mut replies = match replies {
            Ok(replies) => replies,
            Err(error) if is_lost(&error) => return Err(error),
            Err(error) => return Ok(vec![Err(refused_by(&error)); count]),
        };
        if !self.transaction {
            return Ok(replies.into_iter().map(answer).collect());
        }
        let executed = replies.pop();
        let queued = replies.split_off(1);
        if let Some(Value::ServerError(_)) = replies.first() {
            // `MULTI` was refused, so that each command acted by itself.
            return Ok(queued.into_iter().map(answer).collect());
        }
        let error = match executed {
            Some(Value::Array(answers)) => return Ok(answers.into_iter().map(answer).collect()),
            Some(Value::ServerError(error)) => refused(&error),
            _ => CommandError("ERR the transaction was not done".to_owned()),
        };
        let anyone_guilty = queued.iter().any(is_error);
        Ok(queued
            .into_iter()
            .map(|reply| match reply {
                Value::ServerError(error) => Err(refused(&error)),
                _ if anyone_guilty => Err(CommandError(DISCARDED.to_owned())),
                _ => Err(error.clone()),
            })
            .collect())
    }
}

fn is_error(value: &Value) -> bool {
    matches!(value, Value::ServerError(_))
}

fn answer(value: Value) -> Result<Value, CommandError> {
    match value {
        Value::ServerError(error) => Err(refused(&error)),
        value => Ok(value),
    }
}

/// The first key of a command, if it has one.
fn key(command: &Cmd) -> Option<&[u8]> {
    let argument = |place: usize| match command.args_iter().nth(place) {
        Some(Arg::Simple(argument)) => Some(argument),
        _ => None,
    };
    let name = argument(0)?.to_ascii_uppercase();
    match &name[..] {
        b"EVAL" | b"EVALSHA" | b"FCALL" => match argument(2) {
            None | Some(b"0") => None,
            Some(_) => argument(3),
        },
        b"XGROUP" | b"XINFO" | b"OBJECT" => argument(2),
        b"XREAD" | b"XREADGROUP" => {
            let streams = command.args_iter().position(
                |argument| matches!(argument, Arg::Simple(name) if name.eq_ignore_ascii_case(b"STREAMS")),
            )?;
            argument(streams + 1)
        }
        b"PING" | b"SCRIPT" | b"TIME" | b"INFO" | b"ROLE" | b"SCAN" | b"CLUSTER" | b"CONFIG" => {
            None
        }
        _ => argument(1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> Value {
        redis::parse_redis_value(format!("-{text}\r\n").as_bytes()).unwrap()
    }

    fn sorted(replies: Vec<Value>) -> Vec<Result<Value, String>> {
        let commands = vec![redis::cmd("XADD"), redis::cmd("XADD")];
        let request = Request::new(commands, Atomicity::Together);
        assert_eq!(request.replies, 4);
        let answers = request.sort(Ok(replies), 2).unwrap();
        answers
            .into_iter()
            .map(|answer| answer.map_err(|error| error.0))
            .collect()
    }

    #[test]
    fn the_culprit_of_a_transaction_is_told_from_the_others() {
        let queued = || Value::SimpleString("QUEUED".into());
        let abort = || error("EXECABORT Transaction discarded because of previous errors.");
        assert_eq!(
            sorted(vec![Value::Okay, queued(), error("NOPERM no"), abort()]),
            [Err(DISCARDED.into()), Err("NOPERM no".into())]
        );
        assert_eq!(
            sorted(vec![
                Value::Okay,
                queued(),
                queued(),
                error("EXECABORT OOM")
            ]),
            [Err("EXECABORT OOM".into()), Err("EXECABORT OOM".into())]
        );
        let done = Value::Array(vec![Value::Int(1), error("WRONGTYPE bad")]);
        assert_eq!(
            sorted(vec![Value::Okay, queued(), queued(), done]),
            [Ok(Value::Int(1)), Err("WRONGTYPE bad".into())]
        );
    }

    #[test]
    fn without_multi_each_command_has_its_own_answer() {
        let replies = vec![
            error("NOPERM multi"),
            Value::Int(1),
            Value::Int(2),
            error("ERR EXEC without MULTI"),
        ];
        assert_eq!(sorted(replies), [Ok(Value::Int(1)), Ok(Value::Int(2))]);
    }

    #[test]
    fn errors_do_not_repeat_what_was_sent() {
        let detail = "unknown command 'XADD', with args beginning with: 'ws.inbox' 'secret'";
        assert_eq!(text("ERR", Some(detail)), "ERR unknown command 'XADD'");
    }

    #[test]
    fn keys_are_found() {
        let mut eval = redis::cmd("EVALSHA");
        eval.arg("abc").arg(1).arg("k");
        assert_eq!(key(&eval), Some(&b"k"[..]));
        let mut read = redis::cmd("xread");
        read.arg("BLOCK").arg(0).arg("streams").arg("s").arg("$");
        assert_eq!(key(&read), Some(&b"s"[..]));
        assert_eq!(key(&redis::cmd("PING")), None);
    }
}
