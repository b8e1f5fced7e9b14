//! EXECUTE: a prepared statement with its values.

use super::parameters::{Change, ParameterEdit, Parameters, patch};
use super::query::{after, before};
use crate::error::Malformed;
use crate::read::{Cursor, Span};
use crate::version::Dialect;
use crate::write;

/// EXECUTE, located.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Execute {
    /// The id of the statement.
    pub id: Span,
    /// Which result columns the client knows, where the dialect has it.
    pub result_metadata_id: Option<Span>,
    /// Everything behind them.
    pub parameters: Parameters,
    /// The message: the body without a custom payload.
    pub message: Span,
}

/// Changes to an EXECUTE; the default changes nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ExecuteEdit<'a> {
    /// Another statement id.
    pub id: Option<&'a [u8]>,
    /// Another result metadata id: `Set` and `Remove` also move a message from one dialect to another.
    pub result_metadata_id: Change<&'a [u8]>,
    /// Other parameters.
    pub parameters: ParameterEdit<'a>,
}

impl Execute {
    pub(super) fn locate(body: &[u8], message: Span, dialect: Dialect) -> Result<Self, Malformed> {
        let mut cursor = Cursor::within(body, message);
        let id = cursor.string()?;
        let result_metadata_id = if dialect.metadata_ids { Some(cursor.string()?) } else { None };
        let parameters = Parameters::locate(&mut cursor, dialect)?;
        Ok(Self { id, result_metadata_id, parameters, message })
    }

    /// Writes a copy of the body, custom payload included, with the changes of `edit`.
    pub fn rewrite(&self, body: &[u8], edit: &ExecuteEdit<'_>, out: &mut Vec<u8>) {
        out.extend_from_slice(before(body, self.message));
        write::short_bytes(out, edit.id.unwrap_or(self.id.of(body)));
        let metadata_id = self.result_metadata_id.map(|id| id.of(body));
        if let Some(id) = edit.result_metadata_id.over(metadata_id) {
            write::short_bytes(out, id);
        }
        self.parameters.rewrite(body, &edit.parameters, out);
        out.extend_from_slice(after(self.message, self.parameters.span, body));
    }

    /// Writes another statement id of the same length where it lies; false when the lengths differ.
    pub fn patch_id(&self, body: &mut [u8], id: &[u8]) -> bool {
        id.len() == self.id.len() && patch(body, self.id.start, id)
    }
}
