//! Why bytes could not be read: one closed list with a bounded label each.

use std::fmt;

/// What is wrong with the bytes. The peer that sent them is at fault: after one of these in a frame header or a
/// segment the connection is out of step; in a body only the one message is lost.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[non_exhaustive]
pub enum Malformed {
    /// A field reaches past the end of its body.
    Truncated,
    /// A length below what the notation allows.
    NegativeLength,
    /// A count that cannot fit into the bytes that are there.
    ImpossibleCount,
    /// A length above the cap of the reader.
    TooLarge,
    /// The direction bit of the version byte is that of the other side.
    WrongDirection,
    /// The version is not the one the connection has agreed on.
    OtherVersion,
    /// No such opcode, or one that the other side sends.
    UnknownOpcode,
    /// A kind, type or change that the protocol does not have.
    UnknownKind,
    /// A flag that the version does not have: what it announces would be misread.
    UnknownFlag,
    /// Types nested deeper than [`crate::types::DEPTH_MAX`] or with more parts than [`crate::types::PARTS_MAX`].
    TooDeep,
    /// An address that has neither 4 nor 16 bytes.
    BadAddress,
    /// A checksum of a segment does not match.
    Checksum,
    /// Segments and the envelopes in them disagree about where one ends.
    SegmentBoundary,
    /// A compressed body or segment that does not decompress to what it announces.
    Compression,
}

impl Malformed {
    /// A bounded label for metrics.
    pub const fn label(self) -> &'static str {
        match self {
            Malformed::Truncated => "truncated",
            Malformed::NegativeLength => "negative_length",
            Malformed::ImpossibleCount => "impossible_count",
            Malformed::TooLarge => "too_large",
            Malformed::WrongDirection => "wrong_direction",
            Malformed::OtherVersion => "other_version",
            Malformed::UnknownOpcode => "unknown_opcode",
            Malformed::UnknownKind => "unknown_kind",
            Malformed::UnknownFlag => "unknown_flag",
            Malformed::TooDeep => "too_deep",
            Malformed::BadAddress => "bad_address",
            Malformed::Checksum => "checksum",
            Malformed::SegmentBoundary => "segment_boundary",
            Malformed::Compression => "compression",
        }
    }
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Malformed::Truncated => "a field reaches past the end of the body",
            Malformed::NegativeLength => "a negative length",
            Malformed::ImpossibleCount => "a count that cannot fit into the body",
            Malformed::TooLarge => "a length above the limit",
            Malformed::WrongDirection => "a request where a response belongs, or the reverse",
            Malformed::OtherVersion => "a protocol version other than the one agreed on",
            Malformed::UnknownOpcode => "an unknown opcode",
            Malformed::UnknownKind => "an unknown kind",
            Malformed::UnknownFlag => "a flag that this version does not have",
            Malformed::TooDeep => "a type that is nested too deeply",
            Malformed::BadAddress => "an address of neither 4 nor 16 bytes",
            Malformed::Checksum => "a checksum that does not match",
            Malformed::SegmentBoundary => "an envelope that does not end with its segment",
            Malformed::Compression => "compressed bytes that do not decompress",
        })
    }
}

impl std::error::Error for Malformed {}
