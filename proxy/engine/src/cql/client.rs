//! One client connection: how far its handshake is, what it agreed on, what it asked and is still owed.
//!
//! Requests of one connection are independent (native protocol, section 2.3: replies come in any order), so nothing is
//! held back for order. `USE` is the exception: it is answered before the next request is read.

use super::request::RequestId;
use super::signin::Signing;
use crate::buffer::{InputBuffer, OutBuffer};
use crate::client::CloseHow;
use crate::ledger::held::HELD;
use crate::readers::Reader;
use crate::units::{ClientId, ClusterId, Instant, ListenerId};
use std::net::SocketAddr;
use std::sync::Arc;
use weir_cql::{Compression, Dialect, SegmentDecoder, Version};

#[derive(Debug)]
pub(super) struct Client {
    pub(super) generation: u32,
    pub(super) open: bool,
    pub(super) listener: ListenerId,
    pub(super) cluster: ClusterId,
    pub(super) known: u32,
    /// Until when the first requests wait for the connection's name.
    pub(super) unnamed_until: Option<Instant>,
    /// The account in which they do.
    pub(super) held: Option<u32>,
    /// The address it dialled, which is the one it is shown.
    pub(super) dialled: SocketAddr,
    /// Version of its last message: what it can read.
    pub(super) version: Version,
    /// STARTUP was answered with READY.
    pub(super) ready: bool,
    /// STARTUP was answered with AUTHENTICATE, and the client is not ready yet.
    pub(super) signing: Option<Signing>,
    /// It named itself in STARTUP: later findings about its process do not rename it.
    pub(super) declared: bool,
    pub(super) compression: Option<Compression>,
    /// v5 after STARTUP: everything is in segments.
    pub(super) segments: Option<SegmentDecoder>,
    /// Envelopes out of segments, not yet carried out.
    pub(super) plain: InputBuffer,
    /// Bytes not yet carried out.
    pub(super) input: InputBuffer,
    pub(super) out: OutBuffer,
    /// v5: envelopes for the client that are put into segments at the end of the turn.
    pub(super) plain_out: Vec<u8>,
    /// While a large reply is passed on in pieces: what else is said to this client, which comes after it.
    pub(super) behind: Option<Vec<u8>>,
    pub(super) keyspace: Option<Arc<str>>,
    /// It wants to hear of schema changes.
    pub(super) registered: bool,
    /// Requests under way.
    pub(super) live: Vec<RequestId>,
    /// Bytes of those requests.
    pub(super) asked: usize,
    /// Its `USE` is under way: nothing else is read.
    pub(super) using: bool,
    pub(super) closing: Option<CloseHow>,
    pub(super) eof: bool,
    pub(super) dirty: bool,
    pub(super) resuming: bool,
    pub(super) requests: u64,
    /// It sent a statement that reads or writes data.
    pub(super) data: bool,
    pub(super) reader: Reader,
}

impl Client {
    pub(super) fn closed() -> Client {
        Client {
            generation: 0,
            open: false,
            listener: ListenerId(0),
            cluster: ClusterId(0),
            known: 0,
            unnamed_until: None,
            held: None,
            dialled: SocketAddr::from(([127, 0, 0, 1], 0)),
            version: Version::V4,
            ready: false,
            signing: None,
            declared: false,
            compression: None,
            segments: None,
            plain: InputBuffer::default(),
            input: InputBuffer::default(),
            out: OutBuffer::default(),
            plain_out: Vec::new(),
            behind: None,
            keyspace: None,
            registered: false,
            live: Vec::new(),
            asked: 0,
            using: false,
            closing: None,
            eof: false,
            dirty: false,
            resuming: false,
            requests: 0,
            data: false,
            reader: Reader::new(Instant(0)),
        }
    }

    /// Where what it does is booked: its identity, or the account that waits for its name.
    pub(super) fn account(&self) -> u32 {
        self.held.map_or(self.known, |account| account | HELD)
    }

    pub(super) fn dialect(&self) -> Dialect {
        Dialect::of(self.version)
    }

    /// Whether the next request may be looked at.
    pub(super) fn may_decode(&self, live_max: usize, unread_max: usize) -> bool {
        self.open
            && self.closing.is_none()
            && !self.using
            && !self.awaits_verdict()
            && self.live.len() < live_max
            && self.unread() < unread_max
    }

    /// The cluster is asked about its credentials: nothing else is read.
    pub(super) fn awaits_verdict(&self) -> bool {
        self.signing.as_ref().is_some_and(Signing::is_awaited)
    }

    /// Reply bytes it has not taken.
    pub(super) fn unread(&self) -> usize {
        self.out.len() + self.plain_out.len() + self.behind.as_ref().map_or(0, Vec::len)
    }

    pub(super) fn idle(&self) -> bool {
        self.live.is_empty()
            && !self.awaits_verdict()
            && self.unread() == 0
            && self.input.is_empty()
            && self.plain.is_empty()
    }
}

/// A client by its slot and generation.
pub(super) fn id(slot: usize, client: &Client) -> ClientId {
    ClientId { slot: slot as u32, generation: client.generation }
}
