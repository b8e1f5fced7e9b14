//! Prepared: what PREPARE is answered with.

use super::columns::Columns;
use super::rows::Metadata;
use crate::error::Malformed;
use crate::read::{Cursor, Span};
use crate::request::Change;
use crate::version::{Dialect, Version};
use crate::write;

/// A prepared statement, located.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Prepared {
    /// Its id.
    pub id: Span,
    /// The id of its result columns, where the dialect has it.
    pub result_metadata_id: Option<Span>,
    /// The flags of the bind markers as they came; Scylla marks conditional statements in them.
    pub flags: u32,
    /// For each partition key column, in order, a \[short\]: the index of its bind marker. Empty when one has none, when
    /// it is `key IN ?` (then a marker is named `in(key)`), and before v4. [`Prepared::key_indices`] iterates it.
    pub key_indices: Span,
    /// The bind markers.
    pub markers: Columns,
    /// The columns of its result.
    pub result: Metadata,
    /// From the bind markers' flags to the end.
    rest: Span,
}

impl Prepared {
    pub(super) fn locate(cursor: &mut Cursor<'_>, dialect: Dialect) -> Result<Self, Malformed> {
        let id = cursor.string()?;
        let result_metadata_id = if dialect.metadata_ids { Some(cursor.string()?) } else { None };
        let start = cursor.position();
        let flags = cursor.bits()?;
        let count = u32::try_from(cursor.int()?).map_err(|_| Malformed::NegativeLength)?;
        let mut key_indices = cursor.since(cursor.position());
        if dialect.version >= Version::V4 {
            let keys = cursor.count(2)?;
            key_indices = cursor.take(keys as usize * 2)?;
        }
        let markers = Columns::locate(cursor, flags, count)?;
        let result = Metadata::locate(cursor, dialect)?;
        Ok(Self { id, result_metadata_id, flags, key_indices, markers, result, rest: cursor.since(start) })
    }

    /// The index of the bind marker of each partition key column.
    pub fn key_indices<'a>(&self, body: &'a [u8]) -> impl Iterator<Item = u16> + use<'a> {
        self.key_indices.of(body).chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]]))
    }

    /// Writes a Prepared result (its kind first) with the changes of `edit`.
    pub fn rewrite(&self, body: &[u8], edit: &PreparedEdit<'_>, out: &mut Vec<u8>) {
        write::int(out, super::result::PREPARED);
        write::short_bytes(out, edit.id.unwrap_or(self.id.of(body)));
        let metadata_id = self.result_metadata_id.map(|id| id.of(body));
        if let Some(id) = edit.result_metadata_id.over(metadata_id) {
            write::short_bytes(out, id);
        }
        out.extend_from_slice(self.rest.of(body));
    }
}

/// Changes to a Prepared result; the default changes nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PreparedEdit<'a> {
    /// Another statement id.
    pub id: Option<&'a [u8]>,
    /// Another result metadata id: `Set` and `Remove` also move a message from one dialect to another.
    pub result_metadata_id: Change<&'a [u8]>,
}
