//! What clients send, located: each message is a handful of numbers and [`Span`]s into its body.
//!
//! Nothing is copied. A message with one list of 20,000 keys costs as much as one with a single key; a message with
//! 20,000 values costs one step over 20,000 lengths. `rewrite` functions write a changed copy; `patch` functions change
//! a field of fixed width where it lies.

pub mod batch;
pub mod execute;
pub mod handshake;
pub mod id;
pub mod mark;
pub mod parameters;
pub mod prepare;
pub mod query;
pub mod values;

use crate::envelope::{Flags, Header, Opcode};
use crate::error::Malformed;
use crate::read::{Cursor, Span};
use crate::version::{Dialect, Version};

pub use batch::{Batch, BatchEdit, BatchHead, BatchKind, BatchPart, BatchStatement};
pub use execute::{Execute, ExecuteEdit};
pub use handshake::{AuthResponse, Register, Startup};
pub use id::{IdTaken, REQUEST_ID, take_request_id};
pub use mark::RequestMark;
pub use parameters::{Change, ParameterEdit, Parameters, Placed, QueryFlags};
pub use prepare::Prepare;
pub use query::Query;
pub use values::{ListElements, ListValue, NewValue, Values, list_count, list_elements};

/// A request. Spans are relative to the (decompressed) body of its envelope.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Request {
    /// STARTUP
    Startup(Startup),
    /// OPTIONS: the body is empty; bytes in it are ignored, as the specification asks.
    Options,
    /// QUERY
    Query(Query),
    /// PREPARE
    Prepare(Prepare),
    /// EXECUTE
    Execute(Execute),
    /// BATCH
    Batch(Batch),
    /// REGISTER
    Register(Register),
    /// AUTH_RESPONSE
    AuthResponse(AuthResponse),
}

impl Request {
    /// Locates what is in `body`, the decompressed body of an envelope with `header`. Bytes after the message are
    /// ignored; `rewrite` functions keep them.
    pub fn locate(header: &Header, body: &[u8], dialect: Dialect) -> Result<Self, Malformed> {
        let message = skip_payload(header.version, header.opcode, header.flags, body)?.1;
        Ok(match header.opcode {
            Opcode::Startup => Request::Startup(Startup::locate(body, message)?),
            Opcode::Options => Request::Options,
            Opcode::Query => Request::Query(Query::locate(body, message, dialect)?),
            Opcode::Prepare => Request::Prepare(Prepare::locate(body, message, dialect)?),
            Opcode::Execute => Request::Execute(Execute::locate(body, message, dialect)?),
            Opcode::Batch => Request::Batch(Batch::locate(body, message, dialect)?),
            Opcode::Register => Request::Register(Register::locate(body, message)?),
            Opcode::AuthResponse => Request::AuthResponse(AuthResponse::locate(body, message)?),
            _ => return Err(Malformed::UnknownOpcode),
        })
    }
}

/// The custom payload in front of a request (a \[bytes map\], where there is one), and the message behind it.
pub fn skip_payload(
    version: Version,
    opcode: Opcode,
    flags: Flags,
    body: &[u8],
) -> Result<(Option<Span>, Span), Malformed> {
    let mut cursor = Cursor::new(body);
    let carries = matches!(opcode, Opcode::Query | Opcode::Prepare | Opcode::Execute | Opcode::Batch);
    let payload = if carries && version >= Version::V4 && flags.has(Flags::CUSTOM_PAYLOAD) {
        Some(cursor.bytes_map()?)
    } else {
        None
    };
    Ok((payload, cursor.rest()))
}
