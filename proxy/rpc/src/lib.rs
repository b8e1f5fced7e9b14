//! gRPC, gRPC-web, Connect and JSON over HTTP as bytes: how many keys a request asks for, how many rows a reply has, and a
//! large request cut into parts.
//!
//! No I/O, no clock. Bodies are read as they arrive, in pieces of any size, and nothing is allocated by the lengths in
//! them; no byte of network input can cause a panic.
//!
//! Once, from the configuration: [`Schema`] compiles .proto files, [`table::parse`] reads entries, [`Table::check`] holds
//! one against the other and reports every problem.
//!
//! The way of a call:
//! 1. [`Table::find`] by path, [`ContentType::parse`], [`headers::parse_grpc_timeout`];
//! 2. [`Counter`] counts the keys of the request while its body arrives ([`framing`], then [`scan`] or [`json`]; the query
//!    of a URL: [`query`]; the message in it of a Connect GET: [`connect_get`]), so that a limit is held against them before any work starts; a [`Refusal`] answers in the
//!    client's protocol;
//! 3. [`AnyCut`] cuts a request of many keys into parts, [`AnyMerge`] puts their replies together;
//! 4. [`Counter`] counts the rows of the reply: a small request may have a large answer. [`status`] says how it ended.
//!
//! Bounds: a message has at most the bytes that the caller allows, checked before they are kept; a plan counts at most
//! [`scan::COUNTS_MAX`] fields [`scan::DEPTH_MAX`] messages deep; JSON is at most [`json::DEPTH_MAX`] levels deep.
#![forbid(unsafe_code)]

pub mod connect_get;
pub mod content;
pub mod count;
pub mod error;
pub mod framing;
pub mod headers;
#[doc(hidden)]
pub mod invariants;
pub mod json;
pub mod query;
pub mod refusal;
pub mod scan;
pub mod schema;
pub mod split;
pub mod status;
pub mod table;
pub mod wire;

pub use content::{Codec, ContentType, Wire};
pub use count::{Blind, CountError, Counted, Counter, Direction};
pub use error::Malformed;
pub use refusal::Refusal;
pub use scan::{Counts, Scan, ScanPlan};
pub use schema::{ProtoFile, Schema};
pub use split::{AnyCut, AnyMerge, Cut, CutLimits, Merge, MergeError, NoSplit, SplitPlan};
pub use status::Code;
pub use table::{Method, Problem, Table};
