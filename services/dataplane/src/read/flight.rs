//! Reads of the database that are under way in this process: a key that is being read is not read again, whoever asks.

use bytes::Bytes;
use rustc_hash::FxHashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::watch;

use super::Failure;

/// The entries of a chunk by cache key, or why there are none.
pub type Landed = Result<Arc<FxHashMap<String, Bytes>>, Failure>;

/// One read of a chunk of keys.
pub struct Flight {
    landed: watch::Sender<Option<Landed>>,
    /// Something was written meanwhile: what was read may be old, and is not kept.
    stale: AtomicBool,
    /// Held while the cache is filled with what was read.
    filling: tokio::sync::Mutex<()>,
}

impl Flight {
    /// Fills the cache, unless something was written meanwhile. Whoever writes from now on waits for it to end.
    pub async fn fill(&self, fill: impl Future<Output = ()>) {
        let _filling = self.filling.lock().await;
        if !self.is_stale() {
            fill.await;
        }
    }

    /// Waits until nothing of it is on its way to the cache.
    pub async fn filled(&self) {
        drop(self.filling.lock().await);
    }

    /// Whether a write came between.
    pub fn is_stale(&self) -> bool {
        self.stale.load(Ordering::Acquire)
    }

    /// Tells everybody who waits.
    pub fn land(&self, landed: Landed) {
        self.landed.send_replace(Some(landed));
    }
}

/// All flights by cache key; at most the keys of the calls under way and of the fills.
#[derive(Default)]
pub struct Flights {
    by_key: Mutex<FxHashMap<String, Arc<Flight>>>,
}

/// What becomes of a chunk: keys to read, and reads of others to wait for.
pub struct Claim {
    /// Reads the claimed keys; ends their flight when dropped.
    pub own: Claimed,
    /// Reads under way with the keys that are in them.
    pub others: Vec<(Waiting, Vec<String>)>,
}

/// The keys that a reader has taken on itself. Whoever drops it before landing leaves them to those who wait.
pub struct Claimed {
    flights: Arc<Flights>,
    /// Its flight.
    pub flight: Arc<Flight>,
    /// Its cache keys.
    pub keys: Vec<String>,
}

/// A read of somebody else's.
pub struct Waiting(watch::Receiver<Option<Landed>>);

impl Waiting {
    /// What it came to; `None` when its reader left without an answer. Safe to drop.
    pub async fn wait(mut self) -> Option<Landed> {
        let landed = self.0.wait_for(Option::is_some).await.ok()?;
        landed.clone()
    }
}

impl Flights {
    /// Takes the keys that nobody reads, and finds those that somebody does.
    pub fn claim(self: &Arc<Flights>, keys: Vec<String>) -> Claim {
        let flight = Arc::new(Flight {
            landed: watch::Sender::new(None),
            stale: AtomicBool::new(false),
            filling: tokio::sync::Mutex::default(),
        });
        let mut own = Vec::new();
        let mut others: Vec<(Arc<Flight>, Vec<String>)> = Vec::new();
        let mut by_key = self.by_key.lock().unwrap_or_else(PoisonError::into_inner);
        for key in keys {
            match by_key.get(&key) {
                None => {
                    by_key.insert(key.clone(), flight.clone());
                    own.push(key);
                }
                Some(other) => match others.iter_mut().find(|known| Arc::ptr_eq(&known.0, other)) {
                    Some(known) => known.1.push(key),
                    None => others.push((other.clone(), vec![key])),
                },
            }
        }
        let others =
            others.into_iter().map(|(flight, keys)| (Waiting(flight.landed.subscribe()), keys)).collect();
        drop(by_key);
        Claim { own: Claimed { flights: self.clone(), flight, keys: own }, others }
    }

    /// Something was written under these keys: reads under way are not kept, and the next reader reads anew. The flights
    /// that it ended may be filling the cache.
    pub fn invalidate(&self, keys: &[String]) -> Vec<Arc<Flight>> {
        let mut ended = Vec::new();
        let mut by_key = self.by_key.lock().unwrap_or_else(PoisonError::into_inner);
        for key in keys {
            if let Some(flight) = by_key.remove(key) {
                flight.stale.store(true, Ordering::Release);
                ended.push(flight);
            }
        }
        ended
    }

    /// Keys being read.
    pub fn len(&self) -> usize {
        self.by_key.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Whether nothing is being read.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Drop for Claimed {
    fn drop(&mut self) {
        let mut by_key = self.flights.by_key.lock().unwrap_or_else(PoisonError::into_inner);
        for key in &self.keys {
            if by_key.get(key).is_some_and(|flight| Arc::ptr_eq(flight, &self.flight)) {
                by_key.remove(key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[tokio::test]
    async fn a_key_is_read_once_at_a_time() {
        let flights = Arc::new(Flights::default());
        let first = flights.claim(keys(&["a", "b"]));
        let mut second = flights.claim(keys(&["b", "c", "a"]));
        assert_eq!((first.own.keys.len(), second.own.keys.as_slice()), (2, keys(&["c"]).as_slice()));
        let (waiting, shared) = second.others.pop().expect("one flight");
        assert_eq!((shared, second.others.len()), (keys(&["b", "a"]), 0));
        let entries = Arc::new(FxHashMap::from_iter([("a".to_owned(), Bytes::from("1"))]));
        first.own.flight.land(Ok(entries.clone()));
        drop(first);
        assert_eq!(waiting.wait().await.expect("landed").expect("read"), entries);
        drop(second);
        assert!(flights.is_empty());
    }

    #[tokio::test]
    async fn a_reader_who_leaves_keeps_nobody_waiting() {
        let flights = Arc::new(Flights::default());
        let first = flights.claim(keys(&["a"]));
        let mut second = flights.claim(keys(&["a"]));
        drop(first);
        assert!(second.others.pop().expect("one flight").0.wait().await.is_none());
        assert_eq!(flights.claim(keys(&["a"])).own.keys, keys(&["a"]), "the next reads it");
    }

    #[test]
    fn a_write_ends_what_is_being_read() {
        let flights = Arc::new(Flights::default());
        let first = flights.claim(keys(&["a", "b"]));
        flights.invalidate(&keys(&["a"]));
        assert!(first.own.flight.is_stale());
        let second = flights.claim(keys(&["a", "b"]));
        assert_eq!(second.own.keys, keys(&["a"]), "read anew; b is still being read");
        drop(first);
        assert_eq!(flights.claim(keys(&["a", "b"])).own.keys, keys(&["b"]), "the second read goes on");
    }
}
