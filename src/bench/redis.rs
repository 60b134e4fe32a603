//! As much of Redis' protocol as reading and adding to a stream takes.
//!
//! Stands where the backend would: it reads what the gateway wrote, or adds what the gateway is to push.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::message::take_number;
use super::net::{Dialer, ReadEnd, WriteEnd};
use super::target::Target;
use super::{BenchError, Result};

/// One reply; its bytes are those of the buffer it was read into.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Reply<'a> {
    /// A status or a string.
    Text(&'a [u8]),
    /// A number.
    Number(usize),
    /// Several replies.
    Array(Vec<Reply<'a>>),
    /// Nothing.
    Null,
    /// A refusal.
    Error(&'a [u8]),
}

impl<'a> Reply<'a> {
    /// The bytes of a string.
    pub(crate) fn text(&self) -> Option<&'a [u8]> {
        match self {
            Self::Text(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// The replies of an array; of anything else none.
    pub(crate) fn items(&self) -> &[Reply<'a>] {
        match self {
            Self::Array(items) => items,
            _ => &[],
        }
    }
}

/// Takes one whole reply off the front of `input`; `None` when more bytes are needed.
pub(crate) fn decode<'a>(input: &mut &'a [u8]) -> Result<Option<Reply<'a>>, String> {
    let Some(end) = memchr::memchr(b'\n', input) else {
        return Ok(None);
    };
    let line = input[..end].strip_suffix(b"\r").unwrap_or(&input[..end]);
    let Some((kind, rest)) = line.split_first() else {
        return Err("Redis sent an empty line".to_owned());
    };
    let mut after = &input[end + 1..];
    let number = || {
        let text = std::str::from_utf8(rest).ok()?;
        text.parse::<i64>().ok()
    };
    let length = || number().ok_or_else(|| "Redis sent no number where one belongs".to_owned());
    let reply = match kind {
        b'+' => Reply::Text(rest),
        b'-' => Reply::Error(rest),
        b':' => Reply::Number(usize::try_from(length()?).unwrap_or(0)),
        b'$' => match usize::try_from(length()?) {
            Ok(length) => {
                let Some(text) = after.get(..length).filter(|_| after.len() >= length + 2) else {
                    return Ok(None);
                };
                after = &after[length + 2..];
                Reply::Text(text)
            }
            Err(_) => Reply::Null,
        },
        b'*' => match usize::try_from(length()?) {
            Ok(length) => {
                let mut items = Vec::with_capacity(length.min(1024));
                for _ in 0..length {
                    let Some(item) = decode(&mut after)? else {
                        return Ok(None);
                    };
                    items.push(item);
                }
                Reply::Array(items)
            }
            Err(_) => Reply::Null,
        },
        _ => return Err("what answers is no Redis".to_owned()),
    };
    *input = after;
    Ok(Some(reply))
}

/// Appends a command.
pub(crate) fn encode(arguments: &[&[u8]], out: &mut Vec<u8>) {
    out.extend_from_slice(format!("*{}\r\n", arguments.len()).as_bytes());
    for argument in arguments {
        out.extend_from_slice(format!("${}\r\n", argument.len()).as_bytes());
        out.extend_from_slice(argument);
        out.extend_from_slice(b"\r\n");
    }
}

/// A connection that sends one command at a time.
pub(crate) struct Redis {
    read: ReadEnd,
    write: WriteEnd,
    output: Vec<u8>,
    input: Vec<u8>,
}

impl Redis {
    /// Connects to `redis://[[USER]:PASSWORD@]HOST[:PORT][/DATABASE]`.
    pub(crate) async fn connect(url: &str, allow_remote: bool) -> Result<Self> {
        let target = Target::parse(url, &["redis"], allow_remote)
            .map_err(|error| BenchError::usage(format!("--redis: {error}")))?;
        let (shown, path, login) = (target.shown(), target.path.clone(), target.login.clone());
        let connected = Dialer::new(target, 1, None)?.connect(0).await;
        let (read, write) =
            connected.map_err(|error| format!("cannot connect to Redis at {shown}: {error}"))?;
        let mut redis = Self {
            read,
            write,
            output: Vec::new(),
            input: Vec::new(),
        };
        if let Some((user, password)) = login {
            let mut auth: Vec<&[u8]> = vec![b"AUTH", user.as_bytes(), password.as_bytes()];
            auth.retain(|part| !part.is_empty());
            redis.call(&auth, |_| ()).await?;
        }
        let database = path.trim_start_matches('/');
        if !database.is_empty() {
            redis
                .call(&[b"SELECT", database.as_bytes()], |_| ())
                .await?;
        }
        Ok(redis)
    }

    /// The two halves, for commands that are sent ahead of their replies.
    pub(crate) fn into_halves(self) -> (ReadEnd, WriteEnd) {
        (self.read, self.write)
    }

    /// Sends a command and hands its reply over.
    pub(crate) async fn call<T>(
        &mut self,
        arguments: &[&[u8]],
        read: impl FnOnce(Reply<'_>) -> T,
    ) -> Result<T> {
        self.output.clear();
        encode(arguments, &mut self.output);
        self.write.write_all(&self.output).await?;
        self.input.clear();
        loop {
            if self.read.read_buf(&mut self.input).await? == 0 {
                return Err("Redis closed the connection".into());
            }
            match decode(&mut &self.input[..])? {
                Some(Reply::Error(error)) => {
                    let command = String::from_utf8_lossy(arguments[0]);
                    let error = crate::cli::clean(&String::from_utf8_lossy(error));
                    return Err(format!("Redis refuses {command}: {error}").into());
                }
                Some(reply) => return Ok(read(reply)),
                // Long replies in few steps, since each one starts from the front.
                None => self.input.reserve(64 << 10),
            }
        }
    }
}

/// The entries of a stream from now on.
pub(crate) struct StreamReader {
    redis: Redis,
    stream: String,
    /// Identifier of the last entry seen.
    last: Vec<u8>,
}

impl StreamReader {
    /// Finds the stream's present end.
    pub(crate) async fn open(url: &str, stream: &str, allow_remote: bool) -> Result<Self> {
        let mut redis = Redis::connect(url, allow_remote).await?;
        let newest: [&[u8]; 6] = [b"XREVRANGE", stream.as_bytes(), b"+", b"-", b"COUNT", b"1"];
        let id = |reply: Reply<'_>| Some(reply.items().first()?.items().first()?.text()?.to_vec());
        let last = redis.call(&newest, id).await?;
        Ok(Self {
            redis,
            stream: stream.to_owned(),
            last: last.unwrap_or_else(|| b"0".to_vec()),
        })
    }

    /// How many entries the stream has.
    pub(crate) async fn length(&mut self) -> Result<usize> {
        let length = |reply: Reply<'_>| match reply {
            Reply::Number(length) => length,
            _ => 0,
        };
        let command: [&[u8]; 2] = [b"XLEN", self.stream.as_bytes()];
        self.redis.call(&command, length).await
    }

    /// Reads the next entries, and waits a second at most for the first; `on_entry` gets the milliseconds since 1970
    /// of its identifier and the value of its first field. Gives their number.
    pub(crate) async fn read(&mut self, mut on_entry: impl FnMut(u64, &[u8])) -> Result<usize> {
        let command: [&[u8]; 8] = [
            b"XREAD",
            b"COUNT",
            b"500",
            b"BLOCK",
            b"1000",
            b"STREAMS",
            self.stream.as_bytes(),
            &self.last,
        ];
        let seen = self.redis.call(&command, |reply| {
            let streams = reply.items();
            let entries = streams.iter().filter_map(|stream| stream.items().get(1));
            let mut seen = (0, Vec::new());
            for entry in entries.flat_map(Reply::items) {
                let [id, fields] = entry.items() else {
                    continue;
                };
                let (Some(id), Some(value)) = (id.text(), fields.items().get(1)) else {
                    continue;
                };
                on_entry(milliseconds(id), value.text().unwrap_or_default());
                seen.0 += 1;
                seen.1.clear();
                seen.1.extend_from_slice(id);
            }
            seen
        });
        let (count, last) = seen.await?;
        if count > 0 {
            self.last = last;
        }
        Ok(count)
    }
}

/// The first half of an entry's identifier.
fn milliseconds(mut id: &[u8]) -> u64 {
    take_number(&mut id).map_or(0, |number| number as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_wait_for_their_last_byte() {
        let bytes = b"*3\r\n$3\r\na\r\n\r\n*-1\r\n:7\r\n+OK\r\n";
        let whole = Reply::Array(vec![Reply::Text(b"a\r\n"), Reply::Null, Reply::Number(7)]);
        let mut rest = &bytes[..];
        assert_eq!(decode(&mut rest), Ok(Some(whole)));
        assert_eq!(decode(&mut rest), Ok(Some(Reply::Text(b"OK"))));
        for cut in 0..bytes.len() - 5 {
            let mut part = &bytes[..cut];
            assert_eq!(decode(&mut part), Ok(None), "cut at {cut}");
            assert_eq!(part.len(), cut);
        }
        assert!(decode(&mut &b"HTTP/1.1 400\r\n"[..]).is_err());
    }

    #[test]
    fn commands_are_arrays_of_strings() {
        let mut out = Vec::new();
        encode(&[b"XLEN", b"s"], &mut out);
        assert_eq!(out, b"*2\r\n$4\r\nXLEN\r\n$1\r\ns\r\n");
        assert_eq!(milliseconds(b"1700000000123-4"), 1_700_000_000_123);
    }
}
