//! Which nodes a cluster has: the contacts, until a [`Placement`] tells all of them. Nodes come and go while requests
//! are under way: those that stay keep their connections, those that leave get nothing more and are cut when nothing is
//! owed; what waited for them goes to the others.
//!
//! Bounds: `nodes_max` nodes, [`SHARDS_MAX`] shards of a node. A node or connection that is gone leaves its place to
//! the next one, so that a cluster whose addresses change for years costs no more than at its widest moment.

use super::cache::Cache;
use super::failover::FailoverCause;
use super::flight::FlightCounts;
use super::lifecycle::VERSIONS;
use super::node::{Group, Lane, LaneInfo, Nearness, Node, NodeId, Placed, QUANTUM, ShardDial};
use super::placement::{PlacedNode, Placement};
use super::prepared::Registry;
use super::routing::Routed;
use super::target::Tables;
use super::{Cluster, CqlEngine};
use crate::multiplex::LaneState;
use crate::queue::FairQueue;
use crate::retry_budget::RetryBudget;
use crate::settings::{Address, ClusterSettings};
use crate::units::{ClusterId, Instant, LaneId};
use std::num::{NonZeroU16, NonZeroUsize};
use std::sync::Arc;
use weir_cql::Version;
use weir_cql::key::Sharding;

/// Shards of a node that get connections of their own. A node with more is connected as if it told none.
pub(super) const SHARDS_MAX: u16 = 256;

impl CqlEngine {
    /// Where the data of a cluster lies: its nodes replace the contacts (with `discover`), and requests with a token go
    /// to a replica. In force until the next call; a picture without nodes changes nothing. `end_turn` must follow, and
    /// [`CqlEngine::lanes`] may want other connections.
    pub fn place(&mut self, cluster: ClusterId, placement: Arc<dyn Placement>, now: Instant) {
        if placement.nodes().is_empty() || cluster.0 as usize >= self.settings.clusters.len() {
            return;
        }
        let place = &mut self.clusters[cluster.0 as usize];
        if place.home.is_none() {
            place.home = home(&*placement, &place.settings);
        }
        place.tablets.settle(placement.nodes());
        let home = place.home.clone();
        for id in self.members(cluster) {
            let place = &mut self.clusters[id.0 as usize];
            if id != cluster && place.pool.is_none() {
                continue;
            }
            (place.placement, place.home) = (Some(placement.clone()), home.clone());
            self.settle_nodes(id, now);
            self.jobs_move_on(id, now);
        }
        self.pair_nodes(cluster);
        self.lanes_added = true;
        self.pump_due = true;
    }

    /// The driver keeps nothing of this lane any more: no socket, no attempt. Only for lanes that
    /// [`CqlEngine::lanes`] does not name; its number is given to another connection later.
    pub fn lane_gone(&mut self, id: LaneId) {
        let lane = &self.lanes[id.0 as usize];
        if lane.state != LaneState::Retired || lane.streams.in_use() > 0 || self.free_lanes.contains(&id) {
            return;
        }
        let (node, version) = (lane.info.node, lane.info.version);
        self.cuts.retain(|(cut, _)| *cut != id); // they are about the connection that was
        if let Some(group) = self.nodes[node.0 as usize].group_mut(version) {
            group.lanes.retain(|lane| *lane != id);
        }
        self.nodes[node.0 as usize].bulk.forget(id);
        self.free_lanes.push(id);
        let node_gone = &self.nodes[node.0 as usize];
        let lanes = node_gone.groups.iter().flatten().map(|group| group.lanes.len()).sum::<usize>()
            + node_gone.bulk.lanes.iter().flatten().count();
        if node_gone.retired && lanes == 0 && !self.free_nodes.contains(&node) {
            self.nodes[node.0 as usize].groups = [const { None }; 3];
            self.free_nodes.push(node);
        }
    }

    /// The shard that serves this lane, as the node said when it was connected (`SCYLLA_SHARD`).
    pub fn lane_on_shard(&mut self, id: LaneId, shard: u16) {
        self.lanes[id.0 as usize].shard = Some(shard);
    }

    /// A cluster at this place, with its contacts as nodes.
    pub(super) fn lay_out_cluster(&mut self, id: ClusterId, settings: ClusterSettings) -> Cluster {
        let prepared_max = NonZeroUsize::new(settings.prepared_max as usize).unwrap_or(NonZeroUsize::MIN);
        let nodes = settings.contacts.iter().map(|contact| self.add_node(id, contact)).collect();
        let rules = self.take_rules(&settings);
        Cluster {
            cache: Cache::new(settings.cache_bytes_max),
            flights: FlightCounts::default(),
            page_keys: super::page_keys::PageKeys::of(&settings),
            settings,
            of: id,
            pool: None,
            principals_refused: 0,
            nodes,
            rules,
            placement: None,
            placed: Vec::new(),
            home: None,
            registry: Registry::new(prepared_max),
            turn: 0,
            tablets: super::tablets::Tablets::default(),
            splits: super::chunks::Splits::default(),
            picks: 0,
            tables: Tables::default(),
            budget: RetryBudget::default(),
            retries: 0,
            retries_refused: 0,
            routed: [0; Routed::COUNT],
            failovers: [0; FailoverCause::COUNT],
        }
    }

    /// A node, in a place that is free.
    fn add_node(&mut self, cluster: ClusterId, address: &Address) -> NodeId {
        self.nodes_made = self.nodes_made.wrapping_add(1);
        let node = Node::new(cluster, self.nodes_made, address.clone());
        // what was spent is told under the old name before the place is used again, on accounts without a name too
        let held = |id: &NodeId| {
            let mut held = self.ledger.held().iter().flat_map(|(_, account)| &account.spent);
            held.any(|(node, _)| node.0 == id.0)
        };
        let told = |id: &NodeId| self.nodes[id.0 as usize].spent.iter().all(|spent| *spent == 0) && !held(id);
        if let Some(at) = self.free_nodes.iter().position(told) {
            let id = self.free_nodes.swap_remove(at);
            self.nodes[id.0 as usize] = node;
            return id;
        }
        self.nodes.push(node);
        NodeId(self.nodes.len() as u32 - 1)
    }

    /// Brings the nodes of a cluster in line with its settings and its placement.
    pub(super) fn settle_nodes(&mut self, id: ClusterId, now: Instant) {
        let cluster = &self.clusters[id.0 as usize];
        let placement = cluster.placement.clone();
        let wanted = wanted(cluster, placement.as_deref());
        let known = cluster.nodes.clone();
        let stays = |node: &NodeId| wanted.contains(&self.nodes[node.0 as usize].address);
        let (mut nodes, gone): (Vec<NodeId>, Vec<NodeId>) = known.iter().copied().partition(stays);
        for address in &wanted {
            if !nodes.iter().any(|node| self.nodes[node.0 as usize].address == *address) {
                nodes.push(self.add_node(id, address));
            }
        }
        let in_use = |version: &Version| {
            known.iter().any(|node| self.nodes[node.0 as usize].group(*version).is_some())
        };
        let versions: Vec<Version> = VERSIONS.into_iter().filter(in_use).collect();
        self.clusters[id.0 as usize].nodes = nodes;
        self.tell_nodes(id, placement.as_deref());
        for version in versions {
            self.lay_out_version(id, version);
        }
        for node in self.clusters[id.0 as usize].nodes.clone() {
            self.settle_lanes(node, now);
        }
        for node in gone {
            self.retire(node, now);
        }
    }

    /// Each node learns what the placement says of it.
    fn tell_nodes(&mut self, id: ClusterId, placement: Option<&dyn Placement>) {
        let cluster = &mut self.clusters[id.0 as usize];
        let told = placement.map_or(&[][..], |placement| placement.nodes());
        let dc = cluster.settings.local_dc.as_deref().or(cluster.home.as_deref());
        // a data center that nobody is in would leave nobody to ask
        let dc = dc.filter(|dc| told.iter().any(|node| *node.data_center == **dc));
        let rack = cluster.settings.local_rack.as_deref();
        let near = |node: &PlacedNode| match (dc, rack) {
            (Some(dc), _) if *node.data_center != *dc => Nearness::Remote,
            (_, Some(rack)) if *node.rack != *rack => Nearness::OtherRack,
            _ => Nearness::Near,
        };
        let place = |told: &PlacedNode| Placed {
            nearness: near(told),
            is_up: told.is_up,
            sharding: told.sharding.filter(|sharding| sharding.shards.get() <= SHARDS_MAX),
            shard_aware_port: told.shard_aware_port,
        };
        for node in &cluster.nodes {
            let node = &mut self.nodes[node.0 as usize];
            node.placed = told.iter().find(|told| told.address == node.address).map(place);
        }
        let known = |told: &PlacedNode| {
            cluster.nodes.iter().copied().find(|node| self.nodes[node.0 as usize].address == told.address)
        };
        cluster.placed = told.iter().map(known).collect();
    }

    /// The nodes of a cluster get connections in this version.
    pub(super) fn lay_out_version(&mut self, cluster: ClusterId, version: Version) {
        for index in 0..self.clusters[cluster.0 as usize].nodes.len() {
            let id = self.clusters[cluster.0 as usize].nodes[index];
            if self.nodes[id.0 as usize].group(version).is_none() {
                self.lay_out(id, version);
            }
        }
    }

    /// Adds the lanes of a group that is needed for the first time.
    fn lay_out(&mut self, id: NodeId, version: Version) {
        let node = &self.nodes[id.0 as usize];
        let first = node.groups.iter().all(Option::is_none);
        let lanes = self.add_lanes(id, version, first);
        self.nodes[id.0 as usize].groups[super::node::version_index(version)] =
            Some(Group { lanes, queue: FairQueue::new(QUANTUM), in_flight: 0 });
    }

    /// The connections a node should have in one version: `connections_per_node`, or as many for each of its shards.
    fn add_lanes(&mut self, id: NodeId, version: Version, registers: bool) -> Vec<LaneId> {
        let node = &self.nodes[id.0 as usize];
        let cluster = &self.clusters[node.cluster.0 as usize];
        let settings = &cluster.settings;
        let tells_shard = node.placed.as_ref().is_some_and(|placed| placed.sharding.is_some());
        let mut ids = Vec::new();
        for (index, shard) in dials(node.placed.as_ref(), settings).enumerate() {
            let info = LaneInfo {
                cluster: node.cluster,
                of: cluster.of,
                node: id,
                address: node.address.clone(),
                version,
                auth_file: cluster.auth_file(),
                principal: cluster.principal(),
                registers: registers && index == 0,
                shard,
                tells_shard,
                bulk: false,
            };
            let lane = Lane::new(info, settings);
            ids.push(put_lane(&mut self.lanes, &mut self.free_lanes, lane));
        }
        self.lanes_added = true;
        ids
    }

    /// A node that stays, but has other shards than its connections were made for, gets others.
    fn settle_lanes(&mut self, id: NodeId, now: Instant) {
        for version in VERSIONS {
            let node = &self.nodes[id.0 as usize];
            let Some(group) = node.group(version) else { continue };
            let settings = &self.clusters[node.cluster.0 as usize].settings;
            let current = |lane: &&LaneId| self.lanes[lane.0 as usize].state != LaneState::Retired;
            let old: Vec<LaneId> = group.lanes.iter().filter(current).copied().collect();
            let have = old.iter().map(|lane| self.lanes[lane.0 as usize].info.shard);
            if have.eq(dials(node.placed.as_ref(), settings)) {
                continue;
            }
            let registers = old.iter().any(|lane| self.lanes[lane.0 as usize].info.registers);
            let new = self.add_lanes(id, version, registers);
            if let Some(group) = self.nodes[id.0 as usize].group_mut(version) {
                group.lanes.extend(new);
            }
            for lane in old {
                self.retire_lane(lane, now);
            }
        }
    }

    fn retire(&mut self, id: NodeId, now: Instant) {
        let node = &mut self.nodes[id.0 as usize];
        node.retired = true;
        let lanes: Vec<LaneId> =
            node.groups.iter().flatten().flat_map(|group| &group.lanes).copied().collect();
        let bulk = self.nodes[id.0 as usize].bulk.lanes.into_iter().flatten();
        let lanes: Vec<LaneId> = lanes.into_iter().chain(bulk).collect();
        if lanes.is_empty() && !self.free_nodes.contains(&id) {
            self.free_nodes.push(id);
        }
        for lane in lanes {
            self.retire_lane(lane, now);
        }
        for version in VERSIONS {
            self.queue_moves_on(id, version, now);
        }
    }

    fn retire_lane(&mut self, id: LaneId, now: Instant) {
        let lane = &mut self.lanes[id.0 as usize];
        let up = lane.state == LaneState::Up;
        if lane.state == LaneState::Retired {
            return;
        }
        lane.state = LaneState::Retired;
        if up {
            self.cut_if_done(id);
        } else {
            // it will never be connected
            self.lane_empties(id, now);
        }
    }
}

/// A lane, in a place that is free.
pub(super) fn put_lane(lanes: &mut Vec<Lane>, free: &mut Vec<LaneId>, lane: Lane) -> LaneId {
    if let Some(id) = free.pop() {
        lanes[id.0 as usize] = lane;
        return id;
    }
    lanes.push(lane);
    LaneId(lanes.len() as u32 - 1)
}

/// The addresses a cluster should have as nodes, at most `nodes_max`.
fn wanted(cluster: &Cluster, placement: Option<&dyn Placement>) -> Vec<Address> {
    let settings = &cluster.settings;
    let Some(placement) = placement.filter(|_| settings.discover) else {
        return settings.contacts.clone();
    };
    let dc = settings.local_dc.as_deref().or(cluster.home.as_deref());
    let mut told: Vec<&PlacedNode> = placement.nodes().iter().collect();
    told.sort_by_key(|node| dc.is_some_and(|dc| *node.data_center != *dc));
    let mut addresses: Vec<Address> = Vec::new();
    for node in told {
        if addresses.len() < settings.nodes_max as usize && !addresses.contains(&node.address) {
            addresses.push(node.address.clone());
        }
    }
    addresses
}

/// The data center of the first contact.
fn home(placement: &dyn Placement, settings: &ClusterSettings) -> Option<Arc<str>> {
    let nodes = placement.nodes();
    let contact = placement.first_contact().and_then(|index| nodes.get(index));
    let named = || nodes.iter().find(|node| settings.contacts.contains(&node.address));
    contact.or_else(named).map(|node| node.data_center.clone())
}

/// The shards that a node's connections ask for, one entry per connection.
fn dials(
    placed: Option<&Placed>,
    settings: &ClusterSettings,
) -> impl Iterator<Item = Option<ShardDial>> + use<> {
    let shards: Option<NonZeroU16> =
        placed.and_then(|placed| placed.sharding).map(|sharding: Sharding| sharding.shards);
    let port = placed.and_then(|placed| placed.shard_aware_port);
    let ports = settings.shard_ports.zip(port).zip(shards);
    let each = settings.connections_per_node;
    (0..shards.map_or(1, NonZeroU16::get)).flat_map(move |shard| {
        let dial =
            ports.map(|((source_ports, port), shards)| ShardDial { shard, shards, port, source_ports });
        (0..each).map(move |_| dial)
    })
}
