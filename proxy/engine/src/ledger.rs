//! The ledger: every request leaves an entry, and entries become tallies, exemplars, the list of heavy hitters and the
//! ring of the most expensive requests.
//!
//! One ledger per worker, plain numbers, no atomics: the driver folds the tallies into shared metrics once per loop
//! turn ([`Ledger::fold`]). Bounds: one [`Tally`] per identity and method in use, [`heavy_hitters::COUNTERS`],
//! [`expensive::KEPT`] and 2 x [`statements::STATEMENT_COUNTERS`] entries per generation of [`GENERATION`].

pub mod done;
pub mod entry;
pub mod expensive;
pub mod heavy_hitters;
pub mod held;
pub mod statements;
pub mod tally;

pub use entry::{Entry, Method, Outcome, RequestId, SentTo};
pub use expensive::Expensive;
pub use heavy_hitters::HeavyHitter;
pub use statements::{Form, Statement, StatementRow, StatementTally, Sums};
pub use tally::{FlushEnd, IdentityTally, Largest, Tally};

use crate::error::{LimitKind, Rejected};
use crate::settings::LimitMode;
use crate::units::{Instant, ListenerId, Span};
use entry::RequestIds;
use expensive::ExpensiveRequests;
use heavy_hitters::HeavyHitters;
use held::{HELD, HeldAccount, HeldAccounts};
use statements::StatementHitters;
use std::sync::Arc;

/// Heavy hitters and expensive requests are shown for one to two of these: "the last five to ten minutes". Time moves
/// with the requests, so an idle worker keeps showing its last ones.
pub const GENERATION: Span = Span::secs(300);

/// What one worker knows about the requests it served.
#[derive(Debug)]
pub struct Ledger {
    /// By identity slot.
    identities: Vec<IdentityTally>,
    dirty: Vec<u32>,
    reusable: Vec<u32>,
    noreply_dropped: u64,
    ids: RequestIds,
    expensive: ExpensiveRequests,
    hitters: HeavyHitters,
    statements: StatementHitters,
    held: HeldAccounts,
    generation_ends: Instant,
}

impl Ledger {
    /// An empty ledger; `seed` tells its request ids from those of other workers.
    #[must_use]
    pub fn new(seed: u64) -> Ledger {
        Ledger {
            identities: Vec::new(),
            dirty: Vec::new(),
            reusable: Vec::new(),
            noreply_dropped: 0,
            ids: RequestIds::new(seed),
            expensive: ExpensiveRequests::default(),
            hitters: HeavyHitters::default(),
            statements: StatementHitters::default(),
            held: HeldAccounts::default(),
            generation_ends: Instant(0),
        }
    }

    /// One finished request. `name` is the caller's full name. Allocates nothing once the identity used the method before
    /// (but for a name or a request that enters one of the bounded lists).
    pub fn record(&mut self, entry: &Entry, name: &Arc<str>, listener: ListenerId) {
        self.record_statement(entry, name, listener, None);
    }

    /// The same of a request that had a statement.
    pub fn record_statement(
        &mut self,
        entry: &Entry,
        name: &Arc<str>,
        listener: ListenerId,
        statement: Option<&Statement>,
    ) {
        if entry.at >= self.generation_ends {
            self.next_generation(entry.at);
        }
        let request = self.ids.next();
        self.tally(entry.identity).method(entry.method).record(entry, request);
        self.hitters.add(name, entry.operations);
        if let Some(statement) = statement {
            self.statements.record(entry, name, listener, statement);
        }
        self.expensive.offer(entry, request, name, listener, statement);
    }

    /// One finished request of a connection whose account is held.
    pub(crate) fn record_held(&mut self, account: u32, entry: &Entry, statement: Option<&Statement>) {
        if entry.at >= self.generation_ends {
            self.next_generation(entry.at);
        }
        let request = self.ids.next();
        if let Some(held) = self.held.get_mut(account) {
            held.record(entry, request, statement);
        }
    }

    /// A held account goes to an identity: the first and only time that its requests are booked.
    pub(crate) fn book(&mut self, account: HeldAccount, identity: u32, name: &Arc<str>) {
        self.tally(identity).merge(&account.tally);
        if account.operations > 0 {
            self.hitters.add(name, account.operations);
        }
        for (mut entry, request, statement) in account.expensive {
            entry.identity = identity;
            self.expensive.offer(&entry, request, name, account.listener, statement.as_ref());
        }
        for (method, statement, counted) in &account.statements {
            self.statements.merge(name, account.listener, *method, statement, counted);
        }
        self.statements.merge_rest(&account.rest);
    }

    /// Accounts that wait for their name.
    pub(crate) fn held(&self) -> &HeldAccounts {
        &self.held
    }

    pub(crate) fn held_mut(&mut self) -> &mut HeldAccounts {
        &mut self.held
    }

    /// A request of this size was asked. Call it before any limit decides: the rolling maximum shows what was asked,
    /// refused or not, while the request is still under way.
    pub fn asked(&mut self, identity: u32, method: impl Into<Method>, operations: u64) {
        self.tally(identity).method(method.into()).asked(operations);
    }

    /// A request was over a limit that was in this mode.
    pub fn over_limit(&mut self, identity: u32, kind: LimitKind, mode: LimitMode) {
        self.tally(identity).over_limit(kind, mode);
    }

    /// Requests were turned down for this reason.
    pub fn rejected(&mut self, identity: u32, why: Rejected, requests: u64) {
        self.tally(identity).rejected(why, requests);
    }

    /// What became of a `flush_all`.
    pub fn flush_all(&mut self, identity: u32, end: FlushEnd) {
        self.tally(identity).flush_all(end);
    }

    /// `n` commands whose sender wanted no reply could not be carried out, and nobody was told.
    pub fn noreply_dropped(&mut self, n: u64) {
        self.noreply_dropped += n;
    }

    /// The number of commands dropped since the last call.
    pub fn take_noreply_dropped(&mut self) -> u64 {
        std::mem::take(&mut self.noreply_dropped)
    }

    /// The last connection of the identity closed and its last request was recorded. The next fold shows its tally once
    /// more; after that [`Ledger::take_reusable`] names the slot. Using the slot for *another* identity before that
    /// would give it this one's numbers.
    pub fn retire(&mut self, identity: u32) {
        self.tally(identity).retired = true;
    }

    /// The same identity has a connection again before its slot was given up.
    pub fn revive(&mut self, identity: u32) {
        if let Some(tally) = self.identities.get_mut(identity as usize) {
            tally.retired = false;
        }
        self.reusable.retain(|slot| *slot != identity);
    }

    /// Slots of retired identities that were folded: they may name others from now on.
    pub fn take_reusable(&mut self, out: &mut Vec<u32>) {
        out.append(&mut self.reusable);
    }

    /// Shows every tally that changed since the last fold, and empties it.
    pub fn fold(&mut self, mut f: impl FnMut(u32, &IdentityTally)) {
        for identity in self.dirty.drain(..) {
            let tally = &mut self.identities[identity as usize];
            f(identity, tally);
            if tally.retired {
                *tally = IdentityTally::default(); // its boxes go too
                self.reusable.push(identity);
            } else {
                tally.reset();
            }
        }
    }

    /// Whether a fold (or [`Ledger::take_noreply_dropped`]) would show anything.
    #[must_use]
    pub fn is_dirty(&self) -> bool {
        !self.dirty.is_empty() || self.noreply_dropped > 0
    }

    /// The largest requests of the last one to two [`GENERATION`]s, largest first, at most [`expensive::KEPT`].
    pub fn expensive(&self) -> impl Iterator<Item = &Expensive> {
        self.expensive.iter()
    }

    /// The callers with the most operations of the last one to two [`GENERATION`]s, most first, at most
    /// 2 x [`heavy_hitters::COUNTERS`].
    #[must_use]
    pub fn heavy_hitters(&self) -> Vec<HeavyHitter> {
        self.hitters.list()
    }

    /// The pairs of caller and statement with the most work or time of the last one to two [`GENERATION`]s, at most
    /// 4 x [`statements::STATEMENT_COUNTERS`] in no order, and the sums over all pairs, listed or not.
    #[must_use]
    pub fn statements(&self) -> (Vec<StatementRow>, Sums) {
        self.statements.list()
    }

    /// The identity's tally, which is shown by the next fold; or the one of a held account ([`HELD`]), which is not.
    fn tally(&mut self, identity: u32) -> &mut IdentityTally {
        if identity & HELD != 0
            && let Some(held) = self.held.get_mut(identity & !HELD)
        {
            return &mut held.tally;
        }
        let index = identity as usize;
        if index >= self.identities.len() {
            self.identities.resize_with(index + 1, IdentityTally::default);
        }
        let tally = &mut self.identities[index];
        if !tally.listed {
            tally.listed = true;
            self.dirty.push(identity);
        }
        tally
    }

    #[cold]
    fn next_generation(&mut self, now: Instant) {
        // after two generations without a request both are out of date
        let stale = now >= self.generation_ends.after(GENERATION);
        for _ in 0..if stale { 2 } else { 1 } {
            self.expensive.rotate();
            self.hitters.rotate();
            self.statements.rotate();
        }
        self.generation_ends = now.after(GENERATION);
    }
}

#[cfg(test)]
mod tests;
