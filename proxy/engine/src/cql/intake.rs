//! From a client's bytes to whole messages: segments (v5), envelopes, decompression. Nothing is allocated per message
//! on the way.

use super::method::Method;
use super::{Bound, CqlEngine, LIVE_MAX};
use crate::buffer::InputBuffer;
use crate::client::CloseHow;
use crate::ledger::Outcome;
use crate::units::{ClientId, Instant};
use weir_cql::envelope::{EnvelopeLimits, Flags, Header, Opcode, Side, Step, read_header};
use weir_cql::response::{ErrorBody, ErrorCode};
use weir_cql::segment::SegmentStep;
use weir_cql::{Malformed, StreamId, own};

impl CqlEngine {
    /// Bytes a client sent. Whole requests are carried out straight from `bytes`; only the rest is copied.
    pub fn client_input(&mut self, id: ClientId, bytes: &[u8], now: Instant) {
        let Some(client) = self.client(id).filter(|client| client.closing.is_none()) else { return };
        let slot = id.slot as usize;
        if client.input.is_empty() && client.plain.is_empty() && client.segments.is_none() {
            let used = self.decode(id, bytes, now);
            let rest = &bytes[used..];
            if !rest.is_empty() {
                self.keep_input(slot, rest);
            }
            if used == 0 || self.clients[slot].segments.is_none() {
                return;
            }
        } else {
            self.keep_input(slot, bytes);
        }
        self.decode_held(id, now);
    }

    /// Keeps what cannot be carried out yet. What is counted is the memory it takes.
    fn keep_input(&mut self, slot: usize, bytes: &[u8]) {
        let input = &mut self.clients[slot].input;
        let before = input.capacity();
        input.push(bytes);
        self.input_bytes = self.input_bytes + input.capacity() - before;
        // not only at the end of the turn: many reads may come before that
        self.input_crowded |= self.over_input_bound();
    }

    /// Request bytes take more memory than they may in all.
    pub(super) fn over_input_bound(&self) -> bool {
        self.input_bytes as u64 > self.settings.input_bytes_max.0
    }

    /// Goes on with input that was held.
    pub(super) fn decode_held(&mut self, id: ClientId, now: Instant) {
        if self.client(id).is_none() {
            return;
        }
        let slot = id.slot as usize;
        let before = self.clients[slot].input.len() + self.clients[slot].plain.len();
        loop {
            if self.clients[slot].segments.is_none() {
                let used = self.decode_buffer(id, now, |client| &mut client.input);
                if used == 0 || self.clients[slot].segments.is_none() {
                    break;
                }
                continue; // STARTUP was read: the rest comes in segments
            }
            let used = self.decode_buffer(id, now, |client| &mut client.plain);
            let opened = self.open_segment(id);
            if used == 0 && !opened {
                break;
            }
        }
        let held = self.clients[slot].input.len() + self.clients[slot].plain.len();
        if held != before {
            self.mark_client(id); // it may be read again
        }
    }

    fn decode_buffer(
        &mut self,
        id: ClientId,
        now: Instant,
        of: fn(&mut super::client::Client) -> &mut InputBuffer,
    ) -> usize {
        let mut buffer = std::mem::take(of(&mut self.clients[id.slot as usize]));
        let before = buffer.capacity();
        let used = self.decode(id, buffer.unread(), now);
        buffer.consume(used);
        self.input_bytes = (self.input_bytes + buffer.capacity()).saturating_sub(before);
        *of(&mut self.clients[id.slot as usize]) = buffer;
        used
    }

    /// Takes one segment apart; whether there was a whole one.
    fn open_segment(&mut self, id: ClientId) -> bool {
        let unread_max = self.unread_max(id);
        let client = &mut self.clients[id.slot as usize];
        if client.input.is_empty() || !client.may_decode(LIVE_MAX, unread_max) {
            return false;
        }
        let Some(segments) = &mut client.segments else { return false };
        let mut payload = std::mem::take(&mut self.scratch);
        payload.clear();
        let step = segments.decode(client.input.unread(), &mut payload);
        let opened = match step {
            SegmentStep::Incomplete { .. } => false,
            SegmentStep::Segment { consumed } => {
                let before = client.input.capacity() + client.plain.capacity();
                client.input.consume(consumed);
                client.plain.push(&payload);
                let held = client.input.capacity() + client.plain.capacity();
                self.input_bytes = (self.input_bytes + held).saturating_sub(before);
                true
            }
            SegmentStep::Malformed(reason) => {
                self.out_of_step(id, reason, StreamId(0));
                false
            }
        };
        self.scratch = payload;
        opened
    }

    fn unread_max(&self, id: ClientId) -> usize {
        let client = &self.clients[id.slot as usize];
        self.settings.listeners[client.listener.0 as usize].reply_buffer_max
    }

    fn decode(&mut self, id: ClientId, input: &[u8], now: Instant) -> usize {
        let slot = id.slot as usize;
        let unread_max = self.unread_max(id);
        let settings = self.cluster_settings(self.clients[slot].cluster);
        let limits = EnvelopeLimits {
            body: u32::try_from(settings.request_max.0).unwrap_or(u32::MAX),
            newest: settings.newest_version,
        };
        let in_segments = self.clients[slot].segments.is_some();
        let mut at = 0;
        while at < input.len() {
            let client = &self.clients[slot];
            if !client.may_decode(LIVE_MAX, unread_max) {
                if client.live.len() >= LIVE_MAX && client.closing.is_none() {
                    self.reached.add(Bound::ConnectionRequests, 1);
                }
                let client = &self.clients[slot];
                return if client.closing.is_some() { input.len() } else { at };
            }
            match read_header(&input[at..], Side::Client, limits) {
                Step::Incomplete { .. } => break,
                Step::Envelope { header } => {
                    let whole = header.envelope_len();
                    let Some(envelope) = input[at..].get(..whole) else { break };
                    self.message(id, header, envelope, now);
                    at += whole;
                    if self.clients[slot].segments.is_some() != in_segments {
                        break;
                    }
                }
                Step::Unsupported { version, stream: _, consumed } => {
                    at += consumed;
                    let newest = limits.newest;
                    self.invalid.count(client.listener, "version");
                    // under stream 0, as servers do: cassandra-gocql-driver v2 steps down for no other
                    self.reply(id, |out| own::unsupported_version(out, version, StreamId(0), newest));
                    self.account_local(id, Method::Invalid, consumed, Outcome::Invalid, now);
                }
                Step::Malformed { reason, stream } => {
                    self.out_of_step(id, reason, stream.unwrap_or_default());
                    self.account_local(id, Method::Invalid, input.len() - at, Outcome::Invalid, now);
                    return input.len();
                }
            }
        }
        at
    }

    /// Where one message ends and the next begins is not known any more: the client is told, then closed.
    fn out_of_step(&mut self, id: ClientId, reason: Malformed, stream: StreamId) {
        let client = &self.clients[id.slot as usize];
        let version = client.version;
        self.invalid.count(client.listener, reason.label());
        let text = format!("weir: {reason}; the connection is out of step and is closed");
        self.reply(id, |out| {
            own::error(out, version, stream, &ErrorBody::plain(ErrorCode::PROTOCOL_ERROR, &text));
        });
        self.close_for(id, CloseHow::Protocol);
    }

    /// Reads nothing more of a client; it is closed once it has what it is owed.
    pub(super) fn close_for(&mut self, id: ClientId, how: CloseHow) {
        let client = &mut self.clients[id.slot as usize];
        client.closing = Some(how);
        let held = client.input.capacity() + client.plain.capacity();
        (client.input, client.plain) = (InputBuffer::default(), InputBuffer::default());
        self.input_bytes = self.input_bytes.saturating_sub(held);
        self.mark_client(id);
    }

    /// One whole message.
    fn message(&mut self, id: ClientId, header: Header, envelope: &[u8], now: Instant) {
        let client = &mut self.clients[id.slot as usize];
        if (client.ready || client.signing.is_some()) && header.version != client.version {
            return self.bad_message(id, header, "this connection was opened in another version", now);
        }
        client.version = header.version;
        let body = &envelope[weir_cql::envelope::HEADER_LEN..];
        if !header.flags.has(Flags::COMPRESSED) {
            return self.plain_message(id, header, body, now);
        }
        if client.segments.is_some() {
            // v5 compresses segments: there the flag means nothing, and the Java driver sets it all the same
            let header = Header { flags: header.flags.without(Flags::COMPRESSED), ..header };
            return self.plain_message(id, header, body, now);
        }
        let Some(compression) = client.compression else {
            return self.bad_message(id, header, "compressed, but STARTUP named no compression", now);
        };
        let cap = self.cluster_settings(self.clients[id.slot as usize].cluster).request_max.0 as usize;
        let mut plain = Vec::new();
        match compression.decompress(body, cap, &mut plain) {
            Ok(()) => {
                let body_len = plain.len() as u32; // at most request_max
                let header = Header { flags: header.flags.without(Flags::COMPRESSED), body_len, ..header };
                self.plain_message(id, header, &plain, now);
            }
            Err(reason) => self.bad_message(id, header, reason.label(), now),
        }
    }

    fn plain_message(&mut self, id: ClientId, header: Header, body: &[u8], now: Instant) {
        self.clients[id.slot as usize].requests += 1;
        match header.opcode {
            Opcode::Options => self.options(id, header, now),
            Opcode::Startup => self.startup(id, header, body, now),
            Opcode::Register if self.clients[id.slot as usize].ready => self.register(id, header, body, now),
            Opcode::Query | Opcode::Prepare | Opcode::Execute | Opcode::Batch
                if self.clients[id.slot as usize].ready =>
            {
                self.ask(id, header, body, now);
            }
            Opcode::AuthResponse => {
                self.auth_response(id, header, body, now);
            }
            _ => self.bad_message(id, header, "STARTUP must come first", now),
        }
    }

    /// A message that cannot be followed, in a connection that can.
    pub(super) fn bad_message(&mut self, id: ClientId, header: Header, why: &str, now: Instant) {
        let client = &self.clients[id.slot as usize];
        self.invalid.count(client.listener, "message");
        let text = format!("weir: {}: {why}", header.opcode.name());
        let (version, stream) = (client.version, header.stream);
        self.reply(id, |out| {
            own::error(out, version, stream, &ErrorBody::plain(ErrorCode::PROTOCOL_ERROR, &text));
        });
        self.account_local(id, Method::Invalid, header.envelope_len(), Outcome::Invalid, now);
    }

    /// Appends the bytes of an answer from `begin` on; where nothing waits before them they are moved, not copied.
    pub(super) fn reply_whole(&mut self, id: ClientId, mut bytes: Vec<u8>, begin: usize) {
        let Some(client) = self.client_mut(id) else { return };
        let before = client.unread();
        if let Some(behind) = &mut client.behind {
            behind.extend_from_slice(&bytes[begin..]);
        } else if client.segments.is_none() {
            client.out.push_from(bytes, begin);
        } else if client.plain_out.is_empty() {
            bytes.drain(..begin);
            client.plain_out = bytes;
        } else {
            client.plain_out.extend_from_slice(&bytes[begin..]);
        }
        let written = client.unread() - before;
        self.reply_bytes += written;
        self.mark_client(id);
    }

    /// Appends what weir says itself.
    pub(super) fn reply(&mut self, id: ClientId, write: impl FnOnce(&mut Vec<u8>)) {
        let Some(client) = self.client_mut(id) else { return };
        let before = client.unread();
        if let Some(behind) = &mut client.behind {
            write(behind);
        } else if client.segments.is_some() {
            write(&mut client.plain_out);
        } else {
            client.out.push_with(write);
        }
        let written = client.unread() - before;
        self.reply_bytes += written;
        self.mark_client(id);
    }
}
