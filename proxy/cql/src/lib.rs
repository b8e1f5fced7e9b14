//! The CQL native protocol as bytes: v3, v4 and v5, what clients send and what servers answer.
//!
//! No I/O, no clock, no buffer of its own.
#![forbid(unsafe_code)]

pub mod compress;
pub mod envelope;
pub mod error;
pub mod own;
pub mod read;
pub mod request;
pub mod response;
pub mod segment;
pub mod types;
pub mod version;
pub mod write;
