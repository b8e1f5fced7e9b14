//! CQL's engine as a worker drives it.

use super::{DataPath, Patience, Route, Server, shared_calls};
use crate::config::Config;
use crate::fold::Protocol;
use crate::upstream::{Connecting, cql};
use crate::worker::busy_poll::MANY_UNDER_WAY;
use std::net::SocketAddr;
use std::sync::Arc;
use weir_engine::admit::Budgets;
use weir_engine::caller::Identity;
use weir_engine::correlate::Correlator;
use weir_engine::cql::credentials::Verdict;
use weir_engine::cql::principals::Principals;
use weir_engine::cql::signin::SignIn;
use weir_engine::cql::{Bound, ClusterCounts, CqlEngine, LaneInfo, Placement, Spent, Writes};
use weir_engine::error::Rejected;
use weir_engine::ledger::{IdentityTally, Ledger};
use weir_engine::settings::{Address, Backend, Settings};
use weir_engine::units::{ClientId, ClusterId, Instant, LaneId, ListenerId, Span};
use weir_engine::{ClientSummary, CloseHow, CutCause, Desync, EngineSnapshot, NamingCounts, OutBuffer};
use weir_telemetry::CqlBound;

impl DataPath for CqlEngine {
    const PROTOCOL: Protocol = Protocol::Cql;
    type Lane = LaneInfo;

    shared_calls!(CqlEngine);

    fn share_writes(&mut self, writes: &Arc<Writes>) {
        CqlEngine::share_writes(self, writes.clone());
    }
    fn tell_wall_clock(&mut self, unix_micros_at_zero: i64) {
        CqlEngine::tell_wall_clock(self, unix_micros_at_zero);
    }
    fn share_principals(&mut self, principals: &Arc<Principals>) {
        CqlEngine::share_principals(self, principals.clone());
    }

    fn open_client(
        &mut self,
        listener: ListenerId,
        identity: Arc<Identity>,
        dialled: impl FnOnce() -> SocketAddr,
        now: Instant,
    ) -> ClientId {
        CqlEngine::open_client(self, listener, identity, dialled(), now)
    }
    fn client_read_max(&self, id: ClientId) -> usize {
        CqlEngine::client_read_max(self, id)
    }
    fn client_wrote(&mut self, id: ClientId, n: usize, _now: Instant) {
        CqlEngine::client_wrote(self, id, n);
    }
    fn take_sign_ins(&mut self, into: &mut Vec<SignIn>) {
        CqlEngine::take_sign_ins(self, into);
    }
    fn signed_in(&mut self, id: ClientId, verdict: &Verdict, now: Instant) {
        CqlEngine::signed_in(self, id, verdict, now);
    }
    fn take_lanes_added(&mut self) -> bool {
        CqlEngine::take_lanes_added(self)
    }
    fn lane_on_shard(&mut self, id: LaneId, shard: u16) {
        CqlEngine::lane_on_shard(self, id, shard);
    }
    fn lane_tells_tablets(&mut self, id: LaneId) {
        CqlEngine::lane_tells_tablets(self, id);
    }
    fn lane_gone(&mut self, id: LaneId) {
        CqlEngine::lane_gone(self, id);
    }
    fn lane_says(&mut self, id: LaneId, scylla: bool) {
        CqlEngine::lane_says(self, id, scylla);
    }
    fn lane_failed(&mut self, id: LaneId, sign_in: bool, now: Instant) {
        if sign_in {
            CqlEngine::lane_sign_in_failed(self, id, now);
        } else {
            CqlEngine::lane_failed(self, id, now);
        }
    }
    fn fold_servers(&mut self, mut f: impl FnMut(u32, &Arc<Identity>, Server<'_>, u64)) {
        self.fold_nodes(|slot, identity, name, operations| {
            f(slot, identity, Server::Address(name), operations);
        });
    }
    fn take_opaque(&mut self, mut f: impl FnMut(&'static str, u64)) {
        CqlEngine::take_opaque(self, |cause, statements| f(cause.label(), statements));
    }
    fn take_statement_times(&mut self, mut f: impl FnMut(&str, Option<&str>, Spent)) {
        CqlEngine::take_statement_times(self, |cluster, name, spent| {
            f(cluster, name.map(|name| &**name), spent)
        });
    }
    fn place(&mut self, cluster: ClusterId, placement: Arc<dyn Placement>, now: Instant) {
        CqlEngine::place(self, cluster, placement, now);
    }
    fn take_reached(&mut self, mut f: impl FnMut(CqlBound, u64)) {
        CqlEngine::take_reached(self, |bound, times| {
            let shown = match bound {
                Bound::ConnectionRequests => CqlBound::ConnectionRequests,
                Bound::StatementTexts => CqlBound::StatementTexts,
                Bound::JoinedPrepares => CqlBound::JoinedPrepares,
                Bound::Repairs => CqlBound::Repairs,
            };
            f(shown, times);
        });
    }
    /// A node's own threads would take the processor for long.
    fn gives_way(&self) -> bool {
        false
    }
    fn waits_awake(&self) -> bool {
        let under_way = self.requests_under_way();
        under_way <= 1 || under_way >= MANY_UNDER_WAY
    }
    fn cluster_counts(&self) -> Vec<ClusterCounts> {
        CqlEngine::cluster_counts(self)
    }
}

impl Route for LaneInfo {
    fn backend(&self) -> Backend {
        Backend::Cluster(self.of)
    }

    fn address(&self) -> &Address {
        &self.address
    }

    fn patience(&self, settings: &Settings) -> Patience {
        let cluster = &settings.clusters[self.of.0 as usize];
        Patience {
            connect: cluster.connect_timeout,
            reconnect_min: cluster.reconnect_min,
            reconnect_max: cluster.reconnect_max,
        }
    }

    fn dial(&self, config: &Config, timeout: Span) -> Connecting {
        let tls = config.clusters_tls.get(self.of.0 as usize).cloned().flatten();
        let tablets = config.settings.clusters.get(self.of.0 as usize).is_some_and(|of| of.tablets_max > 0);
        cql::start(self.clone(), tls, tablets, timeout)
    }
}
