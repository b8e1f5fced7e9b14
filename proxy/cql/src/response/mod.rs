//! What servers answer: the parts that matter, located; and the same parts written.
//!
//! RESULT is located with [`Span`]s, because its rows are large and are passed on; the others are short and are read as
//! borrowed slices. Rows are counted from the head of the result: their bytes are not looked at.

pub mod columns;
pub mod error;
pub mod event;
pub mod prepared;
pub mod result;
pub mod rows;
pub mod tablet;

use crate::envelope::{Flags, Header, Opcode};
use crate::error::Malformed;
use crate::read::{Cursor, Span, Value, multimap_entries, strings};
use crate::version::{Dialect, Version};
use crate::write;

pub use columns::{Column, Columns, TableSpec};
pub use error::{Acks, ErrorBody, ErrorCode, ErrorDetail, Failures};
pub use event::{Event, SchemaChange, Target};
pub use prepared::{Prepared, PreparedEdit};
pub use result::ResultBody;
pub use rows::{Metadata, MetadataEdit, Row, Rows};
pub use tablet::{Tablet, TabletReplica, TabletTaken, take_tablet};

/// What flags put in front of the message of a response.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Prefix {
    /// Where the trace of the request is kept.
    pub tracing_id: Option<[u8; 16]>,
    /// Warnings: a \[string list\].
    pub warnings: Option<Span>,
    /// Custom payload: a \[bytes map\] (Scylla's tablets are told in it).
    pub payload: Option<Span>,
    /// The message behind them.
    pub message: Span,
}

impl Prefix {
    /// Steps over the prefix of a decompressed body.
    pub fn locate(version: Version, flags: Flags, body: &[u8]) -> Result<Self, Malformed> {
        let mut cursor = Cursor::new(body);
        let v4 = version >= Version::V4;
        let tracing_id = if flags.has(Flags::TRACING) { Some(cursor.uuid()?) } else { None };
        let warnings = if v4 && flags.has(Flags::WARNING) { Some(cursor.string_list()?) } else { None };
        let payload = if v4 && flags.has(Flags::CUSTOM_PAYLOAD) { Some(cursor.bytes_map()?) } else { None };
        Ok(Self { tracing_id, warnings, payload, message: cursor.rest() })
    }

    /// The warnings.
    pub fn warnings<'a>(&self, body: &'a [u8]) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        strings(body, self.warnings.unwrap_or_default())
    }
}

/// Writes a prefix and returns the flags that announce it; warnings and payload are left out before v4.
/// `payload` is a whole \[bytes map\]. Warnings beyond 65,535 are left out.
pub fn write_prefix<'a>(
    out: &mut Vec<u8>,
    version: Version,
    tracing_id: Option<[u8; 16]>,
    warnings: impl IntoIterator<Item = &'a [u8]>,
    payload: Option<&[u8]>,
) -> Flags {
    let mut flags = Flags::default();
    if let Some(id) = tracing_id {
        flags = flags.with(Flags::TRACING);
        out.extend_from_slice(&id);
    }
    if version < Version::V4 {
        return flags;
    }
    let start = out.len();
    let mut count = write::ShortCount::open(out);
    for warning in warnings {
        if !count.one_more() {
            break;
        }
        write::short_bytes(out, warning);
    }
    match count.close(out) {
        0 => out.truncate(start),
        _ => flags = flags.with(Flags::WARNING),
    }
    if let Some(payload) = payload {
        flags = flags.with(Flags::CUSTOM_PAYLOAD);
        out.extend_from_slice(payload);
    }
    flags
}

/// A response.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Response<'a> {
    /// ERROR
    Error(ErrorBody<'a>),
    /// READY
    Ready,
    /// AUTHENTICATE: the class name of the authenticator.
    Authenticate(&'a [u8]),
    /// SUPPORTED: a \[string multimap\]; [`supported`] iterates it.
    Supported(Span),
    /// RESULT
    Result(ResultBody),
    /// EVENT
    Event(Event<'a>),
    /// AUTH_CHALLENGE: the token.
    AuthChallenge(Option<&'a [u8]>),
    /// AUTH_SUCCESS: the token.
    AuthSuccess(Option<&'a [u8]>),
}

impl<'a> Response<'a> {
    /// Reads the decompressed body of an envelope with `header`. Bytes after the message are ignored.
    pub fn locate(header: &Header, body: &'a [u8], dialect: Dialect) -> Result<(Prefix, Self), Malformed> {
        let prefix = Prefix::locate(header.version, header.flags, body)?;
        let mut cursor = Cursor::within(body, prefix.message);
        let token = |value: Value| value.of(body);
        let response = match header.opcode {
            Opcode::Error => Response::Error(ErrorBody::read(body, &mut cursor, header.version)?),
            Opcode::Ready => Response::Ready,
            Opcode::Authenticate => Response::Authenticate(cursor.string()?.of(body)),
            Opcode::Supported => Response::Supported(cursor.string_multimap()?),
            Opcode::Result => Response::Result(ResultBody::locate(&mut cursor, dialect)?),
            Opcode::Event => Response::Event(Event::read(body, &mut cursor)?),
            Opcode::AuthChallenge => Response::AuthChallenge(token(cursor.bytes()?)),
            Opcode::AuthSuccess => Response::AuthSuccess(token(cursor.bytes()?)),
            _ => return Err(Malformed::UnknownOpcode),
        };
        Ok((prefix, response))
    }
}

/// The options of SUPPORTED, each with its values.
pub fn supported(body: &[u8], options: Span) -> impl Iterator<Item = (&[u8], impl Iterator<Item = &[u8]>)> {
    multimap_entries(body, options).map(move |(name, values)| (name, strings(body, values)))
}
