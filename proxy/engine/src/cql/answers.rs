//! From a node's bytes to the client that asked: the stream id says whose reply it is; what the reply is for says what
//! is done with it.

use super::CqlEngine;
use super::error::Failure;
use super::lists::UNPREPARED;
use super::method::Method;
use super::prepared::{Key, Prepared, Told};
use super::repairs::Needs;
use super::request::{Purpose, RequestId, Stage};
use super::rewrite::Page;
use super::streams::Owner;
use crate::ledger::Outcome;
use crate::multiplex::{Desync, LaneState};
use crate::units::{Instant, LaneId};
use std::sync::Arc;
use weir_cql::envelope::{EnvelopeLimits, Flags, Header, Opcode, Side, Step, read_header};
use weir_cql::request::Prepare;
use weir_cql::response::{ErrorBody, ErrorCode, Event, Prefix, ResultBody, Rows, SchemaChange, Target};
use weir_cql::segment::SegmentStep;
use weir_cql::{Cursor, Dialect, StreamId, Version, own};

/// A request whose statement a node has forgotten is prepared again at most this often: a batch may name many
/// statements, and a node that keeps forgetting must not hold a request for ever.
const REPAIRS_MAX: u8 = 32;

impl CqlEngine {
    /// Bytes a node sent.
    ///
    /// # Errors
    /// When they answer nothing that was asked, or cannot be read: the lane must be cut.
    pub fn lane_input(&mut self, id: LaneId, bytes: &[u8], now: Instant) -> Result<(), Desync> {
        let lane = &mut self.lanes[id.0 as usize];
        lane.heard = now;
        let outcome = if lane.segments.is_some() {
            lane.input.push(bytes);
            self.segments_from(id, now)
        } else if lane.input.is_empty() {
            self.envelopes_from(id, bytes, now).map(|used| {
                if used < bytes.len() {
                    self.lanes[id.0 as usize].input.push(&bytes[used..]);
                }
            })
        } else {
            lane.input.push(bytes);
            let mut input = std::mem::take(&mut lane.input);
            let outcome = self.envelopes_from(id, input.unread(), now);
            if let Ok(used) = outcome {
                input.consume(used);
                self.lanes[id.0 as usize].input = input;
            }
            outcome.map(|_| ())
        };
        if outcome.is_err() {
            self.desyncs += 1;
        }
        outcome
    }

    fn segments_from(&mut self, id: LaneId, now: Instant) -> Result<(), Desync> {
        loop {
            let lane = &mut self.lanes[id.0 as usize];
            let Some(segments) = &mut lane.segments else { return Ok(()) };
            let mut payload = std::mem::take(&mut self.scratch);
            payload.clear();
            let step = segments.decode(lane.input.unread(), &mut payload);
            let more = match step {
                SegmentStep::Incomplete { .. } => false,
                SegmentStep::Segment { consumed } => {
                    lane.input.consume(consumed);
                    lane.plain.push(&payload);
                    true
                }
                SegmentStep::Malformed { .. } => return Err(Desync::Malformed),
            };
            self.scratch = payload;
            if !more {
                return Ok(());
            }
            let mut plain = std::mem::take(&mut self.lanes[id.0 as usize].plain);
            let used = self.envelopes_from(id, plain.unread(), now)?;
            plain.consume(used);
            self.lanes[id.0 as usize].plain = plain;
        }
    }

    fn envelopes_from(&mut self, id: LaneId, input: &[u8], now: Instant) -> Result<usize, Desync> {
        let mut at = self.goes_through(id, input, now);
        while at < input.len() {
            match read_header(&input[at..], Side::Server, EnvelopeLimits::default()) {
                Step::Incomplete { .. } => break,
                Step::Envelope { header } => {
                    // weir asked in this version and agreed on no compression
                    let asked = self.lanes[id.0 as usize].info.version;
                    if header.version != asked || header.flags.has(Flags::COMPRESSED) {
                        return Err(Desync::Malformed);
                    }
                    let whole = header.envelope_len();
                    let Some(envelope) = input[at..].get(..whole) else {
                        at += self.begins_through(id, &header, &input[at..]);
                        break;
                    };
                    self.envelope_from(id, &header, &envelope[weir_cql::HEADER_LEN..], now)?;
                    at += whole;
                }
                Step::Unsupported { .. } | Step::Malformed { .. } => return Err(Desync::Malformed),
            }
        }
        Ok(at)
    }

    fn envelope_from(
        &mut self,
        lane: LaneId,
        header: &Header,
        body: &[u8],
        now: Instant,
    ) -> Result<(), Desync> {
        if header.stream == StreamId::EVENT {
            self.event_from(lane, header, body);
            return Ok(());
        }
        if let Some((header, body)) = self.takes_tablet(lane, header, body) {
            // it was weir that asked to be told: the rest is the answer
            return self.envelope_from(lane, &header, &body, now);
        }
        match self.lanes[lane.0 as usize].streams.give_back(header.stream.0) {
            None => Err(Desync::Unasked),
            Some(Owner::Orphan(_)) => {
                self.pump_due = true;
                Ok(())
            }
            Some(Owner::Part(id, part)) => {
                self.part_answered(id, part, lane, header, body, now);
                Ok(())
            }
            Some(Owner::Request(id)) => {
                let Some(request) = self.requests.get_mut(id) else { return Ok(()) };
                request.stage = Stage::New;
                let (version, operations) = (request.version, request.operations);
                self.landed(lane, version, operations);
                self.answered(id, lane, header, body, now)
            }
        }
    }

    fn answered(
        &mut self,
        id: RequestId,
        lane: LaneId,
        header: &Header,
        body: &[u8],
        now: Instant,
    ) -> Result<(), Desync> {
        let Some(request) = self.requests.get_mut(id) else { return Ok(()) };
        if matches!(request.purpose, Purpose::List(_)) {
            self.list_answered(id, header, body, now);
            return Ok(());
        }
        if header.opcode == Opcode::Error {
            self.error_answered(id, lane, header, body, now);
            return Ok(());
        }
        let (purpose, version, method) = (request.purpose.clone(), request.version, request.method);
        let result = match header.opcode {
            Opcode::Result => located(header, body, Dialect::of(version)),
            _ => None,
        };
        let Some((prefix, result)) = result else {
            // neither RESULT nor ERROR answers a statement
            self.fail(id, Failure::BadReply, now);
            return Ok(());
        };
        match (purpose, result) {
            (Purpose::Forward, ResultBody::Rows(rows)) => {
                request.rows = rows.count.into();
                let rewrite = request.rewrite;
                self.keep(id, header, body, &prefix, &rows);
                if rewrite == super::face::Rewrite::None {
                    self.pass_on(id, header, body, Outcome::Ok, now);
                } else {
                    self.rewritten(id, lane, Page { header, body, prefix: &prefix, rows: &rows }, now);
                }
            }
            (Purpose::Forward, ResultBody::SchemaChange(_)) => {
                if let Some(Ok(change)) = result.schema_change(body) {
                    self.tablets_changed(lane, &change);
                }
                self.schema_changed(lane);
                self.pass_on(id, header, body, Outcome::Ok, now);
            }
            (Purpose::Prepare(key), ResultBody::Prepared(prepared)) if method == Method::Prepare => {
                self.prepared(id, key, header, body, &prefix, &prepared);
                self.pass_on(id, header, body, Outcome::Ok, now);
            }
            (Purpose::Repair, ResultBody::Prepared(_)) => self.again(id, lane, now),
            (Purpose::SecondWeir(unfilled), ResultBody::Rows(rows)) => {
                self.peers_filled(id, &unfilled, body, &rows, now);
            }
            (Purpose::Use(keyspace), ResultBody::Rows(rows)) => self.used(id, &keyspace, &rows, now),
            (Purpose::Forward, ResultBody::SetKeyspace(_)) => {
                // a shared connection with a keyspace would lead others to tables they did not name
                self.fail(id, Failure::BadReply, now);
                return Err(Desync::WrongKind);
            }
            (Purpose::Forward, _) => self.pass_on(id, header, body, Outcome::Ok, now),
            _ => self.fail(id, Failure::BadReply, now),
        }
        Ok(())
    }

    fn error_answered(&mut self, id: RequestId, lane: LaneId, header: &Header, body: &[u8], now: Instant) {
        let Some(request) = self.requests.get_mut(id) else { return };
        request.purpose.begins_anew();
        let unprepared = unprepared_id(header, body);
        if unprepared.is_some() && request.repairs >= REPAIRS_MAX {
            self.reached.add(super::Bound::Repairs, 1);
        }
        if let (Some(statement), Purpose::Forward) = (unprepared, &request.purpose)
            && request.repairs < REPAIRS_MAX
        {
            let cluster = self.lanes[lane.0 as usize].info.cluster;
            if let Some(prepared) = self.registry(cluster).get(statement) {
                if self.joins_repair(id, lane, statement, now) {
                    return;
                }
                self.registry(cluster).repaired += 1;
                return self.repair(id, lane, prepared, now);
            }
        }
        if self.fails_over(id, lane, header, body, now) {
            return;
        }
        // also the error of a PREPARE of weir's own: the table may be gone, and the client hears why
        let joined = self.led_by(id, now);
        self.pass_on(id, header, body, Outcome::Error, now);
        for id in joined {
            self.pass_on(id, header, body, Outcome::Error, now);
        }
    }

    /// Requests that waited for the PREPARE this one sent, and now share its outcome. Those that need the statement to be
    /// split go on without it.
    pub(super) fn led_by(&mut self, id: RequestId, now: Instant) -> Vec<RequestId> {
        let Some(request) = self.requests.get(id) else { return Vec::new() };
        let joined = match &request.purpose {
            Purpose::Prepare(key) => {
                let cluster = self.clients[request.client.slot as usize].cluster;
                let of = self.clusters[cluster.0 as usize].of;
                let joined = self.clusters[of.0 as usize].registry.ended(key, id);
                // what one principal is told is not another one's answer: that one asks itself
                let own = |id: &RequestId| {
                    let client = self.requests.get(*id).map(|request| request.client.slot);
                    client.is_some_and(|slot| self.clients[slot as usize].cluster == cluster)
                };
                let (own, others) = joined.into_iter().partition(own);
                self.joined_prepares(others, now);
                own
            }
            Purpose::Repair => return self.share_repair(Needs::Request(id)),
            _ => Vec::new(),
        };
        let waits = |id: &RequestId| self.requests.get(*id).is_some_and(|r| r.stage == Stage::Joined);
        let joined: Vec<RequestId> = joined.into_iter().filter(waits).collect();
        let splits = |id: &RequestId| {
            self.requests.get(*id).is_some_and(|request| matches!(request.purpose, Purpose::List(_)))
        };
        let (lists, joined): (Vec<_>, Vec<_>) = joined.into_iter().partition(splits);
        lists.into_iter().for_each(|id| self.without_list(id, UNPREPARED, now));
        joined
    }

    /// Prepares a statement again on the node that has forgotten it, in the place of the request, which is sent once
    /// more afterwards.
    fn repair(&mut self, id: RequestId, lane: LaneId, prepared: Arc<Prepared>, now: Instant) {
        let version = self.lanes[lane.0 as usize].info.version;
        let envelope = prepare_again(&prepared, version);
        if !self.asks_more(id, lane, &envelope, Purpose::Repair, now) {
            return self.fail(id, Failure::NotSent, now);
        }
        if let Some(request) = self.requests.get_mut(id) {
            request.repairs += 1;
        }
    }

    /// The statement is prepared again: the request goes out once more, where it is known now. Other nodes may have
    /// forgotten it as well.
    fn again(&mut self, id: RequestId, lane: LaneId, now: Instant) {
        let Some(request) = self.requests.get_mut(id) else { return };
        request.purpose = Purpose::Forward;
        request.attempts = request.attempts.saturating_sub(1); // it was not carried out
        // before the others: the stream id that the reply has freed is for this one
        if self.lanes[lane.0 as usize].is_usable() {
            self.send(id, lane, now);
        } else {
            self.route(id, now);
        }
        self.repaired(Needs::Request(id), now);
    }

    /// A statement was prepared for the first time: everybody may use it.
    fn prepared(
        &mut self,
        id: RequestId,
        key: Key,
        header: &Header,
        body: &[u8],
        prefix: &Prefix,
        located: &weir_cql::response::Prepared,
    ) {
        let Some(request) = self.requests.get(id) else { return };
        let told = Told { header, body, prefix, located };
        let named = request.named.clone();
        let prepared = Prepared::of(&key, &told, request.rewrite, named, &mut self.statements);
        let cluster = self.clients[request.client.slot as usize].cluster;
        self.registry(cluster).insert(key, Arc::new(prepared));
    }

    /// Requests that waited for another one's PREPARE.
    pub(super) fn joined_prepares(&mut self, joined: Vec<RequestId>, now: Instant) {
        for id in joined {
            let Some(request) = self.requests.get_mut(id) else { continue };
            if request.stage != Stage::Joined {
                continue;
            }
            request.stage = Stage::New;
            if matches!(request.purpose, Purpose::List(_)) {
                request.purpose = Purpose::Forward;
                self.launch(id, now);
                continue;
            }
            let Purpose::Prepare(key) = request.purpose.clone() else { continue };
            let cluster = self.clients[request.client.slot as usize].cluster;
            let Some(prepared) = self.registry(cluster).find(&key) else {
                self.dispatch(id, now);
                continue;
            };
            let header = Header {
                version: prepared.version,
                flags: Flags::default(),
                stream: StreamId(0),
                opcode: Opcode::Result,
                body_len: prepared.body.len() as u32,
            };
            self.pass_on(id, &header, &prepared.body, Outcome::Ok, now);
        }
    }

    fn used(&mut self, id: RequestId, keyspace: &Arc<str>, rows: &Rows, now: Instant) {
        let Some(request) = self.requests.get(id) else { return };
        let (client, version, stream) = (request.client, request.answer_version, request.stream);
        if rows.count == 0 {
            let text = format!("Keyspace '{keyspace}' does not exist");
            return self.answer_error(id, &ErrorBody::plain(ErrorCode::INVALID, &text), Outcome::Error, now);
        }
        if let Some(client) = self.client_mut(client) {
            client.keyspace = Some(keyspace.clone());
        }
        self.reply(client, |out| own::set_keyspace(out, version, stream, keyspace.as_bytes()));
        self.finish(id, now);
    }

    /// A node tells what changed.
    fn event_from(&mut self, lane: LaneId, header: &Header, body: &[u8]) {
        let Ok(prefix) = Prefix::locate(header.version, header.flags, body) else { return };
        let Ok(event) = Event::read(body, &mut Cursor::within(body, prefix.message)) else { return };
        // nodes that come and go are weir's affair
        let Event::Schema(change) = event else { return };
        self.tablets_changed(lane, &change);
        self.schema_changed(lane);
        let cluster = self.lanes[lane.0 as usize].info.cluster;
        // every node tells; clients see one node and hear it once
        if self.told_by(cluster) != Some(lane) {
            return;
        }
        for slot in 0..self.clients.len() {
            let client = &self.clients[slot];
            if client.open && client.registered && client.cluster == cluster {
                let (id, version) = (super::client::id(slot, client), client.version);
                let event = Event::Schema(in_version(change, version));
                self.reply(id, |out| own::event(out, version, &event));
            }
        }
    }

    /// The connection whose events clients hear of.
    fn told_by(&self, cluster: crate::units::ClusterId) -> Option<LaneId> {
        let nodes = self.clusters[cluster.0 as usize].nodes.iter();
        let groups = nodes.flat_map(|node| self.nodes[node.0 as usize].groups.iter().flatten());
        let mut lanes = groups.flat_map(|group| group.lanes.iter().copied());
        lanes.find(|lane| {
            let lane = &self.lanes[lane.0 as usize];
            lane.info.registers && lane.state == LaneState::Up
        })
    }

    pub(super) fn schema_changed(&mut self, lane: LaneId) {
        let cluster = self.lanes[lane.0 as usize].info.cluster;
        self.registry(cluster).schema_changed();
        self.note_schema(cluster);
    }
}

/// v3 has no functions and aggregates: as servers do, it is told that their keyspace changed.
fn in_version(change: SchemaChange<'_>, version: Version) -> SchemaChange<'_> {
    match change.target {
        Target::Function { .. } | Target::Aggregate { .. } if version < Version::V4 => {
            SchemaChange { change: b"UPDATED", target: Target::Keyspace, ..change }
        }
        _ => change,
    }
}

/// The PREPARE of a statement that a node has forgotten.
pub(super) fn prepare_again(prepared: &Prepared, version: Version) -> Vec<u8> {
    prepare_message(&prepared.text, prepared.keyspace.as_deref(), version)
}

/// The PREPARE of a text in a keyspace.
pub(super) fn prepare_message(text: &[u8], keyspace: Option<&str>, version: Version) -> Vec<u8> {
    let mut body = Vec::with_capacity(text.len() + 16);
    Prepare::write(text, keyspace.map(str::as_bytes), Dialect::of(version), &mut body);
    let header = Header {
        version,
        flags: Flags::default(),
        stream: StreamId(0),
        opcode: Opcode::Prepare,
        body_len: body.len() as u32,
    };
    super::ask::envelope(&header, &body)
}

fn located(header: &Header, body: &[u8], dialect: Dialect) -> Option<(Prefix, ResultBody)> {
    let prefix = Prefix::locate(header.version, header.flags, body).ok()?;
    let mut cursor = Cursor::within(body, prefix.message);
    Some((prefix, ResultBody::locate(&mut cursor, dialect).ok()?))
}

/// The statement that an UNPREPARED names.
pub(super) fn unprepared_id<'a>(header: &Header, body: &'a [u8]) -> Option<&'a [u8]> {
    let prefix = Prefix::locate(header.version, header.flags, body).ok()?;
    let mut cursor = Cursor::within(body, prefix.message);
    let error = ErrorBody::read(body, &mut cursor, header.version).ok()?;
    match error.detail {
        weir_cql::response::ErrorDetail::Unprepared(id) => Some(id),
        _ => None,
    }
}
