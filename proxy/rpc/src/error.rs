//! Why the bytes of a message could not be read: one closed list with a bounded label each.

use std::fmt;

/// What is wrong with the protobuf wire of a message. The peer that sent it is at fault; only this message is lost, the
/// framing around it stays in step.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[non_exhaustive]
pub enum Malformed {
    /// The message, or the message inside it, ends within a field.
    Truncated,
    /// A varint of more than ten bytes, or of more than 64 bits.
    Varint,
    /// A field number that is 0 or above 2^29 - 1.
    FieldNumber,
    /// Wire type 6 or 7, which do not exist.
    UnknownWireType,
    /// A group (wire types 3 and 4): out of use since proto2, and nothing here counts inside one.
    Group,
    /// A length that reaches past the end of the message that encloses the field.
    LengthBeyondEnd,
    /// A length above 2 GiB - 1, which no protobuf runtime accepts.
    LengthTooLarge,
    /// A field with another wire type than its descriptor asks for: the service would not find its keys either.
    OtherWireType,
    /// A packed run of fixed-width numbers whose length is no multiple of the width.
    PackedLength,
}

impl Malformed {
    /// Every cause, for tables of counters.
    pub const ALL: [Self; 9] = [
        Malformed::Truncated,
        Malformed::Varint,
        Malformed::FieldNumber,
        Malformed::UnknownWireType,
        Malformed::Group,
        Malformed::LengthBeyondEnd,
        Malformed::LengthTooLarge,
        Malformed::OtherWireType,
        Malformed::PackedLength,
    ];

    /// A bounded label for metrics.
    pub const fn label(self) -> &'static str {
        match self {
            Malformed::Truncated => "truncated",
            Malformed::Varint => "varint",
            Malformed::FieldNumber => "field_number",
            Malformed::UnknownWireType => "unknown_wire_type",
            Malformed::Group => "group",
            Malformed::LengthBeyondEnd => "length_beyond_end",
            Malformed::LengthTooLarge => "length_too_large",
            Malformed::OtherWireType => "other_wire_type",
            Malformed::PackedLength => "packed_length",
        }
    }
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Malformed::Truncated => "the message ends within a field",
            Malformed::Varint => "a varint of more than 64 bits",
            Malformed::FieldNumber => "a field number outside 1 to 2^29 - 1",
            Malformed::UnknownWireType => "a wire type that does not exist",
            Malformed::Group => "a group, which is not supported",
            Malformed::LengthBeyondEnd => "a length beyond the end of the message around it",
            Malformed::LengthTooLarge => "a length above 2 GiB",
            Malformed::OtherWireType => "a field whose wire type is not the one its descriptor asks for",
            Malformed::PackedLength => "packed numbers whose length is no multiple of their width",
        })
    }
}

impl std::error::Error for Malformed {}
