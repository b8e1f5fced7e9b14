//! What is counted per statement of a cluster.

use crate::counters::SecondsCounter;
use crate::families::Families;
use crate::labels::Label;
use prometheus_client::metrics::counter::Counter;

/// The handles of one statement: two counters to divide by each other.
#[derive(Debug)]
pub struct StatementMetrics {
    seconds: SecondsCounter,
    operations: Counter,
}

impl StatementMetrics {
    pub(crate) fn new(cluster: &Label, fingerprint: Label, families: &Families) -> StatementMetrics {
        StatementMetrics {
            seconds: families.cql_statement_seconds.series([cluster.clone(), fingerprint.clone()]),
            operations: families.cql_statement_operations.series([cluster.clone(), fingerprint]),
        }
    }

    /// What its requests took at the nodes, in microseconds, and the operations nodes were asked for.
    pub fn spent(&self, backend_us: u64, operations: u64) {
        self.seconds.add_micros(backend_us);
        self.operations.inc_by(operations);
    }
}
