//! The requests that are remembered, in the order in which they were first heard of.

use super::{CorrelationId, KEPT_FOR, Leg, Work};
use crate::ledger::Outcome;
use crate::units::Instant;
use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, DefaultHasher, Hasher as _};
use std::sync::Arc;
use weir_cql::request::RequestMark;

/// What is known about one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tracked {
    /// Its id.
    pub id: CorrelationId,
    /// The RPC, where weir saw it.
    pub rpc: Option<Rpc>,
    /// Who said the id to a storage door first.
    pub service: Option<Arc<str>>,
    /// What it asked of memcached.
    pub cache: LegSums,
    /// What it asked over CQL.
    pub database: LegSums,
    /// When it was first heard of.
    pub first_seen: Instant,
    /// When it was last heard of.
    pub last_seen: Instant,
}

/// A request as it came to a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rpc {
    /// Who asked; of several RPCs with one id the first.
    pub caller: Arc<str>,
    /// What; of several the first.
    pub method: Arc<str>,
    /// RPCs with this id.
    pub calls: u64,
    /// Keys they asked for.
    pub keys: u64,
    /// When the first began.
    pub began: Instant,
    /// How the last one ended, once one has.
    pub end: Option<RpcEnd>,
}

/// How an RPC ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RpcEnd {
    /// How.
    pub outcome: Outcome,
    /// Sub-requests it was carried out in; 1 where it was not split.
    pub chunks: u32,
    /// Bytes of the request.
    pub bytes_in: u64,
    /// Bytes of the answer.
    pub bytes_out: u64,
    /// When.
    pub at: Instant,
}

/// Storage work on one leg.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LegSums {
    /// Requests.
    pub requests: u64,
    /// Of those, not answered as the server would.
    pub failed: u64,
    /// Operations asked.
    pub operations: u64,
    /// Operations that went to servers.
    pub backend_operations: u64,
    /// Values found, or rows.
    pub hits: u64,
    /// Keys not found (cache).
    pub misses: u64,
    /// Operations that joined others.
    pub coalesced: u64,
    /// Parts sent.
    pub chunks: u64,
    /// Bytes of requests.
    pub bytes_in: u64,
    /// Bytes of answers.
    pub bytes_out: u64,
}

impl LegSums {
    fn add(&mut self, work: &Work) {
        self.requests += 1;
        self.failed += u64::from(work.failed);
        self.operations += work.operations;
        self.backend_operations += work.backend_operations;
        self.hits += work.hits;
        self.misses += work.misses;
        self.coalesced += work.coalesced;
        self.chunks += work.chunks;
        self.bytes_in += work.bytes_in;
        self.bytes_out += work.bytes_out;
    }
}

impl Tracked {
    fn new(id: CorrelationId, now: Instant) -> Tracked {
        let (rpc, service) = (None, None);
        let (cache, database) = (LegSums::default(), LegSums::default());
        Tracked { id, rpc, service, cache, database, first_seen: now, last_seen: now }
    }

    /// Nothing was added to it yet.
    pub(super) fn is_new(&self) -> bool {
        self.rpc.is_none() && self.service.is_none()
    }

    /// Storage operations asked on its behalf.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.cache.operations.saturating_add(self.database.operations)
    }

    pub(super) fn add(&mut self, work: &Work) {
        self.last_seen = self.last_seen.max(work.at);
        if self.service.is_none() {
            self.service = Some(work.service.clone());
        }
        match work.leg {
            Leg::Cache => self.cache.add(work),
            Leg::Database => self.database.add(work),
        }
    }

    pub(super) fn rpc_began(&mut self, caller: Arc<str>, method: Arc<str>, keys: u64, at: Instant) {
        self.last_seen = self.last_seen.max(at);
        let rpc = self.rpc.get_or_insert(Rpc { caller, method, calls: 0, keys: 0, began: at, end: None });
        rpc.calls += 1;
        rpc.keys = rpc.keys.saturating_add(keys);
    }

    pub(super) fn rpc_ended(&mut self, end: &RpcEnd) {
        self.last_seen = self.last_seen.max(end.at);
        if let Some(rpc) = &mut self.rpc {
            rpc.end = Some(*end);
        }
    }
}

/// Ids are chosen by strangers (a `traceparent` is): without the seed they cannot choose where theirs lie.
#[derive(Clone, Debug)]
struct Keyed(u64);

impl BuildHasher for Keyed {
    type Hasher = DefaultHasher;

    fn build_hasher(&self) -> DefaultHasher {
        let mut hasher = DefaultHasher::new();
        hasher.write_u64(self.0);
        hasher
    }
}

/// Those whose ids end alike.
#[derive(Clone, Copy, Debug)]
struct End {
    /// The number of the latest: as the oldest leave first, it is the last that stays.
    latest: u64,
    ids: u32,
}

/// Whom the end of an id means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meant {
    One(CorrelationId),
    Nobody,
    Several,
}

/// All that are remembered, oldest first.
#[derive(Debug)]
pub(super) struct Table {
    max: usize,
    /// By id: the number of the entry. Numbers grow; that of the first of `entries` is `first`.
    numbers: HashMap<CorrelationId, u64, Keyed>,
    /// The same by the end of the id.
    ends: HashMap<RequestMark, End, Keyed>,
    entries: VecDeque<Tracked>,
    first: u64,
    evicted: u64,
}

impl Table {
    pub(super) fn new(max: usize, seed: u64) -> Table {
        Table {
            max: max.max(1),
            numbers: HashMap::with_hasher(Keyed(seed)),
            ends: HashMap::with_hasher(Keyed(seed)),
            entries: VecDeque::new(),
            first: 0,
            evicted: 0,
        }
    }

    pub(super) fn set_max(&mut self, max: usize, mut gone: impl FnMut(Tracked)) {
        self.max = max.max(1);
        while self.entries.len() > self.max {
            self.evicted += 1;
            self.forget_first(&mut gone);
        }
        self.numbers.shrink_to_fit();
        self.ends.shrink_to_fit();
        self.entries.shrink_to_fit();
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn evicted(&self) -> u64 {
        self.evicted
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Tracked> {
        self.entries.iter()
    }

    /// The one of this id, which begins now if it is not there; the oldest makes room.
    pub(super) fn of(
        &mut self,
        id: CorrelationId,
        now: Instant,
        mut gone: impl FnMut(Tracked),
    ) -> &mut Tracked {
        self.expire(now, &mut gone);
        let number = match self.numbers.get(&id) {
            Some(number) => *number,
            None => {
                if self.entries.len() >= self.max {
                    self.evicted += 1;
                    self.forget_first(&mut gone);
                }
                let number = self.first + self.entries.len() as u64;
                self.numbers.insert(id, number);
                let end = self.ends.entry(id.mark()).or_insert(End { latest: number, ids: 0 });
                *end = End { latest: number, ids: end.ids + 1 };
                self.entries.push_back(Tracked::new(id, now));
                number
            }
        };
        &mut self.entries[(number - self.first) as usize]
    }

    pub(super) fn get_mut(&mut self, id: CorrelationId) -> Option<&mut Tracked> {
        let number = *self.numbers.get(&id)?;
        self.entries.get_mut((number - self.first) as usize)
    }

    /// Whom this end of an id means now.
    pub(super) fn meant(&mut self, mark: RequestMark, now: Instant, gone: impl FnMut(Tracked)) -> Meant {
        self.expire(now, gone);
        match self.ends.get(&mark) {
            None => Meant::Nobody,
            Some(End { latest, ids: 1 }) => Meant::One(self.entries[(latest - self.first) as usize].id),
            Some(_) => Meant::Several,
        }
    }

    /// Nothing is left of those that are forgotten.
    #[cfg(test)]
    pub(super) fn has_no_ends(&self) -> bool {
        self.ends.is_empty() && self.numbers.is_empty()
    }

    /// Forgets those whose time is over. Workers' clocks are read at different moments, so the order is that of arrival and
    /// one may stay a little longer than its time.
    pub(super) fn expire(&mut self, now: Instant, mut gone: impl FnMut(Tracked)) {
        while self.entries.front().is_some_and(|oldest| now.since(oldest.first_seen) >= KEPT_FOR) {
            self.forget_first(&mut gone);
        }
    }

    fn forget_first(&mut self, gone: &mut impl FnMut(Tracked)) {
        if let Some(oldest) = self.entries.pop_front() {
            self.first += 1;
            self.numbers.remove(&oldest.id);
            if let Entry::Occupied(mut end) = self.ends.entry(oldest.id.mark()) {
                end.get_mut().ids -= 1;
                if end.get().ids == 0 {
                    end.remove();
                }
            }
            gone(oldest);
        }
    }
}
