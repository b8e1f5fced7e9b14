//! BATCH: several modifications in one request.

use super::parameters::{Change, Placed, QueryFlags, optional, patch, placed};
use super::query::{after, before};
use super::values::Values;
use crate::error::Malformed;
use crate::read::{Consistency, Cursor, Span};
use crate::version::{Dialect, Version};
use crate::write;

/// The type of a batch.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum BatchKind {
    /// All or nothing, through the batch log.
    Logged = 0,
    /// Each partition for itself.
    Unlogged = 1,
    /// Counters.
    Counter = 2,
}

/// Type and count: the first three bytes, O(1).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BatchHead {
    /// The type.
    pub kind: BatchKind,
    /// Number of statements.
    pub count: u16,
}

impl BatchHead {
    /// Reads the head of a message (see [`super::skip_payload`]).
    pub fn read(body: &[u8], message: Span) -> Result<Self, Malformed> {
        Self::next(&mut Cursor::within(body, message))
    }

    fn next(cursor: &mut Cursor<'_>) -> Result<Self, Malformed> {
        let kind = match cursor.byte()? {
            0 => BatchKind::Logged,
            1 => BatchKind::Unlogged,
            2 => BatchKind::Counter,
            _ => return Err(Malformed::UnknownKind),
        };
        Ok(Self { kind, count: cursor.short()? })
    }
}

/// BATCH, located: one step per statement and value, no allocation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Batch {
    /// Type and count.
    pub head: BatchHead,
    /// The statements one after the other; [`Batch::statements`] iterates them.
    pub statements: Span,
    /// Consistency of the request.
    pub consistency: Placed<Consistency>,
    /// What is there.
    pub flags: QueryFlags,
    /// Of the conditional part.
    pub serial_consistency: Option<Placed<Consistency>>,
    /// Default timestamp, microseconds.
    pub timestamp: Option<Placed<i64>>,
    /// v5: the keyspace of unqualified names.
    pub keyspace: Option<Span>,
    /// v5: what servers take as the time, seconds.
    pub now_in_seconds: Option<Placed<i32>>,
    /// From the type to the last field.
    pub span: Span,
    /// The message: the body without a custom payload.
    pub message: Span,
    version: Version,
}

/// One statement of a batch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BatchStatement {
    /// `source` is a statement id, not a text.
    pub prepared: bool,
    /// The id or the text.
    pub source: Span,
    /// The bound values.
    pub values: Values,
    /// The whole statement in the body.
    pub span: Span,
}

impl Batch {
    pub(super) fn locate(body: &[u8], message: Span, dialect: Dialect) -> Result<Self, Malformed> {
        let version = dialect.version;
        let mut cursor = Cursor::within(body, message);
        let head = BatchHead::next(&mut cursor)?;
        let start = cursor.position();
        for _ in 0..head.count {
            BatchStatement::next(&mut cursor, version)?;
        }
        let statements = cursor.since(start);
        let consistency = placed(&mut cursor, Cursor::consistency)?;
        let flags = QueryFlags::read(&mut cursor, version)?;
        if flags.has(QueryFlags::NAMES) {
            // The flag comes after the names it announces: servers refuse it too (CASSANDRA-10246).
            return Err(Malformed::UnknownKind);
        }
        let serial_consistency =
            optional(&mut cursor, flags, QueryFlags::SERIAL_CONSISTENCY, |c| placed(c, Cursor::consistency))?;
        let timestamp = optional(&mut cursor, flags, QueryFlags::TIMESTAMP, |c| placed(c, Cursor::long))?;
        let later = if version >= Version::V5 { flags } else { QueryFlags(0) };
        let keyspace = optional(&mut cursor, later, QueryFlags::KEYSPACE, Cursor::string)?;
        let now_in_seconds =
            optional(&mut cursor, later, QueryFlags::NOW_IN_SECONDS, |c| placed(c, Cursor::int))?;
        let span = cursor.since(message.start);
        Ok(Self {
            head,
            statements,
            consistency,
            flags,
            serial_consistency,
            timestamp,
            keyspace,
            now_in_seconds,
            span,
            message,
            version,
        })
    }

    /// The statements in order. O(n), no allocation.
    pub fn statements<'a>(&self, body: &'a [u8]) -> impl Iterator<Item = BatchStatement> + use<'a> {
        let mut cursor = Cursor::within(body, self.statements);
        let version = self.version;
        (0..self.head.count).map_while(move |_| BatchStatement::next(&mut cursor, version).ok())
    }

    /// Writes a copy of the body, custom payload included, with `parts` as its statements (at most 65,535 of them)
    /// and the changes of `edit`. Returns the number of statements written.
    pub fn rewrite<'p>(
        &self,
        body: &[u8],
        parts: impl IntoIterator<Item = BatchPart<'p>>,
        edit: &BatchEdit<'_>,
        out: &mut Vec<u8>,
    ) -> u16 {
        out.extend_from_slice(before(body, self.message));
        write::byte(out, self.head.kind as u8);
        let mut count = write::ShortCount::open(out);
        for part in parts {
            if !count.one_more() {
                break;
            }
            part.write(body, out);
        }
        let count = count.close(out);
        let timestamp = edit.timestamp.over(self.timestamp.map(|timestamp| timestamp.value));
        let keyspace = match self.version {
            Version::V5 => edit.keyspace.over(self.keyspace.map(|keyspace| keyspace.of(body))),
            _ => None,
        };
        let mut flags = self.flags.put(QueryFlags::TIMESTAMP, timestamp.is_some());
        if self.version >= Version::V5 {
            flags = flags.put(QueryFlags::KEYSPACE, keyspace.is_some());
        }
        write::consistency(out, self.consistency.value);
        flags.write(self.version, out);
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
        out.extend_from_slice(after(self.message, self.span, body));
        count
    }

    /// Writes another default timestamp (microseconds) where one lies; false when there is none.
    pub fn patch_timestamp(&self, body: &mut [u8], micros: i64) -> bool {
        self.timestamp.is_some_and(|place| patch(body, place.at, &micros.to_be_bytes()))
    }
}

impl BatchStatement {
    fn next(cursor: &mut Cursor<'_>, version: Version) -> Result<Self, Malformed> {
        let start = cursor.position();
        let (prepared, source) = match cursor.byte()? {
            0 => (false, cursor.long_string()?),
            1 => (true, cursor.string()?),
            _ => return Err(Malformed::UnknownKind),
        };
        let values = Values::locate(cursor, false, version)?;
        Ok(Self { prepared, source, values, span: cursor.since(start) })
    }
}

/// A statement of a rewritten batch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BatchPart<'a> {
    /// A statement of the batch that is rewritten.
    pub statement: BatchStatement,
    /// Another statement id; ignored for a text.
    pub id: Option<&'a [u8]>,
}

impl BatchPart<'_> {
    fn write(&self, body: &[u8], out: &mut Vec<u8>) {
        let BatchStatement { source, span, .. } = self.statement;
        match self.id.filter(|_| self.statement.prepared) {
            Some(id) => {
                write::byte(out, 1);
                write::short_bytes(out, id);
                out.extend_from_slice(Span { start: source.end, end: span.end }.of(body));
            }
            None => out.extend_from_slice(span.of(body)),
        }
    }
}

/// Changes to a batch; the default changes nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct BatchEdit<'a> {
    /// Default timestamp, microseconds: chunks of one batch must carry the same.
    pub timestamp: Change<i64>,
    /// Keyspace of unqualified names; ignored before v5.
    pub keyspace: Change<&'a [u8]>,
}
