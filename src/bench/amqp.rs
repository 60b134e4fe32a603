//! As much of AMQP 0-9-1 as consuming one queue takes.
//!
//! Stands where the backend would, behind the gateway's `RabbitMQ`.

use percent_encoding::percent_decode_str;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::net::{Dialer, ReadEnd, WriteEnd};
use super::target::Target;
use super::{BenchError, Result};

/// Kinds of frames.
const METHOD: u8 = 1;
const HEADER: u8 = 2;
const BODY: u8 = 3;
/// Ends every frame.
const END: u8 = 0xce;

/// A method's class and number.
type Method = (u16, u16);
const START: Method = (10, 10);
const START_OK: Method = (10, 11);
const TUNE: Method = (10, 30);
const TUNE_OK: Method = (10, 31);
const OPEN: Method = (10, 40);
const OPEN_OK: Method = (10, 41);
const CONNECTION_CLOSE: Method = (10, 50);
const CHANNEL_OPEN: Method = (20, 10);
const CHANNEL_OPEN_OK: Method = (20, 11);
const CHANNEL_CLOSE: Method = (20, 40);
const CONSUME: Method = (60, 20);
const CONSUME_OK: Method = (60, 21);

/// One consumer, on a connection of its own; what it gets counts as acknowledged.
pub(crate) struct Consumer {
    read: ReadEnd,
    write: WriteEnd,
    input: Vec<u8>,
    /// Of `input`, what was looked at already.
    taken: usize,
    message: Vec<u8>,
    /// How long `message` is going to be.
    expected: usize,
}

/// One frame: its kind and payload.
struct Frame<'a> {
    kind: u8,
    payload: &'a [u8],
}

impl Frame<'_> {
    fn method(&self) -> Option<Method> {
        match self.payload {
            [a, b, c, d, ..] if self.kind == METHOD => {
                Some((u16::from_be_bytes([*a, *b]), u16::from_be_bytes([*c, *d])))
            }
            _ => None,
        }
    }
}

impl Consumer {
    /// Logs in to `amqp://[USER:PASSWORD@]HOST[:PORT][/VHOST]`, by default as guest, and consumes a queue.
    pub(crate) async fn open(url: &str, queue: &str, allow_remote: bool) -> Result<Self> {
        let target = Target::parse(url, &["amqp"], allow_remote)
            .map_err(|error| BenchError::usage(format!("--rabbitmq: {error}")))?;
        let (user, password) = target
            .login
            .clone()
            .unwrap_or_else(|| ("guest".into(), "guest".into()));
        let vhost = match target.path.trim_start_matches('/') {
            "" => "/".to_owned(),
            name => percent_decode_str(name).decode_utf8_lossy().into_owned(),
        };
        let shown = target.shown();
        let connected = Dialer::new(target, 1, None)?.connect(0).await;
        let (read, write) =
            connected.map_err(|error| format!("cannot connect to RabbitMQ at {shown}: {error}"))?;
        let mut consumer = Self {
            read,
            write,
            input: Vec::with_capacity(256 << 10),
            taken: 0,
            message: Vec::new(),
            expected: 0,
        };
        consumer.write.write_all(b"AMQP\0\0\x09\x01").await?;
        consumer.expect(START).await?;
        // No properties, the mechanism, its name and password, the language.
        let login = format!("\0{user}\0{password}");
        let length = u32::try_from(login.len()).unwrap_or(u32::MAX).to_be_bytes();
        let login = [
            b"\0\0\0\0\x05PLAIN",
            &length[..],
            login.as_bytes(),
            b"\x05en_US",
        ];
        consumer.send(0, START_OK, &login.concat()).await?;
        let limits = consumer.expect(TUNE).await?;
        // As offered, but without heartbeats: a run is short.
        let limits = [limits.get(..6).unwrap_or_default(), b"\0\0"].concat();
        consumer.send(0, TUNE_OK, &limits).await?;
        let open = [&short(&vhost)?[..], b"\0\0"].concat();
        consumer.send(0, OPEN, &open).await?;
        consumer.expect(OPEN_OK).await?;
        consumer.send(1, CHANNEL_OPEN, b"\0").await?;
        consumer.expect(CHANNEL_OPEN_OK).await?;
        // After the queue an empty tag, the bit for "no acknowledgements", and an empty table.
        let consume = [b"\0\0", &short(queue)?[..], b"\0\x02\0\0\0\0"];
        consumer.send(1, CONSUME, &consume.concat()).await?;
        consumer
            .expect(CONSUME_OK)
            .await
            .map_err(|error| format!("cannot consume the queue {queue}: {error}"))?;
        Ok(consumer)
    }

    async fn send(&mut self, channel: u16, method: Method, arguments: &[u8]) -> Result<()> {
        let length = u32::try_from(arguments.len() + 4).map_err(|_| "a method is too long")?;
        let mut out = vec![METHOD];
        out.extend_from_slice(&channel.to_be_bytes());
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(&method.0.to_be_bytes());
        out.extend_from_slice(&method.1.to_be_bytes());
        out.extend_from_slice(arguments);
        out.push(END);
        Ok(self.write.write_all(&out).await?)
    }

    /// Waits for a method and gives its arguments.
    async fn expect(&mut self, method: Method) -> Result<Vec<u8>> {
        loop {
            while let Some(frame) = take(&self.input, &mut self.taken)? {
                if let Some(found) = frame.method() {
                    check(found, frame.payload)?;
                    if found == method {
                        return Ok(frame.payload.get(4..).unwrap_or_default().to_vec());
                    }
                }
            }
            self.fill().await?;
        }
    }

    /// Reads once, and hands over the messages that are complete.
    pub(crate) async fn read(&mut self, mut on_message: impl FnMut(&[u8])) -> Result<()> {
        while let Some(frame) = take(&self.input, &mut self.taken)? {
            match frame.kind {
                METHOD => {
                    if let Some(method) = frame.method() {
                        check(method, frame.payload)?;
                    }
                }
                HEADER => {
                    let size = frame
                        .payload
                        .get(4..12)
                        .and_then(|size| size.try_into().ok());
                    let size = size.map_or(0, u64::from_be_bytes);
                    self.expected = usize::try_from(size).unwrap_or(usize::MAX);
                    self.message.clear();
                }
                BODY if frame.payload.len() == self.expected => on_message(frame.payload),
                BODY => {
                    self.message.extend_from_slice(frame.payload);
                    if self.message.len() >= self.expected {
                        on_message(&self.message);
                    }
                }
                _ => {}
            }
        }
        self.fill().await
    }

    async fn fill(&mut self) -> Result<()> {
        self.input.drain(..self.taken);
        self.taken = 0;
        self.input.reserve(64 << 10);
        match self.read.read_buf(&mut self.input).await? {
            0 => Err("RabbitMQ closed the connection".into()),
            _ => Ok(()),
        }
    }
}

/// A short string: its length in a byte, then its bytes.
fn short(text: &str) -> Result<Vec<u8>> {
    let length = u8::try_from(text.len()).map_err(|_| format!("{text} is too long a name"))?;
    Ok([&[length][..], text.as_bytes()].concat())
}

/// Takes one whole frame behind `taken`; `None` when more bytes are needed.
fn take<'a>(input: &'a [u8], taken: &mut usize) -> Result<Option<Frame<'a>>> {
    let bytes = &input[*taken..];
    let Some(&[kind, _, _, a, b, c, d]) = bytes.first_chunk() else {
        return Ok(None);
    };
    if kind == b'A' {
        return Err("what answers is no RabbitMQ".into());
    }
    let length = u32::from_be_bytes([a, b, c, d]) as usize;
    let Some(payload) = bytes
        .get(7..7 + length)
        .filter(|_| bytes.len() > 7 + length)
    else {
        return Ok(None);
    };
    if bytes[7 + length] != END {
        return Err("RabbitMQ sent a frame that does not end".into());
    }
    *taken += length + 8;
    Ok(Some(Frame { kind, payload }))
}

/// Fails when the broker closes, with its reason.
fn check(method: Method, payload: &[u8]) -> Result<()> {
    if method != CONNECTION_CLOSE && method != CHANNEL_CLOSE {
        return Ok(());
    }
    let text = payload.get(6..).and_then(<[u8]>::split_first);
    let text = text.and_then(|(length, rest)| rest.get(..usize::from(*length)));
    let text = String::from_utf8_lossy(text.unwrap_or_default());
    Err(format!("RabbitMQ refuses: {}", crate::cli::clean(&text)).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_wait_for_their_last_byte() {
        let bytes = [&[BODY, 0, 1, 0, 0, 0, 2][..], b"hi", &[END], &[METHOD]].concat();
        for cut in 0..10 {
            assert!(take(&bytes[..cut], &mut 0).unwrap().is_none(), "{cut}");
        }
        let mut taken = 0;
        let frame = take(&bytes, &mut taken).unwrap().unwrap();
        assert_eq!((frame.kind, frame.payload, taken), (BODY, &b"hi"[..], 10));
        assert!(take(&bytes, &mut taken).unwrap().is_none());
    }

    #[test]
    fn a_refusal_is_told() {
        let payload = [&[0, 20, 0, 40, 1, 0x94, 9][..], b"NOT_FOUND", &[0; 4]].concat();
        let error = check(CHANNEL_CLOSE, &payload).unwrap_err();
        assert_eq!(error.to_string(), "RabbitMQ refuses: NOT_FOUND");
        assert!(check(CONSUME_OK, &payload).is_ok());
    }
}
