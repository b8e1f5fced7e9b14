//! What requests of services came to in storage, by caller: counters to divide by each other.

use crate::caller::CallerMetrics;
use crate::telemetry::Telemetry;
use crate::vocabulary::{AmplificationOrigin, CorrelationLost};

/// What was added to a caller's sums.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AmplificationDelta {
    /// Requests with an id.
    pub requests: u64,
    /// Keys that RPCs asked for.
    pub rpc_keys: u64,
    /// Operations asked of memcached on their behalf.
    pub cache_operations: u64,
    /// Of those, not found.
    pub cache_misses: u64,
    /// Operations asked over CQL on their behalf.
    pub database_operations: u64,
    /// Bytes that storage answered.
    pub storage_bytes: u64,
}

impl CallerMetrics {
    /// Adds what this caller's requests came to. Takes a lock per counter: when somebody looks, not per request. All series of
    /// an origin appear together, so that a ratio of them is never of something and nothing.
    pub fn amplification(&self, origin: AmplificationOrigin, delta: &AmplificationDelta) {
        let families = self.families();
        let labels = || [self.label(), origin.name().into()];
        families.amplification_requests.series(labels()).inc_by(delta.requests);
        if origin == AmplificationOrigin::Rpc {
            families.amplification_rpc_keys.series([self.label()]).inc_by(delta.rpc_keys);
        }
        families.amplification_cache_operations.series(labels()).inc_by(delta.cache_operations);
        families.amplification_cache_misses.series(labels()).inc_by(delta.cache_misses);
        families.amplification_database_operations.series(labels()).inc_by(delta.database_operations);
        families.amplification_storage_bytes.series(labels()).inc_by(delta.storage_bytes);
    }
}

impl Telemetry {
    /// Requests with an id that are remembered now.
    pub fn correlated_requests(&self, requests: u64) {
        self.families().correlated_requests.series([]).set(i64::try_from(requests).unwrap_or(i64::MAX));
    }

    /// What was lost since the start, by why: a total, which only grows.
    pub fn correlation_lost(&self, why: CorrelationLost, total: u64) {
        let counter = self.families().correlation_lost.series([why.name().into()]);
        counter.inner().fetch_max(total, std::sync::atomic::Ordering::Relaxed);
    }
}
