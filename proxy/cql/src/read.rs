//! A bounded cursor over the notations of the protocol. It locates: what it returns are numbers and [`Span`]s.
//!
//! Nothing is allocated and no byte causes a panic: a field that is not there is [`Malformed`].

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::error::Malformed;
use crate::version::Version;

/// Where bytes lie in a body. `Copy`, unlike a `Range`; 32 bits, because a body has at most 256 MiB.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, Default)]
pub struct Span {
    /// Offset of the first byte.
    pub start: u32,
    /// Offset after the last byte; never below `start`.
    pub end: u32,
}

impl Span {
    /// The bytes in `body`; empty if `body` is not the one the span was made from and is too short.
    #[inline]
    pub fn of(self, body: &[u8]) -> &[u8] {
        body.get(self.start as usize..self.end as usize).unwrap_or_default()
    }

    /// Number of bytes.
    #[inline]
    pub const fn len(self) -> usize {
        self.end.saturating_sub(self.start) as usize
    }

    /// Whether there is no byte.
    #[inline]
    pub const fn is_empty(self) -> bool {
        self.end <= self.start
    }

    /// As the standard range, for slicing.
    #[inline]
    pub const fn range(self) -> std::ops::Range<usize> {
        self.start as usize..self.end as usize
    }
}

/// A \[value\] or \[bytes\].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Value {
    /// Length -1: null.
    Null,
    /// Length -2 in v4 and later: leave the column alone.
    NotSet,
    /// The bytes, without their length.
    Bytes(Span),
}

impl Value {
    /// The bytes; `None` for null and not set.
    #[inline]
    pub fn of(self, body: &[u8]) -> Option<&[u8]> {
        match self {
            Value::Bytes(span) => Some(span.of(body)),
            Value::Null | Value::NotSet => None,
        }
    }
}

/// A \[consistency\]: any number, because servers know more levels than the specification.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct Consistency(pub u16);

impl Consistency {
    /// ANY
    pub const ANY: Self = Self(0);
    /// ONE
    pub const ONE: Self = Self(1);
    /// QUORUM
    pub const QUORUM: Self = Self(4);
    /// ALL
    pub const ALL: Self = Self(5);
    /// LOCAL_QUORUM
    pub const LOCAL_QUORUM: Self = Self(6);
    /// EACH_QUORUM
    pub const EACH_QUORUM: Self = Self(7);
    /// SERIAL
    pub const SERIAL: Self = Self(8);
    /// LOCAL_SERIAL
    pub const LOCAL_SERIAL: Self = Self(9);
    /// LOCAL_ONE
    pub const LOCAL_ONE: Self = Self(10);

    /// A linearizable read: never joined, split or cached.
    #[inline]
    pub const fn is_serial(self) -> bool {
        matches!(self, Self::SERIAL | Self::LOCAL_SERIAL)
    }

    /// The name in CQL; `UNKNOWN` for a number outside of the specification.
    pub const fn name(self) -> &'static str {
        const NAMES: [&str; 11] = [
            "ANY",
            "ONE",
            "TWO",
            "THREE",
            "QUORUM",
            "ALL",
            "LOCAL_QUORUM",
            "EACH_QUORUM",
            "SERIAL",
            "LOCAL_SERIAL",
            "LOCAL_ONE",
        ];
        if (self.0 as usize) < NAMES.len() { NAMES[self.0 as usize] } else { "UNKNOWN" }
    }
}

/// Reads one body from front to back.
#[derive(Clone, Copy, Debug)]
pub struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    /// At the start of `body`. Bytes beyond 4 GiB are not seen.
    #[inline]
    pub fn new(body: &'a [u8]) -> Self {
        Self { bytes: body.get(..u32::MAX as usize).unwrap_or(body), at: 0 }
    }

    /// Over the part `span` of `body`; positions stay those of `body`.
    #[inline]
    pub fn within(body: &'a [u8], span: Span) -> Self {
        let mut cursor = Self::new(body);
        cursor.bytes = cursor.bytes.get(..span.end as usize).unwrap_or(cursor.bytes);
        cursor.at = (span.start as usize).min(cursor.bytes.len());
        cursor
    }

    /// Offset of the next byte.
    #[inline]
    pub fn position(&self) -> u32 {
        self.at as u32
    }

    /// Bytes left.
    #[inline]
    pub fn remaining(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// From here to the end.
    #[inline]
    pub fn rest(&self) -> Span {
        Span { start: self.at as u32, end: self.bytes.len() as u32 }
    }

    /// From `start` to here.
    #[inline]
    pub fn since(&self, start: u32) -> Span {
        Span { start, end: (self.at as u32).max(start) }
    }

    /// The next `length` bytes.
    #[inline]
    pub fn take(&mut self, length: usize) -> Result<Span, Malformed> {
        if length > self.remaining() {
            return Err(Malformed::Truncated);
        }
        let start = self.at as u32;
        self.at += length;
        Ok(self.since(start))
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let found = self.bytes.get(self.at..).and_then(|rest| rest.first_chunk::<N>());
        let found = *found.ok_or(Malformed::Truncated)?;
        self.at += N;
        Ok(found)
    }

    /// \[byte\]
    #[inline]
    pub fn byte(&mut self) -> Result<u8, Malformed> {
        self.array::<1>().map(|[byte]| byte)
    }

    /// \[short\]
    #[inline]
    pub fn short(&mut self) -> Result<u16, Malformed> {
        self.array().map(u16::from_be_bytes)
    }

    /// \[int\]
    #[inline]
    pub fn int(&mut self) -> Result<i32, Malformed> {
        self.array().map(i32::from_be_bytes)
    }

    /// \[int\] that is a bit set.
    #[inline]
    pub fn bits(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_be_bytes)
    }

    /// \[int\] that counts things of at least `least` bytes each: refused when they cannot all be in what is left.
    #[inline]
    pub fn count(&mut self, least: usize) -> Result<u32, Malformed> {
        let count = u32::try_from(self.int()?).map_err(|_| Malformed::NegativeLength)?;
        if (count as usize).checked_mul(least).is_none_or(|bytes| bytes > self.remaining()) {
            return Err(Malformed::ImpossibleCount);
        }
        Ok(count)
    }

    /// \[long\]
    #[inline]
    pub fn long(&mut self) -> Result<i64, Malformed> {
        self.array().map(i64::from_be_bytes)
    }

    /// \[uuid\]
    #[inline]
    pub fn uuid(&mut self) -> Result<[u8; 16], Malformed> {
        self.array()
    }

    /// \[consistency\]
    #[inline]
    pub fn consistency(&mut self) -> Result<Consistency, Malformed> {
        self.short().map(Consistency)
    }

    /// \[string\] or \[short bytes\]: without the length; a string need not be UTF-8.
    #[inline]
    pub fn string(&mut self) -> Result<Span, Malformed> {
        let length = self.short()?;
        self.take(usize::from(length))
    }

    /// \[long string\]: without the length; need not be UTF-8.
    #[inline]
    pub fn long_string(&mut self) -> Result<Span, Malformed> {
        let length = usize::try_from(self.int()?).map_err(|_| Malformed::NegativeLength)?;
        self.take(length)
    }

    /// \[bytes\]: every negative length is null.
    #[inline]
    pub fn bytes(&mut self) -> Result<Value, Malformed> {
        match usize::try_from(self.int()?) {
            Ok(length) => self.take(length).map(Value::Bytes),
            Err(_) => Ok(Value::Null),
        }
    }

    /// \[value\]: -2 is "not set" from v4 on, a smaller length is refused as servers do.
    #[inline]
    pub fn value(&mut self, version: Version) -> Result<Value, Malformed> {
        match self.int()? {
            length @ 0.. => self.take(length as usize).map(Value::Bytes),
            -1 => Ok(Value::Null),
            _ if version == Version::V3 => Ok(Value::Null),
            -2 => Ok(Value::NotSet),
            _ => Err(Malformed::NegativeLength),
        }
    }

    /// \[inetaddr\]: an address without a port.
    pub fn inet_address(&mut self) -> Result<IpAddr, Malformed> {
        match self.byte()? {
            4 => self.array::<4>().map(|octets| IpAddr::V4(Ipv4Addr::from(octets))),
            16 => self.array::<16>().map(|octets| IpAddr::V6(Ipv6Addr::from(octets))),
            _ => Err(Malformed::BadAddress),
        }
    }

    /// \[inet\]: an address and a port.
    pub fn inet(&mut self) -> Result<SocketAddr, Malformed> {
        let address = self.inet_address()?;
        let port = u16::try_from(self.int()?).map_err(|_| Malformed::BadAddress)?;
        Ok(SocketAddr::new(address, port))
    }

    /// \[string list\]: checked to its end; [`strings`] iterates it.
    pub fn string_list(&mut self) -> Result<Span, Malformed> {
        let start = self.position();
        for _ in 0..self.short()? {
            self.string()?;
        }
        Ok(self.since(start))
    }

    /// \[string map\]: checked to its end; [`string_pairs`] iterates it.
    pub fn string_map(&mut self) -> Result<Span, Malformed> {
        let start = self.position();
        for _ in 0..self.short()? {
            self.string()?;
            self.string()?;
        }
        Ok(self.since(start))
    }

    /// \[string multimap\]: checked to its end; [`multimap_entries`] iterates it.
    pub fn string_multimap(&mut self) -> Result<Span, Malformed> {
        let start = self.position();
        for _ in 0..self.short()? {
            self.string()?;
            self.string_list()?;
        }
        Ok(self.since(start))
    }

    /// \[bytes map\]: checked to its end; [`bytes_pairs`] iterates it.
    pub fn bytes_map(&mut self) -> Result<Span, Malformed> {
        let start = self.position();
        for _ in 0..self.short()? {
            self.string()?;
            self.bytes()?;
        }
        Ok(self.since(start))
    }
}

/// The entries of a counted run that [`Cursor`] has checked; a run from elsewhere ends at its first bad entry.
fn entries<'a, T: 'a>(
    body: &'a [u8],
    span: Span,
    mut entry: impl FnMut(&mut Cursor<'a>) -> Result<T, Malformed> + 'a,
) -> impl Iterator<Item = T> + 'a {
    let mut cursor = Cursor::within(body, span);
    let count = cursor.short().unwrap_or(0);
    (0..count).map_while(move |_| entry(&mut cursor).ok())
}

/// The strings of a \[string list\].
pub fn strings(body: &[u8], list: Span) -> impl Iterator<Item = &[u8]> {
    entries(body, list, move |cursor| cursor.string().map(|text| text.of(body)))
}

/// The pairs of a \[string map\].
pub fn string_pairs(body: &[u8], map: Span) -> impl Iterator<Item = (&[u8], &[u8])> {
    entries(body, map, move |cursor| Ok((cursor.string()?.of(body), cursor.string()?.of(body))))
}

/// The keys of a \[string multimap\], each with its \[string list\].
pub fn multimap_entries(body: &[u8], map: Span) -> impl Iterator<Item = (&[u8], Span)> {
    entries(body, map, move |cursor| Ok((cursor.string()?.of(body), cursor.string_list()?)))
}

/// The pairs of a \[bytes map\]; `None` is null.
pub fn bytes_pairs(body: &[u8], map: Span) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
    entries(body, map, move |cursor| Ok((cursor.string()?.of(body), cursor.bytes()?.of(body))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_big_endian_and_bounded() {
        let mut cursor = Cursor::new(&[1, 0x12, 0x34, 0xff, 0xff, 0xff, 0xfe, 0, 0, 0, 0, 0, 0, 0, 9]);
        assert_eq!(cursor.byte(), Ok(1));
        assert_eq!(cursor.short(), Ok(0x1234));
        assert_eq!(cursor.int(), Ok(-2));
        assert_eq!(cursor.long(), Ok(9));
        assert_eq!(cursor.byte(), Err(Malformed::Truncated));
        assert_eq!(cursor.remaining(), 0);
    }

    #[test]
    fn values_differ_by_version() {
        for (length, v3, v4) in [
            (-1, Ok(Value::Null), Ok(Value::Null)),
            (-2, Ok(Value::Null), Ok(Value::NotSet)),
            (-3, Ok(Value::Null), Err(Malformed::NegativeLength)),
            (0, Ok(Value::Bytes(Span { start: 4, end: 4 })), Ok(Value::Bytes(Span { start: 4, end: 4 }))),
            (1, Err(Malformed::Truncated), Err(Malformed::Truncated)),
        ] {
            let bytes = i32::to_be_bytes(length);
            assert_eq!(Cursor::new(&bytes).value(Version::V3), v3, "{length}");
            assert_eq!(Cursor::new(&bytes).value(Version::V4), v4, "{length}");
        }
    }

    #[test]
    fn counts_must_fit() {
        assert_eq!(Cursor::new(&[0, 0, 0, 2, 9, 9]).count(1), Ok(2));
        assert_eq!(Cursor::new(&[0, 0, 0, 2, 9, 9]).count(2), Err(Malformed::ImpossibleCount));
        assert_eq!(Cursor::new(&[0x7f, 0xff, 0xff, 0xff]).count(usize::MAX), Err(Malformed::ImpossibleCount));
        assert_eq!(Cursor::new(&[0xff, 0xff, 0xff, 0xff]).count(1), Err(Malformed::NegativeLength));
    }

    #[test]
    fn addresses() {
        let mut cursor = Cursor::new(&[4, 127, 0, 0, 1, 0, 0, 0x23, 0x52]);
        assert_eq!(cursor.inet().map(|inet| inet.to_string()).as_deref(), Ok("127.0.0.1:9042"));
        assert_eq!(Cursor::new(&[5, 1, 2, 3, 4, 5]).inet_address(), Err(Malformed::BadAddress));
        assert_eq!(Cursor::new(&[4, 1, 2, 3, 4, 0, 1, 0, 0]).inet(), Err(Malformed::BadAddress));
    }

    #[test]
    fn a_foreign_span_reads_nothing() {
        assert_eq!(Span { start: 5, end: 9 }.of(b"abc"), b"");
        assert_eq!(Cursor::within(b"abc", Span { start: 5, end: 9 }).remaining(), 0);
        assert_eq!(strings(b"\0\x02\0\x01a\0\x09b", Span { start: 0, end: 8 }).collect::<Vec<_>>(), [b"a"]);
    }
}
