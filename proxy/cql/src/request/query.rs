//! QUERY: a statement as text.

use super::parameters::{ParameterEdit, Parameters};
use crate::error::Malformed;
use crate::read::{Cursor, Span};
use crate::version::Dialect;
use crate::write;

/// QUERY, located.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Query {
    /// The text; need not be UTF-8.
    pub text: Span,
    /// Everything behind it.
    pub parameters: Parameters,
    /// The message: the body without a custom payload.
    pub message: Span,
}

impl Query {
    pub(super) fn locate(body: &[u8], message: Span, dialect: Dialect) -> Result<Self, Malformed> {
        let mut cursor = Cursor::within(body, message);
        let text = cursor.long_string()?;
        let parameters = Parameters::locate(&mut cursor, dialect)?;
        Ok(Self { text, parameters, message })
    }

    /// Writes a copy of the body, custom payload included, with another text (where given) and other parameters.
    pub fn rewrite(&self, body: &[u8], text: Option<&[u8]>, edit: &ParameterEdit<'_>, out: &mut Vec<u8>) {
        out.extend_from_slice(before(body, self.message));
        write::bytes(out, text.unwrap_or(self.text.of(body)));
        self.parameters.rewrite(body, edit, out);
        out.extend_from_slice(after(self.message, self.parameters.span, body));
    }

    /// Writes the body of a QUERY of weir's own: no values, no paging.
    pub fn write(text: &str, consistency: crate::read::Consistency, dialect: Dialect, out: &mut Vec<u8>) {
        write::bytes(out, text.as_bytes());
        write::consistency(out, consistency);
        super::QueryFlags(0).write(dialect.version, out);
    }
}

/// What stands in front of the message: the custom payload.
pub(super) fn before(body: &[u8], message: Span) -> &[u8] {
    Span { start: 0, end: message.start }.of(body)
}

/// What stands behind the last field that is known.
pub(super) fn after(message: Span, last: Span, body: &[u8]) -> &[u8] {
    Span { start: last.end, end: message.end }.of(body)
}
