//! Frames as weir reads them and as cassandra-protocol does.
#![allow(dead_code, reason = "not every test file uses every helper")]

use std::panic::catch_unwind;

use cassandra_protocol::compression::Compression;
use cassandra_protocol::frame::message_response::ResponseBody;
use cassandra_protocol::frame::{Envelope, Version as TheirVersion};
use weir_cql::{EnvelopeLimits, HEADER_LEN, Header, Side, Step, Version, read_header};

/// Ours and theirs.
pub const VERSIONS: [(Version, TheirVersion); 3] =
    [(Version::V3, TheirVersion::V3), (Version::V4, TheirVersion::V4), (Version::V5, TheirVersion::V5)];

/// Header and body of the one frame in `bytes`.
pub fn open(bytes: &[u8]) -> (Header, &[u8]) {
    match read_header(bytes, Side::Server, EnvelopeLimits::default()) {
        Step::Envelope { header } if header.envelope_len() == bytes.len() => (header, &bytes[HEADER_LEN..]),
        other => panic!("{other:?}: {bytes:x?}"),
    }
}

/// The one frame in `bytes` as they read it.
pub fn theirs(bytes: &[u8]) -> (Envelope, ResponseBody) {
    let bytes = bytes.to_vec();
    let read = catch_unwind(move || {
        let envelope = Envelope::from_buffer(&bytes, Compression::None).expect("valid").envelope;
        let body = envelope.response_body().expect("valid");
        (envelope, body)
    });
    read.expect("no panic on valid bytes")
}
