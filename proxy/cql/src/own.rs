//! Whole envelopes that weir writes itself: errors, the handshake, and results such as the row of system.local.
//!
//! Nothing here is compressed: a body may be plain on a connection that has agreed on compression.

use std::net::IpAddr;

use crate::envelope::{Flags, HEADER_LEN, Opcode, Open, StreamId, is_old};
use crate::error::Malformed;
use crate::response::{ErrorBody, ErrorCode, Event};
use crate::response::{columns, result};
use crate::types::CqlType;
use crate::version::{Dialect, Version};
use crate::write;

/// Writes an envelope without flags whose body is what `fill` appends. Refused, and `out` as before, when the body
/// is longer than [`crate::envelope::BODY_MAX`].
pub fn envelope(
    out: &mut Vec<u8>,
    version: Version,
    stream: StreamId,
    opcode: Opcode,
    fill: impl FnOnce(&mut Vec<u8>),
) -> Result<(), Malformed> {
    let open = Open::new(out, version, Flags::default(), stream, opcode);
    fill(out);
    open.close(out)
}

/// The same for bodies that cannot be too long: their parts are \[string\]s and \[short\] counts of what weir knows.
fn small(
    out: &mut Vec<u8>,
    version: Version,
    stream: StreamId,
    opcode: Opcode,
    fill: impl FnOnce(&mut Vec<u8>),
) {
    let written = envelope(out, version, stream, opcode, fill);
    debug_assert_eq!(written, Ok(()), "{}", opcode.name());
}

/// ERROR. At most 65,535 bytes of the message are written.
pub fn error(out: &mut Vec<u8>, version: Version, stream: StreamId, body: &ErrorBody<'_>) {
    small(out, version, stream, Opcode::Error, |out| body.write(version, out));
}

/// ERROR for a request in a version that is not spoken ([`crate::envelope::Step::Unsupported`]), in a form its client
/// can read: the 8-byte header for v1 and v2; for every other `newest`, the version weir would rather speak, because
/// drivers take the next version to try from it. The words are Cassandra's: drivers look for them.
pub fn unsupported_version(out: &mut Vec<u8>, asked: u8, stream: StreamId, newest: Version) {
    let mut names = String::new();
    for version in [Version::V3, Version::V4, Version::V5].iter().filter(|version| **version <= newest) {
        if !names.is_empty() {
            names.push_str(", ");
        }
        names.push_str(version.name());
    }
    let message =
        format!("Invalid or unsupported protocol version ({asked}); supported versions are ({names})");
    let body = ErrorBody::plain(ErrorCode::PROTOCOL_ERROR, &message);
    let start = out.len();
    error(out, newest, stream, &body);
    if is_old(asked) {
        let stream = stream.0 as u8;
        out[start] = 0x80 | asked;
        out[start + 2] = stream;
        // The high half of the stream was written first; the low half has no place in the old header.
        out.remove(start + 3);
        debug_assert!(out.len() >= start + HEADER_LEN - 1);
    }
}

/// READY.
pub fn ready(out: &mut Vec<u8>, version: Version, stream: StreamId) {
    small(out, version, stream, Opcode::Ready, |_| ());
}

/// AUTHENTICATE with the class name of an authenticator.
pub fn authenticate(out: &mut Vec<u8>, version: Version, stream: StreamId, class: &str) {
    small(out, version, stream, Opcode::Authenticate, |out| write::string(out, class));
}

/// AUTH_SUCCESS.
pub fn auth_success(out: &mut Vec<u8>, version: Version, stream: StreamId, token: Option<&[u8]>) {
    small(out, version, stream, Opcode::AuthSuccess, |out| write::nullable(out, token));
}

/// SUPPORTED: options with their values.
pub fn supported<'a>(
    out: &mut Vec<u8>,
    version: Version,
    stream: StreamId,
    options: impl IntoIterator<Item = (&'a str, &'a [&'a str])>,
) {
    small(out, version, stream, Opcode::Supported, |out| write::string_multimap(out, options));
}

/// EVENT.
pub fn event(out: &mut Vec<u8>, version: Version, event: &Event<'_>) {
    small(out, version, StreamId::EVENT, Opcode::Event, |out| event.write(out));
}

/// RESULT Void.
pub fn void(out: &mut Vec<u8>, version: Version, stream: StreamId) {
    small(out, version, stream, Opcode::Result, |out| write::int(out, result::VOID));
}

/// RESULT Set_keyspace.
pub fn set_keyspace(out: &mut Vec<u8>, version: Version, stream: StreamId, keyspace: &[u8]) {
    small(out, version, stream, Opcode::Result, |out| {
        write::int(out, result::SET_KEYSPACE);
        write::short_bytes(out, keyspace);
    });
}

/// The table and the columns of a result of weir's own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OwnColumns<'a> {
    /// Its keyspace.
    pub keyspace: &'a str,
    /// Its table.
    pub table: &'a str,
    /// Names and types; at most `i32::MAX`.
    pub columns: &'a [(&'a str, CqlType)],
}

impl OwnColumns<'_> {
    fn write_specs(&self, out: &mut Vec<u8>) {
        write::string(out, self.keyspace);
        write::string(out, self.table);
        for (name, kind) in self.columns {
            write::string(out, name);
            kind.write(out);
        }
    }

    /// Result metadata: every column, one table, no more pages.
    fn write_metadata(&self, out: &mut Vec<u8>) {
        write::bits(out, columns::GLOBAL_TABLE);
        write::bits(out, self.columns.len() as u32);
        self.write_specs(out);
    }
}

/// RESULT Prepared for a statement without bind markers that weir answers itself. `result_metadata_id` is written
/// where the dialect has it.
pub fn prepared(
    out: &mut Vec<u8>,
    dialect: Dialect,
    stream: StreamId,
    id: &[u8],
    result_metadata_id: &[u8],
    columns: &OwnColumns<'_>,
) {
    small(out, dialect.version, stream, Opcode::Result, |out| {
        write::int(out, result::PREPARED);
        write::short_bytes(out, id);
        if dialect.metadata_ids {
            write::short_bytes(out, result_metadata_id);
        }
        write::bits(out, 0);
        write::int(out, 0);
        if dialect.version >= Version::V4 {
            write::int(out, 0);
        }
        columns.write_metadata(out);
    });
}

/// RESULT Rows of weir's own, cell by cell.
#[must_use = "the result is not complete before it is closed"]
#[derive(Debug)]
pub struct OwnRows {
    open: Open,
    columns: usize,
    cells: usize,
    count_at: usize,
}

impl OwnRows {
    /// Writes the head; the cells follow, row by row.
    pub fn open(out: &mut Vec<u8>, version: Version, stream: StreamId, columns: &OwnColumns<'_>) -> Self {
        let open = Open::new(out, version, Flags::default(), stream, Opcode::Result);
        write::int(out, result::ROWS);
        columns.write_metadata(out);
        let count_at = out.len();
        write::int(out, 0);
        Self { open, columns: columns.columns.len(), cells: 0, count_at }
    }

    /// Writes the next cell; `None` is null.
    pub fn cell(&mut self, out: &mut Vec<u8>, value: Option<&[u8]>) {
        self.cells += 1;
        write::nullable(out, value);
    }

    /// Writes the next cell: an inet.
    pub fn inet(&mut self, out: &mut Vec<u8>, address: IpAddr) {
        match address {
            IpAddr::V4(address) => self.cell(out, Some(&address.octets())),
            IpAddr::V6(address) => self.cell(out, Some(&address.octets())),
        }
    }

    /// Writes the next cell: a `set<text>` (a set is sorted: so are `texts`).
    pub fn text_set(&mut self, out: &mut Vec<u8>, texts: &[&str]) {
        let mut set = Vec::new();
        write::bits(&mut set, texts.len() as u32);
        texts.iter().for_each(|text| write::bytes(&mut set, text.as_bytes()));
        self.cell(out, Some(&set));
    }

    /// Writes the number of rows and the length. Cells of an unfinished row are filled with nulls.
    pub fn close(mut self, out: &mut Vec<u8>) -> Result<(), Malformed> {
        while self.columns > 0 && !self.cells.is_multiple_of(self.columns) {
            self.cell(out, None);
        }
        let rows = self.cells.checked_div(self.columns).unwrap_or(0) as u32;
        if let Some(place) = out.get_mut(self.count_at..self.count_at + 4) {
            place.copy_from_slice(&rows.to_be_bytes());
        }
        self.open.close(out)
    }
}
