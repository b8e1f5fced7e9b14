//! Answers of reads that may be given again for a short time: only under a rule with `cache_ttl`.
//!
//! An answer is for the principal that asked, in the version it asked in, and ends with the first write of this process
//! to what it depends on ([`super::writes`]) or `cache_ttl` after the read was sent. Kept are whole answers: rows without
//! further pages, warnings, traces, payloads and changed columns.
//!
//! Bounds: `cache_bytes_max` per cluster and worker, keys and [`OVERHEAD`] included; the answer not used for longest
//! leaves first, and one that would take more than an eighth of it is not kept.

use super::CqlEngine;
use super::request::RequestId;
use super::writes::{Seen, Writes};
use crate::units::{Bytes, Instant, Span};
use lru::LruCache;
use rustc_hash::FxBuildHasher;
use std::sync::Arc;
use weir_cql::envelope::{Flags, Header};
use weir_cql::response::{Prefix, Rows};

/// What an answer takes beside its bytes and its key, about.
const OVERHEAD: usize = 256;

#[derive(Debug)]
struct Kept {
    identity: Box<[u8]>,
    answer: Answer,
    seen: Seen,
    /// When the read was sent.
    sent: Instant,
}

/// An answer as a node gave it.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) header: Header,
    pub(super) body: Arc<[u8]>,
    pub(super) rows: u64,
}

/// The answers of one cluster and worker.
#[derive(Debug)]
pub(super) struct Cache {
    kept: LruCache<u64, Kept, FxBuildHasher>,
    bytes: usize,
    bytes_max: usize,
    pub(super) hits: u64,
    pub(super) misses: u64,
    /// Left for want of room.
    pub(super) evicted: u64,
    /// Found to be older than a write.
    pub(super) invalidated: u64,
}

impl Cache {
    pub(super) fn new(bytes_max: Bytes) -> Cache {
        Cache {
            kept: LruCache::unbounded_with_hasher(FxBuildHasher),
            bytes: 0,
            bytes_max: usize::try_from(bytes_max.0).unwrap_or(usize::MAX),
            hits: 0,
            misses: 0,
            evicted: 0,
            invalidated: 0,
        }
    }

    /// Forgets all answers.
    pub(super) fn clear(&mut self, bytes_max: Bytes) {
        self.kept = LruCache::unbounded_with_hasher(FxBuildHasher);
        self.bytes = 0;
        self.bytes_max = usize::try_from(bytes_max.0).unwrap_or(usize::MAX);
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn len(&self) -> usize {
        self.kept.len()
    }

    /// The answer to the same read, where there is one that may still be given.
    pub(super) fn get(
        &mut self,
        hash: u64,
        identity: &[u8],
        writes: &Writes,
        now: Instant,
        ttl: Span,
    ) -> Option<Answer> {
        let found = self.kept.get(&hash).filter(|kept| *kept.identity == *identity);
        let outdated = found.is_some_and(|kept| !writes.still(&kept.seen));
        let answer =
            found.filter(|kept| !outdated && now < kept.sent.after(ttl)).map(|kept| kept.answer.clone());
        if answer.is_some() {
            self.hits += 1;
            return answer;
        }
        self.misses += 1;
        self.invalidated += u64::from(outdated);
        if found.is_some()
            && let Some(gone) = self.kept.pop(&hash)
        {
            self.bytes -= gone.size();
        }
        None
    }

    /// Whether an answer of so many bytes may be kept.
    pub(super) fn takes(&self, size: usize) -> bool {
        size <= self.bytes_max / 8
    }

    fn put(&mut self, hash: u64, kept: Kept) {
        let size = kept.size();
        if !self.takes(size) {
            return;
        }
        self.bytes += size;
        if let Some(old) = self.kept.put(hash, kept) {
            self.bytes -= old.size();
        }
        while self.bytes > self.bytes_max {
            let Some((_, gone)) = self.kept.pop_lru() else { break };
            self.bytes -= gone.size();
            self.evicted += 1;
        }
    }

    /// Panics when a sum or a bound is broken.
    pub(super) fn check_invariants(&self) {
        let bytes: usize = self.kept.iter().map(|(_, kept)| kept.size()).sum();
        assert_eq!(bytes, self.bytes, "bytes of answers are counted");
        assert!(bytes <= self.bytes_max, "answers kept are bounded");
    }
}

impl Kept {
    fn size(&self) -> usize {
        self.identity.len() + self.answer.body.len() + OVERHEAD
    }
}

impl CqlEngine {
    /// Keeps the answer to this request, where a rule says so and nothing was written since it was sent.
    pub(super) fn keep(&mut self, id: RequestId, header: &Header, body: &[u8], prefix: &Prefix, rows: &Rows) {
        let Some((hash, seen)) = self.flights.keeps(id) else { return };
        let whole = header.flags == Flags::default()
            && (prefix.tracing_id, prefix.warnings, prefix.payload) == (None, None, None)
            && rows.metadata.paging_state.is_none()
            && rows.metadata.new_metadata_id.is_none();
        if !whole || !self.writes.still(&seen) {
            return;
        }
        let Some(request) = self.requests.get(id) else { return };
        let Some(identity) = self.identity_of(request) else { return };
        let kept = Kept {
            identity: identity.to_bytes(),
            answer: Answer { header: *header, body: body.into(), rows: rows.count.into() },
            seen,
            sent: request.sent,
        };
        let cluster = self.clients[request.client.slot as usize].cluster;
        self.clusters[cluster.0 as usize].cache.put(hash, kept);
    }
}
