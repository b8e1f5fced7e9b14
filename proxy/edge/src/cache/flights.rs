//! One question to the service for all who ask the same at once. The first one goes; the others wait for what it brings.
//!
//! Bounds: `waiters_max` over all keys, `lock_timeout` on waiting. Nobody waits for an answer that turns out to be none for
//! the cache: those who wait are let go at once, all of them, and for a while nobody begins to wait for that key.

use super::counts::{CacheCounted, CacheUse, Counts, Refreshed, read};
use super::entry::{Entry, Moment, Standing};
use super::route::{Asked, Key, Rules};
use super::settings::{CacheSettings, UNFIT_FOR};
use super::store::{Kept, Store};
use super::terms::Unfit;
use crate::body::HeldBytes;
use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::watch;

/// The cache of one service. Edges in front of the same service share it.
#[derive(Debug)]
pub struct ResponseCache {
    pub(crate) settings: CacheSettings,
    pub(crate) rules: Rules,
    pub(super) held: Arc<HeldBytes>,
    pub(super) counts: Counts,
    state: Mutex<State>,
    began: Instant,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) store: Store,
    flights: HashMap<Key, Flight>,
    /// Tells flights of one key apart.
    number: u64,
    waiting: u32,
    refreshing: u32,
}

/// A question that is under way.
#[derive(Debug)]
struct Flight {
    number: u64,
    began: Duration,
    tell: watch::Sender<Option<Landing>>,
}

/// What those who waited are told.
#[derive(Clone, Debug)]
pub(crate) enum Landing {
    /// Here it is.
    Answer(Arc<Entry>),
    /// It is none for the cache, or the service failed: each for itself.
    Alone,
    /// Whoever asked has left: look again.
    Again,
}

/// What becomes of a request.
#[derive(Debug)]
pub(crate) enum Look {
    /// This is its answer.
    Fresh(Arc<Entry>),
    /// This too; with the guard, it is to be asked for again meanwhile.
    Stale(Arc<Entry>, Option<Lead>),
    /// It asks, for all. What there is of an old answer comes along.
    Lead(Lead, Option<Arc<Entry>>),
    /// It waits.
    Wait(Waiter),
    /// It goes by itself.
    Alone,
}

/// The right, and the duty, to ask. Dropped without a word, another one asks.
#[derive(Debug)]
pub(crate) struct Lead {
    cache: Arc<ResponseCache>,
    key: Key,
    number: u64,
    resource: Arc<[u8]>,
    pub(crate) asked_at: Duration,
    refreshes: bool,
    landed: bool,
}

/// A place among those who wait.
#[derive(Debug)]
pub(crate) struct Waiter {
    cache: Arc<ResponseCache>,
    told: watch::Receiver<Option<Landing>>,
}

impl ResponseCache {
    /// An empty one.
    ///
    /// # Errors
    /// Everything that is wrong with the settings.
    pub fn new(settings: CacheSettings) -> Result<Arc<ResponseCache>, Vec<(&'static str, String)>> {
        let problems = settings.problems();
        if !problems.is_empty() {
            return Err(problems);
        }
        let store = Store::new(settings.bytes_max, settings.entries_max);
        let state = State { store, flights: HashMap::new(), number: 0, waiting: 0, refreshing: 0 };
        Ok(Arc::new(ResponseCache {
            rules: Rules::of(&settings),
            held: HeldBytes::new(settings.bytes_max.saturating_add(settings.fill_bytes_max)),
            counts: Counts::default(),
            state: Mutex::new(state),
            began: Instant::now(),
            settings,
        }))
    }

    /// What was counted so far, and how things stand.
    #[must_use]
    pub fn counted(&self) -> CacheCounted {
        let state = self.state();
        CacheCounted {
            uses: read(&self.counts.uses),
            unfit: read(&self.counts.unfit),
            refreshes: read(&self.counts.refreshes),
            evicted: state.store.evicted(),
            changes: self.counts.changes.load(Ordering::Relaxed),
            purges: self.counts.purges.load(Ordering::Relaxed),
            purged: self.counts.purged.load(Ordering::Relaxed),
            entries_now: state.store.len() as u64,
            bytes_now: self.held.now(),
            waiting_now: state.waiting.into(),
        }
    }

    pub(crate) fn now(&self) -> Moment {
        Moment { since: self.began.elapsed(), wall: SystemTime::now() }
    }

    pub(crate) fn used(&self, what: CacheUse) {
        self.counts.uses[what as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn unfit(&self, why: Unfit) {
        self.counts.unfit[why as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn refreshed(&self, how: Refreshed) {
        self.counts.refreshes[how as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// A request that may change a resource has passed.
    pub(crate) fn changed(&self, resource: &[u8], now: Duration) {
        self.counts.changes.fetch_add(1, Ordering::Relaxed);
        self.state().store.changed(resource, now);
    }

    /// What becomes of a request. One that has waited long enough already does not wait again.
    pub(crate) fn look(self: &Arc<Self>, asked: &Asked, may_wait: bool, now: Duration) -> Look {
        let mut state = self.state();
        let old = match state.store.get(&asked.key, &asked.resource, now) {
            Some(Kept::Answer(entry)) => match entry.standing(now) {
                Standing::Fresh => return Look::Fresh(entry),
                Standing::Revalidate => {
                    let under_way = state.flights.contains_key(&asked.key);
                    let room = state.refreshing < self.settings.refreshes_max;
                    if !under_way && !room {
                        self.refreshed(Refreshed::Skipped);
                    }
                    let lead = (!under_way && room).then(|| self.lead(&mut state, asked, true, now));
                    return Look::Stale(entry, lead);
                }
                Standing::Stale => Some(entry),
            },
            Some(Kept::Unfit { .. }) => return Look::Alone,
            None => None,
        };
        // A head without a body is no answer to the others.
        if asked.head_only {
            return Look::Alone;
        }
        if let Some(flight) = state.flights.get(&asked.key)
            && now.saturating_sub(flight.began) < self.settings.lock_timeout
        {
            if !may_wait || state.waiting >= self.settings.waiters_max {
                return Look::Alone;
            }
            let told = flight.tell.subscribe();
            state.waiting += 1;
            return Look::Wait(Waiter { cache: self.clone(), told });
        }
        Look::Lead(self.lead(&mut state, asked, false, now), old)
    }

    /// Begins a flight, in the place of one that takes too long.
    fn lead(self: &Arc<Self>, state: &mut State, asked: &Asked, refreshes: bool, now: Duration) -> Lead {
        state.number += 1;
        state.refreshing += u32::from(refreshes);
        let flight = Flight { number: state.number, began: now, tell: watch::Sender::new(None) };
        state.flights.insert(asked.key.clone(), flight);
        Lead {
            cache: self.clone(),
            key: asked.key.clone(),
            number: state.number,
            resource: asked.resource.clone(),
            asked_at: now,
            refreshes,
            landed: false,
        }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        // Whole between its entry points: a panic elsewhere does not make it unusable.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lead {
    pub(crate) fn cache(&self) -> &Arc<ResponseCache> {
        &self.cache
    }

    pub(super) fn key_bytes(&self) -> usize {
        self.key.0.len()
    }

    /// Keeps an answer, and gives it to those who wait. Not where the resource was changed meanwhile.
    pub(crate) fn keep(mut self, entry: &Arc<Entry>) -> Result<(), Unfit> {
        let cache = self.cache.clone();
        let mut state = cache.state();
        if state.store.is_changed(&self.resource, self.asked_at) || state.store.is_purged(self.asked_at) {
            self.land(&mut state, Landing::Again);
            return Err(Unfit::Changed);
        }
        state.store.put(self.key.clone(), Kept::Answer(entry.clone()));
        self.land(&mut state, Landing::Answer(entry.clone()));
        Ok(())
    }

    /// The answer is none for the cache, and what is kept is none any more.
    pub(crate) fn unfit(mut self, why: Unfit, now: Duration) {
        let cache = self.cache.clone();
        cache.unfit(why);
        let mut state = cache.state();
        match why.lasts() {
            true => state.store.put(self.key.clone(), Kept::Unfit { until: now + UNFIT_FOR }),
            false => state.store.remove(&self.key),
        }
        self.land(&mut state, Landing::Alone);
    }

    /// The service failed. What is kept stays.
    pub(crate) fn failed(mut self) {
        let cache = self.cache.clone();
        self.land(&mut cache.state(), Landing::Alone);
    }

    /// The service failed, and an old answer is good enough.
    pub(crate) fn covered(mut self, entry: &Arc<Entry>) {
        let cache = self.cache.clone();
        self.land(&mut cache.state(), Landing::Answer(entry.clone()));
    }

    fn land(&mut self, state: &mut State, landing: Landing) {
        if std::mem::replace(&mut self.landed, true) {
            return;
        }
        state.refreshing -= u32::from(self.refreshes);
        if state.flights.get(&self.key).is_some_and(|flight| flight.number == self.number)
            && let Some(flight) = state.flights.remove(&self.key)
        {
            flight.tell.send_replace(Some(landing));
        }
    }
}

impl Drop for Lead {
    fn drop(&mut self) {
        if !self.landed {
            let cache = self.cache.clone();
            self.land(&mut cache.state(), Landing::Again);
        }
    }
}

impl Waiter {
    /// What the flight brought. Cancel-safe.
    pub(crate) async fn landing(&mut self) -> Landing {
        match self.told.wait_for(Option::is_some).await {
            Ok(landing) => landing.clone().unwrap_or(Landing::Again),
            // The flight was replaced by another one.
            Err(_) => Landing::Again,
        }
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        self.cache.state().waiting -= 1;
    }
}

#[cfg(test)]
#[path = "flights_tests.rs"]
mod tests;
