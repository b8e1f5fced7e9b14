//! What is counted per server of a service, as the edge's connections see it.

use crate::backend::BackendMetrics;
use crate::counters::GaugeShare;
use crate::families::Families;
use crate::vocabulary::{ConnectionState, OpenResult, ServerFailure};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;

/// The handles of one server of a service. Its label is a backend's.
#[derive(Debug)]
pub struct RpcServerMetrics {
    up: Gauge,
    connections: Gauge,
    opens: [Counter; OpenResult::COUNT],
    failures: [Counter; ServerFailure::COUNT],
    ejections: Counter,
}

impl RpcServerMetrics {
    /// Every series starts at zero.
    pub(crate) fn new(backend: &BackendMetrics, families: &Families) -> RpcServerMetrics {
        let name = || backend.label();
        let ready = ConnectionState::Ready.name();
        RpcServerMetrics {
            up: families.rpc_server_up.series([name()]),
            connections: families.backend_connections.series([name(), ready.into()]),
            opens: std::array::from_fn(|result| {
                families.backend_connection_opens.series([name(), OpenResult::NAMES[result].into()])
            }),
            failures: std::array::from_fn(|cause| {
                families.rpc_server_failures.series([name(), ServerFailure::NAMES[cause].into()])
            }),
            ejections: families.rpc_server_ejections.series([name()]),
        }
    }

    /// One service's word on whether calls go there.
    #[must_use]
    pub fn up(&self) -> GaugeShare {
        GaugeShare::new(self.up.clone())
    }

    /// The share of a service's listeners in the connections to it.
    #[must_use]
    pub fn connections(&self) -> GaugeShare {
        GaugeShare::new(self.connections.clone())
    }

    /// Attempts to connect that have ended.
    pub fn opened(&self, result: OpenResult, attempts: u64) {
        self.opens[result.index()].inc_by(attempts);
    }

    /// Requests and health checks that it failed.
    pub fn failures(&self, cause: ServerFailure, failures: u64) {
        self.failures[cause.index()].inc_by(failures);
    }

    /// Times that it was left out.
    pub fn ejections(&self, times: u64) {
        self.ejections.inc_by(times);
    }
}
