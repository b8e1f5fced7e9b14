//! What is counted per service whose HTTP answers are kept.

use crate::counters::GaugeShare;
use crate::families::Families;
use crate::labels::Label;
use crate::vocabulary::vocabulary;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;

vocabulary! {
    /// What a request on a cached path got from the cache.
    HttpCacheResult {
        /// A fresh answer.
        Hit = "hit",
        /// An old one, while it was asked for again.
        Stale = "stale",
        /// An old one, because the service failed.
        Error = "stale_if_error",
        /// The answer to another request, for which it waited.
        Collapsed = "collapsed",
        /// An old answer that the service had confirmed first.
        Confirmed = "confirmed",
        /// Nothing: the service answered.
        Miss = "miss",
        /// Nothing, because it was not to be asked: credentials, a range, a condition.
        Bypass = "bypass",
        /// Nothing, and nobody waits for this answer: the last one was unfit, or there was no waiting, or no more of it.
        Alone = "alone",
    }
}

vocabulary! {
    /// Why an answer on a cached path is not kept.
    HttpCacheUnfit {
        /// Its status.
        Status = "status",
        /// It is not `public`.
        NotPublic = "not_public",
        /// It says no time.
        NoLifetime = "no_lifetime",
        /// It is stale when it comes.
        Stale = "stale",
        /// It is one client's: it sets a cookie, or answers a sign-in.
        Personal = "personal",
        /// It differs by a header that is not in the key.
        Vary = "vary",
        /// It has an encoding that was not asked for.
        Encoding = "encoding",
        /// It is larger than `cache_entry_max`.
        TooLarge = "too_large",
        /// It is a part, or has trailers.
        Partial = "partial",
        /// `cache_fill_bytes_max`.
        Full = "full",
        /// Its resource was changed meanwhile.
        Changed = "changed",
    }
}

vocabulary! {
    /// What became of asking again for an answer that clients got meanwhile.
    HttpCacheRefresh {
        /// A new answer, or the old one confirmed.
        Kept = "kept",
        /// What came is not kept.
        Unfit = "unfit",
        /// Nothing came.
        Failed = "failed",
        /// `cache_refreshes_max`.
        Skipped = "skipped",
    }
}

/// The handles of the cache of one service.
#[derive(Debug)]
pub struct HttpCacheMetrics {
    requests: [Counter; HttpCacheResult::COUNT],
    unfit: [Counter; HttpCacheUnfit::COUNT],
    refreshes: [Counter; HttpCacheRefresh::COUNT],
    evictions: Counter,
    changes: Counter,
    purges: Counter,
    purged: Counter,
    entries: Gauge,
    bytes: Gauge,
    waiting: Gauge,
}

impl HttpCacheMetrics {
    /// Every series starts at zero.
    pub(crate) fn new(name: &Label, families: &Families) -> HttpCacheMetrics {
        let with = |label: &'static str| [name.clone(), label.into()];
        let one = |family: &crate::families::Declared<Counter, 1>| family.series([name.clone()]);
        let level = |family: &crate::families::Declared<Gauge, 1>| family.series([name.clone()]);
        HttpCacheMetrics {
            requests: std::array::from_fn(|result| {
                families.http_cache_requests.series(with(HttpCacheResult::NAMES[result]))
            }),
            unfit: std::array::from_fn(|cause| {
                families.http_cache_unfit.series(with(HttpCacheUnfit::NAMES[cause]))
            }),
            refreshes: std::array::from_fn(|result| {
                families.http_cache_refreshes.series(with(HttpCacheRefresh::NAMES[result]))
            }),
            evictions: one(&families.http_cache_evictions),
            changes: one(&families.http_cache_changes),
            purges: one(&families.http_cache_purges),
            purged: one(&families.http_cache_purged),
            entries: level(&families.http_cache_entries),
            bytes: level(&families.http_cache_bytes),
            waiting: level(&families.http_cache_waiting),
        }
    }

    /// Requests on cached paths.
    pub fn requests(&self, result: HttpCacheResult, requests: u64) {
        self.requests[result.index()].inc_by(requests);
    }

    /// Answers that are not kept.
    pub fn unfit(&self, cause: HttpCacheUnfit, answers: u64) {
        self.unfit[cause.index()].inc_by(answers);
    }

    /// Questions that nobody waited for.
    pub fn refreshes(&self, result: HttpCacheRefresh, questions: u64) {
        self.refreshes[result.index()].inc_by(questions);
    }

    /// Answers that had to go for others.
    pub fn evictions(&self, answers: u64) {
        self.evictions.inc_by(answers);
    }

    /// Resources that were changed by requests that passed.
    pub fn changes(&self, resources: u64) {
        self.changes.inc_by(resources);
    }

    /// Answers that were thrown away on an operator's word, and how often that was.
    pub fn purged(&self, purges: u64, answers: u64) {
        self.purges.inc_by(purges);
        self.purged.inc_by(answers);
    }

    /// A share in the answers that are kept.
    #[must_use]
    pub fn entries(&self) -> GaugeShare {
        GaugeShare::new(self.entries.clone())
    }

    /// In their bytes.
    #[must_use]
    pub fn bytes(&self) -> GaugeShare {
        GaugeShare::new(self.bytes.clone())
    }

    /// In the requests that wait for the answer to another one.
    #[must_use]
    pub fn waiting(&self) -> GaugeShare {
        GaugeShare::new(self.waiting.clone())
    }
}
