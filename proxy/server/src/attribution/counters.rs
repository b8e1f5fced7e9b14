//! What the attribution thread did and could not do. Plain counts; whoever exposes metrics reads a [`Snapshot`].

use super::{Resolved, Unresolved};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// The shared counts. Every one only grows.
#[derive(Debug, Default)]
pub struct Counters {
    lookups: AtomicU64,
    dropped: AtomicU64,
    resolved: AtomicU64,
    unresolved: [AtomicU64; Unresolved::COUNT],
    queries: AtomicU64,
    walks: AtomicU64,
    walk_nanos: AtomicU64,
    links: AtomicU64,
}

/// The counts at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Snapshot {
    /// Lookups asked for, the dropped ones included.
    pub lookups: u64,
    /// Lookups dropped because too many were waiting.
    pub dropped: u64,
    /// Lookups answered with a process.
    pub resolved: u64,
    /// Lookups answered without one, by [`Unresolved::index`].
    pub unresolved: [u64; Unresolved::COUNT],
    /// Questions to the kernel's socket tables (a dump is one).
    pub queries: u64,
    /// Walks over the process table.
    pub walks: u64,
    /// Time spent in those walks.
    pub walk_time: Duration,
    /// Links of file tables read in those walks: what their cost is made of.
    pub links: u64,
}

impl Counters {
    pub(super) fn asked(&self, lookups: usize, dropped: usize) {
        self.lookups.fetch_add(lookups as u64, Relaxed);
        self.dropped.fetch_add(dropped as u64, Relaxed);
    }

    pub(super) fn queried(&self, queries: u64) {
        self.queries.fetch_add(queries, Relaxed);
    }

    pub(super) fn walked(&self, time: Duration, links: u64) {
        self.walks.fetch_add(1, Relaxed);
        self.walk_nanos.fetch_add(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX), Relaxed);
        self.links.fetch_add(links, Relaxed);
    }

    pub(super) fn answered(&self, answers: &[Resolved]) {
        for answer in answers {
            match &answer.process {
                Ok(_) => self.resolved.fetch_add(1, Relaxed),
                Err(reason) => self.unresolved[reason.index()].fetch_add(1, Relaxed),
            };
        }
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        Snapshot {
            lookups: self.lookups.load(Relaxed),
            dropped: self.dropped.load(Relaxed),
            resolved: self.resolved.load(Relaxed),
            unresolved: std::array::from_fn(|reason| self.unresolved[reason].load(Relaxed)),
            queries: self.queries.load(Relaxed),
            walks: self.walks.load(Relaxed),
            walk_time: Duration::from_nanos(self.walk_nanos.load(Relaxed)),
            links: self.links.load(Relaxed),
        }
    }
}
