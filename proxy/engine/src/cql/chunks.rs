//! Whose part goes next: split requests wait in one fair queue per cluster and version, and a part of the one whose turn
//! it is goes to whichever node has room on its bulk lane. Parts that a node turned away go first, to another node.
//!
//! Bounds: `chunks_in_flight` parts per node over all versions, callers and workers (a worker has its share of them, and
//! one at least), parts that nobody waits for any more included, because the node works on them all the same, and only
//! `chunks_beside_requests` while the node serves other requests of this worker too, so that those find it free; and
//! `gather_bytes_max` bytes of answers held per cluster and worker: while it is reached only the oldest split request
//! goes on, so that one always ends.

use super::CqlEngine;
use super::failover::Tried;
use super::job::PartStage;
use super::lifecycle::VERSIONS;
use super::node::{Lane, LaneInfo, Nearness, NodeId, QUANTUM, version_index};
use super::request::RequestId;
use super::topology::put_lane;
use crate::ledger::Outcome;
use crate::multiplex::LaneState;
use crate::queue::FairQueue;
use crate::units::{ClusterId, Instant, LaneId, Span};
use rustc_hash::FxHashMap;
use std::collections::VecDeque;
use weir_cql::Version;

/// A node to which this worker has sent nothing but parts for so long serves nobody else, as far as it knows.
const ALONE_AFTER: Span = Span::millis(20);

/// The bulk lanes of one node.
#[derive(Debug, Default)]
pub(super) struct Bulk {
    /// By version; there once a request in that version was split.
    pub(super) lanes: [Option<LaneId>; 3],
    /// Keys of the parts that somebody waits for.
    pub(super) keys: u64,
}

impl Bulk {
    /// The lane is no longer this node's.
    pub(super) fn forget(&mut self, id: LaneId) {
        for place in &mut self.lanes {
            *place = place.filter(|lane| *lane != id);
        }
    }
}

/// The split requests of one cluster.
#[derive(Debug)]
pub(super) struct Splits {
    /// Those that have a part to send, by version.
    pub(super) queues: [FairQueue<RequestId>; 3],
    /// All of them, the oldest first.
    pub(super) jobs: VecDeque<RequestId>,
    /// Parts that a node turned away and that wait for room at another one; never more than parts were in flight.
    pub(super) moving: VecDeque<(RequestId, u32)>,
    /// Bytes of answers they hold.
    pub(super) gathered: usize,
    /// Those that ended, by outcome, and requests for many keys that were sent whole, by reason; since the start.
    pub(super) ended: [u64; Outcome::COUNT],
    pub(super) whole: FxHashMap<&'static str, u64>,
    /// The version and the node that are looked at first.
    version_turn: usize,
    node_turn: usize,
}

impl Default for Splits {
    fn default() -> Splits {
        Splits {
            queues: std::array::from_fn(|_| FairQueue::new(QUANTUM)),
            jobs: VecDeque::new(),
            moving: VecDeque::new(),
            gathered: 0,
            ended: [0; Outcome::COUNT],
            whole: FxHashMap::default(),
            version_turn: 0,
            node_turn: 0,
        }
    }
}

impl Splits {
    pub(super) fn queue(&mut self, version: Version) -> &mut FairQueue<RequestId> {
        &mut self.queues[version_index(version)]
    }
}

impl CqlEngine {
    /// What a node says of itself when it is connected: whether it is Scylla, which is asked for many keys at once.
    pub fn lane_says(&mut self, id: LaneId, scylla: bool) {
        let node = self.lanes[id.0 as usize].info.node;
        self.nodes[node.0 as usize].scylla = Some(scylla);
    }

    /// Every node of the cluster gets its bulk lane in this version.
    pub(super) fn lay_out_bulk(&mut self, cluster: ClusterId, version: Version) {
        let cluster = &self.clusters[cluster.0 as usize];
        let far = cluster.settings.remote_failover;
        for id in &cluster.nodes {
            let node = &mut self.nodes[id.0 as usize];
            if node.nearness() == Nearness::Remote && !far {
                continue;
            }
            let place = &mut node.bulk.lanes[version_index(version)];
            if place.is_some() {
                continue;
            }
            let info = LaneInfo {
                cluster: node.cluster,
                of: cluster.of,
                node: *id,
                address: node.address.clone(),
                version,
                auth_file: cluster.auth_file(),
                principal: cluster.principal(),
                registers: false,
                shard: None,
                tells_shard: false,
                bulk: true,
            };
            let lane = Lane::new(info, &cluster.settings);
            *place = Some(put_lane(&mut self.lanes, &mut self.free_lanes, lane));
            self.lanes_added = true;
        }
    }

    /// Whether any bulk lane of the cluster is connected, or may soon be.
    pub(super) fn bulk_stands(&self, cluster: ClusterId, version: Version) -> bool {
        let nodes = self.clusters[cluster.0 as usize].nodes.iter();
        let mut lanes = nodes.filter_map(|node| self.bulk_lane_of(*node, version));
        lanes.any(|lane| {
            let state = self.lanes[lane.0 as usize].state;
            matches!(state, LaneState::Up | LaneState::Connecting)
        })
    }

    pub(super) fn bulk_lane_of(&self, node: NodeId, version: Version) -> Option<LaneId> {
        self.nodes[node.0 as usize].bulk.lanes[version_index(version)]
    }

    /// Parts a node works on, whether anybody waits for them or not.
    pub(super) fn parts_in_flight(&self, node: NodeId) -> usize {
        let lanes = self.nodes[node.0 as usize].bulk.lanes.iter().flatten();
        lanes.map(|lane| self.lanes[lane.0 as usize].streams.in_use()).sum()
    }

    /// This worker's share of the parts a node may have in flight.
    pub(super) fn parts_max(&self, cluster: ClusterId) -> usize {
        let max = u64::from(self.cluster_settings(cluster).chunks_in_flight);
        usize::try_from(max / self.workers).unwrap_or(usize::MAX).max(1)
    }

    /// The same for a node just now.
    pub(super) fn parts_now(&self, id: NodeId, now: Instant) -> usize {
        let node = &self.nodes[id.0 as usize];
        let most = self.parts_max(node.cluster);
        let serves = |id: &NodeId| {
            let node = &self.nodes[id.0 as usize];
            let recent = node.asked.is_some_and(|asked| now.since(asked) < ALONE_AFTER);
            recent || node.groups.iter().flatten().any(|group| group.in_flight > 0)
        };
        if !self.peers(&id).iter().any(serves) {
            return most;
        }
        let beside = u64::from(self.cluster_settings(node.cluster).chunks_beside_requests);
        usize::try_from(beside / self.workers).unwrap_or(usize::MAX).clamp(1, most)
    }

    /// Whether parts can be sent to any node but those that were tried.
    pub(super) fn has_other_bulk(&self, cluster: ClusterId, version: Version, tried: &Tried) -> bool {
        let mut others = self.clusters[cluster.0 as usize].nodes.iter().filter(|node| !tried.has(**node));
        others.any(|node| {
            let lane = self.bulk_lane_of(*node, version);
            lane.is_some_and(|lane| self.lanes[lane.0 as usize].is_usable())
        })
    }

    /// A bulk lane with room, of the next node in turn that has one and was not tried.
    fn free_bulk_lane(
        &mut self,
        id: ClusterId,
        version: Version,
        tried: &Tried,
        now: Instant,
    ) -> Option<LaneId> {
        let cluster = &self.clusters[id.0 as usize];
        let (count, first) = (cluster.nodes.len(), cluster.splits.node_turn);
        let streams = usize::from(cluster.settings.streams_per_connection);
        // those that are near, in turn; the others only while none of those is up
        let up = |node: &&NodeId| {
            let lane = self.bulk_lane_of(**node, version);
            !tried.has(**node) && lane.is_some_and(|lane| self.lanes[lane.0 as usize].is_usable())
        };
        let nearness = |node: &NodeId| self.nodes[node.0 as usize].nearness();
        let nearest = cluster.nodes.iter().filter(up).map(nearness).min()?;
        for step in 0..count {
            let place = (first + step) % count;
            let node = cluster.nodes[place];
            let fits = !tried.has(node) && nearness(&node) == nearest;
            let Some(lane) = self.bulk_lane_of(node, version).filter(|_| fits) else { continue };
            let state = &self.lanes[lane.0 as usize];
            let room = || self.has_part_room(node, now);
            if state.is_usable() && state.streams.in_use() < streams && room() {
                self.clusters[id.0 as usize].splits.node_turn = (place + 1) % count;
                return Some(lane);
            }
        }
        None
    }

    pub(super) fn gather_crowded(&self, cluster: ClusterId) -> bool {
        let place = &self.clusters[cluster.0 as usize];
        let gathered = if self.clusters.len() == self.settings.clusters.len() {
            place.splits.gathered
        } else {
            self.all_splits(cluster).map(|(_, splits)| splits.gathered).sum()
        };
        gathered as u64 > place.settings.gather_bytes_max.0
    }

    /// Sends parts as far as there is room.
    pub(super) fn pump_parts(&mut self, now: Instant) {
        for step in 0..self.clusters.len() {
            let index = (self.first_served + step) % self.clusters.len();
            if self.clusters[index].splits.jobs.is_empty() {
                continue;
            }
            let id = ClusterId(index as u32);
            while !self.replies_crowded() && self.pump_part(id, now) {}
        }
    }

    /// Sends one part, or finds that none can be sent.
    fn pump_part(&mut self, id: ClusterId, now: Instant) -> bool {
        if self.pump_moving(id, now) {
            return true;
        }
        if self.gather_crowded(id) {
            return self.pump_oldest(id, now);
        }
        let turn = self.clusters[id.0 as usize].splits.version_turn;
        for step in 0..VERSIONS.len() {
            let place = (turn + step) % VERSIONS.len();
            let version = VERSIONS[place];
            if self.clusters[id.0 as usize].splits.queue(version).is_empty() {
                continue;
            }
            let Some(lane) = self.free_bulk_lane(id, version, &Tried::default(), now) else { continue };
            let splits = &mut self.clusters[id.0 as usize].splits;
            splits.version_turn = (place + 1) % VERSIONS.len();
            let Some(popped) = splits.queue(version).pop() else { continue };
            let keys = self.send_part(popped.client, lane, now);
            self.clusters[id.0 as usize].splits.queue(version).charge(popped.principal, keys);
            self.offer(popped.client, now);
            return true;
        }
        false
    }

    /// Sends a part that was turned away to a node it was not at yet; where there is none any more, to whichever has
    /// room, in its turn. While the answers held are as many as may be, only one of the request that began first.
    fn pump_moving(&mut self, id: ClusterId, now: Instant) -> bool {
        let crowded = self.gather_crowded(id);
        let oldest = self.oldest_job(id);
        for place in 0..self.clusters[id.0 as usize].splits.moving.len() {
            let (request, index) = self.clusters[id.0 as usize].splits.moving[place];
            let Some(of) = self.requests.get(request).filter(|_| !crowded || oldest == Some(request)) else {
                continue;
            };
            let version = of.version;
            let Some(tried) = of.job.as_ref().and_then(|job| Some(job.part(index)?.tried)) else { continue };
            if !self.has_other_bulk(id, version, &tried) {
                let job = self.requests.get_mut(request).and_then(|request| request.job.as_mut());
                if let Some(part) = job.and_then(|job| job.part_mut(index)) {
                    part.stage = PartStage::Waits;
                }
                self.clusters[id.0 as usize].splits.moving.remove(place);
                self.offer(request, now);
                return true;
            }
            let Some(lane) = self.free_bulk_lane(id, version, &tried, now) else { continue };
            self.clusters[id.0 as usize].splits.moving.remove(place);
            self.send_part_at(request, index, lane, now);
            return true;
        }
        false
    }

    /// The answers held are as many as may be: the request that began first goes on, the others wait until it is done.
    fn pump_oldest(&mut self, id: ClusterId, now: Instant) -> bool {
        let Some(oldest) = self.oldest_job(id) else { return false };
        let Some(request) = self.requests.get(oldest) else { return false };
        let version = request.version;
        if !self.clusters[id.0 as usize].splits.queue(version).contains(oldest) {
            return false;
        }
        let Some(lane) = self.free_bulk_lane(id, version, &Tried::default(), now) else { return false };
        self.clusters[id.0 as usize].splits.queue(version).remove(oldest);
        self.send_part(oldest, lane, now);
        self.offer(oldest, now);
        true
    }
}
