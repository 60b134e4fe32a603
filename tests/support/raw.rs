//! A client that writes whatever bytes it is told, and reads frames one by one.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::{Gateway, within};

/// Opcodes (RFC 6455 section 5.2).
pub mod op {
    pub const CONTINUATION: u8 = 0;
    pub const TEXT: u8 = 1;
    pub const BINARY: u8 = 2;
    pub const CLOSE: u8 = 8;
    pub const PING: u8 = 9;
    pub const PONG: u8 = 10;
    /// The bit of a message's last frame.
    pub const FIN: u8 = 0x80;
}

/// A TCP connection.
pub struct Raw {
    stream: TcpStream,
}

/// A frame from the gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawFrame {
    pub opcode: u8,
    pub payload: Vec<u8>,
}

impl RawFrame {
    /// The code of a close frame.
    pub fn close_code(&self) -> Option<u16> {
        (self.opcode == op::CLOSE).then(|| u16::from_be_bytes([self.payload[0], self.payload[1]]))
    }
}

impl Raw {
    /// Connects, and sends nothing.
    pub async fn connect(address: SocketAddr) -> Self {
        let stream = within("a TCP connection", TcpStream::connect(address))
            .await
            .unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream }
    }

    /// Connects and upgrades with a user's good token.
    pub async fn upgraded(gateway: &Gateway, user: &str) -> Self {
        let mut raw = Self::connect(gateway.address).await;
        let token = super::token(user);
        raw.write(upgrade_request(&format!("Authorization: Bearer {token}\r\n")).as_bytes())
            .await;
        let head = raw.head().await;
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        raw
    }

    pub async fn write(&mut self, bytes: &[u8]) {
        within("bytes to be written", self.stream.write_all(bytes))
            .await
            .unwrap();
    }

    /// Writes where the other side may have closed.
    pub async fn try_write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        within("bytes to be written", self.stream.write_all(bytes)).await
    }

    /// Writes a frame with a mask, as clients must.
    pub async fn frame(&mut self, first: u8, payload: &[u8]) {
        self.write(&masked(first, payload)).await;
    }

    /// Reads an HTTP head, its empty line included.
    pub async fn head(&mut self) -> String {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            match within("an HTTP head", self.stream.read_u8()).await {
                Ok(byte) => head.push(byte),
                Err(_) => break,
            }
        }
        String::from_utf8(head).unwrap()
    }

    /// The next frame, or nothing at the end.
    pub async fn next(&mut self) -> Option<RawFrame> {
        within("a frame", self.read_frame()).await.ok()
    }

    async fn read_frame(&mut self) -> std::io::Result<RawFrame> {
        let first = self.stream.read_u8().await?;
        let length = self.stream.read_u8().await?;
        assert_eq!(length & 0x80, 0, "a server must not mask");
        let length = match length {
            126 => usize::from(self.stream.read_u16().await?),
            127 => usize::try_from(self.stream.read_u64().await?).unwrap(),
            short => usize::from(short),
        };
        let mut payload = vec![0; length];
        self.stream.read_exact(&mut payload).await?;
        Ok(RawFrame {
            opcode: first & 0x0f,
            payload,
        })
    }

    /// Reads to the end, hangs up, and gives the close frame's code, if one came.
    pub async fn close_code(mut self) -> Option<u16> {
        let mut code = None;
        while let Some(frame) = self.next().await {
            code = code.or(frame.close_code());
        }
        code
    }

    /// Reads to the end and gives all bytes.
    pub async fn read_to_end(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        // A reset is an end as well.
        let _ = within(
            "the end of the connection",
            self.stream.read_to_end(&mut bytes),
        )
        .await;
        bytes
    }

    /// Ends the writing side only.
    pub async fn finish(&mut self) {
        self.stream.shutdown().await.unwrap();
    }
}

/// An upgrade request for `/ws` with further header lines.
pub fn upgrade_request(headers: &str) -> String {
    format!(
        "GET /ws HTTP/1.1\r\nHost: gateway\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{headers}\r\n"
    )
}

/// A frame with a mask.
pub fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [0x37, 0xfa, 0x21, 0x3d];
    let mut frame = head(first, 0x80, payload.len());
    frame.extend_from_slice(&mask);
    frame.extend(
        payload
            .iter()
            .zip(mask.iter().cycle())
            .map(|(byte, mask)| byte ^ mask),
    );
    frame
}

/// A frame without a mask, which a client must not send.
pub fn unmasked(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = head(first, 0, payload.len());
    frame.extend_from_slice(payload);
    frame
}

fn head(first: u8, mask_bit: u8, length: usize) -> Vec<u8> {
    let mut head = vec![first];
    match length {
        0..=125 => head.push(mask_bit | u8::try_from(length).unwrap()),
        126..=65_535 => {
            head.push(mask_bit | 0x7e);
            head.extend_from_slice(&u16::try_from(length).unwrap().to_be_bytes());
        }
        _ => {
            head.push(mask_bit | 0x7f);
            head.extend_from_slice(&u64::try_from(length).unwrap().to_be_bytes());
        }
    }
    head
}
