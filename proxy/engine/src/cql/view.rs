//! What an operator is shown: how nodes, lanes and queues stand right now.

use super::failover::FailoverCause;
use super::flight::Apart;
use super::lifecycle::VERSIONS;
use super::node::{Lane, Node, NodeId, ShardDial};
use super::routing::Routed;
use super::tablets::TabletCounts;
use super::{Cluster, CqlEngine};
use crate::ledger::Outcome;
use crate::multiplex::LaneState;
use crate::settings::{Address, Backend, Settings};
use crate::snapshot::{CallerSnapshot, EngineSnapshot, LaneSnapshot, ServerPlace, ServerSnapshot};
use crate::units::{Bytes, Instant, Operations, Span};
use rustc_hash::{FxHashMap, FxHashSet};
use std::collections::BTreeMap;
use std::sync::Arc;
use weir_cql::statement::OpaqueCause;

/// What is counted about one cluster.
#[derive(Clone, Debug, Default)]
pub struct ClusterCounts {
    /// Statements in the registry.
    pub prepared: usize,
    /// PREPAREs answered from it, since the start.
    pub prepared_hits: u64,
    /// PREPAREs sent on, since the start.
    pub prepared_misses: u64,
    /// Statements that left it for room, since the start.
    pub prepared_evicted: u64,
    /// Statements prepared again because a node had forgotten them, since the start.
    pub repaired: u64,
    /// Tablets of ScyllaDB's tables.
    pub tablets: TabletCounts,
    /// Stream ids whose reply nobody waits for.
    pub orphans: usize,
    /// Large replies passed on while they arrived, since the start.
    pub streamed: u64,
    /// Those of them whose node went before their end: the client was closed.
    pub broken: u64,
    /// Bytes of replies that are not whole yet, held for them.
    pub gathered: usize,
    /// Requests that are carried out in parts now.
    pub splits_open: usize,
    /// Those that ended since the start, by outcome ([`Outcome::index`]).
    pub split_ended: [u64; Outcome::COUNT],
    /// Requests for many keys that were sent whole since the start, by reason (one of [`super::unsplit_reasons`]).
    pub unsplit: BTreeMap<&'static str, u64>,
    /// Parts at the nodes, those nobody waits for any more included.
    pub parts_in_flight: usize,
    /// Keys of split requests that wait in weir.
    pub part_keys_waiting: u64,
    /// Bytes of answers of parts held until the whole is complete.
    pub part_bytes: usize,
    /// Connections that carry parts.
    pub bulk_lanes: usize,
    /// Requests answered with the answer of an identical one, since the start.
    pub joined: u64,
    /// Answers that were given to more than one request that way, since the start.
    pub flights: u64,
    /// Identical requests that were asked apart, by [`Apart`], since the start.
    pub apart: [u64; Apart::COUNT],
    /// Answers kept to be given again, and what they take.
    pub cached: usize,
    /// Bytes of those answers.
    pub cache_bytes: usize,
    /// Reads answered from them, since the start.
    pub cache_hits: u64,
    /// Reads under a rule with `cache_ttl` that had to be asked, since the start.
    pub cache_misses: u64,
    /// Answers that left for room, since the start.
    pub cache_evicted: u64,
    /// Answers that were found to be older than a write, since the start.
    pub cache_invalidated: u64,
    /// Connections of clients that asked the system's tables for addresses and have sent no data since, while none of
    /// their process has: the sign of a driver that has gone past weir.
    pub control_only: usize,
    /// Requests sent, by how they found their node (in the order of [`Routed::ALL`]), since the start.
    pub routed: [u64; Routed::COUNT],
    /// Requests that went to another node, by cause (in the order of [`FailoverCause::ALL`]), since the start.
    pub failovers: [u64; FailoverCause::COUNT],
    /// Requests that were not sent again because the retry budget was spent, since the start.
    pub retries_refused: u64,
    /// Nodes weir connects to.
    pub nodes: usize,
    /// Those of them with a connection that works.
    pub nodes_up: usize,
    /// Of the ports of `shard_ports` that lead to one shard, those that the connections of all workers leave free at the
    /// node and shard with the fewest; below zero when they do not suffice. `None` while no shard is asked for.
    pub shard_ports_free: Option<i64>,
    /// Users with connections of their own, in the whole process.
    pub principals: usize,
    /// Users that found `principals_max` others, since the start.
    pub principals_refused: u64,
    /// Nodes that the cluster told of and that are beyond `nodes_max`, or no contacts without `discover`.
    pub nodes_left_out: usize,
}

impl CqlEngine {
    /// Where a node is, as its cluster told last.
    fn whereabouts(&self, node: &Node) -> Option<ServerPlace> {
        let placement = self.clusters[node.cluster.0 as usize].placement.as_deref()?;
        let told = placement.nodes().iter().find(|told| told.address == node.address)?;
        Some(ServerPlace {
            data_center: told.data_center.clone(),
            rack: told.rack.clone(),
            shards: told.sharding.map(|sharding| sharding.shards.get()),
        })
    }

    /// How this worker stands.
    #[must_use]
    pub fn snapshot(&self, now: Instant) -> EngineSnapshot {
        let shown = self.nodes.iter().filter(|node| !node.retired).map(|node| {
            let groups = || VERSIONS.into_iter().filter_map(|version| node.group(version));
            let lanes = groups().flat_map(|group| &group.lanes).chain(node.bulk.lanes.iter().flatten());
            let lanes = lanes.map(|lane| &self.lanes[lane.0 as usize]);
            let oldest = groups().filter_map(|group| group.queue.oldest()).min();
            ServerSnapshot {
                backend: Backend::Cluster(self.clusters[node.cluster.0 as usize].of),
                name: node.name.clone(),
                serial: node.serial,
                place: self.whereabouts(node),
                lanes: lanes
                    .filter(|lane| lane.state != LaneState::Retired)
                    .map(|lane| LaneSnapshot {
                        state: lane.state,
                        bulk: lane.info.bulk,
                        owed: lane.streams.in_use(),
                        unsent: lane.out.len() + lane.plain_out.len(),
                    })
                    .collect(),
                operations: Operations(node.operations),
                bytes: Bytes(0),
                bulk_keys: Operations(node.bulk.keys),
                waiting: groups().map(|group| group.queue.len()).sum(),
                queued: Operations(groups().map(|group| group.queue.operations()).sum()),
                oldest_wait: oldest.map_or(Span(0), |since| now.since(since)),
                operations_total: node.backend_operations,
            }
        });
        // pools have nodes of their own: an operator sees the node they all mean
        let mut servers: Vec<ServerSnapshot> = Vec::new();
        for one in shown {
            match servers.iter_mut().find(|known| known.backend == one.backend && known.name == one.name) {
                Some(known) => add(known, one),
                None => servers.push(one),
            }
        }
        let known = self.callers.known.iter().filter(|known| known.clients > 0 || known.queued > 0);
        EngineSnapshot {
            servers,
            callers: known
                .map(|known| CallerSnapshot {
                    identity: known.identity.clone(),
                    operations: known.state.operations_in_flight(),
                    bytes: known.state.bytes_in_flight(),
                    queued: Operations(known.queued),
                    clients: known.clients,
                })
                .collect(),
            held_accounts: self.ledger.held().len(),
            clients: self.clients.len() - self.free.len(),
            reply_bytes: self.reply_bytes,
            input_bytes: self.input_bytes,
            desyncs: self.desyncs,
            retries: self.clusters.iter().map(|cluster| cluster.retries).sum(),
        }
    }

    /// Counts of each cluster, in the order of the settings.
    #[must_use]
    pub fn cluster_counts(&self) -> Vec<ClusterCounts> {
        let with_data: FxHashSet<u32> = self
            .clients
            .iter()
            .filter(|client| client.open && client.data)
            .map(|client| client.known)
            .collect();
        let current = self.clusters.iter().take(self.settings.clusters.len());
        let counts = current.enumerate().map(|(index, cluster)| {
            let of_cluster = |lane: &&Lane| lane.info.of.0 as usize == index;
            let members = || self.clusters.iter().filter(move |member| member.of.0 as usize == index);
            let sum = |of: fn(&Cluster) -> u64| members().map(of).sum::<u64>();
            let size = |of: fn(&Cluster) -> usize| members().map(of).sum::<usize>();
            let nodes = || members().flat_map(|member| &member.nodes);
            let is_up = |node: &NodeId| {
                let address = &self.nodes[node.0 as usize].address;
                nodes().any(|same| self.nodes[same.0 as usize].address == *address && self.node_is_up(*same))
            };
            let bulk = || {
                self.lanes
                    .iter()
                    .filter(of_cluster)
                    .filter(|lane| lane.state != LaneState::Retired && lane.info.bulk)
            };
            ClusterCounts {
                prepared: cluster.registry.len(),
                prepared_hits: cluster.registry.hits,
                prepared_misses: cluster.registry.misses,
                prepared_evicted: cluster.registry.evicted,
                repaired: cluster.registry.repaired,
                tablets: cluster.tablets.counts(),
                joined: sum(|member| member.flights.joined),
                flights: sum(|member| member.flights.flights),
                apart: summed(members().map(|member| member.flights.refused)),
                cached: size(|member| member.cache.len()),
                cache_bytes: size(|member| member.cache.bytes()),
                cache_hits: sum(|member| member.cache.hits),
                cache_misses: sum(|member| member.cache.misses),
                cache_evicted: sum(|member| member.cache.evicted),
                cache_invalidated: sum(|member| member.cache.invalidated),
                orphans: self.lanes.iter().filter(of_cluster).map(|lane| lane.streams.orphans()).sum(),
                routed: summed(members().map(|member| member.routed)),
                failovers: summed(members().map(|member| member.failovers)),
                retries_refused: sum(|member| member.retries_refused),
                nodes: cluster.nodes.len(),
                nodes_up: cluster.nodes.iter().filter(|node| is_up(node)).count(),
                shard_ports_free: self.shard_ports_free(index),
                nodes_left_out: cluster.placed.iter().filter(|node| node.is_none()).count(),
                streamed: self.lanes.iter().filter(of_cluster).map(|lane| lane.streamed).sum(),
                broken: self.lanes.iter().filter(of_cluster).map(|lane| lane.broken).sum(),
                gathered: self.lanes.iter().filter(of_cluster).map(Lane::gathered).sum(),
                splits_open: size(|member| member.splits.jobs.len()),
                split_ended: summed(members().map(|member| member.splits.ended)),
                unsplit: members().flat_map(|member| &member.splits.whole).fold(
                    BTreeMap::new(),
                    |mut sums, (why, count)| {
                        *sums.entry(*why).or_default() += count;
                        sums
                    },
                ),
                parts_in_flight: nodes().map(|node| self.parts_in_flight(*node)).sum(),
                part_keys_waiting: members().map(|member| self.part_keys_waiting(member)).sum(),
                part_bytes: size(|member| member.splits.gathered),
                bulk_lanes: bulk().count(),
                control_only: self
                    .clients
                    .iter()
                    .filter(|client| client.open && client.registered)
                    .filter(|client| self.clusters[client.cluster.0 as usize].of.0 as usize == index)
                    .filter(|client| !with_data.contains(&client.known))
                    .count(),
                principals: self.principals.count(&cluster.settings.name),
                principals_refused: cluster.principals_refused,
            }
        });
        counts.collect()
    }

    fn shard_ports_free(&self, cluster: usize) -> Option<i64> {
        let lanes = self.lanes().filter(|(_, info)| info.of.0 as usize == cluster);
        let mut taken: FxHashMap<(&Address, u16), (ShardDial, i64)> = FxHashMap::default();
        for (info, dial) in lanes.filter_map(|(_, info)| Some((info, info.shard?))) {
            taken.entry((&info.address, dial.shard)).or_insert((dial, 0)).1 += 1;
        }
        let free = |(dial, lanes): &(ShardDial, i64)| {
            let ports = dial.source_ports.of_shard(dial.shard, dial.shards).count() as i64;
            ports - lanes.saturating_mul(self.workers as i64)
        };
        taken.values().map(free).min()
    }

    /// Whether any connection to the node works.
    fn node_is_up(&self, id: NodeId) -> bool {
        let groups = self.nodes[id.0 as usize].groups.iter().flatten();
        groups.flat_map(|group| &group.lanes).any(|lane| self.lanes[lane.0 as usize].is_usable())
    }

    /// Visits and resets the statements passed through unread, by cause.
    pub fn take_opaque(&mut self, mut f: impl FnMut(OpaqueCause, u64)) {
        for (cause, count) in OpaqueCause::ALL.into_iter().zip(&mut self.opaque) {
            let count = std::mem::take(count);
            if count > 0 {
                f(cause, count);
            }
        }
    }

    /// Visits and resets what nodes spent on statements since the last call: the cluster's name, the statement's
    /// ([`super::fingerprint_of`] in 16 hex digits; `None`: of those without a place), and how much.
    pub fn take_statement_times(&mut self, f: impl FnMut(&Arc<str>, Option<&Arc<str>>, super::Spent)) {
        self.times.take(f);
    }

    /// Visits and resets whose operations each node was asked for since the last call: identity slot, identity, the
    /// node's name, and the operations. Call before [`CqlEngine::fold`].
    pub fn fold_nodes(&mut self, mut f: impl FnMut(u32, &Arc<crate::caller::Identity>, &str, u64)) {
        for node in &mut self.nodes {
            for (slot, spent) in node.spent.iter_mut().enumerate() {
                let operations = std::mem::take(spent);
                if operations > 0 {
                    f(slot as u32, &self.callers.known[slot].identity, &node.name, operations);
                }
            }
        }
    }

    /// What is in force.
    #[must_use]
    pub fn settings(&self) -> &Arc<Settings> {
        &self.settings
    }
}

/// What two pools have at the same node.
fn add(known: &mut ServerSnapshot, one: ServerSnapshot) {
    known.lanes.extend(one.lanes);
    known.operations += one.operations;
    known.bulk_keys += one.bulk_keys;
    known.waiting += one.waiting;
    known.queued += one.queued;
    known.oldest_wait = known.oldest_wait.max(one.oldest_wait);
    known.operations_total += one.operations_total;
}

fn summed<const N: usize>(all: impl Iterator<Item = [u64; N]>) -> [u64; N] {
    all.fold([0; N], |sums, one| std::array::from_fn(|place| sums[place] + one[place]))
}
