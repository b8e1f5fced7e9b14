//! New settings while requests are under way: limits, time-outs and caps hold at once. Nodes that leave get nothing more
//! and are cut when nothing is owed; what waited for them goes to the others.
//!
//! What cannot change while weir runs (the driver sees to it): what is behind a listener, `connections_per_node`,
//! `streams_per_connection`, `prepared_max` and `auth_file`.

use super::CqlEngine;
use super::pools::pool_settings;
use super::rules::Rules;
use crate::settings::{ClusterSettings, Settings};
use crate::units::{Bytes, ClusterId, Instant, Operations};
use std::sync::Arc;

impl CqlEngine {
    /// New settings (see [`CqlEngine::lanes`] for the connections they want). Clusters are told apart by name, so they
    /// may be in another order. The listeners must be the same, in number and order, and lead where they did. `end_turn`
    /// must follow.
    pub fn apply(&mut self, settings: Arc<Settings>, now: Instant) {
        self.order_clusters(&settings);
        self.settings = settings;
        self.callers.trust_request_ids(&self.settings);
        self.new_budgets();
        for index in 0..self.settings.clusters.len() {
            self.tune(ClusterId(index as u32), self.settings.clusters[index].clone(), now);
        }
        for index in self.settings.clusters.len()..self.clusters.len() {
            let id = ClusterId(index as u32);
            let of = self.clusters[index].of;
            if self.clusters[index].pool.is_some() && (of.0 as usize) < self.settings.clusters.len() {
                let base = &self.clusters[of.0 as usize];
                let (settings, rules) = (pool_settings(&base.settings), base.rules.clone());
                self.tune(id, settings, now);
                self.clusters[index].rules = rules;
                continue;
            }
            let without_nodes =
                ClusterSettings { contacts: Vec::new(), ..self.clusters[index].settings.clone() };
            self.clusters[index].placement = None;
            self.tune(id, without_nodes, now);
        }
        for index in 0..self.settings.clusters.len() {
            self.pair_nodes(ClusterId(index as u32));
        }
        for index in 0..self.clusters.len() {
            self.jobs_move_on(ClusterId(index as u32), now);
        }
        self.lanes_added = true;
        self.pump_due = true;
    }

    /// Brings the clusters into the order of these settings, those that are gone last.
    fn order_clusters(&mut self, settings: &Settings) {
        let count = settings.clusters.len();
        let current = self.settings.clusters.len();
        let mut gone = count..;
        let places: Vec<ClusterId> = self
            .clusters
            .iter()
            .enumerate()
            .map(|(index, cluster)| {
                let same = |new: &ClusterSettings| new.name == cluster.settings.name;
                // one that had left before does not come back: its nodes are gone
                let place = settings.clusters.iter().position(same).filter(|_| index < current);
                place.or_else(|| gone.next()).map_or(ClusterId(0), |place| ClusterId(place as u32))
            })
            .collect();
        let mut ordered: Vec<Option<super::Cluster>> = Vec::new();
        ordered.resize_with(gone.start, || None);
        for (cluster, place) in std::mem::take(&mut self.clusters).into_iter().zip(&places) {
            ordered[place.0 as usize] = Some(cluster);
        }
        for node in &mut self.nodes {
            node.cluster = places[node.cluster.0 as usize];
        }
        for lane in &mut self.lanes {
            lane.info.cluster = places[lane.info.cluster.0 as usize];
            lane.info.of = places[lane.info.of.0 as usize];
        }
        for client in self.clients.iter_mut().filter(|client| client.open) {
            client.cluster = places[client.cluster.0 as usize];
        }
        self.free_pools.iter_mut().for_each(|id| *id = places[id.0 as usize]);
        for cluster in ordered.iter_mut().flatten() {
            cluster.of = places[cluster.of.0 as usize];
        }
        for (index, cluster) in ordered.into_iter().enumerate() {
            let cluster = cluster.unwrap_or_else(|| {
                self.lay_out_cluster(ClusterId(index as u32), settings.clusters[index].clone())
            });
            self.clusters.push(cluster);
        }
    }

    /// The limits in force for each identity. What its requests hold goes along to the budget they come back to.
    fn new_budgets(&mut self) {
        let mut held = vec![(Operations(0), Bytes(0)); self.callers.known.len()];
        for (_, request) in self.requests.iter() {
            if let Some(booked) = request.held {
                let (operations, bytes) = &mut held[request.known as usize];
                *operations += booked.operations;
                *bytes += booked.bytes;
            }
        }
        for (slot, (operations, bytes)) in held.into_iter().enumerate() {
            let slot = slot as u32;
            if let Some((limits, state)) = self.callers.budget_now(slot, &self.settings) {
                self.callers.rebudget(slot, limits, state, operations, bytes);
            }
        }
    }

    /// Puts a cluster's settings in force, nodes that come and go included.
    fn tune(&mut self, id: ClusterId, new: ClusterSettings, now: Instant) {
        let cluster = &mut self.clusters[id.0 as usize];
        let rules_changed = *new.rules != **cluster.rules.list();
        if rules_changed || new.cache_bytes_max != cluster.settings.cache_bytes_max {
            cluster.cache.clear(new.cache_bytes_max);
        }
        cluster.page_keys.take(&new, now);
        cluster.tablets.make_room(new.tablets_max as usize);
        cluster.settings = new;
        if rules_changed {
            let rules = self.take_rules(&self.clusters[id.0 as usize].settings.clone());
            self.clusters[id.0 as usize].rules = rules;
        }
        self.settle_nodes(id, now);
    }

    /// The rules of these settings, under a number of their own.
    pub(super) fn take_rules(&mut self, settings: &ClusterSettings) -> Rules {
        self.rules_taken += 1;
        if settings.rules.iter().any(|rule| rule.join_in_flight || rule.cache_ttl.is_some()) {
            self.writes.watch();
        }
        Rules::new(self.rules_taken, settings.rules.clone())
    }
}
