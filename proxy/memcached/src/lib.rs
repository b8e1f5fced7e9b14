//! The memcached protocol as bytes: classic text, meta, and a correct refusal of binary.
//!
//! What: an incremental decoder for what clients send ([`RequestDecoder`]) and a stateless reader of what servers
//! answer ([`parse_reply`]). No I/O, no clock, no buffer of its own: every type borrows the caller's bytes.
//!
//! Why a strict reader: one upstream connection is shared by many clients, so a line that weir and the server read
//! differently would shift every later answer to the wrong client. weir therefore forwards only lines whose meaning is
//! certain for every memcached 1.6, and answers the others itself in memcached's own words. [`decode`] lists where it
//! is stricter than memcached.
//!
//! Bounds: a key is at most [`KEY_MAX`] bytes, a line and a value at most [`DecodeLimits`], a reply line at most
//! [`REPLY_LINE_MAX`]. Lengths are bytes unless named otherwise. No byte of network input can cause a panic.
//!
//! The way of a command: [`decode`] (where does it end?) -> `line` (which command?) -> [`keys`] or [`meta`]
//! (its arguments) -> [`request`] (what the engine gets), or [`rejection`] (what the client gets).
//! [`correlation`] finds the id of the request that a command is a part of.
#![forbid(unsafe_code)]

pub mod binary;
pub mod correlation;
pub mod decode;
#[doc(hidden)]
pub mod invariants;
pub mod keys;
mod line;
pub mod meta;
mod number;
pub mod rejection;
pub mod reply;
pub mod request;
pub mod text;
pub mod verb;

pub use binary::BINARY_REFUSAL_LEN;
pub use decode::{COMMAND_LINE_MAX, DecodeLimits, FORWARD_LINE_MAX, RequestDecoder, Step};
pub use keys::{KEY_MAX, Keys, next_key, split_keys};
pub use meta::{Meta, quiet_hides};
pub use rejection::{Cause, Rejection, StaleKey};
pub use reply::{LineKind, REPLY_LINE_MAX, ReplyHead, parse_reply};
pub use request::{Mutate, Request, Retrieve, Store};
pub use verb::Verb;
