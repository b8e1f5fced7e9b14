//! What the control planes know, where workers and the control socket see it: one shared slot with a version, so that a
//! worker need not look into it and one that was slow finds the newest.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use weir_engine::cql::Placement;

/// How the control plane of one cluster stands.
#[derive(Clone, Debug, Default)]
pub struct Standing {
    /// Where the data lies; nothing before the cluster answered for the first time.
    pub placement: Option<Arc<dyn Placement>>,
    /// The cluster answered when it was last asked.
    pub up: bool,
    /// When it last told, in seconds since 1970.
    pub read_at_unix: Option<u64>,
    /// Why it did not answer, the last time it did not.
    pub last_error: Option<String>,
    /// What of the schema could not be read, while that is so.
    pub lacks: Option<&'static str>,
}

/// By cluster. Those without a control plane have no entry.
#[derive(Debug, Default)]
pub struct Posted {
    version: AtomicU64,
    doubts: AtomicU64,
    standings: Mutex<BTreeMap<Arc<str>, Standing>>,
}

impl Posted {
    /// Grows with every new placement.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// How the control plane of this cluster stands; `None` where it has none.
    #[must_use]
    pub fn standing(&self, cluster: &str) -> Option<Standing> {
        self.lock().get(cluster).cloned()
    }

    /// A worker lost its connection to a node: the control connection may be gone with it.
    pub fn doubt(&self) {
        self.doubts.fetch_add(1, Ordering::Relaxed);
    }

    /// Grows with every connection that workers lose.
    pub(super) fn doubts(&self) -> u64 {
        self.doubts.load(Ordering::Relaxed)
    }

    /// Changes how it stands; begins it where there was none.
    pub(super) fn change(&self, cluster: &Arc<str>, change: impl FnOnce(&mut Standing)) {
        change(self.lock().entry(cluster.clone()).or_default());
    }

    /// A new placement: workers see it once they are nudged.
    pub(super) fn place(&self, cluster: &Arc<str>, placement: Arc<dyn Placement>) {
        self.change(cluster, |standing| standing.placement = Some(placement));
        self.version.fetch_add(1, Ordering::Release);
    }

    /// The cluster has no control plane any more.
    pub(super) fn end(&self, cluster: &str) {
        self.lock().remove(cluster);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, Standing>> {
        self.standings.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
