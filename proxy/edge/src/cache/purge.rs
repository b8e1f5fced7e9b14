//! Throwing away what is kept, because an operator says so: a wrong answer must not live until its time is over.
//!
//! Whatever was asked for before a purge is not kept after it, of any path: a purge is rare, and asking once too often is
//! the smaller harm than one answer that comes back.

use super::flights::{Lead, ResponseCache};
use std::sync::atomic::Ordering;
use std::time::Duration;

impl ResponseCache {
    /// Throws away the answers under a path, as [`super::CacheSettings::paths`] are understood; without one, all. Says how many
    /// there were. Answers that are being written to clients go on.
    pub fn purge(&self, under: Option<&str>) -> u64 {
        self.purge_at(under, self.now().since)
    }

    pub(super) fn purge_at(&self, under: Option<&str>, now: Duration) -> u64 {
        let purged = self.state().store.purge(under, now);
        self.counts.purges.fetch_add(1, Ordering::Relaxed);
        self.counts.purged.fetch_add(purged, Ordering::Relaxed);
        purged
    }
}

impl Lead {
    /// What is kept was thrown away after this was asked: an old answer at hand is not one to be given any more.
    pub(crate) fn is_purged(&self) -> bool {
        self.cache().state().store.is_purged(self.asked_at)
    }
}

#[cfg(test)]
#[path = "purge_tests.rs"]
mod tests;
