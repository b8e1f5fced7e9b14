//! Connections come and go. Clients keep theirs: what was not sent waits or fails fast, what may be sent twice is sent
//! again under a budget, everything else is answered with an error that says the outcome is unknown.

use super::CqlEngine;
use super::error::Failure;
use super::failover::{ATTEMPTS_MAX, FailoverCause};
use super::node::{LaneInfo, NodeId};
use super::repairs::Needs;
use super::request::{Purpose, RequestId, Stage};
use crate::multiplex::LaneState;
use crate::units::{Instant, LaneId};
use weir_cql::{SegmentDecoder, Version};

impl CqlEngine {
    /// Lanes that the driver keeps connected.
    pub fn lanes(&self) -> impl Iterator<Item = (LaneId, &LaneInfo)> {
        let current = |lane: &&super::node::Lane| lane.state != LaneState::Retired;
        let numbered = self.lanes.iter().enumerate();
        numbered
            .filter(move |(_, lane)| current(lane))
            .map(|(index, lane)| (LaneId(index as u32), &lane.info))
    }

    /// Whether lanes were added since the last call.
    pub fn take_lanes_added(&mut self) -> bool {
        std::mem::take(&mut self.lanes_added)
    }

    /// The lane is connected and ready for requests.
    pub fn lane_up(&mut self, id: LaneId, now: Instant) {
        let lane = &mut self.lanes[id.0 as usize];
        if lane.state == LaneState::Retired {
            return;
        }
        lane.heard = now;
        lane.state = LaneState::Up;
        if lane.info.version >= Version::V5 {
            lane.segments = Some(SegmentDecoder::new(false, weir_cql::BODY_MAX));
        }
        if lane.info.registers {
            // what changed while nobody told is not known
            self.schema_changed(id);
        }
        self.pump_due = true;
        self.mark_lane(id);
    }

    /// An attempt to connect failed: what waits for this lane alone fails fast.
    pub fn lane_failed(&mut self, id: LaneId, now: Instant) {
        let lane = &mut self.lanes[id.0 as usize];
        if lane.state != LaneState::Retired {
            lane.state = LaneState::Down;
        }
        self.lane_empties(id, now);
    }

    /// The connection was lost; another attempt follows.
    pub fn lane_lost(&mut self, id: LaneId, now: Instant) {
        let lane = &mut self.lanes[id.0 as usize];
        if lane.state != LaneState::Retired {
            lane.state = LaneState::Connecting;
        }
        self.lane_empties(id, now);
    }

    /// Everything that was on its way finds another one or is told so; queues whose node is gone are emptied.
    pub(super) fn lane_empties(&mut self, id: LaneId, now: Instant) {
        let lane = &mut self.lanes[id.0 as usize];
        let sent: Vec<RequestId> = lane.streams.requests().map(|(_, request)| request).collect();
        let parts: Vec<(RequestId, u32)> = lane.streams.parts().collect();
        let (node, version, cluster) = (lane.info.node, lane.info.version, lane.info.cluster);
        let through = lane.through.take();
        lane.reset();
        lane.cut = lane.state == LaneState::Retired; // it is cut for good
        // before anything ends: who takes a request's place must not take a stream id that is gone
        let sent: Vec<RequestId> = sent.into_iter().filter(|request| self.comes_back(*request, id)).collect();
        self.breaks_off(id, through, now);
        for request in sent {
            self.moves_on(request, id, now);
        }
        for (request, part) in parts {
            self.part_lost(request, part, id, now);
        }
        if self.lanes[id.0 as usize].info.bulk {
            return self.jobs_without_lane(cluster, now);
        }
        let stands = |lane: &LaneId| {
            matches!(self.lanes[lane.0 as usize].state, LaneState::Up | LaneState::Connecting)
        };
        let group = self.nodes[node.0 as usize].group(version);
        if group.is_some_and(|group| !group.lanes.iter().any(stands)) {
            self.queue_moves_on(node, version, now);
        }
    }

    /// A request whose lane is gone is on no lane.
    fn comes_back(&mut self, id: RequestId, lane: LaneId) -> bool {
        let Some(request) = self.requests.get_mut(id) else { return false };
        request.stage = Stage::New;
        let (version, operations) = (request.version, request.operations);
        self.landed(lane, version, operations);
        true
    }

    /// A request whose lane is gone.
    fn moves_on(&mut self, id: RequestId, lane: LaneId, now: Instant) {
        let Some(request) = self.requests.get_mut(id) else { return };
        if matches!(request.purpose, Purpose::List(_)) {
            return self.list_lost(id, lane, now);
        }
        // the node had said that it does not know the statement: nothing was carried out
        let unsent = matches!(request.purpose, Purpose::Repair);
        if unsent {
            request.purpose = Purpose::Forward;
        }
        request.purpose.begins_anew();
        request.tried.note(self.lanes[lane.0 as usize].info.node);
        let may_repeat = (request.idempotent || unsent) && request.attempts < ATTEMPTS_MAX;
        self.leaves_repair(Needs::Request(id), now);
        let info = &self.lanes[lane.0 as usize].info;
        let (cluster, node) = (info.cluster, info.node);
        if may_repeat && (unsent || self.within_budget(cluster, now)) {
            self.route(id, now);
            return self.moved(id, cluster, FailoverCause::Lost);
        }
        let name = self.nodes[node.0 as usize].name.clone();
        let failure = if unsent { Failure::NotSent } else { Failure::OutcomeUnknown };
        self.fail_at(id, failure, &name, now);
    }

    pub(super) fn queue_moves_on(&mut self, node: NodeId, version: Version, now: Instant) {
        let cluster = self.nodes[node.0 as usize].cluster;
        let Some(group) = self.nodes[node.0 as usize].group_mut(version) else { return };
        let mut waiting = Vec::new();
        while let Some(popped) = group.queue.pop() {
            waiting.push(popped.client);
        }
        for id in waiting {
            let Some(request) = self.requests.get_mut(id) else { continue };
            request.stage = Stage::New;
            let queued = &mut self.callers.known[request.known as usize].queued;
            *queued = queued.saturating_sub(request.operations);
            self.route(id, now);
            self.moved(id, cluster, FailoverCause::Down);
        }
    }
}
