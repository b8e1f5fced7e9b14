//! The end of a request: its answer is passed on or written, admission gets back what it booked, the ledger gets its
//! entry.

use super::CqlEngine;
use super::error::Failure;
use super::flight::{Answered, Succession};
use super::method::Method;
use super::repairs::Needs;
use super::request::{Purpose, Request, RequestId, Stage};
use crate::correlate::{Leg, Work};
use crate::ledger::done::{MethodSpace, request_done};
use crate::ledger::{Entry, Outcome};
use crate::units::{Bytes, ClientId, Instant, Operations, Span};
use weir_cql::envelope::{Flags, Header, Opcode};
use weir_cql::response::{ErrorBody, Prefix, write_prefix};
use weir_cql::{Cursor, Version, own};

/// What services ask for, as opposed to what drivers do for themselves.
fn is_data(method: Method) -> bool {
    matches!(method, Method::Select | Method::Insert | Method::Update | Method::Delete | Method::Batch)
}

impl CqlEngine {
    /// Passes a reply on, to those who wait for the same one too.
    pub(super) fn pass_on(
        &mut self,
        id: RequestId,
        header: &Header,
        body: &[u8],
        outcome: Outcome,
        now: Instant,
    ) {
        let Some(request) = self.requests.get(id) else { return };
        let answered = Answered { rows: request.rows, first_sent: request.first_sent, outcome };
        let followers = self.take_followers(id);
        self.pass_on_one(id, header, body, outcome, now);
        if !followers.is_empty() {
            self.pass_on_to(followers, answered, header, body, now);
        }
    }

    /// Passes a reply on: header and body as they came but for the stream id and the version.
    pub(super) fn pass_on_one(
        &mut self,
        id: RequestId,
        header: &Header,
        body: &[u8],
        outcome: Outcome,
        now: Instant,
    ) {
        let Some(request) = self.requests.get_mut(id) else { return };
        let (mut header, mut translated) = (*header, Vec::new());
        let mut body = body;
        if header.version != request.answer_version {
            let Some(flags) = translate(&header, body, request.answer_version, &mut translated) else {
                return self.fail(id, Failure::BadReply, now);
            };
            (header.flags, body) = (flags, &translated);
        }
        request.outcome = outcome;
        request.bytes_out += (weir_cql::HEADER_LEN + body.len()) as u64;
        let answer = Header {
            version: request.answer_version,
            stream: request.stream,
            body_len: body.len() as u32,
            flags: header.flags.without(Flags::COMPRESSED),
            opcode: header.opcode,
        };
        let client = request.client;
        self.reply(client, |out| {
            answer.write(out);
            out.extend_from_slice(body);
        });
        self.finish(id, now);
    }

    /// Answers with what weir says itself.
    pub(super) fn answer_error(
        &mut self,
        id: RequestId,
        body: &ErrorBody<'_>,
        outcome: Outcome,
        now: Instant,
    ) {
        let Some(request) = self.requests.get_mut(id) else { return };
        request.outcome = outcome;
        let (client, version, stream) = (request.client, request.answer_version, request.stream);
        self.reply(client, |out| own::error(out, version, stream, body));
        self.finish(id, now);
    }

    /// It cannot be carried out.
    pub(super) fn fail(&mut self, id: RequestId, failure: Failure, now: Instant) {
        let Some(request) = self.requests.get(id) else { return };
        let place = match request.stage {
            Stage::Sent(lane, _) => {
                let node = self.lanes[lane.0 as usize].info.node;
                self.nodes[node.0 as usize].name.clone()
            }
            Stage::Queued(node) => self.nodes[node.0 as usize].name.clone(),
            _ => {
                let cluster = self.clients[request.client.slot as usize].cluster;
                self.cluster_settings(cluster).name.clone()
            }
        };
        self.fail_at(id, failure, &place, now);
    }

    /// The same, where it is known where it happened.
    pub(super) fn fail_at(&mut self, id: RequestId, failure: Failure, place: &str, now: Instant) {
        let Some(request) = self.requests.get(id) else { return };
        let read = matches!(request.method, Method::Select | Method::System | Method::Use);
        let mut text = String::new();
        let (write, consistency) = super::batches::write_type(request);
        // an attempt that found its statement forgotten has done nothing
        let before = request.attempts > u8::from(failure == Failure::NotSent);
        let body = failure.body(place, (!read).then_some(write), consistency, before, &mut text);
        let mut joined = self.led_by(id, now);
        // a time that is over is that of one request; what happened to the node is everybody's
        if !matches!(failure, Failure::TimedOut | Failure::QueueTimeout) {
            joined.extend(self.take_followers(id));
        }
        self.answer_error(id, &body, failure.outcome(), now);
        for id in joined {
            self.answer_error(id, &body, failure.outcome(), now);
        }
    }

    /// The client is gone: what is under way keeps its stream id until the reply comes.
    pub(super) fn abandon(&mut self, id: RequestId, now: Instant) {
        if let Some(request) = self.requests.get_mut(id) {
            request.outcome = Outcome::ClientGone;
        }
        self.finish(id, now);
    }

    /// Takes it out of every list, accounts for it, and lets go of what it held.
    pub(super) fn finish(&mut self, id: RequestId, now: Instant) {
        self.unqueue(id);
        self.leave_job(id, now);
        let Some(request) = self.requests.remove(id) else { return };
        let succession = self.leaves_flight(id, &request);
        if let Stage::Sent(lane, stream) = request.stage
            && !matches!(succession, Succession::Sent)
        {
            self.lanes[lane.0 as usize].streams.orphan(stream, now);
            self.landed(lane, request.version, request.operations);
        }
        let using = matches!(request.purpose, Purpose::Use(_));
        self.input_bytes = self.input_bytes.saturating_sub(request.held_bytes());
        self.note_write_of(&request);
        self.account(&request, now);
        self.unlist(&request, using);
        self.leaves_repair(Needs::Request(id), now);
        if let Purpose::Prepare(key) | Purpose::List(key) = &request.purpose {
            let cluster = self.clients[request.client.slot as usize].cluster;
            let joined = self.registry(cluster).ended(key, id);
            self.joined_prepares(joined, now);
        }
        if let Succession::Asks(heir) = succession {
            self.heir_asks(heir, now);
        }
    }

    fn unlist(&mut self, request: &Request, using: bool) {
        let Some(client) = self.client_mut(request.client) else { return };
        if using {
            client.using = false;
        }
        client.asked = client.asked.saturating_sub(request.held_bytes());
        let place = request.place as usize;
        if place < client.live.len() {
            client.live.swap_remove(place);
            if let Some(&moved) = client.live.get(place)
                && let Some(moved) = self.requests.get_mut(moved)
            {
                moved.place = place as u32;
            }
        }
        self.resume_later(request.client);
        let crowded = self.input_crowded; // then it may be read again
        if crowded || self.client(request.client).is_some_and(|client| client.eof || client.closing.is_some())
        {
            self.mark_client(request.client);
        }
    }

    fn account(&mut self, request: &Request, now: Instant) {
        let client = &self.clients[request.client.slot as usize];
        let (listener, account) = (client.listener, client.held);
        let queue_wait = request.first_sent.map_or(Span(0), |sent| sent.since(request.arrived));
        let asked = request.attempts > 0 && !request.coalesced;
        let (chunks, backend_operations) = match &request.job {
            Some(job) => (job.sent, job.sent_keys),
            None => (u32::from(asked), request.operations * u64::from(asked)),
        };
        let entry = Entry {
            identity: request.known,
            method: request.method.into(),
            operations: request.operations,
            chunks,
            backend_operations,
            hits: request.rows,
            misses: 0,
            coalesced: request.operations * u64::from(request.coalesced),
            bytes_in: request.bytes_in,
            bytes_out: request.bytes_out,
            queue_wait,
            backend_time: request.first_sent.map_or(Span(0), |sent| now.since(sent)),
            total: now.since(request.arrived),
            outcome: request.outcome,
            at: now,
            sent_to: request.sent_to.filter(|_| !request.coalesced),
        };
        let spent = Operations(request.rows.max(Bytes(request.bytes_out).as_operations().0));
        let known = &mut self.callers.known[request.known as usize];
        if let Some(held) = request.held {
            known.state.release(held.operations, held.bytes);
            if spent > held.operations {
                known.state.settle(&known.limits, spent - held.operations, now);
            }
        }
        if request.outcome == Outcome::Ok {
            known.learn(request.bytes_out, request.operations);
        }
        request_done(known.hash, MethodSpace::Cql, &entry);
        if let Some(correlation) = &request.correlation {
            let service = &known.identity.principal;
            self.feed.push(|| Work::new(**correlation, Leg::Database, service, &entry));
        }
        let statement = request.named.as_ref();
        if let Some(statement) = statement.filter(|_| chunks > 0 && is_data(request.method)) {
            let cluster = self.clients[request.client.slot as usize].cluster;
            self.times.record(&self.clusters[cluster.0 as usize].settings.name, statement, &entry);
        }
        match account {
            Some(account) => self.ledger.record_held(account, &entry, statement),
            None => self.ledger.record_statement(&entry, &known.identity.name, listener, statement),
        }
        self.callers.request_ended(request.known, &mut self.ledger);
    }

    /// Accounts for a message of so many bytes that was answered without ever becoming a request.
    pub(super) fn account_local(
        &mut self,
        id: ClientId,
        method: Method,
        bytes: usize,
        outcome: Outcome,
        now: Instant,
    ) {
        self.hold_account(id, 0, now);
        let client = &self.clients[id.slot as usize];
        let entry = Entry {
            identity: client.known,
            method: method.into(),
            operations: 0,
            chunks: 0,
            backend_operations: 0,
            hits: 0,
            misses: 0,
            coalesced: 0,
            bytes_in: bytes as u64,
            bytes_out: 0,
            queue_wait: Span(0),
            backend_time: Span(0),
            total: Span(0),
            outcome,
            at: now,
            sent_to: None,
        };
        let known = &self.callers.known[client.known as usize];
        request_done(known.hash, MethodSpace::Cql, &entry);
        match client.held {
            Some(account) => self.ledger.record_held(account, &entry, None),
            None => self.ledger.record(&entry, &known.identity.name, client.listener),
        }
    }
}

/// The body of an answer in another version than it was asked in, and its flags: errors have other fields, and v3 has no
/// warnings and no payload. Results that weir asks for in another version are the same in all.
fn translate(header: &Header, body: &[u8], version: Version, out: &mut Vec<u8>) -> Option<Flags> {
    let prefix = Prefix::locate(header.version, header.flags, body).ok()?;
    let payload = prefix.payload.map(|payload| payload.of(body));
    let flags = write_prefix(out, version, prefix.tracing_id, prefix.warnings(body), payload);
    if header.opcode == Opcode::Error {
        let error = ErrorBody::read(body, &mut Cursor::within(body, prefix.message), header.version).ok()?;
        error.write(version, out);
    } else {
        out.extend_from_slice(prefix.message.of(body));
    }
    Some(flags)
}
