//! This worker's part of the gauges: taken from a snapshot of its engine once a second, and when somebody scrapes.

use super::orders::Upstream;
use super::path::Route;
use super::rates::Rates;
use super::sockets::LaneSocket;
use std::collections::HashMap;
use std::sync::Arc;
use weir_engine::EngineSnapshot;
use weir_engine::cql::{Apart, ClusterCounts};
use weir_engine::settings::Settings;
use weir_engine::units::Instant;
use weir_telemetry::{
    CacheResult, ClusterMetrics, FailoverCause, GaugeShare, NodeState, Outcome, PrepareResult, ReadApart,
    RouteResult, TabletForgotten, TabletTold, Telemetry,
};

/// Gauges of one backend, over all pools that name it.
#[derive(Debug)]
struct Backend {
    operations: GaugeShare,
    bytes: GaugeShare,
    queued: GaugeShare,
}

/// Gauges of one cluster, and what was counted when it was last looked at.
#[derive(Debug)]
struct Cluster {
    metrics: Arc<ClusterMetrics>,
    prepared: GaugeShare,
    orphans: GaugeShare,
    gathered: GaugeShare,
    cache_bytes: GaugeShare,
    cache_answers: GaugeShare,
    control_only: GaugeShare,
    nodes: [GaugeShare; NodeState::COUNT],
    parts: GaugeShare,
    part_keys: GaugeShare,
    part_bytes: GaugeShare,
    bulk_lanes: GaugeShare,
    tablets: GaugeShare,
    seen: ClusterCounts,
}

/// The parts this worker holds.
#[derive(Debug)]
pub(super) struct Gauges {
    telemetry: Arc<Telemetry>,
    input: GaugeShare,
    reply: GaugeShare,
    held: GaugeShare,
    backends: HashMap<Arc<str>, Backend>,
    clusters: HashMap<Arc<str>, Cluster>,
    rates: Rates,
}

impl Gauges {
    pub(super) fn new(telemetry: &Arc<Telemetry>) -> Gauges {
        Gauges {
            telemetry: telemetry.clone(),
            input: telemetry.client_input_bytes(),
            reply: telemetry.client_reply_bytes(),
            held: telemetry.held_accounts(),
            backends: HashMap::new(),
            clusters: HashMap::new(),
            rates: Rates::default(),
        }
    }

    /// Makes the gauges what the engine says.
    pub(super) fn show(&mut self, snapshot: &EngineSnapshot) {
        self.input.set(snapshot.input_bytes as u64);
        self.reply.set(snapshot.reply_bytes as u64);
        self.held.set(snapshot.held_accounts as u64);
        let mut sums: HashMap<Arc<str>, [u64; 3]> = HashMap::new();
        for server in &snapshot.servers {
            let sum = sums.entry(server.name.clone()).or_default();
            sum[0] += server.operations.0;
            sum[1] += server.bytes.0;
            sum[2] += server.queued.0;
        }
        // a backend that left the settings takes its parts with it
        self.backends.retain(|name, _| sums.contains_key(name));
        for (name, [operations, bytes, queued]) in sums {
            let telemetry = &self.telemetry;
            let backend = self.backends.entry(name).or_insert_with_key(|name| {
                let metrics = telemetry.backend(name);
                Backend {
                    operations: metrics.inflight_operations(),
                    bytes: metrics.inflight_bytes(),
                    queued: metrics.queue_depth(),
                }
            });
            backend.operations.set(operations);
            backend.bytes.set(bytes);
            backend.queued.set(queued);
        }
    }

    /// The same for clusters, whose counts are in the order of the settings.
    pub(super) fn show_clusters(&mut self, settings: &Settings, counts: &[ClusterCounts]) {
        // a cluster that left the settings takes its parts with it, and would count from the start if it came back
        self.clusters.retain(|name, _| settings.clusters.iter().any(|cluster| cluster.name == *name));
        for (cluster, now) in settings.clusters.iter().zip(counts) {
            let telemetry = &self.telemetry;
            let shown = self.clusters.entry(cluster.name.clone()).or_insert_with_key(|name| {
                let metrics = telemetry.cluster(name);
                Cluster {
                    prepared: metrics.prepared_statements(),
                    orphans: metrics.orphaned_streams(),
                    gathered: metrics.gathered_bytes(),
                    cache_bytes: metrics.cache_bytes(),
                    cache_answers: metrics.cache_answers(),
                    control_only: metrics.control_only_clients(),
                    nodes: std::array::from_fn(|state| metrics.nodes(NodeState::ALL[state])),
                    parts: metrics.parts_in_flight(),
                    part_keys: metrics.part_keys_waiting(),
                    part_bytes: metrics.part_bytes(),
                    bulk_lanes: metrics.bulk_lanes(),
                    tablets: metrics.tablets(),
                    seen: ClusterCounts::default(),
                    metrics,
                }
            });
            shown.prepared.set(now.prepared as u64);
            shown.orphans.set(now.orphans as u64);
            shown.gathered.set(now.gathered as u64);
            shown.cache_bytes.set(now.cache_bytes as u64);
            shown.cache_answers.set(now.cached as u64);
            shown.control_only.set(now.control_only as u64);
            let states = [now.nodes_up, now.nodes - now.nodes_up, now.nodes_left_out];
            shown.nodes.iter_mut().zip(states).for_each(|(share, nodes)| share.set(nodes as u64));
            shown.parts.set(now.parts_in_flight as u64);
            shown.part_keys.set(now.part_keys_waiting);
            shown.part_bytes.set(now.part_bytes as u64);
            shown.bulk_lanes.set(now.bulk_lanes as u64);
            shown.tablets.set(now.tablets.known as u64);
            let (metrics, before) = (&shown.metrics, &shown.seen);
            let since = |now: u64, before: u64| now.saturating_sub(before);
            metrics.prepares(PrepareResult::Cached, since(now.prepared_hits, before.prepared_hits));
            metrics.prepares(PrepareResult::Sent, since(now.prepared_misses, before.prepared_misses));
            metrics.reprepares(since(now.repaired, before.repaired));
            metrics.streamed(since(now.streamed, before.streamed), since(now.broken, before.broken));
            metrics.evicted(since(now.prepared_evicted, before.prepared_evicted));
            for (how, (now, before)) in RouteResult::ALL.iter().zip(now.routed.iter().zip(before.routed)) {
                metrics.routed(*how, since(*now, before));
            }
            for (cause, (now, before)) in
                FailoverCause::ALL.iter().zip(now.failovers.iter().zip(before.failovers))
            {
                metrics.failovers(*cause, since(*now, before));
            }
            let told = now.tablets.told.iter().zip(before.tablets.told);
            for (result, (now, before)) in TabletTold::ALL.iter().zip(told) {
                metrics.tablets_told(*result, since(*now, before));
            }
            let forgotten = now.tablets.forgotten.iter().zip(before.tablets.forgotten);
            for (cause, (now, before)) in TabletForgotten::ALL.iter().zip(forgotten) {
                metrics.tablets_forgotten(*cause, since(*now, before));
            }
            metrics.principals(now.principals as u64);
            metrics.principals_refused(since(now.principals_refused, before.principals_refused));
            metrics.shard_ports_free(now.shard_ports_free.unwrap_or(0));
            metrics.retries_refused(since(now.retries_refused, before.retries_refused));
            let ended = now.split_ended.into_iter().zip(before.split_ended);
            for (outcome, (now, before)) in Outcome::ALL.iter().zip(ended) {
                metrics.splits(*outcome, since(now, before));
            }
            for (reason, count) in &now.unsplit {
                let more = since(*count, before.unsplit.get(reason).copied().unwrap_or(0));
                telemetry.unsplit_requests(reason, more);
            }
            metrics.flights(since(now.flights, before.flights), since(now.joined, before.joined));
            for cause in Apart::ALL {
                let place = cause as usize;
                metrics.reads_apart(read_apart(cause), since(now.apart[place], before.apart[place]));
            }
            metrics.cache_reads(CacheResult::Hit, since(now.cache_hits, before.cache_hits));
            metrics.cache_reads(CacheResult::Miss, since(now.cache_misses, before.cache_misses));
            metrics.cache_losses(
                since(now.cache_invalidated, before.cache_invalidated),
                since(now.cache_evicted, before.cache_evicted),
            );
            shown.seen = now.clone();
        }
    }

    /// Notes what each server has done so far, for its rate. Called once per tick.
    pub(super) fn note_rates(&mut self, snapshot: &EngineSnapshot, now: Instant) {
        self.rates.note(snapshot, now);
    }

    /// The servers as this worker's sockets see them, one per pool and address.
    pub(super) fn upstreams<L: Route>(&self, lanes: &[LaneSocket<L>]) -> Vec<Upstream> {
        let mut all: Vec<Upstream> = Vec::new();
        for lane in lanes.iter().filter(|lane| !lane.retired) {
            let known =
                all.iter_mut().find(|other| other.backend == lane.info.backend() && other.name == lane.name);
            match known {
                Some(upstream) => {
                    upstream.opens += lane.opens;
                    upstream.open_errors += lane.open_errors;
                    upstream.last_error = upstream.last_error.take().or_else(|| lane.last_error.clone());
                }
                None => all.push(Upstream {
                    backend: lane.info.backend(),
                    name: lane.name.clone(),
                    opens: lane.opens,
                    open_errors: lane.open_errors,
                    last_error: lane.last_error.clone(),
                    operations_per_second: self.rates.of(lane.info.backend(), &lane.name),
                }),
            }
        }
        all
    }
}

/// The label value of a cause.
fn read_apart(cause: Apart) -> ReadApart {
    match cause {
        Apart::Sent => ReadApart::Sent,
        Apart::Written => ReadApart::Written,
        Apart::FollowersPerRead => ReadApart::FollowersPerRead,
        Apart::FollowersMax => ReadApart::FollowersMax,
        Apart::Crowded => ReadApart::Crowded,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_engine::cql;

    #[test]
    fn the_engine_and_telemetry_count_the_same_things_in_the_same_order() {
        assert_eq!(cql::Routed::ALL.map(cql::Routed::label), *RouteResult::NAMES);
        assert_eq!(cql::FailoverCause::ALL.map(cql::FailoverCause::label), *FailoverCause::NAMES);
        assert_eq!(cql::TabletTold::ALL.map(cql::TabletTold::label), *TabletTold::NAMES);
        assert_eq!(cql::TabletForgotten::ALL.map(cql::TabletForgotten::label), *TabletForgotten::NAMES);
        assert_eq!(*NodeState::NAMES, ["up", "down", "left_out"]);
    }
}
