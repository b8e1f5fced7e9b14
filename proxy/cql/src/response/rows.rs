//! Rows: result metadata, and the rows behind it as ranges.

use super::Prefix;
use super::columns::{Columns, GLOBAL_TABLE};
use crate::envelope::{Header, Opcode};
use crate::error::Malformed;
use crate::read::{Cursor, Span, Value};
use crate::request::Change;
use crate::version::Dialect;
use crate::write;

const HAS_MORE_PAGES: u32 = 0x0002;
const NO_METADATA: u32 = 0x0004;
const METADATA_CHANGED: u32 = 0x0008;

/// Result metadata, located.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Metadata {
    /// The flags as they came.
    pub flags: u32,
    /// Number of values in a row, also when no column is described.
    pub column_count: u32,
    /// There are more pages: where they go on.
    pub paging_state: Option<Value>,
    /// The columns are others than the client knows: the new id.
    pub new_metadata_id: Option<Span>,
    /// The columns; none if the client asked to leave them out.
    pub columns: Columns,
    /// From the flags to the last column.
    pub span: Span,
}

impl Metadata {
    pub(super) fn locate(cursor: &mut Cursor<'_>, dialect: Dialect) -> Result<Self, Malformed> {
        let start = cursor.position();
        let flags = cursor.bits()?;
        let column_count = u32::try_from(cursor.int()?).map_err(|_| Malformed::NegativeLength)?;
        let paging_state = if flags & HAS_MORE_PAGES != 0 { Some(cursor.bytes()?) } else { None };
        let changed = flags & METADATA_CHANGED != 0 && dialect.metadata_ids;
        let new_metadata_id = if changed { Some(cursor.string()?) } else { None };
        let columns = if flags & NO_METADATA != 0 {
            Columns::default()
        } else {
            Columns::locate(cursor, flags, column_count)?
        };
        let span = cursor.since(start);
        Ok(Self { flags, column_count, paging_state, new_metadata_id, columns, span })
    }

    /// Whether columns were left out.
    pub const fn is_skipped(&self) -> bool {
        self.flags & NO_METADATA != 0
    }

    /// Writes a copy with the changes of `edit`; columns that are kept keep their bytes.
    pub fn rewrite(&self, body: &[u8], edit: &MetadataEdit<'_>, out: &mut Vec<u8>) {
        let state = match edit.paging_state {
            Change::Keep => self.paging_state.map(|state| state.of(body)),
            Change::Remove => None,
            Change::Set(state) => Some(Some(state)),
        };
        let id = edit.new_metadata_id.over(self.new_metadata_id.map(|id| id.of(body)));
        let skipped = edit.skip_columns || self.is_skipped();
        let mut flags = self.flags & !(HAS_MORE_PAGES | METADATA_CHANGED | NO_METADATA);
        flags |= if state.is_some() { HAS_MORE_PAGES } else { 0 };
        flags |= if id.is_some() { METADATA_CHANGED } else { 0 };
        if skipped {
            flags |= NO_METADATA;
        }
        // where the server left the columns out, its flags stay as they came: Cassandra 5.0.9 sets this one with no table
        if skipped && !self.is_skipped() {
            flags &= !GLOBAL_TABLE;
        }
        write::bits(out, flags);
        write::bits(out, self.column_count);
        if let Some(state) = state {
            write::nullable(out, state);
        }
        if let Some(id) = id {
            write::short_bytes(out, id);
        }
        if !skipped {
            out.extend_from_slice(self.columns.span.of(body));
        }
    }
}

/// Changes to result metadata; the default changes nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct MetadataEdit<'a> {
    /// Where to go on; `Remove` makes it the last page.
    pub paging_state: Change<&'a [u8]>,
    /// The id of changed columns; only for dialects that have it.
    pub new_metadata_id: Change<&'a [u8]>,
    /// Leave the columns out.
    pub skip_columns: bool,
}

/// A page of rows, located. Its cost does not depend on the number of rows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rows {
    /// What is in a row.
    pub metadata: Metadata,
    /// Number of rows in this page; never more than could be in its bytes.
    pub count: u32,
    /// The rows one after the other: pages of the same statement can be put together by their contents.
    /// Bytes behind the last row (which no server sends) are part of it.
    pub content: Span,
}

impl Rows {
    pub(super) fn locate(cursor: &mut Cursor<'_>, dialect: Dialect) -> Result<Self, Malformed> {
        let metadata = Metadata::locate(cursor, dialect)?;
        // A value has at least its length; a row without a value would be a count without bytes.
        let row_min = (metadata.column_count as usize).saturating_mul(4);
        let count = cursor.count(row_min.max(1))?;
        Ok(Self { metadata, count, content: cursor.rest() })
    }

    /// Number of rows of a RESULT whose end has not come, once its head is in `start`, the first bytes of its body; `None`
    /// before that, when it is no page of rows, or when so many rows cannot be in the body its header announces.
    pub fn count_ahead(header: &Header, start: &[u8]) -> Option<u32> {
        let prefix = Prefix::locate(header.version, header.flags, start).ok()?;
        let mut cursor = Cursor::within(start, prefix.message);
        if header.opcode != Opcode::Result || cursor.int().ok()? != super::result::ROWS {
            return None;
        }
        let metadata = Metadata::locate(&mut cursor, Dialect::of(header.version)).ok()?;
        let count = u32::try_from(cursor.int().ok()?).ok()?;
        let row_min = u64::from(metadata.column_count).saturating_mul(4).max(1);
        let room = u64::from(header.body_len.saturating_sub(cursor.position()));
        (u64::from(count).saturating_mul(row_min) <= room).then_some(count)
    }

    /// The rows in order, no allocation. Ends early if the bytes do.
    pub fn iter<'a>(&self, body: &'a [u8]) -> impl Iterator<Item = Row> + use<'a> {
        let mut cursor = Cursor::within(body, self.content);
        let columns = self.metadata.column_count;
        (0..self.count).map_while(move |_| {
            let start = cursor.position();
            for _ in 0..columns {
                cursor.bytes().ok()?;
            }
            Some(Row { span: cursor.since(start), columns })
        })
    }

    /// Writes the head of a Rows result (its kind, the metadata with the changes of `edit`, the number of rows); the
    /// contents of `count` rows follow.
    pub fn write_head(&self, body: &[u8], edit: &MetadataEdit<'_>, count: u32, out: &mut Vec<u8>) {
        write::int(out, super::result::ROWS);
        self.metadata.rewrite(body, edit, out);
        write::bits(out, count);
    }
}

/// One row.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Row {
    /// Its values with their lengths.
    pub span: Span,
    columns: u32,
}

impl Row {
    /// The values in the order of the columns.
    pub fn values<'a>(&self, body: &'a [u8]) -> impl Iterator<Item = Value> + use<'a> {
        let mut cursor = Cursor::within(body, self.span);
        (0..self.columns).map_while(move |_| cursor.bytes().ok())
    }
}
