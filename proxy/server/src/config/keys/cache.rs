//! What `[service.NAME]` says about the cache of its answers. Its bounds and defaults are the edge's.

use std::sync::Arc;
use std::time::Duration;
use weir_edge::CacheSettings;
use weir_engine::units::{Bytes, Span};

/// The keys that begin with `cache_`.
#[derive(Clone, Debug, PartialEq)]
pub struct CacheDraft {
    /// Paths whose answers may be kept; without one nothing is.
    pub paths: Vec<Arc<str>>,
    /// Headers that make a difference.
    pub headers: Vec<Arc<str>>,
    /// Bytes of all.
    pub bytes_max: Bytes,
    /// Bytes of one.
    pub entry_max: Bytes,
    /// How many.
    pub entries_max: u32,
    /// Bytes on their way.
    pub fill_bytes_max: Bytes,
    /// The longest that one is fresh.
    pub ttl_max: Span,
    /// The longest that one is used afterwards.
    pub stale_max: Span,
    /// Requests that wait for others.
    pub waiters_max: u32,
    /// How long.
    pub lock_timeout: Span,
    /// Questions that nobody waits for.
    pub refreshes_max: u32,
}

impl Default for CacheDraft {
    fn default() -> CacheDraft {
        let edge = CacheSettings::default();
        let span = |time: Duration| Span(u64::try_from(time.as_micros()).unwrap_or(u64::MAX));
        CacheDraft {
            paths: edge.paths,
            headers: edge.headers,
            bytes_max: Bytes(edge.bytes_max),
            entry_max: Bytes(edge.entry_max),
            entries_max: edge.entries_max,
            fill_bytes_max: Bytes(edge.fill_bytes_max),
            ttl_max: span(edge.ttl_max),
            stale_max: span(edge.stale_max),
            waiters_max: edge.waiters_max,
            lock_timeout: span(edge.lock_timeout),
            refreshes_max: edge.refreshes_max,
        }
    }
}

impl CacheDraft {
    /// As the edge is told.
    #[must_use]
    pub fn settings(&self) -> CacheSettings {
        let time = |span: Span| Duration::from_micros(span.0);
        let mut edge = CacheSettings::default();
        edge.paths = self.paths.clone();
        edge.headers = self.headers.clone();
        edge.bytes_max = self.bytes_max.0;
        edge.entry_max = self.entry_max.0;
        edge.entries_max = self.entries_max;
        edge.fill_bytes_max = self.fill_bytes_max.0;
        edge.ttl_max = time(self.ttl_max);
        edge.stale_max = time(self.stale_max);
        edge.waiters_max = self.waiters_max;
        edge.lock_timeout = time(self.lock_timeout);
        edge.refreshes_max = self.refreshes_max;
        edge
    }
}
