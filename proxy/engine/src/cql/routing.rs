//! Which node a request goes to: a replica of its partition that is near and not busy, else any node that is near.
//!
//! The order of preference: replicas of the local data center (of the local rack first), other nodes of it in turn,
//! and only when none of it is up, and `remote_failover` says so, the same in other data centers. A node that failed
//! the request before comes after all those that did not; one that the others think down after those they think up. Among
//! replicas that are equally good the one with the fewest requests of ours is taken, and of those that are equal in this
//! too each in its turn. Conditional statements go to the first replica that is up, so that those about one partition
//! meet in one place instead of in each other's way.

use super::failover::Tried;
use super::method::Method;
use super::node::{Lane, Nearness, Node, NodeId};
use super::request::{Purpose, RequestId};
use super::tablets::Replica;
use super::target::Target;
use super::{Cluster, CqlEngine};
use crate::multiplex::LaneState;
use crate::units::{ClusterId, LaneId};
use weir_cql::Version;
use weir_cql::key::shard_of;

/// How a request found its node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Routed {
    /// To a replica in the local data center; in the local rack, where one is named.
    Replica,
    /// To a replica in another rack of the local data center.
    OtherRack,
    /// To a node of another data center.
    Remote,
    /// To any node: its partition could not be told.
    NoToken,
    /// To any node: no replica of its partition is near, up and known.
    Fallback,
}

impl Routed {
    /// How many ways there are.
    pub const COUNT: usize = 5;

    /// Every way, in the order of the counts.
    pub const ALL: [Routed; Routed::COUNT] =
        [Routed::Replica, Routed::OtherRack, Routed::Remote, Routed::NoToken, Routed::Fallback];

    /// Bounded label.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Routed::Replica => "replica",
            Routed::OtherRack => "other_rack",
            Routed::Remote => "remote",
            Routed::NoToken => "no_token",
            Routed::Fallback => "fallback",
        }
    }
}

/// What is looked for among the nodes of a cluster.
#[derive(Clone, Copy)]
struct Look<'a> {
    nodes: &'a [Node],
    lanes: &'a [Lane],
    version: Version,
    tried: &'a Tried,
}

impl Look<'_> {
    fn any_lane(&self, id: NodeId, wanted: fn(&Lane) -> bool) -> bool {
        let stands = |lane: &LaneId| wanted(&self.lanes[lane.0 as usize]);
        let group = self.nodes[id.0 as usize].group(self.version);
        group.is_some_and(|group| group.lanes.iter().any(stands))
    }

    fn is_up(&self, id: NodeId) -> bool {
        self.any_lane(id, Lane::is_usable)
    }

    /// Connected, or may soon be.
    fn is_soon_up(&self, id: NodeId) -> bool {
        self.any_lane(id, |lane| matches!(lane.state, LaneState::Up | LaneState::Connecting))
    }

    fn thought_down(&self, id: NodeId) -> bool {
        self.nodes[id.0 as usize].placed.as_ref().is_some_and(|placed| !placed.is_up)
    }

    fn is_remote(&self, id: NodeId) -> bool {
        self.nodes[id.0 as usize].nearness() == Nearness::Remote
    }

    /// Requests of ours that it has or that wait for it.
    fn load(&self, id: NodeId) -> u64 {
        let group = self.nodes[id.0 as usize].group(self.version);
        group.map_or(0, |group| group.in_flight + group.queue.len() as u64)
    }
}

/// How good a replica is, the best first: whether others think it down, how far away it is, requests of ours, and whose
/// turn it is.
type Rank = (bool, Nearness, u64, u64);

impl CqlEngine {
    /// The node for a request, noted in it together with the shard and how it was found.
    pub(super) fn choose(&mut self, id: RequestId, cluster: ClusterId) -> Option<NodeId> {
        let request = self.requests.get_mut(id)?;
        // drivers compare what they read of the system's tables: it comes from one node
        let pinned = matches!(request.method, Method::System | Method::Use | Method::Schema);
        let of = self.clusters[cluster.0 as usize].of;
        let tablets = &mut self.clusters[of.0 as usize].tablets;
        let tablet = request.target.as_ref().and_then(|target| tablets.replicas(target));
        let place = &mut self.clusters[cluster.0 as usize];
        let tried = request.tried;
        let look = Look { nodes: &self.nodes, lanes: &self.lanes, version: request.version, tried: &tried };
        let mut chosen = None;
        for remote in [false, true] {
            if remote && !place.settings.remote_failover {
                break;
            }
            let found = request.target.as_ref().and_then(|target| {
                place.picks = place.picks.wrapping_add(1);
                place.replica(look, target, tablet.as_deref(), request.ordered, remote)
            });
            chosen = found.map(|(node, shard)| (node, shard, true)).or_else(|| {
                let node = place.any(look, pinned, remote)?;
                Some((node, None, false))
            });
            if chosen.is_some() {
                break;
            }
        }
        let (node, shard, replica) = match chosen {
            Some(chosen) => chosen,
            None => (place.soon(look, pinned)?, None, false),
        };
        let placed = self.nodes[node.0 as usize].placed.as_ref();
        let sharding = placed.and_then(|placed| placed.sharding);
        let target = request.target.as_ref();
        request.shard = shard
            .and_then(|shard| u16::try_from(shard).ok())
            .or_else(|| Some(shard_of(target?.token, sharding?)))
            .filter(|_| replica);
        let counts = !pinned && !matches!(request.purpose, Purpose::Prepare(_));
        request.routed = counts.then(|| match self.nodes[node.0 as usize].nearness() {
            Nearness::Remote => Routed::Remote,
            _ if target.is_none() => Routed::NoToken,
            _ if !replica => Routed::Fallback,
            Nearness::OtherRack => Routed::OtherRack,
            Nearness::Near => Routed::Replica,
        });
        Some(node)
    }

    /// Whether a node is up that a request was not sent to yet.
    pub(super) fn has_other(&self, cluster: ClusterId, version: Version, tried: &Tried) -> bool {
        let cluster = &self.clusters[cluster.0 as usize];
        let look = Look { nodes: &self.nodes, lanes: &self.lanes, version, tried };
        let far = cluster.settings.remote_failover;
        cluster
            .nodes
            .iter()
            .any(|node| !tried.has(*node) && look.is_up(*node) && (far || !look.is_remote(*node)))
    }
}

impl Cluster {
    /// The best replica that is up, local or remote, and the shard that its table's own placement tells.
    fn replica(
        &self,
        look: Look<'_>,
        target: &Target,
        tablet: Option<&[Replica]>,
        ordered: bool,
        remote: bool,
    ) -> Option<(NodeId, Option<u32>)> {
        let mut best: Option<(Rank, NodeId, Option<u32>)> = None;
        let mut order = 0;
        self.each_replica(target, tablet, |id, shard| {
            order += 1;
            if look.is_remote(id) != remote || look.tried.has(id) || !look.is_up(id) {
                return;
            }
            let rank = if ordered {
                (look.thought_down(id), Nearness::Near, 0, order)
            } else {
                let nearness = look.nodes[id.0 as usize].nearness();
                (look.thought_down(id), nearness, look.load(id), scattered(self.picks, order))
            };
            if best.is_none_or(|(least, ..)| rank < least) {
                best = Some((rank, id, shard));
            }
        });
        best.map(|(_, id, shard)| (id, shard))
    }

    /// Visits the replicas of a partition that weir connects to, primary first, each with its shard where that is told: those
    /// of its tablet where that is known, else what the placement says.
    pub(super) fn each_replica(
        &self,
        target: &Target,
        tablet: Option<&[Replica]>,
        mut visit: impl FnMut(NodeId, Option<u32>),
    ) {
        let mut at = |place: usize, shard| {
            if let Some(&Some(id)) = self.placed.get(place) {
                visit(id, shard);
            }
        };
        let Some(replicas) = tablet else {
            let (Some(placement), table) = (self.placement.as_deref(), &target.table) else { return };
            return placement.replicas(&table.keyspace, &table.name, target.token, &mut at);
        };
        for replica in replicas {
            if let Some(place) = replica.place {
                at(place, Some(replica.shard));
            }
        }
    }

    /// Any node that is up, local or remote: the next one in turn, or the first one.
    fn any(&mut self, look: Look<'_>, pinned: bool, remote: bool) -> Option<NodeId> {
        let near = |id: NodeId| look.is_remote(id) == remote && look.is_up(id);
        let fresh = |id: NodeId| near(id) && !look.tried.has(id);
        self.in_turn(pinned, |id| fresh(id) && !look.thought_down(id))
            .or_else(|| self.in_turn(pinned, fresh))
            .or_else(|| self.in_turn(pinned, near))
    }

    /// A node that may soon be up.
    fn soon(&mut self, look: Look<'_>, pinned: bool) -> Option<NodeId> {
        let far = self.settings.remote_failover;
        self.in_turn(pinned, |id| look.is_soon_up(id) && !look.is_remote(id))
            .or_else(|| self.in_turn(pinned, |id| far && look.is_soon_up(id)))
    }

    fn in_turn(&mut self, pinned: bool, wanted: impl Fn(NodeId) -> bool) -> Option<NodeId> {
        let count = self.nodes.len();
        let first = if pinned { 0 } else { self.turn };
        let step = (0..count).find(|step| wanted(self.nodes[first.wrapping_add(*step) % count]))?;
        let place = first.wrapping_add(step) % count;
        if !pinned {
            self.turn = (place + 1) % count;
        }
        Some(self.nodes[place])
    }
}

/// An order of replicas that is another one in each turn, and in the long run prefers none.
fn scattered(turn: u64, order: u64) -> u64 {
    // the finish of SplitMix64
    let mut hash = turn.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(order);
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ways_are_listed_in_the_order_of_their_counts() {
        for (index, way) in Routed::ALL.into_iter().enumerate() {
            assert_eq!(way as usize, index);
        }
    }

    #[test]
    fn equal_replicas_get_equal_shares() {
        let mut taken = [0_u32; 3];
        for turn in 0..30_000 {
            let first = (0..3).min_by_key(|order| scattered(turn, *order)).unwrap();
            taken[first as usize] += 1;
        }
        assert!(taken.iter().all(|count| (9_500..10_500).contains(count)), "{taken:?}");
    }
}
