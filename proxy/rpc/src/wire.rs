//! The protobuf wire of a whole message: tags, varints, and where each field lies. Nothing is allocated.
//!
//! ```text
//! field = tag:varint (number << 3 | wire type) value
//! value = varint | 8 bytes | length:varint bytes | 4 bytes      for wire type 0, 1, 2, 5
//! ```
//! What is not known is passed over, never refused; groups are refused ([`Malformed::Group`]). For messages that arrive in
//! pieces there is [`crate::scan`], which agrees with this module byte for byte (a property test says so).

use std::ops::Range;

use crate::error::Malformed;

/// Longest varint, bytes.
pub const VARINT_LEN_MAX: usize = 10;

/// Largest field number.
pub const FIELD_NUMBER_MAX: u32 = (1 << 29) - 1;

/// Largest length of a field, bytes: protobuf runtimes accept no message above it.
pub const LENGTH_MAX: u64 = (1 << 31) - 1;

/// How a value is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum WireType {
    /// int32 and its kin, bool, enums.
    Varint,
    /// fixed64, sfixed64, double.
    I64,
    /// string, bytes, messages, maps, packed numbers.
    Len,
    /// fixed32, sfixed32, float.
    I32,
}

/// A field's number and how its value is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct Tag {
    /// 1 to [`FIELD_NUMBER_MAX`].
    pub number: u32,
    /// How the value is written.
    pub wire: WireType,
}

impl Tag {
    /// Reads the varint of a tag.
    pub const fn parse(varint: u64) -> Result<Self, Malformed> {
        let number = varint >> 3;
        if number == 0 || number > FIELD_NUMBER_MAX as u64 {
            return Err(Malformed::FieldNumber);
        }
        let wire = match varint & 7 {
            0 => WireType::Varint,
            1 => WireType::I64,
            2 => WireType::Len,
            3 | 4 => return Err(Malformed::Group),
            5 => WireType::I32,
            _ => return Err(Malformed::UnknownWireType),
        };
        Ok(Self { number: number as u32, wire })
    }

    /// Appends the tag.
    pub fn write(self, out: &mut Vec<u8>) {
        let wire = match self.wire {
            WireType::Varint => 0,
            WireType::I64 => 1,
            WireType::Len => 2,
            WireType::I32 => 5,
        };
        write_varint(u64::from(self.number) << 3 | wire, out);
    }
}

/// A varint that arrives byte by byte.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct VarintParts {
    value: u64,
    /// Bytes taken so far; below [`VARINT_LEN_MAX`].
    taken: u8,
}

impl VarintParts {
    /// Whether a varint has begun and not ended.
    pub(crate) const fn begun(self) -> bool {
        self.taken > 0
    }

    /// Takes the next byte; the number when it was the last.
    #[inline]
    pub(crate) const fn push(&mut self, byte: u8) -> Result<Option<u64>, Malformed> {
        let last = self.taken as usize == VARINT_LEN_MAX - 1;
        // The tenth byte holds the 64th bit and nothing else.
        if last && byte > 1 {
            return Err(Malformed::Varint);
        }
        self.value |= (byte as u64 & 0x7F) << (7 * self.taken as u32);
        self.taken += 1;
        if byte < 0x80 {
            let value = self.value;
            *self = Self { value: 0, taken: 0 };
            return Ok(Some(value));
        }
        Ok(None)
    }
}

/// Reads a varint at `at` and moves `at` behind it.
#[inline]
pub fn read_varint(message: &[u8], at: &mut usize) -> Result<u64, Malformed> {
    let mut parts = VarintParts::default();
    for byte in message.get(*at..).unwrap_or_default() {
        *at += 1;
        if let Some(value) = parts.push(*byte)? {
            return Ok(value);
        }
    }
    Err(Malformed::Truncated)
}

/// Appends a varint, as short as it can be.
pub fn write_varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends a field whose value is `bytes` behind their length.
pub fn write_len(number: u32, bytes: &[u8], out: &mut Vec<u8>) {
    Tag { number, wire: WireType::Len }.write(out);
    write_varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

/// Appends a field whose value is a varint.
pub fn write_number(number: u32, value: u64, out: &mut Vec<u8>) {
    Tag { number, wire: WireType::Varint }.write(out);
    write_varint(value, out);
}

/// A field of a message: where it lies.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Field {
    /// Number and wire type.
    pub tag: Tag,
    /// Offset of the tag's first byte.
    pub start: usize,
    /// The value without its length: for a varint its own bytes. Its end is the field's end.
    pub value: Range<usize>,
}

impl Field {
    /// Tag and value.
    pub const fn range(&self) -> Range<usize> {
        self.start..self.value.end
    }
}

/// The fields of one message in the order they stand there. Ends after the first error.
#[derive(Clone, Debug)]
pub struct Fields<'m> {
    message: &'m [u8],
    at: usize,
}

impl<'m> Fields<'m> {
    /// Reads from the first byte.
    pub const fn new(message: &'m [u8]) -> Self {
        Self { message, at: 0 }
    }

    /// Reads from the field that begins at offset `at`.
    pub const fn starting(message: &'m [u8], at: usize) -> Self {
        Self { message, at }
    }

    #[inline]
    fn read(&mut self) -> Result<Field, Malformed> {
        let start = self.at;
        let mut at = start;
        let tag = Tag::parse(read_varint(self.message, &mut at)?)?;
        let value = match tag.wire {
            WireType::Varint => {
                let begin = at;
                read_varint(self.message, &mut at)?;
                begin..at
            }
            WireType::Len => {
                let length = read_varint(self.message, &mut at)?;
                if length > LENGTH_MAX {
                    return Err(Malformed::LengthTooLarge);
                }
                at..at + length as usize
            }
            WireType::I64 => at..at + 8,
            WireType::I32 => at..at + 4,
        };
        if value.end > self.message.len() {
            // A length tells where the field would end; of a number only a part is there.
            let cause =
                if tag.wire == WireType::Len { Malformed::LengthBeyondEnd } else { Malformed::Truncated };
            return Err(cause);
        }
        self.at = value.end;
        Ok(Field { tag, start, value })
    }
}

impl Iterator for Fields<'_> {
    type Item = Result<Field, Malformed>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.at >= self.message.len() {
            return None;
        }
        let read = self.read();
        if read.is_err() {
            self.at = self.message.len();
        }
        Some(read)
    }
}

/// How the elements of a field stand on the wire.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Elements {
    /// string, bytes or a message: one field each.
    Delimited,
    /// A number written as a varint: one field each, or any number in a packed run.
    Varint,
    /// A number of four bytes, alone or packed.
    Fixed32,
    /// A number of eight bytes, alone or packed.
    Fixed64,
}

impl Elements {
    /// The wire type of one element that is not packed.
    pub const fn wire(self) -> WireType {
        match self {
            Elements::Delimited => WireType::Len,
            Elements::Varint => WireType::Varint,
            Elements::Fixed32 => WireType::I32,
            Elements::Fixed64 => WireType::I64,
        }
    }

    /// Number of elements in one field of wire type `wire` with `value`: 1, or those of a packed run.
    pub fn in_field(self, wire: WireType, value: &[u8]) -> Result<u64, Malformed> {
        if wire == self.wire() {
            return Ok(1);
        }
        if wire != WireType::Len {
            return Err(Malformed::OtherWireType);
        }
        self.in_packed(value)
    }

    /// Number of elements of a packed run.
    fn in_packed(self, run: &[u8]) -> Result<u64, Malformed> {
        let width = match self {
            Elements::Delimited => return Err(Malformed::OtherWireType),
            Elements::Varint => {
                let (mut parts, mut count) = (VarintParts::default(), 0);
                for byte in run {
                    count += u64::from(parts.push(*byte)?.is_some());
                }
                return if parts.begun() { Err(Malformed::Truncated) } else { Ok(count) };
            }
            Elements::Fixed32 => 4,
            Elements::Fixed64 => 8,
        };
        if run.len().is_multiple_of(width) {
            Ok((run.len() / width) as u64)
        } else {
            Err(Malformed::PackedLength)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn varint(value: u64) -> Vec<u8> {
        let mut out = Vec::new();
        write_varint(value, &mut out);
        out
    }

    #[test]
    fn varints_are_those_of_the_specification() {
        assert_eq!(varint(150), [0x96, 0x01]);
        assert_eq!(varint(u64::MAX).len(), VARINT_LEN_MAX);
        for value in [0, 1, 127, 128, 300, u64::from(u32::MAX), u64::MAX] {
            let bytes = varint(value);
            let mut at = 0;
            assert_eq!(read_varint(&bytes, &mut at), Ok(value));
            assert_eq!(at, bytes.len());
            assert_eq!(read_varint(&bytes[..bytes.len() - 1], &mut 0), Err(Malformed::Truncated));
        }
        // Longer than needed is allowed, longer than ten bytes or 64 bits is not.
        assert_eq!(read_varint(&[0x81, 0x80, 0x00], &mut 0), Ok(1));
        assert_eq!(read_varint(&[0x80; 11], &mut 0), Err(Malformed::Varint));
        let mut high = [0x80; 10];
        high[9] = 2;
        assert_eq!(read_varint(&high, &mut 0), Err(Malformed::Varint));
    }

    #[test]
    fn a_message_of_the_specification_reads() {
        // message Test { int32 a = 1; string b = 2; } of the encoding guide, and two fixed numbers.
        let bytes =
            [0x08, 0x96, 0x01, 0x12, 0x02, b'h', b'i', 0x1D, 1, 2, 3, 4, 0x21, 1, 2, 3, 4, 5, 6, 7, 8];
        let fields: Result<Vec<_>, _> = Fields::new(&bytes).collect();
        let fields = fields.unwrap_or_default();
        let seen: Vec<_> = fields.iter().map(|field| (field.tag.number, field.value.clone())).collect();
        assert_eq!(seen, [(1, 1..3), (2, 5..7), (3, 8..12), (4, 13..21)]);
        for (end, cause) in [
            (1, Malformed::Truncated),
            (2, Malformed::Truncated),
            (4, Malformed::Truncated),
            (6, Malformed::LengthBeyondEnd),
            (9, Malformed::Truncated),
            (20, Malformed::Truncated),
        ] {
            assert_eq!(Fields::new(&bytes[..end]).find_map(Result::err), Some(cause), "{end}");
        }
    }

    #[test]
    fn what_does_not_exist_has_a_cause_each() {
        for (bytes, cause) in [
            (&[0x00, 0x01][..], Malformed::FieldNumber),
            (&[0x0B, 0x0C], Malformed::Group),
            (&[0x0C], Malformed::Group),
            (&[0x0E], Malformed::UnknownWireType),
            (&[0x0F], Malformed::UnknownWireType),
            (&[0x0A, 0xFF, 0xFF, 0xFF, 0xFF, 0x0F], Malformed::LengthTooLarge),
            (&[0x80, 0x80, 0x80, 0x80, 0x10], Malformed::FieldNumber),
        ] {
            let mut fields = Fields::new(bytes);
            assert_eq!(fields.next(), Some(Err(cause)), "{bytes:x?}");
            assert_eq!(fields.next(), None);
        }
    }

    #[test]
    fn packed_runs_are_counted() {
        assert_eq!(Elements::Varint.in_field(WireType::Len, &[1, 0x96, 0x01, 0]), Ok(3));
        assert_eq!(Elements::Varint.in_field(WireType::Len, &[]), Ok(0));
        assert_eq!(Elements::Varint.in_field(WireType::Varint, &[1]), Ok(1));
        assert_eq!(Elements::Varint.in_field(WireType::Len, &[1, 0x96]), Err(Malformed::Truncated));
        assert_eq!(Elements::Fixed32.in_field(WireType::Len, &[0; 8]), Ok(2));
        assert_eq!(Elements::Fixed64.in_field(WireType::Len, &[0; 12]), Err(Malformed::PackedLength));
        assert_eq!(Elements::Delimited.in_field(WireType::Len, &[0; 12]), Ok(1));
        assert_eq!(Elements::Delimited.in_field(WireType::Varint, &[0]), Err(Malformed::OtherWireType));
        assert_eq!(Elements::Fixed32.in_field(WireType::I64, &[0; 8]), Err(Malformed::OtherWireType));
    }
}
