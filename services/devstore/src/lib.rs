//! An honest little memcached in memory, so that weir can be tried with no server installed.
//!
//! It answers as memcached 1.6.18 does, through the codec that weir itself uses: classic and meta commands, time to
//! live, CAS, flags, LRU-bounded memory. `tests/against_memcached.rs` compares the two over random commands. It is a
//! development store: one thread, no persistence, and it says what it is in its version, its statistics and its
//! first line.
//!
//! The way of a command: `server` (bytes in) -> `weir_memcached` (which command) -> [`service`] (whose answer) ->
//! [`classic`] or [`meta`] (in which words) -> [`store`] (what happens). Everything but `server` is free of I/O and
//! clock: the time is an argument.
//!
//! Beside it a little Cassandra, on disk: [`cql`].

pub mod classic;
pub mod cql;
pub mod meta;
pub mod service;
pub mod statistics;
pub mod store;
mod words;

pub use service::{Service, Then};
pub use store::{Now, Store};
