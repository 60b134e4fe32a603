//! Asks a Redis, and asks again while it is away for a moment.
//!
//! Stands between the stores in Redis and the link.

use std::sync::Arc;
use std::time::Duration;

use redis::{Cmd, FromRedisValue, Value};

use crate::brokers::redis::{Atomicity, RedisLink};

/// Tries of commands whose connection is lost; all of them may be repeated.
const TRIES: usize = 4;

/// Time in which a lost connection must be back.
const BACK_IN: Duration = Duration::from_secs(15);

/// Sends commands that may be done twice, and gives their answers; the error is in words.
pub(super) async fn ask(link: &Arc<RedisLink>, commands: &[Cmd]) -> Result<Vec<Value>, String> {
    let mut reason = String::new();
    for _ in 0..TRIES {
        match link.run(commands, Atomicity::Each).await {
            Ok(answers) => {
                let answers: Result<Vec<Value>, _> = answers.into_iter().collect();
                return answers.map_err(|error| error.0);
            }
            Err(error) => reason = error.0,
        }
        // Its loss may not be known yet to whoever keeps the connection.
        tokio::time::sleep(Duration::from_millis(100)).await;
        if !is_back(link, Duration::ZERO).await {
            break;
        }
    }
    Err(reason)
}

/// Waits until a lost connection is back, which was waited for already; says whether that was in time.
pub(super) async fn is_back(link: &RedisLink, waited: Duration) -> bool {
    let back = tokio::time::timeout(BACK_IN.saturating_sub(waited), link.connected());
    back.await.is_ok()
}

/// The same for one command.
pub(super) async fn ask_one(link: &Arc<RedisLink>, command: Cmd) -> Result<Value, String> {
    let answers = ask(link, &[command]).await?;
    answers
        .into_iter()
        .next()
        .ok_or_else(|| "no answer".to_owned())
}

/// The same for one command, whose answer is of a type.
pub(super) async fn ask_for<T: FromRedisValue>(
    link: &Arc<RedisLink>,
    command: Cmd,
) -> Result<T, String> {
    let answer = ask_one(link, command).await?;
    redis::from_redis_value(answer).map_err(|_| "an answer of another type".to_owned())
}
