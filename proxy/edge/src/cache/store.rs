//! What is kept: bounded by bytes and by number, in S3-FIFO order (`quick_cache`), so that a walk over all pages does not
//! push out those that are asked for again and again. Whole keys are compared.

use super::entry::Entry;
use super::route::{Key, is_under};
use super::settings::CHANGES;
use quick_cache::unsync::Cache;
use quick_cache::{Lifecycle, OptionsBuilder, Weighter};
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Under a key.
#[derive(Clone, Debug)]
pub(super) enum Kept {
    Answer(Arc<Entry>),
    /// Its answer was none for the cache. Until then nobody waits for the next one.
    Unfit {
        until: Duration,
    },
}

/// What is kept, and when resources were changed by requests that passed.
#[derive(Debug)]
pub(super) struct Store {
    kept: Cache<Key, Kept, Weigh, RandomState, Evicted>,
    evicted: Arc<AtomicU64>,
    /// When a resource of this place was changed last. A fixed number of places: a change needs no search for the
    /// variants of a resource, and two resources in one place only cost a question.
    changes: Vec<Duration>,
    /// When answers were last thrown away on an operator's word.
    purged_at: Option<Duration>,
    places: RandomState,
}

/// Bytes, and at least so many that no more than `entries_max` fit.
#[derive(Clone, Debug)]
struct Weigh {
    least: u64,
}

impl Weighter<Key, Kept> for Weigh {
    fn weight(&self, key: &Key, kept: &Kept) -> u64 {
        let bytes = match kept {
            Kept::Answer(entry) => entry.weight(key.0.len()),
            Kept::Unfit { .. } => key.0.len() as u64 + 256,
        };
        bytes.max(self.least)
    }
}

/// Counts what had to go.
#[derive(Clone, Debug)]
struct Evicted(Arc<AtomicU64>);

impl Lifecycle<Key, Kept> for Evicted {
    type RequestState = ();

    fn on_evict(&self, _state: &mut (), _key: Key, kept: Kept) {
        if matches!(kept, Kept::Answer(_)) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Store {
    pub(super) fn new(bytes_max: u64, entries_max: u32) -> Store {
        let entries = u64::from(entries_max.max(1));
        let evicted = Arc::new(AtomicU64::new(0));
        let options = OptionsBuilder::new()
            .estimated_items_capacity(entries as usize)
            .weight_capacity(bytes_max)
            .build()
            // Both values it asks for are there.
            .expect("capacities are set");
        let weigh = Weigh { least: bytes_max.div_ceil(entries).max(1) };
        let kept = Cache::with_options(options, weigh, RandomState::new(), Evicted(evicted.clone()));
        Store {
            kept,
            evicted,
            changes: vec![Duration::ZERO; CHANGES],
            purged_at: None,
            places: RandomState::new(),
        }
    }

    pub(super) fn get(&self, key: &Key, resource: &[u8], now: Duration) -> Option<Kept> {
        match self.kept.get(key)? {
            Kept::Answer(entry) if self.is_changed(resource, entry.asked_at) => None,
            Kept::Unfit { until } if *until <= now => None,
            kept => Some(kept.clone()),
        }
    }

    pub(super) fn put(&mut self, key: Key, kept: Kept) {
        self.kept.insert(key, kept);
    }

    pub(super) fn remove(&mut self, key: &Key) {
        self.kept.remove(key);
    }

    /// A resource was changed: what was asked for before is not used any more.
    pub(super) fn changed(&mut self, resource: &[u8], now: Duration) {
        let place = self.place(resource);
        self.changes[place] = now;
    }

    /// The resource, or another one of the same place, was changed since.
    pub(super) fn is_changed(&self, resource: &[u8], asked_at: Duration) -> bool {
        let changed = self.changes[self.place(resource)];
        changed >= asked_at && !changed.is_zero()
    }

    /// Throws away what is kept under a path, or all; how many answers that were.
    pub(super) fn purge(&mut self, under: Option<&str>, now: Duration) -> u64 {
        let goes = |key: &Key| under.is_none_or(|prefix| is_under(key.path(), prefix.as_bytes()));
        let answers =
            self.kept.iter().filter(|(key, kept)| goes(key) && matches!(kept, Kept::Answer(_))).count();
        self.kept.retain(|key, _| !goes(key));
        self.purged_at = Some(now);
        answers as u64
    }

    /// Something was thrown away since.
    pub(super) fn is_purged(&self, asked_at: Duration) -> bool {
        self.purged_at.is_some_and(|purged_at| purged_at >= asked_at)
    }

    fn place(&self, resource: &[u8]) -> usize {
        (self.places.hash_one(resource) % CHANGES as u64) as usize
    }

    /// Marks of unfit answers included.
    pub(super) fn len(&self) -> usize {
        self.kept.len()
    }

    pub(super) fn evicted(&self) -> u64 {
        self.evicted.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::super::entry::KeptBody;
    use super::super::terms::Terms;
    use super::*;
    use crate::body::HeldBytes;
    use bytes::Bytes;
    use http::{HeaderMap, StatusCode};

    fn key(number: u32) -> Key {
        Key(number.to_be_bytes().as_slice().into())
    }

    fn answer(bytes: usize, asked_at: Duration) -> Kept {
        let terms = Terms {
            age: Duration::ZERO,
            fresh: Duration::from_secs(1),
            while_revalidate: Duration::ZERO,
            if_error: Duration::ZERO,
        };
        let body = KeptBody::new(Bytes::from(vec![0; bytes]), HeldBytes::new(1).share());
        let headers = HeaderMap::new();
        Kept::Answer(Arc::new(Entry { status: StatusCode::OK, headers, body, terms, at: asked_at, asked_at }))
    }

    #[test]
    fn both_bounds_hold_whatever_comes() {
        let mut store = Store::new(1 << 20, 100);
        for number in 0..10_000 {
            store.put(key(number), answer(1, Duration::ZERO));
            assert!(store.len() <= 100);
        }
        assert_eq!(store.evicted() + store.len() as u64, 10_000);
        for number in 0..1_000 {
            store.put(key(number), answer(60_000, Duration::ZERO));
            assert!(store.kept.weight() <= 1 << 20);
        }
        assert!(store.len() < 18, "{}", store.len());
    }

    #[test]
    fn a_walk_does_not_push_out_what_is_asked_for() {
        let mut store = Store::new(1 << 20, 100);
        let now = Duration::ZERO;
        for number in 0..20 {
            store.put(key(number), answer(1, now));
        }
        for walk in 0..2_000 {
            for number in 0..20 {
                store.get(&key(number), b"", now);
            }
            store.put(key(1_000 + walk), answer(1, now));
        }
        assert_eq!((0..20).filter(|number| store.get(&key(*number), b"", now).is_some()).count(), 20);
    }

    #[test]
    fn a_change_ends_what_was_asked_for_before() {
        let mut store = Store::new(1 << 20, 100);
        let at = Duration::from_secs;
        store.put(key(1), answer(1, at(5)));
        assert!(store.get(&key(1), b"a", at(6)).is_some());
        store.changed(b"a", at(6));
        assert!(store.get(&key(1), b"a", at(7)).is_none());
        store.put(key(1), answer(1, at(7)));
        assert!(store.get(&key(1), b"a", at(8)).is_some());
        store.put(key(2), Kept::Unfit { until: at(9) });
        assert!(store.get(&key(2), b"b", at(8)).is_some());
        assert!(store.get(&key(2), b"b", at(9)).is_none());
    }
}
