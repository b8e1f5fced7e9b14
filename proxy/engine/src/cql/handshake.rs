//! What weir answers itself while a connection begins: OPTIONS, STARTUP, REGISTER.
//!
//! The cluster's own SUPPORTED is never passed on: it names shards, ports and tablets that would make drivers dial past
//! weir (SCYLLA_SHARD_AWARE_PORT and its like).

use super::CqlEngine;
use super::method::Method;
use crate::caller::{Identity, is_name};
use crate::ledger::Outcome;
use crate::units::{ClientId, Instant};
use std::sync::Arc;
use weir_cql::envelope::Header;
use weir_cql::request::Request as Message;
use weir_cql::{Compression, SegmentDecoder, Version, own};

/// Options of STARTUP that name the caller, the most telling first.
const NAMES: [&str; 2] = ["APPLICATION_NAME", "CLIENT_ID"];

/// What STARTUP said that counts once the connection is open.
#[derive(Clone, Debug)]
pub(super) struct Opening {
    /// The name the client gave itself.
    declared: Option<Arc<str>>,
}

impl CqlEngine {
    pub(super) fn options(&mut self, id: ClientId, header: Header, now: Instant) {
        let client = &self.clients[id.slot as usize];
        let newest = self.cluster_settings(client.cluster).newest_version;
        let versions: Vec<&str> = [Version::V3, Version::V4, Version::V5]
            .into_iter()
            .filter(|version| *version <= newest)
            .map(Version::name)
            .collect();
        let compressions = [Compression::Snappy.name(), Compression::Lz4.name()];
        self.reply(id, |out| {
            own::supported(
                out,
                header.version,
                header.stream,
                [
                    ("COMPRESSION", compressions.as_slice()),
                    ("CQL_VERSION", &["3.4.7"]),
                    ("PROTOCOL_VERSIONS", &versions),
                ],
            );
        });
        self.account_local(id, Method::Control, header.envelope_len(), Outcome::Ok, now);
    }

    pub(super) fn startup(&mut self, id: ClientId, header: Header, body: &[u8], now: Instant) {
        let Ok(Message::Startup(startup)) =
            Message::locate(&header, body, weir_cql::Dialect::of(header.version))
        else {
            return self.bad_message(id, header, "the options cannot be read", now);
        };
        let client = &self.clients[id.slot as usize];
        if client.ready || client.signing.is_some() {
            return self.bad_message(id, header, "the connection is open already", now);
        }
        let mut compression = None;
        if let Some(name) = startup.get(body, "COMPRESSION") {
            compression = Compression::from_name(name);
            let v5_takes_it = header.version < Version::V5 || compression == Some(Compression::Lz4);
            if compression.is_none() || !v5_takes_it {
                return self.bad_message(id, header, "unknown compression", now);
            }
        }
        if startup.get(body, "CQL_VERSION").is_none() {
            return self.bad_message(id, header, "CQL_VERSION is missing", now);
        }
        let declared = NAMES
            .iter()
            .filter_map(|name| startup.get(body, name))
            .find(|name| !is_uuid(name))
            .and_then(declared_name);
        let opening = Opening { declared };
        let signs_in = self.must_sign_in(id);
        if signs_in {
            self.ask_to_sign_in(id, header, opening.clone());
        } else {
            self.reply(id, |out| own::ready(out, header.version, header.stream));
        }
        let request_max = self.cluster_settings(self.clients[id.slot as usize].cluster).request_max.0;
        let client = &mut self.clients[id.slot as usize];
        client.compression = compression;
        if header.version >= Version::V5 {
            let body_max = u32::try_from(request_max).unwrap_or(u32::MAX);
            client.segments = Some(SegmentDecoder::new(compression.is_some(), body_max));
        }
        self.account_local(id, Method::Control, header.envelope_len(), Outcome::Ok, now);
        if !signs_in {
            self.opened(id, header.version, opening);
        }
    }

    /// The connection is open for requests, under the name it gave itself.
    pub(super) fn opened(&mut self, id: ClientId, version: Version, opening: Opening) {
        self.clients[id.slot as usize].ready = true;
        if let Some(name) = opening.declared {
            let identity = &self.callers.known[self.clients[id.slot as usize].known as usize].identity;
            let identity = Identity { name, ..Identity::clone(identity) };
            self.declare(id, Arc::new(identity));
        }
        self.version_needed(id, version);
    }

    pub(super) fn register(&mut self, id: ClientId, header: Header, body: &[u8], now: Instant) {
        let Ok(Message::Register(register)) =
            Message::locate(&header, body, weir_cql::Dialect::of(header.version))
        else {
            return self.bad_message(id, header, "the list of events cannot be read", now);
        };
        let client = &mut self.clients[id.slot as usize];
        // nodes come and go behind weir without the client having to know
        client.registered |= register.events(body).any(|event| event == b"SCHEMA_CHANGE");
        self.reply(id, |out| own::ready(out, header.version, header.stream));
        self.account_local(id, Method::Control, header.envelope_len(), Outcome::Ok, now);
    }
}

/// A name a client gives itself; what does not look like a name is told apart from those that gave none.
fn declared_name(bytes: &[u8]) -> Option<Arc<str>> {
    if bytes.is_empty() {
        return None;
    }
    Some(std::str::from_utf8(bytes).ok().filter(|name| is_name(name)).unwrap_or("_invalid").into())
}

/// Whether these bytes are a UUID in text: the Node and Java drivers draw a CLIENT_ID for each session, which names
/// nobody and would be another caller after every restart.
fn is_uuid(bytes: &[u8]) -> bool {
    bytes.len() == 36
        && bytes.iter().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => *byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}
