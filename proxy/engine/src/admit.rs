//! May this request run now? Limits per caller in operations, never in requests.
//!
//! The state is shared by the workers of a process (atomics, one update per request, never per key), so a limit holds
//! per process however many workers there are: checking and booking are one step per limit. Rate: a virtual-scheduling bucket (GCRA, ITU-T I.371): a request passes
//! when the bucket is not in debt and then pays its whole price, so one large request may drive it into debt and the
//! next ones wait; settlement after the reply charges the difference (rows and bytes).

use crate::error::LimitKind;
use crate::settings::{CallerLimits, LimitMode};
use crate::units::{Bytes, Instant, Operations, Span};
use rustc_hash::FxHashMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

/// What is under way for one budget, over all workers.
#[derive(Debug, Default)]
pub struct LimitState {
    /// Theoretical arrival time of the rate bucket, nanoseconds since the origin the workers share.
    tat_ns: AtomicU64,
    operations: AtomicU64,
    bytes: AtomicU64,
}

impl LimitState {
    /// Operations under way.
    #[must_use]
    pub fn operations_in_flight(&self) -> Operations {
        Operations(self.operations.load(Relaxed))
    }

    /// Estimated reply bytes under way.
    #[must_use]
    pub fn bytes_in_flight(&self) -> Bytes {
        Bytes(self.bytes.load(Relaxed))
    }

    /// Returns what an admitted request held.
    pub fn release(&self, operations: Operations, bytes: Bytes) {
        saturating_sub(&self.operations, operations.0);
        saturating_sub(&self.bytes, bytes.0);
    }

    /// Charges work that only the reply revealed; may drive the rate bucket into debt.
    pub fn settle(&self, limits: &CallerLimits, more: Operations, now: Instant) {
        if let Some(rate) = limits.operations_per_second {
            self.charge(rate, burst(limits, rate), more, now);
        }
    }

    /// How long until the rate bucket is out of debt.
    pub(crate) fn debt(&self, now: Instant) -> Span {
        let now_ns = now.0.saturating_mul(1_000);
        Span(self.tat_ns.load(Relaxed).saturating_sub(now_ns).div_ceil(1_000))
    }

    /// Charges unless it is in debt: how long until it is out.
    fn try_charge(
        &self,
        rate: Operations,
        burst: Operations,
        n: Operations,
        now: Instant,
    ) -> Result<(), Span> {
        let now_ns = now.0.saturating_mul(1_000);
        let paid = self.tat_ns.fetch_update(Relaxed, Relaxed, |tat| {
            (tat <= now_ns).then(|| charged(tat, rate, burst, n, now_ns))
        });
        paid.map(|_| ()).map_err(|_| self.debt(now).max(Span(1)))
    }

    fn charge(&self, rate: Operations, burst: Operations, operations: Operations, now: Instant) {
        let now_ns = now.0.saturating_mul(1_000);
        let charge = |tat| Some(charged(tat, rate, burst, operations, now_ns));
        let _ = self.tat_ns.fetch_update(Relaxed, Relaxed, charge);
    }

    /// Books what is asked where no ceiling forbids it; the kind and value of the one that does.
    fn try_book(&self, limits: &CallerLimits, ask: Ask) -> Result<(), (LimitKind, u64)> {
        if !try_add(&self.operations, ask.operations.0, limits.operations_in_flight.map(|max| max.0)) {
            return Err((LimitKind::OperationsInFlight, limits.operations_in_flight.unwrap_or_default().0));
        }
        if !try_add(&self.bytes, ask.bytes.0, limits.bytes_in_flight.map(|max| max.0)) {
            saturating_sub(&self.operations, ask.operations.0);
            return Err((LimitKind::BytesInFlight, limits.bytes_in_flight.unwrap_or_default().0));
        }
        Ok(())
    }
}

/// The theoretical arrival time after a charge.
fn charged(tat: u64, rate: Operations, burst: Operations, operations: Operations, now_ns: u64) -> u64 {
    let rate = rate.0.max(1);
    let cost_ns = operations.0.saturating_mul(1_000_000_000) / rate;
    let credit_ns = burst.0.saturating_mul(1_000_000_000) / rate;
    tat.max(now_ns.saturating_sub(credit_ns)).saturating_add(cost_ns)
}

/// Adds unless that would exceed the ceiling. What is larger than the ceiling still runs alone: otherwise it could
/// never run.
fn try_add(counter: &AtomicU64, n: u64, ceiling: Option<u64>) -> bool {
    let Some(ceiling) = ceiling else {
        counter.fetch_add(n, Relaxed);
        return true;
    };
    let add = |busy: u64| (busy == 0 || busy.saturating_add(n) <= ceiling).then_some(busy.saturating_add(n));
    counter.fetch_update(Relaxed, Relaxed, add).is_ok()
}

fn burst(limits: &CallerLimits, rate: Operations) -> Operations {
    limits.burst.unwrap_or(rate)
}

fn saturating_sub(counter: &AtomicU64, n: u64) {
    let _ = counter.fetch_update(Relaxed, Relaxed, |v| Some(v.saturating_sub(n)));
}

/// The decision about one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Run it. `over` tells which limit it exceeded where the mode only observes.
    Admit {
        /// The limit that would have refused it.
        over: Option<LimitKind>,
    },
    /// Ask again after this time (pace).
    Wait {
        /// How long.
        wait: Span,
        /// Because of which limit.
        kind: LimitKind,
    },
    /// Answer with [`crate::error::refusal`].
    Refuse {
        /// Because of which limit.
        kind: LimitKind,
        /// Its ceiling.
        ceiling: u64,
    },
}

/// What is asked of [`admit`].
#[derive(Clone, Copy, Debug)]
pub struct Ask {
    /// Price in operations.
    pub operations: Operations,
    /// Estimated reply bytes.
    pub bytes: Bytes,
    /// How long it was paced already.
    pub waited: Span,
    /// Deletes and touches: paced, never refused by a caller limit (a lost invalidation is stale data for ever).
    pub invalidation: bool,
}

/// Decides and, when admitted, books the request; the caller of this function returns it with
/// [`LimitState::release`].
pub fn admit(state: &LimitState, limits: &CallerLimits, ask: Ask, now: Instant) -> Verdict {
    let Err(Exceeded { kind, ceiling, wait }) = try_admit(state, limits, ask, now) else {
        return Verdict::Admit { over: None };
    };
    if limits.mode != LimitMode::Observe {
        let patience = limits.pace_max_wait.0.saturating_sub(ask.waited.0);
        let can_wait = kind != LimitKind::OperationsPerRequest
            && (limits.mode == LimitMode::Pace || ask.invalidation)
            && patience > 0;
        if can_wait {
            return Verdict::Wait { wait: Span(wait.0.max(SHORTEST_WAIT.0).min(patience)), kind };
        }
        if !ask.invalidation {
            return Verdict::Refuse { kind, ceiling };
        }
    }
    if let Some(rate) = limits.operations_per_second {
        state.charge(rate, burst(limits, rate), ask.operations, now);
    }
    book(state, ask);
    Verdict::Admit { over: Some(kind) }
}

/// A paced request is looked at again no sooner than this.
const SHORTEST_WAIT: Span = Span::millis(1);

/// Which limit forbids a request, its value, and when to ask again.
struct Exceeded {
    kind: LimitKind,
    ceiling: u64,
    wait: Span,
}

fn try_admit(state: &LimitState, limits: &CallerLimits, ask: Ask, now: Instant) -> Result<(), Exceeded> {
    if let Some(ceiling) = limits.operations_per_request
        && ask.operations > ceiling
    {
        return Err(Exceeded { kind: LimitKind::OperationsPerRequest, ceiling: ceiling.0, wait: Span(0) });
    }
    state.try_book(limits, ask).map_err(|(kind, ceiling)| {
        // looking at it again costs the more the larger it is
        Exceeded { kind, ceiling, wait: Span(2_000 + ask.operations.0) }
    })?;
    let Some(rate) = limits.operations_per_second else { return Ok(()) };
    state.try_charge(rate, burst(limits, rate), ask.operations, now).map_err(|wait| {
        state.release(ask.operations, ask.bytes);
        Exceeded { kind: LimitKind::OperationsPerSecond, ceiling: rate.0, wait }
    })
}

/// Books a request that no limit applies to (limits switched off), so that releases stay paired.
pub fn book(state: &LimitState, ask: Ask) {
    state.operations.fetch_add(ask.operations.0, Relaxed);
    state.bytes.fetch_add(ask.bytes.0, Relaxed);
}

/// The budgets of one process, by key. Touched when a connection opens or is renamed, never per request.
#[derive(Debug, Default)]
pub struct Budgets {
    by_key: Mutex<FxHashMap<Arc<str>, Arc<LimitState>>>,
}

/// Budgets nobody holds are forgotten once there are more than this.
const BUDGETS_MAX: usize = 4_096;

impl Budgets {
    /// The budget everybody with this key shares.
    #[must_use]
    pub fn of(&self, key: &Arc<str>) -> Arc<LimitState> {
        let mut map = self.by_key.lock().unwrap_or_else(PoisonError::into_inner);
        if map.len() >= BUDGETS_MAX {
            map.retain(|_, state| Arc::strong_count(state) > 1);
        }
        map.entry(key.clone()).or_default().clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(mode: LimitMode) -> CallerLimits {
        CallerLimits { mode, operations_per_request: None, ..CallerLimits::default() }
    }

    fn ask(operations: u64) -> Ask {
        Ask { operations: Operations(operations), bytes: Bytes(0), waited: Span(0), invalidation: false }
    }

    #[test]
    fn a_size_ceiling_is_observed_or_refused_and_never_waited_out() {
        let state = LimitState::default();
        let mut limits = limits(LimitMode::Observe);
        limits.operations_per_request = Some(Operations(1_000));
        let kind = LimitKind::OperationsPerRequest;
        assert_eq!(admit(&state, &limits, ask(1_000), Instant(0)), Verdict::Admit { over: None });
        assert_eq!(admit(&state, &limits, ask(1_001), Instant(0)), Verdict::Admit { over: Some(kind) });
        for mode in [LimitMode::Pace, LimitMode::Refuse] {
            limits.mode = mode;
            assert_eq!(
                admit(&state, &limits, ask(20_000), Instant(0)),
                Verdict::Refuse { kind, ceiling: 1_000 }
            );
        }
        let delete = Ask { invalidation: true, ..ask(20_000) };
        assert_eq!(admit(&state, &limits, delete, Instant(0)), Verdict::Admit { over: Some(kind) });
    }

    #[test]
    fn a_rate_is_held_over_time_and_debt_is_paid_back() {
        let state = LimitState::default();
        let mut limits = limits(LimitMode::Refuse);
        limits.operations_per_second = Some(Operations(100));
        limits.burst = Some(Operations(10));
        let start = 10_000_000;
        let mut admitted = 0;
        for ms in 0..5_000 {
            let now = Instant(start + ms * 1_000);
            if let Verdict::Admit { .. } = admit(&state, &limits, ask(1), now) {
                admitted += 1;
                state.release(Operations(1), Bytes(0));
            }
        }
        assert!((505..=515).contains(&admitted), "5 s x 100/s + burst of 10, got {admitted}");
        state.settle(&limits, Operations(200), Instant(start + 5_000_000));
        let later = Instant(start + 6_500_000);
        assert!(
            matches!(admit(&state, &limits, ask(1), later), Verdict::Refuse { .. }),
            "two seconds of debt"
        );
    }

    #[test]
    fn pace_waits_at_most_its_patience() {
        let state = LimitState::default();
        let mut limits = limits(LimitMode::Pace);
        limits.operations_in_flight = Some(Operations(10));
        assert_eq!(
            admit(&state, &limits, ask(50), Instant(0)),
            Verdict::Admit { over: None },
            "alone it may"
        );
        assert!(matches!(admit(&state, &limits, ask(1), Instant(0)), Verdict::Wait { .. }));
        let tired = Ask { waited: limits.pace_max_wait, ..ask(1) };
        assert!(matches!(admit(&state, &limits, tired, Instant(0)), Verdict::Refuse { .. }));
        let nearly = Ask { waited: Span(limits.pace_max_wait.0 - 1), ..ask(1) };
        let last = Verdict::Wait { wait: Span(1), kind: LimitKind::OperationsInFlight };
        assert_eq!(admit(&state, &limits, nearly, Instant(0)), last);
        state.release(Operations(50), Bytes(0));
        assert_eq!(admit(&state, &limits, ask(1), Instant(0)), Verdict::Admit { over: None });
    }

    #[test]
    fn what_is_refused_leaves_nothing_booked() {
        let state = LimitState::default();
        let mut limits = limits(LimitMode::Refuse);
        limits.operations_in_flight = Some(Operations(100));
        limits.bytes_in_flight = Some(Bytes(1_000));
        limits.operations_per_second = Some(Operations(10));
        let large = Ask { bytes: Bytes(900), ..ask(50) };
        assert_eq!(admit(&state, &limits, large, Instant(1_000_000)), Verdict::Admit { over: None });
        for kind in [LimitKind::BytesInFlight, LimitKind::OperationsInFlight, LimitKind::OperationsPerSecond]
        {
            let asked = match kind {
                LimitKind::BytesInFlight => Ask { bytes: Bytes(200), ..ask(1) },
                LimitKind::OperationsInFlight => ask(51),
                _ => ask(1),
            };
            let verdict = admit(&state, &limits, asked, Instant(1_000_000));
            assert!(
                matches!(verdict, Verdict::Refuse { kind: refused, .. } if refused == kind),
                "{verdict:?}"
            );
            assert_eq!((state.operations_in_flight(), state.bytes_in_flight()), (Operations(50), Bytes(900)));
        }
    }

    #[test]
    fn a_limit_holds_over_threads() {
        let state = LimitState::default();
        let mut limits = limits(LimitMode::Refuse);
        limits.operations_in_flight = Some(Operations(100));
        let admitted = std::thread::scope(|scope| {
            let worker = || (0..1_000).filter(|_| is_admitted(&state, &limits)).count();
            let workers: Vec<_> = (0..4).map(|_| scope.spawn(worker)).collect();
            workers.into_iter().map(|worker| worker.join().expect("no panic")).sum::<usize>()
        });
        assert_eq!((admitted, state.operations_in_flight()), (100, Operations(100)));
    }

    fn is_admitted(state: &LimitState, limits: &CallerLimits) -> bool {
        matches!(admit(state, limits, ask(1), Instant(0)), Verdict::Admit { .. })
    }
}
