//! Every decision of the data path, with no socket, no clock and no randomness of its own: bytes and `now` go in, bytes
//! for sockets come out of [`OutBuffer`]s. One [`Engine`] is one worker's state; nothing in it is locked.
//!
//! The modules in the order a request meets them:
//! `client` (a connection and what it asked) -> `intake` (bytes to requests) -> `admit` (limits) -> `issue` (requests to
//! commands) -> `split` (big multigets) -> `route` (which server) -> `queue` (whose turn) -> `multiplex` (few
//! connections) -> `gather` (answers back) -> `settle` and `ledger` (what it cost).
//! Around them: `lifecycle` (turns, time-outs), `readers` (who does not read), `lanes` (connections come and go),
//! `reload` (new settings), `naming` (names that arrive after the first requests), `waiting` (what waits, per server and
//! caller), `correlate` (what one request of a service came to on every leg). `cql` is the same for the Cassandra native
//! protocol, `rpc` for calls between services.

pub mod admit;
pub mod buffer;
pub mod caller;
mod callers;
mod client;
pub mod correlate;
pub mod cql;
mod engine;
pub mod error;
mod flush;
mod gather;
mod intake;
mod invalid;
mod invariants;
mod issue;
mod lanes;
pub mod ledger;
mod lifecycle;
mod multiplex;
mod naming;
pub mod queue;
mod readers;
mod reload;
mod retry_budget;
pub mod route;
pub mod rpc;
pub mod settings;
mod settle;
mod snapshot;
mod split;
mod stats;
pub mod units;
mod waiting;

pub use buffer::OutBuffer;
pub use client::{ClientSummary, CloseHow};
pub use engine::Engine;
pub use flush::{FLUSHES_MAX, FlushJob};
pub use multiplex::{CutCause, Desync, LaneInfo, LaneState};
pub use naming::NamingCounts;
pub use snapshot::{CallerSnapshot, EngineSnapshot, LaneSnapshot, ServerPlace, ServerSnapshot};
