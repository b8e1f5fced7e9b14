//! A large reply is passed on while it arrives, so that nobody holds it whole and its client reads sooner.
//!
//! ```text
//! node   | header | kind, metadata, row count | rows ...      | rows ...      |
//!         gathered (HEAD at most)             | as they come: through_goes    | then the stream id is free
//! client | header with its own stream id ...  | what else is said to it waits `behind` until the end
//! ```
//! Only a page of rows that is passed on as it is, longer than `stream_reply_min`, goes through; all else is gathered. A
//! lane never waits for a client: the bytes are the client's unread bytes, and where it and all clients together are over
//! their bounds, it is closed and the rest is read over. A client whose reply breaks off cannot be told: it is closed.

use super::CqlEngine;
use super::face::Rewrite;
use super::request::{Purpose, RequestId, Stage};
use super::streams::Owner;
use crate::client::CloseHow;
use crate::error::Rejected;
use crate::ledger::Outcome;
use crate::units::{ClientId, Instant, LaneId};
use weir_cql::envelope::{Flags, Header, Opcode};
use weir_cql::response::Rows;
use weir_cql::{HEADER_LEN, StreamId, write_part, write_segments};

/// Bytes of a body in which its head is looked for first: columns of a wide table take a few KiB.
const HEAD: usize = 16 << 10;
/// A head that is longer than this many times as much is not looked for any more, and its reply gathered.
const HEAD_TRIES: usize = 16;

/// The reply under way on a lane.
#[derive(Clone, Copy, Debug)]
pub(super) struct Through {
    stream: i16,
    /// Bytes of it still to come; at least 1.
    left: usize,
    /// Who gets it; `None` when it is read over.
    pub(super) to: Option<RequestId>,
}

impl CqlEngine {
    /// Passes on what has come of the reply under way; how many bytes that were.
    pub(super) fn goes_through(&mut self, lane: LaneId, input: &[u8], now: Instant) -> usize {
        let Some(through) = &mut self.lanes[lane.0 as usize].through else { return 0 };
        let used = through.left.min(input.len());
        through.left -= used;
        let (to, ended) = (through.to, through.left == 0);
        if let Some(to) = to {
            self.pass_piece(lane, to, &input[..used]);
        }
        if ended {
            self.ends_through(lane, now);
        }
        used
    }

    /// Whether the unfinished envelope in `input` is passed on from here; then how many bytes of it were taken, otherwise
    /// 0.
    pub(super) fn begins_through(&mut self, lane: LaneId, header: &Header, input: &[u8]) -> usize {
        let (from, left) = (self.stream_reply_min(lane), header.envelope_len() - input.len());
        if header.body_len as usize <= from || header.stream == StreamId::EVENT {
            return 0;
        }
        let to = match self.lanes[lane.0 as usize].streams.owner(header.stream.0) {
            Some(Owner::Request(id)) => Some(id),
            Some(Owner::Orphan(_)) => None,
            _ => return 0,
        };
        let mut start = &input[HEADER_LEN..];
        let mut rows = None;
        if let Some(id) = to {
            let head = HEAD.min(from);
            if start.len() < head || start.len() > head * HEAD_TRIES || !self.may_pass_through(id, header) {
                return 0;
            }
            rows = Rows::count_ahead(header, start);
            if rows.is_none() {
                return 0;
            }
        }
        // its rows were counted, so the payload in front of them is whole
        let without = to.and_then(|_| self.takes_tablet(lane, header, start));
        let mut header = *header;
        if let Some((shorter, body)) = &without {
            (header, start) = (*shorter, body);
        }
        self.lanes[lane.0 as usize].through = Some(Through { stream: header.stream.0, left, to });
        if let (Some(id), Some(rows)) = (to, rows) {
            self.opens_through(lane, id, &header, rows, start);
        }
        input.len()
    }

    fn stream_reply_min(&self, lane: LaneId) -> usize {
        let cluster = self.lanes[lane.0 as usize].info.cluster;
        self.cluster_settings(cluster).stream_reply_min.0 as usize
    }

    /// A page of rows that nothing is changed in, to a client that is not in the middle of another.
    fn may_pass_through(&self, id: RequestId, header: &Header) -> bool {
        let Some(request) = self.requests.get(id) else { return false };
        let free = self
            .client(request.client)
            .is_some_and(|client| client.behind.is_none() && client.closing.is_none());
        free && header.opcode == Opcode::Result
            && header.version == request.answer_version
            && matches!(request.purpose, Purpose::Forward)
            && request.rewrite == Rewrite::None
            && !self.wants_whole(id, header)
    }

    /// The client gets the header with its own stream id and what is there of the body.
    fn opens_through(&mut self, lane: LaneId, id: RequestId, header: &Header, rows: u32, start: &[u8]) {
        let Some(request) = self.requests.get_mut(id) else { return };
        request.rows = rows.into();
        let answer =
            Header { stream: request.stream, flags: header.flags.without(Flags::COMPRESSED), ..*header };
        let client = &mut self.clients[request.client.slot as usize];
        if client.segments.is_some() && !client.plain_out.is_empty() {
            // what was said before leaves in segments of its own
            let (plain, before) = (std::mem::take(&mut client.plain_out), client.out.len());
            let compressed = client.compression.is_some();
            client.out.push_with(|out| {
                let written = write_segments(&plain, compressed, out);
                debug_assert!(written == Ok(plain.len()), "{written:?}");
            });
            let written = client.out.len() - before;
            self.reply_bytes = (self.reply_bytes + written).saturating_sub(plain.len());
        }
        client.behind = Some(Vec::new());
        self.lanes[lane.0 as usize].streamed += 1;
        let mut piece = Vec::with_capacity(HEADER_LEN + start.len());
        answer.write(&mut piece);
        piece.extend_from_slice(start);
        self.pass_piece(lane, id, &piece);
    }

    fn pass_piece(&mut self, lane: LaneId, id: RequestId, piece: &[u8]) {
        let Some(request) = self.requests.get_mut(id) else { return }; // its client is gone
        request.bytes_out += piece.len() as u64;
        let to = request.client;
        let client = &mut self.clients[to.slot as usize];
        let before = client.unread();
        if client.segments.is_some() {
            let compressed = client.compression.is_some();
            client.out.push_with(|out| write_part(piece, compressed, out));
        } else {
            client.out.push(piece);
        }
        let unread = client.unread();
        self.reply_bytes += unread - before;
        self.mark_client(to);
        let most =
            self.settings.listeners[self.clients[to.slot as usize].listener.0 as usize].reply_buffer_max;
        if unread > most && self.replies_crowded() {
            if let Some(through) = &mut self.lanes[lane.0 as usize].through {
                through.to = None;
            }
            self.too_slow(to);
        }
    }

    /// The last byte has come.
    fn ends_through(&mut self, lane: LaneId, now: Instant) {
        let Some(through) = self.lanes[lane.0 as usize].through.take() else { return };
        self.pump_due = true;
        let owner = self.lanes[lane.0 as usize].streams.give_back(through.stream);
        let Some(Owner::Request(id)) = owner else { return };
        let Some(request) = self.requests.get_mut(id) else { return };
        request.stage = Stage::New;
        let (client, version, operations) = (request.client, request.version, request.operations);
        self.landed(lane, version, operations);
        if through.to.is_none() {
            return self.abandon(id, now); // the client is about to be closed
        }
        if let Some(request) = self.requests.get_mut(id) {
            request.outcome = Outcome::Ok;
        }
        let client = &mut self.clients[client.slot as usize];
        let behind = client.behind.take().unwrap_or_default();
        if client.segments.is_some() {
            client.plain_out.extend_from_slice(&behind);
        } else {
            client.out.push(&behind);
        }
        self.finish(id, now);
    }

    /// The connection that `through` was read from is lost: its client has half of an answer and cannot be told anything
    /// any more.
    pub(super) fn breaks_off(&mut self, lane: LaneId, through: Option<Through>, now: Instant) {
        let Some(id) = through.and_then(|through| through.to) else { return };
        let Some(request) = self.requests.get_mut(id) else { return };
        request.outcome = Outcome::BackendLost;
        let to = request.client;
        self.finish(id, now);
        self.abandon_all(to, now);
        self.lanes[lane.0 as usize].broken += 1;
        let crowded = self.replies_crowded();
        let client = &mut self.clients[to.slot as usize];
        self.reply_bytes = self.reply_bytes.saturating_sub(client.unread());
        client.out.reset();
        client.plain_out = Vec::new();
        client.behind = None;
        client.registered = false;
        client.closing = Some(CloseHow::Broken);
        self.pump_due |= crowded && !self.replies_crowded();
        self.mark_client(to);
    }

    /// Closes a client that does not read, once.
    pub(super) fn too_slow(&mut self, id: ClientId) {
        if !self.slow.contains(&id) {
            self.reject_client(id, Rejected::BufferBound);
            self.slow.push(id);
        }
    }
}
