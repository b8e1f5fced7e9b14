//! Read-through: what the cache has; what it has not from the database by `IN ?`, a key once however many calls ask for it;
//! back into the cache, that there is nothing included. A failure of the cache costs time and load, never an answer; a
//! failure of the database fails the call.

pub mod edges;
pub mod entry;
pub mod flight;
pub mod kinds;
pub mod pace;
pub mod plan;
pub mod values;

use crate::cache::{Cache, CacheError};
use crate::metrics::Metrics;
use crate::options::ServeArgs;
use crate::request_id::RequestId;
use crate::store::{Reader, Store, StoreError};
use bytes::Bytes;
use flight::{Claimed, Flights};
use futures_util::future::join_all;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use pace::Pace;
use plan::Plan;
use rustc_hash::{FxBuildHasher, FxHashMap, FxHashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::Semaphore;

/// An item that is longer is not kept: memcached's own limit is 1 MiB, key and header included.
const ITEM_LONGEST: usize = 1_000_000;

/// Why a call is not answered.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Failure {
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The request cannot be served as it is.
    #[error("{0}")]
    Invalid(String),
    /// The process ends, or the call's task did.
    #[error("the call was ended")]
    Ended,
    /// It is about something that is not there, and the method has no empty answer.
    #[error("{0}")]
    NotFound(String),
}

/// How long the cache keeps a kind of value.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Keep {
    /// `--ttl`: writes end it.
    Records,
    /// `--ttl-lists`: other processes change it without saying so.
    Lists,
}

/// What can be read by a name.
pub trait Kind: Sync {
    /// What there is of a name.
    type Value: prost::Message + Default + Clone + 'static;
    /// For metrics.
    const NAME: &'static str;
    /// How long the cache keeps it.
    const KEEP: Keep;
    /// Names that one load may have; `None`: as many as an IN list.
    const PER_LOAD: Option<usize> = None;

    /// What the cache calls it.
    fn cache_key(&self, name: &str) -> String;

    /// What the database has of these distinct names; what is not there is not in the answer.
    fn load(
        &self,
        store: Reader<'_>,
        names: &[String],
    ) -> impl Future<Output = Result<FxHashMap<String, Self::Value>, StoreError>> + Send;
}

/// Gets of one call that may fail: it goes on without the cache then. A memcached that hangs costs a call as many time
/// limits at the most, not one for each hundred of its keys.
const FAILED_GETS_MAX: usize = 4;

/// What storage must know of a call.
#[derive(Clone, Debug, Default)]
pub struct Call {
    /// By which weir knows the request; nothing when the caller sent none.
    pub id: Option<RequestId>,
    failed_gets: Arc<AtomicUsize>,
}

impl Call {
    /// With this id, where it has one.
    pub fn new(id: Option<RequestId>) -> Call {
        Call { id, failed_gets: Arc::default() }
    }
}

/// The bounds and lifetimes of reads.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// `--cache-keys-per-get`.
    pub keys_per_get: usize,
    /// Gets under way for one call: half of the connections, so that one call never has all of them.
    pub gets_per_request: usize,
    /// `--database-queries-per-request`.
    pub queries_per_request: usize,
    /// `--ttl`, in seconds.
    pub ttl: u32,
    /// `--ttl-missing`, in seconds.
    pub ttl_missing: u32,
    /// `--ttl-lists`, in seconds.
    pub ttl_lists: u32,
    /// `--page-max`.
    pub page_max: usize,
    /// `--follows-max`.
    pub follows_max: usize,
    /// `--thread-uris-max`.
    pub thread_uris_max: usize,
}

impl From<&ServeArgs> for Bounds {
    fn from(options: &ServeArgs) -> Bounds {
        Bounds {
            keys_per_get: options.cache_keys_per_get,
            gets_per_request: (options.cache_connections / 2).max(1),
            queries_per_request: options.database_queries_per_request,
            ttl: options.ttl,
            ttl_missing: options.ttl_missing,
            ttl_lists: options.ttl_lists,
            page_max: options.page_max,
            follows_max: options.follows_max,
            thread_uris_max: options.thread_uris_max,
        }
    }
}

/// Both storages and what is between them.
pub struct Reads {
    /// The database.
    pub store: Arc<Store>,
    /// The bounds.
    pub bounds: Bounds,
    cache: Arc<Cache>,
    flights: Arc<Flights>,
    fills: Arc<Semaphore>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
}

impl Reads {
    /// With at most `fills_max` fills under way.
    pub fn new(
        store: Arc<Store>,
        cache: Arc<Cache>,
        bounds: Bounds,
        fills_max: usize,
        metrics: Arc<Metrics>,
    ) -> Reads {
        let fills = Arc::new(Semaphore::new(fills_max));
        Reads { store, bounds, cache, flights: Arc::default(), fills, metrics }
    }

    /// The same by other connections: what one reads the other waits for, and the fills of both are under the same bound.
    pub fn beside(&self, store: Arc<Store>, cache: Arc<Cache>) -> Reads {
        let (flights, fills, metrics) = (self.flights.clone(), self.fills.clone(), self.metrics.clone());
        Reads { store, cache, bounds: self.bounds, flights, fills, metrics }
    }

    /// The database, asked on behalf of this call.
    pub fn database(&self, call: &Call) -> Reader<'_> {
        self.store.reader(call.id)
    }

    /// What there is of each key of the plan. Dropping this ends the statements it waits for; gets that were sent are
    /// finished by their connection, and whoever waits for the same keys reads them.
    pub async fn read<K: Kind>(
        &self,
        call: &Call,
        kind: &K,
        plan: &Plan,
    ) -> Result<FxHashMap<String, K::Value>, Failure> {
        self.read_past(call, kind, plan, &FxHashSet::default()).await
    }

    /// The same, and the database is asked for the keys in `past` whatever the cache has.
    pub async fn read_past<K: Kind>(
        &self,
        call: &Call,
        kind: &K,
        plan: &Plan,
        past: &FxHashSet<String>,
    ) -> Result<FxHashMap<String, K::Value>, Failure> {
        // Room for all of them at once: to make it bit by bit would move what is there many times.
        let mut found = FxHashMap::with_capacity_and_hasher(plan.keys.len(), FxBuildHasher);
        let mut misses: Vec<String> = Vec::new();
        let (direct, asked): (Vec<&String>, Vec<&String>) =
            plan.keys.iter().partition(|name| past.contains(*name));
        misses.extend(direct.into_iter().cloned());
        let mut gets = Vec::new();
        for names in asked.chunks(self.bounds.keys_per_get) {
            gets.push(self.cached(call, kind, names));
        }
        let mut gets = stream::iter(gets).buffer_unordered(self.bounds.gets_per_request);
        let (mut hits, mut known_missing) = (0, 0);
        let mut pace = Pace::default();
        while let Some(answers) = gets.next().await {
            pace.steps(answers.len()).await;
            for (name, answer) in answers {
                match answer {
                    None => misses.push(name),
                    Some(None) => known_missing += 1,
                    Some(Some(value)) => {
                        hits += 1;
                        found.insert(name, value);
                    }
                }
            }
        }
        self.metrics.count_reads(K::NAME, "hit", hits);
        self.metrics.count_reads(K::NAME, "missing", known_missing);
        self.metrics.count_reads(K::NAME, "miss", misses.len());
        let per_load = K::PER_LOAD.unwrap_or(self.store.keys_per_query()).max(1);
        let mut loads = Vec::new();
        for names in misses.chunks(per_load) {
            loads.push(self.loaded(call, kind, names));
        }
        let mut loads = stream::iter(loads).buffer_unordered(self.bounds.queries_per_request);
        while let Some(values) = loads.try_next().await? {
            pace.steps(values.len()).await;
            found.extend(values);
        }
        Ok(found)
    }

    /// What the cache says of each name: `None` where it must be read.
    async fn cached<K: Kind>(
        &self,
        call: &Call,
        kind: &K,
        names: &[&String],
    ) -> Vec<(String, Option<Option<K::Value>>)> {
        let by_key: FxHashMap<String, &String> =
            names.iter().map(|name| (kind.cache_key(name), *name)).collect();
        let keys = call.id.iter().map(|id| id.key()).chain(by_key.keys().cloned()).collect();
        let mut entries: FxHashMap<String, Bytes> = FxHashMap::default();
        if call.failed_gets.load(Ordering::Relaxed) < FAILED_GETS_MAX {
            match self.cache.get(keys).await {
                Ok(items) => entries.extend(items),
                // That too many wait is known at once, and soon over.
                Err(CacheError::Full) => {}
                Err(_) => drop(call.failed_gets.fetch_add(1, Ordering::Relaxed)),
            }
        }
        let answers = by_key
            .into_iter()
            .map(|(key, name)| (name.clone(), entries.remove(&key).and_then(entry::decode)));
        answers.collect()
    }

    /// Reads these names from the database, those that others are reading from them.
    async fn loaded<K: Kind>(
        &self,
        call: &Call,
        kind: &K,
        names: &[String],
    ) -> Result<Vec<(String, K::Value)>, Failure> {
        let mut values = Vec::new();
        let mut wanted: FxHashMap<String, String> =
            names.iter().map(|name| (kind.cache_key(name), name.clone())).collect();
        while !wanted.is_empty() {
            let claim = self.flights.claim(wanted.keys().cloned().collect());
            let shared = claim.others.iter().map(|(_, keys)| keys.len()).sum();
            self.metrics.count_reads(K::NAME, "joined", shared);
            let others =
                claim.others.into_iter().map(|(waiting, keys)| async { (waiting.wait().await, keys) });
            let (own, others) =
                futures_util::join!(self.own(call, kind, claim.own, &wanted), join_all(others));
            let (own_keys, own) = own?;
            for key in own_keys {
                wanted.remove(&key);
            }
            values.extend(own);
            for (landed, keys) in others {
                // Its reader left: the keys stay wanted.
                let Some(landed) = landed else { continue };
                let entries = landed?;
                for key in keys {
                    let entry = entries.get(&key).cloned().and_then(entry::decode::<K::Value>);
                    if let (Some(name), Some(Some(value))) = (wanted.remove(&key), entry) {
                        values.push((name, value));
                    }
                }
            }
        }
        Ok(values)
    }

    /// Reads what was claimed, tells those who wait, and has it kept.
    async fn own<K: Kind>(
        &self,
        call: &Call,
        kind: &K,
        claimed: Claimed,
        names: &FxHashMap<String, String>,
    ) -> Result<(Vec<String>, FxHashMap<String, K::Value>), Failure> {
        if claimed.keys.is_empty() {
            return Ok((Vec::new(), FxHashMap::default()));
        }
        let keys = claimed.keys.clone();
        let own: Vec<String> = keys.iter().filter_map(|key| names.get(key).cloned()).collect();
        let values = match kind.load(self.database(call), &own).await {
            Ok(values) => values,
            Err(error) => {
                claimed.flight.land(Err(error.clone().into()));
                return Err(error.into());
            }
        };
        let entries = keys.iter().filter_map(|key| {
            let value = values.get(names.get(key)?);
            Some((key.clone(), Bytes::from(entry::encode(value))))
        });
        let entries: Arc<FxHashMap<String, Bytes>> = Arc::new(entries.collect());
        claimed.flight.land(Ok(entries.clone()));
        let ttl = match K::KEEP {
            Keep::Records => self.bounds.ttl,
            Keep::Lists => self.bounds.ttl_lists,
        };
        self.keep(claimed, entries, ttl);
        Ok((keys, values))
    }

    /// Fills the cache beside the call: the answer does not wait for it. The keys stay claimed until it is done, so that a
    /// write that comes between ends it, or waits for it.
    fn keep(&self, claimed: Claimed, entries: Arc<FxHashMap<String, Bytes>>, ttl: u32) {
        let Ok(permit) = self.fills.clone().try_acquire_owned() else {
            self.metrics.count_bound("cache-fills-max");
            return;
        };
        let (cache, ttl_missing) = (self.cache.clone(), self.bounds.ttl_missing);
        tokio::spawn(async move {
            let _permit = permit;
            let fits = entries.iter().filter(|(_, entry)| entry.len() <= ITEM_LONGEST);
            let (missing, present): (Vec<_>, Vec<_>) = fits
                .map(|(key, entry)| (key.clone(), entry.to_vec()))
                .partition(|(_, entry)| entry.len() == 1 && entry[0] == b'0');
            let flight = claimed.flight.clone();
            let fill = async {
                for (items, ttl) in [(present, ttl), (missing, ttl_missing)] {
                    if !items.is_empty() {
                        // What could not be kept is read again: nobody needs to know.
                        let _ = cache.set(items, ttl).await;
                    }
                }
            };
            flight.fill(fill).await;
            drop(claimed);
        });
    }

    /// After a write: what is being read is not kept, and the cache forgets what it has. An error leaves the cache's
    /// entries to their TTL.
    pub async fn forget(&self, keys: Vec<String>) -> Result<(), CacheError> {
        for flight in self.flights.invalidate(&keys) {
            // What it had begun to fill is in the cache, and deleted below; it begins nothing more.
            flight.filled().await;
        }
        let mut ended = Ok(());
        for keys in keys.chunks(self.bounds.keys_per_get) {
            ended = ended.and(self.cache.delete(keys.to_vec()).await);
        }
        ended
    }
}
