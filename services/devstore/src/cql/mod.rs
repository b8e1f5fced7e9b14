//! A little Cassandra on one file, so that services can be tried with no server installed.
//!
//! The way of a request: `serve` (accepts) -> `connection` (bytes to envelopes) -> [`session`] (what is asked for) ->
//! `parse` (text to a statement) -> `plan` (against the `schema`) -> `read` (ranges of keys to rows) or the writer of
//! `store` (mutations to records, on disk before they are answered) -> `answer` (RESULT). Everything that the three
//! drivers of the tests and the services' schema need is done as Cassandra 5 does it; everything else is refused by
//! name ([`refusal::Refusal::unsupported`]).
//!
//! `tests/cql_differential.rs` compares it with a real Cassandra over random schemas and statements; docs/devstore.md
//! lists what it has.

pub mod answer;
pub mod connection;
pub mod engine;
pub mod parse;
pub mod plan;
pub mod read;
pub mod refusal;
pub mod schema;
pub mod serve;
pub mod session;
pub mod store;
