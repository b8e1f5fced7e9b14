//! What one request of a service came to in storage, across the doors it went through: keys asked of an RPC, cache
//! operations, misses, database operations, bytes.
//!
//! A request has an id ([`CorrelationId`]). The RPC edge makes it and says when the request begins and ends; the service
//! hands it to the storage doors, which take it from principals that the listener trusts with it
//! (`trusted_request_ids`). Each worker keeps what it has to tell in a [`Feed`] and hands it over at the end of its turn, if
//! nobody else is at the [`Correlator`] just then; a worker never waits for another. Where no listener takes ids
//! ([`Correlator::follow`]) nothing can be tied together: a call is one addition to its caller's sums, and not remembered.
//!
//! A read over CQL may say the end of an id only ([`Said::Mark`]): it counts for the one request that is remembered with it,
//! for none when there is no such request or there are several ([`Counts::unknown`], [`Counts::ambiguous`]).
//!
//! Bounds: `correlated_requests_max` requests, each for [`KEPT_FOR`]; the oldest leave first ([`Counts::evicted`]).
//! `correlation_notes_max` notes per worker ([`NOTES_MAX`] unless it is said), and [`RPC_NOTES`] times as many of the edge wait
//! to be taken in; more are dropped and counted.
//! [`totals::CALLERS_MAX`] callers have sums of their own, those not taken in yet included, and as many services are known to say ids; [`largest::KEPT`] of the largest requests are remembered for
//! [`largest::KEPT_LONGER`].

pub mod feed;
pub mod id;
pub mod largest;
pub mod totals;
mod tracked;

pub use feed::{Feed, Leg, Work};
pub use id::{CorrelationId, Said};
pub use totals::{CallerSums, Origin, Sums};
pub use tracked::{LegSums, Rpc, RpcEnd, Tracked};

use crate::settings::Settings;
use crate::units::{Instant, Span};
use largest::Largest;
use rustc_hash::{FxHashMap, FxHashSet};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use totals::{CALLERS_MAX, OTHER, Totals};
use tracked::{Meant, Table};

/// How long a request is remembered after it was first heard of.
pub const KEPT_FOR: Span = Span::secs(30);
/// Notes that wait in one worker to be taken in, unless [`Correlator::set_notes_max`] says otherwise.
pub const NOTES_MAX: usize = 4_096;
/// Beginnings and ends of RPCs that wait, for each such note: they are of all workers.
pub const RPC_NOTES: usize = 4;
/// So many of them are taken in at once, so that none waits for long where no storage work follows.
const RPC_NOTES_AT_ONCE: usize = 256;

/// What the workers and the edge of a process know together about requests with an id.
#[derive(Debug)]
pub struct Correlator {
    state: Mutex<State>,
    /// Read by the edge only, in between: it never waits for those who take in.
    notes: Mutex<Notes>,
    /// Some listener takes ids.
    ids: AtomicBool,
    dropped: AtomicU64,
    notes_max: AtomicUsize,
}

#[derive(Debug)]
struct State {
    table: Table,
    totals: Totals,
    largest: Largest,
    /// Principals that said an id at a storage door; at most [`CALLERS_MAX`].
    services: FxHashSet<Arc<str>>,
    /// Notes that are in no sum because nobody knows whose they are.
    unknown: u64,
    ambiguous: u64,
}

/// What the edge has told and nobody has taken in yet.
#[derive(Debug, Default)]
struct Notes {
    by_id: Vec<(CorrelationId, RpcNote)>,
    /// By caller, of calls that nothing else is noted of: RPCs and their keys.
    counted: FxHashMap<Arc<str>, (u64, u64)>,
}

/// News of the edge.
#[derive(Clone, Debug)]
enum RpcNote {
    Began { caller: Arc<str>, method: Arc<str>, keys: u64, at: Instant },
    Ended(RpcEnd),
}

/// How full it is, and what was lost. Totals since the start but for the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Requests remembered now.
    pub tracked: u64,
    /// Requests forgotten before their time because there were too many.
    pub evicted: u64,
    /// Notes that found no room and are in no sum.
    pub dropped: u64,
    /// Notes that are in no sum because no request is remembered that ends as they say.
    pub unknown: u64,
    /// Notes that are in no sum because several requests do.
    pub ambiguous: u64,
}

impl Correlator {
    /// Nothing is known yet. At most `max` requests are remembered; `seed` keeps senders of ids from choosing where they lie.
    #[must_use]
    pub fn new(max: usize, seed: u64) -> Correlator {
        let (table, totals, largest) = (Table::new(max, seed), Totals::default(), Largest::default());
        let services = FxHashSet::default();
        let state = State { table, totals, largest, services, unknown: 0, ambiguous: 0 };
        Correlator {
            state: Mutex::new(state),
            notes: Mutex::default(),
            ids: AtomicBool::new(true),
            dropped: AtomicU64::new(0),
            notes_max: AtomicUsize::new(NOTES_MAX),
        }
    }

    /// Another bound on notes that wait; those that do, stay.
    pub fn set_notes_max(&self, max: usize) {
        self.notes_max.store(max, Ordering::Relaxed);
    }

    fn notes_max(&self) -> usize {
        self.notes_max.load(Ordering::Relaxed)
    }

    /// Another bound: what is too much leaves at once.
    pub fn set_max(&self, max: usize) {
        let mut state = self.lock();
        let State { table, largest, .. } = &mut *state;
        table.set_max(max, |gone| largest.offer(gone));
    }

    /// These settings are in force: ids are taken where a listener trusts somebody with them. Until then they are.
    pub fn follow(&self, settings: &Settings) {
        let taken = settings.listeners.iter().any(|listener| !listener.trusted_request_ids.is_empty());
        self.ids.store(taken, Ordering::Relaxed);
    }

    /// Some listener takes ids, so that it is worth while to remember requests by theirs ([`Correlator::rpc_began`]); else
    /// they are counted ([`Correlator::rpc_counted`]).
    #[must_use]
    pub fn takes_ids(&self) -> bool {
        self.ids.load(Ordering::Relaxed)
    }

    /// The edge admitted a request for so many keys, and nothing but its caller's sums is kept of it.
    pub fn rpc_counted(&self, caller: &Arc<str>, keys: u64) {
        let mut notes = self.notes();
        let counted = &mut notes.counted;
        let room = counted.len() < CALLERS_MAX;
        let sums = match counted.get_mut(caller) {
            Some(sums) => sums,
            None => counted.entry(if room { caller.clone() } else { OTHER.into() }).or_default(),
        };
        *sums = (sums.0 + 1, sums.1.saturating_add(keys));
    }

    /// The edge admitted a request: who asks what, and for how many keys. Before the service hears of it, so that nothing
    /// the service does on its behalf is ahead of it. One id may be that of several RPCs: they are added up.
    pub fn rpc_began(
        &self,
        id: CorrelationId,
        caller: &Arc<str>,
        method: &Arc<str>,
        keys: u64,
        now: Instant,
    ) {
        self.note(id, RpcNote::Began { caller: caller.clone(), method: method.clone(), keys, at: now });
    }

    /// It was answered, or given up.
    pub fn rpc_ended(&self, id: CorrelationId, end: RpcEnd) {
        self.note(id, RpcNote::Ended(end));
    }

    fn note(&self, id: CorrelationId, note: RpcNote) {
        let mut notes = self.notes();
        if notes.by_id.len() >= self.notes_max().saturating_mul(RPC_NOTES) {
            self.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        notes.by_id.push((id, note));
        let many = notes.by_id.len() >= RPC_NOTES_AT_ONCE;
        drop(notes);
        if many && let Some(mut state) = self.try_lock() {
            self.take_notes(&mut state);
        }
    }

    /// Takes in what a worker noted, unless somebody is at it just now; whether it did.
    fn take_in(&self, works: &mut Vec<Work>) -> bool {
        let Some(mut state) = self.try_lock() else { return false };
        self.take_all(&mut state, works);
        true
    }

    /// The same, and waits.
    fn take_in_waiting(&self, works: &mut Vec<Work>) {
        self.take_all(&mut self.lock(), works);
    }

    fn take_all(&self, state: &mut State, works: &mut Vec<Work>) {
        self.take_notes(state); // what the edge began is known before what came of it
        let State { table, totals, largest, services, unknown, ambiguous } = state;
        for work in works.drain(..) {
            if !services.contains(&work.service) && services.len() < CALLERS_MAX {
                services.insert(work.service.clone());
            }
            let id = match work.said {
                Said::Id(id) => id,
                Said::Mark(mark) => match table.meant(mark, work.at, |gone| largest.offer(gone)) {
                    Meant::One(id) => id,
                    Meant::Nobody => {
                        *unknown += 1;
                        continue;
                    }
                    Meant::Several => {
                        *ambiguous += 1;
                        continue;
                    }
                },
            };
            let tracked = table.of(id, work.at, |gone| largest.offer(gone));
            let first = tracked.is_new();
            tracked.add(&work);
            let (caller, origin) = match &tracked.rpc {
                Some(rpc) => (&rpc.caller, Origin::Rpc),
                None => (&work.service, Origin::Service),
            };
            totals.of(caller, origin).add(&work, first && origin == Origin::Service);
        }
    }

    fn take_notes(&self, state: &mut State) {
        let Notes { by_id, counted } = std::mem::take(&mut *self.notes());
        let State { table, totals, largest, .. } = state;
        for (caller, (requests, keys)) in counted {
            totals.of(&caller, Origin::Rpc).began(requests, keys);
        }
        for (id, note) in by_id {
            match note {
                RpcNote::Began { caller, method, keys, at } => {
                    totals.of(&caller, Origin::Rpc).began(1, keys);
                    table.of(id, at, |gone| largest.offer(gone)).rpc_began(caller, method, keys, at);
                }
                RpcNote::Ended(end) => {
                    // one that was forgotten is not begun anew by its end
                    if let Some(tracked) = table.get_mut(id) {
                        tracked.rpc_ended(&end);
                    }
                }
            }
        }
    }

    /// What is known about a request: for [`KEPT_FOR`], of the largest for longer.
    #[must_use]
    pub fn find(&self, id: CorrelationId, now: Instant) -> Option<Tracked> {
        let mut state = self.lock();
        self.take_notes(&mut state);
        let State { table, largest, .. } = &mut *state;
        table.expire(now, |gone| largest.offer(gone));
        table.get_mut(id).cloned().or_else(|| largest.find(id, now).cloned())
    }

    /// The requests with the most storage work of late, most first: at most [`largest::KEPT`].
    #[must_use]
    pub fn largest(&self, now: Instant) -> Vec<Tracked> {
        let mut state = self.lock();
        self.take_notes(&mut state);
        let State { table, largest, .. } = &mut *state;
        table.expire(now, |gone| largest.offer(gone));
        largest.with(table.iter(), now)
    }

    /// What each caller came to since the start, in no order.
    #[must_use]
    pub fn sums(&self) -> Vec<CallerSums> {
        let mut state = self.lock();
        self.take_notes(&mut state);
        state.totals.list()
    }

    /// Visits what was added to each caller's sums since the last call.
    pub fn fold(&self, f: impl FnMut(&Arc<str>, Origin, &Sums)) {
        let mut state = self.lock();
        self.take_notes(&mut state);
        state.totals.fold(f);
    }

    /// Which principals said an id at a storage door since the start, in no order; at most [`CALLERS_MAX`].
    #[must_use]
    pub fn services(&self) -> Vec<Arc<str>> {
        self.lock().services.iter().cloned().collect()
    }

    /// How full it is, and what was lost.
    #[must_use]
    pub fn counts(&self, now: Instant) -> Counts {
        let mut state = self.lock();
        let State { table, largest, unknown, ambiguous, .. } = &mut *state;
        table.expire(now, |gone| largest.offer(gone));
        Counts {
            tracked: table.len() as u64,
            evicted: table.evicted(),
            dropped: self.dropped.load(Ordering::Relaxed),
            unknown: *unknown,
            ambiguous: *ambiguous,
        }
    }

    fn drop_works(&self, works: u64) {
        self.dropped.fetch_add(works, Ordering::Relaxed);
    }

    fn notes(&self) -> MutexGuard<'_, Notes> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // What it guards are counts: whole enough after a panic elsewhere.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn try_lock(&self) -> Option<MutexGuard<'_, State>> {
        match self.state.try_lock() {
            Ok(state) => Some(state),
            Err(TryLockError::Poisoned(state)) => Some(state.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }
}

#[cfg(test)]
mod tests;
