//! What is counted per backend server and per pool.

use crate::counters::GaugeShare;
use crate::families::Families;
use crate::labels::Label;
use crate::vocabulary::{ConnectionState, LookupResult, OpenResult};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use std::sync::Arc;

/// The handles of one backend server. Shared by all workers.
#[derive(Debug)]
pub struct BackendMetrics {
    name: Label,
    index: usize,
    connections: [Gauge; ConnectionState::COUNT],
    opens: [Counter; OpenResult::COUNT],
    inflight_operations: Gauge,
    inflight_bytes: Gauge,
    queue_depth: Gauge,
    desync: Counter,
    stalls: Counter,
}

impl BackendMetrics {
    /// Every series starts at zero.
    pub(crate) fn new(name: Label, index: usize, families: &Families) -> BackendMetrics {
        let connections = std::array::from_fn(|state| {
            families.backend_connections.series([name.clone(), ConnectionState::ALL[state].name().into()])
        });
        let opens = std::array::from_fn(|result| {
            families.backend_connection_opens.series([name.clone(), OpenResult::ALL[result].name().into()])
        });
        BackendMetrics {
            connections,
            opens,
            inflight_operations: families.backend_inflight_operations.series([name.clone()]),
            inflight_bytes: families.backend_inflight_bytes.series([name.clone()]),
            queue_depth: families.queue_depth.series([name.clone()]),
            desync: families.upstream_desync.series([name.clone()]),
            stalls: families.upstream_stalls.series([name.clone()]),
            index,
            name,
        }
    }

    /// The label value: the address as configured, or `_other`.
    #[must_use]
    pub fn name(&self) -> &str {
        self.name.as_str()
    }

    pub(crate) fn label(&self) -> Label {
        self.name.clone()
    }

    pub(crate) fn index(&self) -> usize {
        self.index
    }

    /// An attempt to connect has ended.
    pub fn opened(&self, result: OpenResult) {
        self.opens[result.index()].inc();
    }

    /// Counts one connection in `state` until the guard is dropped.
    #[must_use]
    pub fn connection(self: &Arc<Self>, state: ConnectionState) -> BackendConnection {
        self.connections[state.index()].inc();
        BackendConnection { backend: self.clone(), state }
    }

    /// A connection was cut because a reply did not belong to its request.
    pub fn desync(&self) {
        self.desync.inc();
    }

    /// A connection was cut because the backend owed a reply and sent nothing.
    pub fn stall(&self) {
        self.stalls.inc();
    }

    /// One worker's part of the operations in flight.
    #[must_use]
    pub fn inflight_operations(&self) -> GaugeShare {
        GaugeShare::new(self.inflight_operations.clone())
    }

    /// One worker's part of the estimated bytes in flight.
    #[must_use]
    pub fn inflight_bytes(&self) -> GaugeShare {
        GaugeShare::new(self.inflight_bytes.clone())
    }

    /// One worker's part of the operations that wait.
    #[must_use]
    pub fn queue_depth(&self) -> GaugeShare {
        GaugeShare::new(self.queue_depth.clone())
    }
}

/// One connection to a backend, counted in the state it is in.
#[derive(Debug)]
pub struct BackendConnection {
    backend: Arc<BackendMetrics>,
    state: ConnectionState,
}

impl BackendConnection {
    /// Moves the connection to another state.
    pub fn set(&mut self, state: ConnectionState) {
        if state != self.state {
            self.backend.connections[state.index()].inc();
            self.backend.connections[self.state.index()].dec();
            self.state = state;
        }
    }

    /// The state it is counted in.
    #[must_use]
    pub fn state(&self) -> ConnectionState {
        self.state
    }
}

impl Drop for BackendConnection {
    fn drop(&mut self) {
        self.backend.connections[self.state.index()].dec();
    }
}

/// The handles of one pool.
#[derive(Debug)]
pub struct PoolMetrics {
    lookups: [Counter; LookupResult::COUNT],
    coalesced: Counter,
}

impl PoolMetrics {
    pub(crate) fn new(name: &Label, families: &Families) -> PoolMetrics {
        let lookups = std::array::from_fn(|result| {
            families.cache_lookups.series([name.clone(), LookupResult::ALL[result].name().into()])
        });
        PoolMetrics { lookups, coalesced: families.coalesced_operations.series([]) }
    }

    /// Operations that could have been served without a backend. Coalesced ones count in
    /// `weir_coalesced_operations_total` too.
    pub fn lookups(&self, result: LookupResult, operations: u64) {
        self.lookups[result.index()].inc_by(operations);
        if result == LookupResult::Coalesced {
            self.coalesced.inc_by(operations);
        }
    }
}
