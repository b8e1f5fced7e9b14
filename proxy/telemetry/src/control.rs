//! What is counted about the control plane of one cluster: the one connection over which weir learns where data lies.

use crate::families::Families;
use crate::labels::Label;
use crate::vocabulary::PlacementFailure;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use std::fmt::{Debug, Formatter, Result};
use std::sync::Arc;

/// The handles of one cluster's control plane. The gauges end when this is dropped: a cluster that has no control plane
/// shows none, instead of one that is down. Counters stay.
pub struct ControlMetrics {
    name: Label,
    families: Arc<Families>,
    up: Gauge,
    nodes: Gauge,
    time: Gauge,
    refreshes: Counter,
    failures: [Counter; PlacementFailure::COUNT],
}

impl Debug for ControlMetrics {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.debug_struct("ControlMetrics").field("name", &self.name).finish_non_exhaustive()
    }
}

impl ControlMetrics {
    /// Every series starts at zero.
    pub(crate) fn new(name: &Label, families: &Arc<Families>) -> ControlMetrics {
        let failures = std::array::from_fn(|cause| {
            let cause = PlacementFailure::ALL[cause].name().into();
            families.cql_placement_failures.series([name.clone(), cause])
        });
        ControlMetrics {
            name: name.clone(),
            families: families.clone(),
            up: families.cql_control_up.series([name.clone()]),
            nodes: families.cql_placement_nodes.series([name.clone()]),
            time: families.cql_placement_time.series([name.clone()]),
            refreshes: families.cql_placement_refreshes.series([name.clone()]),
            failures,
        }
    }

    /// Whether the cluster answered when it was last asked.
    pub fn up(&self, up: bool) {
        self.up.set(i64::from(up));
    }

    /// Nodes the cluster tells of.
    pub fn nodes(&self, nodes: u64) {
        self.nodes.set(i64::try_from(nodes).unwrap_or(i64::MAX));
    }

    /// The placement was read, or found to hold still; `unix_seconds` since 1970.
    pub fn read(&self, unix_seconds: u64) {
        self.time.set(i64::try_from(unix_seconds).unwrap_or(i64::MAX));
        self.refreshes.inc();
    }

    /// It could not be read.
    pub fn failed(&self, cause: PlacementFailure) {
        self.failures[cause.index()].inc();
    }
}

impl Drop for ControlMetrics {
    fn drop(&mut self) {
        let families = &self.families;
        for gauge in [&families.cql_control_up, &families.cql_placement_nodes, &families.cql_placement_time] {
            gauge.remove([self.name.clone()]);
        }
    }
}
