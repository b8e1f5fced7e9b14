//! The caches of services' answers: one for each service that has paths to be kept, shared by its listeners, and what they
//! count in the metrics.

use crate::config::Config;
use crate::worker::orders::{Purge, Purged};
use std::cell::RefCell;
use std::io;
use std::sync::Arc;
use weir_edge::{CacheCounted, CacheUse, Refreshed, ResponseCache, Unfit};
use weir_engine::units::ServiceId;
use weir_telemetry::{
    GaugeShare, HttpCacheMetrics, HttpCacheRefresh, HttpCacheResult, HttpCacheUnfit, Telemetry,
};

/// Every cache of the process.
pub(super) struct Caches {
    all: Vec<Kept>,
}

struct Kept {
    service: ServiceId,
    name: Arc<str>,
    cache: Arc<ResponseCache>,
    metrics: Arc<HttpCacheMetrics>,
    books: RefCell<Books>,
}

/// What the metrics know already.
struct Books {
    counted: CacheCounted,
    entries: GaugeShare,
    bytes: GaugeShare,
    waiting: GaugeShare,
}

impl Caches {
    /// Empty ones.
    ///
    /// # Errors
    /// When settings cannot be used; a checked configuration has none of those.
    pub(super) fn new(config: &Config, telemetry: &Telemetry) -> io::Result<Caches> {
        let mut all = Vec::new();
        for (place, (service, _)) in config.services.iter().enumerate() {
            if service.cache.paths.is_empty() {
                continue;
            }
            let cache = ResponseCache::new(service.cache.settings()).map_err(|problems| {
                let words: Vec<_> =
                    problems.iter().map(|(key, what)| format!("cache_{key}: {what}")).collect();
                io::Error::other(words.join("; "))
            })?;
            let metrics = telemetry.http_cache(&service.settings.name);
            let books = RefCell::new(Books {
                counted: CacheCounted::default(),
                entries: metrics.entries(),
                bytes: metrics.bytes(),
                waiting: metrics.waiting(),
            });
            let service = ServiceId(u32::try_from(place).unwrap_or(u32::MAX));
            let name = config.settings.services[place].name.clone();
            all.push(Kept { service, name, cache, metrics, books });
        }
        Ok(Caches { all })
    }

    /// That of a service.
    pub(super) fn of(&self, service: ServiceId) -> Option<Arc<ResponseCache>> {
        self.all.iter().find(|kept| kept.service == service).map(|kept| kept.cache.clone())
    }

    /// Throws away what an operator wants thrown away; of each service how many answers.
    pub(super) fn purge(&self, purge: &Purge) -> Purged {
        let named = |kept: &&Kept| purge.service.as_ref().is_none_or(|service| *service == kept.name);
        let all = self.all.iter().filter(named);
        all.map(|kept| (kept.name.clone(), kept.cache.purge(purge.path.as_deref()))).collect()
    }

    /// Moves what was counted into the metrics.
    pub(super) fn fold(&self) {
        for kept in &self.all {
            let (new, metrics) = (kept.cache.counted(), &kept.metrics);
            let books = &mut *kept.books.borrow_mut();
            let old = std::mem::replace(&mut books.counted, new);
            for (place, what) in CacheUse::ALL.into_iter().enumerate() {
                metrics.requests(result(what), new.uses[place] - old.uses[place]);
            }
            for (place, why) in Unfit::ALL.into_iter().enumerate() {
                metrics.unfit(unfit(why), new.unfit[place] - old.unfit[place]);
            }
            for (place, how) in Refreshed::ALL.into_iter().enumerate() {
                metrics.refreshes(refresh(how), new.refreshes[place] - old.refreshes[place]);
            }
            metrics.evictions(new.evicted - old.evicted);
            metrics.changes(new.changes - old.changes);
            metrics.purged(new.purges - old.purges, new.purged - old.purged);
            books.entries.set(new.entries_now);
            books.bytes.set(new.bytes_now);
            books.waiting.set(new.waiting_now);
        }
    }
}

fn result(what: CacheUse) -> HttpCacheResult {
    match what {
        CacheUse::Hit => HttpCacheResult::Hit,
        CacheUse::Stale => HttpCacheResult::Stale,
        CacheUse::Error => HttpCacheResult::Error,
        CacheUse::Collapsed => HttpCacheResult::Collapsed,
        CacheUse::Confirmed => HttpCacheResult::Confirmed,
        CacheUse::Miss => HttpCacheResult::Miss,
        CacheUse::Bypass => HttpCacheResult::Bypass,
        _ => HttpCacheResult::Alone,
    }
}

fn unfit(why: Unfit) -> HttpCacheUnfit {
    match why {
        Unfit::Status => HttpCacheUnfit::Status,
        Unfit::NotPublic => HttpCacheUnfit::NotPublic,
        Unfit::NoLifetime => HttpCacheUnfit::NoLifetime,
        Unfit::Stale => HttpCacheUnfit::Stale,
        Unfit::Personal => HttpCacheUnfit::Personal,
        Unfit::Vary => HttpCacheUnfit::Vary,
        Unfit::Encoding => HttpCacheUnfit::Encoding,
        Unfit::TooLarge => HttpCacheUnfit::TooLarge,
        Unfit::Partial => HttpCacheUnfit::Partial,
        Unfit::Full => HttpCacheUnfit::Full,
        _ => HttpCacheUnfit::Changed,
    }
}

fn refresh(how: Refreshed) -> HttpCacheRefresh {
    match how {
        Refreshed::Kept => HttpCacheRefresh::Kept,
        Refreshed::Unfit => HttpCacheRefresh::Unfit,
        Refreshed::Failed => HttpCacheRefresh::Failed,
        _ => HttpCacheRefresh::Skipped,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_word_of_the_edge_has_a_label_of_its_own() {
        let results: HashSet<_> = CacheUse::ALL.into_iter().map(result).collect();
        let causes: HashSet<_> = Unfit::ALL.into_iter().map(unfit).collect();
        let refreshes: HashSet<_> = Refreshed::ALL.into_iter().map(refresh).collect();
        assert_eq!(results.len(), HttpCacheResult::COUNT);
        assert_eq!(causes.len(), HttpCacheUnfit::COUNT);
        assert_eq!(refreshes.len(), HttpCacheRefresh::COUNT);
    }
}
