//! Limits, which node, and whose turn it is.
//!
//! Queues form here, not in the node's socket: at most `requests_in_flight` requests are under way per node and
//! protocol version, and what waits is served by deficit round robin over principals.

use super::CqlEngine;
use super::error::{Failure, refusal};
use super::method::Method;
use super::node::{Lane, NodeId};
use super::request::{Purpose, RequestId, Stage};
use crate::admit::{Ask, Verdict, admit, book};
use crate::client::Held;
use crate::error::LimitKind;
use crate::ledger::{Outcome, SentTo};
use crate::settings::{LimitMode, RateRefusal};
use crate::units::{Bytes, ClientId, ClusterId, Instant, LaneId, Operations, ServerId};
use std::cmp::Reverse;
use weir_cql::Version;
use weir_cql::response::{ErrorBody, ErrorCode};

/// Entries of the list of paced requests that may belong to requests ended since, beyond one per request.
const STALE_PACED_MAX: usize = 64;

impl CqlEngine {
    /// A request that is new, or whose pacing is over.
    pub(super) fn dispatch(&mut self, id: RequestId, now: Instant) {
        if !self.admitted(id, now) {
            return;
        }
        if let Some(request) = self.requests.get(id)
            && let Purpose::Prepare(key) = &request.purpose
        {
            let cluster = self.clients[request.client.slot as usize].cluster;
            let key = key.clone();
            if self.registry(cluster).join(&key, id) {
                if let Some(request) = self.requests.get_mut(id) {
                    request.stage = Stage::Joined;
                }
                return;
            }
        }
        self.launch(id, now);
    }

    /// Books it; `false` when it was refused (and answered) or has to wait.
    fn admitted(&mut self, id: RequestId, now: Instant) -> bool {
        let Some(request) = self.requests.get_mut(id) else { return false };
        if request.held.is_some() {
            return true;
        }
        let known = &self.callers.known[request.known as usize];
        let account = self.clients[request.client.slot as usize].account();
        let ledger_method = crate::ledger::Method::from(request.method);
        let first_look = request.stage == Stage::New;
        if first_look {
            self.ledger.asked(account, ledger_method, request.operations);
        }
        let ask = Ask {
            operations: Operations(request.operations),
            bytes: Bytes(known.reply_bytes.saturating_mul(request.operations)),
            waited: now.since(request.waiting_since),
            invalidation: false,
        };
        let listener = self.clients[request.client.slot as usize].listener;
        let switched_on = self.settings.listeners[listener.0 as usize].switches.limits;
        // what drivers need to stay connected is never refused
        let free = matches!(request.method, Method::System | Method::Use | Method::Prepare);
        let verdict = if switched_on && !free {
            admit(&known.state, &known.limits, ask, now)
        } else {
            book(&known.state, ask);
            Verdict::Admit { over: None }
        };
        match verdict {
            Verdict::Admit { over } => {
                if let Some(kind) = over {
                    self.ledger.over_limit(account, kind, LimitMode::Observe);
                }
                request.held = Some(Held { operations: ask.operations, bytes: ask.bytes });
                true
            }
            Verdict::Wait { wait, kind } => {
                if first_look {
                    self.ledger.over_limit(account, kind, LimitMode::Pace);
                }
                request.stage = Stage::Paced;
                self.pace(id, now.after(wait));
                false
            }
            Verdict::Refuse { kind, ceiling } => {
                self.ledger.over_limit(account, kind, LimitMode::Refuse);
                let text = refusal(kind, &known.identity.name, ask.operations, ceiling);
                let cluster = self.clients[request.client.slot as usize].cluster;
                let rates = self.cluster_settings(cluster).refuse_rate_as;
                let code = match (kind, rates) {
                    (LimitKind::OperationsPerRequest, _) | (_, RateRefusal::Invalid) => ErrorCode::INVALID,
                    (_, RateRefusal::Overloaded) => ErrorCode::OVERLOADED,
                };
                self.answer_error(id, &ErrorBody::plain(code, &text), Outcome::Refused, now);
                false
            }
        }
    }

    fn pace(&mut self, id: RequestId, until: Instant) {
        if self.paced.len() >= 2 * self.requests.len() + STALE_PACED_MAX {
            let requests = &self.requests;
            self.paced.retain(|Reverse((_, slot, generation))| {
                let id = RequestId { slot: *slot, generation: *generation };
                requests.get(id).is_some_and(|request| request.stage == Stage::Paced)
            });
        }
        self.paced.push(Reverse((until, id.slot, id.generation)));
    }

    pub(super) fn paced_due(&mut self, now: Instant) {
        while let Some(&Reverse((due, slot, generation))) = self.paced.peek() {
            if due > now {
                break;
            }
            self.paced.pop();
            let id = RequestId { slot, generation };
            if self.requests.get(id).is_some_and(|request| request.stage == Stage::Paced) {
                self.dispatch(id, now);
            }
        }
        if self.paced.is_empty() && self.paced.capacity() > STALE_PACED_MAX {
            self.paced = std::collections::BinaryHeap::new();
        }
    }

    /// The nodes of a cluster get connections in this version.
    pub(super) fn version_needed(&mut self, id: ClientId, version: Version) {
        self.lay_out_version(self.clients[id.slot as usize].cluster, version);
    }

    /// Chooses a node, and sends or queues.
    pub(super) fn route(&mut self, id: RequestId, now: Instant) {
        let Some(request) = self.requests.get(id) else { return };
        let version = request.version;
        let cluster = self.clients[request.client.slot as usize].cluster;
        self.lay_out_version(cluster, version);
        let Some(node) = self.choose(id, cluster) else {
            return self.fail(id, Failure::NoNode, now);
        };
        let shard = self.requests.get(id).and_then(|request| request.shard);
        let lane = self.free_lane(node, version, shard);
        let room = self.has_room(node, version) && !self.replies_crowded();
        let group = self.nodes[node.0 as usize].group_mut(version);
        let Some(group) = group else { return self.fail(id, Failure::NoNode, now) };
        match lane {
            Some(lane) if group.queue.is_empty() && room => {
                self.send(id, lane, now);
            }
            _ => self.queue(id, node, now),
        }
    }

    pub(super) fn in_flight_max(&self, cluster: ClusterId) -> u64 {
        (self.cluster_settings(cluster).requests_in_flight.0 / self.workers).max(1)
    }

    fn queue(&mut self, id: RequestId, node: NodeId, now: Instant) {
        let Some(request) = self.requests.get_mut(id) else { return };
        request.stage = Stage::Queued(node);
        let known = &mut self.callers.known[request.known as usize];
        known.queued += request.operations;
        let version = request.version;
        if let Some(group) = self.nodes[node.0 as usize].group_mut(version) {
            group.queue.push(known.principal, known.limits.class, id, request.operations, now);
        }
    }

    /// The lane of the node with the fewest stream ids in use that can take one more request; one to the shard, if any.
    ///
    /// Nothing is sent to a lane that is not connected: what waits in the queue can go elsewhere, or be refused with the
    /// certainty that it was not carried out.
    pub(super) fn free_lane(&self, node: NodeId, version: Version, shard: Option<u16>) -> Option<LaneId> {
        let group = self.nodes[node.0 as usize].group(version)?;
        let usable = |lane: &Lane| {
            lane.is_usable()
                && lane.streams.in_use()
                    < usize::from(self.cluster_settings(lane.info.cluster).streams_per_connection)
        };
        let lanes = group.lanes.iter().copied();
        let usable = lanes.filter(|lane| usable(&self.lanes[lane.0 as usize]));
        usable.min_by_key(|lane| {
            let lane = &self.lanes[lane.0 as usize];
            (shard.is_some() && lane.shard != shard, lane.streams.in_use())
        })
    }

    pub(super) fn send(&mut self, id: RequestId, lane: LaneId, now: Instant) {
        let Some(request) = self.requests.get_mut(id) else { return };
        let out = &mut self.lanes[lane.0 as usize];
        let Some(stream) = out.take_stream(id, now) else { return };
        out.send(&request.envelope, stream);
        request.stage = Stage::Sent(lane, stream);
        let serial = self.nodes[out.info.node.0 as usize].serial;
        request.sent_to = Some(SentTo { serial, shard: request.shard });
        request.attempts = request.attempts.saturating_add(1);
        request.coalesced = false;
        request.first_sent.get_or_insert(now);
        request.sent = now;
        let (node, cluster) = (out.info.node, out.info.cluster);
        let (client, known, operations) = (request.client, request.known, request.operations);
        let at = &mut self.nodes[node.0 as usize];
        if !matches!(request.method, Method::System | Method::Use | Method::Prepare) {
            at.asked = Some(now);
        }
        if let Some(group) = at.group_mut(request.version) {
            group.in_flight += 1;
        }
        let place = &mut self.clusters[cluster.0 as usize];
        place.budget.asked(now);
        if let Some(routed) = request.routed.take() {
            place.routed[routed as usize] += 1;
        }
        self.spend(client, known, node, operations);
        self.mark_lane(lane);
    }

    /// Operations that a node is asked for now; on the held account of a connection that has no name yet.
    pub(super) fn spend(&mut self, client: ClientId, known: u32, node: NodeId, operations: u64) {
        let account = self.clients[client.slot as usize].held;
        let account = account.and_then(|account| self.ledger.held_mut().get_mut(account));
        let at = &mut self.nodes[node.0 as usize];
        at.backend_operations += operations;
        at.operations += operations;
        match account {
            Some(held) => held.spend(ServerId(node.0), operations),
            None => at.spend(known, operations),
        }
    }

    /// The request holds nothing of its lane any more, whether its stream id is free or an orphan's.
    pub(super) fn landed(&mut self, lane: LaneId, version: Version, operations: u64) {
        let node = self.lanes[lane.0 as usize].info.node;
        let node = &mut self.nodes[node.0 as usize];
        node.operations = node.operations.saturating_sub(operations);
        if let Some(group) = node.group_mut(version) {
            group.in_flight = group.in_flight.saturating_sub(1);
        }
        self.pump_due = true;
    }

    /// Serves the queues of all nodes as far as there is room.
    pub(super) fn pump_all(&mut self, now: Instant) {
        self.first_served = self.first_served.wrapping_add(1);
        for step in 0..self.nodes.len() {
            let index = (self.first_served + step) % self.nodes.len();
            for version in [Version::V3, Version::V4, Version::V5] {
                let waits = self.nodes[index].group(version).is_some_and(|group| !group.queue.is_empty());
                if waits {
                    self.pump(NodeId(index as u32), version, now);
                }
            }
        }
        self.pump_parts(now);
    }

    fn pump(&mut self, node: NodeId, version: Version, now: Instant) {
        while !self.replies_crowded() && self.has_room(node, version) {
            let Some(mut lane) = self.free_lane(node, version, None) else { return };
            let Some(group) = self.nodes[node.0 as usize].group_mut(version) else { return };
            let Some(popped) = group.queue.pop() else { return };
            let Some(request) = self.requests.get_mut(popped.client) else { continue };
            let operations = request.operations;
            let known = request.known as usize;
            if let Some(shard) = request.shard {
                lane = self.free_lane(node, version, Some(shard)).unwrap_or(lane);
            }
            if let Some(group) = self.nodes[node.0 as usize].group_mut(version) {
                group.queue.charge(popped.principal, operations);
            }
            let queued = &mut self.callers.known[known].queued;
            *queued = queued.saturating_sub(operations);
            self.send(popped.client, lane, now);
        }
    }

    /// Takes a request out of the queue it waits in.
    pub(super) fn unqueue(&mut self, id: RequestId) {
        let Some(request) = self.requests.get_mut(id) else { return };
        let Stage::Queued(node) = request.stage else { return };
        request.stage = Stage::New;
        let (version, operations, known) = (request.version, request.operations, request.known as usize);
        if let Some(group) = self.nodes[node.0 as usize].group_mut(version)
            && group.queue.remove(id)
        {
            let queued = &mut self.callers.known[known].queued;
            *queued = queued.saturating_sub(operations);
        }
    }
}
