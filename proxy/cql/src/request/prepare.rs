//! PREPARE: a statement to be executed later.

use super::parameters::{QueryFlags, optional};
use crate::error::Malformed;
use crate::read::{Cursor, Span};
use crate::version::{Dialect, Version};
use crate::write;

/// v5: a keyspace follows.
const WITH_KEYSPACE: u32 = 0x01;

/// PREPARE, located.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Prepare {
    /// The text; need not be UTF-8.
    pub text: Span,
    /// v5: the keyspace of unqualified names.
    pub keyspace: Option<Span>,
    /// The message: the body without a custom payload.
    pub message: Span,
}

impl Prepare {
    pub(super) fn locate(body: &[u8], message: Span, dialect: Dialect) -> Result<Self, Malformed> {
        let mut cursor = Cursor::within(body, message);
        let text = cursor.long_string()?;
        let mut keyspace = None;
        if dialect.version >= Version::V5 {
            let flags = QueryFlags(cursor.bits()?);
            if flags.0 & !WITH_KEYSPACE != 0 {
                return Err(Malformed::UnknownFlag);
            }
            keyspace = optional(&mut cursor, flags, WITH_KEYSPACE, Cursor::string)?;
        }
        Ok(Self { text, keyspace, message })
    }

    /// Writes the body of a PREPARE of weir's own; `keyspace` is left out before v5.
    pub fn write(text: &[u8], keyspace: Option<&[u8]>, dialect: Dialect, out: &mut Vec<u8>) {
        write::bytes(out, text);
        if dialect.version >= Version::V5 {
            write::bits(out, if keyspace.is_some() { WITH_KEYSPACE } else { 0 });
            if let Some(keyspace) = keyspace {
                write::short_bytes(out, keyspace);
            }
        }
    }
}
