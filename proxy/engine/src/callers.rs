//! The identities a worker has met: a small number for each, the budget it shares, and who still bears it.
//!
//! Bound: identities that nobody bears are given up after the next fold; those borne are at most as many as connections,
//! requests under way and held accounts.

use crate::admit::{Ask, Budgets, LimitState, book};
use crate::caller::{FIRST_ESTIMATE, Identity, Known};
use crate::ledger::done::caller_hash;
use crate::ledger::{IdentityTally, Ledger};
use crate::settings::{CallerLimits, Settings};
use crate::units::{Bytes, Operations, Span};
use rustc_hash::FxHashMap;
use std::sync::Arc;

/// Identities by slot, and how to find them.
#[derive(Debug)]
pub(crate) struct Callers {
    pub(crate) known: Vec<Known>,
    by_identity: FxHashMap<Arc<Identity>, u32>,
    free: Vec<u32>,
    /// Number and identities of each principal.
    principals: FxHashMap<Arc<str>, (u32, u32)>,
    next_principal: u32,
    budgets: Arc<Budgets>,
}

impl Callers {
    pub(crate) fn new(budgets: Arc<Budgets>) -> Callers {
        Callers {
            known: Vec::new(),
            by_identity: FxHashMap::default(),
            free: Vec::new(),
            principals: FxHashMap::default(),
            next_principal: 0,
            budgets,
        }
    }

    /// The slot of an identity that one more connection bears.
    pub(crate) fn learn(&mut self, identity: Arc<Identity>, settings: &Settings, ledger: &mut Ledger) -> u32 {
        if let Some(&slot) = self.by_identity.get(&identity) {
            if self.known[slot as usize].unused() {
                ledger.revive(slot);
            }
            self.known[slot as usize].clients += 1;
            return slot;
        }
        let principal = match self.principals.get_mut(&identity.principal) {
            Some((id, identities)) => {
                *identities += 1;
                *id
            }
            None => {
                self.next_principal = self.next_principal.wrapping_add(1);
                self.principals.insert(identity.principal.clone(), (self.next_principal, 1));
                self.next_principal
            }
        };
        let budget = identity.budget(settings);
        let known = Known {
            identity: identity.clone(),
            hash: caller_hash(&identity.name),
            request_ids: identity.says_request_ids(settings),
            state: self.budgets.of(&budget.key),
            limits: budget.limits,
            principal,
            clients: 1,
            requests: 0,
            queued: 0,
            held: 0,
            reply_bytes: FIRST_ESTIMATE,
        };
        let slot = match self.free.pop() {
            Some(slot) => {
                self.known[slot as usize] = known;
                ledger.revive(slot);
                slot
            }
            None => {
                self.known.push(known);
                self.known.len() as u32 - 1
            }
        };
        self.by_identity.insert(identity, slot);
        slot
    }

    /// Gives an identity up once nobody bears it and nothing it asked is under way.
    pub(crate) fn forget(&mut self, slot: u32, ledger: &mut Ledger) {
        if self.known[slot as usize].unused() {
            ledger.retire(slot);
        }
    }

    /// A connection does not bear it any more.
    pub(crate) fn leave(&mut self, slot: u32, ledger: &mut Ledger) {
        self.known[slot as usize].clients -= 1;
        self.forget(slot, ledger);
    }

    /// A request that bore it has ended.
    pub(crate) fn request_ended(&mut self, slot: u32, ledger: &mut Ledger) {
        self.known[slot as usize].requests -= 1;
        self.forget(slot, ledger);
    }

    /// Visits and resets what each identity did since the last call, and frees slots nobody bears any more.
    pub(crate) fn fold(
        &mut self,
        ledger: &mut Ledger,
        mut f: impl FnMut(u32, &Arc<Identity>, &IdentityTally),
    ) {
        let known = &self.known;
        ledger.fold(|slot, tally| f(slot, &known[slot as usize].identity, tally));
        let mut reusable = Vec::new();
        ledger.take_reusable(&mut reusable);
        for slot in reusable {
            let known = &self.known[slot as usize];
            if known.unused() && self.by_identity.get(&known.identity) == Some(&slot) {
                self.by_identity.remove(&known.identity);
                self.free.push(slot);
                if let Some((_, identities)) = self.principals.get_mut(&known.identity.principal) {
                    *identities -= 1;
                    if *identities == 0 {
                        self.principals.remove(&known.identity.principal);
                    }
                }
            }
        }
    }

    /// Whose request ids are taken under these settings.
    pub(crate) fn trust_request_ids(&mut self, settings: &Settings) {
        for known in &mut self.known {
            known.request_ids = known.identity.says_request_ids(settings);
        }
    }

    /// The budget that applies to an identity in use under these settings; nothing for a slot that was given up.
    pub(crate) fn budget_now(
        &self,
        slot: u32,
        settings: &Settings,
    ) -> Option<(CallerLimits, Arc<LimitState>)> {
        let known = &self.known[slot as usize];
        if self.by_identity.get(&known.identity) != Some(&slot) {
            return None;
        }
        let budget = known.identity.budget(settings);
        let state = self.budgets.of(&budget.key);
        Some((budget.limits, state))
    }

    /// Puts new limits in force for an identity, whose requests hold this much of the old budget: it goes along to the
    /// budget they come back to.
    pub(crate) fn rebudget(
        &mut self,
        slot: u32,
        limits: CallerLimits,
        state: Arc<LimitState>,
        operations: Operations,
        bytes: Bytes,
    ) {
        let known = &mut self.known[slot as usize];
        if !Arc::ptr_eq(&state, &known.state) {
            known.state.release(operations, bytes);
            book(&state, Ask { operations, bytes, waited: Span(0), invalidation: false });
        }
        (known.limits, known.state) = (limits, state);
    }
}
