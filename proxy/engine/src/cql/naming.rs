//! Names that arrive later than the connection: what it does before waits in a held account and is booked once, as
//! memcached's does ([`crate::naming`]). A client that names itself in STARTUP waits no longer.

use super::CqlEngine;
use super::request::Stage;
use crate::admit::{Ask, book};
use crate::caller::Identity;
use crate::ledger::held::{HELD_FOR, HeldAccount, LARGE};
use crate::naming::NamingCounts;
use crate::units::{ClientId, Instant, Span};
use std::sync::Arc;

impl CqlEngine {
    /// Somebody is finding out who this connection belongs to: what it does is booked when the answer is there, or
    /// [`HELD_FOR`] from now.
    pub fn await_name(&mut self, id: ClientId, now: Instant) {
        if let Some(client) = self.client_mut(id) {
            client.unnamed_until = Some(now.after(HELD_FOR));
        }
    }

    /// The identity that a closed connection had whose requests are not booked yet.
    #[must_use]
    pub fn held_identity(&self, id: ClientId) -> Option<Arc<Identity>> {
        let account = self.ledger.held().get(self.ledger.held().of_gone(id)?)?;
        Some(self.callers.known[account.known as usize].identity.clone())
    }

    /// The answer for a connection whose name was awaited, read from the system at `read_at`; `None`: no better name than
    /// it has. Everything it did that is not booked yet, requests under way included, bears the name, unless the client
    /// has declared one itself. A connection that had closed before `read_at` keeps the name it had.
    pub fn name_client(&mut self, id: ClientId, name: Option<Arc<Identity>>, read_at: Instant) {
        let Some(client) = self.client_mut(id) else { return self.name_gone(id, name, read_at) };
        client.unnamed_until = None;
        let declared = client.declared;
        match (client.held.take(), name.filter(|_| !declared)) {
            (account, Some(identity)) => self.take_name(id, account, identity),
            (Some(account), None) => {
                self.book_as_it_was(account);
                self.naming.counts.unnamed += 1;
            }
            (None, None) => {}
        }
    }

    fn name_gone(&mut self, id: ClientId, name: Option<Arc<Identity>>, read_at: Instant) {
        let Some(account) = self.ledger.held().of_gone(id) else { return };
        let closed = self.ledger.held().get(account).and_then(|held| held.closed);
        match name.filter(|_| closed.is_some_and(|closed| read_at <= closed)) {
            Some(identity) => {
                let known = self.callers.learn(identity, &self.settings, &mut self.ledger);
                self.book_account(account, known);
                self.callers.leave(known, &mut self.ledger); // nobody bears it on that account
                self.naming.counts.named += 1;
            }
            None => {
                self.book_as_it_was(account);
                self.naming.counts.unnamed += 1;
            }
        }
    }

    /// The client said who it is.
    pub(super) fn declare(&mut self, id: ClientId, identity: Arc<Identity>) {
        let client = &mut self.clients[id.slot as usize];
        (client.declared, client.unnamed_until) = (true, None);
        let account = client.held.take();
        self.take_name(id, account, identity);
    }

    /// Attribution arrived: later requests bear the new name, unless the client declared one itself. Requests under way
    /// keep the old one.
    pub fn rename_client(&mut self, id: ClientId, identity: Arc<Identity>) {
        if self.client(id).is_some_and(|client| !client.declared) {
            self.take_name(id, None, identity);
        }
    }

    /// The connection bears this name from now on, and what is on the account does too.
    fn take_name(&mut self, id: ClientId, account: Option<u32>, identity: Arc<Identity>) {
        let new = self.callers.learn(identity, &self.settings, &mut self.ledger);
        let old = std::mem::replace(&mut self.clients[id.slot as usize].known, new);
        if let Some(account) = account {
            self.move_requests(id, old, new);
            self.book_account(account, new);
            self.naming.counts.named += 1;
        }
        self.callers.leave(old, &mut self.ledger);
    }

    /// Requests under way go over to another identity, with what they hold of its budget.
    fn move_requests(&mut self, id: ClientId, old: u32, new: u32) {
        let state = |known: u32| self.callers.known[known as usize].state.clone();
        let (from, to) = (state(old), state(new));
        let (mut moved, mut queued) = (0, 0);
        for request in &self.clients[id.slot as usize].live {
            let Some(request) = self.requests.get_mut(*request).filter(|request| request.known == old) else {
                continue;
            };
            request.known = new;
            moved += 1;
            queued += match &request.job {
                Some(job) => job.unsent,
                None if matches!(request.stage, Stage::Queued(_)) => request.operations,
                None => 0,
            };
            if let Some(held) = request.held {
                from.release(held.operations, held.bytes);
                let ask = Ask {
                    operations: held.operations,
                    bytes: held.bytes,
                    waited: Span(0),
                    invalidation: false,
                };
                book(&to, ask);
            }
        }
        for (known, sign) in [(old, false), (new, true)] {
            let known = &mut self.callers.known[known as usize];
            known.requests = if sign { known.requests + moved } else { known.requests - moved };
            known.queued = if sign { known.queued + queued } else { known.queued.saturating_sub(queued) };
        }
    }

    /// A message of a connection without a name yet: opens its account where there is room.
    pub(super) fn hold_account(&mut self, id: ClientId, operations: u64, now: Instant) {
        let client = &mut self.clients[id.slot as usize];
        let Some(until) = client.unnamed_until else { return };
        let limits = &self.callers.known[client.known as usize].limits;
        let ceiling = limits.operations_per_request.map_or(LARGE, |ceiling| ceiling.0);
        if client.held.is_none() {
            if now >= until {
                client.unnamed_until = None;
                return;
            }
            let account = HeldAccount::new(id, client.known, client.listener, until);
            let known = &mut self.callers.known[client.known as usize];
            client.held = self.naming.open(account, operations, self.ledger.held_mut(), known);
            if client.held.is_none() {
                return;
            }
        }
        self.naming.urgent |= operations > ceiling;
    }

    /// Whether, since the last call, a request over its ceiling began to wait for its name.
    pub fn take_urgent(&mut self) -> bool {
        std::mem::take(&mut self.naming.urgent)
    }

    /// What became of held accounts since the last call.
    pub fn take_naming_counts(&mut self) -> NamingCounts {
        std::mem::take(&mut self.naming.counts)
    }

    /// Books what has waited long enough.
    pub(super) fn book_overdue(&mut self, now: Instant) {
        for account in self.naming.overdue(self.ledger.held(), now) {
            self.give_up(account);
        }
    }

    /// Books everything that is held: nobody will answer any more.
    pub fn book_held(&mut self) {
        for account in self.ledger.held().iter().map(|(account, _)| account).collect::<Vec<_>>() {
            self.give_up(account);
        }
        self.naming.due = Instant(0);
    }

    fn give_up(&mut self, account: u32) {
        let client = self.ledger.held().get(account).map(|held| held.client);
        if let Some(client) = client.and_then(|id| self.client_mut(id)) {
            (client.held, client.unnamed_until) = (None, None);
        }
        self.book_as_it_was(account);
        self.naming.counts.late += 1;
    }

    fn book_as_it_was(&mut self, account: u32) {
        if let Some(known) = self.ledger.held().get(account).map(|held| held.known) {
            self.book_account(account, known);
        }
    }

    fn book_account(&mut self, account: u32, target: u32) {
        let Some(held) = self.ledger.held_mut().take(account) else { return };
        for (node, operations) in &held.spent {
            if let Some(node) = self.nodes.get_mut(node.0 as usize) {
                node.spend(target, *operations);
            }
        }
        let known = held.known;
        self.ledger.book(*held, target, &self.callers.known[target as usize].identity.name);
        self.callers.known[known as usize].held -= 1;
        self.callers.forget(known, &mut self.ledger);
    }
}
