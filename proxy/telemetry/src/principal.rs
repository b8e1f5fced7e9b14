//! What is counted per principal: how often it connects, and how little its connections carry. A client that dials per
//! call is seen here by the identity that weir verified, also where many share a listener.

use crate::families::Families;
use crate::labels::Label;
use prometheus_client::metrics::counter::Counter;

/// The handles of one principal. Shared by all workers.
#[derive(Debug)]
pub struct PrincipalMetrics {
    accepts: Counter,
    short: Counter,
}

impl PrincipalMetrics {
    /// Both series start at zero.
    pub(crate) fn new(name: &Label, families: &Families) -> PrincipalMetrics {
        PrincipalMetrics {
            accepts: families.principal_accepts.series([name.clone()]),
            short: families.principal_short_connections.series([name.clone()]),
        }
    }

    /// A connection was accepted: one atomic add.
    pub fn accepted(&self) {
        self.accepts.inc();
    }

    /// A connection has closed that carried at most one request: one atomic add.
    pub fn short(&self) {
        self.short.inc();
    }
}
