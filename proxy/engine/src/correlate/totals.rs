//! What requests with an id came to, by caller.

use super::{Leg, Work};
use rustc_hash::FxHashMap;
use std::sync::Arc;

/// Callers with sums of their own, of each origin; later ones share [`OTHER`].
pub const CALLERS_MAX: usize = 1_024;
/// Stands for all callers beyond them.
pub const OTHER: &str = "_other";

/// Whom work is counted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Origin {
    /// The caller of an RPC that weir saw.
    Rpc,
    /// The service that said the id: weir saw no RPC with it.
    Service,
}

impl Origin {
    /// Bounded label.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Origin::Rpc => "rpc",
            Origin::Service => "service",
        }
    }
}

/// What a caller's requests came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    /// RPCs; of a service, ids.
    pub requests: u64,
    /// Keys that the RPCs asked for.
    pub rpc_keys: u64,
    /// Operations asked of memcached.
    pub cache_operations: u64,
    /// Of those, not found.
    pub cache_misses: u64,
    /// Operations asked over CQL.
    pub database_operations: u64,
    /// Rows that came back.
    pub database_rows: u64,
    /// Bytes that storage answered.
    pub storage_bytes: u64,
}

impl Sums {
    pub(super) fn began(&mut self, requests: u64, keys: u64) {
        self.requests += requests;
        self.rpc_keys = self.rpc_keys.saturating_add(keys);
    }

    pub(super) fn add(&mut self, work: &Work, first: bool) {
        self.requests += u64::from(first);
        self.storage_bytes += work.bytes_out;
        match work.leg {
            Leg::Cache => {
                self.cache_operations += work.operations;
                self.cache_misses += work.misses;
            }
            Leg::Database => {
                self.database_operations += work.operations;
                self.database_rows += work.hits;
            }
        }
    }

    fn since(&self, earlier: &Sums) -> Sums {
        Sums {
            requests: self.requests - earlier.requests,
            rpc_keys: self.rpc_keys - earlier.rpc_keys,
            cache_operations: self.cache_operations - earlier.cache_operations,
            cache_misses: self.cache_misses - earlier.cache_misses,
            database_operations: self.database_operations - earlier.database_operations,
            database_rows: self.database_rows - earlier.database_rows,
            storage_bytes: self.storage_bytes - earlier.storage_bytes,
        }
    }
}

/// One caller's sums since the start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallerSums {
    /// Its name.
    pub caller: Arc<str>,
    /// Whether it is the caller of RPCs or the service itself.
    pub origin: Origin,
    /// The sums.
    pub sums: Sums,
}

/// All callers' sums, and what was told of them.
#[derive(Debug, Default)]
pub(super) struct Totals {
    by_caller: FxHashMap<(Arc<str>, Origin), (Sums, Sums)>,
}

impl Totals {
    pub(super) fn of(&mut self, caller: &Arc<str>, origin: Origin) -> &mut Sums {
        let mut key = (caller.clone(), origin);
        if self.by_caller.len() >= CALLERS_MAX && !self.by_caller.contains_key(&key) {
            key.0 = OTHER.into();
        }
        &mut self.by_caller.entry(key).or_default().0
    }

    pub(super) fn list(&self) -> Vec<CallerSums> {
        let sums = self.by_caller.iter();
        sums.map(|((caller, origin), (sums, _))| CallerSums {
            caller: caller.clone(),
            origin: *origin,
            sums: *sums,
        })
        .collect()
    }

    pub(super) fn fold(&mut self, mut f: impl FnMut(&Arc<str>, Origin, &Sums)) {
        for ((caller, origin), (sums, told)) in &mut self.by_caller {
            let new = sums.since(told);
            if new != Sums::default() {
                *told = *sums;
                f(caller, *origin, &new);
            }
        }
    }
}
