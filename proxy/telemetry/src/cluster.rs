//! What is counted per cluster of nodes that speak CQL.

use crate::catalogue::FINGERPRINTS;
use crate::control::ControlMetrics;
use crate::counters::GaugeShare;
use crate::families::Families;
use crate::labels::{BoundedNames, Label, OTHER};
use crate::statement::StatementMetrics;
use crate::vocabulary::{
    CacheResult, CheckState, FailoverCause, NodeState, Outcome, PrepareResult, ReadApart, RouteResult,
    SignInResult, TabletForgotten, TabletTold,
};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use std::sync::Arc;

/// The handles of one cluster. Shared by all workers.
#[derive(Debug)]
pub struct ClusterMetrics {
    name: Label,
    statements: BoundedNames<StatementMetrics>,
    families: Arc<Families>,
    prepared: Gauge,
    prepares: [Counter; PrepareResult::COUNT],
    reprepares: Counter,
    evicted: Counter,
    streamed: Counter,
    broken: Counter,
    gathered: Gauge,
    flights: Counter,
    joined: Counter,
    apart: [Counter; ReadApart::COUNT],
    cache_reads: [Counter; CacheResult::COUNT],
    cache_outdated: Counter,
    cache_evicted: Counter,
    cache_bytes: Gauge,
    cache_answers: Gauge,
    sign_ins: [Counter; SignInResult::COUNT],
    checks: [Gauge; CheckState::COUNT],
    tablets: Gauge,
    tablets_told: [Counter; TabletTold::COUNT],
    tablets_forgotten: [Counter; TabletForgotten::COUNT],
    principals: Gauge,
    principals_refused: Counter,
    orphaned: Gauge,
    control_only: Gauge,
    routed: [Counter; RouteResult::COUNT],
    failovers: [Counter; FailoverCause::COUNT],
    retries_refused: Counter,
    nodes: [Gauge; NodeState::COUNT],
    shard_ports_free: Gauge,
    splits: [Counter; Outcome::COUNT],
    parts_in_flight: Gauge,
    part_keys_waiting: Gauge,
    part_bytes: Gauge,
    bulk_lanes: Gauge,
}

impl ClusterMetrics {
    /// Every series starts at zero.
    pub(crate) fn new(name: &Label, families: &Arc<Families>) -> ClusterMetrics {
        let prepares = std::array::from_fn(|result| {
            families.cql_prepares.series([name.clone(), PrepareResult::ALL[result].name().into()])
        });
        let with = |label: &'static str| [name.clone(), label.into()];
        let sign_ins = std::array::from_fn(|result| {
            families.cql_sign_ins.series([name.clone(), SignInResult::ALL[result].name().into()])
        });
        let checks = std::array::from_fn(|state| {
            families.cql_credential_checks.series([name.clone(), CheckState::ALL[state].name().into()])
        });
        let other = Arc::new(StatementMetrics::new(name, OTHER.into(), families));
        ClusterMetrics {
            statements: BoundedNames::new(FINGERPRINTS, other, None, families.overflow("fingerprint")),
            routed: std::array::from_fn(|how| {
                families.cql_routed_requests.series(with(RouteResult::ALL[how].name()))
            }),
            failovers: std::array::from_fn(|cause| {
                families.cql_failovers.series(with(FailoverCause::ALL[cause].name()))
            }),
            shard_ports_free: families.cql_shard_ports_free.series([name.clone()]),
            retries_refused: families.cql_retries_refused.series([name.clone()]),
            nodes: std::array::from_fn(|state| families.cql_nodes.series(with(NodeState::ALL[state].name()))),
            name: name.clone(),
            families: families.clone(),
            prepares,
            sign_ins,
            checks,
            tablets: families.cql_tablets.series([name.clone()]),
            tablets_told: std::array::from_fn(|result| {
                families.cql_tablets_told.series(with(TabletTold::NAMES[result]))
            }),
            tablets_forgotten: std::array::from_fn(|cause| {
                families.cql_tablets_forgotten.series(with(TabletForgotten::NAMES[cause]))
            }),
            principals: families.cql_principals.series([name.clone()]),
            principals_refused: families.cql_principals_refused.series([name.clone()]),
            prepared: families.cql_prepared_statements.series([name.clone()]),
            reprepares: families.cql_reprepares.series([name.clone()]),
            evicted: families.cql_prepared_evicted.series([name.clone()]),
            streamed: families.cql_streamed_replies.series([name.clone()]),
            broken: families.cql_broken_replies.series([name.clone()]),
            gathered: families.cql_gathered_reply_bytes.series([name.clone()]),
            flights: families.cql_flights.series([name.clone()]),
            joined: families.cql_joined_requests.series([name.clone()]),
            apart: std::array::from_fn(|cause| {
                families.cql_reads_apart.series([name.clone(), ReadApart::NAMES[cause].into()])
            }),
            cache_reads: std::array::from_fn(|result| {
                families.cql_cache_reads.series([name.clone(), CacheResult::NAMES[result].into()])
            }),
            cache_outdated: families.cql_cache_outdated.series([name.clone()]),
            cache_evicted: families.cql_cache_evicted.series([name.clone()]),
            cache_bytes: families.cql_cache_bytes.series([name.clone()]),
            cache_answers: families.cql_cache_answers.series([name.clone()]),
            orphaned: families.cql_orphaned_streams.series([name.clone()]),
            control_only: families.cql_control_only_clients.series([name.clone()]),
            splits: std::array::from_fn(|outcome| {
                families.cql_splits.series([name.clone(), Outcome::ALL[outcome].name().into()])
            }),
            parts_in_flight: families.cql_parts_in_flight.series([name.clone()]),
            part_keys_waiting: families.cql_part_keys_waiting.series([name.clone()]),
            part_bytes: families.cql_part_bytes.series([name.clone()]),
            bulk_lanes: families.cql_bulk_lanes.series([name.clone()]),
        }
    }

    /// The handles of a statement, by its fingerprint; [`OTHER`] is of statements without a name. Takes a lock: once per
    /// fold and statement.
    pub fn statement(&self, fingerprint: &str) -> Arc<StatementMetrics> {
        self.statements
            .resolve(fingerprint, |label, _| StatementMetrics::new(&self.name, label, &self.families))
    }

    /// Clients that signed in.
    pub fn signed_in(&self, result: SignInResult, count: u64) {
        self.sign_ins[result.index()].inc_by(count);
    }

    /// Different credentials in this state.
    pub fn credential_checks(&self, state: CheckState, count: u64) {
        self.checks[state.index()].set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// Users with connections of their own, over all workers: every worker sets the same number.
    pub fn principals(&self, count: u64) {
        self.principals.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// Sign-ins of users that found no room for connections of their own.
    pub fn principals_refused(&self, count: u64) {
        self.principals_refused.inc_by(count);
    }

    /// PREPAREs of clients.
    pub fn prepares(&self, result: PrepareResult, count: u64) {
        self.prepares[result.index()].inc_by(count);
    }

    /// Statements prepared again for a node that had forgotten them.
    pub fn reprepares(&self, count: u64) {
        self.reprepares.inc_by(count);
    }

    /// Requests sent to a node found in this way.
    pub fn routed(&self, how: RouteResult, count: u64) {
        self.routed[how.index()].inc_by(count);
    }

    /// Requests that went to another node.
    pub fn failovers(&self, cause: FailoverCause, count: u64) {
        self.failovers[cause.index()].inc_by(count);
    }

    /// Requests that were not sent again although they might have been.
    pub fn retries_refused(&self, count: u64) {
        self.retries_refused.inc_by(count);
    }

    /// Source ports left, over all workers: every worker sets the same number.
    pub fn shard_ports_free(&self, ports: i64) {
        self.shard_ports_free.set(ports);
    }

    /// One worker's part of the nodes in this state.
    #[must_use]
    pub fn nodes(&self, state: NodeState) -> GaugeShare {
        GaugeShare::new(self.nodes[state.index()].clone())
    }

    /// One worker's part of the tablets known.
    #[must_use]
    pub fn tablets(&self) -> GaugeShare {
        GaugeShare::new(self.tablets.clone())
    }

    /// Answers in which a node told a tablet.
    pub fn tablets_told(&self, result: TabletTold, count: u64) {
        self.tablets_told[result.index()].inc_by(count);
    }

    /// Tablets forgotten.
    pub fn tablets_forgotten(&self, cause: TabletForgotten, count: u64) {
        self.tablets_forgotten[cause.index()].inc_by(count);
    }

    /// Statements forgotten for want of room.
    pub fn evicted(&self, count: u64) {
        self.evicted.inc_by(count);
    }

    /// Large replies passed on while they arrived, and those of them that broke off.
    pub fn streamed(&self, count: u64, broken: u64) {
        self.streamed.inc_by(count);
        self.broken.inc_by(broken);
    }

    /// One worker's part of the bytes held for replies that are not whole.
    #[must_use]
    pub fn gathered_bytes(&self) -> GaugeShare {
        GaugeShare::new(self.gathered.clone())
    }

    /// Answers given to more than one request, and the requests that had joined for them.
    pub fn flights(&self, flights: u64, joined: u64) {
        self.flights.inc_by(flights);
        self.joined.inc_by(joined);
    }

    /// Reads asked although an identical one was under way.
    pub fn reads_apart(&self, cause: ReadApart, count: u64) {
        self.apart[cause.index()].inc_by(count);
    }

    /// Lookups among kept answers.
    pub fn cache_reads(&self, result: CacheResult, count: u64) {
        self.cache_reads[result.index()].inc_by(count);
    }

    /// Kept answers that a write had outdated, and those that left for want of room.
    pub fn cache_losses(&self, outdated: u64, evicted: u64) {
        self.cache_outdated.inc_by(outdated);
        self.cache_evicted.inc_by(evicted);
    }

    /// One worker's part of the bytes of kept answers.
    #[must_use]
    pub fn cache_bytes(&self) -> GaugeShare {
        GaugeShare::new(self.cache_bytes.clone())
    }

    /// One worker's part of the kept answers.
    #[must_use]
    pub fn cache_answers(&self) -> GaugeShare {
        GaugeShare::new(self.cache_answers.clone())
    }

    /// One worker's part of the statements remembered.
    #[must_use]
    pub fn prepared_statements(&self) -> GaugeShare {
        GaugeShare::new(self.prepared.clone())
    }

    /// One worker's part of the stream ids nobody waits for.
    #[must_use]
    pub fn orphaned_streams(&self) -> GaugeShare {
        GaugeShare::new(self.orphaned.clone())
    }

    /// Requests that were carried out in parts.
    pub fn splits(&self, outcome: Outcome, count: u64) {
        self.splits[outcome.index()].inc_by(count);
    }

    /// One worker's part of the parts nodes work on.
    #[must_use]
    pub fn parts_in_flight(&self) -> GaugeShare {
        GaugeShare::new(self.parts_in_flight.clone())
    }

    /// One worker's part of the keys that wait.
    #[must_use]
    pub fn part_keys_waiting(&self) -> GaugeShare {
        GaugeShare::new(self.part_keys_waiting.clone())
    }

    /// One worker's part of the bytes of answers held.
    #[must_use]
    pub fn part_bytes(&self) -> GaugeShare {
        GaugeShare::new(self.part_bytes.clone())
    }

    /// One worker's part of the connections for parts.
    #[must_use]
    pub fn bulk_lanes(&self) -> GaugeShare {
        GaugeShare::new(self.bulk_lanes.clone())
    }

    /// One worker's part of the connections without data.
    #[must_use]
    pub fn control_only_clients(&self) -> GaugeShare {
        GaugeShare::new(self.control_only.clone())
    }

    /// The handles of its control plane: one at a time.
    #[must_use]
    pub fn control(&self) -> ControlMetrics {
        ControlMetrics::new(&self.name, &self.families)
    }
}
