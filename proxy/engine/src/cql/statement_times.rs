//! Time at the nodes and operations by statement, over all callers, for counters that are divided by each other: is a
//! statement slower than it was?
//!
//! A request costs one look into a table; numbers leave it with the fold. Bounds per worker: [`STATEMENTS_KEPT`] statements
//! are counted, of which [`STATEMENTS_SHOWN`] get a name, once they have had [`WORTH`] of the nodes' time: what is asked
//! now and then takes no name from others. When there is no place left, those without a name lose theirs and begin anew. The
//! rest is one sum per cluster. Names are kept for the life of the worker.

use crate::ledger::{Entry, Statement};
use crate::units::Span;
use rustc_hash::{FxBuildHasher, FxHashMap};
use std::hash::BuildHasher as _;
use std::sync::Arc;
use weir_cql::statement::{fingerprint, qualify, read};

/// Statements counted apart.
pub const STATEMENTS_KEPT: usize = 128;
/// Of those, the ones with a name.
pub const STATEMENTS_SHOWN: usize = 64;
/// Time at the nodes that makes a statement worth a name.
pub const WORTH: Span = Span::secs(1);

/// What nodes did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spent {
    /// Time from the first byte sent to the last byte received, summed over requests, microseconds.
    pub backend_us: u64,
    /// Operations they were asked for.
    pub operations: u64,
}

impl Spent {
    fn add(&mut self, other: Spent) {
        self.backend_us = self.backend_us.saturating_add(other.backend_us);
        self.operations = self.operations.saturating_add(other.operations);
    }
}

#[derive(Debug)]
struct Counted {
    cluster: Arc<str>,
    /// Since the last fold, or since ever where it is not worth a name.
    spent: Spent,
    /// Since ever, microseconds.
    backend_us: u64,
    name: Option<Arc<str>>,
}

impl Counted {
    fn is_worth_it(&self) -> bool {
        self.backend_us >= WORTH.0
    }
}

/// One worker's.
#[derive(Debug, Default)]
pub(super) struct StatementTimes {
    places: FxHashMap<u64, u32>,
    counted: Vec<Counted>,
    named: usize,
    /// Of statements without a place, by cluster.
    rest: FxHashMap<Arc<str>, Spent>,
}

impl StatementTimes {
    /// A request that nodes were asked for, as far as it came.
    pub(super) fn record(&mut self, cluster: &Arc<str>, statement: &Statement, entry: &Entry) {
        let spent = Spent { backend_us: entry.backend_time.0, operations: entry.backend_operations };
        let keyspace = statement.keyspace.as_deref().unwrap_or_default();
        let key = FxBuildHasher.hash_one((&**cluster, keyspace, statement.form.hash()));
        let place = self.places.get(&key).copied().or_else(|| self.take_place(key, cluster));
        let Some(counted) = place.and_then(|place| self.counted.get_mut(place as usize)) else {
            return self.rest.entry(cluster.clone()).or_default().add(spent);
        };
        counted.spent.add(spent);
        counted.backend_us = counted.backend_us.saturating_add(spent.backend_us);
        if counted.name.is_none() && counted.is_worth_it() && self.named < STATEMENTS_SHOWN {
            self.named += 1;
            counted.name = Some(format!("{:016x}", fingerprint_of(statement)).into());
        }
    }

    #[cold]
    fn take_place(&mut self, key: u64, cluster: &Arc<str>) -> Option<u32> {
        if self.counted.len() >= STATEMENTS_KEPT {
            self.forget_unnamed();
        }
        let place = u32::try_from(self.counted.len()).ok().filter(|at| (*at as usize) < STATEMENTS_KEPT)?;
        self.counted.push(Counted {
            cluster: cluster.clone(),
            spent: Spent::default(),
            backend_us: 0,
            name: None,
        });
        self.places.insert(key, place);
        Some(place)
    }

    /// Half of the places at least are of such.
    fn forget_unnamed(&mut self) {
        let mut kept = Vec::with_capacity(STATEMENTS_KEPT);
        let mut moved: Vec<Option<u32>> = Vec::with_capacity(self.counted.len());
        for counted in self.counted.drain(..) {
            if counted.name.is_some() {
                moved.push(Some(kept.len() as u32));
                kept.push(counted);
            } else {
                moved.push(None);
                self.rest.entry(counted.cluster).or_default().add(counted.spent);
            }
        }
        self.counted = kept;
        self.places.retain(|_, place| match moved.get(*place as usize) {
            Some(Some(now)) => {
                *place = *now;
                true
            }
            _ => false,
        });
    }

    /// Visits and resets what is worth being shown: cluster, name (`None`: of others), and what was spent.
    pub(super) fn take(&mut self, mut f: impl FnMut(&Arc<str>, Option<&Arc<str>>, Spent)) {
        for counted in &mut self.counted {
            if counted.spent != Spent::default() && counted.is_worth_it() {
                let spent = std::mem::take(&mut counted.spent);
                f(&counted.cluster, counted.name.as_ref(), spent);
            }
        }
        for (cluster, spent) in self.rest.drain() {
            f(&cluster, None, spent);
        }
    }
}

/// The number by which `weir fingerprint` and rules know a statement: of its text with the keyspace in it. Of a text too
/// long to be kept, one that only tells it from others, the same in every process.
#[must_use]
pub fn fingerprint_of(statement: &Statement) -> u64 {
    let Some(keyspace) = statement.keyspace.as_deref() else { return statement.form.hash() };
    let text = statement.text().as_bytes();
    let whole = fingerprint(text).hash == statement.form.hash();
    match qualify(&read(text), text, keyspace).filter(|_| whole) {
        Some(qualified) => fingerprint(&qualified).hash,
        None => FxBuildHasher.hash_one((statement.form.hash(), keyspace)),
    }
}

#[cfg(test)]
mod tests;
