//! What a cache counts. Whoever owns the metrics reads it.

use super::terms::Unfit;
use std::sync::atomic::{AtomicU64, Ordering};

/// What a request on a cached path got from the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CacheUse {
    /// A fresh answer.
    Hit,
    /// One that was fresh, while it is asked for again.
    Stale,
    /// One that was fresh, because the service failed.
    Error,
    /// The answer to another request, for which it waited.
    Collapsed,
    /// An old answer that the service has confirmed.
    Confirmed,
    /// Nothing: the service answered.
    Miss,
    /// Nothing: it was not to be asked (credentials, a range ...).
    Bypass,
    /// Nothing: this key's last answer was unfit, or waiting took too long or was not possible.
    Alone,
}

impl CacheUse {
    /// Every use.
    pub const ALL: [CacheUse; 8] = [
        CacheUse::Hit,
        CacheUse::Stale,
        CacheUse::Error,
        CacheUse::Collapsed,
        CacheUse::Confirmed,
        CacheUse::Miss,
        CacheUse::Bypass,
        CacheUse::Alone,
    ];
}

/// What became of asking again for an answer that clients get meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Refreshed {
    /// A new answer, or the old one confirmed.
    Kept,
    /// What came is not kept.
    Unfit,
    /// Nothing came.
    Failed,
    /// Nobody asked: `refreshes_max`.
    Skipped,
}

impl Refreshed {
    /// Every result.
    pub const ALL: [Refreshed; 4] =
        [Refreshed::Kept, Refreshed::Unfit, Refreshed::Failed, Refreshed::Skipped];
}

/// What was counted up to a moment, and how things stand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CacheCounted {
    /// Requests on cached paths, in the order of [`CacheUse::ALL`].
    pub uses: [u64; CacheUse::ALL.len()],
    /// Answers that were not kept, in the order of [`Unfit::ALL`].
    pub unfit: [u64; Unfit::ALL.len()],
    /// In the order of [`Refreshed::ALL`].
    pub refreshes: [u64; Refreshed::ALL.len()],
    /// Answers that had to go for others.
    pub evicted: u64,
    /// Resources that were changed by requests that passed.
    pub changes: u64,
    /// Times that answers were thrown away on an operator's word.
    pub purges: u64,
    /// Answers that were.
    pub purged: u64,
    /// Answers (and marks of unfit ones) that are kept now.
    pub entries_now: u64,
    /// Bytes of answers that are kept, on their way, or still read.
    pub bytes_now: u64,
    /// Requests that wait for the answer to another one now.
    pub waiting_now: u64,
}

#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) uses: [AtomicU64; CacheUse::ALL.len()],
    pub(super) unfit: [AtomicU64; Unfit::ALL.len()],
    pub(super) refreshes: [AtomicU64; Refreshed::ALL.len()],
    pub(super) changes: AtomicU64,
    pub(super) purges: AtomicU64,
    pub(super) purged: AtomicU64,
}

pub(super) fn read<const N: usize>(counts: &[AtomicU64; N]) -> [u64; N] {
    std::array::from_fn(|index| counts[index].load(Ordering::Relaxed))
}
