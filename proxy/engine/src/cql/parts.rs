//! One part of a split request: sent, answered, repaired where a node has forgotten its statement, sent again where its
//! connection was lost or to another node where one said "not here, not now".

use super::CqlEngine;
use super::error::Failure;
use super::failover::ATTEMPTS_MAX;
use super::job::PartStage;
use super::method::Method;
use super::prepared::Prepared;
use super::repairs::{Needs, Repair};
use super::request::RequestId;
use super::split::{Chunk, Fault, Status};
use super::streams::Owner;
use crate::ledger::Outcome;
use crate::units::{Instant, LaneId};
use weir_cql::envelope::{Flags, HEADER_LEN, Header, Opcode};
use weir_cql::response::{Prefix, ResultBody};
use weir_cql::{Cursor, Dialect, StreamId};

/// Times a part is prepared for again: a node that keeps forgetting must not hold a request for ever.
const REPAIRS_MAX: u8 = 32;
/// A request whose parts do not fit together is begun anew once: the table was altered meanwhile.
const RESTARTS_MAX: u8 = 1;

impl CqlEngine {
    /// Sends the next part on this lane; how many keys it has.
    pub(super) fn send_part(&mut self, id: RequestId, lane: LaneId, now: Instant) -> u64 {
        if let Some((index, lane)) = self.part_at_replica(id, lane, now) {
            return self.send_part_at(id, index, lane, now);
        }
        let window = self.window(self.lanes[lane.0 as usize].info.cluster);
        let next = self.requests.get(id).and_then(|request| request.job.as_ref()?.next(window));
        next.map_or(0, |index| self.send_part_at(id, index, lane, now))
    }

    /// Sends this part on this lane; how many keys it has.
    pub(super) fn send_part_at(&mut self, id: RequestId, index: u32, lane: LaneId, now: Instant) -> u64 {
        let Some(request) = self.requests.get_mut(id) else { return 0 };
        let Some(job) = &mut request.job else { return 0 };
        let Some(gather) = &job.gather else { return 0 };
        let body = request.envelope.get(HEADER_LEN..).unwrap_or_default();
        let out = &mut self.lanes[lane.0 as usize];
        let Some(stream) = out.take_stream_for(Owner::Part(id, index), now) else { return 0 };
        let chunk = Chunk {
            page_size: job.plan.page_size().map(|size| i32::try_from(size).unwrap_or(i32::MAX)),
            limit_left: gather.limit_left(),
            state: job.plan.state_of(index),
        };
        let header = Header {
            version: request.version,
            flags: Flags::default(),
            stream: StreamId(stream),
            opcode: job.plan.opcode(),
            body_len: 0,
        };
        out.send_with(stream, |out| {
            let begin = out.len();
            header.write(out);
            job.plan.write_chunk(body, index, &chunk, out);
            let length = (out.len() - begin - HEADER_LEN) as u32; // about as much as the request had at most
            out[begin + HEADER_LEN - 4..begin + HEADER_LEN].copy_from_slice(&length.to_be_bytes());
        });
        let keys = u64::from(job.plan.keys_in(index));
        if let Some(part) = job.reach(index) {
            let again = std::mem::replace(&mut part.begun, true);
            part.stage = PartStage::Sent(lane, stream);
            part.sent = now;
            part.attempts = part.attempts.saturating_add(1);
            job.sent += u32::from(!again);
            job.sent_keys += keys * u64::from(!again);
        }
        job.unsent -= keys;
        let queued = &mut self.callers.known[request.known as usize].queued;
        *queued = queued.saturating_sub(keys);
        request.attempts = 1;
        request.first_sent.get_or_insert(now);
        let (client, known) = (request.client, request.known);
        let info = &self.lanes[lane.0 as usize].info;
        let (node, cluster) = (info.node, info.cluster);
        self.spend(client, known, node, keys);
        self.nodes[node.0 as usize].bulk.keys += keys;
        self.clusters[cluster.0 as usize].budget.asked(now);
        self.mark_lane(lane);
        keys
    }

    /// A part holds nothing of its lane any more.
    pub(super) fn part_landed(&mut self, lane: LaneId, keys: u64) {
        let node = self.lanes[lane.0 as usize].info.node;
        let node = &mut self.nodes[node.0 as usize];
        node.operations = node.operations.saturating_sub(keys);
        node.bulk.keys = node.bulk.keys.saturating_sub(keys);
        self.pump_due = true;
    }

    /// The reply to a part has come.
    pub(super) fn part_answered(
        &mut self,
        id: RequestId,
        index: u32,
        lane: LaneId,
        header: &Header,
        body: &[u8],
        now: Instant,
    ) {
        let Some(request) = self.requests.get_mut(id) else { return };
        let Some(job) = &mut request.job else { return };
        let keys = u64::from(job.plan.keys_in(index));
        let Some(part) = job.part_mut(index) else { return };
        let repaired = matches!(part.stage, PartStage::Repairing(..));
        let may_repair = !repaired && part.repairs < REPAIRS_MAX;
        // answered, or answered with an error that ends the request: either way it is not under way
        part.stage = PartStage::Answered;
        let unprepared = match header.opcode {
            Opcode::Error if may_repair => super::answers::unprepared_id(header, body),
            _ => None,
        };
        let forgotten = unprepared.and_then(|id| job.statement(id).cloned());
        let dialect = Dialect::of(request.version);
        self.part_landed(lane, keys);
        if header.opcode == Opcode::Error {
            if let Some(prepared) = forgotten {
                match self.part_joins_repair(id, index, lane, &prepared.id) {
                    Repair::Again => self.part_waits(id, index, true, now),
                    Repair::Joined => {}
                    Repair::Lead => self.repair_part(id, index, lane, keys, &prepared, now),
                }
            } else if repaired {
                // of the PREPARE: the table may be gone, and the clients hear why
                let joined = self.share_repair(Needs::Part(id, index));
                self.pass_on(id, header, body, Outcome::Error, now);
                for id in joined {
                    self.pass_on(id, header, body, Outcome::Error, now);
                }
            } else if !self.part_fails_over(id, index, lane, header, body, now) {
                self.gather_part(id, index, header, body, now);
            }
            return;
        }
        if !repaired {
            return self.gather_part(id, index, header, body, now);
        }
        let located = Prefix::locate(header.version, header.flags, body)
            .and_then(|prefix| ResultBody::locate(&mut Cursor::within(body, prefix.message), dialect));
        if header.opcode == Opcode::Result && matches!(located, Ok(ResultBody::Prepared(_))) {
            self.repaired(Needs::Part(id, index), now);
            self.part_waits(id, index, true, now);
        } else {
            self.leaves_repair(Needs::Part(id, index), now);
            self.fail(id, Failure::BadReply, now);
        }
    }

    /// A part is to be sent (again); `free`: the attempt before does not count, because nothing was carried out.
    pub(super) fn part_waits(&mut self, id: RequestId, index: u32, free: bool, now: Instant) {
        let Some(request) = self.requests.get_mut(id) else { return };
        let Some(job) = &mut request.job else { return };
        let keys = u64::from(job.plan.keys_in(index));
        let Some(part) = job.part_mut(index) else { return };
        part.stage = PartStage::Waits;
        part.attempts = part.attempts.saturating_sub(u8::from(free));
        job.unsent += keys;
        self.callers.known[request.known as usize].queued += keys;
        self.offer(id, now);
    }

    /// Prepares the statement again on the bulk lane of the node that has forgotten it.
    fn repair_part(
        &mut self,
        id: RequestId,
        index: u32,
        lane: LaneId,
        keys: u64,
        prepared: &Prepared,
        now: Instant,
    ) {
        let cluster = self.lanes[lane.0 as usize].info.cluster;
        let out = &mut self.lanes[lane.0 as usize];
        let envelope = super::answers::prepare_again(prepared, out.info.version);
        let Some(stream) = out.take_stream_for(Owner::Part(id, index), now) else {
            self.leaves_repair(Needs::Part(id, index), now);
            // of a batch, other parts may have been carried out
            let write = self.requests.get(id).is_some_and(|request| request.method == Method::Batch);
            let failure = if write { Failure::OutcomeUnknown } else { Failure::NotSent };
            return self.fail(id, failure, now);
        };
        out.send(&envelope, stream);
        let node = out.info.node;
        let part = self.requests.get_mut(id).and_then(|request| request.job.as_mut()?.part_mut(index));
        if let Some(part) = part {
            part.stage = PartStage::Repairing(lane, stream);
        }
        let node = &mut self.nodes[node.0 as usize];
        node.operations += keys;
        node.bulk.keys += keys;
        self.registry(cluster).repaired += 1;
        self.mark_lane(lane);
    }

    /// Adds the answer of a part; answers the client when it was the last one that was wanted.
    fn gather_part(&mut self, id: RequestId, index: u32, header: &Header, body: &[u8], now: Instant) {
        let Some(request) = self.requests.get_mut(id) else { return };
        let cluster = self.clients[request.client.slot as usize].cluster;
        let Some(job) = &mut request.job else { return };
        let Some(gather) = &mut job.gather else { return };
        let (first, rows) = (job.first, gather.rows());
        let outcome = gather.take(index, header, body);
        while job.first < gather.next() && job.parts.pop_front().is_some() {
            job.first += 1;
        }
        if job.first > first && job.plan.state_of(first).is_none() {
            let keys = (first..job.first).map(|part| u64::from(job.plan.keys_in(part))).sum();
            let all = outcome == Ok(Status::Open); // else the page may have ended within a part
            if let Some(prepared) = &job.prepared {
                prepared.yields.learn(keys, gather.rows() - rows, all);
            }
        }
        let held = gather.bytes();
        let splits = &mut self.clusters[cluster.0 as usize].splits;
        splits.gathered = (splits.gathered + held).saturating_sub(job.gathered);
        job.gathered = held;
        match outcome {
            Ok(Status::Open) => self.offer(id, now),
            Ok(Status::Done) => self.job_done(id, now),
            Ok(Status::Failed) => self.job_failed(id, now),
            Err(Fault::Columns) if job.restarts < RESTARTS_MAX => self.restart_job(id, now),
            Err(Fault::TooLarge) => {
                let most = self.cluster_settings(cluster).gather_bytes_max.0;
                let text = format!(
                    "weir: the answer is larger than gather_bytes_max ({most} bytes): ask for fewer keys, or in pages"
                );
                self.refuse_job(id, &text, now);
            }
            Err(Fault::Malformed | Fault::NotRows | Fault::NotVoid | Fault::Columns) => {
                self.fail(id, Failure::BadReply, now)
            }
        }
    }

    /// The connection a part was sent on is gone.
    pub(super) fn part_lost(&mut self, id: RequestId, index: u32, lane: LaneId, now: Instant) {
        let Some(request) = self.requests.get_mut(id) else { return };
        let Some(job) = &mut request.job else { return };
        let keys = u64::from(job.plan.keys_in(index));
        let Some(part) = job.part_mut(index) else { return };
        let unsent = matches!(part.stage, PartStage::Repairing(..));
        let may_repeat = request.idempotent && part.attempts < ATTEMPTS_MAX;
        part.stage = PartStage::Answered; // it is not under way
        self.part_landed(lane, keys);
        if unsent {
            self.leaves_repair(Needs::Part(id, index), now);
        }
        let info = &self.lanes[lane.0 as usize].info;
        let (cluster, node) = (info.cluster, info.node);
        if unsent || (may_repeat && self.within_budget(cluster, now)) {
            return self.part_waits(id, index, unsent, now);
        }
        let name = self.nodes[node.0 as usize].name.clone();
        self.fail_at(id, Failure::OutcomeUnknown, &name, now);
    }
}
