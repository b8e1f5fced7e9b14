//! A pool per principal (`clients = "own"`): the requests of a user go upstream on connections that are signed in as that
//! user, so that the cluster's permissions hold for it as they do directly.
//!
//! A pool is a cluster of its own within the worker: nodes, lanes, queues, split requests, reads that are joined and answers
//! that are kept. A client belongs to exactly one from its signing in to its end, so nothing of one principal is ever
//! looked up for another. Shared with the cluster it is `of` are the statements that were prepared (a node carries them out
//! under the rights of whoever executes them), the rules, and what is known about writes.
//!
//! Bounds: `principals_max` pools per cluster and process ([`super::principals`]); what a node is asked for at once
//! (`requests_in_flight`, `chunks_in_flight`) and the answers of parts that are held (`gather_bytes_max`) are bounded over
//! all pools together, and each gets its share of them while several want some; of `cache_bytes_max` each has the same part.

use super::chunks::Splits;
use super::node::NodeId;
use super::principals::{Principal, Principals, Seat};
use super::request::{RequestId, Stage};
use super::signin::Secret;
use super::{Cluster, CqlEngine};
use crate::client::CloseHow;
use crate::ledger::Outcome;
use crate::settings::{ClientSignIn, ClusterSettings};
use crate::units::{Bytes, ClientId, ClusterId, Instant, LaneId};
use rustc_hash::FxHashMap;
use std::sync::Arc;
use weir_cql::response::{ErrorBody, ErrorCode};
use weir_cql::{StreamId, Version, own};

/// Whose a pool is.
#[derive(Debug)]
pub(super) struct Pool {
    seat: Seat,
    /// Connections of clients.
    pub(super) clients: u32,
    /// Since when there are none.
    idle_since: Instant,
    /// A node has refused its credentials: it ends with the last client.
    refused: bool,
}

impl Cluster {
    /// Whom its connections sign in as; `None`: weir's own user.
    pub(super) fn principal(&self) -> Option<Arc<Principal>> {
        self.pool.as_ref().map(|pool| pool.seat.principal().clone())
    }

    /// What its connections sign in with where that is weir's own user.
    pub(super) fn auth_file(&self) -> Option<Arc<str>> {
        self.settings.auth_file.clone().filter(|_| self.pool.is_none())
    }
}

impl CqlEngine {
    /// The workers of a process share the principals that have connections of their own. To be called before the first
    /// client signs in.
    pub fn share_principals(&mut self, principals: Arc<Principals>) {
        self.principals = principals;
    }

    /// The pool of a user whose credentials the cluster has taken, with one more client; the words of the refusal where
    /// there are too many others.
    pub(super) fn joins_pool(
        &mut self,
        of: ClusterId,
        secret: &Secret,
        now: Instant,
    ) -> Result<ClusterId, String> {
        let known = self.members(of).find(|id| {
            let pool = self.clusters[id.0 as usize].pool.as_ref();
            pool.is_some_and(|pool| *pool.seat.principal().user() == secret.user)
        });
        if let Some(id) = known
            && let Some(pool) = &mut self.clusters[id.0 as usize].pool
        {
            pool.seat.renew(secret, now);
            pool.clients += 1;
            pool.refused = false;
            return Ok(id);
        }
        let cluster = &mut self.clusters[of.0 as usize];
        let (name, max) = (cluster.settings.name.clone(), cluster.settings.principals_max);
        let Some(seat) = self.principals.take(&name, secret, max, now) else {
            cluster.principals_refused += 1;
            return Err(format!(
                "weir: cluster {name} has principals_max ({max}) users with connections of their own already; raise \
                 principals_max, or wait until one of them has had no client for principal_idle"
            ));
        };
        Ok(self.add_pool(of, Pool { seat, clients: 1, idle_since: now, refused: false }, now))
    }

    /// A pool, in a place that is free.
    fn add_pool(&mut self, of: ClusterId, pool: Pool, now: Instant) -> ClusterId {
        let settings = pool_settings(&self.clusters[of.0 as usize].settings);
        let is_free = |id: &ClusterId| self.clusters[id.0 as usize].of == of;
        let id = match self.free_pools.iter().position(is_free) {
            Some(at) => self.free_pools.swap_remove(at),
            None => {
                let id = ClusterId(self.clusters.len() as u32);
                // statements are remembered by the cluster
                let empty = ClusterSettings { contacts: Vec::new(), prepared_max: 1, ..settings.clone() };
                let cluster = self.lay_out_cluster(id, empty);
                self.clusters.push(cluster);
                id
            }
        };
        let base = &self.clusters[of.0 as usize];
        let (rules, placement, home) = (base.rules.clone(), base.placement.clone(), base.home.clone());
        let cluster = &mut self.clusters[id.0 as usize];
        cluster.cache.clear(settings.cache_bytes_max);
        (cluster.of, cluster.pool, cluster.settings) = (of, Some(pool), settings);
        (cluster.rules, cluster.placement, cluster.home) = (rules, placement, home);
        self.settle_nodes(id, now);
        self.pair_nodes(of);
        id
    }

    /// A client of this cluster is gone.
    pub(super) fn leaves_pool(&mut self, id: ClusterId, now: Instant) {
        let Some(pool) = &mut self.clusters[id.0 as usize].pool else { return };
        pool.clients = pool.clients.saturating_sub(1);
        pool.idle_since = now;
        if pool.clients == 0 && pool.refused {
            self.end_pool(id, now);
        }
    }

    /// Ends the pools that have had no client for long enough.
    pub(super) fn end_idle_pools(&mut self, now: Instant) {
        if self.idle_pools_due().is_some_and(|due| due <= now) {
            for index in self.settings.clusters.len()..self.clusters.len() {
                let id = ClusterId(index as u32);
                if self.idle_until(&self.clusters[index]).is_some_and(|until| until <= now) {
                    self.end_pool(id, now);
                }
            }
        }
    }

    /// When the next pool without clients ends.
    pub(super) fn idle_pools_due(&self) -> Option<Instant> {
        self.clusters[self.settings.clusters.len()..].iter().filter_map(|pool| self.idle_until(pool)).min()
    }

    fn idle_until(&self, cluster: &Cluster) -> Option<Instant> {
        let pool = cluster.pool.as_ref().filter(|pool| pool.clients == 0)?;
        Some(pool.idle_since.after(cluster.settings.principal_idle))
    }

    /// Its connections are cut, its password is forgotten, its place is free.
    fn end_pool(&mut self, id: ClusterId, now: Instant) {
        let cluster = &mut self.clusters[id.0 as usize];
        cluster.pool = None;
        cluster.placement = None;
        cluster.settings.contacts = Vec::new();
        cluster.cache.clear(Bytes(0));
        let of = cluster.of;
        self.settle_nodes(id, now);
        self.pair_nodes(of);
        self.free_pools.push(id);
        self.lanes_added = true;
        self.pump_due = true;
    }

    /// An attempt to connect a lane failed because the node does not take its credentials. Where these are a client's own,
    /// the password has changed, or the user is gone: its clients are told and closed, and must sign in again.
    pub fn lane_sign_in_failed(&mut self, id: LaneId, now: Instant) {
        let info = &self.lanes[id.0 as usize].info;
        let cluster = info.cluster;
        let place = &self.clusters[cluster.0 as usize];
        let is_current = info.principal.is_some() && info.principal == place.principal();
        let may_be_old = |pool: &Pool| pool.seat.is_new(place.settings.connect_timeout, now);
        if is_current && place.pool.as_ref().is_some_and(|pool| !may_be_old(pool)) {
            self.refuse_pool(cluster, now);
        }
        self.lane_failed(id, now);
    }

    fn refuse_pool(&mut self, id: ClusterId, now: Instant) {
        let Some(pool) = &mut self.clusters[id.0 as usize].pool else { return };
        pool.refused = true;
        pool.seat.refused();
        let user = pool.seat.principal().user();
        let text =
            format!("weir: the cluster does not take the credentials of {user} any more: sign in again");
        if pool.clients == 0 {
            return self.end_pool(id, now);
        }
        for slot in 0..self.clients.len() {
            let client = &self.clients[slot];
            if client.open && client.cluster == id && client.closing.is_none() {
                self.sends_away(super::client::id(slot, client), &text, now);
            }
        }
    }

    /// Answers what a client has asked and is not at a node, and closes it once it has the other answers.
    fn sends_away(&mut self, id: ClientId, text: &str, now: Instant) {
        let error = ErrorBody::plain(ErrorCode::BAD_CREDENTIALS, text);
        let live = self.clients[id.slot as usize].live.clone();
        let asked = !live.is_empty();
        for request in live {
            let sent = |id: RequestId| self.requests.get(id).map(|request| request.stage);
            if !matches!(sent(request), None | Some(Stage::Sent(..))) {
                self.answer_error(request, &error, Outcome::Refused, now);
            }
        }
        let client = &self.clients[id.slot as usize];
        if !asked {
            // somebody hears it who asks nothing; the stream id may be no one's
            let version = client.version;
            self.reply(id, |out| own::error(out, version, StreamId(0), &error));
        }
        self.close_for(id, CloseHow::Protocol);
    }

    /// Clusters that are the same one for other workers and for operators: it and its pools.
    pub(super) fn members(&self, of: ClusterId) -> impl Iterator<Item = ClusterId> + use<> {
        // pools come after all clusters of the settings
        let pools = self.settings.clusters.len()..self.clusters.len();
        let all: Vec<ClusterId> = std::iter::once(of.0 as usize)
            .chain(pools.filter(|index| self.clusters[*index].of == of && *index != of.0 as usize))
            .map(|index| ClusterId(index as u32))
            .collect();
        all.into_iter()
    }

    /// The nodes of all pools learn which of them are the same one.
    pub(super) fn pair_nodes(&mut self, of: ClusterId) {
        let mut same: FxHashMap<crate::settings::Address, Vec<NodeId>> = FxHashMap::default();
        let pools: Vec<ClusterId> =
            self.members(of).filter(|id| self.clusters[id.0 as usize].pool.is_some()).collect();
        for node in pools.iter().flat_map(|id| &self.clusters[id.0 as usize].nodes) {
            same.entry(self.nodes[node.0 as usize].address.clone()).or_default().push(*node);
        }
        for nodes in same.values() {
            let peers: Arc<[NodeId]> = nodes.as_slice().into();
            nodes.iter().for_each(|node| self.nodes[node.0 as usize].peers = Some(peers.clone()));
        }
    }

    /// This node as all pools have it.
    pub(super) fn peers<'a>(&'a self, id: &'a NodeId) -> &'a [NodeId] {
        self.nodes[id.0 as usize].peers.as_deref().unwrap_or(std::slice::from_ref(id))
    }

    /// Whether one more request may be sent to a node: over all pools, and within the share of this one.
    pub(super) fn has_room(&self, id: NodeId, version: Version) -> bool {
        let cap = self.in_flight_max(self.nodes[id.0 as usize].cluster);
        let in_flight = |id: &NodeId| {
            let group = self.nodes[id.0 as usize].group(version);
            group.map_or((0, false), |group| (group.in_flight, !group.queue.is_empty()))
        };
        let (own, _) = in_flight(&id);
        let others = self.peers(&id).iter().filter(|peer| **peer != id).map(in_flight);
        is_within(cap, own, others)
    }

    /// The same for a part of a split request, of which so many may be at the node.
    pub(super) fn has_part_room(&self, id: NodeId, now: Instant) -> bool {
        let parts = |id: &NodeId| {
            let cluster = self.nodes[id.0 as usize].cluster;
            let waits = !self.clusters[cluster.0 as usize].splits.jobs.is_empty();
            (self.parts_in_flight(*id) as u64, waits)
        };
        let (own, _) = parts(&id);
        let others = self.peers(&id).iter().filter(|peer| **peer != id).map(parts);
        is_within(self.parts_now(id, now) as u64, own, others)
    }

    /// The split requests of a cluster and its pools, whose answers are bounded together.
    pub(super) fn all_splits(&self, id: ClusterId) -> impl Iterator<Item = (ClusterId, &Splits)> {
        self.members(self.clusters[id.0 as usize].of).map(|id| (id, &self.clusters[id.0 as usize].splits))
    }

    /// The split request that began first, where it is one of this pool.
    pub(super) fn oldest_job(&self, id: ClusterId) -> Option<RequestId> {
        let began = |job: &RequestId| self.requests.get(*job).and_then(|r| Some(r.job.as_ref()?.since));
        let first = |splits: &Splits| splits.jobs.front().copied();
        if self.clusters.len() == self.settings.clusters.len() {
            return first(&self.clusters[id.0 as usize].splits);
        }
        let oldest = self.all_splits(id).filter_map(|(of, splits)| Some((of, first(splits)?)));
        let oldest = oldest.min_by_key(|(of, job)| (began(job), *of));
        oldest.filter(|(of, _)| *of == id).map(|(_, job)| job)
    }
}

/// What a pool is told: what its cluster is, with its part of what is divided.
pub(super) fn pool_settings(settings: &ClusterSettings) -> ClusterSettings {
    let part = settings.cache_bytes_max.0 / u64::from(settings.principals_max.max(1));
    ClusterSettings { cache_bytes_max: Bytes(part), ..settings.clone() }
}

/// Whether clients of a cluster get pools.
pub(super) fn wants_pools(settings: &ClusterSettings) -> bool {
    settings.clients == ClientSignIn::Own
}

/// Whether one more fits under `cap` where this one has `own` and each other one so many, or wants some: nobody goes above
/// its equal share while others want theirs, and the sum stays within the cap.
fn is_within(cap: u64, own: u64, others: impl Iterator<Item = (u64, bool)>) -> bool {
    let (mut all, mut sharing) = (own, 1);
    for (count, waits) in others {
        all += count;
        sharing += u64::from(count > 0 || waits);
    }
    all < cap && own < (cap / sharing).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_node_may_be_asked_is_shared_by_those_who_ask() {
        let others = |list: &'static [(u64, bool)]| list.iter().copied();
        assert!(is_within(4, 3, others(&[])) && !is_within(4, 4, others(&[])));
        assert!(is_within(4, 3, others(&[(0, false)])), "who asks nothing takes nothing");
        assert!(is_within(4, 1, others(&[(1, false)])));
        assert!(!is_within(4, 2, others(&[(1, false)])), "half of it");
        assert!(!is_within(4, 2, others(&[(0, true)])), "kept for who waits");
        assert!(!is_within(4, 0, others(&[(4, false)])), "the whole is taken");
        assert!(is_within(1, 0, others(&[(0, true), (0, true)])), "one at least");
        assert!(!is_within(1, 0, others(&[(1, false)])));
    }
}
