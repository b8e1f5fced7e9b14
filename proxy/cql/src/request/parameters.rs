//! The query parameters of QUERY and EXECUTE: where they are, and how a changed copy is written.

use super::values::{NewValue, Values};
use crate::error::Malformed;
use crate::read::{Consistency, Cursor, Span, Value};
use crate::version::{Dialect, Version};
use crate::write;

/// Flags of query parameters; a byte on the wire in v3 and v4, an \[int\] in v5.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, Default)]
pub struct QueryFlags(pub u32);

impl QueryFlags {
    /// Values follow.
    pub const VALUES: u32 = 0x0001;
    /// Leave the columns out of the answer.
    pub const SKIP_METADATA: u32 = 0x0002;
    /// A page size follows.
    pub const PAGE_SIZE: u32 = 0x0004;
    /// A paging state follows.
    pub const PAGING_STATE: u32 = 0x0008;
    /// A serial consistency follows.
    pub const SERIAL_CONSISTENCY: u32 = 0x0010;
    /// A default timestamp follows.
    pub const TIMESTAMP: u32 = 0x0020;
    /// Values have names.
    pub const NAMES: u32 = 0x0040;
    /// A keyspace follows (v5).
    pub const KEYSPACE: u32 = 0x0080;
    /// `now` in seconds follows (v5).
    pub const NOW_IN_SECONDS: u32 = 0x0100;

    /// Whether `flag` is set.
    #[inline]
    pub const fn has(self, flag: u32) -> bool {
        self.0 & flag != 0
    }

    /// Reads the flags. One that the version does not have is refused: Cassandra 5.0.9 takes the keyspace flag of v5
    /// in v4 too, and a field that weir does not see would be a way around its limits.
    pub(super) fn read(cursor: &mut Cursor<'_>, version: Version) -> Result<Self, Malformed> {
        let (bits, known) = match version {
            Version::V3 | Version::V4 => (u32::from(cursor.byte()?), 0x007F),
            Version::V5 => (cursor.bits()?, 0x01FF),
        };
        if bits & !known == 0 { Ok(Self(bits)) } else { Err(Malformed::UnknownFlag) }
    }

    pub(super) fn write(self, version: Version, out: &mut Vec<u8>) {
        if version >= Version::V5 {
            write::bits(out, self.0);
        } else {
            write::byte(out, self.0 as u8);
        }
    }

    /// Set when `present`, cleared otherwise.
    pub(super) const fn put(self, flag: u32, present: bool) -> Self {
        Self(if present { self.0 | flag } else { self.0 & !flag })
    }
}

/// Fields of an \[int\], \[long\] ... that lie where they lie.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Placed<T> {
    /// The value.
    pub value: T,
    /// Offset of its first byte in the body.
    pub at: u32,
}

/// Query parameters, located.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Parameters {
    /// Consistency of the request.
    pub consistency: Placed<Consistency>,
    /// What is there.
    pub flags: QueryFlags,
    /// The bound values.
    pub values: Values,
    /// Rows per page; servers take zero and less as "no paging".
    pub page_size: Option<Placed<i32>>,
    /// Where to go on. A null state counts as present.
    pub paging_state: Option<Value>,
    /// Of the conditional part.
    pub serial_consistency: Option<Placed<Consistency>>,
    /// Default timestamp, microseconds.
    pub timestamp: Option<Placed<i64>>,
    /// v5: the keyspace of unqualified names.
    pub keyspace: Option<Span>,
    /// v5: what servers take as the time, seconds.
    pub now_in_seconds: Option<Placed<i32>>,
    /// From the consistency to the last field.
    pub span: Span,
    version: Version,
}

impl Parameters {
    pub(super) fn locate(cursor: &mut Cursor<'_>, dialect: Dialect) -> Result<Self, Malformed> {
        let version = dialect.version;
        let start = cursor.position();
        let consistency = placed(cursor, Cursor::consistency)?;
        let flags = QueryFlags::read(cursor, version)?;
        let values = if flags.has(QueryFlags::VALUES) {
            Values::locate(cursor, flags.has(QueryFlags::NAMES), version)?
        } else {
            Values::none(cursor.position(), version)
        };
        let page_size = optional(cursor, flags, QueryFlags::PAGE_SIZE, |c| placed(c, Cursor::int))?;
        let paging_state = optional(cursor, flags, QueryFlags::PAGING_STATE, Cursor::bytes)?;
        let serial_consistency =
            optional(cursor, flags, QueryFlags::SERIAL_CONSISTENCY, |c| placed(c, Cursor::consistency))?;
        let timestamp = optional(cursor, flags, QueryFlags::TIMESTAMP, |c| placed(c, Cursor::long))?;
        let later = if version >= Version::V5 { flags } else { QueryFlags(0) };
        let keyspace = optional(cursor, later, QueryFlags::KEYSPACE, Cursor::string)?;
        let now_in_seconds = optional(cursor, later, QueryFlags::NOW_IN_SECONDS, |c| placed(c, Cursor::int))?;
        let span = cursor.since(start);
        Ok(Self {
            consistency,
            flags,
            values,
            page_size,
            paging_state,
            serial_consistency,
            timestamp,
            keyspace,
            now_in_seconds,
            span,
            version,
        })
    }

    /// Writes a copy with the changes of `edit`; fields that are kept keep their bytes.
    pub fn rewrite(&self, body: &[u8], edit: &ParameterEdit<'_>, out: &mut Vec<u8>) {
        let page_size = edit.page_size.over(self.page_size.map(|size| size.value));
        // A null paging state is written as it came.
        let state = edit.paging_state.over_with(self.paging_state.map(|state| state.of(body)), Some);
        let timestamp = edit.timestamp.over(self.timestamp.map(|timestamp| timestamp.value));
        let keyspace = match self.version {
            Version::V5 => edit.keyspace.over(self.keyspace.map(|keyspace| keyspace.of(body))),
            _ => None,
        };
        let mut flags = self
            .flags
            .put(QueryFlags::PAGE_SIZE, page_size.is_some())
            .put(QueryFlags::PAGING_STATE, state.is_some())
            .put(QueryFlags::TIMESTAMP, timestamp.is_some());
        if self.version >= Version::V5 {
            flags = flags.put(QueryFlags::KEYSPACE, keyspace.is_some());
        }
        if let Some(skip) = edit.skip_metadata {
            flags = flags.put(QueryFlags::SKIP_METADATA, skip);
        }
        write::consistency(out, edit.consistency.unwrap_or(self.consistency.value));
        flags.write(self.version, out);
        if flags.has(QueryFlags::VALUES) {
            self.values.rewrite(body, edit.value, out);
        }
        if let Some(size) = page_size {
            write::int(out, size);
        }
        if let Some(state) = state {
            write::nullable(out, state);
        }
        if let Some(consistency) = self.serial_consistency {
            write::consistency(out, consistency.value);
        }
        if let Some(timestamp) = timestamp {
            write::long(out, timestamp);
        }
        if let Some(keyspace) = keyspace {
            write::short_bytes(out, keyspace);
        }
        if let Some(now) = self.now_in_seconds {
            write::int(out, now.value);
        }
    }

    /// Writes another page size where one lies; false when there is none.
    pub fn patch_page_size(&self, body: &mut [u8], size: i32) -> bool {
        self.page_size.is_some_and(|place| patch(body, place.at, &size.to_be_bytes()))
    }

    /// Writes another default timestamp (microseconds) where one lies; false when there is none.
    pub fn patch_timestamp(&self, body: &mut [u8], micros: i64) -> bool {
        self.timestamp.is_some_and(|place| patch(body, place.at, &micros.to_be_bytes()))
    }

    /// Writes another consistency where it lies.
    pub fn patch_consistency(&self, body: &mut [u8], consistency: Consistency) -> bool {
        patch(body, self.consistency.at, &consistency.0.to_be_bytes())
    }

    /// The bytes of the parameters without the default timestamp, for keys of shared results: the parts before and
    /// after it (the flag stays in the first part). The whole and nothing when there is none.
    pub fn around_timestamp<'a>(&self, body: &'a [u8]) -> (&'a [u8], &'a [u8]) {
        match self.timestamp {
            Some(place) => (
                Span { start: self.span.start, end: place.at }.of(body),
                Span { start: place.at + 8, end: self.span.end }.of(body),
            ),
            None => (self.span.of(body), b""),
        }
    }
}

pub(super) fn patch(body: &mut [u8], at: u32, bytes: &[u8]) -> bool {
    let place = body.get_mut(at as usize..at as usize + bytes.len());
    place.map(|place| place.copy_from_slice(bytes)).is_some()
}

pub(super) fn placed<'a, T>(
    cursor: &mut Cursor<'a>,
    read: impl FnOnce(&mut Cursor<'a>) -> Result<T, Malformed>,
) -> Result<Placed<T>, Malformed> {
    let at = cursor.position();
    read(cursor).map(|value| Placed { value, at })
}

/// Reads a field when its flag is set.
pub(super) fn optional<'a, T>(
    cursor: &mut Cursor<'a>,
    flags: QueryFlags,
    flag: u32,
    read: impl FnOnce(&mut Cursor<'a>) -> Result<T, Malformed>,
) -> Result<Option<T>, Malformed> {
    if flags.has(flag) { read(cursor).map(Some) } else { Ok(None) }
}

/// What happens to an optional field.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Change<T> {
    /// As it is.
    #[default]
    Keep,
    /// Not there.
    Remove,
    /// There, with this value.
    Set(T),
}

impl<T> Change<T> {
    /// The field after the change.
    pub fn over(self, old: Option<T>) -> Option<T> {
        self.over_with(old, |value| value)
    }

    fn over_with<U>(self, old: Option<U>, new: impl FnOnce(T) -> U) -> Option<U> {
        match self {
            Change::Keep => old,
            Change::Remove => None,
            Change::Set(value) => Some(new(value)),
        }
    }
}

/// Changes to query parameters; the default changes nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ParameterEdit<'a> {
    /// Another consistency.
    pub consistency: Option<Consistency>,
    /// Another value at an index; an index that is not there changes nothing.
    pub value: Option<(u16, NewValue<'a>)>,
    /// Whether columns are left out of the answer.
    pub skip_metadata: Option<bool>,
    /// Rows per page.
    pub page_size: Change<i32>,
    /// Where to go on.
    pub paging_state: Change<&'a [u8]>,
    /// Default timestamp, microseconds.
    pub timestamp: Change<i64>,
    /// Keyspace of unqualified names; ignored before v5.
    pub keyspace: Change<&'a [u8]>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flag_of_another_version_is_refused() {
        for (version, flags, known) in [
            (Version::V3, vec![0x80], false),
            (Version::V4, vec![0x80], false),
            (Version::V4, vec![0x7F], true),
            (Version::V5, vec![0, 0, 1, 0xFF], true),
            (Version::V5, vec![0, 0, 2, 0], false),
        ] {
            let read = QueryFlags::read(&mut Cursor::new(&flags), version);
            assert_eq!(read.is_ok(), known, "{version:?} {flags:x?}");
            assert!(known || read == Err(Malformed::UnknownFlag));
        }
    }

    #[test]
    fn the_timestamp_is_left_out_of_the_key() {
        let dialect = Dialect::of(Version::V4);
        let mut body = vec![0, 1, 0x24, 0, 0, 0, 100];
        body.extend_from_slice(&7_i64.to_be_bytes());
        body.push(0xEE);
        let parameters = Parameters::locate(&mut Cursor::new(&body), dialect).expect("valid");
        assert_eq!(parameters.around_timestamp(&body), (&body[..7], &b""[..]));
        assert!(parameters.patch_timestamp(&mut body, 9));
        let again = Parameters::locate(&mut Cursor::new(&body), dialect).expect("valid");
        assert_eq!(again.timestamp.map(|timestamp| timestamp.value), Some(9));
        assert_eq!(again.around_timestamp(&body), parameters.around_timestamp(&body));
    }
}
