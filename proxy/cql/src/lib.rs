//! The CQL native protocol as bytes: v3, v4 and v5, what clients send and what servers answer.
//!
//! What: readers that find where things are in a message, and writers for changed copies and for what weir answers
//! itself. No I/O, no clock, no buffer of its own: everything works on the caller's bytes. A message is a handful of
//! [`Span`]s; nothing is copied or allocated per value, key or row.
//!
//! Why not an existing crate: the ones there are copy bodies and panic on hostile bytes; they are the oracles of the
//! tests instead.
//!
//! The way of a request:
//! 1. after the handshake of a v5 connection, [`SegmentDecoder`] turns segments into the stream of envelopes;
//! 2. [`read_header`] finds the next envelope ([`Step`]): caps, unknown versions;
//! 3. [`Compression::decompress`], for a v3 or v4 body with [`Flags::COMPRESSED`];
//! 4. [`Request::locate`] finds the parts: text, statement id, [`Values`], page size, timestamp; [`list_count`] is the
//!    number of keys of an `IN ?`, [`BatchHead::read`] that of a batch, both O(1);
//! 5. [`patch_stream`] puts another stream id in place; `patch_*` and `rewrite` of [`Query`], [`Execute`] and [`Batch`]
//!    change the rest ([`ExecuteEdit`], [`ParameterEdit`], [`BatchEdit`]).
//!
//! The way of a response: the same up to the envelope, then [`Response::locate`]: its [`Prefix`] (tracing id, warnings,
//! custom payload) and [`ResultBody`], [`ErrorBody`] or [`Event`]. [`Rows`] are counted from their head and put together
//! from pages by [`Rows::write_head`] and their contents; [`Prepared`] tells bind markers and partition keys.
//!
//! What weir answers itself is in [`own`]; [`write_segments`] turns envelopes into segments, once per flush.
//!
//! Bounds: a body has at most [`EnvelopeLimits::body`] bytes ([`BODY_MAX`]), a segment [`segment::PAYLOAD_MAX`], a type
//! [`types::DEPTH_MAX`] levels; a count is believed only if what it counts can be in the bytes that are there. Lengths
//! are bytes unless named otherwise. No byte of network input can cause a panic; what cannot be read is [`Malformed`].
//!
//! [`Values`]: request::Values
//! [`Query`]: request::Query
//! [`Execute`]: request::Execute
//! [`Batch`]: request::Batch
//! [`list_count`]: request::list_count
//! [`ExecuteEdit`]: request::ExecuteEdit
//! [`ParameterEdit`]: request::ParameterEdit
//! [`BatchEdit`]: request::BatchEdit
//! [`BatchHead::read`]: request::BatchHead::read
//! [`Prefix`]: response::Prefix
//! [`ResultBody`]: response::ResultBody
//! [`ErrorBody`]: response::ErrorBody
//! [`Event`]: response::Event
//! [`Rows`]: response::Rows
//! [`Rows::write_head`]: response::Rows::write_head
//! [`Prepared`]: response::Prepared
#![forbid(unsafe_code)]

pub mod compress;
pub mod envelope;
pub mod error;
#[doc(hidden)]
pub mod invariants;
pub mod key;
pub mod own;
pub mod read;
pub mod request;
pub mod response;
pub mod segment;
pub mod statement;
pub mod types;
pub mod version;
pub mod write;

pub use compress::Compression;
pub use envelope::{
    BODY_MAX, EnvelopeLimits, Flags, HEADER_LEN, Header, Opcode, Side, Step, StreamId, patch_flags,
    patch_stream, read_header,
};
pub use error::Malformed;
pub use read::{Consistency, Cursor, Span, Value};
pub use request::Request;
pub use response::Response;
pub use segment::{SegmentDecoder, SegmentStep, write_part, write_segments};
pub use types::{CqlType, Native};
pub use version::{Dialect, Version};
