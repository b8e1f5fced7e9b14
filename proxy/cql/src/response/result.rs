//! RESULT: its five kinds.

use super::event::SchemaChange;
use super::prepared::Prepared;
use super::rows::Rows;
use crate::error::Malformed;
use crate::read::{Cursor, Span};
use crate::version::Dialect;

pub(crate) const VOID: i32 = 1;
pub(crate) const ROWS: i32 = 2;
pub(crate) const SET_KEYSPACE: i32 = 3;
pub(crate) const PREPARED: i32 = 4;
pub(crate) const SCHEMA_CHANGE: i32 = 5;

/// RESULT, located.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ResultBody {
    /// Done, nothing to say.
    Void,
    /// A page of rows.
    Rows(Rows),
    /// USE: the name of the keyspace.
    SetKeyspace(Span),
    /// The answer to PREPARE.
    Prepared(Prepared),
    /// The schema has changed; [`ResultBody::schema_change`] reads it.
    SchemaChange(Span),
}

impl ResultBody {
    /// Steps over the kind and the head of what follows.
    pub fn locate(cursor: &mut Cursor<'_>, dialect: Dialect) -> Result<Self, Malformed> {
        Ok(match cursor.int()? {
            VOID => ResultBody::Void,
            ROWS => ResultBody::Rows(Rows::locate(cursor, dialect)?),
            SET_KEYSPACE => ResultBody::SetKeyspace(cursor.string()?),
            PREPARED => ResultBody::Prepared(Prepared::locate(cursor, dialect)?),
            SCHEMA_CHANGE => ResultBody::SchemaChange(cursor.rest()),
            _ => return Err(Malformed::UnknownKind),
        })
    }

    /// What has changed, where this is a schema change.
    pub fn schema_change(self, body: &[u8]) -> Option<Result<SchemaChange<'_>, Malformed>> {
        match self {
            ResultBody::SchemaChange(span) => Some(SchemaChange::read(body, &mut Cursor::within(body, span))),
            _ => None,
        }
    }
}
