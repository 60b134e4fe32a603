//! WebSocket framing, as little as a client needs.
//!
//! Stands between a socket's bytes and its messages.

/// What a frame carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A text or binary message.
    Message,
    /// The peer closes.
    Close,
    /// The peer wants a pong.
    Ping,
    /// An answer to our ping.
    Pong,
}

/// One frame from the server.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Frame<'a> {
    /// What it carries.
    pub(crate) kind: Kind,
    /// Its payload.
    pub(crate) payload: &'a [u8],
}

impl Frame<'_> {
    /// Code and reason of a close frame.
    pub(crate) fn close_reason(&self) -> (u16, String) {
        match self.payload {
            [high, low, reason @ ..] => (
                u16::from_be_bytes([*high, *low]),
                String::from_utf8_lossy(reason).into_owned(),
            ),
            _ => (1005, String::new()),
        }
    }
}

/// Takes one whole frame off the front of `input`; `None` when more bytes are needed.
pub(crate) fn decode<'a>(input: &mut &'a [u8]) -> Result<Option<Frame<'a>>, &'static str> {
    let bytes = *input;
    let [first, second, ..] = *bytes else {
        return Ok(None);
    };
    let (finished, opcode) = (first & 0x80 != 0, first & 0x0f);
    if !finished || opcode == 0 {
        return Err("the server fragments messages, which `wsgw bench` does not follow");
    }
    if first & 0x70 != 0 || second & 0x80 != 0 {
        return Err("the server sent a masked frame or reserved bits");
    }
    let (length, header) = match second & 0x7f {
        126 => match bytes.get(2..4) {
            Some(raw) => (usize::from(u16::from_be_bytes([raw[0], raw[1]])), 4),
            None => return Ok(None),
        },
        127 => match bytes.get(2..10).and_then(|raw| raw.try_into().ok()) {
            Some(raw) => (
                usize::try_from(u64::from_be_bytes(raw)).unwrap_or(usize::MAX),
                10,
            ),
            None => return Ok(None),
        },
        short => (usize::from(short), 2),
    };
    if length > 64 << 20 {
        return Err("the server announced a frame of more than 64 MiB");
    }
    let kind = match opcode {
        1 | 2 => Kind::Message,
        8 => Kind::Close,
        9 => Kind::Ping,
        10 => Kind::Pong,
        _ => return Err("the server sent an unknown kind of frame"),
    };
    let Some(payload) = bytes.get(header..header + length) else {
        return Ok(None);
    };
    *input = &bytes[header + length..];
    Ok(Some(Frame { kind, payload }))
}

/// Appends a text frame.
pub(crate) fn encode_text(payload: &[u8], out: &mut Vec<u8>) {
    encode(0x81, payload, out);
}

/// Appends a pong.
pub(crate) fn encode_pong(payload: &[u8], out: &mut Vec<u8>) {
    encode(0x8a, payload, out);
}

/// Appends a normal close.
pub(crate) fn encode_close(out: &mut Vec<u8>) {
    encode(0x88, &1000_u16.to_be_bytes(), out);
}

/// Masks with a zero key: the protocol wants a mask from clients, and this one changes nothing,
/// so that the payload needs no pass over it.
fn encode(first: u8, payload: &[u8], out: &mut Vec<u8>) {
    const MASKED: u8 = 0x80;
    out.push(first);
    if let Ok(length @ 0..=125) = u8::try_from(payload.len()) {
        out.push(MASKED | length);
    } else if let Ok(length) = u16::try_from(payload.len()) {
        out.push(MASKED | 0x7e);
        out.extend_from_slice(&length.to_be_bytes());
    } else {
        out.push(MASKED | 0x7f);
        out.extend_from_slice(&(payload.len() as u64).to_be_bytes());
    }
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(payload);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a server would send: our own frame without the mask.
    fn from_server(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        encode(first, payload, &mut out);
        let mask_at = out.len() - payload.len() - 4;
        out.drain(mask_at..mask_at + 4);
        out[1] &= 0x7f;
        out
    }

    #[test]
    fn every_length_form_survives_and_waits_for_its_last_byte() {
        for length in [0, 1, 125, 126, 127, 65_535, 65_536, 70_000] {
            let payload = vec![b'x'; length];
            let bytes = from_server(0x81, &payload);
            let mut whole = &bytes[..];
            let frame = decode(&mut whole).unwrap().unwrap();
            assert_eq!((frame.kind, frame.payload), (Kind::Message, &payload[..]));
            assert!(whole.is_empty());
            for cut in [0, 1, bytes.len() - 1] {
                let mut part = &bytes[..cut];
                assert_eq!(decode(&mut part), Ok(None), "{length} cut at {cut}");
                assert_eq!(part.len(), cut);
            }
        }
    }

    #[test]
    fn leaves_the_next_frame_in_place() {
        let mut bytes = from_server(0x8a, b"");
        bytes.extend(from_server(0x88, &[0x11, 0x31, b'n', b'o']));
        let mut rest = &bytes[..];
        assert_eq!(decode(&mut rest).unwrap().unwrap().kind, Kind::Pong);
        let close = decode(&mut rest).unwrap().unwrap();
        assert_eq!(close.close_reason(), (4401, "no".to_owned()));
    }

    #[test]
    fn refuses_what_it_cannot_follow() {
        for bytes in [
            [0x01, 0x00],
            [0x80, 0x00],
            [0x81, 0x80],
            [0xc1, 0x00],
            [0x83, 0x00],
        ] {
            assert!(decode(&mut &bytes[..]).is_err(), "{bytes:x?}");
        }
    }
}
