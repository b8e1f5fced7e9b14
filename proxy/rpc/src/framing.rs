//! Length-prefixed messages: what gRPC, gRPC-web and Connect streams put around each message of a body.
//!
//! ```text
//! message = flags:8 length:32 (big-endian) payload
//! ```
//! | framing | flags | trailers |
//! |---|---|---|
//! | gRPC | 1 = compressed | HTTP trailers |
//! | gRPC-web | 1 = compressed, 0x80 = the payload is the trailers, as HTTP/1.1 header lines | last message of the body |
//! | Connect stream | 1 = compressed, 2 = the payload is the end of the stream, as JSON | last message of the body |
//!
//! A unary call of Connect has none of this: its body is the message ([`crate::content::Wire::Unary`]).

use std::fmt;

/// Bytes in front of every payload.
pub const PREFIX_LEN: usize = 5;

/// Which flags may be set.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Framing {
    /// gRPC over HTTP/2, or over HTTP/1.1 with chunked trailers.
    Grpc,
    /// gRPC-web (binary; `-text` is this in base64).
    GrpcWeb,
    /// A stream of Connect.
    Connect,
}

/// The first byte in front of a payload.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, Default)]
pub struct Flags(pub u8);

impl Flags {
    /// The payload is compressed as the headers say.
    pub const COMPRESSED: Self = Self(1);
    /// Connect: the payload ends the stream.
    pub const END_STREAM: Self = Self(2);
    /// gRPC-web: the payload is the trailers.
    pub const TRAILERS: Self = Self(0x80);

    /// Whether every flag of `other` is set.
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether the payload is a message of the method: neither trailers nor the end of a stream.
    pub const fn is_message(self) -> bool {
        !self.has(Self::TRAILERS) && !self.has(Self::END_STREAM)
    }

    const fn known(self, framing: Framing) -> bool {
        let known = match framing {
            Framing::Grpc => Self::COMPRESSED.0,
            Framing::GrpcWeb => Self::COMPRESSED.0 | Self::TRAILERS.0,
            Framing::Connect => Self::COMPRESSED.0 | Self::END_STREAM.0,
        };
        self.0 & !known == 0
    }
}

/// Why a body cannot be taken apart. The body is out of step: what follows cannot be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[non_exhaustive]
pub enum FrameError {
    /// A flag that the framing does not have.
    UnknownFlag {
        /// The whole byte.
        flags: u8,
    },
    /// A message longer than allowed. Known from its prefix, before anything of it was kept.
    TooLarge {
        /// What the prefix says, bytes.
        length: u32,
        /// What is allowed, bytes.
        max: u32,
    },
    /// The body ends within a message or its prefix.
    Truncated,
}

impl FrameError {
    /// A bounded label for metrics.
    pub const fn label(self) -> &'static str {
        match self {
            FrameError::UnknownFlag { .. } => "frame_flag",
            FrameError::TooLarge { .. } => "message_too_large",
            FrameError::Truncated => "frame_truncated",
        }
    }
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FrameError::UnknownFlag { flags } => write!(f, "a message with unknown flags {flags:#04x}"),
            FrameError::TooLarge { length, max } => {
                write!(f, "a message of {length} bytes; the limit is {max}")
            }
            FrameError::Truncated => f.write_str("the body ends within a message"),
        }
    }
}

impl std::error::Error for FrameError {}

/// A part of a body, in the order of the bytes: `Start`, any number of `Data`, `End`, and again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Part<'i> {
    /// A message begins.
    Start {
        /// Its flags; all of them known.
        flags: Flags,
        /// Its length, bytes; at most the limit.
        length: u32,
    },
    /// Bytes of the message; never none.
    Data(&'i [u8]),
    /// The message is whole.
    End,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Prefix { filled: usize },
    Payload { left: u32 },
}

/// Takes one body apart as it arrives, in pieces of any size. Keeps five bytes.
#[derive(Clone, Debug)]
pub struct Deframer {
    framing: Framing,
    /// Longest payload, bytes.
    length_max: u32,
    prefix: [u8; PREFIX_LEN],
    state: State,
}

impl Deframer {
    /// `length_max`: longest payload of one message, bytes.
    pub const fn new(framing: Framing, length_max: u32) -> Self {
        Self { framing, length_max, prefix: [0; PREFIX_LEN], state: State::Prefix { filled: 0 } }
    }

    /// Takes the next part off the front of `input`; `None` when all of it is used up. After an error the rest of the
    /// body cannot be read.
    pub fn next<'i>(&mut self, input: &mut &'i [u8]) -> Result<Option<Part<'i>>, FrameError> {
        match self.state {
            State::Prefix { filled } => {
                let take = input.len().min(PREFIX_LEN - filled);
                let (head, rest) = input.split_at(take);
                self.prefix[filled..filled + take].copy_from_slice(head);
                *input = rest;
                if filled + take < PREFIX_LEN {
                    self.state = State::Prefix { filled: filled + take };
                    return Ok(None);
                }
                self.start().map(Some)
            }
            State::Payload { left: 0 } => {
                self.state = State::Prefix { filled: 0 };
                Ok(Some(Part::End))
            }
            State::Payload { .. } if input.is_empty() => Ok(None),
            State::Payload { left } => {
                let take = input.len().min(left as usize);
                let (data, rest) = input.split_at(take);
                *input = rest;
                self.state = State::Payload { left: left - take as u32 };
                Ok(Some(Part::Data(data)))
            }
        }
    }

    fn start(&mut self) -> Result<Part<'static>, FrameError> {
        let [flags, length @ ..] = self.prefix;
        let (flags, length) = (Flags(flags), u32::from_be_bytes(length));
        if !flags.known(self.framing) {
            return Err(FrameError::UnknownFlag { flags: flags.0 });
        }
        if length > self.length_max {
            return Err(FrameError::TooLarge { length, max: self.length_max });
        }
        self.state = State::Payload { left: length };
        Ok(Part::Start { flags, length })
    }

    /// To be asked when the body has ended: whether it ended between two messages.
    pub const fn finish(&self) -> Result<(), FrameError> {
        match self.state {
            State::Prefix { filled: 0 } => Ok(()),
            _ => Err(FrameError::Truncated),
        }
    }
}

/// The five bytes in front of a payload of `length` bytes.
pub const fn prefix(flags: Flags, length: u32) -> [u8; PREFIX_LEN] {
    let [a, b, c, d] = length.to_be_bytes();
    [flags.0, a, b, c, d]
}

#[cfg(test)]
mod tests {
    use super::*;

    type Message = (Flags, Vec<u8>);

    /// Feeds `body` in pieces of `piece` bytes.
    fn read(framing: Framing, body: &[u8], piece: usize, max: u32) -> Result<Vec<Message>, FrameError> {
        let (mut deframer, mut messages, mut current) = (Deframer::new(framing, max), Vec::new(), None);
        for mut input in body.chunks(piece.max(1)) {
            while let Some(part) = deframer.next(&mut input)? {
                match part {
                    Part::Start { flags, length } => {
                        assert!(length <= max);
                        current = Some((flags, Vec::new()));
                    }
                    Part::Data(data) => {
                        assert!(!data.is_empty());
                        current.iter_mut().for_each(|(_, bytes)| bytes.extend_from_slice(data));
                    }
                    Part::End => messages.extend(current.take()),
                }
            }
            assert!(input.is_empty());
        }
        deframer.finish().map(|()| messages)
    }

    fn body(messages: &[(Flags, &[u8])]) -> Vec<u8> {
        messages
            .iter()
            .flat_map(|(flags, bytes)| [&prefix(*flags, bytes.len() as u32), *bytes].concat())
            .collect()
    }

    #[test]
    fn messages_come_out_whole_however_the_body_is_cut() {
        let long = [7; 300];
        let messages: &[(Flags, &[u8])] =
            &[(Flags::default(), b"one"), (Flags::default(), b""), (Flags::COMPRESSED, &long)];
        let body = body(messages);
        let expected: Vec<Message> = messages.iter().map(|(flags, bytes)| (*flags, bytes.to_vec())).collect();
        for piece in 1..=body.len() {
            assert_eq!(read(Framing::Grpc, &body, piece, 300), Ok(expected.clone()), "{piece}");
        }
        assert_eq!(read(Framing::Grpc, &[], 1, 0), Ok(Vec::new()));
        // Only the ends of the three messages are ends of a body.
        let whole = [0, 8, 13, body.len()];
        for end in (0..body.len()).filter(|end| !whole.contains(end)) {
            assert_eq!(read(Framing::Grpc, &body[..end], 64, 300), Err(FrameError::Truncated), "{end}");
        }
    }

    #[test]
    fn a_length_above_the_limit_is_refused_before_its_payload() {
        let mut input: &[u8] = &prefix(Flags::default(), u32::MAX);
        let mut deframer = Deframer::new(Framing::Grpc, 1000);
        let refused = FrameError::TooLarge { length: u32::MAX, max: 1000 };
        assert_eq!(deframer.next(&mut input), Err(refused));
        assert_eq!(refused.to_string(), "a message of 4294967295 bytes; the limit is 1000");
    }

    #[test]
    fn each_framing_has_flags_of_its_own() {
        for (framing, allowed) in [
            (Framing::Grpc, &[0, 1][..]),
            (Framing::GrpcWeb, &[0, 1, 0x80, 0x81]),
            (Framing::Connect, &[0, 1, 2, 3]),
        ] {
            for flags in 0..=u8::MAX {
                let outcome = read(framing, &prefix(Flags(flags), 0), 5, 0);
                if allowed.contains(&flags) {
                    assert_eq!(outcome, Ok(vec![(Flags(flags), Vec::new())]));
                } else {
                    assert_eq!(outcome, Err(FrameError::UnknownFlag { flags }), "{framing:?}");
                }
            }
        }
        assert!(Flags(1).is_message() && !Flags(0x81).is_message() && !Flags(2).is_message());
    }
}
