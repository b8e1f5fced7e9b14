//! Column specifications: what result metadata and the bind markers of PREPARED share.

use crate::error::Malformed;
use crate::read::{Cursor, Span};
use crate::types;

/// Metadata flag: one table for all columns.
pub(crate) const GLOBAL_TABLE: u32 = 0x0001;

/// Bytes of the shortest column: an empty name and a type.
const COLUMN_MIN: usize = 4;

/// Keyspace and table of columns.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TableSpec {
    /// The keyspace.
    pub keyspace: Span,
    /// The table.
    pub table: Span,
}

impl TableSpec {
    fn next(cursor: &mut Cursor<'_>) -> Result<Self, Malformed> {
        Ok(Self { keyspace: cursor.string()?, table: cursor.string()? })
    }
}

/// One column of a result, or one bind marker.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Column {
    /// Where it is from.
    pub table: TableSpec,
    /// Its name; the marker of `pk IN ?` is named `in(pk)`.
    pub name: Span,
    /// Its type, for [`crate::types::CqlType::at`].
    pub kind: Span,
}

/// Columns that were walked over once.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Columns {
    /// How many are described.
    pub count: u32,
    /// Where all are from, if they share it.
    pub global: Option<TableSpec>,
    /// The global table (where there is one) and the columns.
    pub span: Span,
    /// The columns.
    each: Span,
}

impl Columns {
    pub(super) fn locate(cursor: &mut Cursor<'_>, flags: u32, count: u32) -> Result<Self, Malformed> {
        let start = cursor.position();
        let global = if flags & GLOBAL_TABLE != 0 { Some(TableSpec::next(cursor)?) } else { None };
        if (count as usize).saturating_mul(COLUMN_MIN) > cursor.remaining() {
            return Err(Malformed::ImpossibleCount);
        }
        let first = cursor.position();
        for _ in 0..count {
            Column::next(cursor, global)?;
        }
        Ok(Self { count, global, span: cursor.since(start), each: cursor.since(first) })
    }

    /// The columns in order. O(n), no allocation.
    pub fn iter<'a>(&self, body: &'a [u8]) -> impl Iterator<Item = Column> + use<'a> {
        let mut cursor = Cursor::within(body, self.each);
        let global = self.global;
        (0..self.count).map_while(move |_| Column::next(&mut cursor, global).ok())
    }
}

impl Column {
    fn next(cursor: &mut Cursor<'_>, global: Option<TableSpec>) -> Result<Self, Malformed> {
        let table = match global {
            Some(table) => table,
            None => TableSpec::next(cursor)?,
        };
        Ok(Self { table, name: cursor.string()?, kind: types::skip(cursor)? })
    }
}
