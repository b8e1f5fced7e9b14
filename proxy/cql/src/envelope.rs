//! The 9-byte header in front of every message: found in a stream, written, and patched in place.
//!
//! Cost: nine bytes are looked at, the body never. A length above the cap is refused before anything is kept for it.

use crate::error::Malformed;
use crate::version::Version;

/// Bytes of a header: version, flags, stream (2), opcode, length (4).
pub const HEADER_LEN: usize = 9;

/// Longest body of an envelope by specification: 256 MiB.
pub const BODY_MAX: u32 = 256 * 1024 * 1024;

/// Longest body read (and dropped) of a message in a version that weir does not speak. STARTUP and OPTIONS are far
/// below it; a longer one closes the connection.
pub const UNSUPPORTED_BODY_MAX: u32 = 64 * 1024;

/// Bit of the version byte that marks a response.
const RESPONSE: u8 = 0x80;

/// Flags of a header.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, Default)]
pub struct Flags(pub u8);

impl Flags {
    /// The body is compressed (v3, v4).
    pub const COMPRESSED: u8 = 0x01;
    /// A request asks for tracing; the body of a response starts with a tracing id.
    pub const TRACING: u8 = 0x02;
    /// The body has a custom payload (v4 and later).
    pub const CUSTOM_PAYLOAD: u8 = 0x04;
    /// The body of a response has warnings (v4 and later).
    pub const WARNING: u8 = 0x08;
    /// The client accepts a version in beta.
    pub const BETA: u8 = 0x10;

    /// Whether `flag` is set.
    #[inline]
    pub const fn has(self, flag: u8) -> bool {
        self.0 & flag != 0
    }

    /// With `flag` taken away.
    #[inline]
    pub const fn without(self, flag: u8) -> Self {
        Self(self.0 & !flag)
    }

    /// With `flag` set.
    #[inline]
    pub const fn with(self, flag: u8) -> Self {
        Self(self.0 | flag)
    }
}

/// What pairs a response with its request. Clients use 0..=32,767; -1 is an event.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash, Default)]
pub struct StreamId(pub i16);

impl StreamId {
    /// The stream of every EVENT.
    pub const EVENT: Self = Self(-1);
}

/// What a message is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[repr(u8)]
pub enum Opcode {
    /// Response: see [`crate::response::error`].
    Error = 0x00,
    /// Request: the options a client chooses.
    Startup = 0x01,
    /// Response: STARTUP or REGISTER is done.
    Ready = 0x02,
    /// Response: credentials, please.
    Authenticate = 0x03,
    /// Request: which options are there?
    Options = 0x05,
    /// Response: the options.
    Supported = 0x06,
    /// Request: a statement as text.
    Query = 0x07,
    /// Response: see [`crate::response::result`].
    Result = 0x08,
    /// Request: a statement to prepare.
    Prepare = 0x09,
    /// Request: a prepared statement with values.
    Execute = 0x0A,
    /// Request: events to listen to.
    Register = 0x0B,
    /// Response without a request.
    Event = 0x0C,
    /// Request: several modifications.
    Batch = 0x0D,
    /// Response: one more round of authentication.
    AuthChallenge = 0x0E,
    /// Request: a token.
    AuthResponse = 0x0F,
    /// Response: authenticated.
    AuthSuccess = 0x10,
}

impl Opcode {
    /// The opcode with this number.
    pub const fn from_number(number: u8) -> Option<Self> {
        Some(match number {
            0x00 => Opcode::Error,
            0x01 => Opcode::Startup,
            0x02 => Opcode::Ready,
            0x03 => Opcode::Authenticate,
            0x05 => Opcode::Options,
            0x06 => Opcode::Supported,
            0x07 => Opcode::Query,
            0x08 => Opcode::Result,
            0x09 => Opcode::Prepare,
            0x0A => Opcode::Execute,
            0x0B => Opcode::Register,
            0x0C => Opcode::Event,
            0x0D => Opcode::Batch,
            0x0E => Opcode::AuthChallenge,
            0x0F => Opcode::AuthResponse,
            0x10 => Opcode::AuthSuccess,
            _ => return None,
        })
    }

    /// Whether clients send it.
    pub const fn is_request(self) -> bool {
        matches!(
            self,
            Opcode::Startup
                | Opcode::Options
                | Opcode::Query
                | Opcode::Prepare
                | Opcode::Execute
                | Opcode::Register
                | Opcode::Batch
                | Opcode::AuthResponse
        )
    }

    /// The name in the specification; a bounded label.
    pub const fn name(self) -> &'static str {
        match self {
            Opcode::Error => "ERROR",
            Opcode::Startup => "STARTUP",
            Opcode::Ready => "READY",
            Opcode::Authenticate => "AUTHENTICATE",
            Opcode::Options => "OPTIONS",
            Opcode::Supported => "SUPPORTED",
            Opcode::Query => "QUERY",
            Opcode::Result => "RESULT",
            Opcode::Prepare => "PREPARE",
            Opcode::Execute => "EXECUTE",
            Opcode::Register => "REGISTER",
            Opcode::Event => "EVENT",
            Opcode::Batch => "BATCH",
            Opcode::AuthChallenge => "AUTH_CHALLENGE",
            Opcode::AuthResponse => "AUTH_RESPONSE",
            Opcode::AuthSuccess => "AUTH_SUCCESS",
        }
    }
}

/// Who sent the bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Side {
    /// Requests.
    Client,
    /// Responses and events.
    Server,
}

/// A header as read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    /// Version of the message.
    pub version: Version,
    /// Its flags.
    pub flags: Flags,
    /// Its stream.
    pub stream: StreamId,
    /// What it is.
    pub opcode: Opcode,
    /// Bytes of the body behind the header.
    pub body_len: u32,
}

impl Header {
    /// Header and body together, bytes.
    pub const fn envelope_len(&self) -> usize {
        HEADER_LEN + self.body_len as usize
    }

    /// Writes the nine bytes.
    pub fn write(&self, out: &mut Vec<u8>) {
        let direction = if self.opcode.is_request() { 0 } else { RESPONSE };
        out.extend_from_slice(&[self.version.number() | direction, self.flags.0]);
        out.extend_from_slice(&self.stream.0.to_be_bytes());
        out.push(self.opcode as u8);
        out.extend_from_slice(&self.body_len.to_be_bytes());
    }
}

/// What a reader accepts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EnvelopeLimits {
    /// Longest body, bytes; at most [`BODY_MAX`] counts.
    pub body: u32,
    /// The newest version that is spoken; a newer one is [`Step::Unsupported`].
    pub newest: Version,
}

impl Default for EnvelopeLimits {
    fn default() -> Self {
        Self { body: BODY_MAX, newest: Version::V5 }
    }
}

/// What stands at the front of a stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// Not enough bytes: nothing can be said before `needed` bytes are there (more than there are now).
    Incomplete {
        /// Bytes of the input that must be there.
        needed: usize,
    },
    /// A header; its body may still be on the way. `header.envelope_len()` is where the next one starts.
    Envelope {
        /// The header.
        header: Header,
    },
    /// A whole request in a version that is not spoken. Answer it with
    /// [`crate::own::unsupported_version`], drop `consumed` bytes and read on: drivers try the next version.
    Unsupported {
        /// The version byte.
        version: u8,
        /// Its stream.
        stream: StreamId,
        /// Bytes of the message.
        consumed: usize,
    },
    /// The connection is out of step: answer (stream 0 where `stream` is `None`) and close.
    Malformed {
        /// What is wrong.
        reason: Malformed,
        /// The stream, where the header has one.
        stream: Option<StreamId>,
    },
}

/// Reads the header at the front of `input`, sent by `side`. Looks at no byte of the body.
///
/// The same bytes with more after them give the same answer; a shorter piece gives [`Step::Incomplete`].
#[inline]
pub fn read_header(input: &[u8], side: Side, limits: EnvelopeLimits) -> Step {
    let Some(&first) = input.first() else { return Step::Incomplete { needed: HEADER_LEN } };
    let sent_by = if first & RESPONSE == 0 { Side::Client } else { Side::Server };
    if sent_by != side {
        return Step::Malformed { reason: Malformed::WrongDirection, stream: None };
    }
    let number = first & !RESPONSE;
    let Some(version) = Version::from_number(number).filter(|version| *version <= limits.newest) else {
        return match side {
            Side::Client => unsupported(input, number),
            Side::Server => Step::Malformed { reason: Malformed::OtherVersion, stream: None },
        };
    };
    let Some(&[_, flags, high, low, opcode, l0, l1, l2, l3]) = input.first_chunk::<HEADER_LEN>() else {
        return Step::Incomplete { needed: HEADER_LEN };
    };
    let stream = StreamId(i16::from_be_bytes([high, low]));
    let malformed = |reason| Step::Malformed { reason, stream: Some(stream) };
    let Some(opcode) = Opcode::from_number(opcode).filter(|code| code.is_request() == (side == Side::Client))
    else {
        return malformed(Malformed::UnknownOpcode);
    };
    let body_len = u32::from_be_bytes([l0, l1, l2, l3]);
    if body_len > i32::MAX as u32 {
        return malformed(Malformed::NegativeLength);
    }
    if body_len > limits.body.min(BODY_MAX) {
        return malformed(Malformed::TooLarge);
    }
    Step::Envelope { header: Header { version, flags: Flags(flags), stream, opcode, body_len } }
}

/// A request in a version that is not spoken: v1 and v2 have 8 bytes of header (one for the stream), all later ones,
/// DSE's 0x41 and 0x42 among them, have nine.
#[cold]
fn unsupported(input: &[u8], version: u8) -> Step {
    let old = is_old(version);
    let header_len = if old { HEADER_LEN - 1 } else { HEADER_LEN };
    if version == 0 {
        return Step::Malformed { reason: Malformed::OtherVersion, stream: None };
    }
    let Some(header) = input.get(..header_len) else { return Step::Incomplete { needed: header_len } };
    let stream = if old { i16::from(header[2] as i8) } else { i16::from_be_bytes([header[2], header[3]]) };
    let stream = StreamId(stream);
    let length = header.last_chunk::<4>().map_or(u32::MAX, |bytes| u32::from_be_bytes(*bytes));
    if length > UNSUPPORTED_BODY_MAX {
        return Step::Malformed { reason: Malformed::OtherVersion, stream: Some(stream) };
    }
    let consumed = header_len + length as usize;
    if input.len() < consumed {
        return Step::Incomplete { needed: consumed };
    }
    Step::Unsupported { version, stream, consumed }
}

/// v1 and v2: one byte of stream.
pub(crate) const fn is_old(version: u8) -> bool {
    matches!(version, 1 | 2)
}

/// Writes another stream id over that of the envelope at the front of `envelope`; nothing if there is no header.
#[inline]
pub fn patch_stream(envelope: &mut [u8], stream: StreamId) {
    if let Some(place) = envelope.get_mut(2..4) {
        place.copy_from_slice(&stream.0.to_be_bytes());
    }
}

/// Writes other flags over those of the envelope at the front of `envelope`; nothing if there is no header.
#[inline]
pub fn patch_flags(envelope: &mut [u8], flags: Flags) {
    if let Some(place) = envelope.get_mut(1) {
        *place = flags.0;
    }
}

/// An envelope that is being written; its length is known when it is closed.
#[must_use = "the length stays zero until the envelope is closed"]
#[derive(Debug)]
pub struct Open {
    at: usize,
}

impl Open {
    /// Writes a header with length zero to the end of `out`; the body follows.
    pub fn new(out: &mut Vec<u8>, version: Version, flags: Flags, stream: StreamId, opcode: Opcode) -> Self {
        let at = out.len();
        Header { version, flags, stream, opcode, body_len: 0 }.write(out);
        Self { at }
    }

    /// Writes the length; everything in `out` after the header is the body. Refused, and `out` cut back to what it
    /// was before, when the body is longer than [`BODY_MAX`].
    pub fn close(self, out: &mut Vec<u8>) -> Result<(), Malformed> {
        let length = out.len().saturating_sub(self.at + HEADER_LEN);
        if length > BODY_MAX as usize {
            out.truncate(self.at);
            return Err(Malformed::TooLarge);
        }
        if let Some(place) = out.get_mut(self.at + 5..self.at + HEADER_LEN) {
            place.copy_from_slice(&(length as u32).to_be_bytes());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: EnvelopeLimits = EnvelopeLimits { body: 100, newest: Version::V4 };

    fn read(input: &[u8]) -> Step {
        read_header(input, Side::Client, LIMITS)
    }

    #[test]
    fn headers_and_their_caps() {
        let header = Header {
            version: Version::V4,
            flags: Flags(Flags::TRACING),
            stream: StreamId(0x1234),
            opcode: Opcode::Query,
            body_len: 100,
        };
        let bytes = [4, 2, 0x12, 0x34, 7, 0, 0, 0, 100];
        assert_eq!(read(&bytes), Step::Envelope { header });
        let stream = Some(StreamId(0x1234));
        for (at, byte, reason) in [
            (8, 101, Malformed::TooLarge),
            (5, 0x80, Malformed::NegativeLength),
            (4, 0x08, Malformed::UnknownOpcode),
            (4, 0x04, Malformed::UnknownOpcode),
        ] {
            let mut wrong = bytes;
            wrong[at] = byte;
            assert_eq!(read(&wrong), Step::Malformed { reason, stream }, "{at}");
        }
        let reason = Malformed::WrongDirection;
        assert_eq!(read(&[0x84]), Step::Malformed { reason, stream: None });
        let mut patched = bytes;
        patch_stream(&mut patched, StreamId(-2));
        assert_eq!(patched, [4, 2, 0xFF, 0xFE, 7, 0, 0, 0, 100]);
        patch_stream(&mut patched[..3], StreamId(0));
        assert_eq!(patched[2], 0xFF, "half a header is left alone");
    }

    #[test]
    fn unknown_versions_are_stepped_over() {
        for version in [5, 6, 0x41, 0x42, 0x7F] {
            let input = [version, 0, 0, 9, 5, 0, 0, 0, 2, 1, 2, 4];
            let expected = Step::Unsupported { version, stream: StreamId(9), consumed: 11 };
            assert_eq!(read(&input), expected);
            assert_eq!(read(&input[..10]), Step::Incomplete { needed: 11 });
            assert_eq!(read(&input[..1]), Step::Incomplete { needed: 9 });
        }
        let old = Step::Unsupported { version: 2, stream: StreamId(-1), consumed: 9 };
        assert_eq!(read(&[2, 0, 0xFF, 5, 0, 0, 0, 1, 7, 4]), old);
        let long = [0x42, 0, 0, 9, 5, 0, 1, 0, 1];
        let refused = Step::Malformed { reason: Malformed::OtherVersion, stream: Some(StreamId(9)) };
        assert_eq!(read(&long), refused);
        assert_eq!(read(&[0]), Step::Malformed { reason: Malformed::OtherVersion, stream: None });
    }

    #[test]
    fn a_body_is_measured_when_it_is_closed() {
        let mut out = b"before".to_vec();
        let open = Open::new(&mut out, Version::V5, Flags::default(), StreamId(1), Opcode::Ready);
        out.extend_from_slice(b"abc");
        assert_eq!(open.close(&mut out), Ok(()));
        assert_eq!(out, b"before\x85\0\0\x01\x02\0\0\0\x03abc");
    }
}
