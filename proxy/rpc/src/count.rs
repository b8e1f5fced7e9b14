//! Counts the keys of a request, or the rows of a reply, in a body of any protocol that arrives in pieces.

use std::fmt;
use std::sync::Arc;

use crate::content::{Codec, ContentType, Wire};
use crate::error::Malformed;
use crate::framing::{Deframer, Flags, FrameError, Framing, Part};
use crate::json::{JsonError, JsonPlan, JsonScan};
use crate::scan::{Counts, Scan, ScanPlan};
use crate::table::Method;

/// Why a body is out of step or wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[non_exhaustive]
pub enum CountError {
    /// A message is no protobuf, or not that of its descriptor.
    Proto(Malformed),
    /// A message is no JSON.
    Json(JsonError),
    /// The messages cannot be told apart, or one is too long.
    Frame(FrameError),
    /// A body without framing that is longer than a message may be.
    TooLarge {
        /// What is allowed, bytes.
        max: u32,
    },
}

impl CountError {
    /// A bounded label for metrics.
    pub const fn label(self) -> &'static str {
        match self {
            CountError::Proto(cause) => cause.label(),
            CountError::Json(cause) => cause.label(),
            CountError::Frame(cause) => cause.label(),
            CountError::TooLarge { .. } => "message_too_large",
        }
    }

    /// Whether a limit on the size of messages is the cause, not what is in them.
    pub const fn is_limit(self) -> bool {
        matches!(self, CountError::TooLarge { .. } | CountError::Frame(FrameError::TooLarge { .. }))
    }
}

impl fmt::Display for CountError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CountError::Proto(cause) => cause.fmt(f),
            CountError::Json(cause) => cause.fmt(f),
            CountError::Frame(cause) => cause.fmt(f),
            CountError::TooLarge { max } => write!(f, "a message of more than {max} bytes"),
        }
    }
}

impl std::error::Error for CountError {}

impl From<Malformed> for CountError {
    fn from(cause: Malformed) -> Self {
        CountError::Proto(cause)
    }
}

impl From<JsonError> for CountError {
    fn from(cause: JsonError) -> Self {
        CountError::Json(cause)
    }
}

impl From<FrameError> for CountError {
    fn from(cause: FrameError) -> Self {
        CountError::Frame(cause)
    }
}

/// Why messages are passed over without a look inside.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Blind {
    /// A message, or the whole body, is compressed.
    Compressed,
    /// Neither protobuf nor JSON.
    OtherCodec,
    /// gRPC-web in base64.
    Base64,
}

impl Blind {
    /// A bounded label for metrics.
    pub const fn label(self) -> &'static str {
        match self {
            Blind::Compressed => "compressed",
            Blind::OtherCodec => "other_codec",
            Blind::Base64 => "base64",
        }
    }
}

/// Which side of a method a body belongs to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Direction {
    /// Keys are counted.
    Request,
    /// Rows are counted.
    Reply,
}

/// What a body held when it ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Counted {
    /// Elements by path, over all messages.
    pub counts: Counts,
    /// Messages: of a unary call one.
    pub messages: u64,
    /// Why some were not counted; the numbers are too low then.
    pub blind: Option<Blind>,
}

#[derive(Clone, Debug)]
enum Codecs {
    Proto(Box<Scan>),
    Json(Box<JsonScan>),
    None,
}

impl Codecs {
    fn feed(&mut self, piece: &[u8]) -> Result<(), CountError> {
        match self {
            Codecs::Proto(scan) => scan.feed(piece).map_err(CountError::from),
            Codecs::Json(scan) => scan.feed(piece).map_err(CountError::from),
            Codecs::None => Ok(()),
        }
    }

    /// The message has ended: its counts, and a clean state for the next.
    fn finish(&mut self) -> Result<Option<Counts>, CountError> {
        Ok(match self {
            Codecs::Proto(scan) => {
                let counts = scan.finish()?;
                scan.restart();
                Some(counts)
            }
            Codecs::Json(scan) => {
                let counts = scan.finish()?;
                scan.restart();
                Some(counts)
            }
            Codecs::None => None,
        })
    }

    fn counts(&self) -> Option<&Counts> {
        match self {
            Codecs::Proto(scan) => Some(scan.counts()),
            Codecs::Json(scan) => Some(scan.counts()),
            Codecs::None => None,
        }
    }
}

/// The state of one body. Some hundred bytes (JSON: some KiB), whatever the body says.
#[derive(Clone, Debug)]
pub struct Counter {
    /// None: the body is one message.
    deframer: Option<Deframer>,
    codec: Codecs,
    /// Whether the message at hand is looked into.
    looking: bool,
    /// Of the messages that have ended.
    counts: Counts,
    messages: u64,
    blind: Option<Blind>,
    bytes: u64,
    message_max: u32,
    failed: Option<CountError>,
}

impl Counter {
    /// Counts in a body of `method`. `encoded`: the body as a whole is compressed (`content-encoding` other than identity).
    /// `message_max`: longest message, bytes.
    pub fn new(
        method: &Method,
        direction: Direction,
        kind: ContentType,
        encoded: bool,
        message_max: u32,
    ) -> Self {
        let (proto, json) = match direction {
            Direction::Request => (&method.request, &method.request_json),
            Direction::Reply => (&method.reply, &method.reply_json),
        };
        Self::with_plans(proto, json, kind, encoded, message_max)
    }

    /// The same with plans of one's own: JSON over plain HTTP has no method.
    pub fn with_plans(
        proto: &Arc<ScanPlan>,
        json: &Arc<JsonPlan>,
        kind: ContentType,
        encoded: bool,
        message_max: u32,
    ) -> Self {
        let framing = match kind.wire {
            Wire::Grpc => Some(Framing::Grpc),
            Wire::GrpcWeb => Some(Framing::GrpcWeb),
            Wire::ConnectStream => Some(Framing::Connect),
            Wire::Unary | Wire::GrpcWebText => None,
        };
        let blind = match (kind.wire, kind.codec) {
            (Wire::GrpcWebText, _) => Some(Blind::Base64),
            _ if encoded => Some(Blind::Compressed),
            (_, Codec::Other) => Some(Blind::OtherCodec),
            _ => None,
        };
        let codec = match kind.codec {
            Codec::Proto if blind.is_none() => Codecs::Proto(Box::new(Scan::new(Arc::clone(proto)))),
            Codec::Json if blind.is_none() => Codecs::Json(Box::new(JsonScan::new(Arc::clone(json)))),
            _ => Codecs::None,
        };
        let counts = match kind.codec {
            Codec::Json => json.zero(),
            Codec::Proto | Codec::Other => Counts::zero(proto),
        };
        Self {
            // A body that is compressed as a whole hides its messages, too.
            deframer: framing.filter(|_| !encoded).map(|framing| Deframer::new(framing, message_max)),
            codec,
            looking: blind.is_none(),
            counts,
            messages: 0,
            blind,
            bytes: 0,
            message_max,
            failed: None,
        }
    }

    /// Reads the next piece of the body. After an error every further piece has the same error; what was counted before it
    /// stays.
    pub fn feed(&mut self, piece: &[u8]) -> Result<(), CountError> {
        if let Some(cause) = self.failed {
            return Err(cause);
        }
        self.bytes = self.bytes.saturating_add(piece.len() as u64);
        let fed = match &self.deframer {
            Some(_) => self.framed(piece),
            None if self.bytes > u64::from(self.message_max) => {
                Err(CountError::TooLarge { max: self.message_max })
            }
            None => self.codec.feed(piece),
        };
        self.failed = fed.err();
        fed
    }

    fn framed(&mut self, mut piece: &[u8]) -> Result<(), CountError> {
        let Some(deframer) = &mut self.deframer else { return Ok(()) };
        while let Some(part) = deframer.next(&mut piece)? {
            match part {
                Part::Start { flags, .. } => {
                    let compressed = flags.has(Flags::COMPRESSED);
                    self.messages += u64::from(flags.is_message());
                    self.looking = flags.is_message() && !compressed;
                    if flags.is_message() && compressed {
                        self.blind.get_or_insert(Blind::Compressed);
                    }
                }
                Part::Data(data) if self.looking => self.codec.feed(data)?,
                Part::Data(_) => (),
                Part::End if self.looking => {
                    if let Some(counts) = self.codec.finish()? {
                        self.counts.merge(&counts);
                    }
                }
                Part::End => (),
            }
        }
        Ok(())
    }

    /// What was counted so far. True of what was read whatever follows: a limit may be held against it at once.
    pub fn counts(&self) -> Counts {
        let mut all = self.counts;
        if let Some(counts) = self.codec.counts() {
            all.merge(counts);
        }
        all
    }

    /// Bytes of the body so far, with its framing.
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// To be asked when the body has ended.
    pub fn finish(&mut self) -> Result<Counted, CountError> {
        if let Some(cause) = self.failed {
            return Err(cause);
        }
        match &self.deframer {
            Some(deframer) => deframer.finish()?,
            None => {
                self.messages = 1;
                if let Some(counts) = self.codec.finish()? {
                    self.counts.merge(&counts);
                }
            }
        }
        Ok(Counted { counts: self.counts, messages: self.messages, blind: self.blind })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::framing::prefix;
    use crate::wire::{Elements, write_len};

    fn plans() -> (Arc<ScanPlan>, Arc<JsonPlan>) {
        let step = crate::scan::Step { number: 1, elements: Elements::Delimited };
        let proto = ScanPlan::new(&[vec![step]]).unwrap_or_default();
        let json = JsonPlan::new(&[vec![vec!["uris"]]]).unwrap_or_default();
        (Arc::new(proto), Arc::new(json))
    }

    fn keys(count: usize) -> Vec<u8> {
        let mut message = Vec::new();
        (0..count).for_each(|_| write_len(1, b"key", &mut message));
        message
    }

    fn count(content: &str, encoded: bool, body: &[u8], max: u32) -> Result<Counted, CountError> {
        let (proto, json) = plans();
        let none = ContentType { wire: Wire::Unary, codec: Codec::Other };
        let kind = ContentType::parse(content.as_bytes()).unwrap_or(none);
        let run = |size: usize| {
            let mut counter = Counter::with_plans(&proto, &json, kind, encoded, max);
            body.chunks(size).try_for_each(|piece| counter.feed(piece))?;
            let so_far = counter.counts();
            counter.finish().inspect(|counted| {
                assert_eq!(counted.counts, so_far);
                assert_eq!(counter.bytes(), body.len() as u64);
            })
        };
        let whole = run(body.len().max(1));
        for size in 1..body.len() {
            assert_eq!(run(size), whole, "{size}");
        }
        whole
    }

    fn framed(messages: &[(u8, &[u8])]) -> Vec<u8> {
        let one =
            |(flags, bytes): &(u8, &[u8])| [&prefix(Flags(*flags), bytes.len() as u32), *bytes].concat();
        messages.iter().flat_map(one).collect()
    }

    fn seen(counted: Result<Counted, CountError>) -> Result<(u64, u64, Option<Blind>), CountError> {
        counted.map(|counted| (counted.counts.total(), counted.messages, counted.blind))
    }

    #[test]
    fn keys_are_counted_in_every_protocol() {
        let grpc = framed(&[(0, &keys(3)), (0, &keys(2))]);
        assert_eq!(seen(count("application/grpc", false, &grpc, 100)), Ok((5, 2, None)));
        let web = framed(&[(0, &keys(3)), (0x80, b"grpc-status: 0\r\n")]);
        assert_eq!(seen(count("application/grpc-web+proto", false, &web, 100)), Ok((3, 1, None)));
        let json = br#"{"uris":[1,2]}"#;
        let stream = framed(&[(0, json), (0, json), (2, b"{}")]);
        assert_eq!(seen(count("application/connect+json", false, &stream, 100)), Ok((4, 2, None)));
        assert_eq!(seen(count("application/proto", false, &keys(7), 100)), Ok((7, 1, None)));
        assert_eq!(seen(count("application/json", false, json, 100)), Ok((2, 1, None)));
        assert_eq!(seen(count("application/proto", false, &[], 100)), Ok((0, 1, None)));
        assert_eq!(seen(count("application/grpc", false, &[], 100)), Ok((0, 0, None)));
    }

    #[test]
    fn what_cannot_be_seen_is_named() {
        let mixed = framed(&[(1, b"\xff\xff"), (0, &keys(2))]);
        assert_eq!(seen(count("application/grpc", false, &mixed, 100)), Ok((2, 2, Some(Blind::Compressed))));
        let other = framed(&[(0, b"\xff\xff")]);
        assert_eq!(
            seen(count("application/grpc+thrift", false, &other, 100)),
            Ok((0, 1, Some(Blind::OtherCodec)))
        );
        assert_eq!(
            seen(count("application/grpc-web-text", false, b"AAAA", 100)),
            Ok((0, 1, Some(Blind::Base64)))
        );
        assert_eq!(
            seen(count("application/json", true, b"\x1f\x8b", 100)),
            Ok((0, 1, Some(Blind::Compressed)))
        );
    }

    #[test]
    fn errors_keep_their_cause() {
        let large = framed(&[(0, &keys(30))]);
        let too_large = CountError::Frame(FrameError::TooLarge { length: 150, max: 100 });
        assert_eq!(seen(count("application/grpc", false, &large, 100)), Err(too_large));
        let unframed = CountError::TooLarge { max: 100 };
        assert_eq!(seen(count("application/proto", false, &keys(30), 100)), Err(unframed));
        assert!(too_large.is_limit() && unframed.is_limit());
        let half = framed(&[(0, &keys(2)[..7])]);
        let truncated = CountError::Proto(Malformed::Truncated);
        assert_eq!(seen(count("application/grpc", false, &half, 100)), Err(truncated));
        assert!(!truncated.is_limit());
        let cut = &framed(&[(0, &keys(2))])[..12];
        assert_eq!(seen(count("application/grpc", false, cut, 100)), Err(FrameError::Truncated.into()));
        assert_eq!(seen(count("application/json", false, b"{", 100)), Err(JsonError::Truncated.into()));
    }

    #[test]
    fn a_limit_can_be_held_against_what_came_so_far() {
        let (proto, json) = plans();
        let kind = ContentType { wire: Wire::Grpc, codec: Codec::Proto };
        let mut counter = Counter::with_plans(&proto, &json, kind, false, u32::MAX);
        let body = framed(&[(0, &keys(1000))]);
        assert_eq!(counter.feed(&body[..5 + 500]), Ok(()));
        assert_eq!(counter.counts().total(), 100);
    }
}
